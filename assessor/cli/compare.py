"""`assessor compare`: two assessments or reports beside each other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assessor.cli.terminal import JsonOption, out, plain, print_json
from assessor.messages import _

if TYPE_CHECKING:
    from assessor.comparison import Comparison, NumberChange, Shift

STYLES = {"better": "green", "worse": "bold red", "went": "yellow", "appeared": "cyan"}
KINDS = {
    "catalog": "catalog",
    "subject": "model or data",
    "outcome": "outcome of a check",
    "self": "developer's verdict",
    "auditor": "auditor's verdict",
    "contradiction": "contradiction",
    "residual risk": "residual risk",
}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(compare)


def compare(
    before: Annotated[Path, typer.Argument(metavar="A", help="A PDF report, its record (JSON) or a folder.")],
    after: Annotated[Path, typer.Argument(metavar="B", help="The same, of the later one.")],
    trust: Annotated[
        list[Path] | None, typer.Option(help="PEM certificate of an authority you trust; repeatable.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Also numbers that are the same.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Say what got better or worse, appeared or went from A to B; exit 1 when something got worse."""
    from assessor.claims import read_claims
    from assessor.comparison import compare as beside

    roots = tuple(trust or ())
    found = beside(read_claims(before, trust=roots), read_claims(after, trust=roots))
    if as_json:
        print_json({**found.model_dump(mode="json"), "worse": found.worse})
    else:
        _print(found, every=every)
    if found.worse:
        raise typer.Exit(1)


def _print(found: Comparison, *, every: bool) -> None:
    from rich.table import Table

    from assessor.comparison import Change

    for label, side in ((_("before"), found.before), (_("after"), found.after)):
        out().print(f"{label}  {side['system']}  {side['report']}  {side['name']}", markup=False)
    numbers = [item for item in found.numbers if every or item.change is not Change.SAME]
    if numbers:
        table = Table(box=None, header_style="bold", pad_edge=False)
        for column in (_("check"), _("number"), _("before"), _("after"), _("difference"), "p", _("test"), ""):
            table.add_column(column, no_wrap=column == _("check"), overflow="fold")
        for item in numbers:
            table.add_row(*_row(item))
        out().print("", table)
        out().print(_("p: of no difference, all tests together (Holm)"), style="dim")
    if found.shifts:
        table = Table(box=None, header_style="bold", pad_edge=False)
        for column in ("", "", _("before"), _("after"), ""):
            table.add_column(column)
        for shift in found.shifts:
            table.add_row(_(KINDS[shift.kind]), plain(shift.id), _word(shift, shift.before), _word(shift, shift.after),
                          _styled(shift.change))  # fmt: skip
        out().print("", table)
    worse, better = found.changes.count(Change.WORSE), found.changes.count(Change.BETTER)
    same = found.changes.count(Change.SAME)
    out().print(
        "\n" + _("{worse} worse, {better} better, {same} numbers the same", worse=worse, better=better, same=same)
    )


def _row(item: NumberChange) -> tuple[str, ...]:
    from assessor.verdicts import shown, shown_ends, shown_metric

    low, high = item.low, item.high
    ends = "" if low is None or high is None else f" {shown_ends(low, high)}"
    return (
        item.check,
        _(item.metric.replace("_", " ")),
        plain(shown_metric(item.before).split(" ", 1)[1]),
        plain(shown_metric(item.after).split(" ", 1)[1]),
        plain(f"{shown(item.difference)}{ends}"),
        "–" if item.p_holm is None else shown(item.p_holm),
        item.told_test,
        f"{_styled(item.change)}{': ' + plain(item.because) if item.because else ''}",
    )


def _word(shift: Shift, word: str | None) -> str:
    if word is None:
        return "–"
    return (
        " ".join(f"{digest[:12]}…" for digest in word.split()) if shift.kind == "subject" else _(word.replace("_", " "))
    )


def _styled(change: str) -> str:
    style = STYLES.get(change)
    return f"[{style}]{_(change)}[/]" if style else _(change)
