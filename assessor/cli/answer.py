"""`assessor answer`: the developer's side of the questionnaire."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from assessor.cli.terminal import ProjectOption, complete_requirement, err, open_project, out, styled
from assessor.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from assessor.model import Answer, Requirement
    from assessor.project import Project

Reply = TypeVar("Reply", bound=str)

HELP = "q stops; everything answered is kept. Enter alone skips a requirement."


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(answer)


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
) -> None:
    """Answer requirements: asked one by one, or set by a script."""
    from assessor.project import current_user

    opened = open_project(project)
    if settings:
        _set(opened, settings, because, by or current_user(), evidence or [])
    else:
        _ask_all(opened, which, by or current_user(), evidence or [])


def _set(project: Project, settings: list[str], because: str | None, by: str, evidence: list[Path]) -> None:
    from assessor.answering import save_settings
    from assessor.assessment import followed_catalog

    catalog = followed_catalog(project.configuration())
    for saved in save_settings(project, catalog, settings, because=because, by=by, evidence=evidence):
        out().print(f"{saved.id} {styled(saved.value)}")


def _ask_all(project: Project, which: str | None, by: str, evidence: list[Path]) -> None:
    from assessor.assessment import followed_catalog
    from assessor.questionnaire import due

    configuration = project.configuration()
    catalog = followed_catalog(configuration)
    answers = project.answers(catalog)
    waiting = due(catalog, configuration, answers, which)
    if not waiting:
        out().print("nothing is due here; see  assessor status")
        return
    err().print(f"{len(waiting)} to answer. {HELP}", style="dim")
    for position, requirement in enumerate(waiting, start=1):
        place, before = f"{position}/{len(waiting)}", answers.get(requirement.id)
        if not _ask(project, requirement, place, by, evidence, before):
            break


def _ask(
    project: Project, requirement: Requirement, position: str, by: str, evidence: list[Path], before: Answer | None
) -> bool:
    """Ask one requirement; whether to go on."""
    from assessor.answering import Interview
    from assessor.questionnaire import checked_reply, checked_verdict

    console = err()
    console.print(f"\n[bold]{requirement.id}[/]  [dim]{position}[/]  {requirement.title}\n{requirement.statement}")
    interview = Interview(project, requirement, by, before)
    for question in requirement.questions:
        known = interview.replies.get(question.id, "")
        text = f"\n{question.text}"
        if question.choices:
            text += "\n" + "\n".join(f"  {index}  {choice}" for index, choice in enumerate(question.choices, start=1))
        reply = _prompt(text, known)
        if reply == "q":
            return False
        if not reply:
            return True
        while (checked := _tried(partial(checked_reply, question, reply))) is None:
            reply = _prompt("", known)
        interview.reply(question, checked)
    verdict = None
    while verdict is None:
        typed = _prompt("\nSo it is: 1 fulfilled, 2 partly, 3 not fulfilled, 4 not applicable", "")
        if typed == "q":
            return False
        verdict = _tried(partial(checked_verdict, typed))
    reason = ""
    while not reason:
        reason = _prompt("Because", "")
    interview.finish(verdict, reason, evidence)
    console.print(f"kept in answers/{requirement.area}.yaml", style="dim")
    return True


def _tried(checked: Callable[[], Reply]) -> Reply | None:
    """What checking a reply gives, or None after saying what is wrong."""
    try:
        return checked()
    except UsageError as fault:
        err().print(str(fault), style="yellow")
        return None


def _prompt(text: str, known: str) -> str:
    err().print(text, markup=False) if text else None
    try:
        typed = input(f"[{known}] > " if known else "> ").strip()
    except EOFError as fault:
        raise UsageError("no terminal to ask at; use  --set ID=VALUE --because TEXT") from fault
    return typed or known
