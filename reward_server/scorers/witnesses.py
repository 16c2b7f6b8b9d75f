"""Finds what is scored in a suspect's place, to tell whose fault it is that its worker broke."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple

from reward_server.bland import bland, same
from reward_server.domain import Sample
from reward_server.scorers.quarantine import digest
from reward_server.scorers.work import Work
from reward_server.workers.items import ItemDone

OWN_COLUMNS: Final = frozenset({"completion_ids"})
"""Columns that say something of the completion: neighbours differ in them."""

LOOKED_AT: Final = 64
"""So many samples of a suspect's own group are compared with it, and one of each of so many other groups."""

NEIGHBOUR: Final = "a neighbour with the same inputs"


class Witness(NamedTuple):
    """What is scored in a suspect's place."""

    item: Any
    words: str  # what it is, for messages
    bland_on: Hashable = None  # of a bland completion, not scored before: what all those of the same inputs share

    @property
    def is_bland(self) -> bool:
        """Returns whether it is a bland completion, not a neighbour."""
        return self.bland_on is not None


class Witnesses:
    """The witnesses that one call has to offer."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._done: dict[int, ItemDone] = {}
        self._inputs: dict[int, Any] = {}  # of those that were compared

    def note(self, index: int, done: ItemDone) -> None:
        """Takes what an item returned."""
        self._done[index] = done

    def any_scored(self) -> bool:
        """Returns whether any sample of the call was scored."""
        return any(map(self._work.is_scored, self._done.values()))

    def of_each(self, suspects: Iterable[int]) -> dict[int, Witness | None]:
        """Returns for each suspect a neighbour that was scored on the same inputs, else it with a bland completion.

        None where an item is of several samples, or where the suspect is as bland.
        """
        samples, groups = self._work.samples, dict[int, list[int]]()
        if samples is None:
            return dict.fromkeys(suspects)
        for index in self._done:
            groups.setdefault(samples[index].group, []).append(index)
        elsewhere: dict[Hashable, int] = {}
        for members in islice(groups.values(), LOOKED_AT):
            one = next((index for index in members if self._work.is_scored(self._done[index])), members[0])
            elsewhere.setdefault(self._key(samples, one), one)
        return {index: self._of(index, samples, groups.get(samples[index].group, ()), elsewhere) for index in suspects}

    def _of(
        self, index: int, samples: Sequence[Sample], group: Sequence[int], elsewhere: Mapping[Hashable, int]
    ) -> Witness | None:
        inputs = self._inputs_of(samples, index)
        for other in group[:LOOKED_AT]:
            if same(inputs, self._inputs_of(samples, other)) and self._testifies(other, index, samples):
                return Witness(self._work.items[other], NEIGHBOUR)
        key = self._key(samples, index)
        if (found := elsewhere.get(key)) is not None and self._testifies(found, index, samples):
            return Witness(self._work.items[found], NEIGHBOUR)
        instead = bland(samples[index])
        if self._work.item_of is None or same(samples[index].completion, instead.completion):
            return None
        return Witness(self._work.item_of(instead), "a bland completion in its place", key)

    def _testifies(self, other: int, suspect: int, samples: Sequence[Sample]) -> bool:
        """Returns whether one of the same inputs as a suspect was scored, and says something else."""
        said_else = not same(samples[suspect].completion, samples[other].completion)
        return said_else and self._work.is_scored(self._done[other])

    def _key(self, samples: Sequence[Sample], index: int) -> Hashable:
        """Returns what samples of the same inputs share."""
        return digest(self._inputs_of(samples, index)) or index  # nested too deeply for a hash: by itself

    def _inputs_of(self, samples: Sequence[Sample], index: int) -> Any:
        """Returns what the scorer reads of a sample apart from its completion."""
        if index not in self._inputs:
            sample, needs = samples[index], self._work.needs
            names = sample.columns.keys() if needs.all_columns else needs.required_columns | needs.optional_columns
            columns = {name: sample.columns[name] for name in sorted(names - OWN_COLUMNS) if name in sample.columns}
            self._inputs[index] = (sample.prompt if needs.prompts else None), columns
        return self._inputs[index]
