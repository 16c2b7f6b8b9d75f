"""What an OpenRLHF-style `reward_func` takes: queries, prompts and labels, three lists by position.

A query is a prompt with its completion behind it. OpenRLHF passes the tokens of the chat template in both; here they
are the texts that the reward's view shows, so that `query[len(prompt):]` is the completion.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Self

from reward_server.domain import Needs, Sample
from reward_server.scorers.python.signature import Parameter, Parameters, Wishes, others_without_value
from reward_server.views import plain_text
from reward_server.workers.calling import Listed

LABELS: Final = "labels"
LISTS: Final = ("queries", "prompts", LABELS)
LABEL_COLUMNS: Final = ("label", LABELS, "answer")
"""Where the label is looked for, the first that is there."""


@dataclass(frozen=True, slots=True)
class OpenRlhfSignature:
    """What a function is given that OpenRLHF would call."""

    columns_as: Mapping[str, str]
    arguments: Mapping[str, Any]
    one_at_a_time: ClassVar[bool] = False

    @classmethod
    def read(cls, parameters: Iterable[Parameter], wishes: Wishes) -> Self:
        """Returns what a function of these parameters is given. Raises `ValueError` for one OpenRLHF could not call."""
        taken = Parameters.read(parameters)
        if wishes.columns is not None:
            raise ValueError(
                "columns: it is called as OpenRLHF does, which passes no columns: name one under columns_as"
            )
        if len(taken.by_position) < len(LISTS) and not taken.any_position:
            raise ValueError(
                "OpenRLHF passes three lists by position (queries, prompts, labels), and it does not take so many"
            )
        first = taken.by_position[: len(LISTS)]
        asked = Wishes(
            columns_as={name: column for name, column in wishes.columns_as.items() if name != LABELS},
            arguments={name: value for name, value in wishes.arguments.items() if name != LABELS},
        )
        taken.refuse_untaken(asked, never=first)
        if left := others_without_value(taken, first, asked):
            raise ValueError(
                f"it takes {left[0]!r}, which OpenRLHF does not pass: give it a column (columns_as: {{{left[0]}: …}}) "
                f"or a fixed value (arguments: {{{left[0]}: …}})"
            )
        if LABELS in wishes.columns_as and LABELS in wishes.arguments:
            raise ValueError("'labels' cannot be a column (columns_as) and a fixed value (arguments) at once")
        return cls(wishes.columns_as, wishes.arguments)

    @property
    def needs(self) -> Needs:
        """Returns what must be sent for it."""
        looked = LABELS not in self.columns_as and LABELS not in self.arguments
        required = frozenset(self.columns_as.values())
        return Needs(required, frozenset(LABEL_COLUMNS if looked else ()) - required, prompts=True)

    def missing(self, sample: Sample) -> str:
        """Returns that a sample has no label."""
        if LABELS in self.arguments or self._label(sample) is not None:
            return ""
        looked = self.columns_as.get(LABELS) or ", ".join(LABEL_COLUMNS)
        return (
            f"this sample has no label (looked for in: {looked}); say columns_as: {{labels: NAME}} for a column of "
            "another name, or arguments: {labels: ''} for a function that reads none"
        )

    def keywords(self, samples: Sequence[Sample]) -> Listed:
        """Returns the three lists."""
        prompts = [plain_text(sample.prompt, "user") for sample in samples]
        queries = [
            prompt + plain_text(sample.completion, "assistant") for prompt, sample in zip(prompts, samples, strict=True)
        ]
        labels = [self.arguments[LABELS] if LABELS in self.arguments else self._label(sample) for sample in samples]
        others = {
            name: [sample.columns[column] for sample in samples]
            for name, column in self.columns_as.items()
            if name != LABELS
        }
        fixed = {name: value for name, value in self.arguments.items() if name != LABELS}
        return Listed([queries, prompts, labels], others | fixed)

    def _label(self, sample: Sample) -> Any:
        """Returns the label of a sample, None where it has none."""
        if LABELS in self.columns_as:
            return sample.columns.get(self.columns_as[LABELS])
        return next((sample.columns[name] for name in LABEL_COLUMNS if name in sample.columns), None)
