"""A reward server whose rewards come from other people's servers, one of which goes away and comes back."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from fake_reward_models import BREAKS, NULL, FakeGetReward, FakeTei
from server_process import ServerProcess

from trainer.client import RewardClient

pytestmark = pytest.mark.end_to_end

SERVER = """
rewards:
  theirs: {{endpoint: {{url: "{endpoint}", score_range: [0, 1000]}}}}
  model: {{reward_model: {{protocol: tei, url: "{tei}", calibrate: {{low: 0, high: 100}}}}}}
  both: {{sum: {{theirs: 0.01, model: 1}}}}
"""


def test_scores_floors_and_an_outage_that_is_waited_out(tmp_path: Path) -> None:
    with FakeGetReward() as theirs, FakeTei() as tei:
        config = tmp_path / "server.yaml"
        config.write_text(SERVER.format(endpoint=theirs.url, tei=tei.url))
        batch = {"prompts": ["Q"] * 40, "completions": [f"number {n}" for n in range(38)] + [BREAKS, NULL]}
        with ServerProcess(config) as server, RewardClient(server.target, deadline_s=30) as client:
            result = client.score(rewards=["theirs", "model", "both"], **batch)
            lengths = [len("Q" + text) for text in batch["completions"]]
            # What breaks both, and what gets no number from either, has the low end of both ranges.
            assert result.rewards["theirs"].scores == [*map(float, lengths[:-2]), 0.0, 0.0]
            assert result.rewards["model"].scores == [(length + 1) / 100 for length in lengths[:-2]] + [0.0, 0.0]
            assert all(score is not None for score in result.rewards["both"].scores)

            theirs.stop()
            back = threading.Timer(3.0, theirs.start)
            back.start()
            try:
                result = client.score(rewards=["theirs"], prompts=["Q"], completions=["abc"])
            finally:
                back.join()
            assert result.rewards["theirs"].scores == [4.0]
