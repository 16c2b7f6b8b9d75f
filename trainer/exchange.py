"""Calls the reward functions of one batch, each rank for whole groups, and brings the scores of all ranks together.

`GRPOTrainer` calls every reward function on each rank with that rank's completions, then gathers the rewards of all
ranks. Three things are wrong with that for rewards that come from elsewhere: a group that straddles ranks is seen in
pieces; a function that raises on one rank leaves the others waiting in the gathering for ever; and a gap has become a
number by then. So each function is wrapped: called by `GRPOTrainer` it scores the groups that are this rank's to score,
keeps what comes of it, an error too, and hands back zeros. Afterwards, in the main thread, all ranks exchange what they
have kept.

Needs torch, trl and accelerate; import it only where a run is made.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate.utils import gather, gather_object
from trl.trainer.utils import is_async_callable

from trainer.errors import OtherRankFailed, OtherRankStopped, RewardError
from trainer.missing import missing_key

NO_COLUMN = frozenset({"prompt", "completion", "completion_ids"})
"""Keys of a row that TRL does not pass on as columns."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Completions to be scored here, with their places in the batch of all ranks."""

    places: Sequence[int]
    inputs: Sequence[Mapping[str, Any]]
    prompts: Sequence[Any]
    completions: Sequence[Any]
    completion_ids: Sequence[Sequence[int]]

    def arguments(self) -> dict[str, Any]:
        """Returns what a reward function is told of them, columns included."""
        columns = [key for key in self.inputs[0] if key not in NO_COLUMN]
        return {
            "prompts": list(self.prompts),
            "completions": list(self.completions),
            "completion_ids": list(self.completion_ids),
            **{key: [row[key] for row in self.inputs] for key in columns},
        }

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(zip(self.inputs, self.prompts, self.completions, self.completion_ids, strict=True))


@dataclass
class Kept:
    """What came of this rank's calls."""

    places: Sequence[int]
    scores: dict[int, list[float]] = field(default_factory=dict)  # by function; NaN = missing
    extras: dict[str, list[Any]] = field(default_factory=dict)  # columns for TRL's table of completions
    reasons: dict[str, Counter[str]] = field(default_factory=dict)  # why scores of a reward are missing
    errors: list[tuple[str, str, bool]] = field(default_factory=list)  # function, words, whether it is a RewardError


@dataclass(frozen=True, slots=True)
class Scored:
    """What all ranks' calls brought, the same on every rank."""

    rewards: torch.Tensor  # (N, F), NaN = missing
    reasons: Mapping[str, Counter[str]]


