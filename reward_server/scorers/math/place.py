"""Where in a completion a mathematical answer stands: where other rules look for theirs, or where math-verify finds it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from reward_server.scorers.answers.extraction import WORDS, Extraction, Found

TAG_OR_TEXT: Final = "tag_or_text"
ELEMENT: Final = Extraction("tag:answer")


@dataclass(frozen=True)
class MathPlace(Extraction):
    """The last `<answer>` element, or, in a completion without one, wherever math-verify finds an answer; or a place."""

    value: str = TAG_OR_TEXT
    words: ClassVar[str] = f"{TAG_OR_TEXT}, {WORDS}"

    def __post_init__(self) -> None:
        if not self.or_text:
            super().__post_init__()

    @property
    def or_text(self) -> bool:
        """Returns whether the answer may be anywhere in a text that has no such place."""
        return self.value == TAG_OR_TEXT

    def find(self, text: str) -> Found | None:
        """Returns where a completion's answer stands, None where there is no such place."""
        return ELEMENT.find(text) if self.or_text else super().find(text)
