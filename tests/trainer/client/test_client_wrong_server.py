"""What answers is no reward server, or only one end speaks TLS: told at once, in words, however long one may wait."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import grpc
import pytest
from fake_reward_server import FakeServer

from trainer.errors import BadOptions, ServerUnreachable, WrongServer


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates for localhost and for another host, by one authority; and another authority's."""
    folder = tmp_path_factory.mktemp("keys")

    def openssl(command: str) -> None:
        subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True, timeout=60)

    for name in ("ca", "other-ca"):
        openssl(f"req -x509 -newkey rsa:2048 -nodes -days 2 -keyout {name}.key -out {name}.crt -subj /CN={name}")
    for name, names in {"server": "DNS:localhost,IP:127.0.0.1", "elsewhere": "DNS:elsewhere.example"}.items():
        (folder / f"{name}.ext").write_text(f"subjectAltName={names}\n")
        openssl(f"req -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.csr -subj /CN={name}")
        openssl(
            f"x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -out {name}.crt "
            f"-extfile {name}.ext"
        )
    return folder


@pytest.fixture
def tls_server(keys: Path, fake_server: Callable[[], FakeServer]) -> Callable[..., FakeServer]:
    def start(name: str = "server", *, wants_certificate: bool = False) -> FakeServer:
        pair = ((keys / f"{name}.key").read_bytes(), (keys / f"{name}.crt").read_bytes())
        server = fake_server()
        server.credentials = grpc.ssl_server_credentials(
            [pair], (keys / "ca.crt").read_bytes() if wants_certificate else None, wants_certificate
        )
        return server.start()

    return start


def test_tls_with_the_right_authority_works(tls_server, keys, connect):
    client = connect(tls_server().target, tls=True, ca_file=str(keys / "ca.crt"), token="t")

    assert client.score(rewards=["a"], completions=["xx"]).rewards["a"].scores == [2.0]


def test_another_name_in_the_certificate_can_be_given(tls_server, keys, connect):
    options = {"ca_file": str(keys / "ca.crt"), "server_name": "elsewhere.example"}

    assert connect(tls_server("elsewhere").target, tls=True, **options).health() == "serving"


def test_a_client_certificate_is_shown(tls_server, keys, connect):
    own = {"certificate_file": str(keys / "server.crt"), "key_file": str(keys / "server.key")}
    target = tls_server(wants_certificate=True).target

    assert connect(target, tls=True, ca_file=str(keys / "ca.crt"), **own).health() == "serving"


@pytest.fixture
def quickly() -> Iterator[None]:
    """Guards against waiting out the outage limit of ten minutes."""
    started = time.monotonic()
    yield
    assert time.monotonic() - started < 30


@pytest.mark.usefixtures("quickly")
class TestToldAtOnce:
    def test_a_plain_client_at_a_tls_server(self, tls_server, connect):
        with pytest.raises(WrongServer, match="the server there speaks TLS, this client does not; add tls=True"):
            connect(tls_server().target).score(rewards=["a"], completions=["xx"])

    def test_a_tls_client_at_a_plain_server(self, server, connect, keys):
        with pytest.raises(WrongServer, match="the server there speaks no TLS; leave out tls=True"):
            connect(server.target, tls=True, ca_file=str(keys / "ca.crt")).score(rewards=["a"], completions=["xx"])

    @pytest.mark.parametrize("authority", ["other-ca", None])
    def test_an_untrusted_authority(self, tls_server, connect, keys, authority):
        ca_file = str(keys / f"{authority}.crt") if authority else None
        with pytest.raises(WrongServer, match="no authority that this client trusts has signed it; give ca_file="):
            connect(tls_server().target, tls=True, ca_file=ca_file).list_rewards()

    def test_another_host_name(self, tls_server, connect, keys):
        with pytest.raises(WrongServer, match="certificate is for another host name; give that name as server_name="):
            connect(tls_server("elsewhere").target, tls=True, ca_file=str(keys / "ca.crt")).health()

    def test_an_http_server(self, connect):
        class Quiet(BaseHTTPRequestHandler):
            def log_message(self, *args: object) -> None:
                pass

        with HTTPServer(("127.0.0.1", 0), Quiet) as web:
            thread = threading.Thread(target=web.serve_forever)
            thread.start()
            try:
                with pytest.raises(WrongServer, match="an HTTP server answers there, no gRPC server; check the port"):
                    connect(f"127.0.0.1:{web.server_port}").list_rewards()
            finally:
                web.shutdown()
                thread.join()

    def test_another_grpc_service(self, connect):
        other = grpc.server(futures.ThreadPoolExecutor(2))
        port = other.add_insecure_port("127.0.0.1:0")
        other.start()
        try:
            with pytest.raises(WrongServer, match="something answers there, but it is no reward server"):
                connect(f"127.0.0.1:{port}").score(rewards=["a"], completions=["xx"])
        finally:
            other.stop(None).wait(10)


@pytest.mark.parametrize("shown", [None, "other-ca"])
def test_a_server_that_may_want_a_certificate_is_an_outage_with_a_hint(tls_server, connect, keys, shown):
    """A TLS proxy before a server that is away looks the same, so this is waited for."""
    own = {"certificate_file": str(keys / f"{shown}.crt"), "key_file": str(keys / f"{shown}.key")} if shown else {}
    target = tls_server(wants_certificate=True).target

    with pytest.raises(ServerUnreachable, match=r"wants a client's certificate, give certificate_file= and key_file="):
        connect(target, tls=True, ca_file=str(keys / "ca.crt"), on_outage="stop", **own).list_rewards()


def test_a_port_that_takes_connections_and_is_silent_is_an_outage(connect, monkeypatch):
    monkeypatch.setattr("trainer.client.channel._CONNECT_TIMEOUT_MS", 500)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(ServerUnreachable, match="it takes connections, but does not answer"):
            connect(f"127.0.0.1:{silent.getsockname()[1]}", on_outage="stop").list_rewards()


@pytest.mark.parametrize("option", ["ca_file", "certificate_file"])
def test_a_file_that_is_no_certificate_is_told_before_any_call(connect, keys, tmp_path, option):
    (tmp_path / "junk").write_text("junk")
    files = {"certificate_file": str(keys / "ca.crt"), "key_file": str(keys / "ca.key"), option: str(tmp_path / "junk")}

    with pytest.raises(BadOptions, match=f"{option}: .*junk holds no PEM text"):
        connect("localhost:1", tls=True, **files)
