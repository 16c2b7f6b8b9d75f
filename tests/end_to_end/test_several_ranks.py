"""Runs of several ranks on CPU, with a real reward server: the same rewards on any number of them, and none left hanging.

The ranks of most tests are forked off one process (see `rank_runs`), in one go; one test takes the launcher itself.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_multi_gpu_env
from cutting_proxy import CuttingProxy
from rank_runs import GROUP_COMPARING, prompts_and_completions
from safetensors.torch import load_file
from server_process import REPOSITORY, ServerProcess, clean_environment, free_port
from tiny_policy import save_tiny_policy

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(300)]

LAYOUTS = [(4, 8), (4, 12), (4, 4), (6, 12)]
"""Group size and completions: on 4 ranks they have 2, 3, 1 and 3 completions each, so groups straddle in all of them."""

SERVER = """
rewards:
  unlike: {diversity: {}}
  ranked: {python: {function: on_server.py:ranked, calls: group}}
  long: {python: on_server.py:long}
  whose: {python: on_server.py:whose}
"""

ON_SERVER = """
def ranked(completions, prompts):
    lengths = sorted(len(text) for text in completions)
    return [lengths.index(len(text)) / len(lengths) for text in completions]

def long(completions):
    return [len(text) / 10 for text in completions]

def whose(completions):
    import pathlib, psutil
    server = next(each.pid for each in psutil.Process().parents() if "serve" in each.cmdline())
    with pathlib.Path(__file__).with_name("servers").open("a") as file:
        file.write(f"{server}\\n")
    return [0.0 for _ in completions]
"""

HERE = """
import os, signal, time
from pathlib import Path

FOLDER = Path(__file__).parent

def brief(completions):
    return [1.0 / (1 + len(text)) for text in completions]

def second_step_of_rank_1(state):
    return os.environ["RANK"] == "1" and state.global_step == 1

def breaks(completions, trainer_state):
    if second_step_of_rank_1(trainer_state):
        raise ValueError("no luck with these")
    return [0.0 for _ in completions]

def dies(completions, trainer_state):
    if second_step_of_rank_1(trainer_state):
        os.kill(os.getpid(), signal.SIGKILL)
    return [0.0 for _ in completions]

def is_told(completions, trainer_state):
    if second_step_of_rank_1(trainer_state):
        os.kill(os.getpid(), signal.SIGTERM)
    return [0.0 for _ in completions]

def cuts(completions, trainer_state):
    if second_step_of_rank_1(trainer_state):
        (FOLDER / "cut").touch()
        while not (FOLDER / "is cut").exists():
            time.sleep(0.01)
    return [0.0 for _ in completions]
