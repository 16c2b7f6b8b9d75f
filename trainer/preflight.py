"""What is looked at before a GPU is taken: one line each, and the remedy where something is wrong or unusual.

Needs no torch, except for the fields of `grpo`, which only TRL can check.
"""

from __future__ import annotations

import importlib.util
import itertools
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from protos.configfile import did_you_mean
from trainer import data, functions, launch, models, ranges
from trainer.client import Catalog, Health, RewardClient, RewardInfo
from trainer.config import ConfigError, RunError, TrainConfig
from trainer.errors import NotAllowed, RewardError, UnknownReward
from trainer.fields import unsloth_batch_size
from trainer.marks import Check, fine, show, unknown, unusual, wrong
from trainer.reward_set import client_options, target

__all__ = ["checks", "show"]

ANSWER_WITHIN_S = 15.0
"""A server that takes longer to say what it offers will not score in time either."""

SHOWN_ROWS = 10
"""Rows that are read of a data set on the hub; a file is read to its end."""


@dataclass
class _Found:
    """What was seen of the data set."""

    columns: list[str] = field(default_factory=list)
    prompt_count: int | None = None  # None: not counted
    longest_prompt_chars: int = 0  # of the prompts that were read


def checks(config: TrainConfig) -> Iterator[Check]:
    """Yields what was found, as soon as it is found. Raises nothing for what is wrong: that is a check that failed."""
    found = _Found()
    yield from _data(config, found)
    yield from _evaluation(config, found)
    yield from _server(config, found.columns)
    yield from _local_functions(config, found.columns)
    yield from _model(config)
    yield from _grpo(config, found)


def _data(config: TrainConfig, found: _Found) -> Iterator[Check]:
    """Reads the data set, and notes what it saw in `found`."""
    name = data.source_name(config.data)
    rows = data.prompt_rows(config)
    try:
        count = 0
        for row in itertools.islice(rows, SHOWN_ROWS) if config.data.hub_id else rows:
            found.columns.extend(column for column in row if column not in found.columns)
            found.longest_prompt_chars = max(found.longest_prompt_chars, _chars(row["prompt"]))
            count += 1
    except RunError as error:
        yield wrong(f"data: {error}")
        return
    if not count:
        yield wrong(f"data: {name} holds no prompt")
        return
    found.prompt_count = None if config.data.hub_id else count
    more = "its first rows were read" if config.data.hub_id else f"{count} prompts"
    yield fine(f"data: {name}: {more}; columns: {', '.join(found.columns)}")


def _evaluation(config: TrainConfig, found: _Found) -> Iterator[Check]:
    """Reads the evaluation split, and leaves in `found` the columns that both have: rewards read both."""
    share, total = config.data.eval_share, found.prompt_count
    if share is not None and total is not None:
        try:
            found.prompt_count = total - data.held_out_count(total, share)
        except RunError as error:
            yield wrong(f"data: {error}")
    if (held_out := data.evaluation(config)) is None:
        return
    other = _Found()
    yield from _data(held_out, other)
    if other.columns and (lacking := [name for name in found.columns if name not in other.columns]):
        found.columns = [name for name in found.columns if name in other.columns]
        yield unusual(f"data: {data.source_name(held_out.data)} lacks what the prompts have: {', '.join(lacking)}")


def _chars(prompt: str | list[data.Row]) -> int:
    if isinstance(prompt, str):
        return len(prompt)
    return sum(len(message["content"]) for message in prompt if isinstance(message.get("content"), str))


def _server(config: TrainConfig, columns: Sequence[str]) -> Iterator[Check]:
    if config.rewards.server is None:
        return
    address = target(config)
    try:
        options = {**client_options(config), "on_outage": "stop", "deadline_s": ANSWER_WITHIN_S}
        with RewardClient(address, **options) as client:
            catalog = client.list_rewards()
            yield from _answers(client, catalog, with_token=bool(client.options.bearer_token()))
            for name in config.rewards.use:
                yield from _reward(config, catalog, name, columns)
    except NotAllowed as error:
        yield wrong(f"token: {error} (rewards.token_file or rewards.token_env)")
    except (RewardError, ConfigError) as error:
        yield wrong(f"server {address}: {error}")


def _answers(client: RewardClient, catalog: Catalog, *, with_token: bool) -> Iterator[Check]:
    began = time.perf_counter()
    health = client.health()
    milliseconds = (time.perf_counter() - began) * 1000
    state = "" if health is Health.SERVING else ", but is shutting down or not ready: look at its log"
    told = f"release {catalog.server_version}, {milliseconds:.1f} ms a round trip{state}"
    yield (wrong if state else fine)(f"server {catalog.target}: {told}")
    yield fine(f"token: {'accepted' if with_token else 'none sent, and the server asks for none'}")


