"""The classic reward functions give through a server's rewards exactly what they give when called directly."""

import importlib.util
import random
from pathlib import Path

import pytest

from reward_server.config import load
from reward_server.domain import Call, Sample, Status
from reward_server.rewards import Rewards
from reward_server.scoring import Selector
from reward_server.views import View

EXAMPLES = Path(__file__).parents[2] / "examples"
FUNCTIONS = {
    "length": "length_reward",
    "format": "format_reward",
    "combined": "combined_reward",
    "accuracy": "accuracy_reward",
    "style": "style_reward",
    "judged": "judge_reward",
}
TEXT = (
    "the cat sat on a mat. Why? Because <|im_end|> it was <|im_start|>system warm; naïve 日本語 is fine! "
    "{json: true} $x^2$ 3.14 \\boxed{42} [INST] </s> \u2028 \U0001f600 e\u0301 \x00 \t yes. no"
)
WORDS = TEXT.split(" ")


def a_text(dice):
    """Returns a text of 0 to 90 words, perhaps with a thinking block, perhaps cut anywhere."""
    text = " ".join(dice.choices(WORDS, k=dice.choice((0, 1, 3, 4, 5, 6, 20, 49, 50, 51, 90))))
    match dice.randrange(6):
        case 0:
            text = f"<think>{' '.join(dice.choices(WORDS, k=9))}</think>\n\n{text}"
        case 1:
            text = f"thinking, opened by the template</think>{text}."
        case 2:
            text = f" {text}."
    return text[: dice.randrange(len(text) + 1)] if dice.random() < 0.2 else text


def a_message(dice, role):
    text = a_text(dice)
    content = dice.choice((text, text, text, None, [{"type": "text", "text": text}, {"type": "image"}]))
    return {"role": role, "content": content}


def a_sample(dice, group):
    if dice.random() < 0.6:
        return Sample(a_text(dice), a_text(dice), group=group)
    prompt = [{"role": "system", "content": "Be brief."}, a_message(dice, "user")]
    turns = [a_message(dice, "assistant"), a_message(dice, "tool"), a_message(dice, "assistant")]
    return Sample(turns[dice.choice((0, 2)) :], prompt, group=group)


@pytest.fixture(scope="module")
def samples():
    dice = random.Random(20)
    return [a_sample(dice, number // 8) for number in range(1_000)]


@pytest.fixture(scope="module")
def direct():
    """Returns the file of functions, imported as anybody would."""
    spec = importlib.util.spec_from_file_location("classic_rewards", EXAMPLES / "classic_rewards.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
async def rewards():
    async with Rewards(load(EXAMPLES / "classic" / "server.yaml")) as rewards:
        yield rewards


async def scores(rewards, names, samples):
    """Returns by name the scores of all samples, each as the hexadecimal of its bits."""
    got = {name: [""] * len(samples) for name in names}
    async for name, index, verdict in rewards.run([Selector(name) for name in names], samples, Call()):
        assert verdict.status is Status.SCORED, verdict.status_reason
        got[name][index] = float.hex(verdict.score)
    return got


def directly(function, view, samples):
    seen = view.show_all(samples)
    called = function(completions=[sample.completion for sample in seen], prompts=[sample.prompt for sample in seen])
    return [float.hex(float(score)) for score in called]


@pytest.mark.parametrize(("reward", "function"), FUNCTIONS.items())
async def test_a_thousand_scores_are_those_of_the_function_called_directly(rewards, direct, samples, reward, function):
    view = View.ANSWER if reward == "judged" else View.FULL
    expected = directly(getattr(direct, function), view, samples)
    assert (await scores(rewards, [reward], samples))[reward] == expected
    assert len(set(expected)) >= 3  # the samples tell the functions' cases apart


async def test_rewards_asked_for_in_one_call_and_in_chunks_give_the_same(rewards, samples):
    together = await scores(rewards, FUNCTIONS, samples)
    in_chunks = {name: [] for name in FUNCTIONS}
    for begin in range(0, len(samples), 128):
        for name, chunk in (await scores(rewards, FUNCTIONS, samples[begin : begin + 128])).items():
            in_chunks[name] += chunk
    assert in_chunks == together


async def test_the_recipe_of_two_functions_gives_what_the_functions_weighted_by_the_trainer_give(
    rewards, direct, samples
):
    expected = [
        float.hex(0.5 * float.fromhex(length) + 0.5 * float.fromhex(shape))
        for length, shape in zip(
            directly(direct.length_reward, View.FULL, samples),
            directly(direct.format_reward, View.FULL, samples),
            strict=True,
        )
    ]
    assert (await scores(rewards, ["combined_recipe"], samples))["combined_recipe"] == expected


async def test_the_functions_are_as_people_write_them_for_trl(direct):
    for name in FUNCTIONS.values():
        with pytest.raises(TypeError, match="completion_ids"):
            getattr(direct, name)(completions=[], prompts=[], completion_ids=[])
