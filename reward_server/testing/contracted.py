"""A scorer that is to keep the contract: what a person says of it, and how the tests come by it, opened."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from reward_server.domain import Sample, Verdict
from reward_server.testing.complaints import differing, no_complaints
from reward_server.testing.hostile import HOSTILE
from reward_server.testing.opened import REWARD, Opened

AWAY: int = 1_000
"""Groups from this number on have no sample of the scorer's own."""


@dataclass(frozen=True)
class Scored:
    """What became of hostile completions and of the scorer's own samples, all in one call."""

    hostile: Mapping[str, Verdict]  # by what it is
    own: Sequence[Verdict]
    longest_turn_s: float


class Contracted:
    """What the tests are about."""

    scorer: ClassVar[type[Any]]
    """The class."""
    options: ClassVar[Mapping[str, Any]] = {}
    """What stands under its kind in a configuration."""
    samples: ClassVar[Sequence[Sample]] = ()
    """At least two, with the columns that it reads, all of which it scores."""
    beside: ClassVar[Mapping[str, Any]] = {}
    """What stands beside its kind: a view, a floor."""
    elsewhere: ClassVar[Mapping[str, Any]] = {}
    """The rest of the configuration: other rewards (under `rewards`), judges, engines."""
    compares: ClassVar[bool] = False
    """Whether it compares the completions of a prompt with one another."""
    wobble: ClassVar[float] = 0.0
    """How far two scores of the same sample may be apart."""

    @pytest.fixture(scope="class")
    @classmethod
    def folder(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """Returns the configuration's folder; override it to put files there."""
        return tmp_path_factory.mktemp("contract")

    @pytest.fixture(scope="class")
    @classmethod
    def opened(cls, folder: Path) -> Iterator[Opened]:
        """Yields the scorer as a server has it."""
        cls.check_samples()
        with Opened(cls.scorer, cls.configuration(), folder) as opened:
            yield opened

    @classmethod
    def check_samples(cls) -> None:
        """Asserts that there is something to ask about."""
        assert len(cls.samples) >= 2, f"give {cls.__name__} at least two samples, with different scores"

    @classmethod
    def configuration(cls) -> dict[str, Any]:
        """Returns the server's configuration."""
        others = dict(cls.elsewhere)
        rewards = {**others.pop("rewards", {}), REWARD: {cls.scorer.kind: dict(cls.options), **cls.beside}}
        return {"workers": {"count": 2}, **others, "rewards": rewards}

    @pytest.fixture(scope="class")
    @classmethod
    def together(cls, opened: Opened) -> Scored:
        """Returns what `scored_together` does, once for all tests that look at it."""
        return cls.scored_together(opened)

    @classmethod
    def scored_together(cls, opened: Opened) -> Scored:
        """Returns the verdicts on all hostile completions, with the scorer's own samples among them."""
        verdicts = opened.score([*cls.hostile().values(), *cls.samples])
        hostile = dict(zip(HOSTILE, verdicts, strict=False))
        return Scored(hostile, verdicts[len(hostile) :], opened.longest_turn_s)

    @classmethod
    def hostile(cls) -> dict[str, Sample]:
        """Returns the first sample with each hostile completion in place of its own."""
        return {
            what: replace(cls.samples[0], completion=text, group=AWAY + place)
            for place, (what, text) in enumerate(HOSTILE.items())
        }

    @classmethod
    def one_group(cls) -> list[Sample]:
        """Returns the samples as completions of one prompt."""
        return [replace(sample, group=0) for sample in cls.samples]

    def assert_same(
        self, samples: Sequence[Sample], verdicts: Sequence[Verdict], expected: Sequence[Verdict], claim: str
    ) -> None:
        """Asserts that verdicts on the same samples have the same status and, within the scorer's wobble, score."""
        __tracebackhide__ = True
        no_complaints(differing(samples, verdicts, expected, self.wobble), claim)
