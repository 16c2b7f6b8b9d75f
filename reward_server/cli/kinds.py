"""`reward-server kinds`: what kinds of rewards there are, and how each is configured."""

from __future__ import annotations

import inspect
import sys
import textwrap
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Final

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from rich.table import Table
from rich.text import Text

from protos.configfile import ConfigFileError, parse
from reward_server.cli.terminal import console
from reward_server.errors import ConfigError, MissingLibrary
from reward_server.registry import SCORERS

GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "Length": ("length", "overlong"),
    "Format": ("format", "json"),
    "Answers against a reference": ("choice", "exact_match", "numeric", "token_f1", "math", "reasoning_gym"),
    "Texts against a reference": ("bleu", "chrf", "rouge"),
    "Instructions": ("instructions",),
    "What a text is like": ("keywords", "repetition", "language", "diversity"),
    "Code": ("code",),
    "Rewards made of others": ("sum", "product", "min", "max", "gate", "clip", "rescale", "cosine"),
    "Your own functions": ("python",),
    "Judges": ("judge", "jury"),
    "Other people's servers": ("endpoint", "reward_model"),
}
"""The kinds by what they are for, under the headings of docs/rewards.md."""

PLUG_INS: Final = "Plug-ins"


def list_kinds() -> int:
    """Prints every kind with the first line of what it says of itself. Returns the exit status."""
    grouped = {kind for kinds in GROUPS.values() for kind in kinds}
    others = tuple(kind for kind in SCORERS if kind not in grouped)
    table = Table("kind", "what it scores", box=None)
    broken = False
    for heading, kinds in {**GROUPS, PLUG_INS: others}.items():
        if kinds:
            table.add_row()
            table.add_row(Text(heading, style="bold"))
        for kind in kinds:
            try:
                table.add_row(f"  {kind}", _doc(SCORERS[kind]).partition("\n")[0])
            except MissingLibrary as error:  # of an extra, perhaps: it is not asked for
                table.add_row(f"  {kind}", Text(str(error), style="yellow"))
            except ConfigError as error:
                broken = True
                table.add_row(f"  {kind}", Text(str(error), style="red"))
    console().print(table)
    console().print("\n`reward-server kinds KIND` explains one: options, examples, columns, range.")
    return int(broken)


def show_kind(kind: str) -> int:
    """Prints what a kind's module says of it, and its options. Returns the exit status."""
    if kind not in SCORERS:
        close = get_close_matches(kind, list(SCORERS), n=1)
        guess = f" Did you mean {close[0]!r}?" if close else ""
        raise ConfigError(f"there is no kind {kind!r}.{guess} Known: {', '.join(SCORERS)}")
    scorer = SCORERS[kind]
    console().print(Text(_pasteable(_doc(scorer))), soft_wrap=True)
    table = Table("option", "default", "what it is", box=None)
    for name, default, words in _rows(scorer.Options):
        table.add_row(name, default, Text(words))
    console().print()
    console().print(table)
    return 0


def _doc(scorer: type[Any]) -> str:
    """Returns the docstring of the class's module, where examples stand; where there is none, the class's own.

    Of a module that has several kinds the first line is that of the class.
    """
    module = sys.modules[scorer.__module__]
    doc = inspect.cleandoc(module.__doc__ or scorer.__doc__ or "(it says nothing of itself)")
    kinds = {
        kind
        for each in vars(module).values()
        if getattr(each, "__module__", "") == module.__name__ and (kind := getattr(each, "kind", "")) in SCORERS
    }
    if len(kinds) > 1 and scorer.__doc__:
        doc = inspect.cleandoc(scorer.__doc__).partition("\n")[0] + "\n" + doc.partition("\n")[2]
    return doc


def _pasteable(doc: str) -> str:
    """Returns a docstring whose examples of rewards stand under `rewards:`, as in a configuration."""
    paragraphs = doc.split("\n\n")
    return "\n\n".join(
        textwrap.indent("rewards:\n" + textwrap.indent(example, "  "), "    ") if _is_rewards(example) else paragraph
        for paragraph, example in ((each, textwrap.dedent(each)) for each in paragraphs)
    )


def _is_rewards(text: str) -> bool:
    """Returns whether a text is YAML of rewards by name."""
    try:
        value = parse(text, "an example").value
    except ConfigFileError:
        return False
    return isinstance(value, dict) and all(
        isinstance(body, dict) and any(key in SCORERS for key in body) for body in value.values()
    )


def _rows(options: type[BaseModel]) -> Iterator[tuple[str, str, str]]:
    for name, field in options.model_fields.items():
        yield field.alias or name, _default(field), field.description or ""


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "needed"
    value = field.get_default(call_default_factory=True, validated_data={})
    value = getattr(value, "value", value)  # of an enum
    if value is None or value in ((), ""):
        return "none"
    if isinstance(value, tuple):
        return str(list(value))
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)
