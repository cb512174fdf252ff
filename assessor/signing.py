"""PAdES signatures on PDF reports (ETSI EN 319 142-1), from the signer's word to proof for the archive.

The first signer, normally the developer, certifies the report: from then on only signatures
may be added (DocMDP level 2). The fields of all roles are created in that first step, because a
field that is added later breaks the first signature (PDF 2.0, ISO 32000-2:2020, 12.8.2.2).
The fields are invisible, so that the signed file stays PDF/A and PDF/UA.

No network is used but for a timestamp authority that is named, and no signature is ever made on
a lower level than asked for.
"""

from __future__ import annotations

import io
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from assessor.certificates import LIBRARIES, Revocation, plain, read_certificates, read_revocation
from assessor.errors import UsageError
from assessor.files import write_whole
from assessor.pdf_container import APPLICATION, STAMP_FIELD, chain_mark, tidied
from assessor.signers import Key, certificates, opened, quiet, read, require_libraries
from assessor.timestamps import authority

if TYPE_CHECKING:
    from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
    from pyhanko.sign.signers import PdfSignatureMetadata, PdfSigner, Signer
    from pyhanko.sign.timestamps import TimeStamper
    from pyhanko_certvalidator import ValidationContext

Role = Literal["developer", "auditor", "reviewer", "approver"]

FIELDS: dict[Role, str] = {
    "developer": "DeveloperSignature",
    "auditor": "AuditorSignature",
    "reviewer": "ReviewerSignature",
    "approver": "ApproverSignature",
}
"""The signature field of each role; all are created by the first signature."""


class Level(StrEnum):
    """What a signature proves, by the names of ETSI EN 319 142-1."""

    B = "b-b"
    """Who signed; the time is the signer's word."""
    T = "b-t"
    """And not later than a timestamp says."""
    LT = "b-lt"
    """And that the certificates were not revoked, without asking anybody later."""
    LTA = "b-lta"
    """And a timestamp over all of it, to be renewed before its certificate ends."""


class Proof(NamedTuple):
    """What is put beside a signature so that it can be believed later."""

    url: str
    """The timestamp authority (RFC 3161)."""
    level: Level = Level.T
    trust: Sequence[Path] = ()
    """PEM certificates that the signer's leads to; needed from B-LT."""
    stamp_trust: Sequence[Path] = ()
    """PEM certificates that the authority's leads to; needed from B-LT."""
    revocation: Sequence[Path] = ()
    """Revocation lists (CRL) and answers (OCSP), PEM or DER."""
    fetch: bool = False
    """Whether those may be fetched from the addresses in the certificates."""


def sign_pdf(
    source: Path,
    key: Key,
    output: Path,
    *,
    passphrase: str,
    role: Role = "developer",
    reason: str,
    proof: Proof | None = None,
    now: datetime | None = None,
) -> None:
    """Signs a PDF in the field of `role`, invisibly.

    The first signature certifies the file and creates the fields of all roles; a later one
    signs its waiting field. `output` appears whole or not at all, and may be `source`.

    Args:
        source: The PDF.
        key: Key and certificates, PKCS#12 file or PKCS#11 token.
        output: Where the signed PDF goes.
        passphrase: Of `key`; the PIN of a token.
        role: Whose field is signed.
        reason: Why, in the signer's words; readers of PDF show it.
        proof: Timestamp and more; default none of it, level B-B.
        now: Claimed signing time; default the clock's.

    Raises:
        UsageError: Wrong passphrase, expired or missing key, no PDF, the role has signed
            already, the file was signed elsewhere and has no field for the role, or a part of
            the proof cannot be had.
    """
    require_libraries()
    moment = (now or datetime.now(UTC)).astimezone()
    with quiet(*LIBRARIES), opened(key, passphrase, moment) as signer:
        signed = _signed(source, signer, role, reason, proof, moment)
    replace_file(output, signed)


def _signed(source: Path, signer: Signer, role: Role, reason: str, proof: Proof | None, moment: datetime) -> bytes:
    import asyncio

    from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
    from pyhanko.sign.signers import PdfSigner

    content = read(source, "PDF")
    if b"%PDF-" not in content[:1024]:
        raise UsageError(f"{source}: is no PDF")
    context = _context(proof) if proof and proof.level in {Level.LT, Level.LTA} else None
    clock = stamper(proof) if proof else None
    try:
        writer = IncrementalPdfFileWriter(io.BytesIO(content))
        first = _prepare_fields(writer, source, role)
        metadata = _metadata(
            signer, role, reason, first, context, archive=proof is not None and proof.level is Level.LTA
        )
        return asyncio.run(_run_session(PdfSigner(metadata, signer, timestamper=clock), writer, moment, context))
    except UsageError:
        raise
    except Exception as error:  # pyHanko lets KeyError, TypeError and others through on a broken PDF
        if context is not None and _is_about_certificates(error):
            raise UsageError(
                f"{source}: not signed, level {proof.level if proof else ''} needs certificates that lead to those of"
                f" --trust and --tsa-trust, each with a valid revocation list: {plain(error.__cause__ or error)}"
            ) from error
        raise UsageError(f"{source}: cannot be signed, damaged or restricted PDF: {error}") from error


