"""What a verl-style `compute_score` takes: one sample by keyword, with its reference.

verl calls `compute_score(data_source=…, solution_str=…, ground_truth=…, extra_info=…)` for every sample, and with the
`reward_kwargs` of its configuration, which are `arguments` here. Its batch manager calls functions whose parameters have
these names in the plural on all samples at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from reward_server.domain import Needs, Sample
from reward_server.scorers.python.signature import Parameter, Parameters, Wishes, others_without_value
from reward_server.views import plain_text
from reward_server.workers.calling import Separate, Together

SOLUTION: Final = "solution_str"
TRUTH: Final = "ground_truth"
SOURCE: Final = "data_source"
EXTRA: Final = "extra_info"
GIVEN: Final = (SOURCE, SOLUTION, TRUTH, EXTRA)
PLURALS: Final = frozenset(f"{name}s" for name in GIVEN)
VERLS_COLUMN: Final = "reward_model"  # {"style": …, "ground_truth": …}, as verl's datasets have it
TRUTH_COLUMNS: Final = (TRUTH, VERLS_COLUMN, "answer")
"""Where the reference is looked for, the first that is there."""


@dataclass(frozen=True, slots=True)
class VerlSignature:
    """What a function is given that verl would call."""

    plural: bool  # its parameters have these names with an s behind, and get lists
    takes: frozenset[str]  # of the names in GIVEN
    with_default: frozenset[str]  # of these, those that it can do without
    columns_as: Mapping[str, str]
    arguments: Mapping[str, Any]

    @classmethod
    def read(cls, parameters: Iterable[Parameter], wishes: Wishes) -> Self:
        """Returns what a function of these parameters is given. Raises `ValueError` for one that verl could not call."""
        taken = Parameters.read(parameters)
        taken.refuse_positional()
        if wishes.columns is not None:
            raise ValueError("columns: it is called as verl does, which passes no columns: name one under columns_as")
        plural = f"{SOLUTION}s" in taken.named
        given = {f"{name}s" if plural else name: name for name in GIVEN}
        if not given.keys() & {SOLUTION, f"{SOLUTION}s"} & taken.named.keys() and not taken.any_keyword:
            raise ValueError(f"it takes no {SOLUTION!r}, which is the name by which verl passes the completion")
        taken.refuse_untaken(wishes, never=(SOLUTION, f"{SOLUTION}s"))
        if left := others_without_value(taken, given, wishes):
            raise ValueError(
                f"it takes {left[0]!r}, which verl does not pass: give it a column (columns_as: {{{left[0]}: …}}) or a "
                f"fixed value (arguments: {{{left[0]}: …}})"
            )
        wished = wishes.columns_as.keys() | wishes.arguments.keys()
        return cls(
            plural,
            frozenset(
                name for own, name in given.items() if (taken.any_keyword or own in taken.named) and own not in wished
            ),
            frozenset(name for own, name in given.items() if taken.named.get(own, True)),
            wishes.columns_as,
            wishes.arguments,
        )

    @property
    def one_at_a_time(self) -> bool:
        """Returns whether it takes one sample only."""
        return not self.plural

    @property
    def needs(self) -> Needs:
        """Returns what must be sent for it."""
        source = {SOURCE} & self.takes
        required = (source - self.with_default) | set(self.columns_as.values())
        truth = set(TRUTH_COLUMNS) if TRUTH in self.takes else set()
        optional = (source | truth | ({EXTRA} & self.takes)) - required
        return Needs(frozenset(required), frozenset(optional))

    def missing(self, sample: Sample) -> str:
        """Returns that a sample has no reference, where the function wants one."""
        if (own := self._own(TRUTH)) in self.columns_as:
            return "" if sample.columns.get(self.columns_as[own]) is not None else self._no_truth()
        if TRUTH not in self.takes or TRUTH in self.with_default or _truth(sample.columns) is not None:
            return ""
        return self._no_truth()

    def _no_truth(self) -> str:
        own = self._own(TRUTH)
        looked = self.columns_as.get(own) or ", ".join(TRUTH_COLUMNS)
        remedy = "" if own in self.columns_as else f"; if yours has another name, say columns_as: {{{own}: NAME}}"
        return f"this sample has no reference for {own!r} (looked for in: {looked}){remedy}"

    def _own(self, name: str) -> str:
        """Returns a parameter's name in this function."""
        return f"{name}s" if self.plural else name

    def keywords(self, samples: Sequence[Sample]) -> Separate | Together:
        """Returns the keywords of a call for each sample, or of one for all."""
        each = [self._of_one(sample) for sample in samples]
        if not self.plural:
            return Separate([one | dict(self.arguments) for one in each])
        lists = {name: [one[name] for one in each] for name in each[0] if all(name in one for one in each)}
        same = {name: [value] * len(each) if name in PLURALS else value for name, value in self.arguments.items()}
        return Together(lists | same)

    def _of_one(self, sample: Sample) -> dict[str, Any]:
        columns = sample.columns
        given = {SOLUTION: plain_text(sample.completion, "assistant"), EXTRA: columns.get(EXTRA) or {}}
        if SOURCE in columns:
            given[SOURCE] = columns[SOURCE]
        if (truth := _truth(columns)) is not None or TRUTH not in self.with_default:
            given[TRUTH] = truth
        own = {self._own(name): value for name, value in given.items() if name in self.takes}
        return own | {name: columns[column] for name, column in self.columns_as.items()}


def _truth(columns: Mapping[str, Any]) -> Any:
    """Returns the reference, None where there is none."""
    for name in TRUTH_COLUMNS:
        if name not in columns:
            continue
        value = columns[name]
        if name == VERLS_COLUMN:
            return value.get(TRUTH) if isinstance(value, Mapping) else None
        return value
    return None
