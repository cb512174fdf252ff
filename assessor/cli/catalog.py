"""`assessor catalog`: the criteria."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assessor.cli import clauses
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
from assessor.messages import SOURCE, _, language

if TYPE_CHECKING:
    from collections.abc import Iterator

    from assessor.assessment import Assessment
    from assessor.model import Catalog, Requirement, RequirementState

app = typer.Typer(help="The catalog of requirements.", no_args_is_help=True)


@app.command("list")
def list_(
    which: Annotated[
        str | None, typer.Argument(help="Area or dimension.", autocompletion=complete_requirement, show_default=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the requirements, of all or of one area or dimension."""
    from rich.table import Table

    from assessor.criteria import load_catalog
    from assessor.questionnaire import select

    catalog = load_catalog(language=SOURCE if as_json else language())
    found = select(catalog, which)
    if as_json:
        print_json(list(found))
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    title = _("title")
    for column in ("id", _("kinds"), title, _("checks")):
        table.add_column(column, no_wrap=column != title)
    for item in found:
        table.add_row(item.id, ",".join(item.kinds), item.title, " ".join(item.checks))
    out().print(table)
    told = _("{n} requirements, catalog {id} {version}", n=len(found), id=catalog.head.id, version=catalog.head.version)
    out().print(told, style="dim")


