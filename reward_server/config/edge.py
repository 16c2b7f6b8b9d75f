"""What the configuration takes from outside itself: addresses, tokens, certificates, files."""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from protos.configfile import Document
from reward_server.config.models import Auth, AuthSection, ServerConfig, Tls
from reward_server.errors import ConfigError

MAX_UNIX_PATH_BYTES: Final = 107
"""A longer path of a Unix socket is refused by Linux."""

MAX_PORT: Final = 65_535

MAX_TOKEN_BYTES: Final = 4096
"""A longer token does not fit the headers of a call."""

_HOST_AND_PORT: Final = re.compile(
    r"(\[(?P<v6>[^\[\]\s]+)\]|(?P<host>[A-Za-z0-9][A-Za-z0-9._-]*)):(?P<port>[0-9]{1,5})"
)
_ENV_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TOKEN: Final = re.compile(r"[!-~]+")  # visible ASCII: what a header may carry


def address(text: str, folder: Path) -> str:
    """Returns an address to listen on as gRPC takes it. Raises `ValueError` that says what would be right."""
    if text.startswith("unix:"):
        return f"unix:{_socket_path(text.removeprefix('unix:'), folder)}"
    match = _HOST_AND_PORT.fullmatch(text)
    if match is None or int(match["port"]) > MAX_PORT:
        raise ValueError(f"{text!r} is no address: write host:port such as 127.0.0.1:8470 or [::1]:8470, or unix:/path")
    host = match["v6"] or match["host"]
    if match["v6"] or host.replace(".", "").isdigit():
        try:
            ipaddress.ip_address(host)
        except ValueError:
            raise ValueError(f"{text!r} is no address: {host} is no IP address") from None
    return text


def is_local(target: str) -> bool:
    """Returns whether only this machine can reach an address."""
    if target.startswith("unix:"):
        return True
    host = target.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return host == "localhost"


def check_exposure(config: ServerConfig, *, insecure: bool) -> None:
    """Raises `ConfigError` if other machines could reach a server without token or TLS, and nobody has asked for that."""
    lacking = [name for name, part in (("auth", config.auth), ("tls", config.tls)) if part is None]
    if insecure or is_local(config.listen) or not lacking:
        return
    remedies = {
        "auth": "auth: {token_file: token.txt}",
        "tls": "tls: {certificate: server.crt, key: server.key}",
    }
    raise ConfigError(
        f"{config.path}: listen: {config.listen} can be reached from other machines, and there is no "
        f"{' and no '.join(lacking)}. Add {' and '.join(remedies[name] for name in lacking)}; or listen on "
        "127.0.0.1; or, on a network where everybody may read and ask, say --insecure"
    )


def auth_of(section: AuthSection, folder: Path, document: Document) -> Auth | None:
    """Returns the token, or None after it has complained. No message shows what was found."""
    if (section.token_file is None) == (section.token_env is None):
        document.complain(("auth",), "needs either token_file or token_env, one of them")
        return None
    key = "token_file" if section.token_file is not None else "token_env"
    try:
        token = (
            _token_in_file(section.token_file, folder)
            if section.token_file
            else token_in_environment(section.token_env or "")
        )
    except ValueError as error:
        document.complain(("auth", key), str(error))
        return None
    return Auth(token=SecretStr(token))


def tls_of(section: Tls, folder: Path, document: Document) -> Tls | None:
    """Returns the section with absolute paths to PEM files that fit one another, or None after it has complained."""
    files = {
        "certificate": _pem(section.certificate, "CERTIFICATE", folder, document, "certificate"),
        "key": _pem(section.key, "PRIVATE KEY", folder, document, "key"),
        "client_ca": _pem(section.client_ca, "CERTIFICATE", folder, document, "client_ca")
        if section.client_ca
        else None,
    }
    if files["certificate"] is None or files["key"] is None or (section.client_ca and files["client_ca"] is None):
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(files["certificate"], files["key"], password="")
    except ssl.SSLError as error:
        mismatch = error.reason == "KEY_VALUES_MISMATCH"
        words = "is not the key of tls.certificate" if mismatch else f"can't be used with tls.certificate: {error}"
        document.complain(("tls", "key"), words)
        return None
    return section.model_copy(update=files)


