"""What a judge's method is: it turns materials into questions, and the answers into opinions from 0 to 1.

A method does no I/O of its own, knows no cache, no host and no deadline: it makes *units*, each asked once and remembered
by the judge under the unit's key, and puts their readings together.
"""

from __future__ import annotations

import abc
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar

from reward_server.engines.base import ChatMessage, Place
from reward_server.judge.material import Material
from reward_server.judge.methods.settings import MethodSettings
from reward_server.judge.rubric import Rubric
from reward_server.judge.showing import Showing

Reading = Any
"""What a unit's answers were read as: small, immutable, the method's own type."""


@dataclass(frozen=True, slots=True)
class Unit:
    """One thing to ask: one or several questions at one place, one after another."""

    key: bytes  # a hash of all that is asked (messages, schema, sampling): the same key, the same reading
    affinity: str  # units that share the beginning of their prompt have the same
    read: Callable[[Place], Awaitable[Reading]]  # raises `BadAnswer` where an answer is no grade
    prompts: Sequence[Sequence[ChatMessage]] = ()  # what it will ask, for the check of the fit and for people


@dataclass(frozen=True, slots=True)
class Miss:
    """No reading, and why."""

    error: Exception


@dataclass(frozen=True, slots=True)
class Opinion:
    """What a judge thinks of one completion."""

    grade: float  # 0 = worst, 1 = best
    explanation: str = ""
    parts: Mapping[str, float | None] = field(default_factory=lambda: MappingProxyType({}))  # by criterion, 0 to 1
    flags: tuple[str, ...] = ()


class Method(abc.ABC):
    """A way to grade. Made once for a judge; pure but for the questions that its units ask."""

    name: ClassVar[str]  # its name in the configuration
    needs_logprobs: ClassVar[bool] = False
    needs_reference: ClassVar[bool] = False  # grades against a reference, whatever the rubric
    compares: ClassVar[bool] = False  # sees a whole group at a time; others get groups of one

    @abc.abstractmethod
    def __init__(self, rubric: Rubric, showing: Showing, settings: MethodSettings) -> None:
        """Settles all but the material. Raises `ConfigError`, the option's key first, for what can't be graded so."""

    @property
    @abc.abstractmethod
    def max_answer_tokens(self) -> int:
        """Returns how long its longest answer may get, for the check of the fit."""

    @abc.abstractmethod
    def identity(self) -> Mapping[str, Any]:
        """Returns, as JSON-able data, all of it that shapes an opinion: rubric, templates, labels, sampling."""

    @abc.abstractmethod
    def beginning(self) -> Sequence[ChatMessage]:
        """Returns the messages with which all its prompts begin, for warming hosts up."""

    @abc.abstractmethod
    def units(self, group: Sequence[Material]) -> Sequence[Unit]:
        """Returns all that is to be asked about these (M,) materials of one group."""

    @abc.abstractmethod
    def opinions(self, group: Sequence[Material], readings: Sequence[Reading | Miss]) -> Sequence[Opinion | Miss]:
        """Returns (M,) opinions from the readings of `units(group)`, in their order.

        A method that compares may do without some of its readings, and says so in a flag; it never takes a missing one
        for a grade.
        """
