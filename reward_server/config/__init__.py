"""The server's configuration: `load` reads one YAML file and says all that is wrong with it at once."""

from reward_server.config.edge import check_exposure
from reward_server.config.load import load
from reward_server.config.models import (
    Auth,
    Drain,
    EngineConfig,
    Limits,
    RewardConfig,
    ServerConfig,
    Tls,
    Workers,
)

__all__ = [
    "Auth",
    "Drain",
    "EngineConfig",
    "Limits",
    "RewardConfig",
    "ServerConfig",
    "Tls",
    "Workers",
    "check_exposure",
    "load",
]
