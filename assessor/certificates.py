"""Certificates: whom they name, who vouches for them, and whether they lead to one that the reader trusts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from assessor.errors import UsageError

if TYPE_CHECKING:
    from asn1crypto.crl import CertificateList
    from asn1crypto.ocsp import OCSPResponse
    from asn1crypto.x509 import Certificate

DIGESTS = {"sha256", "sha384", "sha512", "sha3_256", "sha3_384", "sha3_512"}
"""Hash functions that nobody can forge."""
LIBRARIES = ("pyhanko", "pyhanko_certvalidator", "pypdf")
SIGNING, STAMPING = "signing", "stamping"
_COMMON_LENGTH = 160


class Revocation(NamedTuple):
    """What authorities say of certificates that they took back."""

    lists: tuple[CertificateList, ...] = ()
    responses: tuple[OCSPResponse, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.lists or self.responses)


NO_REVOCATION = Revocation()


class Trust(NamedTuple):
    """Whether a certificate leads to one that the reader trusts."""

    root: str | None
    """Name of that certificate; None if it leads to none."""
    fault: str = ""
    """Why it does not."""
    revocation: Literal["not looked up", "not revoked", "unsettled"] = "not looked up"


def plain(text: object) -> str:
    """Text from a file nobody vouches for: short, one line, nothing that drives a terminal."""
    return "".join(character if character.isprintable() else "?" for character in str(text))[:_COMMON_LENGTH]


def name_of(certificate: Certificate) -> str:
    """Name and organisation of whom a certificate is for."""
    return _in_words(certificate.subject)


def _in_words(name: Any) -> str:
    parts = [name.native[key] for key in ("common_name", "organization_name") if name.native.get(key)]
    return plain(", ".join(map(str, parts)) or name.human_friendly)


def issuers(own: Certificate, held: Iterable[Certificate]) -> list[Certificate]:
    """The certificates above one by their names, as far as they are held."""
    found, current, rest = [], own, [one for one in held if one.dump() != own.dump()]
    while issuer := next((one for one in rest if one.subject == current.issuer), None):
        rest.remove(issuer)
        found.append(issuer)
        current = issuer
    return found


def read_certificates(files: Sequence[bytes], what: str = "trusted certificates") -> list[Certificate]:
    """Certificates in PEM files.

    Args:
        files: Content of the files.
        what: What they are, for the message.

    Returns:
        All of them.

    Raises:
        UsageError: A file holds none.
    """
    from asn1crypto import pem
    from asn1crypto.x509 import Certificate

    try:
        unarmor: Any = pem.unarmor
        blocks = [block for one in files for block in unarmor(one, multiple=True)]
        found = [Certificate.load(der, strict=True) for kind, _, der in blocks if kind == "CERTIFICATE"]
        subjects = [certificate.subject.native for certificate in found]  # parsed on first use only
    except ValueError as error:
        raise UsageError(f"{what}: no readable PEM: {plain(error)}; wanted certificates in PEM") from error
    if len(subjects) < len(files):
        raise UsageError(f"{what}: found {len(subjects)} in {len(files)} file(s)")
    return found


def read_revocation(content: bytes) -> Revocation:
    """A revocation list (CRL) or an answer about one certificate (OCSP), PEM or DER.

    Args:
        content: Of the file.

    Returns:
        What it holds.

    Raises:
        ValueError: It is neither.
    """
    from asn1crypto import pem
    from asn1crypto.crl import CertificateList
    from asn1crypto.ocsp import OCSPResponse

    detect: Any = pem.detect
    unarmor: Any = pem.unarmor
    der = unarmor(content)[2] if detect(content) else content
    try:
        found = CertificateList.load(der, strict=True)
        found.native  # noqa: B018 - parsed on first use only
    except (ValueError, TypeError, KeyError):
        answer = OCSPResponse.load(der, strict=True)
        answer.basic_ocsp_response.native  # noqa: B018 - as above
        return Revocation(responses=(answer,))
    return Revocation(lists=(found,))


def issued(certificate: bytes, issuer: bytes) -> bool:
    """Whether the signature on a certificate (DER) is its issuer's."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature

    try:
        x509.load_der_x509_certificate(certificate).verify_directly_issued_by(x509.load_der_x509_certificate(issuer))
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def is_chain(own: bytes, others: Iterable[bytes], roots: Iterable[Certificate]) -> bool | None:
    """Whether the others (DER) are just the issuers of `own`, and nothing in any of them can have been changed.

    Args:
        own: Where the chain starts.
        others: What is beside it.
        roots: Certificates that the last of the chain may have been issued by.

    Returns:
        False if one of them does not belong to the chain or was changed, None if the issuer of the last is missing.
    """
    rest, current = list(others), own
    while rest and not issued(current, current):
        issuer = next((one for one in rest if issued(current, one)), None)
        if issuer is None:
            break
        rest.remove(issuer)
        current = issuer
    if rest:
        return False
    return any(issued(current, one) for one in [current, *(root.dump() for root in roots)]) or None


