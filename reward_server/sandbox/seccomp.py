"""The filter of system calls in the sandbox: a BPF program for the kernel, assembled here.

It is an allow-list (`syscalls.txt`). A deny-list would have to name every dangerous call, those of kernels to come
too; a call that is missing in an allow-list fails with ENOSYS ("this kernel does not have it"), which C libraries and
Python are written to expect. So `ptrace`, `keyctl`, `bpf`, `io_uring_*`, `userfaultfd`, `perf_event_open`, the mount
family, `unshare`, `setns`, `clone3`, `memfd_create`, System V and POSIX IPC and all else are refused by their absence.

Of some calls that programs need, only a part is allowed; `CHECKS` says which. The program in pseudo code:

    if the architecture is another, or the x32 ABI: kill the process
    for each check:   if the call is this one: look at its argument; answer
    for each range of allowed numbers:   if the number lies in it: allow
    ENOSYS
"""

from __future__ import annotations

import errno
import hashlib
import platform
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from reward_server.errors import SandboxUnavailable

Instruction = tuple[int, int, int, int]
"""Code, jump if true, jump if false, constant: `struct sock_filter`. Jumps count instructions to be skipped."""

LOAD, AND, EQUAL, GREATER, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x54, 0x15, 0x25, 0x35, 0x45, 0x06
NUMBER_AT, ARCHITECTURE_AT, ARGUMENTS_AT = 0, 4, 16
"""Offsets in `struct seccomp_data`. Arguments are 8 bytes each; their lower half comes first on both machines."""

KILL, ALLOW, ERRNO = 0x80000000, 0x7FFF0000, 0x00050000
X32_BIT: Final = 0x40000000

NEW_NAMESPACES: Final = 0x7E020000  # CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
AF_UNIX: Final = 1
ANONYMOUS, SHARED, SHARED_VALIDATE, TYPE_MASK, HUGE_PAGES = 0x20, 0x01, 0x03, 0x0F, 0x40000
SET_PIPE_SIZE: Final = 1031
TERMINAL_AND_FILE_QUESTIONS: Final = (0x5401, 0x5413, 0x540F, 0x541B, 0x5421, 0x5450, 0x5451, 0x802C542A)
"""TCGETS, TIOCGWINSZ, TIOCGPGRP, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX, TCGETS2."""
NAMES_AND_DUMPS: Final = (1, 2, 3, 4, 15, 16, 38, 39, 0x53564D41)
"""PR_SET/GET_PDEATHSIG, PR_GET/SET_DUMPABLE, PR_SET/GET_NAME, PR_SET/GET_NO_NEW_PRIVS, PR_SET_VMA."""


@dataclass(frozen=True, slots=True)
class Machine:
    """A kind of processor."""

    audit_architecture: int  # AUDIT_ARCH_*
    column: int  # its numbers' column in syscalls.txt
    has_x32: bool = False


MACHINES: Final = {"x86_64": Machine(0xC000003E, 1, has_x32=True), "aarch64": Machine(0xC00000B7, 2)}


def _load(offset: int) -> Instruction:
    return LOAD, 0, 0, offset


def _argument(index: int) -> Instruction:
    return _load(ARGUMENTS_AT + 8 * index)


def _answer(action: int, error: int = 0) -> Instruction:
    return RETURN, 0, 0, action | error


def _only(argument: int, values: Sequence[int], error: int) -> list[Instruction]:
    """Allows the call if the argument is one of the values."""
    rest = len(values)
    equals = [(EQUAL, rest - at, 0, value) for at, value in enumerate(values)]
    return [_argument(argument), *equals, _answer(ERRNO, error), _answer(ALLOW)]


def _not_with(argument: int, bits: int, error: int) -> list[Instruction]:
    """Allows the call if the argument has none of the bits."""
    return [_argument(argument), (ANY_BIT, 0, 1, bits), _answer(ERRNO, error), _answer(ALLOW)]


def _no_memory_out_of_sight() -> list[Instruction]:
    """Of mmap: shared anonymous memory and huge pages are not in a process's resident size once they are unmapped."""
    return [
        _argument(3),
        (ANY_BIT, 3, 0, HUGE_PAGES),
        (AND, 0, 0, ANONYMOUS | TYPE_MASK),
        (EQUAL, 1, 0, ANONYMOUS | SHARED),
        (EQUAL, 0, 1, ANONYMOUS | SHARED_VALIDATE),
        _answer(ERRNO, errno.EPERM),
        _answer(ALLOW),
    ]


CHECKS: Final = {
    "clone": _not_with(0, NEW_NAMESPACES, errno.EPERM),
    "socket": _only(0, [AF_UNIX], errno.EAFNOSUPPORT),
    "socketpair": _only(0, [AF_UNIX], errno.EAFNOSUPPORT),
    "ioctl": _only(1, TERMINAL_AND_FILE_QUESTIONS, errno.ENOTTY),
    "prctl": _only(0, NAMES_AND_DUMPS, errno.EPERM),
    "prlimit64": _only(0, [0], errno.EPERM),  # its own limits, not those of init, which has the same user
    "mmap": _no_memory_out_of_sight(),
    "fcntl": [_argument(1), (EQUAL, 0, 1, SET_PIPE_SIZE), _answer(ERRNO, errno.EPERM), _answer(ALLOW)],
}


def numbers(machine: Machine) -> dict[str, int]:
    """Returns the allowed calls' numbers by name."""
    lines = Path(__file__).with_name("syscalls.txt").read_text(encoding="utf-8").splitlines()
    rows = [line.split() for line in lines if line and not line.startswith("#")]
    return {row[0]: int(row[machine.column]) for row in rows if row[machine.column] != "-"}


def ranges(members: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yields the runs of consecutive numbers, as first and last."""
    first = last = None
    for number in sorted(members):
        if first is None or last is None or number != last + 1:
            if first is not None and last is not None:
                yield first, last
            first = number
        last = number
    if first is not None and last is not None:
        yield first, last


def assemble(machine: Machine) -> list[Instruction]:
    """Returns the filter's instructions."""
    number_of = numbers(machine)
    code = [_load(ARCHITECTURE_AT), (EQUAL, 1, 0, machine.audit_architecture), _answer(KILL), _load(NUMBER_AT)]
    if machine.has_x32:
        code += [(AT_LEAST, 0, 1, X32_BIT), _answer(KILL)]
    for name, check in CHECKS.items():
        code += [(EQUAL, 0, len(check), number_of[name]), *check]
    plainly_allowed = [number for name, number in number_of.items() if name not in CHECKS]
    for first, last in ranges(plainly_allowed):
        code += [(GREATER, 2, 0, last), (AT_LEAST, 0, 1, first), _answer(ALLOW)]
    return [*code, _answer(ERRNO, errno.ENOSYS)]


def program(machine_name: str | None = None) -> bytes:
    """Returns the filter as the kernel takes it. Raises `SandboxUnavailable` on a processor it is not written for."""
    name = machine_name or platform.machine()
    if name not in MACHINES:
        raise SandboxUnavailable(f"the sandbox has no filter of system calls for {name}: run it on x86_64 or aarch64")
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in assemble(MACHINES[name]))


def digest(rules: bytes) -> str:
    """Returns a short hash of the filter, for a reward's version."""
    return hashlib.sha256(rules).hexdigest()[:16]
