"""How a process gives up what it must not have: its view of files and processes, its limits, its privileges."""

from __future__ import annotations

import ctypes
import os
import resource
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

NEW_MOUNTS: Final = 0x00020000
NEW_PROCESSES: Final = 0x20000000
READ_ONLY, NO_SUID, NO_DEVICES, NO_PROGRAMS, BIND, RECURSIVE, PRIVATE = 1, 2, 4, 8, 4096, 16384, 1 << 18
SET_DUMPABLE, SET_SECCOMP, FILTER, CAPABILITIES_V3 = 4, 22, 2, 0x20080522

EXTRA_ADDRESSES: Final = 512 << 20
"""Libraries, thread stacks and arenas are reserved and hardly used: the watch counts what is used."""

MEBIBYTE: Final = 1 << 20
BOX: Final = "/box"
WORK: Final = f"{BOX}/work"

_libc = ctypes.CDLL(None, use_errno=True)


def checked(name: str, *args: Any) -> None:
    """Calls a function of the C library. Raises `OSError` if it fails."""
    if getattr(_libc, name)(*args) < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{name}: {os.strerror(error)}")


def mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    """Mounts a file system."""
    encoded = [None if text is None else text.encode() for text in (source, target, kind)]
    checked("mount", *encoded, ctypes.c_ulong(flags), None if data is None else data.encode())


def unshare(namespaces: int) -> None:
    """Makes new namespaces: of processes for the next child, of mounts for the caller."""
    checked("unshare", namespaces)


def return_to(processes: int) -> None:
    """Lets the next child be born in this namespace of processes, a file descriptor of /proc/self/ns/pid."""
    checked("setns", processes, NEW_PROCESSES)


def make_files(files_mb: float) -> None:
    """Gives the caller a file system of its own, limited in size, and a /proc of its own namespace."""
    plain = NO_SUID | NO_DEVICES | NO_PROGRAMS
    unshare(NEW_MOUNTS)
    mount("none", "/", None, RECURSIVE | PRIVATE)
    size = f"size={int(files_mb * MEBIBYTE)},nr_inodes=8192"
    mount("box", BOX, "tmpfs", plain, f"{size},mode=0755")
    for name, place in (("work", None), ("tmp", "/tmp"), ("shm", "/dev/shm")):  # noqa: S108  # of the sandbox
        folder = Path(BOX, name)
        folder.mkdir()
        folder.chmod(0o1777)
        if place:
            mount(str(folder), place, None, BIND)
    try:
        mount("proc", "/proc", "proc", plain | READ_ONLY, "subset=pid")
    except OSError:  # Linux before 5.8
        mount("proc", "/proc", "proc", plain | READ_ONLY)
    os.chdir(WORK)


def limit(limits: Mapping[str, float], own_processes: int) -> None:
    """Sets the limits that the kernel keeps for each process or each user."""
    own_bytes = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    for what, most in (
        (resource.RLIMIT_AS, own_bytes + 2 * limits["memory_mb"] * MEBIBYTE + EXTRA_ADDRESSES),
        (resource.RLIMIT_FSIZE, limits["files_mb"] * MEBIBYTE),
        (resource.RLIMIT_NPROC, limits["processes"] + own_processes),
        (resource.RLIMIT_CPU, limits["cpu_s"] + 2),  # the watch is nearer; this holds should it be late
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_MEMLOCK, 65_536),
        (resource.RLIMIT_SIGPENDING, 256),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        allowed = resource.getrlimit(what)[1]
        value = int(most) if allowed == resource.RLIM_INFINITY else min(int(most), allowed)
        resource.setrlimit(what, (value, value))


def set_dumpable(*, dumpable: bool) -> None:
    """Lets processes of the same user look into this one, or not."""
    checked("prctl", SET_DUMPABLE, int(dumpable), 0, 0, 0)


def give_up_privileges(uid: int, rules: bytes) -> None:
    """Becomes an ordinary user with a filter of system calls, for good. Raises `OSError` if anything of it fails."""
    if os.geteuid() != uid:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    checked("capset", struct.pack("=Ii", CAPABILITIES_V3, 0), bytes(24))
    set_dumpable(dumpable=False)
    code = ctypes.create_string_buffer(rules, len(rules))
    listing = struct.pack("@HP", len(rules) // 8, ctypes.addressof(code))
    checked("prctl", SET_SECCOMP, FILTER, ctypes.c_char_p(listing), 0, 0)
