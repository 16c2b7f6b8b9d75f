"""`python -m trainer` with a note of every wait for rewards: when it began and ended, and at which step.

    REWARD_WAITS=waits.jsonl python benchmarks/training_traced.py train --config train.yaml

Part of `benchmarks/training.py`. Appends a JSON object a call of a remote reward function to the file: the epoch seconds
between which the training process did nothing but wait for the server, the step, the rank, the reward's name, and how many
completions it scored.
"""

from __future__ import annotations

import functools
import json
import os
import time
from pathlib import Path
from typing import Any

from trainer.cli import main
from trainer.rewards import RemoteReward


def note_waits(path: Path) -> None:
    """Has every remote reward function note its calls from now on."""
    call = RemoteReward.__call__

    @functools.wraps(call)
    def noted(self: RemoteReward, *arguments: Any, **given: Any) -> list[float | None]:
        began = time.time()
        scores = call(self, *arguments, **given)
        state = given.get("trainer_state")
        line = {
            "began": began,
            "ended": time.time(),
            "step": None if state is None else state.global_step + 1,
            "rank": int(os.environ.get("RANK", "0")),
            "reward": self.reward,
            "completions": len(scores),
        }
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        return scores

    RemoteReward.__call__ = noted  # type: ignore[method-assign]


if __name__ == "__main__":
    note_waits(Path(os.environ["REWARD_WAITS"]))
    main()
