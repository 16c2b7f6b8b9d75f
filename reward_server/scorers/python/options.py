"""The options of the scorer `python`."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import ClassVar

from pydantic import Field, JsonValue, field_validator

from reward_server.options import Mebibytes, Options, Seconds
from reward_server.scorers.python.signature import Style


class Calls(Enum):
    """On what the function is called at a time."""

    BATCH = "batch"  # all samples of a trainer's call, as TRL does; one by one where that fails
    GROUP = "group"  # the completions of one prompt: for functions that compare them
    SAMPLE = "sample"  # each alone: for slow functions, which then run in parallel


class PythonOptions(Options):
    """Which function, and how it is called."""

    shorthand: ClassVar[str | None] = "function"

    function: str = Field(description="path/to/file.py:function or module:function")
    timeout_s: Seconds = Field(10.0, description="seconds that one call of the function may take; then it is killed")
    load_timeout_s: Seconds = Field(60.0, description="seconds that importing its file or module may take")
    memory_mb: Mebibytes | None = Field(
        4096, description="MiB that one call may take, above what the process has when it begins; null: any"
    )
    calls: Calls = Field(Calls.BATCH, description="on what it is called at a time: batch, group or sample")
    columns: tuple[str, ...] | None = Field(None, description="columns that it reads from its **kwargs; absent: all")
    signature: Style = Field(
        Style.AUTO,
        description="whom it was written for: trl, verl or openrlhf; auto tells it by its parameters' names",
    )
    columns_as: Mapping[str, str] = Field(
        {}, description="parameters that get a column of another name, such as ground_truth: answer"
    )
    arguments: Mapping[str, JsonValue] = Field(
        {}, description="parameters that get the same value in every call, such as data_source: openai/gsm8k"
    )

    @field_validator("function")
    @classmethod
    def _has_two_halves(cls, value: str) -> str:
        source, colon, name = value.rpartition(":")
        if not (source and colon and all(part.isidentifier() for part in name.split("."))):
            raise ValueError("write 'path/to/file.py:function' or 'module:function'")
        return value
