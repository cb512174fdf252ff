"""`assessor migrate`: an assessment brought to the installed catalog."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assessor.cli.terminal import JsonOption, ProjectOption, open_project, out, plain, print_json

if TYPE_CHECKING:
    from assessor.migration import Plan


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(migrate)


def migrate(
    project: ProjectOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    earlier: Annotated[
        Path | None,
        typer.Option("--from", help="Folder of the catalog version it follows, if at hand.", file_okay=False),
    ] = None,
    by: Annotated[str, typer.Option(help="Who does it; default: the user.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Bring an assessment to the installed catalog version; nothing that somebody said is lost."""
    from assessor.catalog_diff import read_edition
    from assessor.criteria import load_catalog
    from assessor.migration import migrate as run

    opened = open_project(project)
    catalog = load_catalog(packs=opened.configuration().catalog.packs)
    plan = run(opened, catalog, read_edition(earlier) if earlier else None, by=by, dry_run=dry_run)
    if as_json:
        steps = [{**step.model_dump(mode="json"), "what": step.what} for step in plan.steps]
        files = sorted(plan.files)
        print_json({"before": plan.before, "after": plan.after, "dry_run": dry_run, "steps": steps, "files": files})
        return
    _print(plan, dry_run=dry_run)


def _print(plan: Plan, *, dry_run: bool) -> None:
    from assessor.messages import _

    console = out()
    if not plan.files:
        console.print(_("nothing to do: the assessment follows catalog {version}", version=plan.after))
        return
    for step in plan.steps:
        if step.what == "kept":
            continue
        place = f" → {', '.join(step.to)}" if step.what == "moved" else ""
        console.print(f"[bold]{plain(step.folder)}[/] {plain(step.id)}{plain(place)}  {_(step.what)}")
        for note in step.notes:
            console.print(f"    {plain(note)}", style="dim", soft_wrap=True)
    counts = {what: sum(step.what == what for step in plan.steps) for what in ("kept", "changed", "moved", "set aside")}
    told = ", ".join(f"{count} {_(what)}" for what, count in counts.items() if count)
    console.print(
        _("catalog {before} to {after}: {told}", before=plan.before, after=plan.after, told=told or _("no answers yet"))
    )
    if counts["set aside"]:
        aside = ", ".join(step.id for step in plan.steps if step.what == "set aside")
        console.print(_("set aside in withdrawn.yaml.txt, since nothing took their place: {ids}", ids=aside))
    waiting = dict.fromkeys(name.rpartition(".")[0] for step in plan.steps for name in step.unanswered)
    if waiting:
        first = next(iter(waiting))
        console.print(
            _(
                "{n} answers have questions without a reply; complete them with  assessor answer {first}  and so on",
                n=len(waiting),
                first=first,
            )
        )
    console.print(_("nothing was written") if dry_run else _("recorded in the ledger"), style="dim")
