"""The ways to grade, by the names that the configuration uses for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from reward_server.judge.methods.base import Method
from reward_server.judge.methods.criteria import Criteria
from reward_server.judge.methods.equivalence import Equivalence
from reward_server.judge.methods.listwise import Listwise
from reward_server.judge.methods.pairwise import Pairwise
from reward_server.judge.methods.rating import Rating
from reward_server.judge.methods.reasoned import Reasoned

METHODS: Final[Mapping[str, type[Method]]] = {
    method.name: method for method in (Criteria, Rating, Reasoned, Equivalence, Pairwise, Listwise)
}
"""Every one is made as `cls(rubric, showing, settings)`; see `Method`."""
