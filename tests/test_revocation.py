"""Chains of certificates, keys of other kinds, and what authorities say of certificates that were taken back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from assessor.attestation import attest, verify_envelope
from assessor.canonical import canonical_json
from assessor.errors import UsageError
from assessor.findings import Finding
from assessor.pdf_signatures import check_signatures
from assessor.signing import Level, Proof, sign_pdf
from tests.authority import (
    DAY,
    Authority,
    Pair,
    ocsp_answer,
    ocsp_response,
    pair,
    revocation_list,
    server,
    serving,
    where,
)
from tests.test_attestation import RECORD

weasyprint = pytest.importorskip("weasyprint")
NAMES_OCSP = where("http://127.0.0.1:9/", lists=False)
"""Of a certificate about which answers are believed; nobody listens there."""
NOW = datetime.now(UTC).replace(microsecond=0)
START, END = NOW - 30 * DAY, NOW + 300 * DAY
PROVEN = ", and was not revoked."


class Town(NamedTuple):
    """A root authority, one below it, a timestamp authority, and a plain PDF."""

    folder: Path
    root: Pair
    middle: Pair
    office: Authority
    url: str
    """Of the timestamp authority."""

    def signer(self, name: str = "Sue", *, issuer: Pair | None = None, **more: object) -> Pair:
        return pair(name, issuer or self.root, start=START, end=END, **more)  # type: ignore[arg-type]

    def proof(self, *revocation: bytes, level: Level = Level.LTA, fetch: bool = False) -> Proof:
        """Of this level, with these lists and answers beside those on the timestamp authority."""
        paths = [self.folder / f"{number}.revocation" for number in range(len(revocation) + 1)]
        for path, content in zip(paths, (*revocation, self.office.crl), strict=True):
            path.write_bytes(content)
        return Proof(self.url, level, [self.folder / "root.pem"], [self.folder / "tsa.pem"], paths, fetch)

    def sign(self, signer: Pair, proof: Proof | None, *others: Pair) -> bytes:
        (self.folder / "key.p12").write_bytes(signer.p12(*others))
        target = self.folder / "signed.pdf"
        target.unlink(missing_ok=True)
        sign_pdf(self.folder / "plain.pdf", self.folder / "key.p12", target, passphrase="p", reason="r", proof=proof)
        return target.read_bytes()

    def check(self, data: bytes, **more: object) -> dict[str, Finding]:
        arguments = {"stamp_trust": [self.office.pem], **more}
        found = check_signatures(data, [self.root.pem], **arguments)  # type: ignore[arg-type]
        return {finding.name.removeprefix("DeveloperSignature "): finding for finding in found}

    def crl(self, issuer: Pair, revoked: dict[Pair, datetime] | None = None) -> bytes:
        taken_back = {one.certificate: moment for one, moment in (revoked or {}).items()}
        return revocation_list(issuer, taken_back, made=NOW - DAY, end=NOW + DAY)


@contextmanager
def town(folder: Path, *, pss: bool = False) -> Iterator[Town]:
    office = Authority(pss=pss)
    root = pair("Root", None, start=START, end=END, pss=pss)
    middle = pair("Middle", root, start=START, end=END, is_ca=True, pss=pss)
    (folder / "root.pem").write_bytes(root.pem)
    (folder / "tsa.pem").write_bytes(office.pem)
    weasyprint.HTML(string="<html lang=en><title>Report</title><h1>Report").write_pdf(folder / "plain.pdf")
    with serving(office.answer) as url:
        yield Town(folder, root, middle, office, url)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    with town(tmp_path_factory.mktemp("town")) as found:
        yield found


@pytest.fixture(scope="module")
def salted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """Where every certificate is signed with RSA-PSS."""
    with town(tmp_path_factory.mktemp("salted"), pss=True) as found:
        yield found


def statuses(found: dict[str, Finding]) -> set[str]:
    return {finding.status for finding in found.values()}


# --- what an authority answers about one certificate (OCSP) ----------------------------------------------------------


def test_an_answer_in_a_file_is_proof(home: Town) -> None:
    signer = home.signer(more=NAMES_OCSP)
    data = home.sign(signer, home.proof(ocsp_response(signer.certificate, home.root)))
    assert b"/OCSPs" in data
    found = home.check(data)
    assert statuses(found) == {"ok"}
    assert found["trust"].sentence.endswith(PROVEN)


def test_a_certificate_of_which_the_answer_says_that_it_was_revoked_does_not_sign(home: Town) -> None:
    signer = home.signer(more=NAMES_OCSP)
    proof = home.proof(ocsp_response(signer.certificate, home.root, NOW - DAY))
    with pytest.raises(UsageError, match=r"not signed, level b-lta needs .*revoked"):
        home.sign(signer, proof)


def test_an_answer_about_another_certificate_or_by_another_authority_is_no_proof(home: Town) -> None:
    signer, stranger = home.signer(more=NAMES_OCSP), pair("Root", None, start=START, end=END)
    for answer in (
        ocsp_response(home.signer().certificate, home.root),
        ocsp_response(signer.certificate, stranger),
    ):
        with pytest.raises(UsageError, match="not signed, level b-lta needs certificates that lead to"):
            home.sign(signer, home.proof(answer))


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_answer_that_was_added_later_counts_from_the_moment_it_names(home: Town, when: str) -> None:
    from tests.test_timestamps import with_store

    signer = home.signer(more=NAMES_OCSP)
    data = home.sign(signer, home.proof(level=Level.T))
    moment = NOW - DAY if when == "before" else NOW + DAY
    found = home.check(with_store(data, ocsp_response(signer.certificate, home.root, moment)))
    assert found["ending"].status == "ok"
    if when == "before":
        assert found["trust"] == (
            "DeveloperSignature trust",
            "failed",
            f"The signer's certificate was revoked on {NOW - DAY:%Y-%m-%d}.",
        )
    else:  # an answer does not say that it was good before
        assert found["trust"].status == "unknown"


# --- fetched from the addresses in the certificates ------------------------------------------------------------------


class Site:
    """The web site of the town's root: lists, answers, and its own certificate; told what was asked for."""

    def __init__(self, home: Town) -> None:
        self.home, self.asked = home, list[str]()
        self.certificates: list[Pair] = []
        self.revoked: dict[Pair, datetime] = {}

    def reply(self, path: str, content: bytes) -> tuple[str, bytes]:
        self.asked.append(path)
        if path == "/crl":
            pem = self.home.crl(self.home.root, self.revoked)
            from cryptography import x509

            return "application/pkix-crl", x509.load_pem_x509_crl(pem).public_bytes(Encoding.DER)
        if path == "/ocsp":
            taken_back = {one.certificate: moment for one, moment in self.revoked.items()}
            known = [one.certificate for one in self.certificates]
            return "application/ocsp-response", ocsp_answer(content, known, self.home.root, taken_back)
        if path == "/issuer":
            return "application/pkix-cert", self.home.middle.certificate.public_bytes(Encoding.DER)
        return "", b""


