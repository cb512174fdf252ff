"""YAML files a person edits: read with line numbers, told faults as `file:line field: found, wanted`.

Aliases and repeated keys are refused: the first can blow up in memory, the second silently drops text. So are nesting
deeper, more values and longer numbers than any of our files has: they would take memory and time before anybody could
complain.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from yaml.reader import ReaderError

from assessor.errors import ConfigurationError, UsageError, nearest

Loc = tuple[str | int, ...]
Model = TypeVar("Model", bound=BaseModel)

MAX_DEPTH = 100
MAX_VALUES = 100_000  # keys, items, lists and mappings; the largest of our files has a twentieth
MAX_DIGITS = 1000  # characters of a number: YAML's base 60 takes their square in time
MAX_FAULTS = 100  # faults of one file that are told

try:
    from yaml import CSafeDumper as _Dumper
    from yaml import CSafeLoader as _Loader
except ImportError:  # a PyYAML built without libyaml: slower, otherwise the same
    from yaml import SafeDumper as _Dumper  # type: ignore[assignment]
    from yaml import SafeLoader as _Loader  # type: ignore[assignment]


@dataclass(frozen=True)
class Document:
    """A parsed file.

    Attributes:
        name: File name for messages.
        data: Plain Python data.
        lines: Line (from 1) of every key and item by its path.
        at: Path of `data` in the file, for a section of it.
    """

    name: str
    data: Any
    lines: Mapping[Loc, int]
    at: Loc = ()

    def section(self, *path: str | int) -> Document:
        """The part of the document at a path, which must exist."""
        data = self.data
        for part in path:
            data = data[part]
        return Document(self.name, data, self.lines, (*self.at, *path))


def read(path: Path, name: str | None = None) -> Document:
    """Parse a file.

    Args:
        path: The file.
        name: How messages call it; default the path as given.

    Returns:
        The document.

    Raises:
        UsageError: It cannot be read.
        ConfigurationError: It is no YAML, or uses aliases or repeated keys.
    """
    try:
        text = path.read_bytes()
    except OSError as fault:
        raise UsageError(f"{path}: cannot read it: {fault.strerror}") from fault
    return parse(text, name or str(path))


def parse(text: bytes | str, name: str) -> Document:
    """Parse text; see `read`."""
    content = text if isinstance(text, str) else decoded(text, name)
    try:
        _refuse_bombs(content, name)
        loader = _Loader(content)
        node = loader.get_single_node()
    except yaml.YAMLError as fault:
        raise ConfigurationError(_told_syntax(fault, content, name)) from fault
    lines: dict[Loc, int] = {(): 1}
    data = None if node is None else _Builder(loader, name, lines).build(node, ())
    return Document(name, data, lines)


def decoded(content: bytes, name: str) -> str:
    """UTF-8 text without a byte order mark, line ends as they are.

    Args:
        content: The file's bytes.
        name: File name for messages.

    Returns:
        The text.

    Raises:
        ConfigurationError: It is not UTF-8.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        line = content[: fault.start].count(b"\n") + 1
        raise ConfigurationError(f"{name}:{line} found a byte that is not UTF-8, wanted UTF-8 text") from fault


def _refuse_bombs(text: str, name: str) -> None:
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=_Loader)):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent):
            fault = f"found the alias *{event.anchor}, wanted the text itself"
        elif depth > MAX_DEPTH:
            fault = f"found more than {MAX_DEPTH} levels of nesting"
        elif count > MAX_VALUES:
            fault = f"found more than {MAX_VALUES} keys and values"
        else:
            continue
        raise ConfigurationError(f"{name}:{event.start_mark.line + 1 if event.start_mark else 1} {fault}")


def validate(document: Document, model: type[Model]) -> Model:
    """The document as a model.

    Args:
        document: What `read` gave.
        model: What it should be.

    Returns:
        An instance.

    Raises:
        ConfigurationError: One line a fault.
    """
    try:
        return model.model_validate(document.data)
    except ValidationError as faults:
        errors = faults.errors(include_url=False)
        lines = [_told(fault, document, model) for fault in _own(errors[:MAX_FAULTS])]
        if len(errors) > MAX_FAULTS:
            lines.append(f"{document.name}: {len(errors) - MAX_FAULTS} more faults")
        raise ConfigurationError("\n".join(dict.fromkeys(lines))) from None


def _own(faults: list[ErrorDetails]) -> list[ErrorDetails]:
    """Faults without those that only say that something inside them is at fault: a list too short without it."""
    inside = [fault["loc"] for fault in faults]
    return [
        fault
        for fault in faults
        if fault["type"] != "too_short"
        or not any(len(loc) > len(fault["loc"]) and loc[: len(fault["loc"])] == fault["loc"] for loc in inside)
    ]


def dump(data: Any) -> str:
    """Plain data as YAML in block style, in the given order; reads back equal."""
    text: str = yaml.dump(data, Dumper=_TextDumper, sort_keys=False, allow_unicode=True, width=100)
    return text


