"""The scorer `endpoint`: somebody's own reward server in OpenRLHF's shape, over real HTTP."""

import asyncio
import time

import pytest
from asking_servers import context, endpoint, samples_of, until, verdicts
from fake_host import HangUp, json_response
from fake_reward_models import BREAKS, HANGS, KILLS, NULL, REFUSED, FakeGetReward, html_page, raw_json
from pydantic import ValidationError

from reward_server.domain import Blame, Call, CostClass, Sample, Status
from reward_server.errors import ConfigError
from reward_server.scorers.endpoints import remote
from reward_server.scorers.endpoints.get_reward import Endpoint, EndpointOptions


@pytest.fixture
def host():
    with FakeGetReward() as host:
        yield host


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(remote, "FIRST_PAUSE_S", 0.005)
    monkeypatch.setattr(remote, "SOONEST_LOOK_S", 0.02)
    monkeypatch.setattr(remote, "LATEST_LOOK_S", 0.05)


async def test_a_request_is_what_openrlhf_sends(host):
    async with endpoint(host.url, reference_column="gold") as scorer:
        await verdicts(scorer, samples_of("a", "bb", gold=7, other=1))
    assert host.asked == [{"query": ["Qa", "Qbb"], "prompts": ["Q", "Q"], "labels": [7, 7]}]
    assert host.requests[-1].path == "/get_reward"


async def test_labels_are_empty_where_no_column_is_named(host):
    async with endpoint(host.url) as scorer:
        await verdicts(scorer, samples_of("a"))
    assert host.asked[0]["labels"] == [""]


async def test_a_url_with_a_path_is_taken_as_it_is(host):
    async with endpoint(f"{host.url}/v2/rm?key=1") as scorer:
        (verdict,) = await verdicts(scorer, samples_of("a"))
    assert host.requests[-1].path == "/v2/rm?key=1"
    assert "answered 404" in verdict.status_reason


async def test_the_rewards_are_the_scores_to_the_last_bit(host):
    host.worth = lambda text: len(text) / 3
    async with endpoint(host.url, batch=3) as scorer:
        got = await verdicts(scorer, samples_of(*("x" * n for n in range(20))))
    assert [verdict.score for verdict in got] == [(n + 1) / 3 for n in range(20)]
    assert sorted(len(body["query"]) for body in host.asked) == [2, 3, 3, 3, 3, 3, 3]


async def test_as_many_requests_are_under_way_as_in_flight_says(host):
    honest = host.answer

    async def answer(request):
        while request.method == "POST" and host.most_in_flight < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        return await honest(request)

    host.answer = answer
    async with endpoint(host.url, batch=1, in_flight=2) as scorer:
        await asyncio.gather(*(verdicts(scorer, samples_of(*"abcdef")) for _ in range(3)))
    assert host.most_in_flight == 2


async def test_scores_and_logs_become_parts(host):
    host.extra = {"scores": [0, 1], "extra_logs": {"format": [0.5, None], "words": ["a", "b"], "one": [1], "all": 3}}
    async with endpoint(host.url) as scorer:
        got = await verdicts(scorer, samples_of("a", "bb"))
    assert [dict(verdict.parts) for verdict in got] == [{"scores": 0.0, "format": 0.5}, {"scores": 1.0}]


async def test_hostile_names_and_complaints_are_told_as_texts(host):
    host.always = raw_json('{"rewards": [1], "extra_logs": {"' + "\\ud800" * 200 + '": [1]}}')
    async with endpoint(host.url) as scorer:
        (verdict,) = await verdicts(scorer, samples_of("a"))
        assert dict(verdict.parts) == {"?" * 100: 1.0}
        host.always = raw_json('{"error": "\\ud800"}')
        host.always.status = 500
        await verdicts(scorer, samples_of("a"))
        assert not scorer.health().serving
        assert scorer.health().reason.encode()


