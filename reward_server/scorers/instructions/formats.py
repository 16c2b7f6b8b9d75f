"""Instructions about a text's format. Lines end with a line feed only, as in IFEval's expressions."""

from __future__ import annotations

import json
from typing import ClassVar, Final

from reward_server.scorers.instructions.base import Count, Instruction, Phrase

_ANSWERS: Final = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
_FENCES: Final = ("```json", "```Json", "```JSON", "```")


class NumberOfBullets(Instruction):
    """Has exactly so many bullet points, lines that begin with `*` (not `**`) or `-` (also `---`)."""

    id: ClassVar[str] = "detectable_format:number_bullet_lists"
    num_bullets: Count

    def follows(self, text: str) -> bool:
        """Returns whether the number is right."""
        lines = [line.lstrip() for line in text.split("\n")]
        return _starred(lines) + sum(line.startswith("-") for line in lines) == self.num_bullets


def _starred(lines: list[str]) -> int:
    """Counts the lines with a `*`; one with nothing behind it counts together with the line after it, as in IFEval."""
    count, taken = 0, -1
    for place, line in enumerate(lines):
        if place == taken or not line.startswith("*") or line.startswith("**"):
            continue
        if line == "*":
            if place == len(lines) - 1:
                continue
            taken = place + 1
        count += 1
    return count


class ConstrainedResponse(Instruction):
    """Has one of `My answer is yes.`, `My answer is no.`, `My answer is maybe.` in it, in this case."""

    id: ClassVar[str] = "detectable_format:constrained_response"

    def follows(self, text: str) -> bool:
        """Returns whether one of the answers is there."""
        return any(answer in text for answer in _ANSWERS)


class NumberOfHighlights(Instruction):
    """Has at least so many highlighted parts, each on one line: `*this*` or `**this**`."""

    id: ClassVar[str] = "detectable_format:number_highlighted_sections"
    num_highlights: Count

    def follows(self, text: str) -> bool:
        """Returns whether it has enough highlights."""
        lines = (line.split("*") for line in text.split("\n") if line.count("*") > 1)
        return sum(_single(parts) + _double(parts) for parts in lines) >= self.num_highlights


def _single(parts: list[str]) -> int:
    """Counts what is not blank between one star and the next, the stars of a line taken two by two."""
    return sum(bool(part.strip()) for part in parts[1:-1:2])


def _double(parts: list[str]) -> int:
    """Counts what is not blank between two stars and two stars; nothing is between the stars of a pair."""
    count, place = 0, 1
    while place + 3 < len(parts):
        if parts[place] == parts[place + 2] == "":
            count += bool(parts[place + 1].strip())
            place += 4
        else:
            place += 1
    return count


class MultipleSections(Instruction):
    """Has at least so many sections, each marked with the word (in this case) and a number: `Section 1`."""

    id: ClassVar[str] = "detectable_format:multiple_sections"
    section_spliter: Phrase
    num_sections: Count

    def follows(self, text: str) -> bool:
        """Returns whether it has enough sections."""
        mark, count = self.section_spliter.strip(), 0
        start = text.find(mark)
        while start >= 0:
            end = start + len(mark)
            end += text[end : end + 1].isspace()
            is_numbered = text[end : end + 1].isdecimal()
            count += is_numbered
            start = text.find(mark, end + 1 if is_numbered else start + 1)
        return count >= self.num_sections


class JsonFormat(Instruction):
    """Is JSON as a whole, bare or in one Markdown fence; a lone number or text is JSON too."""

    id: ClassVar[str] = "detectable_format:json_format"

    def follows(self, text: str) -> bool:
        """Returns whether it is JSON; what is nested too deep to be read is not."""
        text = text.strip()
        for fence in _FENCES:
            text = text.removeprefix(fence)
        try:
            json.loads(text.removesuffix("```").strip())
        except (ValueError, RecursionError):
            return False
        return True


class Title(Instruction):
    """Has a title on one line in double angular brackets: `<<poem of joy>>`."""

    id: ClassVar[str] = "detectable_format:title"

    def follows(self, text: str) -> bool:
        """Returns whether there is a title that is not blank."""
        return any(_has_title(line) for line in text.split("\n"))


def _has_title(line: str) -> bool:
    start, end = line.find("<<"), line.rfind(">>")
    return 0 <= start < end - 2 and bool(line[start:end].lstrip("<").rstrip(">").strip())
