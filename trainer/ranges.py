"""Settings outside of what usually works: allowed, but worth a look before a GPU is taken.

Each warning names the setting, its present value, what may come of it, and a value to try. The ranges are those of
docs/grpo.md. Needs neither torch nor TRL.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from trainer.client import CostClass, RewardInfo
from trainer.config import TrainConfig

CHARS_PER_TOKEN = 4
"""Of English text, by the tokenizers of today; other languages take more tokens, so that this is the least."""

THINKING_TOKENS = 1024
"""Less than this ends inside the thoughts of most models that think."""

JUDGE_DEADLINE_S = 60.0
"""A judge is asked several questions about each completion, and a cold one loads its model first."""

SCORE_BOUND = 2.0
"""A score, times its weight, up to which nobody has to look: about -1 to 1 is usual."""

ADAPTER_FACTOR = 10
"""An adapter takes about so many times the learning rate that whole weights take."""

_THINKERS = re.compile(r"qwen-?3|qwq|deepseek-r1|thinking|magistral|smollm3", re.IGNORECASE)
_NO_THINKERS = re.compile(r"instruct|base|coder", re.IGNORECASE)


class Arguments(Protocol):
    """What is read of TRL's `GRPOConfig`."""

    beta: float
    learning_rate: float
    num_generations: int | None
    max_completion_length: int | None


class _Range(NamedTuple):
    field: str
    low: float
    high: float
    below: str  # what comes of less
    above: str  # what comes of more


_BETA = _Range(
    "beta",
    0.01,
    0.1,
    "so little KL term hardly holds the policy back, and costs as much as more",
    "the policy can hardly leave the model that it was",
)
_GENERATIONS = _Range(
    "num_generations",
    2,
    8,
    "a group of one has nothing to be compared with",
    "time and memory of generation grow with it; only hard tasks, which few completions solve, need more",
)
_LENGTH = _Range(
    "max_completion_length",
    64,
    256,
    "most answers are cut off before they end, and a cut answer is often scored as a wrong one",
    "time and memory of generation grow with it; only long answers and thoughts need more",
)
_LEARNING_RATE = _Range(
    "learning_rate",
    1e-6,
    1e-5,
    "a hundred steps hardly move the policy",
    "the policy may run away from the model that it was: loss spikes, a high KL, broken text",
)


def unusual(arguments: Arguments, config: TrainConfig) -> Iterator[str]:
    """Yields a warning for each field of `grpo` that is outside its usual range. `beta: 0` is usual: no KL term."""
    if arguments.beta:
        yield from _outside(_BETA, arguments.beta)
    if arguments.num_generations is not None:
        yield from _outside(_GENERATIONS, arguments.num_generations)
    if arguments.max_completion_length is not None:
        yield from _length(arguments.max_completion_length, config)
    if config.trains_all_weights:
        yield from _outside(_LEARNING_RATE, arguments.learning_rate)
    else:
        adapters = _LEARNING_RATE._replace(high=ADAPTER_FACTOR * _LEARNING_RATE.high)
        yield from _outside(adapters, arguments.learning_rate, " for an adapter")


def _length(tokens: int, config: TrainConfig) -> Iterator[str]:
    if not thinks(config):
        yield from _outside(_LENGTH, tokens)
    elif tokens < THINKING_TOKENS:
        yield (
            f"grpo.max_completion_length: {tokens} tokens end inside the thoughts of a model that thinks before it answers, "
            f"as {config.model.name} does: hardly a completion would have an answer. Try grpo.chat_template_kwargs: "
            f"{{enable_thinking: false}}, or {2 * THINKING_TOKENS} tokens"
        )


def _outside(usual: _Range, value: float, whose: str = "") -> Iterator[str]:
    if usual.low <= value <= usual.high:
        return
    where, why, nearest = "above", usual.above, usual.high
    if value < usual.low:
        where, why, nearest = "below", usual.below, usual.low
    span = f"{_number(usual.low)} to {_number(usual.high)}{whose}"
    yield f"grpo.{usual.field}: {_number(value)} is {where} the usual {span}: {why}. Try {_number(nearest)}"


def _number(value: float) -> str:
    return f"{value:g}".replace("e-0", "e-")


