"""Out of memory: which errors say so, and what is said of them; and other errors that settings have caused."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from trainer.watching import failures, memory
from trainer.watching.memory import GIB, Shape
from trainer.watching.settings import Settings

QWEN_4B = SimpleNamespace(
    hidden_size=2560,
    num_hidden_layers=36,
    vocab_size=151936,
    intermediate_size=9728,
    num_attention_heads=32,
    num_key_value_heads=8,
    head_dim=128,
    tie_word_embeddings=True,
)
SHAPE = Shape.of(QWEN_4B)
SETTINGS = Settings(
    lora_rank=16,
    num_generations=8,
    per_device_train_batch_size=8,
    gradient_checkpointing=False,
    max_completion_length=512,
)


class OutOfMemoryError(RuntimeError):
    """As torch has it, by name."""


@pytest.mark.parametrize(
    "error",
    [
        OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        RuntimeError("not enough memory: you tried to allocate 9 bytes"),
        RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"),
    ],
)
def test_memory_that_ran_out_is_told_from_other_errors(error):
    assert memory.is_out_of_memory(error)
    outer = ValueError("a reward function failed")
    outer.__cause__ = error
    assert memory.is_out_of_memory(outer)


@pytest.mark.parametrize("error", [ValueError("out of memory"), RuntimeError("shape mismatch"), None])
def test_other_errors_are_not(error):
    assert not memory.is_out_of_memory(error)


def test_a_real_error_of_the_allocator_is_one():
    import torch

    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert memory.is_out_of_memory(caught.value)


def test_the_parameters_of_a_model_are_those_that_it_has():
    assert SHAPE is not None
    assert SHAPE.parameters == pytest.approx(4.02e9, rel=0.01)  # Qwen3-4B
    assert SHAPE.adapter_parameters(16) == pytest.approx(33.0e6, rel=0.01)


def test_an_estimate_by_hand():
    shape = Shape(
        hidden_size=4, layer_count=2, vocabulary=10, intermediate_size=8, query_size=4, key_value_size=2, is_tied=True
    )
    settings = Settings(
        half_precision=False,
        max_completion_length=5,
        max_seq_length=8,
        per_device_train_batch_size=3,
        steps_per_generation=2,
        gradient_checkpointing=False,
        beta=0.0,
    )
    found = memory.estimate(settings, shape)
    parameters = 10 * 4 + 2 * 4 * (2 * 4 + 2 * 2 + 3 * 8)
    assert found.weights == 4 * parameters
    assert found.optimizer == 12 * parameters
    assert found.activations == 2 * 34 * 3 * 8 * 4 * 2
    assert found.logits == 2 * 4 * 3 * 5 * 10
    assert found.cache == 2 * 2 * 2 * 4 * 8 * 6
    assert memory.estimate(replace(settings, beta=0.1), shape).weights == 2 * found.weights


def test_it_says_what_each_change_would_save_the_largest_first():
    found = memory.finding(OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB\nmore"), SETTINGS, SHAPE)
    assert "Tried to allocate 2.00 GiB)" in found.text
    changes = [(each.setting, each.present, each.next) for each in found.remedies]
    assert changes == [
        ("grpo.num_generations", "8", "2"),
        ("grpo.gradient_checkpointing", "false", "true"),
        ("grpo.max_completion_length", "512", "256"),
        ("grpo.per_device_train_batch_size", "8", "4"),
        ("model.load_in_4bit", "false", "true"),
    ]
    assert all("saves about" in each.why for each in found.remedies)
    assert "with grpo.per_device_train_batch_size from 8 to 2: alone it saves nothing" in found.text
    assert "logits 4.6 GiB" in found.text


def test_what_is_set_already_is_not_proposed():
    least = Settings(
        lora_rank=16,
        load_in_4bit=True,
        optim="adamw_8bit",
        num_generations=2,
        per_device_train_batch_size=1,
        max_completion_length=64,
    )
    assert memory.finding(MemoryError(), least, SHAPE).remedies == []


def test_in_4_bits_the_layers_shrink_and_the_embeddings_do_not():
    assert SHAPE is not None
    whole, small = (memory.estimate(replace(SETTINGS, load_in_4bit=bits), SHAPE).weights for bits in (False, True))
    assert whole / GIB == pytest.approx(7.5, abs=0.1)
    assert small / GIB == pytest.approx(2.6, abs=0.1)


def test_unsloth_makes_logits_in_pieces():
    assert SHAPE is not None
    one, other = (memory.estimate(replace(SETTINGS, loader=name), SHAPE) for name in ("transformers", "unsloth"))
    assert other.logits == one.logits / 8


def test_a_model_of_unknown_shape_gets_the_same_advice_without_numbers():
    assert Shape.of(SimpleNamespace(hidden_size=3)) is None
    text = memory.words(MemoryError("no room"), SETTINGS, None)
    assert "grpo.gradient_checkpointing from false to true" in text
    assert "saves about" not in text


def test_generation_from_weights_that_are_nan():
    error = RuntimeError("probability tensor contains either `inf`, `nan` or element < 0")
    found = failures.finding(error, replace(SETTINGS, learning_rate=1e-3))
    assert found is not None
    assert "grpo.learning_rate from 0.001 to 5e-06" in found.text
    assert "grpo.num_generations from 8 to 2" in found.text


def test_an_error_that_no_setting_has_caused_speaks_for_itself():
    assert failures.finding(RuntimeError("my own fault"), SETTINGS) is None
    found = failures.finding(MemoryError(), SETTINGS, SimpleNamespace(config=QWEN_4B))
    assert found is not None
    assert found.illness == "memory"
