"""`assessor rerun`: measure again what a report claims."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assessor.cli.terminal import JsonOption, err, out, plain, print_json, progress, styled
from assessor.errors import UsageError
from assessor.messages import _, retold

if TYPE_CHECKING:
    from assessor.rerun import Rerun

SPLITS = ("train", "test", "design", "ood", "production")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(rerun)


def rerun(
    path: Annotated[Path, typer.Argument(metavar="FILE|DIR", help="A PDF report, its record (JSON) or a folder.")],
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Checks; default: all claimed.")] = None,
    system: Annotated[
        Path | None,
        typer.Option(help="Folder with model and data; default: that of the report.", file_okay=False),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="module:callable or table of predictions in place of the report's.")
    ] = None,
    data: Annotated[
        list[str] | None, typer.Option(help="[SPLIT=]module:callable or table in place of the report's; repeatable.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Folder of the results; default: rerun-<report>.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.", show_default=False)] = None,
    trusted: Annotated[list[Path] | None, typer.Option("--trusted", help="PEM certificate of an authority.")] = None,
    record_in: Annotated[
        Path | None,
        typer.Option("--record", help="Assessment folder whose audited requirements become re-performed."),
    ] = None,
    by: Annotated[str | None, typer.Option(help="Who records that.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure again what is in the output folder.")] = False,
    trust: Annotated[bool, typer.Option("--trust", help="Load the model even where its files look dangerous.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure again what a report claims; exit 0 when all holds, 1 when not, 3 when something could not be measured."""
    from assessor.claims import read_claims
    from assessor.rerun import Replacement, record
    from assessor.rerun import rerun as measure_again

    if record_in is not None and not by:
        raise UsageError("--record: wanted --by NAME beside it, the person who records it")
    claims = read_claims(path, trust=tuple(trusted or ()))
    folder = output or Path(f"rerun-{claims.report_id.lower()}")
    replacement = Replacement(model, dict(map(_split, data or ())))
    with progress() as step:
        found = measure_again(
            claims, system or _system(path), folder, ids or (),
            replacement=replacement, device=device, trust=trust, fresh=fresh, step=step,
        )  # fmt: skip
    report = _write(found, folder)
    if as_json:
        print_json(record(found))
    else:
        _print(found)
        out().print(f"\n{report}", markup=False)
    if record_in is not None and by:
        _raise(found, record_in, by)
    if not found.held:
        raise typer.Exit(1 if any(item.held is False for item in found.checks) else 3)


def _split(text: str) -> tuple[str, str]:
    """`test=data.csv`, or a source alone, which is the test data's."""
    name, equals, rest = text.partition("=")
    if not equals:
        return "test", text
    if name not in SPLITS:
        raise UsageError(f"--data: found '{name}', wanted one of {', '.join(SPLITS)} before the =")
    return name, rest


def _system(path: Path) -> Path:
    """Where model and data lie: the folder itself, the assessment that a report lies in, else here."""
    folder = path if path.is_dir() else path.resolve().parent
    for one in (folder, *folder.parents[:1]):
        if (one / "assessor.yaml").is_file():
            return one
    return Path.cwd()


def _write(found: Rerun, folder: Path) -> Path:
    """The record, and beside it the report: PDF, or HTML where PDF cannot be made."""
    from assessor.canonical import canonical_json
    from assessor.files import write_whole
    from assessor.rerun import record
    from assessor.rerun_report import rerun_html, rerun_pdf
    from assessor.verify import RERUN

    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / RERUN, canonical_json(record(found)))
    try:
        path, content = folder / "rerun.pdf", rerun_pdf(found)
    except UsageError as fault:
        err().print(str(fault), style="yellow", markup=False)
        path, content = folder / "rerun.html", rerun_html(found).encode()
    write_whole(path, content)
    return path


def _print(found: Rerun) -> None:
    from rich.table import Table

    from assessor.rerun_report import HELD

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in (_("check"), _("holds"), _("claimed"), _("again"), ""):
        table.add_column(column, no_wrap=column != "")
    styles = {True: "green", False: "bold red", None: "yellow"}
    for item in found.checks:
        again = "–" if item.again is None else styled(item.again)
        said = " ".join(map(retold, item.because)) or ", ".join(sorted({number.agreement for number in item.numbers}))
        held = f"[{styles[item.held]}]{_(HELD[item.held][1])}[/]"
        table.add_row(item.check, held, styled(item.claimed), again, plain(said))
    out().print(table)
    count = sum(item.held is True for item in found.checks)
    out().print("\n" + _("{n} of {total} checks hold", n=count, total=len(found.checks)))


def _raise(found: Rerun, folder: Path, by: str) -> None:
    from assessor.auditing import raise_assurance
    from assessor.project import Project

    held = {item.check: item.claimed_result for item in found.checks if item.held}
    raised = raise_assurance(Project(folder), held, by=by)
    said = ", ".join(raised) or _("none: no requirement that an auditor judged rests on these checks alone")
    err().print(_("now re-performed: {names}", names=said), markup=False)
