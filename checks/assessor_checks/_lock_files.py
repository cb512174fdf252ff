"""Lock files: every package that is installed, with its version and hashes.

Poetry, uv, PDM (TOML), pylock.toml (PEP 751), Pipfile.lock (JSON), conda-lock (YAML), conda's explicit lists.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from assessor_checks._documents import DocumentError, from_json, from_toml, from_yaml
from assessor_checks._requirements import Listed, Package, conda, normalised, pyproject, requirements

Table = Mapping[str, Any]


def read(name: str, text: str) -> Listed | None:
    """What a file lists, by its name.

    Args:
        name: Of the file, perhaps with folders.
        text: Its contents.

    Returns:
        Entries; None where no format is known by that name.
    """
    last = re.split(r"[/\\]", name)[-1].lower()
    for pattern, reader in _READERS:
        if re.fullmatch(pattern, last):
            return reader(name, text)
    return None


def _toml(
    kind: str, key: str, entry: Callable[[Table], tuple[str | None, list[str]] | None]
) -> Callable[[str, str], Listed]:
    """A reader of lock files in TOML; `entry` gives a package's source and hashes, or None for the project itself."""

    def reader(name: str, text: str) -> Listed:
        found = Listed(kind, is_complete=True)
        try:
            table = from_toml(text)
        except DocumentError as fault:
            found.unread.append(f"{name}: {fault}")
            return found
        packages, older = table.get(key, []), _first(_first(table, "metadata"), "files")  # Poetry's, up to 1.2
        for one in packages if isinstance(packages, list) else []:
            if not isinstance(one, dict) or not isinstance(one.get("name"), str):
                found.unread.append(f"{name}: {str(one)[:200]}")
            elif (read := entry(one)) is not None:
                hashes = [str(file["hash"]) for file in _files(older, one["name"]) if "hash" in file]
                found.packages.append(_package(one["name"], one.get("version"), read[0], read[1] + hashes, name))
        return found

    return reader


def _package(title: str, version: Any, source: str | None, hashes: list[str], place: str) -> Package:
    number = str(version) if version is not None else None
    return Package(
        normalised(title), f"=={number}" if number else "", number, source, tuple(sorted(set(hashes))), place
    )


def _files(one: Table, *keys: str) -> Iterator[Table]:
    """Tables of files under these keys, each of which may be one or a list."""
    for key in keys:
        value = one.get(key)
        yield from (entry for entry in (value if isinstance(value, list) else [value]) if isinstance(entry, dict))


def _poetry(one: Table) -> tuple[str | None, list[str]]:
    source = _first(one, "source")
    address = source.get("url") if source.get("type") in {"git", "url", "directory", "file"} else None
    if source.get("type") == "git":
        address = f"git+{address}@{source.get('resolved_reference', source.get('reference', ''))}"
    return address, [str(entry["hash"]) for entry in _files(one, "files") if "hash" in entry]


def _uv(one: Table) -> tuple[str | None, list[str]] | None:
    source = _first(one, "source")
    if "." in {source.get("editable"), source.get("virtual")}:
        return None
    address = next((str(source[key]) for key in ("git", "url", "path", "directory", "editable") if key in source), None)
    if address is not None and "git" in source:
        address = "git+" + re.sub(r"(?:\?[^#]*)?#([0-9a-f]+)$", r"@\1", address)
    return address, [str(entry["hash"]) for entry in _files(one, "sdist", "wheels") if "hash" in entry]


def _pdm(one: Table) -> tuple[str | None, list[str]]:
    address = next((str(one[key]) for key in ("git", "url", "path") if key in one), None)
    if "git" in one:
        address = f"git+{address}@{one.get('revision', one.get('ref', ''))}"
    return address, [str(entry["hash"]) for entry in _files(one, "files") if "hash" in entry]


