"""What the blocking and the asyncio client have in common: their options and what they look like."""

from __future__ import annotations

from typing import Any, Self, TypeVar, Unpack

from trainer.client.catalog import Catalog
from trainer.client.dialogue import Dialogue
from trainer.client.options import ClientKeywords, ClientOptions


class ClientBase:
    """A client's options. It connects when it is first used, and no more once closed; a pickled copy connects anew."""

    def __init__(self, target: str, **options: Unpack[ClientKeywords]) -> None:
        """Checks the options; connects nowhere yet.

        Args:
            target: `host:port`, `unix:/path`, or `local:server.yaml`, which starts a server process of its own from
                that configuration and ends it with this process.
            options: See `ClientKeywords`.

        Raises:
            BadOptions: They contradict one another, a file is not readable, or a token would travel unencrypted.
        """
        self._options = ClientOptions(target, **options)
        self._dialogue = Dialogue(self._options)
        # By process (and event loop): a forked child neither uses nor closes what it has inherited. Or CLOSED.
        self._connections: dict[Any, Any] = {}

    @property
    def options(self) -> ClientOptions:
        """The options it was made with."""
        return self._options

    @property
    def catalog(self) -> Catalog | None:
        """What the server offered when it was last asked; None = it was not asked yet."""
        return self._dialogue.catalog

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._options.target!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _made_again, (type(self), self._options.keywords())

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self  # a copy of a connection would be another connection to the same place


C = TypeVar("C", bound=ClientBase)


def _made_again(kind: type[C], options: dict[str, Any]) -> C:
    return kind(**options)
