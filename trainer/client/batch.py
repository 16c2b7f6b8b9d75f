"""One batch as the caller gave it: checked, its texts encoded once, whatever is sent of it and how often."""

from __future__ import annotations

import operator
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, islice
from typing import Any, Required, TypedDict

from trainer.client.catalog import COMPLETION_IDS
from trainer.client.options import DEADLINE_REMEDY, is_deadline
from trainer.client.wire import Encoder, Item, in_turn
from trainer.errors import BadInput

MAX_TOKEN_COUNT = 2**32 - 1  # uint32 in the contract


def groups_by_prompt(prompts: Sequence[Any]) -> list[int]:
    """Returns a group number per sample: runs of consecutive equal prompts form a group, as `GRPOTrainer` lays them."""
    changes = map(operator.ne, prompts, islice(prompts, 1, None))
    return list(accumulate(changes, initial=0)) if prompts else []


@dataclass(frozen=True, slots=True)
class Prompts:
    """The distinct prompts of a batch, and which sample has which."""

    items: list[Item]  # P
    indexes: list[int]  # N, into items


class BatchFields(TypedDict, total=False):
    """What `score` takes, all by keyword, for N samples."""

    rewards: Required[Sequence[str]]
    """Names of rewards of the server; they all travel in one call."""
    completions: Required[Sequence[Any]]
    """N texts, or conversations (lists of messages)."""
    prompts: Sequence[Any] | None
    """N texts or conversations. Without, rewards that read prompts have none, and groups are unknown."""
    columns: Mapping[str, Any] | None
    """Dataset columns of N values each. Only those travel that a reward asks for."""
    groups: Sequence[int] | None
    """N group numbers. Without, runs of consecutive equal prompts are groups."""
    completion_ids: Sequence[Any] | None
    """N lists of tokens. They count the completions' tokens, and are the column `completion_ids` for rewards that name
    it."""
    completion_token_counts: Sequence[int] | None
    """N lengths in tokens, where they are not the lengths of `completion_ids`."""
    truncated: Sequence[bool] | None
    """N flags: generation stopped at its length limit."""
    step: int | None
    """The trainer's global step, for the server's log."""
    deadline_s: float | None
    """Seconds for this call, instead of the client's."""


@dataclass
class Batch:
    """N samples to score. Raises `BadInput` for what contradicts itself or cannot travel."""

    rewards: Sequence[str]
    completions: Sequence[Any]  # N texts or conversations
    prompts: Sequence[Any] | None = None  # N texts or conversations
    columns: Mapping[str, Any] | None = None  # N values each
    groups: Sequence[int] | None = None  # N
    completion_ids: Sequence[Any] | None = None  # N lists of tokens
    completion_token_counts: Sequence[int] | None = None  # N
    truncated: Sequence[bool] | None = None  # N
    step: int | None = None
    deadline_s: float | None = None  # None = the client's own

    def __post_init__(self) -> None:
        self.rewards = _names(self.rewards)
        self.completions = _listed("completions", self.completions)
        self.sample_count = len(self.completions)
        if self.prompts is not None:
            self.prompts = self._checked("prompts", self.prompts)
        self.given: dict[str, Any] = dict(self.columns or {})
        if self.completion_ids is not None:
            self.completion_ids = self._checked("completion_ids", self.completion_ids)
            self.given[COMPLETION_IDS] = self.completion_ids
            counts = [_token_count(ids, sample) for sample, ids in enumerate(self.completion_ids)]
            if self.completion_token_counts is None:
                self.completion_token_counts = counts
        self.groups = self._each("groups", self.groups)
        self.completion_token_counts = self._each(
            "completion_token_counts", self.completion_token_counts, range(MAX_TOKEN_COUNT + 1)
        )
        flags = self._each("truncated", self.truncated, range(2))
        self.truncated = None if flags is None else [bool(flag) for flag in flags]
        if self.deadline_s is not None and not is_deadline(self.deadline_s):
            raise BadInput(f"deadline_s is {self.deadline_s!r}; {DEADLINE_REMEDY}")
        self.encoder = Encoder()
        self.completion_items = self.encoder.items(self.completions, "completion")

    @cached_property
    def prompt_table(self) -> Prompts:
        """The distinct prompts, encoded; only made when a reward reads them."""
        return Prompts(*in_turn(self.encoder.items(self.prompts or (), "prompt")))

    @cached_property
    def group_numbers(self) -> list[int] | None:
        """A dense group number per sample, (N,); None = unknown."""
        if self.groups is not None:
            numbers: dict[int, int] = {}
            return [numbers.setdefault(group, len(numbers)) for group in self.groups]
        return None if self.prompts is None else groups_by_prompt(self.prompts)

    def column(self, name: str) -> list[Any]:
        """Returns the values of a column, one per sample."""
        return self._checked(f"column {name!r}", self.given[name])

    def _checked(self, what: str, values: Any) -> list[Any]:
        items = _listed(what, values)
        if len(items) != self.sample_count:
            raise BadInput(f"{what} has {len(items)} values for {self.sample_count} completions: give one for each")
        return items

    def _each(self, what: str, values: Sequence[Any] | None, allowed: range | None = None) -> list[int] | None:
        if values is None:
            return None
        return [_whole(f"{what}, item {i}", value, allowed) for i, value in enumerate(self._checked(what, values))]


def _whole(where: str, value: Any, allowed: range | None) -> int:
    """Returns a whole number, or a flag as 0 or 1, of Python, NumPy or torch."""
    try:
        number = int(value)
        fits = bool(number == value) and (allowed is None or number in allowed)
    except (TypeError, ValueError, OverflowError, RuntimeError):  # the last from tensors of several values
        fits = False
    if not fits:
        span = f" from {allowed[0]} to {allowed[-1]}" if allowed else ""
        raise BadInput(f"{where} is {reprlib.repr(value)}: give a whole number{span}")
    return number


def _token_count(ids: Any, sample: int) -> int:
    try:
        if not isinstance(ids, (str, bytes, Mapping)):
            return len(ids)
    except TypeError:  # no length
        pass
    raise BadInput(f"completion_ids, item {sample} is of type {type(ids).__name__}: give a list of tokens")


def _listed(what: str, values: Any) -> list[Any]:
    """Returns the values as a list: from a list, a tuple, a NumPy array, a torch tensor, a data set's column."""
    if isinstance(values, list):
        return values
    as_list = getattr(values, "tolist", None)
    if callable(as_list):
        values = as_list()
    if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Iterable):
        raise BadInput(f"{what} is of type {type(values).__name__}: give a list, one value per completion")
    return list(values)


def _names(rewards: Sequence[str]) -> tuple[str, ...]:
    if isinstance(rewards, str):
        raise BadInput(f"rewards is a text; pass a list: rewards=[{rewards!r}]")
    names = tuple(rewards)
    if not names:
        raise BadInput("rewards is empty: name at least one reward")
    if repeated := {name for name in names if names.count(name) > 1}:
        raise BadInput(f"rewards has {', '.join(sorted(repeated))} more than once")
    return names
