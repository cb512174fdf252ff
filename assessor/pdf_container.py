"""The container of a signature (CMS, RFC 5652): encoded anew from what was verified, and compared byte for byte.

Most of a container is covered by no signature. Here nothing in it can be changed unnoticed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from assessor.certificates import is_chain, issuers
from assessor.findings import Status

if TYPE_CHECKING:
    from asn1crypto.cms import ContentInfo
    from asn1crypto.x509 import Certificate
    from pyhanko.sign.validation import EmbeddedPdfSignature

APPLICATION = "ai-assessor"
"""Written into each signature as the tool that made it; covered by the signature."""
STAMP_FIELD = f"{APPLICATION}-timestamp-"
"""How the fields of our timestamps of the document begin; covered by the timestamp."""
_WHOLE: tuple[Status, str] = ("ok", "The container of the signature holds nothing but what was verified.")
_STRANGER: tuple[Status, str] = (
    "failed",
    "A certificate in the container was changed or does not belong to the signer's.",
)
_CHANGED: tuple[Status, str] = (
    "failed",
    "The container of the signature was changed in a part that the signed bytes leave out.",
)
_OTHER_TOOL: tuple[Status, str] = (
    "unknown",
    "The container was made by another tool; parts of it, such as a timestamp, were not verified.",
)


def chain_mark(certificates: Iterable[bytes]) -> str:
    """Stands in each signature and is covered by it, so that the certificates (DER) beside it are too."""
    return f"chain sha256 {hashlib.sha256(b''.join(sorted(certificates))).hexdigest()}"


def check_container(
    data: bytes, signature: EmbeddedPdfSignature, roots: Sequence[Certificate], stamp_roots: Sequence[Certificate]
) -> tuple[Status, str]:
    """The gap in the signed bytes: one hexadecimal string, in it the verified parts in their only encoding, then zeros.

    Args:
        data: The PDF.
        signature: Signature or timestamp of the document.
        roots: Certificates that a signer's may have been issued by.
        stamp_roots: Certificates that a timestamp authority's must have been issued by; empty if nobody said.

    Returns:
        Whether all of it is accounted for, in a sentence.
    """
    byte_range: Any = signature.byte_range
    _, length, after, _ = byte_range
    gap = data[length:after]
    if not re.fullmatch(rb"<(?:[0-9A-F]{2})+>|<(?:[0-9a-f]{2})+>", gap):
        return "failed", "The container of the signature was changed: it is not written the way signatures are."
    content = bytes.fromhex(gap[1:-1].decode())
    if content != signature.pkcs7_content:
        return "failed", "The signature is not the one that stands in the gap of the signed bytes."
    container = loaded(content)
    verified = content == rebuilt(container).ljust(len(content), b"\0")
    if signature.sig_object_type == "/DocTimeStamp":
        if verified:
            return _of_timestamp(container, stamp_roots)
        is_ours = str(signature.field_name).startswith(STAMP_FIELD)
        return _CHANGED if is_ours else _of_strange_timestamp(container, content)
    tool = signature.sig_object.get("/Prop_Build", {}).get("/App", {})
    if tool.get("/Name") == f"/{APPLICATION}":
        if not verified or tool.get("/REx") != chain_mark(embedded(container)):
            return _CHANGED
    else:
        chain = is_chain(signature.signer_cert.dump(), _others(container), roots)
        if chain is False:
            return _STRANGER
        if not (verified and chain):
            return _OTHER_TOOL
    stamp = timestamp_in(container)
    return _of_timestamp(stamp, stamp_roots) if stamp else _WHOLE


def _of_timestamp(stamp: ContentInfo, roots: Sequence[Certificate]) -> tuple[Status, str]:
    """Whether the certificates in a timestamp were verified; its own one stands in what it signs (RFC 5816)."""
    others = _others(stamp)
    chain = is_chain(_own(stamp), others, roots)
    if chain is False:
        return _STRANGER
    if chain or not others:
        return _WHOLE
    return (
        "unknown",
        "A certificate in the timestamp cannot be checked without the one that issued it; see --tsa-trust.",
    )


def loaded(content: bytes) -> ContentInfo:
    """The container at the beginning of some bytes."""
    from asn1crypto.cms import ContentInfo

    container: ContentInfo = ContentInfo.load(content)  # zeros follow
    return container


def embedded(container: ContentInfo) -> list[bytes]:
    """The certificates in a container, DER."""
    data: Any = container["content"]
    return [one.chosen.dump() for one in data["certificates"] if one.name == "certificate"]


def timestamp_in(container: ContentInfo) -> ContentInfo | None:
    """The timestamp beside the signature in a container; covered by no signature but its own."""
    data: Any = container["content"]
    (info,) = data["signer_infos"]
    found = [one for one in info["unsigned_attrs"] or () if one["type"].native == "signature_time_stamp_token"]
    token: ContentInfo | None = found[0]["values"][0] if found else None
    return token


def _of_strange_timestamp(container: ContentInfo, content: bytes) -> tuple[Status, str]:
    """Another tool's timestamp may hold more, which nothing covers; all else in it has one encoding, as it is DER."""
    data: Any = container["content"]
    (info,) = data["signer_infos"]
    if data["crls"] or info["unsigned_attrs"] or info["sid"].name != "issuer_and_serial_number":
        return _OTHER_TOOL
    other_name = rebuilt(container, plain_rsa=True).ljust(len(content), b"\0")
    return _OTHER_TOOL if content == other_name else _CHANGED


