"""Runs that train: a tiny policy, local rewards and a scripted server."""

import json
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import grpc
import pytest
from fake_reward_server import FakeServer, verdicts
from rich.console import Console
from safetensors.torch import load_file

from protos.reward.v1 import reward_pb2 as pb
from trainer.config import ConfigError, ModelSettings, TrainConfig
from trainer.errors import ServerUnreachable
from trainer.train import Interrupted, OutOfMemory, Result, train

Make = Callable[..., TrainConfig]


def run(config: TrainConfig) -> Result:
    return train(config, Console(file=StringIO(), width=200))


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def record(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "run.json").read_text())


def remote(server: FakeServer, **settings: Any) -> dict[str, Any]:
    return {"server": server.target, "use": {"a": 1.0}, **settings}


def test_a_policy_learns_what_a_local_reward_asks_for(small_run: Make):
    grpo = {
        "max_steps": 25,
        "per_device_train_batch_size": 16,
        "num_generations": 8,
        "max_completion_length": 16,
        "learning_rate": 1e-2,
        "lr_scheduler_type": "constant",
    }
    result = run(small_run(grpo=grpo))
    first, last = result.history.first("rewards/letters/mean"), result.history.last("rewards/letters/mean")
    assert first is not None
    assert last is not None
    assert last > first + 0.3


def test_a_run_leaves_what_a_person_wants_to_have(small_run: Make, tmp_path: Path):
    config = small_run()
    result = run(config)
    assert result.folder.path == tmp_path / "run"
    for name in ("config.yaml", "run.json", "metrics.jsonl", "samples.json", "rewards.png", "report.html"):
        assert (tmp_path / "run" / name).stat().st_size > 0
    assert [row["step"] for row in metrics(tmp_path / "run")] == [1, 2]
    assert all({"rewards/letters/mean", "reward", "loss", "wall_s"} <= row.keys() for row in metrics(tmp_path / "run"))
    assert record(tmp_path / "run")["outcome"] == "finished"
    assert record(tmp_path / "run")["environment"]["trl"]
    assert (result.weights / "model.safetensors").exists()
    assert (result.weights / "tokenizer.json").exists()


def test_lora_leaves_an_adapter_that_training_can_go_on_with(small_run: Make, tiny_policy: Path, tmp_path: Path):
    model = ModelSettings.model_validate({"name": str(tiny_policy), "precision": "fp32", "lora": {"r": 4}})
    first = run(replace(small_run(grpo={"learning_rate": 1e-2}), model=model))
    assert first.weights == tmp_path / "run" / "adapter"
    assert not (tmp_path / "run" / "model").exists()
    goes_on = model.model_copy(update={"adapter": first.weights, "lora": None})
    second = run(replace(small_run(grpo={"learning_rate": 1e-2, "beta": 0.1}), model=goes_on))
    before, after = (load_file(result.weights / "adapter_model.safetensors") for result in (first, second))
    assert before.keys() == after.keys()
    assert any((before[name] != after[name]).any() for name in before)


def test_remote_and_local_rewards_stand_side_by_side(small_run: Make, server: FakeServer, tmp_path: Path):
    rewards = remote(
        server, use={"b": 0.5, "a": 2.0}, local={"letters": {"python": "my_rewards.py:letters", "weight": 3.0}}
    )
    run(small_run(rewards=rewards))
    for row in metrics(tmp_path / "run"):
        parts = [row[f"rewards/{name}/mean"] for name in ("b", "a", "letters")]
        assert row["reward"] == pytest.approx(0.5 * parts[0] + 2.0 * parts[1] + 3.0 * parts[2])
        assert row["reward_server/missing"] == 0
    assert [(each["name"], each["weight"], each["version"]) for each in record(tmp_path / "run")["rewards"]] == [
        ("b", 0.5, "b-1"),
        ("a", 2.0, "a-1"),
        ("letters", 3.0, ""),
    ]