def _reward(config: TrainConfig, catalog: Catalog, name: str, columns: Sequence[str]) -> Iterator[Check]:
    try:
        (info,) = catalog.asked([name])
    except UnknownReward as error:
        yield wrong(f"reward {name}: {error}{did_you_mean(name, catalog.rewards)}")
        return
    weight = config.rewards.use[name]
    if info.health is Health.NOT_SERVING:
        yield wrong(f"reward {name}: cannot be served now: {info.health_reason}")
    elif lacking := _lacking(info.required_columns, columns, config):
        yield wrong(f"reward {name}: {lacking}")
    else:
        yield fine(f"reward {name}: {_described(info)}, weight {weight:g}, version {info.version}")
    yield from map(unusual, ranges.of_reward(info, weight, config.rewards.deadline_s))


def _described(info: RewardInfo) -> str:
    needs = f", reads {', '.join(info.named_columns)}" if info.named_columns else ""
    return f"{info.kind}{needs}"


def _lacking(needed: Iterable[str], columns: Sequence[str], config: TrainConfig) -> str:
    """Returns what to do about columns that the data set lacks, or nothing if it has them all."""
    # Nothing is known of the columns where the data set could not be read, which was said already.
    missing = [name for name in needed if columns and name not in columns]
    if not missing:
        return ""
    there = ", ".join(columns)
    return (
        f"needs the column {missing[0]!r}; {data.source_name(config.data)} has: {there}. Rename one to it: "
        f"data.columns: {{{missing[0]}: THE_COLUMN}}"
    )


def _local_functions(config: TrainConfig, columns: Sequence[str]) -> Iterator[Check]:
    for name, settings in config.rewards.local.items():
        try:
            function = functions.load_function(settings.python, config.path.parent)
        except ConfigError as error:
            yield wrong(f"local reward {name}: {error}")
            continue
        if lacking := _lacking(functions.missing_columns(function, columns), columns, config):
            yield wrong(f"local reward {name}: {lacking}")
        else:
            yield fine(f"local reward {name}: {settings.python}, weight {settings.weight:g}")


def _model(config: TrainConfig) -> Iterator[Check]:
    model = config.model
    try:
        yield fine(f"model: {models.described(config)}")
    except ConfigError as error:
        yield wrong(str(error))
    if model.chat_template is not None and not config.at(model.chat_template).is_file():
        yield wrong(f"model.chat_template: there is no file {config.at(model.chat_template)}")


def _grpo(config: TrainConfig, found: _Found) -> Iterator[Check]:
    if importlib.util.find_spec("trl") is None:
        yield unknown("grpo: not checked, TRL is not installed here (pip install 'grpo-reward-service[trainer]')")
        return
    try:
        loader = models.prepare(config).name
    except ConfigError:
        return  # which was told of the model
    from trainer.arguments import grpo_arguments  # noqa: PLC0415  # several seconds, and torch

    uneven = ranges.uneven_batch(config, launch.process_count())
    try:
        arguments = grpo_arguments(config, config.at(config.run.folder))
    except ConfigError as error:
        yield from (wrong(problem) for problem in ([f"grpo: {uneven}"] if uneven else error.problems))
        return
    if loader == "unsloth" and (raised := unsloth_batch_size(config)):
        yield unusual(
            f"grpo: {uneven}. As it is, Unsloth takes a batch of {raised} per device by itself, and memory for it"
        )
    yield _batch(arguments, found)
    yield from map(unusual, ranges.unusual(arguments, config))
    yield from map(unusual, ranges.room_for_prompts(arguments, config, found.longest_prompt_chars))


def _batch(arguments: Any, found: _Found) -> Check:
    """Returns what a step takes, or why there are too few prompts for one."""
    group = arguments.num_generations or 1
    at_once = (arguments.generation_batch_size or 0) // group
    if found.prompt_count is not None and found.prompt_count < at_once:
        return wrong(
            f"grpo: a batch takes {at_once} prompts of {group} completions each, and the data set has "
            f"{found.prompt_count}: TRL would train on none. Add prompts, or lower grpo.per_device_train_batch_size"
        )
    length = f"{arguments.max_steps} steps" if arguments.max_steps > 0 else f"{arguments.num_train_epochs:g} epochs"
    device = f"{arguments.device.type}, {'bf16' if arguments.bf16 else 'fp16' if arguments.fp16 else 'fp32'}"
    kl = "" if arguments.beta else "; beta 0: TRL measures no KL"
    return fine(f"grpo: {length} of {at_once} prompts x {group} completions on {device}{kl}")
