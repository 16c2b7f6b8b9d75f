"""A judge's way to grade: its method with all that shapes what the method gives. A judge may have a second one in reserve."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from reward_server.engines.base import Engine
from reward_server.errors import ConfigError
from reward_server.judge import materials as reading
from reward_server.judge.blame import bland
from reward_server.judge.fit import Fit
from reward_server.judge.grading import Recipe, Scale, filters_identity
from reward_server.judge.guard import Fence
from reward_server.judge.material import Material
from reward_server.judge.materials import Materials
from reward_server.judge.methods import METHODS
from reward_server.judge.methods.settings import MethodSettings
from reward_server.judge.options import JudgeOptions
from reward_server.judge.rubric import Rubric
from reward_server.judge.showing import Showing

SHAPING: Final = {
    "reference_column",
    "score_range",
    "subtract_baseline",
    "attempts",
    "clipped",
    "still_thinking",
    "suspicious",
}
"""Options that shape a score beside the method's own."""


@dataclass(frozen=True, slots=True)
class Way:
    """One of the ways in which a judge may grade, and what tells it from others."""

    recipe: Recipe
    identity: Mapping[str, Any]  # JSON-able; without the engine's
    shape: bytes  # its hash


def way_of(
    method: str,
    judge: str,
    options: JudgeOptions,
    rubric: Rubric,
    *,
    fence: Fence,
    materials: Materials,
    scale: Scale,
    engine: Engine,
) -> Way:
    """Returns the way to grade by a method, given by its name. Raises `ConfigError` for options it can't work with."""
    settings = MethodSettings(
        max_answer_tokens=options.max_answer_tokens,
        temperature=options.temperature,
        min_label_mass=options.min_label_mass,
        answer_timeout_s=options.timeout_s,
        opponents=options.opponents,
    )
    try:
        made = METHODS[method](rubric, Showing(fence), settings)
    except ConfigError as error:
        raise ConfigError(*(f"judges.{judge}.{problem}" for problem in error.problems)) from None
    if engine.context_tokens is not None and made.max_answer_tokens >= engine.context_tokens:
        raise ConfigError(
            f"judges.{judge}.max_answer_tokens: {made.max_answer_tokens} leave no room for a prompt in the context of "
            f"engine `{options.engine}`, {engine.context_tokens} tokens: lower it, or raise context_tokens there"
        )
    fit = Fit(engine, made.max_answer_tokens, options.long_completion)
    recipe = Recipe(judge, made, materials, fit, scale, options.cap)
    identity = {
        "method": dict(made.identity()),
        "fit": dict(fit.identity()),
        "filters": filters_identity(capping=options.cap is not None),
        "materials": dict(reading.identity()),
        "bland": _bland_texts() if made.compares or options.subtract_baseline else None,
        "columns": dict(rubric.columns),
    } | options.model_dump(mode="json", include=SHAPING)
    return Way(recipe, identity, hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).digest())


def _bland_texts() -> list[str]:
    """Returns the texts against which completions are graded: the baseline, and a stand-in for one of a group."""
    return [bland(Material(""), number).completion for number in (None, 0)]