def test_the_server_is_told_run_and_experiment_and_asked_once_a_batch(small_run: Make, server: FakeServer):
    run(small_run(rewards=remote(server, use={"a": 1, "b": 1}, experiment="first"), run={"samples_before_after": 0}))
    assert len(server.requests) == 2
    assert {each["reward-experiment"] for each in server.metadata} == {"first"}
    assert {each["reward-run-id"] for each in server.metadata} == {"run"}
    assert [each["reward-step"] for each in server.metadata] == ["0", "1"]


def test_samples_before_and_after_have_the_judges_words(small_run: Make, server: FakeServer, tmp_path: Path):
    def judged(request: pb.ScoreRequest, _: Any) -> pb.ScoreResponse:
        found = verdicts("a", [7.0, None], ["", "the judge was away"])
        found.explanations.append(pb.Explanation(sample_index=0, text=b"well said"))
        found.flags.add(name="clipped", sample_indexes=[0])
        return pb.ScoreResponse(results=[found], attempt_count=1)

    server.script.append(judged)
    run(small_run(rewards=remote(server)))
    samples = json.loads((tmp_path / "run" / "samples.json").read_text())
    assert [each["prompt"] for each in samples["before"]] == ["one", "two"]
    assert samples["before"][0]["verdicts"]["a"] == {
        "score": 7.0,
        "reason": "",
        "explanation": "well said",
        "flags": ["clipped"],
    }
    assert samples["before"][1]["verdicts"]["a"]["reason"] == "the judge was away"
    assert len(samples["after"]) == 2
    assert "well said" in (tmp_path / "run" / "report.html").read_text()


def test_the_server_is_told_which_completions_were_cut_off(small_run: Make, server: FakeServer):
    run(small_run(rewards=remote(server), run={"samples_before_after": 0}))
    for request in server.requests:
        limit = max(request.batch.completion_token_counts)  # random weights hardly ever end a completion by themselves
        cut = list(request.batch.completions_truncated)
        assert len(cut) == len(request.batch.completion_token_counts)
        assert any(cut)
        ended_early = [count < limit for count in request.batch.completion_token_counts]
        assert not any(cut[index] for index, early in enumerate(ended_early) if early)


def test_missing_verdicts_are_counted_step_by_step(small_run: Make, server: FakeServer, tmp_path: Path):
    found = verdicts("a", [1.0, None, 1.0, None], ["", "too slow", "", "too slow"])
    server.script.append(lambda request, _: pb.ScoreResponse(results=[found], attempt_count=1))
    run(small_run(rewards=remote(server), run={"samples_before_after": 0}))
    assert [row["rewards/a/missing"] for row in metrics(tmp_path / "run")] == [2.0, 0.0]


def test_a_conversation_is_trained_on_as_one(small_run: Make, tmp_path: Path):
    (tmp_path / "seen.py").write_text(
        "seen = []\ndef look(completions, prompts):\n    seen.append((prompts, completions))\n"
        "    return [float(len(c[0]['content'])) for c in completions]\n"
    )
    data = {"prompts": ["a", "b"], "system_prompt": "Be brief.", "prompt_template": "Say {prompt}"}
    run(small_run(data=data, rewards={"local": {"look": {"python": "seen.py:look"}}}, run={"samples_before_after": 1}))
    samples = json.loads((tmp_path / "run" / "samples.json").read_text())
    assert samples["before"][0]["prompt"] == "system: Be brief.\nuser: Say a"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_and_saves_what_it_has_learned(small_run: Make, tmp_path: Path, number: signal.Signals):
    (tmp_path / "stop.py").write_text(
        "import os, signal\nfrom contextlib import suppress\ncalls = []\n"
        "def stop(completions, trainer_state):\n"
        "    if trainer_state is not None and trainer_state.global_step == 1:\n"
        f"        os.kill(os.getpid(), signal.{number.name})\n"
        "    return [0.0 for _ in completions]\n"
    )
    config = small_run(rewards={"local": {"stop": {"python": "stop.py:stop"}}}, grpo={"max_steps": 50})
    handler = signal.getsignal(number)
    with pytest.raises(Interrupted) as caught:
        run(config)
    assert caught.value.exit_code == 128 + number
    assert signal.getsignal(number) is handler
    assert [row["step"] for row in metrics(tmp_path / "run")] == [1]
    assert (tmp_path / "run" / "model" / "model.safetensors").exists()
    assert record(tmp_path / "run")["outcome"] == f"stopped ({number.name})"
    assert "after 1 of 50 steps" in (tmp_path / "run" / "report.html").read_text()


