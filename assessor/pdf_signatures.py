"""What a signed PDF says about itself: findings from its bytes alone, without network.

A PDF signature covers the file but for one gap, the hexadecimal string that holds the signature
container (CMS, RFC 5652). Viewers never look at most of that gap: the padding, the letter case,
the certificates of the chain, several fields of the container. Here the gap is held to the only
bytes it can have if all it holds is verified, so that a change of any byte of the file shows.

A signature is judged at the moment of a trusted timestamp where there is one, else now.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from assessor.certificates import (
    DIGESTS,
    LIBRARIES,
    NO_REVOCATION,
    Revocation,
    Trust,
    name_of,
    plain,
    read_certificates,
    read_revocation,
    trust,
)
from assessor.errors import IntegrityError, UsageError
from assessor.findings import Finding, Status
from assessor.pdf_container import check_container, loaded, timestamp_in
from assessor.pdf_revisions import Revision, appended, got
from assessor.signers import quiet, require_libraries
from assessor.timestamps import digest_of, examined

if TYPE_CHECKING:
    from asn1crypto.x509 import Certificate
    from pyhanko.pdf_utils.reader import PdfFileReader
    from pyhanko.sign.validation import EmbeddedPdfSignature, PdfSignatureStatus

_WHITESPACE = b"\0\t\n\f\r "  # ISO 32000-2:2020, table 1
_TRACES = (b"/ByteRange", b"/SubFilter")  # of a signature, in a file too damaged to be read


@dataclass
class Reader:
    """Whom a reader trusts, and what is known when a signature is judged.

    Attributes:
        roots: Trusted for signers; empty if identity is not to be checked.
        stamp_roots: Trusted for timestamps.
        now: The clock's.
        moment: When certificates have to be valid: now, or when a later timestamp that holds was made.
        revocation: Lists found in the file.
        others: Certificates found in the file.
        says_who_stamps: Whether `stamp_roots` were named for timestamps, not taken from `roots`.
    """

    roots: list[Certificate]
    stamp_roots: list[Certificate]
    now: datetime
    moment: datetime
    revocation: Revocation = NO_REVOCATION
    others: tuple[Certificate, ...] = ()
    says_who_stamps: bool = False


def reader_of(trust: Sequence[bytes], stamp_trust: Sequence[bytes], now: datetime | None) -> Reader:
    """A reader who trusts these certificates.

    Args:
        trust: PEM, for signers.
        stamp_trust: PEM, for timestamp authorities; empty for the same.
        now: Default the clock's.

    Returns:
        The reader.
    """
    roots, moment = read_certificates(trust), (now or datetime.now(UTC)).astimezone()
    stamp_roots = read_certificates(stamp_trust) if stamp_trust else roots
    return Reader(roots, stamp_roots, moment, moment, says_who_stamps=bool(stamp_trust))


def check_signatures(
    data: bytes,
    trust: Sequence[bytes],
    *,
    stamp_trust: Sequence[bytes] = (),
    now: datetime | None = None,
    strict: bool = False,
) -> list[Finding]:
    """Findings on every signature of a PDF; the file stands if none of them is "failed".

    What was appended is judged by the objects that changed (`pdf_revisions`). The container of a
    signature that `sign_pdf` made may hold nothing that no signature covers; another tool's may,
    and is then "unknown".

    Args:
        data: The PDF.
        trust: Certificates in PEM that the reader trusts; empty if identity is not to be checked.
        stamp_trust: Those trusted for timestamps; empty for the same.
        now: Moment at which certificates have to be valid where no timestamp holds; default the clock's.
        strict: Also ask pyHanko to compare all objects of the revisions, half a minute for a long tagged file.

    Returns:
        The findings, the file's first, then those of each signature in the order of signing.

    Raises:
        UsageError: `data` is no PDF, or `trust` holds no certificate.
    """
    require_libraries()
    reader = reader_of(trust, stamp_trust, now)
    with quiet(*LIBRARIES):
        try:
            signatures = _signatures(data)
        except Exception as error:  # any kind: pyHanko lets KeyError, TypeError, RecursionError and more through
            if not any(trace in data for trace in _TRACES):
                raise UsageError(f"is no readable PDF: {plain(error)}") from error
            return [Finding("signature", "failed", f"The file is damaged, no signature can be read: {plain(error)}.")]
        if not any(_is_signature(one) for one in signatures):
            return [Finding("signature", "failed", "The file carries no signature.")]
        return _checked(data, signatures, reader, strict)


def _checked(data: bytes, signatures: list[EmbeddedPdfSignature], reader: Reader, strict: bool) -> list[Finding]:
    names = [_name(signature) for signature in signatures if _is_signature(signature)]
    findings = [Finding("signature", "ok", f"The file carries {len(names)} signature(s): {', '.join(names)}.")]
    try:
        ends = [_end(signature) for signature in signatures]
    except Exception as error:  # noqa: BLE001 - as in check_signatures
        return [*findings, Finding("ending", "failed", f"What a signature covers cannot be told: {plain(error)}.")]
    revisions = appended(data, ends, signatures[0].reader)
    findings.append(_ending(data, ends, revisions))
    try:
        reader.revocation, reader.others = _store(signatures[-1])
    except Exception as error:  # noqa: BLE001 - as in check_signatures
        findings.append(Finding("revocation data", "failed", f"The revocation lists cannot be read: {plain(error)}."))
    judged: list[list[Finding]] = []
    for signature in reversed(signatures):  # a later timestamp says when an earlier signature was there
        judged.append(_examined(data, signature, reader))
    findings += [finding for each in reversed(judged) for finding in each]
    for signature, end in zip(signatures, ends, strict=True):
        after = [revision for revision in revisions if end < revision.end <= ends[-1]]
        if after and _is_signature(signature):
            findings += _modifications(signature, after, strict)
    return findings


def signed_revision(data: bytes) -> bytes:
    """The part of a PDF that all its signatures cover: its text and attachments are what was signed.

    Says nothing on whether the signatures hold, that is `check_signatures`.

    Args:
        data: The PDF.

    Returns:
        The file as the first signer left it.

    Raises:
        IntegrityError: There is no signature, or what it covers cannot be told.
    """
    require_libraries()
    with quiet(*LIBRARIES):
        try:
            return data[: min(_end(signature) for signature in _signatures(data))]
        except Exception as error:  # as in check_signatures
            raise IntegrityError(f"what the signatures of the PDF cover cannot be told: {plain(error)}") from error


def revisions(data: bytes) -> list[int]:
    """Where the bytes that each signature of a PDF covers end; empty if there is none, or it is no PDF."""
    with quiet(*LIBRARIES):
        try:
            return [_end(signature) for signature in _signatures(data)]
        except Exception:  # noqa: BLE001 - as in check_signatures
            return []


def _is_signature(signature: EmbeddedPdfSignature) -> bool:
    """A person's, not a timestamp of the document."""
    return bool(signature.sig_object_type == "/Sig")


