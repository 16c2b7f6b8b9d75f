"""What the methods share that ask in words of the rubric: a static beginning, what tells them apart, one unit a sample."""

from __future__ import annotations

import abc
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from reward_server.engines.base import ChatMessage
from reward_server.judge.material import Material
from reward_server.judge.methods.base import Method, Miss, Opinion, Reading, Unit
from reward_server.judge.methods.settings import MethodSettings
from reward_server.judge.rubric import Rubric
from reward_server.judge.showing import Showing


class Worded(Method):
    """Base of the methods whose prompts begin with one system message, `_system`, which they set when they are made."""

    _system: ChatMessage

    def __init__(self, rubric: Rubric, showing: Showing, settings: MethodSettings) -> None:
        self._rubric = rubric
        self._showing = showing
        self._settings = settings

    @abc.abstractmethod
    def asked(self) -> Mapping[str, Any]:
        """Returns, as JSON-able data, what shapes its questions besides the system's words."""

    def identity(self) -> Mapping[str, Any]:
        """Returns the method's name, a hash of its words, and how it asks."""
        return {
            "method": self.name,
            "system": hashlib.sha256(self._system.content.encode()).hexdigest()[:16],
            "showing": self._showing.identity(),
            "settings": self._settings.identity(),
            **self.asked(),
        }

    def beginning(self) -> Sequence[ChatMessage]:
        """Returns the static part."""
        return (self._system,)


class Pointwise(Worded):
    """Base of the methods that ask about each completion by itself."""

    @abc.abstractmethod
    def unit(self, material: Material) -> Unit:
        """Returns what is to be asked about one completion."""

    @abc.abstractmethod
    def opinion(self, reading: Reading) -> Opinion:
        """Returns what a unit's reading comes to."""

    def units(self, group: Sequence[Material]) -> Sequence[Unit]:
        """Returns one unit for each material."""
        return [self.unit(material) for material in group]

    def opinions(self, group: Sequence[Material], readings: Sequence[Reading | Miss]) -> Sequence[Opinion | Miss]:  # noqa: ARG002  # the readings say all
        """Returns what each unit's reading comes to."""
        return [reading if isinstance(reading, Miss) else self.opinion(reading) for reading in readings]
