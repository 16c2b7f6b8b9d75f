"""A reward's name on a server -> a reward function for TRL.

```python
brevity, relevant = remote_reward("gpu-box:8470", "brevity", "relevant", token_file="token.txt", tls=True)
trainer = GRPOTrainer(model=model, reward_funcs=[brevity, relevant], args=config, train_dataset=dataset)
```

With `GRPOConfig(log_completions=True)` TRL's table of completions has a column `<reward>/reason` with a judge's words, or
why a score is missing, its flags before it. Metrics beside TRL's own, each a mean over the calls of a logging step and
over ranks: `rewards/<reward>/missing` and `reward_server/missing` (scores missing in a batch, of one reward and of all),
`rewards/<reward>/missing/abstained` and `/failed` (of these, what could not be judged, and what went wrong),
`rewards/<reward>/flags/<flag>` (verdicts in a batch that bear a flag, such as `floor`, once there was one),
`rewards/<reward>/parts/<part>` (mean score of a part, such as a criterion of a rubric or a reward of a sum; of a part's
own part `parts/<part>/<its part>`),
`reward_server/call_s` and `reward_server/server_s` (a call's time as seen from here, and in the server),
`reward_server/attempts`, `reward_server/queue_s` (a verdict's wait for a worker or host), `reward_server/judge_s` (one
request to a judge's model).
"""

from __future__ import annotations

import logging
import weakref
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from statistics import fmean
from typing import Any, Unpack, get_args, overload

from trainer.client import ClientOptions, CostClass, RewardClient, RewardScores, ScoreResult, Status
from trainer.client.batch import groups_by_prompt
from trainer.client.options import ClientKeywords
from trainer.errors import BadInput, BadOptions
from trainer.missing import FLOOR, FunctionPolicy, floor_in_words, in_words, without_gaps
from trainer.sharing import Siblings
from trainer.thinking import with_opening

_log = logging.getLogger(__name__)

_MAX_KNOWN_REASONS = 100


@overload
def remote_reward(
    server: str | RewardClient,
    reward: str,
    /,
    *,
    missing: FunctionPolicy = ...,
    end_token_ids: Collection[int] = ...,
    **options: Unpack[ClientKeywords],
) -> RemoteReward: ...


@overload
def remote_reward(
    server: str | RewardClient,
    reward: str,
    second: str,
    /,
    *more: str,
    missing: FunctionPolicy = ...,
    end_token_ids: Collection[int] = ...,
    **options: Unpack[ClientKeywords],
) -> list[RemoteReward]: ...


def remote_reward(
    server: str | RewardClient,
    /,
    *rewards: str,
    missing: FunctionPolicy = "group_mean",
    end_token_ids: Collection[int] = (),
    **options: Unpack[ClientKeywords],
) -> RemoteReward | list[RemoteReward]:
    """Returns a reward function for `GRPOTrainer(reward_funcs=[...])`; for several names, a list of them.

    All functions made for the same server and options share one call per batch, however the trainer calls them.

    Args:
        server: `host:port`, `unix:/path`, `local:server.yaml`, or a client.
        rewards: Names of rewards in the server's configuration.
        missing: What a verdict without a score becomes: `group_mean`, the mean of what the rest of its group got from
            the same reward (None where a whole group is missing); `none`, None; `raise`, an error. `trainer.missing`
            says what `GRPOTrainer` does with None.
        end_token_ids: The tokens that end a completion (`[tokenizer.eos_token_id]`). With them the server is told
            which completions were cut off at their length limit, as TRL tells its reward functions only the tokens.
        options: See `ClientKeywords`; not beside a client, which has its own.

    Raises:
        BadOptions: The options contradict one another.
    """
    if not rewards:
        raise BadOptions('name at least one reward of the server: remote_reward("host:port", "name")')
    if missing not in get_args(FunctionPolicy):
        raise BadOptions(f"missing is {missing!r}; it can be: {', '.join(get_args(FunctionPolicy))}")
    if isinstance(server, RewardClient) and options:
        raise BadOptions(f"{', '.join(options)}: give the client its options where it is made")
    source = server if isinstance(server, RewardClient) else ClientOptions(server, **options)
    functions = [RemoteReward(source, reward, missing, end_token_ids) for reward in rewards]
    return functions[0] if len(functions) == 1 else functions


