"""What programs try in the sandbox, each thing alone, and that each would succeed without it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator

import pytest
from sandbox_attacks import FILES, NETWORK, PRELUDE, PROCESSES, Attack
from sandbox_host import VARIABLE, Host, host_in, run_one, started
from sandbox_kernel_attacks import KERNEL

from reward_server.sandbox.bubblewrap import Bubblewrap

ATTACKS = FILES | NETWORK | PROCESSES | KERNEL


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with pytest.MonkeyPatch.context() as patched:
        folder = tmp_path_factory.mktemp("host")
        patched.chdir(folder)
        patched.setenv(VARIABLE, "secret")
        with host_in(folder) as laid_out:
            yield laid_out


@pytest.fixture
async def sandbox() -> AsyncIterator[Bubblewrap]:
    made = await started()
    if isinstance(made, str):
        pytest.skip(made)
    yield made
    await made.close()


@pytest.mark.parametrize("name", ATTACKS)
async def test_a_program_in_the_sandbox_cannot(name: str, host: Host, sandbox: Bubblewrap) -> None:
    result = await run_one(sandbox, PRELUDE + ATTACKS[name].source, host.facts)
    assert "BREACH" not in result.stdout, result
    assert result.exit_code != 0 or "and breach()" in ATTACKS[name].source, f"it was not refused: {result}"


@pytest.mark.parametrize("name", ATTACKS)
def test_a_program_without_the_sandbox_can(name: str, host: Host) -> None:
    attack = ATTACKS[name]
    if attack.root and os.geteuid() != 0:
        pytest.skip("for root only")
    ended = host.run_outside(attack.source)
    if "BREACH" not in ended.stdout and attack.if_host_can:
        pytest.skip(f"this host has no {attack.if_host_can}: {ended.stderr.strip()[-80:]}")
    assert "BREACH" in ended.stdout, ended


async def test_the_attacks_themselves_run_in_the_sandbox(host: Host, sandbox: Bubblewrap) -> None:
    result = await run_one(sandbox, PRELUDE + "facts['port'] and breach()", host.facts)
    assert "BREACH" in result.stdout, result


def test_an_attack_is_harmful_only_where_it_says_so() -> None:
    assert len(ATTACKS) > 30
    assert all(isinstance(attack, Attack) and "breach()" in attack.source for attack in ATTACKS.values())
