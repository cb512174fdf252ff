"""`assessor status`: where the assessment stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from assessor.cli.terminal import JsonOption, ProjectOption, open_project, out, plain, print_json, styled
from assessor.messages import _, plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from assessor.assessment import Assessment
    from assessor.evidence import Found
    from assessor.model import DimensionState, RequirementState
    from assessor.project import Project


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(status)


def status(project: ProjectOption = None, as_json: JsonOption = False) -> None:
    """Show what is answered, measured, judged, open and contradicting, and the next step."""
    from assessor.assessment import Assessment
    from assessor.evidence import BROKEN

    opened = open_project(project)
    found, edits = Assessment.read(opened), _hand_edits(opened)
    broken = broken_evidence(opened, found)
    if as_json:
        print_json(
            {
                "system": found.configuration.system,
                "dimensions": found.states,
                "overall": found.overall,
                "contradictions": found.contradictions,
                "outdated": found.outdated,
                "hand_edits": edits,
                "evidence": {
                    "registered": len(found.evidence),
                    "expired": [digest for digest, item in found.evidence.items() if item.is_expired(found.today)],
                    "withheld": [digest for digest, item in found.evidence.items() if item.withheld],
                    **{kind: [item.id for item in broken if item.standing == kind] for kind in BROKEN},
                },
                "checks": {check: run.outcome for check, run in found.runs.items()},
                "left": _left(found),
                "next": next_step(found),
            }
        )
        return
    _print(found, broken, edits)


def broken_evidence(project: Project, found: Assessment) -> list[Found]:
    """Evidence whose content is gone or is not what it was."""
    from assessor.evidence import BROKEN, look

    looked_at = look(project, found.evidence, found.answers, found.today)
    return [item for item in looked_at if item.standing in BROKEN]


def _hand_edits(project: Project) -> list[str]:
    """Names of files that were edited by hand and not recorded."""
    from assessor import ledger
    from assessor.hand_edits import hand_edits

    return [edit.name for edit in hand_edits(project, ledger.history(project.ledger_bytes()).files)]


def _left(found: Assessment) -> dict[str, int]:
    """What the questionnaire still asks."""
    from assessor.questionnaire import due, effort

    rest: dict[str, int] = effort(due(found.scope), found.scope, found.runs, found.known).model_dump()
    return rest


def _print(found: Assessment, broken: Sequence[Found], edits: list[str]) -> None:
    from rich.table import Table

    console, system = out(), found.configuration.system
    console.print(f"[bold]{plain(system.name)}[/] {plain(system.version)}\n")
    for contradiction in found.contradictions:
        console.print(f"[bold red]{_('contradiction')}[/]  {plain(contradiction.sentence)}")
    table = Table(box=None, header_style="bold", pad_edge=False)
    heads = ("", _("dimension"), _("need"), _("answered"), _("judged"), _("checks"), _("residual risk at best"))
    for column in heads:
        table.add_column(column, no_wrap=column in {"", heads[2]})
    for state in found.states:
        checks = ", ".join(f"{count} {styled(status)}" for status, count in state.statuses.items())
        rated = _at_best(state) if _is_rated(state, found) else ""
        need = (_(state.need.value) if state.need else _("open")) if _is_rated(state, found) else ""
        audited = str(state.audited) if state.audited else ""
        table.add_row(state.id, state.title, need, f"{state.answered}/{state.total}", audited, checks, rated)
    console.print(table)
    _print_broken(found, broken)
    _print_notes(found)
    if edits:
        _print_edits(edits)
    console.print(f"\n{_('next')}: {next_step(found)}")


def _is_rated(state: DimensionState, found: Assessment) -> bool:
    return any(head.id == state.id and head.is_dimension for head in found.catalog.head.dimensions)


def _at_best(state: DimensionState) -> str:
    if state.skipped:
        return f"[dim]{_('not assessed: need low')}[/]"
    best = f"{_(state.ceiling.value) if state.ceiling else _('open')}: {plain(state.ceiling_because)}"
    if state.rating is None:
        return best
    stated = _("{by} states {risk}", by=plain(state.rating.by), risk=_(state.rating.risk.value))
    fault = f" [yellow]({plain(state.rating.fault)})[/]" if state.rating.fault else ""
    return f"{best}; {stated}{fault}"


def _print_notes(found: Assessment) -> None:
    """What deserves a look, each in one line."""
    from assessor.cli.ask import minutes

    console = out()
    for check in found.outdated:
        console.print(
            f"[yellow]{_('outdated')}[/]  {_('{check}: its target changed since it was judged', check=check)}"
        )
    states = [state for head in found.states for area in head.areas for state in area.requirements]
    disagree = [state.id for state in states if state.disagree]
    if disagree:
        console.print(f"[yellow]{_('disagree')}[/]  {_('developer and auditor')}: {', '.join(disagree)}")
    _print_evidence(found, states)
    second = [head.id for head in found.states if head.second_wanted]
    if second:
        console.print(f"[yellow]{_('second person')}[/]  {_('has to agree, the need is high')}: {', '.join(second)}")
    overall = found.overall
    if overall.stated:
        fault = f" [yellow]({plain(overall.fault)})[/]" if overall.fault else ""
        console.print(f"{_('trustworthy')}: [bold]{_(overall.stated)}[/]{fault}")
    left = _left(found)
    if left["requirements"]:
        asked = _("{n} questions, {drafted} of them with a draft", n=left["questions"], drafted=left["drafted"])
        console.print(f"[dim]{_('left')}: {asked}, {minutes(left['seconds'])}[/]")
        if _decides_more(found):
            console.print(f"[dim]{_('Profile and protection needs will leave out much of it.')}[/]")


def _print_broken(found: Assessment, broken: Sequence[Found]) -> None:
    """Evidence that is gone or was changed, beside the requirements it was for."""
    from assessor.evidence import serves

    served = serves(found.evidence, found.answers)
    for item in broken:
        ids = ", ".join(served[item.id])
        out().print(f"[bold red]{_(item.standing)}[/]  {plain(item.name)}, {_('evidence of')} {ids}")


def _print_evidence(found: Assessment, states: Sequence[RequirementState]) -> None:
    """Evidence that is too old, expired or withheld, beside the requirements it is for."""
    console = out()
    aged = [state.id for state in states if state.evidence.aged]
    if aged:
        console.print(f"[yellow]{_('too old')}[/]  {_('evidence of')} {', '.join(aged)}")
    expired: dict[str, list[str]] = {}
    for state in states:
        for name in state.evidence.expired:
            expired.setdefault(name, []).append(state.id)
    for name, ids in expired.items():
        console.print(f"[yellow]{_('expired')}[/]  {plain(name)}, {_('evidence of')} {', '.join(ids)}")
    withheld = [item.name for item in found.evidence.values() if item.withheld]
    if withheld:
        console.print(f"[dim]{_('withheld')}  {plain(', '.join(withheld))}[/]")


def _print_edits(edits: list[str]) -> None:
    from assessor.hand_edits import RECORD

    names = plain(", ".join(edits))
    told = _("{names}; record it with  {command}", names=names, command=RECORD)
    out().print(f"[yellow]{_('edited by hand')}[/]  {told}", soft_wrap=True)


def next_step(found: Assessment) -> str:
    """The one command that helps most now."""
    from assessor.auditing import due as to_judge
    from assessor.questionnaire import due

    waiting = due(found.scope)
    if decisive := _decides_more(found):
        return "assessor profile   " + plural(
            "({n} open: it decides what else is asked)", "({n} open: they decide what else is asked)", decisive
        )
    if found.configuration.target is None:
        return _("say under target: in assessor.yaml what is measured")
    if not found.runs or found.outdated:
        return "assessor check run"
    if waiting:
        return "assessor answer   " + _("({n} open, {first} first)", n=len(waiting), first=waiting[0].id)
    if found.audits and (unjudged := to_judge(found)):
        return "assessor audit   " + _("({n} open, {first} first)", n=len(unjudged), first=unjudged[0].id)
    return "assessor report"


def _decides_more(found: Assessment) -> int:
    """How many of profile and protection needs are open."""
    from assessor.questionnaire import STATED_BY_REPLIES, due

    return sum(item.aspect in STATED_BY_REPLIES for item in due(found.scope))
