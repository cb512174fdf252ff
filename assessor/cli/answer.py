"""`assessor answer` and `assessor profile`: the developer's side of the questionnaire."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assessor.cli.interview import Questionnaire
from assessor.cli.terminal import (
    JsonOption,
    ProjectOption,
    complete_requirement,
    open_project,
    out,
    print_json,
    styled,
)
from assessor.messages import _

if TYPE_CHECKING:
    from assessor.assessment import Assessment
    from assessor.model import Requirement
    from assessor.project import Project


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(profile)
    app.command()(answer)


def profile(
    project: ProjectOption = None,
    by: Annotated[str | None, typer.Option(help="Who answers; default: the user.")] = None,
) -> None:
    """Ask the AI profile and the protection needs, which decide what else is asked."""
    from assessor.assessment import Assessment
    from assessor.model import Aspect
    from assessor.project import current_user
    from assessor.questionnaire import due

    opened = open_project(project)
    found = Assessment.read(opened)
    waiting = [item for item in due(found.scope) if item.aspect in {Aspect.PROFILE, Aspect.PROTECTION}]
    if not waiting:
        out().print(_("profile and protection needs are complete; see  assessor status"))
        return
    Questionnaire(opened, by or current_user(), []).walk(waiting)


def answer(
    which: Annotated[
        str | None,
        typer.Argument(
            metavar="[ID|AREA|DIMENSION]", autocompletion=complete_requirement, help="Default: what is due next."
        ),
    ] = None,
    project: ProjectOption = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="ID=VALUE", help="Answer without being asked; repeatable.")
    ] = None,
    because: Annotated[str | None, typer.Option(help="The reason, for --set.")] = None,
    by: Annotated[str | None, typer.Option(help="Who answers; default: the user.")] = None,
    evidence: Annotated[list[Path] | None, typer.Option(help="A file that shows it; repeatable.")] = None,
    document: Annotated[
        str | None, typer.Option(help="Which document of the catalog's list the files are, such as datasheet.")
    ] = None,
    same_as: Annotated[str | None, typer.Option(help="Requirement whose answer serves here too, for --set.")] = None,
    file: Annotated[
        Path | None, typer.Option(help="Take answers from a file: .yaml, .csv or .xlsx.", show_default=False)
    ] = None,
    sheet: Annotated[
        Path | None, typer.Option(help="Write the open questions to a .csv or .xlsx file.", show_default=False)
    ] = None,
    unblocking: Annotated[bool, typer.Option("--next", help="Ask first what most others wait for.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Answer requirements: asked one by one, set by a script, or taken from a file."""
    from assessor.project import current_user

    opened, who = open_project(project), by or current_user()
    if settings:
        _set(opened, settings, because, who, evidence or [], same_as, document)
    elif file is not None:
        _from_file(opened, file, who)
    elif sheet is not None:
        _to_sheet(opened, which, sheet)
    elif as_json:
        print_json(_due(opened, which, unblocking=unblocking))
    else:
        _walk(opened, which, who, evidence or [], unblocking=unblocking)


def _set(
    project: Project,
    settings: list[str],
    because: str | None,
    by: str,
    evidence: list[Path],
    same_as: str | None,
    document: str | None,
) -> None:
    from assessor.answering import save_settings
    from assessor.criteria import followed_catalog

    catalog = followed_catalog(project.configuration())
    for saved in save_settings(
        project, catalog, settings, because=because, by=by, evidence=evidence, same_as=same_as, document=document
    ):
        out().print(f"{saved.id} {styled(saved.value)}")


def _from_file(project: Project, file: Path, by: str) -> None:
    from assessor.sheets import read_answers

    for saved in read_answers(project, file, by=by):
        out().print(f"{saved.id} {styled(saved.value)}")


def _to_sheet(project: Project, which: str | None, sheet: Path) -> None:
    from assessor.assessment import Assessment
    from assessor.questionnaire import due
    from assessor.sheets import write_sheet

    found = Assessment.read(project)
    waiting = due(found.scope, which)
    write_sheet(sheet, waiting, found)
    out().print(_("{n} requirements written to {path}; fill the column reply, then", n=len(waiting), path=sheet))
    out().print(f"  assessor answer --file {sheet}")


def _waiting(found: Assessment, which: str | None, *, unblocking: bool) -> tuple[Requirement, ...]:
    from assessor.questionnaire import due, most_unblocking

    return most_unblocking(found.scope, which) if unblocking else due(found.scope, which)


def _due(project: Project, which: str | None, *, unblocking: bool) -> list[dict[str, object]]:
    """What is due, for programs."""
    from assessor.assessment import Assessment

    found = Assessment.read(project)
    return [
        {
            "id": item.id,
            "title": item.title,
            "because": found.scope.of(item).because,
            "questions": [question.model_dump(mode="json") for question in found.scope.questions(item)],
            "params": [param.model_dump(mode="json") for param in item.params],
        }
        for item in _waiting(found, which, unblocking=unblocking)
    ]


def _walk(project: Project, which: str | None, by: str, evidence: list[Path], *, unblocking: bool) -> None:
    from assessor.assessment import Assessment

    waiting = list(_waiting(Assessment.read(project), which, unblocking=unblocking))
    if not waiting:
        out().print(_("nothing is due here; see  assessor status"))
        return
    Questionnaire(project, by, evidence).walk(waiting)
