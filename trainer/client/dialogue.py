"""What is said to the server, in which order, and what is done when it does not answer. No I/O: see `steps.py`."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence

import grpc
from grpc_health.v1 import health_pb2

from protos.reward.v1 import reward_pb2 as pb
from trainer.client.batch import Batch
from trainer.client.catalog import Catalog, Health, catalog_from
from trainer.client.failures import STALE_CODES, Failure, error_for, is_outage
from trainer.client.options import ClientOptions
from trainer.client.outage import Outage
from trainer.client.plan import Chunk, Plan, plan
from trainer.client.steps import Diagnose, Metadata, Method, Pause, Rpc, Send, Steps
from trainer.client.unserved import Unserved, unserved_in
from trainer.client.verdicts import Columns, ScoreResult
from trainer.errors import DeadlineExceeded, MissingColumn, NotServed, ServerUnreachable, TooLarge, UnknownReward

ASK_TIMEOUT_S = 10.0
"""Time for a question that costs the server nothing: what it offers, how it is."""

PROBE_TIMEOUT_S = 5.0
MIN_PROBE_TIMEOUT_S = 0.5
"""Of the last probe before the outage's limit, which would have no chance in what is left."""

PROBE_PAUSE_S = 0.5

MAX_PLANS = 4
"""How often a batch is planned when the server's configuration changes under it, before that is an error."""

_HEALTHS = {
    health_pb2.HealthCheckResponse.SERVING: Health.SERVING,
    health_pb2.HealthCheckResponse.NOT_SERVING: Health.NOT_SERVING,
}


class Dialogue:
    """The conversations of one client with its server. Remembers what the server offers between them."""

    def __init__(self, options: ClientOptions) -> None:
        self._options = options
        self._who = _who_asks(options)
        self.catalog: Catalog | None = None  # as last seen

    def health(self, reward: str) -> Steps[Health]:
        """Returns whether the server, or one reward of it, can serve now. Does not wait for a server that is away."""
        request = health_pb2.HealthCheckRequest(service=f"rewards/{reward}" if reward else "")
        rpc = Rpc(Method.CHECK_HEALTH, request.SerializeToString(), ASK_TIMEOUT_S, self._who)
        (answer,) = yield Send((rpc,))
        if not isinstance(answer, Failure):
            return _HEALTHS.get(answer.status, Health.UNKNOWN)
        if answer.code is grpc.StatusCode.NOT_FOUND:
            return Health.UNKNOWN
        diagnosis = yield Diagnose(answer)
        raise error_for(diagnosis, self._options) if isinstance(diagnosis, Failure) else diagnosis

    def list_rewards(self) -> Steps[Catalog]:
        """Returns what the server offers, asked anew. Waits for a server that is away, if the options say so."""
        outage = Outage(self._options)
        while True:
            answer = yield from self._ask_catalog(ASK_TIMEOUT_S)
            if isinstance(answer, Catalog):
                outage.over()
                return answer
            yield from self._endure(answer, outage)

    def score(self, batch: Batch) -> Steps[ScoreResult]:
        """Returns the verdicts on a batch, however often it has to be sent."""
        started = time.monotonic()
        try:
            for _ in range(MAX_PLANS):
                current = yield from self._plan(batch)
                request_id = uuid.uuid4().hex
                answer = yield from self._deliver(current, batch, request_id)
                if isinstance(answer, Failure):
                    if (yield from self.list_rewards()) == current.catalog:
                        raise error_for(answer, self._options)
                    continue
                if (yield from self._is_current(current, answer)):
                    return _result(current, answer, request_id, started)
        except (ServerUnreachable, DeadlineExceeded) as no_answer:
            if self._options.on_outage != "missing":
                raise
            return _nothing(batch, self.catalog, str(no_answer), started)
        raise NotServed(
            f"the configuration of reward server {self._options.target} changed {MAX_PLANS} times during one call; if "
            f"several servers stand behind this address, give them the same configuration"
        )

    def _plan(self, batch: Batch) -> Steps[Plan]:
        if self.catalog is not None:
            try:
                return plan(batch, self.catalog)
            except (UnknownReward, MissingColumn, TooLarge):
                pass  # true of the server as last seen: see whether it still is
        return plan(batch, (yield from self.list_rewards()))

    def _deliver(self, current: Plan, batch: Batch, request_id: str) -> Steps[list[pb.ScoreResponse] | Failure]:
        """Returns the answers to all chunks, or a failure that may come from an outdated plan."""
        outage, unserved = Outage(self._options), Unserved(self._options)
        answers: list[pb.ScoreResponse | Failure] = [_NOT_SENT] * len(current.chunks)
        attempt = 0
        while open_chunks := [index for index, answer in enumerate(answers) if self._is_open(answer)]:
            metadata = self._call_metadata(batch, request_id, attempt)
            news = yield Send(tuple(self._score_rpc(current.chunks[i], batch, metadata) for i in open_chunks))
            for index, answer in zip(open_chunks, news, strict=True):
                answers[index] = answer
            failures = [answer for answer in news if isinstance(answer, Failure)]
            if failures:
                worst = min(failures, key=is_outage)  # what waiting does not mend comes first
                if worst.code in STALE_CODES:
                    return worst
                yield from self._endure(worst, outage)
            elif away := self._unserved_in(news):
                yield from self._await_rewards(away, unserved, outage)
            attempt += 1
        outage.over()
        unserved.over()
        return [answer for answer in answers if not isinstance(answer, Failure)]

    def _is_open(self, answer: pb.ScoreResponse | Failure) -> bool:
        """Returns whether a chunk has still to be sent: it failed, or lacks verdicts that a later try may bring."""
        return isinstance(answer, Failure) or bool(self._unserved_in([answer]))

    def _unserved_in(self, responses: Sequence[pb.ScoreResponse]) -> dict[str, str]:
        return {} if self._options.on_outage == "missing" else unserved_in(responses)

    def _is_current(self, current: Plan, responses: Sequence[pb.ScoreResponse]) -> Steps[bool]:
        """Returns whether what was sent is what the rewards, as they answered, need."""
        expected = [info.version for info in current.infos]
        if all([verdicts.version for verdicts in response.results] == expected for response in responses):
            return True
        return current.suits((yield from self.list_rewards()))

    def _ask_catalog(self, timeout_s: float) -> Steps[Catalog | Failure]:
        request = pb.ListRewardsRequest().SerializeToString()
        (answer,) = yield Send((Rpc(Method.LIST_REWARDS, request, timeout_s, self._who),))
        if isinstance(answer, Failure):
            return answer
        self.catalog = catalog_from(answer, self._options.target)
        return self.catalog

    def _endure(self, failure: Failure, outage: Outage) -> Steps[None]:
        """Returns when it is time to ask again; raises what waiting cannot mend, or may not."""
        failed_at = time.monotonic()
        if failure.code is grpc.StatusCode.DEADLINE_EXCEEDED:
            probe = yield from self._ask_catalog(PROBE_TIMEOUT_S)
            if isinstance(probe, Catalog) or not _may_pass(probe):
                outage.late(failure)
                return
            failure = probe
        while True:
            if not _may_pass(failure):
                raise error_for(failure, self._options)
            diagnosis = yield Diagnose(failure)
            if not isinstance(diagnosis, Failure):
                raise diagnosis
            outage.goes_on(diagnosis, failed_at)
            yield Pause(min(PROBE_PAUSE_S, outage.left_s))
            timeout_s = min(PROBE_TIMEOUT_S, max(MIN_PROBE_TIMEOUT_S, outage.left_s))
            probe = yield from self._ask_catalog(timeout_s)
            if isinstance(probe, Catalog):
                return
            cut_short = timeout_s < PROBE_TIMEOUT_S and probe.code is grpc.StatusCode.DEADLINE_EXCEEDED
            if not cut_short:  # else the failure before says more about the cause
                failure = probe

    def _await_rewards(self, reasons: Mapping[str, str], unserved: Unserved, outage: Outage) -> Steps[None]:
        """Returns when it is time to ask a server again that lives, but could not serve some rewards.

        Raises:
            RewardUnavailable: They may not be waited for, or not any longer.
        """
        unserved.note(reasons)
        while True:
            unserved.goes_on()
            yield Pause(min(PROBE_PAUSE_S, unserved.left_s))
            probe = yield from self._ask_catalog(PROBE_TIMEOUT_S)
            if isinstance(probe, Failure):
                yield from self._endure(probe, outage)
                return
            if unserved.is_time(probe):
                return

    def _score_rpc(self, chunk: Chunk, batch: Batch, metadata: Metadata) -> Rpc:
        deadline_s = self._options.deadline_s if batch.deadline_s is None else batch.deadline_s
        return Rpc(Method.SCORE, chunk.request, deadline_s, metadata)

    def _call_metadata(self, batch: Batch, request_id: str, attempt: int) -> Metadata:
        step = () if batch.step is None else (("reward-step", str(batch.step)),)
        return (*self._who, ("reward-request-id", request_id), ("reward-attempt", str(attempt)), *step)


