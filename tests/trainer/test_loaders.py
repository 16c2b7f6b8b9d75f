"""Who loads the model, told in words; and Unsloth, by a stand-in that writes down what it was asked for."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_unsloth import write_fake_unsloth

from trainer import models
from trainer.config import ConfigError, TrainConfig
from trainer.models import loaders

Make = Callable[..., TrainConfig]

LORA = {"precision": "bf16", "lora": {"r": 3, "alpha": 5, "dropout": 0.0}}


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """Puts the stand-in where imports find it, with a GPU beside it."""

    def install(*requirements: str) -> Path:
        folder = write_fake_unsloth(tmp_path / "site", *requirements)
        monkeypatch.syspath_prepend(str(folder))
        monkeypatch.setattr(loaders, "_has_cuda", lambda: True)
        return folder

    return install


def test_without_unsloth_transformers_loads_the_model(small_run: Make):
    assert models.chosen_loader(small_run()) == ("transformers", "unsloth is not installed")
    named = small_run(model={"loader": "transformers"})
    assert models.chosen_loader(named) == ("transformers", "model.loader says so")


def test_where_unsloth_is_and_a_gpu_it_loads_the_model(small_run: Make, installed):
    installed("trl>=1.0", "torchvision")
    config = small_run(model=LORA)
    assert models.chosen_loader(config) == ("unsloth", "it is installed, and there is a CUDA GPU")
    assert models.described(config).endswith(
        "LoRA of rank 3; loaded by unsloth (it is installed, and there is a CUDA GPU)"
    )
    assert "unsloth" not in sys.modules  # to decide it is not imported


@pytest.mark.parametrize(
    ("sections", "why"),
    [
        ({"model": {"precision": "bf16", "lora": None}}, "unsloth is asked here for adapters only"),
        ({"model": {**LORA, "precision": "fp32"}}, "unsloth does not compute in fp32"),
        ({"model": LORA, "grpo": {"use_cpu": True}}, "unsloth needs a CUDA GPU"),
    ],
)
def test_what_unsloth_cannot_do_is_done_by_transformers_and_refused_where_it_was_named(
    small_run: Make, installed, sections, why
):
    installed()
    assert models.chosen_loader(small_run(**sections)) == ("transformers", why)
    sections = {**sections, "model": {**sections["model"], "loader": "unsloth"}}
    with pytest.raises(ConfigError, match=f"^model.loader: {why}; .*take loader: transformers"):
        models.chosen_loader(small_run(**sections))


def test_a_release_that_unsloth_does_not_work_with_is_named(small_run: Make, installed):
    installed("trl<=0.1", "diffusers")
    loader, why = models.chosen_loader(small_run(model=LORA))
    assert loader == "transformers"
    assert why.startswith("unsloth 2026.10.7 does not work with trl 1.")


def test_several_processes_are_left_to_transformers_unless_unsloth_is_named(small_run: Make, installed, monkeypatch):
    installed()
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert models.chosen_loader(small_run(model=LORA)) == (
        "transformers",
        "unsloth is taken for one process, and there are 2",
    )
    assert models.chosen_loader(small_run(model={**LORA, "loader": "unsloth"})).name == "unsloth"


def test_unsloth_that_is_not_there_is_refused_with_the_remedy(small_run: Make):
    config = small_run(model={**LORA, "loader": "unsloth"})
    said = r"model\.loader: unsloth is not installed; pip install 'grpo-reward-service\[unsloth\]'"
    with pytest.raises(ConfigError, match=said):
        models.chosen_loader(config)
    with pytest.raises(ConfigError, match=said):
        models.described(config)


def test_fast_inference_is_unsloths_and_needs_vllm(small_run: Make, installed):
    with pytest.raises(
        ConfigError, match=r"fast_inference: is Unsloth's, .*\(unsloth is not installed\).*use_vllm: true"
    ):
        models.chosen_loader(small_run(model={**LORA, "fast_inference": True}))
    installed()
    with pytest.raises(ConfigError, match=r"unsloth needs vLLM for fast_inference; pip install .*\[vllm\]"):
        models.chosen_loader(small_run(model={**LORA, "fast_inference": True, "loader": "unsloth"}))


def test_the_trainer_to_subclass_is_trls_own(small_run: Make):
    from trl import GRPOTrainer

    assert models.grpo_trainer_base("transformers") is GRPOTrainer
    with pytest.raises(ConfigError, match="TRL's GRPOTrainer is GRPOTrainer in this process: start a new process"):
        models.grpo_trainer_base("unsloth")


TRAIN = """
import json, sys
from dataclasses import replace
from pathlib import Path
from rich.console import Console
from trainer import arguments, config, models
from trainer.models import loaders

