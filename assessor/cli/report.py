"""`assessor report`: the report, from stored results only."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assessor.cli.terminal import ProjectOption, err, one_of, open_project, out
from assessor.errors import UsageError
from assessor.files import write_whole
from assessor.messages import _, retold

if TYPE_CHECKING:
    from assessor.project import Project

FORMATS = ("pdf", "html", "json")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(report)


def report(
    project: ProjectOption = None,
    format_: Annotated[
        str, typer.Option("--format", help="pdf, html or json.", autocompletion=one_of("pdf", "html", "json"))
    ] = "pdf",
    output: Annotated[
        Path | None, typer.Option(help="Default: reports/ in the assessment folder; - for standard output.")
    ] = None,
    template: Annotated[
        Path | None, typer.Option(help="Folder with templates in place of ours.", file_okay=False)
    ] = None,
) -> None:
    """Write the report; nothing is measured."""
    if format_ not in FORMATS:
        raise UsageError(f"--format: found '{format_}', wanted one of {', '.join(FORMATS)}")
    opened = open_project(project)
    content = make(opened, format_, template)
    if str(output) == "-":
        sys.stdout.buffer.write(content)
        return
    out().print(str(write(opened, content, format_, output)), markup=False)


def make(project: Project, format_: str, template: Path | None = None) -> bytes:
    """The report in one format."""
    from assessor.assessment import Assessment
    from assessor.cli.status import broken_evidence
    from assessor.registry import load_checks
    from assessor.report import report_html, report_json, report_pdf

    assessment = Assessment.read(project)
    if not assessment.runs:
        err().print(_("nothing was measured yet; the report says so"), style="yellow")
    for item in broken_evidence(project, assessment):
        err().print(retold(item.sentence), style="bold red", markup=False)
    if format_ == "json":
        return report_json(assessment)
    checks = load_checks()
    if format_ == "html":
        return report_html(assessment, checks, templates=template).encode()
    return report_pdf(assessment, checks, templates=template)


def write(project: Project, content: bytes, format_: str, output: Path | None) -> Path:
    """Write the report to where it belongs, whole or not at all."""
    from datetime import UTC, datetime

    path = output or project.folder / "reports" / f"assessment-{datetime.now(UTC):%Y%m%d-%H%M%S}.{format_}"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, content)
    return path
