"""The catalog: YAML files to a `Catalog`, every fault told as `file:line field: found, wanted`."""

from __future__ import annotations

import hashlib
from importlib.resources import as_file, files
from pathlib import Path

from assessor.errors import ConfigurationError, UsageError, nearest
from assessor.model import AreaHead, Catalog, CatalogHead, DimensionHead, Requirement, Requirements
from assessor.yamlfile import Document, read, validate


def load_catalog(folder: Path | None = None) -> Catalog:
    """The catalog in a folder.

    Args:
        folder: Holds catalog.yaml; None for the catalog that comes with the product.

    Returns:
        The catalog, complete and with all references resolved.

    Raises:
        UsageError: There is no catalog.
        ConfigurationError: It has faults, one a line.
    """
    if folder is None:
        with as_file(files("assessor.catalog")) as packaged:
            return load_catalog(Path(packaged))
    if not (folder / "catalog.yaml").is_file():
        raise UsageError(f"{folder}: no catalog.yaml here; wanted the folder of a catalog")
    head = validate(_read(folder, "catalog.yaml"), CatalogHead)
    faults = _stray_files(folder, head)
    placed: list[tuple[Requirement, str]] = []
    whole = True
    for dimension in head.dimensions:
        for area in dimension.areas:
            try:
                document = _read(folder, _file(dimension, area))
                found = validate(document, Requirements)
            except (ConfigurationError, UsageError) as fault:
                faults.append(str(fault))
                whole = False
                continue
            for index, requirement in enumerate(found.requirements):
                placed.append((requirement, f"{document.name}:{document.lines['requirements', index]}"))
            faults += _area_faults(document, found, area)
    faults += _reference_faults(placed, whole=whole)
    if faults:
        raise ConfigurationError("\n".join(faults))
    return Catalog(head=head, requirements=tuple(item for item, _ in placed), sha256=_digest(folder, head))


def _file(dimension: DimensionHead, area: AreaHead) -> str:
    return f"{dimension.id}/{area.id}.yaml"


def _read(folder: Path, name: str) -> Document:
    return read(folder / name, name)


def _stray_files(folder: Path, head: CatalogHead) -> list[str]:
    listed = {_file(dimension, area) for dimension in head.dimensions for area in dimension.areas}
    names = {dimension.id for dimension in head.dimensions}
    present = {str(path.relative_to(folder)) for name in names for path in sorted((folder / name).glob("*.yaml"))}
    return [f"{name}:1 found a file that catalog.yaml does not list under areas" for name in sorted(present - listed)]


def _area_faults(document: Document, found: Requirements, area: AreaHead) -> list[str]:
    faults = []
    if found.area != area.id:
        faults.append(f"{document.name}:{document.lines[('area',)]} area: found '{found.area}', wanted '{area.id}'")
    for index, requirement in enumerate(found.requirements):
        if requirement.area != area.id:
            line = document.lines["requirements", index, "id"]
            faults.append(f"{document.name}:{line} id: found '{requirement.id}', wanted an id of area {area.id}")
    return faults


def _reference_faults(placed: list[tuple[Requirement, str]], *, whole: bool) -> list[str]:
    """Ids that repeat and, where all files could be read, references that lead nowhere."""
    faults: list[str] = []
    where: dict[str, str] = {}
    known = {name for requirement, _ in placed for name in (requirement.id, *requirement.aliases)}
    for requirement, line in placed:
        place = f"{line} {requirement.id}"
        for name in (requirement.id, *requirement.aliases):
            if name in where:
                faults.append(f"{place}: id '{name}' appears twice (first {where[name]})")
            where[name] = place
        for reference in requirement.refers_to:
            if whole and reference not in known:
                faults.append(f"{place} refers_to: no requirement '{reference}'{nearest(reference, known)}")
    return faults


def _digest(folder: Path, head: CatalogHead) -> str:
    sha = hashlib.sha256()
    for name in ["catalog.yaml", *(_file(d, a) for d in head.dimensions for a in d.areas)]:
        content = (folder / name).read_bytes()
        sha.update(f"{name}\n{len(content)}\n".encode())
        sha.update(content)
    return sha.hexdigest()
