"""Detectors of what reaches the policy: missing scores, floors, completions cut off, other versions, and waiting."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from trainer.watching.finding import Finding, Remedy, change, do
from trainer.watching.signals import Signals, percent

MANY_MISSING, ILL_MISSING = 0.1, 0.25
"""Share of scores missing that is told where it has doubled, and that is told anyway."""

DOUBLED = 2.0

FLOORS_OF_BATCH, LEAST_FLOORS = 0.05, 2.0
"""Completions at a reward's floor that are more than chance: a share of the batch, and a number."""

MOSTLY_CUT = 0.5
"""Share of completions that end at the length limit."""

WAITING = 0.5
"""Part of a step spent waiting for rewards, from which on the GPU idles more than it works."""

LEAST_WAIT_S = 1.0
"""A wait that is not worth a word, whatever part of a step it is."""

WIRE = 0.3
"""Part of a call spent between trainer and server, from which on the network is what to look at."""


def missing(signals: Signals) -> Iterator[Finding]:
    """Yields a finding where many scores are missing, or more and more."""
    now, first = signals.now("missing/share"), signals.at_first("missing/share")
    if now is None or now < MANY_MISSING:
        return
    if now < ILL_MISSING and (first is None or now < DOUBLED * first):
        return
    counts = {name: signals.now(f"rewards/{name}/missing") or 0.0 for name in signals.settings.weights}
    which = ", ".join(f"{name} {count:.1f} a batch" for name, count in counts.items() if count)
    before = "" if first is None else f", at first {percent(first)}"
    deadline_s = float(signals.settings.deadline_s)
    later = [change("rewards.deadline_s", deadline_s, 2 * deadline_s, "if they are out of time")] if deadline_s else []
    yield Finding(
        "missing scores",
        f"{percent(now)} of the scores are missing{before}" + (f" ({which})" if which else ""),
        "A missing score moves nothing, so the run learns from the rest only, and that may be the easy rest",
        [
            do("read why: the column <reward>/reason of the completions, and the server's log"),
            *later,
            do("rewards.stop_when_missing ends a run that hardly learns any more"),
        ],
        now,
    )


def floors(signals: Signals) -> Iterator[Finding]:
    """Yields a finding for each reward whose grader is broken by more and more completions."""
    for name in signals.weights():
        key = f"rewards/{name}/flags/floor"
        now, first = signals.now(key), signals.at_first(key) or 0.0
        least = max(LEAST_FLOORS, FLOORS_OF_BATCH * signals.settings.generation_batch_size)
        if now is None or now < least or now < DOUBLED * first:
            continue
        yield Finding(
            "completions break their grader",
            f"{now:.1f} completions of a batch get {name}'s floor, since they broke its grader; at first {first:.1f}",
            "A rising number means that the policy has found something: a text that hangs a checker or silences a judge",
            [do("read those completions (flag `floor`), then mend the rubric or the function"), do("a lower `floor`")],
            now,
            subject=name,
        )


def truncation(signals: Signals) -> Iterator[Finding]:
    """Yields a finding where most completions end at the length limit."""
    cut = signals.now("completions/clipped_ratio")
    if cut is None or cut < MOSTLY_CUT:
        return
    settings = signals.settings
    limit = settings.max_completion_length
    remedies = [change("grpo.max_completion_length", limit, 2 * limit)]
    if not settings.mask_truncated_completions:
        remedies.append(
            change(
                "grpo.mask_truncated_completions", present=False, to=True, why="they are left out of what is learned"
            )
        )
    remedies.append(do("ask for shorter answers in data.system_prompt, or reward them (`length`, `overlong`)"))
    yield Finding(
        "truncation",
        f"{percent(cut)} of the completions are cut off at {limit} tokens",
        "What is cut off mostly scores as wrong whatever it would have said, and the policy never learns to end",
        remedies,
        cut,
    )


def versions(signals: Signals) -> Iterator[Finding]:
    """Yields a finding for each reward that is another one than at the step before."""
    told = [(row["step"], row["versions"]) for row in signals.rows if isinstance(row.get("versions"), dict)]
    changes = 0
    for (_, before), (step, after) in itertools.pairwise(told):
        changed = {name: version for name, version in after.items() if before.get(name, version) != version}
        for name, version in changed.items():
            changes += 1
            yield Finding(
                "another reward in mid-run",
                f"{name} has version {version} from step {step} on, before {before[name]}",
                "Scores before and after can't be compared: the curve shows the change of the reward, not only the policy's",
                [
                    do("leave the server's configuration and the judge's model alone while a run lasts"),
                    do("go on in a new run, with model.adapter set to this run's adapter"),
                ],
                float(changes),
                subject=f"{name} {version}",
            )


def waiting(signals: Signals) -> Iterator[Finding]:
    """Yields a finding where most of a step is spent on waiting for scores."""
    rewards_s, step_s = signals.now("time/rewards_s"), signals.now("time/step_s")
    if not rewards_s or not step_s or rewards_s < LEAST_WAIT_S or rewards_s < WAITING * step_s:
        return
    yield Finding(
        "waiting for rewards",
        f"{rewards_s:.1f} of {step_s:.1f} s of a step are spent on waiting for scores{_where_it_goes(signals)}",
        "The trainer's GPU idles meanwhile",
        _faster(signals),
        rewards_s / step_s,
    )


def _where_it_goes(signals: Signals) -> str:
    parts = []
    for key, words in (("queue_s", "in the queue a verdict"), ("judge_s", "in the judge's model a question")):
        if (seconds := signals.now(f"reward_server/{key}")) is not None:
            parts.append(f"{seconds:.1f} s {words}")
    call_s, server_s = signals.now("reward_server/call_s"), signals.now("reward_server/server_s")
    if call_s is not None and server_s is not None:
        parts.append(f"{max(0.0, call_s - server_s):.1f} s of a call on the wire")
    return f" ({', '.join(parts)})" if parts else ""


def _faster(signals: Signals) -> list[Remedy]:
    """Returns what shortens the wait, by where the time goes."""
    call_s, server_s = signals.now("reward_server/call_s"), signals.now("reward_server/server_s")
    if call_s is None or server_s is None:
        return [
            do("move the slow local function to a reward server, or write it as `async def`"),
            *_less_to_score(signals),
        ]
    queue_s, judge_s = signals.now("reward_server/queue_s") or 0.0, signals.now("reward_server/judge_s")
    remedies = []
    if call_s - server_s > WIRE * call_s:
        remedies.append(do("look at the network between trainer and server"))
    if queue_s > (judge_s or 0.0):
        remedies.append(do("more hosts, or more slots a host, for the judge's engine (docs/server-config.md)"))
    if judge_s is not None:
        remedies.append(do("a smaller judge, or fewer criteria"))
        remedies.append(do("a `gate`, so that the judge is asked only for completions that passed a rule"))
    return [*remedies, *_less_to_score(signals)]


def _less_to_score(signals: Signals) -> list[Remedy]:
    group = signals.settings.num_generations
    if group <= 4:  # noqa: PLR2004  # fewer make the group's mean a poor baseline
        return []
    return [change("grpo.num_generations", group, group // 2, "half as much to score a prompt")]
