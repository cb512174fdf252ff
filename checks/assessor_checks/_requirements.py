"""Packages that a project's files list: what is pinned to one version, what is bound to one content by a hash.

pip: "Requirements File Format" in pip's documentation; specifiers and markers by PEP 440 and PEP 508 with the library
`packaging`. pyproject.toml: PEP 621 and PEP 735, and Poetry's own tables. conda: environment.yml. Lock files:
`_lock_files`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import unquote

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from assessor_checks._documents import DocumentError, from_toml, from_yaml

COMMIT = re.compile(r"@([0-9a-f]{40}|[0-9a-f]{64})(?=$|[#?&])")
ENTRIES = 30_000  # lines of one list of pip's that are read
LONGEST = 2000  # characters of a requirement, without its hashes
STRONG = ("sha256", "sha384", "sha512", "blake2b")
_HASH = re.compile(r"[#&?](sha256|sha384|sha512)=([0-9a-fA-F]{64,128})")


class Package(NamedTuple):
    """One entry of one file.

    Attributes:
        name: Normalised, as PEP 503 has it.
        wanted: Versions as the file has them; empty for any.
        version: The only version that fits, if there is just one.
        source: Address or path, where it does not come from an index.
        hashes: "algorithm:digits".
        place: File and, where known, line.
        kind: "pypi" or "conda".
        is_constraint: Whether it only bounds a package that is listed elsewhere.
    """

    name: str
    wanted: str
    version: str | None
    source: str | None
    hashes: tuple[str, ...]
    place: str
    kind: str = "pypi"
    is_constraint: bool = False

    @property
    def is_pinned(self) -> bool:
        """Whether this entry leaves one version only: by its number, the commit of a repository, or a hash."""
        return self.version is not None or (self.source is not None and (self.is_hashed or self.commit is not None))

    @property
    def is_hashed(self) -> bool:
        """Whether the content is bound by a hash that nobody can forge; md5 and sha1 are none."""
        return any(one.partition(":")[0] in STRONG for one in self.hashes)

    @property
    def commit(self) -> str | None:
        """Commit that the address of a repository names."""
        found = COMMIT.search(self.source or "")
        return found[1] if found else None


@dataclass
class Listed:
    """What one file lists.

    Attributes:
        kind: What kind of file it is.
        packages: Its entries.
        unread: Lines that were not understood, each with its place.
        includes: Other files that it names.
        indexes: Further addresses at which packages are looked for.
        is_complete: Whether it lists also what the packages need themselves.
    """

    kind: str
    packages: list[Package] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    includes: list[str] = field(default_factory=list)
    indexes: list[str] = field(default_factory=list)
    is_complete: bool = False


def normalised(name: str) -> str:
    """A package's name as indexes know it.

    >>> normalised("Scikit_Learn")
    'scikit-learn'
    """
    return str(canonicalize_name(name))


def only_version(wanted: str) -> str | None:
    """The version that a specifier pins, if it pins one.

    >>> only_version("==1.2.3"), only_version("==1.2.*"), only_version(">=1,<=1")
    ('1.2.3', None, None)
    """
    try:
        specifiers = list(SpecifierSet(wanted))
    except InvalidSpecifier:
        return None
    exact = [one.version for one in specifiers if one.operator == "===" or _is_exact(one.operator, one.version)]
    return exact[0] if exact else None


def _is_exact(operator: str, version: str) -> bool:
    return operator == "==" and not version.endswith(".*")


# --- pip -------------------------------------------------------------------------------------------------------------


def requirements(name: str, text: str) -> Listed:
    """What a requirements or constraints file of pip's lists.

    Args:
        name: Of the file.
        text: Its contents.

    Returns:
        Entries, and what was not understood.
    """
    found = Listed("requirements of pip")
    bounds = "constraint" in name.rsplit("/", 1)[-1].lower()
    for number, line in _lines(text):
        place = f"{name}:{number}"
        if len(found.packages) + len(found.unread) >= ENTRIES:
            found.unread.append(f"{place}: more than {ENTRIES} entries; this one and those after it are not read")
            break
        if line.startswith("-"):
            _option(line, place, found)
            continue
        entry, _, options = _cut_options(line)
        package = _requirement(entry, place, _hashes(options))
        if package is None:
            found.unread.append(f"{place}: {line[:200]}")
        else:
            found.packages.append(package._replace(is_constraint=bounds))
    found.is_complete = bool(found.packages) and all(one.is_hashed for one in found.packages)
    return found


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Logical lines without comments, with the number of their first one."""
    waiting, first = "", 0
    for number, raw in enumerate(text.removeprefix("\ufeff").splitlines(), start=1):
        first = first if waiting else number
        if raw.endswith("\\") and not raw.lstrip().startswith("#"):
            waiting += raw[:-1] + " "
            continue
        line = re.sub(r"(^|\s)#.*$", "", waiting + raw).strip()
        waiting = ""
        if line:
            yield first, line
    if waiting.strip():
        yield first, waiting.strip()


