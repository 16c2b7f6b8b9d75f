"""Tells whether a command line, written in a file or a page, has only commands and flags that exist. Runs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from typer.testing import CliRunner

PROGRAMS = {"reward-server": "reward_server.cli.app", "grpo-train": "trainer.cli"}
"""Where the typer application of each program is, as `app`."""


def complaint(words: Sequence[str]) -> str | None:
    """Returns what the program named first says against the words after it, or None if it knows all of them.

    With --help behind them nothing is done, but all of them are parsed first: values are not looked at. It stands there
    twice, because an option that lacks its value would take the first for it.
    """
    program, *arguments = words
    done = CliRunner().invoke(import_module(PROGRAMS[program]).app, [*arguments, "--help", "--help"])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return None if done.exit_code == 0 else done.output