def set_key(text: str, key: str, value: Any, name: str) -> str:
    """Replace or append one top-level key; every other line, comments too, stays as it is.

    Args:
        text: The file so far; may be empty.
        key: Top-level key.
        value: Plain data.
        name: File name for messages.

    Returns:
        The new text.

    Raises:
        ConfigurationError: The text is no YAML mapping, or cannot take the key.
    """
    changed = _with_key(text, key, value, name)
    if parse(changed, name).data != {**(parse(text, name).data or {}), key: value}:
        raise ConfigurationError(f"{name}:1 cannot put '{key}' into this file without changing something else in it")
    return changed


def set_entry(text: str, section: str, key: str, value: Any, name: str) -> str:
    """The text with one entry of a top-level section replaced or added, and comments elsewhere kept.

    Args:
        text: A YAML mapping, or nothing.
        section: Key of the section, made where it is missing; one in flow style is written anew as a block.
        key: Key of the entry.
        value: Plain data.
        name: File name for messages.

    Returns:
        The new text.

    Raises:
        ConfigurationError: The text is no YAML mapping, or cannot take the entry.
    """
    data = parse(text, name).data or {}
    known = data.get(section) if isinstance(data, dict) else None
    node = _section_node(text, section)
    if node is None or node.flow_style or not isinstance(known, dict) or not known:
        return set_key(text, section, {**(known if isinstance(known, dict) else {}), key: value}, name)
    lines = text.splitlines(keepends=True)
    margin = " " * node.value[0][0].start_mark.column
    block = [margin + line if line.strip() else line for line in dump({key: value}).splitlines(keepends=True)]
    start = end = _last_content(lines, node.start_mark.line, _end_line(node, lines), margin)
    for key_node, value_node in node.value:
        if key_node.value == key:
            start = key_node.start_mark.line
            end = _last_content(lines, start, _end_line(value_node, lines), margin)
    if end and not lines[end - 1].endswith("\n"):
        lines[end - 1] += "\n"
    changed = "".join([*lines[:start], *block, *lines[end:]])
    if parse(changed, name).data != {**data, section: {**known, key: value}}:
        raise ConfigurationError(
            f"{name}:1 cannot put '{section}.{key}' into this file without changing something else"
        )
    return changed


def _section_node(text: str, section: str) -> yaml.MappingNode | None:
    root = _Loader(text).get_single_node()
    if not isinstance(root, yaml.MappingNode):
        return None
    found = next((value for key, value in root.value if key.value == section), None)
    return found if isinstance(found, yaml.MappingNode) else None


def _end_line(node: yaml.Node, lines: list[str]) -> int:
    """Line after a node; a block's end mark stands before whatever follows it, be that further in its line."""
    last, column = node.end_mark.line, node.end_mark.column
    return last + 1 if last < len(lines) and lines[last][:column].strip() else min(last, len(lines))


def _with_key(text: str, key: str, value: Any, name: str) -> str:
    block = dump({key: value})
    parse(text, name)
    node = _Loader(text).get_single_node()
    if node is None:
        return text + ("\n" if text and not text.endswith("\n") else "") + block
    if not isinstance(node, yaml.MappingNode) or node.flow_style:
        raise ConfigurationError(f"{name}:1 found no block mapping, wanted `key: value` lines")
    for key_node, value_node in node.value:
        if key_node.value == key:
            lines = text.splitlines(keepends=True)
            end = value_node.end_mark.line + (value_node.end_mark.column > 0)
            end = _last_content(lines, key_node.start_mark.line, end)
            return "".join([*lines[: key_node.start_mark.line], block, *lines[end:]])
    return text + ("" if text.endswith("\n") else "\n") + block


def _last_content(lines: list[str], start: int, end: int, margin: str = "") -> int:
    """End of a block without the blank lines and comments that follow it at the margin or left of it."""
    while end > start + 1 and (not lines[end - 1].strip() or _is_comment(lines[end - 1], margin)):
        end -= 1
    return end


def _is_comment(line: str, margin: str) -> bool:
    return line.lstrip(" ").startswith("#") and len(line) - len(line.lstrip(" ")) <= len(margin)


