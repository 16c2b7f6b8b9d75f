"""Detectors of a policy that leaves its reference, jumps, or has become numbers that are none."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping
from typing import Any

from trainer.watching.finding import Finding, Remedy, change, do
from trainer.watching.settings import Settings
from trainer.watching.signals import (
    Signals,
    fewer_generations,
    higher_beta,
    lower_learning_rate,
    lower_weight,
    percent,
)

KL_STEPS = 3
KL_HIGH, KL_VERY_HIGH = 0.5, 5.0
"""KL to the reference in nats a token: over `KL_STEPS` steps, or at once. Healthy runs stay below 0.1. At 0.5 what the policy
writes is e^0.5 = 1.6 times likelier than under the reference at every token: after 20 tokens, 20,000 times."""

MUCH_CLIPPED = 0.3
"""Share of tokens whose probability moved by more than `epsilon` within the updates of one batch."""

ENTROPY_LOW, ENTROPY_FALL = 0.1, 0.2
"""Nats a token at which nothing new is tried, and that as a part of what it was at first: a model that is sure of itself
from the start, as tuned ones are, has not collapsed."""

SPIKE, SPIKE_AT_ONCE = 10.0, 100.0
"""A loss or gradient norm so many times its running median is a spike; two of them, or one of the second size, are told."""

SPIKE_FLOOR = 1.0
"""Below this size no jump matters: gradients are cut off at a norm of 1 (`max_grad_norm`) by default."""

MEDIAN_STEPS, SPIKE_STEPS, LEAST_STEPS = 20, 10, 8
"""Steps the median is of, steps in which spikes are counted, and steps before there is a median worth its name."""

NO_GRADIENT, STILL_DIFFERENT = 1e-8, 0.5
"""A gradient norm that is none in single precision, and the share of groups without differences that would explain it."""

SCALE_STEPS = 3
LARGE_SCORE = 10.0
"""Weight times score, from which on "about -1 to 1" is left by far. A judge's 0 to 10 with weight 1 still passes."""

NUMBERS = ("loss", "grad_norm", "reward", "reward_std", "kl", "entropy")


def note_without_kl(signals: Signals) -> Iterator[Finding]:
    """Yields a note at the first step of a run whose KL nobody measures."""
    if signals.settings.beta or "kl" in signals.last:
        return
    yield Finding(
        "KL is not measured",
        "with grpo.beta 0 TRL keeps no reference and logs no kl",
        "How far the policy has gone from the model it came from is guessed from entropy, clip_ratio and grad_norm",
        [change("grpo.beta", 0.0, 0.01, "to have it measured, and held")],
        1.0,
        is_note=True,
    )


def kl(signals: Signals) -> Iterator[Finding]:
    """Yields a finding where the policy is far from its reference."""
    last, mean = signals.last.get("kl"), signals.now("kl", KL_STEPS)
    at_once = isinstance(last, float) and last >= KL_VERY_HIGH
    if not at_once and (mean is None or mean < KL_HIGH):
        return
    seen = float(last) if isinstance(last, float) and at_once else mean or 0.0
    settings = signals.settings
    remedies = [higher_beta(settings), lower_learning_rate(settings)]
    well = [step for step, value in signals.history.series("kl") if value < KL_HIGH / 2]
    if well and max(well) < settings.max_steps:
        remedies.append(change("grpo.max_steps", settings.max_steps, max(well), "fewer steps: there it still was low"))
    yield Finding(
        "KL too high",
        f"kl is {seen:.3g} nats a token",
        "The policy is far from the model it came from: it may have lost what that could, and its text is often no language",
        remedies,
        seen,
    )


