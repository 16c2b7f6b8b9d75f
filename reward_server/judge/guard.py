"""Keeps the texts that a judge reads from being anything but texts.

A model's host parses chat-template tokens wherever they stand in a message: `<|im_end|>` inside a completion ends the
user's turn, and what follows can pose as the system. So every token of the common model families is broken by a space
behind its first character, which reads the same to a person and is no token to any tokenizer. Control characters, and
characters that show nothing but steer, become visible.

The text then stands between two lines that carry a code made from the text itself under the judges' secret: a policy
that writes completions can't write the line that would close its own.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from reward_server.judge.secret import JudgeSecret

REVISION: Final = 3
"""Raise it with every change of what a judge sees of a text: it is part of a reward's version."""

TOKENS_FILE: Final = Path(__file__).with_name("special_tokens.txt")
CODE_CHARS: Final = 10
"""Fifty bits: unguessable within a training run, and about six tokens."""

CONTROL_PICTURES: Final = {code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\t\n"} | {
    0x7F: "\u2421"
}
"""NUL shows as U+2400, ESC as U+241B, and so on."""

INVISIBLE: Final = re.compile(
    "[\u0080-\u009f\u061c\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f\U000e0100-\U000e01ef]"
    "|(?<=[\ufe00-\ufe0f])[\ufe00-\ufe0f]"
)
"""C1 controls, direction marks, line separators; and tags and variation selectors, in which whole sentences can be
hidden. Joiners, zero-width spaces and a single selector up to U+FE0F stay: emoji and several scripts need them."""

SURROGATES: Final = re.compile("[\ud800-\udfff]")


def neutralise(text: str) -> str:
    """Returns the text with nothing left in it that a model's host or a terminal would obey. Idempotent."""
    text = SURROGATES.sub("\ufffd", text.replace("\r\n", "\n"))
    text = INVISIBLE.sub(lambda found: f"<U+{ord(found[0]):04X}>", text.translate(CONTROL_PICTURES))
    return break_tokens(text)


def break_tokens(text: str) -> str:
    """Returns the text with every special token of the common model families broken by a space. Idempotent."""
    return _token_starts().sub(r"\g<0> ", text)


class Fence:
    """Puts texts between lines that the texts themselves can't write.

    Args:
        secret: the judges' secret; the same one gives the same lines, on every replica.
    """

    def __init__(self, secret: JudgeSecret) -> None:
        self._secret = secret

    def block(self, title: str, text: str) -> str:
        """Returns the neutralised text between `BEGIN <title> <code>` and `END <title> <code>`, each on its own line."""
        title, text = " ".join(neutralise(title).split()), neutralise(text)
        code = self._code(title, text)
        return f"BEGIN {title} {code}\n{text}\nEND {title} {code}"

    def identity(self) -> Mapping[str, Any]:
        """Returns, as JSON-able data, all of the guard that shapes what a judge reads, and the secret's id."""
        tokens = hashlib.sha256(TOKENS_FILE.read_bytes()).hexdigest()[:16]
        return {"revision": REVISION, "tokens": tokens, "secret": self._secret.id}

    def _code(self, title: str, text: str) -> str:
        """Returns an HMAC of title and text: the same for the same, and unknown to whoever wrote the text."""
        digest = hmac.digest(self._secret.key, f"{title}\0{text}".encode(), "sha256")
        return base64.b32encode(digest).decode().lower()[:CODE_CHARS]


@cache
def _token_starts() -> re.Pattern[str]:
    """Returns the pattern of the first character of every special token, wherever one starts, overlapping ones too.

    The file has one regular expression a line, comments by #.
    """
    lines = [line.strip() for line in TOKENS_FILE.read_text(encoding="utf-8").splitlines()]
    tokens = "|".join(f"(?:{line})" for line in lines if line and not line.startswith("#"))
    return re.compile(rf"(?=[<>\[\]])(?={tokens}).")
