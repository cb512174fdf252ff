"""`assessor catalog export`, `import` and `diff`: the catalog as a whole, in other forms and against other editions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assessor.cli.export import write_text
from assessor.cli.terminal import JsonOption, one_of, out, plain, print_json
from assessor.errors import UsageError
from assessor.files import write_whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    from assessor.catalog_diff import Change, Edition

FORMATS = ("json", "csv", "markdown", "oscal", "schema", "result-schema")


def register(app: typer.Typer) -> None:
    """Add the commands to `assessor catalog`."""
    app.command()(export)
    app.command("import")(import_)
    app.command()(diff)


def export(
    format_: Annotated[
        str, typer.Option("--format", help=f"One of {', '.join(FORMATS)}.", autocompletion=one_of(*FORMATS))
    ] = "json",
    output: Annotated[Path | None, typer.Option(help="A file; default: standard output.")] = None,
    packs: Annotated[list[str] | None, typer.Option("--pack", help="A pack to include; may be repeated.")] = None,
) -> None:
    """Write the catalog in another form, or the JSON Schema of its files or of check results."""
    if format_ not in FORMATS:
        raise UsageError(f"--format: found '{format_}', wanted one of {', '.join(FORMATS)}")
    text = _exported(format_, packs or [])
    write_text(text, output, encoding="utf-8-sig" if format_ == "csv" else "utf-8")


def _exported(format_: str, packs: Sequence[str]) -> str:
    from assessor.criteria import load_catalog
    from assessor.messages import language
    from assessor.model import CheckRun, Requirements

    if format_ in {"schema", "result-schema"}:
        return _json((Requirements if format_ == "schema" else CheckRun).model_json_schema(by_alias=True))
    catalog = load_catalog(packs=packs, language=language())
    if format_ == "json":
        return _json(catalog.model_dump(mode="json", by_alias=True))
    if format_ == "csv":
        from assessor.exports.tables import catalog_table

        return catalog_table(catalog).as_csv()
    if format_ == "markdown":
        from assessor.exports.markdown import catalog_markdown

        return catalog_markdown(catalog)
    from assessor.exports.oscal_catalog import catalog_to_oscal
    from assessor.project import now

    return _json(catalog_to_oscal(catalog, now()))


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def import_(
    file: Annotated[Path, typer.Argument(help="An OSCAL catalog that assessor wrote.", dir_okay=False)],
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder for its YAML files.", file_okay=False)],
) -> None:
    """Write the YAML files of a catalog from its OSCAL form, and read them as a check."""
    from assessor.criteria import load_catalog
    from assessor.exports.oscal_reading import read_oscal, to_yaml

    if directory.exists() and any(directory.iterdir()):
        raise UsageError(f"{directory}: found files in it, wanted a new or empty folder")
    catalog = read_oscal(file)
    for name, content in to_yaml(catalog).items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        write_whole(directory / name, content)
    load_catalog(directory, packs=[head.id for head in catalog.head.dimensions if head.is_pack])
    out().print(f"{len(catalog.requirements)} requirements in {directory}", markup=False, soft_wrap=True)


def diff(
    before: Annotated[Path, typer.Argument(metavar="A", help="Folder of the earlier catalog.", file_okay=False)],
    after: Annotated[
        Path | None,
        typer.Argument(metavar="[B]", help="Folder of the later one; default: the installed.", file_okay=False),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what changed between two editions of the catalog, and whether answers stay valid."""
    from assessor.catalog_diff import compare, read_edition, told

    earlier, later = read_edition(before), read_edition(after)
    changes = compare(earlier, later)
    if as_json:
        print_json(
            {
                "before": _edition(earlier),
                "after": _edition(later),
                "changes": [{**change.model_dump(mode="json"), "sentence": told(change)} for change in changes],
            }
        )
        return
    _print(earlier, later, changes)


def _edition(edition: Edition) -> dict[str, object]:
    return {"id": edition.id, "version": edition.version, "requirements": len(edition.requirements)}


def _print(earlier: Edition, later: Edition, changes: Sequence[Change]) -> None:
    from rich.table import Table

    from assessor.catalog_diff import What, told
    from assessor.messages import _

    console = out()
    if changes:
        table = Table(box=None, header_style="bold", pad_edge=False)
        for column in (_("id"), _("what"), _("changed"), _("answers")):
            table.add_column(column, no_wrap=column == _("id"))
        for change in changes:
            table.add_row(change.id, _(change.what), plain(", ".join(map(_, change.fields))), plain(told(change)))
        console.print(table)
    counts = [(what, sum(change.what is what for change in changes)) for what in What]
    found = ", ".join(f"{count} {_(what)}" for what, count in counts if count) or _("no requirement changed")
    console.print(f"{earlier.id} {earlier.version} → {later.id} {later.version}: {found}", style="dim", markup=False)
