"""What to do where a sandbox does not start."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

_SWITCHES: Final = (
    ("kernel/apparmor_restrict_unprivileged_userns", "1", "kernel.apparmor_restrict_unprivileged_userns=0"),
    ("kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone=1"),
    ("user/max_user_namespaces", "0", "user.max_user_namespaces=10000"),
)
"""Below /proc/sys: what forbids an ordinary user namespaces, its forbidding value, and what mends it."""

_OF_NAMESPACES: Final = ("namespace", "uid map", "No space left", "Operation not permitted", "Permission denied")
_OF_PROC: Final = "mount proc"
_OF_SETUID: Final = "setuid mode"
_OF_AGE: Final = "Unknown option"


def explain(said: str) -> str:
    """Returns why bubblewrap does not start a sandbox and what mends it, from what it said."""
    if _OF_AGE in said:
        return f"bubblewrap is too old ({said}): install 0.5 or newer, or pip install 'grpo-reward-service[sandbox]'"
    if _OF_SETUID in said:
        return f"bwrap is set-user-id here, and then keeps too much to itself ({said}): chmod u-s it, or remove it"
    if _OF_PROC in said:
        return (
            f"a process list of its own can't be had here ({said}): containers mask parts of /proc; start Docker with "
            "--security-opt systempaths=unconfined, in Kubernetes set procMount: Unmasked"
        )
    if any(word in said for word in _OF_NAMESPACES):
        switches = list(_switches())
        where = " and ".join(switches) or (
            "in a container: Docker with --security-opt seccomp=unconfined --security-opt apparmor=unconfined "
            "--security-opt systempaths=unconfined; or run the server as root with CAP_SYS_ADMIN"
        )
        return f"namespaces are forbidden here ({said}): {where}; or use the sandbox `sandboxfusion`"
    return f"the sandbox does not start: {said}"


def _switches() -> Iterator[str]:
    for path, forbidding, remedy in _SWITCHES:
        try:
            value = Path("/proc/sys", path).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if value == forbidding:
            yield f"{path.replace('/', '.')}={value}: an administrator allows it with `sysctl -w {remedy}`"
