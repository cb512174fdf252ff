"""Catalog and assessment as tables of text, and tables as CSV that no spreadsheet takes for formulas.

Column names and the words for verdicts are the same in every language, so that scripts can rely on them.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import NamedTuple

from assessor.assessment import Assessment
from assessor.judgement import attached_evidence
from assessor.messages import _
from assessor.model import Aspect, Catalog, Requirement, RequirementState

FORMULA_SIGNS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # the last four are full-width ones
CONTROL_SIGNS = ("\t", "\r", "\n")


class Table(NamedTuple):
    """Rows of text under named columns."""

    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]

    def records(self) -> list[dict[str, str]]:
        """One mapping a row, for JSON."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]

    def as_csv(self) -> str:
        """CSV (RFC 4180), cells that could be taken for formulas made harmless by an apostrophe."""
        text = io.StringIO(newline="")
        csv.writer(text).writerows([self.columns, *([harmless(cell) for cell in row] for row in self.rows)])
        return text.getvalue()


def harmless(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula.

    >>> harmless("=1+1"), harmless("a = b"), harmless("  -2")
    ("'=1+1", 'a = b', "'  -2")
    """
    dangerous = cell.startswith(CONTROL_SIGNS) or cell.lstrip().startswith(FORMULA_SIGNS)
    return f"'{cell}" if dangerous else cell


def catalog_table(catalog: Catalog) -> Table:
    """One row a requirement, with all its texts."""
    columns = (
        "id", "dimension", "area", "aspect", "lifecycle", "kinds", "title", "statement", "applicability", "do",
        "example", "mistakes", "objectives", "questions", "targets", "evidence", "checks", "refers_to", "source",
    )  # fmt: skip
    titles = {area.id: area.title for _dimension, area in catalog.areas()}
    dimensions = {area.id: dimension.title for dimension, area in catalog.areas()}
    return Table(
        columns, [_catalog_row(item, dimensions[item.area], titles[item.area]) for item in catalog.requirements]
    )


def _catalog_row(item: Requirement, dimension: str, area: str) -> tuple[str, ...]:
    return (
        item.id,
        dimension,
        area,
        item.aspect,
        item.lifecycle or "",
        ", ".join(item.kinds),
        item.title,
        item.statement,
        item.applicability or "",
        item.guidance.do,
        item.guidance.example,
        "\n".join(item.guidance.mistakes),
        "\n".join(f"{objective.id}: {objective.text}" for objective in item.objectives),
        "\n".join(f"{question.id} ({question.role}, {question.type}): {question.text}" for question in item.questions),
        "\n".join(f"{param.id} ({param.type}): {param.label}" for param in item.params),
        "\n".join(f"{expected.type}: {expected.what}" for expected in item.evidence),
        ", ".join(item.checks),
        ", ".join(item.refers_to),
        item.provenance.status,
    )


def assessment_table(found: Assessment) -> Table:
    """One row a requirement: whether it applies, both verdicts, and what stands behind them."""
    columns = (
        "id", "title", "applies", "because", "self", "auditor", "assurance", "checks", "evidence", "contradictions"
    )  # fmt: skip
    rows = [
        (
            state.id,
            found.catalog.by_id[state.id].title,
            *applies(found, state.id),
            state.self_verdict,
            state.auditor_verdict,
            state.assurance,
            "; ".join(f"{check}: {status}" for check, status in state.checks.items()),
            "; ".join(item.name for item in attached_evidence(state.id, found.scope)),
            "; ".join(state.contradictions),
        )
        for state in _states(found)
    ]
    return Table(columns, rows)


def applicability_table(found: Assessment) -> Table:
    """The statement of applicability: every requirement of the catalog, whether it applies, and why."""
    rows = [(state.id, found.catalog.by_id[state.id].title, *applies(found, state.id)) for state in _states(found)]
    return Table(("id", "title", "applies", "because"), rows)


def applies(found: Assessment, requirement: str) -> tuple[str, str]:
    """Whether a requirement concerns the system, yes, no or not known, and why.

    What is not known yet is asked all the same. As long as nobody decided a protection need that could be low, no
    requirement of its dimension is known to apply, save the analysis of that need.
    """
    item = found.catalog.by_id[requirement]
    decision = found.scope.of(item)
    if not decision.applies:
        return "no", decision.because
    head = next(head for head in found.catalog.head.dimensions if head.id == item.dimension)
    need = found.configuration.protection_needs.of(item.dimension)
    said = _("not known yet") if need is None else _(need.level)
    by_need = _("protection need {dimension}: {value}", dimension=item.dimension, value=said)
    depends = head.is_dimension and item.aspect is not Aspect.PROTECTION
    if depends and need is None and head.lowest_need == "low":
        return "not known", "; ".join(text for text in (by_need, decision.because) if text)
    because = decision.because or (by_need if depends and need is not None else _("asked of every system"))
    return "yes" if decision.known else "not known", because


def _states(found: Assessment) -> list[RequirementState]:
    return [state for dimension in found.states for area in dimension.areas for state in area.requirements]
