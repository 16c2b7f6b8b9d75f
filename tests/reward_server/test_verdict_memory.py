import asyncio
import gc
import time
from contextvars import ContextVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from waiting import until

from reward_server.errors import AnswerTimedOut, BadAnswer, EngineError, HostUnreachable
from reward_server.sharing.memory import ENTRY_BYTES, LAST_WORD_S, VerdictMemory

FOREVER = float("inf")


def soon(seconds=5.0):
    return time.monotonic() + seconds


def size(value):
    return len(str(value))


class Asking:
    """A computation that a test holds back, and what became of it."""

    def __init__(self, value="yes", error=None, cancelled_for_s=0.0):
        self.value = value
        self.error = error
        self.cancelled_for_s = cancelled_for_s  # how long it takes to notice that it was cancelled
        self.begun = self.ended = self.cancelled = 0
        self.deadline = None
        self.go = asyncio.Event()

    async def __call__(self, deadline):
        self.begun += 1
        self.deadline = deadline
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            await asyncio.sleep(self.cancelled_for_s)
            raise
        finally:
            self.ended += 1
        if self.error:
            raise self.error
        return self.value


@pytest.fixture
async def memory():
    memory = VerdictMemory(10_000)
    yield memory
    await memory.close()


def call(memory, asking, key=b"k", deadline=FOREVER):
    return asyncio.create_task(memory.get(key, size, asking, deadline))


async def test_two_who_ask_at_the_same_time_ask_once(memory):
    asking = Asking()
    calls = [call(memory, asking) for _ in range(3)]
    await until(lambda: asking.begun)
    asking.go.set()
    assert await asyncio.gather(*calls) == ["yes"] * 3
    assert asking.begun == 1
    assert memory.counts == (0, 2, 1)


async def test_what_was_found_is_remembered(memory):
    asking = Asking()
    asking.go.set()
    assert [await call(memory, asking) for _ in range(3)] == ["yes"] * 3
    assert asking.begun == 1
    assert memory.counts == (2, 0, 1)


async def test_none_is_a_result_like_others(memory):
    asking = Asking(value=None)
    asking.go.set()
    assert [await call(memory, asking) for _ in range(2)] == [None, None]
    assert asking.begun == 1


async def test_an_error_reaches_all_who_wait_and_is_not_kept(memory):
    asking = Asking(error=BadAnswer("half a JSON"))
    calls = [call(memory, asking) for _ in range(3)]
    await until(lambda: asking.begun)
    asking.go.set()
    assert await asyncio.gather(*calls, return_exceptions=True) == [asking.error] * 3
    asking.error = None
    assert await call(memory, asking) == "yes"
    assert asking.begun == 2


async def test_one_who_is_cancelled_does_not_stop_the_others(memory):
    asking = Asking()
    first, second = call(memory, asking), call(memory, asking)
    await until(lambda: asking.begun)
    first.cancel()
    await asyncio.wait([first])
    asking.go.set()
    assert await second == "yes"
    assert first.cancelled()
    assert asking.cancelled == 0


async def test_one_leaves_at_its_own_deadline(memory):
    asking = Asking()
    short, long = call(memory, asking, deadline=soon(0.02)), call(memory, asking)
    with pytest.raises(AnswerTimedOut):
        await short
    assert not long.done()
    asking.go.set()
    assert await long == "yes"


async def test_the_asking_is_cancelled_when_the_last_one_leaves(memory):
    asking = Asking()
    calls = [call(memory, asking) for _ in range(2)]
    await until(lambda: asking.begun)
    for task in calls:
        task.cancel()
    await until(lambda: asking.ended)
    assert asking.cancelled == 1
    await until(lambda: memory.flight_count == 0)


async def test_who_leaves_does_not_wait_for_the_end_of_the_asking(memory):
    asking = Asking(cancelled_for_s=0.2)
    task = call(memory, asking, deadline=soon(0.02))
    with pytest.raises(AnswerTimedOut):
        await task
    assert asking.ended == 0


