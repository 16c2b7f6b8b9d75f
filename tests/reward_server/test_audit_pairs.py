"""People's own pairs: every format that is read, and every line that is none named by file and line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reward_server.audit.columns import Columns
from reward_server.audit.pairs import read_pairs
from reward_server.audit.probes import PAIRS, Probe
from reward_server.domain import Needs
from reward_server.errors import ConfigError, MalformedRequest

CHOSEN = {"prompt": "p", "chosen": "a", "rejected": "b"}
LABELLED = {"input": "p", "output_1": "a", "output_2": "b"}


def file_of(folder: Path, *rows: Any) -> Path:
    path = folder / "pairs.jsonl"
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return path


def complaints_about(path: Path, first_label: int | None = None) -> list[str]:
    with pytest.raises(MalformedRequest) as raised:
        read_pairs(path, first_label)
    return str(raised.value).splitlines()


def test_chosen_and_rejected_with_further_keys_as_columns(tmp_path: Path) -> None:
    (pair,) = read_pairs(file_of(tmp_path, CHOSEN | {"reference": "r", "subset": "chat"}))
    assert (pair.prompt, pair.completions, pair.topic) == ("p", ("a", "b"), "chat")
    assert pair.columns == {"reference": "r", "subset": "chat"}


def test_conversations_that_share_their_beginning_have_it_as_the_prompt(tmp_path: Path) -> None:
    asked, good, bad = (
        {"role": role, "content": text} for role, text in (("user", "?"), ("assistant", "y"), ("assistant", "n"))
    )
    (pair,) = read_pairs(file_of(tmp_path, {"chosen": [asked, good], "rejected": [asked, bad]}))
    assert pair.prompt == [asked]
    assert pair.completions == ([good], [bad])


@pytest.mark.parametrize(
    ("labels", "better"),
    [
        ([1, 2], "ab"),
        ([0, 1], "ab"),
        (["1", "2"], "ab"),
        (["output_1", "output_2"], "ab"),
        ([2, 2], "bb"),
        ([0, 0], "aa"),
    ],
)
def test_labels_name_the_better_output(tmp_path: Path, labels: list[Any], better: str) -> None:
    pairs = read_pairs(file_of(tmp_path, *(LABELLED | {"label": label} for label in labels)))
    assert "".join(str(pair.completions[0]) for pair in pairs) == better


def test_labels_that_are_all_one_may_mean_either_and_are_asked_about(tmp_path: Path) -> None:
    path = file_of(tmp_path, LABELLED | {"label": 1})
    assert "--first-label" in complaints_about(path)[0]
    assert read_pairs(path, 0)[0].completions == ("b", "a")
    assert read_pairs(path, 1)[0].completions == ("a", "b")


def test_a_json_array_is_read_too_and_its_lines_are_known(tmp_path: Path) -> None:
    path = tmp_path / "pairs.json"
    path.write_text(json.dumps([CHOSEN, LABELLED | {"label": 2}], indent=1))
    first, second = read_pairs(path)
    assert second.completions == ("b", "a")
    assert (first.name, second.name) == ("line 2", "line 7")
    path.write_text("[\n" + json.dumps(CHOSEN) + ",\n{broken}\n]")
    assert complaints_about(path)[0].startswith(f"{path}:3: is no JSON")


def test_every_bad_line_is_named(tmp_path: Path) -> None:
    path = file_of(
        tmp_path,
        CHOSEN,
        "{",
        "",
        "7",
        {"prompt": "p", "chosen": "a"},
        {"prompt": 3, "chosen": "a", "rejected": "b"},
        {"prompt": "p", "chosen": "a", "rejected": "a"},
        LABELLED | {"label": 3},
        LABELLED,
        {"text": "p"},
    )
    found = complaints_about(path, 1)
    assert [line.removeprefix(f"{path}:").partition(":")[0] for line in found] == [
        "2",
        "4",
        "5",
        "6",
        "7",
        "8",
        "9",
        "10",
    ]
    for words, line in zip(
        ("no JSON", "no JSON object", "'rejected'", "its prompt", "same text", "1 or 2", "found null", "no pair"),
        found,
        strict=True,
    ):
        assert words in line


def test_complaints_stand_in_the_order_of_the_lines(tmp_path: Path) -> None:
    path = file_of(tmp_path, '{"prompt": "p", "chosen": "a"}', "no JSON", '{"text": "p"}')
    assert [line.removeprefix(f"{path}:")[0] for line in complaints_about(path)] == ["1", "2", "3"]


def test_a_long_list_of_complaints_is_cut(tmp_path: Path) -> None:
    found = complaints_about(file_of(tmp_path, *["{"] * 30))
    assert len(found) == 21
    assert found[-1].endswith("... and 10 more")


@pytest.mark.parametrize(("text", "words"), [("", "holds no pairs"), ("[]", "holds no pairs"), (b"\xff", "not UTF-8")])
def test_a_file_without_pairs_is_refused(tmp_path: Path, text: str | bytes, words: str) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert words in complaints_about(path)[0]


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    assert "No such file" in complaints_about(tmp_path / "none.jsonl")[0]


def probe(**columns: Any) -> Probe:
    return Probe(PAIRS, "a pair", "all", "p", ("a", "b"), columns)


def needing(*required: str, optional: tuple[str, ...] = (), everything: bool = False) -> Needs:
    return Needs(frozenset(required), frozenset(optional), everything, prompts=True)


def test_a_reference_goes_by_the_name_under_which_a_reward_wants_it() -> None:
    for name in ("reference", "answer", "solution", "Ground_Truth"):
        (found,) = Columns(needing(name)).fitted([probe(reference="42")])
        assert found.columns == {name: "42"}


def test_a_name_that_is_given_goes_before_all_guesses() -> None:
    (found,) = Columns(needing("answer"), {"answer": "note"}).fitted([probe(reference="42", note="43")])
    assert found.columns["answer"] == "43"


def test_probes_without_a_needed_column_are_left_out() -> None:
    found = Columns(needing("reference")).fitted([probe(reference="42"), probe(), probe(reference="")])
    assert len(found) == 1


def test_all_probes_have_the_same_columns_for_a_reward_that_reads_any() -> None:
    found = Columns(needing(everything=True)).fitted([probe(reference="42"), probe(context="c")])
    assert [set(each.columns) for each in found] == [{"reference", "context"}] * 2
    assert found[0].columns["context"] is None


def test_what_a_reward_can_do_without_is_given_where_it_is_there() -> None:
    found = Columns(needing(optional=("solution",))).fitted([probe(reference="42"), probe()])
    assert [each.columns["solution"] for each in found] == ["42", None]


def test_a_column_that_no_probe_has_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match="needs `tests`, which no probe has; they have reference") as raised:
        Columns(needing("tests")).fitted([probe(reference="42")])
    assert "--column tests=reference" in str(raised.value)
