"""docs/client.md against the client: every field, option and error of it stands there, and its code runs."""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection
from dataclasses import MISSING, fields
from pathlib import Path
from typing import get_args

import pytest
from server_process import ServerProcess

import trainer.errors
from trainer.client import (
    BatchFields,
    Blame,
    Catalog,
    ClientKeywords,
    ClientOptions,
    Cost,
    CostClass,
    RewardClient,
    RewardInfo,
    RewardScores,
    ScoreResult,
    Status,
)
from trainer.client.options import OnOutage
from trainer.missing import FunctionPolicy
from trainer.rewards import remote_reward

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "client.md").read_text()


def section(title: str) -> str:
    """Returns what stands under a heading."""
    assert f"\n## {title}\n" in PAGE, title
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def tables(title: str) -> list[list[list[str]]]:
    """Returns the tables of a section: rows of cells, without the head."""
    found = re.findall(r"(?:^\|.*\|\n)+", section(title) + "\n", flags=re.MULTILINE)
    return [
        [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()[2:]] for table in found
    ]


def named(rows: Collection[list[str]]) -> list[str]:
    """Returns the names in the first column."""
    return [name for row in rows for name in re.findall(r"`(\w+)`", row[0])]


def names_of(kind: type) -> set[str]:
    return {field.name for field in fields(kind)}


def test_every_option_of_a_client_is_there():
    (rows,) = tables("Options of a client")
    assert sorted(named(rows)) == sorted(ClientKeywords.__annotations__)


def test_the_options_defaults_are_those_of_the_client():
    (rows,) = tables("Options of a client")
    defaults = {field.name: field.default for field in fields(ClientOptions) if field.default is not MISSING}
    shown = {name: row[1].strip(' `"') for row in rows for name in named([row])}
    for name, default in defaults.items():
        is_plain = isinstance(default, (bool, int, float)) or name == "on_outage"
        assert shown[name] == (f"{default:g}" if isinstance(default, float) else str(default)) or not is_plain, name


def test_every_argument_of_score_is_there():
    (rows,) = tables("What `score` takes")
    assert sorted(named(rows)) == sorted(BatchFields.__annotations__)


def test_every_field_of_a_result_is_there():
    result, verdicts, cost = tables("What comes back")
    assert set(named(result)) == names_of(ScoreResult)
    assert set(named(verdicts)) == names_of(RewardScores)
    assert set(named(cost)) == names_of(Cost)


def test_every_field_of_what_is_offered_is_there():
    (rows,) = tables("What the server offers")
    assert set(named(rows)) == names_of(RewardInfo)
    said = set(re.findall(r"`(\w+)`", section("What the server offers").partition("The catalogue also has")[2]))
    assert names_of(Catalog) - {"rewards"} <= said


@pytest.mark.parametrize("words", [Status, Blame, CostClass, get_args(OnOutage), get_args(FunctionPolicy)], ids=str)
def test_every_word_that_a_field_may_hold_is_there(words: Collection[str]):
    assert {str(word) for word in words} <= set(re.findall(r'`(?:\w+=)?"?(\w+)"?`', PAGE))


def test_every_error_is_there_with_what_to_do():
    (rows,) = tables("Errors")
    known = {
        name
        for name, kind in vars(trainer.errors).items()
        if inspect.isclass(kind) and issubclass(kind, trainer.errors.RewardError)
    }
    assert sorted(row[1].strip("`") for row in rows) == sorted(known - {"RewardError"})
    assert all(len(row) == 3 and row[2] for row in rows)


def test_every_argument_of_remote_reward_is_there():
    (rows,) = tables("Reward functions for TRL")
    assert named(rows) == list(inspect.signature(remote_reward).parameters)


def test_the_errors_that_the_page_names_exist():
    for name in set(re.findall(r"`([A-Z]\w+)`", PAGE)) - {"None", "True", "False"}:
        assert hasattr(trainer.errors, name) or hasattr(trainer.client, name), name


@pytest.mark.end_to_end
def test_its_code_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """All of it in one go; only the address is another, and the client is closed at the end."""
    rules = "length: {unit: words, target: 10, width: 30}"
    config = (
        f"rewards: {{brevity: {{{rules}}}, correct: {{numeric: {{}}}}, shape: {{format: {{final_full_stop: 1}}}}}}\n"
    )
    (tmp_path / "server.yaml").write_text(config)
    code = "\n".join(re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL))
    names: dict[str, object] = {"prompts": ["Six by seven?"] * 2, "completions": ["42.", "41."], "answers": ["42"] * 2}
    with ServerProcess(tmp_path / "server.yaml") as server:
        code = code.replace("localhost:8470", server.target)
        code = re.sub(r"^client\.close\(\).*$", "", code, flags=re.MULTILINE)
        exec(compile(code, "client.md", "exec"), names)  # noqa: S102  # the page's own code
        client = names["client"]
        assert isinstance(client, RewardClient)
        with client:
            assert capsys.readouterr().out.startswith(first_scores())
            with pytest.raises(trainer.errors.UnknownReward, match="brevity"):
                client.list_rewards().asked(["brevety"])
            with pytest.raises(trainer.errors.MissingColumn):
                client.list_rewards().rewards["correct"].columns_of(["prompt"])
            (call,) = re.findall(r"`correct(\(prompts.*?\))`", PAGE)
            assert eval(f"correct{call}", names) == [1.0, 0.0]  # noqa: S307  # likewise


def first_scores() -> str:
    """What the page says that its first lines print."""
    (scores,) = re.findall(r"# (\[[\d., ]+\]):", PAGE)
    return scores
