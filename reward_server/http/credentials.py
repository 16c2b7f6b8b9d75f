"""Where a server's token or key comes from, and the URL that it is sent to."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

from reward_server.errors import ConfigError


class Secret:
    """A token from an environment variable or a file, read once, when it is first needed. It never shows in messages.

    Args:
        where: the key in the configuration above it, such as "engines.box".
        what: the first part of its two keys: "token" for `token_env` and `token_file`.
        env: the environment variable's name, if one is configured.
        file: the file, if one is configured.
        folder: where a relative file path starts.
    """

    def __init__(self, where: str, what: str, env: str | None, file: Path | None, folder: Path) -> None:
        self._where, self._what = where, what
        self._env, self._file = env, folder / file if file else None
        self._token: str | None = None

    def bearer_header(self) -> dict[str, str]:
        """Returns the header that carries it, or none where none is configured. Raises `ConfigError`."""
        if self._token is None:
            self._token = self._read()
        return {"authorization": f"Bearer {self._token}"} if self._token else {}

    def _read(self) -> str:
        if self._env is not None:
            token = os.environ.get(self._env, "").strip()
            if not token:
                raise ConfigError(f"{self._where}.{self._what}_env: the environment variable {self._env} is not set")
            return token
        if self._file is not None:
            try:
                return self._file.read_text(encoding="utf-8").strip()
            except OSError as error:
                raise ConfigError(f"{self._where}.{self._what}_file: {self._file}: {error.strerror}") from error
        return ""


def http_url(url: str) -> str:
    """Returns the URL without a final slash. Raises `ValueError` where it is none of HTTP."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url!r} is no URL of a host: write http://host:port or https://host")
    if parts.username is not None:
        raise ValueError("a password does not belong in the URL: put the token into an environment variable or a file")
    return url.rstrip("/")
