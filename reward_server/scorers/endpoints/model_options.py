"""Options of the scorer `reward_model`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from reward_server.http.credentials import http_url
from reward_server.scorers.endpoints.options import RemoteOptions
from reward_server.scorers.endpoints.protocols.base import Rows, TooLong
from reward_server.scorers.endpoints.protocols.kinds import PROTOCOLS, ProtocolName
from reward_server.scorers.endpoints.readings import Activation, Calibration
from reward_server.scorers.endpoints.texts import InputForm


class RewardModelOptions(RemoteOptions):
    """Options of the scorer `reward_model`."""

    protocol: ProtocolName = Field(
        description="how its server is spoken to: vllm_classify, vllm_pooling, vllm_score, tei, llamacpp or openrlhf"
    )
    url: str = Field(description="the server's URL, without the path of its interface")
    model: str | None = Field(None, description="the model's name as the server knows it; absent: the one it has")
    input: InputForm | None = Field(
        None,
        description="what it is given: plain (prompt and completion as one text), completion, pair, chat (messages) or "
        "template; absent: what its protocol is mostly used with",
    )
    template_file: Path | None = Field(
        None, description="of the input template: a chat template in Jinja, or a tokenizer_config.json that has one"
    )
    template_variables: Mapping[str, str] = Field(
        {}, description="what that template may use besides the messages, such as bos_token"
    )
    break_tokens: bool = Field(
        default=True,
        description="break the chat templates' tokens inside completions, so that none can end its own turn",
    )
    label: str | int | None = Field(
        None, description="which class of a classifier is read: its name for tei, its number from 0 on for vllm"
    )
    activation: Activation = Field(
        "none", description="applied to the model's raw numbers: none, sigmoid, or softmax over the classes"
    )
    calibrate: Calibration | None = Field(None, description="a straight line to a range; absent: none is known")
    rows: Rows = Field(
        "only", description="of vllm_pooling, where a text gets several rows: last, min or mean; only: refuse them"
    )
    too_long: TooLong = Field(
        "refuse", description="a text too long for the model: refuse, or have the server keep_begin or keep_end of it"
    )
    max_chars: int | None = Field(
        100_000,
        ge=1,
        description="longer texts are refused unasked, as a server that cuts in silence would not; null: any",
    )

    @property
    def form(self) -> InputForm:
        """Returns what the model is given."""
        if self.input is not None:
            return self.input
        return "template" if self.template_file is not None else PROTOCOLS[self.protocol].forms[0]

    def shape(self) -> dict[str, Any]:
        """Returns what may shape a score; not where the server is, if that tells which model it has."""
        shown = super().shape()
        return {name: value for name, value in shown.items() if name != "url" or self.protocol == "openrlhf"}

    @field_validator("url")
    @classmethod
    def _base(cls, url: str) -> str:
        return http_url(url).removesuffix("/v1")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        protocol = PROTOCOLS[self.protocol]
        if self.form not in protocol.forms:
            raise ValueError(f"input: {self.protocol} takes {', '.join(protocol.forms)}, not {self.form}")
        if (self.form == "template") != (self.template_file is not None):
            raise ValueError("template_file belongs to the input template, and that needs one")
        if self.template_variables and self.form != "template":
            raise ValueError("template_variables belong to the input template")
        if self.too_long != "refuse" and not protocol.cuts:
            raise ValueError(f"too_long: {self.protocol} cannot be told to cut, only refuse")
        if self.rows != "only" and self.protocol != "vllm_pooling":
            raise ValueError("rows: only vllm_pooling answers in rows")
        if isinstance(self.label, int) and (self.label < 0 or self.protocol == "tei"):
            raise ValueError("label: tei names its classes, and a number counts from 0")
        return self