loaders._has_cuda = lambda: True
settings = config.load(Path(sys.argv[1]))
loader = models.prepare(settings)
import unsloth
from trainer.train import train
grpo = arguments.grpo_arguments(settings, Path("x"))
result = train(settings, Console(file=sys.stderr))
base = models.grpo_trainer_base(loader.name)
other = arguments.grpo_arguments(replace(settings, grpo={**settings.grpo, "loss_type": "dr_grpo"}), Path("x"))
going_on = settings.model.model_copy(update={"lora": None, "adapter": result.weights})
policy = models.load_policy(replace(settings, model=going_on), models.choose_precision(going_on, use_cpu=True))
told = {
    "before": unsloth.imported_before,
    "asked": unsloth.asked,
    "base": base.__name__,
    "saved": sorted(path.name for path in result.weights.iterdir()),
    "dr_grpo": [other.loss_type, other.scale_rewards, other.beta],
    "rank": policy.model.peft_config["default"].r,
    "side": policy.tokenizer.padding_side,
    "grpo": {name: getattr(grpo, name) for name in
             ("learning_rate", "optim", "num_generations", "loss_type", "beta", "epsilon_high", "scale_rewards", "seed",
              "unsloth_num_chunks")},
}
print(json.dumps(told, default=str))
"""


def _train(config: Path, site: Path, tmp_path: Path) -> dict:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), *sys.path]), "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", TRAIN, str(config)],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.end_to_end
def test_the_same_file_trains_with_unsloth(write_config, tiny_policy: Path, tmp_path: Path):
    site = write_fake_unsloth(tmp_path / "site")
    model = {"name": str(tiny_policy), "max_seq_length": 64, **LORA}
    config = write_config(
        model=model,
        grpo={"gradient_checkpointing": True, "loss_type": "dapo", "unsloth_num_chunks": 2},
        run={"seed": 11},
    )
    told = _train(config, site, tmp_path)
    assert told["before"] == []  # neither trl nor transformers nor peft: Unsloth came first
    assert told["base"] == "UnslothGRPOTrainer"
    assert told["asked"]["from_pretrained"] == {
        "model_name": str(tiny_policy),
        "dtype": "torch.bfloat16",
        "max_seq_length": 64,
        "load_in_4bit": False,
        "load_in_8bit": False,
        "fast_inference": False,
        "use_gradient_checkpointing": "unsloth",
        "random_state": 11,
        "use_exact_model_name": True,
    }
    assert told["asked"]["get_peft_model"] == {
        "r": 3,
        "lora_alpha": 5,
        "lora_dropout": 0.0,
        "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
        "use_gradient_checkpointing": "unsloth",
        "random_state": 11,
    }
    assert "adapter_config.json" in told["saved"]
    assert told["grpo"] == {  # TRL's defaults, not those of the class that Unsloth puts in its place
        "learning_rate": 1e-6,
        "optim": "adamw_torch_fused",
        "num_generations": 2,
        "loss_type": "dapo",
        "beta": 0.0,
        "epsilon_high": 0.2,
        "scale_rewards": "group",
        "seed": 11,
        "unsloth_num_chunks": 2,
    }
    assert told["dr_grpo"] == ["dr_grpo", "group", 0.0]
    # Training that goes on with an adapter: it is put on as it is, and Unsloth's fast code under it.
    assert told["asked"]["patch_peft_model"] == {"use_gradient_checkpointing": "unsloth"}
    assert (told["rank"], told["side"]) == (3, "left")
