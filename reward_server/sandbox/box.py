"""One booted sandbox: a bubblewrap process with a waiting harness in it. It serves one job and is thrown away."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from typing import Any, Final

from reward_server.errors import SandboxUnavailable
from reward_server.sandbox.base import Job, Limits, Outcome, Result
from reward_server.sandbox.reading import CappedReader, file_of

BOOT_TIMEOUT_S: Final = 60.0
END_TIMEOUT_S: Final = 2.0
MESSAGE_BYTES: Final = 65_536
CPU_TIME_SIGNAL, KILL_SIGNAL = 24, 9


@dataclass(frozen=True, slots=True)
class Boot:
    """How sandboxes are made."""

    command: tuple[str, ...]  # ends with the number of the control socket's file descriptor, which is added
    rules: bytes  # the filter of system calls
    modules: tuple[str, ...]  # imported ahead
    as_administrator: bool  # the harness becomes another user; otherwise it is started as one


class Box:
    """A sandbox for one job. Make one with `await Box.boot(...)`, end it with `await close()`."""

    def __init__(self, process: subprocess.Popen[bytes], control: socket.socket) -> None:
        self._process = process
        self._control = control
        self.python = ""

    @classmethod
    async def boot(cls, boot: Boot, uid: int | None) -> Box:
        """Starts one and waits until it is ready. Raises `SandboxUnavailable` if it does not start.

        Its programs run as the user of that id; None = as the server's.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)  # noqa: FBT003  # the method takes it so
        with theirs, ExitStack() as on_failure:
            on_failure.callback(ours.close)
            box = cls(_start(boot.command, theirs.fileno(), None if boot.as_administrator else uid), ours)
            on_failure.pop_all()
        try:
            await box._greet(
                {
                    "rules": boot.rules.hex(),
                    "uid": uid if boot.as_administrator else None,
                    "modules": list(boot.modules),
                }
            )
        except BaseException:
            await box.close()
            raise
        return box

    async def _greet(self, message: Mapping[str, Any]) -> None:
        try:
            async with asyncio.timeout(BOOT_TIMEOUT_S):
                await self._tell(message)
                self.python = (await self._hear())["ready"]
        except (TimeoutError, OSError, EOFError) as error:
            self._kill()
            _, said = await asyncio.to_thread(self._process.communicate)
            raise SandboxUnavailable(said.decode(errors="replace").strip() or f"no answer: {error}") from error

    def lives(self) -> bool:
        """Tells whether it can run something, as far as known."""
        return self._process.poll() is None

    async def _tell(self, message: Mapping[str, Any], files: Sequence[int] = ()) -> None:
        data = json.dumps(message).encode()
        while True:
            try:
                socket.send_fds(self._control, [data], files)
            except BlockingIOError:
                await asyncio.sleep(0.01)
            else:
                return

    async def _hear(self) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        data = await loop.sock_recv(self._control, MESSAGE_BYTES)
        if not data:
            raise EOFError("the harness ended")
        heard: dict[str, Any] = json.loads(data)
        return heard

    async def run(self, job: Job, number: int) -> Result:
        """Runs one of a job's runs. It is `KILLED` where the sandbox ends under it.

        Raises `SandboxUnavailable` where the program cannot be confined; it was not started then.
        """
        limit = int(job.limits.output_kb * 1024)
        with ExitStack() as stack:
            readers = [CappedReader(stack, limit) for _ in range(2)]
            asked = job.runs[number]
            texts = (job.source, asked.tail, asked.stdin)
            files = [stack.enter_context(file_of(text)).fileno() for text in texts]
            order = asdict(job.limits) | {"run": number}
            try:
                await self._tell(order, [*files, *(reader.end for reader in readers)])
                for reader in readers:
                    reader.start()
                ended = await self._until_ended(number, readers)
            except (OSError, EOFError):
                return Result(Outcome.KILLED)
            with suppress(TimeoutError):
                async with asyncio.timeout(
                    END_TIMEOUT_S
                ):  # writers are gone, but for a file that is in flight in a socket
                    await asyncio.gather(*(reader.whole() for reader in readers))
            return _result(ended, job.limits, readers)

    async def _until_ended(self, number: int, readers: Sequence[CappedReader]) -> dict[str, Any]:
        full = [asyncio.create_task(reader.full.wait()) for reader in readers]
        hearing = asyncio.create_task(self._hear())
        try:
            await asyncio.wait([hearing, *full], return_when=asyncio.FIRST_COMPLETED)
            if not hearing.done():
                await self._tell({"stop": number})
            return await hearing
        finally:
            for task in (*full, hearing):
                task.cancel()

    def _kill(self) -> None:
        """Kills it at once, with its first child: while bubblewrap boots, that would wait for it for ever."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    async def close(self) -> None:
        """Ends it and all that is in it; returns when it is gone."""
        with suppress(OSError):  # it has been
            self._control.shutdown(
                socket.SHUT_RDWR
            )  # the harness hears it, and ends; so does whoever waits for it here
        try:
            await asyncio.to_thread(self._end)
        finally:
            self._control.close()

    def _end(self) -> None:
        try:
            self._process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._kill()
            self._process.wait()
        finally:
            if self._process.stderr:
                self._process.stderr.close()


def _start(command: Sequence[str], control: int, user: int | None) -> subprocess.Popen[bytes]:
    """Starts bubblewrap. It dies with the thread that starts it, so this must be the event loop's.

    Not with asyncio: a cancelled start hangs there for ever (Python 3.11).
    """
    try:
        return subprocess.Popen(  # noqa: S603  # our own command line
            [*command, str(control)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=[control],
            process_group=0,  # see _kill
            user=user,
            group=user,
            extra_groups=None if user is None else [],
        )
    except OSError as error:
        raise SandboxUnavailable(f"{command[0]} cannot be started: {error}") from error


def _result(ended: Mapping[str, Any], limits: Limits, readers: Sequence[CappedReader]) -> Result:
    if "broken" in ended:
        raise SandboxUnavailable(f"a run could not be confined: {ended['broken']}")
    stdout, stderr = (reader.text() for reader in readers)
    exit_code = os.waitstatus_to_exitcode(ended["status"]) if "status" in ended else None
    outcome = _outcome(ended, exit_code, limits, stderr)
    if any(reader.full.is_set() for reader in readers):
        outcome = Outcome.OUTPUT_LIMIT
    return Result(outcome, stdout, stderr, exit_code, ended["cpu_s"], ended["wall_s"], ended["own_s"])


_STOPPED: Final = {"timed_out": Outcome.TIMED_OUT, "out_of_memory": Outcome.OUT_OF_MEMORY}


def _outcome(ended: Mapping[str, Any], exit_code: int | None, limits: Limits, stderr: str) -> Outcome:
    if ended["stopped"]:
        return _STOPPED.get(ended["stopped"], Outcome.KILLED)
    if exit_code is None or (exit_code == -KILL_SIGNAL and ended["oom_kills"]):
        return Outcome.KILLED  # from outside: the machine's memory was short
    if exit_code == 0:
        return Outcome.OK
    if exit_code == -CPU_TIME_SIGNAL or (exit_code == -KILL_SIGNAL and ended["cpu_s"] > limits.cpu_s):
        return Outcome.TIMED_OUT
    last = stderr.rstrip().rpartition("\n")[2]
    return Outcome.OUT_OF_MEMORY if last.startswith("MemoryError") else Outcome.FAILED
