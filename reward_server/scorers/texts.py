"""What rules of texts share."""

from __future__ import annotations

from typing import Final

from reward_server.domain import failed

NOT_A_TEXT: Final = failed(
    "the completion is a conversation, and this reward reads texts: give it 'view: full' (the last assistant message) "
    "or 'view: answer'"
)
"""The verdict of a rule of texts on a list of messages."""
