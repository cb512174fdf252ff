"""`assessor evidence`: what was shown, with its digests, dates and who may see it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from assessor.cli.terminal import (
    JsonOption,
    ProjectOption,
    complete_requirement,
    open_project,
    out,
    plain,
    print_json,
)
from assessor.errors import UsageError
from assessor.messages import _, day, plural, retold

if TYPE_CHECKING:
    from enum import StrEnum

    from assessor.assessment import Assessment
    from assessor.evidence import Found, Item
    from assessor.model import EvidenceRef

app = typer.Typer(help="Evidence: its register, digests and dates.", no_args_is_help=True)

BROKEN_CODE = 4
STYLES = {
    "intact": "green",
    "missing": "bold red",
    "changed": "bold red",
    "expired": "yellow",
    "orphaned": "yellow",
    "elsewhere": "yellow",
    "withheld": "dim",
}

WhichArgument = Annotated[
    str, typer.Argument(metavar="NAME|DIGEST", help="Its file name, or the beginning of its digest.")
]
ByOption = Annotated[str | None, typer.Option(help="Who does it; default: the user.")]

# --- what is said of evidence when it is added ------------------------------------------------------------------------

FilesArgument = Annotated[list[Path], typer.Argument(metavar="FILE...", help="The files.")]
ForOption = Annotated[
    list[str],
    typer.Option("--for", metavar="ID", help="Requirement it serves; repeatable.", autocompletion=complete_requirement),
]
TypeOption = Annotated[str | None, typer.Option(metavar="document|process|test_report|record|data", help="Its form.")]
TitleOption = Annotated[str | None, typer.Option(help="What it is.")]
DocumentOption = Annotated[
    str | None, typer.Option(metavar="ID", help="Which document of the catalog it is, such as datasheet.")
]
OwnerOption = Annotated[str | None, typer.Option(help="Who answers for it.")]
CollectedOption = Annotated[
    datetime | None,
    typer.Option(formats=["%Y-%m-%d"], metavar="DATE", help="Day it was made or obtained; default: today."),
]
ExpiresOption = Annotated[
    datetime | None, typer.Option(formats=["%Y-%m-%d"], metavar="DATE", help="Last day it holds.")
]
ClassificationOption = Annotated[
    str | None,
    typer.Option(metavar="public|internal|confidential|restricted", help="Who may see it; default: internal."),
]
WithholdOption = Annotated[
    str | None, typer.Option("--withhold", metavar="WHY", help="Do not hand its content on, for this reason.")
]
ReferenceOption = Annotated[
    str | None,
    typer.Option(metavar="URI", help="Where the content lies: only its digest and size are kept here."),
]
PlainOption = Annotated[
    bool, typer.Option("--plain", help="Read nothing from the files, be they results of a known tool or not.")
]

# --- commands --------------------------------------------------------------------------------------------------------


@app.command()
def add(
    files: FilesArgument,
    requirements: ForOption,
    type: TypeOption = None,
    title: TitleOption = None,
    document: DocumentOption = None,
    owner: OwnerOption = None,
    collected: CollectedOption = None,
    expires: ExpiresOption = None,
    classification: ClassificationOption = None,
    withheld: WithholdOption = None,
    reference: ReferenceOption = None,
    as_plain: PlainOption = False,
    by: ByOption = None,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add files as evidence for one or more requirements.

    Model cards, CycloneDX, SPDX 3, JUnit XML and results of AI Verify, Inspect, Giskard, Evidently and Deepchecks are
    recognised; what they say of themselves goes into the register in their own words.
    """
    from assessor.criteria import followed_catalog
    from assessor.evidence import Details
    from assessor.evidence import add as add_evidence
    from assessor.model import Classification, EvidenceType
    from assessor.project import current_user

    opened, who = open_project(project), by or current_user()
    details = Details(
        type=_chosen(EvidenceType, type, "--type"),
        classification=_chosen(Classification, classification, "--classification"),
        collected=collected.date() if collected else None,
        expires=expires.date() if expires else None,
        title=title,
        document=document,
        owner=owner,
        withheld=withheld,
        uri=reference,
    )
    catalog = followed_catalog(opened.configuration())
    added = add_evidence(opened, catalog, files, requirements=requirements, details=details, by=who, plain=as_plain)
    if as_json:
        print_json([_as_json(item, item.evidence.requirements) for item in added])
        return
    for item in added:
        _print_item(item)


@app.command("list")
def list_(project: ProjectOption = None, as_json: JsonOption = False) -> None:
    """List the register: what there is, whom it serves, who may see it and until when it holds."""
    from assessor.assessment import Assessment
    from assessor.evidence import Item, serves

    found = Assessment.read(open_project(project))
    served = serves(found.evidence, found.answers)
    items = [Item(digest, item) for digest, item in found.evidence.items()]
    if as_json:
        print_json([_as_json(item, served[item.sha256]) for item in items])
        return
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in (
        _("file"),
        _("form"),
        _("SHA-256"),
        _("serves"),
        _("classification"),
        _("collected"),
        _("expires"),
        _("owner"),
    ):
        table.add_column(column)
    for digest, item in items:
        expires = day(item.expires) if item.expires else ""
        late = f"[yellow]{expires}[/]" if item.is_expired(found.today) else expires
        name = plain(item.name) + (f" [dim]({_('withheld')})[/]" if item.withheld else "")
        collected = day(item.collected) if item.collected else ""
        table.add_row(
            name,
            _(item.type.value.replace("_", " ")),
            digest[:12],
            ", ".join(served[digest]),
            _(item.classification.value),
            collected,
            late,
            plain(item.owner),
        )
    out().print(table)
    unregistered = sum(digest not in found.evidence for digest in served)
    if unregistered:
        out().print(
            plural(
                "{n} more file is named by an answer and not in evidence.yaml",
                "{n} more files are named by answers and not in evidence.yaml",
                unregistered,
            ),
            style="dim",
        )


