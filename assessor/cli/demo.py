"""`assessor demo`: the whole way on real data."""

from __future__ import annotations

import sys
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING, Annotated

import typer

from assessor.cli.terminal import err, out, progress
from assessor.errors import IntegrityError

if TYPE_CHECKING:
    from assessor.project import Project


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(demo)


def demo(
    directory: Annotated[Path, typer.Argument(metavar="[DIR]", file_okay=False)] = Path("demo"),
    system: Annotated[str, typer.Option(help="diabetes or digits.")] = "diabetes",
) -> None:
    """Train a small model on real data, assess it, sign the report and verify it."""
    from assessor.assessment import measure
    from assessor.cli.check import print_runs
    from assessor.demonstration import prepare

    def say(what: str) -> None:
        err().print(f"[bold]·[/] {what}")

    made = prepare(directory, system, say)
    say("measuring")
    with progress() as step:
        runs = measure(made.project, step=step)
    print_runs(runs)
    say("writing and signing the report")
    report = _signed_report(made.project, system)
    say("verifying it")
    _verify(report, directory)
    command = "assessor" if which("assessor") else sys.argv[0]
    out().print(
        f"\n{made.answers} answers and {len(runs)} measurements of a real model are in [bold]{directory}[/].\n"
        f"  the report     {report}\n"
        f"  verify it      {command} verify {report} --trust {directory}/keys/ca.pem\n"
        f"  look closer    {command} status --project {directory}\n"
        f"  the CI gate    {command} gate --project {directory}"
    )


def _signed_report(project: Project, system: str) -> Path:
    from assessor.cli.key import LOUD
    from assessor.cli.report import make, write
    from assessor.demonstration import DEVELOPER, PASSPHRASE
    from assessor.keys import new_key
    from assessor.signing import sign_pdf

    report = write(project, make(project, "pdf"), "pdf", project.folder / "reports" / f"{system}.pdf")
    key = new_key(project.folder / "keys", name=DEVELOPER, organisation="ai-assessor demo", passphrase=PASSPHRASE)
    reason = "I have made this assessment and stand by its answers"
    sign_pdf(report, key.p12, report, passphrase=PASSPHRASE, role="developer", reason=reason)
    err().print(LOUD, style="yellow")
    return report


def _verify(report: Path, directory: Path) -> None:
    from assessor.cli.verify import print_findings
    from assessor.verify import verify

    findings = verify(report, trust=[directory / "keys" / "ca.pem"])
    ok = not any(finding.status == "failed" for finding in findings)
    print_findings(findings, ok=ok)
    if not ok:
        raise IntegrityError("the demo's own report does not verify")
