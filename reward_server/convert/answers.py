"""What a caller is told: verdicts and the list of rewards -> messages."""

from __future__ import annotations

from collections.abc import Sequence
from math import nan
from typing import Final

from protos.reward.v1 import reward_pb2 as pb
from reward_server import __version__
from reward_server.config import Limits
from reward_server.domain import NO_COST, Blame, CostClass, Status, Verdict
from reward_server.reward import RewardInfo
from reward_server.scoring import RewardResult

STATUS_TO_WIRE: Final = {
    Status.SCORED: pb.STATUS_SCORED,
    Status.ABSTAINED: pb.STATUS_ABSTAINED,
    Status.FAILED: pb.STATUS_FAILED,
}
_SCORED: Final = Status.SCORED  # an enum's members are slow to look up
BLAME_TO_WIRE: Final = {
    Blame.UNKNOWN: pb.BLAME_UNSPECIFIED,
    Blame.COMPLETION: pb.BLAME_COMPLETION,
    Blame.REFERENCE: pb.BLAME_REFERENCE,
    Blame.OUTAGE: pb.BLAME_OUTAGE,
}
COST_CLASS_TO_WIRE: Final = {
    CostClass.TRIVIAL: pb.COST_CLASS_TRIVIAL,
    CostClass.COMPUTE: pb.COST_CLASS_COMPUTE,
    CostClass.JUDGE: pb.COST_CLASS_JUDGE,
}


def score_response_from(results: Sequence[RewardResult], attempt_count: int) -> pb.ScoreResponse:
    """Returns the answer to one batch."""
    return pb.ScoreResponse(results=map(verdicts_from, results), attempt_count=attempt_count)


def stream_response_from(results: Sequence[RewardResult], attempt_count: int) -> pb.ScoreStreamResponse:
    """Returns one piece of the answer to one batch."""
    return pb.ScoreStreamResponse(results=map(verdicts_from, results), attempt_count=attempt_count)


def listing_from(rewards: Sequence[RewardInfo], limits: Limits) -> pb.ListRewardsResponse:
    """Returns what is on offer."""
    return pb.ListRewardsResponse(
        rewards=map(reward_from, rewards),
        max_request_bytes=limits.max_request_bytes,
        max_completion_bytes=limits.max_completion_bytes,
        server_version=__version__,
    )


def verdicts_from(result: RewardResult) -> pb.RewardVerdicts:
    """Returns one reward's verdicts as the message."""
    verdicts = result.verdicts
    statuses = [pb.STATUS_SCORED if v.status is _SCORED else STATUS_TO_WIRE[v.status] for v in verdicts]
    message = pb.RewardVerdicts(
        name=result.name,
        version=result.version,
        scores=[nan if verdict.score is None else verdict.score for verdict in verdicts],
        statuses=statuses,
        sample_indexes=result.indexes,
        cost=pb.Cost(total_ms=result.total_ms),
    )
    if statuses.count(pb.STATUS_SCORED) < len(statuses) or not all(map(_is_plain, verdicts)):
        _add_reasons(message, verdicts)
        _add_explanations(message, result)
        _add_parts(message, verdicts)
        _add_flags(message, result)
        _add_blames(message, verdicts)
        _add_cost(message.cost, verdicts)
    return message


def _is_plain(verdict: Verdict) -> bool:
    """Returns whether a score is all that there is to tell, as of most verdicts of rules."""
    return not (verdict.explanation or verdict.parts or verdict.flags or verdict.cost is not NO_COST)


def _add_reasons(message: pb.RewardVerdicts, verdicts: Sequence[Verdict]) -> None:
    reasons = list(dict.fromkeys(verdict.status_reason for verdict in verdicts if verdict.status_reason))
    if not reasons:
        return
    numbers = {reason: number for number, reason in enumerate(reasons, start=1)} | {"": 0}
    message.status_reasons.extend(reason.encode(errors="replace").decode() for reason in reasons)
    message.status_reason_indexes.extend(numbers[verdict.status_reason] for verdict in verdicts)


def _add_explanations(message: pb.RewardVerdicts, result: RewardResult) -> None:
    for position, verdict in enumerate(result.verdicts):
        if verdict.explanation:
            index = position if result.indexes is None else result.indexes[position]
            message.explanations.add(sample_index=index, text=verdict.explanation.encode(errors="replace"))


def _add_parts(message: pb.RewardVerdicts, verdicts: Sequence[Verdict]) -> None:
    for part in dict.fromkeys(name for verdict in verdicts for name in verdict.parts):
        scores = [verdict.parts.get(part) for verdict in verdicts]
        message.parts.add(name=part, scores=[nan if score is None else score for score in scores])


def _add_flags(message: pb.RewardVerdicts, result: RewardResult) -> None:
    flagged: dict[str, list[int]] = {}
    for position, verdict in enumerate(result.verdicts):
        for flag in verdict.flags:
            flagged.setdefault(flag, []).append(position if result.indexes is None else result.indexes[position])
    for name, indexes in flagged.items():
        message.flags.add(name=name.encode(errors="replace").decode(), sample_indexes=sorted(set(indexes)))


def _add_blames(message: pb.RewardVerdicts, verdicts: Sequence[Verdict]) -> None:
    blames = [verdict.blame if verdict.score is None else Blame.UNKNOWN for verdict in verdicts]
    if any(blame is not Blame.UNKNOWN for blame in blames):
        message.blames.extend(BLAME_TO_WIRE[blame] for blame in blames)


def _add_cost(message: pb.Cost, verdicts: Sequence[Verdict]) -> None:
    cost = sum((verdict.cost for verdict in verdicts if verdict.cost is not NO_COST), start=NO_COST)
    message.queue_ms = cost.queue_ms
    message.judge_call_count = cost.judge_call_count
    message.judge_ms = cost.judge_ms
    message.prompt_token_count = cost.prompt_token_count
    message.decoded_token_count = cost.decoded_token_count


def reward_from(info: RewardInfo) -> pb.Reward:
    """Returns one line of the server's list as the message."""
    message = pb.Reward(
        name=info.name,
        version=info.version,
        kind=info.kind,
        required_columns=sorted(info.needs.required_columns),
        optional_columns=sorted(info.needs.optional_columns),
        reads_all_columns=info.needs.all_columns,
        reads_prompts=info.needs.prompts,
        cost_class=COST_CLASS_TO_WIRE[info.cost_class],
        health=pb.HEALTH_SERVING if info.health.serving else pb.HEALTH_NOT_SERVING,
        health_reason=info.health.reason,
        description=info.description,
    )
    if info.score_range is not None:
        message.min_score, message.max_score = info.score_range
    if info.floor is not None:
        message.floor = info.floor
    return message