@app.command()
def show(
    requirement: Annotated[str, typer.Argument(metavar="ID", autocompletion=complete_requirement)],
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one requirement whole; in an assessment with the evidence that is there for it."""
    from assessor.criteria import load_catalog
    from assessor.errors import nearest

    english = load_catalog()
    catalog = load_catalog(packs=english.head.packs, language=SOURCE if as_json else language())
    item = catalog.by_id.get(requirement)
    if item is None:
        raise UsageError(_("no requirement '{name}'", name=requirement) + nearest(requirement, catalog.by_id))
    if as_json:
        print_json({**item.model_dump(mode="json"), "used_by": catalog.used_by[item.id]})
        return
    _print_requirement(item, catalog)
    _print_attached(item, project)


def _print_attached(item: Requirement, folder: Path | None) -> None:
    """Evidence that the assessment around holds for a requirement; nothing outside of one."""
    from assessor.assessment import Assessment
    from assessor.cli.evidence import shown_evidence
    from assessor.judgement import attached_evidence
    from assessor.project import Project

    opened = Project(folder) if folder else Project.around(Path.cwd())
    if opened is None:
        return
    found = Assessment.read(opened)
    for evidence in attached_evidence(item.id, found.scope):
        out().print(f"[cyan]{_('evidence')}[/]  {plain(shown_evidence(evidence, found))}")


def _print_requirement(item: Requirement, catalog: Catalog) -> None:
    from assessor.cli.interview import show_help
    from assessor.model import Role
    from assessor.replies import label

    console = out()
    console.print(f"[bold]{item.id}[/]  {plain(item.title)}\n\n{plain(item.statement)}")
    show_help(item, console)
    for role, heading in ((Role.DEVELOPER, _("Questions")), (Role.AUDITOR, _("For the auditor"))):
        console.print(f"[bold]{heading}[/]")
        for question in (question for question in item.questions if question.role is role):
            words = " | ".join(label(question, choice) for choice in (*question.choices, *question.columns))
            form = f"  [dim]({_(question.type.value.replace('_', ' '))}{': ' + plain(words) if words else ''})[/]"
            console.print(f"  [bold]{question.id}[/]  {plain(question.text)}{form}")
            if question.show_if:
                console.print(f"      [dim]{_('asked if')} {plain(question.show_if)}[/]")
    if item.params:
        console.print(f"[bold]{_('Targets that you set, with their reason')}[/]")
    for param in item.params:
        bound = f", {_('target of')} {param.check}" if param.check else ""
        console.print(
            f"  [bold]{param.id}[/]  {plain(param.label)}  [dim]({param.unit or _(param.type.value)}{bound})[/]"
        )
    console.print(f"[bold]{_('Expected evidence')}[/]")
    for expected in item.evidence:
        document = catalog.document(expected.document) if expected.document else None
        age = _(", at most {n} days old", n=expected.max_age_days) if expected.max_age_days else ""
        console.print(f"  – {plain(expected.what)}  [dim]({plain(document.title) if document else ''}{age})[/]")
    labelled = {
        _("concerns a system if"): (item.applicability,) if item.applicability else (),
        _("demands"): tuple(_(kind.name.lower()) for kind in item.kinds),
        _("refers to"): item.refers_to,
        _("used by"): catalog.used_by[item.id],
        _("checks"): item.checks,
        _("no check because"): (item.no_check_because,) if item.no_check_because else (),
        _("also known as"): item.aliases,
        _("source item"): (_(item.provenance.status.value), *item.provenance.sources),
    }
    for name, texts in labelled.items():
        if texts:
            console.print(f"[dim]{name}[/]  {plain(', '.join(texts))}")


def complete_framework(incomplete: str) -> list[str]:
    """Tab completion: ids of frameworks, from the names of their files."""
    from importlib.resources import files

    names = (item.name for item in (files("assessor.catalog") / "mappings").iterdir())
    found = sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))
    return [name for name in found if name.startswith(incomplete.lower())]


@app.command()
def coverage(
    framework: Annotated[
        str | None,
        typer.Argument(
            metavar="[FRAMEWORK]", autocompletion=complete_framework, help="Default: list them.", show_default=False
        ),
    ] = None,
    project: ProjectOption = None,
    only_open: Annotated[bool, typer.Option("--open", help="Only what is missing, clause by clause.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show which clauses of a law or standard the catalog speaks to, and how far an assessment near by has come."""
    from assessor.coverage import coverage as covered
    from assessor.criteria import load_catalog, load_frameworks
    from assessor.errors import nearest

    catalog = load_catalog(packs=load_catalog().head.packs)
    known = {item.id: item for item in load_frameworks(catalog)}
    if framework is None:
        if as_json:
            print_json([item.model_dump(mode="json", by_alias=True, exclude={"clauses"}) for item in known.values()])
        else:
            clauses.print_list([covered(item, catalog) for item in known.values()])
        return
    if framework not in known:
        raise UsageError(f"no framework '{framework}'{nearest(framework, known)}; known: {', '.join(known)}")
    assessment = _assessment(project)
    system = None if assessment is None else assessment.configuration.system
    found = covered(known[framework], catalog, None if assessment is None else list(_requirement_states(assessment)))
    if only_open:
        found = found.model_copy(update={"clauses": found.unsettled})
    if as_json:
        print_json(found)
    else:
        clauses.print_one(found, catalog, system, only_open=only_open)


def _assessment(project: Path | None) -> Assessment | None:
    """The assessment named or near by; None where there is none and none was asked for."""
    from assessor.assessment import Assessment

    try:
        opened = open_project(project)
    except UsageError:
        if project is not None:
            raise
        return None
    return Assessment.read(opened)


def _requirement_states(assessment: Assessment) -> Iterator[RequirementState]:
    for dimension in assessment.states:
        for area in dimension.areas:
            yield from area.requirements


@app.command()
def validate(
    path: Annotated[Path | None, typer.Argument(help="Folder of a catalog; default: the one installed.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Read a catalog whole, with packs, translations and mappings, and tell every fault as file:line."""
    from assessor.criteria import validate_catalog

    found = validate_catalog(path)
    head, total = found.catalog.head, len(found.catalog.requirements)
    in_packs = sum(item.dimension in head.packs for item in found.catalog.requirements)
    summary = {"id": head.id, "version": head.version, "requirements": total - in_packs, "in_packs": in_packs}
    more = {"languages": list(found.languages), "frameworks": len(found.frameworks)}
    if as_json:
        print_json({**summary, **more, "sha256": found.catalog.sha256, "ok": True})
        return
    told = _("ok: {requirements} requirements in {id} {version}", **summary)
    languages = ", ".join(found.languages)
    rest = _(
        "{in_packs} in packs, {frameworks} frameworks, languages {languages}",
        in_packs=in_packs,
        frameworks=len(found.frameworks),
        languages=languages,
    )
    out().print(f"{told}; {rest}")
