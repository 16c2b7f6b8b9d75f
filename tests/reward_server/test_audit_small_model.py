"""The audit of the small real model as it comes: whatever it answers, it is no judge, and the report says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import Commands
from small_model import PATH, needs_model

pytestmark = [*needs_model, pytest.mark.timeout(600)]

CONFIG = f"""
secret_file: judge-secret
engines:
  local: {{embedded: {{model: {PATH}, context_tokens: 1024}}}}
judges:
  plain: {{engine: local, rubric: Is it a good completion of the task?, min_label_mass: 0.01}}
rewards:
  plain: {{judge: plain}}
"""


def test_the_small_model_is_reported_to_be_no_judge(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("judge-secret").write_text("5e" * 32 + "\n")  # every run the same prompts
    Path("judge-secret").chmod(0o600)
    Path("server.yaml").write_text(CONFIG)
    audit = ("judge", "audit", "--reward", "plain", "--probes", "pairs", "--limit", "48")
    ended = Commands(monkeypatch, capsys)(*audit)
    report = json.loads(Path("audit/report.json").read_text())
    measured = report["measures"]
    assert ended.status == 1
    assert report["is_judge"] is False, report["conclusion"]
    assert report["conclusion"][0].startswith("This is not a judge")
    assert report["conclusion"][0] in ended.out
    assert measured["accuracy"]["n"] == 48
    assert measured["accuracy"]["interval"][0] <= 0.5
    assert measured["missing"]["value"] == 0  # it does answer: it is no judge, but not out of order
    assert measured["prompt_tokens"]["value"] > 100
    assert measured["decoded_tokens"]["value"] == 1
