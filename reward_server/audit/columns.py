"""Gives each probe the columns that a reward reads, under the names by which the reward asks for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from reward_server.audit.probes import Probe
from reward_server.domain import Needs
from reward_server.errors import ConfigError

ALIASES: Final = {
    "reference": frozenset({"answer", "gold", "gold_answer", "ground_truth", "label", "solution", "target"}),
    "context": frozenset({"document", "documents", "evidence", "passage", "source", "sources"}),
}
"""Names under which data sets commonly have what the probes call a reference or a context."""


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a reward, and which of a probe's each of them is."""

    needs: Needs
    given: Mapping[str, str] = field(default_factory=dict)  # the reward's name of a column -> the probes' name of it

    def fitted(self, probes: Sequence[Probe]) -> list[Probe]:
        """Returns the probes that have what the reward needs, with its columns. Raises `ConfigError` if none has."""
        names = self.needs.required_columns | self.needs.optional_columns | self.given.keys()
        if self.needs.all_columns:
            names = names.union(*(probe.columns for probe in probes))
        found = [{name: self._value(name, probe.columns) for name in names} for probe in probes]
        kept = [
            replace(probe, columns=columns)  # all with the same columns, as the samples of a data set have them
            for probe, columns in zip(probes, found, strict=True)
            if all(columns[name] is not None for name in self.needs.required_columns)
        ]
        if probes and not kept:
            raise ConfigError(self._complaint(probes))
        return kept

    def _value(self, name: str, columns: Mapping[str, Any]) -> Any:
        """Returns what a probe has for a column; None if it has nothing, or nothing in it."""
        aliases = [ours for ours, theirs in ALIASES.items() if name.casefold() in theirs]
        sources = [self.given[name]] if name in self.given else [name, *aliases]
        return next((columns[source] for source in sources if columns.get(source) not in (None, "")), None)

    def _complaint(self, probes: Sequence[Probe]) -> str:
        there = sorted({name for probe in probes for name in probe.columns})
        lacking = sorted(
            name
            for name in self.needs.required_columns
            if all(self._value(name, probe.columns) is None for probe in probes)
        )
        what = ", ".join(f"`{name}`" for name in lacking or sorted(self.needs.required_columns))
        return (
            f"--column: the reward needs {what}, which no probe has; they have {', '.join(there) or 'no columns'}. "
            f"Say which of these it is, as in --column {(lacking or ['NAME'])[0]}={(there or ['reference'])[0]}"
        )
