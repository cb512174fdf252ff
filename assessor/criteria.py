"""The catalog: YAML files to a `Catalog`, every fault told as `file:line field: found, wanted`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import NamedTuple

from assessor.errors import ConfigurationError, UsageError, nearest
from assessor.expressions import Answered, Comparison, Expression, Listing, Literal, Reference, comparisons
from assessor.messages import LANGUAGES, SOURCE
from assessor.messages import language as language_in_use
from assessor.model import (
    DIMENSION_NAMES,
    AreaHead,
    Aspect,
    Catalog,
    CatalogHead,
    Configuration,
    DimensionHead,
    Framework,
    HeadTranslation,
    Level,
    Pack,
    Question,
    QuestionType,
    Requirement,
    Requirements,
    State,
    Translations,
    dimension_of,
)
from assessor.model.translation import faults as translation_faults
from assessor.model.translation import translated, translated_head
from assessor.yamlfile import Document, read, validate


class _Placed(NamedTuple):
    """A requirement and where it stands."""

    requirement: Requirement
    document: Document
    position: int

    def where(self, *path: str | int) -> str:
        """`file:line id field`."""
        at: tuple[str | int, ...] = ("requirements", self.position, *path)
        while at not in self.document.lines:
            at = at[:-1]
        field = ".".join(map(str, path))
        return f"{self.document.name}:{self.document.lines[at]} {self.requirement.id}{' ' + field if field else ''}"


@contextmanager
def _folder(folder: Path | None) -> Iterator[Path]:
    if folder is not None:
        yield folder
        return
    with as_file(files("assessor.catalog")) as packaged:
        yield Path(packaged)


def load_catalog(folder: Path | None = None, *, packs: Sequence[str] = (), language: str = "en") -> Catalog:
    """The catalog in a folder.

    Args:
        folder: Holds catalog.yaml; None for the catalog that comes with the product.
        packs: Ids of the packs that are switched on.
        language: Of the texts; one of `LANGUAGES`.

    Returns:
        The catalog, complete and with all references resolved.

    Raises:
        UsageError: There is no catalog, or a pack or language it does not have.
        ConfigurationError: It has faults, one a line.
    """
    with _folder(folder) as place:
        return _load(place, packs, language)


class Validated(NamedTuple):
    """Everything of a catalog, without a fault."""

    catalog: Catalog
    languages: tuple[str, ...]
    frameworks: tuple[Framework, ...]


def validate_catalog(folder: Path | None = None) -> Validated:
    """Read a catalog whole: all packs, all translations, all mappings.

    Args:
        folder: Holds catalog.yaml; None for the catalog that comes with the product.

    Returns:
        What was read, in English.

    Raises:
        UsageError: There is no catalog.
        ConfigurationError: It has faults, one a line.
    """
    with _folder(folder) as place:
        catalog = _load(place, None, SOURCE)
        languages = tuple(sorted(path.parent.name for path in (place / "i18n").glob("*/catalog.yaml")))
        for language in languages:
            in_language(catalog, place, language)
        return Validated(catalog, (SOURCE, *languages), load_frameworks(catalog, place))


def _load(folder: Path, packs: Sequence[str] | None, language: str) -> Catalog:
    """The catalog with some packs; None for all."""
    if not (folder / "catalog.yaml").is_file():
        raise UsageError(f"{folder}: no catalog.yaml here; wanted the folder of a catalog")
    head = validate(_read(folder, "catalog.yaml"), CatalogHead)
    faults: list[str] = []
    names = {"catalog.yaml"}
    dimensions = list(head.dimensions)
    for pack in dict.fromkeys(head.packs if packs is None else packs):
        if pack not in head.packs:
            raise UsageError(
                f"no pack '{pack}' in the catalog{nearest(pack, head.packs)}; known: {', '.join(head.packs)}"
            )
        names.add(f"packs/{pack}/pack.yaml")
        document = _read(folder, f"packs/{pack}/pack.yaml")
        dimensions.append(validate(document, Pack).dimension)
        if dimensions[-1].id != pack:
            found_id = dimensions[-1].id
            raise ConfigurationError(
                f"{document.name}:{document.lines[('id',)]} id: found '{found_id}', wanted '{pack}'"
            )
    head = head.model_copy(update={"dimensions": tuple(_judgement_last(dimensions))})
    faults += _stray_files(folder, head)
    placed: list[_Placed] = []
    whole = True
    for dimension in head.dimensions:
        for area in dimension.areas:
            names.add(_file(dimension, area))
            try:
                document = _read(folder, _file(dimension, area))
                found = validate(document, Requirements)
            except (ConfigurationError, UsageError) as fault:
                faults.append(str(fault))
                whole = False
                continue
            placed += [_Placed(item, document, index) for index, item in enumerate(found.requirements)]
            faults += _area_faults(document, found, area)
    faults += _repeated_ids(placed)
    if whole:
        faults += _reference_faults(placed, head)
    if faults:
        raise ConfigurationError("\n".join(faults))
    catalog = Catalog(
        head=head, requirements=tuple(item.requirement for item in placed), sha256=_digest(folder, sorted(names))
    )
    return catalog if language == "en" else in_language(catalog, folder, language)


def _judgement_last(dimensions: list[DimensionHead]) -> list[DimensionHead]:
    """Packs stand after the six dimensions and before the final judgement."""
    return sorted(dimensions, key=lambda dimension: dimension.id == "AT")


def _file(dimension: DimensionHead, area: AreaHead) -> str:
    return f"{'packs/' if dimension.is_pack else ''}{dimension.id}/{area.id}.yaml"


def _read(folder: Path, name: str) -> Document:
    return read(folder / name, name)


def _stray_files(folder: Path, head: CatalogHead) -> list[str]:
    listed = {_file(dimension, area) for dimension in head.dimensions for area in dimension.areas}
    listed |= {f"packs/{dimension.id}/pack.yaml" for dimension in head.dimensions if dimension.is_pack}
    names = {f"packs/{dimension.id}" if dimension.is_pack else dimension.id for dimension in head.dimensions}
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


def _repeated_ids(placed: list[_Placed]) -> list[str]:
    faults: list[str] = []
    where: dict[str, str] = {}
    for item in placed:
        for name in (item.requirement.id, *item.requirement.aliases):
            if name in where:
                faults.append(f"{item.where()}: id '{name}' appears twice (first {where[name]})")
            where[name] = item.where()
    return faults


def _reference_faults(placed: list[_Placed], head: CatalogHead) -> list[str]:
    """References that lead nowhere: to requirements, documents, facts, questions."""
    known = {name: item.requirement for item in placed for name in (item.requirement.id, *item.requirement.aliases)}
    documents = {document.id for document in head.documents}
    facts, faults = _facts(placed)
    for item in placed:
        requirement = item.requirement
        for field in ("refers_to", "replaced_by"):
            for name in getattr(requirement, field):
                if name not in known:
                    faults.append(f"{item.where(field)}: no requirement '{name}'{nearest(name, known)}")
        for index, expected in enumerate(requirement.evidence):
            if expected.document and expected.document not in documents:
                faults.append(
                    f"{item.where('evidence', index, 'document')}: no document '{expected.document}' in catalog.yaml"
                    f"{nearest(expected.document, documents)}"
                )
        for path, expression in _conditions(requirement):
            for atom in comparisons(expression):
                faults += [f"{item.where(*path)}: {fault}" for fault in _condition_faults(atom, known, facts)]
        for index, question in enumerate(requirement.questions):
            for source in question.prefill:
                name = source.removeprefix("answer:")
                if name != source and (fault := _reply_fault(name, known)):
                    faults.append(f"{item.where('questions', index, 'prefill')}: {fault}")
    return faults


def _facts(placed: list[_Placed]) -> tuple[dict[str, Question], list[str]]:
    """Questions of the AI profile by the name that conditions use, and faults of such names."""
    facts: dict[str, Question] = {}
    faults: list[str] = []
    for item in placed:
        for index, question in enumerate(item.requirement.questions):
            if question.fact and item.requirement.aspect is not Aspect.PROFILE:
                faults.append(f"{item.where('questions', index, 'fact')}: found a fact outside the AI profile")
            elif question.fact in facts:
                faults.append(f"{item.where('questions', index, 'fact')}: fact '{question.fact}' appears twice")
            elif question.fact:
                facts[question.fact] = question
    return facts, faults


def _conditions(requirement: Requirement) -> Iterator[tuple[tuple[str | int, ...], Expression]]:
    if requirement.condition is not None:
        yield ("applicability",), requirement.condition
    for index, question in enumerate(requirement.questions):
        if question.condition is not None:
            yield ("questions", index, "show_if"), question.condition


def _condition_faults(
    atom: Comparison | Answered, known: dict[str, Requirement], facts: dict[str, Question]
) -> Iterator[str]:
    if isinstance(atom, Answered):
        if atom.requirement not in known:
            yield f"no requirement '{atom.requirement}'{nearest(atom.requirement, known)}"
        return
    for side, other in ((atom.left, atom.right), (atom.right, atom.left)):
        if not isinstance(side, Reference):
            continue
        kind, _, name = side.name.partition(".")
        if side.name.startswith("reply("):
            named = side.name[len("reply(") : -1]
            if fault := _reply_fault(named, known):
                yield fault
                continue
            requirement, _, question_id = named.rpartition(".")
            question = known[requirement].question(question_id)
        elif kind == "profile":
            question = facts.get(name)
            if question is None:
                yield f"no fact 'profile.{name}' in the AI profile{nearest(name, facts)}"
        else:
            question = None
            needs = {*DIMENSION_NAMES.values(), *(dimension_of(item) for item in known if item.startswith("X-"))}
            if name and name not in needs:
                yield f"no protection need of '{name}'{nearest(name, needs)}"
            yield from _word_faults(side, other, tuple(Level))
        if question is not None:
            yield from _word_faults(side, other, question.choices)
            if question.type is QuestionType.SEVERAL and (side is atom.left or atom.operator not in {"in", "not in"}):
                yield f"{side} holds several words; wanted 'word' in {side}"


def _word_faults(side: Reference, other: object, choices: Sequence[str]) -> Iterator[str]:
    items = other.items if isinstance(other, Listing) else (other,)
    for item in items:
        if isinstance(item, Literal) and choices and item.value not in choices:
            wanted = ", ".join(choices)
            yield f"{side} is never '{item.value}'{nearest(str(item.value), choices)}; it is one of: {wanted}"


def _reply_fault(named: str, known: dict[str, Requirement]) -> str:
    requirement, _, question = named.rpartition(".")
    if requirement not in known:
        return f"no requirement '{requirement}'{nearest(requirement, known)}"
    if known[requirement].question(question) is None:
        return f"{requirement} has no question '{question}'"
    return ""


def _digest(folder: Path, names: Sequence[str]) -> str:
    sha = hashlib.sha256()
    for name in names:
        content = (folder / name).read_bytes()
        sha.update(f"{name}\n{len(content)}\n".encode())
        sha.update(content)
    return sha.hexdigest()


# --- languages -------------------------------------------------------------------------------------------------------


def in_language(catalog: Catalog, folder: Path, language: str) -> Catalog:
    """The catalog with its texts in another language.

    Args:
        catalog: In English.
        folder: Holds i18n/<language>/.
        language: The other one.

    Returns:
        The same requirements with other words.

    Raises:
        UsageError: There are no translations into that language.
        ConfigurationError: One is missing, stale or has too much, one fault a line.
    """
    if not (folder / "i18n" / language / "catalog.yaml").is_file():
        raise UsageError(f"--lang: found '{language}', wanted one of {', '.join(LANGUAGES)}")
    head = validate(_read(folder, f"i18n/{language}/catalog.yaml"), HeadTranslation)
    faults: list[str] = []
    requirements: list[Requirement] = []
    for dimension, area in catalog.areas():
        name = f"i18n/{language}/{dimension.id}/{area.id}.yaml"
        document = _read(folder, name)
        sidecar = validate(document, Translations)
        texts = sidecar.translations
        if sidecar.area != area.id:
            faults.append(f"{name}:{document.lines[('area',)]} area: found '{sidecar.area}', wanted '{area.id}'")
        here = {item.id: item for item in catalog.by_area[area.id]}
        faults += [f"{name}: found '{stray}', which {area.id} does not have" for stray in texts if stray not in here]
        for item in here.values():
            if item.id not in texts:
                faults.append(f"{name}: '{item.id}' is missing")
                continue
            line = document.lines["translations", item.id]
            found = [f"{name}:{line} {item.id} {fault}" for fault in translation_faults(item, texts[item.id])]
            faults += found
            if not found:
                requirements.append(translated(item, texts[item.id]))
    for field, wanted in (
        ("dimensions", [dimension.id for dimension in catalog.head.dimensions]),
        ("areas", [area.id for _, area in catalog.areas()]),
        ("documents", [document.id for document in catalog.head.documents]),
    ):
        faults += [
            f"i18n/{language}/catalog.yaml {field}: '{name}' is missing"
            for name in wanted
            if name not in getattr(head, field)
        ]
    if faults:
        raise ConfigurationError("\n".join(faults))
    return Catalog(  # anew: a copy would take over what was looked up in the English one
        head=translated_head(catalog, head),
        requirements=tuple(requirements),
        sha256=catalog.sha256,
        language=language,
    )


# --- frameworks ------------------------------------------------------------------------------------------------------


def load_frameworks(catalog: Catalog, folder: Path | None = None) -> tuple[Framework, ...]:
    """All mapping files of the catalog, in order of id.

    Args:
        catalog: The requirements they point at, packs included.
        folder: Holds mappings/; None for the catalog that comes with the product.

    Returns:
        The frameworks.

    Raises:
        ConfigurationError: A file has faults or points at a requirement that there is not.
    """
    with _folder(folder) as place:
        documents = [read(path, f"mappings/{path.name}") for path in sorted((place / "mappings").glob("*.yaml"))]
    faults: list[str] = []
    found: list[Framework] = []
    known = {*catalog.by_id, *catalog.by_area}
    for document in documents:
        framework = validate(document, Framework)
        if framework.id != document.name.removeprefix("mappings/").removesuffix(".yaml"):
            faults.append(
                f"{document.name}:{document.lines[('id',)]} id: found '{framework.id}', wanted the file's name"
            )
        for index, clause in enumerate(framework.clauses):
            for position, item in enumerate(clause.maps):
                line = document.lines["clauses", index, "maps", position, "requirements"]
                faults += [
                    f"{document.name}:{line} {clause.id}: no requirement or area '{name}'{nearest(name, known)}"
                    for name in item.requirements
                    if name not in known
                ]
        found.append(framework)
    if faults:
        raise ConfigurationError("\n".join(faults))
    return tuple(found)


def followed_catalog(configuration: Configuration, language: str | None = None) -> Catalog:
    """The installed catalog with the packs that an assessment switched on, if it is the one the assessment follows.

    Args:
        configuration: assessor.yaml.
        language: Of the texts; default the one in use.

    Returns:
        The catalog.

    Raises:
        UsageError: It follows another one, another version, or a pack there is not.
    """
    wanted = configuration.catalog
    catalog = _installed(wanted.packs, language or language_in_use())
    if (wanted.id, wanted.version) != (catalog.head.id, catalog.head.version):
        raise UsageError(
            f"assessor.yaml catalog: the assessment follows {wanted.id} {wanted.version}, installed is "
            f"{catalog.head.id} {catalog.head.version}; bring it up to date with  assessor migrate"
        )
    return catalog


@lru_cache
def _installed(packs: tuple[str, ...], language: str) -> Catalog:
    """The catalog that comes with the product, read once: it does not change while the program runs."""
    return load_catalog(packs=packs, language=language)


def active(catalog: Catalog) -> tuple[Requirement, ...]:
    """The requirements that are in use."""
    return tuple(item for item in catalog.requirements if item.state is State.ACTIVE)
