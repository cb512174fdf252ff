"""`assessor calibrate`: what flatness says about the generalization gap, for this architecture and data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from assessor.cli.terminal import JsonOption, ProjectOption, open_project, out, plain, print_json, progress, styled
from assessor.errors import UsageError
from assessor.messages import _, retold

if TYPE_CHECKING:
    from rich.table import Table

    from assessor import contract
    from assessor.model import CheckRun

CHECK = "generalization.flatness_calibration"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(calibrate)


def calibrate(
    project: ProjectOption = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.", show_default=False)] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**53 - 1, help="Seed of all randomness.", show_default=False)
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure again what is already measured.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Train reference models to read the generalization gap off flatness; set how under checks: in assessor.yaml."""
    from assessor.assessment import measure
    from assessor.model import Status

    folder = open_project(project)
    target = folder.configuration().target
    if target is not None and target.model.build is None:
        raise UsageError(
            "assessor.yaml: no target.model.build: reference models are new models of the same architecture. Add "
            "build: module:function  beside load under target.model; the function makes an untrained torch.nn.Module"
        )
    with progress() as step:
        (run,) = measure(folder, [CHECK], device=device, seed=seed, fresh=fresh, step=step)
    if as_json:
        print_json(run)
    else:
        _print(run)
    if run.outcome.status is Status.ERROR:
        raise typer.Exit(3)


def _print(run: CheckRun) -> None:
    from assessor.verdicts import told

    console = out()
    for table in run.tables:
        console.print(_table(table))
    for remark in run.remarks:
        console.print(f"[dim]-[/] {plain(retold(remark))}")
    console.print(f"\n[bold]{run.check}[/]  {styled(run.outcome.status)}  {plain(told(run))}")


def _table(table: contract.Table) -> Table:
    from rich.table import Table

    found = Table(box=None, header_style="bold", pad_edge=False, title=retold(table.title), title_justify="left")
    for column in table.columns:
        found.add_column(_(column.replace("_", " ")), justify="left" if column == "status" else "right")
    for row in table.rows:
        found.add_row(*(_cell(cell) for cell in row))
    return found


def _cell(cell: contract.Cell) -> str:
    from assessor.verdicts import shown

    if cell is None:
        return "–"
    if isinstance(cell, float):
        return shown(cell)
    return _(cell.replace("_", " ")) if isinstance(cell, str) else str(cell)