def trust(
    certificate: Certificate,
    others: Iterable[Certificate],
    roots: Sequence[Certificate],
    moment: datetime,
    *,
    purpose: str = SIGNING,
    revocation: Revocation = NO_REVOCATION,
) -> Trust:
    """Follows a certificate to one that is trusted.

    Args:
        certificate: Whose.
        others: Certificates that may stand between.
        roots: The trusted ones.
        moment: When all of them have to be valid.
        purpose: What the certificate must be meant for: `SIGNING` or `STAMPING`.
        revocation: Judged if there is any; a certificate taken back after `moment` was good then.

    Returns:
        Where it leads, or why nowhere.
    """
    from pyhanko_certvalidator.errors import InsufficientRevinfoError

    held = [*others, *roots]  # what a root itself answers (OCSP) is believed only if the root is among these
    try:
        root = asyncio.run(_followed(certificate, held, roots, moment, purpose, None))
    except Exception as error:  # noqa: BLE001 - the library lets many kinds through on a strange certificate
        return Trust(None, _fault(error, certificate, held, moment))
    if not revocation:
        return Trust(root)
    try:
        asyncio.run(_followed(certificate, held, roots, moment, purpose, revocation))
    except InsufficientRevinfoError:
        return Trust(root, revocation="unsettled")
    except Exception as error:  # noqa: BLE001 - as above
        return Trust(None, _fault(error, certificate, held, moment))
    return Trust(root, revocation="not revoked")


async def _followed(
    certificate: Certificate,
    held: Iterable[Certificate],
    roots: Sequence[Certificate],
    moment: datetime,
    purpose: str,
    revocation: Revocation | None,
) -> str:
    from pyhanko_certvalidator import CertificateValidator, ValidationContext

    context = ValidationContext(
        trust_roots=roots,
        allow_fetching=False,
        moment=moment,
        crls=revocation.lists if revocation else None,
        ocsps=revocation.responses if revocation else None,
        revocation_mode="require" if revocation else "soft-fail",
        retroactive_revinfo=True,
    )
    validator = CertificateValidator(certificate, list(held), context)
    usage, extended = (set(), {"time_stamping"}) if purpose == STAMPING else ({"non_repudiation"}, None)
    path = await validator.async_validate_usage(usage, extended)  # type: ignore[no-untyped-call]
    return name_of(next(iter(path)))


def _fault(error: Exception, certificate: Certificate, held: Sequence[Certificate], moment: datetime) -> str:
    from pyhanko_certvalidator.errors import InvalidCertificateError, PathBuildingError, RevokedError

    if isinstance(error, RevokedError):
        return f"was revoked on {error.revocation_dt.astimezone(UTC):%Y-%m-%d}"
    if certificate.not_valid_after < moment:
        return f"expired on {certificate.not_valid_after:%Y-%m-%d}"
    if certificate.not_valid_before > moment:
        return f"holds only from {certificate.not_valid_before:%Y-%m-%d}"
    if isinstance(error, PathBuildingError):
        last = [certificate, *issuers(certificate, held)][-1]
        if last.subject != last.issuer:
            return f"leads to {_in_words(last.issuer)}, whose certificate is neither trusted nor in the file"
        return "leads to none of the trusted ones"
    if isinstance(error, InvalidCertificateError):
        return "is not meant for this use"
    return f"cannot be followed to a trusted one: {plain(error)}"
