"""What a server offers: its rewards, what each needs, and its limits."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from protos.reward.v1 import reward_pb2 as pb
from trainer.errors import MissingColumn, UnknownReward

COMPLETION_IDS = "completion_ids"
"""The tokens of the completions as a column: large, so it travels only to rewards that name it."""


class CostClass(StrEnum):
    """What one verdict of a reward costs, roughly."""

    UNKNOWN = "unknown"
    TRIVIAL = "trivial"  # microseconds, computed in the server itself
    COMPUTE = "compute"  # up to seconds of a CPU
    JUDGE = "judge"  # a model is asked


class Health(StrEnum):
    """Whether something can serve now."""

    UNKNOWN = "unknown"
    SERVING = "serving"
    NOT_SERVING = "not_serving"


@dataclass(frozen=True, slots=True)
class RewardInfo:
    """One reward of the server's configuration."""

    name: str
    version: str  # hash of everything that shapes a score
    kind: str  # "length", "python", "judge", ...
    required_columns: tuple[str, ...] = ()
    optional_columns: tuple[str, ...] = ()
    reads_all_columns: bool = False
    reads_prompts: bool = False
    min_score: float | None = None  # None = unknown
    max_score: float | None = None  # None = unknown
    cost_class: CostClass = CostClass.UNKNOWN
    health: Health = Health.UNKNOWN
    health_reason: str = ""
    description: str = ""
    floor: float | None = None  # score of a completion that itself breaks its grader; None = it is missing

    def columns_of(self, given: Collection[str]) -> tuple[str, ...]:
        """Returns those of the given columns that travel to this reward. Raises `MissingColumn`."""
        for column in self.required_columns:
            if column not in given:
                there = ", ".join(sorted(given)) or "none at all"
                raise MissingColumn(
                    f"reward {self.name!r} needs the column {column!r}; there are: {there}. Add it to the dataset, "
                    f"or rename the one that holds it"
                )
        if self.reads_all_columns:
            return tuple(column for column in given if column != COMPLETION_IDS or column in self.named_columns)
        return tuple(column for column in self.named_columns if column in given)

    @property
    def needs(self) -> object:
        """Returns what shapes a request to this reward, to be compared."""
        return set(self.required_columns), set(self.optional_columns), self.reads_all_columns, self.reads_prompts

    @property
    def named_columns(self) -> tuple[str, ...]:
        """Returns the columns that it asks for by name."""
        return self.required_columns + self.optional_columns


@dataclass(frozen=True, slots=True)
class Catalog:
    """What a server offers, as it was when asked."""

    target: str
    rewards: Mapping[str, RewardInfo]  # in the order of the server's configuration
    max_request_bytes: int  # 0 = not stated
    max_completion_bytes: int  # 0 = not stated
    server_version: str

    def asked(self, names: Sequence[str]) -> tuple[RewardInfo, ...]:
        """Returns the rewards of those names. Raises `UnknownReward`."""
        for name in names:
            if name not in self.rewards:
                there = ", ".join(self.rewards) or "none at all"
                raise UnknownReward(f"reward server {self.target} has no reward {name!r}; it has: {there}")
        return tuple(self.rewards[name] for name in names)


def catalog_from(response: pb.ListRewardsResponse, target: str) -> Catalog:
    """Returns the catalogue that a server sent."""
    return Catalog(
        target,
        {reward.name: _reward_from(reward) for reward in response.rewards},
        response.max_request_bytes,
        response.max_completion_bytes,
        response.server_version,
    )


_COST_CLASSES = {
    pb.COST_CLASS_TRIVIAL: CostClass.TRIVIAL,
    pb.COST_CLASS_COMPUTE: CostClass.COMPUTE,
    pb.COST_CLASS_JUDGE: CostClass.JUDGE,
}
_HEALTHS = {pb.HEALTH_SERVING: Health.SERVING, pb.HEALTH_NOT_SERVING: Health.NOT_SERVING}


def _reward_from(reward: pb.Reward) -> RewardInfo:
    return RewardInfo(
        reward.name,
        reward.version,
        reward.kind,
        tuple(reward.required_columns),
        tuple(reward.optional_columns),
        reward.reads_all_columns,
        reward.reads_prompts,
        reward.min_score if reward.HasField("min_score") else None,
        reward.max_score if reward.HasField("max_score") else None,
        _COST_CLASSES.get(reward.cost_class, CostClass.UNKNOWN),
        _HEALTHS.get(reward.health, Health.UNKNOWN),
        reward.health_reason,
        reward.description,
        reward.floor if reward.HasField("floor") else None,
    )