def _signatures(data: bytes) -> list[EmbeddedPdfSignature]:
    from pyhanko.pdf_utils.reader import PdfFileReader
    from pyhanko.sign.fields import enumerate_sig_fields

    if b"%PDF-" not in data[:1024]:
        raise ValueError("no %PDF- at its beginning")
    reader = PdfFileReader(io.BytesIO(data))
    found = list(reader.embedded_signatures)
    if len(found) != sum(1 for _ in enumerate_sig_fields(reader, filled_status=True)):
        raise ValueError("a signature of unknown kind stands in it")
    return found


def _store(signature: EmbeddedPdfSignature) -> tuple[Revocation, tuple[Certificate, ...]]:
    """Revocation lists and certificates that the file carries (document security store)."""
    from asn1crypto.x509 import Certificate

    store = got(signature.reader.root, "/DSS", {})
    found = [read_revocation(one.data) for name in ("/CRLs", "/OCSPs") for one in _listed(store, name)]
    lists = tuple(one for each in found for one in each.lists)
    responses = tuple(one for each in found for one in each.responses)
    return Revocation(lists, responses), tuple(Certificate.load(one.data) for one in _listed(store, "/Certs"))


def _listed(store: Any, name: str) -> list[Any]:
    found = got(store, name, ())
    return [found[place] for place in range(len(found))]


