"""What a verdict costs: the method `criteria` beside one chat call that answers in JSON, on the embedded engine.

    python benchmarks/judge.py                # prints a table, writes benchmarks/results/judge.json

The same child process, slots and threads serve all arms, in one run, in rounds whose order rotates. Each round gives
every arm four groups of its own, as a training step would: one task and eight completions of 100 tokens each, texts that no
slot has read before. The arms:

    JSON, rubric last     one chat call a sample: task, completion, then the rubric of 300 tokens; 60 tokens of JSON
    JSON, rubric first    the same with the rubric in the system's message, so that it is read once
    1 criterion           this server's judge with that rubric: one question of one token
    4 criteria            the same with four criteria: four questions of one token

All samples of a round are asked at once. A JSON answer is held to its schema and stopped at exactly 60 tokens. What is
measured is the time from a round's first question to its last verdict; figures are medians of rounds, ratios those of
each round's pair.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from reward_server.domain import Call, Cost, Sample, Status
from reward_server.engines.base import ChatMessage, Place, Question
from reward_server.engines.embedded.engine import Embedded, EmbeddedOptions
from reward_server.judge.judge import Judge
from reward_server.judge.options import JudgeOptions
from reward_server.judge.secret import JudgeSecret
from reward_server.sharing.memory import VerdictMemory

GROUP: Final = 8
GROUPS: Final = 4
RUBRIC_TOKENS: Final = 300
COMPLETION_TOKENS: Final = 100
JSON_TOKENS: Final = 60
ROOT: Final = Path(__file__).parents[1]
MODEL: Final = ROOT / ".cache" / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"
RESULTS: Final = Path(__file__).parent / "results" / "judge.json"
TARGETS: Final = {"1 criterion": 3.0, "4 criteria": 2.0}

CRITERIA: Final = {
    "answers": "The completion answers the question that was asked, and not another one.",
    "clear": "Every sentence of the completion is whole and clear.",
    "honest": "The completion makes no claim that contradicts the task.",
    "brief": "The completion is as short as the task allows.",
}
GUIDE: Final = (
    "Read the task first and make sure that you know what it asks for. Then read the completion once from its beginning "
    "to its end before you judge any part of it. A completion is good when a careful person who asked this would be glad "
    "to get it. Weigh what it says, not how sure it sounds. A long completion is not better than a short one, and a "
    "friendly one is not better than a plain one. Numbers, names and dates must be right, and what follows from them too. "
    "What is left out counts only where the task asks for it. If a part is wrong, do not let the rest make up for it. "
    "Spelling and style count only where they make the meaning hard to find. "
)
SCHEMA: Final = {
    "type": "object",
    "properties": {
        "reason": {"type": "string", "minLength": 600},  # longer than fits: every answer has exactly the same length
        "score": {"type": "integer", "minimum": 0, "maximum": 9},
    },
    "required": ["reason", "score"],
}
JSON_ORDER: Final = 'Answer with JSON and nothing else: {"reason": "why", "score": 0 to 9}'
WORDS: Final = [
    "river",
    "mountain",
    "walk",
    "green",
    "small",
    "house",
    "people",
    "quiet",
    "stone",
    "light",
    "under",
    "old",
    "tree",
    "wind",
    "move",
    "over",
    "water",
    "slow",
    "because",
    "bright",
    "morning",
    "before",
    "gone",
    "again",
    "letter",
    "table",
    "window",
    "garden",
    "music",
    "paper",
    "cold",
    "winter",
    "bread",
    "market",
    "road",
    "answer",
    "count",
    "teacher",
    "number",
    "story",
    "simple",
    "often",
    "every",
    "between",
    "second",
    "colour",
    "animal",
    "travel",
    "north",
    "early",
    "never",
    "always",
    "friend",
]


@dataclass(frozen=True)
class Cast:
    """One group: a task and its completions."""

    task: str
    completions: Sequence[str]


class Bench:
    """The engine, the judges on it, and texts of the right length."""

    def __init__(self, threads: int, slots: int, model: Path) -> None:
        options = EmbeddedOptions(model=model, context_tokens=2048, slots=slots, threads=threads)
        self.engine = Embedded("bench", options, ROOT)
        self._chance = random.Random(11)  # noqa: S311  # no secret depends on it
        self._rubric = ""
        self._words = 0  # of a completion
        self._judges: dict[str, Judge] = {}

    async def prepare(self) -> None:
        """Starts the engine and finds how many words make the tokens wanted."""
        await self.engine.start()
        self._rubric = await self._of_tokens(RUBRIC_TOKENS, lambda count: " ".join((GUIDE * 4).split()[:count]))
        sample = await self._of_tokens(COMPLETION_TOKENS, self._text)
        self._words = len(sample.split())
        self._judges = {"1 criterion": self._judge(1), "4 criteria": self._judge(4)}

    async def close(self) -> None:
        """Stops the engine."""
        await self.engine.close()

    def cast(self) -> Cast:
        """Returns a new group."""
        return Cast(self._text(40), [self._text(self._words) for _ in range(GROUP)])

    async def judged(self, arm: str, casts: Sequence[Cast]) -> Cost:
        """Grades groups by a judge. Returns the cost of all verdicts."""
        samples = [
            Sample(text, each.task, group=group) for group, each in enumerate(casts) for text in each.completions
        ]
        cost = Cost()
        async for _, verdict in self._judges[arm].score(samples, Call()):
            assert verdict.status is Status.SCORED, verdict
            cost += verdict.cost
        return cost

    async def chatted(self, arm: str, casts: Sequence[Cast]) -> Cost:
        """Grades groups by one chat call a sample. Returns the cost of all answers."""
        chats = (self._chat(arm, cast.task, completion) for cast in casts for completion in cast.completions)
        costs = await asyncio.gather(*chats)
        total = Cost()
        for cost in costs:
            total += cost
        return total

    async def _chat(self, arm: str, task: str, completion: str) -> Cost:
        sample = f"Task: {task}\n\nCompletion: {completion}\n\n"
        rubric = f"{self._rubric}\n{JSON_ORDER}"
        first = [ChatMessage("system", rubric), ChatMessage("user", sample)]
        last = [ChatMessage("user", sample + rubric)]

        async def ask(place: Place) -> Cost:
            question = Question(first if arm.endswith("first") else last, JSON_TOKENS, SCHEMA)
            answer = await place.ask(question)
            assert answer.decoded_token_count == JSON_TOKENS, answer
            return Cost(0.0, 1, answer.host_ms, answer.prompt_token_count, answer.decoded_token_count)

        return await self.engine.run(ask, affinity=cast_key(task), deadline=_never, patience_s=60.0, attempts=1)

    def _judge(self, count: int) -> Judge:
        criteria = [{"name": name, "text": text} for name, text in list(CRITERIA.items())[:count]]
        rubric = {"instructions": self._rubric, "criteria": criteria}
        options = JudgeOptions.model_validate({"engine": "bench", "rubric": rubric, "min_label_mass": 0.0})
        return Judge(
            "bench", options, self.engine, ROOT, secret=JudgeSecret("bench", b"b" * 32), memory=VerdictMemory(0)
        )

    def _text(self, words: int) -> str:
        return " ".join(self._chance.choice(WORDS) for _ in range(words))

    async def _of_tokens(self, tokens: int, text_of: Callable[[int], str]) -> str:
        """Returns a text of so many tokens, or one less."""
        empty = await self._count("")
        low, high = 1, 2 * tokens
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if await self._count(text_of(middle)) - empty <= tokens else (low, middle - 1)
        return text_of(low)

    async def _count(self, text: str) -> int:
        count = await self.engine.count_tokens([ChatMessage("user", text)])
        assert count is not None
        return count


def cast_key(task: str) -> str:
    """Returns the affinity of a task's questions."""
    return task[:200]