def _is_about_certificates(error: Exception) -> bool:
    from pyhanko_certvalidator.errors import PathError, ValidationError

    return isinstance(error, PathError | ValidationError) or isinstance(error.__cause__, PathError | ValidationError)


def stamper(proof: Proof) -> TimeStamper:
    """Who asks the timestamp authority of `proof`."""
    roots = read_certificates([read(path, "certificate") for path in (*proof.stamp_trust, *proof.trust)])
    return authority(proof.url, roots if proof.stamp_trust else [], tidied)


def _context(proof: Proof) -> ValidationContext:
    from pyhanko_certvalidator import ValidationContext

    if not proof.trust or not proof.stamp_trust:
        raise UsageError(
            f"level {proof.level}: needs --trust and --tsa-trust, the certificates that the signer's and the timestamp"
            " authority's lead to"
        )
    if not proof.revocation and not proof.fetch:
        raise UsageError(f"level {proof.level}: needs revocation lists; give files with --revocation, or --fetch")
    found = [_revocation(path) for path in proof.revocation]
    roots = read_certificates([read(path, "certificate") for path in (*proof.trust, *proof.stamp_trust)])
    return ValidationContext(
        trust_roots=roots,
        other_certs=roots,  # what a root itself answers (OCSP) is believed only if the root is among these
        crls=[one for each in found for one in each.lists],
        ocsps=[one for each in found for one in each.responses],
        allow_fetching=proof.fetch,
        revocation_mode="require",  # "hard-fail" lets certificates through that name no address of a list
    )


def _revocation(path: Path) -> Revocation:
    try:
        return read_revocation(read(path, "revocation list"))
    except (ValueError, TypeError, AttributeError) as error:
        raise UsageError(f"{path}: no revocation list (CRL) and no answer about a certificate (OCSP)") from error


def _metadata(
    signer: Signer, role: Role, reason: str, first: bool, context: ValidationContext | None, *, archive: bool
) -> PdfSignatureMetadata:
    from pyhanko.sign.fields import MDPPerm, SigSeedSubFilter
    from pyhanko.sign.signers import PdfSignatureMetadata
    from pyhanko.sign.signers.pdf_byterange import BuildProps
    from pyhanko.sign.signers.pdf_signer import DSSContentSettings, SigDSSPlacementPreference

    # revocation data goes in before the signature and the timestamp, so that these cover it
    covered = SigDSSPlacementPreference.TOGETHER_WITH_SIGNATURE
    return PdfSignatureMetadata(
        field_name=FIELDS[role],
        md_algorithm="sha256",
        reason=reason,
        app_build_props=BuildProps(APPLICATION, chain_mark(one.dump() for one in certificates(signer))),
        subfilter=SigSeedSubFilter.PADES,
        certify=first,
        docmdp_permissions=MDPPerm.FILL_FORMS,
        validation_context=context,
        embed_validation_info=context is not None,
        use_pades_lta=archive,
        timestamp_field_name=f"{STAMP_FIELD}{uuid.uuid4()}",
        dss_settings=DSSContentSettings(include_vri=False, placement=covered),
    )


def _prepare_fields(writer: IncrementalPdfFileWriter, source: Path, role: Role) -> bool:
    """Whether this is the first signature; if so, the fields of all roles are there afterwards."""
    from pyhanko.sign.fields import SigFieldSpec, append_signature_field, enumerate_sig_fields

    fields = {name: value for name, value, _ in enumerate_sig_fields(writer.prev)}
    if fields.get(FIELDS[role]) is not None:
        raise UsageError(f"{source}: the {role} has signed already")
    if any(value is not None for value in fields.values()):
        if FIELDS[role] not in fields:
            raise UsageError(
                f"{source}: is signed and has no empty field {FIELDS[role]}; adding one would break the signature that"
                " is there. Sign the report as it was written, first signer with this tool"
            )
        return False
    for name in FIELDS.values():
        if name not in fields:
            append_signature_field(writer, SigFieldSpec(name))
    return True


async def _run_session(
    pdf_signer: PdfSigner, writer: IncrementalPdfFileWriter, moment: datetime, context: ValidationContext | None
) -> bytes:
    try:
        return await _steps(pdf_signer, writer, moment)
    finally:
        if context is not None:
            await context.aclose()  # type: ignore[no-untyped-call]  # connections of what was fetched


async def _steps(pdf_signer: PdfSigner, writer: IncrementalPdfFileWriter, moment: datetime) -> bytes:
    """The bytes signed; `async_sign_pdf` of pyHanko step by step, for only so the time can be given."""
    from pyhanko.sign.signers.pdf_cms import PdfCMSSignedAttributes

    session = pdf_signer.init_signing_session(writer, existing_fields_only=True)
    session.system_time = moment
    known: Any = await session.perform_presign_validation(writer)
    reserved = await session.estimate_signature_container_size(known)
    document = session.prepare_tbs_document(known, reserved)
    output = io.BytesIO()
    prepared, _ = document.digest_tbs_document(output=output)
    done = await document.perform_signature(prepared.document_digest, PdfCMSSignedAttributes(signing_time=moment))
    await done.post_signature_processing(output)
    return output.getvalue()


def replace_file(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all.

    Args:
        path: The file.
        content: Its new content.

    Raises:
        UsageError: It cannot be written.
    """
    try:
        write_whole(path, content)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}") from error
