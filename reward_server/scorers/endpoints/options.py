"""Options that all scorers share which ask a server over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field, field_validator

from reward_server.http.credentials import http_url
from reward_server.options import Options, Seconds


class RemoteOptions(Options):
    """Where the server is, and how much it is asked at a time."""

    never_shape_a_score: ClassVar[frozenset[str]] = frozenset({"batch", "in_flight", "token_env", "token_file"})

    url: str
    batch: int = Field(32, ge=1, le=4096, description="completions in one request at most")
    in_flight: int = Field(4, ge=1, le=1024, description="requests at the server at a time")
    timeout_s: Seconds = Field(60.0, description="longest time for one answer")
    token_env: str | None = Field(None, description="environment variable with the bearer token that it wants")
    token_file: Path | None = Field(None, description="file with that token")

    @field_validator("url")
    @classmethod
    def _is_http(cls, url: str) -> str:
        return http_url(url)
