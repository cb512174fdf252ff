"""`assessor init`: a new assessment folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from assessor.cli.terminal import aligned, out
from assessor.messages import _


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(init)


def init(directory: Annotated[Path, typer.Argument(metavar="[DIR]", file_okay=False)] = Path()) -> None:
    """Start an assessment: a folder with a commented assessor.yaml."""
    from assessor.assessment import folder_name, init_files
    from assessor.project import Project, current_user

    project = Project.create(directory, init_files(folder_name(directory)), actor=current_user(), action="init")
    told = _("{path} is ready: fill in what is assessed, then", path=project.folder / "assessor.yaml")
    next_steps = {
        "assessor answer": _("the questions"),
        "assessor check run": _("the measurements"),
        "assessor report": _("the report"),
    }
    out().print(f"{told}\n{aligned(next_steps)}", markup=False)
