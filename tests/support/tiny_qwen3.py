"""A policy of the Qwen3 architecture, with Qwen3's kind of chat template, small enough to train in seconds on a CPU.

The weights are random and the tokenizer is one of bytes; what is like Qwen3 is all that rewards and trainer deal with:
<|im_start|> and <|im_end|> are special tokens, which are dropped when a completion is decoded; <think> and </think> are
tokens too, but not special, and stay. The chat template thinks by default, opens no thinking block itself, puts an empty
one into the prompt where `enable_thinking` is false, and leaves the thoughts of earlier turns out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

CHAT_TEMPLATE: Final = """
{%- set found = namespace(question=-1) %}
{%- for message in messages %}
  {%- if message.role == 'user' %}{% set found.question = loop.index0 %}{% endif %}
{%- endfor %}
{%- for message in messages %}
  {{- '<|im_start|>' + message.role + '\\n' }}
  {%- set text = message.content or '' %}
  {%- if message.role == 'assistant' %}
    {%- set thoughts = message.reasoning_content or '' %}
    {%- if '</think>' in text %}
      {%- set thoughts = text.split('</think>')[0].split('<think>')[-1].strip('\\n') %}
      {%- set text = text.split('</think>')[-1].lstrip('\\n') %}
    {%- endif %}
    {%- if loop.index0 > found.question %}{{ '<think>\\n' + thoughts + '\\n</think>\\n\\n' }}{% endif %}
  {%- endif %}
  {{- text + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
  {{- '<|im_start|>assistant\\n' }}
  {%- if enable_thinking is defined and enable_thinking is false %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}
{%- endif %}
"""
"""Written for these tests; it behaves as Qwen3's does for conversations without tools."""


def tiny_tokenizer() -> Any:
    """Returns the tokenizer: 256 bytes, three special tokens, and the two of a thinking block, which are ordinary."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bytes_alone = Tokenizer(models.BPE(vocab={sign: number for number, sign in enumerate(alphabet)}, merges=[]))
    bytes_alone.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_alone.decoder = decoders.ByteLevel()
    bytes_alone.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    bytes_alone.add_tokens([AddedToken(mark, special=False) for mark in ("<think>", "</think>")])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bytes_alone, eos_token="<|im_end|>", pad_token="<|endoftext|>", model_max_length=512
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def save_tiny_qwen3(folder: Path, *, seed: int = 3) -> Path:
    """Writes model and tokenizer to `folder`, as `from_pretrained` reads them, and returns it."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    tokenizer = tiny_tokenizer()
    tokenizer.save_pretrained(folder)
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    Qwen3ForCausalLM(config).save_pretrained(folder)
    return folder
