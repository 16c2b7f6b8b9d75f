"""The last steps before an untrusted program, in its own process, and the first after it."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
import types
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from reward_server.sandbox.inside import confining

PART_BYTES: Final = 1 << 20
MOST_FILES: Final = 65_536
NICENESS: Final = 5
"""Programs yield to the harness and to the server."""

MAIN_FILE: Final = f"{confining.WORK}/main.py"
TAIL_FILE: Final = "<test>"

Code = tuple[bytes, bytes]
"""A program's source, and the tail that follows it in a run: the program's own file does not hold that."""


def become(files: Sequence[int]) -> Code:
    """Takes a run's files as the process's own: source, tail, input and two outputs. Returns the code."""
    os.setsid()
    os.nice(NICENESS)
    source, tail = _whole(files[0]), _whole(files[1])
    for number, file in enumerate(files[2:]):
        os.dup2(file, number)
    os.closerange(3, MOST_FILES)
    confining.set_dumpable(dumpable=True)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    Path(MAIN_FILE).write_bytes(source)
    return source, tail


def _whole(file: int) -> bytes:
    whole = b""
    while part := os.read(file, PART_BYTES):
        whole += part
    return whole


def run(source: bytes, tail: bytes) -> None:
    """Runs a program as `python main.py` would, then its tail in the same module, and ends the process.

    While the program runs, the tail is in no variable of the frames above it and in nothing that `gc` lists. That stops who
    looks there, not who searches memory or traces what runs.
    """
    main = _as_if_started_alone()
    pieces = [(MAIN_FILE, source), (TAIL_FILE, tail)]
    source = tail = b""
    gc.freeze()
    status = 0
    try:
        for file, code in pieces:
            pieces = []  # the loop alone holds them
            exec(compile(code, file, "exec", dont_inherit=True), main.__dict__)  # noqa: S102  # what all this is for
    except SystemExit as error:
        status = _code_of(error)
    except BaseException:  # noqa: BLE001  # whatever it raises is shown
        sys.excepthook(*sys.exc_info())
        status = 1
    _end(main, status)


def _as_if_started_alone() -> types.ModuleType:
    """Makes the interpreter look as if it had just been started. Returns the main module."""
    for name in [name for name in sys.modules if name.startswith("reward_server")]:
        del sys.modules[name]
    main = types.ModuleType("__main__")
    main.__dict__.update(__file__=MAIN_FILE, __builtins__=__builtins__)
    sys.modules["__main__"] = main
    sys.argv = ["main.py"]
    sys.path[0] = confining.WORK
    sys.excepthook = _show
    return main


def _show(kind: type[BaseException], error: BaseException, trace: types.TracebackType | None) -> None:
    """Shows an error without the frames of the harness."""
    while trace is not None and trace.tb_frame.f_code.co_filename not in (MAIN_FILE, TAIL_FILE):
        trace = trace.tb_next
    sys.__excepthook__(kind, error.with_traceback(trace), trace)


def _code_of(error: SystemExit) -> int:
    if error.code is None or isinstance(error.code, int):
        return (error.code or 0) & 0xFF
    with suppress(Exception):
        sys.stderr.write(f"{error.code}\n")
    return 1


def _end(main: types.ModuleType, code: int) -> None:
    """Ends the process as Python does, but for the tear-down of the standard library, which takes many milliseconds.

    Threads are waited for, exit functions called, and the program's own objects deleted, so that its files are flushed.
    """
    try:
        if threading := sys.modules.get("threading"):
            threading._shutdown()  # noqa: SLF001  # what Python itself calls
        atexit._run_exitfuncs()  # noqa: SLF001  # the same
        _flush()
        main.__dict__.clear()
        gc.collect()
        _flush()
    except BaseException:  # noqa: BLE001  # of the program's own doing
        code = code or 120  # as Python
    os._exit(code)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            stream.flush()
