"""Envelopes: what is signed, how a stranger verifies it by hand, and that no byte of one can be changed."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from commands import ended
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding

from assessor.attestation import attest, countersign, envelope_of, statement, verify_envelope
from assessor.canonical import canonical_json, sha256_hex
from assessor.errors import UsageError
from assessor.findings import Finding
from assessor.keys import new_key
from assessor.signing import Proof, sign_pdf
from assessor.verify import verify
from tests.authority import Authority, serving

weasyprint = pytest.importorskip("weasyprint")

RESULT = {"check_version": "1"}
RECORD: dict[str, Any] = {
    "format": 1,
    "tool": {"name": "ai-assessor", "version": "0"},
    "created": "2026-11-22T00:00:00Z",
    "catalog": {"id": "c", "version": "1.0.0", "packs": [], "sha256": "c" * 64},
    "configuration": {"system": {"name": "Triage", "version": "1"}, "target": None},
    "answers": {},
    "evidence": {"e" * 64: {"name": "protocol.md"}},
    "results": {"test.accuracy": {"run": "r", "sha256": sha256_hex(canonical_json(RESULT)), "result": RESULT}},
    "ledger": {"size": 3, "root": "f" * 64, "head": "a" * 64},
}


class Case(NamedTuple):
    folder: Path
    office: Authority
    url: str

    @property
    def envelope(self) -> Path:
        return self.folder / "report.intoto.json"

    def key(self, who: str) -> Path:
        return self.folder / who / "key.p12"

    def trust(self) -> list[Path]:
        return [self.folder / who / "ca.pem" for who in ("developer", "auditor")]

    def check(self, path: Path | None = None, file: Path | None = None, **more: Any) -> dict[str, Finding]:
        options = {"trust": self.trust(), "stamp_trust": [self.folder / "tsa.pem"], **more}
        found = verify_envelope(path or self.envelope, file, **options)
        return {finding.name: finding for finding in found}


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    """A signed report with an envelope of two signatures, the first with a timestamp."""
    folder, office = tmp_path_factory.mktemp("attested"), Authority()
    (folder / "tsa.pem").write_bytes(office.pem)
    for who in ("developer", "auditor"):
        new_key(folder / who, name=who.title(), organisation="Example", passphrase="p")
    attached = weasyprint.Attachment(string=canonical_json(RECORD), name="assessment.json")
    report = folder / "report.pdf"
    weasyprint.HTML(string="<html lang=en><title>T</title>x").write_pdf(report, attachments=[attached])
    with serving(office.answer) as url:
        found = Case(folder, office, url)
        sign_pdf(report, found.key("developer"), report, passphrase="p", reason="r")
        attest(report, found.key("developer"), found.envelope, passphrase="p", proof=Proof(url))
        countersign(found.envelope, found.key("auditor"), found.envelope, passphrase="p")
        yield found


def failed(findings: dict[str, Finding]) -> list[str]:
    return [name for name, finding in findings.items() if finding.status == "failed"]


def test_two_signatures_hold_and_every_part_is_told(case: Case) -> None:
    found = case.check()
    assert {name: finding.status for name, finding in found.items() if finding.status != "ok"} == {
        "signature 2 time": "unknown"
    }
    assert found["envelope"].sentence == (
        "A statement on Triage: report.pdf, assessment.json, a ledger of 3 lines, with 2 signature(s)."
    )
    assert found["signature 1 signer"].sentence == (
        "Signed in the name of Developer (test only, not trusted), Example."
    )
    assert found["signature 1 time"].sentence.startswith("Not later than 20")
    assert found["file"].sentence == "report.pdf is the file that the statement names, by its digest."
    assert verify(case.envelope, trust=case.trust(), stamp_trust=[case.folder / "tsa.pem"]) == list(found.values())


def test_what_is_signed_names_everything_by_digest(case: Case) -> None:
    said = json.loads(base64.b64decode(json.loads(case.envelope.read_bytes())["payload"]))
    digest = hashlib.sha256((case.folder / "report.pdf").read_bytes()).hexdigest()
    assert said == {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [
            {"name": "report.pdf", "digest": {"sha256": digest}},
            {"name": "assessment.json", "digest": {"sha256": hashlib.sha256(canonical_json(RECORD)).hexdigest()}},
        ],
        "predicateType": "https://ai-assessor.example/attestation/v1",
        "predicate": {
            "tool": RECORD["tool"],
            "created": RECORD["created"],
            "system": RECORD["configuration"]["system"],
            "profile": {"sha256": hashlib.sha256(canonical_json(RECORD["configuration"])).hexdigest()},
            "catalog": RECORD["catalog"],
            "results": {"test.accuracy": sha256_hex(canonical_json(RESULT))},
            "evidence": [{"sha256": "e" * 64, "name": "protocol.md"}],
            "ledger": RECORD["ledger"],
        },
    }


def test_a_stranger_verifies_it_by_hand_with_cryptography_alone(case: Case) -> None:
    """As docs/signing.md says it."""
    envelope = json.loads(case.envelope.read_bytes())
    payload, kind = base64.b64decode(envelope["payload"]), envelope["payloadType"].encode()
    signed = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
    for signature, pem in zip(envelope["signatures"], case.trust(), strict=True):
        certificate = x509.load_der_x509_certificate(base64.b64decode(signature["certificates"][0]))
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(pem.read_bytes()))
        key = certificate.public_key()
        assert isinstance(key, RSAPublicKey)
        key.verify(base64.b64decode(signature["sig"]), signed, padding.PKCS1v15(), hashes.SHA256())


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_openssl_agrees(case: Case, tmp_path: Path) -> None:
    envelope = json.loads(case.envelope.read_bytes())
    payload, kind = base64.b64decode(envelope["payload"]), envelope["payloadType"].encode()
    signature = envelope["signatures"][0]
    certificate = x509.load_der_x509_certificate(base64.b64decode(signature["certificates"][0]))
    (tmp_path / "cert.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (tmp_path / "sig").write_bytes(base64.b64decode(signature["sig"]))
    (tmp_path / "signed").write_bytes(b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload))
    public = ["openssl", "x509", "-in", str(tmp_path / "cert.pem"), "-pubkey", "-noout"]
    (tmp_path / "key.pem").write_bytes(subprocess.run(public, capture_output=True, check=True).stdout)
    command = ["openssl", "dgst", "-sha256", "-verify", str(tmp_path / "key.pem"), "-signature", str(tmp_path / "sig")]
    done = subprocess.run([*command, str(tmp_path / "signed")], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "Verified OK"
    chain = ["openssl", "verify", "-CAfile", str(case.trust()[0]), str(tmp_path / "cert.pem")]
    assert subprocess.run(chain, capture_output=True, check=False).returncode == 0


@pytest.mark.slow
def test_a_flipped_byte_anywhere_is_noticed(case: Case, tmp_path: Path) -> None:
    data, chance = case.envelope.read_bytes(), random.Random(20261122)
    path, file = tmp_path / "report.intoto.json", case.folder / "report.pdf"
    for at in chance.sample(range(len(data)), 400):
        path.write_bytes(data[:at] + bytes([data[at] ^ chance.choice([1, 2, 0x20])]) + data[at + 1 :])
        assert failed(case.check(path, file)), f"byte {at}: {data[at - 20 : at + 20]!r}"


def test_another_statement_or_signature_is_noticed(case: Case, tmp_path: Path) -> None:
    envelope = json.loads(case.envelope.read_bytes())
    path, file = tmp_path / "report.intoto.json", case.folder / "report.pdf"

    def check(changed: Any) -> list[str]:
        path.write_bytes(canonical_json(changed))
        return failed(case.check(path, file))

    first, second = envelope["signatures"]
    said = json.loads(base64.b64decode(envelope["payload"]))
    said["predicate"]["ledger"]["size"] = 2
    other = base64.b64encode(canonical_json(said)).decode()
    assert check({**envelope, "payload": other}) == ["signature 1 integrity", "signature 2 integrity", "statement"]
    swapped = {**first, "certificates": second["certificates"], "keyid": second["keyid"]}
    assert check({**envelope, "signatures": [swapped]}) == ["signature 1 integrity"]
    longer = {**first, "certificates": [*first["certificates"], second["certificates"][0]]}
    assert check({**envelope, "signatures": [longer]}) == ["signature 1 certificates"]
    assert check({**envelope, "signatures": []}) == ["envelope"]
    assert check({**envelope, "payloadType": "text/plain"}) == ["envelope"]
    assert check({**envelope, "more": 1}) == ["envelope"]
    assert check({**envelope, "signatures": [{**first, "timestamp": second["sig"]}]}) == ["signature 1 time"]
    stamped = {**second, "timestamp": first["timestamp"]}
    assert check({**envelope, "signatures": [stamped]}) == ["signature 1 time"]
    assert check({**envelope, "signatures": [second, first]}) == []


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"nothing", b'{"payload": 1}', b"[" * 100_000])
def test_rubbish_is_no_envelope(case: Case, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.intoto.json"
    path.write_bytes(content)
    assert failed(case.check(path)) == ["envelope"]
    with pytest.raises(UsageError, match="is not signed, for it does not hold"):
        countersign(path, case.key("auditor"), path, passphrase="p")
    assert path.read_bytes() == content


def test_the_file_may_be_elsewhere_missing_another_or_signed_since(case: Case, tmp_path: Path) -> None:
    path = Path(shutil.copy(case.envelope, tmp_path))
    missing = case.check(path)["file"]
    assert missing == ("file", "unknown", "report.pdf is not beside the envelope; name it with --file.")
    assert case.check(path, case.folder / "report.pdf")["statement"].status == "ok"
    assert failed(case.check(path, case.envelope)) == ["file"]
    later = tmp_path / "report.pdf"
    sign_pdf(case.folder / "report.pdf", case.key("auditor"), later, passphrase="p", role="auditor", reason="r")
    found = case.check(path)
    assert failed(found) == []
    assert found["file"].sentence == "report.pdf is the file that the statement names, signed once more since then."


def test_an_expired_certificate_holds_where_a_timestamp_does(case: Case) -> None:
    found = case.check(now=datetime.now(UTC) + timedelta(days=900))
    assert failed(found) == ["signature 2 trust"]
    assert "after the timestamp" in found["signature 1 trust"].sentence


def test_whom_nobody_trusts_is_unknown_or_failed(case: Case) -> None:
    assert case.check(trust=[])["signature 1 trust"].status == "unknown"
    assert failed(case.check(trust=[case.folder / "tsa.pem"])) == ["signature 1 trust", "signature 2 trust"]


def test_a_key_signs_once_and_an_envelope_is_not_overwritten(case: Case) -> None:
    with pytest.raises(UsageError, match="this key has signed already"):
        countersign(case.envelope, case.key("auditor"), case.envelope, passphrase="p")
    with pytest.raises(UsageError, match=r"report\.intoto\.json: is there already; add a signature with"):
        attest(case.folder / "report.pdf", case.key("auditor"), case.envelope, passphrase="p")


@pytest.mark.parametrize("content", [b"{}", b"[1]", b"%PDF-1.7\nrubbish", b'{"format":1}', b'{"a": 1}'])
def test_what_holds_no_results_is_not_attested(case: Case, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"report\.json: "):
        attest(path, case.key("auditor"), envelope_of(path), passphrase="p")
    assert [one.name for one in tmp_path.iterdir()] == ["report.json"]


@pytest.mark.slow
def test_the_command_signs_results_then_the_envelope_then_verifies(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ASSESSOR_KEY_PASSPHRASE", "p")
    (tmp_path / "results.json").write_bytes(canonical_json(RECORD))
    envelope = tmp_path / "results.intoto.json"
    assert ended("sign", tmp_path / "results.json", "--key", case.key("developer")) == 0
    assert ended("sign", envelope, "--key", case.key("auditor"), "--timestamp", case.url) == 0
    trust = [option for one in case.trust() for option in ("--trust", one)]
    capsys.readouterr()
    assert ended("verify", envelope, *trust, "--tsa-trust", case.folder / "tsa.pem", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["ok"] is True
    assert [one["status"] for one in said["checks"] if one["name"] == "signature 2 time"] == ["ok"]
    (tmp_path / "results.json").write_bytes(canonical_json({**RECORD, "format": 2}))
    assert ended("verify", envelope, *trust) == 4


@pytest.mark.slow
def test_the_command_signs_a_report_and_attests_it_or_does_neither(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ASSESSOR_KEY_PASSPHRASE", "p")
    report = Path(shutil.copy(case.folder / "report.pdf", tmp_path / "r.pdf"))
    command = ("sign", report, "--key", case.key("auditor"), "--role", "auditor", "--attest")
    before = report.read_bytes()
    (tmp_path / "r.intoto.json").write_text("precious")
    assert ended(*command) == 2
    assert report.read_bytes() == before
    (tmp_path / "r.intoto.json").unlink()
    assert ended(*command, "--timestamp", case.url) == 0
    assert failed(case.check(tmp_path / "r.intoto.json")) == []
    assert "holds a signed statement on it" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "wanted the key that signs: either --key FILE.p12, or --pkcs11 LIBRARY with --token LABEL"),
        (("--key", "k.p12", "--token", "t"), "wanted the key that signs"),
        (("--key", "k.p12", "--level", "b-t"), "--level b-t: needs a timestamp authority, --timestamp URL"),
        (("--key", "k.p12", "--level", "b-b", "--timestamp", "http://x/"), "--level b-b: carries no timestamp"),
    ],
)
def test_options_that_contradict_are_refused(
    tmp_path: Path,
    options: tuple[str, ...],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("ASSESSOR_KEY_PASSPHRASE", "p")
    assert ended("sign", tmp_path / "r.pdf", *options) == 2
    assert words in " ".join(capsys.readouterr().err.split())
    assert list(tmp_path.iterdir()) == []


def test_a_statement_is_the_same_each_time(case: Case) -> None:
    from assessor.attestation import read_subject

    subject = read_subject(case.folder / "report.pdf")
    assert statement(subject) == base64.b64decode(json.loads(case.envelope.read_bytes())["payload"])
