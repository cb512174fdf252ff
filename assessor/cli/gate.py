"""`assessor gate`: the decision for CI."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assessor.cli.terminal import JsonOption, ProjectOption, open_project, out, plain, print_json, styled
from assessor.errors import UsageError
from assessor.messages import _

if TYPE_CHECKING:
    from assessor.gate import GateDecision

FORMATS = ("text", "json")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(gate)


def gate(
    project: ProjectOption = None,
    format_: Annotated[str, typer.Option("--format", help="text or json.")] = "text",
    output: Annotated[Path | None, typer.Option(help="Write the JSON to this file too.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Decide by the policy: exit 0 open, 1 forbidden, 3 cannot be judged."""
    from datetime import UTC, datetime

    from assessor.assessment import Assessment
    from assessor.gate import decide

    if format_ not in FORMATS:
        raise UsageError(f"--format: found '{format_}', wanted one of {', '.join(FORMATS)}")
    found = Assessment.read(open_project(project))
    today = datetime.now(UTC).date()
    decision = decide(found.configuration, found.catalog, found.answers, found.runs, today=today)
    if output is not None:
        output.write_text(decision.model_dump_json(indent=2), "utf-8")
    if as_json or format_ == "json":
        print_json({**decision.model_dump(mode="json"), "sentence": decision.sentence})
    else:
        _print(decision)
    raise typer.Exit(decision.exit_code)


def _print(decision: GateDecision) -> None:
    console = out()
    titled = {
        _("forbidden"): decision.blocking,
        _("cannot judge"): decision.incomplete,
        _("waived"): decision.waived,
        _("not judged"): decision.not_judged,
        _("not forbidden"): decision.tolerated,
    }
    width = max(map(len, titled))
    for title, findings in titled.items():
        for finding in findings:
            console.print(f"[bold]{title:{width}}[/] {finding.id}  {styled(finding.status)}  {plain(finding.sentence)}")
    for check in decision.passed:
        console.print(f"{'':{width}} {check}  {styled('pass')}")
    console.print(_("gate {sentence}", sentence=decision.sentence))