_NOT_SENT = Failure(grpc.StatusCode.UNKNOWN, "not sent yet")


def _who_asks(options: ClientOptions) -> Metadata:
    token = options.bearer_token()
    pairs = {
        "authorization": token and f"Bearer {token}",
        "reward-experiment": options.experiment,
        "reward-run-id": options.run_id,
    }
    return tuple((key, value) for key, value in pairs.items() if value)


def _may_pass(failure: Failure) -> bool:
    """Returns whether a server that failed like this may answer later."""
    return is_outage(failure) or failure.code is grpc.StatusCode.DEADLINE_EXCEEDED


def _result(current: Plan, responses: Sequence[pb.ScoreResponse], request_id: str, started: float) -> ScoreResult:
    return ScoreResult(
        rewards=current.merged(responses),
        request_id=request_id,
        attempt_count=max((response.attempt_count for response in responses), default=0),
        server_ms=max((response.server_ms for response in responses), default=0.0),
        wall_ms=(time.monotonic() - started) * 1e3,
        chunk_count=len(responses),
        replaced_surrogate_count=current.replaced_surrogate_count,
    )


def _nothing(batch: Batch, catalog: Catalog | None, reason: str, started: float) -> ScoreResult:
    """Returns failed verdicts for all of a batch."""
    rewards = {}
    for name in batch.rewards:
        known = catalog.rewards.get(name) if catalog else None
        columns = Columns(name, known.version if known else "", batch.sample_count)
        for sample in range(batch.sample_count):
            columns.fail(sample, reason)
        rewards[name] = columns.done()
    return ScoreResult(rewards, "", 0, 0.0, (time.monotonic() - started) * 1e3, 0, 0)
