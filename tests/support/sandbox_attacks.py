"""Attacks on a sandbox: programs that print BREACH where nothing stops them. Each tries one thing.

They read what the host laid out for them as JSON from stdin: `facts`. Each is harmless where it succeeds.
"""

from __future__ import annotations

from dataclasses import dataclass

from reward_server.sandbox.base import Limits

LIMITS = Limits(cpu_s=4, wall_s=6, memory_mb=64, processes=16, output_kb=64, files_mb=4)

PRELUDE = """
import atexit, ctypes, fcntl, json, mmap, os, platform, signal, socket, stat, struct, sys, time
facts = json.loads(sys.stdin.read() or "{}")
libc = ctypes.CDLL(None, use_errno=True)
def breach(*what): print("BREACH", *what, flush=True)
def syscall(x86_64, aarch64, *args):
    result = libc.syscall(x86_64 if platform.machine() == "x86_64" else aarch64, *args)
    if result < 0: raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
children = []
def sleeper():
    children.append(os.fork())
    if children[-1] == 0:
        time.sleep(2)
        os._exit(0)
    return children[-1]
@atexit.register
def kill_children():
    for child in children: os.kill(child, signal.SIGKILL)
"""


@dataclass(frozen=True)
class Attack:
    """A program, and what it needs to succeed where nothing stops it."""

    source: str
    root: bool = False  # succeeds outside for root only
    if_host_can: str = ""  # what a host may lack, so that it fails outside too


FILES = {
    "read a file of the host": Attack("open(facts['file']).read(); breach()"),
    "read a private file of the host": Attack("open(facts['private']).read(); breach()"),
    "list the home": Attack(
        "len(os.listdir(facts['home'])) >= facts['home_count'] > 1 and breach()", if_host_can="home with files"
    ),
    "read the shadow file": Attack("open('/etc/shadow').read(); breach()", root=True),
    "read the users of the host": Attack("open('/etc/passwd').read(); breach()"),
    "read the server's folder": Attack("open(facts['server_file']).read(); breach()"),
    "learn the host's name": Attack("socket.gethostname() == facts['hostname'] and breach()"),
    "see the server's environment": Attack("facts['variable'] in os.environ and breach()"),
    "find an open file of the server": Attack("os.fstat(facts['descriptor']); breach()"),
    "write to the root": Attack("open('/breach', 'w').close(); os.unlink('/breach'); breach()", root=True),
    "write to /usr": Attack("open('/usr/breach', 'w').close(); os.unlink('/usr/breach'); breach()", root=True),
    "write to the standard library": Attack(
        "name = os.path.dirname(os.__file__) + '/breach_.py'; open(name, 'w').close(); os.unlink(name); breach()",
        root=True,
    ),
    "write to a folder of the host": Attack("open(facts['folder'] + '/breach', 'w').close(); breach()"),
    "make a device": Attack(
        "os.mknod(facts['folder'] + '/d', stat.S_IFBLK | 0o600, os.makedev(7, 0)); breach()", root=True
    ),
    "make a device of its own": Attack("os.mknod('own', stat.S_IFCHR | 0o600, os.makedev(1, 5)); breach()", root=True),
    "open a file by its handle": Attack(
        """
handle = ctypes.create_string_buffer(struct.pack('Ii', 128, 0) + bytes(128))
syscall(303, 264, -100, facts['folder'].encode(), handle, ctypes.byref(ctypes.c_int()), 0)
os.close(syscall(304, 265, os.open(facts['folder'], os.O_RDONLY), handle, os.O_RDONLY)); breach()""",
        root=True,
        if_host_can="file handles",
    ),
    "fill /tmp": Attack(
        """
for number in range(8):
    with open(f"/tmp/breach{number}", "wb") as file: file.write(bytes(1 << 20))
for number in range(8): os.unlink(f"/tmp/breach{number}")
breach()"""
    ),
    "fill /dev/shm": Attack(
        """
for number in range(8):
    with open(f"/dev/shm/breach{number}", "wb") as file: file.write(bytes(1 << 20))
for number in range(8): os.unlink(f"/dev/shm/breach{number}")
breach()"""
    ),
    "fill the working directory": Attack(
        "for number in range(8): open(f'b{number}', 'wb').write(bytes(1 << 20))\nbreach()"
    ),
    "make very many files": Attack(
        "for number in range(9000): open(f'b{number}', 'w').close()\nfor number in range(9000): os.unlink(f'b{number}')\nbreach()"
    ),
    "start a program from a folder of its own": Attack(
        "open('b', 'w').write('#!/bin/sh\\nexit 0'); os.chmod('b', 0o755); import subprocess; subprocess.run(['./b']); breach()"
    ),
}

