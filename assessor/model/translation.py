"""catalog/i18n/: the texts of the catalog in another language, and laying them over the English ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import ConfigDict, Field, StringConstraints

from assessor.contract import Frozen
from assessor.model.catalog import Catalog, Guidance, Question, QuestionType, Requirement
from assessor.model.words import Identifier, Text


class QuestionText(Frozen):
    """A question in another language; `options` and `columns` by the stored word."""

    text: Text
    options: Mapping[str, Text] = Field(default_factory=dict)
    columns: Mapping[str, Text] = Field(default_factory=dict)
    unit: Text | None = None
    label: Text | None = None


class ParamText(Frozen):
    """A param in another language."""

    label: Text
    options: Mapping[str, Text] = Field(default_factory=dict)
    unit: Text | None = None


class RequirementText(Frozen):
    """One requirement in another language.

    Attributes:
        source: Digest of the English texts it was translated from (`text_digest`): another one makes it stale.
        title: Translated title.
        statement: Translated statement.
        guidance: Translated guidance.
        objectives: By objective id.
        params: By param id.
        questions: By question id.
        evidence: The texts `what`, in order.
        no_check_because: Translated reason.
    """

    source: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{12}$")]
    title: Annotated[Text, StringConstraints(max_length=110)]
    statement: Text
    guidance: Guidance
    objectives: Mapping[str, Text]
    params: Mapping[Identifier, ParamText] = Field(default_factory=dict)
    questions: Mapping[Identifier, QuestionText]
    evidence: tuple[Text, ...]
    no_check_because: Text | None = None


class Translations(Frozen):
    """One sidecar: the requirements of one area."""

    model_config = ConfigDict(title="Translations of one area")

    area: Identifier
    translations: Mapping[str, RequirementText]


class HeadTranslation(Frozen):
    """i18n/<language>/catalog.yaml: titles of the catalog, its dimensions, areas and documents by id."""

    model_config = ConfigDict(title="Translation of the catalog's head")

    title: Text
    source_note: Text
    dimensions: Mapping[Identifier, Text]
    areas: Mapping[Identifier, Text]
    documents: Mapping[Identifier, Text]


def texts(requirement: Requirement) -> dict[str, Any]:
    """Everything of a requirement that has to be translated, by where it stands."""
    return {
        "title": requirement.title,
        "statement": requirement.statement,
        "guidance": requirement.guidance.model_dump(mode="json"),
        "objectives": {item.id: item.text for item in requirement.objectives},
        "params": {
            item.id: {"label": item.label, "unit": item.unit, "options": list(item.options)}
            for item in requirement.params
        },
        "questions": {
            item.id: {
                "text": item.text,
                "label": item.label,
                "unit": item.unit,
                "options": list(item.options),
                "columns": list(item.columns),
            }
            for item in requirement.questions
        },
        "evidence": [item.what for item in requirement.evidence],
        "no_check_because": requirement.no_check_because,
    }


def text_digest(requirement: Requirement) -> str:
    """Twelve hexadecimal digits that change with any English text of the requirement."""
    content = json.dumps(texts(requirement), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def faults(requirement: Requirement, translation: RequirementText) -> Iterator[str]:
    """What a translation lacks, has too much of, or was made from an older text of.

    Args:
        requirement: In English.
        translation: In another language.

    Yields:
        One sentence a fault: `field: found, wanted`.
    """
    wanted, digest = texts(requirement), text_digest(requirement)
    if translation.source != digest:
        yield f"source: found '{translation.source}', wanted '{digest}': the English text has changed since"
    yield from _ids("objectives", wanted["objectives"], translation.objectives)
    yield from _ids("params", wanted["params"], translation.params)
    yield from _ids("questions", wanted["questions"], translation.questions)
    for name, question in translation.questions.items():
        if name in wanted["questions"]:
            yield from _ids(f"questions.{name}.options", wanted["questions"][name]["options"], question.options)
            yield from _option_faults(requirement.question(name), question)
            yield from _ids(f"questions.{name}.columns", wanted["questions"][name]["columns"], question.columns)
            yield from _both(f"questions.{name}.unit", wanted["questions"][name]["unit"], question.unit)
            yield from _both(f"questions.{name}.label", wanted["questions"][name]["label"], question.label)
    for name, param in translation.params.items():
        if name in wanted["params"]:
            yield from _ids(f"params.{name}.options", wanted["params"][name]["options"], param.options)
            yield from _both(f"params.{name}.unit", wanted["params"][name]["unit"], param.unit)
    for field, english, ours in (
        ("evidence", wanted["evidence"], translation.evidence),
        ("guidance.mistakes", wanted["guidance"]["mistakes"], translation.guidance.mistakes),
    ):
        if len(english) != len(ours):
            yield f"{field}: found {len(ours)}, wanted {len(english)}"
    yield from _both("no_check_because", wanted["no_check_because"], translation.no_check_because)


def _ids(field: str, wanted: Any, found: Mapping[str, Any]) -> Iterator[str]:
    for name in wanted:
        if name not in found:
            yield f"{field}: '{name}' is missing"
    for name in found:
        if name not in wanted:
            yield f"{field}: found '{name}', which the English text does not have"


def _option_faults(question: Question | None, text: QuestionText) -> Iterator[str]:
    """Options that could not be told apart in a reply."""
    field, words = f"questions.{question.id if question else ''}.options", [*text.options.values()]
    if repeated := {word for word in words if [item.casefold() for item in words].count(word.casefold()) > 1}:
        yield f"{field}: '{min(repeated)}' appears twice"
    if question and question.type is QuestionType.SEVERAL and any(mark in word for word in words for mark in ",;"):
        yield f"{field}: hold no comma and no semicolon, which part a reply"


def _both(field: str, wanted: str | None, found: str | None) -> Iterator[str]:
    if (wanted is None) != (found is None):
        yield f"{field}: {'is missing' if found is None else 'found, but the English text has none'}"


def translated(requirement: Requirement, text: RequirementText) -> Requirement:
    """The requirement with its texts in another language; ids, stored words and conditions stay."""
    questions = tuple(
        item.model_copy(
            update={
                "text": text.questions[item.id].text,
                "label": text.questions[item.id].label,
                "unit": text.questions[item.id].unit,
                "labels": {**text.questions[item.id].options, **text.questions[item.id].columns},
            }
        )
        for item in requirement.questions
    )
    params = tuple(
        item.model_copy(
            update={
                "label": text.params[item.id].label,
                "unit": text.params[item.id].unit,
                "labels": dict(text.params[item.id].options),
            }
        )
        for item in requirement.params
    )
    return requirement.model_copy(
        update={
            "title": text.title,
            "statement": text.statement,
            "guidance": text.guidance,
            "objectives": tuple(
                item.model_copy(update={"text": text.objectives[item.id]}) for item in requirement.objectives
            ),
            "params": params,
            "questions": questions,
            "evidence": tuple(
                item.model_copy(update={"what": what})
                for item, what in zip(requirement.evidence, text.evidence, strict=True)
            ),
            "no_check_because": text.no_check_because,
        }
    )


def translated_head(catalog: Catalog, text: HeadTranslation) -> Any:
    """The catalog's head in another language."""
    head = catalog.head
    dimensions = tuple(
        dimension.model_copy(
            update={
                "title": text.dimensions[dimension.id],
                "areas": tuple(area.model_copy(update={"title": text.areas[area.id]}) for area in dimension.areas),
            }
        )
        for dimension in head.dimensions
    )
    return head.model_copy(
        update={
            "title": text.title,
            "source": head.source.model_copy(update={"note": text.source_note}),
            "dimensions": dimensions,
            "documents": tuple(item.model_copy(update={"title": text.documents[item.id]}) for item in head.documents),
        }
    )
