"""A judge's options in the configuration, and its rubric from wherever they name it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, Literal

from pydantic import Field, field_validator, model_validator

from reward_server.errors import ConfigError
from reward_server.judge.materials import Policy
from reward_server.judge.methods import METHODS
from reward_server.judge.rubric import Rubric
from reward_server.judge.rubrics import read_rubric
from reward_server.options import Options, ScoreRange

CAP: Final = re.compile(r"cap:(0(?:\.\d+)?|1(?:\.0+)?)")
RUBRIC_FILES: Final = (".yaml", ".yml")


class JudgeOptions(Options):
    """A judge of the configuration."""

    engine: str = Field(description="name of the engine whose model is asked")
    method: str = Field(
        "criteria", description="how it grades: criteria, rating, reasoned, equivalence, pairwise or listwise"
    )
    if_no_logprobs: str | None = Field(
        None, description="the method that takes its place where the engine tells no log-probabilities"
    )
    rubric: str | Rubric | None = Field(None, description="what makes a completion good: a text, or a rubric in full")
    rubric_file: Path | None = Field(
        None, description="file with it, in place of `rubric`: .yaml is a rubric, else a text"
    )
    reference_column: str | None = Field(None, description="dataset column with the gold answer, shown to the judge")
    score_range: ScoreRange = Field((0.0, 1.0), description="score of the worst and of the best completion")
    subtract_baseline: bool = Field(
        default=False,
        description='subtract what "I don\'t know." gets for the same task; the range is then twice as wide',
    )
    max_answer_tokens: int = Field(200, ge=32, le=32_768, description="longest answer in words, reason and grades")
    timeout_s: float = Field(30.0, gt=0, description="longest time for one answer, and to wait for a host that is away")
    attempts: int = Field(
        2,
        ge=1,
        le=10,
        description="how often a sample is asked about if the answer is no grade; 1: no completion is ever blamed for it",
    )
    temperature: float = Field(0.0, ge=0, le=2, description="of the model's sampling; log-probabilities do not feel it")
    min_label_mass: float = Field(
        0.1, ge=0, le=1, description="legal labels that are less probable than this, all together, are no answer"
    )
    clipped: Policy = Field(
        "tell",
        description="a completion cut off at its length limit: tell the judge, abstain, or give it the lowest score unasked",
    )
    still_thinking: Policy = Field(
        "lowest", description="a completion that ends inside its thinking block: tell, abstain or lowest"
    )
    long_completion: Literal["cut", "refuse"] = Field(
        "cut",
        description="a completion too long for the judge's context: cut its middle out, with a mark, or refuse to judge it",
    )
    suspicious: str = Field(
        "flag", description="a completion that talks to its judge: flag, or cap:0.3 for at most 0.3 of 1"
    )
    opponents: int | None = Field(
        None, ge=1, description="of pairwise: how many others each is compared with; absent: all"
    )
    canaries_file: Path | None = Field(None, description="further completions of known worth, besides the rubric's own")
    canary_every_s: float = Field(
        0.0, ge=0, description="how often the canaries are scored, to raise an alarm; 0 = never"
    )

    @property
    def cap(self) -> float | None:
        """Returns the highest grade, 0 to 1, of a suspicious completion; None = it is only flagged."""
        found = CAP.fullmatch(self.suspicious)
        return float(found[1]) if found else None

    @field_validator("method", "if_no_logprobs")
    @classmethod
    def _is_method(cls, name: str | None) -> str | None:
        if name is not None and name not in METHODS:
            raise ValueError(f"there is no method {name!r}: it is one of {', '.join(METHODS)}")
        return name

    @field_validator("suspicious")
    @classmethod
    def _flag_or_cap(cls, suspicious: str) -> str:
        if suspicious != "flag" and not CAP.fullmatch(suspicious):
            raise ValueError(f"{suspicious!r} is neither flag nor a cap from 0 to 1, such as cap:0.3")
        return suspicious

    @model_validator(mode="after")
    def _one_rubric(self) -> JudgeOptions:
        given = (self.rubric is not None) + (self.rubric_file is not None)
        if given == 0 and METHODS[self.method].needs_reference:
            return self  # it knows by itself what to ask
        if given != 1:
            raise ValueError("give either `rubric` (a text, or criteria) or `rubric_file` (a path)")
        if isinstance(self.rubric, str) and not self.rubric.strip():
            raise ValueError("the rubric is empty: say what makes a completion good or bad")
        return self

    @model_validator(mode="after")
    def _methods_fit(self) -> JudgeOptions:
        method, other = METHODS[self.method], self.if_no_logprobs
        if other is not None and not method.needs_logprobs:
            raise ValueError(f"if_no_logprobs: the method {self.method} needs no log-probabilities: remove it")
        if other is not None and METHODS[other].needs_logprobs:
            raise ValueError(
                f"if_no_logprobs: the method {other} needs log-probabilities too: take reasoned or listwise"
            )
        if self.subtract_baseline and method.compares:
            raise ValueError(
                f"subtract_baseline: the method {self.method} compares completions with one another: remove it"
            )
        return self


def rubric_of(name: str, options: JudgeOptions, folder: Path) -> Rubric:
    """Returns a judge's rubric; a mere text is one with a single criterion.

    Raises:
        ConfigError: its file can't be read or used, or it doesn't fit the other options. Messages begin with the key.
    """
    if isinstance(options.rubric, Rubric):
        rubric = options.rubric
    elif options.rubric is not None:
        rubric = rubric_in_words(options.rubric)
    elif options.rubric_file is not None:
        rubric = _from_file(f"judges.{name}.rubric_file", folder / options.rubric_file)
    else:
        rubric = rubric_in_words("The completion says the same as the reference.")
    _check(name, options, rubric)
    return rubric


def rubric_in_words(text: str) -> Rubric:
    """Returns the rubric that a text is: its instructions, and the one question whether they are met."""
    criterion = {"name": "overall", "text": "The completion is good by all that was said above."}
    return Rubric.model_validate({"instructions": text.strip(), "criteria": [criterion]})


def _from_file(key: str, path: Path) -> Rubric:
    if path.suffix.lower() in RUBRIC_FILES:
        try:
            return read_rubric(path)
        except ConfigError as error:
            raise ConfigError(*(f"{key}: {problem}" for problem in error.problems)) from None
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{key}: {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{key}: {path} is not UTF-8: {error}") from error
    if not text.strip():
        raise ConfigError(f"{key}: {path} is empty: say what makes a completion good or bad")
    return rubric_in_words(text)


def _check(name: str, options: JudgeOptions, rubric: Rubric) -> None:
    """Complains of a rubric that can't be graded by as the options have it."""
    if options.reference_column is None and (rubric.needs_reference or METHODS[options.method].needs_reference):
        who = "the rubric" if rubric.needs_reference else f"the method {options.method}"
        raise ConfigError(
            f"judges.{name}.reference_column: {who} needs a reference: name the dataset column that holds it"
        )
