"""The client's options, checked when a client is made: a slip should not wait for the first batch to show."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from numbers import Real
from pathlib import Path
from typing import Any, Literal, TypedDict, TypeGuard, get_args

from trainer.errors import BadOptions

OnOutage = Literal["wait", "stop", "missing"]
Progress = Callable[[str], object]

LOCAL = "local:"
"""Opens a target that is a server's configuration file: a server process of one's own is started from it."""

DEFAULT_PORT = 8470
MAX_PORT = 65535

MAX_DEADLINE_S = 86_400
MAX_OUTAGE_LIMIT_S = 30 * 86_400

MAX_METADATA_CHARACTERS = 2000
"""Of each text that travels with every call: gRPC servers refuse calls that bring more than 8 KB of them in all."""

_SCHEME = re.compile(r"(dns|ipv4|ipv6|unix|unix-abstract|vsock|xds):")
_HOST_AND_PORT = re.compile(r"(?P<host>\[[^\]]+\]|[^:\[\]/\s]+):(?P<port>[0-9]+)")
_METADATA_TEXT = re.compile(r"[\x20-\x7e]*")


class ClientKeywords(TypedDict, total=False):
    """The options of a client besides its target."""

    token: str | None
    """The server's bearer token."""
    token_file: str | None
    """A file that holds it, instead."""
    tls: bool
    """Encrypt, and check the server's certificate."""
    ca_file: str | None
    """PEM file of the authority that signed it; without, the authorities that gRPC comes with."""
    certificate_file: str | None
    """PEM file of the client's own certificate, where the server wants one."""
    key_file: str | None
    """PEM file of its key."""
    server_name: str | None
    """The name in the server's certificate, where it is not the target's host."""
    insecure: bool
    """Allow the token to travel unencrypted to another machine."""
    experiment: str
    """Name for sharing and logs on the server; never changes a score."""
    run_id: str | None
    """Name of one training run, likewise."""
    deadline_s: float
    """Seconds that a call may take, 120 by default; starts anew when a call is sent again."""
    on_outage: OnOutage
    """What happens when the server is away, or lives but cannot serve a reward since what scores it is away (the host of
    a judge): `wait` (default) until it is back, `stop` with an error, or go on with `missing` verdicts. Likewise when it
    lives but does not answer within `deadline_s`, where `wait` asks once more."""
    outage_limit_s: float
    """Seconds to wait for either, 600 by default, before that is an error too."""
    progress: Progress | None
    """Is told, in words, about every five seconds of an outage; without, a warning is logged."""


