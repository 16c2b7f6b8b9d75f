"""A slip in the options is told when the client is made; the token is told to nobody."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from dataclasses import fields

import pytest

from trainer.client import AioRewardClient, ClientKeywords, ClientOptions, RewardClient
from trainer.client.channel import channel_options
from trainer.client.options import is_loopback
from trainer.errors import BadOptions, RewardError


@pytest.mark.parametrize(
    ("target", "options", "words"),
    [
        ("gpu-box", {}, "target 'gpu-box' has no port; write host:port, such as gpu-box:8470"),
        ("", {}, "has no port"),
        ("http://gpu-box:8470", {}, "is a URL; write host:port"),
        ("local:", {}, "names no configuration; write local:path/to/server.yaml"),
        ("local:x.yaml", {"tls": True}, "leave tls out"),
        ("h:1", {"ca_file": "ca.crt"}, "ca_file is given but tls is off; add tls=True"),
        ("h:1", {"server_name": "x"}, "server_name is given but tls is off"),
        ("h:1", {"tls": True, "key_file": "k"}, "certificate_file and key_file belong together"),
        ("h:1", {"tls": True, "ca_file": "/no/such/ca.crt"}, "ca_file: cannot read /no/such/ca.crt: No such file"),
        ("h:1", {"token": "a", "token_file": "b"}, "token and token_file are both given; give one"),
        ("h:1", {"tls": True, "token_file": "/no/such/token"}, "token_file: cannot read /no/such/token"),
        ("h:1", {"tls": True, "token": "two\nlines"}, "token is empty, or holds more than one line"),
        ("h:1", {"tls": True, "token": ""}, "token is empty"),
        ("h:1", {"experiment": "naïve"}, "experiment may hold printable ASCII characters only; it is 'naïve'"),
        ("h:1", {"run_id": "a\nb"}, "run_id may hold printable ASCII"),
        ("h:1", {"on_outage": "retry"}, "on_outage is 'retry'; it can be: wait, stop, missing"),
        ("h:1", {"deadline_s": 0}, "deadline_s is 0; give the seconds"),
        ("h:1", {"outage_limit_s": -1}, "outage_limit_s is -1"),
        ("h:1", {"deadline_s": "abc"}, "deadline_s is 'abc'; give the seconds"),
        ("h:1", {"deadline_s": float("nan")}, "deadline_s is nan; give the seconds"),
        ("h:1", {"deadline_s": float("inf")}, "deadline_s is inf; give the seconds"),
        ("h:1", {"deadline_s": 1e300}, "deadline_s is 1e.300; give the seconds"),
        ("h:1", {"deadline_s": True}, "deadline_s is True; give the seconds"),
        ("h:1", {"outage_limit_s": "abc"}, "outage_limit_s is 'abc'; give the seconds"),
        ("h:1", {"outage_limit_s": float("nan")}, "outage_limit_s is nan; give the seconds"),
        ("h:1", {"outage_limit_s": float("inf")}, "outage_limit_s is inf; give the seconds"),
        ("h:1", {"outage_limit_s": 1e300}, "outage_limit_s is 1e.300; give the seconds"),
        ("h:1", {"outage_limit_s": True}, "outage_limit_s is True; give the seconds"),
        ("h:1", {"experiment": "e" * 2001}, "experiment has 2001 characters; it may have 2000 at most"),
        ("h:1", {"run_id": "r" * 20000}, "run_id has 20000 characters"),
        ("h:1", {"run_id": 7}, "run_id is of type int; give a text"),
        ("h:1", {"tls": True, "token": "x" * 2001}, "token has 2001 characters"),
        ("h:0", {}, "target 'h:0' has port 0; ports are 1 to 65535"),
        ("h:65536", {}, "has port 65536; ports are"),
        ("[::1]:" + "9" * 5000, {}, "has port 9+; ports are"),
        ("dns:///h:99999", {}, "has port 99999; ports are"),
        ("ipv4:10.0.0.5:1,10.0.0.6:0", {}, "has port 0; ports are"),
    ],
)
def test_a_slip_is_named_with_the_remedy(target, options, words):
    with pytest.raises(BadOptions, match=words):
        RewardClient(target, **options)


def test_options_that_are_none_are_refused():
    with pytest.raises(TypeError, match="deadline"):
        RewardClient("h:1", deadline=3)


def test_every_option_can_be_given_as_a_keyword():
    assert set(ClientKeywords.__annotations__) | {"target"} == {field.name for field in fields(ClientOptions)}


@pytest.mark.parametrize(
    "target", ["10.0.0.5:8470", "gpu-box:8470", "dns:///gpu-box:8470", "ipv4:127.0.0.1:1,10.0.0.5:1"]
)
def test_a_token_does_not_leave_the_machine_unencrypted(target):
    with pytest.raises(BadOptions, match=r"would travel unencrypted to .*: turn on TLS .* insecure=True"):
        RewardClient(target, token="secret")

    RewardClient(target, token="secret", insecure=True)
    RewardClient(target, token="secret", tls=True)


@pytest.mark.parametrize(
    "target",
    [
        "127.0.0.1:8470",
        "localhost:1",
        "[::1]:8470",
        "127.8.8.8:1",
        "unix:/tmp/x.sock",
        "dns:///localhost:1",
        "local:x.yaml",
    ],
)
def test_a_token_may_travel_within_the_machine(target):
    RewardClient(target, token="secret")


def test_a_name_that_begins_like_loopback_is_not_loopback():
    assert not is_loopback("127.0.0.1.example.com:8470")
    assert not is_loopback("localhost.example.com:8470")


def test_the_environments_proxy_is_not_asked_for_a_server_on_this_machine():
    assert ("grpc.enable_http_proxy", 0) in channel_options(ClientOptions("127.0.0.1:1"))
    assert ("grpc.enable_http_proxy", 0) not in channel_options(ClientOptions("gpu-box:1"))


def test_the_token_is_in_no_text_about_the_client(server):
    client = RewardClient(server.target, token="hush-hush")
    texts = [repr(client), str(client), repr(client.options), repr(client._dialogue)]
    server.stop()
    with pytest.raises(RewardError) as caught:
        RewardClient(server.target, token="hush-hush", on_outage="stop").list_rewards()

    assert not any("hush" in text for text in [*texts, repr(caught.value)])


def test_a_token_file_is_read_without_its_line_break(server, tmp_path):
    (tmp_path / "token").write_text("secret\n")

    with RewardClient(server.target, token_file=str(tmp_path / "token")) as client:
        client.score(rewards=["a"], completions=["x"])

    assert server.metadata[0]["authorization"] == "Bearer secret"


@pytest.mark.parametrize("kind", [RewardClient, AioRewardClient])
def test_a_pickled_client_has_the_same_options_and_its_own_connection(kind, server):
    client = kind(server.target, token="t", deadline_s=3)

    again = pickle.loads(pickle.dumps(client))  # noqa: S301  # pickled here

    assert type(again) is kind
    assert again.options == client.options


def test_a_used_client_can_be_pickled_and_copied(server):
    with RewardClient(server.target) as client:
        client.score(rewards=["a"], completions=["x"])

        with pickle.loads(pickle.dumps(client)) as again:  # noqa: S301  # pickled here
            assert again.score(rewards=["a"], completions=["xx"]).rewards["a"].scores == [2.0]
        assert copy.deepcopy(client) is client


def test_the_client_is_light_and_needs_no_training_stack():
    heavy = ["torch", "transformers", "trl", "datasets", "numpy", "reward_server", "httpx", "pydantic"]
    code = f"import sys, trainer.client, trainer.rewards; print([m for m in {heavy} if m in sys.modules])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert done.stdout.strip() == "[]"
