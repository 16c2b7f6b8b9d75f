"""Rewards of answers and texts against a reference, and diversity, keep the contract that strangers' scorers keep."""

from reward_server.domain import Sample
from reward_server.scorers.diversity import Diversity
from reward_server.scorers.math.equivalence import MathEquivalence
from reward_server.scorers.overlap.bleu import Bleu
from reward_server.scorers.overlap.chrf import ChrF
from reward_server.scorers.overlap.rouge import Rouge
from reward_server.scorers.reasoning_gym import ReasoningGym
from reward_server.testing import ScorerContract

REFERENCE = {"answer": "The dog bit the man."}
TEXTS = [Sample("The dog bit him.", columns=REFERENCE), Sample("No one was surprised.", columns=REFERENCE)]


class TestMath(ScorerContract):
    scorer = MathEquivalence
    options = {"answer": "auto", "timeout_s": 1.0}
    samples = [Sample(r"\boxed{2x+1}", columns={"answer": "1+2x"}), Sample("I give up.", columns={"answer": "1+2x"})]


class TestBleu(ScorerContract):
    scorer = Bleu
    options = {"max_ngram_order": 2}
    samples = TEXTS


class TestChrF(ScorerContract):
    scorer = ChrF
    options = {"char_order": 2}
    samples = TEXTS


class TestRouge(ScorerContract):
    scorer = Rouge
    options = {"use_stemmer": True}
    samples = TEXTS


class TestDiversity(ScorerContract):
    scorer = Diversity
    samples = [Sample("The dog bit the man."), Sample("The dog bit him."), Sample("The dog bit him.")]
    compares = True


class TestReasoningGym(ScorerContract):
    scorer = ReasoningGym
    samples = [
        Sample(text, columns={"answer": "4", "metadata": '{"source_dataset": "leg_counting"}'})
        for text in ("<answer>4</answer>", "<answer>5</answer>", "no answer")
    ]
