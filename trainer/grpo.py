"""The one subclass of `GRPOTrainer`: whole groups, gaps that never move the policy, and all ranks ending together.

```python
trainer = trainer_class()(model=model, reward_funcs=[...], args=config, train_dataset=dataset, missing="group_mean")
```

It goes in between at these places of `GRPOTrainer`, all of which it checks for when it is made:

- `_calculate_rewards`, which returns the rewards of all ranks: the functions are called for whole groups, what failed on
  one rank is raised on all, and the missing-reward policy is applied (`exchange`, `gaps`);
- `_generate_and_score_completions`, which makes the batch for the loss: dropped rows leave the loss's mask and its
  denominator, and the log gets the rewards as they were given, not as they were filled;
- `compute_loss`: where the loss is a mean over rows, or over micro-batches, the dropped ones are not counted;
- `_generate`, `log`: where the time goes.

Metrics beside TRL's and those of `rewards`: `rewards/<reward>/missing` (scores missing in a batch, over all ranks),
`missing/share` (of all scores of a batch), `missing/filled`, `missing/dropped` (completions), `time/generate_s` and
`time/rewards_s` (of a batch), `time/step_s`, and those of `watching.batch`.

Needs torch and trl; import it only where a run is made.
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, get_args

import torch
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.utils import nanstd

from trainer.dropping import LOSS_SCALE, MEAN_OVER_MICRO_BATCHES, scale_micro_batches, take_out
from trainer.errors import BadOptions, RewardMissing
from trainer.exchange import Exchange, Rows, Scored
from trainer.gaps import dropped_rows, filled, without_dropped
from trainer.missing import MissingLimit, MissingPolicy, missing_key
from trainer.seams import check_seams
from trainer.watching.batch import BatchFacts, metrics

_log = logging.getLogger(__name__)


def trainer_class(base: type[Any] | None = None) -> type[Any]:
    """Returns the subclass of `base`, by default of TRL's `GRPOTrainer`. Unsloth puts another class in its place.

    Its constructor takes besides what the base takes:
        missing: What becomes of a completion for which a reward function returned None; see docs/grpo.md. A
            `remote_reward` must leave that to it: `remote_reward(..., missing="none")`.
        stop_when_missing: Ends the run, on all ranks, with `RewardMissing`.

    Raises:
        BadOptions: In this release of TRL or Unsloth a place where the subclass goes in between has moved.
    """
    chosen: Any = base or GRPOTrainer
    return _made(chosen)


@cache
def _made(base: type[Any]) -> type[Any]:
    check_seams(base)
    return type("RewardGRPOTrainer", (_InBetween, base), {"__module__": __name__, "__doc__": _InBetween.__doc__})


_Base: Any = object


class _InBetween(_Base):  # type: ignore[misc]  # it stands before any class that `trainer_class` is given
    """A `GRPOTrainer` whose missing rewards never move the policy. Made by `trainer_class`."""

    reward_funcs: list[Any]
    max_completion_length: int | None
    current_gradient_accumulation_steps: float

    def __init__(
        self,
        *args: Any,
        missing: MissingPolicy = "group_mean",
        stop_when_missing: MissingLimit | None = None,
        **kwargs: Any,
    ) -> None:
        if missing not in get_args(MissingPolicy):
            raise BadOptions(f"missing is {missing!r}; it can be: {', '.join(get_args(MissingPolicy))}")
        super().__init__(*args, **kwargs)
        if len(set(self.reward_func_names)) < len(self.reward_func_names):
            raise BadOptions(
                f"two reward functions have one name ({', '.join(self.reward_func_names)}): TRL's log would mix them up; "
                "set another __name__"
            )
        self._missing_policy = missing
        self._missing_limit = stop_when_missing
        self._batches_missing_too_much = 0
        self._exchange = Exchange(
            self.reward_funcs,
            self.reward_func_names,
            rank=self.accelerator.process_index,
            rank_count=self.accelerator.num_processes,
        )
        self.reward_funcs = self._exchange.functions
        self._given = torch.empty(0)  # the last batch's rewards as the functions gave them, (N, F)
        self._dropped = torch.empty(0, dtype=torch.bool)  # which of its completions are dropped, (N,)
        self._token_counts: list[int] = []  # of this rank's completions
        self._last_logged: tuple[float, int] | None = None  # when, and after which step; None before the first
        if missing.startswith("drop") and getattr(self, "aux_loss_enabled", False):
            _log.warning(
                "missing: %s leaves dropped completions in the router's auxiliary loss of a mixture of experts; set "
                "router_aux_loss_coef to 0, or take missing: group_mean",
                missing,
            )

    def _generate(self, prompts: list[Any]) -> Any:
        began = time.monotonic()
        generated = super()._generate(prompts)
        self._note(time__generate_s=time.monotonic() - began)
        return generated

    def _calculate_rewards(
        self, inputs: list[Any], prompts: list[Any], completions: list[Any], completion_ids_list: list[Any]
    ) -> torch.Tensor:
        """Returns the rewards of all ranks (N, F) after the missing-reward policy."""
        began = time.monotonic()
        first = self.accelerator.process_index * len(prompts)
        rows = Rows(range(first, first + len(prompts)), inputs, prompts, completions, completion_ids_list)
        group_size = self._group_size()
        self._token_counts = [len(ids) for ids in completion_ids_list]
        self._exchange.begin(rows, group_size, movable=not getattr(self, "environments", None))
        try:
            rewards = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        except Exception as error:  # noqa: BLE001  # of a reward model; a function's is kept, but where there is one rank
            rewards = self._exchange.stand_in(error, len(prompts), self.accelerator.device)
        scored = self._exchange.finish(rewards, self._pending_extra_logs)
        self._given = scored.rewards
        self._note(time__rewards_s=time.monotonic() - began)
        self._stand_up_to_missing(scored)
        self._dropped = dropped_rows(scored.rewards, group_size, self._missing_policy)
        if self._missing_policy == "group_mean":
            made = filled(scored.rewards, group_size, self.multi_objective_aggregation)
        else:
            made = without_dropped(scored.rewards, self._dropped)
        filled_count = (scored.rewards.isnan() & ~made.isnan()).sum()
        self._note(missing__filled=float(filled_count), missing__dropped=float(self._dropped.sum()))
        return made

    def _generate_and_score_completions(self, inputs: list[Any]) -> dict[str, Any]:
        batch: dict[str, Any] = super()._generate_and_score_completions(inputs)
        self._log_as_given()
        if self._missing_policy.startswith("drop"):
            take_out(batch, self._dropped, self.accelerator, self.loss_type)
        return batch

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        self._last_logged = self._last_logged or (time.monotonic(), self.state.global_step)
        inputs = super()._prepare_inputs(generation_batch)
        if self.loss_type == MEAN_OVER_MICRO_BATCHES and self._missing_policy.startswith("drop"):
            micro_batches = self._buffered_inputs if self.model.training else [inputs]
            if LOSS_SCALE not in inputs:  # else they were seen when the batch was generated
                scale_micro_batches(micro_batches, self.accelerator)
        return inputs

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,  # noqa: FBT001, FBT002  # as it is in `Trainer`
        num_items_in_batch: Any = None,
    ) -> Any:
        """Returns the loss of a micro-batch, as if the dropped completions had not been drawn."""
        scale = float(inputs.get(LOSS_SCALE, 1.0))
        rest = {key: value for key, value in inputs.items() if key != LOSS_SCALE}
        options = {"return_outputs": return_outputs, "num_items_in_batch": num_items_in_batch}
        if not self.model.training:  # there it is not divided by the steps of accumulation
            return super().compute_loss(model, rest, **options) * scale
        # To multiply what is returned would not do: Unsloth makes the gradient with the loss.
        steps: float = self.current_gradient_accumulation_steps
        self.current_gradient_accumulation_steps = steps / scale
        try:
            return super().compute_loss(model, rest, **options)
        finally:
            self.current_gradient_accumulation_steps = steps

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the seconds a step takes to what is logged of it."""
        now, step = time.monotonic(), self.state.global_step
        before, step_before = self._last_logged or (now, step)
        if self.model.training and "loss" in logs and step > step_before:
            logs = logs | {"time/step_s": (now - before) / (step - step_before)}
            self._last_logged = now, step
        if not self.model.training:  # an evaluation's seconds are no step's
            self._last_logged = now, step
        super().log(logs, start_time)

    # ------------------------------------------------------------------ what the overridden methods do

    def _mode(self) -> str:
        return "train" if self.model.training else "eval"

    def _group_size(self) -> int:
        return int(self.num_generations if self.model.training else self.num_generations_eval)

    def _note(self, **values: float) -> None:
        """Adds a value to a metric of this logging step; `__` in its name stands for a slash."""
        for name, value in values.items():
            self._metrics[self._mode()][name.replace("__", "/")].append(value)

    def _stand_up_to_missing(self, scored: Scored) -> None:
        """Counts what is missing, and raises `RewardMissing` where that is asked for. The same on all ranks."""
        gaps = scored.rewards.isnan()
        counts = gaps.sum(dim=0).tolist()
        share = sum(counts) / max(1, gaps.numel())
        self._note(missing__share=share)
        for name, count in zip(self.reward_func_names, counts, strict=True):
            self._metrics[self._mode()][missing_key(name)].append(float(count))
        if self._missing_policy == "raise" and share:
            raise RewardMissing(_in_words(self.reward_func_names, counts, len(gaps), scored.reasons))
        limit = self._missing_limit
        if limit is None or not self.model.training:
            return
        self._batches_missing_too_much = self._batches_missing_too_much + 1 if share > limit.share else 0
        if self._batches_missing_too_much >= limit.steps:
            raise RewardMissing(
                f"more than {limit.share:.0%} of the scores were missing in {limit.steps} batches in a row "
                f"(rewards.stop_when_missing); in the last: "
                + _in_words(self.reward_func_names, counts, len(gaps), scored.reasons)
            )

    def _log_as_given(self) -> None:
        """Puts the rewards as they were given in the place of those after the policy, where TRL has logged them."""
        kept, given = self._metrics[self._mode()], self._given
        for index, name in enumerate(self.reward_func_names):
            column = given[:, index]
            kept[f"rewards/{name}/mean"][-1] = column.nanmean().item()
            kept[f"rewards/{name}/std"][-1] = nanstd(column).item()
            table = self._logs["rewards"][name]
            for _ in range(min(len(table), len(column))):
                table.pop()
            table.extend(column.tolist())
        token_counts = self.accelerator.gather(
            torch.tensor(self._token_counts, device=self.accelerator.device)
        ).tolist()
        if self.accelerator.is_main_process and self.model.training:
            try:
                self._watch(token_counts)
            except Exception:  # noqa: BLE001  # a bug in what only looks on must not end the run, nor this rank alone
                _log.exception("the batch was not measured")

    def _watch(self, token_counts: list[int]) -> None:
        count, limit = len(token_counts), self.max_completion_length or math.inf
        columns = [[None if value != value else value for value in column] for column in self._given.T.tolist()]  # noqa: PLR0124  # NaN
        facts = BatchFacts(
            prompts=list(self._logs["prompt"])[-count:],
            completions=list(self._logs["completion"])[-count:],
            completion_token_counts=token_counts,
            truncated=[each >= limit for each in token_counts],
            rewards=dict(zip(self.reward_func_names, columns, strict=True)),
            weights=self.reward_weights.tolist(),
            group_size=self._group_size(),
        )
        for name, value in metrics(facts).items():
            self._metrics[self._mode()][name].append(value)


def _in_words(
    names: Sequence[str], counts: Sequence[int], completion_count: int, reasons: Mapping[str, Counter[str]]
) -> str:
    """Returns how many scores of which reward are missing, and why as far as it was said."""
    said = []
    for name, count in zip(names, counts, strict=True):
        if count:
            why = "; ".join(f"{times} x {reason}" for reason, times in reasons.get(name, Counter()).most_common(3))
            said.append(f"reward {name!r}: {count} of {completion_count} scores are missing{f': {why}' if why else ''}")
    return ". ".join(said)
