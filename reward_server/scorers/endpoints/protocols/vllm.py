"""vLLM: `/classify` and `/pooling` on texts or conversations, `/score` on pairs.

Raw numbers are asked for (`use_activation: false`); releases that do not know that word answer activated ones, so take
0.11.1 or later. Without `truncate_prompt_tokens` vLLM refuses what is too long.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from reward_server.scorers.endpoints.protocols.base import Protocol, Told, by_index, listed_model, number
from reward_server.scorers.endpoints.readings import Reading
from reward_server.scorers.endpoints.texts import Chat, Input, InputForm, Pair, Single

SIDES: Final = {"keep_begin": "right", "keep_end": "left"}
"""Which side of a long text vLLM is to cut off."""


class _Vllm(Protocol):
    """What its three interfaces share."""

    looks_at: ClassVar[str] = "/v1/models"
    cuts: ClassVar[bool] = True

    def told(self, said: Any) -> Told:
        """Returns the model's name, what was loaded under it, and its longest text."""
        model = listed_model(said, self._to)
        return Told({key: model[key] for key in ("id", "root", "max_model_len") if model.get(key) is not None})

    def _common(self) -> dict[str, Any]:
        body: dict[str, Any] = {"use_activation": False}
        if self._manner.model is not None:
            body["model"] = self._manner.model
        if self._manner.too_long != "refuse":
            body |= {"truncate_prompt_tokens": -1, "truncation_side": SIDES[self._manner.too_long]}
        return body


class _Texts(_Vllm):
    """Its interfaces that take texts, or one conversation."""

    forms: ClassVar[tuple[InputForm, ...]] = ("chat", "template", "plain", "completion")

    def parts(self, inputs: Mapping[int, Input], batch: int) -> list[list[int]]:
        """Returns conversations one by one: a request takes no more."""
        return super().parts(inputs, 1 if any(isinstance(given, Chat) for given in inputs.values()) else batch)

    def body(self, inputs: Sequence[Input]) -> dict[str, Any]:
        """Returns the request for these inputs."""
        if isinstance(inputs[0], Chat):
            return self._common() | {"messages": inputs[0].messages}
        return self._common() | {"input": [given.text for given in inputs if isinstance(given, Single)]}


class VllmClassify(_Texts):
    """`/classify`: a number for each class."""

    path: ClassVar[str] = "/classify"

    def readings(self, said: Any, count: int) -> list[Reading]:
        """Returns the numbers of each input. vLLM names the most likely class only, so none is named here."""
        return [Reading([number(value) for value in item["probs"]]) for item in by_index(said["data"], count)]


class VllmPooling(_Texts):
    """`/pooling`: a row of numbers, or a row for each token or step."""

    path: ClassVar[str] = "/pooling"

    def readings(self, said: Any, count: int) -> list[Reading]:
        """Returns the numbers of each input."""
        return [self._reading(item["data"]) for item in by_index(said["data"], count)]

    def _reading(self, data: Any) -> Reading:
        rows = [[number(value) for value in (row if isinstance(row, list) else [row])] for row in data]
        if all(not isinstance(row, list) for row in data):
            return Reading([row[0] for row in rows])  # a single row, of one number for each class
        if len(rows) == 1:
            return Reading(rows[0])
        columns = list(zip(*rows, strict=True))
        match self._manner.rows:
            case "last":
                return Reading(rows[-1])
            case "min":
                return Reading([min(column) for column in columns])
            case "mean":
                return Reading([statistics.fmean(column) for column in columns])
        raise ValueError(f"it has {len(rows)} rows of numbers for one text: say by `rows` what of them counts")


class VllmScore(_Vllm):
    """`/score`: a number for each pair."""

    path: ClassVar[str] = "/score"
    forms: ClassVar[tuple[InputForm, ...]] = ("pair",)

    def body(self, inputs: Sequence[Input]) -> dict[str, Any]:
        """Returns the request for these inputs."""
        pairs = [given for given in inputs if isinstance(given, Pair)]
        return self._common() | {
            "text_1": [pair.prompt for pair in pairs],
            "text_2": [pair.completion for pair in pairs],
        }

    def readings(self, said: Any, count: int) -> list[Reading]:
        """Returns the number of each pair."""
        return [Reading([number(item["score"])]) for item in by_index(said["data"], count)]