def _own(container: ContentInfo) -> bytes:
    from pyhanko.sign.validation.generic_cms import extract_certs_for_validation

    data: Any = container["content"]
    own: bytes = extract_certs_for_validation(data).signer_cert.dump()
    return own


def _others(container: ContentInfo) -> list[bytes]:
    rest = embedded(container)
    rest.remove(_own(container))
    return rest


def tidied(stamp: ContentInfo) -> ContentInfo:
    """A timestamp with nothing in it but what can be verified: as it is put beside a signature."""
    from asn1crypto.x509 import Certificate

    own, held = Certificate.load(_own(stamp)), [Certificate.load(one) for one in embedded(stamp)]
    # a root is worth nothing but to who has it already
    chain = [own, *issuers(own, [one for one in held if one.subject != one.issuer])]
    return loaded(rebuilt(stamp, [one.dump() for one in chain]))


def _tlv(tag: int, *parts: bytes) -> bytes:
    """DER: tag, length, value (X.690, 8.1 and 10.1)."""
    value = b"".join(parts)
    size = len(value).to_bytes((len(value).bit_length() + 7) // 8 or 1, "big")
    return bytes([tag]) + (size if len(value) < 128 else bytes([0x80 | len(size)]) + size) + value


def _algorithm(found: Any, name: str = "") -> bytes:
    """An algorithm in one encoding: parameters as they are, or none, or NULL."""
    kind = type(found["algorithm"])
    parameters = found["parameters"].dump() if found["parameters"].native is not None else b""
    null = b"\x05\0" if not parameters and found.dump().endswith(b"\x05\0") else parameters
    return _tlv(0x30, kind(name or found["algorithm"].native).dump(), null)


def _signature_algorithm(info: Any, plain_rsa: bool) -> bytes:
    """`rsaEncryption` means the same as the name that says the hash too, and may stand there (RFC 3370, 3.2)."""
    found = info["signature_algorithm"]
    renamed = found["algorithm"].native == "rsassa_pkcs1v15" and not plain_rsa
    return _algorithm(found, f"{info['digest_algorithm']['algorithm'].native}_rsa" if renamed else "")


def rebuilt(container: ContentInfo, certificates: Sequence[bytes] | None = None, *, plain_rsa: bool = False) -> bytes:
    """A container encoded anew from what is verified: digest, signed attributes, signature, certificates, timestamp.

    RFC 5652, 5.1 and 5.3, in the shape that `sign_pdf` writes: one signer named by issuer and serial
    number, no revocation lists, no unsigned attribute but a timestamp.

    Args:
        container: Signature, or timestamp.
        certificates: DER; default those in it.
        plain_rsa: Whether an algorithm may be named `rsaEncryption`.

    Returns:
        The only encoding it can have.
    """
    from asn1crypto.cms import CMSAttributeType, ContentType
    from asn1crypto.x509 import Certificate

    data: Any = container["content"]
    (info,) = data["signer_infos"]
    signer: Any = Certificate.load(_own(container))
    what = data["encap_content_info"]["content_type"].native
    digest, version = _algorithm(info["digest_algorithm"]), b"\x02\x01"
    sid = _tlv(0x30, signer.issuer.dump(), signer["tbs_certificate"]["serial_number"].dump())
    attributes = _tlv(0xA0, info["signed_attrs"].contents or b"")
    made = _tlv(0x04, info["signature"].native)
    stamp = timestamp_in(container)
    kind = CMSAttributeType("signature_time_stamp_token").dump()
    unsigned = _tlv(0xA1, _tlv(0x30, kind, _tlv(0x31, rebuilt(stamp)))) if stamp else b""
    signer_info = _tlv(
        0x30, version, b"\x01", sid, digest, attributes, _signature_algorithm(info, plain_rsa), made, unsigned
    )
    signed = b"" if what == "data" else _tlv(0xA0, _tlv(0x04, bytes(data["encap_content_info"]["content"])))
    content = _tlv(0x30, ContentType(what).dump(), signed)
    others = _tlv(0xA0, *(embedded(container) if certificates is None else certificates))
    number = b"\x01" if what == "data" else b"\x03"
    body = _tlv(0x30, version, number, _tlv(0x31, digest), content, others, _tlv(0x31, signer_info))
    return _tlv(0x30, ContentType("signed_data").dump(), _tlv(0xA0, body))
