"""The allocator's setting is taken by glibc, and is made before grpc is loaded."""

import subprocess
import sys

import pytest

from reward_server import memory


@pytest.mark.skipif(sys.platform != "linux", reason="a setting of glibc")
def test_glibc_takes_the_setting():
    assert memory.keep_heap_padded() is True


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_elsewhere_nothing_is_done(monkeypatch, platform):
    monkeypatch.setattr(sys, "platform", platform)
    assert memory.keep_heap_padded() is False


def test_a_c_library_without_it_is_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _name: object())
    assert memory.keep_heap_padded() is False


def test_the_command_sets_it_before_grpc_is_loaded():
    script = (
        "import sys; from reward_server import memory\n"
        "memory.keep_heap_padded = lambda: print('grpc' in sys.modules)\n"
        "sys.argv = ['reward-server', '--version']\n"
        "from reward_server.cli import main; main()"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert ended.stdout.splitlines()[0] == "False"