async def test_who_comes_while_it_is_being_cancelled_gets_an_asking_of_its_own_after_it(memory):
    asking = Asking(cancelled_for_s=0.02)
    first = call(memory, asking)
    await until(lambda: asking.begun)
    first.cancel()
    await until(lambda: asking.cancelled)
    second, third = call(memory, asking), call(memory, asking)
    await asyncio.sleep(0)
    assert asking.begun == 1
    await until(lambda: asking.begun == 2)
    assert asking.ended == 1  # of the two, never both at a time
    asking.go.set()
    assert await asyncio.gather(second, third) == ["yes", "yes"]


async def test_who_waits_for_a_predecessors_end_may_leave_and_its_successor_still_waits(memory):
    asking = Asking(cancelled_for_s=0.05)
    first = call(memory, asking)
    await until(lambda: asking.begun)
    first.cancel()
    await until(lambda: asking.cancelled)
    second = call(memory, asking)
    await asyncio.sleep(0.001)
    second.cancel()
    third = call(memory, asking)
    await until(lambda: asking.begun == 2)
    assert asking.ended == 1
    asking.go.set()
    assert await third == "yes"


async def test_a_result_that_came_in_spite_of_being_cancelled_serves_the_next(memory):
    begun = 0
    release = asyncio.Event()

    async def stubborn(deadline):
        nonlocal begun
        begun += 1
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await release.wait()
        return "late"

    first = call(memory, stubborn)
    await until(lambda: begun)
    first.cancel()
    second = call(memory, stubborn)
    await asyncio.sleep(0.001)
    release.set()
    assert await second == "late"
    assert begun == 1


async def test_the_deadline_of_the_asking_is_the_latest_of_those_who_wait(memory):
    asking = Asking()
    early, late, latest = soon(10), soon(20), soon(30)
    calls = {deadline: call(memory, asking, deadline=deadline) for deadline in (late, early, latest)}
    await until(lambda: asking.begun)
    assert asking.deadline() == latest - LAST_WORD_S
    calls[latest].cancel()
    await asyncio.wait([calls[latest]])
    assert asking.deadline() == late - LAST_WORD_S


async def test_an_asking_that_ends_at_its_deadline_still_tells_its_own_reason(memory):
    async def waits_for_a_host(deadline):
        await asyncio.sleep(deadline() - time.monotonic())
        raise HostUnreachable("away all the time")

    with pytest.raises(HostUnreachable):
        await call(memory, waits_for_a_host, deadline=soon(0.3))


async def test_past_the_deadline_nothing_is_asked_but_what_is_known_is_told(memory):
    asking = Asking()
    asking.go.set()
    with pytest.raises(AnswerTimedOut):
        await call(memory, asking, deadline=time.monotonic() - 1)
    assert asking.begun == 0
    await call(memory, asking)
    assert await call(memory, asking, deadline=time.monotonic() - 1) == "yes"


async def test_a_cancellation_inside_the_asking_is_an_error_for_those_who_wait(memory):
    async def breaks(deadline):
        inner = asyncio.create_task(asyncio.sleep(3600))
        asyncio.get_running_loop().call_soon(inner.cancel)
        await inner

    calls = [call(memory, breaks) for _ in range(2)]
    for outcome in await asyncio.gather(*calls, return_exceptions=True):
        assert type(outcome) is EngineError


async def test_closing_ends_every_asking_and_nothing_is_asked_any_more():
    memory, asking = VerdictMemory(1000), Asking(cancelled_for_s=0.01)
    waiting, left = call(memory, asking, b"1"), call(memory, asking, b"2")
    await until(lambda: asking.begun == 2)
    left.cancel()
    await memory.close()
    assert asking.ended == 2
    with pytest.raises(EngineError, match="cancelled"):
        await waiting
    with pytest.raises(EngineError, match="shutting down"):
        await call(memory, asking, b"3")


