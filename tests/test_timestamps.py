"""Timestamps: an authority that misbehaves is told in words and nothing is written; a signature outlives its key."""

from __future__ import annotations

import io
import random
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from asn1crypto import core, tsp
from asn1crypto.cms import RevocationInfoChoice
from asn1crypto.crl import CertificateList
from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates
from pyhanko.pdf_utils import generic
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.pdf_utils.reader import PdfFileReader

from assessor import pages
from assessor.certificates import STAMPING, read_certificates, read_revocation, trust
from assessor.errors import UsageError
from assessor.findings import Finding
from assessor.keys import new_key
from assessor.pages import Attached
from assessor.pdf_container import loaded, rebuilt
from assessor.pdf_revisions import appended
from assessor.pdf_signatures import check_signatures
from assessor.signing import Level, Proof, sign_pdf
from tests.authority import DAY, Authority, pair, revocation_list, serving

weasyprint = pytest.importorskip("weasyprint")
NOW = datetime.now(UTC)


class Office(NamedTuple):
    """A folder with a plain PDF, a key, and all that proof needs."""

    folder: Path
    authority: Authority
    proof: Proof
    """At level B-LTA, from a server that runs."""
    signed: dict[Level, bytes]

    @property
    def ca(self) -> bytes:
        return (self.folder / "ca.pem").read_bytes()

    def check(self, data: bytes, **more: object) -> dict[str, Finding]:
        found = check_signatures(data, [self.ca], stamp_trust=[self.authority.pem], **more)  # type: ignore[arg-type]
        return {finding.name: finding for finding in found}


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    folder = tmp_path_factory.mktemp("office")
    new_key(folder, name="Dora", organisation="Example", passphrase="p")
    weasyprint.HTML(string="<html lang=en><title>T</title><h1>Report").write_pdf(
        folder / "plain.pdf", pdf_variant="pdf/a-3a"
    )
    authority = Authority()
    (folder / "tsa.pem").write_bytes(authority.pem)
    (folder / "tsa.crl").write_bytes(authority.crl)
    with serving(authority.answer) as url:
        trust, stamps = [folder / "ca.pem"], [folder / "tsa.pem"]
        proof = Proof(url, Level.LTA, trust, stamps, [folder / "ca.crl", folder / "tsa.crl"])
        signed = {
            level: sign(folder, folder / f"{level}.pdf", proof._replace(level=level)) for level in list(Level)[1:]
        }
        yield Office(folder, authority, proof, signed)


def sign(folder: Path, output: Path, proof: Proof, role: str = "developer", source: Path | None = None) -> bytes:
    where, key = source or folder / "plain.pdf", folder / "key.p12"
    sign_pdf(where, key, output, passphrase="p", role=role, reason="r", proof=proof)  # type: ignore[arg-type]
    return output.read_bytes()


def failed(findings: dict[str, Finding]) -> list[str]:
    return [name for name, finding in findings.items() if finding.status == "failed"]


def holds(findings: dict[str, Finding]) -> bool:
    return all(finding.status == "ok" for finding in findings.values())


def is_later(data: bytes) -> bool:
    return b"/DocTimeStamp" in data


@pytest.mark.parametrize("level", list(Level)[1:])
def test_every_level_holds_in_every_part(office: Office, level: Level) -> None:
    found = office.check(office.signed[level])
    assert {finding.status for finding in found.values()} == {"ok"}
    assert found["DeveloperSignature time"].sentence.startswith("Not later than 20")
    assert "the timestamp of Stamp Office says; it leads to Stamp Root, which you trust" in (
        found["DeveloperSignature time"].sentence
    )
    revoked = ", and was not revoked." if level != Level.T else "; revocation was not looked up."
    assert found["DeveloperSignature trust"].sentence.endswith(f"which you trust{revoked}")
    assert is_later(office.signed[level]) == (level == Level.LTA)
    assert found["ending"].sentence == "Nothing was added after the last signature."


