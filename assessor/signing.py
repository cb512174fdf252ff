"""Signing keys for trying things out, and PAdES B-B signatures on PDF reports.

The first signer, normally the developer, certifies the report: from then on only signatures
may be added (DocMDP level 2). Both signature fields are created in that first step, because a
field that the auditor adds later breaks the developer's signature (PDF 2.0, ISO 32000-2:2020,
12.8.2.2). The fields are invisible, so that the signed file stays PDF/A and PDF/UA.

No timestamp is fetched (level B-B, ETSI EN 319 142-1): the signing time is a claim.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import logging
import os
import tempfile
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from assessor.errors import MissingExtra, UsageError

if TYPE_CHECKING:
    from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
    from pyhanko.sign.signers import PdfSigner, SimpleSigner

Role = Literal["developer", "auditor"]

FIELDS: dict[Role, str] = {"developer": "DeveloperSignature", "auditor": "AuditorSignature"}
"""The signature field of each role; both are created by the first signature."""

APPLICATION = "ai-assessor"
"""Written into each signature as the tool that made it; covered by the signature."""


def sign_pdf(
    source: Path,
    key: Path,
    output: Path,
    *,
    passphrase: str,
    role: Role = "developer",
    reason: str,
    now: datetime | None = None,
) -> None:
    """Signs a PDF (PAdES B-B) in the field of `role`, invisibly.

    The first signature certifies the file and creates the fields of both roles; a later one
    signs its waiting field. `output` appears whole or not at all, and may be `source`.

    Args:
        source: The PDF.
        key: Key and certificates, PKCS#12.
        output: Where the signed PDF goes.
        passphrase: Of `key`.
        role: Whose field is signed.
        reason: Why, in the signer's words; readers of PDF show it.
        now: Claimed signing time; default the clock's.

    Raises:
        UsageError: Wrong passphrase, expired or missing key, no PDF, the role has signed
            already, or the file was signed elsewhere and has no field for the role.
    """
    require_libraries()
    moment = (now or datetime.now(UTC)).astimezone()
    with quiet("pyhanko", "pyhanko_certvalidator"):
        signer = _load_signer(key, passphrase, moment)
        signed = _signed(source, signer, role, reason, moment)
    try:
        _replace(output, signed)
    except OSError as error:
        raise UsageError(f"{output}: cannot be written: {error.strerror}") from error


def require_libraries() -> None:
    """Says in words if what reads, signs and checks PDF is not installed."""
    if any(importlib.util.find_spec(name) is None for name in ("pyhanko", "cryptography", "pypdf")):
        raise MissingExtra("Signatures on PDF", "sign")


@contextlib.contextmanager
def quiet(*names: str) -> Iterator[None]:
    """Keeps the loggers of these names from logging what is told in words anyway."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot read the {what}: {error.strerror}") from error


def _load_signer(key: Path, passphrase: str, moment: datetime) -> SimpleSigner:
    """The signer in a PKCS#12 file; pyHanko's own loader would only log a fault and return None."""
    from asn1crypto.keys import PrivateKeyInfo
    from asn1crypto.x509 import Certificate
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.serialization import pkcs12
    from pyhanko.sign.signers import SimpleSigner
    from pyhanko_certvalidator.registry import SimpleCertificateStore

    try:
        private, certificate, others = pkcs12.load_key_and_certificates(_read(key, "signing key"), passphrase.encode())
    except ValueError as error:
        raise UsageError(f"{key}: wrong passphrase, or no PKCS#12 file") from error
    if private is None or certificate is None:
        raise UsageError(f"{key}: holds no private key with its certificate")
    if certificate.not_valid_after_utc < moment:
        raise UsageError(f"{key}: the certificate expired on {certificate.not_valid_after_utc:%Y-%m-%d}")
    der = serialization.Encoding.DER
    pkcs8 = private.private_bytes(der, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    store = SimpleCertificateStore()  # type: ignore[no-untyped-call]
    store.register_multiple(Certificate.load(one.public_bytes(der)) for one in others if one != certificate)
    return SimpleSigner(Certificate.load(certificate.public_bytes(der)), PrivateKeyInfo.load(pkcs8), store)


def _signed(source: Path, signer: SimpleSigner, role: Role, reason: str, moment: datetime) -> bytes:
    import asyncio

    from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
    from pyhanko.sign.fields import MDPPerm, SigSeedSubFilter
    from pyhanko.sign.signers import PdfSignatureMetadata, PdfSigner
    from pyhanko.sign.signers.pdf_byterange import BuildProps

    content = _read(source, "PDF")
    if b"%PDF-" not in content[:1024]:
        raise UsageError(f"{source}: is no PDF")
    try:
        writer = IncrementalPdfFileWriter(io.BytesIO(content))
        first = _prepare_fields(writer, source, role)
        certificates = [signer.signing_cert, *signer.cert_registry]
        metadata = PdfSignatureMetadata(
            field_name=FIELDS[role],
            md_algorithm="sha256",
            reason=reason,
            app_build_props=BuildProps(APPLICATION, chain_mark(one.dump() for one in certificates)),
            subfilter=SigSeedSubFilter.PADES,
            certify=first,
            docmdp_permissions=MDPPerm.FILL_FORMS,
        )
        return asyncio.run(_run_session(PdfSigner(metadata, signer), writer, moment))
    except UsageError:
        raise
    except Exception as error:  # pyHanko lets KeyError, TypeError and others through on a broken PDF
        raise UsageError(f"{source}: cannot be signed, damaged or restricted PDF: {error}") from error


def chain_mark(certificates: Iterable[bytes]) -> str:
    """Stands in each signature and is covered by it, so that the certificates (DER) beside it are too."""
    return f"chain sha256 {hashlib.sha256(b''.join(sorted(certificates))).hexdigest()}"


def _prepare_fields(writer: IncrementalPdfFileWriter, source: Path, role: Role) -> bool:
    """Whether this is the first signature; if so, the fields of both roles are there afterwards."""
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


async def _run_session(pdf_signer: PdfSigner, writer: IncrementalPdfFileWriter, moment: datetime) -> bytes:
    """The bytes signed; `async_sign_pdf` of pyHanko step by step, for only so the time can be given."""
    from pyhanko.sign.signers.pdf_cms import PdfCMSSignedAttributes

    session = pdf_signer.init_signing_session(writer, existing_fields_only=True)
    session.system_time = moment
    reserved = await session.estimate_signature_container_size(None)
    document = session.prepare_tbs_document(None, reserved)
    output = io.BytesIO()
    prepared, _ = document.digest_tbs_document(output=output)
    done = await document.perform_signature(prepared.document_digest, PdfCMSSignedAttributes(signing_time=moment))
    await done.post_signature_processing(output)
    return output.getvalue()


def _replace(path: Path, content: bytes) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)  # mkstemp makes 0600, a report is to be read
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
