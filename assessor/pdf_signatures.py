"""What a signed PDF says about itself: findings from its bytes alone, without network.

A PDF signature covers the file but for one gap, the hexadecimal string that holds the signature
container (CMS, RFC 5652). Viewers never look at most of that gap: the padding, the letter case,
the certificates of the chain, several fields of the container. Here the gap is held to the only
bytes it can have if all it holds is verified, so that a change of any byte of the file shows.
"""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from assessor.errors import IntegrityError, UsageError
from assessor.pdf_container import Status, check_container
from assessor.signing import quiet, require_libraries

if TYPE_CHECKING:
    from asn1crypto.x509 import Certificate
    from pyhanko.pdf_utils.reader import PdfFileReader
    from pyhanko.sign.validation import EmbeddedPdfSignature, PdfSignatureStatus
    from pypdf import PdfReader


_WHITESPACE = b"\0\t\n\f\r "  # ISO 32000-2:2020, table 1
_TRACES = (b"/ByteRange", b"/SubFilter")  # of a signature, in a file too damaged to be read
_DIGESTS = {"sha256", "sha384", "sha512", "sha3_256", "sha3_384", "sha3_512"}
_LIBRARIES = ("pyhanko", "pyhanko_certvalidator", "pypdf")


class Finding(NamedTuple):
    """One thing that was looked at."""

    name: str
    status: Status
    sentence: str


def check_signatures(data: bytes, trust: list[bytes], *, now: datetime | None = None) -> list[Finding]:
    """Findings on every signature of a PDF; the file stands if none of them is "failed".

    A single signature takes well under a second. With several, pyHanko compares the revisions,
    which takes 2 seconds on a tagged file (PDF/UA) of 40 pages.

    Nothing may follow the last signature, so B-LT and B-LTA files fail. The container of a
    signature that `sign_pdf` made may hold nothing that no signature covers; another tool's
    may (timestamps, revocation lists), and is then "unknown".

    Args:
        data: The PDF.
        trust: Certificates in PEM that the reader trusts; empty if identity is not to be checked.
        now: Moment at which certificates have to be valid; default the clock's.

    Returns:
        The findings, the file's first, then those of each signature in the order of signing.

    Raises:
        UsageError: `data` is no PDF, or `trust` holds no certificate.
    """
    require_libraries()
    roots, moment = _certificates(trust), (now or datetime.now(UTC)).astimezone()
    with quiet(*_LIBRARIES):
        try:
            signatures = _signatures(data)
        except Exception as error:  # any kind: pyHanko lets KeyError, TypeError, RecursionError and more through
            if not any(trace in data for trace in _TRACES):
                raise UsageError(f"is no readable PDF: {_plain(error)}") from error
            return [Finding("signature", "failed", f"The file is damaged, no signature can be read: {_plain(error)}.")]
        if not signatures:
            return [Finding("signature", "failed", "The file carries no signature.")]
        names = ", ".join(_name(signature) for signature in signatures)
        findings = [Finding("signature", "ok", f"The file carries {len(signatures)} signature(s): {names}.")]
        findings.append(_ending(data, signatures))
        for signature in signatures:
            findings += _examined(data, signature, roots, moment)
        intact = all(finding.status != "failed" or finding.name.endswith(" trust") for finding in findings)
        findings += [_modifications(signature, intact) for signature in signatures[:-1]]
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
    with quiet(*_LIBRARIES):
        try:
            return data[: min(_end(signature) for signature in _signatures(data))]
        except Exception as error:  # as in check_signatures
            raise IntegrityError(f"what the signatures of the PDF cover cannot be told: {_plain(error)}") from error


def attachments(data: bytes) -> dict[str, bytes]:
    """Files embedded in a PDF, by name.

    Args:
        data: The PDF, best a `signed_revision`.

    Returns:
        Content by name; empty if there are none.

    Raises:
        IntegrityError: The file is damaged, or two different files have one name.
    """
    require_libraries()
    with quiet(*_LIBRARIES):
        try:
            found = {str(name): list(contents) for name, contents in _reader(data).attachments.items()}
        except Exception as error:  # pypdf lets AttributeError, zlib.error and others through on a broken file
            raise IntegrityError(f"the PDF is damaged, its attachments cannot be read: {_plain(error)}") from error
    for name, contents in found.items():
        if len(set(contents)) != 1:
            raise IntegrityError(f"the PDF holds {len(set(contents))} different attachments named {name!r}")
    return {name: contents[0] for name, contents in found.items()}


