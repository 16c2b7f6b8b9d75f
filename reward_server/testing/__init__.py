"""The suite that every scorer must pass, for yours too: `from reward_server.testing import ScorerContract`. Needs pytest."""

import pytest

pytest.register_assert_rewrite(
    *(f"reward_server.testing.{name}" for name in ("scorer_contract", "contracted", "opened"))
)

from reward_server.testing.scorer_contract import ScorerContract  # noqa: E402  # only now are its asserts explained

__all__ = ["ScorerContract"]
