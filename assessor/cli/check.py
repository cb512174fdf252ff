"""`assessor check`: automated measurements."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assessor.cli.remedy import print_remedy
from assessor.cli.terminal import (
    JsonOption,
    ProjectOption,
    complete_check,
    err,
    open_project,
    out,
    plain,
    print_json,
    progress,
    styled,
)
from assessor.messages import _, retold

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from assessor.assessment import Measurement
    from assessor.contract import Subject
    from assessor.engine import Job
    from assessor.model import CheckRun, SubjectRecord
    from assessor.planning import Plan

LONG_SECONDS = 60.0  # a run that is expected to take longer says so before

app = typer.Typer(help="Automated checks on the model and its data.", no_args_is_help=True)

CheckIds = Annotated[
    list[str] | None, typer.Argument(metavar="[ID]...", help="Checks; default: all.", autocompletion=complete_check)
]


@app.command("list")
def list_(as_json: JsonOption = False) -> None:
    """List the installed checks."""
    from rich.table import Table

    from assessor.registry import load_checks

    checks = load_checks()
    if as_json:
        print_json([check.info for check in checks.values()])
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("id", _("title"), _("needs"), _("tasks")):
        table.add_column(column)
    for check in checks.values():
        table.add_row(check.id, retold(check.info.title), _listed(check.info.needs), _listed(check.info.tasks))
    out().print(table)


def _listed(words: Iterable[str]) -> str:
    return ", ".join(_(word) for word in sorted(words))


@app.command()
def show(
    check_id: Annotated[str, typer.Argument(metavar="ID", autocompletion=complete_check)], as_json: JsonOption = False
) -> None:
    """Show what a check measures, its parameters and its limits."""
    from assessor.registry import find_check, load_checks

    check = find_check(check_id, load_checks())
    if as_json:
        print_json({**check.info.model_dump(mode="json"), "params": check.params_schema()})
        return
    console, info = out(), check.info
    console.print(f"[bold]{info.id}[/] {info.version}  {retold(info.title)}\n\n{plain(retold(info.measures))}\n")
    console.print(f"[bold]{_('parameters')}[/] (assessor.yaml, checks: {{{info.id}: {{...}}}})")
    for name, field in check.params.model_fields.items():
        told = plain(retold(field.description or ""))
        console.print(f"  {name} = {plain(repr(field.get_default()))}  [dim]{told}[/]")
    console.print(f"\n[bold]{_('what a good value does not show')}[/]")
    for limit in info.limits:
        console.print(f"  - {plain(retold(limit))}")
    console.print(f"\n[bold]{_('what to do about a bad value')}[/]")
    print_remedy(console, info)
    console.print(f"\n[dim]{_('needs')}[/] {_listed(info.needs)}  [dim]{_('tasks')}[/] {_listed(info.tasks)}")
    if info.spreads:
        console.print(f"[dim]{_('workers')}[/] {_('all of them take part in it (--jobs, --executor)')}")
    console.print(
        f"[dim]{_('evidence for')}[/] {', '.join(info.requirements)}\n[dim]{_('source')}[/] {plain(info.source)}"
    )


@app.command()
def run(
    ids: CheckIds = None,
    project: ProjectOption = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.", show_default=False)] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**53 - 1, help="Seed of all randomness.", show_default=False)
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", min=1, help="Checks run at a time; default: 1.", show_default=False)
    ] = None,
    executor: Annotated[
        str, typer.Option(help="local, ray, ray://HOST:PORT of a cluster, or HOST:PORT on one of its nodes.")
    ] = "local",
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure again what is already measured.")] = False,
    trust: Annotated[
        bool, typer.Option("--trust", help="Load the model even where its files, or their format, can run code.")
    ] = False,
    plan_only: Annotated[
        bool, typer.Option("--plan", help="Only say what would be measured, and about how long it would take.")
    ] = False,
    log_json: Annotated[
        Path | None, typer.Option(help="Append what happens to this file, a line of JSON each.", show_default=False)
    ] = None,
    profile: Annotated[
        bool, typer.Option("--profile", help="Write a profile of each check into .assessor/profile.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure. Finished checks are kept, so a second run goes on where the first one stopped."""
    from assessor.assessment import planned
    from assessor.executors import executor_of, hint_of_threads
    from assessor.model import Status
    from assessor.observing import logging_to, spanned

    chosen, folder = executor_of(executor, jobs), open_project(project)
    if not as_json and (hint := hint_of_threads(chosen)):
        err().print(hint)
    runs: list[CheckRun] = []
    with progress() as step, logging_to(log_json), spanned("assessor check run"):
        measurement, wanted, guarding = planned(
            folder, ids or (), device=device, seed=seed, fresh=fresh, trust=trust, step=step, executor=chosen
        )
        if not as_json:
            measurement = replace(measurement, before=partial(print_expected, measurement))
        if profile:
            measurement = replace(measurement, profile=folder.folder.resolve() / ".assessor" / "profile")
        if not plan_only:
            runs = measurement.run(wanted, guarding)
    if plan_only:
        print_plan(measurement, wanted, as_json=as_json)
        return
    if as_json:
        print_json(runs)
    else:
        print_runs(runs)
    if measurement.profile and not as_json:
        print_profiles(measurement.profile, [run.check for run in runs])
    if any(run.outcome.status is Status.ERROR for run in runs):
        raise typer.Exit(3)