def page_text(data: bytes, page_numbers: Iterable[int]) -> str:
    """Text of some pages without any whitespace, so that a digest that was wrapped can be found.

    Args:
        data: The PDF, best a `signed_revision`.
        page_numbers: Counted from 1.

    Returns:
        The text of those pages in the order given; ligatures are taken apart.

    Raises:
        IntegrityError: The file is damaged or has no such page.
    """
    require_libraries()
    with quiet(*_LIBRARIES):
        try:
            pages = _reader(data).pages
            wanted = list(page_numbers)
            if any(not 1 <= number <= len(pages) for number in wanted):
                raise IntegrityError(f"the PDF has {len(pages)} page(s), wanted {wanted}")
            text = "".join(pages[number - 1].extract_text() for number in wanted)
        except IntegrityError:
            raise
        except Exception as error:  # as in attachments
            raise IntegrityError(f"the PDF is damaged, its text cannot be read: {_plain(error)}") from error
    return "".join(unicodedata.normalize("NFKC", text).split())


@lru_cache(maxsize=1)
def _reader(data: bytes) -> PdfReader:
    """A PDF opened once: the parts of a tagged report that are read here take seconds to parse."""
    from pypdf import PdfReader

    return PdfReader(io.BytesIO(data))


def _plain(text: object) -> str:
    """Text from a file nobody vouches for: short, one line, nothing that drives a terminal."""
    return "".join(character if character.isprintable() else "?" for character in str(text))[:160]


def _certificates(trust: list[bytes]) -> list[Certificate]:
    from asn1crypto import pem
    from asn1crypto.x509 import Certificate

    try:
        unarmor: Any = pem.unarmor
        blocks = [block for one in trust for block in unarmor(one, multiple=True)]
        found = [Certificate.load(der, strict=True) for kind, _, der in blocks if kind == "CERTIFICATE"]
        subjects = [certificate.subject.native for certificate in found]  # parsed on first use only
    except ValueError as error:
        raise UsageError(f"trusted certificates: no readable PEM: {_plain(error)}") from error
    if len(subjects) < len(trust):
        raise UsageError(f"trusted certificates: found {len(subjects)} in {len(trust)} file(s)")
    return found


def _signatures(data: bytes) -> list[EmbeddedPdfSignature]:
    from pyhanko.pdf_utils.reader import PdfFileReader

    if b"%PDF-" not in data[:1024]:
        raise ValueError("no %PDF- at its beginning")
    return list(PdfFileReader(io.BytesIO(data)).embedded_signatures)


def _name(signature: EmbeddedPdfSignature) -> str:
    return _plain(signature.field_name)


def _end(signature: EmbeddedPdfSignature) -> int:
    """Where the bytes that a signature covers end; an error unless they start with the file and have one gap."""
    byte_range: Any = signature.byte_range
    start, length, after, rest = (int(number) for number in byte_range)
    if start != 0 or not 0 < length < after or rest <= 0:
        raise ValueError(f"no signature has the byte range {start} {length} {after} {rest}")
    return after + rest


def _ending(data: bytes, signatures: list[EmbeddedPdfSignature]) -> Finding:
    try:
        ends = [_end(signature) for signature in signatures]
    except Exception as error:  # noqa: BLE001 - as in check_signatures
        return Finding("ending", "failed", f"What a signature covers cannot be told: {_plain(error)}.")
    if ends != sorted(set(ends)):
        return Finding("ending", "failed", "Two signatures claim to cover the same bytes.")
    if ends[-1] != len(data):
        return Finding("ending", "failed", f"{len(data) - ends[-1]} bytes lie outside what the last signature covers.")
    if not data.rstrip(_WHITESPACE).endswith(b"%%EOF"):
        return Finding("ending", "failed", "Something follows the end mark of the PDF.")
    return Finding("ending", "ok", "Nothing was added after the last signature.")


def _examined(
    data: bytes, signature: EmbeddedPdfSignature, roots: list[Certificate], moment: datetime
) -> list[Finding]:
    name = _name(signature)
    try:
        return [
            Finding(f"{name} integrity", *_integrity(_validated(signature, [], moment))),
            Finding(f"{name} coverage", *_coverage(data, signature)),
            Finding(f"{name} container", *check_container(data, signature, roots)),
            Finding(f"{name} signer", "ok", f"Signed in the name of {_who(signature.signer_cert)}."),
            Finding(f"{name} time", "unknown", _when(signature)),
            Finding(f"{name} trust", *_trust(signature, roots, moment)),
        ]
    except Exception as error:  # noqa: BLE001 - as in check_signatures
        sentence = f"The signature is damaged and cannot be checked: {_plain(error)}."
        return [Finding(f"{name} integrity", "failed", sentence)]