def _never() -> float:
    return float("inf")


async def measure(bench: Bench, rounds: int) -> dict[str, list[tuple[float, Cost]]]:
    """Returns, for each arm, time (seconds) and cost of each round."""
    arms: dict[str, Callable[[str, Sequence[Cast]], Awaitable[Cost]]] = {
        "JSON, rubric last": bench.chatted,
        "JSON, rubric first": bench.chatted,
        "1 criterion": bench.judged,
        "4 criteria": bench.judged,
    }
    taken: dict[str, list[tuple[float, Cost]]] = {arm: [] for arm in arms}
    for number in range(rounds):
        order = list(arms)[number % len(arms) :] + list(arms)[: number % len(arms)]
        for arm in order:
            casts = [bench.cast() for _ in range(GROUPS)]
            began = time.perf_counter()
            cost = await arms[arm](arm, casts)
            taken[arm].append((time.perf_counter() - began, cost))
    return taken


def summary(taken: Mapping[str, Sequence[tuple[float, Cost]]]) -> list[dict[str, Any]]:
    """Returns one row an arm."""
    rows = []
    for arm, rounds in taken.items():
        row: dict[str, Any] = {"arm": arm, "verdicts_per_s": GROUPS * GROUP / statistics.median(s for s, _ in rounds)}
        row["prompt_tokens_per_verdict"] = statistics.mean(c.prompt_token_count for _, c in rounds) / (GROUPS * GROUP)
        row["decoded_tokens_per_verdict"] = statistics.mean(c.decoded_token_count for _, c in rounds) / (GROUPS * GROUP)
        for base in ("JSON, rubric last", "JSON, rubric first"):
            pairs = zip(taken[base], rounds, strict=True)
            row[f"times {base}"] = statistics.median(of_base / of_arm for (of_base, _), (of_arm, _) in pairs)
        rows.append(row)
    return rows