def thinks(config: TrainConfig) -> bool:
    """Returns whether the model thinks before it answers.

    It is told to by the prompt, or its chat template knows thoughts; of a model on the hub its name has to do.
    """
    if "<think>" in f"{config.data.system_prompt}{config.data.prompt_template}":
        return True
    options = config.grpo.get("chat_template_kwargs") or {}
    if isinstance(options, Mapping) and options.get("enable_thinking") is False:
        return False
    template = _chat_template(config)
    if template is not None:
        return "<think>" in template
    name = config.model.name
    return bool(_THINKERS.search(name)) and ("thinking" in name.lower() or not _NO_THINKERS.search(name))


def _chat_template(config: TrainConfig) -> str | None:
    """Returns the template as far as a file here tells it."""
    folder = config.at(config.model.name)
    for file in (config.model.chat_template and config.at(config.model.chat_template), folder / "chat_template.jinja"):
        if file is not None and file.is_file():
            return file.read_text(encoding="utf-8", errors="replace")
    return _template_in(folder / "tokenizer_config.json")


def _template_in(file: Path) -> str | None:
    if not file.is_file():
        return None
    try:
        settings: Any = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        return None
    template = settings.get("chat_template", "") if isinstance(settings, dict) else ""
    return template if isinstance(template, str) else json.dumps(template)


def room_for_prompts(arguments: Arguments, config: TrainConfig, longest_prompt_chars: int) -> Iterator[str]:
    """Yields a warning where the longest prompt leaves no room in `max_seq_length` for a completion of full length."""
    longest, completion = config.model.max_seq_length, arguments.max_completion_length
    if longest is None or completion is None:
        return
    room = longest - completion
    tokens = longest_prompt_chars // CHARS_PER_TOKEN
    if tokens > room or room <= 0:
        enough = -(-(tokens + completion + 1) // 256) * 256
        yield (
            f"model.max_seq_length: {longest} less grpo.max_completion_length {completion} leaves {max(room, 0)} tokens for a prompt, and the longest has about {tokens} ({longest_prompt_chars} characters). Try "
            f"{enough}, shorter completions, or shorter prompts"
        )


def uneven_batch(config: TrainConfig, process_count: int) -> str | None:
    """Returns what to change where a batch cannot be cut into whole groups; None if it can."""
    grpo = config.grpo
    if grpo.get("generation_batch_size") is not None:
        return None  # then it says the batch itself
    batch, group = grpo.get("per_device_train_batch_size", 8), grpo.get("num_generations", 8)
    steps = grpo.get("steps_per_generation") or grpo.get("gradient_accumulation_steps", 1)
    if not all(isinstance(number, int) and number > 0 for number in (batch, group, steps)):
        return None  # TRL says so
    completions = batch * steps * process_count
    if completions % group == 0:
        return None
    processes = f" x {process_count} processes" if process_count > 1 else ""
    enough = next(number for number in range(1, group + 1) if batch * number * process_count % group == 0)
    return (
        f"a batch is {batch} x {steps}{processes} = {completions} completions, and that is no multiple of "
        f"grpo.num_generations {group}. Try grpo.gradient_accumulation_steps: {enough}, or "
        f"grpo.per_device_train_batch_size: {group}"
    )


def of_reward(info: RewardInfo, weight: float, deadline_s: float) -> Iterator[str]:
    """Yields a warning where a reward's scores dwarf others, or its judge is given little time."""
    bounds = [bound for bound in (info.min_score, info.max_score) if bound is not None]
    largest = max((abs(bound * weight) for bound in bounds), default=0.0)
    if largest > SCORE_BOUND:
        fitting = 1 / max(map(abs, bounds))
        yield (
            f"reward {info.name}: scores {_span(info)} at weight {weight:g} make up to {largest:g}, where about -1 to 1 is "
            f"usual: beside it other rewards hardly count. Try a weight of {fitting:.1g}, or on the server "
            f"{{rescale: {{of: {info.name}, to: [0, 1]}}}}"
        )
    if info.cost_class is CostClass.JUDGE and deadline_s < JUDGE_DEADLINE_S:
        yield (
            f"rewards.deadline_s: {deadline_s:g} s are short for {info.name}, which asks a judge: what is not graded by then "
            f"is missing. Try {2 * JUDGE_DEADLINE_S:g}"
        )


def _span(info: RewardInfo) -> str:
    low, high = (("?" if bound is None else f"{bound:g}") for bound in (info.min_score, info.max_score))
    return f"from {low} to {high}"
