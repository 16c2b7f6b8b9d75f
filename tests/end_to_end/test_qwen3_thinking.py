"""A policy of Qwen3's architecture, with Qwen3's kind of chat template, trains against the real reward server, and what is
scored is its answer, not its thinking.

The policy is random and would never close a thinking block, so its completions are given a shape: see `scripted_policy`.
Thoughts are of the letters a to m, answers of n to z, so no text can be taken for the other kind.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from importlib import metadata
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_ollama import MODEL, FakeOllama
from packaging.version import Version
from rich.console import Console
from scripted_judges import completion_in, grading
from scripted_policy import (
    ANSWERS,
    THOUGHTS,
    Script,
    answers_at_once,
    never_stops_thinking,
    scripted,
    thinks_and_answers,
)
from server_process import ServerProcess
from tiny_qwen3 import save_tiny_qwen3, tiny_tokenizer

from trainer.config import load
from trainer.train import train

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(240), pytest.mark.usefixtures("one_thread")]

ROWS, GROUP, LONGEST = 8, 4, 20

FUNCTIONS = """
import json
from pathlib import Path

def note(name, completions):
    with Path(__file__).with_name("seen.jsonl").open("a") as file:
        file.write(json.dumps({name: completions}) + "\\n")

def answer(completions, **kwargs):
    note("answer", completions)
    return [text.count("n") + text.count("o") for text in completions]

def full(completions, **kwargs):
    note("full", completions)
    return [0.0 for text in completions]
"""

SERVER = {
    "secret_file": "judge-secret",
    "workers": {"count": 1},
    "judges": {
        "lowest": {"engine": "box", "rubric": "It is good."},
        "abstains": {"engine": "box", "rubric": "It is good.", "still_thinking": "abstain"},
    },
    "rewards": {
        "answer": {"python": "functions.py:answer", "view": "answer"},
        "full": {"python": "functions.py:full", "view": "full"},
        "lowest": {"judge": "lowest", "view": "answer"},
        "abstains": {"judge": "abstains", "view": "answer"},
        "thought_of": {"format": {"thinking": {"score": 1}}, "view": "full"},
    },
}

LOCAL = """
import json
from pathlib import Path

def given(completions, **kwargs):
    with Path(__file__).with_name("given.jsonl").open("a") as file:
        file.writelines(json.dumps(messages) + "\\n" for messages in completions)
    return [0.0] * len(completions)
"""


class Bench:
    """A policy, a server whose functions note what they are shown, and a judge that notes it too."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tokenizer = tiny_tokenizer()
        save_tiny_qwen3(folder / "policy")
        (folder / "functions.py").write_text(FUNCTIONS)
        (folder / "local.py").write_text(LOCAL)
        self.ollama = FakeOllama(grading(lambda _: 0.75))
        self.target = ""
        self.runs = 0

    def train(self, **grpo: Any) -> Run:
        """Trains two steps and returns what came of it. Each run has prompts of its own: verdicts are remembered."""
        self.runs += 1
        names = ["answer", "full", "lowest", "abstains", "thought_of"]
        settings = {
            "model": {"name": str(self.folder / "policy"), "lora": None, "precision": "fp32"},
            "data": {"prompts": [f"Say {letter}, run {self.runs}." for letter in "nopq"]},
            "rewards": {
                "server": self.target,
                "use": dict.fromkeys(names, 1.0),
                "local": {"given": {"python": "local.py:given"}},
            },
            "grpo": {
                "max_steps": 2,
                "per_device_train_batch_size": ROWS,
                "num_generations": GROUP,
                "max_completion_length": LONGEST,
                "learning_rate": 1e-3,
                "gradient_checkpointing": False,
                "save_strategy": "no",
                "use_cpu": True,
                **grpo,
            },
            "run": {"folder": str(self.folder / "run"), "samples_before_after": 0},
        }
        (self.folder / "train.yaml").write_text(yaml.safe_dump(settings))
        for notes in ("seen.jsonl", "given.jsonl"):
            (self.folder / notes).unlink(missing_ok=True)
        self.ollama.questions.clear()
        result = train(load(self.folder / "train.yaml"), Console(file=StringIO()))
        return Run(self, result.folder.path)


