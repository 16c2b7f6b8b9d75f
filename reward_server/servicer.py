"""The RPCs: read, score, answer."""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from typing import Any, Final, NoReturn

import grpc
import grpc.aio
import structlog

from protos.reward.v1 import reward_pb2 as pb
from reward_server import convert
from reward_server.caller import authenticate, call_of, metadata_of
from reward_server.config import Limits
from reward_server.domain import Call, Sample
from reward_server.errors import Busy, RewardServerError, TooLarge
from reward_server.refusals import STATUS_OF
from reward_server.rewards import Rewards
from reward_server.scoring import RewardResult, Selector
from reward_server.sharing.repeats import CallKey, Repeats
from reward_server.telemetry.logs import about

SERVICE: Final = pb.DESCRIPTOR.services_by_name["RewardService"].full_name

STREAM_TICK_S: Final = 0.02
"""A stream's messages are at least so far apart: a message per verdict would cost ten times as much."""

MAX_DETAIL_BYTES: Final = 2000
"""A status travels in headers, which have limits of their own; there gRPC writes all but `PRINTABLE` as %XX."""

PRINTABLE: Final = range(0x20, 0x7F)

Context = grpc.aio.ServicerContext[Any, Any]

log = structlog.get_logger(__name__)


class RewardServicer:
    """Answers the RPCs of `reward.v1.RewardService`.

    Requests come in as bytes, so that what is no message at all can be answered with a status that says so.

    Args:
        rewards: what can be asked for; open.
        repeats: calls under way and answers of late.
        limits: what is refused.
        token: what a call must bring; None = nothing.
    """

    def __init__(self, rewards: Rewards, repeats: Repeats, limits: Limits, token: str | None) -> None:
        self._rewards = rewards
        self._repeats = repeats
        self._limits = limits
        self._token = None if token is None else token.encode()
        self.call_count = 0  # calls being answered
        self._idle = asyncio.Event()
        self._idle.set()

    def handlers(self) -> grpc.GenericRpcHandler[bytes, Any]:
        """Returns what a gRPC server needs to serve this."""
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Score": grpc.unary_unary_rpc_method_handler(
                    self.score, response_serializer=pb.ScoreResponse.SerializeToString
                ),
                "ScoreStream": grpc.unary_stream_rpc_method_handler(
                    self.score_stream, response_serializer=pb.ScoreStreamResponse.SerializeToString
                ),
                "ListRewards": grpc.unary_unary_rpc_method_handler(
                    self.list_rewards, response_serializer=pb.ListRewardsResponse.SerializeToString
                ),
            },
        )

    async def idle(self) -> None:
        """Returns when no call is being answered."""
        await self._idle.wait()

    async def score(self, data: bytes, context: Context) -> pb.ScoreResponse:
        """Scores one batch and answers with all verdicts."""
        began = time.perf_counter()
        try:
            call = self._enter(data, context)
            request = convert.score_request_from(data)
            results = await self._results(request, data, call)
            response = convert.score_response_from(results, call.attempt_count)
            response.server_ms = _ms_since(began)
            log.info("call answered", ms=round(response.server_ms, 3), missing=_missing_count(results))
        except Exception as error:  # noqa: BLE001  # whatever it is, the caller gets a status
            await _refuse(context, error)
        finally:
            self._leave()
        return response

    async def score_stream(self, data: bytes, context: Context) -> None:
        """Scores one batch and answers in pieces."""
        began = time.perf_counter()
        try:
            call = self._enter(data, context)
            request = convert.stream_request_from(data)
            missing = 0
            async with aclosing(self._pieces(request, call)) as pieces:
                async for results in pieces:
                    await context.write(convert.stream_response_from(results, call.attempt_count))
                    missing += _missing_count(results)
            log.info("call answered", ms=round(_ms_since(began), 3), missing=missing)
        except Exception as error:  # noqa: BLE001  # whatever it is, the caller gets a status
            await _refuse(context, error)
        finally:
            self._leave()

    async def list_rewards(self, data: bytes, context: Context) -> pb.ListRewardsResponse:
        """Lists what can be asked for."""
        try:
            self._enter(data, context)
            convert.list_request_from(data)
            return convert.listing_from(self._rewards.describe(), self._limits)
        except Exception as error:  # noqa: BLE001  # whatever it is, the caller gets a status
            await _refuse(context, error)
        finally:
            self._leave()

    def _enter(self, data: bytes, context: Context) -> Call:
        """Returns who asks; counts the call, which must `_leave` in any case."""
        self.call_count += 1
        self._idle.clear()
        metadata = metadata_of(context)
        if self._token is not None:
            authenticate(metadata, self._token)
        if self.call_count > self._limits.max_pending_calls:
            raise Busy(f"the server has {self._limits.max_pending_calls} calls at a time (limits.max_pending_calls)")
        if len(data) > self._limits.max_request_bytes:
            raise TooLarge(
                f"the request has {len(data):,} bytes, over the server's limit of {self._limits.max_request_bytes:,}: "
                "send the batch in chunks, or raise limits.max_request_mb of the server"
            )
        return call_of(context, metadata)

    def _leave(self) -> None:
        self.call_count -= 1
        if self.call_count == 0:
            self._idle.set()

    def _samples(self, batch: pb.Batch) -> list[Sample]:
        """Returns the batch as (N,) samples. Raises `TooLarge` before it converts any: that holds up the event loop."""
        for name, column in (("completions", batch.completions), ("prompts", batch.prompts)):
            count = len(column.message_counts or column.texts)
            if count > self._limits.max_samples:
                raise TooLarge(
                    f"the request has {count:,} {name}, over the server's limit of {self._limits.max_samples:,}: "
                    "score fewer at a time, or raise limits.max_samples of the server"
                )
        return convert.samples_from(batch)

    async def _results(self, request: pb.ScoreRequest, data: bytes, call: Call) -> Sequence[RewardResult]:
        selectors = convert.selectors_from(request)
        samples = self._samples(request.batch)
        _log_taken(call, selectors, len(samples))
        if call.request_id:
            return await self._repeats.answer(
                CallKey(call.experiment, call.request_id, request.chunk_index, selectors),
                zlib.crc32(data),
                call.deadline,
                begin=lambda: self._rewards.begin(selectors, samples, call),
                joined=lambda: log.info("call joined", chunk=request.chunk_index),
            )
        scoring = self._rewards.begin(selectors, samples, call)
        try:
            return await scoring.results(call.deadline)
        finally:
            scoring.close()

    async def _pieces(self, request: pb.ScoreStreamRequest, call: Call) -> AsyncGenerator[list[RewardResult], None]:
        selectors = convert.selectors_from(request)
        samples = self._samples(request.batch)
        _log_taken(call, selectors, len(samples))
        scoring = self._rewards.begin(selectors, samples, call)
        try:
            async for results in scoring.arriving():
                yield results
                if not scoring.done:
                    await asyncio.sleep(STREAM_TICK_S)
        finally:
            scoring.close()


