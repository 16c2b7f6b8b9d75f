import asyncio
import math
import time

import pytest
import structlog
from small_rewards import Chars, rewards_of, rule, scripted

from reward_server.domain import Call, Sample, Status, Verdict, abstained, scored
from reward_server.scorers.base import YIELD_AFTER_CHARS
from reward_server.scoring import Selector
from reward_server.views import View


def samples_of(*completions):
    return [Sample(completion) for completion in completions]


THREE = samples_of("a", "bb", "ccc")


async def verdicts_of(rewards, samples, *names, deadline_s=5.0):
    """Returns name -> (N,) verdicts, read as the unary RPC reads them; checks that the stream gives each once."""
    selectors = [Selector(name) for name in names]
    call = Call(deadline=time.monotonic() + deadline_s)
    scoring = rewards.begin(selectors, samples, call)
    try:
        return {result.name: list(result.verdicts) for result in await scoring.results(call.deadline)}
    finally:
        scoring.close()


async def one(kind, samples=THREE, **options):
    async with rewards_of({"it": kind}) as rewards:
        return (await verdicts_of(rewards, samples, "it", **options))["it"]


async def test_a_rule_scores_every_sample_in_order():
    assert [verdict.score for verdict in await one(Chars)] == [1, 2, 3]


async def test_verdicts_may_come_in_any_order():
    async def backwards(samples, call):
        for index in reversed(range(len(samples))):
            yield index, scored(float(index))

    assert [verdict.score for verdict in await one(scripted(backwards))] == [0, 1, 2]


async def test_a_stream_gives_every_reward_and_sample_once():
    async def slowly(samples, call):
        for index in (2, 0, 1):
            await asyncio.sleep(0.01)
            yield index, scored(float(index))

    async with rewards_of({"slow": scripted(slowly), "chars": Chars}) as rewards:
        call = Call(deadline=time.monotonic() + 5)
        seen = [
            (name, index) async for name, index, _ in rewards.run([Selector("slow"), Selector("chars")], THREE, call)
        ]
    assert sorted(seen) == sorted((name, index) for name in ("slow", "chars") for index in range(3))
    assert seen[0][0] == "chars"  # it need not wait for the slow one


async def test_an_exception_is_one_samples_failed_verdict_in_a_rule():
    def judge_one(sample):
        return scored(1 / (len(sample.completion) - 2))

    verdicts = await one(rule(judge_one))
    assert [verdict.status for verdict in verdicts] == [Status.SCORED, Status.FAILED, Status.SCORED]
    assert verdicts[1].status_reason == "ZeroDivisionError: division by zero"


async def test_an_exception_fails_what_a_scorer_had_not_yielded():
    async def breaks(samples, call):
        yield 1, scored(0.5)
        raise KeyError("gone")

    with structlog.testing.capture_logs() as logs:
        verdicts = await one(scripted(breaks))
    assert [verdict.score for verdict in verdicts] == [None, 0.5, None]
    assert verdicts[0].status_reason == "the scorer of 'it' (kind 'it') failed: KeyError: 'gone'"
    assert [line["event"] for line in logs] == ["scorer failed"]


async def test_a_huge_exception_message_is_cut():
    async def breaks(samples, call):
        raise ValueError("x" * 10_000_000)
        yield

    assert len((await one(scripted(breaks)))[0].status_reason) < 600


async def test_what_a_scorer_forgets_is_failed_naming_it():
    async def forgets(samples, call):
        yield 0, scored(1.0)

    verdicts = await one(scripted(forgets))
    assert verdicts[0].score == 1.0
    assert {v.status_reason for v in verdicts[1:]} == {
        "the scorer of 'it' (kind 'it') failed: it yielded no verdict on this sample"
    }


async def test_an_index_that_comes_twice_has_no_score():
    async def repeats(samples, call):
        yield 0, scored(0.0)
        yield 1, scored(1.0)
        yield 1, scored(2.0)

    verdicts = await one(scripted(repeats))
    assert [verdict.score for verdict in verdicts] == [0.0, None, None]
    assert "it yielded the index 1 twice" in verdicts[1].status_reason