class Run:
    """What each part of the chain has seen in a run."""

    def __init__(self, bench: Bench, folder: Path) -> None:
        self.steps = lines(folder / "metrics.jsonl")
        self.judged = [completion_in(question["messages"]) for question in bench.ollama.questions]
        noted = lines(bench.folder / "seen.jsonl")
        self.given = lines(bench.folder / "given.jsonl")  # completions as TRL gives them to reward functions
        self.answers = [text for line in noted for text in line.get("answer", ())]
        self.full = [text for line in noted for text in line.get("full", ())]

    def total(self, metric: str) -> float:
        """Returns the sum of a metric over all steps."""
        return sum(step.get(metric, 0.0) for step in self.steps)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    bench = Bench(tmp_path_factory.mktemp("bench"))
    with bench.ollama as ollama:
        server = bench.folder / "server.yaml"
        engine = {"ollama": {"url": ollama.url, "model": MODEL}}
        server.write_text(yaml.safe_dump({**SERVER, "engines": {"box": engine}}))
        with ServerProcess(server) as process:
            bench.target = process.target
            yield bench


@pytest.fixture
def writes(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[int], Script]], list[str]]:
    """Makes the policy write by script; returns the list of the prompts that it gets."""
    from transformers import Qwen3ForCausalLM

    return lambda script_of: scripted(monkeypatch, Qwen3ForCausalLM, bench.tokenizer, script_of)


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def only(letters: str, text: str) -> bool:
    return bool(text) and set(text) <= set(letters)


def test_of_a_completion_that_thinks_and_answers_the_answer_is_scored(bench: Bench, writes):
    prompts = writes(lambda row: thinks_and_answers())
    run = bench.train()
    assert all(prompt.endswith("<|im_start|>assistant\n") for prompt in prompts)
    assert len(run.full) == len(run.answers) == 2 * ROWS
    for full, answer in zip(run.full, run.answers, strict=True):
        thought, _, rest = full.removeprefix("<think>").partition("</think>\n\n")
        assert only(THOUGHTS, thought)
        assert only(ANSWERS, rest)
        assert answer == rest
    assert run.judged
    assert all(only(ANSWERS, text) for text in run.judged)
    scores = [text.count("n") + text.count("o") for text in run.answers]
    for step, part in zip(run.steps, (scores[:ROWS], scores[ROWS:]), strict=True):
        assert step["rewards/answer/mean"] == pytest.approx(sum(part) / ROWS)
        assert step["rewards/thought_of/mean"] == 1
    assert any(step["grad_norm"] > 0 for step in run.steps)


def test_an_unfinished_thought_has_no_answer_and_gets_the_lowest_grade_or_none(bench: Bench, writes):
    unfinished = [row for row in range(ROWS) if row % 2]
    writes(lambda row: never_stops_thinking() if row in unfinished else thinks_and_answers())
    run = bench.train()
    assert [row for row, text in enumerate(run.answers[:ROWS]) if not text] == unfinished
    assert all(only(THOUGHTS, text.removeprefix("<think>")) for text in run.full[1::2])
    assert run.judged
    assert all(only(ANSWERS, text) for text in run.judged), "the judge is not asked about thoughts"
    for step in run.steps:
        assert step["rewards/lowest/flags/still_thinking"] == len(unfinished)
        assert step["rewards/lowest/mean"] == pytest.approx(0.75 / 2, abs=0.02)
        assert step["rewards/abstains/missing"] == len(unfinished)
        assert step["rewards/lowest/missing"] == 0
        assert step["completions/clipped_ratio"] == pytest.approx(len(unfinished) / ROWS)


