"""Keys for trying signatures out: a test authority made on the spot, and one signing key it certifies."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from assessor.errors import UsageError
from assessor.pdf_container import APPLICATION
from assessor.signers import require_libraries

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

NOT_TRUSTED = "test only, not trusted"
"""Stands in every name that `new_key` makes up."""
_RSA_BITS = 3072  # NIST SP 800-57 part 1 rev. 5, table 2: 128 bits of security
_PKCS12_ROUNDS = 200_000  # ten times what cryptography takes by default, and still 0.2 s to open
_NAME_LIMIT = 64  # RFC 5280, upper bound of a common name and of an organisation name


class KeyFiles(NamedTuple):
    """What `new_key` wrote."""

    p12: Path
    """Signing key and certificates, PKCS#12, encrypted."""
    ca: Path
    """Certificate of the test CA, PEM: the `--trust` of a reader."""
    crl: Path
    """Its revocation list, empty, PEM: the `--revocation` of a signer who tries level B-LT."""


def new_key(folder: Path, *, name: str, organisation: str, passphrase: str, days: int = 825) -> KeyFiles:
    """Writes a signing key for trying things out, certified by a test CA of its own.

    The CA's private key is thrown away: it certifies this one key and nothing else, ever.

    Args:
        folder: Where `key.p12` (mode 0600), `ca.pem` and `ca.crl` are written; made if missing.
        name: Who signs, at most 39 characters; the certificate adds "(test only, not trusted)".
        organisation: Organisation of the signer, at most 64 characters.
        passphrase: Encrypts the private key; not empty.
        days: For how long the certificate holds. 825 days is what browsers once allowed.

    Returns:
        The files.

    Raises:
        UsageError: A file is there already or cannot be written, or an argument is unfit.
    """
    require_libraries()
    _check_key_arguments(name, organisation, passphrase, days)
    files = KeyFiles(folder / "key.p12", folder / "ca.pem", folder / "ca.crl")
    there = [str(path) for path in files if path.exists()]
    if there:
        raise UsageError(f"{', '.join(there)}: is there already and is not overwritten; choose another folder")
    p12, ca, crl = _make_key(name.strip(), organisation.strip(), passphrase, days)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write_new(files.ca, ca, 0o644)
        _write_new(files.crl, crl, 0o644)
        _write_new(files.p12, p12, 0o600)
    except OSError as error:
        raise UsageError(f"{folder}: cannot write the key: {error.strerror}") from error
    return files


def _check_key_arguments(name: str, organisation: str, passphrase: str, days: int) -> None:
    longest = _NAME_LIMIT - len(f" ({NOT_TRUSTED})")
    if not 0 < len(name.strip()) <= longest:
        raise UsageError(f"name of the signer: found {len(name.strip())} characters, wanted 1 to {longest}")
    if not 0 < len(organisation.strip()) <= _NAME_LIMIT:
        raise UsageError(f"organisation: found {len(organisation.strip())} characters, wanted 1 to {_NAME_LIMIT}")
    if not passphrase:
        raise UsageError("passphrase: is empty; a signing key is never stored unencrypted")
    if not 1 <= days <= 36500:
        raise UsageError(f"days: found {days}, wanted 1 to 36500")


def _write_new(path: Path, content: bytes, mode: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _make_key(name: str, organisation: str, passphrase: str, days: int) -> tuple[bytes, bytes, bytes]:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import pkcs12

    ca_key, key = (rsa.generate_private_key(65537, _RSA_BITS) for _ in range(2))
    mark = x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()).digest.hex()[:8]  # no two CAs have one name
    ca_name = _subject(f"{APPLICATION} CA {mark} ({NOT_TRUSTED})", organisation)
    ca = _certificate(ca_name, ca_key.public_key(), ca_name, ca_key, days)
    subject = _subject(f"{name} ({NOT_TRUSTED})", organisation)
    certificate = _certificate(subject, key.public_key(), ca_name, ca_key, days)
    encryption = (
        serialization.PrivateFormat.PKCS12.encryption_builder()
        .kdf_rounds(_PKCS12_ROUNDS)
        .key_cert_algorithm(pkcs12.PBES.PBESv2SHA256AndAES256CBC)
        .hmac_hash(hashes.SHA256())
        .build(passphrase.encode())
    )
    p12 = pkcs12.serialize_key_and_certificates(b"ai-assessor test key", key, certificate, [ca], encryption)
    pem = serialization.Encoding.PEM
    return p12, ca.public_bytes(pem), _revocation_list(ca, ca_key).public_bytes(pem)


def _revocation_list(ca: x509.Certificate, ca_key: RSAPrivateKey) -> x509.CertificateRevocationList:
    """An empty one that holds as long as the CA: its key is thrown away, so nothing can ever be revoked."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    builder = (
        x509.CertificateRevocationListBuilder(ca.subject, ca.not_valid_before_utc, ca.not_valid_after_utc)
        .add_extension(x509.CRLNumber(1), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
    )
    return builder.sign(ca_key, hashes.SHA256())


def _subject(common_name: str, organisation: str) -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, NOT_TRUSTED),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _certificate(
    subject: x509.Name, key: RSAPublicKey, issuer: x509.Name, issuer_key: RSAPrivateKey, days: int
) -> x509.Certificate:
    """A certificate for signing documents; a CA's where subject and issuer are one."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    is_ca = subject == issuer
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)  # clocks of readers may lag
    builder = (
        x509.CertificateBuilder(issuer, subject, key, x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=0 if is_ca else None), critical=True)
        .add_extension(
            # digitalSignature and nonRepudiation for the signer, keyCertSign and cRLSign for the CA
            x509.KeyUsage(not is_ca, not is_ca, False, False, False, is_ca, is_ca, False, False),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    return builder.sign(issuer_key, hashes.SHA256())
