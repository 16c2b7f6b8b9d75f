"""Rubrics in files: YAML in, a checked `Rubric` or all that is wrong with it out."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from protos.configfile import ConfigFileError, found, read, validated
from reward_server.errors import ConfigError
from reward_server.judge.rubric import Rubric

HINT: Final = "docs/rubrics.md says how to write one, examples/rubrics/ has some"


def read_rubric(path: Path) -> Rubric:
    """Returns the rubric in a YAML file.

    Raises:
        ConfigError: with all that is wrong, one problem a line: file, line, key, what is wrong, what would be right.
    """
    try:
        document = read(path, if_absent=HINT)
    except ConfigFileError as error:
        raise ConfigError(*error.problems) from None
    if not isinstance(document.value, dict):
        document.complain((), f"must be a mapping with `criteria`{found(document.value, (), document)}; {HINT}")
        raise ConfigError(*document.problem_lines())
    rubric = validated(Rubric, document.value, (), document)
    if rubric is None or document.problems:
        raise ConfigError(*document.problem_lines())
    return rubric
