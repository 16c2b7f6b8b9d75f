"""Completions that break graders who read them without care, each among healthy ones with the same inputs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

GROUP = 8

BOMBS: Mapping[str, str] = {
    "a tower of powers": "$9^{9^{9^{9}}}$",
    "a factorial": "$(10^9)!$",
    "a power": "$10^{10^9}$",
    "nested parentheses": "$" + "(" * 3000 + "1" + ")" * 3000 + "$",
    "bare parentheses": "(" * 3000 + "1" + ")" * 3000,
    "a polynomial": "$" + "+".join(f"{power}x^{{{power}}}" for power in range(400)) + "$",
    "boxed braces": r"\boxed{" + "{" * 100_000 + "}" * 100_000 + "}",
    "open braces": "{" * 200_000,
    "a regex bomb": "a" * 40 + "!",
    "a long regex bomb": "a" * 200_000 + "!",
    "a quoted regex bomb": '"' + "a" * 40 + '!"',
    "deep objects": '{"a":' * 20_000 + "1" + "}" * 20_000,
    "deep lists": "[" * 100_000 + "]" * 100_000,
    "many digits": "9" * 5000,
    "boxed digits": r"\boxed{" + "9" * 5000 + "}",
    "out of range": r"\boxed{1e999999}",
    "one word": "a" * 300_000,
    "many words": "a " * 150_000,
}
"""By what they are."""


@dataclass(frozen=True)
class Groups:
    """Groups of completions, one a bomb, which stands at another place in each; the others are healthy."""

    bombs: Mapping[str, str]
    healthy: Sequence[str]
    reference: str

    @property
    def batch(self) -> dict[str, Any]:
        """Returns the keywords of a client's call."""
        completions: list[str] = []
        for place, bomb in zip(cycle(range(GROUP)), self.bombs.values(), strict=False):
            members = list(islice(cycle(self.healthy), GROUP))
            members[place] = bomb
            completions += members
        prompts = [f"What is asked of {name}?" for name in self.bombs for _ in range(GROUP)]
        return {"completions": completions, "prompts": prompts, "columns": {"answer": [self.reference] * len(prompts)}}

    @property
    def places(self) -> dict[str, int]:
        """Returns where in the batch each bomb stands."""
        return {name: index * GROUP + index % GROUP for index, name in enumerate(self.bombs)}

    def neighbours(self, scores: Sequence[float | None]) -> dict[str, set[float | None]]:
        """Returns the scores that each healthy completion got."""
        bombs, texts = set(self.places.values()), self.batch["completions"]
        found: dict[str, set[float | None]] = {text: set() for text in self.healthy}
        for index, score in enumerate(scores):
            if index not in bombs:
                found[texts[index]].add(score)
        return found

    def named(self, samples: Collection[int]) -> set[str]:
        """Returns which bombs stand at these places, and of other places the number."""
        names = {place: name for name, place in self.places.items()}
        return {names.get(sample, str(sample)) for sample in samples}