def test_a_reward_that_crashes_keeps_the_metrics_so_far(small_run: Make, tmp_path: Path):
    (tmp_path / "crash.py").write_text(
        "def crash(completions, trainer_state):\n"
        "    if trainer_state is not None and trainer_state.global_step == 1:\n"
        "        raise RuntimeError('my own fault')\n"
        "    return [0.0 for _ in completions]\n"
    )
    config = small_run(rewards={"local": {"crash": {"python": "crash.py:crash"}}}, grpo={"max_steps": 50})
    with pytest.raises(RuntimeError, match="my own fault"):
        run(config)
    assert [row["step"] for row in metrics(tmp_path / "run")] == [1]
    assert record(tmp_path / "run")["outcome"] == "failed (RuntimeError: my own fault)"
    assert "my own fault" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("[1.0] * (len(completions) - 1)", "reward 'odd' returned 3 scores for 4 completions"),
        ("None", "reward 'odd' must return a list with a number, or None, for each completion"),
        (
            "['good'] * len(completions)",
            "reward 'odd' must return a list .*: could not convert string to float: 'good'",
        ),
        ("[10**400] * len(completions)", "reward 'odd' must return a list .*: int too large"),
    ],
)
def test_a_reward_that_returns_no_scores_is_named(small_run: Make, tmp_path: Path, returned: str, message: str):
    (tmp_path / "odd.py").write_text(f"def odd(completions):\n    return {returned}\n")
    with pytest.raises((TypeError, ValueError), match=message):
        run(small_run(rewards={"local": {"odd": {"python": "odd.py:odd"}}}))
    notes = json.loads((tmp_path / "run" / "samples.json").read_text())["before"][0]["verdicts"]["odd"]
    assert notes["score"] is None
    assert notes["reason"]


def test_a_reward_may_change_the_list_that_it_gets(small_run: Make, tmp_path: Path):
    (tmp_path / "pops.py").write_text(
        "def pops(completions):\n    found = []\n    while completions:\n        found.append(float(len(completions.pop())))\n"
        "    return found\n"
    )
    run(small_run(rewards={"local": {"pops": {"python": "pops.py:pops"}}}))
    assert len(metrics(tmp_path / "run")) == 2


def test_a_folder_that_cannot_be_made_is_said_in_words(small_run: Make, tmp_path: Path):
    (tmp_path / "run").write_text("a file")
    with pytest.raises(ConfigError, match=r"run\.folder: .*run cannot be made: Not a directory"):
        run(small_run())


def test_a_server_that_stays_away_ends_the_run_and_saves_what_it_has_learned(
    small_run: Make, server: FakeServer, tmp_path: Path
):
    def away(request: pb.ScoreRequest, context: grpc.ServicerContext) -> None:
        context.abort(grpc.StatusCode.UNAVAILABLE, "shutting down")

    server.script.append(lambda request, _: server.answer(request))
    server.script.extend([away] * 50)
    config = small_run(
        rewards=remote(server, on_outage="stop"), grpo={"max_steps": 50}, run={"samples_before_after": 0}
    )
    with pytest.raises(ServerUnreachable):
        run(config)
    assert [row["step"] for row in metrics(tmp_path / "run")] == [1]
    assert (tmp_path / "run" / "model" / "model.safetensors").exists()
    assert "is not reachable" in record(tmp_path / "run")["outcome"]


def test_one_seed_is_one_run(small_run: Make, tmp_path: Path):
    first, second = run(small_run()), run(small_run())
    assert second.folder.path == tmp_path / "run-2"
    kept = ("loss", "reward", "rewards/letters/mean", "entropy", "completions/mean_length")
    steps = [[{key: row[key] for key in kept} for row in metrics(result.folder.path)] for result in (first, second)]
    assert steps[0] == steps[1]


