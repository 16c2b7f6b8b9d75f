"""What a TRL-style reward function takes, read from its parameters, and the keywords it is called with.

TRL passes `prompts`, `completions`, `completion_ids` and every dataset column by keyword, and things of the trainer's
own besides. A function gets here what its signature takes of the former; one that cannot do without the latter is
refused by name, before anything is scored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, ClassVar, Final, Self

from reward_server.domain import Message, Needs, Sample
from reward_server.scorers.python.signature import Parameter, Parameters, Wishes

COMPLETIONS: Final = "completions"
PROMPTS: Final = "prompts"
COMPLETION_IDS: Final = "completion_ids"  # of the trainer's own, but plain data: it travels as a column
ONLY_IN_TRAINER: Final = ("trainer_state", "environments")
LOGGERS: Final = ("log_extra", "log_metric")
NEVER_PASSED: Final = ("prompt", "completion")  # TRL drops these columns; it passes the plurals


@dataclass(frozen=True, slots=True)
class TrlSignature:
    """What a function is given that TRL would call."""

    completions: bool
    prompts: bool
    prompts_required: bool
    required_columns: frozenset[str]
    optional_columns: frozenset[str]
    all_columns: bool  # whatever columns there are
    columns_as: Mapping[str, str]  # parameter -> the column it gets, where that has another name
    arguments: Mapping[str, Any]  # parameter -> the same value in every call
    one_at_a_time: ClassVar[bool] = False

    @classmethod
    def read(cls, parameters: Iterable[Parameter], wishes: Wishes) -> Self:
        """Returns what a function of these parameters is given.

        Raises `ValueError` with what is wrong for functions that TRL, or this server, could not call.
        """
        taken = Parameters.read(parameters)
        taken.refuse_positional()
        named, takes_any, columns = taken.named, taken.any_keyword, wishes.columns
        _refuse_trainers_own({name: named[name] for name in named.keys() - wishes.arguments.keys()})
        _refuse_without_completions(named, takes_any=takes_any)
        _refuse_unread(columns, named, takes_any=takes_any)
        taken.refuse_untaken(wishes, never=(COMPLETIONS, PROMPTS))
        own = {COMPLETIONS, PROMPTS, *LOGGERS, *NEVER_PASSED, *wishes.arguments, *wishes.columns_as}
        others = {name: named[name] for name in named.keys() - own}
        required = {name for name in others if not others[name]} | {*(columns or ()), *wishes.columns_as.values()}
        return cls(
            completions=takes_any or COMPLETIONS in named,
            prompts=takes_any or PROMPTS in named,
            prompts_required=not named.get(PROMPTS, True),
            required_columns=frozenset(required),
            optional_columns=frozenset(name for name in others if others[name]) - required,
            all_columns=takes_any and columns is None,
            columns_as=wishes.columns_as,
            arguments=wishes.arguments,
        )

    @property
    def needs(self) -> Needs:
        """Returns what must be sent for it."""
        return Needs(
            self.required_columns,
            self.optional_columns,
            self.all_columns,
            self.prompts,
            prompts_optional=self.prompts and not self.prompts_required,
        )

    def missing(self, sample: Sample) -> str:  # noqa: ARG002  # with other signatures a sample may lack something
        """Returns nothing: what a function must have is checked before, for all samples at once."""
        return ""

    def keywords(self, samples: Sequence[Sample]) -> dict[str, Any]:
        """Returns the keywords of a call on N samples, N values each, as TRL would pass them.

        A column that was not sent is left out, so that the parameter's default holds.
        """
        keywords: dict[str, Any] = {}
        if self.prompts and (self.prompts_required or all(sample.prompt is not None for sample in samples)):
            keywords[PROMPTS] = [_as_trl_has_it(sample.prompt) for sample in samples]
        if self.completions:
            keywords[COMPLETIONS] = [_as_trl_has_it(sample.completion) for sample in samples]
        for name, column in self._columns(samples[0].columns.keys()).items():
            keywords[name] = [sample.columns[column] for sample in samples]
        return keywords | dict(self.arguments)

    def _columns(self, sent: Iterable[str]) -> dict[str, str]:
        """Returns the column of each parameter that gets one."""
        taken = {PROMPTS, COMPLETIONS, *LOGGERS, *ONLY_IN_TRAINER, *NEVER_PASSED}
        read = set(sent) - taken - self.columns_as.keys()
        if not self.all_columns:
            read &= (self.required_columns | self.optional_columns) - set(self.columns_as.values())
        return {name: name for name in sorted(read)} | dict(self.columns_as)


def _as_trl_has_it(text: str | Sequence[Message] | None) -> str | list[dict[str, Any]] | None:
    return text if text is None or isinstance(text, str) else [dict(message) for message in text]


def _refuse_trainers_own(named: Mapping[str, bool]) -> None:
    for name in ONLY_IN_TRAINER:
        if name in named:
            raise ValueError(
                f"it takes {name!r}, which only the trainer has: use it as a local reward function of the training "
                "configuration, or write it without"
            )
    for name in LOGGERS:
        if named.get(name) is False:
            raise ValueError(f"it takes {name!r}, which only the trainer has: give it the default None")
    for name in NEVER_PASSED:
        if named.get(name) is False:
            raise ValueError(f"it takes {name!r}, which TRL never passes: it passes the list {name + 's'!r}")


def _refuse_without_completions(named: Mapping[str, bool], *, takes_any: bool) -> None:
    if takes_any or COMPLETIONS in named or COMPLETION_IDS in named:
        return
    close = get_close_matches(COMPLETIONS, named, n=1) or [name for name in named if name != PROMPTS][:1]
    remedy = f"; is {close[0]!r} meant for them? Call it 'completions'" if close else ""
    raise ValueError(f"it takes no 'completions', which is the name by which they are passed{remedy}")


def _refuse_unread(columns: Sequence[str] | None, named: Mapping[str, bool], *, takes_any: bool) -> None:
    unread = [name for name in columns or () if name not in named and not takes_any]
    if unread:
        raise ValueError(f"columns: it takes no {', '.join(map(repr, unread))}, and has no **kwargs")
