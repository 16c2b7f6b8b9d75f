"""Out of memory: where it goes, and what each setting would save. An estimate from shapes; it orders, it doesn't promise.

What is assumed, per device:
- Weights: 2 bytes a parameter (4 in float32); of the layers 1 in 8 bits, 0.55 in 4 bits with their scales, while embeddings
  stay. Weights that are trained themselves take 4. With beta above 0 and no adapter there is a second copy, the reference.
- Optimizer: per trained parameter its gradient, and Adam's two moments: 4 bytes each in AdamW, 1 byte in `*_8bit`.
- Activations: 34 bytes per token, hidden unit and layer in 16 bits, attention's matrix not kept (Korthikanti et al., arXiv
  2205.05198, equation 2 without its attention term), twice that in float32. Checkpointed: 2 bytes (4), and one layer whole.
- Logits: two tensors of completion tokens x vocabulary in 4 bytes: log-probabilities and their gradient. Unsloth computes
  them in pieces: an eighth of it.
- Sequences are as long as `model.max_seq_length` says, or else as a completion; longer prompts come on top.
- Cache of generation: keys and values of all completions that one device generates at once.
The peak is weights and optimizer, and the larger of generation's cache and one backward pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

from trainer.watching.finding import Finding, Remedy, change
from trainer.watching.settings import Settings

GIB = 2**30
ACTIVATION_BYTES = 34
FOUR_BIT_BYTES = 0.55
UNSLOTH_LOGIT_PIECES = 8
SMALLEST_COMPLETION = 64  # tokens: shorter ones hardly say anything
LEAST_SAVING = 0.01
"""A remedy that saves less than this share of the whole is not worth a line."""

SIGNS = ("out of memory", "not enough memory", "can't allocate memory", "alloc_failed", "cannot allocate memory")


@dataclass(frozen=True, slots=True)
class Shape:
    """What of a model's architecture its memory depends on."""

    hidden_size: int
    layer_count: int
    vocabulary: int
    intermediate_size: int
    query_size: int  # attention heads x size of a head
    key_value_size: int  # key-value heads x size of a head
    is_tied: bool = False  # input and output embeddings are one matrix

    @classmethod
    def of(cls, config: Any) -> Self | None:
        """Reads a transformers configuration (`model.config`). None if it doesn't say what it takes."""
        get_text_config = getattr(config, "get_text_config", None)
        config = get_text_config() if callable(get_text_config) else config
        try:
            hidden, heads = int(config.hidden_size), int(config.num_attention_heads)
            head = getattr(config, "head_dim", None) or hidden // heads
            kept_heads = getattr(config, "num_key_value_heads", None) or heads
            inner = getattr(config, "intermediate_size", None) or 4 * hidden
            tied = bool(getattr(config, "tie_word_embeddings", False))
            layers, vocabulary = int(config.num_hidden_layers), int(config.vocab_size)
        except (AttributeError, TypeError, ValueError, ZeroDivisionError):
            return None
        return cls(hidden, layers, vocabulary, int(inner), heads * int(head), int(kept_heads) * int(head), tied)

    @property
    def layer_parameters(self) -> int:
        """Returns the parameters of a layer: q, k, v, o, and a gated MLP's three matrices."""
        return self.hidden_size * (2 * self.query_size + 2 * self.key_value_size + 3 * self.intermediate_size)

    @property
    def parameters(self) -> int:
        """Returns all parameters, biases and norms left out."""
        embeddings = self.vocabulary * self.hidden_size * (1 if self.is_tied else 2)
        return embeddings + self.layer_count * self.layer_parameters

    def adapter_parameters(self, rank: int) -> int:
        """Returns those of a LoRA on the seven matrices of every layer."""
        sides = 7 * self.hidden_size + 2 * self.query_size + 2 * self.key_value_size + 3 * self.intermediate_size
        return self.layer_count * rank * sides


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bytes on one device."""

    weights: float
    optimizer: float
    activations: float
    logits: float
    cache: float

    @property
    def peak(self) -> float:
        """Returns the most that is needed at once."""
        return self.weights + self.optimizer + max(self.cache, self.activations + self.logits)


def is_out_of_memory(error: BaseException | None) -> bool:
    """Returns whether an error, or what caused it, says that memory ran out, on a GPU or in the machine."""
    while error is not None:
        names = {kind.__name__ for kind in type(error).__mro__}
        if "OutOfMemoryError" in names or isinstance(error, MemoryError):
            return True
        if isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in SIGNS):
            return True
        error = error.__cause__
    return False


def estimate(settings: Settings, shape: Shape) -> Estimate:
    """Returns what a run takes, by the assumptions at the top of this module."""
    width = 2 if settings.half_precision else 4
    batch, length = settings.per_device_train_batch_size, settings.length
    trained = shape.parameters if settings.lora_rank is None else shape.adapter_parameters(settings.lora_rank)
    copies = 2 if settings.beta > 0 and settings.lora_rank is None else 1
    per_layer = batch * length * shape.hidden_size * width / 2
    kept = (
        2 * shape.layer_count + ACTIVATION_BYTES
        if settings.gradient_checkpointing
        else ACTIVATION_BYTES * shape.layer_count
    )
    logits = 2 * 4 * batch * settings.max_completion_length * shape.vocabulary
    sequences = batch * settings.steps_per_generation
    return Estimate(
        weights=copies * _weights(settings, shape, width),
        optimizer=trained * (4 + (2 if "8bit" in settings.optim else 8)),
        activations=per_layer * kept,
        logits=logits / (UNSLOTH_LOGIT_PIECES if settings.loader == "unsloth" else 1),
        cache=2 * shape.layer_count * shape.key_value_size * width * length * sequences,
    )


def _weights(settings: Settings, shape: Shape, width: int) -> float:
    if settings.lora_rank is None:
        return shape.parameters * 4
    layers = shape.layer_count * shape.layer_parameters
    layer_width = FOUR_BIT_BYTES if settings.load_in_4bit else 1 if settings.load_in_8bit else width
    return layers * layer_width + (shape.parameters - layers) * width


def finding(error: BaseException, settings: Settings, shape: Shape | None) -> Finding:
    """Returns what to say of a run that ran out of memory: the settings to change, what saves most first."""
    first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    seen = f"the run ran out of memory ({first_line})"
    if shape is None:
        return Finding(
            "memory", seen, "The model's shape is not known, so nothing is estimated", _unsized(settings), 1.0
        )
    need = estimate(settings, shape)
    parts = (
        f"weights {_size(need.weights)}, gradients and optimizer {_size(need.optimizer)}, activations "
        f"{_size(need.activations)}, logits {_size(need.logits)}, cache of generation {_size(need.cache)}"
    )
    why = f"By its shapes this run takes about {_size(need.peak)} on each device: {parts}"
    return Finding("memory", seen, why, _by_saving(settings, shape), 1.0)


def words(error: BaseException, settings: Settings, shape: Shape | None) -> str:
    """Returns the same as one text."""
    return finding(error, settings, shape).text


def _by_saving(settings: Settings, shape: Shape) -> list[Remedy]:
    whole = estimate(settings, shape).peak
    sized = []
    for remedy, changed in _options(settings):
        saved = whole - estimate(changed, shape).peak
        if saved >= LEAST_SAVING * whole:
            text = f"saves about {_size(saved)}" + (f"; {remedy.why}" if remedy.why else "")
            sized.append((saved, replace(remedy, why=text)))
    sized.sort(key=lambda each: -each[0])
    return [remedy for _, remedy in sized] or _unsized(settings)


def _unsized(settings: Settings) -> list[Remedy]:
    return [remedy for remedy, _ in _options(settings)]


def _options(settings: Settings) -> list[tuple[Remedy, Settings]]:
    """Returns each change that is still open, with the settings as they would be."""
    open_ones = (option(settings) for option in _OPTIONS)
    return [found for found in open_ones if found is not None]


_Option = Callable[[Settings], tuple[Remedy, Settings] | None]


def _fewer_generations(now: Settings) -> tuple[Remedy, Settings] | None:
    group, batch = now.num_generations, now.per_device_train_batch_size
    if group <= 2:  # noqa: PLR2004  # a group of one compares nothing
        return None
    smaller = max(1, math.ceil(batch * 2 / group))
    with_it = f"with grpo.per_device_train_batch_size from {batch} to {smaller}: alone it saves nothing"
    if smaller == batch:
        with_it = "it saves memory only where the batch shrinks with it, as Unsloth's does"
    then = replace(now, num_generations=2, per_device_train_batch_size=smaller)
    return change("grpo.num_generations", group, 2, with_it), then


def _checkpointing(now: Settings) -> tuple[Remedy, Settings] | None:
    if now.gradient_checkpointing:
        return None
    remedy = change("grpo.gradient_checkpointing", present=False, to=True, why="a step takes about a third longer")
    return remedy, replace(now, gradient_checkpointing=True)


def _shorter(now: Settings) -> tuple[Remedy, Settings] | None:
    length = now.max_completion_length
    shorter = max(SMALLEST_COMPLETION, length // 2)
    if shorter >= length:
        return None
    rest = None if now.max_seq_length is None else max(shorter, now.max_seq_length - (length - shorter))
    remedy = change("grpo.max_completion_length", length, shorter)
    return remedy, replace(now, max_completion_length=shorter, max_seq_length=rest)


def _four_bit(now: Settings) -> tuple[Remedy, Settings] | None:
    if now.load_in_4bit:
        return None
    adapter = "" if now.lora_rank is not None else "needs an adapter: drop model.lora: null"
    then = replace(now, load_in_4bit=True, load_in_8bit=False, lora_rank=now.lora_rank or 16)
    return change("model.load_in_4bit", present=False, to=True, why=adapter), then


def _smaller_batch(now: Settings) -> tuple[Remedy, Settings] | None:
    batch, accumulation = now.per_device_train_batch_size, now.gradient_accumulation_steps
    if batch <= 1:
        return None
    smaller = batch // 2
    more = round(accumulation * batch / smaller)
    remedy = change(
        "grpo.per_device_train_batch_size",
        batch,
        smaller,
        f"with grpo.gradient_accumulation_steps from {accumulation} to {more} the whole batch stays as it is",
    )
    then = replace(
        now,
        per_device_train_batch_size=smaller,
        gradient_accumulation_steps=more,
        steps_per_generation=round(now.steps_per_generation * batch / smaller),
    )
    return remedy, then


def _small_optimizer(now: Settings) -> tuple[Remedy, Settings] | None:
    if "8bit" in now.optim:
        return None
    return change("grpo.optim", now.optim, "adamw_8bit", "needs bitsandbytes"), replace(now, optim="adamw_8bit")


_OPTIONS: tuple[_Option, ...] = (
    _fewer_generations,
    _checkpointing,
    _shorter,
    _four_bit,
    _smaller_batch,
    _small_optimizer,
)


def _size(count: float) -> str:
    return f"{count / GIB:.1f} GiB" if count >= GIB / 10 else f"{max(count / 2**20, 0.1):.1f} MiB"
