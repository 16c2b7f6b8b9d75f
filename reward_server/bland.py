"""A completion that says nothing and breaks nothing: put in a suspect's place, it tells whose fault a miss is.

And what is compared to tell whether two samples have the same task.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from reward_server.domain import Sample, Text

BLAND: Final = "I don't know."


def bland(sample: Sample) -> Sample:
    """Returns the sample with a bland completion, of the form that its own has."""
    said: Text = BLAND if isinstance(sample.completion, str) else [{"role": "assistant", "content": BLAND}]
    return replace(sample, completion=said, token_count=None, truncated=None, still_thinking=None)


def same(one: Any, other: Any) -> bool:
    """Returns whether two inputs are equal; what is nested too deeply to be compared is not."""
    try:
        return bool(one == other)
    except RecursionError:
        return False
