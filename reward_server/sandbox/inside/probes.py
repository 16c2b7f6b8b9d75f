"""Attacks that must fail in the sandbox: prints a line with BREACH for each that does not."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import socket
import sys
from collections.abc import Callable
from pathlib import Path

libc = ctypes.CDLL(None, use_errno=True)

NUMBERS = {  # on x86_64 and aarch64
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "bpf": (321, 280),
    "io_uring_setup": (425, 425),
    "userfaultfd": (323, 282),
    "perf_event_open": (298, 241),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "fsopen": (430, 430),
    "pivot_root": (155, 41),
    "clone3": (435, 435),
    "memfd_create": (319, 279),
    "open_by_handle_at": (304, 265),
    "init_module": (105, 105) if platform.machine() != "x86_64" else (175, 105),
    "kexec_load": (246, 104),
    "personality": (135, 92),
    "shmget": (29, 194),
}


def tell(*words: object) -> None:
    """Tells the proof."""
    print(*words)  # noqa: T201


def succeeds(what: str, attack: Callable[[], object]) -> None:
    """Tries an attack, and says so if nothing refuses it."""
    try:
        attack()
    except (OSError, KeyError):
        return
    tell("BREACH:", what)


def writes(path: str) -> Callable[[], object]:
    """Returns an attack that makes a file."""
    return lambda: Path(path, "breach").write_text("breach", encoding="ascii")


def try_calls() -> None:
    """Tries system calls that must not be there."""
    for call, both in NUMBERS.items():
        number = both[0] if platform.machine() == "x86_64" else both[1]
        ctypes.set_errno(0)
        if libc.syscall(number, 0, 0, 0, 0, 0, 0) >= 0 or ctypes.get_errno() != errno.ENOSYS:
            tell("BREACH:", call, "is not refused")


def look_at_privileges() -> None:
    """Says what privileges are left."""
    with open("/proc/self/status", encoding="ascii") as file:  # noqa: PTH123
        facts = dict(line.split(":\t", 1) for line in file if ":\t" in line)
    for name, held in ("CapEff", 0), ("CapPrm", 0), ("CapAmb", 0), ("NoNewPrivs", 1), ("Seccomp", 2):
        if int(facts[name], 16) != held:
            tell("BREACH:", name, "is", facts[name])


def main() -> None:
    """Tries every attack; standard input says what is where."""
    secret, variable, port, abstract = sys.stdin.read().splitlines()
    succeeds("a file of the host is read", Path(secret).read_bytes)
    succeeds("the host's users are read", Path("/etc/passwd").read_bytes)
    succeeds("the server's environment is seen", lambda: os.environ[variable])
    succeeds("a port of the host is reached", lambda: socket.create_connection(("127.0.0.1", int(port)), 1))
    for family in "AF_INET", "AF_INET6", "AF_NETLINK", "AF_PACKET", "AF_VSOCK", "AF_ALG":
        if hasattr(socket, family):
            succeeds(f"a socket of {family} is made", lambda name=family: socket.socket(getattr(socket, name)))  # type: ignore[misc]
    succeeds("a socket of the host is reached", lambda: socket.socket(socket.AF_UNIX).connect(f"\0{abstract}"))
    for folder in "/", "/usr", "/etc", "/dev", "/proc", "/harness", sys.prefix:
        succeeds(f"{folder} is written to", writes(folder))
    succeeds("the memory of another process is read", lambda: open("/proc/1/mem", "rb"))  # noqa: PTH123, SIM115
    succeeds("it becomes root", lambda: os.setuid(0))
    try_calls()
    look_at_privileges()
    size = os.statvfs(".").f_blocks * os.statvfs(".").f_frsize
    if size > 4 << 20:
        tell("BREACH: files may take", size)
    for number in range(3, 100):
        try:
            os.fstat(number)
        except OSError:
            continue
        tell("BREACH: an open file of the server,", number)
    tell("it works")


if __name__ == "__main__":
    main()
