"""The client of a SandboxFusion service, beside a real HTTP server that answers like one."""

import asyncio
import time
from pathlib import Path

import pytest
from fake_sandboxfusion import FakeSandboxFusion
from waiting import until

from reward_server.errors import SandboxUnavailable
from reward_server.sandbox import fusion
from reward_server.sandbox.base import Job, Limits, Outcome, Result, Run
from reward_server.sandbox.fusion import Fusion, FusionOptions

ECHO = "import sys; sys.stdout.write(sys.stdin.read().upper())"


def client(url, **options):
    return Fusion(FusionOptions(url=url, **options), Path())


def left(seconds=60.0):
    return time.monotonic() + seconds


async def outcome_of(host, job, seconds=60.0):
    sandbox = client(host.url)
    await sandbox.start()
    try:
        return await sandbox.run(job, left(seconds))
    finally:
        await sandbox.close()


async def test_each_run_has_its_own_input_and_result():
    with FakeSandboxFusion() as host:
        one, two = await outcome_of(host, Job(ECHO, [Run("a"), Run("b")]))
    assert (one.outcome, one.stdout, one.exit_code) == (Outcome.OK, "A", 0)
    assert two.stdout == "B"


async def test_a_runs_tail_follows_the_program():
    with FakeSandboxFusion() as host:
        (result,) = await outcome_of(host, Job("x = 3", [Run(tail="print(x)")]))
    assert result.stdout == "3\n"


@pytest.mark.parametrize(
    ("source", "outcome", "exit_code"),
    [
        ("raise SystemExit(3)", Outcome.FAILED, 3),
        ("1/0", Outcome.FAILED, 1),
        ("while True: pass", Outcome.TIMED_OUT, None),
    ],
)
async def test_how_a_program_ended_is_told(source, outcome, exit_code):
    with FakeSandboxFusion() as host:
        (result,) = await outcome_of(host, Job(source, [Run()], limits=Limits(wall_s=0.5)))
    assert (result.outcome, result.exit_code) == (outcome, exit_code)


async def test_what_a_failed_program_wrote_is_told():
    with FakeSandboxFusion() as host:
        (result,) = await outcome_of(host, Job("1/0", [Run()]))
    assert result.stderr.rstrip().endswith("ZeroDivisionError: division by zero")


@pytest.mark.parametrize("fault", ["error", "500", "html", "hang up"])
async def test_a_service_that_fails_once_is_asked_again(fault):
    with FakeSandboxFusion() as host:
        sandbox = client(host.url)
        await sandbox.start()
        host.faults.append(fault)
        (result,) = await sandbox.run(Job("print(1)", [Run()]), left())
        await sandbox.close()
    assert result.stdout == "1\n"


@pytest.mark.parametrize("fault", ["error", "500", "html", "hang up"])
async def test_a_service_that_goes_on_failing_is_unavailable_and_no_program_failed(fault):
    with FakeSandboxFusion() as host:
        sandbox = client(host.url)
        await sandbox.start()
        host.faults += [fault] * 3
        with pytest.raises(SandboxUnavailable, match="sandbox http"):
            await sandbox.run(Job("print(1)", [Run()]), left())
        assert not sandbox.health().serving
        assert (await sandbox.run(Job("print(1)", [Run()]), left()))[0].stdout == "1\n"
        assert sandbox.health().serving
        await sandbox.close()


async def test_a_time_out_that_does_not_come_again_is_none():
    with FakeSandboxFusion() as host:
        sandbox = client(host.url)
        await sandbox.start()
        host.faults.append("timeout")
        (result,) = await sandbox.run(Job("print(1)", [Run()]), left())
        await sandbox.close()
    assert result.outcome is Outcome.OK


async def test_nobody_there_is_said_and_nothing_is_refused_for_good():
    sandbox = client("http://127.0.0.1:9")
    await sandbox.start()
    health = sandbox.health()
    assert not health.serving
    assert not health.refuses
    assert "Is SandboxFusion running there?" in health.reason
    await sandbox.close()


