"""An audit says of judges whose worth is known what they are worth."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import pytest
from scripted_audits import Counted, audited, coin, constant, contrary, longer_wins, obedient, perfect

from reward_server.audit.conclusion import figure, interval
from reward_server.audit.probes import GROUPS, INJECTIONS, KEYS, PAIRS, own_probes
from reward_server.audit.ratings import Rating
from reward_server.audit.report import Report
from reward_server.domain import Needs, Sample


def values_of(report: Report) -> dict[str, Any]:
    return {measure.name: measure.estimate.value if measure.estimate else None for measure in report.measures}


def ratings_of(report: Report) -> dict[str, Rating | None]:
    return {measure.name: measure.rating for measure in report.measures}


async def test_a_perfect_judge_is_good_in_all() -> None:
    report = await audited(perfect)
    assert set(ratings_of(report).values()) <= {Rating.GOOD, None}
    assert report.conclusion.rating is Rating.GOOD
    assert report.conclusion.is_judge
    values = values_of(report)
    assert values["accuracy"] == values["order_consistency"] == values["groups_order"] == 1.0
    assert values["noise"] == values["injections_lifted"] == values["keys_above_midpoint"] == 0.0
    assert not report.mistakes()


async def test_a_coin_is_no_judge() -> None:
    report = await audited(coin())
    assert report.conclusion.is_judge is False
    assert report.conclusion.rating is Rating.BAD
    assert "no better than a coin" in report.conclusion.sentences[0]
    values = values_of(report)
    assert 0.38 < values["accuracy"] < 0.62
    assert 0.3 < values["order_consistency"] < 0.7
    assert values["noise"] == pytest.approx(1 / 3, abs=0.08)
    assert report.conclusion.sentences[-1] == "Do not train on it."


async def test_who_prefers_the_longer_one_is_told_so() -> None:
    report = await audited(longer_wins)
    values = values_of(report)
    assert values["accuracy_better_longer"] == 1.0
    assert values["accuracy_better_shorter"] == 0.0
    assert values["length_gap"] == 1.0
    assert values["length_correlation"] == pytest.approx(1.0)
    assert values["accuracy"] == values["baseline_longer"] == pytest.approx(1 - values["baseline_shorter"])
    assert report.conclusion.is_judge is False
    assert any("length for quality" in sentence for sentence in report.conclusion.sentences)


async def test_a_constant_is_no_judge_and_gives_a_policy_nothing_to_learn() -> None:
    report = await audited(constant)
    values = values_of(report)
    assert values["accuracy"] == 0.5
    assert values["ties"] == values["groups_equal"] == 1.0
    assert values["groups_spread"] == values["injections_lifted"] == values["keys_above_wrong"] == 0.0
    assert values["length_correlation"] is None
    assert report.conclusion.is_judge is False
    keys = next(measure for measure in report.measures if measure.name == "keys_above_midpoint")
    assert "says little" in keys.note


async def test_an_obedient_judge_is_a_judge_that_should_not_be_trained_on() -> None:
    report = await audited(obedient)
    values = values_of(report)
    assert values["accuracy"] == 1.0
    assert values["injections_lifted"] == values["keys_above_midpoint"] == values["keys_above_wrong"] == 1.0
    assert values["injections_mean_lift"] == pytest.approx(0.8)
    assert report.conclusion.is_judge
    assert report.conclusion.rating is Rating.BAD
    assert any("talk it into" in sentence for sentence in report.conclusion.sentences)


async def test_who_prefers_the_worse_one_is_told_so() -> None:
    report = await audited(contrary, sets=[PAIRS])
    assert "prefers the worse" in report.conclusion.sentences[0]
    assert len(report.mistakes()) == 12


async def test_a_judge_that_goes_by_position_contradicts_itself() -> None:
    """Scores that hang on the place within the group: the first one asked about wins."""
    asked: list[Sample] = []

    def first_wins(sample: Sample) -> float:
        asked.append(sample)
        return float(len(asked) % 2)

    report = await audited(first_wins, sets=[PAIRS])
    values = values_of(report)
    assert values["accuracy_first_order"] == 1.0
    assert values["accuracy_second_order"] == 0.0
    assert values["order_consistency"] == 0.0
    assert report.conclusion.is_judge is False


async def test_missing_verdicts_are_counted_with_their_reason_and_never_taken_for_scores() -> None:
    def shy(sample: Sample) -> float | None:
        return None if "not" in str(sample.completion) else perfect(sample)

    report = await audited(shy, sets=[PAIRS])
    data = report.as_json()
    count = sum(data["missing"].values())
    assert list(data["missing"]) == ["abstained: it would not say"]
    assert data["measures"]["missing"]["value"] == count / 260
    assert data["measures"]["accuracy"]["value"] == 1.0
    assert data["measures"]["accuracy"]["n"] < 65
    assert report.conclusion.rating is Rating.BAD


async def test_without_any_score_nothing_is_claimed() -> None:
    report = await audited(lambda _: None)
    assert report.conclusion.is_judge is None
    assert "was not measured" in report.conclusion.sentences[0]
    report.as_html()


async def test_few_pairs_are_said_to_be_too_few() -> None:
    report = await audited(constant, own_probes()[PAIRS][:4])
    assert report.conclusion.is_judge is None
    assert report.conclusion.rating is None
    assert report.conclusion.sentences[0].startswith("Too few pairs")


async def test_fewer_pairs_than_are_rated_call_no_judge_good_or_bad() -> None:
    for judge in (perfect, lambda sample: -perfect(sample)):
        report = await audited(judge, own_probes()[PAIRS][:5], score_range=None)
        assert report.conclusion.is_judge is None
        assert report.conclusion.rating is None
        assert report.conclusion.sentences[0].startswith("Too few pairs")


async def test_who_prefers_the_shorter_one_is_told_so() -> None:
    report = await audited(lambda sample: -longer_wins(sample), score_range=None)
    assert values_of(report)["length_gap"] == -1.0
    assert any("it takes brevity for quality" in sentence for sentence in report.conclusion.sentences)
    assert any("fall with the length" in sentence for sentence in report.conclusion.sentences)


async def test_a_range_that_is_not_declared_is_taken_from_the_scores() -> None:
    report = await audited(lambda sample: 40 * perfect(sample) - 10, score_range=None)
    values = values_of(report)
    assert report.scale.width == pytest.approx(36)
    assert values["injections_mean_lift"] == pytest.approx(-8 / 36)


async def test_progress_is_told_for_every_verdict() -> None:
    progress = Counted()
    await audited(perfect, progress=progress)
    assert progress.done == progress.count == 2 * 65 * 2 + 3 * 280 + 40


async def test_only_what_was_probed_is_reported() -> None:
    report = await audited(perfect, sets=[KEYS])
    names = {measure.name for measure in report.measures}
    assert "keys_above_midpoint" in names
    assert not names & {"accuracy", "length_gap", "injections_lifted", "groups_order"}
    assert "was not measured" in report.conclusion.sentences[0]


async def test_a_judge_that_needs_a_reference_gets_it_under_its_own_name() -> None:
    seen: list[Any] = []
    needs = Needs(required_columns=frozenset({"solution"}), prompts=True)

    def noting(sample: Sample) -> float:
        seen.append(sample.columns["solution"])
        return perfect(sample)

    report = await audited(noting, needs=needs)
    assert all(seen)
    assert len(report.pairs) == 30


async def test_the_page_shows_every_figure(tmp_path: Path) -> None:
    report = await audited(coin())
    data, page = report.write(tmp_path / "new" / "folder")
    text = html.unescape(page.read_text())
    rows = [re.sub(r"<[^>]*>", " ", row) for row in re.findall(r"<tr>.*?</tr>", text, re.DOTALL)]
    for measure in report.measures:
        row = next(row for row in rows if row.split("  ")[0].strip() == measure.title or measure.title in row)
        for part in (figure(measure), interval(measure.estimate), str(measure.estimate.n if measure.estimate else 0)):
            assert part in row, (measure.name, part)
    for sentence in report.conclusion.sentences:
        assert sentence in text
    for outcome in report.mistakes():
        assert outcome.probe.name in text
    assert text.count("<svg") == 6
    assert json.loads(data.read_text())["verdict"] == "bad"


async def test_the_page_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    _, page = (await audited(longer_wins)).write(tmp_path)
    assert not re.search(r"(src|href)=|@import|url\(|<script|https?://", page.read_text())


async def test_hostile_texts_stay_texts_on_the_page() -> None:
    evil = "<script>alert(1)</script>"
    probe = own_probes()[PAIRS][0]
    hostile = type(probe)(PAIRS, evil, evil, evil, (f"good {evil}", f"bad {evil}"))
    page = (await audited(lambda sample: float("bad" in str(sample.completion)), [hostile] * 9)).as_html()
    assert "<script" not in page
    assert page.count("&lt;script&gt;") > 3


async def test_flags_are_counted_by_set() -> None:
    report = await audited(perfect, sets=[GROUPS, INJECTIONS])
    assert report.flags() == {}
    assert report.as_json()["probes"] == {GROUPS: 8, INJECTIONS: 80}
