"""What of a reward's options is part of its version, and what may change under running experiments."""

from pathlib import Path

import pytest

from reward_server.config import ServerConfig, load
from reward_server.options import Options
from reward_server.registry import BUILT_IN_SCORERS, SCORERS
from reward_server.rewards import Rewards

MODEL = "{{reward_model: {{protocol: tei, url: 'http://127.0.0.1:{port}', in_flight: {in_flight}}}}}"


def configured(folder: Path, reward: str) -> ServerConfig:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "server.yaml").write_text(f"rewards: {{r: {reward}}}")
    return load(folder / "server.yaml")


async def version_of(folder: Path, reward: str) -> str:
    async with Rewards(configured(folder, reward), asks_hosts=False) as rewards:
        (info,) = rewards.describe()
        return info.version


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (MODEL.format(port=9, in_flight=4), MODEL.format(port=10, in_flight=8)),
        ("{endpoint: {url: 'http://127.0.0.1:9', batch: 1}}", "{endpoint: {url: 'http://127.0.0.1:9', batch: 2}}"),
        (
            "{code: {sandbox: {url: 'http://127.0.0.1:9'}}}",
            "{code: {sandbox: {url: 'http://127.0.0.1:9', in_flight: 2}}}",
        ),
    ],
)
async def test_what_only_says_where_and_how_many_is_not(tmp_path, one, other):
    assert await version_of(tmp_path / "one", one) == await version_of(tmp_path / "other", other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("{endpoint: 'http://127.0.0.1:9'}", "{endpoint: 'http://127.0.0.1:10'}"),
        ("{code: {sandbox: {url: 'http://127.0.0.1:9'}}}", "{code: {sandbox: {url: 'http://127.0.0.1:10'}}}"),
        (
            MODEL.format(port=9, in_flight=4).replace("tei", "openrlhf"),
            MODEL.format(port=10, in_flight=4).replace("tei", "openrlhf"),
        ),
        ("{length: {target: 10, width: 30}}", "{length: {target: 10, width: 31}}"),
        ("{format: {tags: {names: [a], score: 1}}}", "{format: {tags: {names: [b], score: 1}}}"),
    ],
)
async def test_what_may_shape_a_score_is(tmp_path, one, other):
    assert await version_of(tmp_path / "one", one) != await version_of(tmp_path / "other", other)


@pytest.mark.parametrize("kind", BUILT_IN_SCORERS)
def test_only_fields_that_there_are_are_left_out(kind):
    options: type[Options] = SCORERS[kind].Options
    assert options.never_shape_a_score <= options.model_fields.keys()
