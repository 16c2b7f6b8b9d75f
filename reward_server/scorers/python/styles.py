"""The one place that knows all styles of functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from reward_server.scorers.python.openrlhf import OpenRlhfSignature
from reward_server.scorers.python.signature import Parameter, Signature, Style, Wishes, style_of
from reward_server.scorers.python.trl import TrlSignature
from reward_server.scorers.python.verl import VerlSignature

READERS: Final[Mapping[Style, Callable[[Iterable[Parameter], Wishes], Signature]]] = {
    Style.TRL: TrlSignature.read,
    Style.VERL: VerlSignature.read,
    Style.OPENRLHF: OpenRlhfSignature.read,
}


def read_signature(parameters: Iterable[Parameter], style: Style, wishes: Wishes) -> Signature:
    """Returns what a function of these parameters is called with.

    Raises `ValueError` with what is wrong for functions that could not be called so.
    """
    listed = list(parameters)
    return READERS[style_of(listed) if style is Style.AUTO else style](listed, wishes)
