"""A tiny policy that ends its completions by itself: of its few tokens one is the end, so texts have lengths of their own."""

from __future__ import annotations

from pathlib import Path

from tiny_policy import save_tiny_llama

LETTERS = "abcdefghij "


def save_brief_policy(folder: Path, *, seed: int = 3) -> Path:
    """Writes model and tokenizer to `folder`, as `from_pretrained` reads them, and returns it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {character: number for number, character in enumerate(["<eos>", *LETTERS])}
    tokenizer = Tokenizer(models.WordLevel(vocab=vocabulary, unk_token="a"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<eos>").save_pretrained(folder)
    save_tiny_llama(folder, len(vocabulary), hidden_size=32, seed=seed)
    return folder
