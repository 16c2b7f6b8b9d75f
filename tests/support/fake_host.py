"""A real HTTP server for tests, in a thread of its own: answers come from a subclass, and it notices who hangs up. It can
go down and come back at the same address."""

from __future__ import annotations

import abc
import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, Self

import h11

CHUNKED_ABOVE_BYTES: Final = 2048
"""As Go's server, which counts a longer body for nobody."""


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Response:
    status: int = 200
    body: bytes = b""
    content_type: str = "application/json; charset=utf-8"
    pieces: AsyncIterator[bytes] | None = None  # sent one by one, in place of `body`
    headers: Mapping[str, str] = field(default_factory=dict)
    declared_length: int | None = None  # says so many bytes come, whatever comes


class HangUp(Exception):
    """Raised by a subclass to close the connection without an answer."""


class FakeHost(abc.ABC):
    """`with FakeHost() as host:` serves on `host.url` until the block ends. Subclasses implement `answer`.

    What `answer` raised is raised again at the block's end: a broken fake is no fault of a host.
    """

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.in_flight = 0
        self.most_in_flight = 0
        self.abandoned = 0  # requests whose client hung up before the answer
        self.url = ""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=type(self).__name__, daemon=True)
        self._ready = threading.Event()
        self._end = asyncio.Event()
        self._door: asyncio.Server | None = None
        self._writers: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._broken: list[Exception] = []
        # Never listens: it keeps the port for us while the host is down.
        self._port_holder = socket.socket()
        self._port_holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)

    @abc.abstractmethod
    async def answer(self, request: Request) -> Response: ...

    def stop(self) -> None:
        """Goes down as if killed: connections break, whatever they were about, and new ones are refused."""
        self._on_loop(self._close_door())

    def start(self) -> None:
        """Comes back at the same address after `stop`."""
        self._on_loop(self._open_door())

    def __enter__(self) -> Self:
        self._port_holder.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._port_holder.getsockname()[1]}"
        self._thread.start()
        assert self._ready.wait(10), "the fake host did not start"
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)
        assert not self._thread.is_alive(), "the fake host did not stop"
        if self._broken and failure is None:
            raise self._broken[0]

    def _on_loop(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()
            self._port_holder.close()

    async def _serve(self) -> None:
        await self._open_door()
        self._ready.set()
        await self._end.wait()
        await self._close_door()

    async def _open_door(self) -> None:
        assert self._door is None, "the fake host is already up"
        host, port = self._port_holder.getsockname()
        self._door = await asyncio.start_server(self._connected, host, port, reuse_address=True, backlog=1024)

    async def _close_door(self) -> None:
        if self._door is not None:
            for sock in self._door.sockets:
                self._loop.remove_reader(sock)
            await self._turns()  # before it is closed: asyncio loses a connection that comes in while it closes
            self._door.close()
            self._door = None
        while self._writers:
            for task, writer in self._writers.items():
                writer.transport.abort()
                task.cancel()
            await asyncio.gather(*self._writers, return_exceptions=True)
            await self._turns()

    async def _turns(self) -> None:
        """Lets connections that are just coming in arrive, and those that were aborted close their sockets."""
        for _ in range(5):
            await asyncio.sleep(0)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._talk(reader, writer))
        self._writers[task] = writer
        task.add_done_callback(self._writers.pop)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER)
        try:
            while (request := await self._read(connection, reader)) is not None:
                self.requests.append(request)
                if not await self._reply(request, connection, reader, writer):
                    return
                if connection.our_state is not h11.DONE:
                    return
                connection.start_next_cycle()
        except (ConnectionError, h11.RemoteProtocolError):
            pass
        except Exception as error:  # noqa: BLE001  # kept for the end of the block
            self._broken.append(error)
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _read(self, connection: h11.Connection, reader: asyncio.StreamReader) -> Request | None:
        head, body = None, bytearray()
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await reader.read(65536))
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                assert head is not None
                headers = {name.decode().lower(): value.decode() for name, value in head.headers}
                return Request(head.method.decode(), head.target.decode(), headers, bytes(body))
            else:
                return None

    async def _reply(
        self,
        request: Request,
        connection: h11.Connection,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bool:
        """Answers one request. Returns False where the connection is over: the client, or we, hung up."""
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        answering = asyncio.create_task(self._send(request, connection, writer))
        hanging_up = asyncio.create_task(reader.read(1))  # a client that waits for its answer sends nothing
        try:
            await asyncio.wait((answering, hanging_up), return_when=asyncio.FIRST_COMPLETED)
            if not answering.done() and (hanging_up.exception() or not hanging_up.result()):
                self.abandoned += 1
                return False
            return await answering
        finally:
            self.in_flight -= 1
            for task in (answering, hanging_up):
                task.cancel()
            _, early = await asyncio.gather(answering, hanging_up, return_exceptions=True)
            if early and isinstance(early, bytes):  # the next request, sent before this one's end was seen here
                connection.receive_data(early)

    async def _send(self, request: Request, connection: h11.Connection, writer: asyncio.StreamWriter) -> bool:
        try:
            response = await self.answer(request)
        except HangUp:
            return False
        headers = [("content-type", response.content_type), *response.headers.items()]
        chunked = response.pieces is not None or (
            len(response.body) > CHUNKED_ABOVE_BYTES and response.declared_length is None
        )
        if chunked:
            headers.append(("transfer-encoding", "chunked"))
        else:
            length = len(response.body) if response.declared_length is None else response.declared_length
            headers.append(("content-length", str(length)))
        writer.write(connection.send(h11.Response(status_code=response.status, headers=headers)) or b"")
        if response.pieces is None:
            writer.write(connection.send(h11.Data(data=response.body)) or b"")
            if response.declared_length is not None:
                await writer.drain()
                return False
        else:
            async for piece in response.pieces:
                writer.write(connection.send(h11.Data(data=piece)) or b"")
                await writer.drain()
        writer.write(connection.send(h11.EndOfMessage()) or b"")
        await writer.drain()
        return True


def json_response(body: Any, status: int = 200, content_type: str = "application/json; charset=utf-8") -> Response:
    """Returns a response as Go and llama.cpp write JSON: compact, not escaped."""
    return Response(status, json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode(), content_type)
