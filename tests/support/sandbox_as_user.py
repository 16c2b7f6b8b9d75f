"""Starts a sandbox as the user that runs this, tries all attacks in it, and prints what happened as JSON.

Arguments: the folder of the host's facts. It runs with the system's Python, which knows neither pytest nor the server's
libraries.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from sandbox_attacks import FILES, LIMITS, NETWORK, PRELUDE, PROCESSES
from sandbox_host import VARIABLE, host_in, run_one
from sandbox_kernel_attacks import KERNEL

from reward_server.sandbox.bubblewrap import Bubblewrap


async def attacked(folder: Path) -> dict[str, Any]:
    """Returns the sandbox's health, and what each attack printed."""
    sandbox = Bubblewrap()
    await sandbox.start()
    health = sandbox.health()
    if not health.serving:
        return {"serving": False, "reason": health.reason}
    attacks = FILES | NETWORK | PROCESSES | KERNEL
    with host_in(folder) as host:
        results = await asyncio.gather(
            *(run_one(sandbox, PRELUDE + attack.source, host.facts) for attack in attacks.values())
        )
    works = await run_one(sandbox, "import os; print(os.getuid())", limits=LIMITS)
    await sandbox.close()
    printed = dict(zip(attacks, [result.stdout for result in results], strict=True))
    return {"serving": True, "printed": printed, "uid": works.stdout.strip()}


os.environ[VARIABLE] = "secret"
sys.stdout.write(json.dumps(asyncio.run(attacked(Path(sys.argv[1])))))
