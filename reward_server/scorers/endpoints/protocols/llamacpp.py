"""llama.cpp's server with a model that ranks (`--reranking`): the completion as the document, the prompt as the query.

A request has one query, so samples of one prompt go together. The answer is sorted by relevance: `index` says whose a
number is. What does not fit into one physical batch (`--ubatch-size`, 512 tokens unless said) is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, ClassVar

from reward_server.errors import EngineError, HostRefused
from reward_server.http.complaints import Addressee, Complaint
from reward_server.scorers.endpoints.protocols.base import Protocol, Told, by_index, listed_model, number
from reward_server.scorers.endpoints.readings import Reading
from reward_server.scorers.endpoints.texts import Input, InputForm, Pair


class LlamaCpp(Protocol):
    """`/v1/rerank`: a number for each document."""

    path: ClassVar[str] = "/v1/rerank"
    looks_at: ClassVar[str] = "/v1/models"
    forms: ClassVar[tuple[InputForm, ...]] = ("pair",)

    def parts(self, inputs: Mapping[int, Input], batch: int) -> list[list[int]]:
        """Returns the inputs of each prompt apart."""
        by_prompt: dict[str, dict[int, Input]] = {}
        for index, given in inputs.items():
            by_prompt.setdefault(given.prompt if isinstance(given, Pair) else "", {})[index] = given
        return [part for same in by_prompt.values() for part in super(LlamaCpp, self).parts(same, batch)]

    def body(self, inputs: Sequence[Input]) -> dict[str, Any]:
        """Returns the request for these inputs, which have one prompt."""
        pairs = [given for given in inputs if isinstance(given, Pair)]
        model = {} if self._manner.model is None else {"model": self._manner.model}
        return model | {"query": pairs[0].prompt, "documents": [pair.completion for pair in pairs]}

    def readings(self, said: Any, count: int) -> list[Reading]:
        """Returns the number of each document."""
        return [Reading([number(item["relevance_score"])]) for item in by_index(said["results"], count)]

    def told(self, said: Any) -> Told:
        """Returns the model's name, and its size where that is told."""
        model = listed_model(said, self._to)
        if not model:
            return Told({})
        meta = model.get("meta") or {}
        sizes = {key: meta[key] for key in ("n_params", "size", "n_vocab") if meta.get(key) is not None}
        return Told({"id": model["id"], **sizes})

    def refusal(self, to: Addressee, status: int, complaint: Complaint) -> EngineError:
        """Returns the error that an answer means; 501 is how it says that it was not started for this."""
        if status == HTTPStatus.NOT_IMPLEMENTED:
            return HostRefused(f"{to.label}: answered {status}: {complaint.message}")
        return super().refusal(to, status, complaint)
