"""The judges' secret: what makes the lines around a completion impossible to guess for whoever writes the completion.

It lives in a file of its own, so that a restart, and every replica that shares the file, shows a judge the same prompt
and so gives the same verdict. Its id goes into each judge's version; the key itself goes nowhere, no log and no message.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import stat
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from reward_server.errors import ConfigError

KEY_BYTES: Final = 32
MIN_CHARS: Final = 32
MAX_BYTES: Final = 4096
"""A file that holds more is not one of these."""

NEW: Final = "openssl rand -hex 32"
_KEY: Final = re.compile(rb"[!-~]+")  # visible ASCII without spaces: a PEM file or a configuration is something else

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class JudgeSecret:
    """A secret and its name."""

    id: str  # 8 hex digits: tells secrets apart and gives nothing away
    key: bytes = field(repr=False)

    @classmethod
    def of(cls, key: bytes) -> JudgeSecret:
        """Returns the secret with its id."""
        return cls(hashlib.sha256(b"id\0" + key).hexdigest()[:8], key)


def read_secret(path: Path) -> JudgeSecret:
    """Returns the secret in a file; makes one there if there is none, readable by this user only.

    Servers that start at the same time agree: the first one's file stays.

    Raises:
        ConfigError: the file can't be made or read, or holds no secret. The message begins with the key `secret_file`.
    """
    try:
        content = _content(path)
    except FileNotFoundError:
        _make(path)
        try:
            content = _content(path)
        except OSError as error:
            raise _unreadable(path, error) from None
    except OSError as error:
        raise _unreadable(path, error) from None
    return JudgeSecret.of(_checked(content.strip(), path))


def _content(path: Path) -> bytes:
    """Returns what is in the file, and warns where more than its owner and group may read it."""
    with path.open("rb") as stream:
        mode = os.fstat(stream.fileno()).st_mode
        content = stream.read(MAX_BYTES + 1)
    if mode & stat.S_IROTH:
        log.warning("every user of this machine can read the judges' secret", file=str(path), remedy=f"chmod o= {path}")
    return content


def _checked(key: bytes, path: Path) -> bytes:
    """Returns the key. Raises `ConfigError` that shows nothing of it."""
    if not key:
        raise ConfigError(f"secret_file: {path} is empty: remove it, and a new one is made; or fill it: {NEW} > {path}")
    if len(key) > MAX_BYTES or not _KEY.fullmatch(key):
        raise ConfigError(f"secret_file: {path} holds no secret, which is one line of visible ASCII: {NEW} > {path}")
    if len(key) < MIN_CHARS:
        raise ConfigError(
            f"secret_file: {path} holds {len(key)} characters, which could be guessed; at least {MIN_CHARS}: {NEW} > {path}"
        )
    return key


def _make(path: Path) -> None:
    """Puts a new secret where there is no file, whole or not at all; one that has come meanwhile stays."""
    draft = None
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # 0600
        with os.fdopen(handle, "wb") as stream:
            stream.write(secrets.token_hex(KEY_BYTES).encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
        Path(path).hardlink_to(draft)  # unlike a rename it never replaces a file
    except FileExistsError:
        if not path.exists():  # it was a folder on the way that is a file
            raise _unmakable(path, "a part of its path is a file") from None
    except OSError as error:
        no_links = error.errno in (errno.EPERM, errno.ENOTSUP, errno.EMLINK) and draft is not None
        why = "its file system has no hard links" if no_links else error.strerror or str(error)
        raise _unmakable(path, why) from None
    else:
        log.info("made a secret for the judges", file=str(path))
    finally:
        if draft is not None:
            Path(draft).unlink(missing_ok=True)


def _unmakable(path: Path, why: str) -> ConfigError:
    return ConfigError(
        f"secret_file: {path} is not there and can't be made: {why}. Judges need a secret that stays the same: set "
        f"secret_file to a file on a volume that lasts and that all replicas share, or make it by hand: {NEW} > {path}"
    )


def _unreadable(path: Path, error: OSError) -> ConfigError:
    if isinstance(error, IsADirectoryError):
        return ConfigError(f"secret_file: {path} is a folder: name a file in it, such as {path / 'judge-secret'}")
    if isinstance(error, NotADirectoryError):
        return _unmakable(path, "a part of its path is a file")
    return ConfigError(
        f"secret_file: {path} can't be read: {error.strerror or error}. Mend its permissions (it should belong to the "
        f"server's user, mode 0600), or set secret_file to another file"
    )
