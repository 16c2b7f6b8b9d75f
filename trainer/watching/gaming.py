"""Detectors of rewards that teach nothing, or the wrong thing: zero-variance groups and reward hacking."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator

from trainer.watching.finding import Finding, Remedy, change, do
from trainer.watching.signals import WINDOW, Signals, against_hacking, lower_weight, percent

FLAT_GROUPS = 0.5
"""From here on more than half of what is generated and scored is wasted. A quarter is usual."""

MOST_GENERATIONS = 16
"""More completions a group cost more than they teach."""

SAME_LENGTH, OWN_LENGTHS = 0.02, 0.1
"""Spread of lengths below which all are one length, and above which they were not (deviation / mean). Texts of a model that
answers freely spread by 0.3 and more; 0.02 is 2 tokens of 100."""

MANY_COPIES, MORE_COPIES = 0.3, 0.2
"""Share of copies within groups that is ill, and by how much it must have risen: short answers repeat anyway."""

SATURATED, UNSATURATED = 0.9, 0.7
"""Share of completions at the best score seen now, and the most that it may have been at first: a reward that nearly all
completions satisfied from the start is a guard rail, and no goal that is being gamed."""

DOMINANT = 0.5
"""A reward's share of all that can be won, from which on its saturation is the run's."""

FOLLOWS_LENGTH, LENGTH_CHANGE = 0.8, 0.3
"""Correlation within groups at which a score is little but length, and the change of length that shows the policy knows."""

APART = 0.15
"""A change of a reward, as a part of the range of its scores, that is no chance; beside `SURE`."""

SURE = 2.5
"""... and that is so many standard errors of the difference of two means of `WINDOW` steps."""

MOST_REACHED = 1e-6
"""How near to the best score seen, relative to it, counts as it."""

EARLY_STEPS_AND_MORE = 3 * WINDOW
"""Steps before two rewards are compared: most runs begin with a little turmoil."""


def zero_variance(signals: Signals) -> Iterator[Finding]:
    """Yields a finding where most groups teach nothing; not where they are all at the best score, which is said otherwise."""
    flat = signals.now("watch/zero_variance")
    flat = signals.now("frac_reward_zero_std") if flat is None else flat
    if flat is None or flat < FLAT_GROUPS or next(saturation(signals), None):
        return
    settings = signals.settings
    group = settings.num_generations
    remedies = []
    if settings.temperature < 1:
        remedies.append(change("grpo.temperature", float(settings.temperature), 1.0, "completions that differ"))
    if group < MOST_GENERATIONS:
        remedies.append(change("grpo.num_generations", group, 2 * group, "a difference is likelier"))
    remedies.append(do("a reward with grades between its ends, or a second one beside it"))
    remedies.append(do("prompts that the model neither always solves nor never"))
    yield Finding(
        "zero-variance groups",
        f"all {group} completions of {percent(flat)} of the groups get the same reward{_flattest(signals)}",
        "Only differences within a group teach, so these groups were generated and scored for nothing",
        remedies,
        flat,
    )


def _flattest(signals: Signals) -> str:
    """Returns which of several rewards tell nothing apart."""
    if signals.settings.single_reward:
        return ""
    shares = {name: signals.now(f"rewards/{name}/zero_variance") for name in signals.weights()}
    flat = [f"{name} in {percent(share)}" for name, share in shares.items() if share and share >= FLAT_GROUPS]
    return f" ({', '.join(flat)})" if flat else ""


def same_length(signals: Signals) -> Iterator[Finding]:
    """Yields a finding where completions of own lengths have become all of one."""
    now, first = signals.now("watch/length_spread"), signals.at_first("watch/length_spread")
    if now is None or first is None or now >= SAME_LENGTH or first <= OWN_LENGTHS:
        return
    tokens = signals.now("completions/mean_terminated_length") or signals.now("completions/mean_length") or 0.0
    yield Finding(
        "reward hacking, one length",
        f"all completions have the same length, about {tokens:.0f} tokens, and at first their lengths differed by "
        f"{percent(first)}",
        "The policy writes what a length is rewarded for, and no longer what the prompt asks for",
        against_hacking(signals, _most_with_length(signals)),
        1.0,
    )


def _most_with_length(signals: Signals) -> str:
    """Returns the reward that went most with the length over the run, "" if none did."""
    found = {}
    for name in signals.weights():
        values = [abs(value) for _, value in signals.history.series(f"rewards/{name}/length_correlation")]
        if values and statistics.fmean(values) >= FOLLOWS_LENGTH / 2:
            found[name] = statistics.fmean(values)
    return max(found, key=lambda name: found[name], default="")


def duplicates(signals: Signals) -> Iterator[Finding]:
    """Yields a finding where the completions of a group have become copies of one another."""
    now, first = signals.now("watch/duplicates"), signals.at_first("watch/duplicates")
    if now is None or first is None or now < MANY_COPIES or now < first + MORE_COPIES:
        return
    temperature = float(signals.settings.temperature)
    warmer = [change("grpo.temperature", temperature, 1.0)] if temperature < 1 else []
    yield Finding(
        "reward hacking, duplicates",
        f"{percent(now)} of the completions of a prompt repeat another one word for word, at first {percent(first)}",
        "The policy has settled on one text that pays; copies can't be compared, and nothing new is tried",
        [*warmer, *against_hacking(signals)],
        now,
    )


def saturation(signals: Signals) -> Iterator[Finding]:
    """Yields a finding where nearly all completions have the best score of the reward that counts most."""
    if not signals.has_both_ends:
        return
    for name, seen in _dominant(signals).items():
        weight = signals.settings.weights[name]
        end, best = ("max", seen[1]) if weight > 0 else ("min", seen[0])
        now = _at_best(signals, name, end, best)
        first = signals.at_first(f"rewards/{name}/at_{end}")
        if now is None or first is None or now < SATURATED or first > UNSATURATED:
            continue
        largest = "largest" if weight > 0 else "smallest"
        step = int(signals.last["step"])
        stop: list[Remedy] = []
        if step < signals.settings.max_steps:
            stop.append(change("grpo.max_steps", signals.settings.max_steps, step, "if the text is as you want it"))
        yield Finding(
            "reward hacking, saturation",
            f"{percent(now)} of the completions get {best:g}, the {largest} score of {name} seen, at first {percent(first)}",
            "It can't tell any more which completion is better: either the task is learnt, or the reward is gamed",
            [*against_hacking(signals, name), do("harder prompts"), *stop],
            now,
            subject=name,
        )


def _at_best(signals: Signals, name: str, end: str, best: float) -> float | None:
    """Returns the share of completions at the best score of the whole run, over the last steps."""
    shares = []
    for row in signals.rows[-WINDOW:]:
        score, share = row.get(f"rewards/{name}/{end}"), row.get(f"rewards/{name}/at_{end}")
        if isinstance(score, (int, float)) and isinstance(share, (int, float)):
            shares.append(share if abs(score - best) <= MOST_REACHED * max(1.0, abs(best)) else 0.0)
    return statistics.median(shares) if len(shares) == WINDOW else None


def _dominant(signals: Signals) -> dict[str, tuple[float, float]]:
    """Returns the range of each reward whose weighted range is the better part of all rewards' together."""
    weights = signals.weights()
    ranges = {name: seen for name in weights if (seen := signals.range_of(name))}
    sizes = {name: abs(weights[name]) * (seen[1] - seen[0]) for name, seen in ranges.items()}
    return {name: ranges[name] for name, size in sizes.items() if size and size >= DOMINANT * sum(sizes.values())}


