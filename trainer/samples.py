"""A few prompts answered before and after training, greedily, and scored: what a person compares first.

Needs torch and transformers; they are imported when they are needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from trainer.data import Row


@dataclass(frozen=True, slots=True)
class Note:
    """One reward's verdict on one completion, for a person."""

    score: float | None  # None = missing
    reason: str = ""  # why it is missing
    explanation: str = ""  # what the scorer said
    flags: tuple[str, ...] = ()  # "floor", "clipped", ...


@dataclass(frozen=True, slots=True)
class Sample:
    """A prompt's completion with its verdicts."""

    prompt: str
    completion: str
    verdicts: Mapping[str, Note] = field(default_factory=dict)  # by reward


Completion = str | list[dict[str, str]]
Scorer = Callable[[Sequence[Any], Sequence[Completion], Mapping[str, Sequence[Any]]], Mapping[str, Sequence[Note]]]
"""(N) prompts, (N) completions and columns of N values -> (N) verdicts by reward."""


def take_samples(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Row],
    score: Scorer,
    *,
    max_completion_tokens: int,
    chat_template_kwargs: Mapping[str, Any],
) -> list[Sample]:
    """Answers the rows' prompts greedily and scores the completions, in the shape that training has them."""
    if not rows:
        return []
    prompts = [row["prompt"] for row in rows]
    texts = _answers(model, tokenizer, prompts, max_completion_tokens, chat_template_kwargs)
    completions = [_as_completion(prompt, text) for prompt, text in zip(prompts, texts, strict=True)]
    names = [name for name in rows[0] if name != "prompt"]
    verdicts = score(prompts, completions, {name: [row[name] for row in rows] for name in names})
    return [
        Sample(readable(prompt), text, {name: notes[index] for name, notes in verdicts.items()})
        for index, (prompt, text) in enumerate(zip(prompts, texts, strict=True))
    ]


def readable(prompt: str | Sequence[Mapping[str, Any]]) -> str:
    """Returns a prompt as a person reads it: of a conversation every message, its role before all but a sole one."""
    if isinstance(prompt, str):
        return prompt
    if len(prompt) == 1:
        return str(prompt[0].get("content"))
    return "\n".join(f"{message['role']}: {message.get('content')}" for message in prompt)


def _as_completion(prompt: Any, text: str) -> Completion:
    return text if isinstance(prompt, str) else [{"role": "assistant", "content": text}]


def _answers(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Any],
    max_completion_tokens: int,
    chat_template_kwargs: Mapping[str, Any],
) -> list[str]:
    """Returns the most likely completion of each prompt, as text without special tokens."""
    import torch  # noqa: PLC0415  # seconds
    from transformers import GenerationConfig  # noqa: PLC0415  # seconds

    texts = [
        prompt
        if isinstance(prompt, str)
        else tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True, **chat_template_kwargs)
        for prompt in prompts
    ]
    # A chat template writes the special tokens itself.
    inputs = tokenizer(
        texts, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=isinstance(prompts[0], str)
    ).to(model.device)
    greedy = GenerationConfig(  # type: ignore[no-untyped-call]  # transformers' own gap
        do_sample=False,
        max_new_tokens=max_completion_tokens,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=_end_tokens(model, tokenizer),
    )
    was_training = model.training
    model.eval()
    with torch.no_grad():
        # (N, prompt tokens + completion tokens)
        tokens = model.generate(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], generation_config=greedy
        )
    model.train(was_training)
    completions = tokens[:, inputs["input_ids"].shape[1] :]
    return list(tokenizer.batch_decode(completions, skip_special_tokens=True))


def _end_tokens(model: Any, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Returns the tokens that end a completion in training: those of the model and the tokenizer's."""
    ends = model.generation_config.eos_token_id
    known = [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
    return list(dict.fromkeys([*known, *([] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id])]))
