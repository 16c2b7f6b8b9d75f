"""What is trained: number formats, adapters, chat templates, models from GGUF files."""

import importlib.machinery
import importlib.util
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import small_model
import torch
from peft import LoraConfig, get_peft_model
from tiny_policy import save_tiny_policy
from transformers import AutoModelForCausalLM, AutoTokenizer

from trainer import models
from trainer.config import ConfigError, ModelSettings, RunError, TrainConfig

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


@pytest.fixture
def pretend(monkeypatch):
    """Makes a module look as if it were installed, or were not."""

    def look(name: str, *, installed: bool) -> None:
        spec = importlib.machinery.ModuleSpec(name, None) if installed else None
        current = importlib.util.find_spec
        monkeypatch.setattr(importlib.util, "find_spec", lambda asked: spec if asked == name else current(asked))

    return look


@pytest.fixture
def with_bitsandbytes(pretend):
    pretend("bitsandbytes", installed=True)


def quantised(folder: Path, **quantization: object) -> Path:
    """A folder that looks like a model whose checkpoint is quantised."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"quantization_config": quantization}))
    return folder


NF4 = {"quant_method": "bitsandbytes", "load_in_4bit": True}


class TestQuantised:
    @pytest.mark.usefixtures("with_bitsandbytes")
    def test_it_is_said_with_the_rest(self, small_run: Make, tmp_path: Path):
        plain = small_run(model={"lora": {"r": 4}, "load_in_8bit": True})
        assert ", in 8 bits, LoRA of rank 4; loaded by transformers" in models.described(plain)
        name = str(quantised(tmp_path / "nf4", **NF4))
        for flags in ({}, {"load_in_4bit": True}):
            config = replace(plain, model=settings(name=name, **flags))
            assert ", in 4 bits, LoRA of rank 16;" in models.described(config)
        hub = replace(plain, model=settings(name="unsloth/Qwen3-4B-unsloth-bnb-4bit"))
        assert "from the Hugging Face hub, in 4 bits, LoRA" in models.described(hub)

    @pytest.mark.parametrize(
        ("checkpoint", "flags", "message"),
        [
            (
                NF4,
                {"load_in_8bit": True},
                r"model\.load_in_8bit: .* is quantised already \(bitsandbytes, 4 bits\); drop",
            ),
            (NF4, {"lora": None}, r"model\.lora: .* is quantised \(bitsandbytes\), .* train an adapter"),
            ({"quant_method": "gptq"}, {"load_in_4bit": True}, r"model\.load_in_4bit: .* quantised already \(gptq\)"),
        ],
    )
    @pytest.mark.usefixtures("with_bitsandbytes")
    def test_a_checkpoint_that_is_quantised_already(self, small_run: Make, tmp_path: Path, checkpoint, flags, message):
        name = str(quantised(tmp_path / "other", **checkpoint))
        with pytest.raises(ConfigError, match=message):
            models.described(replace(small_run(), model=settings(name=name, **flags)))

    def test_without_bitsandbytes_it_is_refused_with_the_remedy(self, small_run: Make, tmp_path: Path, pretend):
        pretend("bitsandbytes", installed=False)
        asked = small_run(model={"lora": {"r": 4}, "load_in_4bit": True})
        needed = r"needs bitsandbytes, which is not installed: pip install 'grpo-reward-service\[quantization\]'"
        with pytest.raises(ConfigError, match=rf"model\.load_in_4bit: {needed}"):
            models.described(asked)
        with pytest.raises(ConfigError, match=needed):
            models.load_policy(asked, models.choose_precision(asked.model, use_cpu=True))
        already = replace(asked, model=settings(name=str(quantised(tmp_path / "nf4", **NF4))))
        with pytest.raises(ConfigError, match=rf"model\.name: .*nf4: {needed}"):
            models.described(already)

    @pytest.mark.parametrize(
        ("model", "message"),
        [
            ({"load_in_4bit": True, "load_in_8bit": True}, "exclude each other: keep one"),
            ({"load_in_4bit": True, "lora": None}, "quantised weights cannot be trained themselves"),
        ],
    )
    def test_settings_that_exclude_each_other(self, small_run: Make, model, message):
        with pytest.raises(ConfigError, match=message):
            small_run(model={"lora": {"r": 4}, **model})


def test_where_fp16_is_computed_in_what_is_trained_is_not_bfloat16(small_run: Make):
    model = torch.nn.ModuleDict({"frozen": torch.nn.Linear(2, 2), "trained": torch.nn.Linear(2, 2)}).to(torch.bfloat16)
    model["frozen"].requires_grad_(requires_grad=False)
    models.adapter_in_its_format(model, models.Precision("bf16", torch.bfloat16, use_cpu=False))
    assert model["trained"].weight.dtype is torch.bfloat16
    models.adapter_in_its_format(model, models.Precision("fp16", torch.float16, use_cpu=False))
    assert (model["trained"].weight.dtype, model["frozen"].weight.dtype) == (torch.float32, torch.bfloat16)


class TestSaving:
    @pytest.fixture(params=["whole", "4bit", "8bit"])
    def trained(self, request, small_run: Make, tmp_path: Path):
        """A policy whose adapter has learned something."""
        name = save_tiny_policy(tmp_path / "policy", hidden_size=64)  # 4 bits are packed in blocks of 64
        flags = {}
        if request.param != "whole":
            pytest.importorskip("bitsandbytes")
            flags = {f"load_in_{request.param}": True}
        config = small_run(model={"name": str(name), "lora": {"r": 4}, **flags})
        policy = models.load_policy(config, models.choose_precision(config.model, use_cpu=True))
        model = get_peft_model(policy.model, policy.peft_config)
        torch.manual_seed(0)
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.3)
        return model.eval(), policy.tokenizer

    def test_merged_is_one_model_that_says_what_the_trained_one_says(self, trained, tmp_path: Path):
        model, tokenizer = trained
        tokens = tokenizer("what it says", return_tensors="pt")
        before = model(**tokens).logits
        models.save_weights(model, tokenizer, tmp_path / "merged", "merged")
        again = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
        assert not hasattr(again.config, "quantization_config")
        assert again.generation_config.eos_token_id == model.generation_config.eos_token_id
        # bitsandbytes rounds what is multiplied with its weights: to 8 bits, or on a CPU to bfloat16.
        tolerance = 0.05 if getattr(model, "is_quantized", False) else 1e-4
        torch.testing.assert_close(again(**tokens).logits, before, atol=tolerance, rtol=tolerance)
        torch.testing.assert_close(model(**tokens).logits, before, atol=tolerance, rtol=tolerance)  # it has not changed
        assert AutoTokenizer.from_pretrained(tmp_path / "merged").chat_template == tokenizer.chat_template

    def test_an_adapter_is_saved_without_the_one_it_is_compared_with(self, trained, tmp_path: Path):
        model, tokenizer = trained
        model.add_adapter("ref", model.peft_config["default"])
        models.save_weights(model, tokenizer, tmp_path / "adapter", "adapter")
        names = {path.name for path in (tmp_path / "adapter").iterdir()}
        assert "adapter_config.json" in names
        assert not names & {"ref", "model.safetensors"}

    def test_a_model_that_was_trained_itself_is_saved_as_it_is(self, tiny_policy: Path, tmp_path: Path):
        model = AutoModelForCausalLM.from_pretrained(tiny_policy)
        models.save_weights(model, AutoTokenizer.from_pretrained(tiny_policy), tmp_path / "model", "merged")
        again = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))

    @pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning")  # of peft 0.18
    def test_modules_that_were_trained_whole_are_merged_too(self, tiny_policy: Path, tmp_path: Path):
        base = AutoModelForCausalLM.from_pretrained(tiny_policy)
        lora = LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["lm_head"], task_type="CAUSAL_LM")
        model = get_peft_model(base, lora)
        torch.nn.init.constant_(model.base_model.model.lm_head.modules_to_save["default"].weight, 0.5)
        models.save_weights(model, AutoTokenizer.from_pretrained(tiny_policy), tmp_path / "merged", "merged")
        again = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
        assert (again.lm_head.weight == 0.5).all()

    def test_an_adapter_of_another_kind_is_refused(self, tiny_policy: Path, tmp_path: Path):
        base = AutoModelForCausalLM.from_pretrained(tiny_policy)
        model = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"], use_dora=True, task_type="CAUSAL_LM"))
        with pytest.raises(RunError, match=r"run\.save: merged cannot be done .*q_proj is no plain LoRA layer"):
            models.save_weights(model, AutoTokenizer.from_pretrained(tiny_policy), tmp_path / "merged", "merged")


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
