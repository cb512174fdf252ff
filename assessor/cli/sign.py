"""`assessor sign`: a signature under a report."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from assessor.cli.key import PassphraseOption
from assessor.cli.terminal import out
from assessor.messages import _


class Role(StrEnum):
    """Who signs."""

    DEVELOPER = "developer"
    AUDITOR = "auditor"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(sign)


def sign(
    file: Annotated[Path, typer.Argument(help="The PDF report.", dir_okay=False)],
    key: Annotated[Path, typer.Option(help="Key and certificate, PKCS#12 (.p12).", dir_okay=False)],
    role: Annotated[Role, typer.Option(help="In which role.")] = Role.DEVELOPER,
    output: Annotated[Path | None, typer.Option(help="Default: the file itself.", show_default=False)] = None,
    reason: Annotated[str | None, typer.Option(help="What the signature says.", show_default=False)] = None,
    passphrase: PassphraseOption = "",
) -> None:
    """Sign a PDF report (PAdES baseline B-B)."""
    from assessor.signing import sign_pdf

    words = reason or f"Signed as {role} of this assessment"  # in the file, so in English as the rest of it
    sign_pdf(file, key, output or file, passphrase=passphrase, role=role.value, reason=words)
    out().print(_("{path} is signed as {role}", path=output or file, role=_(role.value)), markup=False)
