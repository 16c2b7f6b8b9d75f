import asyncio
import re

import pytest
import structlog
from pydantic import SecretStr
from small_rewards import Chars, Options, config_of, rewards_of, rule, scripted

from reward_server import rewards as rewards_module
from reward_server.config import Auth, EngineConfig
from reward_server.domain import HEALTHY, Call, CostClass, Health, Needs, Sample, scored
from reward_server.errors import ConfigError, MissingColumn, UnknownReward, VersionMismatch
from reward_server.rewards import Rewards
from reward_server.scoring import Selector
from reward_server.views import View


def begin(rewards, *selectors, samples=()):
    rewards.begin([Selector(*s) if isinstance(s, tuple) else Selector(s) for s in selectors], samples, Call()).close()


async def nothing(samples, call):
    for index in range(len(samples)):
        yield index, scored(1.0)


async def version_of(kind, **parts):
    async with rewards_of({"it": kind}, **parts) as rewards:
        return rewards.describe()[0].version


async def test_an_unknown_reward_is_refused_with_a_guess_and_all_names():
    async with rewards_of({"brevity": Chars, "shape": Chars}) as rewards:
        with pytest.raises(UnknownReward) as raised:
            begin(rewards, "brevty")
    assert str(raised.value) == ("there is no reward 'brevty'. Did you mean 'brevity'? This server has: brevity, shape")


async def test_a_version_that_is_not_served_is_refused_with_both():
    async with rewards_of({"it": Chars}) as rewards:
        version = rewards.describe()[0].version
        begin(rewards, ("it", version))
        begin(rewards, ("it", ""))
        with pytest.raises(VersionMismatch, match=f"'it' is at version {version} and not at 0123"):
            begin(rewards, ("it", "0123"))


async def test_a_missing_column_is_refused_saying_what_was_sent():
    kind = rule(lambda sample: scored(0.0), needs=Needs(required_columns=frozenset({"answer", "hint"})))
    async with rewards_of({"exact": kind}) as rewards:
        begin(rewards, "exact", samples=[Sample("x", columns={"answer": 1, "hint": 2, "more": 3})])
        with pytest.raises(MissingColumn) as raised:
            begin(rewards, "exact", samples=[Sample("x", columns={"hint": 2, "solution": 3})])
        with pytest.raises(MissingColumn, match=r"lacks 'answer', 'hint' and has no columns$"):
            begin(rewards, "exact", samples=[Sample("x")])
    assert str(raised.value) == (
        "the reward 'exact' needs the columns 'answer', 'hint'; the request lacks 'answer' and has 'hint', 'solution'"
    )


async def test_a_missing_column_that_an_option_names_may_be_called_otherwise():
    class Named(Options):
        reference_column: str = "answer"
        metadata_column: str = "metadata"

    needs = Needs(required_columns=frozenset({"answer", "metadata"}))
    kind = rule(lambda sample: scored(0.0), needs=needs, Options=Named)
    async with rewards_of({"exact": kind}) as rewards:
        with pytest.raises(MissingColumn) as raised:
            begin(rewards, "exact", samples=[Sample("x", columns={"gold": 3, "metadata": {}})])
    assert str(raised.value).endswith(". Is it called otherwise? Say so in the reward's reference_column")


async def test_a_reward_that_reads_prompts_wants_them():
    async with rewards_of({"it": rule(lambda sample: scored(0.0), needs=Needs(prompts=True))}) as rewards:
        begin(rewards, "it", samples=[Sample("x", "p")])
        with pytest.raises(MissingColumn, match="'it' reads prompts, and the request has none"):
            begin(rewards, "it", samples=[Sample("x")])


async def test_a_reward_that_can_do_without_prompts_is_scored_without():
    reads = Needs(prompts=True, prompts_optional=True)
    wants = Needs(prompts=True)
    kinds = {
        "it": rule(lambda sample: scored(0.0), needs=reads),
        "strict": rule(lambda sample: scored(0.0), needs=wants),
    }
    async with rewards_of(kinds, sums={"lenient": {"it": 1.0}, "both": {"it": 1.0, "strict": 1.0}}) as rewards:
        assert rewards.describe()[0].needs.prompts  # so that clients send those they have
        begin(rewards, "it", "lenient", samples=[Sample("x")])
        with pytest.raises(MissingColumn, match="'both' reads prompts"):
            begin(rewards, "both", samples=[Sample("x")])


async def test_a_version_is_sixteen_hex_digits_and_the_same_for_the_same_recipe():
    versions = {await version_of(Chars) for _ in range(2)}
    assert len(versions) == 1
    assert re.fullmatch("[0-9a-f]{16}", versions.pop())


async def test_a_version_depends_on_options_view_and_identity():
    class Coloured(Options):
        colour: str = "red"

    class OtherDefault(Options):
        colour: str = "blue"

    versions = [
        await version_of(Chars),
        await version_of(Chars, views={"it": View.ANSWER}),
        await version_of(type("A", (Chars,), {"Options": Coloured})),
        await version_of(type("B", (Chars,), {"Options": OtherDefault})),
        await version_of(scripted(nothing, said_identity={"model": "x"})),
        await version_of(scripted(nothing, said_identity={"model": "y"})),
    ]
    assert len(set(versions)) == len(versions)


async def test_a_version_follows_an_identity_that_changes_under_way():
    kind = scripted(nothing, said_identity={"digests": ["a"]})
    async with rewards_of({"it": kind}) as rewards:
        before = rewards.describe()[0].version
        kind.said_identity["digests"].append("b")  # in place: a remembered identity must be a copy
        after = rewards.describe()[0].version
        with pytest.raises(VersionMismatch):
            begin(rewards, ("it", before))
    assert before != after


