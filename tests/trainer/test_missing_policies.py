"""A missing reward never moves the policy: TRL's own advantages and losses against the formulas of docs/grpo.md."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scripted_grpo import NAN, play, scripted_trainer

from trainer.dropping import LOSS_SCALE, scale_micro_batches
from trainer.errors import BadOptions, RewardMissing
from trainer.grpo import trainer_class
from trainer.missing import MissingPolicy

SCALES = ["group", "batch", "none"]
WEIGHTS = [1.0, 0.5]
ROUNDED = 1e-2
"""Normalised twice, by deviations that may be 0 but for 1e-4, a last digit of single precision becomes so much."""

LOSSES = ["grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo", "luspo"]

Rewards = list[tuple[float, float]]

score = st.integers(-8, 8).map(lambda value: value / 4)  # exact in single precision: a deviation of 0 is one there too
maybe = st.one_of(score, score, st.just(NAN))


@st.composite
def batches(draw: st.DrawFn) -> tuple[Rewards, int]:
    """Two or three groups of 2 to 4 completions, rewards with gaps."""
    group_size = draw(st.integers(2, 4))
    count = group_size * draw(st.integers(2, 3))
    return [(draw(maybe), draw(maybe)) for _ in range(count)], group_size


@pytest.fixture(scope="module")
def trainers(tiny_policy: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One trainer a policy, whose settings the tests change."""
    policies: list[MissingPolicy] = ["group_mean", "drop_sample", "drop_group", "raise"]
    folder = tmp_path_factory.mktemp("runs")
    return {
        policy: scripted_trainer(tiny_policy, folder / policy, missing=policy, reward_weights=WEIGHTS, beta=0.1)
        for policy in policies
    }


# ---------------------------------------------------------------- the formulas, as plain as they can be


def known(values: list[float]) -> list[float]:
    return [value for value in values if not math.isnan(value)]


def mean(values: list[float]) -> float:
    found = known(values)
    return sum(found) / len(found) if found else NAN


def deviation(values: list[float]) -> float:
    """With n - 1, as TRL; NaN for fewer than two."""
    found = known(values)
    if len(found) < 2:
        return NAN
    middle = mean(found)
    return math.sqrt(sum((value - middle) ** 2 for value in found) / (len(found) - 1))


def groups_of(values: list[Any], size: int) -> list[list[Any]]:
    return [values[first : first + size] for first in range(0, len(values), size)]


def with_group_means(rewards: Rewards, size: int) -> Rewards:
    of_batch = [mean([row[k] for row in rewards]) for k in (0, 1)]
    out = []
    for group in groups_of(rewards, size):
        of_group = [mean([row[k] for row in group]) for k in (0, 1)]
        for row in group:
            if all(map(math.isnan, row)):
                out.append(row)
                continue
            stands_in = [of_batch[k] if math.isnan(of_group[k]) else of_group[k] for k in (0, 1)]
            out.append(tuple(stands_in[k] if math.isnan(row[k]) else row[k] for k in (0, 1)))
    return out


def without(rewards: Rewards, size: int, policy: str) -> Rewards:
    lacks = [any(map(math.isnan, row)) for row in rewards]
    if policy == "drop_group":
        lacks = [any(group) for group in groups_of(lacks, size) for _ in group]
    return [(NAN, NAN) if lack else row for row, lack in zip(rewards, lacks, strict=True)]


def weighted(row: tuple[float, float]) -> float:
    """NaN where there is nothing at all."""
    if all(map(math.isnan, row)):
        return NAN
    return sum(weight * value for weight, value in zip(WEIGHTS, row, strict=True) if not math.isnan(value))


def zero_for_nan(values: list[float]) -> list[float]:
    return [0.0 if math.isnan(value) else value for value in values]


def sum_then_normalize(rewards: Rewards, size: int, scale: str) -> list[float]:
    totals = [weighted(row) for row in rewards]
    out = []
    for group in groups_of(totals, size):
        spread = {"group": deviation(group), "batch": deviation(totals), "none": 1.0}[scale]
        out += [(total - mean(group)) / (spread + (0.0 if scale == "none" else 1e-4)) for total in group]
    return zero_for_nan(out)


