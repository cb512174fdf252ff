"""The container of a PDF signature: the gap in the signed bytes, which no signature covers.

Rebuilt from what was verified and compared byte for byte, so that nothing in it can be changed unnoticed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal

from assessor.signing import APPLICATION, chain_mark

if TYPE_CHECKING:
    from asn1crypto.x509 import Certificate
    from pyhanko.sign.validation import EmbeddedPdfSignature

Status = Literal["ok", "failed", "unknown", "withheld"]


def check_container(data: bytes, signature: EmbeddedPdfSignature, roots: list[Certificate]) -> tuple[Status, str]:
    """The gap: one hexadecimal string, in it the verified parts in their only encoding, then zeros."""
    byte_range: Any = signature.byte_range
    _, length, after, _ = byte_range
    gap = data[length:after]
    if not re.fullmatch(rb"<(?:[0-9A-F]{2})+>|<(?:[0-9a-f]{2})+>", gap):
        return "failed", "The container of the signature was changed: it is not written the way signatures are."
    content = bytes.fromhex(gap[1:-1].decode())
    if content != signature.pkcs7_content:
        return "failed", "The signature is not the one that stands in the gap of the signed bytes."
    verified = content == _rebuilt(signature).ljust(len(content), b"\0")
    tool = signature.sig_object.get("/Prop_Build", {}).get("/App", {})
    if tool.get("/Name") == f"/{APPLICATION}":
        if verified and tool.get("/REx") == chain_mark(_embedded(signature)):
            return "ok", "The container of the signature holds nothing but what was verified."
        return "failed", "The container of the signature was changed in a part that the signed bytes leave out."
    chain = _chain(signature, roots)
    if chain is False:
        return "failed", "A certificate in the container was changed or does not belong to the signer's."
    if verified and chain:
        return "ok", "The container of the signature holds nothing but what was verified."
    return "unknown", "The container was made by another tool; parts of it, such as a timestamp, were not verified."


def _embedded(signature: EmbeddedPdfSignature) -> list[bytes]:
    return [one.chosen.dump() for one in signature.signed_data["certificates"] if one.name == "certificate"]


def _chain(signature: EmbeddedPdfSignature, roots: list[Certificate]) -> bool | None:
    """Whether each certificate was issued by the next, the last by itself or a root; None if the issuer is missing."""
    rest, current = _embedded(signature), signature.signer_cert.dump()
    rest.remove(current)
    while rest and not _issued(current, current):
        issuer = next((one for one in rest if _issued(current, one)), None)
        if issuer is None:
            break
        rest.remove(issuer)
        current = issuer
    whole = any(_issued(current, one) for one in [current, *(root.dump() for root in roots)])
    return False if rest else whole or None


def _issued(certificate: bytes, issuer: bytes) -> bool:
    """Whether the signature on a certificate (DER) is its issuer's."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature

    try:
        x509.load_der_x509_certificate(certificate).verify_directly_issued_by(x509.load_der_x509_certificate(issuer))
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _tlv(tag: int, *parts: bytes) -> bytes:
    """DER: tag, length, value (X.690, 8.1 and 10.1)."""
    value = b"".join(parts)
    size = len(value).to_bytes((len(value).bit_length() + 7) // 8 or 1, "big")
    return bytes([tag]) + (size if len(value) < 128 else bytes([0x80 | len(size)]) + size) + value


def _algorithm(found: Any) -> bytes:
    """An algorithm without parameters or with NULL, in the one encoding that `sign_pdf` writes."""
    name = found["algorithm"].native
    if name == "rsassa_pkcs1v15":  # means the same, and may stand there too (RFC 3370, 3.2)
        name = "sha256_rsa"
    null = b"\x05\0" if found.dump().endswith(b"\x05\0") else b""
    return _tlv(0x30, type(found["algorithm"])(name).dump(), null)


def _rebuilt(signature: EmbeddedPdfSignature) -> bytes:
    """The container encoded anew from what the checks verify: digest, signed attributes, signature, certificates.

    RFC 5652, 5.1 and 5.3, in the shape that `sign_pdf` writes: version 1, one signer named by
    issuer and serial number, detached content, no revocation lists, no unsigned attributes.
    """
    from asn1crypto.cms import ContentInfo, ContentType

    signer: Any = signature.signer_cert
    info: Any = signature.signer_info
    digest, version = _algorithm(info["digest_algorithm"]), b"\x02\x01\x01"
    sid = _tlv(0x30, signer.issuer.dump(), signer["tbs_certificate"]["serial_number"].dump())
    attributes = _tlv(0xA0, info["signed_attrs"].contents or b"")
    made = _tlv(0x04, info["signature"].native)
    signer_info = _tlv(0x30, version, sid, digest, attributes, _algorithm(info["signature_algorithm"]), made)
    certificates = _tlv(0xA0, *_embedded(signature))
    content = ContentInfo({"content_type": "data"}).dump()
    body = _tlv(0x30, version, _tlv(0x31, digest), content, certificates, _tlv(0x31, signer_info))
    return _tlv(0x30, ContentType("signed_data").dump(), _tlv(0xA0, body))
