"""A software bill of materials in CycloneDX 1.6 (ECMA-424), from the packages that files list."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from assessor_checks._requirements import Overall, Package

SCHEMA = "http://cyclonedx.org/schema/bom-1.6.schema.json"
PREFIX = "ai-assessor"  # of the names of our own properties
_ALGORITHMS = {
    "md5": ("MD5", 32),
    "sha1": ("SHA-1", 40),
    "sha256": ("SHA-256", 64),
    "sha384": ("SHA-384", 96),
    "sha512": ("SHA-512", 128),
}
_NAMESPACE = uuid.UUID("c2f0a1de-7b1b-5b0e-9d0e-0f2a6c9d1f52")


def cyclonedx(packages: Sequence[Overall]) -> dict[str, Any]:
    """The bill: one component a package and version, in the order given.

    The same packages give the same bytes: its serial number is a digest of the components, and it bears no date.

    Args:
        packages: As `overall` gives them.

    Returns:
        A CycloneDX 1.6 document as plain data.

    >>> cyclonedx([])["specVersion"]
    '1.6'
    """
    components = [component for package in packages for component in _components(package)]
    serial = uuid.uuid5(_NAMESPACE, json.dumps(components, sort_keys=True))
    return {
        "$schema": SCHEMA,
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "components": components,
    }


def package_url(package: Package) -> str:
    """Address of a package by the purl specification; without a version where none is known.

    >>> package_url(Package("numpy", "==2.4.6", "2.4.6", None, (), ""))
    'pkg:pypi/numpy@2.4.6'
    """
    version = f"@{quote(package.version, safe='')}" if package.version else ""
    return f"pkg:{package.kind}/{quote(package.name, safe='')}{version}"


def _components(package: Overall) -> list[dict[str, Any]]:
    """One component a pinned version, the first of them with the entries that pin none; one where none is pinned."""
    versions: list[str | None] = list(package.versions) or [None]
    by_version: dict[str | None, list[Package]] = {version: [] for version in versions}
    for one in package.entries:
        by_version[versions[0] if one.version is None else one.version].append(one)
    return [_component(entries, version) for version, entries in by_version.items()]


def _component(entries: Sequence[Package], version: str | None) -> dict[str, Any]:
    first = next((one for one in entries if one.version == version), entries[0])
    hashes = sorted({one for entry in entries if entry.version == version for one in entry.hashes})
    address = package_url(first)
    found: dict[str, Any] = {"type": "library", "bom-ref": address, "name": first.name}
    if version is not None:
        found["version"] = version
    written = [one for one in map(_hash, hashes) if one is not None]
    if len(written) == 1:
        found["hashes"] = written
    found["purl"] = address
    references = _references(entries, written if len(written) > 1 else [], first)
    if references:
        found["externalReferences"] = references
    places = sorted({one.place for one in entries})
    found["properties"] = [{"name": f"{PREFIX}:listed", "value": place} for place in places]
    return found


def _references(entries: Sequence[Package], hashes: list[dict[str, str]], first: Package) -> list[dict[str, Any]]:
    """Where it comes from: addresses outside an index, or the index with the hashes of all its files."""
    sources = sorted({one.source for one in entries if one.source is not None})
    found: list[dict[str, Any]] = [
        {"type": "vcs" if re.match(r"(git|hg|svn|bzr)\+", source) else "distribution", "url": quote(source, safe=_URL)}
        for source in sources
    ]
    if hashes:
        index = "https://pypi.org/project" if first.kind == "pypi" else "https://anaconda.org/search?q="
        place = f"{index}/{first.name}/{first.version}/" if first.kind == "pypi" else f"{index}{first.name}"
        found.append({"type": "distribution", "url": quote(place, safe=_URL), "hashes": hashes})
    return found


_URL = ":/?#[]@!$&'()*+,;=%~"


def _hash(text: str) -> dict[str, str] | None:
    """A hash as CycloneDX has it; None where it knows no such algorithm or the digits do not fit."""
    kind, _, digits = text.partition(":")
    name, length = _ALGORITHMS.get(kind, ("", 0))
    return (
        {"alg": name, "content": digits.lower()} if re.fullmatch(rf"[0-9a-fA-F]{{{length}}}", digits) and name else None
    )
