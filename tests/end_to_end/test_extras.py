"""The extras that name what goes together: each resolves whole, as on a machine with nothing on it. Nothing is installed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.network_install, pytest.mark.end_to_end, pytest.mark.timeout(1200)]


def resolved(extra: str, constraints: str, tmp_path: Path) -> dict[str, str]:
    """Returns what pip would install for an extra: name -> version. It reads descriptions, no packages."""
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (tmp_path / name).write_bytes((REPOSITORY / name).read_bytes())
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
    command += ["--report", str(report), "--constraint", str(REPOSITORY / "constraints" / constraints)]
    done = subprocess.run([*command, f"{tmp_path}[{extra}]"], capture_output=True, text=True, timeout=1000, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    installed = [each["metadata"] for each in json.loads(report.read_text())["install"]]
    return {each["name"].lower().replace("_", "-"): each["version"] for each in installed}


def pinned(constraints: str) -> dict[str, str]:
    lines = (REPOSITORY / "constraints" / constraints).read_text().splitlines()
    return dict(line.partition("#")[0].strip().split("==") for line in lines if "==" in line.partition("#")[0])


def test_unsloth_comes_with_the_releases_it_works_with(tmp_path: Path):
    found = resolved("unsloth", "unsloth.txt", tmp_path)
    expected = {
        "unsloth": "2026.10.7",
        "trl": "1.14.0",
        "transformers": "5.17.0",
        "datasets": "4.8.5",
        "peft": "0.21.0",
    }
    assert expected.items() <= found.items()
    # All of it is pinned: what is installed tomorrow is what is installed today.
    loose = found.keys() - pinned("unsloth.txt").keys() - {"grpo-reward-service"}
    assert not {name for name in loose if not name.startswith(("nvidia-", "cuda-"))}  # those torch's wheel names itself


@pytest.mark.parametrize("extra", ["quantization", "tracking"])
def test_what_is_optional_goes_with_the_newest_set(tmp_path: Path, extra: str):
    found = resolved(extra, "newest.txt", tmp_path)
    newest = pinned("newest.txt")
    assert found["trl"] == newest["trl"]
    assert found["transformers"] == newest["transformers"]
