"""The trainer writes what the server reads, and the other way round. Neither may import the other; this test may."""

import math

from hypothesis import given
from hypothesis import strategies as st

from protos.reward.v1 import reward_pb2 as pb
from reward_server import convert
from reward_server import domain as server
from reward_server.config import Limits
from reward_server.reward import RewardInfo as ServedReward
from reward_server.scoring import RewardResult
from trainer.client import batch as trainer_batch
from trainer.client import catalog as trainer_catalog
from trainer.client import verdicts as trainer_verdicts
from trainer.client.packing import Packer

TEXTS = st.text(max_size=30)
WITH_SURROGATES = st.text(st.characters(exclude_categories=()), max_size=30)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
PARTS = st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": TEXTS}), max_size=2)
MESSAGES = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "assistant", "tool"]), "content": st.none() | TEXTS | PARTS},
    optional={"name": TEXTS, "tool_calls": st.lists(JSON, max_size=2), "reasoning_content": TEXTS},
)
ITEMS = TEXTS | st.lists(MESSAGES, max_size=3)
SCORES = st.floats(allow_nan=False, allow_infinity=False)
NAMES = st.text(min_size=1, max_size=8)

READS_ALL = trainer_catalog.RewardInfo("r", "v", "python", reads_all_columns=True, reads_prompts=True)


def sent(batch, samples):
    """Returns what the server reads of those samples of a batch, as the client sends them."""
    request = Packer(batch, [READS_ALL]).request(samples)
    return convert.samples_from(convert.score_request_from(request).batch)


@st.composite
def batches(draw):
    count = draw(st.integers(1, 6))

    def column(values):
        return draw(st.lists(values, min_size=count, max_size=count))

    return trainer_batch.Batch(
        rewards=["r"],
        completions=column(ITEMS),
        prompts=column(ITEMS) if draw(st.booleans()) else None,
        columns={name: column(JSON) for name in draw(st.lists(NAMES, unique=True, max_size=3))},
        groups=sorted(column(st.integers(0, 3))) if draw(st.booleans()) else None,
        completion_token_counts=column(st.integers(0, 2**32 - 1)) if draw(st.booleans()) else None,
        truncated=column(st.booleans()) if draw(st.booleans()) else None,
    )


@given(batches(), st.data())
def test_the_server_reads_the_samples_that_the_client_was_given(batch, data):
    chosen = data.draw(st.sampled_from([range(batch.sample_count), [0], [batch.sample_count - 1]]))
    received = sent(batch, list(chosen))
    assert [sample.completion for sample in received] == [batch.completions[i] for i in chosen]
    assert [sample.prompt for sample in received] == [batch.prompts[i] if batch.prompts else None for i in chosen]
    assert [dict(sample.columns) for sample in received] == [
        {name: values[i] for name, values in batch.columns.items()} for i in chosen
    ]
    assert [sample.group for sample in received] == [
        batch.group_numbers[i] if batch.group_numbers else 0 for i in chosen
    ]
    for name, field in (("completion_token_counts", "token_count"), ("truncated", "truncated")):
        values = getattr(batch, name)
        assert [getattr(sample, field) for sample in received] == [values[i] if values else None for i in chosen]


@given(st.lists(WITH_SURROGATES, min_size=1, max_size=4))
def test_lone_surrogates_arrive_replaced_and_all_else_unchanged(texts):
    received = sent(
        trainer_batch.Batch(rewards=["r"], completions=texts, columns={"c": list(texts)}), range(len(texts))
    )
    clean = ["".join("\ufffd" if "\ud800" <= char <= "\udfff" else char for char in text) for text in texts]
    assert [sample.completion for sample in received] == clean
    assert [sample.columns["c"] for sample in received] == clean


def test_numbers_that_json_does_not_know_arrive():
    values = [math.nan, math.inf, -math.inf]
    received = sent(trainer_batch.Batch(rewards=["r"], completions=["x"] * 3, columns={"c": values}), range(3))
    assert [str(sample.columns["c"]) for sample in received] == [str(value) for value in values]


PART_SCORES = st.dictionaries(st.sampled_from(["a", "b"]), st.none() | SCORES, max_size=2)
FLAGS = st.lists(st.sampled_from(["floor", "clipped", "capped"]), unique=True, max_size=2).map(tuple)
BLAMES = st.sampled_from(server.Blame)
VERDICTS = st.one_of(
    st.builds(server.scored, SCORES, TEXTS, parts=PART_SCORES, flags=FLAGS),
    st.builds(server.abstained, TEXTS, TEXTS, parts=PART_SCORES, blame=BLAMES, flags=FLAGS),
    st.builds(server.failed, TEXTS, TEXTS, parts=PART_SCORES, blame=BLAMES, flags=FLAGS),
)


@given(st.lists(VERDICTS, max_size=6), st.sampled_from(["in order", "in pieces"]))
def test_the_client_reads_the_verdicts_that_the_server_gave(verdicts, how):
    count = len(verdicts)
    pieces = (
        [range(count)] if how == "in order" else [range(start, min(start + 2, count)) for start in range(0, count, 2)]
    )
    columns = trainer_verdicts.Columns("r", "", count)
    for piece in pieces:
        result = RewardResult("r", "v1", [verdicts[i] for i in piece], 1.5)
        response = convert.score_response_from([result], 1)
        columns.fill(pb.ScoreResponse.FromString(response.SerializeToString()).results[0], list(piece))
    read = columns.done()
    assert read.scores == [verdict.score for verdict in verdicts]
    assert [status.value for status in read.statuses] == [verdict.status.value for verdict in verdicts]
    assert read.reasons == [verdict.status_reason for verdict in verdicts]
    assert read.explanations == [verdict.explanation for verdict in verdicts]
    for name, scores in read.parts.items():
        assert scores == [verdict.parts.get(name) for verdict in verdicts]
    assert [set(read.flags_of(sample)) for sample in range(count)] == [set(verdict.flags) for verdict in verdicts]
    assert [blame.value for blame in read.blames] == [verdict.blame.value for verdict in verdicts]


@given(
    st.builds(
        server.Needs, st.frozensets(NAMES, max_size=2), st.frozensets(NAMES, max_size=2), st.booleans(), st.booleans()
    ),
    st.none() | st.tuples(SCORES, SCORES),
    st.sampled_from(server.CostClass),
    st.builds(server.Health, st.booleans(), TEXTS),
    st.none() | SCORES,
)
def test_the_client_reads_the_rewards_that_the_server_lists(needs, score_range, cost_class, health, floor):
    served = ServedReward("r", "v1", "python", needs, score_range, cost_class, health, "in words", floor)
    catalog = trainer_catalog.catalog_from(convert.listing_from([served], Limits()), "here:1")
    read = catalog.rewards["r"]
    assert (set(read.required_columns), set(read.optional_columns)) == (needs.required_columns, needs.optional_columns)
    assert (read.reads_all_columns, read.reads_prompts) == (needs.all_columns, needs.prompts)
    assert (read.min_score, read.max_score) == (score_range or (None, None))
    assert read.cost_class.value == cost_class.value
    assert read.floor == floor
    assert (read.health is trainer_catalog.Health.SERVING) == health.serving
    assert (read.health_reason, read.description) == (health.reason, "in words")
    assert catalog.max_completion_bytes == Limits().max_completion_bytes
