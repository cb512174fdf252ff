"""TOML, YAML and JSON of strangers as plain data, in bounded time and memory; every fault is a DocumentError."""

from __future__ import annotations

import json
import re
import tomllib
from typing import Any

import yaml

try:
    from yaml import CBaseLoader as _Loader
except ImportError:  # a PyYAML built without libyaml: slower, otherwise the same
    from yaml import BaseLoader as _Loader  # type: ignore[assignment]

LEVELS = 100  # of nesting
NODES = 300_000  # of a YAML file
KEY = 500  # parts of a dotted key of TOML, whose cost grows with their square
TABLES = 20_000  # headers of tables in a TOML file


class DocumentError(Exception):
    """A file is not readable, or larger inside than any honest one; the message says in what way."""


def from_toml(text: str) -> dict[str, Any]:
    """TOML as plain data.

    Raises:
        DocumentError: It is none, or has too many tables or parts of a key.
    """
    if max(part.count(".") for part in re.split(r"[=,\n\[\]{}]", text)) >= KEY:
        raise DocumentError(f"found a key of more than {KEY} parts")
    if text.count("\n[") > TABLES:
        raise DocumentError(f"found more than {TABLES} tables")
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as fault:
        raise DocumentError(str(fault)) from fault


def from_yaml(text: str) -> Any:
    """YAML as plain data in which every scalar is a text: a version 1.10 stays what it is.

    Raises:
        DocumentError: It is none, uses aliases, which can blow up in memory, or has too many levels or nodes.
    """
    try:
        _refuse_bombs(text)
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as fault:
        raise DocumentError(str(fault).splitlines()[0]) from fault


def _refuse_bombs(text: str) -> None:
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=_Loader)):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent):
            raise DocumentError("found an alias, wanted the text itself")
        if depth > LEVELS or count > NODES:
            raise DocumentError(f"found more than {LEVELS} levels of nesting or {NODES} values")


def from_json(text: str) -> Any:
    """JSON as plain data; halves of surrogate pairs, which no file can hold, become question marks.

    Raises:
        DocumentError: It is none, or nested too deeply.
    """
    try:
        found = json.loads(text)
        if "\\u" in text:
            found = json.loads(json.dumps(found, ensure_ascii=False).encode("utf-8", "replace"))
    except (ValueError, RecursionError) as fault:
        raise DocumentError(str(fault)) from fault
    return found
