"""A training run on a GPU, its rewards from a server in another process: does it learn, and what waits for what?

    python benchmarks/training.py --loader unsloth --steps 24 --out benchmarks/results/training_unsloth.json
    python benchmarks/training.py --loader transformers --ranks 2 --out benchmarks/results/training_ranks.json
    python benchmarks/training.py --small --no-judge --out /tmp/small.json           # a CPU, a minute

Takes a run's configuration (`--config`, by default the recipe `examples/recipes/qwen3_4b`) with the server's beside it, and
changes: the model (SmolLM2-135M, which `make model` fetches), the judge's engine (the same model, embedded in the server,
on the CPU), the loader, the number of steps, and what `--set` says. Then it starts the reward server, runs
`grpo-train train` on one GPU or several ranks, and meanwhile asks the driver ten times a second how busy the GPUs are.

It prints and writes as JSON, with a picture beside it: the rewards first and last; where a step's time goes (generation,
rewards with wire, queue and judge, the rest), without the first steps, which compile; which share of it the GPU is idle for
want of rewards; tokens; versions; each step. With several ranks it has a completion scored anew, alone with its group, by one
process, for each reward that a rank got, one that compares within the group among them, and says how many differ.

So small a judge can't judge: the plumbing and the times are real, its verdicts are not worth much.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import training_numbers as numbers
import training_plot
from training_gpu import gpu_names, readings
from training_numbers import Row, Wait
from training_rescored import compare
from training_server import reward_server
from training_setup import configurations, read

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parent
RECIPE: Final = ROOT / "examples" / "recipes" / "qwen3_4b" / "train.yaml"
MODELS: Final = ROOT / ".cache" / "models"
LIBRARIES: Final = (
    "torch",
    "transformers",
    "trl",
    "unsloth",
    "bitsandbytes",
    "peft",
    "accelerate",
    "datasets",
    "xllamacpp",
)
KEPT: Final = (
    "step",
    "reward",
    "rewards/",
    "time/",
    "reward_server/",
    "missing/",
    "completions/",
    "watch/",
    "kl",
    "loss",
)
KEPT_TOO: Final = ("grad_norm", "learning_rate", "num_tokens", "frac_reward_zero_std", "entropy", "wall_s")


def main() -> int:
    """Runs it; returns 1 if the training failed or a reward differs between ranks and one process."""
    options = _options()
    work = Path(tempfile.mkdtemp(prefix="training-")) if options.work is None else options.work
    work.mkdir(parents=True, exist_ok=True)
    if any(work.iterdir()):
        sys.exit(f"{work} is not empty: name another folder for --work, or empty it")
    server, train = configurations(options, work)
    with reward_server(server, work) as address:
        with readings(work / "gpu.csv") as use:
            outcome = _train(train, address, options, work)
        rescored = compare(address, work / "run", _group_size(train)) if options.ranks > 1 and not outcome else None
    rows = _json_lines(work / "run" / "metrics.jsonl")
    if outcome:
        print((work / "train.log").read_text(errors="replace")[-4000:])
        print(f"the training {outcome} after {len(rows)} steps; its files: {work}", file=sys.stderr)
        if not rows:
            return 1
    waits = [Wait(**line) for line in _json_lines(work / "waits.jsonl")]
    names = list(read(train)["rewards"]["use"])
    results = _results(options, train, rows=rows, waits=waits, use=use, names=names, rescored=rescored)
    results |= {"outcome": outcome or "finished"}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(_short(results), indent=1) + "\n", encoding="utf-8")
    _, steady = numbers.after_warm_up(rows, waits, options.warm_up)
    picture = options.out.with_suffix(".png")
    training_plot.write(picture, results["title"], rows, names, waits=numbers.merge(steady), readings=use)
    print(json.dumps(_short({key: value for key, value in results.items() if key != "steps"}), indent=1))
    print(f"results: {options.out}\npicture: {picture}\nfiles of the run: {work}")
    return int(bool(outcome) or (rescored is not None and not rescored["equal"]))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=RECIPE, help="a run's configuration, server.yaml beside it")
    parser.add_argument("--loader", choices=["auto", "transformers", "unsloth"], default="auto")
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--ranks", type=int, default=1, help="processes, a GPU each")
    parser.add_argument("--model", type=Path, default=MODELS / "smollm2-135m-instruct", help="what is trained")
    parser.add_argument("--judge", type=Path, default=MODELS / "SmolLM2-135M-Instruct.Q4_1.gguf")
    parser.add_argument("--judge-slots", type=int, default=max(1, min(4, (os.cpu_count() or 1) // 4)))
    parser.add_argument("--no-judge", action="store_true", help="rules only")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as in grpo.learning_rate=2e-4")
    parser.add_argument("--warm-up", type=int, default=2, help="first steps that no time is taken of")
    parser.add_argument(
        "--limit-s", type=float, help="the training is stopped after so many seconds; what is there counts"
    )
    parser.add_argument("--small", action="store_true", help="a tiny policy with random weights, on the CPU")
    parser.add_argument("--work", type=Path, help="an empty folder for logs and the run (default: a temporary one)")
    parser.add_argument(
        "--out", type=Path, default=HERE / "results" / "training.json", help="the JSON; a PNG beside it"
    )
    return parser.parse_args()


def _train(config: Path, address: str, options: argparse.Namespace, work: Path) -> str:
    """Runs the training to its end, or to the limit of time; returns how it went wrong, or nothing."""
    command = [sys.executable, *_launcher(options.ranks), str(HERE / "training_traced.py"), "train"]
    command += ["--config", str(config), "--server", address]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        "REWARD_WAITS": str(work / "waits.jsonl"),
        "HF_HUB_OFFLINE": "1",
        "PYTHONUNBUFFERED": "1",
    }
    with (
        (work / "train.log").open("wb") as log,
        subprocess.Popen(  # noqa: S603  # a command of our own
            command, cwd=work, env=environment, stdout=log, stderr=subprocess.STDOUT
        ) as process,
    ):
        try:
            exit_code = process.wait(options.limit_s)
        except subprocess.TimeoutExpired:
            process.terminate()  # it saves what it has, and ends
            process.wait()
            return f"was stopped at its limit of {options.limit_s:g} s"
    return f"ended with exit status {exit_code}" if exit_code else ""


def _launcher(ranks: int) -> list[str]:
    """Returns how Python is told to run a script as several processes."""
    if ranks == 1:
        return []
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [
        "-m",
        "torch.distributed.run",
        f"--nproc-per-node={ranks}",
        "--master-addr=127.0.0.1",
        f"--master-port={port}",
    ]


def _results(
    options: argparse.Namespace,
    train: Path,
    *,
    rows: Sequence[Row],
    waits: Sequence[Wait],
    use: Sequence[numbers.GpuReading],
    names: Sequence[str],
    rescored: Mapping[str, Any] | None,
) -> dict[str, Any]:
    later, steady = numbers.after_warm_up(rows, waits, options.warm_up)
    config = read(train)
    completions = numbers.completions_per_step(steady)
    bits = (
        "4-bit"
        if config["model"].get("load_in_4bit")
        else "8-bit"
        if config["model"].get("load_in_8bit")
        else "16/32-bit"
    )
    ranks = f", {options.ranks} ranks" if options.ranks > 1 else ""
    return {
        "title": f"{Path(config['model']['name']).name}, {options.loader}, {bits}, {completions} completions a step{ranks}",
        "command": " ".join(["python", "benchmarks/training.py", *sys.argv[1:]]),
        "environment": {
            "python": sys.version.split()[0],
            "cores": os.cpu_count(),
            "gpus": gpu_names(),
            **{name: version for name in LIBRARIES if (version := _version(name))},
        },
        "configuration": {key: config[key] for key in ("model", "rewards", "grpo")} | {"ranks": options.ranks},
        "steps_done": len(rows),
        "warm_up_steps": options.warm_up,
        "first_step_s": rows[0].get("time/step_s") if rows else None,
        "learning": numbers.learning(rows, names),
        "step_time": numbers.step_time(later),
        "idle": numbers.idle(later, steady, use),
        "completions_per_step": completions,
        "tokens": numbers.tokens(later, completions),
        "rescored_by_one_process": rescored,
        "steps": [
            {key: value for key, value in row.items() if key.startswith(KEPT) or key in KEPT_TOO} for row in rows
        ],
    }


def _group_size(train: Path) -> int:
    return int(read(train)["grpo"]["num_generations"])


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _json_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def _short(value: Any) -> Any:
    """Returns a result with five significant digits in its numbers."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, Mapping):
        return {key: _short(each) for key, each in value.items()}
    return [_short(each) for each in value] if isinstance(value, (list, tuple)) else value


if __name__ == "__main__":
    sys.exit(main())
