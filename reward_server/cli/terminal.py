"""What the commands have in common at the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console

from reward_server.config import ServerConfig
from reward_server.errors import ConfigError

PLAIN_WIDTH: Final = 200
"""Tables that go to a file or a pipe are laid out for this many columns."""


def console(*, stderr: bool = False) -> Console:
    """Returns a console. People's texts go to it as `Text` or escaped: they may hold markup."""
    on_terminal = (sys.stderr if stderr else sys.stdout).isatty()
    return Console(stderr=stderr, highlight=False, width=None if on_terminal else PLAIN_WIDTH)


@contextmanager
def located(config: ServerConfig) -> Iterator[None]:
    """Puts file and line before what is found wrong with a configuration only when it is started."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(*map(config.located, error.problems)) from error