def normalize_then_sum(rewards: Rewards, size: int) -> list[float]:
    rows = []
    for group in groups_of(rewards, size):
        middle = [mean([row[k] for row in group]) for k in (0, 1)]
        spread = [deviation([row[k] for row in group]) for k in (0, 1)]
        rows += [tuple((row[k] - middle[k]) / (spread[k] + 1e-4) for k in (0, 1)) for row in group]
    totals = [NAN if all(map(math.isnan, row)) else weighted_or_0(z) for row, z in zip(rewards, rows, strict=True)]
    return zero_for_nan([(total - mean(totals)) / (deviation(totals) + 1e-4) for total in totals])


def weighted_or_0(row: tuple[float, float]) -> float:
    return sum(weight * value for weight, value in zip(WEIGHTS, row, strict=True) if not math.isnan(value))


def set_up(trainer: Any, aggregation: str, scale: str, loss_type: str = "dapo") -> Any:
    trainer.multi_objective_aggregation, trainer.scale_rewards, trainer.loss_type = aggregation, scale, loss_type
    return trainer


pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

many = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


# ---------------------------------------------------------------- advantages


@pytest.mark.parametrize("scale", SCALES)
@many
@given(batch=batches())
def test_group_mean_is_its_formula(trainers: dict[str, Any], scale: str, batch: tuple[Rewards, int]):
    rewards, size = batch
    trainer = set_up(trainers["group_mean"], "sum_then_normalize", scale)
    got = play(trainer, rewards, group_size=size)["advantages"].tolist()
    assert got == pytest.approx(sum_then_normalize(with_group_means(rewards, size), size, scale), abs=2e-3, rel=1e-3)


@many
@given(batch=batches())
def test_under_normalize_then_sum_a_gap_is_left_to_trl(trainers: dict[str, Any], batch: tuple[Rewards, int]):
    rewards, size = batch
    trainer = set_up(trainers["group_mean"], "normalize_then_sum", "group")
    got = play(trainer, rewards, group_size=size)["advantages"].tolist()
    assert got == pytest.approx(normalize_then_sum(rewards, size), abs=ROUNDED)


@pytest.mark.parametrize("policy", ["drop_sample", "drop_group"])
@pytest.mark.parametrize("scale", SCALES)
@many
@given(batch=batches())
def test_dropped_completions_are_not_there_for_the_others(
    trainers: dict[str, Any], policy: str, scale: str, batch: tuple[Rewards, int]
):
    rewards, size = batch
    trainer = set_up(trainers[policy], "sum_then_normalize", scale)
    made = play(trainer, rewards, group_size=size)
    left = without(rewards, size, policy)
    assert made["advantages"].tolist() == pytest.approx(sum_then_normalize(left, size, scale), abs=2e-3, rel=1e-3)
    gone = [math.isnan(row[0]) for row in left]
    mask = made["completion_mask"] * made["tool_mask"]
    assert [not row.any() for row in mask] == gone
    assert made["num_items_in_batch"] == mask.sum()


@pytest.mark.parametrize("policy", ["drop_sample", "drop_group"])
@many
@given(batch=batches())
def test_dropped_completions_are_not_there_under_normalize_then_sum(
    trainers: dict[str, Any], policy: str, batch: tuple[Rewards, int]
):
    rewards, size = batch
    trainer = set_up(trainers[policy], "normalize_then_sum", "group")
    got = play(trainer, rewards, group_size=size)["advantages"].tolist()
    assert got == pytest.approx(normalize_then_sum(without(rewards, size, policy), size), abs=ROUNDED)


