from importlib.metadata import EntryPoint, distributions

import pytest
from small_rewards import config_of

from reward_server.config import RewardConfig
from reward_server.errors import ConfigError
from reward_server.registry import ENGINES, SCORERS, Kinds
from reward_server.rewards import Rewards


def kinds(*offers):
    return Kinds("scorer", ("kind", "score"), [EntryPoint(name, value, "g") for name, value in offers])


@pytest.mark.parametrize("name", list(SCORERS))
def test_every_built_in_scorer_loads_under_its_own_kind(name):
    assert SCORERS[name].kind == name


@pytest.mark.parametrize("name", list(ENGINES))
def test_every_built_in_engine_loads_under_its_own_kind(name):
    assert ENGINES[name].kind == name


def test_nobody_offers_an_unknown_kind():
    assert "rhyme" not in SCORERS
    with pytest.raises(KeyError):
        SCORERS["rhyme"]


def test_a_broken_plug_in_is_named_and_breaks_nobody_else():
    found = kinds(("rhyme", "no_such_package:Rhyme"), ("length", "reward_server.scorers.length:Length"))
    assert set(found) == {"rhyme", "length"}
    assert found["length"].kind == "length"
    with pytest.raises(ConfigError, match=r"'rhyme' cannot be loaded from no_such_package:Rhyme.*ModuleNotFoundError"):
        found["rhyme"]


def test_what_is_no_scorer_class_is_named_with_what_it_lacks():
    with pytest.raises(ConfigError, match=r"'rhyme' from pathlib:Path .*lacks kind, score"):
        kinds(("rhyme", "pathlib:Path"))["rhyme"]
    with pytest.raises(ConfigError, match=r"from reward_server.scorers.base:Rule .*lacks judge_one"):
        kinds(("rhyme", "reward_server.scorers.base:Rule"))["rhyme"]
    with pytest.raises(ConfigError, match="lacks"):
        kinds(("rhyme", "os:sep"))["rhyme"]


def test_a_kind_that_two_offer_is_refused_naming_both():
    found = kinds(("length", "reward_server.scorers.length:Length"), ("length", "other.package:Length"))
    with pytest.raises(
        ConfigError, match=r"more than once: reward_server.scorers.length:Length .* other.package:Length"
    ):
        found["length"]


def offered_by(folder, version):
    info = folder / f"rhymes-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: rhymes\nVersion: {version}\n")
    (info / "entry_points.txt").write_text("[reward_server.scorers]\nrhyme = reward_server.scorers.length:Length\n")
    (distribution,) = distributions(path=[str(folder)])
    return Kinds("scorer", ("kind", "score"), distribution.entry_points)


def test_what_distribution_a_kind_comes_from_is_known(tmp_path):
    assert offered_by(tmp_path, "1.2").origin("rhyme") == "rhymes 1.2"
    assert SCORERS.origin("length") == ""


async def test_a_plug_ins_version_is_part_of_the_rewards(tmp_path):
    versions = set()
    for version in ("1.0", "1.1"):
        found = offered_by(tmp_path / version, version)
        options = found["rhyme"].Options(target=10, width=30)
        config = config_of({}, rewards={"mine": RewardConfig(name="mine", kind="rhyme", options=options)})
        async with Rewards(config, scorers=found) as rewards:
            versions |= {info.version for info in rewards.describe()}
    assert len(versions) == 2
