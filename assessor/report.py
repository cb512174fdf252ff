"""The report: one assessment as HTML, PDF or JSON, from stored results only.

The canonical JSON of the assessment is attached inside the PDF, and its digest is printed on the page.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from assessor import confined, pages
from assessor.assessment import Assessment
from assessor.canonical import canonical_json
from assessor.charts import data_uri, drawing, picture
from assessor.contract import Check
from assessor.pages import Attached
from assessor.report_cards import to_draw
from assessor.report_content import ATTACHMENT, report_content


def report_json(assessment: Assessment) -> bytes:
    """The assessment as canonical JSON."""
    return canonical_json(assessment.record())


def report_html(assessment: Assessment, checks: Mapping[str, Check], *, templates: Path | None = None) -> str:
    """The report as one HTML page that needs nothing else.

    Args:
        assessment: What to report.
        checks: Installed checks, for their plots; a result whose check is missing is shown without.
        templates: Folder with templates that take the place of ours, by name.

    Returns:
        HTML.

    Raises:
        UsageError: A template has a fault.
    """
    record = assessment.record()
    content = base64.b64encode(canonical_json(record)).decode()
    with drawing(to_draw(assessment.runs, checks)) as plots:
        addresses = {name: data_uri(plot()) for name, plot in plots.items()}
        uri = f"data:application/json;base64,{content}"
        return _render(record, assessment, checks, addresses, templates, results_uri=uri)


def report_pdf(assessment: Assessment, checks: Mapping[str, Check], *, templates: Path | None = None) -> bytes:
    """The report as PDF/A-3a with the canonical JSON of the assessment attached.

    Args:
        assessment: What to report.
        checks: Installed checks, for their plots.
        templates: Folder with templates that take the place of ours.

    Returns:
        The PDF; the same bytes for the same record.

    Raises:
        UsageError: A template has a fault or a system library is missing.
        MissingExtra: WeasyPrint is not installed.
    """
    with drawing(to_draw(assessment.runs, checks)) as plots:
        record = assessment.record()
        description = "Machine-readable results of this assessment (canonical JSON)"
        attached = Attached(ATTACHMENT, canonical_json(record), description, record["created"])
        if templates is not None:
            addresses = {name: data_uri(plot()) for name, plot in plots.items()}
            return confined.pdf(_render(record, assessment, checks, addresses, templates), attached)
        html = _render(record, assessment, checks, {name: f"plot:{name}" for name in plots})
        return pages.pdf(html, attached, {f"plot:{name}": partial(_content, plot) for name, plot in plots.items()})


def _content(plot: Callable[[], str | None]) -> bytes:
    return picture(plot())


def _render(
    record: dict[str, Any],
    assessment: Assessment,
    checks: Mapping[str, Check],
    plots: Mapping[str, str],
    templates: Path | None = None,
    *,
    results_uri: str | None = None,
) -> str:
    context = {**report_content(record, assessment, checks, plots), "results_uri": results_uri}
    name, digest = "report.html.j2", context["digest"]
    if templates is None:
        return pages.page(name, context, digest=digest)
    return confined.page(name, context, digest=digest, templates=templates)
