"""The notebook in examples/: its cells run, as in Jupyter with an event loop running, on the small policy of the tests."""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from async_worker import later
from rich.console import Console
from server_process import REPOSITORY

from trainer.functions import for_trl
from trainer.reward_set import _local_notes

NOTEBOOK = REPOSITORY / "examples" / "notebook.ipynb"

SERVER = "rewards:\n  brevity: {length: {unit: words, target: 3, width: 30}}\n  relevance: {diversity: {}}\n"


def code_cells() -> list[str]:
    notebook = json.loads(NOTEBOOK.read_text())
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    for cell in notebook["cells"]:
        assert cell["cell_type"] in {"markdown", "code"}
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


async def run_cell(source: str, names: dict[str, Any]) -> None:
    """Runs a cell as Jupyter does: compiled so that it may await, inside a running event loop."""
    code = compile(source, "<cell>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    result = eval(code, names)  # noqa: S307  # our own notebook
    if inspect.isawaitable(result):
        await result


@pytest.fixture
def in_examples(tmp_path: Path, tiny_policy: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder like examples/, whose quickstart is one for the tests' policy."""
    run = yaml.safe_load((REPOSITORY / "examples" / "quickstart" / "train.yaml").read_text())
    run["model"] = {"name": str(tiny_policy), "precision": "fp32", "lora": None}
    run["data"] = {"prompts": ["one", "two", "three", "four"], "conversational": False}
    run["grpo"] |= {"max_steps": 2, "per_device_train_batch_size": 4, "num_generations": 2, "max_completion_length": 8}
    run["run"] |= {"folder": str(tmp_path / "runs" / "quickstart"), "samples_before_after": 1}
    folder = tmp_path / "quickstart"
    folder.mkdir()
    (folder / "train.yaml").write_text(yaml.safe_dump(run))
    (folder / "server.yaml").write_text(SERVER)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.end_to_end
@pytest.mark.filterwarnings("ignore::FutureWarning")  # transformers on its own names, in a trainer of one's own
def test_its_cells_run_under_a_running_event_loop(in_examples: Path, capsys: pytest.CaptureFixture[str]):
    names: dict[str, Any] = {"__name__": "__main__"}

    async def all_cells() -> None:
        for source in code_cells():
            await run_cell(source, names)

    asyncio.run(all_cells())

    printed = capsys.readouterr().out
    assert "step 1/2   brevity" in printed
    assert "\x1b" not in printed
    assert names["result"].folder.report.exists()
    assert [row["step"] for row in names["result"].history.rows] == [1, 2]
    assert names["trainer"].state.global_step == 2


async def test_asynchronous_functions_are_asked_about_samples_while_a_loop_runs():
    notes = _local_notes(for_trl("right", later), ["p", "p"], ["yes", "no"], {"reference": ["yes", "yes"]})
    assert [note.score for note in notes] == [1.0, 0.0]


def test_a_console_in_jupyter_is_no_terminal():
    """So that the progress is a line a step, not a table drawn over itself."""
    assert not Console(force_jupyter=True).is_terminal
