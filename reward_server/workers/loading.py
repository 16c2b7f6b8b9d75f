"""Finds a person's function in a worker process, and says what is wrong where it cannot be had.

Standard library only: worker processes import this.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import importlib
import inspect
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from reward_server.workers import sources
from reward_server.workers.explaining import Explained, explain
from reward_server.workers.imports import Folders, places

Function = Callable[..., Any]

CHANGED: Final = "has changed since the server read it: restart the server to use what it is now"
"""How the message ends with which a source is refused that is not the one the server started with."""

LIBRARIES: Final = {Path(sysconfig.get_path(name)).name for name in ("stdlib", "platlib")} | {"dist-packages"}
"""Names of folders in which packages of many people lie side by side."""


@dataclass(frozen=True, slots=True)
class Target:
    """A function by name: in a file (`is_file`, `source` is its path) or in a module (`source` is its name)."""

    source: str
    is_file: bool
    name: str  # may be dotted: an attribute of an object
    folder: str  # first on `sys.path`: modules beside the function
    sha256: str = ""  # what its source must be; empty: whatever it is
    root: str = ""  # the folder of the modules that it imports besides
    modules: tuple[tuple[str, str], ...] = ()  # those modules: path under the root, SHA-256 that it must have


def load(target: Target) -> Function:
    """Returns the function, imported once per worker.

    Raises `Explained` where it cannot be imported, is not there, cannot be called, or its source is not the expected.
    """
    return _load(target)[0]


def prepare(target: Target) -> None:
    """Imports the function, so that the time it takes is not taken for the function's own."""
    load(target)


def describe(target: Target) -> dict[str, Any]:
    """Returns, as plain data, what the server must know of a function.

    `sha256` of its source, `root` and `modules` as in `Target`, `foreign` (names of the modules from elsewhere that it
    imports), `doc` (first line), `parameters`: (name, kind as `inspect` names it, has a default).
    """
    function, sha256 = _load(target)
    root, own = _own_sources(target)
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError) as error:
        raise Explained(f"Python cannot read the signature of {target.name!r}: wrap it in a function") from error
    parameters = [
        (parameter.name, parameter.kind.name, parameter.default is not parameter.empty)
        for parameter in signature.parameters.values()
    ]
    doc = (inspect.getdoc(function) or "").partition("\n")[0]
    return {
        "sha256": sha256,
        "root": str(root),
        "modules": tuple(own.files.items()),
        "foreign": own.foreign,
        "doc": doc,
        "parameters": parameters,
    }


def _own_sources(target: Target) -> tuple[Path, sources.Sources]:
    """Returns what the function's module imports, and the folder in which that lies."""
    if target.is_file:
        return Path(target.folder), sources.collect(Path(target.source), Path(target.folder))
    top = target.source.partition(".")[0]
    root = next(places(sys.modules[top]), Path(target.folder))
    file = Path(getattr(sys.modules[target.source], "__file__", None) or "")
    if not file.is_relative_to(root):  # built into Python itself
        return root, sources.Sources({}, [])
    own = sources.collect(file, root, package=top if root.name in LIBRARIES else "")
    return root, sources.Sources(own.files, sorted({*own.foreign, top} - sys.stdlib_module_names))


@functools.cache
def _folders() -> Folders:
    """Returns this worker's folders, made when its first function is loaded."""
    return Folders()


def _load(target: Target) -> tuple[Function, str]:
    _folders().enter(target.folder)
    return _load_known(target) if target.sha256 else _load_now(target)


def _load_now(target: Target) -> tuple[Function, str]:
    for path, expected in target.modules:
        if sources.sha256(file := Path(target.root, path)) != expected:
            raise _changed(str(file))
    module, sha256 = _module_of_file(target) if target.is_file else _module_by_name(target.source)
    if target.sha256 not in ("", sha256):
        raise _changed(target.source)
    return _find(module, target), sha256


_load_known = functools.cache(_load_now)


def _changed(source: str) -> Explained:
    return Explained(f"{source} {CHANGED}")


_file_modules: dict[tuple[str, str], ModuleType] = {}  # by path and hash: functions of one file share what it holds


def _module_of_file(target: Target) -> tuple[ModuleType, str]:
    path = Path(target.source)
    known = _file_modules.get((target.source, target.sha256))
    if known is not None:
        return known, target.sha256
    try:
        text = path.read_bytes()
    except FileNotFoundError as error:
        raise Explained(f"there is no file {path}") from error
    except OSError as error:
        raise Explained(f"{path} cannot be read: {error.strerror}") from error
    sha256 = hashlib.sha256(text).hexdigest()
    if target.sha256 not in ("", sha256):
        return ModuleType(path.stem), sha256  # the caller refuses it; not to be run
    if (target.source, sha256) not in _file_modules:
        _file_modules[target.source, sha256] = _run_file(path, text, sha256)
    return _file_modules[target.source, sha256], sha256


def _run_file(path: Path, text: bytes, sha256: str) -> ModuleType:
    """Imports exactly the text that was hashed. Its module's name is its own, so that it hides no other module."""
    module = ModuleType(f"{path.stem}_{sha256[:12]}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module
    try:
        exec(compile(text, path, "exec"), module.__dict__)  # noqa: S102  # what the configuration names is to be run
    except BaseException as error:
        del sys.modules[module.__name__]
        raise _import_problem(str(path), error) from error
    return module


@functools.cache  # the hash is that of the text at the first import, as Python keeps the module as it was then
def _module_by_name(name: str) -> tuple[ModuleType, str]:
    try:
        module = importlib.import_module(name)
    except BaseException as error:
        raise _import_problem(name, error) from error
    file = getattr(module, "__file__", None)
    text = Path(file).read_bytes() if file else sys.version.encode()  # built into Python itself
    return module, hashlib.sha256(text).hexdigest()


def _import_problem(source: str, error: BaseException) -> Explained:
    if isinstance(error, ModuleNotFoundError) and error.name:
        if source == error.name or source.startswith(f"{error.name}."):
            return Explained(
                f"there is no module {error.name!r}: install it in the server's environment ({sys.prefix}), or put it "
                "beside the configuration file"
            )
        return Explained(
            f"{source} imports {error.name!r}, which is not there: install it in the server's environment "
            f"({sys.prefix}), or put it beside the file"
        )
    if isinstance(error, ImportError) and "relative import" in str(error):
        return Explained(
            f"{source} imports relative to its package, which a file alone has not: write `package.module:function` "
            "instead of the path"
        )
    return Explained(f"{source} cannot be imported: {explain(error)}")


def _find(module: ModuleType, target: Target) -> Function:
    found: Any = module
    for part in target.name.split("."):
        if not hasattr(found, part):
            raise Explained(f"{target.source} has no {target.name!r}{_did_you_mean(part, found)}")
        found = getattr(found, part)
    if inspect.isclass(found):
        raise Explained(f"{target.name!r} in {target.source} is a class: name a function, or an object made of it")
    if not callable(found):
        raise Explained(f"{target.name!r} in {target.source} is of type {type(found).__name__}: it cannot be called")
    return found  # type: ignore[no-any-return]  # callable is all that can be known


def _did_you_mean(name: str, holder: Any) -> str:
    callables = [other for other, value in vars(holder).items() if callable(value) and not inspect.isclass(value)]
    close = difflib.get_close_matches(name, callables, n=3, cutoff=0.5)
    return f": did you mean {' or '.join(map(repr, close))}?" if close else ""
