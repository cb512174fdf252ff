"""The command line: `assessor`. Commands parse, call and print; all else is elsewhere.

Nothing heavy is imported before a command runs, so that `--help` and tab completion answer at once.
"""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import typer

from assessor.cli import (
    answer,
    audit,
    calibrate,
    catalog,
    catalog_files,
    check,
    compare,
    demo,
    evidence,
    export,
    gate,
    hook,
    init,
    key,
    ledger,
    migrate,
    prefill,
    remedy,
    report,
    rerun,
    sign,
    status,
    verify,
)
from assessor.cli.terminal import visible
from assessor.errors import AssessorError, UsageError
from assessor.messages import _, language, retold, speaking

INTERRUPTED, OUR_FAULT = 130, 5

app = typer.Typer(
    name="assessor",
    help="Assess and audit AI systems: catalog, questionnaire, automated checks, signed reports.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from assessor import __version__

        typer.echo(f"ai-assessor {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Assess and audit AI systems: catalog, questionnaire, automated checks, signed reports."""


for _module in (
    *(
        demo,
        init,
        prefill,
        answer,
        audit,
        status,
        calibrate,
        remedy,
        gate,
        report,
        rerun,
        compare,
        export,
        migrate,
        sign,
        verify,
    ),
):
    _module.register(app)
catalog_files.register(catalog.app)
app.add_typer(catalog.app, name="catalog")
app.add_typer(check.app, name="check")
app.add_typer(evidence.app, name="evidence")
app.add_typer(hook.app, name="hook", hidden=True)
app.add_typer(key.app, name="key")
app.add_typer(ledger.app, name="ledger")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and end the process with a documented exit code.

    Args:
        arguments: Default: the process's.

    Raises:
        SystemExit: With a documented exit code.
    """
    with speaking(language()):  # what this run chooses ends with it
        _main(arguments)


def _main(arguments: Sequence[str] | None) -> NoReturn:
    from assessor.cli.localise import choose, localised

    try:
        choose(sys.argv[1:] if arguments is None else arguments)
        code = localised(app)(args=arguments, standalone_mode=False)
    except AssessorError as fault:
        _complain(retold(str(fault)))
        sys.exit(fault.exit_code)
    except typer.Abort:
        code = INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as fault:  # noqa: BLE001 - the last resort
        _last_resort(fault)
    if code == INTERRUPTED:
        _complain(_("interrupted; everything finished is kept"))
    sys.exit(code or 0)


def _last_resort(fault: Exception) -> NoReturn:
    """Wrong arguments, which Typer tells; all else is a fault of ours, told with its traceback in a file."""
    from assessor.cli.localise import complaint

    said = complaint(fault)
    if said is not None:
        _complain(said)
        sys.exit(UsageError.exit_code)
    told = f"{type(fault).__name__}: {fault}"
    _complain(_("this is a fault of ours ({fault}); details in {path}", fault=told, path=_log()))
    sys.exit(OUR_FAULT)


def _complain(message: str) -> None:
    if not message:
        return
    first, *rest = visible(message).splitlines()
    sys.stderr.write("\n".join([f"assessor: {first}", *(f"          {line}" for line in rest)]) + "\n")


def _log() -> Path:
    with tempfile.NamedTemporaryFile("w", prefix="assessor-", suffix=".log", delete=False) as stream:
        stream.write(traceback.format_exc())
        return Path(stream.name)