def _name(signature: EmbeddedPdfSignature) -> str:
    return plain(signature.field_name)


def _end(signature: EmbeddedPdfSignature) -> int:
    """Where the bytes that a signature covers end; an error unless they start with the file and have one gap."""
    byte_range: Any = signature.byte_range
    start, length, after, rest = (int(number) for number in byte_range)
    if start != 0 or not 0 < length < after or rest <= 0:
        raise ValueError(f"no signature has the byte range {start} {length} {after} {rest}")
    return after + rest


def _ending(data: bytes, ends: list[int], revisions: list[Revision]) -> Finding:
    name, last = "ending", ends[-1]
    if ends != sorted(set(ends)):
        return Finding(name, "failed", "Two signatures claim to cover the same bytes.")
    tail = [revision for revision in revisions if revision.end > last]
    changes = [change for revision in tail for change in revision.forbidden]
    changes += [
        f"a signature of unknown kind ({field})"
        for revision in tail
        for field in (*revision.signatures, *revision.timestamps)
    ]
    size = len(data) - last
    if last > len(data):
        return Finding(name, "failed", "The last signature claims to cover more bytes than the file has.")
    if changes:
        told = "; ".join(changes)
        return Finding(name, "failed", f"{size} bytes lie outside what the last signature covers: {told}.")
    if not data.rstrip(_WHITESPACE).endswith(b"%%EOF"):
        return Finding(name, "failed", "Something follows the end mark of the PDF.")
    if tail:
        sentence = f"After the last signature only certificates and revocation lists were added, {size} bytes."
        return Finding(name, "ok", sentence)
    return Finding(name, "ok", "Nothing was added after the last signature.")


def _examined(data: bytes, signature: EmbeddedPdfSignature, reader: Reader) -> list[Finding]:
    name = _name(signature)
    try:
        if not _is_signature(signature):
            return _examined_stamp(data, signature, reader)
        container = Finding(f"{name} container", *_container(data, signature, reader))
        time, moment = _time(signature, reader)
        return [
            Finding(f"{name} integrity", *_integrity(_validated(signature))),
            Finding(f"{name} coverage", *_coverage(data, signature)),
            container,
            Finding(f"{name} signer", "ok", f"Signed in the name of {name_of(signature.signer_cert)}."),
            Finding(f"{name} time", *time),
            Finding(f"{name} trust", *_trust(signature, reader, moment)),
        ]
    except Exception as error:  # noqa: BLE001 - as in check_signatures
        sentence = f"The signature is damaged and cannot be checked: {plain(error)}."
        return [Finding(f"{name} integrity", "failed", sentence)]


def _examined_stamp(data: bytes, signature: EmbeddedPdfSignature, reader: Reader) -> list[Finding]:
    """A timestamp of the document; where it holds, what is before it is judged at its moment."""
    name = f"document timestamp {signature.signed_revision}"
    findings = [
        Finding(f"{name} coverage", *_coverage(data, signature)),
        Finding(f"{name} container", *_container(data, signature, reader)),
    ]
    found = stamped(loaded(signature.pkcs7_content), signature.compute_digest, reader)
    findings.append(Finding(f"{name} time", *found.finding))
    if found.moment and all(finding.status != "failed" for finding in findings):
        reader.moment = found.moment
    return findings


def _container(data: bytes, signature: EmbeddedPdfSignature, reader: Reader) -> tuple[Status, str]:
    return check_container(data, signature, reader.roots, reader.stamp_roots if reader.says_who_stamps else [])


def _validated(signature: EmbeddedPdfSignature) -> PdfSignatureStatus:
    from pyhanko.sign.validation import validate_pdf_signature
    from pyhanko_certvalidator import ValidationContext

    context = ValidationContext(trust_roots=[], allow_fetching=False)
    return validate_pdf_signature(signature, context, skip_diff=True)


