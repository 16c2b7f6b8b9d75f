"""What the methods share that compare the completions of a group with one another.

A group is compared as a set: which completions are in it decides all that is asked, and not the order they came in. So
the same group is the same questions, and a judge that prefers a place prefers no completion.
"""

from __future__ import annotations

import abc
import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from reward_server.engines.base import ChatMessage
from reward_server.errors import BadAnswer, HostFailed, NotComparable
from reward_server.judge.material import Material
from reward_server.judge.methods.base import Miss
from reward_server.judge.methods.settings import MethodSettings
from reward_server.judge.methods.worded import Worded
from reward_server.judge.prompt import render
from reward_server.judge.rubric import Rubric
from reward_server.judge.showing import Showing

TIE: Final = 0.5
ORDER_DEPENDENT: Final = "order_dependent"
"""The flag of a completion whose grade would have been another one at another place in the prompt."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A completion of a group; equal ones are one contender."""

    fingerprint: str  # lower-case letters and digits; no policy can tell it, since it depends on the judges' secret
    material: Material
    members: tuple[int, ...]  # which of the group's materials it is


class Comparing(Worded):
    """Base of the methods that compare. A rubric's examples show single completions: these methods do without them."""

    compares: ClassVar[bool] = True

    def __init__(self, rubric: Rubric, showing: Showing, settings: MethodSettings) -> None:
        super().__init__(rubric, showing, settings)
        self._system = ChatMessage("system", self._static())

    @property
    @abc.abstractmethod
    def ending(self) -> str:
        """Returns the words behind the completions, for the identity."""

    def asked(self) -> Mapping[str, Any]:
        """Returns the words behind the completions."""
        return {"ending": self.ending}

    def contenders(self, group: Sequence[Material]) -> list[Contender]:
        """Returns the different completions of a group, in an order that their content decides."""
        members: dict[str, list[int]] = {}
        for index, material in enumerate(group):
            members.setdefault(self._showing.completion(material), []).append(index)
        found = [Contender(_hashed(shown), group[at[0]], tuple(at)) for shown, at in members.items()]
        return sorted(found, key=lambda each: _hashed(f"place {each.fingerprint}"))  # its own hash: ids tell no place

    def task(self, contenders: Sequence[Contender]) -> str:
        """Returns the group's task as it is shown; completions of a group have the same."""
        return self._showing.task(contenders[0].material)

    def _static(self) -> str:
        words = self._showing.words
        return render(
            f"{self.name}.jinja",
            instructions=words(self._rubric.instructions),
            criteria=[each.model_copy(update={"text": words(each.text)}) for each in self._rubric.criteria],
        )


def nothing_to_compare() -> Miss:
    """Returns why a completion that is the only one of its group has no grade."""
    return Miss(NotComparable("it is the only completion of its group: there is nothing to compare it with"))


def telling(misses: Sequence[Miss]) -> Miss:
    """Returns the one of several misses that says most: one that no completion can have caused, if there is one."""
    return next((miss for miss in misses if not isinstance(miss.error, BadAnswer | HostFailed)), misses[0])


def _hashed(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return base64.b32encode(digest).decode().lower().rstrip("=")