@pytest.mark.slow
@pytest.mark.parametrize("level", list(Level)[1:])
def test_a_flipped_byte_is_noticed_at_every_level(office: Office, level: Level) -> None:
    """In the container with its timestamp, every 211th digit; elsewhere at random."""
    data, chance = office.signed[level], random.Random(20261122)
    gaps = [range(int(a), int(b)) for a, b in re.findall(rb"/ByteRange \[0 (\d+) (\d+)", data)]
    assert len(gaps) == 1 + is_later(data)
    digits = [at for gap in gaps for at in range(gap.start + 1, gap.stop - 1, 211)]
    start = len((office.folder / "plain.pdf").read_bytes())
    others = [at for at in chance.sample(range(start, len(data)), 60) if not any(at in gap for gap in gaps)]
    for at in [*digits, *others]:
        new = f"{int(chr(data[at]), 16) ^ 1:X}".encode() if at in digits else bytes([data[at] ^ 0x01])
        found = office.check(data[:at] + new + data[at + 1 :])
        assert failed(found), f"byte {at}"


def document_timestamp(data: bytes) -> tuple[int, bytes]:
    """Where the last container begins, and its bytes."""
    start, end = [(int(a), int(b)) for a, b in re.findall(rb"/ByteRange \[0 (\d+) (\d+)", data)][-1]
    return start + 1, bytes.fromhex(data[start + 1 : end - 1].decode())


PARTS = (
    "kind",
    "version",
    "digests",
    "kind of content",
    "what is said",
    "certificate",
    "signer",
    "version of the signer's part",
    "digest",
    "attributes",
    "algorithm",
    "signature",
    "padding",
)


