"""What a protocol is: inputs in, a request out; its answer in, a reading for each input out."""

from __future__ import annotations

import abc
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, ClassVar, Final, Literal

from reward_server.errors import BadAnswer, EngineError, HostBusy, HostRefused, ModelMissing, PromptTooLong
from reward_server.http.complaints import (
    Addressee,
    Complaint,
    complaint_of,
    error_for,
    excerpt,
)
from reward_server.http.host import Reply
from reward_server.scorers.endpoints.readings import Reading
from reward_server.scorers.endpoints.texts import Input, InputForm

TooLong = Literal["refuse", "keep_begin", "keep_end"]
Rows = Literal["only", "last", "min", "mean"]

TOO_LONG: Final = re.compile(r"must have less than \d+ (?:tokens|characters)", re.IGNORECASE)
"""How text-embeddings-inference says that a text is too long; `complaints` knows the others."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a server tells of itself."""

    model: Mapping[str, Any]  # whatever identifies its model; empty where it tells nothing
    most_in_batch: int | None = None


@dataclass(frozen=True, slots=True)
class Manner:
    """What the options say about how to ask."""

    model: str | None
    too_long: TooLong
    rows: Rows


class Protocol(abc.ABC):
    """One kind of server.

    Args:
        to: how messages name it.
        manner: how it is asked.
    """

    forms: ClassVar[tuple[InputForm, ...]]  # the inputs that it takes, the usual one first
    cuts: ClassVar[bool] = False  # it can be told to cut long texts
    path: ClassVar[str]
    looks_at: ClassVar[str]  # a path that costs nothing and tells about the model

    def __init__(self, to: Addressee, manner: Manner) -> None:
        self._to, self._manner = to, manner

    def parts(self, inputs: Mapping[int, Input], batch: int) -> list[list[int]]:
        """Returns which inputs go together into one request."""
        places = list(inputs)
        return [places[start : start + batch] for start in range(0, len(places), batch)]

    @abc.abstractmethod
    def body(self, inputs: Sequence[Input]) -> dict[str, Any]:
        """Returns the request for these inputs."""

    @abc.abstractmethod
    def readings(self, said: Any, count: int) -> list[Reading]:
        """Returns what was told of each of `count` inputs, in their order. Raises `BadAnswer`."""

    @abc.abstractmethod
    def told(self, said: Any) -> Told:
        """Returns what the server tells of itself. Raises `EngineError` where it does not serve the configured model."""

    def read(self, reply: Reply, count: int) -> list[Reading]:
        """Returns what an answer tells of each of `count` inputs. Raises `EngineError`."""
        try:
            found = self.readings(json_in(reply, self._to), count)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
            shape = excerpt(reply.text()[:2000])
            raise BadAnswer(f"{self._to.label}: not the answer that it should be ({error!r}): {shape}") from error
        if len(found) != count:
            raise BadAnswer(f"{self._to.label}: it told {len(found)} rewards for {count} texts")
        return found

    async def look(self, get: Callable[[str], Any]) -> Told:
        """Returns what the server tells of itself when it is looked at. Raises `EngineError`."""
        reply: Reply = await get(self.looks_at)
        if reply.status in (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED):
            return Told({})  # there is a server, which tells nothing
        if reply.status != HTTPStatus.OK:
            raise self.refusal(self._to, reply.status, complaint_of(reply))
        try:
            return self.told(json_in(reply, self._to))
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
            return Told({})

    def refusal(self, to: Addressee, status: int, complaint: Complaint) -> EngineError:
        """Returns the error that an answer means whose status is none of success."""
        if TOO_LONG.search(complaint.message):
            return PromptTooLong(f"{to.label}: the text is too long for its model ({complaint.message})")
        return error_for(to, status, complaint)


def json_in(reply: Reply, to: Addressee) -> Any:
    """Returns the JSON of an answer. Raises `HostRefused` for a page of HTML and all else that is none."""
    try:
        return json.loads(reply.text())
    except (ValueError, RecursionError):
        raise HostRefused(
            f"{to.label}: the answer is no JSON but {reply.content_type or 'of no type'}: "
            f"{excerpt(complaint_of(reply).message)!r}. Is something else at this URL?"
        ) from None


def number(value: Any) -> float:
    """Returns a number as a float, NaN for null, as which many servers write NaN, and for one too large for a float.

    It is no score later on.

    Raises `TypeError` for what is no number.
    """
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is not a number")
    try:
        return float(value)
    except OverflowError:
        return math.nan


def by_index(items: Sequence[Mapping[str, Any]], count: int) -> list[Mapping[str, Any]]:
    """Returns items in the order of their `index`. Raises `ValueError` unless each of `count` is there once."""
    found = {item["index"]: item for item in items}
    if len(items) != count or found.keys() != set(range(count)):
        raise ValueError(f"it has the indexes {[item['index'] for item in items][:20]}, not 0 to {count - 1}")
    return [found[index] for index in range(count)]


def listed_model(said: Any, to: Addressee) -> Mapping[str, Any]:
    """Returns what `/v1/models` tells of the configured model, or of the only one. Raises `ModelMissing`."""
    models = {str(model["id"]): model for model in said["data"]}
    if to.model and to.model not in models:
        listed = ", ".join(list(models)[:20])
        raise ModelMissing(f"{to.label}: it has no model `{to.model}` (it has: {listed}). {to.model_mend}")
    if not to.model and len(models) != 1:
        return {}
    found: Mapping[str, Any] = models[to.model] if to.model else next(iter(models.values()))
    return found


def busy(to: Addressee, status: int, complaint: Complaint) -> HostBusy:
    """Returns the error for a server that cannot answer yet."""
    return HostBusy(f"{to.label}: answered {status}: {complaint.message}")
