"""A YAML file in, a checked configuration or all its problems out. Nothing is started and no host is asked."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import BaseModel

from protos.configfile import ConfigFileError, Document, Place, Problem, did_you_mean, dotted, found, read, validated
from reward_server.config import checks, edge
from reward_server.config.models import (
    EngineConfig,
    FileShape,
    RewardConfig,
    RewardFrame,
    ServerConfig,
)
from reward_server.errors import ConfigError
from reward_server.judge.options import JudgeOptions, rubric_of
from reward_server.registry import ENGINES, SCORERS

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
"""What a reward's name may be, since it names metrics too; engines and judges follow the same rule."""

SPEAK_OPENAI: Final = frozenset({"vllm", "sglang", "tgi", "llamacpp", "llama_cpp", "lmstudio", "litellm"})
"""What one may take for a kind of engine, and is a server that the kind `openai` asks."""

WEIGHTS: Final = frozenset({"weight", "weights", "reward_weight", "reward_weights"})

Kinds = Mapping[str, type[Any]]
T = TypeVar("T")


def load(
    path: Path | str, *, listen: str | None = None, scorers: Kinds = SCORERS, engines: Kinds = ENGINES
) -> ServerConfig:
    """Returns the configuration in a YAML file.

    Args:
        path: the file. Relative paths in it start at its folder.
        listen: an address to take instead of the file's.
        scorers: classes of scorers by kind.
        engines: classes of engines by kind.

    Raises:
        ConfigError: with all that is wrong, one problem a line: file, line, key, what is wrong, what would be right.
    """
    path = Path(path)
    try:
        document = read(path, if_absent="`reward-server example` prints one to start from")
    except ConfigFileError as error:
        raise ConfigError(*error.problems) from None
    config = _Loader(path, document, scorers, engines).config()
    if listen is not None:
        try:
            listen = edge.address(listen, Path.cwd())
        except ValueError as error:
            document.problems.append(Problem("--listen", None, (), str(error)))
    if document.problems or config is None:
        raise ConfigError(*document.problem_lines())
    return config if listen is None else config.model_copy(update={"listen": listen})


def _stray(key: str, kinds: Kinds, beside: tuple[str, ...], *, has_kind: bool) -> str:
    """Returns what to say of a key that is no kind and may not stand beside one."""
    if "openai" in kinds and key.lower() in SPEAK_OPENAI:
        return f"is no kind of its own: for its OpenAI-compatible server take 'openai'; known: {', '.join(kinds)}"
    if "sum" in kinds and key in WEIGHTS:
        return "is nothing that a reward has: weights stand in `sum`, or in the trainer (reward_weights)"
    meant = did_you_mean(key, [*kinds, *beside]) or ";"
    aside = ", ".join(beside)
    if has_kind:
        rest = f"known: {aside}" if beside else "nothing stands beside the kind"
        return f"unknown key{meant} {rest} (a kind's own options stand under the kind)"
    also = f"; beside the kind may stand: {aside}" if beside else ""
    return f"unknown kind{meant} known: {', '.join(kinds)}{also} (of a plug-in? install its package)"