def _integrity(status: PdfSignatureStatus) -> tuple[Status, str]:
    if status.md_algorithm not in DIGESTS:
        return "failed", f"The signature rests on {status.md_algorithm}, which can be forged."
    if not status.intact:
        return "failed", "The file was changed: its bytes are not those that were signed."
    if not status.valid:
        return "failed", "The signature was not made with the key of the certificate beside it."
    return "ok", f"The bytes are those that were signed ({status.md_algorithm})."


def _coverage(data: bytes, signature: EmbeddedPdfSignature) -> tuple[Status, str]:
    from pyhanko.sign.validation import SignatureCoverageLevel

    end = _end(signature)
    if end == len(data) and signature.evaluate_signature_coverage() == SignatureCoverageLevel.ENTIRE_FILE:
        return "ok", f"The signature covers the whole file, {end} bytes."
    if end < len(data) and signature.evaluate_signature_coverage() == SignatureCoverageLevel.ENTIRE_REVISION:
        return "ok", f"The signature covers the file as it was then, the first {end} of {len(data)} bytes."
    return "failed", f"The signature leaves out parts of the first {end} of {len(data)} bytes."


class Stamped(NamedTuple):
    """What a timestamp is worth to a reader."""

    finding: tuple[Status, str]
    moment: datetime | None = None
    """When the authority says it was, if the reader trusts it."""


def stamped(token: Any, digest: Callable[[str], bytes], reader: Reader) -> Stamped:
    """What a timestamp says to a reader.

    Args:
        token: The timestamp.
        digest: Of the stamped bytes, by the name of a hash function.
        reader: Who trusts whom.

    Returns:
        Status, sentence, and the moment if it may be believed.
    """
    try:
        stamp = examined(token, digest, reader.stamp_roots, reader.moment, reader.revocation)
    except Exception as error:  # noqa: BLE001 - as in check_signatures
        return Stamped(("failed", f"The timestamp does not hold: {plain(error)}."))
    said = f"{stamp.moment:%Y-%m-%d} at {stamp.moment:%H:%M:%S} UTC"
    who, led = stamp.authority, stamp.trust
    if led.root and led.revocation != "unsettled":
        sentence = f"Not later than {said}, as the timestamp of {who} says; it leads to {led.root}, which you trust."
        return Stamped(("ok", sentence), stamp.moment)
    if led.root:
        sentence = f"Not later than {said}, says {who}; whether its certificate was revoked cannot be told."
        return Stamped(("unknown", sentence))
    if reader.says_who_stamps:
        return Stamped(("failed", f"A timestamp says {said}, but the certificate of {who} {led.fault}."))
    return Stamped(("unknown", f"A timestamp of {who} says {said}; name whom you trust for that with --tsa-trust."))


def _time(signature: EmbeddedPdfSignature, reader: Reader) -> tuple[tuple[Status, str], datetime]:
    """When it was signed, and at which moment its certificate has to be valid."""
    token = timestamp_in(loaded(signature.pkcs7_content))
    if token is not None:
        value: Any = signature.signer_info["signature"].native
        found = stamped(token, digest_of(value), reader)
        return found.finding, found.moment or reader.moment
    if reader.moment < reader.now:
        sentence = f"Not later than {reader.moment:%Y-%m-%d} at {reader.moment:%H:%M:%S} UTC, by a later timestamp."
        return ("ok", sentence), reader.moment
    claimed = signature.self_reported_timestamp
    if claimed is None:
        return ("unknown", "The signature claims no time."), reader.moment
    sentence = f"Signed on {claimed:%Y-%m-%d} at {claimed:%H:%M:%S %Z}: claimed by the signer's clock, no timestamp."
    return ("unknown", sentence), reader.moment


def _trust(signature: EmbeddedPdfSignature, reader: Reader, moment: datetime) -> tuple[Status, str]:
    others = [*signature.other_embedded_certs, *reader.others]
    return trusted(signature.signer_cert, others, reader, moment)


