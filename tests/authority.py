"""Authorities of our own on this machine, for certificates, revocation and timestamps; they can also misbehave."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from asn1crypto import keys, tsp
from asn1crypto import x509 as asn1
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID
from pyhanko.sign.timestamps import DummyTimeStamper

Answer = Callable[[tsp.TimeStampReq], bytes]
DAY = timedelta(days=1)


class Pair(NamedTuple):
    """A certificate and its key."""

    certificate: x509.Certificate
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def p12(self, *others: Pair) -> bytes:
        """The key with its certificate and those of others, passphrase p."""
        chain = [one.certificate for one in others]
        return pkcs12.serialize_key_and_certificates(
            None, self.key, self.certificate, chain, BestAvailableEncryption(b"p")
        )


def pair(
    name: str,
    issuer: Pair | None,
    *,
    start: datetime,
    end: datetime,
    purpose: x509.ObjectIdentifier | None = None,
    is_ca: bool = False,
    curve: bool = False,
    pss: bool = False,
    more: Sequence[x509.ExtensionType] = (),
) -> Pair:
    """A new certificate; without an issuer an authority's own.

    `curve` makes an ECDSA key (P-256) instead of an RSA one, `pss` has the issuer sign with RSA-PSS.
    """
    key = ec.generate_private_key(ec.SECP256R1()) if curve else rsa.generate_private_key(65537, 2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    by = issuer or Pair(None, key)  # type: ignore[arg-type]
    is_ca = is_ca or issuer is None
    builder = (
        x509.CertificateBuilder(issuer.certificate.subject if issuer else subject, subject, key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(not is_ca, not is_ca, False, False, False, is_ca, is_ca, False, False), critical=True
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.key.public_key()), critical=False)
    )
    if purpose:
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=True)
    for extension in more:
        builder = builder.add_extension(extension, critical=False)
    salted = padding.PSS(padding.MGF1(hashes.SHA256()), 32) if pss else None
    return Pair(builder.sign(by.key, hashes.SHA256(), rsa_padding=salted), key)


def where(url: str, *, lists: bool = True, answers: bool = True, issuers: bool = False) -> list[x509.ExtensionType]:
    """The addresses that a certificate names: of lists of revoked certificates, of answers about one, of its issuer."""
    access = x509.AccessDescription
    told = [access(AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier(f"{url}ocsp"))] if answers else []
    if issuers:
        issuer = x509.UniformResourceIdentifier(f"{url}issuer")
        told.append(access(AuthorityInformationAccessOID.CA_ISSUERS, issuer))
    point = x509.DistributionPoint([x509.UniformResourceIdentifier(f"{url}crl")], None, None, None)
    found: list[x509.ExtensionType] = [x509.CRLDistributionPoints([point])] if lists else []
    return [*found, x509.AuthorityInformationAccess(told)] if told else found


def revocation_list(issuer: Pair, revoked: dict[x509.Certificate, datetime], *, made: datetime, end: datetime) -> bytes:
    """The issuer's list of revoked certificates, PEM."""
    builder = x509.CertificateRevocationListBuilder(issuer.certificate.subject, made, end)
    builder = builder.add_extension(x509.CRLNumber(1), critical=False).add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), critical=False
    )
    for certificate, moment in revoked.items():
        one = x509.RevokedCertificateBuilder(certificate.serial_number, moment).build()
        builder = builder.add_revoked_certificate(one)
    return builder.sign(issuer.key, hashes.SHA256()).public_bytes(Encoding.PEM)


def ocsp_answer(
    question: bytes, of: Sequence[x509.Certificate], issuer: Pair, revoked: dict[x509.Certificate, datetime]
) -> bytes:
    """What the issuer answers when asked about one of its certificates (RFC 6960), DER."""
    asked = ocsp.load_der_ocsp_request(question)
    (certificate,) = [one for one in of if one.serial_number == asked.serial_number]
    return ocsp_response(certificate, issuer, revoked.get(certificate))


def ocsp_response(certificate: x509.Certificate, issuer: Pair, revoked: datetime | None = None) -> bytes:
    """What the issuer says of a certificate, DER."""
    now = datetime.now(UTC).replace(microsecond=0)
    status = ocsp.OCSPCertStatus.REVOKED if revoked else ocsp.OCSPCertStatus.GOOD
    reason = x509.ReasonFlags.key_compromise if revoked else None
    builder = ocsp.OCSPResponseBuilder().add_response(
        certificate, issuer.certificate, hashes.SHA256(), status, now - DAY, now + DAY, revoked, reason
    )
    builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, issuer.certificate)
    return builder.sign(issuer.key, hashes.SHA256()).public_bytes(Encoding.DER)


class Authority:
    """A timestamp authority with a root of its own."""

    def __init__(
        self, *, start: datetime | None = None, end: datetime | None = None, stamping: bool = True, pss: bool = False
    ) -> None:
        now = datetime.now(UTC).replace(microsecond=0)
        self.root = pair("Stamp Root", None, start=now - 3650 * DAY, end=now + 3650 * DAY, pss=pss)
        purpose = ExtendedKeyUsageOID.TIME_STAMPING if stamping else None
        start, end = start or now - DAY, end or now + 3650 * DAY
        self.own = pair("Stamp Office", self.root, start=start, end=end, purpose=purpose, pss=pss)
        self.crl = revocation_list(self.root, {}, made=now - DAY, end=now + 3650 * DAY)

    @property
    def pem(self) -> bytes:
        return self.root.pem

    def stamper(self, moment: datetime | None = None) -> DummyTimeStamper:
        key = self.own.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        certificates = [
            asn1.Certificate.load(one.certificate.public_bytes(Encoding.DER)) for one in (self.own, self.root)
        ]
        return DummyTimeStamper(certificates[0], keys.PrivateKeyInfo.load(key), certificates, fixed_dt=moment)  # type: ignore[no-untyped-call]

    def answer(self, request: tsp.TimeStampReq, moment: datetime | None = None) -> bytes:
        """A response as it should be."""
        done: bytes = self.stamper(moment).request_tsa_response(request).dump()
        return done


@contextmanager
def serving(answer: Answer, *, kind: str = "application/timestamp-reply", wait: float = 0) -> Iterator[str]:
    """A timestamp authority on this machine's loopback that answers so; its address."""

    def reply(_path: str, content: bytes) -> tuple[str, bytes]:
        return kind, answer(tsp.TimeStampReq.load(content))

    with server(reply, wait) as url:
        yield url


@contextmanager
def server(reply: Callable[[str, bytes], tuple[str, bytes]], wait: float = 0) -> Iterator[str]:
    """A server on this machine's loopback; its address. `reply` gets path and content, and gives kind and content."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kind, content = reply(self.path, self.rfile.read(int(self.headers.get("Content-Length", 0))))
            self.send_response(200 if kind else 404)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            for place in range(0, len(content), 100):
                time.sleep(wait)
                try:
                    self.wfile.write(content[place : place + 100])
                except OSError:
                    return

        do_POST = do_GET

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{httpd.server_address[1]}/"
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()
