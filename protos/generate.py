"""Regenerates the Python code beside `reward.proto`, or checks that it is what the compiler makes of it.

Run it with the environment that `make protos` makes: the compiler is an older grpcio-tools, so that its code runs
under protobuf 6 and 7, and that cannot share an environment with the newest protobuf.

    python protos/generate.py          # writes reward_pb2.py, reward_pb2.pyi, reward_pb2_grpc.py
    python protos/generate.py --check  # exit status 1 where the committed files differ
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTO = "protos/reward/v1/reward.proto"


def compile_into(target: Path) -> None:
    """Runs the compiler on the contract, writing below `target`."""
    arguments = ["protoc", "-I", str(ROOT), PROTO]
    arguments += [f"--python_out={target}", f"--mypy_out={target}", f"--grpc_python_out={target}"]
    # The plug-in of this environment, whatever PATH says.
    arguments += [f"--plugin=protoc-gen-mypy={Path(sys.executable).parent / 'protoc-gen-mypy'}"]
    if protoc.main(arguments) != 0:
        raise SystemExit(f"the compiler refused {PROTO}")


def differing(fresh: Path) -> list[str]:
    """Names the generated files that are not, byte for byte, what is committed."""
    names = sorted(path.relative_to(fresh) for path in fresh.rglob("*") if path.is_file())
    return [
        str(name)
        for name in names
        if not (ROOT / name).is_file() or (ROOT / name).read_bytes() != (fresh / name).read_bytes()
    ]


def main() -> None:
    """Writes or, with --check, compares."""
    if sys.argv[1:] not in ([], ["--check"]):
        raise SystemExit(__doc__)
    if not sys.argv[1:]:
        compile_into(ROOT)
        return
    with tempfile.TemporaryDirectory() as folder:
        compile_into(Path(folder))
        stale = differing(Path(folder))
    if stale:
        raise SystemExit(f"not what {PROTO} compiles to: {', '.join(stale)}. Run `make protos` and commit the result.")
    sys.stdout.write("the generated code is up to date\n")


if __name__ == "__main__":
    main()
