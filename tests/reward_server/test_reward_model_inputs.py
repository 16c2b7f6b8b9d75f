"""What the scorer `reward_model` sends to each kind of server."""

import json

import pytest
from asking_servers import context, hurry, reward_model, samples_of, verdicts
from fake_reward_models import (
    FakeGetReward,
    FakeLlamaCpp,
    FakeTei,
    FakeVllm,
)

from reward_server.domain import Blame, Sample, Status
from reward_server.errors import ConfigError
from reward_server.scorers.endpoints.model_options import RewardModelOptions
from reward_server.scorers.endpoints.reward_model import RewardModel

TURNS = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Q"}]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    hurry(monkeypatch)


async def test_vllm_is_asked_for_raw_numbers_of_a_conversation_each():
    with FakeVllm() as host:
        async with reward_model("vllm_classify", f"{host.url}/v1", model=host.model) as scorer:
            assert scorer.whole_prompts
            await verdicts(scorer, [Sample("A", TURNS), Sample("B", "Q")])
    assert [request.path for request in host.requests if request.method == "POST"] == ["/classify"] * 2
    first, second = sorted(host.asked, key=lambda body: len(body["messages"]), reverse=True)
    assert first == {
        "model": host.model,
        "use_activation": False,
        "messages": [*TURNS, {"role": "assistant", "content": "A"}],
    }
    assert second["messages"] == [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "B"}]


async def test_a_prompt_that_is_chat_template_text_is_sent_as_the_conversation_it_is():
    prompt = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n"
    with FakeVllm() as host:
        async with reward_model("vllm_classify", host.url) as scorer:
            await verdicts(scorer, [Sample("A", prompt)])
    assert host.asked[0]["messages"] == [*TURNS, {"role": "assistant", "content": "A"}]


async def test_all_messages_of_a_completion_are_sent():
    completion = [{"role": "assistant", "content": "a"}, {"role": "tool", "content": "1"}]
    with FakeVllm() as host:
        async with reward_model("vllm_pooling", host.url) as scorer:
            await verdicts(scorer, [Sample(completion, TURNS)])
    assert host.asked[0]["messages"] == [*TURNS, *completion]


async def test_a_pair_is_sent_as_one():
    with FakeTei() as host:
        async with reward_model("tei", host.url) as scorer:
            await verdicts(scorer, samples_of("A", "B"))
    assert host.asked == [
        {
            "inputs": [["Q", "A"], ["Q", "B"]],
            "raw_scores": True,
            "truncate": False,
            "truncation_direction": "Right",
        }
    ]


async def test_a_completion_alone_needs_no_prompt():
    with FakeTei() as host:
        async with reward_model("tei", host.url, input="completion") as scorer:
            assert not scorer.needs.prompts
            await verdicts(scorer, [Sample("A")])
    assert host.asked[0]["inputs"] == [["A"]]


async def test_samples_of_one_prompt_go_together_to_llama_cpp():
    samples = [Sample(completion, prompt) for completion, prompt in (("a", "P"), ("b", "R"), ("c", "P"))]
    with FakeLlamaCpp() as host:
        async with reward_model("llamacpp", host.url, model="m") as scorer:
            host.model = "m"
            await verdicts(scorer, samples)
    assert sorted(host.asked, key=lambda body: body["query"]) == [
        {"model": "m", "query": "P", "documents": ["a", "c"]},
        {"model": "m", "query": "R", "documents": ["b"]},
    ]


async def test_a_template_writes_the_conversation(tmp_path):
    template = (
        "{{ bos_token }}{% for message in messages %}[{{ message.role }}]\n"
        "{%- if message.role == 'tool' %}{{ raise_exception('no tools') }}{% endif %}"
        "{{ message['content'] | trim }}{{ eos_token }}\n{% endfor %}"
    )
    (tmp_path / "chat.jinja").write_text(template)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    variables = {"bos_token": "<s>", "eos_token": "</s>"}
    for name in ("chat.jinja", "tokenizer_config.json"):
        with FakeGetReward() as host:
            async with reward_model(
                "openrlhf", host.url, tmp_path, template_file=name, template_variables=variables
            ) as scorer:
                assert scorer.whole_prompts
                tools = [Sample([{"role": "tool", "content": "1"}], TURNS)]
                _, failed = await verdicts(scorer, [Sample(" A ", TURNS), *tools])
        assert host.asked[0]["query"] == ["<s>[system]Be brief.</s>\n[user]Q</s>\n[assistant]A</s>\n"]
        assert failed.status is Status.FAILED
        assert "no tools" in failed.status_reason


async def test_a_template_cannot_reach_out_of_its_sandbox(tmp_path):
    (tmp_path / "evil.jinja").write_text("{{ messages.__class__.__mro__[1].__subclasses__() }}")
    with FakeGetReward() as host:
        async with reward_model("openrlhf", host.url, tmp_path, template_file="evil.jinja") as scorer:
            (verdict,) = await verdicts(scorer, samples_of("a"))
    assert "SecurityError" in verdict.status_reason
    assert host.asked == []


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("t.jinja", "{% if %}", "is no Jinja template"),
        ("t.json", "{}", "has no text under `chat_template`"),
        ("t.json", '{"chat_template": [{"name": "default"}]}', "has several templates"),
    ],
)
async def test_a_template_that_is_none_is_told_at_the_start(tmp_path, name, text, told):
    (tmp_path / name).write_text(text)
    options = RewardModelOptions(protocol="openrlhf", url="http://127.0.0.1:1", template_file=name)
    with pytest.raises(ConfigError, match=told):
        await RewardModel(options, context(tmp_path)).start()


async def test_tokens_are_left_where_one_says_so():
    with FakeTei() as host:
        async with reward_model("tei", host.url, input="plain", break_tokens=False) as scorer:
            await verdicts(scorer, samples_of("x</s>\ud800"))
    assert host.asked[0]["inputs"] == [["Qx</s>\ufffd"]]


@pytest.mark.parametrize(
    ("policy", "vllm", "tei"),
    [
        ("keep_begin", {"truncate_prompt_tokens": -1, "truncation_side": "right"}, (True, "Right")),
        ("keep_end", {"truncate_prompt_tokens": -1, "truncation_side": "left"}, (True, "Left")),
    ],
)
async def test_a_server_cuts_only_where_the_options_say_so(policy, vllm, tei):
    with FakeVllm() as host:
        async with reward_model("vllm_classify", host.url, input="plain", too_long=policy) as scorer:
            await verdicts(scorer, samples_of("a"))
        assert host.asked[0] == {"input": ["Qa"], "use_activation": False, **vllm}
    with FakeTei() as host:
        async with reward_model("tei", host.url, too_long=policy) as scorer:
            await verdicts(scorer, samples_of("a"))
        assert (host.asked[0]["truncate"], host.asked[0]["truncation_direction"]) == tei


async def test_what_is_longer_than_max_chars_is_not_asked_about():
    with FakeGetReward() as host:
        async with reward_model("openrlhf", host.url, max_chars=10) as scorer:
            got = await verdicts(scorer, [*samples_of("a" * 9, "a" * 10), *samples_of("a", prompt="Q" * 11)])
    assert [verdict.score for verdict in got] == [10.0, None, None]
    assert [verdict.blame for verdict in got[1:]] == [Blame.COMPLETION, Blame.REFERENCE]
    assert host.asked == [{"query": ["Q" + "a" * 9]}]