def _option(line: str, place: str, found: Listed) -> None:
    name, value = re.findall(r"^(-[rcefi]|--?[\w-]*)[=\s]*(.*)$", line, re.DOTALL)[0]
    value = value.strip()
    if name in {"-r", "--requirement", "-c", "--constraint"}:
        found.includes.append(value)
    elif name in {"-e", "--editable"}:
        found.packages.append(_requirement(value, place, ()) or _located(value, place, ()))
    elif name in {"-i", "--index-url", "--extra-index-url", "-f", "--find-links", "--trusted-host"}:
        found.indexes.append(f"{name} {_without_password(value)}")
    elif name not in _HARMLESS:
        found.unread.append(f"{place}: {line[:200]}")


_HARMLESS = {
    "--no-index",
    "--no-binary",
    "--only-binary",
    "--prefer-binary",
    "--require-hashes",
    "--pre",
    "--use-feature",
}


def _cut_options(line: str) -> tuple[str, str, str]:
    """The requirement, and the options that follow it."""
    start = re.search(r"\s--?[A-Za-z]", line)
    return (line[: start.start()].strip(), " ", line[start.start() :].strip()) if start else (line, "", "")


def _hashes(options: str) -> tuple[str, ...]:
    return tuple(re.findall(r"--hash[=\s]+([a-z0-9]+:[0-9a-fA-F]+)", options))


def _requirement(entry: str, place: str, hashes: tuple[str, ...]) -> Package | None:
    """An entry by PEP 508, or an address or a path; None where it is neither."""
    if len(entry) > LONGEST:
        return None
    try:
        found = Requirement(entry)
    except (InvalidRequirement, RecursionError):
        if re.match(r"(?:[a-z+]+://|git\+|\.{0,2}/|[A-Za-z]:\\|file:)", entry) or entry.endswith(
            (".whl", ".tar.gz", ".zip")
        ):
            return _located(entry, place, hashes)
        return None
    if found.url is not None:
        return _located(found.url, place, hashes, found.name)
    wanted = str(found.specifier)
    return Package(normalised(found.name), wanted, only_version(wanted), None, hashes, place)


def _located(address: str, place: str, hashes: tuple[str, ...], name: str | None = None) -> Package:
    """An entry that names an address or a path; its name and version by the file's name where it does not say."""
    address = address.partition(";")[0].strip() if " ;" in address else address
    version = None
    if egg := re.search(r"[#&]egg=([A-Za-z0-9._-]+)", address):
        name = name or egg[1]
    last = re.split(r"[/\\]", unquote(re.split(r"[#?]", address)[0]).rstrip("/\\"))[-1]
    if last.endswith(".whl"):
        try:
            wheel, number, *_ = parse_wheel_filename(last)
            name, version = name or wheel, str(number)
        except InvalidWheelFilename:
            pass
    elif match := re.fullmatch(r"(.+)-(\d[\w.+!]*)\.(?:tar\.gz|zip|tar\.bz2)", last):
        name, version = name or match[1], match[2]
    hashes += tuple(f"{kind}:{digits.lower()}" for kind, digits in _HASH.findall(address))
    title = re.sub(r"(\.git)?(@.*)?$", "", last) or address
    package = normalised(re.sub(r"[^A-Za-z0-9._-]", "-", name or title).strip("-._") or "unnamed")
    return Package(package, "", version, _without_password(address), hashes, place)


def _without_password(address: str) -> str:
    return re.sub(r"://[^/@\s]*@", "://", address)


# --- pyproject.toml --------------------------------------------------------------------------------------------------


def pyproject(name: str, text: str) -> Listed:
    """What a pyproject.toml lists: PEP 621, PEP 735 and Poetry's tables."""
    found = Listed("pyproject.toml")
    try:
        table = from_toml(text)
    except DocumentError as fault:
        found.unread.append(f"{name}: {fault}")
        return found
    project = _table(table, "project")
    groups = {**_table(project, "optional-dependencies"), **_table(table, "dependency-groups")}
    lists = {"project.dependencies": project.get("dependencies", []), **groups}
    lists["build-system.requires"] = _table(table, "build-system").get("requires", [])
    for where, entries in lists.items():
        for entry in entries if isinstance(entries, list) else [entries]:
            if isinstance(entry, dict) and "include-group" in entry:
                continue
            package = _requirement(entry, f"{name}: {where}", ()) if isinstance(entry, str) else None
            if package is None:
                found.unread.append(f"{name}: {where}: {str(entry)[:200]}")
            else:
                found.packages.append(package)
    for where, entries in _poetry(_table(_table(table, "tool"), "poetry")):
        for title, entry in entries.items():
            if title.lower() != "python":
                found.packages += _of_poetry(title, entry, f"{name}: {where}")
    own = normalised(str(project.get("name", "")))  # an extra may name the project itself
    found.packages = [one for one in found.packages if one.name != own]
    return found


