"""What is sent of a batch: only what is asked for, cut at group boundaries, and put together again in order."""

from __future__ import annotations

import json
import logging
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from fake_reward_server import decoded
from hypothesis import given
from hypothesis import strategies as st

from protos.reward.v1 import reward_pb2 as pb
from trainer.client import Catalog, RewardInfo, Status
from trainer.client.batch import Batch, groups_by_prompt
from trainer.client.chunks import cut
from trainer.client.plan import Plan, plan
from trainer.errors import BadInput, MissingColumn, ServerBroke, TooLarge, UnknownReward


def catalog(*rewards: RewardInfo, max_request_bytes: int = 0, max_completion_bytes: int = 0) -> Catalog:
    return Catalog("there:1", {r.name: r for r in rewards}, max_request_bytes, max_completion_bytes, "0")


LENGTH = RewardInfo("length", "v1", "length")
EXACT = RewardInfo("exact", "v1", "python", required_columns=("answer",), optional_columns=("hint",))
GREEDY = RewardInfo("greedy", "v1", "python", reads_all_columns=True)
JUDGE = RewardInfo("judge", "v1", "judge", reads_prompts=True)
TOKENS = RewardInfo("tokens", "v1", "python", required_columns=("completion_ids",))


def requests(planned: Plan) -> list[pb.ScoreRequest]:
    return [pb.ScoreRequest.FromString(chunk.request) for chunk in planned.chunks]


def only_request(batch: Batch, *rewards: RewardInfo) -> pb.ScoreRequest:
    (request,) = requests(plan(batch, catalog(*rewards)))
    return request


def columns(request: pb.ScoreRequest) -> dict[str, Any]:
    return {column.name: json.loads(column.values_json) for column in request.batch.columns}


def test_only_columns_that_an_asked_reward_declares_travel():
    given = {"answer": ["1", "2"], "hint": ["x", "y"], "huge": [object(), object()]}

    assert columns(only_request(Batch(["exact"], ["a", "b"], columns=given), EXACT, LENGTH)) == {
        "answer": ["1", "2"],
        "hint": ["x", "y"],
    }
    assert columns(only_request(Batch(["length"], ["a", "b"], columns=given), EXACT, LENGTH)) == {}


def test_a_reward_that_reads_all_columns_gets_them_but_not_the_tokens():
    batch = Batch(["greedy"], ["a"], columns={"x": [1], "y": [2]}, completion_ids=[[5, 6]])

    assert columns(only_request(batch, GREEDY)) == {"x": [1], "y": [2]}


def test_tokens_travel_as_a_column_where_a_reward_names_them_and_as_counts_always():
    batch = Batch(["tokens"], ["a", "b"], completion_ids=[[5, 6], [7]])

    request = only_request(batch, TOKENS)

    assert columns(request) == {"completion_ids": [[5, 6], [7]]}
    assert list(request.batch.completion_token_counts) == [2, 1]
    assert columns(only_request(Batch(["length"], ["a"], completion_ids=[[5]]), LENGTH)) == {}


def test_prompts_travel_once_each_and_only_to_a_reward_that_reads_them():
    prompts = ["p", "p", "q", "p"]

    to_judge = only_request(Batch(["judge"], ["a", "b", "c", "d"], prompts), JUDGE).batch
    to_length = only_request(Batch(["length"], ["a", "b", "c", "d"], prompts), LENGTH).batch

    assert decoded(to_judge.prompts) == ["p", "q"]
    assert list(to_judge.prompt_indexes) == [0, 0, 1, 0]
    assert not to_length.prompts.texts
    assert list(to_length.group_indexes) == list(to_judge.group_indexes) == [0, 0, 1, 2]


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor, lambda values: [torch.tensor(v) for v in values]])
def test_numbers_and_flags_may_come_from_other_libraries(kind):
    batch = Batch(
        ["length"],
        ["a", "b"],
        groups=kind([-5, 7]),
        completion_token_counts=kind([0, 2.0]),
        truncated=kind([True, False]),
    )

    sent = only_request(batch, LENGTH).batch

    assert list(sent.group_indexes) == [0, 1]
    assert list(sent.completion_token_counts) == [0, 2]
    assert list(sent.completions_truncated) == [True, False]


