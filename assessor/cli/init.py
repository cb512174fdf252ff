"""`assessor init`: a new assessment folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from assessor.cli.terminal import out


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(init)


def init(directory: Annotated[Path, typer.Argument(metavar="[DIR]", file_okay=False)] = Path()) -> None:
    """Start an assessment: a folder with a commented assessor.yaml."""
    from assessor.assessment import folder_name, init_files
    from assessor.project import Project, current_user

    project = Project.create(directory, init_files(folder_name(directory)), actor=current_user(), action="init")
    out().print(
        f"{project.folder / 'assessor.yaml'} is ready: fill in what is assessed, then\n"
        "  assessor answer        the questions\n  assessor check run     the measurements\n"
        "  assessor report        the report",
        markup=False,
    )
