"""What is graded, as text, with nothing decided yet about how it is shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Material:
    """One sample as a judge reads it. The texts are as they came: whoever shows them neutralises and fences them."""

    completion: str
    task: str | None = None  # the prompt; None where the judge gets none
    reference: str | None = None
    columns: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))  # further columns by title
    clipped: bool = False  # the completion was cut off at its length limit
    still_thinking: bool = False  # its thinking block was opened and never closed
    left_out_chars: int = 0  # of the completion, cut from its middle to fit the judge's context
