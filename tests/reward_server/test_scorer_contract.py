"""The kinds of answers, texts and recipes keep the contract that strangers' scorers are asked to keep.

Those of references are in test_reference_contract.py, of servers in test_endpoint_contract.py, of judges in
test_judge_contract.py, of functions and programs in test_program_contract.py. Together they are all.
"""

import importlib
from pathlib import Path
from typing import Any

from reward_server.domain import Sample
from reward_server.registry import BUILT_IN_SCORERS
from reward_server.scorers.answers.choice import Choice
from reward_server.scorers.answers.exact import ExactMatch
from reward_server.scorers.answers.numeric import Numeric
from reward_server.scorers.answers.token_f1 import TokenF1
from reward_server.scorers.format import Format
from reward_server.scorers.instructions.scorer import Instructions
from reward_server.scorers.json_text import Json
from reward_server.scorers.keywords import Keywords
from reward_server.scorers.language import Language
from reward_server.scorers.length import Length
from reward_server.scorers.overlong import Overlong
from reward_server.scorers.recipes.affine import Clip, Rescale
from reward_server.scorers.recipes.cosine import Cosine
from reward_server.scorers.recipes.extremes import Max, Min
from reward_server.scorers.recipes.gate import Gate
from reward_server.scorers.recipes.product import Product
from reward_server.scorers.recipes.sum import Sum
from reward_server.scorers.repetition import Repetition
from reward_server.testing import ScorerContract

PARTS: dict[str, Any] = {
    "brevity": {"length": {"unit": "words", "target": 4, "width": 20}},
    "shape": {"format": {"final_full_stop": 1.0}},
}
SAMPLES = [Sample("One two three."), Sample("word " * 20), Sample("Two, or three.")]


def test_every_built_in_kind_keeps_the_contract():
    kinds = set()
    for file in Path(__file__).parent.glob("test_*_contract.py"):
        module = importlib.import_module(f"tests.reward_server.{file.stem}")
        tests = [value for name, value in vars(module).items() if name.startswith("Test")]
        kinds |= {each.scorer.kind for each in tests if issubclass(each, ScorerContract)}
    assert kinds == set(BUILT_IN_SCORERS)


class TestLength(ScorerContract):
    scorer = Length
    options = {"target": 10, "width": 30}
    samples = [Sample("one two three"), Sample("word " * 20)]


class TestFormat(ScorerContract):
    scorer = Format
    options = {"final_full_stop": 0.5, "patterns": [{"regex": "(a+)+$", "score": -1.0}]}
    samples = [Sample("It ends."), Sample("It does not")]


class TestChoice(ScorerContract):
    scorer = Choice
    options = {"letters": "ABCD"}
    samples = [Sample("The answer is B.", columns={"answer": "B"}), Sample("A cat", columns={"answer": 0})]


class TestExactMatch(ScorerContract):
    scorer = ExactMatch
    options = {"answer": "tag:answer"}
    samples = [
        Sample("<answer>Paris</answer>", columns={"answer": ["Paris"]}),
        Sample("Rome", columns={"answer": "Paris"}),
    ]


class TestNumeric(ScorerContract):
    scorer = Numeric
    options = {"relative_tolerance": 0.01}
    samples = [Sample("#### 1,000", columns={"answer": "so #### 1000"}), Sample("none", columns={"answer": 5})]


class TestTokenF1(ScorerContract):
    scorer = TokenF1
    options = {}
    samples = [Sample("a tall tower", columns={"answer": "the tower"}), Sample("", columns={"answer": "tower"})]


class TestJson(ScorerContract):
    scorer = Json
    options = {"json_schema": {"type": "object"}, "partial": 0.5}
    samples = [Sample("{}"), Sample("[]"), Sample("no")]


class TestKeywords(ScorerContract):
    scorer = Keywords
    options = {"required": ["red"], "forbidden_column": "never", "penalty": 0.5}
    samples = [Sample("red", columns={"never": ["blue"]}), Sample("red blue", columns={"never": "blue"})]


class TestRepetition(ScorerContract):
    scorer = Repetition
    options = {"n": 2}
    samples = [Sample("on and on and on"), Sample("once")]


class TestLanguage(ScorerContract):
    scorer = Language
    options = {"languages": ["en"], "among": ["en", "de"]}
    samples = [Sample("This is a sentence in the English language."), Sample("Das ist ein Satz in deutscher Sprache.")]


class TestInstructions(ScorerContract):
    scorer = Instructions
    options = {"aggregate": "fraction"}
    samples = [
        Sample(text, columns={"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]})
        for text in ("one two", "one, two")
    ]


class TestOverlong(ScorerContract):
    scorer = Overlong
    options = {"unit": "words", "max_length": 15, "cache": 10}
    samples = SAMPLES


class Made(ScorerContract):
    elsewhere = {"rewards": PARTS}
    samples = SAMPLES


class TestSum(Made):
    scorer = Sum
    options = {"parts": {"brevity": 0.5, "shape": -1.0}, "missing_parts": "skip"}


class TestProduct(Made):
    scorer = Product
    options = {"parts": ["brevity", "shape"]}


class TestMin(Made):
    scorer = Min
    options = {"parts": ["brevity", "shape"]}


class TestMax(Made):
    scorer = Max
    options = {"parts": ["brevity", "shape"]}


class TestGate(Made):
    scorer = Gate
    options = {"when": "shape", "at_least": 1.0, "then": "brevity", "otherwise": -1.0}


class TestClip(Made):
    scorer = Clip
    options = {"of": "brevity", "low": 0.25}


class TestRescale(Made):
    scorer = Rescale
    options = {"of": "brevity", "to": [5.0, -5.0]}


class TestCosine(Made):
    scorer = Cosine
    options = {"correct": "shape", "unit": "words", "max_length": 30}
