"""The parts of a recipe of recipes reach the trainer's log, through a real server and the client."""

import pytest
from server_process import ServerProcess

from trainer.client import RewardClient
from trainer.rewards import remote_reward

pytestmark = pytest.mark.end_to_end

CONFIG = """
rewards:
  brevity: {length: {unit: words, target: 1, width: 4}}
  shape: {format: {final_full_stop: 1}}
  style: {sum: {brevity: 1, shape: 1}}
  overall: {gate: {when: shape, at_least: 1, then: style, otherwise: -1}}
"""
COMPLETIONS = ["One.", "One two three.", "No stop"]


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    config = tmp_path_factory.mktemp("parts") / "server.yaml"
    config.write_text(CONFIG)
    with ServerProcess(config) as server:
        yield server.target


def test_means_of_parts_and_of_their_parts_are_metrics(target):
    logged = {}
    overall = remote_reward(target, "overall")
    scores = overall(prompts=["p"] * 3, completions=COMPLETIONS, log_metric=logged.__setitem__)
    assert scores == [2.0, 1.5, -1.0]
    parts = {name: value for name, value in logged.items() if "/parts/" in name}
    assert parts == {
        "rewards/overall/parts/shape": pytest.approx(2 / 3),
        "rewards/overall/parts/style": 1.75,  # the mean over those that were asked about
        "rewards/overall/parts/style/brevity": 0.75,
        "rewards/overall/parts/style/shape": 1.0,
    }


def test_what_was_not_asked_has_no_score_of_that_part(target):
    with RewardClient(target) as client:
        found = client.score(rewards=["overall"], prompts=["p"] * 3, completions=COMPLETIONS).rewards["overall"]
    assert found.parts["style/brevity"] == [1.0, 0.5, None]
    assert found.parts["shape"] == [1.0, 1.0, 0.0]
