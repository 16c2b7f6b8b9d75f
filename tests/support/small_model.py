"""Where the small real model is that some tests need. `make model` fetches it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

PATH = Path(
    os.environ.get("GRPO_TEST_MODEL")
    or Path(__file__).parents[2] / ".cache" / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"
)

needs_model = [
    pytest.mark.model,
    pytest.mark.skipif(not PATH.exists(), reason=f"no model at {PATH}: run `make model` or set GRPO_TEST_MODEL"),
]