def parts_of(content: bytes) -> dict[str, bytes]:
    """Everything that a timestamp is made of (RFC 5652, 5.1 and 5.3), as it is encoded."""
    token: Any = loaded(content)
    signed = token["content"]
    (info,) = signed["signer_infos"]
    certificates = [one.dump() for one in signed["certificates"]]
    return {
        "kind": token["content_type"].dump(),
        "version": signed["version"].dump() + signed["digest_algorithms"].dump(),
        "digests": signed["digest_algorithms"].dump(),
        "kind of content": signed["encap_content_info"]["content_type"].dump(),
        "what is said": bytes(signed["encap_content_info"]["content"]),
        "certificate": certificates[0],
        "signer": info["sid"].dump(),
        "version of the signer's part": info["version"].dump() + info["sid"].dump(),
        "digest": info["digest_algorithm"].dump() + b"\xa0",
        "attributes": info["signed_attrs"].dump(),
        "algorithm": info["signature_algorithm"].dump() + b"\x04\x82",
        "signature": info["signature"].dump(),
        "padding": bytes(40),
    }


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
def test_a_damaged_timestamp_of_the_document_fails_in_each_of_its_parts(office: Office, part: str) -> None:
    data = office.signed[Level.LTA]
    start, content = document_timestamp(data)
    wanted = parts_of(content)[part]
    place = content.rindex(wanted) if part == "padding" else content.index(wanted)
    inside = range(place, place + len(wanted))
    for at in {*inside[:6], *inside[:: len(wanted) // 12 + 1], *inside[-3:]}:
        for mask in (0x01, 0x10, 0x80):
            changed = f"{content[at] ^ mask:02{'X' if data[start:].isupper() else 'x'}}".encode()
            found = office.check(data[: start + 2 * at] + changed + data[start + 2 * at + 2 :])
            assert failed(found), f"{part}, byte {at - place} of {len(wanted)}, {mask:#x}"


def test_a_timestamp_of_the_document_by_another_tool_is_looked_at_as_far_as_it_goes(office: Office) -> None:
    from pyhanko.sign.signers import PdfTimeStamper

    writer = IncrementalPdfFileWriter(io.BytesIO(office.signed[Level.T]))
    data = PdfTimeStamper(office.authority.stamper()).timestamp_pdf(writer, md_algorithm="sha256").getvalue()
    assert other_tool(office.check(data)) == "unknown"  # the algorithm has a name that says less
    start, content = document_timestamp(data)

    def changed(written: bytes) -> dict[str, Finding]:
        digits = written.hex().encode().ljust(2 * len(content), b"0")
        return office.check(data[:start] + digits + data[start + len(digits) :])

    assert other_tool(changed(rebuilt(loaded(content)))) == "ok"
    more: Any = loaded(content)
    more["content"]["crls"] = [RevocationInfoChoice({"crl": CertificateList.load(der(office.authority.crl))})]
    assert other_tool(changed(more.dump(force=True))) == "unknown"
    at = content.index(loaded(content)["content"]["version"].dump()) + 2
    for found in (changed(content[:at] + b"\1" + content[at + 1 :]), changed(content[:-1] + b"\1")):
        assert failed(found)


def other_tool(found: dict[str, Finding]) -> str:
    assert failed(found) == []
    return found["document timestamp 2 container"].status


def test_the_timestamp_counts_when_the_signers_certificate_has_expired(office: Office) -> None:
    later = datetime.now(UTC) + timedelta(days=900)
    found = office.check(office.signed[Level.T], now=later)
    assert failed(found) == []
    assert "it expired on 20" in found["DeveloperSignature trust"].sentence
    assert "after the timestamp" in found["DeveloperSignature trust"].sentence
    sign_pdf(
        office.folder / "plain.pdf", office.folder / "key.p12", office.folder / "b.pdf", passphrase="p", reason="r"
    )
    without = office.check((office.folder / "b.pdf").read_bytes(), now=later)
    assert failed(without) == ["DeveloperSignature trust"]


def test_once_the_authoritys_certificate_has_expired_its_timestamp_says_nothing(office: Office) -> None:
    found = office.check(office.signed[Level.T], now=datetime.now(UTC) + timedelta(days=3651))
    assert failed(found) == ["DeveloperSignature time", "DeveloperSignature trust"]
    assert "the certificate of Stamp Office expired on" in found["DeveloperSignature time"].sentence


def test_whose_timestamps_count_is_the_readers_choice(office: Office) -> None:
    data = office.signed[Level.T]
    found = {finding.name: finding for finding in check_signatures(data, [office.ca])}
    assert found["DeveloperSignature time"].status == "unknown"
    assert "name whom you trust for that with --tsa-trust" in found["DeveloperSignature time"].sentence
    other = check_signatures(data, [office.ca], stamp_trust=[Authority().pem])
    assert [finding.name for finding in other if finding.status == "failed"] == ["DeveloperSignature time"]


@pytest.mark.slow
def test_an_auditor_signs_after_the_developer_at_the_highest_level(office: Office, tmp_path: Path) -> None:
    data = office.signed[Level.LTA]
    (tmp_path / "a.pdf").write_bytes(data)
    both = sign(office.folder, tmp_path / "b.pdf", office.proof, "auditor", tmp_path / "a.pdf")
    assert both.startswith(data)
    found = office.check(both, strict=True)
    assert {finding.status for finding in found.values()} == {"ok"}
    assert {"DeveloperSignature second opinion", "AuditorSignature trust"} <= set(found)
    assert sum(name.startswith("document timestamp") for name in found) == 6


@pytest.fixture(scope="module")
def by_both(office: Office, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A PDF as reports are, whose metadata pyHanko writes anew in another way each time, signed by both."""
    folder = tmp_path_factory.mktemp("both")
    attached = Attached("a.json", b"{}", "", "2026-11-22T10:00:00Z")
    (folder / "0.pdf").write_bytes(pages.pdf("<html lang=en><title>Report</title><h1>Report", attached))
    one = sign(office.folder, folder / "1.pdf", office.proof, source=folder / "0.pdf")
    return {"one": one, "two": sign(office.folder, folder / "2.pdf", office.proof, "auditor", folder / "1.pdf")}


def test_metadata_that_say_the_same_in_other_words_are_no_change(office: Office, by_both: dict[str, bytes]) -> None:
    found = office.check(by_both["two"])
    assert {finding.status for finding in found.values()} == {"ok"}
    assert "DeveloperSignature modifications" in found


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b">Report<", b">Rapport<", "failed"),
        (b"pdfuaid:part", b"pdfuaid:fart", "failed"),
        (b"</x:xmpmeta>", b"<!-- approved --></x:xmpmeta>", "failed"),
        (b"</rdf:RDF>", b"", "failed"),
        (b'xmp:ModifyDate="2', b'xmp:ModifyDate="3', "ok"),
        (b'x:xmptk="pyHanko ', b'x:xmptk="pyHanko 9', "ok"),
    ],
)
def test_metadata_that_say_something_else_are_found(
    office: Office, by_both: dict[str, bytes], tmp_path: Path, old: bytes, new: bytes, said: str
) -> None:
    writer = IncrementalPdfFileWriter(io.BytesIO(by_both["one"]))
    reference = writer.root.raw_get("/Metadata").reference
    stream = generic.StreamObject(dict(writer.get_object(reference)), stream_data=writer.get_object(reference).data)
    assert old in stream.data
    stream._data, stream._encoded_data = stream.data.replace(old, new), None
    writer.objects[reference.generation, reference.idnum] = stream
    writer._update_meta = lambda: None
    output = io.BytesIO()
    writer.write(output)
    (revision,) = appended(output.getvalue(), [len(by_both["one"])], PdfFileReader(io.BytesIO(output.getvalue())))
    told = [change for change in revision.forbidden if "signature" not in change]
    assert bool(told) == (said == "failed"), told


def test_a_revoked_certificate_does_not_sign_with_proof(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    ca = pair("CA", None, start=now - DAY, end=now + 900 * DAY)
    me = pair("Me", ca, start=now - DAY, end=now + 900 * DAY)
    chain = [ca.certificate]
    p12 = serialize_key_and_certificates(None, me.key, me.certificate, chain, BestAvailableEncryption(b"p"))
    office = Authority()
    files = {"key.p12": p12, "ca.pem": ca.pem, "tsa.pem": office.pem, "tsa.crl": office.crl}
    files["ca.crl"] = revocation_list(ca, {me.certificate: now - DAY / 2}, made=now - DAY / 3, end=now + 100 * DAY)
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    weasyprint.HTML(string="x").write_pdf(tmp_path / "plain.pdf")
    with serving(office.answer) as url:
        proof = Proof(url, Level.LT, [tmp_path / "ca.pem"], [tmp_path / "tsa.pem"])
        proof = proof._replace(revocation=[tmp_path / "ca.crl", tmp_path / "tsa.crl"])
        with pytest.raises(UsageError, match=r"not signed, level b-lt needs certificates.*revoked"):
            sign(tmp_path, tmp_path / "out.pdf", proof)
    assert not (tmp_path / "out.pdf").exists()


@pytest.mark.parametrize(
    ("revoked", "made", "told"),
    [
        (None, -1, ("Stamp Root", "", "not revoked")),
        (None, 35, ("Stamp Root", "", "not revoked")),
        (None, -60, ("Stamp Root", "", "unsettled")),
        (30, 35, ("Stamp Root", "", "not revoked")),
        (-0.5, -0.3, (None, f"was revoked on {NOW - DAY / 2:%Y-%m-%d}", "not looked up")),
        (-0.5, 35, (None, f"was revoked on {NOW - DAY / 2:%Y-%m-%d}", "not looked up")),
    ],
)
def test_what_a_list_says_of_a_certificate_at_a_moment(
    revoked: float | None, made: float, told: tuple[object, ...]
) -> None:
    """Days from now; each list holds for 20 days. One that was made later counts too, for nobody is un-revoked."""
    office = Authority()
    own = office.own.certificate
    when = {own: NOW + revoked * DAY} if revoked is not None else {}
    pem = revocation_list(office.root, when, made=NOW + made * DAY, end=NOW + (made + 20) * DAY)
    certificates = read_certificates([office.own.pem, office.pem])
    found = trust(certificates[0], [], certificates[1:], NOW, purpose=STAMPING, revocation=read_revocation(pem))
    assert found == told
    stranger = trust(certificates[0], [], [], NOW, purpose=STAMPING)
    assert stranger == (
        None,
        "leads to Stamp Root, whose certificate is neither trusted nor in the file",
        "not looked up",
    )


def with_store(data: bytes, *contents: bytes, draw: bool = False) -> bytes:
    """The file with an update after it that brings revocation data."""
    writer = IncrementalPdfFileWriter(io.BytesIO(data))
    blobs = [writer.add_object(generic.StreamObject(stream_data=content)) for content in contents]
    store = generic.DictionaryObject({generic.pdf_name("/CRLs"): generic.ArrayObject(blobs)})
    writer.root["/DSS"] = writer.add_object(store)
    writer.update_root()
    if draw:
        stream = generic.StreamObject(stream_data=b"0 0 400 400 re f")
        writer.add_stream_to_page(0, writer.add_object(stream))
    output = io.BytesIO()
    writer.write(output)
    return output.getvalue()


def der(pem: bytes) -> bytes:
    return x509.load_pem_x509_crl(pem).public_bytes(Encoding.DER)


def test_revocation_data_alone_may_follow_the_last_signature(office: Office) -> None:
    data = office.signed[Level.T]
    own = der(office.authority.crl)
    found = office.check(with_store(data, own))
    assert failed(found) == []
    assert found["ending"].sentence.startswith("After the last signature only certificates and revocation lists")
    for bad, words in {
        with_store(data, b"no list"): "something that is no revocation data stands among it",
        with_store(data, own + b"\0"): "something that is no revocation data stands among it",
        with_store(data, own, draw=True): "page 1 was changed",
    }.items():
        ending = office.check(bad)["ending"]
        assert ending.status == "failed"
        assert words in ending.sentence


@pytest.mark.slow
def test_every_byte_of_revocation_data_that_no_signature_covers_is_looked_at(office: Office) -> None:
    """What may change there unnoticed means nothing to a reader: white space, the second of two delimiters, the

    file's second identifier, sizes that are not needed to read it, and unused bits of a signature on a list.
    """
    data = office.signed[Level.T]
    lists = [der((office.folder / name).read_bytes()) for name in ("ca.crl", "tsa.crl")]
    whole = with_store(data, *lists)
    assert holds(office.check(whole))
    sizes = rb"/ID \[ <\w+> <\w+>|/Size \d+|/Length \d+|/Index \[ \d"
    nothing = re.compile(rb"(?<=>)>|\s|" + sizes + rb"|(?<=\x03\x82\x01[\x01\x81])\0")
    allowed = {at for match in nothing.finditer(whole, len(data)) for at in range(*match.span())}
    places = [at for at in range(len(data), len(whole), 2) if at not in allowed]
    assert len(places) > 900
    unnoticed = [at for at in places if holds(office.check(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]))]
    assert [whole[at - 20 : at + 20] for at in unnoticed] == []


def refusing(request: tsp.TimeStampReq) -> bytes:
    status = tsp.PKIStatusInfo({"status": "rejection", "status_string": ["out of paper"]})
    content: bytes = status.dump()
    return bytes([0x30, len(content)]) + content  # no timestamp follows the status


def wrong_nonce(office: Authority, request: tsp.TimeStampReq) -> bytes:
    request["nonce"] = core.Integer(7)
    return office.answer(request)


def wrong_hash(office: Authority, request: tsp.TimeStampReq) -> bytes:
    request["message_imprint"]["hashed_message"] = bytes(32)
    return office.answer(request)


def changed(office: Authority, request: tsp.TimeStampReq) -> bytes:
    answer = bytearray(office.answer(request))
    answer[-5] ^= 1
    return bytes(answer)


CASES = {
    "refuses": (refusing, "no timestamp that holds: it was refused: rejection, out of paper"),
    "wrong nonce": (lambda r: wrong_nonce(Authority(), r), "the answer belongs to another question (wrong nonce)"),
    "wrong hash": (lambda r: wrong_hash(Authority(), r), "no timestamp that holds: it was made for other bytes"),
    "changed": (lambda r: changed(Authority(), r), "it was changed, or not made with the key"),
    "rubbish": (lambda r: b"rubbish", "no timestamp that holds"),
    "empty": (lambda r: b"", "no timestamp that holds"),
    "expired": (
        lambda r: Authority(start=NOW - 9 * DAY, end=NOW - 2 * DAY).answer(r),
        "the certificate of Stamp Office expired on 20",
    ),
    "not for timestamps": (lambda r: Authority(stamping=False).answer(r), "is not one for timestamps"),
    "stranger": (lambda r: Authority().answer(r), "the certificate of Stamp Office leads to none of the trusted ones"),
    "too much": (lambda r: b"x" * 1_200_000, "answered with more than 1000000 bytes"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_timestamp_that_does_not_hold_is_refused_and_nothing_is_written(
    office: Office, tmp_path: Path, case: str
) -> None:
    answer, words = CASES[case]
    with serving(answer) as url:
        proof = office.proof._replace(url=url, level=Level.T)
        with pytest.raises(UsageError) as told:
            sign(office.folder, tmp_path / "out.pdf", proof)
    assert words in str(told.value)
    assert str(told.value).startswith(url)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_an_authority_that_is_down_slow_or_something_else_is_told(
    office: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{free.getsockname()[1]}/"
    with pytest.raises(UsageError, match=r"the timestamp authority cannot be asked: .*refused"):
        sign(office.folder, tmp_path / "out.pdf", Proof(closed))
    with serving(office.authority.answer, kind="text/html") as url, pytest.raises(UsageError, match="with text/html"):
        sign(office.folder, tmp_path / "out.pdf", Proof(url))
    monkeypatch.setattr("assessor.timestamps.SECONDS", 0.5)
    start = time.monotonic()
    with (
        serving(office.authority.answer, wait=0.2) as url,
        pytest.raises(UsageError, match=r"not answer within 0\.5 s"),
    ):
        sign(office.folder, tmp_path / "out.pdf", Proof(url))
    assert time.monotonic() - start < 8
    with pytest.raises(UsageError, match="no address of a timestamp authority"):
        sign(office.folder, tmp_path / "out.pdf", Proof("file:///etc/passwd"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"trust": ()}, "level b-lta: needs --trust and --tsa-trust"),
        ({"revocation": ()}, "level b-lta: needs revocation lists; give files with --revocation, or --fetch"),
        ({"revocation": ("ca.crl",)}, "not signed, level b-lta needs certificates that lead to"),
        ({"revocation": ("ca.pem",)}, r"ca\.pem: no revocation list"),
        ({"revocation": ("absent",)}, "absent: cannot read the revocation list"),
        ({"trust": ("tsa.pem",)}, "not signed, level b-lta needs certificates that lead to"),
    ],
)
def test_proof_that_is_not_whole_is_refused(
    office: Office, tmp_path: Path, change: dict[str, tuple[str, ...]], words: str
) -> None:
    files = {name: tuple(office.folder / one for one in value) for name, value in change.items()}
    with pytest.raises(UsageError, match=words):
        sign(office.folder, tmp_path / "out.pdf", office.proof._replace(**files))  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(shutil.which("pdfsig") is None, reason="needs pdfsig of poppler-utils")
@pytest.mark.parametrize("level", list(Level)[1:])
def test_pdfsig_agrees(office: Office, level: Level) -> None:
    path = office.folder / f"{level}.pdf"
    said = subprocess.run(["pdfsig", "-nocert", str(path)], capture_output=True, text=True, check=True).stdout
    assert said.count("Signature is Valid.") == 1
    assert "Digest Mismatch" not in said


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_openssl_agrees_on_the_timestamp(office: Office, tmp_path: Path) -> None:
    from pyhanko.pdf_utils.reader import PdfFileReader

    from assessor.pdf_container import loaded, timestamp_in

    signature = PdfFileReader(io.BytesIO(office.signed[Level.T])).embedded_signatures[0]
    token = timestamp_in(loaded(signature.pkcs7_content))
    assert token is not None
    (tmp_path / "token.der").write_bytes(token.dump())
    (tmp_path / "value").write_bytes(signature.signer_info["signature"].native)
    command = ["openssl", "ts", "-verify", "-token_in", "-in", str(tmp_path / "token.der"), "-data"]
    command += [str(tmp_path / "value"), "-CAfile", str(office.folder / "tsa.pem")]
    assert "Verification: OK" in subprocess.run(command, capture_output=True, text=True, check=True).stdout
    (tmp_path / "value").write_bytes(b"other")
    assert subprocess.run(command, capture_output=True, text=True, check=False).returncode != 0