async def _refuse(context: Context, error: Exception) -> NoReturn:
    """Ends the call with the status that the error stands for."""
    code = STATUS_OF.get(type(error)) if isinstance(error, RewardServerError) else None
    if code is None:
        with suppress(Exception):  # the caller gets a status even where the log fails
            log.error("call failed", **about(error))
        code, words = grpc.StatusCode.INTERNAL, f"a bug of the server ({type(error).__name__}): see its log"
    else:
        words = str(error)
        with suppress(Exception):  # likewise
            log.info("call refused", status=code.name)
    await context.abort(code, _cut(words))


def _cut(words: str) -> str:
    """Returns the words, or as much of their beginning as may travel."""
    size = 0
    for position, character in enumerate(words):
        code = character.encode(errors="replace")
        size += 1 if len(code) == 1 and PRINTABLE.start <= code[0] < PRINTABLE.stop and code != b"%" else 3 * len(code)
        if size > MAX_DETAIL_BYTES:
            return words[:position]
    return words


def _log_taken(call: Call, selectors: Sequence[Selector], sample_count: int) -> None:
    known = {"request_id": call.request_id, "experiment": call.experiment, "run_id": call.run_id, "step": call.step}
    structlog.contextvars.bind_contextvars(**{key: value for key, value in known.items() if value not in ("", None)})
    log.info("call taken", rewards=[each.name for each in selectors], samples=sample_count, attempt=call.attempt_count)


def _missing_count(results: Sequence[RewardResult]) -> int:
    return sum([verdict.score is None for result in results for verdict in result.verdicts])


def _ms_since(began: float) -> float:
    return (time.perf_counter() - began) * 1e3