"""


class Workshop:
    """A folder with a policy, reward functions, and a server that runs."""

    def __init__(self, folder: Path, server: ServerProcess) -> None:
        self.folder = folder
        self.server = server
        self.policy = save_tiny_policy(folder / "policy")

    def config(
        self, name: str, *local: str, rows_here: int = 4, lora: Any = None, use_cpu: bool = True, **rewards: Any
    ) -> Path:
        """Writes the configuration of a run."""
        use = {"unlike": 1.0, "ranked": 0.5, "long": 0.25}
        (self.folder / name).mkdir()
        functions = self.folder / name / "here.py"
        functions.write_text(HERE)
        settings = {
            "model": {"name": str(self.policy), "precision": "fp32", "lora": lora},
            "data": {"prompts": ["One.", "Two.", "Three.", "Four."], "conversational": False},
            "rewards": {
                "server": self.server.target,
                "use": use,
                "local": {each: {"python": f"{functions}:{each}"} for each in local},
                "deadline_s": 20,
                **rewards,
            },
            "grpo": {
                "max_steps": 3,
                "num_generations": 4,
                "per_device_train_batch_size": rows_here,
                "max_completion_length": 8,
                "use_cpu": use_cpu,
                "learning_rate": 1e-3,
                "gradient_checkpointing": False,
                "save_strategy": "no",
            },
            "run": {"folder": str(self.folder / name / "run"), "samples_before_after": 0},
        }
        path = self.folder / name / "train.yaml"
        path.write_text(yaml.safe_dump(settings, sort_keys=False))
        return path

    def command(
        self, name: str, *local: str, world: int = 2, server_of_rank_1: str = "", **more: Any
    ) -> dict[str, Any]:
        """Returns the job of a run by `python -m trainer train`."""
        config = self.config(name, *local, **more)
        arguments = [["train", "--config", str(config)] for _ in range(world)]
        if server_of_rank_1:
            arguments[1] += ["--server", server_of_rank_1]
        return {"name": name, "kind": "command", "world": world, "arguments": arguments}


def fsdp_environment() -> dict[str, str]:
    """Returns what `accelerate launch` tells the processes of examples/launch/fsdp.yaml."""
    file = str(REPOSITORY / "examples" / "launch" / "fsdp.yaml")
    arguments, _, _ = _validate_launch_command(launch_command_parser().parse_args(["--config_file", file, "script.py"]))
    environment = prepare_multi_gpu_env(arguments)
    return {name: value for name, value in environment.items() if "FSDP" in name}


@dataclass
class Ended:
    """What came of a job."""

    folder: Path  # of all jobs
    name: str
    statuses: list[int | None]  # exit statuses of the ranks; None = it hung

    def said(self, rank: int) -> str:
        return (self.folder / f"{self.name}.{rank}.txt").read_text()

    def metrics(self) -> list[dict[str, Any]]:
        return metrics(self.folder / self.name)

    def outcome(self) -> str:
        return str(json.loads((self.folder / self.name / "run" / "run.json").read_text())["outcome"])

    def found(self, file: str) -> Any:
        return json.loads((self.folder / file).read_text())


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    folder = tmp_path_factory.mktemp("ranks")
    (folder / "on_server.py").write_text(ON_SERVER)
    (folder / "server.yaml").write_text(SERVER)
    with ServerProcess(folder / "server.yaml") as server:
        yield Workshop(folder, server)


def cut_when_asked(proxy: CuttingProxy, folder: Path, over: threading.Event) -> None:
    while not over.wait(0.01):
        if (folder / "cut").exists():
            proxy.close()
            (folder / "is cut").touch()
            return


@pytest.fixture(scope="module")
def ended(workshop: Workshop) -> Iterator[dict[str, Ended]]:
    """All jobs, done."""
    folder, over = workshop.folder, threading.Event()
    proxies = {name: CuttingProxy(workshop.server.target) for name in ("cut, stop", "cut, missing")}
    score = {"kind": "score", "layouts": LAYOUTS}
    jobs = [{"name": f"score {world}", "world": world, **score} for world in (1, 2, 4)]
    jobs += [
        {"name": "outage", "kind": "outage", "world": 2, "dead": f"127.0.0.1:{free_port()}"},
        {"name": "broken model", "kind": "broken model", "world": 2},
        workshop.command("healthy", "brief", world=4, rows_here=2),
        workshop.command("breaks", "breaks"),
        workshop.command("dies", "dies"),
        workshop.command("in pieces", "brief", lora={"r": 4}, use_cpu=False)
        | {"kind": "in pieces", "environment": fsdp_environment()},
        workshop.command("no such reward", use={"unlikely": 1.0}),
    ]
    for name, proxy in proxies.items():
        on_outage = name.removeprefix("cut, ")
        jobs.append(workshop.command(name, "cuts", server_of_rank_1=proxy.target, on_outage=on_outage))
        threading.Thread(target=cut_when_asked, args=(proxy, folder / name, over), daemon=True).start()
    shared = {"folder": str(folder), "policy": str(workshop.policy), "server": workshop.server.target, "limit_s": 60}
    (folder / "plan.json").write_text(json.dumps([shared | job for job in jobs]))
    script = REPOSITORY / "tests" / "support" / "rank_runs.py"
    subprocess.run(
        [sys.executable, str(script), str(folder / "plan.json")],
        env=clean_environment(PYTHONPATH=str(REPOSITORY), OMP_NUM_THREADS="1"),
        check=True,
        timeout=240,
    )
    results = json.loads((folder / "results.json").read_text())
    yield {name: Ended(folder, name, result["statuses"]) for name, result in results.items()}
    over.set()
    for proxy in proxies.values():
        proxy.close()


@pytest.mark.parametrize(("group_size", "row_count"), LAYOUTS)
@pytest.mark.parametrize("world", [2, 4])
def test_every_rank_has_the_rewards_of_a_single_one(
    ended: dict[str, Ended], world: int, group_size: int, row_count: int
):
    alone, together = ended["score 1"], ended[f"score {world}"]
    assert (alone.statuses, together.statuses) == ([0], [0] * world), together.said(0)
    batch = f"here {group_size} {row_count}"
    expected = alone.found("rewards.1.0.json")[batch]
    for rank in range(world):
        assert together.found(f"rewards.{world}.{rank}.json")[batch] == expected


def test_they_are_rewards_that_compare_within_the_group(ended: dict[str, Ended]):
    """What stock TRL makes of the same batch differs as soon as a group straddles ranks: the test above can fail."""
    alone, together = ended["score 1"].found("rewards.1.0.json"), ended["score 4"].found("rewards.4.0.json")
    for name in ("unlike", "ranked"):
        column = alone["columns"].index(name)
        whole, pieces = ([str(row[column]) for row in each["stock 4 12"]] for each in (alone, together))
        assert whole != pieces
    assert set(GROUP_COMPARING) < set(alone["columns"])


def test_a_gap_is_filled_from_the_whole_group(ended: dict[str, Ended]):
    rewards = ended["score 4"].found("rewards.4.3.json")
    column = rewards["columns"].index("sometimes")
    _, completions = prompts_and_completions(4, 12)
    given = [None if "four" in text and "six" not in text else float(len(text)) for text in completions]
    assert given[1] is None
    rest = [score for score in given[:4] if score is not None]
    assert rewards["here 4 12"][1][column] == pytest.approx(sum(rest) / len(rest), abs=1e-4)


def test_a_server_that_one_rank_cannot_reach_stops_all_or_none(ended: dict[str, Ended]):
    outage = ended["outage"]
    assert outage.statuses == [0, 0], outage.said(0) + outage.said(1)
    other, cut_off = outage.found("outage.0.json"), outage.found("outage.1.json")
    assert other["stop"].startswith("OtherRankStopped: reward 'long' failed on rank 1: ServerUnreachable")
    assert cut_off["stop"].startswith("ServerUnreachable: reward server 127.0.0.1:")
    assert other["missing"] == cut_off["missing"]
    seen, filled = ([row[0] for row in rows] for rows in (other["missing"][:4], other["missing"][4:]))
    assert filled == pytest.approx([sum(seen) / 4] * 4)


def test_a_run_on_four_ranks_finishes_and_one_of_them_speaks(ended: dict[str, Ended]):
    healthy = ended["healthy"]
    assert healthy.statuses == [0] * 4, "\n".join(map(healthy.said, range(4)))
    assert [row["step"] for row in healthy.metrics()] == [1, 2, 3]
    assert healthy.outcome() == "finished"
    assert "step 3/3" in healthy.said(0)
    assert "are split over" not in healthy.said(0)  # groups straddle here, and are whole all the same
    for rank in (1, 2, 3):
        assert "step" not in healthy.said(rank)
        assert "server" not in healthy.said(rank)
    assert (healthy.folder / "healthy" / "run" / "report.html").exists()


def test_all_ranks_end_when_the_connection_of_one_is_cut(ended: dict[str, Ended]):
    cut = ended["cut, stop"]
    assert cut.statuses == [1, 1], cut.said(0) + cut.said(1)
    assert "failed on rank 1: ServerUnreachable: reward server 127.0.0.1:" in cut.said(0)
    assert "rank 1: reward server 127.0.0.1:" in cut.said(1)
    assert cut.outcome().startswith("stopped (")
    assert (cut.folder / "cut, stop" / "run" / "model" / "config.json").exists()


def test_a_run_that_may_miss_goes_on_when_the_connection_of_one_rank_is_cut(ended: dict[str, Ended]):
    cut = ended["cut, missing"]
    assert cut.statuses == [0, 0], cut.said(0) + cut.said(1)
    missing = [row["rewards/long/missing"] for row in cut.metrics()]
    assert missing == [0, 0, 4]  # the group that rank 1 asks for, from the cut on


def test_all_ranks_end_when_a_function_raises_on_one(ended: dict[str, Ended]):
    broken = ended["breaks"]
    assert broken.statuses == [1, 1], broken.said(0) + broken.said(1)
    assert "OtherRankFailed: reward 'breaks' failed on rank 1: ValueError: no luck with these" in broken.said(0)
    assert "ValueError: no luck with these" in broken.said(1)
    assert broken.outcome().startswith("failed (")


def test_no_rank_hangs_when_one_is_killed(ended: dict[str, Ended]):
    killed = ended["dies"]
    assert killed.statuses[1] == -9
    assert killed.statuses[0] not in {0, None}, killed.said(0)
    assert killed.outcome().startswith("failed (")


def test_no_rank_hangs_when_a_reward_model_breaks_on_one(ended: dict[str, Ended]):
    broken = ended["broken model"]
    assert broken.statuses == [1, 1], broken.said(0) + broken.said(1)
    assert "OtherRankFailed: reward 'breaks' failed on rank 1: ValueError: no luck with these" in broken.said(0)
    assert "\nValueError: no luck with these" in broken.said(1)


def test_an_adapter_of_a_model_in_pieces_is_trained_and_saved_whole(ended: dict[str, Ended]):
    pieces = ended["in pieces"]
    assert pieces.statuses == [0, 0], pieces.said(0) + pieces.said(1)
    assert [row["step"] for row in pieces.metrics()] == [1, 2, 3]
    weights = load_file(pieces.folder / "in pieces" / "run" / "adapter" / "adapter_model.safetensors")
    (query,) = (value for name, value in weights.items() if "layers.0.self_attn.q_proj.lora_B" in name)
    assert query.shape == (32, 4)
    assert (query.abs().sum(dim=1) > 0).all()  # the pieces of both ranks


def test_all_ranks_hear_that_the_preflight_failed(ended: dict[str, Ended]):
    refused = ended["no such reward"]
    assert refused.statuses == [1, 1]
    assert "reward unlikely" in refused.said(0)
    assert "unlikely" not in refused.said(1)
    assert not (refused.folder / "no such reward" / "run").exists()


def launched(config: Path) -> subprocess.CompletedProcess[str]:
    """Runs the command that the documentation names, with two processes. That they take CPUs says the configuration."""
    options = "--multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no --dynamo_backend no"
    launch = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", *options.split()]
    return subprocess.run(
        [*launch, "--main_process_port", "0", "-m", "trainer", "train", "--config", str(config)],
        cwd=REPOSITORY,
        env=clean_environment(OMP_NUM_THREADS="1"),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_launched_ranks_that_one_server_serves_end_after_the_same_step_when_one_is_told(workshop: Workshop):
    """The launcher ends all ranks as soon as one has ended: by then all is saved, and the server has ended too."""
    local = {"server": f"local:{workshop.server.config}", "use": {"long": 1.0, "whose": 1.0}}
    config = workshop.config("launched", "is_told", **local)
    done = launched(config)
    assert done.returncode != 0
    assert [row["step"] for row in metrics(config.parent)] == [1, 2]
    assert json.loads((config.parent / "run" / "run.json").read_text())["outcome"] == "stopped (SIGTERM)"
    assert "rank 1: stopped (SIGTERM)" in done.stdout
    assert (config.parent / "run" / "model" / "model.safetensors").exists()
    (server,) = set((workshop.folder / "servers").read_text().split())
    assert not psutil.pid_exists(int(server))
