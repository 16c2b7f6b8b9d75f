"""One HTTP host: a request with a time limit, and what can go wrong on the way as engine errors."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from reward_server.errors import AnswerTimedOut, HostRefused, HostUnreachable

CONNECT_TIMEOUT_S: Final = 5.0
LOOK_TIMEOUT_S: Final = 10.0
"""For all that a host knows without a generation."""
KEEP_IDLE_S: Final = 2.0
"""An idle connection is used again for so long. Servers close theirs after five seconds or more, and a request that
meets the closing looks like a host that broke."""
MAX_REPLY_BYTES: Final = 16 << 20
"""No judge's answer is this large; whatever sends more is no model's host."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the host sent back, whatever its status."""

    status: int
    content_type: str
    body: bytes
    elapsed_ms: float = 0.0  # from sending the request to the whole body

    def text(self) -> str:
        """Returns the body as text; bytes that are no UTF-8 are replaced."""
        return self.body.decode(errors="replace")


class Host:
    """Speaks HTTP to one base URL, or to a server on a unix socket. Open it with `open`, end it with `close`.

    Args:
        label: how messages name it, such as "engine `box` (http://gpu-box:11434)".
        url: where paths of requests are appended to.
        mend: what a person does where nobody answers.
        headers: sent with every request.
        socket: a unix socket to connect to in place of the URL's host and port.
    """

    def __init__(
        self, label: str, url: str, *, mend: str, headers: Mapping[str, str] | None = None, socket: Path | None = None
    ) -> None:
        self.label = label
        self._url = url.rstrip("/")
        self._mend = mend
        self._headers = dict(headers or {})
        self._socket = socket
        self._client: httpx.AsyncClient | None = None

    def open(self) -> None:
        """Makes the client, on the event loop that will use it. Connects to nothing yet."""
        self._client = httpx.AsyncClient(
            headers=self._headers,
            transport=httpx.AsyncHTTPTransport(uds=str(self._socket)) if self._socket else None,
            timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT_S),
            limits=httpx.Limits(
                max_connections=None,
                max_keepalive_connections=64,
                keepalive_expiry=KEEP_IDLE_S,
            ),
            trust_env=proxies_apply(self._url),
        )

    async def close(self) -> None:
        """Closes all connections; requests under way break."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def request(self, method: str, path: str, timeout_s: float, body: Any = None) -> Reply:
        """Returns the host's reply. Cancelling it, or running out of time, closes the connection.

        Raises `AnswerTimedOut`, `HostUnreachable` (no connection, or it broke) or `HostRefused` (no HTTP host at all).
        """
        if self._client is None:
            raise HostUnreachable(f"{self.label}: not started, or closed already")
        content = None if body is None else json.dumps(body).encode()
        headers = {} if body is None else {"content-type": "application/json"}
        sent = time.monotonic()
        try:
            async with (
                asyncio.timeout(None if timeout_s == float("inf") else timeout_s),
                self._client.stream(method, self._url + path, content=content, headers=headers) as response,
            ):
                whole, content_type = await self._body(response), response.headers.get("content-type", "")
                return Reply(response.status_code, content_type, whole, (time.monotonic() - sent) * 1000)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise HostUnreachable(f"{self.label}: no connection ({_words(error)}). {self._mend}") from error
        except TimeoutError as error:
            raise AnswerTimedOut(f"{self.label}: no answer within {timeout_s:.3g} s") from error
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.ProxyError) as error:
            raise HostRefused(f"{self.label}: {_words(error)}. {self._mend}") from error
        except httpx.HTTPError as error:
            raise HostUnreachable(f"{self.label}: the connection broke before the answer ({_words(error)})") from error

    async def _body(self, response: httpx.Response) -> bytes:
        """Reads the body up to the limit."""
        body = bytearray()
        async for piece in response.aiter_bytes():
            body += piece
            if len(body) > MAX_REPLY_BYTES:
                raise HostRefused(
                    f"{self.label}: the answer is larger than {MAX_REPLY_BYTES >> 20} MiB; no model's host"
                )
        return bytes(body)


def proxies_apply(url: str) -> bool:
    """Returns whether HTTP_PROXY and its like are heeded for this URL: everywhere but on this very machine."""
    host = urlsplit(url).hostname or ""
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host != "localhost"


def _words(error: Exception) -> str:
    """Returns what an exception says, or its name where it says nothing."""
    return str(error) or type(error).__name__