async def test_a_single_number_is_the_reward_of_a_single_query(host):
    host.always = json_response({"rewards": 0.5})
    async with endpoint(host.url) as scorer:
        assert [verdict.score for verdict in await verdicts(scorer, samples_of("a"))] == [0.5]
        assert "no list `rewards`" in (await verdicts(scorer, samples_of("a", "b")))[0].status_reason


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ('{"rewards": [NaN, 2]}', "the reward is NaN"),
        ('{"rewards": [null, 2]}', "the reward is null"),
        ('{"rewards": ["0.5", 2]}', 'the reward is "0.5"'),
        ('{"rewards": [[0.5], 2]}', "the reward is [0.5]"),
        ('{"rewards": [Infinity, 2]}', "the reward is Infinity"),
        ('{"rewards": [1' + "0" * 400 + ", 2]}", "not a finite number"),
    ],
)
async def test_what_is_no_number_fails_alone(host, said, told):
    host.always = raw_json(said)
    async with endpoint(host.url) as scorer:
        bad, good = await verdicts(scorer, samples_of("a", "bb"))
    assert (bad.status, bad.blame) == (Status.FAILED, Blame.UNKNOWN)
    assert told in bad.status_reason
    assert good.score == 2.0


@pytest.mark.parametrize(
    ("response", "told"),
    [
        (json_response({"rewards": [1]}), "it gave 1 rewards for 2 queries"),
        (json_response({"rewards": [1, 2, 3]}), "it gave 3 rewards for 2 queries"),
        (json_response([1, 2]), "the answer is a list, not an object with `rewards`"),
        (json_response({"scores": [1, 2]}), "the answer has no list `rewards`: it has ['scores']"),
        (json_response({"rewards": None}), "`rewards` is null"),
        (json_response({"rewards": {"a": 1}}), "no list `rewards`"),
        (raw_json("[" * 100_000), "the answer is no JSON"),
        (raw_json(""), "an empty body"),
        (html_page(), "a page of HTML: Welcome Log in"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_an_answer_that_is_none_fails_all_and_is_blamed_on_nobody(host, response, told):
    host.always = response
    async with endpoint(host.url) as scorer:
        got = await verdicts(scorer, samples_of("a", "b"))
    assert {(verdict.status, verdict.blame) for verdict in got} == {(Status.FAILED, Blame.UNKNOWN)}
    assert all(told in verdict.status_reason for verdict in got)


@pytest.mark.parametrize(
    "fault", [json_response({"error": "busy"}, 503), json_response({}, 500), json_response({}, 502), HangUp]
)
async def test_a_passing_fault_is_tried_again(host, fault):
    host.faults = [fault, fault]
    async with endpoint(host.url) as scorer:
        assert [verdict.score for verdict in await verdicts(scorer, samples_of("a"))] == [2.0]
    assert len(host.asked) == 3


async def test_a_refusal_is_not_tried_again(host):
    host.always = json_response({"detail": "no"}, 400)
    async with endpoint(host.url) as scorer:
        got = await verdicts(scorer, samples_of("a", "b"))
        assert not scorer.health().serving
    assert {(verdict.status, verdict.blame) for verdict in got} == {(Status.FAILED, Blame.UNKNOWN)}
    assert "answered 400: no" in got[0].status_reason
    assert len(host.asked) == 3  # and two controls


async def test_a_wrong_token_is_told_with_the_remedy(host, monkeypatch):
    host.token = "right"
    monkeypatch.setenv("RM_TOKEN", "wrong")
    async with endpoint(host.url, token_env="RM_TOKEN") as scorer:
        (verdict,) = await verdicts(scorer, samples_of("a"))
    assert "answered 401" in verdict.status_reason
    assert "See rewards.mine.endpoint.token_env" in verdict.status_reason


async def test_the_token_is_sent(host, tmp_path):
    host.token = "right"
    (tmp_path / "token").write_text("right\n")
    async with endpoint(host.url, token_file=tmp_path / "token") as scorer:
        assert (await verdicts(scorer, samples_of("a")))[0].score == 2.0


async def test_a_server_that_is_away_is_an_outage_and_health_says_so(host):
    host.stop()
    async with endpoint(host.url) as scorer:
        assert not scorer.health().serving
        got = await verdicts(scorer, samples_of("a", "b"))
        assert {(verdict.status, verdict.blame) for verdict in got} == {(Status.FAILED, Blame.OUTAGE)}
        assert "Start the server there, or mend rewards.mine.endpoint.url" in got[0].status_reason
        host.start()
        assert (await verdicts(scorer, samples_of("a")))[0].score == 2.0
        assert scorer.health().serving


async def test_health_is_true_again_though_nobody_asks(host):
    async with endpoint(host.url) as scorer:
        host.stop()
        await verdicts(scorer, samples_of("a"))
        assert not scorer.health().serving
        host.start()
        await until(lambda: scorer.health().serving)
    assert host.asked == []


async def test_a_server_that_breaks_over_everything_is_an_outage(host):
    host.always = json_response({"error": "CUDA out of memory"}, 500)
    async with endpoint(host.url) as scorer:
        got = await verdicts(scorer, samples_of("a", "b", "c", "d"))
        assert {verdict.blame for verdict in got} == {Blame.OUTAGE}
        assert "CUDA out of memory" in scorer.health().reason
        host.always = None
        assert (await verdicts(scorer, samples_of("a")))[0].score == 2.0
        assert scorer.health().serving


async def test_an_outage_that_was_found_is_not_looked_for_with_every_completion(host):
    host.always = json_response({}, 500)
    async with endpoint(host.url, batch=1, in_flight=2) as scorer:
        got = await verdicts(scorer, samples_of(*"a" * 200))
    assert {verdict.blame for verdict in got} == {Blame.OUTAGE}
    assert len(host.asked) < 20


@pytest.mark.parametrize("poison", [BREAKS, REFUSED])
async def test_a_completion_that_breaks_its_batch_is_found_and_blamed_and_the_others_scored(host, poison):
    completions = [f"text {n}" for n in range(32)]
    completions[13] = poison
    async with endpoint(host.url) as scorer:
        got = await verdicts(scorer, samples_of(*completions))
        assert scorer.health().serving
    assert [index for index, verdict in enumerate(got) if verdict.score is None] == [13]
    assert (got[13].status, got[13].blame) == (Status.FAILED, Blame.COMPLETION)


@pytest.mark.parametrize("poison", [BREAKS, REFUSED])
async def test_a_prompt_that_breaks_the_server_is_no_completions_fault_and_no_outage(host, poison):
    async with endpoint(host.url) as scorer:
        got = await verdicts(scorer, [*samples_of("a", "bb", prompt=poison), *samples_of("b")])
        assert scorer.health().serving
    assert [verdict.blame for verdict in got[:2]] == [Blame.REFERENCE] * 2
    assert got[2].score == 2.0


async def test_a_reference_that_breaks_the_server_costs_no_other_sample_its_score(host):
    host.texts = lambda body: [
        f"{query}{BREAKS if label is None else ''}"
        for query, label in zip(body["query"], map(as_int, body["labels"]), strict=True)
    ]
    samples = [Sample("a", "Q", {"gold": "x"}), Sample("b", "Q", {"gold": 1}), Sample("c", "Q", {"gold": 2})]
    async with endpoint(host.url, reference_column="gold", batch=1, in_flight=1) as scorer:
        got = await verdicts(scorer, samples)
    assert [(verdict.score, verdict.blame) for verdict in got] == [
        (None, Blame.REFERENCE),
        (2.0, Blame.UNKNOWN),
        (2.0, Blame.UNKNOWN),
    ]


def as_int(label):
    return label if isinstance(label, int) else None


async def test_a_time_out_is_never_blamed_on_a_completion(host):
    async with endpoint(host.url, timeout_s=0.2) as scorer:
        hung, good = await verdicts(scorer, samples_of(HANGS, "b"))
    assert (hung.status, hung.blame) == (Status.FAILED, Blame.UNKNOWN)
    assert "no answer within" in hung.status_reason
    assert good.score == 2.0


async def test_a_completion_that_breaks_its_connection_is_neither_blamed_nor_an_outage(host):
    async with endpoint(host.url) as scorer:
        good, killer, last = await verdicts(scorer, samples_of("a", KILLS, "b"))
        assert scorer.health().serving
    assert (good.score, last.score) == (2.0, 2.0)
    assert (killer.status, killer.blame) == (Status.FAILED, Blame.UNKNOWN)


async def test_a_server_that_never_answers_is_an_outage(host):
    async with endpoint(host.url, timeout_s=0.1) as scorer:
        host.worth = lambda text: time.sleep(0.3)
        got = await verdicts(scorer, samples_of("a", "b"))
        assert not scorer.health().serving
    assert {verdict.blame for verdict in got} == {Blame.OUTAGE}


async def test_a_prompt_that_hangs_the_server_is_no_outage(host):
    async with endpoint(host.url, timeout_s=0.2) as scorer:
        got = await verdicts(scorer, [*samples_of("a", prompt=HANGS), *samples_of("b")])
        assert scorer.health().serving
    assert [(verdict.score, verdict.blame) for verdict in got] == [(None, Blame.UNKNOWN), (2.0, Blame.UNKNOWN)]


async def test_closing_the_verdicts_closes_the_connections(host):
    async with endpoint(host.url, batch=1) as scorer:
        asked = scorer.score(samples_of(HANGS, HANGS), Call(deadline=time.monotonic() + 60))
        waiting = asyncio.create_task(anext(asked))
        await until(lambda: len(host.asked) == 2)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await asked.aclose()
        await until(lambda: host.abandoned == 2)


async def test_a_reward_outside_the_declared_range_is_no_score(host):
    async with endpoint(host.url, score_range=[0, 3]) as scorer:
        assert scorer.score_range == (0.0, 3.0)
        good, bad = await verdicts(scorer, samples_of("a", "bbb"))
    assert good.score == 2.0
    assert bad.status_reason == "the reward is 4, outside the declared score_range 0 to 3"


async def test_a_sample_without_reference_is_not_sent(host):
    samples = [Sample("a", "Q", {"gold": None}), Sample("b", "Q", {"gold": 0})]
    async with endpoint(host.url, reference_column="gold") as scorer:
        missing, good = await verdicts(scorer, samples)
    assert (missing.status, missing.blame) == (Status.ABSTAINED, Blame.REFERENCE)
    assert good.score == 2.0
    assert host.asked[0]["labels"] == [0]


async def test_a_conversation_is_told_apart(host):
    async with endpoint(host.url) as scorer:
        (verdict,) = await verdicts(scorer, [Sample([{"role": "assistant", "content": "a"}], "Q")])
    assert "view: full" in verdict.status_reason


async def test_hostile_texts_arrive_as_texts(host):
    texts = ["\ud800", "\x00", '"}', "\u2028", "\U0001f600", NULL]
    async with endpoint(host.url) as scorer:
        got = await verdicts(scorer, samples_of(*texts))
    assert [verdict.score for verdict in got] == [2.0, 2.0, 3.0, 2.0, 2.0, None]


async def test_nothing_is_asked_for_no_samples(host):
    async with endpoint(host.url) as scorer:
        assert await verdicts(scorer, []) == []
    assert host.asked == []


def test_what_it_needs_and_declares():
    scorer = Endpoint(EndpointOptions(url="http://box", reference_column="gold"), context())
    assert scorer.needs.required_columns == {"gold"}
    assert scorer.needs.prompts_required
    assert scorer.score_range is None
    assert scorer.cost_class is CostClass.JUDGE


@pytest.mark.parametrize("url", ["box:5000", "ftp://box", "http://me:secret@box"])
def test_what_is_no_url_is_refused(url):
    with pytest.raises(ValidationError):
        EndpointOptions(url=url)


async def test_a_token_that_is_not_there_is_told_at_the_start(monkeypatch):
    monkeypatch.delenv("RM_TOKEN", raising=False)
    with pytest.raises(ConfigError, match=r"rewards\.mine\.endpoint\.token_env"):
        await Endpoint(EndpointOptions(url="http://127.0.0.1:1", token_env="RM_TOKEN"), context()).start()
