"""First drafts from files a team already has: model cards, bills of materials, the repository.

What is found is only offered: a person confirms, changes or drops every draft. One module a source; all of them give
statements by key, each with its origin.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from assessor.errors import UsageError
from assessor.messages import _
from assessor.prefill.json_text import json_object
from assessor.prefill.ml_bom import found_in_ml_bom
from assessor.prefill.model_card import found_in_model_card, has_front_matter
from assessor.prefill.repository import (
    dependency_files,
    found_in_dependencies,
    found_in_git,
    git_root,
    has_commits,
    is_dependency_file,
)
from assessor.prefill.spdx import found_in_spdx
from assessor.prefill.statements import KEYS, Facts, listed, merged, scalars

__all__ = ["KEYS", "LARGEST", "Facts", "found_in", "sources_near"]

LARGEST = 20_000_000
"""Bytes; a file above is refused."""

BOM_NAMES = ("bom.json", "*.cdx.json", "*.spdx.json", "*.spdx3.json")
CARD_NAMES = frozenset({"model_card.md", "modelcard.md", "model-card.md"})


def found_in(paths: Sequence[Path], base: Path | None = None) -> Facts:
    """Statements of files and repositories.

    Args:
        paths: Files, and folders of git repositories, in order of trust: of one key, the first statement becomes the
            draft.
        base: Folder from which origins name the files; default as given.

    Returns:
        Statements by key.

    Raises:
        UsageError: One is missing, too large, not readable, or nothing that is read here.
    """
    found = []
    for path in paths:
        name = _shown(path, base)
        try:
            found.append(_found_in_one(path, name))
        except OSError as fault:
            raise UsageError(_("{name}: cannot read it: {fault}", name=name, fault=fault.strerror)) from fault
    return merged(found)


def sources_near(folder: Path) -> list[Path]:
    """What `found_in` can read in an assessment folder and at the top of its git repository.

    Args:
        folder: The assessment folder.

    Returns:
        Model cards, bills of materials, the repository, files that list packages.
    """
    root = (git_root(folder) or folder).resolve()
    folders = list(dict.fromkeys([folder.resolve(), root]))
    cards = [path for place in folders for path in sorted(place.glob("*.md")) if _is_card(path)]
    boms = [path for place in folders for name in BOM_NAMES for path in sorted(place.glob(name)) if path.is_file()]
    repositories = [root] if has_commits(root) else []
    packages = [path for place in folders if place not in repositories for path in dependency_files(place)]
    return [*cards, *dict.fromkeys(boms), *repositories, *packages]


def _is_card(path: Path) -> bool:
    if not path.is_file() or path.stat().st_size > LARGEST:
        return False
    return path.name.lower() in CARD_NAMES or (path.name == "README.md" and has_front_matter(path.read_bytes()))


def _shown(path: Path, base: Path | None) -> str:
    """A path as messages and origins name it."""
    if base is not None and path.resolve().is_relative_to(base.resolve()):
        return path.resolve().relative_to(base.resolve()).as_posix()
    return path.as_posix()


def _found_in_one(path: Path, name: str) -> Facts:
    if path.is_dir():
        return _found_in_folder(path, name)
    content = _content(path, name)
    start = content[:100].removeprefix(b"\xef\xbb\xbf").lstrip()
    if is_dependency_file(path.name):
        return found_in_dependencies(content, name)
    if start.startswith(b"{") or path.suffix == ".json":
        return _found_in_json(content, name)
    if start.startswith(b"<") or b"\x00" in content[:1000]:
        raise UsageError(_unknown(name, _("XML") if start.startswith(b"<") else _("a binary file")))
    return found_in_model_card(content, name)


def _found_in_folder(path: Path, name: str) -> Facts:
    files = [found_in_dependencies(_content(file, file.name), file.name) for file in dependency_files(path)]
    found = merged([found_in_git(path, path.resolve().name), *files])
    if not found:
        raise UsageError(_unknown(name, _("a folder without git commits or files that list packages")))
    return found


def _content(path: Path, name: str) -> bytes:
    if not path.is_file():
        raise UsageError(_("{name}: no such file or folder", name=name))
    with path.open("rb") as stream:
        content = stream.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise UsageError(_("{name}: found more than {n} MB, wanted at most that", name=name, n=LARGEST // 1_000_000))
    return content


def _found_in_json(content: bytes, name: str) -> Facts:
    document = json_object(content, name)
    if document.get("bomFormat") == "CycloneDX":
        return found_in_ml_bom(document, name)
    if "spdxVersion" in document or any("spdx.org/" in text for text in scalars(document.get("@context"))):
        return found_in_spdx(document, name)
    keys = listed(sorted(document)[:5])
    raise UsageError(_unknown(name, _("JSON with the keys {keys}", keys=keys) if keys else _("an empty JSON object")))


def _unknown(name: str, found: str) -> str:
    return _(
        "{name}: found {found}, wanted a model card (Markdown), CycloneDX 1.5 to 1.7 or SPDX 3.0 as JSON, a "
        "requirements or lock file, or the folder of a git repository",
        name=name,
        found=found,
    )