@app.command()
def freeze(
    check_id: Annotated[str, typer.Argument(metavar="ID", autocompletion=complete_check)],
    project: ProjectOption = None,
    name: Annotated[str | None, typer.Option(help="Name of the case; default: after the check.")] = None,
    at_most: Annotated[
        float | None, typer.Option(help="Target: the worst frozen case's error at most.", show_default=False)
    ] = None,
    because: Annotated[str, typer.Option(help="Why it must not come back.", show_default=False)] = "",
    by: Annotated[str | None, typer.Option(help="Who; default: the user of this machine.", show_default=False)] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.", show_default=False)] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Load the model even where its files hold what should not be loaded.")
    ] = False,
) -> None:
    """Keep a weakness that a check found: every later run measures it, and the gate judges it."""
    from assessor.contract import REGRESSION_CHECK
    from assessor.freezing import Wish, freeze
    from assessor.project import current_user

    wish = Wish(name, at_most, because, by or current_user())
    found = freeze(open_project(project), check_id, wish, device=device, trust=trust)
    out().print(_("frozen as {name}: {told}", name=found.name, told=plain(retold(found.told))))
    if found.file:
        out().print(_("its inputs are in {path}", path=plain(found.file)))
    out().print(_("measure it with  assessor check run {check}", check=REGRESSION_CHECK))


def print_profiles(folder: Path, checks: list[str]) -> None:
    """Where the profiles of each check are, and the functions that took most of its time."""
    from assessor.observing import profiles, slowest

    for check in checks:
        functions, operations = profiles(folder, check)
        if not functions.exists():
            continue
        out().print(f"[bold]{plain(check)}[/]  {plain(functions)}")
        if operations.exists():
            out().print(f"  {_('operations of PyTorch, for a browser:')}  {plain(operations)}")
        for seconds, where in slowest(functions):
            out().print(f"  {seconds:8.3f} s  {plain(where)}")


def print_expected(measurement: Measurement, subject: Subject, record: SubjectRecord, wanted: Sequence[Job]) -> None:
    """Before a run that takes long, what it comes to; nothing before others."""
    from assessor.planning import plan_of

    found = plan_of(measurement, subject, record, wanted)
    if found.seconds < LONG_SECONDS:
        return
    told = [
        _("checks to measure: {due}, measured already: {done}", due=len(found.due), done=found.measured),
        _("expected time: about {time}", time=duration(found.seconds)),
        *([_("of unknown length: {unknown}", unknown=found.unknown)] if found.unknown else []),
        *([told_memory(found)] if found.memory_bytes else []),
        _("each by itself:  assessor check run --plan"),
    ]
    err().print("; ".join(told))


def duration(seconds: float) -> str:
    """A time in words.

    >>> duration(90), duration(5400)
    ('2 min', '1.5 h')
    """
    return f"{seconds / 60:.0f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def told_memory(found: Plan) -> str:
    """What the workers hold together, in words."""
    size = f"{(found.memory_bytes or 0) / 2**20:.0f}"
    return (
        _("memory: at least {mib} MiB", mib=size) if found.memory_is_least else _("memory: about {mib} MiB", mib=size)
    )


def print_plan(measurement: Measurement, wanted: list[Job], *, as_json: bool) -> None:
    """A line a check, the longest first, and what they come to together."""
    from rich.table import Table

    from assessor.planning import plan

    found = plan(measurement, wanted)
    if as_json:
        totals = {"seconds": found.seconds, "unknown": found.unknown, "memory_bytes": found.memory_bytes}
        print_json({**found.model_dump(mode="json"), **totals})
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in (_("check"), "", _("expected"), _("from"), _("memory"), _("from")):
        table.add_column(column, no_wrap=True)
    for item in sorted(found.checks, key=lambda item: (item.state, item.seconds is None, -(item.seconds or 0))):
        expected = "" if item.state != "due" else _("unknown") if item.seconds is None else f"{item.seconds:.1f} s"
        memory = "" if item.memory_bytes is None else f"{item.memory_bytes / 2**20:.0f} MiB"
        by, held_by = (_(word) if word else "" for word in (item.by, item.memory_by))
        table.add_row(item.check, _(item.state), expected, by, memory, held_by)
    console = out()
    console.print(table)
    if found.batch_rows:
        milliseconds = f"{1000 * found.batch_seconds:.1f}"
        console.print(_("a batch of {rows} rows takes the model {ms} ms", rows=found.batch_rows, ms=milliseconds))
    workers = _("all of the cluster") if found.workers is None else found.workers
    console.print(_("workers: {workers}, device: {device}", workers=workers, device=found.device))
    seconds, known = f"{found.seconds:.0f}", len(found.due) - found.unknown
    console.print(
        _(
            "{due} checks to measure; {known} of them take about {seconds} s",
            due=len(found.due),
            known=known,
            seconds=seconds,
        )
    )
    if any(item.by == "model calls" for item in found.due):
        console.print(_("from model calls: without what a check computes itself"))
    if found.memory_bytes is not None:
        console.print(told_memory(found))


def print_runs(runs: list[CheckRun]) -> None:
    """A line a check: status and the sentence that says why."""
    from rich.table import Table

    from assessor.verdicts import told

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in (_("check"), _("outcome"), ""):
        table.add_column(column, no_wrap=column != "")
    for run in runs:
        table.add_row(run.check, styled(run.outcome.status), plain(told(run)))
    out().print(table)
