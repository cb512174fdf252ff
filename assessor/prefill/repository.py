"""What the repository says: git's revision, release and history, and the packages a system pins."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

from assessor import yamlfile
from assessor.errors import UsageError
from assessor.git import git
from assessor.messages import _, plural
from assessor.prefill.json_text import json_object
from assessor.prefill.statements import Facts, Statements, bullets, listed, mappings, member, scalar, scalars

SUBJECTS = 10
LONGEST_KEY = 500  # parts of a dotted key of TOML, whose cost grows with their square
TABLES = 20_000  # headers of tables in a TOML file

_REQUIREMENT = re.compile(
    r"([A-Za-z0-9][A-Za-z0-9._-]{0,100})(?=[\s=<>!~;@(#\[]|$)"  # not an address: git+https:
    r"\s{0,20}(?:\[[^\]]{0,200}\])?\s{0,20}(?:(===?)\s{0,20}([^\s;,#*]{1,100})(?=[\s;#]|$))?"
)
_REQUIREMENTS_FILE = re.compile(r"(?:requirements|constraints)[\w.-]{0,50}\.txt")
_PYLOCK_FILE = re.compile(r"pylock(?:\.[\w-]{1,50})?\.toml")
_LOCK_FILES = frozenset({"poetry.lock", "uv.lock", "pdm.lock"})


# --- git --------------------------------------------------------------------------------------------------------------


def git_root(folder: Path) -> Path | None:
    """The top folder of the repository that a folder is in; None without one, or without git."""
    found = git(folder, "rev-parse", "--show-toplevel")
    return Path(found) if found else None


def has_commits(folder: Path) -> bool:
    """Whether a folder is in a repository with a history."""
    return bool(git(folder, "rev-parse", "HEAD"))


def found_in_git(folder: Path, name: str) -> Facts:
    """Statements of a git repository, asked of the `git` program without network.

    What git does not know or cannot tell in time is left out.

    Args:
        folder: The repository or a folder in it.
        name: How origins call it.

    Returns:
        Statements by key; none where it is no repository, has no commit yet, or git is not installed.
    """
    found = Statements(_("git repository {name}", name=name))
    revision = git(folder, "rev-parse", "HEAD")
    if revision:
        found.add("source_revision", _revision(folder, revision))
        found.add("release", _release(folder))
        found.add("change_history", _history(folder))
    return found.facts


def _revision(folder: Path, revision: str) -> str:
    day = git(folder, "log", "-1", "--format=%cs", "HEAD")
    changed = git(folder, "status", "--porcelain", "--untracked-files=no", "--ignore-submodules=all")
    state = {None: "", "": _("no uncommitted changes")}.get(changed, _("with uncommitted changes"))
    return ", ".join(
        text for text in (_("git commit {revision} of {day}", revision=revision, day=day or "?"), state) if text
    )


def _release(folder: Path) -> str:
    described = git(folder, "describe", "--tags", "--long", "HEAD") or ""
    tag, _dash, rest = described.rpartition("-")[0].rpartition("-")
    if not tag or not rest.isdecimal():
        return ""
    day = git(folder, "log", "-1", "--format=%cs", f"refs/tags/{tag}") or "?"
    later = int(rest)
    behind = (
        plural("{n} commit before the current revision", "{n} commits before the current revision", later)
        if later
        else ""
    )
    return ", ".join(text for text in (_("tag {tag} of {day}", tag=tag, day=day), behind) if text)


def _history(folder: Path) -> str:
    """How long the history is, by how many people, and its latest steps; no names, which are personal data."""
    latest = git(folder, "log", f"-{SUBJECTS}", "--format=%cs %s", "HEAD") or ""
    whole = git(folder, "rev-parse", "--is-shallow-repository") == "false"
    count = git(folder, "rev-list", "--count", "HEAD") if whole else None
    people = git(folder, "shortlog", "--summary", "--email", "HEAD") if whole else None
    summary = []
    if count and count.isdecimal():
        summary.append(plural("{n} commit", "{n} commits", int(count)))
    if people:
        summary.append(plural("{n} committer", "{n} committers", len(people.splitlines())))
    return bullets([", ".join(summary), *latest.splitlines()])


# --- packages ---------------------------------------------------------------------------------------------------------


def is_dependency_file(name: str) -> bool:
    """Whether a file of this name lists packages in a form that is read here."""
    known = name in _LOCK_FILES or name in {"pyproject.toml", "Pipfile.lock"}
    return known or bool(_REQUIREMENTS_FILE.fullmatch(name) or _PYLOCK_FILE.fullmatch(name))


def dependency_files(folder: Path) -> list[Path]:
    """Files directly in a folder that list packages."""
    return sorted(path for path in folder.iterdir() if is_dependency_file(path.name) and path.is_file())


def found_in_dependencies(content: bytes, name: str) -> Facts:
    """The packages that a requirements file, a lock file or pyproject.toml names.

    Args:
        content: The file.
        name: How origins and messages call it; its last part says what the file is.

    Returns:
        One statement, or none for an empty list.

    Raises:
        UsageError: It is not readable.
    """
    file = name.replace("\\", "/").rpartition("/")[2]
    text = yamlfile.decoded(content, name)
    if file.endswith(".txt"):
        pinned, loose = _requirements(text.replace("\r\n", "\n").replace("\\\n", " ").split("\n"))
    elif file == "Pipfile.lock":
        locked = member(json_object(content, name), "default")
        entries = locked.items() if isinstance(locked, Mapping) else []
        pinned, loose = _requirements([f"{package}{scalar(member(entry, 'version'))}" for package, entry in entries])
    else:
        pinned, loose = _toml(text, name)
    found = Statements(_("file {name}", name=name))
    exact = plural(
        "{n} package in an exact version: {names}",
        "{n} packages in exact versions: {names}",
        len(pinned),
        names=listed(pinned),
    )
    other = plural(
        "{n} package without one: {names}", "{n} packages without one: {names}", len(loose), names=listed(loose)
    )
    found.add("dependencies", "; ".join(said for names, said in ((pinned, exact), (loose, other)) if names))
    return found.facts


def _requirements(lines: list[str]) -> tuple[list[str], list[str]]:
    """Packages with an exact version and those without, of lines as pip reads them."""
    pinned, loose = [], []
    for line in lines:
        stripped = line.strip()
        match = _REQUIREMENT.match(stripped)
        if match is None:  # an option, a comment, a path or an address
            continue
        if match[2]:
            pinned.append(f"{match[1]} {match[3]}")
        else:
            loose.append(match[1])
    return list(dict.fromkeys(pinned)), list(dict.fromkeys(loose))


def _toml(text: str, name: str) -> tuple[list[str], list[str]]:
    if max(part.count(".") for part in re.split(r"[=,\n\[\]{}]", text)) > LONGEST_KEY or text.count("\n[") > TABLES:
        raise UsageError(_("{name}: found a key of too many parts, or too many tables", name=name))
    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as fault:
        raise UsageError(_("{name}: not readable as TOML: {fault}", name=name, fault=fault)) from fault
    packages = mappings(data.get("package")) + mappings(data.get("packages"))
    if packages:
        named = [(scalar(item.get("name")), scalar(item.get("version"))) for item in packages]
        pinned = [f"{package} {version}" for package, version in named if package and version]
        return list(dict.fromkeys(pinned)), [package for package, version in named if package and not version]
    pinned, loose = _requirements(scalars(member(data, "project", "dependencies")))
    poetry = member(data, "tool", "poetry", "dependencies")
    return pinned, loose + [name for name in (poetry if isinstance(poetry, dict) else {}) if name != "python"]
