"""`assessor status`: where the assessment stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from assessor.cli.terminal import JsonOption, ProjectOption, open_project, out, plain, print_json, styled

if TYPE_CHECKING:
    from assessor.assessment import Assessment


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(status)


def status(project: ProjectOption = None, as_json: JsonOption = False) -> None:
    """Show what is answered, measured, open and contradicting, and the next step."""
    from assessor.assessment import Assessment

    found = Assessment.read(open_project(project))
    if as_json:
        print_json(
            {
                "system": found.configuration.system,
                "dimensions": found.states,
                "contradictions": found.contradictions,
                "outdated": found.outdated,
                "checks": {check: run.outcome for check, run in found.runs.items()},
                "next": next_step(found),
            }
        )
        return
    _print(found)


def _print(found: Assessment) -> None:
    from rich.table import Table

    from assessor.model import DIMENSION_NAMES

    console, system = out(), found.configuration.system
    console.print(f"[bold]{plain(system.name)}[/] {plain(system.version)}\n")
    for contradiction in found.contradictions:
        console.print(f"[bold red]contradiction[/]  {plain(contradiction.sentence)}")
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("", "dimension", "need", "answered", "checks", "residual risk at best"):
        table.add_column(column, no_wrap=column in {"", "need"})
    for state in found.states:
        checks = ", ".join(f"{count} {styled(status)}" for status, count in state.statuses.items())
        answered = f"{state.answered}/{state.total}"
        named = state.id in DIMENSION_NAMES.values()
        at_best = (
            "[dim]not assessed: need low[/]" if state.skipped else f"{state.ceiling or 'open'}: {state.ceiling_because}"
        )
        need = (state.need or "open") if named else ""
        table.add_row(state.id, state.title, need, answered, checks, at_best if named else "")
    console.print(table)
    for check in found.outdated:
        console.print(f"[yellow]outdated[/]  {check}: its target changed since it was judged")
    console.print(f"\nnext: {next_step(found)}")


def next_step(found: Assessment) -> str:
    """The one command that helps most now."""
    from assessor.questionnaire import due

    undecided = [state.title for state in found.states if state.need is None and any("-P" in a.id for a in state.areas)]
    if found.configuration.target is None:
        return "say under target: in assessor.yaml what is measured"
    if not found.runs or found.outdated:
        return "assessor check run"
    if undecided:
        return f"decide the protection need of {undecided[0].lower()} in assessor.yaml"
    waiting = due(found.catalog, found.configuration, found.answers)
    return f"assessor answer   ({len(waiting)} open, {waiting[0].id} first)" if waiting else "assessor report"