def test_with_thinking_off_all_of_the_completion_is_answer(bench: Bench, writes):
    prompts = writes(lambda row: answers_at_once())
    run = bench.train(chat_template_kwargs={"enable_thinking": False})
    assert all(prompt.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n") for prompt in prompts)
    assert run.answers == run.full
    assert all(only(ANSWERS, text) and len(text) == 5 for text in run.answers)
    assert run.judged
    assert all(only(ANSWERS, text) for text in run.judged)
    assert run.total("rewards/lowest/flags/still_thinking") == run.total("rewards/abstains/missing") == 0


def test_thoughts_that_trl_takes_apart_are_scored_as_if_it_had_not(bench: Bench, writes, monkeypatch):
    """Where the tokenizer has a response template, TRL's messages have the thoughts beside the content."""
    if Version(metadata.version("transformers")) < Version("5.13"):
        pytest.skip("this transformers knows no response templates")
    from transformers import AutoTokenizer
    from trl.chat_template_utils import qwen3_template

    plain = AutoTokenizer.from_pretrained

    def with_response_template(*args: Any, **kwargs: Any) -> Any:
        tokenizer = plain(*args, **kwargs)
        tokenizer.response_template = qwen3_template
        return tokenizer

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", with_response_template)
    unfinished = [row for row in range(ROWS) if row % 2]
    writes(lambda row: never_stops_thinking() if row in unfinished else thinks_and_answers())
    run = bench.train()
    assert all(only(THOUGHTS, message["reasoning_content"]) for (message,) in run.given)
    assert all(only(ANSWERS, message["content"]) for (message,) in run.given[0::2])
    assert [row for row, text in enumerate(run.answers[:ROWS]) if not text] == unfinished
    assert run.answers[0::2] == [message["content"] for (message,) in run.given[0::2]]
    assert all(
        full.endswith(answer) and "</think>" in full
        for full, answer in zip(run.full, run.answers, strict=True)
        if answer
    )
    assert run.judged
    assert all(only(ANSWERS, text) for text in run.judged)
    assert [step["rewards/thought_of/mean"] for step in run.steps] == [0.5, 0.5]
    assert [step["rewards/lowest/flags/still_thinking"] for step in run.steps] == [len(unfinished)] * 2


def test_a_thought_that_the_template_has_opened_is_no_answer_until_it_ends(bench: Bench, writes, monkeypatch):
    """As with DeepSeek-R1 and Qwen3's models that only think: the prompt ends in <think>, which no completion has."""
    from transformers import AutoTokenizer

    plain = AutoTokenizer.from_pretrained
    begins = "<|im_start|>assistant\\n"

    def that_opens(*args: Any, **kwargs: Any) -> Any:
        tokenizer = plain(*args, **kwargs)
        tokenizer.chat_template = tokenizer.chat_template.replace(begins, begins + "<think>\\n")
        return tokenizer

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", that_opens)
    unfinished = [row for row in range(ROWS) if row % 2]
    prompts = writes(lambda row: (never_stops_thinking() if row in unfinished else thinks_and_answers())[1:])
    run = bench.train()
    assert all(prompt.endswith("<|im_start|>assistant\n<think>\n") for prompt in prompts)
    assert not any("<think>" in message["content"] for (message,) in run.given), "TRL's reward functions don't see it"
    assert [row for row, text in enumerate(run.answers[:ROWS]) if not text] == unfinished
    assert all(only(ANSWERS, text) for text in run.answers[0::2])
    assert run.judged
    assert all(only(ANSWERS, text) for text in run.judged)
    assert [step["rewards/lowest/flags/still_thinking"] for step in run.steps] == [len(unfinished)] * 2
    assert [step["rewards/thought_of/mean"] for step in run.steps] == [0.5, 0.5]


def test_the_template_behaves_as_qwen3s_does():
    """Against the copy of it that TRL brings, in all that a conversation without tools can be."""
    import trl

    real = (Path(trl.__file__).parent / "chat_templates" / "qwen3.jinja").read_text()
    tokenizer = tiny_tokenizer()
    asked, again = {"role": "user", "content": "a"}, {"role": "user", "content": "b"}
    thought = {"role": "assistant", "content": "<think>\nx\n</think>\n\ny"}
    apart = {"role": "assistant", "content": "y", "reasoning_content": "x"}
    system = {"role": "system", "content": "s"}
    for messages in (
        [asked],
        [system, asked],
        [asked, thought],
        [asked, apart],
        [asked, thought, again],
        [asked, apart, again],
    ):
        for options in ({}, {"enable_thinking": True}, {"enable_thinking": False}):
            for generation in (True, False):
                made, wanted = (
                    tokenizer.apply_chat_template(
                        messages, tokenize=False, add_generation_prompt=generation, chat_template=template, **options
                    )
                    for template in (None, real)
                )
                assert made == wanted
