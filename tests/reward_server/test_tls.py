import shutil
import subprocess

import grpc
import grpc.aio
import pytest
from small_rewards import Chars
from small_server import Served, serving

from reward_server.config import Tls


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Returns a folder with an authority, and a server and a client that it has signed."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("keys")

    def openssl(*command):
        subprocess.run(["openssl", *command], cwd=folder, check=True, capture_output=True, timeout=60)

    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *curve, "-days", "2", "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=ca")
    for name in ("server", "client"):
        openssl("req", *curve, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1")
        authority = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
        openssl("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.crt", *authority)
    return folder


def server_tls(keys, client_ca=None):
    return Tls(certificate=keys / "server.crt", key=keys / "server.key", client_ca=client_ca)


async def scores_at(target, credentials):
    channel = grpc.aio.insecure_channel(target) if credentials is None else grpc.aio.secure_channel(target, credentials)
    async with channel:
        return list((await Served(None, channel).score("chars", timeout_s=5)).results[0].scores)


def trusting(keys, **client):
    return grpc.ssl_channel_credentials((keys / "ca.crt").read_bytes(), **client)


async def test_who_trusts_the_authority_is_served(keys):
    async with serving({"chars": Chars}, tls=server_tls(keys)) as served:
        assert await scores_at(served.server.target, trusting(keys)) == [1, 2]


async def test_plain_text_is_not_served_where_there_is_tls(keys):
    async with serving({"chars": Chars}, tls=server_tls(keys)) as served:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await scores_at(served.server.target, None)
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_with_a_client_authority_only_its_clients_are_served(keys):
    pair = {"private_key": (keys / "client.key").read_bytes(), "certificate_chain": (keys / "client.crt").read_bytes()}
    async with serving({"chars": Chars}, tls=server_tls(keys, keys / "ca.crt")) as served:
        assert await scores_at(served.server.target, trusting(keys, **pair)) == [1, 2]
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await scores_at(served.server.target, trusting(keys))
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
