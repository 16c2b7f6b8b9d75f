"""What a call costs beside a bare echo: 64 completions of 1 KB through the length scorer, over loopback.

    python benchmarks/transport.py            # prints a table, writes benchmarks/results/transport.json

Each round sends the same batch once through every arm, in an order that rotates, so that whatever else the machine does
hits all arms alike. The arms:

    echo             a bare grpc.aio server with the same settings, identity serialisers, the same bytes back
    score words      the reward server with the quickstart's recipe, asked by gRPC's own stub with a ready request
    score all_words  the same with a target so far off that every word of the texts is counted
    score chars      the same, characters counted
    client words     like `score words`, but through trainer.client.RewardClient, which builds the request and
                     reads the verdicts

Servers are processes of their own; the client is synchronous. Medians are compared, round by round.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio

from protos.reward.v1 import reward_pb2 as pb
from reward_server import listening
from reward_server.config import Limits
from reward_server.memory import keep_heap_padded
from reward_server.servicer import SERVICE
from trainer.client import RewardClient

COMPLETIONS: Final = 64
CHARS: Final = 1024
WARM_UP_ROUNDS: Final = 50
TARGET_RATIO: Final = 1.5
RESULTS: Final = Path(__file__).parent / "results" / "transport.json"

CONFIG: Final = """\
listen: 127.0.0.1:0
rewards:
  words: {length: {unit: words, target: 10, width: 30}}
  all_words: {length: {unit: words, target: 200, width: 200}}
  chars: {length: {unit: chars, target: 1000, width: 1000}}
"""

PROSE: Final = """\
To find the speed we divide the distance by the time. The train covers 240 km in 3 hours, so its speed is 80 km per hour.
On the way back it is 20 km per hour slower: 60 km per hour. The same distance then takes 240 / 60 = 4 hours.
Together both ways take 7 hours, and the average speed is 480 / 7, which is about 68.6 km per hour.

Let me check this. An average of 70 km per hour would be right only if both ways took equally long; but the slow way takes
longer, so the average must lie below 70, and it does. The answer is 68.6 km per hour."""


def completions() -> list[str]:
    """Returns texts of 1 KB each, such as a model writes; each has its sentences in an order of its own."""
    chance = random.Random(7)  # noqa: S311  # no secret depends on it

    def text() -> str:
        sentences = PROSE.split(". ") * 2
        chance.shuffle(sentences)
        return ". ".join(sentences)[:CHARS].ljust(CHARS, ".")

    return [text() for _ in range(COMPLETIONS)]


async def serve_echo(ready: Path) -> None:
    """Serves a method that hands back the bytes that it got."""

    async def echo(data: bytes, _context: Any) -> bytes:
        return data

    server = grpc.aio.server(options=listening.options_of(Limits()))
    handler = grpc.method_handlers_generic_handler("Echo", {"Echo": grpc.unary_unary_rpc_method_handler(echo)})
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    ready.write_text(json.dumps({"target": f"127.0.0.1:{port}"}))  # noqa: ASYNC240  # nobody waits for this loop yet
    await server.wait_for_termination()


@contextmanager
def process(*arguments: str, ready: Path) -> Iterator[str]:
    """Yields the target of a server that runs as a process of its own, as long as the block does."""
    with (ready.parent / f"{ready.stem}.log").open("wb") as log:
        child = subprocess.Popen([sys.executable, *arguments], stderr=log)  # noqa: S603  # our own command lines
    try:
        until = time.monotonic() + 60
        while not ready.exists() or not ready.read_text():
            if child.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"the server did not start: {arguments}")
            time.sleep(0.02)
        yield json.loads(ready.read_text())["target"]
    finally:
        child.kill()
        child.wait()


def score_request(reward: str, texts: list[str]) -> pb.ScoreRequest:
    """Returns the request for one reward of the texts."""
    return pb.ScoreRequest(
        rewards=[pb.RewardSelector(name=reward)],
        batch=pb.Batch(completions=pb.TextColumn(texts=[text.encode() for text in texts])),
    )


@contextmanager
def arms(folder: Path) -> Iterator[dict[str, Callable[[], Any]]]:
    """Yields what is measured, by name: functions that make one call each."""
    texts = completions()
    with ExitStack() as stack:
        echo_ready, score_ready = folder / "echo.json", folder / "score.json"
        (folder / "server.yaml").write_text(CONFIG)
        echo_target = stack.enter_context(process(__file__, "--serve-echo", str(echo_ready), ready=echo_ready))
        serve = ["-m", "reward_server", "serve", "--config", str(folder / "server.yaml")]
        target = stack.enter_context(process(*serve, "--ready-file", str(score_ready), ready=score_ready))
        options = [("grpc.max_receive_message_length", -1)]
        echo_channel = stack.enter_context(grpc.insecure_channel(echo_target, options=options))
        channel = stack.enter_context(grpc.insecure_channel(target, options=options))
        client = stack.enter_context(RewardClient(target))
        score = channel.unary_unary(f"/{SERVICE}/Score", pb.ScoreRequest.SerializeToString, pb.ScoreResponse.FromString)
        echo = echo_channel.unary_unary("/Echo/Echo", None, None)
        requests = {reward: score_request(reward, texts) for reward in ("words", "all_words", "chars")}
        data = requests["words"].SerializeToString()
        yield {
            "echo": lambda: echo(data, timeout=30),
            "score words": lambda: score(requests["words"], timeout=30),
            "score all_words": lambda: score(requests["all_words"], timeout=30),
            "score chars": lambda: score(requests["chars"], timeout=30),
            "client words": lambda: client.score(rewards=["words"], completions=texts),
        }


def measure(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Returns each arm's times, milliseconds, one per round."""
    names = list(calls)
    times: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(WARM_UP_ROUNDS + rounds):
        start = turn % len(names)
        for name in names[start:] + names[:start]:
            began = time.perf_counter()
            calls[name]()
            if turn >= WARM_UP_ROUNDS:
                times[name].append((time.perf_counter() - began) * 1e3)
    return times


