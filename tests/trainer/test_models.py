"""What is trained: number formats, adapters, chat templates, models from GGUF files."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import small_model
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from trainer import models
from trainer.config import ConfigError, ModelSettings, TrainConfig

Make = Callable[..., TrainConfig]

# peft asks transformers for a name that transformers is about to drop.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


def settings(**values: object) -> ModelSettings:
    return ModelSettings.model_validate({"name": "m", **values})


@pytest.mark.parametrize(
    ("asked", "weights"),
    [
        ({"precision": "bf16"}, torch.bfloat16),
        ({"precision": "fp32"}, torch.float32),
        ({"precision": "bf16", "lora": None}, torch.float32),
    ],
)
def test_frozen_weights_are_kept_in_the_computed_format_and_trained_ones_in_float32(asked, weights):
    assert models.choose_precision(settings(**asked), use_cpu=True).weights is weights


def test_auto_takes_bfloat16_on_a_cpu_only_where_it_is_fast(monkeypatch):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    assert models.choose_precision(settings(), use_cpu=True).name == "bf16"
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    assert models.choose_precision(settings(), use_cpu=True).name == "fp32"


@pytest.mark.parametrize(("can", "name"), [(True, "bf16"), (False, "fp16")])
def test_auto_takes_fp16_on_a_gpu_without_bfloat16(monkeypatch, can, name):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: can)
    chosen = models.choose_precision(settings())
    assert (chosen.name, chosen.use_cpu) == (name, False)


def test_fp16_on_a_cpu_is_refused():
    with pytest.raises(ConfigError, match=r"model\.precision: fp16 needs a GPU"):
        models.choose_precision(settings(precision="fp16"), use_cpu=True)


def test_a_chat_template_from_a_file_replaces_the_tokenizers(small_run: Make, tmp_path: Path):
    (tmp_path / "own.jinja").write_text("{{ messages[0]['content'] }}!")
    tokenizer = models.load_tokenizer(small_run(model={"chat_template": "own.jinja"}))
    assert tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False) == "hi!"


def test_a_tokenizer_without_padding_pads_with_the_end_of_text(small_run: Make, tiny_policy: Path, tmp_path: Path):
    tokenizer = AutoTokenizer.from_pretrained(tiny_policy)
    tokenizer.pad_token = None
    tokenizer.save_pretrained(tmp_path / "model")
    loaded = models.load_tokenizer(small_run(model={"name": str(tmp_path / "model")}))
    assert loaded.pad_token == loaded.eos_token == "<eos>"
    assert loaded.padding_side == "left"


def test_an_adapter_is_trained_on_as_it_is(small_run: Make, tiny_policy: Path, tmp_path: Path):
    base = AutoModelForCausalLM.from_pretrained(tiny_policy)
    adapted = get_peft_model(base, LoraConfig(r=3, target_modules="all-linear", task_type="CAUSAL_LM"))
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.constant_(weight, 0.25)
    adapted.save_pretrained(tmp_path / "sft")
    config = replace(small_run(), model=settings(name=str(tiny_policy), adapter="sft"))
    policy = models.load_policy(config, models.choose_precision(config.model, use_cpu=True))
    trained = {name: weight for name, weight in policy.model.named_parameters() if weight.requires_grad}
    assert policy.peft_config is None
    assert trained
    assert all("lora_" in name for name in trained)
    assert all((weight == 0.25).all() for name, weight in trained.items() if "lora_B" in name)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"name": "./none"}, "model.name: there is no folder .*none"),
        ({"name": "x.gguf"}, "x.gguf is a GGUF file; convert it once: grpo-train import-gguf x.gguf FOLDER"),
        ({"name": "EMPTY"}, "model.name: .*empty is no model: it has no config.json"),
        ({"name": "some/model"}, "some/model, from the Hugging Face hub, LoRA of rank 16"),
    ],
)
def test_what_is_trained_is_said_from_a_look_at_the_files(small_run: Make, tmp_path: Path, model, message):
    (tmp_path / "empty").mkdir()
    model = {name: value.replace("EMPTY", str(tmp_path / "empty")) for name, value in model.items()}
    config = replace(small_run(), model=settings(**model))
    try:
        said = models.described(config)
    except ConfigError as error:
        said = str(error)
    assert re.search(message, said)


def test_a_folder_that_is_no_adapter_is_named(small_run: Make, tiny_policy: Path, tmp_path: Path):
    (tmp_path / "sft").mkdir()
    config = replace(small_run(), model=settings(name=str(tiny_policy), adapter="sft"))
    with pytest.raises(ConfigError, match=r"model\.adapter: .*sft is no adapter: it has no adapter_config\.json"):
        models.described(config)


def test_a_missing_gguf_file_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match="there is no such file"):
        models.import_gguf(tmp_path / "none.gguf", tmp_path / "model")


class TestImportGguf:
    pytestmark = small_model.needs_model

    def test_a_gguf_file_becomes_a_model_that_can_be_saved_again(self, tmp_path: Path):
        models.import_gguf(small_model.PATH, tmp_path / "model")
        model = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype="auto")
        tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
        assert model.dtype is torch.bfloat16
        assert "Paris" in _greedy(model, tokenizer, "What is the capital of France?")
        model.save_pretrained(tmp_path / "again")
        assert not list(tmp_path.glob("*.part"))


def _greedy(model: AutoModelForCausalLM, tokenizer: AutoTokenizer, question: str) -> str:
    messages = [{"role": "user", "content": question}]
    inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    output = model.generate(**inputs, max_new_tokens=16, do_sample=False)
    return str(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :]))
