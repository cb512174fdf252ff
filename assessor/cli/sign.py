"""`assessor sign`: a signature under a report, or under a statement on it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assessor.cli.key import KeyLabelOption, LibraryOption, TokenOption, key_of, secret
from assessor.cli.terminal import out
from assessor.errors import UsageError
from assessor.messages import _

if TYPE_CHECKING:
    from assessor.signing import Proof


class Role(StrEnum):
    """Who signs."""

    DEVELOPER = "developer"
    AUDITOR = "auditor"
    REVIEWER = "reviewer"
    APPROVER = "approver"


class Level(StrEnum):
    """What the signature proves."""

    B = "b-b"
    T = "b-t"
    LT = "b-lt"
    LTA = "b-lta"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(sign)


def sign(
    file: Annotated[Path, typer.Argument(help="PDF report, JSON results, or an .intoto.json.", dir_okay=False)],
    key: Annotated[
        Path | None, typer.Option(help="Key and certificate, PKCS#12 (.p12).", dir_okay=False, show_default=False)
    ] = None,
    role: Annotated[Role, typer.Option(help="In which role; of a PDF.")] = Role.DEVELOPER,
    output: Annotated[Path | None, typer.Option(help="Default: the file itself.", show_default=False)] = None,
    reason: Annotated[str | None, typer.Option(help="What the signature says.", show_default=False)] = None,
    attest: Annotated[
        bool, typer.Option("--attest", help="Also sign a statement on the PDF and what is in it: NAME.intoto.json.")
    ] = False,
    timestamp: Annotated[
        str | None, typer.Option(help="Timestamp authority (RFC 3161) to ask.", metavar="URL", show_default=False)
    ] = None,
    level: Annotated[
        Level | None, typer.Option(help="Default: b-t with --timestamp, else b-b.", show_default=False)
    ] = None,
    trust: Annotated[
        list[Path] | None, typer.Option(help="PEM certificate that the signer's leads to; for b-lt and b-lta.")
    ] = None,
    tsa_trust: Annotated[
        list[Path] | None,
        typer.Option(help="PEM certificate that the timestamp authority's leads to; for b-lt, b-lta."),
    ] = None,
    revocation: Annotated[
        list[Path] | None, typer.Option(help="Revocation list (CRL) or answer (OCSP), for b-lt and b-lta; repeatable.")
    ] = None,
    fetch: Annotated[
        bool, typer.Option("--fetch", help="Fetch revocation lists from the addresses in the certificates.")
    ] = False,
    pkcs11: LibraryOption = None,
    token: TokenOption = None,
    key_label: KeyLabelOption = None,
) -> None:
    """Sign a PDF report (PAdES), or a statement on results (DSSE, in-toto)."""
    from assessor import attestation
    from assessor.signing import sign_pdf

    held = key_of(key, pkcs11, token, key_label)
    proof = _proof(timestamp, level, (trust or [], tsa_trust or [], revocation or []), fetch=fetch)
    passphrase = secret(held)
    target = output or file
    if attestation.is_envelope(file):
        attestation.countersign(file, held, target, passphrase=passphrase, proof=proof)
    elif file.suffix.lower() == ".json":
        target = output or attestation.envelope_of(file)
        attestation.attest(file, held, target, passphrase=passphrase, proof=proof)
    else:
        envelope = attestation.envelope_of(target)
        if attest:
            attestation.refuse_overwriting(envelope)
        words = reason or f"Signed as {role} of this assessment"  # in the file, so in English as the rest of it
        sign_pdf(file, held, target, passphrase=passphrase, role=role.value, reason=words, proof=proof)
        if attest:
            attestation.attest(target, held, envelope, passphrase=passphrase, proof=proof)
            out().print(_("{path} holds a signed statement on it", path=envelope), markup=False)
        out().print(_("{path} is signed as {role}", path=target, role=_(role.value)), markup=False)
        return
    out().print(_("{path} holds a signed statement on it", path=target), markup=False)


def _proof(
    url: str | None, level: Level | None, files: tuple[list[Path], list[Path], list[Path]], *, fetch: bool
) -> Proof | None:
    from assessor.signing import Level as Levels
    from assessor.signing import Proof

    if url is None and level in {None, Level.B}:
        return None
    if url is None:
        raise UsageError(f"--level {level}: needs a timestamp authority, --timestamp URL")
    if level is Level.B:
        raise UsageError("--level b-b: carries no timestamp; leave --timestamp out, or choose b-t")
    return Proof(url, Levels(level or Level.T), *files, fetch=fetch)
