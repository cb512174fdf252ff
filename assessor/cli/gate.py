"""`assessor gate`: the decision for CI."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assessor.cli.terminal import (
    JsonOption,
    ProjectOption,
    complete_gate_format,
    err,
    open_project,
    out,
    plain,
    styled,
    visible,
)
from assessor.errors import UsageError, nearest
from assessor.messages import _

if TYPE_CHECKING:
    from assessor.gate_formats import GateReport

SUMMARY = "GITHUB_STEP_SUMMARY"
SUMMARY_BYTES = 1_000_000  # GitHub takes 1 MiB a step and shows nothing of a longer one
LEAST_BYTES = 20_000  # that are worth writing


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(gate)


def gate(
    project: ProjectOption = None,
    policy: Annotated[
        Path | None, typer.Option(help="YAML file in place of `policy` in assessor.yaml.", show_default=False)
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            metavar="REPORT|FOLDER|REF",
            help="Earlier results: a PDF report, its record, a folder, or a git branch, tag or commit.",
            show_default=False,
        ),
    ] = None,
    trust: Annotated[
        list[Path] | None, typer.Option(help="PEM certificate of an authority you trust; repeatable.")
    ] = None,
    format_: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            metavar="FORMAT[=FILE]",
            autocompletion=complete_gate_format,
            help="text, json, sarif, junit, github, gitlab or markdown; repeatable as FORMAT=FILE. Default: text.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Write the format to this file; without --format, JSON.", show_default=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Decide by the policy: exit 0 open, 1 forbidden, 3 cannot be judged."""
    from datetime import UTC, datetime

    from assessor.gating import gated

    shown, files = _wanted(format_ or [], output, as_json=as_json)
    today = datetime.now(UTC).date()
    report = gated(open_project(project), today=today, policy=policy, baseline=baseline, trust=tuple(trust or ()))
    _write(report, shown, files)
    raise typer.Exit(report.decision.exit_code)


def _wanted(formats: list[str], output: Path | None, *, as_json: bool) -> tuple[str, list[tuple[str, Path]]]:
    """What goes to standard output, and what to which file."""
    from assessor.gate_formats import FORMATS

    pairs = [(name, path) for name, _sign, path in (item.partition("=") for item in formats)]
    for name, _path in pairs:
        if name not in FORMATS:
            hint = nearest(name, FORMATS) or f"; wanted one of {', '.join(FORMATS)}"
            raise UsageError(f"--format: found '{name}'{hint}")
    files = [(name, Path(path)) for name, path in pairs if path]
    plain_ = [name for name, path in pairs if not path] or (["json"] if as_json else [])
    if len(plain_) > 1:
        raise UsageError(
            f"--format: found {', '.join(plain_)} for standard output, wanted one; write the others as FORMAT=FILE"
        )
    if output is not None:
        return "json" if as_json else "text", [*files, (plain_[0] if plain_ else "json", output)]
    return plain_[0] if plain_ else "text", files


def _write(report: GateReport, shown: str, files: list[tuple[str, Path]]) -> None:
    from assessor.files import write_whole
    from assessor.gate_formats import written

    for name, path in files:
        try:
            write_whole(path, written(report, name).encode())
        except OSError as fault:
            raise UsageError(f"--format {name}={path}: cannot write it: {fault.strerror}") from fault
    if shown == "text":
        _print(report)
    else:
        sys.stdout.write(written(report, shown))
    if "github" in {shown, *(name for name, _path in files)}:
        _summarise(report)


def _print(report: GateReport) -> None:
    from assessor.gate_formats.text import closing, lines

    console, rows = out(), lines(report)
    width = max((len(row.title) for row in rows), default=0)
    for row in rows:
        told = f"[bold]{row.title:{width}}[/]  {plain(row.id)}  {styled(row.status)}  {plain(row.sentence)}"
        console.print(told.rstrip(), soft_wrap=not console.is_terminal)
    for line in closing(report):
        console.print(plain(line), style="bold")


def _summarise(report: GateReport) -> None:
    """Add to the summary of the step, where GitHub names a file for it and as far as there is room in it."""
    path = os.environ.get(SUMMARY)
    if not path:
        return
    from assessor.gate_formats import markdown

    try:
        with Path(path).open("a", encoding="utf-8") as stream:
            room = SUMMARY_BYTES - stream.tell()
            if room < LEAST_BYTES:
                err().print(_("{name}: the summary is full; nothing was added", name=SUMMARY))
                return
            stream.write(markdown.written(report, room))
    except OSError as fault:
        raise UsageError(f"{SUMMARY}: cannot write {visible(path)}: {fault.strerror}") from fault
