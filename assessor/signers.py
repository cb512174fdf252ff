"""Who signs: a key with its certificates from a file (PKCS#12) or on a token (PKCS#11)."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from assessor.certificates import issuers
from assessor.errors import MissingExtra, UsageError

if TYPE_CHECKING:
    from asn1crypto.x509 import Certificate
    from pyhanko.sign.signers import Signer


class Token(NamedTuple):
    """A key that never leaves its device: smart card, USB token, HSM."""

    library: Path
    """The maker's PKCS#11 library."""
    label: str
    """Of the token."""
    key_label: str | None = None
    """Of the key; needed where the token holds several."""

    def __str__(self) -> str:
        return f"token '{self.label}'"


Key = Path | Token


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


def read(path: Path, what: str) -> bytes:
    """A file's bytes.

    Args:
        path: The file.
        what: What it is, for the message.

    Returns:
        Its content.

    Raises:
        UsageError: It cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot read the {what}: {error.strerror}") from error


@contextlib.contextmanager
def opened(key: Key, passphrase: str, moment: datetime) -> Iterator[Signer]:
    """The signer with this key; a token stays logged in meanwhile.

    Args:
        key: File or token.
        passphrase: Of the file, or the token's PIN.
        moment: When it signs.

    Yields:
        The signer with its certificate and those of its chain.

    Raises:
        UsageError: Wrong passphrase or PIN, no such key, or its certificate is not valid at `moment`.
    """
    if isinstance(key, Token):
        with _session(key, passphrase) as session:
            signer: Signer = _on_token(key, session)
            _check_dates(key, signer, moment)
            yield signer
    else:
        signer = _from_file(key, passphrase)
        _check_dates(key, signer, moment)
        yield signer


def certificates(signer: Signer) -> list[Certificate]:
    """The signer's certificate, then the others it brings."""
    own = signer.signing_cert
    return [own, *(one for one in signer.cert_registry if one.dump() != own.dump())] if own else []


def _check_dates(key: Key, signer: Signer, moment: datetime) -> None:
    certificate: Any = signer.signing_cert
    if certificate.not_valid_after < moment:
        raise UsageError(f"{key}: the certificate expired on {certificate.not_valid_after:%Y-%m-%d}")
    if certificate.not_valid_before > moment:
        raise UsageError(f"{key}: the certificate holds only from {certificate.not_valid_before:%Y-%m-%d}")


def _from_file(key: Path, passphrase: str) -> Signer:
    """The signer in a PKCS#12 file; pyHanko's own loader would only log a fault and return None."""
    from asn1crypto.keys import PrivateKeyInfo
    from asn1crypto.x509 import Certificate
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.serialization import pkcs12
    from pyhanko.sign.signers import SimpleSigner
    from pyhanko_certvalidator.registry import SimpleCertificateStore

    try:
        private, certificate, others = pkcs12.load_key_and_certificates(read(key, "signing key"), passphrase.encode())
    except ValueError as error:
        raise UsageError(f"{key}: wrong passphrase, or no PKCS#12 file") from error
    if private is None or certificate is None:
        raise UsageError(f"{key}: holds no private key with its certificate")
    der = serialization.Encoding.DER
    pkcs8 = private.private_bytes(der, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    store = SimpleCertificateStore()  # type: ignore[no-untyped-call]
    store.register_multiple(Certificate.load(one.public_bytes(der)) for one in others if one != certificate)
    return SimpleSigner(Certificate.load(certificate.public_bytes(der)), PrivateKeyInfo.load(pkcs8), store)


@contextlib.contextmanager
def _session(token: Token, pin: str) -> Iterator[Any]:
    if importlib.util.find_spec("pkcs11") is None:
        raise MissingExtra("Signing with a token", "sign")
    import pkcs11
    from pyhanko.config.pkcs11 import TokenCriteria
    from pyhanko.sign.pkcs11 import open_pkcs11_session

    if not token.library.is_file():
        raise UsageError(f"{token.library}: no such PKCS#11 library; the maker of the token says where it is")
    try:
        session = open_pkcs11_session(
            str(token.library.absolute()), token_criteria=TokenCriteria(label=token.label), user_pin=pin
        )
    except (pkcs11.PinIncorrect, pkcs11.PinInvalid, pkcs11.PinLenRange) as error:
        raise UsageError(f"{token}: wrong PIN; most tokens lock themselves after three wrong ones") from error
    except pkcs11.PinLocked as error:
        raise UsageError(f"{token}: the PIN is locked; the token's own program unlocks it") from error
    except RuntimeError as error:  # base of all faults of pkcs11, and what it raises where it cannot load a library
        raise UsageError(f"{token}: cannot be opened with {token.library}: {_fault(error)}") from error
    try:
        yield session
    finally:
        session.close()


def _fault(error: Exception) -> str:
    return str(error) or type(error).__name__


def _on_token(token: Token, session: Any) -> Signer:
    from asn1crypto.x509 import Certificate
    from pkcs11 import Attribute, ObjectClass

    wanted: dict[Any, Any] = {Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.SIGN: True}
    if token.key_label is not None:
        wanted[Attribute.LABEL] = token.key_label
    keys = [(one[Attribute.ID], one[Attribute.LABEL]) for one in session.get_objects(wanted)]
    if len(keys) != 1:
        named = f" labelled '{token.key_label}'" if token.key_label is not None else ""
        found = ", ".join(f"'{label}'" for _, label in keys) or "none"
        raise UsageError(f"{token}: wanted one signing key{named}, found {found}; name it with --key-label")
    identity, label = keys[0]
    held = [
        (one[Attribute.ID], Certificate.load(one[Attribute.VALUE]))
        for one in session.get_objects({Attribute.CLASS: ObjectClass.CERTIFICATE})
    ]
    own = next((certificate for place, certificate in held if place == identity), None)
    if own is None:
        raise UsageError(f"{token}: holds no certificate for the key '{label}' (none with the key's ID)")
    chain = issuers(own, [certificate for _, certificate in held])
    return _token_signer(token, session, identity, own, chain)


def _token_signer(
    token: Token, session: Any, identity: bytes, own: Certificate, chain: Sequence[Certificate]
) -> Signer:
    from pkcs11 import PKCS11Error
    from pyhanko.sign.pkcs11 import PKCS11Signer

    class TokenSigner(PKCS11Signer):
        async def async_sign_raw(self, data: bytes, digest_algorithm: str, dry_run: bool = False) -> bytes:
            try:
                signature: bytes = await super().async_sign_raw(data, digest_algorithm, dry_run)
            except PKCS11Error as error:
                raise UsageError(f"{token}: the key does not sign: {_fault(error)}") from error
            return signature

    on_curve = own.public_key.algorithm == "ec"  # many tokens sign a digest with ECDSA and do not make it
    return TokenSigner(  # `signing_cert` would be put in twice
        session, ca_chain=chain, key_id=identity, cert_id=identity, use_raw_mechanism=on_curve
    )
