"""docs/own-scorer.md does what it says: its files, put in a folder, score as it claims."""

import json
import re
from pathlib import Path
from shutil import copytree

import yaml

from reward_server.config import load
from reward_server.domain import Call, Sample
from reward_server.rewards import Rewards
from reward_server.scoring import Selector

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs" / "own-scorer.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)


async def test_the_pages_files_score_as_it_says(tmp_path):
    (tmp_path / "rewards.py").write_text(blocks("python")[0])
    (tmp_path / "server.yaml").write_text(blocks("yaml")[0])
    rows = [json.loads(line) for line in blocks("json")[0].splitlines()]
    samples = [Sample(row["completion"], row["prompt"]) for row in rows]
    async with Rewards(load(tmp_path / "server.yaml")) as rewards:
        got = {index: verdict.score async for _, index, verdict in rewards.run([Selector("polite")], samples, Call())}
    assert got == {0: 1.0, 1: 0.0}


async def test_all_its_configurations_can_be_served(tmp_path):
    (tmp_path / "rewards.py").write_text(blocks("python")[0])
    rewards = {name: reward for block in blocks("yaml") for name, reward in yaml.safe_load(block)["rewards"].items()}
    copytree(REPOSITORY / "examples/functions", tmp_path, dirs_exist_ok=True)  # one of them is named
    (tmp_path / "server.yaml").write_text(yaml.safe_dump({"rewards": rewards}))
    async with Rewards(load(tmp_path / "server.yaml")) as served:
        assert served.names == ["compiled", "gsm8k", "near", "polite", "ranked", "turns"]
        assert all(health.serving for health in served.health().values())
