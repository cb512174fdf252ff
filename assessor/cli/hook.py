"""`assessor hook`: what pre-commit calls with the names of changed files. Nothing is measured."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from assessor.cli.terminal import out, plain
from assessor.errors import AssessorError, ConfigurationError

app = typer.Typer(help="For pre-commit: what belongs to changed files.", no_args_is_help=True)

Files = Annotated[list[Path], typer.Argument(metavar="FILE...", help="Changed files.")]


@app.command()
def validate(files: Files) -> None:
    """Read every assessment folder and catalog that the files belong to, and tell their faults."""
    faults = []
    for mark, read in (("catalog.yaml", _read_catalog), ("assessor.yaml", _read_assessment)):
        for folder in _folders(files, mark):
            try:
                read(folder)
            except AssessorError as fault:
                faults += [f"{folder}: {line}" for line in str(fault).splitlines()]
    if faults:
        raise ConfigurationError("\n".join(faults))


@app.command()
def gate(files: Files) -> None:
    """Decide on the stored results of every assessment folder that the files belong to; the worst decision counts."""
    from datetime import UTC, datetime

    from assessor.gate_formats import written
    from assessor.gating import gated
    from assessor.project import Project

    codes = [0]
    for folder in _folders(files, "assessor.yaml"):
        report = gated(Project(folder), today=datetime.now(UTC).date())
        codes.append(report.decision.exit_code)
        if report.decision.exit_code:
            out().print(f"{plain(folder)}\n{plain(written(report, 'text'))}", soft_wrap=True, end="")
    raise typer.Exit(next((code for code in (1, 3) if code in codes), 0))


def _folders(files: list[Path], mark: str) -> Iterator[Path]:
    """The nearest folders above the files that hold a file of this name."""
    here, seen = Path.cwd(), set()
    for file in files:
        above = (here / file).parents
        found = next((folder for folder in above if (folder / mark).is_file()), None)
        if found is not None and found not in seen:
            seen.add(found)
            yield found.relative_to(here) if found.is_relative_to(here) else found


def _read_catalog(folder: Path) -> None:
    from assessor.criteria import load_catalog

    load_catalog(folder, packs=sorted(path.parent.name for path in folder.glob("packs/*/pack.yaml")))


def _read_assessment(folder: Path) -> None:
    from assessor.assessment import Assessment
    from assessor.project import Project
    from assessor.registry import load_checks

    project, checks = Project(folder), load_checks()
    found = Assessment.read(project)
    project.check_ids_known(list(checks))
    for name, params in found.configuration.checks.items():
        if params:
            project.check_params(name, checks[name].params)