async def test_a_deadline_ends_the_waiting_and_is_no_outage_of_the_service():
    with FakeSandboxFusion() as host:
        sandbox = client(host.url)
        await sandbox.start()
        host.faults += ["hang"] * 3
        with pytest.raises(TimeoutError):
            await sandbox.run(Job("print(1)", [Run()]), left(0.3))
        with pytest.raises(TimeoutError):
            await sandbox.run(Job("print(1)", [Run()]), left(0))
        assert sandbox.health().serving
        await sandbox.close()


async def test_a_service_that_answers_no_look_in_time_is_told_of(monkeypatch):
    monkeypatch.setattr(fusion, "LOOK_TIMEOUT_S", 0.2)
    with FakeSandboxFusion("hang") as host:
        sandbox = client(host.url)
        await sandbox.start()
        assert "no answer" in sandbox.health().reason
        await sandbox.close()


@pytest.mark.parametrize("in_flight", [1, 2, 8])
async def test_however_many_runs_are_sent_at_a_time_the_result_is_that_of_one_after_another(in_flight):
    source = "import time; time.sleep(float(input())); print('done')"
    naps = ["1.5", "0", "3", "0", "3", "0"]  # the first is out of time after all others have ended
    with FakeSandboxFusion() as host:
        sandbox = client(host.url, in_flight=in_flight)
        await sandbox.start()
        job = Job(source, [Run(nap) for nap in naps], limits=Limits(wall_s=0.7), most_timeouts=2)
        results = await sandbox.run(job, left())
        await sandbox.close()
    assert [result.outcome is Outcome.OK for result in results] == [False, True, False, False, False, False]
    assert {result.outcome for result in results[2:]} == {Outcome.TIMED_OUT}


async def test_what_fails_behind_the_last_run_that_counts_is_not_missed():
    with FakeSandboxFusion() as host:
        sandbox = client(host.url, in_flight=3)
        await sandbox.start()
        outcomes = [Result(Outcome.TIMED_OUT), Result(Outcome.OK), SandboxUnavailable("gone")]
        job = Job("", [Run()] * 3, most_timeouts=1)
        assert [each.outcome for each in fusion._in_order(job, outcomes)] == [Outcome.TIMED_OUT] * 3
        with pytest.raises(SandboxUnavailable):
            fusion._in_order(Job("", [Run()] * 3), outcomes)
        await sandbox.close()


async def test_cancelling_closes_the_connection():
    with FakeSandboxFusion() as host:
        sandbox = client(host.url)
        await sandbox.start()
        running = asyncio.create_task(sandbox.run(Job("import time; time.sleep(60)", [Run()] * 3), left()))
        await until(lambda: host.in_flight == 3)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await until(lambda: host.in_flight == 0)
        await sandbox.close()


async def test_a_token_is_sent(tmp_path):
    (tmp_path / "token").write_text("secret\n")
    with FakeSandboxFusion(token="secret") as host:
        options = FusionOptions(url=host.url, token_file=Path("token"))
        sandbox = Fusion(options, tmp_path)
        await sandbox.start()
        assert sandbox.health().serving
        await sandbox.close()
        bare = client(host.url)
        await bare.start()
        assert "401" in bare.health().reason
        await bare.close()


async def test_no_more_runs_are_sent_at_a_time_than_it_may_have():
    with FakeSandboxFusion() as host:
        sandbox = client(host.url, in_flight=2)
        await sandbox.start()
        await sandbox.run(Job("print(1)", [Run()] * 6), left())
        await sandbox.close()
        assert host.most_in_flight == 2


async def test_a_text_that_is_no_unicode_is_sent_all_the_same():
    with FakeSandboxFusion() as host:
        (result,) = await outcome_of(host, Job("print('\ud800')", [Run("\udfff")]))
    assert result.stdout == "?\n"
