"""What the scorer says, and that it keeps the contract of every scorer."""

import pytest
from reward_readability.scorer import Readability, ReadabilityOptions, reading_ease

from reward_server.domain import Sample
from reward_server.testing import ScorerContract


def test_short_words_are_easier_than_long_ones():
    assert reading_ease("The cat sat on the mat.") > reading_ease("Feline individuals occasionally occupy upholstery.")


def test_the_formula_is_fleschs():
    assert reading_ease("The cat sat.") == pytest.approx(206.835 - 1.015 * 3 - 84.6)


def test_the_ends_of_the_scale_must_rise():
    with pytest.raises(ValueError, match="must be above"):
        ReadabilityOptions(easy=20, hard=80)


class TestContract(ScorerContract):
    scorer = Readability
    options = {"easy": 90}
    samples = [Sample("The cat sat on the mat."), Sample("Notwithstanding considerable difficulties, it succeeded.")]
