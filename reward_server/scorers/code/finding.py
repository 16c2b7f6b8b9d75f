"""Finds the program in a completion. Linear in its length, whatever it is."""

from __future__ import annotations

from enum import Enum
from typing import Final

ANSWER_OPENS, ANSWER_ENDS = "<answer>", "</answer>"
FENCES: Final = ("```", "~~~")
NAMES: Final = {"python": frozenset({"", "python", "python3", "py"})}
"""What may stand behind an opening fence, by language."""


class Where(Enum):
    """Where the program stands."""

    LAST_BLOCK = "last_block"  # the last fenced block of the language; without a block: the whole text
    FIRST_BLOCK = "first_block"  # the first one; likewise
    ALL_BLOCKS = "all_blocks"  # all of them, one after the other; likewise
    FENCED = "fenced"  # the last one; without a block there is no program
    WHOLE = "whole"  # the text is the program


def program_in(text: str, where: Where, language: str = "python") -> str | None:
    """Returns the program in a text; None where there is none."""
    if where is Where.WHOLE:
        return text if text.strip() else None
    answer = _answer_of(text)
    found = blocks(answer, language) or blocks(text, language)
    if not found:
        has_fence = any(line.lstrip().startswith(FENCES) for line in _lines(answer))
        return None if where is Where.FENCED or has_fence or not answer.strip() else answer
    if where is Where.ALL_BLOCKS:
        return "\n\n".join(found)
    return found[0] if where is Where.FIRST_BLOCK else found[-1]


def blocks(text: str, language: str = "python") -> list[str]:
    """Returns the fenced blocks of a language, those without its name only where none bears it.

    One that is never closed reaches to the end, and lines lose the blanks that their fence has before it, as in Markdown.
    """
    names = NAMES[language]
    found: list[tuple[bool, str]] = []  # whether the name is there, and the block
    fence, name, indent = "", "", 0
    lines: list[str] = []
    for line in _lines(text):
        bare = line.strip()
        if not fence:
            if bare.startswith(FENCES):
                fence = bare[: len(bare) - len(bare.lstrip(bare[0]))]
                name = bare[len(fence) :].strip().partition(" ")[0].lower()
                indent, lines = len(line) - len(line.lstrip(" ")), []
        elif bare.startswith(fence) and not bare.strip(fence[0]):
            if name in names:
                found.append((bool(name), "\n".join(lines)))
            fence = ""
        else:
            lines.append(line[min(indent, len(line) - len(line.lstrip(" "))) :])
    if fence and name in names:
        found.append((bool(name), "\n".join(lines)))
    there = [(named, block) for named, block in found if block.strip()]
    return [block for named, block in there if named] or [block for _, block in there]


def _answer_of(text: str) -> str:
    """Returns what the last `<answer>` element holds, to its end or that of the text; without one the text."""
    _, opened, answer = text.rpartition(ANSWER_OPENS)
    return answer.partition(ANSWER_ENDS)[0] if opened else text


def _lines(text: str) -> list[str]:
    """Returns the lines; other line ends of Unicode stay as they are: a program may have them in its texts."""
    return text.replace("\r\n", "\n").split("\n")
