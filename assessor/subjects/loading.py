"""Calling what the user names as `module:callable`, without their modules and ours getting in each other's way."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from assessor.errors import UsageError, nearest


@contextmanager
def importable(folder: Path) -> Iterator[None]:
    """Put the assessment folder in front of the import path for a while."""
    entry = str(folder)
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        sys.path.remove(entry)


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
    module_name, _, attribute = name.partition(":")
    with importable(folder):
        try:
            module = _module(module_name, folder)
        except Exception as fault:  # the user's module may raise anything at import
            raise UsageError(f"{field}: cannot import {module_name}: {_told(fault)}") from fault
        function = getattr(module, attribute, None)
        if not callable(function):
            known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
            raise UsageError(
                f"{field}: {module_name} ({module.__file__}) has no callable '{attribute}'{nearest(attribute, known)}"
            )
        try:
            return function()
        except Exception as fault:  # the user's code may raise anything
            raise UsageError(f"{field}: {name} raised {_told(fault)}") from fault


def _module(name: str, folder: Path) -> ModuleType:
    """Import from the folder under a name of its own, so that two folders may both have a `system.py`."""
    path = folder / f"{name}.py"
    if not path.is_file():
        return importlib.import_module(name)
    alias = f"_assessed_{hashlib.sha256(bytes(path.resolve())).hexdigest()[:12]}_{name}"
    spec = importlib.util.spec_from_file_location(alias, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[alias] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[alias]
        raise
    return module


def _told(fault: BaseException) -> str:
    frames = traceback.extract_tb(fault.__traceback__)
    where = f" ({Path(frames[-1].filename).name} line {frames[-1].lineno})" if frames else ""
    return f"{type(fault).__name__}: {fault}{where}"
