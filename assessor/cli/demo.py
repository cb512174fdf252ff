"""`assessor demo`: the whole way on real data."""

from __future__ import annotations

import sys
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING, Annotated

import typer

from assessor.cli.terminal import aligned, err, out, plain, progress
from assessor.errors import IntegrityError
from assessor.messages import _

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
    say(_("measuring"))
    with progress() as step:
        runs = measure(made.project, step=step)
    print_runs(runs)
    say(_("writing and signing the report"))
    report = _signed_report(made.project, system)
    say(_("verifying it"))
    _verify(report, directory)
    command = "assessor" if which("assessor") else sys.argv[0]
    told = _(
        "{answers} answers and {n} measurements of a real model are in {folder}.",
        answers=made.answers,
        n=len(runs),
        folder=f"[bold]{plain(directory)}[/]",
    )
    next_steps = {
        _("the report"): str(report),
        _("verify it"): f"{command} verify {report} --trust {directory}/keys/ca.pem",
        _("look closer"): f"{command} status --project {directory}",
        _("the CI gate"): f"{command} gate --project {directory}",
    }
    out().print(f"\n{told}\n{plain(aligned(next_steps))}")


def _signed_report(project: Project, system: str) -> Path:
    from assessor.cli.key import warning
    from assessor.cli.report import make, write
    from assessor.demonstration import DEVELOPER, PASSPHRASE
    from assessor.keys import new_key
    from assessor.signing import sign_pdf

    report = write(project, make(project, "pdf"), "pdf", project.folder / "reports" / f"{system}.pdf")
    key = new_key(project.folder / "keys", name=_(DEVELOPER), organisation="ai-assessor demo", passphrase=PASSPHRASE)
    reason = _("I have made this assessment and stand by its answers")
    sign_pdf(report, key.p12, report, passphrase=PASSPHRASE, role="developer", reason=reason)
    err().print(warning(), style="yellow")
    return report


def _verify(report: Path, directory: Path) -> None:
    from assessor.cli.verify import print_findings
    from assessor.verify import verify

    findings = verify(report, trust=[directory / "keys" / "ca.pem"])
    ok = not any(finding.status == "failed" for finding in findings)
    print_findings(findings, ok=ok)
    if not ok:
        raise IntegrityError("the demo's own report does not verify")
