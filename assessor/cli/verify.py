"""`assessor verify`: does a report or a folder still say what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assessor.cli.terminal import JsonOption, out, plain, print_json
from assessor.messages import _, plural, retold

if TYPE_CHECKING:
    from assessor.findings import Finding

BROKEN = 4
STYLES = {"ok": "green", "failed": "bold red", "unknown": "yellow", "withheld": "dim"}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(verify)


def verify(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="FILE|DIR", help="A PDF report, its .intoto.json, a proof on a ledger, or an assessment folder."
        ),
    ],
    trust: Annotated[
        list[Path] | None, typer.Option(help="PEM certificate of an authority you trust; repeatable.")
    ] = None,
    tsa_trust: Annotated[
        list[Path] | None,
        typer.Option(help="PEM certificate of an authority whose timestamps you trust; default: --trust."),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            help="Report that an .intoto.json speaks of (default: beside it), or whose ledger a folder or a proof"
            " is compared with.",
            dir_okay=False,
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Compare all objects of later revisions too, half a minute.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check signatures, embedded results and ledger; exit 4 when something does not hold."""
    from assessor import verify as verification

    trusted = {"trust": trust or (), "stamp_trust": tsa_trust or ()}
    findings = verification.verify(path, **trusted, strict=strict, file=file)
    ok = not any(finding.status == "failed" for finding in findings)
    if as_json:
        print_json({"ok": ok, "checks": [finding._asdict() for finding in findings]})
    else:
        print_findings(findings, ok=ok)
    if not ok:
        raise typer.Exit(BROKEN)


def print_findings(findings: list[Finding], *, ok: bool) -> None:
    """A line a finding, and the whole in one."""
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column()
    table.add_column()
    for finding in findings:
        table.add_row(
            f"[{STYLES[finding.status]}]{_(finding.status)}[/]",
            plain(retold(finding.name)),
            plain(retold(finding.sentence)),
        )
    out().print(table)
    unknown = sum(finding.status == "unknown" for finding in findings)
    if not ok:
        out().print(f"\n[bold red]{_('broken')}[/]: {_('do not rely on it')}")
    elif unknown:
        parts = plural("{n} part could not be checked here", "{n} parts could not be checked here", unknown)
        out().print(f"\n{_('intact, but {parts}', parts=parts)}")
    else:
        out().print(f"\n[green]{_('valid')}[/]: {_('every part was checked and holds')}")