def _validated(signature: EmbeddedPdfSignature, roots: list[Certificate], moment: datetime) -> PdfSignatureStatus:
    from pyhanko.sign.validation import validate_pdf_signature
    from pyhanko_certvalidator import ValidationContext

    context = ValidationContext(trust_roots=roots, allow_fetching=False, moment=moment)
    return validate_pdf_signature(signature, context, skip_diff=True)


def _integrity(status: PdfSignatureStatus) -> tuple[Status, str]:
    if status.md_algorithm not in _DIGESTS:
        return "failed", f"The signature rests on {status.md_algorithm}, which can be forged."
    if not status.intact:
        return "failed", "The file was changed: its bytes are not those that were signed."
    if not status.valid:
        return "failed", "The signature was not made with the key of the certificate beside it."
    return "ok", f"The bytes are those that were signed ({status.md_algorithm})."


def _coverage(data: bytes, signature: EmbeddedPdfSignature) -> tuple[Status, str]:
    from pyhanko.sign.validation import SignatureCoverageLevel

    end = _end(signature)
    if end == len(data) and signature.coverage == SignatureCoverageLevel.ENTIRE_FILE:
        return "ok", f"The signature covers the whole file, {end} bytes."
    if end < len(data) and signature.coverage == SignatureCoverageLevel.ENTIRE_REVISION:
        return "ok", f"The signature covers the file as it was then, the first {end} of {len(data)} bytes."
    return "failed", f"The signature leaves out parts of the first {end} of {len(data)} bytes."


def _who(certificate: Certificate) -> str:
    names = certificate.subject.native
    parts = [names[key] for key in ("common_name", "organization_name") if names.get(key)]
    return _plain(", ".join(map(str, parts)) or certificate.subject.human_friendly)


def _when(signature: EmbeddedPdfSignature) -> str:
    moment = signature.self_reported_timestamp
    if moment is None:
        return "The signature claims no time."
    return f"Signed on {moment:%Y-%m-%d} at {moment:%H:%M:%S %Z}: claimed by the signer's clock, no timestamp."


def _trust(signature: EmbeddedPdfSignature, roots: list[Certificate], moment: datetime) -> tuple[Status, str]:
    if not roots:
        return "unknown", "Identity not checked, no --trust given: anyone can make a certificate with this name."
    signer = signature.signer_cert
    try:
        status = _validated(signature, roots, moment)
    except Exception as error:  # noqa: BLE001 - as in check_signatures
        return "failed", f"The signer's certificate cannot be followed to a trusted one: {_plain(error)}."
    if status.trusted:
        return "ok", "The signer's certificate leads to a trusted one; revocation was not looked up."
    if signer.not_valid_after < moment:
        return "failed", f"The signer's certificate expired on {signer.not_valid_after:%Y-%m-%d}."
    if signer.not_valid_before > moment:
        return "failed", f"The signer's certificate holds only from {signer.not_valid_before:%Y-%m-%d}."
    reason = str(status.trust_problem_indic).rpartition(".")[2]
    return "failed", f"The signer's certificate leads to none of the trusted ones ({reason})."


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


def _modifications(signature: EmbeddedPdfSignature, intact: bool) -> Finding:
    """Whether what came after a signature is no more than it permits: later signatures."""
    name = f"{_name(signature)} modifications"
    if not intact:
        return Finding(name, "unknown", "What came after this signature was not examined: the file is broken anyway.")
    try:
        _read_ahead(signature.reader)
        signature.compute_integrity_info()  # type: ignore[no-untyped-call]
        permitted = signature.summarise_integrity_info()["docmdp_ok"]
    except Exception as error:  # noqa: BLE001 - as in check_signatures
        return Finding(name, "failed", f"What came after this signature cannot be examined: {_plain(error)}.")
    if not permitted:
        return Finding(
            name,
            "failed",
            "The document was changed after this signature, by more than signatures and entries in a form.",
        )
    return Finding(name, "ok", "After this signature nothing was added but later signatures, or entries in a form.")
