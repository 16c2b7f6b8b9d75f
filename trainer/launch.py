"""Several processes of one run, as `accelerate launch` and `torchrun` start them: who speaks, what one does for all.

accelerate is imported only where there are several.
"""

from __future__ import annotations

import datetime as dt
import os
import pickle
import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from trainer.config import ConfigError

T = TypeVar("T")

DEFAULT_TIMEOUT_S = 1800.0
"""What `ddp_timeout` is where nobody says it; TRL's own."""


def process_count() -> int:
    """Returns how many processes the run has, on all hosts together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def spans_hosts() -> bool:
    """Returns whether the run's processes are on more than one host."""
    return process_count() > int(os.environ.get("LOCAL_WORLD_SIZE", process_count()))


def is_main_process() -> bool:
    """Returns whether this is the first of the run's processes: the one that writes and speaks."""
    return os.environ.get("RANK", "0") == "0"


def who() -> str:
    """Returns how this process names itself before what it says; the first one needs no name."""
    return "" if is_main_process() else f"rank {os.environ['RANK']}: "


def connect(grpo: Mapping[str, Any]) -> None:
    """Connects the processes, if there are several, as `GRPOConfig` will find them: it takes the connection that there is.

    Args:
        grpo: The fields of `GRPOConfig` that say how processes are connected.

    Raises:
        ConfigError: They cannot be.
    """
    if process_count() == 1:
        return
    from accelerate import PartialState  # noqa: PLC0415  # seconds, and torch

    cpu = grpo.get("use_cpu") is True or os.environ.get("ACCELERATE_USE_CPU", "").lower() in {"1", "true", "yes"}
    options: dict[str, Any] = {"timeout": dt.timedelta(seconds=float(grpo.get("ddp_timeout") or DEFAULT_TIMEOUT_S))}
    if backend := grpo.get("ddp_backend"):
        options["backend"] = backend
    connected = PartialState(cpu=cpu, **options).num_processes
    if connected != process_count():
        raise ConfigError(
            f"{process_count()} processes were launched, but they are not connected: torch sees no GPU here. Mend the "
            "GPU's driver, or set grpo.use_cpu: true to train on the CPU"
        )


def made_by_first(make: Callable[[], T]) -> T:
    """Returns what the first process makes, on all of them; the others wait. What it raises, all raise.

    What is made must be picklable where there are several processes, which are connected by now (`connect`).
    """
    if process_count() == 1:
        return make()
    from accelerate.utils import broadcast_object_list  # noqa: PLC0415  # seconds, and torch

    box: list[Any] = [None, None]
    if is_main_process():
        try:
            box = [make(), None]
        except Exception as error:  # noqa: BLE001  # whatever it is, the others must hear of it
            box = [None, _picklable(error)]
        sys.stdout.flush()  # the others may end as soon as they hear of it, and then the launcher ends this one
    broadcast_object_list(box)
    if box[1] is not None:
        raise box[1]
    made: T = box[0]
    return made


def part() -> None:
    """Ends the connection of the processes, in order: without it torch complains at the end of each."""
    if process_count() == 1:
        return
    import torch.distributed  # noqa: PLC0415  # seconds

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _picklable(error: Exception) -> Exception:
    """Returns the error, or where it cannot travel one of the same words."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301  # our own, a moment old
    except Exception:  # noqa: BLE001  # pickle raises what a class's own methods do
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
