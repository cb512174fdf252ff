"""`assessor ledger`: what changed the assessment, and hand edits put on record."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assessor.cli.terminal import JsonOption, ProjectOption, open_project, out, plain, print_json
from assessor.errors import UsageError
from assessor.messages import _, day, plural

if TYPE_CHECKING:
    from collections.abc import Iterable

    from assessor.ledger import Change, Line

MOST_FILES = 4  # of one line, in the table

app = typer.Typer(help="The history of an assessment.", no_args_is_help=True)


@app.command()
def show(
    last: Annotated[int | None, typer.Option(min=1, help="Only the last lines; default: all.", metavar="N")] = None,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show who changed what, when and why, after checking the chain."""
    from assessor.ledger import lines

    found = deque(lines(open_project(project).ledger_bytes()), maxlen=last)
    if as_json:
        print_json([{"id": entry.seq, **entry.model_dump(mode="json")} for entry, _edited in found])
    else:
        _print(found)


def _print(lines: Iterable[Line]) -> None:
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in (_("line"), _("time (UTC)"), _("by"), _("action"), _("because"), _("files")):
        table.add_column(column)
    for entry, edited in lines:
        files = [_file(name, change, edited=name in edited) for name, change in entry.files.items()]
        if len(files) > MOST_FILES:
            files[MOST_FILES - 1 :] = [_("and {n} more", n=len(files) - MOST_FILES + 1)]
        texts = map(plain, (entry.actor, entry.action, entry.because, "\n".join(files)))
        table.add_row(str(entry.seq + 1), f"{day(entry.time)} {entry.time:%H:%M}", *texts)
    out().print(table)


def _file(name: str, change: Change, *, edited: bool) -> str:
    if edited:
        return _("{name} (edited by hand before, without a record)", name=name)
    if change.before is None:
        return _("{name} (new)", name=name)
    return _("{name} (removed)", name=name) if change.after is None else name


@app.command()
def record(
    by: Annotated[str, typer.Option(help="Who edited.", metavar="NAME")],
    because: Annotated[str, typer.Option(help="Why.", metavar="TEXT")],
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put hand edits of assessor.yaml, answers and other files on record."""
    from assessor.hand_edits import record as run

    edits = run(open_project(project), by=by, because=because)
    if as_json:
        print_json([{"id": edit.name, "before": edit.recorded, "after": edit.found} for edit in edits])
        return
    for edit in edits:
        out().print(plain(_file(edit.name, edit.change, edited=False)), soft_wrap=True)
    if edits:
        out().print(plural("{n} hand edit recorded", "{n} hand edits recorded", len(edits)))
    else:
        out().print(_("nothing to record: every file is as the ledger has it"))


@app.command()
def head(
    size: Annotated[
        int | None, typer.Option(min=0, help="Of the first lines only, to compare with one noted earlier.", metavar="N")
    ] = None,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print what stands for the whole ledger; who notes it elsewhere sees every later change to these lines."""
    from assessor.ledger import beginning, history, tree_head

    chain = open_project(project).ledger_bytes()
    lines = history(chain).size  # of a broken chain nobody notes the head
    begun = chain if size is None else beginning(chain, size)
    if begun is None:
        raise UsageError(_("--size: found {size}, the ledger has {n} lines", size=size, n=lines))
    found = tree_head(begun)
    if as_json:
        print_json(found._asdict())
        return
    for name, value in found._asdict().items():
        out().print(f"{name}  {value}", soft_wrap=True)


@app.command()
def prove(
    line: Annotated[
        int | None, typer.Argument(help="Number of the line that is to be in the ledger.", show_default=False)
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            help="Instead: an earlier size or head, that the ledger goes on from.",
            metavar="SIZE|HEAD",
            show_default=False,
        ),
    ] = None,
    size: Annotated[
        int | None, typer.Option(min=1, help="Of the first lines only, as a report states them.", metavar="N")
    ] = None,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Prove to who holds a head that a line is in the ledger, or that it goes on; they check with `assessor verify`."""
    from assessor.ledger_proofs import prove_line, prove_since

    chain = open_project(project).ledger_bytes()
    if line is not None and since is None:
        proof = prove_line(chain, line, size).model_dump()
    elif since is not None and line is None:
        proof = prove_since(chain, since, size).model_dump()
    else:
        raise UsageError(_("wanted the number of a line, or --since"))
    if as_json:
        print_json(proof)
        return
    for name, value in proof.items():
        for text in _texts(value):
            out().print(f"{name}  {plain(text)}", soft_wrap=True)


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [", ".join(f"{name} {item}" for name, item in value.items())]
    return [str(item) for item in value] if isinstance(value, list | tuple) else [str(value)]