def follows_length(signals: Signals) -> Iterator[Finding]:
    """Yields a finding for each reward, no length rule itself, whose score is length and whose policy has noticed."""
    now, first = signals.now("completions/mean_length"), signals.at_first("completions/mean_length")
    if not now or not first or abs(now / first - 1) < LENGTH_CHANGE:
        return
    for name, weight in signals.weights().items():
        correlation = signals.now(f"rewards/{name}/length_correlation", 2 * WINDOW)
        if correlation is None or abs(correlation) < FOLLOWS_LENGTH or name in signals.settings.length_rules:
            continue
        if (now > first) != (correlation * weight > 0):
            continue  # the length moves against this reward: it is not why
        longer = "longer" if correlation > 0 else "shorter"
        yield Finding(
            "reward hacking, length",
            f"{name} scores {longer} completions higher (correlation {correlation:+.2f} within groups), and their mean "
            f"length went from {first:.0f} to {now:.0f} tokens",
            "The policy learns a length, which is the easiest thing to learn, and not what the reward is meant to measure",
            [
                *against_hacking(signals, name),
                do("a length rule of your own beside it (`length`, `overlong`), that pays for the length you want"),
            ],
            abs(correlation),
            subject=name,
        )


def pulled_apart(signals: Signals) -> Iterator[Finding]:
    """Yields a finding where one reward rises while the others, or most of them, fall."""
    if len(signals.rows) < EARLY_STEPS_AND_MORE or signals.settings.single_reward:
        return
    changes = {name: _gain(signals, name, weight) for name, weight in signals.weights().items()}
    up = [name for name, gain in changes.items() if gain >= APART]
    down = [name for name, gain in changes.items() if gain <= -APART]
    if len(up) != 1 or not down or 2 * len(down) < len(changes) - 1:
        return
    fell = ", ".join(f"{name} {_course(signals, name)}" for name in down)
    stronger = [
        change(f"weight of {name}", float(signals.settings.weights[name]), 2 * float(signals.settings.weights[name]))
        for name in down
    ]
    yield Finding(
        "reward hacking, one against the others",
        f"{up[0]} rises ({_course(signals, up[0])}) while others fall ({fell})",
        "The policy buys the one with the others: what it does for the first is not what you want",
        [lower_weight(signals.settings, up[0]), *stronger, *against_hacking(signals)],
        1.0,
        subject=up[0],
    )


def _gain(signals: Signals, name: str, weight: float) -> float:
    """Returns how far a reward has moved in the direction that pays, as a part of its range; 0 for what may be chance."""
    key = f"rewards/{name}/mean"
    seen, values = signals.range_of(name), [value for _, value in signals.history.series(key)]
    if seen is None or seen[0] == seen[1] or len(values) < EARLY_STEPS_AND_MORE:
        return 0.0
    first, now = values[:WINDOW], values[-WINDOW:]
    moved = statistics.fmean(now) - statistics.fmean(first)
    error = math.sqrt((statistics.variance(first) + statistics.variance(now)) / WINDOW)
    return math.copysign(1.0, weight) * moved / (seen[1] - seen[0]) if abs(moved) > SURE * error else 0.0


def _course(signals: Signals, name: str) -> str:
    key = f"rewards/{name}/mean"
    return f"{signals.at_first(key) or 0:.2f} -> {signals.now(key) or 0:.2f}"
