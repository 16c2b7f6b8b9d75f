"""Reward functions for TRL: one call per batch for all of them, nothing missing passed off as a score."""

from __future__ import annotations

import copy
import gc
import inspect
import logging
import math
import multiprocessing
import pickle
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from fake_reward_server import FakeServer, fails, verdicts

from protos.reward.v1 import reward_pb2 as pb
from trainer.client import RewardClient
from trainer.errors import BadInput, BadOptions, MissingColumn, RewardMissing, UnknownReward
from trainer.rewards import RemoteReward, remote_reward

GROUPED = ["p", "p", "q", "q"]
TEXTS = ["x", "xx", "xxx", "xxxx"]


def asked(server: FakeServer) -> list[list[str]]:
    """Returns the names asked for, call by call."""
    return [[reward.name for reward in request.rewards] for request in server.requests]


def batch(number: int) -> dict[str, Any]:
    """Returns what TRL would pass for one batch: new lists for each."""
    return {"prompts": list(GROUPED), "completions": [f"{text}{number}" for text in TEXTS]}


def test_one_name_is_a_function_that_trl_takes(server):
    function = remote_reward(server.target, "a")

    assert function(prompts=GROUPED, completions=TEXTS, completion_ids=[[1]] * 4) == [1.0, 2.0, 3.0, 4.0]
    assert function.__name__ == "a"
    assert not inspect.iscoroutinefunction(function)
    assert not inspect.iscoroutinefunction(function.__call__)


def test_it_works_by_hand_with_completions_alone(server):
    assert remote_reward(server.target, "a")(completions=["xx"]) == [2.0]


def test_the_server_is_told_which_completions_were_cut_off_where_the_end_tokens_are_known(server):
    function = remote_reward(server.target, "a", end_token_ids=[0])

    copy.deepcopy(function)(prompts=GROUPED, completions=TEXTS, completion_ids=[[5, 0], [5], [0], []])
    assert list(server.requests[-1].batch.completions_truncated) == [False, True, False, False]

    remote_reward(server.target, "a")(prompts=GROUPED, completions=TEXTS, completion_ids=[[5, 0], [5], [0], [7]])
    assert not server.requests[-1].batch.completions_truncated  # not known


def test_siblings_share_one_call_per_batch(server):
    a, b = remote_reward(server.target, "a", "b")

    for number in range(3):
        inputs = batch(number)
        assert a(**inputs) == b(**inputs) == [2.0, 3.0, 4.0, 5.0]

    assert asked(server) == [["a", "b"]] * 3
    assert server.list_count == 1


def test_functions_made_one_by_one_for_the_same_server_share_calls_too(server):
    functions = [remote_reward(server.target, "b"), remote_reward(server.target, "a")]

    for function in functions:
        function(**batch(0))

    assert asked(server) == [["a", "b"]]


def test_functions_with_other_options_or_another_client_do_not(server):
    with RewardClient(server.target) as client:
        functions = [
            remote_reward(server.target, "a"),
            remote_reward(server.target, "b", deadline_s=60),
            remote_reward(client, "a"),
        ]

        for function in functions:
            function(**batch(0))

    assert asked(server) == [["a"], ["b"], ["a"]]


def test_functions_made_for_one_client_share_calls(server):
    with RewardClient(server.target) as client:
        a, b = remote_reward(client, "a"), remote_reward(client, "b")
        a(**batch(0))
        b(**batch(0))

    assert asked(server) == [["a", "b"]]


def test_the_same_texts_again_are_scored_again(server):
    a, b = remote_reward(server.target, "a", "b")
    inputs = batch(0)

    for _ in range(2):
        a(**inputs)
        b(**inputs)

    assert asked(server) == [["a", "b"]] * 2


@pytest.mark.parametrize(
    "change",
    [
        lambda inputs: inputs["completions"].__setitem__(0, "changed"),
        lambda inputs: inputs["prompts"].__setitem__(0, "changed"),
        lambda inputs: inputs["answer"].__setitem__(0, {"n": [2]}),
        lambda inputs: inputs["answer"][0]["n"].append(2),
        lambda inputs: inputs.update(trainer_state=SimpleNamespace(global_step=2)),
    ],
)
def test_a_batch_that_changed_in_between_is_another_batch(server, change):
    a, b = remote_reward(server.target, "a", "b")
    inputs = {**batch(0), "answer": [{"n": [1]}, 2, 3, 4], "trainer_state": SimpleNamespace(global_step=1)}

    a(**inputs)
    change(inputs)
    b(**inputs)

    assert len(server.requests) == 2


