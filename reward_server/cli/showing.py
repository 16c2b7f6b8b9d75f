"""How `reward-server judge try` shows what was asked, answered and decided. Everything shown is made harmless first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from reward_server.audit.watching import Exchange
from reward_server.domain import Blame, Cost, Verdict
from reward_server.errors import BadAnswer
from reward_server.judge.guard import neutralise
from reward_server.judge.labels import LabelReading, first_position, read_labels
from reward_server.reward import RewardInfo

BAR_CHARS: Final = 30
REPEATED_CHARS: Final = 200
"""A beginning at least this long that the prompt before had too is not shown again."""

ROLE_STYLES: Final = {"system": "bold magenta", "user": "bold cyan", "assistant": "bold green"}


def labels_of(exchange: Exchange) -> LabelReading | None:
    """Returns how probable the labels of an answer were; None where it was not asked for labels, or has none."""
    if exchange.answer is None or exchange.question.labels is None:
        return None
    try:
        return read_labels(first_position(exchange.answer), exchange.question.labels, 0.0)
    except BadAnswer:
        return None


def show(
    out: Console, info: RewardInfo, verdicts: Sequence[Verdict], exchanges: Sequence[Exchange], total_ms: float
) -> None:
    """Prints every exchange, then the verdict."""
    before = ""
    for number, exchange in enumerate(exchanges, start=1):
        out.print(Rule(_title(number, len(exchanges), exchange), align="left", style="dim"))
        before = _show_prompt(out, exchange, before)
        _show_answer(out, exchange)
    out.print(Rule(Text(f"verdict of {info.name} {info.version}"), align="left", style="dim"))
    if not exchanges:
        _line(out, "", "settled without asking a model", "dim")
    _show_verdict(out, info, verdicts[0], total_ms)
    if len(verdicts) > 1:
        _line(out, "", "questions, tokens and times are its share of what the group took", "dim")
    for number, verdict in enumerate(verdicts[1:], start=2):
        _line(out, f"completion {number}", _score(verdict))


def _title(number: int, count: int, exchange: Exchange) -> Text:
    again = f", attempt {exchange.attempt + 1}" if exchange.attempt else ""
    return Text(f"question {number} of {count}, engine {exchange.engine}, host {exchange.host}{again}")


def _show_prompt(out: Console, exchange: Exchange, before: str) -> str:
    """Prints a prompt's messages, without the beginning that the one before it has shown; returns all of it."""
    whole = "".join(f"\0{message.role}\0{message.content}" for message in exchange.question.messages)
    repeated = _common_chars(before, whole)
    if repeated:
        _line(out, "", f"[the first {repeated:,} characters as in the question before]", "dim")
    start = 0
    for message in exchange.question.messages:
        start += len(message.role) + 2
        end = start + len(message.content)
        if end > repeated:
            _line(out, message.role, "", ROLE_STYLES.get(message.role, "bold"))
            out.print(Text(neutralise(message.content[max(0, repeated - start) :])), soft_wrap=True)
        start = end
    return whole


def _common_chars(first: str, second: str) -> int:
    """Returns how many characters two texts begin with alike, in whole lines; 0 if it is not worth leaving them out."""
    differs = (place for place, both in enumerate(zip(first, second, strict=False)) if both[0] != both[1])
    count = next(differs, min(len(first), len(second)))
    count = max(second.rfind("\n", 0, count), second.rfind("\0", 0, count)) + 1
    return count if count >= REPEATED_CHARS else 0


def _show_answer(out: Console, exchange: Exchange) -> None:
    if exchange.answer is None:
        _line(out, "error", exchange.error, "red")
        return
    answer = exchange.answer
    _line(out, "answer", "", ROLE_STYLES["assistant"])
    out.print(Text(neutralise(answer.text)), soft_wrap=True)
    if answer.finish != "stop" and exchange.question.max_tokens > 1:
        _line(out, "", "cut off at its longest length", "yellow")
    labels = labels_of(exchange)
    if labels is None and exchange.question.labels:
        _line(
            out, "", f"none of the labels {', '.join(exchange.question.labels)} was among its likely tokens", "yellow"
        )
    if labels is not None:
        width = max(map(len, labels.probabilities))
        for label, probability in labels.probabilities.items():
            bar = "█" * round(probability * BAR_CHARS)
            out.print(Text(f"  {label:>{width}} {bar:<{BAR_CHARS}} {probability:.4f}"), soft_wrap=True)
        _line(out, "legal labels", f"{labels.mass:.4f} of the probability", "dim")
    times = f"{answer.host_ms:.0f} ms at the host, {exchange.queue_ms:.0f} ms in the queue"
    _line(
        out, "cost", f"{answer.prompt_token_count} prompt tokens, {answer.decoded_token_count} decoded, {times}", "dim"
    )


def _show_verdict(out: Console, info: RewardInfo, verdict: Verdict, total_ms: float) -> None:
    reach = f" (from {info.score_range[0]:g} to {info.score_range[1]:g})" if info.score_range else ""
    _line(out, "score", _score(verdict) + reach, "bold")
    for name, text in (
        ("status", verdict.status.value),
        ("reason", verdict.status_reason),
        ("explanation", verdict.explanation),
        ("flags", ", ".join(verdict.flags)),
        ("blame", "" if verdict.blame is Blame.UNKNOWN else verdict.blame.value),
    ):
        if text:
            _line(out, name, text)
    for part, score in verdict.parts.items():
        _line(out, f"part {part}", "missing" if score is None else f"{score:.4g}")
    _line(out, "cost", f"{_cost(verdict.cost)}; {total_ms:.0f} ms all told", "dim")


def _score(verdict: Verdict) -> str:
    return f"none: {verdict.status.value}" if verdict.score is None else f"{verdict.score:.4g}"


def _cost(cost: Cost) -> str:
    return (
        f"{cost.judge_call_count} question{'' if cost.judge_call_count == 1 else 's'}, {cost.prompt_token_count} prompt tokens, {cost.decoded_token_count} decoded, "
        f"{cost.judge_ms:.0f} ms at the host, {cost.queue_ms:.0f} ms in the queue"
    )


def _line(out: Console, name: str, text: str, style: str = "") -> None:
    """Prints a name and what it is, on one line."""
    words = Text.assemble((f"{name}: " if name and text else name, style or "bold"), (neutralise(text), style))
    out.print(words, soft_wrap=True)
