"""`assessor catalog`: the criteria."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from assessor.cli.terminal import JsonOption, complete_requirement, out, print_json
from assessor.errors import UsageError

app = typer.Typer(help="The catalog of requirements.", no_args_is_help=True)

FORMATS = ("json", "schema", "result-schema")


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

    catalog = load_catalog()
    found = select(catalog, which)
    if as_json:
        print_json(list(found))
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("id", "kinds", "title", "checks"):
        table.add_column(column, no_wrap=column != "title")
    for item in found:
        table.add_row(item.id, ",".join(item.kinds), item.title, " ".join(item.checks))
    out().print(table)
    out().print(f"{len(found)} requirements, catalog {catalog.head.id} {catalog.head.version}", style="dim")


@app.command()
def show(
    requirement: Annotated[str, typer.Argument(metavar="ID", autocompletion=complete_requirement)],
    as_json: JsonOption = False,
) -> None:
    """Show one requirement whole."""
    from assessor.criteria import load_catalog
    from assessor.errors import nearest

    catalog = load_catalog()
    item = catalog.by_id.get(requirement)
    if item is None:
        raise UsageError(f"no requirement '{requirement}'{nearest(requirement, catalog.by_id)}")
    if as_json:
        print_json(item)
        return
    console = out()
    console.print(f"[bold]{item.id}[/]  {item.title}\n\n{item.statement}\n")
    for question in item.questions:
        choices = f"  [dim]({' | '.join(question.choices)})[/]" if question.choices else ""
        console.print(f"  [bold]{question.id}[/]  {question.text}{choices}")
    console.print("\n[dim]expected evidence[/]  " + "; ".join(evidence.what for evidence in item.evidence))
    console.print(f"[dim]demands[/]  {', '.join(kind.name.lower() for kind in item.kinds)}")
    for label, names in (("refers to", item.refers_to), ("checks", item.checks), ("also known as", item.aliases)):
        if names:
            console.print(f"[dim]{label}[/]  {', '.join(names)}")
    console.print(f"[dim]source item[/]  {item.provenance.status} ({catalog.head.source.title})")


@app.command()
def validate(
    path: Annotated[Path | None, typer.Argument(help="Folder of a catalog; default: the one installed.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Read a catalog whole and tell every fault as file:line."""
    from assessor.criteria import load_catalog

    catalog = load_catalog(path)
    summary = {"id": catalog.head.id, "version": catalog.head.version, "requirements": len(catalog.requirements)}
    if as_json:
        print_json({**summary, "sha256": catalog.sha256, "ok": True})
        return
    out().print(f"ok: {summary['requirements']} requirements in {catalog.head.id} {catalog.head.version}")


@app.command()
def export(
    format_: Annotated[str, typer.Option("--format", help=f"One of {', '.join(FORMATS)}.")] = "json",
) -> None:
    """Print the catalog, or the JSON Schema of its files or of check results."""
    from assessor.criteria import load_catalog
    from assessor.model import CheckRun, Requirements

    if format_ == "json":
        print_json(load_catalog())
    elif format_ == "schema":
        print_json(Requirements.model_json_schema(by_alias=True))
    elif format_ == "result-schema":
        print_json(CheckRun.model_json_schema(by_alias=True))
    else:
        raise UsageError(f"--format: found '{format_}', wanted one of {', '.join(FORMATS)}")
