"""The command line called in this process, as a person would call it."""

from __future__ import annotations

import sys
from typing import NamedTuple

import pytest
import structlog


class Ended(NamedTuple):
    """How a command ended, and what it said."""

    status: int
    out: str
    err: str


class Commands:
    """Calls `reward-server`. Make it in a fixture: it needs pytest's own to look at what is printed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *arguments: str) -> Ended:
        """Runs one command to its end."""
        from reward_server.cli import main

        self._monkeypatch.setattr(sys, "argv", ["reward-server", *arguments])
        self._monkeypatch.setenv("COLUMNS", "200")  # typer's own TERMINAL_WIDTH is read only when it is imported
        try:
            with pytest.raises(SystemExit) as ended:
                main()
        finally:
            structlog.reset_defaults()  # commands set up logging for the whole process
        code = ended.value.code
        assert code is None or isinstance(code, int)
        return Ended(code or 0, *self._capsys.readouterr())