def test_groups_given_count_more_than_runs_of_prompts():
    batch = Batch(["length"], ["a", "b", "c"], ["p", "p", "p"], groups=[7, 9, 7])

    assert list(only_request(batch, LENGTH).batch.group_indexes) == [0, 1, 0]


def test_equal_conversations_in_a_row_are_one_group():
    def ask(text: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": text}]

    assert groups_by_prompt([ask("p"), ask("p"), ask("q"), ask("q"), ask("p")]) == [0, 0, 1, 1, 2]
    assert groups_by_prompt([]) == []


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"prompts": ["p"]}, "prompts has 1 values for 2 completions"),
        ({"columns": {"answer": ["1", "2", "3"]}}, "column 'answer' has 3 values for 2 completions"),
        ({"columns": {"answer": "42"}}, "column 'answer' is of type str: give a list"),
        ({"columns": {"answer": 42}}, "column 'answer' is of type int: give a list"),
        ({"groups": [0]}, "groups has 1 values for 2 completions"),
        ({"completion_ids": [1, 2]}, "completion_ids, item 0 is of type int: give a list of tokens"),
        ({"completion_ids": [[1], "2"]}, "completion_ids, item 1 is of type str: give a list of tokens"),
        ({"completion_ids": [[1]]}, "completion_ids has 1 values for 2 completions"),
        ({"completion_token_counts": [1, None]}, "completion_token_counts, item 1 is None: give a whole number from 0"),
        ({"completion_token_counts": [-1, 2]}, "completion_token_counts, item 0 is -1: .* from 0 to 4294967295"),
        ({"completion_token_counts": [2, 2**40]}, "completion_token_counts, item 1 is 1099511627776: give"),
        ({"completion_token_counts": [2, float("inf")]}, "completion_token_counts, item 1 is inf: give"),
        ({"groups": [0, 1.5]}, "groups, item 1 is 1.5: give a whole number$"),
        ({"groups": ["0", 1]}, "groups, item 0 is '0': give a whole number$"),
        ({"groups": [0, [1]]}, r"groups, item 1 is \[1\]: give a whole number$"),
        ({"truncated": [True, "no"]}, "truncated, item 1 is 'no': give a whole number from 0 to 1$"),
        ({"truncated": [None, True]}, "truncated, item 0 is None"),
        ({"truncated": [2, True]}, "truncated, item 0 is 2"),
        ({"deadline_s": 0}, "deadline_s is 0; give the seconds a call may take, above 0 and at most 86400"),
        ({"deadline_s": -1}, "deadline_s is -1; give"),
        ({"deadline_s": float("nan")}, "deadline_s is nan; give"),
        ({"deadline_s": float("inf")}, "deadline_s is inf; give"),
        ({"deadline_s": "abc"}, "deadline_s is 'abc'; give"),
        ({"truncated": [True]}, "truncated has 1 values for 2 completions"),
        ({"rewards": "exact"}, r"pass a list: rewards=\['exact'\]"),
        ({"rewards": []}, "name at least one reward"),
        ({"rewards": ["exact", "exact"]}, "rewards has exact more than once"),
        ({"completions": "ab"}, "completions is of type str: give a list"),
    ],
)
def test_what_contradicts_itself_is_named(fields, words):
    whole = {"rewards": ["exact"], "completions": ["a", "b"], "columns": {"answer": ["1", "2"]}, **fields}
    with pytest.raises(BadInput, match=words):
        plan(Batch(**whole), catalog(EXACT))


def test_a_missing_column_is_named_with_the_reward_and_what_there_is():
    with pytest.raises(MissingColumn, match="reward 'exact' needs the column 'answer'; there are: hint, solution"):
        plan(Batch(["exact"], ["a"], columns={"solution": ["1"], "hint": ["x"]}), catalog(EXACT))


def test_an_unknown_reward_is_named_with_those_there_are():
    with pytest.raises(UnknownReward, match="there:1 has no reward 'exakt'; it has: exact, length"):
        plan(Batch(["exakt"], ["a"]), catalog(EXACT, LENGTH))


def answered(request: pb.ScoreRequest) -> pb.ScoreResponse:
    """Scores a text by the number it holds."""
    scores = [float(text) for text in decoded(request.batch.completions)]
    results = [
        pb.RewardVerdicts(name=r.name, version="v1", scores=scores, statuses=[pb.STATUS_SCORED] * len(scores))
        for r in request.rewards
    ]
    return pb.ScoreResponse(results=results)