@pytest.mark.parametrize("index", [3, -1, "0", None])
async def test_an_index_out_of_range_fails_the_rest(index):
    async def strays(samples, call):
        yield 0, scored(0.0)
        yield index, scored(1.0)

    verdicts = await one(scripted(strays))
    assert [verdict.score for verdict in verdicts] == [0.0, None, None]
    assert "failed" in verdicts[1].status_reason


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
async def test_a_score_that_is_not_finite_is_failed(score):
    async def broken(samples, call):
        for index in range(len(samples)):
            yield index, Verdict(score, Status.SCORED)

    for kind in (scripted(broken), rule(lambda sample: Verdict(score, Status.SCORED))):
        verdict = (await one(kind))[0]
        assert verdict.status is Status.FAILED
        assert verdict.score is None
        assert f"{score}, which is not a finite number" in verdict.status_reason


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (0.5, "returned a float, not a verdict"),
        (None, "returned a NoneType, not a verdict"),
        (Verdict(None, Status.SCORED), "said that there is a score, but gave a NoneType"),
        (Verdict("good", Status.SCORED), "said that there is a score, but gave a str"),
        (Verdict(0.5, "scored"), "a verdict of status 'scored' and reason ''"),
        (Verdict(None, Status.FAILED, None), "and reason None"),
    ],
)
async def test_what_is_no_verdict_is_failed(given, words):
    for kind in (rule(lambda sample: given), scripted(lambda samples, call: each(given, samples))):
        verdict = (await one(kind))[0]
        assert verdict.status is Status.FAILED
        assert words in verdict.status_reason


@pytest.mark.parametrize(
    ("given", "score"),
    [(scored(-1.67), None), (scored(1.1, flags=("odd",)), None), (scored(1), 1.0), (scored(0.0), 0.0),
     (scored(1 + 1e-12), 1.0), (scored(-1e-12, flags=("odd",)), 0.0)],
)  # fmt: skip
async def test_a_score_outside_the_declared_range_is_no_score(given, score):
    for kind in (
        rule(lambda sample: given, score_range=(0.0, 1.0)),
        scripted(lambda samples, call: each(given, samples), score_range=(0.0, 1.0)),
    ):
        verdict = (await one(kind))[0]
        assert verdict.score == score
        assert verdict.flags == given.flags
        if score is None:
            assert verdict.status is Status.FAILED
            assert verdict.status_reason == f"the scorer gave {given.score!r}, outside its range 0 to 1"
    assert (await one(rule(lambda sample: given)))[0].score == given.score  # no range is known


@pytest.mark.parametrize("score_range", [None, (0.0, math.inf), (-math.inf, math.inf)])
async def test_no_range_makes_what_is_not_finite_a_score(score_range):
    given = Verdict(math.inf, Status.SCORED)
    assert (await one(rule(lambda sample: given, score_range=score_range)))[0].status is Status.FAILED


async def each(verdict, samples):
    for index in range(len(samples)):
        yield index, verdict


async def test_a_missing_verdict_is_never_a_number():
    verdict = (await one(rule(lambda sample: Verdict(0.0, Status.ABSTAINED, "no reference"))))[0]
    assert (verdict.score, verdict.status, verdict.status_reason) == (None, Status.ABSTAINED, "no reference")


async def test_integers_become_floats():
    verdict = (await one(rule(lambda sample: Verdict(1, Status.SCORED))))[0]
    assert type(verdict.score) is float


async def test_at_the_deadline_what_is_ready_is_answered_and_the_rest_cancelled():
    cancelled = asyncio.Event()

    async def hangs(samples, call):
        yield 1, scored(0.5)
        try:
            await asyncio.sleep(3600)
        finally:
            cancelled.set()

    began = time.monotonic()
    async with rewards_of({"slow": scripted(hangs), "chars": Chars}) as rewards:
        found = await verdicts_of(rewards, THREE, "slow", "chars", deadline_s=0.2)
        assert time.monotonic() - began < 2
        await asyncio.wait_for(cancelled.wait(), 2)
    assert [verdict.score for verdict in found["slow"]] == [None, 0.5, None]
    assert found["slow"][0].status_reason == "not ready before the call's deadline, 0.2 s after it came in"
    assert [verdict.score for verdict in found["chars"]] == [1, 2, 3]


async def test_a_scorer_that_ignores_its_cancellation_holds_up_nobody():
    released = asyncio.Event()

    async def deaf(samples, call):
        while not released.is_set():
            try:
                await asyncio.sleep(0.05)
            except asyncio.CancelledError:
                continue
        yield 0, scored(1.0)

    began = time.monotonic()
    async with rewards_of({"it": scripted(deaf)}) as rewards:
        found = await verdicts_of(rewards, THREE, "it", deadline_s=0.2)
        assert time.monotonic() - began < 2
        released.set()
    assert all(verdict.score is None for verdict in found["it"])


