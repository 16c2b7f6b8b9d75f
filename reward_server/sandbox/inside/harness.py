"""The first process in a sandbox: starts the untrusted program once per run, and tells how it ended.

It never touches what belongs to a run: source, input and outputs are open files that travel through it. For each run
there are three processes:

    harness     first of the sandbox's namespaces; still has the capabilities to make namespaces
     `- init    first of the run's own namespaces (processes, mounts); gives up all privileges, then only waits
         `- program

The program sees neither the harness nor another run: /proc lists its own namespace, its files are on a file system of
its own. When init ends or is killed, the kernel kills every process of the run and frees the files.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from reward_server.sandbox.inside import confining, program
from reward_server.sandbox.inside.watching import TICK_MS, Watch, oom_kills, resident_pages

MESSAGE_BYTES: Final = 65_536
FILES_PER_RUN: Final = 5


class Harness:
    """Serves runs over a socket until its other end is closed."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        boot = json.loads(control.recv(MESSAGE_BYTES))
        self._rules = bytes.fromhex(boot["rules"])
        self._uid: int | None = boot["uid"]  # of the programs; None = the harness's own
        self._own_processes = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        for module in boot["modules"]:
            with suppress(ImportError):
                importlib.import_module(module)
        gc.collect()
        gc.freeze()  # what is shared with the programs is not looked at in them again, and so not copied
        self._tell({"ready": sys.version.split()[0]})

    def _tell(self, message: Mapping[str, Any]) -> None:
        self._control.send(json.dumps(message).encode())

    def serve(self) -> program.Code:
        """Never returns in the harness: it ends when the server hangs up. Returns the code in a run's program."""
        while True:
            message, files, _, _ = socket.recv_fds(self._control, MESSAGE_BYTES, FILES_PER_RUN)
            if not message:
                os._exit(0)
            order = json.loads(message)
            if "stop" not in order:  # one that came too late
                code = self._run(order, files)
                if code is not None:
                    return code

    def _run(self, order: Mapping[str, Any], files: Sequence[int]) -> program.Code | None:
        """Returns the code in the program, and None in the harness when the run is over."""
        kills_before, base_pages = oom_kills(), resident_pages()
        report, report_end = os.pipe()
        confining.unshare(confining.NEW_PROCESSES)
        init = os.fork()
        if init == 0:
            return self._be_init(order, files, report_end)
        confining.return_to(self._own_processes)
        for file in (*files, report_end):
            os.close(file)
        watch = Watch(init, order, base_pages)
        stopped = self._look_after(watch, order["run"], report)
        if stopped:
            os.kill(init, signal.SIGKILL)
        told = os.read(report, MESSAGE_BYTES)
        os.close(report)
        _, _, usage = os.wait4(init, 0)  # returns when all processes of the run are gone
        cpu_s = max(watch.cpu_s, usage.ru_utime + usage.ru_stime)  # the latter lacks those that were killed with init
        ended = {
            "run": order["run"],
            "stopped": stopped,
            "cpu_s": cpu_s,
            "wall_s": watch.wall_s(),
            "own_s": watch.own_s,
        }
        self._tell(ended | {"oom_kills": oom_kills() - kills_before} | (json.loads(told) if told else {}))
        return None

    def _look_after(self, watch: Watch, run: int, report: int) -> str | None:
        """Returns when the run has ended, or must be stopped and why."""
        poll = select.poll()
        poll.register(report, select.POLLIN)
        poll.register(self._control, select.POLLIN)
        while True:
            ready = {file for file, _ in poll.poll(TICK_MS)}
            if report in ready:
                return None
            if self._control.fileno() in ready:
                message = self._control.recv(MESSAGE_BYTES)
                if not message:
                    os._exit(0)  # the kernel kills all that are below
                if json.loads(message).get("stop") == run:
                    return "asked"
            if reason := watch.reason_to_stop():
                return reason

    def _be_init(self, order: Mapping[str, Any], files: Sequence[int], report: int) -> program.Code | None:
        """Confines itself, starts the program and waits for it. Returns the code in the program."""
        try:
            self._control.close()
            os.close(self._own_processes)
            Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # what a first process does not handle, it does not get
            confining.limit(order, 2 if self._uid is None else 1)
            confining.make_files(order["files_mb"])
            confining.give_up_privileges(os.geteuid() if self._uid is None else self._uid, self._rules)
            child = os.fork()
        except BaseException as error:  # noqa: BLE001  # the harness must hear of it, and nothing may go on
            os.write(report, json.dumps({"broken": f"{type(error).__name__}: {error}"}).encode())
            os._exit(1)
        if child == 0:
            return program.become(files)
        for file in files:
            os.close(file)
        while True:
            pid, status = os.wait()
            if pid == child:
                os.write(report, json.dumps({"status": status}).encode())
                os._exit(0)


def main() -> None:
    """Serves runs; in a run's program, runs it."""
    program.run(*Harness(socket.socket(fileno=int(sys.argv[1]))).serve())