def test_equal_batches_in_other_lists_are_the_same_batch(server):
    a, b = remote_reward(server.target, "a", "b")

    a(**batch(0))
    b(**batch(0))

    assert len(server.requests) == 1


def test_a_function_that_is_not_used_is_not_paid_for_twice(server, caplog):
    a, _unused = remote_reward(server.target, "a", "b")

    with caplog.at_level(logging.WARNING):
        for number in range(4):
            a(**batch(number))

    assert asked(server) == [["a", "b"], ["a"], ["a"], ["a"]]
    assert caplog.text.count("the reward function 'b' was made for") == 1


def test_a_function_that_was_left_out_comes_back_when_it_is_called(server):
    a, b = remote_reward(server.target, "a", "b")
    a(**batch(0))
    a(**batch(1))

    b(**batch(1))
    for function in (a, b):
        function(**batch(2))

    assert asked(server) == [["a", "b"], ["a"], ["a", "b"], ["a", "b"]]


def test_a_forgotten_function_is_not_asked_for(server):
    a, b = remote_reward(server.target, "a", "b")
    del b
    gc.collect()

    a(**batch(0))

    assert asked(server) == [["a"]]


def test_nothing_of_a_batch_is_kept_once_all_have_taken_their_part(server):
    a, b = remote_reward(server.target, "a", "b")
    a(**batch(0))
    assert len(a._siblings._calls) == 1

    b(**batch(0))

    assert a._siblings._calls == []


def test_threads_that_ask_for_the_same_batch_wait_for_one_call(server):
    a, b = remote_reward(server.target, "a", "b")
    server.script += [lambda request, context: time.sleep(0.3)] * 2

    with ThreadPoolExecutor(4) as threads:
        results = [threads.submit(function, **batch(number)) for number in range(2) for function in (a, b)]

    assert [result.result()[0] for result in results] == [2.0] * 4
    assert asked(server) == [["a", "b"]] * 2


def test_an_error_reaches_every_function_that_waits_for_the_call(server):
    a, b = remote_reward(server.target, "a", "b")
    a.__call__(**batch(0))
    entered = threading.Event()

    def fail_late(request: pb.ScoreRequest, context: Any) -> None:
        entered.set()
        time.sleep(0.3)
        context.abort(grpc.StatusCode.INTERNAL, "broken")

    b(**batch(0))
    server.script.append(fail_late)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(a, **batch(1))
        entered.wait(5)
        second = threads.submit(b, **batch(1))

    assert "broken" in str(first.exception())
    assert "broken" in str(second.exception())
    assert a(**batch(2))[0] == 2.0


def test_a_siblings_missing_column_does_not_stop_the_others(server):
    server.reward("b", required_columns=["answer"])
    a, b = remote_reward(server.target, "a", "b")

    assert a(**batch(0))[0] == 2.0
    with pytest.raises(MissingColumn, match="reward 'b' needs the column 'answer'"):
        b(**batch(0))


def test_an_unknown_reward_is_told_by_its_own_function(server):
    a, nope = remote_reward(server.target, "a", "nope")

    assert a(**batch(0))[0] == 2.0
    with pytest.raises(UnknownReward, match="has no reward 'nope'; it has: a, b"):
        nope(**batch(0))


def _score_elsewhere(functions: list[RemoteReward], queue: Any) -> None:
    queue.put([(function.__name__, function(**batch(0))) for function in functions])


def test_functions_work_in_a_child_process_and_share_calls_there(server):
    functions = remote_reward(server.target, "a", "b")
    functions[0](**batch(9))
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()

    child = context.Process(target=_score_elsewhere, args=(functions, queue))
    child.start()
    results = queue.get(timeout=60)
    child.join(30)

    assert results == [("a", [2.0, 3.0, 4.0, 5.0]), ("b", [2.0, 3.0, 4.0, 5.0])]
    assert asked(server)[1:] == [["a", "b"]]


@pytest.mark.parametrize("copied", [copy.deepcopy, copy.copy, lambda f: pickle.loads(pickle.dumps(f))])  # noqa: S301  # pickled here
def test_copies_work_beside_the_original(server, copied):
    with RewardClient(server.target) as client:
        for original in (remote_reward(client, "a", missing="none"), remote_reward(server.target, "a", missing="none")):
            original.__name__ = "renamed"
            again = copied(original)

            assert again.__name__ == "renamed"
            assert again._missing == "none"
            assert again(**batch(0)) == original(**batch(0))