async def test_a_deadline_that_has_passed_still_gets_cheap_rules_and_no_hang():
    async def hangs(samples, call):
        await asyncio.sleep(3600)
        yield 0, scored(1.0)

    async with rewards_of({"slow": scripted(hangs), "chars": Chars}) as rewards:
        found = await verdicts_of(rewards, THREE, "slow", "chars", deadline_s=-1)
    assert all(verdict.score is None for verdict in found["slow"])
    assert found["chars"][0].score == 1


async def test_closing_stops_the_scorers():
    stopped = asyncio.Event()

    async def hangs(samples, call):
        try:
            await asyncio.sleep(3600)
            yield 0, scored(1.0)
        finally:
            stopped.set()

    async with rewards_of({"it": scripted(hangs)}) as rewards:
        scoring = rewards.begin([Selector("it")], THREE, Call())
        await asyncio.sleep(0)
        scoring.close()
        await asyncio.wait_for(stopped.wait(), 2)


async def test_leaving_a_stream_early_stops_the_scorers():
    stopped = asyncio.Event()

    async def one_then_hang(samples, call):
        try:
            yield 0, scored(1.0)
            await asyncio.sleep(3600)
        finally:
            stopped.set()

    async with rewards_of({"it": scripted(one_then_hang)}) as rewards:
        stream = rewards.run([Selector("it")], THREE, Call())
        assert (await anext(stream))[1] == 0
        await stream.aclose()
        await asyncio.wait_for(stopped.wait(), 2)


async def test_rewards_of_a_call_run_at_the_same_time():
    met = asyncio.Barrier(2)

    async def meets(samples, call):
        await met.wait()
        for index in range(len(samples)):
            yield index, scored(1.0)

    async with rewards_of({"a": scripted(meets), "b": scripted(meets)}) as rewards:
        found = await verdicts_of(rewards, THREE, "a", "b")
    assert all(verdict.score == 1.0 for verdicts in found.values() for verdict in verdicts)


async def test_an_empty_batch_asks_no_scorer():
    async def never(samples, call):
        raise AssertionError
        yield

    kind = scripted(never)
    async with rewards_of({"it": kind, "chars": Chars}, sums={"both": {"it": 1, "chars": 1}}) as rewards:
        assert await verdicts_of(rewards, [], "it", "chars", "both") == {"it": [], "chars": [], "both": []}
        assert [item async for item in rewards.run([Selector("it")], [], Call())] == []
    assert "score it" not in kind.events


async def test_a_completion_over_the_limit_is_failed_and_its_neighbours_are_scored():
    seen = []

    async def notes(samples, call):
        for index, sample in enumerate(samples):
            seen.append(sample.completion)
            yield index, scored(float(len(sample.completion)))

    samples = samples_of("a", "x" * 2_000_000, "ccc", [{"role": "assistant", "content": "é" * 600_000}])
    async with rewards_of({"it": scripted(notes), "chars": Chars}) as rewards:
        found = await verdicts_of(rewards, samples, "it", "chars")
        streamed = {(n, i): v.score async for n, i, v in rewards.run([Selector("it")], samples, Call())}
    for verdicts in found.values():
        assert [verdict.score for verdict in verdicts] == [1, None, 3, None]
        assert verdicts[1].status_reason == (
            "the completion has 2,000,000 bytes, over the server's limit of 1,048,576: shorten it "
            "(max_completion_length), or raise limits.max_completion_kb of the server"
        )
    assert seen[:2] == ["a", "ccc"]
    assert streamed == {("it", 0): 1, ("it", 1): None, ("it", 2): 3, ("it", 3): None}


async def test_each_reward_has_its_own_view():
    completion = [{"role": "assistant", "content": "<think>so so</think>yes"}]

    async def kinds(samples, call):
        for index, sample in enumerate(samples):
            yield index, abstained(repr(sample.completion))

    kind = scripted(kinds)
    names = {view.value: view for view in View}
    async with rewards_of(dict.fromkeys(names, kind), views=names) as rewards:
        found = await verdicts_of(rewards, samples_of(completion), *names)
    assert found["full"][0].status_reason == repr("<think>so so</think>yes")
    assert found["answer"][0].status_reason == repr("yes")
    assert found["messages"][0].status_reason == repr(completion)