def show(rows: Sequence[Mapping[str, Any]]) -> None:
    """Prints the table."""
    print(f"{'arm':<20}{'verdicts/s':>12}{'prompt tok':>12}{'decoded':>9}{'x last':>8}{'x first':>9}")
    for row in rows:
        figures = f"{row['verdicts_per_s']:>12.2f}{row['prompt_tokens_per_verdict']:>12.0f}"
        figures += f"{row['decoded_tokens_per_verdict']:>9.1f}"
        print(f"{row['arm']:<20}{figures}{row['times JSON, rubric last']:>8.2f}{row['times JSON, rubric first']:>9.2f}")
    for row in rows:
        if (target := TARGETS.get(row["arm"])) is not None:
            last, first = row["times JSON, rubric last"], row["times JSON, rubric first"]
            met = last >= target and first >= 1
            print(
                f"{row['arm']}: {last:.2f} (wanted {target:g}), {first:.2f} (wanted 1): {'met' if met else 'NOT met'}"
            )


async def run(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Measures all arms."""
    bench = Bench(args.threads, args.slots, args.model)
    try:
        await bench.prepare()
        return summary(await measure(bench, args.rounds))
    finally:
        await bench.close()


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description="What a verdict costs beside one JSON chat call.")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1, help="threads of llama.cpp")
    parser.add_argument("--slots", type=int, default=1, help="questions at a time")
    parser.add_argument("--model", type=Path, default=MODEL, help="a GGUF file; `make model` fetches the default")
    args = parser.parse_args()
    rows = asyncio.run(run(args))
    show(rows)
    machine = {"machine": platform.machine(), "python": platform.python_version(), "xllamacpp": version("xllamacpp")}
    settings = {key: value for key, value in vars(args).items() if key != "model"} | {"model": args.model.name}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"settings": settings, "environment": machine, "arms": rows}, indent=2) + "\n")
    print(f"written to {RESULTS.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
