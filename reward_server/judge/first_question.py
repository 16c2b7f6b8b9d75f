"""A plain question to a judge: does a verdict come of it at all? Asked before anybody trains, by `check --deep`.

An engine may serve and its answers still be of no use: a model that writes prose where a label is wanted, a server that
leaves log-probabilities out. That shows only in an answer.
"""

from __future__ import annotations

import time
from typing import Final

from reward_server.bland import BLAND
from reward_server.domain import Call, Sample, Status
from reward_server.judge.judge import Judge

PROMPT: Final = "What is the capital of France?"
ANSWERS: Final = ("The capital of France is Paris, on the Seine.", BLAND)
REFERENCE: Final = "Paris"


async def why_no_verdict(judge: Judge) -> str:
    """Returns why a judge gave no verdict on either of two plain answers; empty where it gave one."""
    columns = dict.fromkeys(judge.needs.required_columns, REFERENCE)
    samples = [Sample(answer, PROMPT, columns) for answer in ANSWERS]
    options = judge.options
    call = Call(deadline=time.monotonic() + options.timeout_s * (options.attempts + 1))
    reasons = []
    async for _, verdict in judge.score(samples, call, fresh=True):
        if verdict.status is Status.SCORED:
            return ""
        reasons.append(verdict.status_reason)
    return reasons[0]