async def test_long_texts_leave_other_calls_a_turn():
    class Slow(Chars):
        def judge_one(self, sample):
            return scored(float(len(sample.completion)))

    turns = 0

    async def others():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(others())
    async with rewards_of({"it": Slow}) as rewards:
        await asyncio.sleep(0)
        turns = 0
        found = await verdicts_of(rewards, samples_of(*["x" * (YIELD_AFTER_CHARS + 1)] * 5), "it")
    other.cancel()
    assert turns >= 4
    assert [verdict.score for verdict in found["it"]] == [YIELD_AFTER_CHARS + 1] * 5


async def test_several_cheap_rules_share_one_turn():
    async with rewards_of({f"r{n}": Chars for n in range(3)}) as rewards:
        samples = samples_of("x" * (YIELD_AFTER_CHARS // 2 + 1))
        scoring = rewards.begin([Selector(f"r{n}") for n in range(3)], samples, Call())
        assert not scoring.done  # the first was computed at once, the others must wait for their turn
        assert [result.verdicts[0].status for result in await scoring.results()] == [Status.SCORED] * 3
        scoring.close()


async def test_a_rule_with_its_own_way_to_score_many_is_asked_that_way():
    class Own(Chars):
        async def score(self, samples, call):
            for index in range(len(samples)):
                yield index, scored(7.0)

    assert [verdict.score for verdict in await one(Own)] == [7, 7, 7]


async def test_a_scorer_that_is_no_generator_does_too():
    class Cursor:
        def __init__(self, count):
            self._left = list(range(count))

        def __aiter__(self):
            return self

        async def __anext__(self):
            if not self._left:
                raise StopAsyncIteration
            return self._left.pop(), scored(1.0)

    assert [v.score for v in await one(scripted(lambda samples, call: Cursor(len(samples))))] == [1, 1, 1]


async def test_a_scorer_that_returns_nothing_to_iterate_over_is_failed_verdicts():
    verdict = (await one(scripted(lambda samples, call: [(0, scored(1.0))])))[0]
    assert "TypeError" in verdict.status_reason


async def test_a_part_asked_for_after_the_end_is_not_started():
    kind = scripted(lambda samples, call: each(scored(1.0), samples))

    class Stubborn(Chars):
        def __init__(self, options, context):
            self.part = context.reward("part")

        async def score(self, samples, call):
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                late.append([verdict.status async for _, verdict in self.part.score(samples, call)])
                raise
            yield 0, scored(0.0)

    late = []
    async with rewards_of({"it": Stubborn, "part": kind}) as rewards:
        scoring = rewards.begin([Selector("it")], THREE, Call())
        await asyncio.sleep(0.01)
        scoring.close()
        await asyncio.sleep(0.01)
    assert late == [[Status.FAILED] * 3]
    assert "score part" not in kind.events


async def test_a_model_that_changes_during_a_call_leaves_no_score_of_it():
    stopped = []

    async def changes(samples, call):
        try:
            yield 0, scored(0.0)
            kind.said_identity = {"digest": "other"}
            yield 1, scored(1.0)
            pytest.fail("it was asked on, though nothing more of it is of use")
        finally:
            stopped.append(True)

    kind = scripted(changes, said_identity={"digest": "one"})
    with structlog.testing.capture_logs() as logs:
        verdicts = await one(kind)
    assert {verdict.status for verdict in verdicts} == {Status.FAILED}
    assert all("the judge's model changed during this call: 'it' was at" in each.status_reason for each in verdicts)
    assert [line["event"] for line in logs] == ["reward changed during a call"]
    assert stopped


async def test_a_model_that_changes_after_the_last_verdict_came_leaves_no_score_either():
    async def changes(samples, call):
        for index in range(len(samples)):
            yield index, scored(1.0)
        kind.said_identity = {"digest": "other"}

    kind = scripted(changes, said_identity={"digest": "one"})
    async with rewards_of({"it": kind}, sums={"sum": {"it": 1.0}}) as rewards:
        verdicts = await verdicts_of(rewards, THREE, "it")
    assert {verdict.status for verdict in verdicts["it"]} == {Status.FAILED}


async def test_a_sum_has_no_score_of_a_part_that_changed():
    async def changes(samples, call):
        yield 0, scored(0.0)
        await asyncio.sleep(0.02)
        kind.said_identity = {"digest": "other"}
        yield 1, scored(1.0)

    kind = scripted(changes, said_identity={"digest": "one"})
    async with rewards_of({"it": kind}, sums={"sum": {"it": 1.0}}) as rewards:
        verdicts = await verdicts_of(rewards, THREE, "sum")
    assert {verdict.status for verdict in verdicts["sum"]} == {Status.FAILED}
