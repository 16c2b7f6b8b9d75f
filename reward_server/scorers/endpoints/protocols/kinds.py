"""The protocols by the names that the configuration has for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from reward_server.scorers.endpoints.protocols.base import Protocol
from reward_server.scorers.endpoints.protocols.llamacpp import LlamaCpp
from reward_server.scorers.endpoints.protocols.openrlhf import OpenRlhf
from reward_server.scorers.endpoints.protocols.tei import Tei
from reward_server.scorers.endpoints.protocols.vllm import VllmClassify, VllmPooling, VllmScore

ProtocolName = Literal["vllm_classify", "vllm_pooling", "vllm_score", "tei", "llamacpp", "openrlhf"]

PROTOCOLS: Final[Mapping[ProtocolName, type[Protocol]]] = {
    "vllm_classify": VllmClassify,
    "vllm_pooling": VllmPooling,
    "vllm_score": VllmScore,
    "tei": Tei,
    "llamacpp": LlamaCpp,
    "openrlhf": OpenRlhf,
}