class _TextDumper(_Dumper):  # pyright: ignore[reportGeneralTypeIssues] - one of two classes, chosen at import
    """Long or multi-line text as a block scalar where YAML can hold it so; no aliases, which reading refuses."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: Any, text: str) -> yaml.ScalarNode:
    plain = text.isprintable() or all(line.isprintable() for line in text.split("\n"))
    ends_open = text.endswith("\n\n") or text == "\n"  # such a block would swallow blank lines that follow it
    trailing = any(line != line.rstrip() for line in text.split("\n"))
    block = "\n" in text and plain and not trailing and not ends_open and text[0] != " "
    node: yaml.ScalarNode = dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if block else None)
    return node


_TextDumper.add_representer(str, _represent_text)


class _Builder:
    """Nodes to plain data, noting lines on the way."""

    def __init__(self, loader: Any, name: str, lines: dict[Loc, int]) -> None:
        self._loader = loader
        self._name = name
        self._lines = lines

    def build(self, node: yaml.Node, path: Loc) -> Any:
        if isinstance(node, yaml.ScalarNode):
            return node.value if node.tag == "tag:yaml.org,2002:str" else self._scalar(node)
        if isinstance(node, yaml.SequenceNode):
            return [self._item(child, (*path, index)) for index, child in enumerate(node.value)]
        return self._mapping(node, path)

    def _item(self, node: yaml.Node, path: Loc) -> Any:
        self._lines[path] = node.start_mark.line + 1
        return self.build(node, path)

    def _mapping(self, node: yaml.Node, path: Loc) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = self.build(key_node, path)
            if not isinstance(key, str | int) or isinstance(key, bool):
                raise self._fault(key_node, "found a key that is no plain text")
            if key in found:
                first = self._lines[(*path, key)]
                raise self._fault(key_node, f"key '{key}' appears twice (first in line {first}); keep one")
            self._lines[(*path, key)] = key_node.start_mark.line + 1
            found[key] = self.build(value_node, (*path, key))
        return found

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        if node.tag in {"tag:yaml.org,2002:int", "tag:yaml.org,2002:float"} and len(node.value) > MAX_DIGITS:
            raise self._fault(node, f"found a number of more than {MAX_DIGITS} digits")
        try:
            return self._loader.construct_object(node)
        except (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, OverflowError) as fault:
            # PyYAML lets some tags, such as an empty !!int or a !!timestamp that is none, end in whatever Python raises
            kind = node.tag.removeprefix("tag:yaml.org,2002:")
            raise self._fault(node, f"found '{node.value}', which is no {kind}") from fault

    def _fault(self, node: yaml.Node, message: str) -> ConfigurationError:
        return ConfigurationError(f"{self._name}:{node.start_mark.line + 1} {message}")


def _told_syntax(fault: yaml.YAMLError, text: str, name: str) -> str:
    if isinstance(fault, ReaderError):
        character = chr(fault.character) if isinstance(fault.character, int) else str(fault.character)
        line = text.count("\n", 0, text.find(character)) + 1
        return f"{name}:{line} found the character U+{ord(character):04X}, which YAML does not allow"
    mark = getattr(fault, "problem_mark", None)
    problem = getattr(fault, "problem", None) or str(fault)
    context = getattr(fault, "context", None)
    where = f"{name}:{mark.line + 1}" if mark else name
    column = f" (column {mark.column + 1})" if mark else ""
    told = f"{problem} {context}" if context else problem
    return f"{where} not readable as YAML{column}: {told}; check indentation and quotes"


def _told(fault: ErrorDetails, document: Document, model: type[BaseModel]) -> str:
    loc = _known_prefix((*document.at, *fault["loc"]), document)
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).removeprefix(".")
    prefix = f"{document.name}:{document.lines[loc]} {field + ': ' if field else ''}"
    if fault["type"] == "extra_forbidden":
        siblings = _properties(model.model_json_schema(by_alias=True), loc[len(document.at) : -1])
        known = f"; known here: {', '.join(siblings)}" if siblings else ""
        return f"{prefix}unknown key '{loc[-1]}'{nearest(str(loc[-1]), siblings) or known}"
    if fault["type"] == "missing":
        return f"{prefix}wanted the key '{fault['loc'][-1]}', found none"
    if fault["type"] == "value_error":
        return prefix + str(fault["msg"]).removeprefix("Value error, ")
    return f"{prefix}found {_shown(fault['input'])}, wanted {_wanted(fault)}"


def _wanted(fault: ErrorDetails) -> str:
    text = str(fault["msg"]).removeprefix("Input should be ").removeprefix("String should have ")
    text = text.replace("String should match pattern", "text that matches")
    return re.sub(r"<[\w.]+: ('[^']*')>", r"\1", text)  # the members of an enum by their values alone


def _shown(value: object) -> str:
    if value is None:
        return "nothing"
    text = (
        repr(value) if not isinstance(value, dict | list) else f"a {'mapping' if isinstance(value, dict) else 'list'}"
    )
    return text if len(text) <= 80 else text[:77] + "..."


def _known_prefix(loc: Loc, document: Document) -> Loc:
    """The path without pydantic's own parts (tags of unions), up to where the document ends."""
    path: Loc = ()
    for part in loc:
        if (*path, part) in document.lines:
            path = (*path, part)
    return path


def _properties(schema: dict[str, Any], loc: Loc) -> list[str]:
    """Keys that a JSON Schema knows at a path."""
    nodes = [schema]
    for part in (*loc, None):
        expanded = []
        while nodes:
            node = nodes.pop()
            if "$ref" in node:
                node = schema["$defs"][node["$ref"].rsplit("/", 1)[-1]]
            nodes.extend(node.get("anyOf", []))
            expanded.append(node)
        if part is None:
            return [key for node in expanded for key in node.get("properties", {})]
        for node in expanded:
            if isinstance(part, int):
                nodes.append(node.get("items", {}))
            else:
                more = [*node.get("patternProperties", {}).values(), node.get("additionalProperties")]
                named = node.get("properties", {}).get(part)
                nodes += [named] if named else [found for found in more if isinstance(found, dict)]
    return []
