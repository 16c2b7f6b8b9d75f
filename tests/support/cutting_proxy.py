"""A TCP proxy that cuts a connection on purpose: the way to make a real retry happen at a chosen moment."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator


class CuttingProxy:
    """Forwards loopback connections to `upstream` and cuts them when told to.

    `cut_next_answer()` lets the next request through and cuts the connection as soon as the first large answer comes
    back: the server has done the work, the client never hears of it.
    """

    def __init__(self, upstream: str) -> None:
        host, port = upstream.rsplit(":", 1)
        self._upstream = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._armed_over_bytes: int | None = None
        self._lock = threading.Lock()
        self._closed = False
        self.cut_count = 0
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    @property
    def target(self) -> str:
        """Returns host:port to connect to."""
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def cut_next_answer(self, over_bytes: int = 500) -> None:
        """Arms the proxy: the next read of more than `over_bytes` from the server is dropped with its connection."""
        with self._lock:
            self._armed_over_bytes = over_bytes

    def cut_all(self) -> None:
        """Cuts every connection now."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            self._close(*pair)

    def close(self) -> None:
        """Stops listening and cuts what is open."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut_all()
        self._acceptor.join(timeout=5)

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._upstream, timeout=5)
                server.settimeout(None)
            except OSError:
                client.close()
                continue
            with self._lock:
                self._pairs.append((client, server))
            for source, sink, is_answer in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._pump, args=(source, sink, is_answer), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, is_answer: bool) -> None:  # internal
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if is_answer and self._trips(len(data)):
                    break
                sink.sendall(data)
        self._close(source, sink)

    def _trips(self, size: int) -> bool:
        with self._lock:
            if self._armed_over_bytes is None or size <= self._armed_over_bytes:
                return False
            self._armed_over_bytes = None
            self.cut_count += 1
            return True

    @staticmethod
    def _close(*sockets: socket.socket) -> None:
        for each in sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


@contextlib.contextmanager
def cutting_proxy(upstream: str) -> Iterator[CuttingProxy]:
    """Runs a `CuttingProxy` in front of `upstream`."""
    proxy = CuttingProxy(upstream)
    try:
        yield proxy
    finally:
        proxy.close()
