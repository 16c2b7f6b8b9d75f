"""The engine `embedded`: a judge's model in llama.cpp, in a child process of the server."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

from reward_server.engines.embedded.host import LlamaHost
from reward_server.engines.embedded.options import EmbeddedOptions
from reward_server.engines.pool.pool import EnginePool


class Embedded(EnginePool):
    """Does work by a model in llama.cpp, in a child process."""

    kind: ClassVar[str] = "embedded"
    Options = EmbeddedOptions

    def __init__(self, name: str, options: EmbeddedOptions, folder: Path) -> None:
        self._options = options
        self._llama = LlamaHost(name, options, folder)
        super().__init__(name, [self._llama], context_tokens=options.context_tokens, in_flight=options.slots)

    def identity(self) -> Mapping[str, Any]:
        """Returns the files' hashes (None until they are loaded), the load profile and llama.cpp's version."""
        model, _, adapter = (self.digest or "").partition("+")
        return {
            "engine": self.kind,
            "model": self._options.model.name,
            "sha256": model or None,
            "adapter_sha256": adapter or None,
            "context_tokens": self._options.context_tokens,
            "think": self._options.think,
            "xllamacpp": _version(),
        }

    @property
    def child_pid(self) -> int | None:
        """Returns the process id of the child, None while there is none."""
        return self._llama.child_pid


def _version() -> str | None:
    """Returns the version of xllamacpp, and of the llama.cpp in it."""
    try:
        return metadata.version("xllamacpp")
    except metadata.PackageNotFoundError:
        return None