@pytest.mark.slow
@pytest.mark.parametrize(("lists", "answers"), [(True, False), (False, True), (True, True)])
@pytest.mark.parametrize("revoked", [False, True])
def test_what_is_known_of_a_certificate_can_be_fetched(home: Town, lists: bool, answers: bool, revoked: bool) -> None:
    site = Site(home)
    with server(site.reply) as url:
        signer = home.signer(more=where(url, lists=lists, answers=answers))
        site.certificates.append(signer)
        if revoked:
            site.revoked[signer] = NOW - DAY
            with pytest.raises(UsageError, match=r"not signed, level b-lta needs .*revoked"):
                home.sign(signer, home.proof(fetch=True))
            return
        data = home.sign(signer, home.proof(fetch=True))
    assert set(site.asked) <= {"/crl", "/ocsp"}
    assert site.asked
    found = home.check(data)  # the site is gone
    assert statuses(found) == {"ok"}
    assert found["trust"].sentence.endswith(PROVEN)


def test_nothing_is_fetched_unless_asked_for(home: Town) -> None:
    site = Site(home)
    with server(site.reply) as url:
        signer = home.signer(more=where(url))
        site.certificates.append(signer)
        with pytest.raises(UsageError, match="not signed, level b-lta needs certificates that lead to"):
            home.sign(signer, home.proof())
        data = home.sign(signer, home.proof(level=Level.T, fetch=True))  # needs none
        home.check(data)
    assert site.asked == []


def test_a_site_that_is_gone_or_answers_something_else_is_told(home: Town) -> None:
    with server(lambda path, content: ("text/html", b"<html>")) as url:
        signer = home.signer(more=where(url))
        with pytest.raises(UsageError, match="not signed, level b-lta needs certificates that lead to"):
            home.sign(signer, home.proof(fetch=True))
    with pytest.raises(UsageError, match="not signed, level b-lta needs certificates that lead to"):
        home.sign(signer, home.proof(fetch=True))


# --- an authority between --------------------------------------------------------------------------------------------


def test_an_authority_between_is_put_beside_the_signature(home: Town) -> None:
    signer = home.signer(issuer=home.middle)
    data = home.sign(signer, home.proof(home.crl(home.root), home.crl(home.middle)), home.middle)
    found = home.check(data)
    assert statuses(found) == {"ok"}
    assert found["trust"].sentence == f"The signer's certificate leads to Root, which you trust{PROVEN}"


