"""A GGUF file that the server loads: who it is, and that it stays the same while the server runs."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

from reward_server.errors import HostUnreachable


class GgufFile:
    """One file, hashed when it is first loaded and looked at again before every load after that.

    Args:
        path: where it is.
        label: how messages name the engine.
        mend: what a person does where it is missing or no GGUF.
    """

    def __init__(self, path: Path, label: str, mend: str) -> None:
        self.path = path
        self.sha256: str | None = None  # of what was first loaded; None = nothing yet
        self._label, self._mend = label, mend
        self._stat = (0, 0)  # size and time of the file when it was last hashed
        self._hash = ""

    async def inspect(self) -> None:
        """Makes sure that it is there, and the file that it was before. Raises `HostUnreachable`: it may come back."""
        digest = await asyncio.to_thread(self._read)
        if self.sha256 is not None and digest != self.sha256:
            raise HostUnreachable(
                f"{self._label}: {self.path} has changed since the server started: put it back, or start the server again"
            )
        self.sha256 = digest

    def _read(self) -> str:
        """Returns the file's SHA-256, from memory where its size and time are those read before."""
        try:
            stat = self.path.stat()
            if self._stat != (stat.st_size, stat.st_mtime_ns):
                self._hash = _sha256_of_gguf(self.path)
                self._stat = (stat.st_size, stat.st_mtime_ns)
        except OSError as error:
            raise HostUnreachable(f"{self._label}: {self.path}: {error.strerror}. {self._mend}") from error
        except ValueError as error:
            raise HostUnreachable(f"{self._label}: {self.path} {error}. {self._mend}") from error
        return self._hash


def _sha256_of_gguf(path: Path) -> str:
    """Returns the file's SHA-256. Raises `ValueError` where it is no GGUF file."""
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise ValueError("is no GGUF file")
        file.seek(0)
        return hashlib.file_digest(file, "sha256").hexdigest()