def summary(times: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Returns of each arm the median, the quartiles, and the ratio to the echo."""
    echo = times["echo"]
    rows = {}
    for name, values in times.items():
        low, median, high = statistics.quantiles(values, n=4)
        rows[name] = {
            "median_ms": median,
            "quartile_1_ms": low,
            "quartile_3_ms": high,
            "ratio_of_medians": median / statistics.median(echo),
            "median_of_ratios": statistics.median(a / b for a, b in zip(values, echo, strict=True)),
        }
    return rows


def main() -> None:
    """Measures, prints and writes."""
    keep_heap_padded()  # in all processes alike, as `reward-server serve` does
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=500)
    parser.add_argument("--serve-echo", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve_echo:
        asyncio.run(serve_echo(arguments.serve_echo))
        return
    with tempfile.TemporaryDirectory() as folder, arms(Path(folder)) as calls:
        rows = summary(measure(calls, arguments.rounds))
    print(f"{'arm':16} {'median ms':>10} {'quartiles ms':>16} {'to echo':>8} {'paired':>8}")
    for name, row in rows.items():
        quartiles = f"{row['quartile_1_ms']:.3f}-{row['quartile_3_ms']:.3f}"
        print(
            f"{name:16} {row['median_ms']:10.3f} {quartiles:>16} {row['ratio_of_medians']:8.2f} "
            f"{row['median_of_ratios']:8.2f}"
        )
    headline = rows["score words"]["ratio_of_medians"]
    print(f"score words to echo: {headline:.2f}, target: at most {TARGET_RATIO}")
    RESULTS.parent.mkdir(exist_ok=True)
    report = {
        "batch": {"completions": COMPLETIONS, "chars": CHARS},
        "rounds": arguments.rounds,
        "target_ratio": TARGET_RATIO,
        "arms": rows,
        "python": platform.python_version(),
        "grpcio": version("grpcio"),
        "protobuf": version("protobuf"),
        "machine": f"{platform.system()} {platform.machine()}",
    }
    RESULTS.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