def test_whether_the_authority_between_was_revoked_is_asked_too(home: Town) -> None:
    signer = home.signer(issuer=home.middle)
    with pytest.raises(UsageError, match="not signed, level b-lta needs certificates that lead to"):
        home.sign(signer, home.proof(home.crl(home.middle)), home.middle)
    revoked = home.crl(home.root, {home.middle: NOW - DAY})
    with pytest.raises(UsageError, match=r"not signed, level b-lta needs .*revoked"):
        home.sign(signer, home.proof(revoked, home.crl(home.middle)), home.middle)


def test_a_missing_authority_between_is_named(home: Town) -> None:
    signer = home.signer(issuer=home.middle)
    found = home.check(home.sign(signer, None))
    assert found["trust"] == (
        "DeveloperSignature trust",
        "failed",
        "The signer's certificate leads to Middle, whose certificate is neither trusted nor in the file.",
    )
    with pytest.raises(UsageError, match=r"not signed, level b-lta needs .* Middle"):
        home.sign(signer, home.proof(home.crl(home.root), home.crl(home.middle)))


def test_who_trusts_the_authority_between_needs_no_root(home: Town) -> None:
    data = home.sign(home.signer(issuer=home.middle), None)
    found = {item.name: item for item in check_signatures(data, [home.middle.pem])}
    assert found["DeveloperSignature trust"].status == "ok"


def test_a_missing_authority_between_is_fetched(home: Town) -> None:
    site = Site(home)
    with server(site.reply) as url:
        signer = home.signer(issuer=home.middle, more=where(url, lists=False, answers=False, issuers=True))
        data = home.sign(signer, home.proof(home.crl(home.root), home.crl(home.middle), fetch=True))
    assert "/issuer" in site.asked
    assert home.check(data)["trust"].status == "ok"


# --- keys and certificates of other kinds ----------------------------------------------------------------------------


def test_a_key_on_a_curve_signs_at_the_highest_level(home: Town) -> None:
    signer = home.signer(curve=True)
    data = home.sign(signer, home.proof(home.crl(home.root)))
    assert statuses(home.check(data)) == {"ok"}
    at = data.index(b"Report")  # in its title
    assert home.check(data[:at] + b"X" + data[at + 1 :])["integrity"].status == "failed"


@pytest.mark.slow
def test_a_flipped_bit_in_the_container_of_a_key_on_a_curve_is_found(home: Town) -> None:
    import re

    data = home.sign(home.signer(curve=True), None, home.root)
    ((start, end),) = [(int(a), int(b)) for a, b in re.findall(rb"/ByteRange \[0 (\d+) (\d+)", data)]
    for at in range(start + 2, end - 1, 61):
        digit = f"{int(chr(data[at]), 16) ^ 1:X}".encode()
        found = home.check(data[:at] + digit + data[at + 1 :])
        assert "failed" in statuses(found), f"digit {at}"


def test_a_key_on_a_curve_signs_a_statement(home: Town, tmp_path: Path) -> None:
    (tmp_path / "key.p12").write_bytes(home.signer(curve=True).p12(home.root))
    (tmp_path / "r.json").write_bytes(canonical_json(RECORD))
    proof = Proof(home.url, stamp_trust=[home.folder / "tsa.pem"])
    attest(tmp_path / "r.json", tmp_path / "key.p12", tmp_path / "r.intoto.json", passphrase="p", proof=proof)
    trust, stamps = [home.folder / "root.pem"], [home.folder / "tsa.pem"]
    found = verify_envelope(tmp_path / "r.intoto.json", trust=trust, stamp_trust=stamps)
    assert {item.status for item in found} == {"ok"}


def test_certificates_signed_with_rsa_pss_hold_at_the_highest_level(salted: Town) -> None:
    signer = salted.signer(issuer=salted.middle, pss=True)
    algorithm = "1.2.840.113549.1.1.10"
    assert {
        one.certificate.signature_algorithm_oid.dotted_string
        for one in (signer, salted.middle, salted.root, salted.office.own)
    } == {algorithm}
    lists = salted.crl(salted.root), salted.crl(salted.middle)
    data = salted.sign(signer, salted.proof(*lists), salted.middle)
    assert statuses(salted.check(data)) == {"ok"}


def test_an_authority_on_a_curve_vouches_too(home: Town) -> None:
    root = pair("Curve", None, start=START, end=END, curve=True)
    data = home.sign(pair("Sue", root, start=START, end=END, curve=True), None, root)
    found = {item.name: item.status for item in check_signatures(data, [root.pem])}
    assert "failed" not in found.values()
    assert found["DeveloperSignature trust"] == "ok"
