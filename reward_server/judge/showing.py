"""How a judge is shown what it grades: each text inside a fence of its own, what is to be known about it beside it.

The order is for speed. A model's host keeps what it has read, so what many prompts share comes first: the task, the
reference and the columns once a group, then the completion, and a criterion's own words after that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from reward_server.judge.guard import Fence, neutralise
from reward_server.judge.material import Material
from reward_server.judge.rubric import Canary, Example, Rubric

REVISION: Final = 2
"""Raise it with every change of how material is shown: it is part of a reward's version."""

CLIPPED: Final = "The completion was cut off at its length limit."
STILL_THINKING: Final = "The completion ends while it is still thinking: it has no answer."
LEFT_OUT: Final = "From its middle {count} characters were left out, for length."


class Showing:
    """Shows materials to a judge.

    Args:
        fence: makes the lines that nothing between them can close.
    """

    def __init__(self, fence: Fence) -> None:
        self._fence = fence

    def identity(self) -> Mapping[str, Any]:
        """Returns, as JSON-able data, what shapes how a material looks."""
        return {
            "revision": REVISION,
            "notes": [CLIPPED, STILL_THINKING, LEFT_OUT],
            "fence": self._fence.identity(),
        }

    def task(self, material: Material) -> str:
        """Returns what is the same for a whole group: task, reference and columns, each in its block.

        It is empty, or ends with a line break: a completion's block follows.
        """
        texts = [("TASK", material.task), ("REFERENCE", material.reference)]
        texts += [(self.words(title).upper(), text) for title, text in material.columns.items()]
        return "".join(f"{self._fence.block(title, text)}\n" for title, text in texts if text is not None)

    def completion(self, material: Material, title: str = "COMPLETION") -> str:
        """Returns a completion in its block, and after it what the judge must know of it; ends with a line break."""
        notes = [CLIPPED] if material.clipped else []
        notes += [STILL_THINKING] if material.still_thinking else []
        notes += [LEFT_OUT.format(count=f"{material.left_out_chars:,}")] if material.left_out_chars else []
        return "".join(f"{line}\n" for line in (self._fence.block(title, material.completion), *notes))

    def words(self, text: str) -> str:
        """Returns what a person wrote into a rubric: without a fence, but with nothing in it that a host would obey."""
        return neutralise(text.strip())


def material_of(known: Example | Canary, rubric: Rubric) -> Material:
    """Returns a rubric's example or canary as the material that a sample like it would be."""
    return Material(known.completion, known.prompt, known.reference, titled(known.columns, rubric))


def titled(columns: Mapping[str, str], rubric: Rubric) -> Mapping[str, str]:
    """Returns columns by the titles that the rubric gives them, in its order; others are left out."""
    return {title: columns[name] for name, title in rubric.columns.items() if name in columns}
