"""Answers and references that hang sympy, in the real worker pool: who is blamed, and that the neighbours are scored."""

from pathlib import Path

import pytest

from reward_server.domain import Blame, Call, Sample, Status
from reward_server.scorers.base import ScorerContext
from reward_server.scorers.math.equivalence import MathEquivalence
from reward_server.scorers.math.options import MathOptions
from reward_server.workers.pool import WorkerPool

POLYNOMIAL = "+".join(f"{power}x^{{{power}}}" for power in range(400))
BOMBS = {
    "a tower of powers": "$9^{9^{9^{9}}}$",
    "a factorial": "$(10^9)!$",
    "a power": "$10^{10^9}$",
    "nested parentheses": "$" + "(" * 3000 + "1" + ")" * 3000 + "$",
    "a polynomial of 400 terms": f"${POLYNOMIAL}$",
    "200 KB of braces": r"\boxed{" + "{" * 100_000 + "}" * 100_000 + "}",
}
NEIGHBOURS = {r"\boxed{5}": 1.0, "The answer is 6.": 0.0, "I do not know.": 0.0, "$2+3$": 1.0, "9" * 5000: 0.0}


@pytest.fixture
async def pool():
    async with WorkerPool(2, [MathEquivalence.__module__]) as pool:
        yield pool


async def verdicts(pool, samples, **options):
    context = ScorerContext("solved", Path("/"), pool, {}, KeyError, rule_pool=pool)
    rule = MathEquivalence(MathOptions(**options), context)
    got = dict([ready async for ready in rule.score(samples, Call())])
    assert sorted(got) == list(range(len(samples)))
    return [got[index] for index in range(len(samples))]


def sample(completion, reference="5", group=0):
    return Sample(completion, columns={"answer": reference}, group=group)


async def test_completions_that_hang_sympy_are_blamed_and_their_neighbours_scored(pool):
    texts = [*BOMBS.values(), *NEIGHBOURS]
    got = await verdicts(pool, [sample(text) for text in texts], timeout_s=0.6)
    assert [verdict.score for verdict in got[len(BOMBS) :]] == list(NEIGHBOURS.values())
    assert {name: (verdict.status, verdict.blame) for name, verdict in zip(BOMBS, got, strict=False)} == dict.fromkeys(
        BOMBS, (Status.FAILED, Blame.COMPLETION)
    )


async def test_a_reference_that_hangs_sympy_is_missing_for_all_and_nobody_is_blamed(pool):
    texts = [r"\boxed{5}", "I do not know."]
    references = [BOMBS["a tower of powers"], r"\{1, (10^9)!\}", BOMBS["a polynomial of 400 terms"], "x = 10^{10^9}"]
    samples = [sample(text, reference, group) for group, reference in enumerate(references) for text in texts]
    got = await verdicts(pool, samples, timeout_s=0.6)
    assert [verdict.score for verdict in got] == [None] * len(samples)
    assert Blame.COMPLETION not in {verdict.blame for verdict in got}


async def test_what_was_read_comes_back_from_the_worker(pool):
    got = await verdicts(pool, [sample("<answer>5</answer>"), sample("It is 6.")])
    assert [verdict.score for verdict in got] == [1.0, 0.0]
    assert [verdict.explanation for verdict in got] == [f"read '{read}', the reference is '5'" for read in ("5", "6")]


async def test_a_reference_of_thousands_of_digits_is_told_to_be_unreadable(pool):
    got = await verdicts(pool, [sample("5", "9" * 5000), sample("9" * 5000, "9" * 5000)])
    assert {(verdict.status, verdict.blame) for verdict in got} == {(Status.ABSTAINED, Blame.REFERENCE)}