def test_an_evaluation_split_is_evaluated_before_and_after_and_marked(small_run: Make, tmp_path: Path):
    data = {"prompts": ["one", "two", "three", "four", "five", "six"], "conversational": False, "eval_share": 0.3}
    grpo = {"max_steps": 3, "eval_strategy": "steps", "eval_steps": 2, "num_generations_eval": 4}
    result = run(small_run(data=data, grpo=grpo))
    rows = metrics(tmp_path / "run")
    assert [(row["step"], row.get("eval", False)) for row in rows] == [
        (0, True),
        (1, False),
        (2, False),
        (2, True),
        (3, False),
        (3, True),
    ]
    assert all("eval_rewards/letters/mean" in row for row in rows if row.get("eval"))
    assert [step for step, _ in result.history.evaluated("rewards/letters/mean")] == [0, 2, 3]
    assert [row["step"] for row in result.history.rows] == [1, 2, 3]
    assert "held out" in result.folder.report.read_text()


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft's
def test_a_merged_model_answers_as_base_and_adapter_do(small_run: Make, tiny_policy: Path):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = ModelSettings.model_validate({"name": str(tiny_policy), "precision": "fp32", "lora": {"r": 4}})
    grpo = {"learning_rate": 1e-1, "save_strategy": "steps"}
    merged = run(replace(small_run(grpo=grpo, run={"save": "merged"}), model=model)).folder
    assert not merged.adapter.exists()
    tokens = torch.arange(12).reshape(2, 6)
    base = AutoModelForCausalLM.from_pretrained(tiny_policy)
    with torch.no_grad():
        before = base(tokens).logits
        beside = PeftModel.from_pretrained(base, merged.path / "checkpoint-2")(tokens).logits
        alone = AutoModelForCausalLM.from_pretrained(merged.model)(tokens).logits
    assert torch.allclose(alone, beside, atol=1e-5)
    assert not torch.allclose(alone, before, atol=1e-3)
    assert (merged.model / "tokenizer.json").exists()


def test_reports_go_to_the_runs_folder_under_its_name(small_run: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "tensorboardX.py").write_text(
        "from pathlib import Path\n"
        "class SummaryWriter:\n"
        "    def __init__(self, log_dir):\n"
        "        Path(log_dir).mkdir()\n"
        "        self.file = Path(log_dir, 'scalars').open('w')\n"
        "    def add_scalar(self, name, value, step):\n"
        "        print(step, name, file=self.file)\n"
        "    def add_text(self, *_): pass\n"
        "    def flush(self): pass\n"
        "    def close(self): self.file.close()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)  # not to be imported, also where it could be
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "of another run").touch()
    config = small_run(
        grpo={"report_to": ["tensorboard"], "log_completions": True, "max_steps": 1}, run={"samples_before_after": 0}
    )
    folder = run(config).folder.path
    assert folder == tmp_path / "run-2"
    assert "1 train/rewards/letters/mean" in (folder / "logs" / "scalars").read_text()
    assert list((folder / "completions").glob("*.parquet"))


def test_out_of_memory_is_answered_with_settings_and_the_model_is_saved(small_run: Make, tmp_path: Path):
    (tmp_path / "full.py").write_text(
        "import torch\n"
        "def full(completions, trainer_state):\n"
        "    if trainer_state is not None and trainer_state.global_step == 1:\n"
        "        raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 20.00 GiB')\n"
        "    return [0.0 for _ in completions]\n"
    )
    config = small_run(rewards={"local": {"full": {"python": "full.py:full"}}}, run={"samples_before_after": 0})
    with pytest.raises(OutOfMemory, match=r"grpo.gradient_checkpointing from false to true"):
        run(config)
    assert record(tmp_path / "run")["outcome"] == "failed (out of memory)"
    assert "grpo.gradient_checkpointing" in record(tmp_path / "run")["advice"]
    assert (tmp_path / "run" / "model" / "model.safetensors").exists()


def test_an_evaluation_without_a_split_is_refused(small_run: Make):
    with pytest.raises(ConfigError, match=r"there is nothing to evaluate: say data.eval_share"):
        run(small_run(grpo={"eval_strategy": "steps"}))