NETWORK = {
    "reach a port of the host": Attack("socket.create_connection(('127.0.0.1', facts['port']), 2); breach()"),
    "reach a port of the host over IPv6": Attack(
        "socket.create_connection(('::ffff:127.0.0.1', facts['port']), 2); breach()", if_host_can="IPv6"
    ),
    "reach another machine": Attack(
        "s = socket.socket(); s.setblocking(False); s.connect_ex(('192.0.2.1', 80)) == 115 and breach()",
        if_host_can="a route to other machines",
    ),
    "ask a name server": Attack("socket.socket(type=socket.SOCK_DGRAM).sendto(b'?', ('127.0.0.1', 53)); breach()"),
    "make a raw socket": Attack("socket.socket(socket.AF_INET, socket.SOCK_RAW, 1); breach()", root=True),
    "make a packet socket": Attack(
        "socket.socket(socket.AF_PACKET, socket.SOCK_RAW); breach()", root=True, if_host_can="packet sockets"
    ),
    "make a netlink socket": Attack("socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0); breach()"),
    "make a socket to the hypervisor": Attack(
        "socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM); breach()", if_host_can="vsock"
    ),
    "use the kernel's cryptography": Attack(
        "socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET, 0); breach()", if_host_can="AF_ALG"
    ),
    "reach an abstract socket of the host": Attack(
        "socket.socket(socket.AF_UNIX).connect('\\0' + facts['abstract']); breach()"
    ),
    "reach a named socket of the host": Attack("socket.socket(socket.AF_UNIX).connect(facts['socket']); breach()"),
}

PROCESSES = {
    "see processes of the host": Attack("os.stat(f\"/proc/{facts['server_pid']}/stat\"); breach()"),
    "read the environment of its parent": Attack("open(f'/proc/{os.getppid()}/environ', 'rb').read(); breach()"),
    "open the memory of its parent": Attack("open(f'/proc/{os.getppid()}/mem', 'rb'); breach()", root=True),
    "list the open files of its parent": Attack("os.listdir(f'/proc/{os.getppid()}/fd'); breach()", root=True),
    "signal other processes": Attack("os.kill(-1, 0); breach()"),
    "signal the server": Attack("os.kill(facts['server_pid'], 0); breach()"),
    "trace a process": Attack("syscall(101, 117, 16, sleeper(), 0, 0); breach()", if_host_can="ptrace"),
    "read the memory of a process": Attack(
        """
held = ctypes.create_string_buffer(8)
part = struct.pack('PN', ctypes.addressof(held), 8)
syscall(310, 270, sleeper(), part, 1, part, 1, 0); breach()""",
        if_host_can="ptrace",
    ),
    "take an open file of a process": Attack(
        "syscall(438, 438, os.pidfd_open(sleeper()), 0, 0); breach()", if_host_can="pidfd_getfd"
    ),
    "raise its own limits": Attack(
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (9999, 9999)); breach()", root=True
    ),
    "limit its parent": Attack(
        "import resource; resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE, resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE))\n"
        "breach()"
    ),
    "be more important": Attack("os.nice(-10); breach()", root=True),
    "run in real time": Attack("os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)); breach()", root=True),
    "become root": Attack("os.setresuid(0, 0, 0); breach()", root=True),
    "gain from set-user-id programs": Attack("libc.prctl(39, 0, 0, 0, 0) == 0 and breach()"),
    "start many processes": Attack("for _ in range(100): sleeper()\nbreach()"),
    "start many threads": Attack(
        "import threading\nfor _ in range(100): threading.Thread(target=time.sleep, args=(2,), daemon=True).start()\nbreach()"
    ),
    "take much memory": Attack("held = bytearray(b'x') * (200 << 20); breach()"),
    "take much memory in many small parts": Attack("held = [bytearray(1 << 16) for _ in range(3200)]; breach()"),
    "take much memory with many processes": Attack(
        """
for _ in range(8):
    if os.fork() == 0:
        held = bytearray(b'x') * (24 << 20)
        time.sleep(1)
        os._exit(0)
for _ in range(8): os.wait()
breach()"""
    ),
}