def _pylock(one: Table) -> tuple[str | None, list[str]]:
    vcs, archive, directory = (_first(one, key) for key in ("vcs", "archive", "directory"))
    address = next((str(table[key]) for table in (archive, directory) for key in ("url", "path") if key in table), None)
    if vcs:
        address = f"{vcs.get('type', 'git')}+{vcs.get('url', vcs.get('path', ''))}@{vcs.get('commit-id', '')}"
    files = _files(one, "wheels", "sdist", "archive")
    return address, [f"{kind}:{digits}" for file in files for kind, digits in _first(file, "hashes").items()]


def _first(one: Table, key: str) -> Table:
    value = one.get(key)
    return value if isinstance(value, dict) else {}


def _pipfile(name: str, text: str) -> Listed:
    found = Listed("Pipfile.lock", is_complete=True)
    try:
        value = from_json(text)
    except DocumentError as fault:
        found.unread.append(f"{name}: {fault}")
        return found
    groups = value.items() if isinstance(value, dict) else ()
    for group, packages in groups:
        if group == "_meta" or not isinstance(packages, dict):
            continue
        for title, one in packages.items():
            table = one if isinstance(one, dict) else {}
            address = next((str(table[key]) for key in ("git", "file", "path") if key in table), None)
            if "git" in table:
                address = f"git+{address}@{table.get('ref', '')}"
            version = str(table.get("version", "")).removeprefix("==") or None
            digests = table.get("hashes")
            hashes = [str(digest) for digest in digests] if isinstance(digests, list) else []
            found.packages.append(_package(title, version, address, hashes, f"{name}: {group}"))
    return found


def _conda_lock(name: str, text: str) -> Listed:
    found = Listed("conda-lock", is_complete=True)
    try:
        value = from_yaml(text)
    except DocumentError as fault:
        found.unread.append(f"{name}: {fault}")
        return found
    packages = value.get("package") if isinstance(value, dict) else None
    for one in packages if isinstance(packages, list) else []:
        if not isinstance(one, dict) or not isinstance(one.get("name"), str):
            found.unread.append(f"{name}: {str(one)[:200]}")
            continue
        hashes = [f"{kind}:{digits}" for kind, digits in _first(one, "hash").items()]
        package = _package(one["name"], one.get("version"), None, hashes, name)
        found.packages.append(package._replace(kind="conda" if one.get("manager") == "conda" else "pypi"))
    return found


def _explicit(name: str, text: str) -> Listed | None:
    """`conda list --explicit`: one address a line, perhaps with a digest behind #."""
    if not re.search(r"^@EXPLICIT\s*$", text, re.MULTILINE):
        return None
    found = Listed("explicit list of conda", is_complete=True)
    for number, line in enumerate(text.splitlines(), start=1):
        address = line.strip()
        if not address or address.startswith(("#", "@")):
            continue
        match = re.fullmatch(
            r"(\S+/)([\w.+-]+)-([\w.!+]+)-([\w.]+)\.(?:conda|tar\.bz2)(?:#(\w+:)?([0-9a-f]+))?", address
        )
        if match is None:
            found.unread.append(f"{name}:{number}: {address[:200]}")
            continue
        kind = (match[5] or ("md5:" if len(match[6] or "") == 32 else "sha256:")) if match[6] else ""
        hashes = (f"{kind}{match[6]}",) if match[6] else ()
        package = _package(match[2], match[3], None, list(hashes), f"{name}:{number}")
        found.packages.append(package._replace(kind="conda"))
    return found


def _lines(name: str, text: str) -> Listed:
    return _explicit(name, text) or requirements(name, text)


_READERS: tuple[tuple[str, Callable[[str, str], Listed]], ...] = (
    (r"pyproject\.toml", pyproject),
    (r"poetry\.lock", _toml("poetry.lock", "package", _poetry)),
    (r"uv\.lock", _toml("uv.lock", "package", _uv)),
    (r"pdm\.lock", _toml("pdm.lock", "package", _pdm)),
    (r"pylock\.(?:[^.]+\.)?toml", _toml("pylock.toml", "packages", _pylock)),
    (r"pipfile\.lock", _pipfile),
    (r".*conda-lock.*\.ya?ml", _conda_lock),
    (r".*\.ya?ml", conda),
    (r".*\.(?:txt|in|lock)", _lines),
)
