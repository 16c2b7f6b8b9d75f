"""The engine `openai`: a judge's model on one or several servers that speak OpenAI's `/chat/completions`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from reward_server.engines.openai.host import OpenAIHost
from reward_server.engines.openai.options import OpenAIOptions
from reward_server.engines.over_http.engine import HostedEngine
from reward_server.http.credentials import Secret


class OpenAI(HostedEngine):
    """Does work by a model on servers that speak OpenAI's API."""

    kind: ClassVar[str] = "openai"
    Options = OpenAIOptions

    def __init__(self, name: str, options: OpenAIOptions, folder: Path) -> None:
        self._options = options
        key = Secret(f"engines.{name}", "api_key", options.api_key_env, options.api_key_file, folder)
        self._servers = [OpenAIHost(name, url, options, key) for url in options.urls]
        super().__init__(name, self._servers, options, key, context_tokens=options.context_tokens)

    @property
    def context_tokens(self) -> int | None:
        """Returns the configured context, else the shortest that a server tells; None where none does."""
        told = [server.context_tokens for server in self._servers if server.context_tokens is not None]
        return self._options.context_tokens or min(told, default=None)

    def identity(self) -> Mapping[str, Any]:
        """Returns where the model is, its name, what is loaded under it where the servers tell, and the options.

        `served` is None until a server has been looked at, and where none tells more than the name: then nothing but
        the URLs tells one model of that name from another, so they are of the identity.
        """
        return {
            "engine": self.kind,
            "urls": sorted(self._options.urls),
            "model": self._options.model,
            "served": self.digest,
            "context_tokens": self.context_tokens,
            "structured": self._options.structured,
            "top_logprobs": self._options.top_logprobs,
            "options": dict(self._options.options),
        }