@dataclass(frozen=True)
class ClientOptions:
    """Where the server is, who asks, and what happens when it is away. Raises `BadOptions`."""

    target: str  # host:port, unix:/path, or local:server.yaml
    token: str | None = field(default=None, repr=False)
    token_file: str | None = None
    tls: bool = False
    ca_file: str | None = None  # None: the certificate authorities that gRPC comes with
    certificate_file: str | None = None  # the client's own, where the server wants one
    key_file: str | None = None
    server_name: str | None = None  # the name in the server's certificate, where it is not the target's host
    insecure: bool = False  # send the token over an unencrypted connection
    experiment: str = ""
    run_id: str | None = None
    deadline_s: float = 120.0
    on_outage: OnOutage = "wait"
    outage_limit_s: float = 600.0
    progress: Progress | None = None

    def __post_init__(self) -> None:
        self._check_target()
        self._check_tls()
        for name in ("experiment", "run_id"):
            value = getattr(self, name) or ""
            _check_length(name, value)
            if not _METADATA_TEXT.fullmatch(value):
                raise BadOptions(f"{name} may hold printable ASCII characters only; it is {value!r}")
        if self.on_outage not in get_args(OnOutage):
            raise BadOptions(f"on_outage is {self.on_outage!r}; it can be: {', '.join(get_args(OnOutage))}")
        if not is_deadline(self.deadline_s):
            raise BadOptions(f"deadline_s is {self.deadline_s!r}; {DEADLINE_REMEDY}")
        if not (_is_number(self.outage_limit_s) and 0 <= self.outage_limit_s <= MAX_OUTAGE_LIMIT_S):
            raise BadOptions(
                f"outage_limit_s is {self.outage_limit_s!r}; give the seconds to wait for the server, 0 to "
                f"{MAX_OUTAGE_LIMIT_S}"
            )
        self._check_token()

    @property
    def local_config(self) -> str | None:
        """The configuration file of a `local:` target, else None."""
        return self.target.removeprefix(LOCAL) if self.target.startswith(LOCAL) else None

    @property
    def on_this_machine(self) -> bool:
        """Whether the connection cannot leave the machine."""
        return self.local_config is not None or is_loopback(self.target)

    def bearer_token(self) -> str | None:
        """Returns the token, read from its file if it is in one."""
        if self.token_file is None:
            return self.token
        return read_file("token_file", self.token_file).decode(errors="replace").strip()

    def keywords(self) -> dict[str, Any]:
        """Returns all options as keywords."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def _check_target(self) -> None:
        if self.local_config is not None:
            if not self.local_config:
                raise BadOptions("target 'local:' names no configuration; write local:path/to/server.yaml")
        elif "://" in self.target and not self.target.startswith("dns://"):
            raise BadOptions(f"target {self.target!r} is a URL; write host:port, such as gpu-box:{DEFAULT_PORT}")
        elif not _SCHEME.match(self.target) and not _HOST_AND_PORT.fullmatch(self.target):
            raise BadOptions(f"target {self.target!r} has no port; write host:port, such as gpu-box:{DEFAULT_PORT}")
        for address in _addresses(self.target):
            match = _HOST_AND_PORT.fullmatch(address)
            if match and not 1 <= int(match["port"][:6]) <= MAX_PORT:  # more digits are too many, however many
                raise BadOptions(f"target {self.target!r} has port {match['port']}; ports are 1 to {MAX_PORT}")

    def _check_tls(self) -> None:
        if not self.tls:
            for name in ("ca_file", "certificate_file", "key_file", "server_name"):
                if getattr(self, name) is not None:
                    raise BadOptions(f"{name} is given but tls is off; add tls=True")
        elif self.local_config is not None:
            raise BadOptions("tls is on for a local: target, whose server listens on loopback without; leave tls out")
        if (self.certificate_file is None) != (self.key_file is None):
            raise BadOptions("certificate_file and key_file belong together; give both or none")
        for name in ("ca_file", "certificate_file", "key_file"):
            if (path := getattr(self, name)) is not None and b"-----BEGIN " not in read_file(name, path):
                raise BadOptions(f"{name}: {path} holds no PEM text (-----BEGIN ...)")

    def _check_token(self) -> None:
        if self.token is not None and self.token_file is not None:
            raise BadOptions("token and token_file are both given; give one")
        token = self.bearer_token()
        if token is None:
            return
        where = f"token_file {self.token_file}" if self.token_file else "token"
        _check_length(where, token)
        if not token or not _METADATA_TEXT.fullmatch(token):
            raise BadOptions(f"{where} is empty, or holds more than one line of printable ASCII characters")
        if not (self.tls or self.insecure or self.on_this_machine):
            raise BadOptions(
                f"the token would travel unencrypted to {self.target}: turn on TLS (tls=True, ca_file=...), reach the "
                f"server through an SSH tunnel, or accept it with insecure=True"
            )


DEADLINE_REMEDY = f"give the seconds a call may take, above 0 and at most {MAX_DEADLINE_S}"


def is_deadline(value: object) -> bool:
    """Returns whether a value is a number of seconds that a call may take."""
    return _is_number(value) and 0 < value <= MAX_DEADLINE_S  # NaN is not


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, Real) and not isinstance(value, bool)


def _check_length(option: str, value: object) -> None:
    """Raises `BadOptions` for what is no text, or too long to travel with every call; does not repeat the value."""
    if not isinstance(value, str):
        raise BadOptions(f"{option} is of type {type(value).__name__}; give a text")
    if len(value) > MAX_METADATA_CHARACTERS:
        raise BadOptions(f"{option} has {len(value)} characters; it may have {MAX_METADATA_CHARACTERS} at most")


def read_file(option: str, path: str) -> bytes:
    """Returns a file's content. Raises `BadOptions` naming the option."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise BadOptions(f"{option}: cannot read {path}: {error.strerror}") from None


def is_loopback(target: str) -> bool:
    """Returns whether a gRPC target cannot be reached from, and does not lead to, another machine."""
    if target.startswith(("unix:", "unix-abstract:")):
        return True
    return all(map(_is_loopback_host, _addresses(target)))


def _addresses(target: str) -> list[str]:
    """Returns the hosts, with their ports where they have any, that a gRPC target names."""
    return target.removeprefix("dns:").rpartition("/")[2].removeprefix("ipv4:").removeprefix("ipv6:").split(",")


def _is_loopback_host(address: str) -> bool:
    match = _HOST_AND_PORT.fullmatch(address)
    host = (match["host"] if match else address).strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
