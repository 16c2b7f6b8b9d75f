"""What every scorer promises, as tests.

To ask it of yours, name it and give it something to read:

    from reward_server.domain import Sample
    from reward_server.testing import ScorerContract
    from my_package.rhyme import Rhyme

    class TestRhyme(ScorerContract):
        scorer = Rhyme
        options = {"lines": 2}
        samples = [Sample("roses are red / go to bed", columns={"topic": "roses"}), Sample("no rhyme here", ...)]

then `pytest`. The scorer is opened as a server opens it, from a configuration, worker processes included.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from pydantic import ValidationError

from reward_server.domain import CostClass
from reward_server.errors import MissingColumn
from reward_server.registry import SCORERS
from reward_server.scorers.base import Scorer
from reward_server.testing.complaints import missing, named, no_complaints, unsound
from reward_server.testing.contracted import AWAY, Contracted, Scored
from reward_server.testing.hostile import ODD_VALUES
from reward_server.testing.opened import Opened

LOOP_CPU_S: Final = {CostClass.TRIVIAL: 0.02, CostClass.COMPUTE: 0.02, CostClass.JUDGE: 0.5}
"""What a text of a million characters may take of the event loop's own time at a stretch, at best of `TRIES`.

So long everybody else waits. It is CPU time, which a busy machine stretches little. What asks a model, which takes
seconds and reads far less than that, may take longer to put such a text into its question.
"""

TRIES: Final = 5
BATCH: Final = 64
CLOSED_AFTER_S: Final = (0.0, 0.02, 0.2)


class ScorerContract(Contracted):
    """The tests. A subclass's name begins with `Test`, so that pytest finds it."""

    def test_it_is_a_scorer(self, opened: Opened) -> None:
        """It has all that a scorer has, under its own kind."""
        assert opened.info.kind == self.scorer.kind
        by_instance = {"needs", "score_range", "cost_class"}  # which its options may decide
        lacks = {name for name in dir(Scorer) if not name.startswith("_")} - set(dir(self.scorer)) - by_instance
        assert not lacks, f"{self.scorer.__name__} lacks {sorted(lacks)}: see reward_server.scorers.base.Scorer"

    def test_it_is_registered_as_what_it_is(self) -> None:
        """Where a distribution offers its kind, that is this class."""
        if self.scorer.kind in SCORERS:
            assert SCORERS[self.scorer.kind] is self.scorer, f"the kind {self.scorer.kind!r} is another scorer's"

    def test_it_refuses_options_that_it_does_not_know(self) -> None:
        """A mistyped option is an error, not a default."""
        refused: list[Any] = []
        try:
            self.scorer.Options.model_validate({**self.options, "no_such_option": 1})
        except ValidationError as error:
            refused = [part for problem in error.errors() for part in problem["loc"]]
        assert "no_such_option" in refused, "derive its Options from reward_server.options.Options, which refuse others"

    def test_it_serves_once_it_is_started(self, opened: Opened) -> None:
        """And says so."""
        assert opened.info.health.serving, opened.info.health.reason

    def test_its_samples_are_scored_within_its_range(self, opened: Opened) -> None:
        """Every one, and the score range is true."""
        verdicts = opened.score(self.samples)
        no_complaints(missing(self.samples, verdicts), "The suite's samples are all scored")
        given = {named(*pair): verdict for pair, verdict in zip(enumerate(self.samples), verdicts, strict=True)}
        no_complaints(unsound(opened.info.score_range, given), "Scores are within the score range")

    def test_every_sample_has_its_own_verdict_in_a_large_batch(self, opened: Opened) -> None:
        """Order and number hold, and what is beside a prompt changes nothing."""
        group = self.one_group()
        turns = -(-BATCH // len(group))
        batch = [replace(sample, group=turn) for turn in range(turns) for sample in group]
        alone = replace(group[0], group=turns)  # so that no order but the right one is its own mirror image
        expected = opened.score(group) * turns + opened.score([alone])
        claim = "A prompt's completions score among those of other prompts as they do by themselves"
        self.assert_same([*batch, alone], opened.score([*batch, alone]), expected, claim)

    def test_the_order_of_samples_changes_no_score(self, opened: Opened) -> None:
        """Reversed samples have reversed verdicts."""
        group = self.one_group()
        expected = opened.score(group)[::-1]
        self.assert_same(group[::-1], opened.score(group[::-1]), expected, "The order changes no score")

    def test_twice_the_same_is_twice_the_same_score(self, opened: Opened) -> None:
        """Same inputs, same version, same verdict."""
        expected = opened.score(self.samples)
        self.assert_same(self.samples, opened.score(self.samples), expected, "A second call scores as the first")

    def test_company_changes_no_score(self, opened: Opened) -> None:
        """A sample alone scores as it does among others, unless the scorer says that it compares."""
        if self.compares:
            pytest.skip("it compares the completions of a prompt: company is what it scores")
        alone = [opened.score([sample])[0] for sample in self.samples]
        claim = "A sample scores among others as alone (or say `compares = True`, if that is its nature)"
        self.assert_same(self.samples, opened.score(self.one_group()), alone, claim)

    def test_calls_at_the_same_time_do_not_mix(self, opened: Opened) -> None:
        """One scorer serves all calls: what it keeps of one must not be found by another."""
        group = self.one_group()
        there, back = opened.score(group), opened.score(group[::-1])
        claim = "Calls at the same time score as they do one after another"
        for index, verdicts in enumerate(opened.score_at_once([group, group[::-1]] * 4)):
            self.assert_same(group[:: -1 if index % 2 else 1], verdicts, back if index % 2 else there, claim)

    def test_a_conversation_scores_as_its_last_answer(self, opened: Opened) -> None:
        """A completion may be a list of messages, of which the default view shows the last answer."""
        if self.beside.get("view") == "messages":
            pytest.skip("it reads the messages themselves")
        before = [{"role": "assistant", "content": "Let me look."}, {"role": "tool", "content": "nothing"}]
        group = [sample for sample in self.one_group() if isinstance(sample.completion, str)]
        talks = [replace(s, completion=[*before, {"role": "assistant", "content": s.completion}]) for s in group]
        claim = "A conversation scores as the text of its last answer"
        self.assert_same(group, opened.score(talks), opened.score(group), claim)

    def test_hostile_completions_harm_only_themselves(self, opened: Opened, together: Scored) -> None:
        """Each gets a verdict, in range if scored, and their neighbours get theirs."""
        found = unsound(opened.info.score_range, together.hostile)
        if harmed := missing(self.samples, together.own):
            for what, sample in self.hostile().items():  # each by itself, so that it can be named
                if missing(self.samples, opened.score([sample, *self.samples])[1:]):
                    found[f"{what}, to its neighbours"] = str(harmed)
            found = found or harmed
        no_complaints(found, "A hostile completion gets a verdict, in range or with a reason, and harms nobody else")

    def test_no_text_holds_up_the_event_loop(self, opened: Opened, together: Scored) -> None:
        """What runs on the loop is proven cheap; what is not cheap runs elsewhere."""
        limit_s, held = LOOP_CPU_S[opened.info.cost_class], {}
        for what, sample in self.hostile().items() if together.longest_turn_s > limit_s else ():
            longest_s = together.longest_turn_s
            for _ in range(TRIES):
                if longest_s > limit_s:
                    opened.score([sample])
                    longest_s = min(longest_s, opened.longest_turn_s)
            if longest_s > limit_s:
                held[what] = f"{longest_s * 1e3:.0f} ms at a stretch"
        claim = f"No text holds up the event loop for {limit_s * 1e3:.0f} ms (if one must, derive from PooledRule)"
        no_complaints(held, claim)

    def test_odd_columns_harm_only_their_own_sample(self, opened: Opened) -> None:
        """Datasets have gaps: a column that it cannot read costs that sample its score, and says why."""
        needs, first = opened.info.needs, self.samples[0]
        read = set(first.columns) if needs.all_columns else needs.required_columns | needs.optional_columns
        names = sorted(read & set(first.columns))
        if not names:
            pytest.skip("it reads no column of its samples")
        odd = {
            f"{what} in the column {name!r}": replace(first, columns={**first.columns, name: value})
            for name in names
            for what, value in ODD_VALUES.items()
        }
        apart = [replace(sample, group=AWAY + place) for place, sample in enumerate(odd.values())]
        verdicts = opened.score([*apart, *self.samples])
        found = unsound(opened.info.score_range, dict(zip(odd, verdicts, strict=False)))
        found |= missing(self.samples, verdicts[len(odd) :])
        no_complaints(found, "A column that cannot be read harms its own sample only, which gets a reason")

    def test_a_call_that_nobody_waits_for_leaves_nothing_behind(self, opened: Opened) -> None:
        """Closed at the start or in the middle, it stops, and the next call is answered as ever."""
        before = opened.score(self.samples)
        for after_s in CLOSED_AFTER_S:
            left = opened.abandon(self.one_group() * BATCH, after_s)
            no_complaints(dict.fromkeys(left, "is still running"), "Where `score` is closed (finally:), its tasks end")
        self.assert_same(self.samples, opened.score(self.samples), before, "After a closed call, the next is answered")

    def test_it_asks_for_the_columns_that_it_reads(self, opened: Opened) -> None:
        """Only what it needs is sent, so without any other column it scores the same."""
        needs = opened.info.needs
        if needs.all_columns:
            pytest.skip("it reads any column there is")
        read = needs.required_columns | needs.optional_columns
        group = self.one_group()
        bare = [replace(s, columns={name: value for name, value in s.columns.items() if name in read}) for s in group]
        claim = "It reads no columns but those of its `needs`, which alone are sent"
        self.assert_same(group, opened.score(bare), opened.score(group), claim)

    def test_without_a_column_that_it_needs_the_call_is_refused(self, opened: Opened) -> None:
        """The caller is told which."""
        if not opened.info.needs.required_columns:
            pytest.skip("it needs no column")
        with pytest.raises(MissingColumn):
            opened.score([replace(sample, columns={}) for sample in self.samples])

    def test_it_asks_for_the_prompts_that_it_reads(self, opened: Opened) -> None:
        """Only who asks for prompts is sent them, so without it scores the same."""
        needs, group = opened.info.needs, self.one_group()
        bare = [replace(sample, prompt=None) for sample in group]
        if needs.prompts_required:
            with pytest.raises(MissingColumn):
                opened.score(bare)
        elif needs.prompts:
            given = {named(*pair): each for pair, each in zip(enumerate(bare), opened.score(bare), strict=True)}
            no_complaints(unsound(opened.info.score_range, given), "It can do without prompts, as its `needs` say")
        else:
            asked = [replace(sample, prompt="What is it?") for sample in group]
            claim = "It reads no prompts, as its `needs` say"
            self.assert_same(group, opened.score(bare), opened.score(asked), claim)

    def test_its_version_is_its_own_and_stays(self, opened: Opened, folder: Path, tmp_path: Path) -> None:
        """It is that of the same scorer opened again, wherever its configuration lies."""
        shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
        with Opened(self.scorer, self.configuration(), tmp_path) as again:
            assert again.info.version == opened.info.version, "its identity() changes with the time or the place"
