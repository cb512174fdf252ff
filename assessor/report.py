"""The report: one assessment as HTML, PDF or JSON, from stored results only.

The canonical JSON of the assessment is attached inside the PDF, and its digest is printed on the page.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from assessor.assessment import Assessment
from assessor.canonical import canonical_json
from assessor.contract import Check
from assessor.errors import MissingExtra, UsageError
from assessor.messages import _
from assessor.report_content import ATTACHMENT, report_content

FONTS = (
    ("IBM Plex Sans", "400", "normal", "IBMPlexSans-Regular.woff2"),
    ("IBM Plex Sans", "600", "normal", "IBMPlexSans-SemiBold.woff2"),
    ("IBM Plex Sans", "400", "italic", "IBMPlexSans-Italic.woff2"),
    ("IBM Plex Mono", "400", "normal", "IBMPlexMono-Regular.woff2"),
)
PANGO = (
    "making a PDF needs the Pango libraries, and one is missing here. On Debian and Ubuntu:\n"
    "apt-get install --no-install-recommends libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0\n"
    "(without them:  assessor report --format html)"
)


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
    return _render(record, assessment, checks, templates, results_uri=f"data:application/json;base64,{content}")


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
    try:
        import weasyprint
        from weasyprint.urls import FatalURLFetchingError, URLFetcher
    except ModuleNotFoundError as fault:
        raise MissingExtra("making a PDF", "report") from fault
    except OSError as fault:
        raise UsageError(PANGO) from fault

    record = assessment.record()
    content = canonical_json(record)
    html = _render(record, assessment, checks, templates)
    created = datetime.fromisoformat(record["created"])
    attachment = weasyprint.Attachment(
        string=content,
        name=ATTACHMENT,
        description="Machine-readable results of this assessment (canonical JSON)",
        relationship="Data",
        created=created,
        modified=created,
    )
    fetcher = URLFetcher(allowed_protocols={"data"}, fail_on_errors=True)
    try:
        document = weasyprint.HTML(string=html, url_fetcher=fetcher)
        pdf: bytes | None = document.write_pdf(pdf_variant="pdf/a-3a", attachments=[attachment], pdf_tags=True)
    except FatalURLFetchingError as fault:  # a BaseException of WeasyPrint's own
        raise UsageError(f"the template asks for something outside the report: {fault}") from fault
    assert pdf is not None  # only when written to a target of ours
    return pdf


def _render(
    record: dict[str, Any],
    assessment: Assessment,
    checks: Mapping[str, Check],
    templates: Path | None,
    *,
    results_uri: str | None = None,
) -> str:
    from jinja2 import ChoiceLoader, FileSystemLoader, StrictUndefined, TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from markupsafe import Markup

    ours = FileSystemLoader(str(files("assessor.templates") / "report"))
    loader = ChoiceLoader([FileSystemLoader(templates), ours]) if templates else ours
    environment = ImmutableSandboxedEnvironment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals["_"] = _
    context = report_content(record, assessment, checks)
    style = (files("assessor.templates") / "report" / "report.css").read_text("utf-8")
    style = style.replace("@PAGE@", _("page")).replace("@OF@", _("of")).replace("@DIGEST@", context["digest"])
    try:
        return environment.get_template("report.html.j2").render(
            **context,
            results_uri=results_uri,
            style=Markup(_font_faces() + style),  # noqa: S704 - our own file
        )
    except TemplateError as fault:
        where = f"{getattr(fault, 'name', None) or 'template'}:{getattr(fault, 'lineno', '?')}"
        raise UsageError(f"report template {where}: {fault}") from fault


def _font_faces() -> str:
    folder = files("assessor.templates") / "fonts"
    return "".join(
        f"@font-face{{font-family:'{family}';font-weight:{weight};font-style:{style};"
        f"src:url(data:font/woff2;base64,{base64.b64encode((folder / name).read_bytes()).decode()})}}\n"
        for family, weight, style, name in FONTS
    )