class Exchange:
    """The reward functions of a trainer, wrapped. One batch after another: `begin`, the functions' calls, `finish`."""

    def __init__(self, functions: Sequence[Any], names: Sequence[str], *, rank: int, rank_count: int) -> None:
        self._functions, self._names = functions, names
        self._rank, self._rank_count = rank, rank_count
        self._rows: Rows | None = None  # None = those that TRL passes
        self._kept = Kept(())
        self._errors: list[Exception] = []
        self.functions = [
            function if _is_model(function) else self._wrapped(index, function)
            for index, function in enumerate(functions)
        ]

    def begin(self, rows: Rows, group_size: int, *, movable: bool = True) -> None:
        """Takes this rank's completions; where a group straddles ranks, all ranks deal out whole groups to one another.

        `movable`: whether rows mean the same on another rank; environments do not.
        """
        for function in self._functions:
            if hasattr(function, "group_size"):  # else it tells groups apart by their prompts, which may be equal
                function.group_size = group_size
        self._rows, self._errors = None, []
        self._kept = Kept(rows.places)
        if self._rank_count > 1 and movable and len(rows.places) % group_size:
            self._rows = self._whole_groups(rows, group_size)
            self._kept = Kept(self._rows.places)

    def stand_in(self, error: Exception, row_count: int, device: torch.device) -> torch.Tensor:
        """Keeps what a reward model raised here, which is not wrapped, and gathers zeros: there the other ranks wait."""
        models = [name for name, each in zip(self._names, self._functions, strict=True) if _is_model(each)]
        self._fail(" or ".join(models), error)
        rewards: torch.Tensor = gather(torch.zeros(row_count, len(self._names), device=device))
        return rewards

    def finish(self, rewards: torch.Tensor, pending_extras: Mapping[str, list[Any]]) -> Scored:
        """Returns the rewards of all ranks in place of `rewards` (N, F), which hold zeros for the wrapped functions.

        Args:
            rewards: What TRL has gathered; the columns of reward models are taken from it.
            pending_extras: TRL's own store of columns for its table; gets this rank's part.

        Raises:
            Exception: What a function raised here.
            OtherRankFailed, OtherRankStopped: A function raised on another rank only.
        """
        everything: list[Kept] = [self._kept] if self._rank_count == 1 else gather_object([self._kept])
        self._raise_together(everything)
        rewards = rewards.clone()
        reasons: dict[str, Counter[str]] = {}
        for kept in everything:
            for index, scores in kept.scores.items():
                places = torch.tensor(kept.places, dtype=torch.long, device=rewards.device)
                rewards[places, index] = torch.tensor(scores, dtype=rewards.dtype, device=rewards.device)
            for name, counts in kept.reasons.items():
                reasons.setdefault(name, Counter()).update(counts)
        self._hand_out_extras(everything, rewards.shape[0] // self._rank_count, pending_extras)
        return Scored(rewards, reasons)

    def _whole_groups(self, rows: Rows, group_size: int) -> Rows:
        """Returns the rows of the groups that are scored here: each rank takes its even part of all groups."""
        every: list[tuple[int, tuple[Any, ...]]] = gather_object(list(zip(rows.places, rows, strict=True)))
        group_count = len(every) // group_size
        mine = [
            (place, row) for place, row in every if place // group_size * self._rank_count // group_count == self._rank
        ]
        columns = list(zip(*(row for _, row in mine), strict=True)) or [(), (), (), ()]
        return Rows([place for place, _ in mine], *columns)

    def _raise_together(self, everything: Sequence[Kept]) -> None:
        """Raises on every rank if a function raised on any: the same kind on all, so that all end the same way."""
        failed = [(rank, *error) for rank, kept in enumerate(everything) for error in kept.errors]
        if not failed:
            return
        names: dict[tuple[int, str], list[str]] = {}  # those of one server fail alike
        for rank, name, text, _ in failed:
            names.setdefault((rank, text), []).append(name)
        words = "; ".join(
            f"reward {', '.join(map(repr, those))} failed on rank {rank}: {text}"
            for (rank, text), those in names.items()
        )
        only_rewards = all(is_reward_error for *_, is_reward_error in failed)
        ours = [error for error in self._errors if isinstance(error, RewardError) == only_rewards]
        if ours:
            raise ours[0]
        raise (OtherRankStopped if only_rewards else OtherRankFailed)(words)

    def _hand_out_extras(
        self, everything: Sequence[Kept], here_count: int, pending_extras: Mapping[str, list[Any]]
    ) -> None:
        """Gives each rank the part of every column that belongs to its own completions, as TRL expects it."""
        first = self._rank * here_count
        for column in sorted({column for kept in everything for column in kept.extras}):
            values: dict[int, Any] = {}
            for kept in everything:
                values |= dict(zip(kept.places, kept.extras.get(column, ()), strict=False))
            pending_extras[column].extend(values.get(place) for place in range(first, first + here_count))

    def _wrapped(self, index: int, function: Callable[..., Any]) -> Callable[..., Any]:
        """Returns a function that TRL calls in its place, asynchronous if it is."""
        if is_async_callable(function):

            @functools.wraps(function, updated=())
            async def call_async(**given: Any) -> list[float]:
                count = len(given["completions"])  # now: the list is the function's, which may change it
                try:
                    arguments = self._arguments(index, given)
                    if arguments is not None:
                        self._keep(index, function, await function(**arguments))
                except Exception as error:  # noqa: BLE001  # whatever it is, the other ranks must hear of it
                    self._fail(self._names[index], error)
                return [0.0] * count

            return call_async

        @functools.wraps(function, updated=())
        def call(**given: Any) -> list[float]:
            count = len(given["completions"])  # likewise
            try:
                arguments = self._arguments(index, given)
                if arguments is not None:
                    self._keep(index, function, function(**arguments))
            except Exception as error:  # noqa: BLE001  # likewise
                self._fail(self._names[index], error)
            return [0.0] * count

        return call

    def _arguments(self, index: int, given: dict[str, Any]) -> dict[str, Any] | None:
        """Returns what a function is called with here; None = there is nothing to score."""
        extras = self._kept.extras

        def log_extra(column: str, values: list[Any]) -> None:
            extras.setdefault(column, []).extend(values)

        log_metric = given["log_metric"]
        counted = missing_key(self._names[index])

        def log_other_metric(name: str, value: float) -> None:
            if name != counted:  # counted over all ranks instead
                log_metric(name, value)

        ours = {"log_extra": log_extra, "log_metric": log_other_metric}
        if self._rows is None:
            return given | ours
        if not self._rows.places:
            return None
        return {"trainer_state": given["trainer_state"]} | self._rows.arguments() | ours

    def _keep(self, index: int, function: Any, scores: Sequence[float | None]) -> None:
        name, expected = self._names[index], len(self._kept.places)
        try:
            found = [math.nan if score is None else float(score) for score in scores]
        except (TypeError, ValueError, OverflowError) as error:
            raise TypeError(
                f"reward {name!r} must return a list with a number, or None, for each completion: {error}"
            ) from error
        if len(found) != expected:
            raise ValueError(
                f"reward {name!r} returned {len(found)} scores for {expected} completions; it must return one for each"
            )
        self._kept.scores[index] = found
        if reasons := getattr(function, "missing_reasons", None):
            self._kept.reasons[self._names[index]] = Counter(reasons)

    def _fail(self, name: str, error: Exception) -> None:
        if self._rank_count == 1:
            raise error
        self._errors.append(error)
        words = f"{type(error).__name__}: {error}"
        self._kept.errors.append((name, words, isinstance(error, RewardError)))


def _is_model(function: Any) -> bool:
    """Returns whether `GRPOTrainer` runs it as a model, in the main thread."""
    return isinstance(function, torch.nn.Module)
