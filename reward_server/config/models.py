"""What a server's configuration is, once it is read and found right. Everything here is frozen."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, SerializeAsAny, model_validator

from reward_server.floor import LOWEST, Floor
from reward_server.judge.options import JudgeOptions
from reward_server.views import View

DEFAULT_LISTEN: Final = "127.0.0.1:8470"

Count = Annotated[int, Field(strict=True)]
"""A whole number, not a text or a boolean that reads like one."""

Seconds = Annotated[float, Field(strict=True, allow_inf_nan=False)]


def core_count() -> int:
    """Returns how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


class Section(BaseModel):
    """A mapping of the configuration: unknown keys are refused, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class AuthSection(Section):
    """Where the token is that every call must bring."""

    token_file: Path | None = Field(default=None, description="file whose only line is the token")
    token_env: str | None = Field(default=None, description="environment variable that holds the token")


class Auth(Section):
    """The token itself, read once at the edge. It never shows in messages or logs."""

    token: SecretStr


class Tls(Section):
    """Certificates for encrypted connections, PEM files."""

    certificate: Path = Field(description="the server's certificate, followed by its intermediates")
    key: Path = Field(description="the certificate's private key, without a passphrase")
    client_ca: Path | None = Field(
        default=None, description="if given, clients too need a certificate, signed by this one"
    )


class Limits(Section):
    """What is refused rather than let the server run out of memory."""

    max_request_mb: Count = Field(default=16, ge=1, le=2047, description="largest request, MiB")
    max_completion_kb: Count = Field(
        default=1024,
        ge=1,
        description="largest completion that is scored, KiB of UTF-8; a longer one gets status FAILED",
    )
    max_samples: Count = Field(default=65_536, ge=1, description="most completions, and most prompts, of one request")
    max_pending_calls: Count = Field(
        default=4096, ge=1, description="calls in the server at a time; more are turned away"
    )

    @model_validator(mode="after")
    def _completion_fits_request(self) -> Self:
        if self.max_completion_bytes >= self.max_request_bytes:
            limits = (
                f"max_completion_kb ({self.max_completion_kb}) does not fit into max_request_mb ({self.max_request_mb})"
            )
            raise ValueError(f"{limits}: raise the latter or lower the former")
        return self

    @property
    def max_request_bytes(self) -> int:
        """Returns the largest request in bytes."""
        return self.max_request_mb << 20

    @property
    def max_completion_bytes(self) -> int:
        """Returns the largest completion in bytes."""
        return self.max_completion_kb << 10


class Drain(Section):
    """How the server ends on SIGTERM."""

    notice_s: Seconds = Field(
        default=1.0, ge=0, le=600, description="seconds for which health says NOT_SERVING before new calls are refused"
    )
    grace_s: Seconds = Field(
        default=20.0, ge=0, le=86_400, description="seconds that running calls may then take to finish"
    )


class Workers(Section):
    """The processes in which people's own functions run."""

    count: Count = Field(default_factory=core_count, ge=1, le=1024, description="processes; default: one a core")
    preload: tuple[str, ...] = Field(default=(), description="modules that each worker imports before its first task")


class FileShape(Section):
    """The top level of the file. What stands under the names of engines, judges and rewards is checked by kind."""

    listen: str = Field(default=DEFAULT_LISTEN, description="host:port, [IPv6 address]:port or unix:/path")
    auth: AuthSection | None = Field(
        default=None, description="the token that calls must bring; absent: none is asked for"
    )
    tls: Tls | None = Field(default=None, description="certificates; absent: connections are not encrypted")
    limits: Limits = Field(default=Limits(), description="sizes that are refused")
    drain: Drain = Field(default=Drain(), description="how the server ends")
    workers: Workers = Field(default_factory=Workers, description="processes for people's own functions")
    secret_file: Path | None = Field(
        default=None, description="file with the judges' secret; absent: one in the user's state folder"
    )
    engines: dict[str, Any] = Field(default={}, description="what the judges' models run on, by name")
    judges: dict[str, Any] = Field(default={}, description="a model and a rubric each, by name")
    rewards: dict[str, Any] = Field(description="what trainers ask for, by name")


class EngineConfig(Section):
    """One engine: its name, what kind it is, and that kind's own options."""

    name: str
    kind: str
    options: SerializeAsAny[BaseModel]


class RewardFrame(Section):
    """What may stand beside the kind of a reward."""

    view: View = Field(default=View.FULL, description="what of a completion the reward sees: full, answer or messages")
    description: str = Field(default="", description="one line for people; shown by `list` and to trainers")
    floor: Floor = Field(
        default=LOWEST,
        description="score of a completion that itself breaks its grader: a number, `lowest` (of the score range; where "
        "none is known the verdict stays missing) or `missing`",
    )


class RewardConfig(RewardFrame):
    """One reward: its name, what kind it is, and that kind's own options."""

    name: str
    kind: str
    options: SerializeAsAny[BaseModel]


class ServerConfig(Section):
    """A whole configuration, checked. Paths are absolute."""

    path: Path  # as the person named it
    folder: Path  # relative paths of the file start here
    listen: str  # as gRPC takes it
    auth: Auth | None
    tls: Tls | None
    limits: Limits
    drain: Drain
    workers: Workers
    secret_file: Path  # of the judges' secret; made where there is none, once a judge needs it
    engines: Mapping[str, EngineConfig]
    judges: Mapping[str, JudgeOptions]
    rewards: Mapping[str, RewardConfig]  # in the file's order
    lines: Mapping[str, int] = Field(default={}, repr=False)  # where each dotted key stands in the file, from 1

    def located(self, problem: str) -> str:
        """Returns a problem that begins with a dotted key, such as one found at start, with file and line before it."""
        if problem.startswith((f"{self.path}:", "--")):  # it says where, or is about the command line
            return problem
        key = problem.partition(": ")[0]
        while key and key not in self.lines:
            key = key.rpartition(".")[0]
        return f"{self.path}:{self.lines[key]}: {problem}" if key else f"{self.path}: {problem}"