@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=12),
    padding=st.lists(st.integers(0, 300), min_size=48, max_size=48),
    limit=st.integers(900, 4000),
)
def test_a_batch_over_the_limit_is_cut_between_groups_and_merged_in_order(sizes, padding, limit):
    prompts = [f"prompt {group} {'p' * padding[group]}" for group, size in enumerate(sizes) for _ in range(size)]
    numbers = range(len(prompts))
    completions = [f"{number}{' ' * padding[number]}" for number in numbers]
    batch = Batch(["judge"], completions, prompts, columns={"x": list(numbers)})

    planned = plan(batch, catalog(JUDGE, max_request_bytes=limit))
    sent = requests(planned)
    result = planned.merged([answered(request) for request in sent])["judge"]

    assert result.scores == [float(number) for number in numbers]
    assert all(len(chunk.request) <= limit for chunk in planned.chunks)
    assert [request.chunk_index for request in sent] == list(range(len(sent)))
    assert {request.chunk_count for request in sent} == {len(sent)}
    for request in sent:
        own = [decoded(request.batch.prompts)[index] for index in request.batch.prompt_indexes]
        assert own == [prompts[int(text)] for text in decoded(request.batch.completions)]
    chunks_of = Counter(group for request in sent for group in set(request.batch.group_indexes))
    weights = Counter[int]()
    for number, prompt in enumerate(prompts):
        weights[groups_by_prompt(prompts)[number]] += len(completions[number]) + len(prompt)
    assert all(count == 1 for group, count in chunks_of.items() if weights[group] < limit // 3)


def test_chunks_state_the_version_they_expect_and_a_single_request_does_not():
    batch = Batch(["length"], ["x" * 400] * 4, groups=[0, 1, 2, 3])

    versions = [
        [
            request.rewards[0].expected_version
            for request in requests(plan(batch, catalog(LENGTH, max_request_bytes=limit)))
        ]
        for limit in (1000, 10_000)
    ]

    assert versions == [["v1", "v1"], [""]]


def best_cut(weights: list[int], limit: int) -> tuple[int, int]:
    """Returns the smallest number of runs of at most `limit`, and the smallest largest run among such cuts."""
    best = {0: (0, 0)}
    for end in range(1, len(weights) + 1):
        runs = ((start, sum(weights[start:end])) for start in range(end))
        best[end] = min((best[start][0] + 1, max(best[start][1], run)) for start, run in runs if run <= limit)
    return best[len(weights)]


@given(
    groups=st.lists(st.integers(0, 5), min_size=1, max_size=20),
    weights=st.lists(st.integers(1, 50), min_size=20, max_size=20),
    spare=st.integers(0, 100),
)
def test_the_cut_has_the_fewest_and_then_the_most_even_chunks_of_whole_groups(groups, weights, spare):
    def size_of(samples: Any) -> int:
        return sum(weights[sample] for sample in samples)

    members = {group: [i for i, g in enumerate(groups) if g == group] for group in dict.fromkeys(groups)}
    sizes = [size_of(samples) for samples in members.values()]
    limit = max(sizes) + spare

    chunks = cut(range(len(groups)), groups, size_of, limit)

    assert [sample for chunk in chunks for sample in chunk] == [s for samples in members.values() for s in samples]
    assert (len(chunks), max(map(size_of, chunks))) == best_cut(sizes, limit)


def test_a_group_over_the_limit_is_cut_between_samples_with_a_warning(caplog):
    with caplog.at_level(logging.WARNING):
        chunks = cut(range(5), [0, 0, 0, 0, 1], lambda samples: 10 * len(samples), 25)

    assert chunks == [[0, 1], [2, 3], [4]]
    assert "a group of 4 completions has 40 bytes, over the server's limit of 25" in caplog.text
    assert "raise limits.max_request_mb" in caplog.text


def test_a_sample_over_the_limit_alone_is_an_error_that_names_it():
    with pytest.raises(TooLarge, match=r"sample 2 alone has \d+ bytes .* raise limits.max_request_mb"):
        plan(Batch(["length"], ["a", "b", "c" * 2000]), catalog(LENGTH, max_request_bytes=1000))


def test_a_completion_over_the_limit_is_kept_back_and_its_neighbours_are_scored():
    batch = Batch(["judge"], ["1", "2" * 100, "3"], ["p", "p", "q"], columns={"x": [1, 2, 3]})

    planned = plan(batch, catalog(JUDGE, max_completion_bytes=50))
    (request,) = requests(planned)
    result = planned.merged([answered(request)])["judge"]

    assert decoded(request.batch.completions) == ["1", "3"]
    assert list(request.batch.group_indexes) == [0, 1]
    assert result.scores == [1.0, None, 3.0]
    assert result.statuses == [Status.SCORED, Status.FAILED, Status.SCORED]
    assert "the completion has 100 bytes, over the server's limit of 50 (limits.max_completion_kb" in result.reasons[1]


def test_nothing_is_sent_for_an_empty_batch_or_one_that_is_kept_back_whole():
    empty = plan(Batch(["length"], []), catalog(LENGTH))
    too_long = plan(Batch(["length"], ["x" * 9]), catalog(LENGTH, max_completion_bytes=5))

    assert empty.chunks == too_long.chunks == []
    assert empty.merged([])["length"].scores == []
    assert too_long.merged([])["length"].missing_counts().total() == 1


def test_replaced_surrogates_are_counted_once_however_the_batch_is_cut():
    batch = Batch(["exact"], ["x\ud800" + "y" * 300] * 4, columns={"answer": ["\udfff"] * 4}, groups=[0, 1, 2, 3])

    planned = plan(batch, catalog(EXACT, max_request_bytes=800))

    assert len(planned.chunks) > 1
    assert planned.replaced_surrogate_count == 8
    assert sum(request.batch.replaced_surrogate_count for request in requests(planned)) == 8


def one(**fields: Any) -> pb.ScoreResponse:
    verdicts = {"name": "length", "version": "v1", "scores": [1.0, 2.0], "statuses": [pb.STATUS_SCORED] * 2, **fields}
    return pb.ScoreResponse(results=[pb.RewardVerdicts(**verdicts)])


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"scores": [1.0]}, "1 scores and 2 statuses for 2 samples"),
        ({"sample_indexes": [0, 0]}, "not one per sample"),
        ({"status_reason_indexes": [0, 3]}, "contradicts itself"),
        ({"explanations": [pb.Explanation(sample_index=9)]}, "contradicts itself"),
        ({"parts": [pb.PartScores(name="p", scores=[1.0])]}, "contradicts itself"),
        ({"name": "other"}, "answered for other rewards"),
    ],
)
def test_an_answer_against_the_contract_is_an_error(fields, words):
    planned = plan(Batch(["length"], ["a", "b"]), catalog(LENGTH))

    with pytest.raises(ServerBroke, match=words):
        planned.merged([one(**fields)])


