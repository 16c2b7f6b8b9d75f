"""Each kind of instruction on texts at its edge, its laws on any text, and the table of docs/rewards.md."""

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from reward_server.scorers.instructions.kinds import KINDS, instruction
from reward_server.scorers.instructions.scorer import Mode, followed_of

ROOT = Path(__file__).parents[2]
TABLE = yaml.safe_load((ROOT / "tests/data/instructions.yaml").read_text(encoding="utf-8"))
ROWS = [(name, row) for name, rows in TABLE.items() for row in rows]
EXAMPLES = [
    instruction(name, arguments) for name, rows in TABLE.items() for arguments in [row["kwargs"] for row in rows]
]
ONE_OF_EACH = [instruction(name, rows[0]["kwargs"]) for name, rows in TABLE.items()]


@pytest.mark.parametrize(("name", "row"), ROWS, ids=[f"{name}-{row['why']}" for name, row in ROWS])
def test_a_text_at_the_edge_is_judged_as_by_hand(name, row):
    assert instruction(name, row["kwargs"]).follows(row["text"]) is row["follows"]


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_has_four_texts_that_follow_it_and_four_that_do_not(name):
    follows = [row["follows"] for row in TABLE[name]]
    assert follows.count(True) >= 4
    assert follows.count(False) >= 4


def test_the_table_has_no_kind_that_there_is_not():
    assert set(TABLE) <= set(KINDS)


SIGNS_WITH_BLANKS = (
    "* ** *** ****** - [ ] << >> < > . ! ... … 。 , : ' \" ` ```json { } 1 ٣ a A I'M DON'T NASA’s İ ς ß _ rock ROCK C++ war "  # noqa: RUF001
    "Section SECTION P. S. U.S. e.g. Hello 日本 🙂 \u0301 \ud800 \0"
)
PIECES = st.sampled_from([*SIGNS_WITH_BLANKS.split(), " ", "\n", "\n\n", "\t", "\r", "\x1c"])
TEXTS = st.one_of(st.text(), st.text(st.characters(exclude_categories=())), st.lists(PIECES, max_size=40).map("".join))


@settings(max_examples=300)
@given(text=TEXTS, one=st.sampled_from(EXAMPLES))
def test_every_kind_says_yes_or_no_to_any_text_and_the_same_again(text, one):
    said = one.follows(text)
    assert isinstance(said, bool)
    assert one.follows(text) is said


@settings(max_examples=300)
@given(text=TEXTS, one=st.sampled_from(EXAMPLES))
def test_what_is_strictly_followed_is_loosely_followed(text, one):
    [strict] = followed_of([one], text, Mode.STRICT)
    [loose] = followed_of([one], text, Mode.LOOSE)
    assert loose or not strict


MILLION = 1_000_000
BOMBS = {
    "one letter": "a" * MILLION,
    "NULs": "\0" * MILLION,
    "lone surrogates": "\ud800" * MILLION,
    "brackets": "[" * 200_000,
    "objects": '{"a":' * 200_000,
    "angles": "<<" + ">" * MILLION,
    "asterisks": "*" * MILLION,
    "bullets": "*\n" * (MILLION // 2),
    "line breaks": "\n" * MILLION + "a",
    "blanks": " " * MILLION + "-",
    "digits": "1" * MILLION,
    "full stops": "p. " * (MILLION // 3),
    "clitics": "A" + "'S" * (MILLION // 2),
    "quotes": "'" * MILLION,
    "commas": "A," * (MILLION // 2),
    "combining marks": "a" + "\u0301\u0316" * (MILLION // 2),
    "every sign": "".join(map(chr, range(32, MILLION))),
    "sections": "Section 1" * (MILLION // 9),
    "wide stops": "。" * MILLION,
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_judged_by_every_kind_before_the_test_is_stopped(bomb):
    said = followed_of(ONE_OF_EACH, BOMBS[bomb], Mode.LOOSE)
    assert len(said) == len(KINDS)


def test_the_document_lists_every_kind_with_its_arguments_and_what_it_asks_for():
    lines = ["| id | arguments | the text |", "|---|---|---|"]
    for kind in KINDS.values():
        arguments = ", ".join(f"`{name}`" for name in kind.model_fields) or "none"
        lines.append(f"| `{kind.id}` | {arguments} | {_first_line(kind)} |")
    table = "\n".join(lines)
    assert table in (ROOT / "docs/rewards.md").read_text(), f"docs/rewards.md needs this table:\n{table}"


def _first_line(kind):
    line = (kind.__doc__ or "").strip().removesuffix(".")
    assert re.fullmatch(r"[A-Z][^\n|]+", line), f"{kind.id} needs one line of words, without bars"
    return line[0].lower() + line[1:]