@pytest.mark.parametrize("aggregation", ["sum_then_normalize", "normalize_then_sum"])
@pytest.mark.parametrize("scale", SCALES)
def test_a_missing_b_adds_nothing_to_its_own_samples_advantage(trainers: dict[str, Any], aggregation: str, scale: str):
    """The first sample lies above its group by A alone: with B missing its sign and share are those of A."""
    trainer = set_up(trainers["group_mean"], aggregation, scale)
    for b_of_others in (-100.0, 0.0, 100.0):
        rewards = [(0.5, NAN), (0.5, b_of_others), (0.5, b_of_others), (0.5, b_of_others)] + [
            (1.0, 1.0),
            (0.0, 0.0),
        ] * 2
        got = play(trainer, rewards, group_size=4)["advantages"][:4].tolist()
        assert got == pytest.approx([0.0] * 4, abs=1e-3), b_of_others


def test_what_trl_alone_makes_of_it(tiny_policy: Path, tmp_path: Path):
    """Why there is a subclass at all: without it the first sample is far below its group for no fault of its own."""
    trainer = scripted_trainer(tiny_policy, tmp_path, missing="drop_sample")
    trainer._missing_policy = "none"  # neither fills nor drops
    rewards = [(0.5, NAN), (0.5, 1.0), (0.5, 1.0), (0.5, 1.0)]
    assert play(trainer, rewards, group_size=4)["advantages"][0] < -1


def test_a_group_that_lacks_b_altogether_is_compared_by_a(trainers: dict[str, Any]):
    trainer = set_up(trainers["group_mean"], "sum_then_normalize", "none")
    rewards = [(0.0, NAN), (1.0, NAN), (0.25, 5.0), (0.75, 7.0)]
    got = play(trainer, rewards, group_size=2)["advantages"].tolist()
    assert got == pytest.approx([-0.5, 0.5, -0.75, 0.75])


def test_scaled_by_the_batch_a_group_that_lacks_b_is_on_the_batchs_scale(trainers: dict[str, Any]):
    """Its sums would lie far from the others', and the batch's deviation would make all advantages small."""
    trainer = set_up(trainers["group_mean"], "sum_then_normalize", "batch")
    there = [(0.0, 100.0), (1.0, 100.0), (0.0, 100.0), (1.0, 100.0)]
    gone = [(0.0, NAN), (1.0, NAN), (0.0, 100.0), (1.0, 100.0)]
    expected = play(trainer, there, group_size=2)["advantages"].tolist()
    assert play(trainer, gone, group_size=2)["advantages"].tolist() == pytest.approx(expected)


def test_where_nobody_has_b_all_lack_the_same(trainers: dict[str, Any]):
    trainer = set_up(trainers["group_mean"], "sum_then_normalize", "group")
    without_b = play(trainer, [(0.0, NAN), (1.0, NAN), (0.5, NAN), (2.0, NAN)], group_size=2)["advantages"].tolist()
    with_b = play(trainer, [(0.0, 0.0), (1.0, 0.0), (0.5, 0.0), (2.0, 0.0)], group_size=2)["advantages"].tolist()
    assert without_b == pytest.approx(with_b)


# ---------------------------------------------------------------- loss and gradient


def loss_and_gradient(trainer: Any, model_inputs: list[dict[str, Any]], *, base: bool = False) -> tuple[float, Any]:
    """Returns the loss of some micro-batches, accumulated, and its gradient."""
    trainer.model.zero_grad()
    trainer.current_gradient_accumulation_steps = len(model_inputs)
    compute = type(trainer).__mro__[2].compute_loss if base else type(trainer).compute_loss
    total = 0.0
    for inputs in model_inputs:
        loss = compute(trainer, trainer.model, inputs)
        loss.backward()
        total += loss.item()
    return total, torch.cat(
        [weights.grad.flatten() for weights in trainer.model.parameters() if weights.grad is not None]
    )


def only(batch: dict[str, Any], rows: list[int]) -> dict[str, Any]:
    """Returns the batch of these rows alone, as if the others had not been drawn."""
    alone = {key: value[rows] if value.ndim else value for key, value in batch.items() if key != LOSS_SCALE}
    return alone | {"num_items_in_batch": alone["completion_mask"].sum()}