def _table(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = value.get(name)
    return found if isinstance(found, dict) else {}


def _poetry(tool: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield "tool.poetry.dependencies", _table(tool, "dependencies")
    yield "tool.poetry.dev-dependencies", _table(tool, "dev-dependencies")
    for group, entry in _table(tool, "group").items():
        yield f"tool.poetry.group.{group}", _table(entry, "dependencies") if isinstance(entry, dict) else {}


def _of_poetry(title: str, entry: Any, place: str) -> list[Package]:
    """An entry of Poetry's: a version, a table, or a list of tables; a bare version is exact."""
    if isinstance(entry, list):
        return [package for one in entry for package in _of_poetry(title, one, place)]
    table = entry if isinstance(entry, dict) else {"version": str(entry)}
    wanted = str(table.get("version", ""))
    address = next((str(table[key]) for key in ("git", "url", "path", "file") if key in table), None)
    if address is not None and table.get("rev"):
        address = f"git+{address}@{table['rev']}"
    exact = re.fullmatch(r"(?:==)?\s*(\d[\w.+!-]*)", wanted)
    source = None if address is None else _without_password(address)
    return [Package(normalised(title), wanted, exact[1] if exact else only_version(wanted), source, (), place)]


# --- conda -----------------------------------------------------------------------------------------------------------


def conda(name: str, text: str) -> Listed:
    """What an environment.yml of conda's lists; packages of pip's in it too."""
    found = Listed("environment of conda")
    try:
        value = from_yaml(text)
    except DocumentError as fault:
        found.unread.append(f"{name}: {fault}")
        return found
    entries = value.get("dependencies") if isinstance(value, dict) else None
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict):
            lines = entry.get("pip")
            for line in lines if isinstance(lines, list) else []:
                inner = requirements(f"{name}: pip", str(line))
                found.packages += [one._replace(place=f"{name}: pip") for one in inner.packages]
                found.includes, found.indexes = found.includes + inner.includes, found.indexes + inner.indexes
                found.unread += inner.unread
        elif (package := _of_conda(str(entry), name)) is not None:
            found.packages.append(package)
        else:
            found.unread.append(f"{name}: {str(entry)[:200]}")
    return found


def _of_conda(entry: str, place: str) -> Package | None:
    """An entry of conda's: one equals sign takes versions that begin so, two or a build take exactly one."""
    match = re.fullmatch(r"(?:[\w./-]+::)?([A-Za-z0-9_][\w.-]*)\s*(.*)", entry.strip())
    if match is None:
        return None
    title, wanted = match[1], match[2].strip()
    exact = re.fullmatch(r"==\s*([\w.!+]+)|=\s*([\w.!+]+)=[\w.]+|\s*([\d][\w.!+]*)\s+[\w.]+", wanted)
    version = next((one for one in exact.groups() if one), None) if exact else None
    return Package(normalised(title), wanted, version, None, (), place, "conda")


# --- all of them -----------------------------------------------------------------------------------------------------


class Overall(NamedTuple):
    """A package in all files together.

    Attributes:
        name: Normalised.
        entries: Where it is listed, constraints among them.
    """

    name: str
    entries: tuple[Package, ...]

    @property
    def versions(self) -> list[str]:
        """Versions it is pinned to; more than one contradict each other, or are for different platforms."""
        return sorted({one.version for one in self.entries if one.version is not None})

    @property
    def is_pinned(self) -> bool:
        """Whether some file pins it."""
        return any(one.is_pinned for one in self.entries)

    @property
    def is_hashed(self) -> bool:
        """Whether some file binds its content."""
        return any(one.is_hashed for one in self.entries)

    @property
    def source(self) -> str | None:
        """An address or path that it comes from instead of an index."""
        return next((one.source for one in self.entries if one.source is not None), None)


def overall(listed: Iterable[Listed]) -> list[Overall]:
    """Packages of all files by name; one that is only bounded and nowhere listed is not installed.

    Where only constraints are given, they are taken as the list.

    Args:
        listed: The files.

    Returns:
        Packages in the order of their names.
    """
    entries: dict[tuple[str, str], list[Package]] = {}
    for one in (package for file in listed for package in file.packages):
        entries.setdefault((one.name, one.kind), []).append(one)
    wanted = [key for key, ones in entries.items() if not all(one.is_constraint for one in ones)] or entries
    return [Overall(key[0], tuple(entries[key])) for key in sorted(wanted)]
