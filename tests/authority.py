"""A timestamp authority of our own on this machine (RFC 3161), that can also misbehave, and its revocation list."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from asn1crypto import keys, tsp
from asn1crypto import x509 as asn1
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from pyhanko.sign.timestamps import DummyTimeStamper

Answer = Callable[[tsp.TimeStampReq], bytes]
DAY = timedelta(days=1)


class Pair(NamedTuple):
    """A certificate and its key."""

    certificate: x509.Certificate
    key: rsa.RSAPrivateKey

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)


def pair(
    name: str, issuer: Pair | None, *, start: datetime, end: datetime, purpose: x509.ObjectIdentifier | None = None
) -> Pair:
    """A new certificate; without an issuer an authority's own."""
    key = rsa.generate_private_key(65537, 2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    by = issuer or Pair(None, key)  # type: ignore[arg-type]
    is_ca = issuer is None
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
    return Pair(builder.sign(by.key, hashes.SHA256()), key)


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


class Authority:
    """A timestamp authority with a root of its own."""

    def __init__(self, *, start: datetime | None = None, end: datetime | None = None, stamping: bool = True) -> None:
        now = datetime.now(UTC).replace(microsecond=0)
        self.root = pair("Stamp Root", None, start=now - 3650 * DAY, end=now + 3650 * DAY)
        purpose = ExtendedKeyUsageOID.TIME_STAMPING if stamping else None
        self.own = pair(
            "Stamp Office", self.root, start=start or now - DAY, end=end or now + 3650 * DAY, purpose=purpose
        )
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
    """A server on this machine's loopback that answers so; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = tsp.TimeStampReq.load(self.rfile.read(int(self.headers["Content-Length"])))
            content = answer(request)
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            for place in range(0, len(content), 100):
                time.sleep(wait)
                try:
                    self.wfile.write(content[place : place + 100])
                except OSError:
                    return

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
