"""`assessor export`: the assessment in other tools' words."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assessor.cli.terminal import JsonOption, ProjectOption, one_of, open_project, out, print_json
from assessor.errors import UsageError
from assessor.files import write_whole

if TYPE_CHECKING:
    from assessor.assessment import Assessment
    from assessor.project import Project

FORMATS = ("oscal", "csv", "applicability", "cyclonedx")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(export)


def export(
    project: ProjectOption = None,
    format_: Annotated[
        str, typer.Option("--format", help=f"One of {', '.join(FORMATS)}.", autocompletion=one_of(*FORMATS))
    ] = "oscal",
    output: Annotated[
        Path | None,
        typer.Option(help="Folder for oscal, default oscal/ in the assessment; else a file, default standard output."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write the assessment as OSCAL, a table, a statement of applicability, or its CycloneDX bill of materials."""
    if format_ not in FORMATS:
        raise UsageError(f"--format: found '{format_}', wanted one of {', '.join(FORMATS)}")
    opened = open_project(project)
    if format_ == "oscal":
        paths = _oscal(opened, output)
        if as_json:
            print_json([{"id": path.stem, "path": str(path)} for path in paths])
        else:
            for path in paths:
                out().print(str(path), markup=False, soft_wrap=True)
        return
    from assessor.assessment import Assessment
    from assessor.exports.tables import applicability_table, assessment_table

    found = Assessment.read(opened)
    if format_ == "cyclonedx":
        write_text(_document(found, format_), output)
        return
    table = assessment_table(found) if format_ == "csv" else applicability_table(found)
    if as_json:
        print_json(table.records())
    else:
        write_text(table.as_csv(), output, encoding="utf-8-sig")


def _oscal(project: Project, output: Path | None) -> list[Path]:
    from assessor.exports.oscal import export_of, oscal_documents, oscal_json

    folder = output or project.folder / "oscal"
    base = Path(os.path.relpath(project.folder.resolve(), folder.resolve())).as_posix()
    documents = oscal_documents(export_of(project, base))
    folder.mkdir(parents=True, exist_ok=True)
    for name, document in documents.items():
        write_whole(folder / name, oscal_json(document))
    return [folder / name for name in documents]


def _document(assessment: Assessment, standard: str) -> str:
    """The document in a standard's words that a current result holds."""
    for run in assessment.runs.values():
        for document in run.documents:
            if document.standard == standard:
                return json.dumps(dict(document.content), indent=2, ensure_ascii=False) + "\n"
    raise UsageError(
        f"--format {standard}: no current result holds such a document. Name the files that list the packages under "
        "target.dependencies in assessor.yaml, then: assessor check run security.dependencies"
    )


def write_text(text: str, output: Path | None, *, encoding: str = "utf-8") -> None:
    """Text to a file, or to standard output for None or `-`.

    Args:
        text: What to write.
        output: Where.
        encoding: Of a file; standard output takes UTF-8.
    """
    if output is None or str(output) == "-":
        sys.stdout.buffer.write(text.encode())
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    write_whole(output, text.encode(encoding))
    out().print(str(output), markup=False, soft_wrap=True)
