"""The command `reward-server`: serve, check, list, kinds, score, judge try, judge audit, judge pull, example."""

from reward_server.cli.app import main

__all__ = ["main"]