async def test_an_error_that_nobody_waits_for_is_no_complaint_of_asyncio(memory):
    complaints = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))

    async def fails_when_cancelled(deadline):
        try:
            await asyncio.Event().wait()
        finally:
            raise BadAnswer("too late")

    task = call(memory, fails_when_cancelled, deadline=soon(0.01))
    with pytest.raises(AnswerTimedOut):
        await task
    await until(lambda: memory.flight_count == 0)
    del task
    gc.collect()
    assert complaints == []


async def test_the_least_recently_used_makes_room(memory):
    memory = VerdictMemory(2 * (ENTRY_BYTES + 3))
    asking = Asking()
    asking.go.set()
    for key in (b"a", b"b", b"a", b"c"):  # b is the one not used for longest
        await call(memory, asking, key)
    assert (memory.kept_count, memory.kept_bytes) == (2, 2 * (ENTRY_BYTES + 3))
    begun = asking.begun
    await call(memory, asking, b"a")
    assert asking.begun == begun
    await call(memory, asking, b"b")
    assert asking.begun == begun + 1


async def test_what_is_larger_than_the_memory_is_told_and_not_kept():
    memory, asking = VerdictMemory(0), Asking()
    asking.go.set()
    assert [await call(memory, asking) for _ in range(2)] == ["yes", "yes"]
    assert (asking.begun, memory.kept_bytes) == (2, 0)


async def test_the_asking_leaves_no_trace_in_the_context_of_those_who_wait(memory):
    run = ContextVar("run", default="")
    seen = []

    async def asks(deadline):
        seen.append(run.get())
        run.set("the asking's own")
        return "yes"

    async def waits():
        run.set("first")
        await memory.get(b"k", size, asks, FOREVER)
        return run.get()

    assert await asyncio.create_task(waits()) == "first"
    assert seen == ["first"]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["join", "join", "leave", "finish", "fail", "break", "turn", "turn"]),
        st.integers(0, 1),
        st.integers(0, 3),
    ),
    max_size=40,
)


class Crowd:
    """Calls that come and go at random, and flights that end at random."""

    def __init__(self):
        self.memory = VerdictMemory(0)  # keeps nothing: every round asks anew
        self.calls = []  # (task, key)
        self.open = {}  # key -> future that ends its flight
        self.most_at_a_time = 0

    def compute(self, key):
        async def asks(deadline):
            assert key not in self.open, "two flights for a key at a time"
            self.open[key] = ending = asyncio.get_running_loop().create_future()
            try:
                await asyncio.sleep(0)
                return await ending
            finally:
                try:
                    await asyncio.sleep(0)  # the end takes a while, too
                finally:
                    del self.open[key]

        return asks

    def step(self, what, number, which):
        key = b"key %d" % number
        ending = self.open.get(key)
        if what == "join":
            self.calls.append((call(self.memory, self.compute(key), key), key))
        elif what == "leave" and self.calls:
            self.calls[which % len(self.calls)][0].cancel()
        elif ending is not None and not ending.done():
            if what == "finish":
                ending.set_result(key)
            elif what == "fail":
                ending.set_exception(BadAnswer(key.decode()))
            elif what == "break":
                ending.cancel()

    async def settle(self):
        """Lets every flight end that is under way; hangs where a call is left without one."""
        while any(not task.done() for task, _ in self.calls):
            for ending in self.open.values():
                if not ending.done():
                    ending.set_result(next(key for key, value in self.open.items() if value is ending))
            await asyncio.sleep(0)


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_whoever_comes_and_goes_nobody_hangs_and_nobody_gets_anothers_result(steps):
    async def run():
        complaints = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
        crowd = Crowd()
        for what, number, which in steps:
            crowd.step(what, number, which)
            if what == "turn":
                await asyncio.sleep(0)
        async with asyncio.timeout(5):
            await crowd.settle()
            await until(lambda: crowd.memory.flight_count == 0)
        for task, key in crowd.calls:
            if task.cancelled():
                continue
            error = task.exception()
            if type(error) is BadAnswer:
                assert str(error) == key.decode()
            elif error is None:
                assert task.result() == key
            else:
                assert type(error) is EngineError, error
        return complaints

    assert asyncio.run(run()) == []
