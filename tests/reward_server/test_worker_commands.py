"""What the server tells its fork server arrives, in order, however slowly that reads."""

import asyncio
import errno
import json
import os
import socket

import pytest
from waiting import until

from reward_server.workers.processes import ForkServer

COUNT = 350  # with a kill each, far more than a socket's buffer holds


@pytest.fixture
async def ends():
    """Returns the server's handle and the other end of its control socket, which nobody reads."""
    ours, theirs = socket.socketpair()
    ours.settimeout(0)
    forks = ForkServer(None, ours, lambda *_: None, lambda: None)  # no process is needed here
    with ours, theirs:
        yield forks, theirs
        forks._leave()


def line():
    ours, theirs = socket.socketpair()
    ours.close()
    return theirs


async def read_commands(control, count):
    """Returns so many commands, and how many sockets came with them."""
    control.settimeout(0)
    data, fd_count = b"", 0
    while data.count(b"\n") < count:
        await until(lambda: readable(control))
        piece, fds, _, _ = socket.recv_fds(control, 65_536, 16)
        data += piece
        fd_count += len(fds)
        for fd in fds:
            os.close(fd)
    return [json.loads(text) for text in data.splitlines()], fd_count


def readable(control):
    try:
        return control.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False


async def test_no_command_is_lost_when_the_socket_is_full(ends):
    forks, control = ends
    lines = [line() for _ in range(COUNT)]
    for number, each in enumerate(lines):
        forks.start(number, each)
        forks.kill(number)
    assert lines[-1].fileno() >= 0  # not sent: there was no room
    commands, fd_count = await read_commands(control, 2 * COUNT)
    assert commands == [{what: number} for number in range(COUNT) for what in ("start", "kill")]
    assert fd_count == COUNT
    assert all(each.fileno() == -1 for each in lines)


async def test_a_command_is_sent_again_when_the_kernel_has_no_memory_for_it(ends, monkeypatch):
    forks, control = ends
    send_fds, failures = socket.send_fds, [OSError(errno.ENOBUFS, "no room"), OSError(errno.ETOOMANYREFS, "too many")]

    def failing_at_first(*args):
        if failures:
            raise failures.pop()
        return send_fds(*args)

    monkeypatch.setattr(socket, "send_fds", failing_at_first)
    forks.start(1, line())
    forks.kill(1)
    assert (await read_commands(control, 2))[0] == [{"start": 1}, {"kill": 1}]


async def test_what_waits_is_given_up_when_the_fork_server_is_gone(ends):
    forks, control = ends
    lines = [line() for _ in range(COUNT)]
    for number, each in enumerate(lines):
        forks.start(number, each)
    control.close()
    await until(lambda: lines[-1].fileno() == -1)
    forks.kill(1)
    await asyncio.sleep(0)
    assert not forks._outgoing
