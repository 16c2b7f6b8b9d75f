"""The engine `ollama`: a judge's model on one Ollama or several, through its own API."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any, ClassVar

from reward_server.engines.base import PullProgress
from reward_server.engines.ollama.host import OllamaHost
from reward_server.engines.ollama.options import OllamaOptions
from reward_server.engines.over_http.engine import HostedEngine
from reward_server.errors import EngineError
from reward_server.http.credentials import Secret


class Ollama(HostedEngine):
    """Does work by a model on Ollama hosts."""

    kind: ClassVar[str] = "ollama"
    Options = OllamaOptions

    def __init__(self, name: str, options: OllamaOptions, folder: Path) -> None:
        self._options = options
        token = Secret(f"engines.{name}", "token", options.token_env, options.token_file, folder)
        self._ollamas = [OllamaHost(name, url, options, token) for url in options.urls]
        super().__init__(name, self._ollamas, options, token, context_tokens=options.context_tokens)

    def identity(self) -> Mapping[str, Any]:
        """Returns model, digest (None until a host has told it), load profile and sampling options.

        Where the hosts are is not of it: the digest stands for the model wherever it runs.
        """
        return {
            "engine": self.kind,
            "model": self._options.model,
            "digest": self.digest,
            "context_tokens": self._options.context_tokens,
            "think": self._options.think,
            "options": dict(self._options.options),
        }

    async def pull(self) -> AsyncGenerator[PullProgress, None]:
        """Fetches the configured model to one host after another; the last progress of each says "success".

        Needs no `start`. A host that can't fetch it does not keep the others from it: raises the first `EngineError`,
        with the words of all, at the end.
        """
        errors: list[EngineError] = []
        for host in self._ollamas:
            try:
                async with aclosing(host.pull()) as steps:
                    async for step in steps:
                        yield step
            except EngineError as error:
                errors.append(error)
        if errors:
            raise type(errors[0])("; ".join(map(str, errors))) from errors[0]