def test_verdicts_are_read_in_the_order_the_server_sends_them():
    planned = plan(Batch(["length"], ["a", "b"]), catalog(LENGTH))

    result = planned.merged(
        [
            one(
                sample_indexes=[1, 0],
                statuses=[pb.STATUS_ABSTAINED, pb.STATUS_SCORED],
                scores=[float("nan"), 2.0],
                status_reasons=["unreadable"],
                status_reason_indexes=[1, 0],
                explanations=[pb.Explanation(sample_index=0, text=b"because")],
                parts=[pb.PartScores(name="p", scores=[float("nan"), 0.5])],
                cost=pb.Cost(judge_call_count=3, queue_ms=1.5),
            )
        ]
    )["length"]

    assert result.scores == [2.0, None]
    assert result.statuses == [Status.SCORED, Status.ABSTAINED]
    assert result.reasons == ["", "unreadable"]
    assert result.explanations == ["because", ""]
    assert result.parts == {"p": [0.5, None]}
    assert (result.cost.judge_call_count, result.cost.queue_ms) == (3, 1.5)


def test_a_score_that_is_no_number_is_a_failed_verdict():
    planned = plan(Batch(["length"], ["a", "b"]), catalog(LENGTH))

    result = planned.merged([one(scores=[float("nan"), float("inf")])])["length"]

    assert result.scores == [None, None]
    assert result.reasons == ["the server sent nan as a score", "the server sent inf as a score"]