def test_a_partial_of_a_function_keeps_its_name_for_trl(server):
    function = partial(remote_reward(server.target, "a"), answer=[1, 2, 3, 4])

    assert function(**batch(0))[0] == 2.0
    assert function.func.__name__ == "a"


def only_some(*scores: float | None, **fields: Any) -> Callable[..., pb.ScoreResponse]:
    """A behaviour that misses some scores of every reward asked for."""

    def behave(request: pb.ScoreRequest, context: Any) -> pb.ScoreResponse:
        reasons = ["timed out" if score is None else "" for score in scores]
        return pb.ScoreResponse(results=[verdicts(r.name, list(scores), reasons, **fields) for r in request.rewards])

    return behave


def test_a_missing_score_becomes_the_mean_of_its_groups_others(server):
    server.script.append(only_some(1.0, None, 2.0, 4.0, None, None))

    scores = remote_reward(server.target, "a")(prompts=["p", "p", "q", "q", "q", "r"], completions=list("abcdef"))

    assert scores == [1.0, 1.0, 2.0, 4.0, 3.0, None]


def test_a_missing_score_may_stay_none(server):
    server.script.append(only_some(1.0, None))

    assert remote_reward(server.target, "a", missing="none")(completions=["x", "y"]) == [1.0, None]


def test_a_missing_score_may_be_an_error(server):
    server.script.append(only_some(1.0, None, None))

    with pytest.raises(RewardMissing, match="reward 'a': 2 of 3 scores are missing: 2 x timed out"):
        remote_reward(server.target, "a", missing="raise")(completions=["x", "y", "z"])


def test_a_reason_for_missing_scores_is_warned_of_once(server, caplog):
    function = remote_reward(server.target, "a")
    server.script += [only_some(1.0, None)] * 3

    with caplog.at_level(logging.WARNING):
        for number in range(3):
            function(completions=["x", str(number)])

    assert caplog.text.count("reward 'a': 1 of 2 scores are missing: 1 x timed out") == 1


def test_another_version_is_warned_of(server, caplog):
    function = remote_reward(server.target, "a")
    function(**batch(0))
    server.reward("a", version="a-2")

    with caplog.at_level(logging.WARNING):
        function(**batch(1))

    assert "reward 'a' changed on the server: version a-2, before a-1" in caplog.text


def test_metrics_are_logged_once_per_call_and_missing_scores_per_reward(server):
    a, b = remote_reward(server.target, "a", "b")
    logged: list[tuple[str, float]] = []
    cost = pb.Cost(judge_call_count=4, judge_ms=2000, queue_ms=80)
    server.script.append(only_some(1.0, None, cost=cost))

    for function in (a, b):
        function(completions=["x", "y"], log_metric=lambda name, value: logged.append((name, value)))

    metrics = dict(logged)
    assert len(metrics) == len(logged) == 10
    assert metrics["reward_server/missing"] == 2.0
    assert metrics["reward_server/judge_s"] == 0.5
    assert metrics["reward_server/queue_s"] == pytest.approx(0.04)
    assert metrics["rewards/a/missing"] == metrics["rewards/b/missing"] == 1.0
    assert metrics["rewards/a/missing/failed"] == metrics["rewards/b/missing/failed"] == 1.0
    assert all(type(value) is float for value in metrics.values())


def test_a_group_is_as_large_as_the_trainer_says_whatever_its_prompts_are(server):
    function = remote_reward(server.target, "a")
    function.group_size = 2
    function(completions=["w", "x", "y", "z"], prompts=["same"] * 4)
    assert list(server.requests[-1].batch.group_indexes) == [0, 0, 1, 1]
    function(completions=["w", "x", "y"], prompts=["same"] * 3)  # no whole groups: they are told apart as ever
    assert list(server.requests[-1].batch.group_indexes) == [0, 0, 0]


def test_a_flag_once_seen_is_counted_in_every_batch(server):
    function = remote_reward(server.target, "a")
    server.script += [only_some(1.0, 0.0, flags=[pb.Flag(name="floor", sample_indexes=[1])]), only_some(1.0, 2.0)]
    logged: list[dict[str, float]] = []

    for number in range(2):
        logged.append({})
        function(completions=["x", str(number)], log_metric=logged[-1].__setitem__)

    assert [metrics["rewards/a/flags/floor"] for metrics in logged] == [1.0, 0.0]