class _Loader:
    """Reads one document. What it can't use it leaves out and complains of, so that all is found in one go."""

    def __init__(self, path: Path, document: Document, scorers: Kinds, engines: Kinds) -> None:
        self._path = path
        self._folder = path.absolute().parent
        self._document = document
        self._scorers = scorers
        self._engines = engines

    def config(self) -> ServerConfig | None:
        """Returns the configuration, or None if too little of it is readable. Only right without complaints."""
        raw = self._document.value
        if not isinstance(raw, dict):
            example = "rewards: {brevity: {length: {unit: words, target: 10, width: 30}}}"
            self._complain((), f"must be a mapping that names rewards, such as {example}{self._found(raw, ())}")
            return None
        shape = self._shape(raw)
        engines = self._entries(raw, "engines", self._engine)
        judges = self._entries(raw, "judges", self._judge)
        rewards = self._entries(raw, "rewards", self._reward)
        checks.references(judges, rewards, self._document)
        if shape is None:
            return None
        return ServerConfig(
            path=self._path,
            folder=self._folder,
            listen=self._listen(shape.listen),
            auth=edge.auth_of(shape.auth, self._folder, self._document) if shape.auth else None,
            tls=edge.tls_of(shape.tls, self._folder, self._document) if shape.tls else None,
            limits=shape.limits,
            drain=shape.drain,
            workers=shape.workers,
            secret_file=edge.secret_file(shape.secret_file, self._folder),
            engines=engines,
            judges=judges,
            rewards=rewards,
            lines={dotted(place): mark.line for place, mark in self._document.marks.items()},
        )

    def _shape(self, raw: dict[str, Any]) -> FileShape | None:
        for key in ("auth", "tls"):
            if key in raw and raw[key] is None:  # else a section with all its keys commented out would mean "none"
                self._complain((key,), "is empty: give its keys, or remove it")
        if raw.get("rewards") == {}:
            self._complain(("rewards",), "must not be empty: a server needs at least one reward")
        return validated(FileShape, raw, (), self._document)

    def _entries(self, raw: dict[str, Any], section: str, read_one: Callable[[str, Any], T | None]) -> dict[str, T]:
        entries = raw.get(section)
        if not isinstance(entries, dict):
            return {}  # absent, or complained of by FileShape
        for name in entries:
            if not NAME.fullmatch(name):
                rule = "1 to 100 letters, digits, '_', '-' or '.', the first a letter or digit"
                self._complain((section, name), f"is no name: it needs {rule}")
        read_entries = {name: read_one(name, body) for name, body in entries.items()}
        return {name: entry for name, entry in read_entries.items() if entry is not None}

    def _engine(self, name: str, body: Any) -> EngineConfig | None:
        place = ("engines", name)
        kind = self._kind(body, place, self._engines, ())
        options = self._options(self._engines, kind, body, place) if kind else None
        return EngineConfig(name=name, kind=kind, options=options) if kind and options else None

    def _judge(self, name: str, body: Any) -> JudgeOptions | None:
        options = validated(JudgeOptions, body, ("judges", name), self._document)
        if options:
            before = len(self._document.problems)
            checks.outside(options, ("judges", name), self._folder, self._document)
            if len(self._document.problems) == before:
                self._check_rubric(name, options)
        return options

    def _check_rubric(self, name: str, options: JudgeOptions) -> None:
        try:
            rubric_of(name, options, self._folder)
        except ConfigError as error:
            for problem in error.problems:
                key, _, words = problem.removeprefix(f"judges.{name}.").partition(": ")
                self._complain(("judges", name, key), words)

    def _reward(self, name: str, body: Any) -> RewardConfig | None:
        place = ("rewards", name)
        beside = tuple(RewardFrame.model_fields)
        kind = self._kind(body, place, self._scorers, beside)
        if not isinstance(body, dict):
            return None
        frame = validated(RewardFrame, {key: body[key] for key in beside if key in body}, place, self._document)
        options = self._options(self._scorers, kind, body, place) if kind else None
        if frame is None or kind is None or options is None:
            return None
        if "view" in body and checks.rewards_used(options):
            self._complain(
                (*place, "view"), "has no effect on a reward made of others, which keep their own: remove it"
            )
        if refused := checks.view_refused(options, frame.view):
            self._complain((*place, "view"), refused)
        return RewardConfig(name=name, kind=kind, options=options, **dict(frame))

    def _kind(self, body: Any, place: Place, kinds: Kinds, beside: tuple[str, ...]) -> str | None:
        """Returns the one kind that an entry names, or None after it has complained."""
        if not isinstance(body, dict):
            self._complain(
                place, f"must be a mapping with its kind as key ({', '.join(kinds)}){self._found(body, place)}"
            )
            return None
        named = [key for key in body if key in kinds]
        for key in body:
            if key not in kinds and key not in beside:
                self._complain((*place, key), _stray(key, kinds, beside, has_kind=bool(named)))
        if not named and not set(body) - set(beside):
            self._complain(place, f"lacks its kind: one of {', '.join(kinds)}")
        if len(named) > 1:
            combine = "; to combine rewards give each a name and use 'sum'" if "sum" in kinds else ""
            self._complain(place, f"has {len(named)} kinds, {' and '.join(named)}: keep one{combine}")
        return named[0] if len(named) == 1 else None

    def _options(self, kinds: Kinds, kind: str, body: dict[str, Any], place: Place) -> BaseModel | None:
        """Returns the options that stand under a kind, a bare value put where the kind wants it."""
        place, value = (*place, kind), body[kind]
        try:
            model: type[BaseModel] = kinds[kind].Options
        except ConfigError as error:  # a plug-in that can't be loaded
            self._complain(place, str(error))
            return None
        shorthand: str | None = getattr(model, "shorthand", None)
        if value is None:
            value = {}
        elif not isinstance(value, dict) and shorthand:
            value = {shorthand: value}
        options = validated(model, value, place, self._document)
        if options:
            checks.outside(options, place, self._folder, self._document)
        return options

    def _listen(self, text: str) -> str:
        try:
            return edge.address(text, self._folder)
        except ValueError as error:
            self._complain(("listen",), str(error))
            return text

    def _complain(self, place: Place, words: str) -> None:
        self._document.complain(place, words)

    def _found(self, value: Any, place: Place) -> str:
        return found(value, place, self._document)