def drift(signals: Signals) -> Iterator[Finding]:
    """Yields a finding where one batch's updates move the policy beyond the clip range."""
    clipped = signals.now("clip_ratio/region_mean")
    if clipped is None or clipped < MUCH_CLIPPED:
        return
    settings = signals.settings
    remedies = [lower_learning_rate(settings)]
    if settings.num_iterations > 1:
        remedies.append(change("grpo.num_iterations", settings.num_iterations, settings.num_iterations // 2))
    yield Finding(
        "instability, updates too large",
        f"{percent(clipped)} of the tokens moved beyond the clip range of {settings.epsilon:g} within one batch",
        "What is learned of a batch's tokens is cut off there, and the policy still goes on from where it jumped to",
        [*remedies, *([] if settings.beta else [higher_beta(settings)])],
        clipped,
    )


def entropy(signals: Signals) -> Iterator[Finding]:
    """Yields a finding where the policy has become sure of every token."""
    now, first = signals.now("entropy"), signals.at_first("entropy")
    if now is None or first is None or now >= ENTROPY_LOW or now >= ENTROPY_FALL * first:
        return
    settings = signals.settings
    warmer = float(settings.temperature)
    remedies = [change("grpo.temperature", warmer, 1.0)] if warmer < 1 else []
    unmeasured = "" if settings.beta else " (with grpo.beta 0 no kl says so)"
    yield Finding(
        "entropy collapse",
        f"entropy fell from {first:.3g} to {now:.3g} nats a token",
        f"The policy writes nearly the same again and again, so that groups have nothing to compare{unmeasured}",
        [
            *remedies,
            higher_beta(settings),
            lower_learning_rate(settings),
            do("a `diversity` reward on the server"),
        ],
        1 / max(now, 1e-6),
    )


def not_finite(signals: Signals) -> Iterator[Finding]:
    """Yields a finding at once where a number is NaN or infinite: from there on nothing is learned any more."""
    row = signals.last
    broken = [f"{key} is {row[key]}" for key in NUMBERS if _is_broken(row.get(key))]
    scores = row.get("watch/not_finite")
    if isinstance(scores, (int, float)) and scores > 0:
        broken.append(f"{scores:g} scores of a batch are NaN or infinite")
    if not broken:
        return
    # transformers keeps NaN out of the logged loss (logging_nan_inf_filter), so grad_norm is what shows it.
    why = (
        "One update with such a gradient makes all weights NaN, and nothing brings them back but an earlier checkpoint"
    )
    if any("scores" in each for each in broken):
        why = "Such a score can't be compared: it takes its whole group out of what is learned, or makes the loss NaN"
    yield Finding("instability, not a number", " and ".join(broken), why, calmer(signals.settings, row), 1.0)


def calmer(settings: Settings, row: Mapping[str, Any] | None = None) -> list[Remedy]:
    """Returns what helps where numbers explode."""
    about_scores = row is not None and bool(row.get("watch/not_finite"))
    mend = [do("mend the reward that returns them: finite scores, or None where there is none")] if about_scores else []
    return [
        *mend,
        lower_learning_rate(settings),
        *fewer_generations(settings),
        do("rewards between about -1 and 1 (`clip` or `rescale` on the server)"),
    ]


def stuck(signals: Signals) -> Iterator[Finding]:
    """Yields a finding where groups differ and still nothing is learned: the policy no longer answers to its weights."""
    norm, flat = signals.now("grad_norm"), signals.now("watch/zero_variance")
    if norm is None or flat is None or norm > NO_GRADIENT or flat > STILL_DIFFERENT:
        return
    yield Finding(
        "instability, no gradient",
        f"grad_norm is {norm:.2g}, while completions of {percent(1 - flat)} of the groups get different rewards",
        "The weights are where no small change matters, as after steps that were far too large: nothing is learned any more",
        [do("an earlier checkpoint, or a new start"), *calmer(signals.settings)],
        1.0,
    )


def spikes(signals: Signals) -> Iterator[Finding]:
    """Yields a finding where loss or gradient norm jump far above their running median."""
    for key in ("grad_norm", "loss"):
        values = [abs(value) for value in signals.tail(key, MEDIAN_STEPS)]
        if len(values) < LEAST_STEPS:
            continue
        usual = statistics.median(values)
        jumps = [value for value in values[-SPIKE_STEPS:] if value > max(SPIKE * usual, SPIKE_FLOOR)]
        at_once = [value for value in jumps if value > SPIKE_AT_ONCE * usual]
        if len(jumps) < 2 and not at_once:  # noqa: PLR2004  # one is chance
            continue
        largest = max(jumps)
        yield Finding(
            "instability, spikes",
            f"{key} jumps to {largest:.3g}, and its median is {usual:.3g}; spikes in the last {SPIKE_STEPS} steps: "
            f"{len(jumps)}",
            "A few samples move the whole policy, and what it had learned is lost",
            calmer(signals.settings),
            largest / max(usual, 1e-9),
            subject=key,
        )


def scale(signals: Signals) -> Iterator[Finding]:
    """Yields a finding for each reward whose weighted scores are far outside of -1 to 1."""
    if len(signals.rows) < SCALE_STEPS:
        return
    settings = signals.settings
    for name, weight in signals.weights().items():
        ends = signals.tail(f"rewards/{name}/max", SCALE_STEPS) + signals.tail(f"rewards/{name}/min", SCALE_STEPS)
        largest = max((abs(weight * end) for end in ends), default=0.0)
        if largest <= LARGE_SCORE:
            continue
        others = "" if settings.single_reward else ", and it drowns the other rewards"
        yield Finding(
            "instability, reward scale",
            f"{name} goes from {min(ends):g} to {max(ends):g}, with its weight of {weight:g} up to {largest:g}",
            f"Rewards should lie between about -1 and 1: what is larger makes steps of unforeseen size{others}",
            [
                lower_weight(settings, name, 1 / largest),
                do(f"`rescale: {{of: {name}, from: [{min(ends):g}, {max(ends):g}]}}` on the server"),
                lower_learning_rate(settings),
            ],
            largest,
            subject=name,
        )


def _is_broken(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