async def test_an_identity_that_is_no_json_is_a_clear_error():
    with pytest.raises(ConfigError, match=r"rewards.it: the identity of a scorer of kind 'it' is not JSON-able"):
        await version_of(scripted(nothing, said_identity={"model": object()}))


async def test_a_description_tells_all_that_a_trainer_must_know():
    kind = scripted(
        nothing,
        needs=Needs(frozenset({"a"}), frozenset({"b"}), all_columns=True, prompts=True),
        score_range=(0.0, 9.0),
        cost_class=CostClass.JUDGE,
        said_health=Health(serving=False, reason="pull the model"),
    )
    async with rewards_of({"chars": Chars, "it": kind}) as rewards:
        assert rewards.names == ["chars", "it"]
        chars, info = rewards.describe()
        assert rewards.health() == {"chars": HEALTHY, "it": kind.said_health}
    assert (chars.kind, chars.needs, chars.score_range, chars.health) == ("chars", Needs(), None, HEALTHY)
    assert (info.needs, info.score_range, info.cost_class) == (kind.needs, (0.0, 9.0), CostClass.JUDGE)
    assert info.health.reason == "pull the model"


async def test_parts_start_before_and_close_after_what_is_made_of_them():
    kind = scripted(nothing)

    class Made(kind):
        def __init__(self, options, context):
            super().__init__(options, context)
            context.reward("part")

    async with rewards_of({"made": Made, "part": kind}):
        pass
    assert kind.events == ["start part", "start made", "close made", "close part"]


async def test_all_problems_of_starting_are_told_and_what_has_started_is_closed():
    kind = scripted(nothing)

    class Wrong(kind):
        async def start(self):
            raise ConfigError(f"{self.name} is wrong")

    with pytest.raises(ConfigError) as raised:
        async with rewards_of({"good": kind, "bad": Wrong, "worse": Wrong}):
            raise AssertionError
    assert raised.value.problems == ("bad is wrong", "worse is wrong")
    assert "close good" in kind.events


async def test_a_close_that_fails_keeps_no_other_open():
    kind = scripted(nothing)

    class Broken(kind):
        async def close(self):
            raise OSError("stuck")

    with structlog.testing.capture_logs() as logs:
        async with rewards_of({"a": kind, "broken": Broken, "b": kind}):
            pass
    assert kind.events[-2:] == ["close b", "close a"]
    assert [line["what"] for line in logs if line["event"] == "not closed"] == ["reward 'broken'"]


async def test_peoples_functions_do_not_find_the_servers_secrets(monkeypatch):
    class EngineOptions(Options):
        api_key_env: str = "HOST_KEY"

    class Engine:
        def __init__(self, *_):
            """Needs nothing."""

        async def start(self):
            """Starts nothing."""

        close = start

    hidden = []

    class Pool(rewards_module.WorkerPool):
        def __init__(self, *args, hidden_env):
            super().__init__(*args)
            hidden.append(hidden_env)

    monkeypatch.setenv("REWARD_TOKEN", "s3cret")
    monkeypatch.setattr(rewards_module, "WorkerPool", Pool)
    engines = {"host": EngineConfig(name="host", kind="small", options=EngineOptions())}
    config = config_of({"chars": Chars}, engines=engines, auth=Auth(token=SecretStr("s3cret")))
    async with Rewards(config, scorers={"chars": Chars}, engines={"small": Engine}):
        assert hidden == [{"HOST_KEY", "REWARD_TOKEN"}] * 2  # for functions, and for rules


async def test_engines_start_before_judges_need_them_and_are_asked_together(tmp_path):
    events = []

    class Engine:
        def __init__(self, name, options, folder):
            self.name = name

        async def start(self):
            events.append(f"start {self.name}")

        async def close(self):
            events.append(f"close {self.name}")

        async def check(self):
            events.append(f"check {self.name}")

    engines = {name: EngineConfig(name=name, kind="small", options=Options()) for name in ("e1", "e2")}
    config = config_of({"chars": Chars}, engines=engines, folder=tmp_path)
    async with Rewards(config, scorers={"chars": Chars}, engines={"small": Engine}) as rewards:
        await rewards.check()
    assert events == ["start e1", "start e2", "check e1", "check e2", "close e2", "close e1"]


class SmallEngine:
    context_tokens = None

    def __init__(self, name, options, folder):
        self.name = name

    async def close(self):
        """Nothing to close."""


async def test_engines_start_at_the_same_time(tmp_path):
    together = asyncio.Barrier(2)

    class Engine(SmallEngine):
        async def start(self):
            await together.wait()  # for ever, if they started one after another

    engines = {name: EngineConfig(name=name, kind="small", options=Options()) for name in ("e1", "e2")}
    config = config_of({"chars": Chars}, engines=engines, folder=tmp_path)
    async with asyncio.timeout(10), Rewards(config, scorers={"chars": Chars}, engines={"small": Engine}):
        pass


@pytest.mark.parametrize(("error", "words"), [(ConfigError, "e1 has no token\ne2 has no token"), (OSError, "e1 has")])
async def test_all_engines_that_cannot_start_are_told_and_all_are_closed(error, words, tmp_path):
    closed = []

    class Engine(SmallEngine):
        async def start(self):
            if self.name != "e3":
                raise error(f"{self.name} has no token")

        async def close(self):
            closed.append(self.name)

    engines = {name: EngineConfig(name=name, kind="small", options=Options()) for name in ("e1", "e2", "e3")}
    config = config_of({"chars": Chars}, engines=engines, folder=tmp_path)
    with pytest.raises(error, match=words):
        async with Rewards(config, scorers={"chars": Chars}, engines={"small": Engine}):
            pass
    assert sorted(closed) == ["e1", "e2", "e3"]