def test_the_mean_of_each_part_is_logged_over_the_samples_that_have_it(server):
    function = remote_reward(server.target, "a")
    parts = [pb.PartScores(name="answers", scores=[0.25, 0.75]), pb.PartScores(name="rambles", scores=[math.nan, 0.5])]
    nothing = [pb.PartScores(name="none", scores=[math.nan, math.nan])]
    server.script.append(only_some(1.0, 2.0, parts=parts + nothing))
    logged: dict[str, float] = {}

    function(completions=["x", "y"], log_metric=logged.__setitem__)

    found = {name: value for name, value in logged.items() if "/parts/" in name}
    assert found == {"rewards/a/parts/answers": 0.5, "rewards/a/parts/rambles": 0.5}


def test_a_score_at_the_floor_is_no_gap_and_is_warned_of_once(server, caplog):
    function = remote_reward(server.target, "a")
    said = {
        "flags": [pb.Flag(name="floor", sample_indexes=[1])],
        "explanations": [pb.Explanation(sample_index=1, text=b"no usable answer, twice")],
    }
    server.script += [only_some(1.0, -1.0, **said)] * 2
    table: dict[str, list[str]] = {}

    with caplog.at_level(logging.WARNING):
        scores = [function(completions=["x", str(n)], log_extra=table.__setitem__) for n in range(2)]

    assert scores == [[1.0, -1.0]] * 2
    assert table == {"a/reason": ["", "[floor] no usable answer, twice"]}
    words = "1 of 2 completions broke their grader and have its floor as their score, -1: no usable answer, twice"
    assert caplog.text.count(words) == 1


def test_a_sum_with_a_part_at_its_floor_and_another_missing_ends_no_run(server, caplog):
    """Its flags are those of its parts, and it has no score."""
    function = remote_reward(server.target, "a")
    server.script.append(only_some(1.0, None, flags=[pb.Flag(name="floor", sample_indexes=[1])]))
    with caplog.at_level(logging.WARNING):
        assert function(completions=["x", "y"]) == [1.0, 1.0]
    assert "1 of 2 completions broke their grader, and have no score all the same: timed out" in caplog.text


def test_reasons_stand_in_trls_table_one_per_completion(server):
    table: dict[str, list[str]] = {}
    words = [pb.Explanation(sample_index=0, text=b"clear and short")]
    server.script.append(only_some(1.0, None, explanations=words))

    remote_reward(server.target, "a")(completions=["x", "y"], log_extra=table.__setitem__)

    assert table == {"a/reason": ["clear and short", "[failed] timed out"]}


def test_a_reward_with_nothing_to_say_has_no_column_in_trls_table(server):
    server.reward("a", cost_class=pb.COST_CLASS_TRIVIAL)
    table: dict[str, list[str]] = {}

    remote_reward(server.target, "a")(completions=["x"], log_extra=table.__setitem__)

    assert table == {}


def test_the_step_and_the_declared_columns_travel_and_trls_own_keywords_do_not(server):
    server.reward("a", reads_all_columns=True)

    remote_reward(server.target, "a")(
        **batch(0),
        answer=[1, 2, 3, 4],
        completion_ids=[[1, 2]] * 4,
        trainer_state=SimpleNamespace(global_step=12),
        log_extra=lambda *_: None,
        log_metric=lambda *_: None,
        environments=[object()] * 4,
        some_new_state=object(),
    )

    assert [column.name for column in server.requests[0].batch.columns] == ["answer"]
    assert list(server.requests[0].batch.completion_token_counts) == [2] * 4
    assert server.metadata[0]["reward-step"] == "12"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: remote_reward("h:1"), "name at least one reward"),
        (lambda: remote_reward("h:1", "a", missing="zero"), "missing is 'zero'; it can be: group_mean, none, raise"),
        (lambda: remote_reward(RewardClient("h:1"), "a", deadline_s=3), "deadline_s: give the client its options"),
        (lambda: remote_reward("h", "a"), "target 'h' has no port"),
    ],
)
def test_a_slip_is_told_when_the_function_is_made(call, words):
    with pytest.raises(BadOptions, match=words):
        call()


def test_a_call_without_completions_is_named(server):
    with pytest.raises(BadInput, match="reward function 'a' was called without completions"):
        remote_reward(server.target, "a")(GROUPED)


def test_an_outage_may_leave_a_whole_batch_missing(server):
    function = remote_reward(server.target, "a", on_outage="missing")
    server.script += [fails(grpc.StatusCode.UNAVAILABLE)] * 5

    assert function(**batch(0)) == [None] * 4
    assert function(**batch(1)) == [2.0, 3.0, 4.0, 5.0]
