"""The filter of system calls is a program that the kernel takes, and it allows what is listed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_server.errors import SandboxUnavailable
from reward_server.sandbox.seccomp import (
    ALLOW,
    AND,
    ANY_BIT,
    AT_LEAST,
    CHECKS,
    EQUAL,
    GREATER,
    KILL,
    LOAD,
    MACHINES,
    RETURN,
    X32_BIT,
    assemble,
    numbers,
    program,
    ranges,
)

EPERM, ENOSYS, EAFNOSUPPORT = (0x50000 | number for number in (1, 38, 97))


def answer(machine: str, number: int, *args: int, architecture: int | None = None) -> int:
    """Runs the filter as the kernel would. Returns its answer to a system call."""
    found = architecture or MACHINES[machine].audit_architecture
    words = {0: number, 4: found} | {16 + 8 * at: arg for at, arg in enumerate((*args, 0, 0, 0, 0, 0, 0)[:6])}
    code, at, held = assemble(MACHINES[machine]), 0, 0
    while True:
        operation, if_true, if_false, constant = code[at]
        at += 1
        if operation == LOAD:
            held = words[constant]
        elif operation == AND:
            held &= constant
        elif operation == RETURN:
            return constant
        else:
            holds = {
                EQUAL: held == constant,
                GREATER: held > constant,
                AT_LEAST: held >= constant,
                ANY_BIT: bool(held & constant),
            }[operation]
            at += if_true if holds else if_false


@pytest.mark.parametrize("machine", MACHINES)
@given(number=st.integers(0, 600))
def test_exactly_the_listed_calls_are_allowed(machine: str, number: int) -> None:
    listed = {value for name, value in numbers(MACHINES[machine]).items() if name not in CHECKS}
    checked = {numbers(MACHINES[machine])[name] for name in CHECKS}
    if number not in checked:
        assert answer(machine, number) == (ALLOW if number in listed else ENOSYS)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    ("name", "args", "expected"),
    [
        ("clone", [0x01200011], ALLOW),
        ("clone", [0x10000011], EPERM),
        ("clone", [0x00020011], EPERM),
        ("socket", [1], ALLOW),
        ("socket", [2], EAFNOSUPPORT),
        ("socket", [40], EAFNOSUPPORT),
        ("socketpair", [1], ALLOW),
        ("ioctl", [0, 0x5401], ALLOW),
        ("ioctl", [0, 0x5412], 0x50000 | 25),
        ("prctl", [15], ALLOW),
        ("prctl", [22], EPERM),
        ("prlimit64", [0], ALLOW),
        ("prlimit64", [1], EPERM),
        ("mmap", [0, 0, 0, 0x22], ALLOW),
        ("mmap", [0, 0, 0, 0x01], ALLOW),
        ("mmap", [0, 0, 0, 0x21], EPERM),
        ("mmap", [0, 0, 0, 0x23], EPERM),
        ("mmap", [0, 0, 0, 0x40022], EPERM),
        ("fcntl", [0, 3], ALLOW),
        ("fcntl", [0, 1031], EPERM),
    ],
)
def test_of_some_calls_a_part_is_allowed(machine: str, name: str, args: list[int], expected: int) -> None:
    assert answer(machine, numbers(MACHINES[machine])[name], *args) == expected


def test_a_program_of_another_architecture_is_killed() -> None:
    assert answer("x86_64", 39, architecture=0x40000003) == KILL
    assert answer("aarch64", 172, architecture=0x40000028) == KILL
    assert answer("x86_64", X32_BIT | 39) == KILL


def test_a_processor_without_a_filter_has_no_sandbox() -> None:
    with pytest.raises(SandboxUnavailable, match="no filter of system calls for vax"):
        program("vax")


@given(st.sets(st.integers(0, 500)))
def test_ranges_hold_what_was_given_and_nothing_else(members: set[int]) -> None:
    found = [number for first, last in ranges(members) for number in range(first, last + 1)]
    assert found == sorted(members)


@pytest.mark.parametrize("machine", MACHINES)
def test_each_jump_of_the_filter_stays_in_it(machine: str) -> None:
    code = assemble(MACHINES[machine])
    assert len(code) < 4096
    assert all(
        at + 1 + max(if_true, if_false) < len(code) for at, (op, if_true, if_false, _) in enumerate(code) if op & 7 == 5
    )
    assert max(max(if_true, if_false) for _, if_true, if_false, _ in code) < 256
