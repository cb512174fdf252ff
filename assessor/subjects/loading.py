"""Calling what the user names as `module:callable`, without their modules and ours getting in each other's way."""

from __future__ import annotations

import hashlib
import importlib
import importlib.machinery
import importlib.util
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, ModuleType

from assessor.errors import UsageError, nearest

ALIAS = re.compile(r"^_assessed_[0-9a-f]{12}_")

_imported_from: dict[str, Path] = {}
_versions: dict[str, tuple[int, int]] = {}  # time and size of a module's file when it was run


@contextmanager
def importable(folder: Path) -> Iterator[None]:
    """Put the assessment folder in front of the import path for a while, and forget what came from another one."""
    for name in [name for name, owner in _imported_from.items() if owner != folder]:
        sys.modules.pop(name, None)
        del _imported_from[name]
    entry, before = str(folder), set(sys.modules)
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        sys.path.remove(entry)
        for name in set(sys.modules) - before:
            file = getattr(sys.modules[name], "__file__", None)
            if file and Path(file).is_relative_to(folder) and not ALIAS.match(name):
                _imported_from[name] = folder


def own_name(value: object) -> str:
    """Module and name of a user's class or function, the same wherever its assessment folder lies."""
    return f"{ALIAS.sub('', str(getattr(value, '__module__', '')))}.{getattr(value, '__qualname__', '')}"


def call_user(name: str, folder: Path, *, field: str) -> object:
    """What the user's callable returns, called without arguments.

    Args:
        name: `module:callable`; the module is looked up in `folder` first, then on the path.
        folder: The assessment folder.
        field: The configuration field that names it, for the message.

    Returns:
        Whatever it gave.

    Raises:
        UsageError: There is no such module or callable, or it raised.
    """
    function = find_user(name, folder, field=field)
    with importable(folder):
        try:
            return function()
        except (Exception, SystemExit) as fault:  # the user's code may raise anything
            raise UsageError(f"{field}: {name} raised {_told(fault)}") from fault


def find_user(name: str, folder: Path, *, field: str) -> Callable[..., object]:
    """The user's callable itself; arguments as for `call_user`.

    Raises:
        UsageError: There is no such module or callable.
    """
    module_name, _, attribute = name.partition(":")
    with importable(folder):
        try:
            module = _module(module_name, folder)
        except (Exception, SystemExit) as fault:  # the user's module may raise anything at import
            raise UsageError(f"{field}: cannot import {module_name}: {_told(fault)}") from fault
        function = getattr(module, attribute, None)
        if not callable(function):
            known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
            raise UsageError(
                f"{field}: {module_name} ({getattr(module, '__file__', 'built in')}) has no callable "
                f"'{attribute}'{nearest(attribute, known)}"
            )
        found: Callable[..., object] = function
        return found


def _module(name: str, folder: Path) -> ModuleType:
    """Import from the folder under a name of its own, so that two folders may both have a `system.py`."""
    path = folder / f"{name}.py"
    if not path.is_file():
        return importlib.import_module(name)
    alias = f"_assessed_{hashlib.sha256(bytes(path.resolve())).hexdigest()[:12]}_{name}"
    version = (path.stat().st_mtime_ns, path.stat().st_size)
    if alias in sys.modules and _versions.get(alias) == version:
        return sys.modules[alias]
    spec = importlib.util.spec_from_file_location(alias, path, loader=_SourceAlone(alias, str(path)))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[alias], _versions[alias] = module, version
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[alias]
        raise
    return module


class _SourceAlone(importlib.machinery.SourceFileLoader):
    """Never reads bytecode: that of a file saved twice in a second may be of the first of them."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


def _told(fault: BaseException) -> str:
    passed = (__file__, importlib.__file__, "<frozen")  # ours and the import system's
    frames = [frame for frame in traceback.extract_tb(fault.__traceback__) if not frame.filename.startswith(passed)]
    where = f" ({Path(frames[-1].filename).name} line {frames[-1].lineno})" if frames else ""
    return f"{type(fault).__name__}: {fault}{where}"
