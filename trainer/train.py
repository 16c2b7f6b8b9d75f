"""Runs a training run of a configuration.

```python
result = train(load(Path("train.yaml")))
```
"""

from __future__ import annotations

import contextlib
import warnings

from rich.console import Console

from trainer import models
from trainer.config import TrainConfig
from trainer.ending import Interrupted, OutOfMemory
from trainer.runs import Result

__all__ = ["Interrupted", "OutOfMemory", "Result", "train"]


def train(config: TrainConfig, console: Console | None = None, *, resume: str | None = None) -> Result:
    """Runs the configured training. Ctrl-C and SIGTERM end it early; what it has learned until then is saved.

    Args:
        config: The configuration.
        console: Where the run shows itself; by default the terminal, or the notebook's cell.
        resume: A run's folder, or a checkpoint in it, to go on with; `resuming.NEWEST` for the newest run of this
            configuration's folder. None starts a run of its own.

    Raises:
        Interrupted: It was told to stop. All is saved.
        RewardError: The rewards stopped coming. All is saved.
        OutOfMemory: Memory ran out. The message says which settings to change.
        ConfigError, DataError: The configuration or the data set is wrong.
    """
    models.prepare(config)  # before anything imports trl: Unsloth changes it
    from trainer.running import Run  # noqa: PLC0415  # see above; and seconds

    with warnings.catch_warnings():
        # transformers and TRL on each other's names; nothing that a person who runs this could mend
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|trl)\.")
        with contextlib.ExitStack() as resources:
            return Run(config, console or Console(), resume, resources).go()