@app.command()
def check(project: ProjectOption = None, as_json: JsonOption = False) -> None:
    """Look at all evidence again: its digest, its last day, files that nobody names; exit 4 where one is broken."""
    from assessor.criteria import followed_catalog
    from assessor.evidence import BROKEN
    from assessor.evidence import check as look_again
    from assessor.project import now

    opened = open_project(project)
    found = list(look_again(opened, followed_catalog(opened.configuration()), now().date()))
    broken = [item for item in found if item.standing in BROKEN]
    if as_json:
        print_json({"ok": not broken, "checks": [item._asdict() for item in found]})
    else:
        _print_found(found, broken)
    if broken:
        raise typer.Exit(BROKEN_CODE)


@app.command()
def withhold(
    which: WhichArgument,
    because: Annotated[str, typer.Option(help="Why its content is not handed on.")],
    by: ByOption = None,
    project: ProjectOption = None,
) -> None:
    """Do not hand the content of a piece of evidence on; its digest stays in the register and the report."""
    from assessor.criteria import followed_catalog
    from assessor.evidence import withhold as mark
    from assessor.project import current_user

    opened = open_project(project)
    catalog = followed_catalog(opened.configuration())
    item = mark(opened, catalog, which, because=because, by=by or current_user())
    _print_item(item)
    path = opened.evidence_path(item.sha256, item.evidence).relative_to(opened.folder)
    out().print(
        _("Leave {path} out of what you hand on. Git does from now on; what it knows already goes with", path=path)
        + f"  git rm --cached {path}",
        markup=False,
    )


@app.command()
def release(which: WhichArgument, by: ByOption = None, project: ProjectOption = None) -> None:
    """Hand the content of a withheld piece of evidence on again."""
    from assessor.criteria import followed_catalog
    from assessor.evidence import release as unmark
    from assessor.project import current_user

    opened = open_project(project)
    _print_item(unmark(opened, followed_catalog(opened.configuration()), which, by=by or current_user()))


_Word = TypeVar("_Word", bound="StrEnum")


def _chosen(words: type[_Word], text: str | None, option: str) -> _Word | None:
    try:
        return words(text) if text is not None else None
    except ValueError as fault:
        known = ", ".join(words)
        raise UsageError(
            _("{option}: found '{text}', wanted one of: {wanted}", option=option, text=text, wanted=known)
        ) from fault


def _as_json(item: Item, served: Sequence[str]) -> dict[str, Any]:
    return {"id": item.sha256, **item.evidence.model_dump(mode="json"), "requirements": list(served)}


def shown_evidence(reference: EvidenceRef, found: Assessment) -> str:
    """A piece of evidence beside its requirement: where it lies, and what must be known of it."""
    item = found.evidence.get(reference.sha256)
    place = item.uri if item and item.uri else f"evidence/{reference.sha256}/{reference.name}"
    return f"{place} {known_of(reference, found)}".rstrip()


def known_of(reference: EvidenceRef, found: Assessment) -> str:
    """What the register says that must be known of a piece of evidence, in brackets; empty where it is not in it."""
    item = found.evidence.get(reference.sha256)
    if item is None:
        return ""
    report = item.provenance
    said = {
        _(item.classification.value): True,
        _("withheld: {because}", because=item.withheld): bool(item.withheld),
        _("expired on {day}", day=day(item.expires) if item.expires else ""): item.is_expired(found.today),
        _("from {tool}", tool=report.tool or report.format if report else ""): report is not None,
    }
    return f"({', '.join(text for text, holds in said.items() if holds)})"


def _print_item(item: Item) -> None:
    from assessor.evidence_formats import RESULTS, is_too_large

    found, console = item.evidence, out()
    state = _("withheld") if found.withheld else found.uri or _("{n} bytes", n=found.size)
    console.print(f"[bold]{plain(found.name)}[/]  {plain(state)}, {_(found.classification.value)}")
    console.print(f"  [dim]SHA-256[/] {item.sha256}")
    console.print(f"  [dim]{_('serves')}[/] {', '.join(found.requirements)}")
    if report := found.provenance:
        told = " ".join(text for text in (report.format, report.tool, report.version, report.subject) if text)
        count = plural("{n} finding", "{n} findings", report.total)
        console.print(f"  [dim]{_('recognised')}[/] {plain(told)}: {count}")
    elif is_too_large(found.name, found.size):
        console.print(f"  [dim]{_('too large to be looked into: kept as a file, whatever tool it comes from')}[/]")
    elif found.name.lower().endswith(RESULTS):
        console.print(f"  [dim]{_('kept as a file: no result of a tool that is known here was read from it')}[/]")


def _print_found(found: Sequence[Found], broken: Sequence[Found]) -> None:
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column()
    for item in found:
        table.add_row(f"[{STYLES[item.standing]}]{_(item.standing)}[/]", plain(retold(item.sentence)))
    out().print(table)
    if broken:
        told = plural("{n} piece of evidence is broken", "{n} pieces of evidence are broken", len(broken))
        out().print(f"\n[bold red]{told}[/]")
    elif not found:
        out().print(_("no evidence yet; add some with  assessor evidence add FILE --for ID"))