class RemoteReward:
    """A reward function for TRL. Made by `remote_reward`.

    It can be pickled and copied; a copy in another process connects anew.
    """

    def __init__(
        self,
        source: ClientOptions | RewardClient,
        reward: str,
        missing: FunctionPolicy,
        end_token_ids: Collection[int] = (),
    ) -> None:
        self.reward = reward
        self.end_token_ids = frozenset(end_token_ids)  # empty = not known
        self.thought_opening = ""  # what the chat template opens of a completion's thinking block: see trainer.thinking
        self.group_size: int | None = None  # None = not known: completions of equal neighbouring prompts are a group
        self.missing_reasons: Counter[str] = Counter()  # of the last batch
        self.__name__ = reward  # what TRL calls its metrics
        self._source = source
        self._missing = missing
        self._siblings = _siblings_of(source)
        self._siblings.join(self)
        self._has_reasons: bool | None = None  # None = not known yet
        self._version = ""
        self._known_reasons: set[str] = set()
        self._known_flags: dict[str, None] = {}  # in the order in which they were first seen
        self._known_misses: dict[Status, None] = {}  # likewise

    def __call__(
        self,
        prompts: Sequence[Any] | None = None,
        completions: Sequence[Any] | None = None,
        completion_ids: Sequence[Any] | None = None,
        *,
        trainer_state: Any = None,
        log_extra: Callable[[str, list[Any]], object] | None = None,
        log_metric: Callable[[str, float], object] | None = None,
        environments: Any = None,
        **columns: Any,
    ) -> list[float | None]:
        """Returns a score per completion, called as TRL calls it, or by hand with completions alone.

        Args:
            prompts: N texts or conversations. Without them all completions count as one group.
            completions: N texts or conversations.
            completion_ids: N lists of tokens.
            trainer_state: TRL's; its step goes into the server's log.
            log_extra: TRL's; gets the column `<reward>/reason`.
            log_metric: TRL's; gets the metrics named at the top of this module.
            environments: TRL's; they cannot travel.
            columns: Dataset columns of N values each.

        Raises:
            RewardError: See the tree in `trainer.errors`. It ends the run, which is right: each stands for something
                that a person has to mend, or has asked to be told.
        """
        del environments
        if completions is None:
            raise BadInput(f"reward function {self.reward!r} was called without completions")
        groups = self._known_groups(len(completions))
        batch = {
            "prompts": prompts,
            "groups": groups,
            "completions": with_opening(completions, self.thought_opening),
            "completion_ids": completion_ids,
            "truncated": self._truncated(completion_ids),
            "columns": {name: values for name, values in columns.items() if _may_be_column(values)},
            "step": getattr(trainer_state, "global_step", None),
        }
        result, asked_here = self._siblings.score(self, batch)
        verdicts = result.rewards[self.reward]
        self.missing_reasons = verdicts.missing_counts()
        self._tell(verdicts)
        if log_metric is not None:
            for name, value in (_server_metrics(result) if asked_here else {}).items():
                log_metric(name, value)
            for name, value in self._metrics(verdicts).items():
                log_metric(f"rewards/{self.reward}/{name}", value)
        if log_extra is not None and self._logs_reasons():
            log_extra(f"{self.reward}/reason", _reasons(verdicts))
        if groups is None:
            groups = [0] * len(verdicts.scores) if prompts is None else groups_by_prompt(prompts)
        return without_gaps(verdicts, groups, self._missing)

    @property
    def version(self) -> str:
        """Returns the version that gave the last scores, "" before the first."""
        return self._version

    def __repr__(self) -> str:
        return f"<reward {self.reward!r} of {self._siblings.client.options.target}>"

    def __reduce__(self) -> tuple[Any, ...]:
        made_from = (self._source, self.reward, self._missing, self.end_token_ids, self.__name__)
        return _made_again, made_from, {"thought_opening": self.thought_opening}

    def _known_groups(self, count: int) -> list[int] | None:
        """Returns the group number of each completion, (N,), where the trainer has said how large a group is."""
        if self.group_size and count % self.group_size == 0:
            return [index // self.group_size for index in range(count)]
        return None

    def _truncated(self, completion_ids: Sequence[Any] | None) -> list[bool] | None:
        """Returns which completions don't end with a token that ends one; None where that cannot be known."""
        if completion_ids is None or not self.end_token_ids:
            return None
        return [len(ids) > 0 and int(ids[-1]) not in self.end_token_ids for ids in completion_ids]

    def _metrics(self, verdicts: RewardScores) -> dict[str, float]:
        """Returns what there is to count. A flag or status once seen is counted from then on, or its mean over steps were too high."""
        counts = {flag: float(len(verdicts.flags.get(flag, ()))) for flag in self._known_flags}
        statuses = Counter(verdicts.statuses)
        self._known_misses |= dict.fromkeys(status for status in statuses if status is not Status.SCORED)
        parts = {part: [score for score in scores if score is not None] for part, scores in verdicts.parts.items()}
        return {
            "missing": float(verdicts.missing_counts().total()),
            **{f"missing/{status}": float(statuses[status]) for status in self._known_misses},
            **{f"flags/{flag}": count for flag, count in counts.items()},
            **{f"parts/{part}": fmean(scores) for part, scores in parts.items() if scores},
        }

    def _logs_reasons(self) -> bool:
        """Returns whether this reward has a column of reasons in TRL's table: from the first batch on, or never.

        TRL keeps the values of the last batch, so a column that came and went would stand beside other completions.
        Rewards that are computed in the server itself have nothing to say.
        """
        if self._has_reasons is None:
            catalog = self._siblings.client.catalog
            info = catalog.rewards.get(self.reward) if catalog else None
            self._has_reasons = info is None or info.cost_class is not CostClass.TRIVIAL
        return self._has_reasons

    def _tell(self, verdicts: RewardScores) -> None:
        """Logs what a person should know: another version, a reason for missing scores or a floor not seen before."""
        if verdicts.version and verdicts.version != self._version:
            if self._version:
                _log.warning(
                    "reward %r changed on the server: version %s, before %s",
                    self.reward,
                    verdicts.version,
                    self._version,
                )
            self._version = verdicts.version
        if FLOOR in verdicts.flags and FLOOR not in self._known_flags:
            _log.warning("%s", floor_in_words(verdicts))
        self._known_flags |= dict.fromkeys(verdicts.flags)
        reasons = set(verdicts.missing_counts())
        if not reasons:
            return
        news = not reasons <= self._known_reasons and len(self._known_reasons) < _MAX_KNOWN_REASONS
        _log.log(logging.WARNING if news else logging.DEBUG, "%s", in_words(verdicts))
        self._known_reasons |= reasons


_all_siblings: weakref.WeakValueDictionary[ClientOptions | int, Siblings] = weakref.WeakValueDictionary()


def _siblings_of(source: ClientOptions | RewardClient) -> Siblings:
    """Returns the functions that share calls with one made from the same options, or for the same client."""
    if isinstance(source, RewardClient):
        return _all_siblings.setdefault(id(source), Siblings(source))  # which keeps the client, and so its id, alive
    known = _all_siblings.get(source)
    return known or _all_siblings.setdefault(source, Siblings(RewardClient(**source.keywords())))


def _made_again(
    source: ClientOptions | RewardClient,
    reward: str,
    missing: FunctionPolicy,
    end_token_ids: Collection[int],
    name: str,
) -> RemoteReward:
    function = RemoteReward(source, reward, missing, end_token_ids)
    function.__name__ = name
    return function


def _may_be_column(values: Any) -> bool:
    """Returns whether a keyword of TRL's can be a column of the dataset: some are of other kinds, and more may come."""
    return hasattr(values, "__len__") and not isinstance(values, (str, bytes, Mapping))


def _server_metrics(result: ScoreResult) -> dict[str, float]:
    costs = [verdicts.cost for verdicts in result.rewards.values()]
    verdict_count = sum(len(verdicts.scores) for verdicts in result.rewards.values())
    judge_call_count = sum(cost.judge_call_count for cost in costs)
    metrics = {
        "reward_server/missing": float(sum(result.missing(name).total() for name in result.rewards)),
        "reward_server/call_s": result.wall_ms / 1e3,
        "reward_server/server_s": result.server_ms / 1e3,
        "reward_server/attempts": float(result.attempt_count),
        "reward_server/queue_s": sum(cost.queue_ms for cost in costs) / max(verdict_count, 1) / 1e3,
    }
    if judge_call_count:
        metrics["reward_server/judge_s"] = sum(cost.judge_ms for cost in costs) / judge_call_count / 1e3
    return metrics


def _reasons(verdicts: RewardScores) -> list[str]:
    """Returns, per completion, its flags and what the scorer said, or why its score is missing; (N,)."""
    said = []
    for sample, status in enumerate(verdicts.statuses):
        scored = status is Status.SCORED
        marks = [] if scored else [str(status)]
        marks += verdicts.flags_of(sample)
        words = verdicts.explanations[sample] if scored else verdicts.reasons[sample]
        said.append(" ".join(filter(None, [f"[{', '.join(marks)}]" if marks else "", words])))
    return said
