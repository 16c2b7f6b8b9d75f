"""Each test of the contract can fail, and says why: scorers that are sound but for one thing, and the test that finds it."""

import inspect

import broken_scorers as broken
import pytest

from reward_server.domain import Sample
from reward_server.errors import ConfigError
from reward_server.testing import ScorerContract
from reward_server.testing.opened import Opened

SAMPLES = [Sample(text, "What is it?", {"answer": text, "topic": text}) for text in ("one", "three", "a")]


def complaints(scorer, folder):
    """Returns what the tests that a scorer fails say, by their names."""
    contract = type("Contract", (ScorerContract,), {"samples": SAMPLES, "scorer": scorer})()
    found = {}
    with Opened(scorer, contract.configuration(), folder) as opened:
        (folder / "again").mkdir()
        have = {"opened": opened, "folder": folder / "again", "tmp_path": folder / "again"}
        have["together"] = contract.scored_together(opened)
        for name in dir(contract):
            test = getattr(contract, name)
            if name.startswith("test_"):
                try:
                    test(**{each: have[each] for each in inspect.signature(test).parameters})
                except (AssertionError, pytest.fail.Exception) as error:
                    found[name] = str(error)
                except pytest.skip.Exception:
                    pass
    return found


def test_what_is_sound_fails_nothing(tmp_path):
    assert complaints(broken.Sound, tmp_path) == {}


@pytest.mark.parametrize(
    ("scorer", "test", "said"),
    [
        (broken.AnyOptions, "test_it_refuses_options_that_it_does_not_know", "derive its Options"),
        (broken.Unwell, "test_it_serves_once_it_is_started", "it has a cold"),
        (broken.TakenKind, "test_it_is_registered_as_what_it_is", "'length' is another scorer's"),
        (
            broken.OutOfRange,
            "test_its_samples_are_scored_within_its_range",
            "the scorer gave 3.0, outside its range 0 to 2",
        ),
        (broken.Drops, "test_its_samples_are_scored_within_its_range", "sample 2 ('a')"),
        (broken.Twice, "test_its_samples_are_scored_within_its_range", "it yielded the index 0 twice"),
        (broken.WrongOrder, "test_company_changes_no_score", "sample 0 ('one'): scored 1.0"),
        (broken.WrongOrder, "test_every_sample_has_its_own_verdict_in_a_large_batch", "scored 5.0, not scored 3.0"),
        (broken.FirstIsBest, "test_the_order_of_samples_changes_no_score", "scored 9.0"),
        (broken.KeepsState, "test_calls_at_the_same_time_do_not_mix", ", not scored "),
        (broken.Random, "test_twice_the_same_is_twice_the_same_score", ", not scored "),
        (broken.ByCompany, "test_company_changes_no_score", "scored 0.6, not scored 1.0"),
        (
            broken.AcrossPrompts,
            "test_every_sample_has_its_own_verdict_in_a_large_batch",
            "scored 10.0, not scored 3.0",
        ),
        (broken.RaisesOnNothing, "test_hostile_completions_harm_only_themselves", "nothing, to its neighbours"),
        (
            broken.RaisesInTheMiddle,
            "test_hostile_completions_harm_only_themselves",
            "a lone surrogate, to its neighbours",
        ),
        (broken.Silent, "test_hostile_completions_harm_only_themselves", "a blank: failed: and it does not say why"),
        (broken.ReadsMessages, "test_a_conversation_scores_as_its_last_answer", "what is that?"),
        (broken.SlowOnTheLoop, "test_no_text_holds_up_the_event_loop", "one long word: "),
        (broken.TrustsColumns, "test_odd_columns_harm_only_their_own_sample", "sample 0 ('one')"),
        (broken.GoesOn, "test_a_call_that_nobody_waits_for_leaves_nothing_behind", "coroutine object sleep"),
        (broken.NeverGivesBack, "test_a_call_that_nobody_waits_for_leaves_nothing_behind", "failed: it is busy"),
        (broken.ReadsUndeclared, "test_it_asks_for_the_columns_that_it_reads", "scored 0.0, not scored 3.0"),
        (broken.ReadsPrompts, "test_it_asks_for_the_prompts_that_it_reads", "scored 0.0, not scored 1.0"),
        (broken.NewEachTime, "test_its_version_is_its_own_and_stays", "changes with the time or the place"),
    ],
)
def test_what_is_not_sound_is_found_and_told(scorer, test, said, tmp_path):
    assert said in complaints(scorer, tmp_path)[test]


def test_an_identity_that_cannot_be_told_does_not_even_start(tmp_path):
    with pytest.raises(ConfigError, match="not JSON-able"):
        complaints(broken.Untellable, tmp_path)


def test_one_sample_is_not_enough():
    alone = type("Contract", (ScorerContract,), {"samples": SAMPLES[:1], "scorer": broken.Sound})
    with pytest.raises(AssertionError, match="at least two samples"):
        alone.check_samples()