def trusted(
    certificate: Certificate, others: Sequence[Certificate], reader: Reader, moment: datetime
) -> tuple[Status, str]:
    """Whether a signer's certificate leads to one that the reader trusts, in a sentence.

    Args:
        certificate: The signer's.
        others: Certificates that may stand between.
        reader: Who trusts whom.
        moment: When it has to be valid.

    Returns:
        Status and sentence.
    """
    if not reader.roots:
        return "unknown", "Identity not checked, no --trust given: anyone can make a certificate with this name."
    led: Trust = trust(certificate, others, reader.roots, moment, revocation=reader.revocation)
    if led.root is None:
        return "failed", f"The signer's certificate {led.fault}."
    words = f"The signer's certificate leads to {led.root}, which you trust"
    if certificate.not_valid_after < reader.now:
        words += f" (it expired on {certificate.not_valid_after:%Y-%m-%d}, after the timestamp)"
    if led.revocation == "unsettled":
        return "unknown", f"{words}; whether it was revoked cannot be told from the lists in the file."
    if led.revocation == "not revoked":
        return "ok", f"{words}, and was not revoked."
    return "ok", f"{words}; revocation was not looked up."


def _modifications(signature: EmbeddedPdfSignature, after: list[Revision], strict: bool) -> list[Finding]:
    """Whether what came after a signature is no more than later signatures with what they need."""
    name = _name(signature)
    changes = "; ".join(change for revision in after for change in revision.forbidden)
    if changes:
        sentence = f"After this signature more was changed than later signatures need: {changes}."
        return [Finding(f"{name} modifications", "failed", sentence)]
    sentence = "After this signature nothing was added but later signatures, timestamps and revocation data."
    finding = Finding(f"{name} modifications", "ok", sentence)
    return [finding, second_opinion(signature)] if strict else [finding]


def _read_ahead(reader: PdfFileReader) -> None:
    """Puts what lies in object streams into pyHanko's cache.

    PyHanko reads the table of a stream again for each object in it: minutes for a tagged
    report, whose thousands of objects lie in one stream. What is odd here is left to pyHanko.
    """
    from pyhanko.pdf_utils import generic
    from pyhanko.pdf_utils.decode_limits import DecodePurpose
    from pyhanko.pdf_utils.xref import ObjStreamRef

    streams: dict[int, tuple[io.BytesIO, int, list[bytes]]] = {}
    stream: Any
    for ref in set().union(*map(reader.xrefs.explicit_refs_in_revision, range(reader.total_revisions))):
        place = reader.xrefs[ref]
        if not isinstance(place, ObjStreamRef) or reader.encrypted:
            continue
        if place.obj_stream_id not in streams:
            stream = generic.Reference(place.obj_stream_id, 0, reader).get_object()
            content, first = stream.read_data(DecodePurpose.OBJECT_STREAM), int(stream["/First"])
            streams[place.obj_stream_id] = io.BytesIO(content), first, content[:first].split()
        file, first, table = streams[place.obj_stream_id]
        number, offset = map(int, table[2 * place.ix_in_stream :][:2])
        file.seek(first + offset)
        found = generic.read_object(file, generic.Reference(number, 0, reader))
        if number == ref.idnum and not isinstance(found, generic.StreamObject | generic.IndirectObject):
            reader.cache_indirect_object(0, number, found)  # type: ignore[no-untyped-call]


def second_opinion(signature: EmbeddedPdfSignature) -> Finding:
    """What pyHanko says of all that came after a signature; half a minute for a long tagged file."""
    name = f"{_name(signature)} second opinion"
    try:
        _read_ahead(signature.reader)
        signature.compute_integrity_info()  # type: ignore[no-untyped-call]
        permitted = signature.summarise_integrity_info()["docmdp_ok"]
    except Exception as error:  # noqa: BLE001 - as in check_signatures
        return Finding(name, "failed", f"pyHanko cannot compare what came after this signature: {plain(error)}.")
    if not permitted:
        return Finding(name, "failed", "pyHanko, comparing all objects, finds a change that was not permitted.")
    return Finding(name, "ok", "pyHanko, comparing all objects, finds nothing that was not permitted.")