@pytest.mark.parametrize("policy", ["drop_sample", "drop_group"])
@pytest.mark.parametrize("loss_type", LOSSES)
def test_dropped_completions_are_in_neither_loss_nor_gradient(trainers: dict[str, Any], policy: str, loss_type: str):
    trainer = set_up(trainers[policy], "sum_then_normalize", "group", loss_type)
    rewards = [(0.1, 1.0), (0.9, NAN), (0.3, 0.2), (0.7, 0.9), (0.1, 0.0), (0.2, 0.3), (0.5, 0.4), (0.6, 0.6)]
    made = play(trainer, rewards, group_size=4)
    if loss_type == "bnpo":
        scale_micro_batches([made], trainer.accelerator)
    kept = [0, 2, 3, 4, 5, 6, 7] if policy == "drop_sample" else [4, 5, 6, 7]
    loss, gradient = loss_and_gradient(trainer, [made])
    expected, expected_gradient = loss_and_gradient(trainer, [only(made, kept)], base=True)
    assert gradient.abs().max() > 0
    assert loss == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert torch.allclose(gradient, expected_gradient, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("loss_type", LOSSES)
def test_a_micro_batch_that_is_dropped_whole_is_not_averaged_over(trainers: dict[str, Any], loss_type: str):
    """Batch 1 with accumulation: each completion is a micro-batch of its own."""
    trainer = set_up(trainers["drop_sample"], "sum_then_normalize", "group", loss_type)
    rewards = [(0.1, 1.0), (0.9, NAN), (0.3, 0.2), (0.7, 0.9)]
    made = play(trainer, rewards, group_size=4)
    trainer.args.steps_per_generation = 4
    micro = [{key: value[i : i + 1] if value.ndim else value for key, value in made.items()} for i in range(4)]
    if loss_type == "bnpo":
        scale_micro_batches(micro, trainer.accelerator)
    loss, gradient = loss_and_gradient(trainer, micro)
    trainer.args.steps_per_generation = 3
    alone = [only(made, [row]) | {"num_items_in_batch": made["num_items_in_batch"]} for row in (0, 2, 3)]
    expected, expected_gradient = loss_and_gradient(trainer, alone, base=True)
    trainer.args.steps_per_generation = 1
    assert gradient.abs().max() > 0
    assert loss == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert torch.allclose(gradient, expected_gradient, rtol=1e-3, atol=1e-6)


def test_a_batch_that_is_dropped_whole_moves_nothing(trainers: dict[str, Any]):
    for loss_type in LOSSES:
        trainer = set_up(trainers["drop_group"], "sum_then_normalize", "group", loss_type)
        made = play(trainer, [(0.1, NAN), (0.9, 0.5)], group_size=2)
        scale_micro_batches([made], trainer.accelerator)
        loss, gradient = loss_and_gradient(trainer, [made])
        assert loss == 0
        assert not gradient.any()


# ---------------------------------------------------------------- the log, raise, stop, seams


def test_the_log_has_what_was_given_and_how_much_was_missing(trainers: dict[str, Any]):
    trainer = set_up(trainers["group_mean"], "sum_then_normalize", "group")
    trainer._metrics["train"].clear()
    play(trainer, [(0.0, NAN), (1.0, 3.0), (0.0, NAN), (1.0, NAN)], group_size=2)
    logged = {name: values[-1] for name, values in trainer._metrics["train"].items()}
    assert logged["rewards/b/mean"] == 3.0  # a filled one is no score
    assert logged["rewards/a/missing"] == 0
    assert logged["rewards/b/missing"] == 3
    assert logged["missing/share"] == pytest.approx(3 / 8)
    assert logged["missing/filled"] == 3
    assert logged["missing/dropped"] == 0
    assert {"time/generate_s", "time/rewards_s", "watch/zero_variance"} <= logged.keys()
    assert [math.isnan(value) for value in list(trainer._logs["rewards"]["b"])[-4:]] == [True, False, True, True]


def test_only_what_is_filled_is_counted_as_filled(trainers: dict[str, Any]):
    trainer = set_up(trainers["group_mean"], "normalize_then_sum", "group")
    play(trainer, [(0.0, NAN), (1.0, 3.0)], group_size=2)
    assert trainer._metrics["train"]["missing/filled"][-1] == 0
    trainer = set_up(trainer, "sum_then_normalize", "group")
    play(trainer, [(NAN, NAN), (1.0, 3.0), (2.0, NAN), (0.0, 1.0)], group_size=2)
    assert trainer._metrics["train"]["missing/filled"][-1] == 1


def test_what_reaches_the_length_limit_is_not_in_the_spread_of_lengths(trainers: dict[str, Any]):
    trainer = set_up(trainers["group_mean"], "sum_then_normalize", "group")
    trainer._metrics["train"].clear()
    limit, trainer.max_completion_length = trainer.max_completion_length, 1
    try:
        play(trainer, [(0.0, 1.0), (1.0, 3.0)], group_size=2)
    finally:
        trainer.max_completion_length = limit
    assert "watch/length_spread" not in trainer._metrics["train"]


def test_the_seconds_of_a_resumed_runs_first_step_begin_with_it(trainers: dict[str, Any], monkeypatch):
    trainer, logged = trainers["group_mean"], []
    base = type(trainer).__mro__[2]
    monkeypatch.setattr(base, "log", lambda self, logs, start_time=None: logged.append(logs))
    monkeypatch.setattr(base, "_prepare_inputs", lambda self, batch: batch)
    monkeypatch.setattr(trainer, "_last_logged", None)
    now = iter([100.0, 104.0, 110.0, 111.0])
    monkeypatch.setattr("trainer.grpo.time.monotonic", lambda: next(now))
    monkeypatch.setattr(trainer.state, "global_step", 50)
    trainer._prepare_inputs({})
    trainer.state.global_step = 52
    trainer.log({"loss": 0.0})
    trainer.model.eval()
    trainer.log({"eval_loss": 0.0})
    trainer.model.train()
    trainer.state.global_step = 53
    trainer.log({"loss": 0.0})
    assert [logs.get("time/step_s") for logs in logged] == [2.0, None, 1.0]


def test_dropped_completions_are_counted(trainers: dict[str, Any]):
    trainer = set_up(trainers["drop_group"], "sum_then_normalize", "group")
    play(trainer, [(0.0, NAN), (1.0, 3.0), (0.0, 1.0), (1.0, 2.0)], group_size=2)
    assert trainer._metrics["train"]["missing/dropped"][-1] == 2


def test_raise_says_which_reward_lacks_how_many(trainers: dict[str, Any]):
    trainer = set_up(trainers["raise"], "sum_then_normalize", "group")
    play(trainer, [(0.0, 1.0), (1.0, 3.0)], group_size=2)
    with pytest.raises(RewardMissing, match="reward 'b': 1 of 2 scores are missing"):
        play(trainer, [(0.0, NAN), (1.0, 3.0)], group_size=2)


class Limit:
    share = 0.25
    steps = 2


def test_a_run_ends_when_too_much_is_missing_too_often(tiny_policy: Path, tmp_path: Path):
    trainer = scripted_trainer(tiny_policy, tmp_path, stop_when_missing=Limit())
    bad, good = [(0.0, NAN), (NAN, 3.0)], [(0.0, 1.0), (1.0, NAN)]
    for rewards in (bad, good, bad):
        play(trainer, rewards, group_size=2)
    with pytest.raises(RewardMissing, match=r"more than 25% of the scores were missing in 2 batches in a row"):
        play(trainer, bad, group_size=2)


def test_a_release_in_which_a_seam_has_moved_is_refused():
    class Moved:
        def _calculate_rewards(self, prompts, completions): ...

    with pytest.raises(BadOptions, match=r"Moved\._calculate_rewards takes \(self, prompts, completions\), and should"):
        trainer_class(Moved)


def test_an_unknown_policy_is_refused(tiny_policy: Path, tmp_path: Path):
    with pytest.raises(BadOptions, match="group_mean, drop_sample, drop_group, raise"):
        scripted_trainer(tiny_policy, tmp_path, missing="none")
