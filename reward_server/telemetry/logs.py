"""Structured logs on stderr: JSON lines for machines, readable lines on a terminal.

No log line holds anything of a prompt, a completion or a token. Exceptions are the leak that is easily overlooked: their
messages quote what they choked on. So of an exception only its type and the places it passed are logged.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from traceback import extract_tb
from typing import Any, Final, Literal

import structlog
from structlog.typing import EventDict, WrappedLogger

from reward_server.telemetry.lines import Lines

LogFormat = Literal["auto", "json", "console"]

_as_json: Final = json.JSONEncoder(default=repr).encode  # json.dumps would make an encoder for every line

STDERR: Final = 2

FRAMES_LOGGED: Final = 12
"""Of an exception's places the innermost ones."""


@contextmanager
def in_background(log_format: LogFormat = "auto", level: str = "info") -> Iterator[None]:
    """Sets up logging as `configure` does, for a process whose work must go on whatever becomes of its log.

    Leaving waits for the last lines, but not for long.
    """
    # Without a stderr its number may by now belong to anything that was opened since.
    lines = Lines(os.open(os.devnull, os.O_WRONLY) if sys.stderr is None else STDERR)
    configure(log_format, level, lines)
    try:
        yield
    finally:
        lines.flush()


def configure(log_format: LogFormat = "auto", level: str = "info", lines: Lines | None = None) -> None:
    """Sets up logging for this process; `auto` is `console` on a terminal and `json` elsewhere.

    `lines` is what writes them; None: each is written to stderr before the caller goes on.
    """
    on_terminal = sys.stderr is not None and sys.stderr.isatty()
    readable = log_format == "console" or (log_format == "auto" and on_terminal)
    renderer: structlog.typing.Processor = (
        # Its default exception formatter shows local variables, which hold people's texts.
        structlog.dev.ConsoleRenderer(colors=on_terminal, exception_formatter=structlog.dev.plain_traceback)
        if readable
        else structlog.processors.JSONRenderer(serializer=lambda event, **_: _as_json(event))
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            exceptions_without_texts,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=lines or structlog.WriteLoggerFactory(sys.stderr),  # which flushes every line
        cache_logger_on_first_use=False,
    )


def exceptions_without_texts(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Replaces `exc_info`, which any library may log, by what `about` tells."""
    del logger, method
    found = event.pop("exc_info", None)
    error = sys.exception() if found is True else found
    if isinstance(error, tuple):
        error = error[1]
    if isinstance(error, BaseException):
        event.update(about(error))
    return event


def about(error: BaseException) -> dict[str, Any]:
    """Returns what a log line may tell of an exception: its type and the places it passed, innermost last."""
    frames = extract_tb(error.__traceback__)[-FRAMES_LOGGED:]
    return {
        "error": type(error).__name__,
        "where": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
    }
