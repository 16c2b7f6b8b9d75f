"""Options of the engine `ollama`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import Field, field_validator

from reward_server.engines.over_http.options import HostedOptions, Urls

OWN_OPTIONS: Final = {
    "num_ctx": "set `context_tokens`",
    "num_predict": "it is the judge's `max_answer_tokens`",
    "temperature": "set the judge's `temperature`",
    "seed": "it changes with every attempt",
}


class OllamaOptions(HostedOptions):
    """Options of the engine `ollama`.

    `context_tokens` and `options` are the load profile: one per engine, the same for every question and every host,
    because a host loads its model again whenever they change.
    """

    shorthand: ClassVar[str | None] = "model"

    model: str = Field(min_length=1, description="the model's name as `ollama list` shows it, such as qwen3:8b")
    url: Urls = Field("http://127.0.0.1:11434", description="where Ollama listens; a list for several hosts")
    context_tokens: int = Field(4096, ge=256, description="context to load the model with, prompt and answer together")
    think: bool | Literal["low", "medium", "high"] = Field(
        default=False, description="let a thinking model think first"
    )
    keep_alive: int | Annotated[str, Field(pattern=r"^-?(\d+(\.\d+)?(ms|h|m|s))+$")] = Field(
        "30m", description="how long the model stays loaded after a question: 30m, 2h, seconds, or -1 for ever"
    )
    token_env: str | None = Field(None, description="environment variable with the bearer token of a proxy in front")
    token_file: Path | None = Field(None, description="file with that token")
    options: Mapping[str, Any] = Field({}, description="further options of Ollama, such as top_k or num_thread")

    @field_validator("options")
    @classmethod
    def _none_of_ours(cls, options: Mapping[str, Any]) -> Mapping[str, Any]:
        for key, instead in OWN_OPTIONS.items():
            if key in options:
                raise ValueError(f"{key} does not belong here: {instead}")
        return options
