"""`assessor remedy`: what to do about a bad value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from assessor.cli.terminal import (
    JsonOption,
    ProjectOption,
    complete_check,
    open_project,
    out,
    plain,
    print_json,
    styled,
)
from assessor.messages import _, retold

if TYPE_CHECKING:
    from rich.console import Console

    from assessor.contract import CheckInfo
    from assessor.model import CheckRun

CheckId = Annotated[
    str | None,
    typer.Argument(metavar="CHECK", help="Check; default: all with a bad result.", autocompletion=complete_check),
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(remedy)


def remedy(check_id: CheckId = None, project: ProjectOption = None, as_json: JsonOption = False) -> None:
    """Say what to do about a bad value, with a short code example where there is one.

    Without CHECK: for every check of the folder that failed or is inconclusive.
    """
    if check_id is None:
        _for_bad_results(list(open_project(project).runs().values()), as_json=as_json)
        return
    from assessor.registry import find_check, load_checks

    info = find_check(check_id, load_checks()).info
    if as_json:
        print_json(_advice(info))
        return
    console = out()
    console.print(f"[bold]{info.id}[/]  {plain(retold(info.title))}")
    print_remedy(console, info)


def _for_bad_results(runs: list[CheckRun], *, as_json: bool) -> None:
    from assessor.model import Status
    from assessor.registry import load_checks
    from assessor.verdicts import told

    bad = [run for run in runs if run.outcome.status in {Status.FAIL, Status.INCONCLUSIVE}]
    infos = {name: check.info for name, check in load_checks().items()}
    if as_json:
        print_json([{**run.outcome.model_dump(mode="json"), **_advice(infos.get(run.check), run.check)} for run in bad])
        return
    console = out()
    for run in bad:
        console.print(f"[bold]{run.check}[/]  {styled(run.outcome.status)}  {plain(told(run))}")
        if run.check in infos:
            print_remedy(console, infos[run.check])
        else:
            console.print(f"  {_('this check is not installed here, so that its remedy is not known')}")
        console.print()
    if not bad:
        console.print(_("no check has failed or is inconclusive") if runs else _("nothing has been measured yet"))


def _advice(info: CheckInfo | None, check: str = "") -> dict[str, Any]:
    """What to do, as plain data in English."""
    if info is None:
        return {"check": check, "title": None, "remedy": None, "remedy_code": ""}
    return {"check": info.id, "title": info.title, "remedy": info.remedy, "remedy_code": info.remedy_code}


def print_remedy(console: Console, info: CheckInfo) -> None:
    """The advice, and below it the code as it is to be typed."""
    console.print(f"  {plain(retold(info.remedy))}")
    if info.remedy_code:
        code = "\n".join(f"    {line}".rstrip() for line in info.remedy_code.strip().splitlines())
        console.print(f"\n{plain(code)}", soft_wrap=True)
