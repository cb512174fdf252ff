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

import typer

from assessor.cli import answer, catalog, check, demo, gate, init, key, report, sign, status, verify
from assessor.errors import AssessorError

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


for _module in (demo, init, answer, status, gate, report, sign, verify):
    _module.register(app)
app.add_typer(catalog.app, name="catalog")
app.add_typer(check.app, name="check")
app.add_typer(key.app, name="key")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and end the process with a documented exit code.

    Args:
        arguments: Default: the process's.

    Raises:
        SystemExit: With a documented exit code.
    """
    try:
        app(args=arguments)
    except AssessorError as fault:
        _complain(str(fault))
        sys.exit(fault.exit_code)
    except SystemExit as end:
        if end.code == INTERRUPTED:
            _complain("interrupted; everything finished is kept")
        raise
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as fault:  # noqa: BLE001 - the last resort: a fault of ours, told with its traceback in a file
        _complain(f"this is a fault of ours ({type(fault).__name__}: {fault}); details in {_log()}")
        sys.exit(OUR_FAULT)


def _complain(message: str) -> None:
    first, *rest = message.splitlines() or [""]
    sys.stderr.write("\n".join([f"assessor: {first}", *(f"          {line}" for line in rest)]) + "\n")


def _log() -> Path:
    with tempfile.NamedTemporaryFile("w", prefix="assessor-", suffix=".log", delete=False) as stream:
        stream.write(traceback.format_exc())
        return Path(stream.name)
