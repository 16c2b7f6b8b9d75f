"""Text Embeddings Inference: `/predict` on texts or pairs.

`truncate` is always said: where it is left out, newer releases cut in silence. A batch larger than the server takes is a
413, as a text too long is; what it takes stands in `/info`.
"""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, ClassVar, Final

from reward_server.errors import EngineError, HostFailed
from reward_server.http.complaints import Addressee, Complaint
from reward_server.scorers.endpoints.protocols.base import Protocol, Told, number
from reward_server.scorers.endpoints.readings import Reading
from reward_server.scorers.endpoints.texts import Input, InputForm, Pair, Single

SIDES: Final = {"refuse": "Right", "keep_begin": "Right", "keep_end": "Left"}
MODEL_KEYS: Final = ("model_id", "model_sha", "model_dtype")


class Tei(Protocol):
    """`/predict`: the classes with their numbers, the likeliest first."""

    path: ClassVar[str] = "/predict"
    looks_at: ClassVar[str] = "/info"
    forms: ClassVar[tuple[InputForm, ...]] = ("pair", "plain", "completion", "template")
    cuts: ClassVar[bool] = True

    def body(self, inputs: Sequence[Input]) -> dict[str, Any]:
        """Returns the request for these inputs."""
        return {
            "inputs": [_entry(given) for given in inputs],
            "raw_scores": True,
            "truncate": self._manner.too_long != "refuse",
            "truncation_direction": SIDES[self._manner.too_long],
        }

    def readings(self, said: Any, count: int) -> list[Reading]:  # noqa: ARG002  # counted by `read`
        """Returns the classes of each input."""
        return [
            Reading([number(item["score"]) for item in classes], [str(item["label"]) for item in classes])
            for classes in said
        ]

    def told(self, said: Any) -> Told:
        """Returns the model with its revision, and how many texts one request may have."""
        most = said.get("max_client_batch_size")
        return Told(
            {key: said[key] for key in MODEL_KEYS if said.get(key) is not None},
            most if isinstance(most, int) and most > 0 else None,
        )

    def refusal(self, to: Addressee, status: int, complaint: Complaint) -> EngineError:
        """Returns the error that an answer means; 424 is how it says that its model broke."""
        if status == HTTPStatus.FAILED_DEPENDENCY:
            return HostFailed(f"{to.label}: answered {status}: {complaint.message}")
        return super().refusal(to, status, complaint)


def _entry(given: Input) -> list[str]:
    if isinstance(given, Pair):
        return [given.prompt, given.completion]
    return [given.text] if isinstance(given, Single) else []
