"""Kinds of scorers and engines by the key that the configuration uses for them.

Built-in kinds and those of installed plug-ins come through the same door: entry points. A plug-in's distribution
declares its scorers in its pyproject.toml:

    [project.entry-points."reward_server.scorers"]
    rhyme = "my_package.rhyme:Rhyme"

Nothing is imported before a configuration names the kind, so a broken plug-in breaks only those who use it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from inspect import isabstract, isclass
from typing import Any, Final

from pydantic import BaseModel

from reward_server.errors import ConfigError, MissingLibrary, without_library

SCORER_GROUP: Final = "reward_server.scorers"
ENGINE_GROUP: Final = "reward_server.engines"

BUILT_IN_SCORERS: Final = {
    "bleu": "reward_server.scorers.overlap.bleu:Bleu",
    "choice": "reward_server.scorers.answers.choice:Choice",
    "chrf": "reward_server.scorers.overlap.chrf:ChrF",
    "clip": "reward_server.scorers.recipes.affine:Clip",
    "code": "reward_server.scorers.code.scorer:Code",
    "cosine": "reward_server.scorers.recipes.cosine:Cosine",
    "diversity": "reward_server.scorers.diversity:Diversity",
    "endpoint": "reward_server.scorers.endpoints.get_reward:Endpoint",
    "exact_match": "reward_server.scorers.answers.exact:ExactMatch",
    "format": "reward_server.scorers.format:Format",
    "gate": "reward_server.scorers.recipes.gate:Gate",
    "instructions": "reward_server.scorers.instructions.scorer:Instructions",
    "json": "reward_server.scorers.json_text:Json",
    "judge": "reward_server.scorers.judge:JudgeScorer",
    "jury": "reward_server.scorers.jury:Jury",
    "keywords": "reward_server.scorers.keywords:Keywords",
    "language": "reward_server.scorers.language:Language",
    "length": "reward_server.scorers.length:Length",
    "math": "reward_server.scorers.math.equivalence:MathEquivalence",
    "max": "reward_server.scorers.recipes.extremes:Max",
    "min": "reward_server.scorers.recipes.extremes:Min",
    "numeric": "reward_server.scorers.answers.numeric:Numeric",
    "overlong": "reward_server.scorers.overlong:Overlong",
    "product": "reward_server.scorers.recipes.product:Product",
    "python": "reward_server.scorers.python.scorer:PythonScorer",
    "reasoning_gym": "reward_server.scorers.reasoning_gym:ReasoningGym",
    "repetition": "reward_server.scorers.repetition:Repetition",
    "rescale": "reward_server.scorers.recipes.affine:Rescale",
    "reward_model": "reward_server.scorers.endpoints.reward_model:RewardModel",
    "rouge": "reward_server.scorers.overlap.rouge:Rouge",
    "sum": "reward_server.scorers.recipes.sum:Sum",
    "token_f1": "reward_server.scorers.answers.token_f1:TokenF1",
}
BUILT_IN_ENGINES: Final = {
    "embedded": "reward_server.engines.embedded.engine:Embedded",
    "ollama": "reward_server.engines.ollama.engine:Ollama",
    "openai": "reward_server.engines.openai.engine:OpenAI",
}
EXTRAS: Final = {"embedded": "embedded", "reasoning_gym": "reasoning-gym"}
"""Extras that kinds need; all others need what `server` brings."""


class Kinds(Mapping[str, type[Any]]):
    """A mapping from a kind's name to its class, imported when it is first asked for.

    `kinds[name]` raises `KeyError` for a name that nobody offers, and `ConfigError` for one that two distributions
    offer or whose class cannot be loaded; the message names the distribution, or the library that a built-in kind lacks.
    """

    def __init__(self, what: str, members: tuple[str, ...], offers: Iterable[EntryPoint]) -> None:
        self._what = what  # "scorer" or "engine", for messages
        self._members = members  # what a class of this sort must have
        self._offers: dict[str, list[EntryPoint]] = {}
        for offer in offers:
            self._offers.setdefault(offer.name, []).append(offer)
        self._loaded: dict[str, type[Any]] = {}

    def __getitem__(self, name: str) -> type[Any]:
        if name not in self._loaded:
            self._loaded[name] = self._load(name, self._offers[name])
        return self._loaded[name]

    def __contains__(self, name: object) -> bool:  # Mapping's own would load the class
        return name in self._offers

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._offers))

    def __len__(self) -> int:
        return len(self._offers)

    def origin(self, name: str) -> str:
        """Returns the distribution that offers a kind, and its version; empty for what is built in."""
        dist = self._offers[name][0].dist
        return f"{dist.name} {dist.version}" if dist else ""

    def _load(self, name: str, offers: list[EntryPoint]) -> type[Any]:
        if len({offer.value for offer in offers}) > 1:
            listed = ", ".join(_origin(offer) for offer in offers)
            raise ConfigError(
                f"the {self._what} kind {name!r} is offered more than once: {listed}. Uninstall all but one."
            )
        offer = offers[0]
        try:
            loaded = offer.load()
        except Exception as error:
            own, extra = offer.module.partition(".")[0], EXTRAS.get(name, "server")
            if offer.dist is None and (remedy := without_library(error, own=own, extra=extra)):
                raise MissingLibrary(remedy) from error
            raise ConfigError(
                f"the {self._what} kind {name!r} cannot be loaded from {_origin(offer)}: {type(error).__name__}: {error}"
            ) from error
        missing = [member for member in self._members if not hasattr(loaded, member)]
        if isabstract(loaded):
            missing += sorted(loaded.__abstractmethods__)
        if not isclass(loaded) or missing or not _has_options(loaded):
            lacks = f"lacks {', '.join(missing)}" if missing else "has no class `Options` of pydantic's BaseModel"
            raise ConfigError(
                f"the {self._what} kind {name!r} from {_origin(offer)} is no {self._what} class: it {lacks}"
            )
        return loaded


def _origin(offer: EntryPoint) -> str:
    """Names where an offer comes from, for messages: the object and the distribution that declares it."""
    return f"{offer.value} ({offer.dist.name} {offer.dist.version})" if offer.dist else f"{offer.value} (built in)"


def _has_options(loaded: Any) -> bool:
    options = getattr(loaded, "Options", None)
    return isclass(options) and issubclass(options, BaseModel)


def _offers(group: str, built_in: Mapping[str, str]) -> list[EntryPoint]:
    """Lists what is built in and what installed distributions declare, as one kind of thing."""
    return [EntryPoint(name, value, group) for name, value in built_in.items()] + list(entry_points(group=group))


SCORERS: Final = Kinds(
    "scorer", ("kind", "start", "close", "identity", "health", "score"), _offers(SCORER_GROUP, BUILT_IN_SCORERS)
)
"""Classes of scorers by kind; each has `Options` and is made as `cls(options, context)`."""

ENGINES: Final = Kinds(
    "engine",
    (
        *("kind", "context_tokens", "gives_logprobs", "keep_warm", "start", "close"),
        *("run", "count_tokens", "check", "health", "identity"),
    ),
    _offers(ENGINE_GROUP, BUILT_IN_ENGINES),
)
"""Classes of engines by kind; each has `Options` and is made as `cls(name, options, folder)`."""
