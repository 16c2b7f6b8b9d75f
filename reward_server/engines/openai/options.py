"""Options of the engine `openai`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from reward_server.engines.base import MAX_ALTERNATIVES
from reward_server.engines.over_http.options import HostedOptions, Urls
from reward_server.http.credentials import http_url

OWN_KEYS: Final = {
    "model", "messages", "temperature", "seed", "stream", "n", "response_format", "max_tokens", "max_completion_tokens",
    "logprobs", "top_logprobs",
}  # fmt: skip


class OpenAIOptions(HostedOptions):
    """Options of the engine `openai`."""

    url: Urls = Field(description="the base URL; one without a path gets /v1; a list for several servers")
    model: str = Field(min_length=1, description="the model's name as the server knows it")
    context_tokens: int | None = Field(
        None, ge=256, description="context of the model, prompt and answer together; absent: what the server tells"
    )
    api_key_env: str | None = Field(None, description="environment variable that holds the API key")
    api_key_file: Path | None = Field(None, description="file with the API key")
    structured: Literal["json_schema", "json_object", "none"] = Field(
        "json_schema",
        description="how an answer is held to its form; a server that can't do json_schema may do json_object",
    )
    top_logprobs: int = Field(
        MAX_ALTERNATIVES,
        ge=0,
        le=MAX_ALTERNATIVES,
        description="log-probabilities of so many tokens are asked for at most; 0 for a server that tells none",
    )
    token_limit: Literal["max_tokens", "max_completion_tokens"] = Field(
        "max_tokens", description="the request's key for the longest answer; some newer models want the second"
    )
    options: Mapping[str, Any] = Field(
        {}, description="further keys of the request, such as top_p or chat_template_kwargs"
    )

    @classmethod
    def normal_url(cls, url: str) -> str:
        """Returns the base URL, with /v1 where there is no path. Raises `ValueError` where it is no URL."""
        url = http_url(url).removesuffix("/chat/completions")
        return url if urlsplit(url).path else f"{url}/v1"

    @field_validator("options")
    @classmethod
    def _none_of_ours(cls, options: Mapping[str, Any]) -> Mapping[str, Any]:
        if ours := sorted(OWN_KEYS & options.keys()):
            raise ValueError(f"{', '.join(ours)}: set by the engine and the judge themselves")
        return options
