"""Instructions about what a text contains, begins or ends with, and how it is put together."""

from __future__ import annotations

from typing import ClassVar, Final

from reward_server.scorers.instructions.base import Count, Instruction, Phrase

_MARKERS: Final = {"P.P.S": ("p.", "p.", "s"), "P.S.": ("p.", "s.")}
"""Markers of a postscript in whose written form a blank may stand after each full stop."""


class NumberOfPlaceholders(Instruction):
    """Has at least so many placeholders in square brackets, each on one line: `[address]`."""

    id: ClassVar[str] = "detectable_content:number_placeholders"
    num_placeholders: Count

    def follows(self, text: str) -> bool:
        """Returns whether it has enough placeholders."""
        return sum(map(_placeholders, text.split("\n"))) >= self.num_placeholders


def _placeholders(line: str) -> int:
    count, end = 0, 0
    while (start := line.find("[", end)) >= 0 and (end := line.find("]", start) + 1) > 0:
        count += 1
    return count


class Postscript(Instruction):
    """Has the marker of a postscript somewhere, in any case; in `P.S.` and `P.P.S` a blank may follow each full stop."""

    id: ClassVar[str] = "detectable_content:postscript"
    postscript_marker: Phrase

    def follows(self, text: str) -> bool:
        """Returns whether the marker is there."""
        marker = self.postscript_marker.strip()
        return _has_spaced(text.lower(), _MARKERS.get(marker, (marker.lower(),)))


def _has_spaced(text: str, parts: tuple[str, ...]) -> bool:
    """Returns whether the parts follow one another somewhere, with at most one blank between two."""
    start = text.find(parts[0])
    while start >= 0:
        end = start + len(parts[0])
        for part in parts[1:]:
            end += text[end : end + 1].isspace()
            if not text.startswith(part, end):
                break
            end += len(part)
        else:
            return True
        start = text.find(parts[0], start + 1)
    return False


class TwoResponses(Instruction):
    """Gives two responses that differ, with `******` between them; one before or after them does no harm."""

    id: ClassVar[str] = "combination:two_responses"

    def follows(self, text: str) -> bool:
        """Returns whether there are exactly two, and two different ones."""
        responses = [response.strip() for response in text.split("******")]
        if not all(responses[1:-1]):
            return False
        given = [response for response in responses if response]
        return len(given) == 2 and given[0] != given[1]  # noqa: PLR2004  # it is called so


class RepeatPrompt(Instruction):
    """Begins with the request, word for word, in any case."""

    id: ClassVar[str] = "combination:repeat_prompt"
    prompt_to_repeat: Phrase

    def follows(self, text: str) -> bool:
        """Returns whether it begins with the request."""
        return text.strip().lower().startswith(self.prompt_to_repeat.strip().lower())


class EndChecker(Instruction):
    """Ends with the phrase, in any case; double quotes may follow."""

    id: ClassVar[str] = "startend:end_checker"
    end_phrase: Phrase

    def follows(self, text: str) -> bool:
        """Returns whether it ends with the phrase."""
        return text.strip().strip('"').lower().endswith(self.end_phrase.strip().lower())


class Quotation(Instruction):
    """Begins and ends with a straight double quote."""

    id: ClassVar[str] = "startend:quotation"

    def follows(self, text: str) -> bool:
        """Returns whether it stands in double quotes."""
        text = text.strip()
        return len(text) > 1 and text.startswith('"') and text.endswith('"')


class NoComma(Instruction):
    """Has no comma; commas of other scripts are none."""

    id: ClassVar[str] = "punctuation:no_comma"

    def follows(self, text: str) -> bool:
        """Returns whether it has no comma."""
        return "," not in text