def secret_file(path: Path | None, folder: Path) -> Path:
    """Returns the absolute path of the judges' secret; where none is given, one in the user's state folder."""
    if path is not None:
        return folder / path
    state = Path(os.environ.get("XDG_STATE_HOME", ""))
    if not state.is_absolute():  # to be ignored then, says the specification of these folders
        try:
            state = Path.home() / ".local" / "state"
        except RuntimeError:  # a user without a home
            state = Path("/")
    return state / "grpo-reward-service" / "judge-secret"


def existing_file(path: Path, folder: Path) -> Path:
    """Returns the absolute path of a file that can be read. Raises `ValueError` that says why it can't."""
    absolute = folder / path
    hint = "" if path.is_absolute() else f" (relative paths start at the configuration's folder, {folder})"
    if absolute.is_dir():
        raise ValueError(f"{path} is a folder, not a file{hint}")
    if not absolute.exists():
        raise ValueError(f"there is no file {path}{hint}")
    if not os.access(absolute, os.R_OK):
        raise ValueError(f"{path} can't be read by this user: mend its permissions")
    return absolute


def token_in_environment(name: str) -> str:
    """Returns the token in an environment variable. Raises `ValueError` that says why there is none."""
    if not _ENV_NAME.fullmatch(name):
        raise ValueError("must be the name of an environment variable, such as REWARD_TOKEN")
    # The name is not shown: who mistakes the key writes the token itself there.
    if name not in os.environ:
        raise ValueError(
            "the environment variable that it names is not set; it takes the variable's name, not the token"
        )
    return _checked_token(os.environ[name], "the environment variable that it names")


def _socket_path(path: str, folder: Path) -> Path:
    absolute = folder / re.sub(r"^//(?=/)", "", path)
    if not path or absolute == folder:
        raise ValueError("unix: needs the path of a socket, such as unix:/run/reward.sock")
    if len(os.fsencode(absolute)) > MAX_UNIX_PATH_BYTES:
        raise ValueError(
            f"{absolute} is longer than the {MAX_UNIX_PATH_BYTES} bytes that a Unix socket's path may have"
        )
    if not absolute.parent.is_dir():
        raise ValueError(f"there is no folder {absolute.parent} for the socket")
    return absolute


def _token_in_file(path: Path, folder: Path) -> str:
    try:
        with existing_file(path, folder).open("rb") as stream:
            content = stream.read(MAX_TOKEN_BYTES + 1)
    except ValueError as error:
        raise ValueError(f"{error}; make one with: openssl rand -hex 32 > {path}") from None
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror}") from None
    return _checked_token(content.decode("latin-1"), f"the file {path}")


def _checked_token(content: str, where: str) -> str:
    token = content.strip()
    if not token:
        raise ValueError(f"{where} is empty: it must hold the token")
    if len(token) > MAX_TOKEN_BYTES:
        raise ValueError(
            f"{where} holds more than {MAX_TOKEN_BYTES} bytes: a token is one line of some dozen characters"
        )
    if not _TOKEN.fullmatch(token):
        raise ValueError(f"{where} holds more than a token: it must be one line of visible ASCII without spaces")
    return token


def _pem(path: Path, block: str, folder: Path, document: Document, key: str) -> Path | None:
    try:
        file = existing_file(path, folder)
        text = file.read_bytes()
        if f"{block}-----".encode() not in text:
            raise ValueError(f"{path} holds no PEM block -----BEGIN {block}-----")
        if block == "PRIVATE KEY" and b"ENCRYPTED" in text:
            raise ValueError(
                f"{path} has a passphrase, which nobody could type in: openssl pkey -in {path} -out plain.key"
            )
    except OSError as error:
        document.complain(("tls", key), f"{path} can't be read: {error.strerror}")
    except ValueError as error:
        document.complain(("tls", key), str(error))
    else:
        return file
    return None
