"""How `assessor catalog coverage` shows clauses: three columns that fit 80, and what a mapping cannot say below."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from assessor.cli.terminal import out, plain
from assessor.messages import _, day, plural

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from assessor.coverage import ClauseCoverage, FrameworkCoverage
    from assessor.model import Catalog, System

MARKS = {
    "covered": ("●", "green"),
    "partly": ("◐", "yellow"),
    "open": ("○", "red"),
    "not in the catalog": ("–", "dim"),
}


def _text(words: str) -> str:
    """Words of a mapping file in the language in use, for rich."""
    return plain(_(words)) if words else ""


def print_list(frameworks: Sequence[FrameworkCoverage]) -> None:
    """Print every framework with its size and how much of it the catalog speaks to.

    Args:
        frameworks: Without an assessment.
    """
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("framework", "clauses", "in the catalog"):
        table.add_column(_(column), no_wrap=True)
    table.add_column(_("title"))
    for found in frameworks:
        spoken = sum(bool(item.requirements) for item in found.clauses)
        table.add_row(found.id, str(len(found.clauses)), str(spoken), _text(found.title))
    console = out()
    console.print(table)
    console.print(_("One of them clause by clause:  {command}", command="assessor catalog coverage ID"), style="dim")


def print_one(found: FrameworkCoverage, catalog: Catalog, system: System | None, *, only_open: bool) -> None:
    """Print a framework clause by clause.

    Args:
        found: What is shown of it.
        catalog: The requirements, packs included.
        system: What was assessed; None without an assessment.
        only_open: Whether to name only requirements that are missing.
    """
    console = out()
    console.print(f"[bold]{_text(found.title)}[/]\n[dim]{_text(found.edition)}[/]")
    if system is None:
        console.print(_("No assessment here: what the catalog could cover."))
    else:
        console.print(_("Assessment of {system}", system=f"[bold]{plain(system.name)}[/] {plain(system.version)}"))
    if not found.clauses:
        console.print(_("Nothing is missing."))
    width = max((len(item.clause.id) for item in found.clauses), default=0)
    for (group, duty_of), items in groupby(found.clauses, key=lambda item: (item.clause.group, item.clause.duty_of)):
        console.print(f"\n[bold]{_text(group)}[/]{f'  [dim]{_text(duty_of)}[/]' if duty_of else ''}" if group else "")
        table = _columns(width, 1)
        for item in items:
            mark, style = MARKS[item.shown]
            text = _about(item, found, catalog, only_open=only_open)
            table.add_row(plain(item.clause.id), f"[{style}]{mark}[/]", text)
        console.print(table)
    _print_dates(console, found)
    _print_footer(console, found)


def _columns(*widths: int) -> Table:
    """Columns of a fixed width and a last one that takes the rest."""
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    for width in widths:
        table.add_column(no_wrap=True, min_width=width)
    table.add_column()
    return table


def _about(item: ClauseCoverage, found: FrameworkCoverage, catalog: Catalog, *, only_open: bool) -> str:
    """Title of a clause, its state with what speaks to it, and what is left of it, one a line."""
    clause, style = item.clause, MARKS[item.shown][1]
    could = {} if found.assessed else {"covered": _("whole"), "partly": _("in part")}
    state = f"[{style}]{could.get(item.shown, _(item.shown))}[/]"
    lines = [_text(clause.title)]
    if clause.open_because:
        return "\n".join([*lines, f"{state}: [dim]{_text(clause.open_because)}[/]"])
    named = [one for one in item.requirements if not only_open or one.id in item.missing]
    ids = f"[cyan]{', '.join(_shortened([one.id for one in named], catalog))}[/]"
    lines.append(": ".join([", ".join([state, *_standings(item, found)]), ids]))
    reasons = dict.fromkeys(one.because for one in named if one.because)
    lines += [f"[yellow]{plain(because)}[/]" for because in reasons]
    if not found.assessed or not item.missing:
        lines += [f"[dim]{_text(part.note)}[/]" for part in clause.maps if part.note]
    return "\n".join(lines)


def _standings(item: ClauseCoverage, found: FrameworkCoverage) -> Iterator[str]:
    """How many of a clause's requirements are fulfilled, and of the others what they are instead."""
    from assessor.coverage import Standing

    if not found.assessed:
        return

    counted = {standing: sum(one.standing is standing for one in item.requirements) for standing in Standing}
    total = len(item.requirements)
    yield _("{n} of {total} fulfilled", n=counted.pop(Standing.FULFILLED), total=total)
    del counted[Standing.NOT_ASSESSED]
    yield from (f"{n} {_(standing.replace('_', ' '))}" for standing, n in counted.items() if n)


def _shortened(names: Sequence[str], catalog: Catalog) -> Iterator[str]:
    """Ids with their area said once, as in `RE-R-SC-CR-01 ME-05`; the area alone when all of it is meant."""
    for area, grouped in groupby(names, key=lambda name: catalog.by_id[name].area):
        first, *others = grouped
        rest = [name.removeprefix(f"{area}-") for name in others]
        yield area if len(rest) + 1 == len(catalog.by_area[area]) else " ".join([first, *rest])


def _print_dates(console: Console, found: FrameworkCoverage) -> None:
    from assessor.model import Confidence

    if not found.dates:
        return
    console.print(f"\n[bold]{_('Applies from')}[/]")
    table = _columns(10)
    for item in sorted(found.dates, key=lambda item: item.applies_from):
        table.add_row(day(item.applies_from), _text(item.what))
    console.print(table)
    doubtful = dict.fromkeys(item.source for item in found.dates if item.confidence is not Confidence.HIGH)
    for source in doubtful:
        console.print(_("As reported: {source}", source=_text(source)), style="dim")


def _print_footer(console: Console, found: FrameworkCoverage) -> None:
    could = {} if found.assessed else {"covered": _("could be covered"), "partly": _("could be covered in part")}
    counts = ", ".join(f"{n} {could.get(state, _(state))}" for state, n in found.counts.items())
    total = sum(found.counts.values())
    console.print(f"\n{plural('{n} clause', '{n} clauses', total)}: {counts}")
    if found.assessed:
        console.print(
            _(
                "{settled} of {mapped} mapped requirements are settled: fulfilled, or set aside for a reason.",
                settled=found.settled,
                mapped=found.mapped,
            )
        )
    limits = _("Requirements that speak to a part of a clause never cover it, even when all are fulfilled.")
    advice = _("A mapping helps to find what belongs together; it proves no conformity and is no legal advice.")
    console.print(f"{limits} {advice}\n{_text(found.status)}", style="dim")
