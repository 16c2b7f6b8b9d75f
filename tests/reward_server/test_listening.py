import socket
import stat

import grpc
import grpc.aio
import pytest
from small_rewards import Chars, config_of, rewards_of
from small_server import Served, serving

from reward_server.errors import ConfigError
from reward_server.server import RewardServer


async def start(**parts):
    config = config_of({"chars": Chars}, **parts)
    async with RewardServer(config, insecure=True, rewards=rewards_of({"chars": Chars}, **parts)) as server:
        return server.target


async def scores_at(target):
    async with grpc.aio.insecure_channel(target) as channel:
        return list((await Served(None, channel).score("chars")).results[0].scores)


async def test_port_zero_becomes_a_port_of_its_own():
    async with serving({"chars": Chars}) as one, serving({"chars": Chars}) as two:
        assert one.server.target != two.server.target
        assert await scores_at(one.server.target) == [1, 2]


async def test_a_port_that_is_taken_is_named_with_the_remedy():
    async with serving({"chars": Chars}) as served:
        with pytest.raises(ConfigError) as raised:
            await start(listen=served.server.target)
    assert str(raised.value) == (
        f"/server.yaml: can't listen on {served.server.target} (Address already in use): another server listens "
        "there: stop it, or choose another address (`listen:`, --listen)"
    )


async def test_an_address_that_the_machine_has_not_is_named():
    with pytest.raises(ConfigError, match="this machine has no such address"):
        await start(listen="192.0.2.1:8470")


async def test_a_host_that_cannot_be_resolved_is_named():
    with pytest.raises(ConfigError, match=r"can't listen on no-such-host.invalid:1"):
        await start(listen="no-such-host.invalid:1")


async def test_a_unix_socket_is_its_owners_alone_and_gone_afterwards(tmp_path):
    path = tmp_path / "reward.sock"
    async with serving({"chars": Chars}, listen=f"unix:{path}") as served:
        assert served.server.target == f"unix:{path}"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert await scores_at(served.server.target) == [1, 2]
    assert not path.exists()


async def test_a_socket_that_a_killed_server_left_is_taken_over(tmp_path):
    path = tmp_path / "reward.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    assert path.exists()
    async with serving({"chars": Chars}, listen=f"unix:{path}") as served:
        assert await scores_at(served.server.target) == [1, 2]


async def test_a_socket_on_which_somebody_listens_is_left_alone(tmp_path):
    async with serving({"chars": Chars}, listen=f"unix:{tmp_path}/reward.sock") as served:
        with pytest.raises(ConfigError, match="another server listens there"):
            await start(listen=f"unix:{tmp_path}/reward.sock")
        assert await scores_at(served.server.target) == [1, 2]


async def test_a_file_that_is_no_socket_is_never_removed(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("precious")
    with pytest.raises(ConfigError, match="there is a file of that name, which is no socket"):
        await start(listen=f"unix:{path}")
    assert path.read_text() == "precious"
