"""`assessor prefill`: first drafts from files a team already has."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assessor.cli.terminal import JsonOption, ProjectOption, open_project, out, plain, print_json
from assessor.errors import UsageError
from assessor.messages import _, plural

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from assessor.model import Known
    from assessor.questionnaire import Effort


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(prefill)


def prefill(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[FILE]...",
            help="Model cards, CycloneDX or SPDX files, requirements and lock files, git folders; most trusted first. "
            "Default: what lies in the assessment folder and at the top of its git repository.",
            show_default=False,
        ),
    ] = None,
    project: ProjectOption = None,
    by: Annotated[str | None, typer.Option(help="Who looked; default: the user.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Look for first drafts of answers in files you already have; a person confirms each of them.

    What is found replaces what was found before: name all files at once.
    """
    from assessor.assessment import Assessment
    from assessor.prefill import found_in, sources_near
    from assessor.project import current_user
    from assessor.questionnaire import due, effort

    opened = open_project(project)
    assessment = Assessment.read(opened)
    sources = files or sources_near(opened.folder)
    base = opened.folder.resolve() if files else _common(sources)
    names = [_name(path, base) for path in sources]
    known = found_in(sources, base)
    _refuse_nothing(known, names, opened.folder)
    opened.save_known(known, actor=by or current_user(), because=", ".join(names))
    waiting = due(assessment.scope)
    before, after = (effort(waiting, assessment.scope, assessment.runs, facts) for facts in (assessment.known, known))
    if as_json:
        print_json({"sources": names, "found": known, "open": _counts(before, after)})
    else:
        _print(known, names, before, after)


def _refuse_nothing(known: Mapping[str, Sequence[Known]], names: Sequence[str], folder: Path) -> None:
    """Keep prefill.yaml as it is where nothing was found, and say so."""
    if not names:
        raise UsageError(
            _("{folder}: found no model card, bill of materials or git repository; name the files", folder=folder)
        )
    if not known:
        raise UsageError(_("found no statement in {names}; prefill.yaml stays as it is", names=", ".join(names)))


def _common(sources: Sequence[Path]) -> Path:
    """The folder that all sources lie in."""
    folders = [path if path.is_dir() else path.parent for path in sources]
    return Path(os.path.commonpath(folders)) if folders else Path()


def _name(path: Path, base: Path) -> str:
    if path.is_dir():
        return _("git repository {name}", name=path.resolve().name)
    return path.resolve().relative_to(base).as_posix() if path.resolve().is_relative_to(base) else path.as_posix()


def _counts(before: Effort, after: Effort) -> dict[str, int]:
    return {"questions": after.questions, "drafted_before": before.drafted, "drafted": after.drafted}


def key_titles() -> dict[str, str]:
    """The keys of statements, for people."""
    return {
        "purpose": _("purpose"),
        "context": _("context"),
        "users": _("users"),
        "out_of_scope": _("out of scope"),
        "limitations": _("limitations"),
        "inputs_outputs": _("inputs and outputs"),
        "components": _("components"),
        "architecture": _("architecture"),
        "base_model": _("base model"),
        "training_data": _("training data"),
        "preprocessing": _("preprocessing"),
        "evaluation_data": _("evaluation data"),
        "metrics": _("metrics"),
        "hyperparameters": _("hyperparameters"),
        "licence": _("licence"),
        "contact": _("contact"),
        "fairness": _("fairness"),
        "ethics": _("ethics"),
        "explainability": _("explainability"),
        "energy": _("energy"),
        "carbon": _("carbon"),
        "source_revision": _("source revision"),
        "release": _("release"),
        "dependencies": _("dependencies"),
        "monitoring": _("monitoring"),
        "sensitive_data": _("sensitive data"),
        "change_history": _("change history"),
    }


def _print(known: Mapping[str, Sequence[Known]], names: Sequence[str], before: Effort, after: Effort) -> None:
    from rich.table import Table

    from assessor.prefill.statements import short

    console, titles = out(), key_titles()
    console.print(_("read") + f": {plain(', '.join(names))}\n")
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in (_("about"), _("statement"), _("found in")):
        table.add_column(column, no_wrap=column == _("about"))
    for key, statements in known.items():
        for number, item in enumerate(statements):
            title = titles[key] if number == 0 else ""
            table.add_row(title, plain(short(item.value, 80)), plain(item.origin))
    console.print(table)
    console.print(
        "\n"
        + plural(
            "{drafted} of {n} open question now has a draft; before: {before}.",
            "{drafted} of {n} open questions now have a draft; before: {before}.",
            after.questions,
            drafted=after.drafted,
            before=before.drafted,
        )
    )
    console.print(
        _("Nothing is answered yet: a draft only counts once a person has confirmed it. Next:  assessor answer")
    )
