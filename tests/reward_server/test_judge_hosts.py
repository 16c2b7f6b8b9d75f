"""A judge in front of several real HTTP hosts, of which some fall ill while a batch is being graded."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from fake_ollama import FakeOllama
from judge_at_host import judge_at
from scripted_judges import by_length
from waiting import until

from reward_server.domain import Call, Sample, Verdict
from reward_server.judge.judge import Judge

COUNT = 256
SAMPLES = [Sample("word " * (1 + index % 50), f"Write something, the {index // 8}th time.") for index in range(COUNT)]


async def verdicts_of(judge: Judge) -> list[Verdict]:
    found = {index: verdict async for index, verdict in judge.score(SAMPLES, Call())}
    return [found[index] for index in range(COUNT)]


async def test_of_three_hosts_one_is_killed_and_one_slowed_in_mid_batch_and_no_verdict_is_lost(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        hosts = [stack.enter_context(FakeOllama(by_length(250), slots=4, seconds=0.05)) for _ in range(3)]
        async with judge_at(hosts, tmp_path) as judge:
            whole = await verdicts_of(judge)
        assert len({verdict.score for verdict in whole}) > 1
        async with judge_at(hosts, tmp_path) as judge:
            begun = [len(host.questions) for host in hosts]
            grading = asyncio.create_task(verdicts_of(judge))
            await until(lambda: all(len(host.questions) > was + 10 for host, was in zip(hosts, begun, strict=True)))
            assert not grading.done()
            await asyncio.to_thread(hosts[1].stop)
            hosts[2].slow(10)
            disturbed = await grading
    assert [verdict.score for verdict in disturbed] == [verdict.score for verdict in whole]
    assert None not in [verdict.score for verdict in disturbed]
