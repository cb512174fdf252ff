"""A signed PDF verifies, and no change of it goes unnoticed."""

from __future__ import annotations

import hashlib
import io
import random
import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates
from pyhanko.pdf_utils import generic
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.pdf_utils.reader import PdfFileReader
from pypdf import PdfReader, PdfWriter

from assessor.errors import IntegrityError, UsageError
from assessor.findings import Finding
from assessor.keys import new_key
from assessor.pdf_content import attachments, page_text
from assessor.pdf_signatures import check_signatures, second_opinion, signed_revision
from assessor.signing import sign_pdf
from tests.authority import Authority

weasyprint = pytest.importorskip("weasyprint")

ASSESSMENT = b'{"format": 1, "system": "triage"}'
DIGEST = "ffff1f" + hashlib.sha256(ASSESSMENT).hexdigest()[6:]  # with ligatures to trip over


class Signed(NamedTuple):
    folder: Path
    plain: bytes
    one: bytes
    """Signed by the developer."""
    two: bytes
    """Then by the auditor."""
    developer: bytes
    """PEM of the developer's CA."""
    auditor: bytes


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Signed:
    folder = tmp_path_factory.mktemp("signed")
    people = {
        role: new_key(folder / role, name=name, organisation="Example", passphrase="p")
        for role, name in {"developer": "Dora Developer", "auditor": "Axel Auditor"}.items()
    }
    narrow = f'<p style="width: 4em; overflow-wrap: anywhere">{DIGEST}</p>'
    html = f"<html lang=en><title>T</title><h1>Report</h1>{narrow}<p style='page-break-before: always'>Second page"
    attachment = weasyprint.Attachment(string=ASSESSMENT, name="assessment.json")
    plain = weasyprint.HTML(string=html).write_pdf(attachments=[attachment])
    (folder / "plain.pdf").write_bytes(plain)
    sign_pdf(folder / "plain.pdf", people["developer"].p12, folder / "one.pdf", passphrase="p", reason="written")
    auditor = people["auditor"].p12
    sign_pdf(folder / "one.pdf", auditor, folder / "two.pdf", passphrase="p", role="auditor", reason="audited")
    pems = (people[role].ca.read_bytes() for role in ("developer", "auditor"))
    return Signed(folder, plain, (folder / "one.pdf").read_bytes(), (folder / "two.pdf").read_bytes(), *pems)


def failed(findings: list[Finding]) -> list[str]:
    return [finding.name for finding in findings if finding.status == "failed"]


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    names = [finding.name for finding in findings]
    assert len(set(names)) == len(names)
    return {finding.name: finding for finding in findings}


def authority_name(pem: bytes) -> str:
    subject = x509.load_pem_x509_certificate(pem).subject
    kinds = (x509.NameOID.COMMON_NAME, x509.NameOID.ORGANIZATION_NAME)
    return ", ".join(str(subject.get_attributes_for_oid(kind)[0].value) for kind in kinds)


def gaps(data: bytes) -> list[range]:
    """Where the containers stand, delimiters included."""
    return [range(int(a), int(b)) for a, b in re.findall(rb"/ByteRange \[0 (\d+) (\d+)", data)]


def flipped(data: bytes, at: int, mask: int) -> bytes:
    return data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :]


def test_one_signature_stands_and_every_sentence_is_there(signed: Signed) -> None:
    found = check_signatures(signed.one, [signed.developer])
    when = next(finding.sentence for finding in found if finding.name == "DeveloperSignature time")
    assert re.fullmatch(r"Signed on 20[-\d]{8} at [\d:]{8} UTC: claimed by the signer's clock, no timestamp\.", when)
    assert found == [
        ("signature", "ok", "The file carries 1 signature(s): DeveloperSignature."),
        ("ending", "ok", "Nothing was added after the last signature."),
        ("DeveloperSignature integrity", "ok", "The bytes are those that were signed (sha256)."),
        ("DeveloperSignature coverage", "ok", f"The signature covers the whole file, {len(signed.one)} bytes."),
        ("DeveloperSignature container", "ok", "The container of the signature holds nothing but what was verified."),
        ("DeveloperSignature signer", "ok", "Signed in the name of Dora Developer (test only, not trusted), Example."),
        ("DeveloperSignature time", "unknown", when),
        (
            "DeveloperSignature trust",
            "ok",
            f"The signer's certificate leads to {authority_name(signed.developer)}, which you trust; "
            "revocation was not looked up.",
        ),
    ]


def test_two_signatures_stand(signed: Signed) -> None:
    found = by_name(check_signatures(signed.two, [signed.developer + signed.auditor]))
    assert {finding.status for name, finding in found.items() if not name.endswith(" time")} == {"ok"}
    assert found["signature"].sentence == "The file carries 2 signature(s): DeveloperSignature, AuditorSignature."
    assert found["DeveloperSignature coverage"].sentence == (
        f"The signature covers the file as it was then, the first {len(signed.one)} of {len(signed.two)} bytes."
    )
    assert "Axel Auditor" in found["AuditorSignature signer"].sentence
    modifications = found["DeveloperSignature modifications"]
    assert (
        modifications.sentence
        == "After this signature nothing was added but later signatures, timestamps and revocation data."
    )


def test_without_trust_the_identity_is_unknown_and_nothing_fails(signed: Signed) -> None:
    found = by_name(check_signatures(signed.two, []))
    assert failed(list(found.values())) == []
    for name in ("DeveloperSignature trust", "AuditorSignature trust"):
        assert found[name].status == "unknown"
        assert found[name].sentence.startswith("Identity not checked, no --trust given")


def test_another_ca_fails_trust_and_only_trust(signed: Signed) -> None:
    assert failed(check_signatures(signed.one, [signed.auditor])) == ["DeveloperSignature trust"]
    found = check_signatures(signed.two, [signed.developer])
    assert failed(found) == ["AuditorSignature trust"]
    assert by_name(found)["DeveloperSignature modifications"].status == "ok"


@pytest.mark.parametrize(
    ("days", "words"), [(826, "certificate expired on 20"), (-1, "certificate holds only from 20")]
)
def test_a_certificate_out_of_its_time_fails_trust(signed: Signed, days: int, words: str) -> None:
    found = check_signatures(signed.one, [signed.developer], now=datetime.now(UTC) + timedelta(days=days))
    assert failed(found) == ["DeveloperSignature trust"]
    assert words in by_name(found)["DeveloperSignature trust"].sentence


@pytest.mark.parametrize("pem", [b"", b"rubbish", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_trust_that_is_no_certificate_is_refused(signed: Signed, pem: bytes) -> None:
    with pytest.raises(UsageError, match="trusted certificates: "):
        check_signatures(signed.one, [pem])


def test_an_unsigned_pdf_fails(signed: Signed) -> None:
    assert check_signatures(signed.plain, []) == [("signature", "failed", "The file carries no signature.")]


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"%PDF-1.7\nrubbish", b"x" * 2000])
def test_what_is_no_pdf_is_refused(data: bytes) -> None:
    with pytest.raises(UsageError, match="is no readable PDF"):
        check_signatures(data, [])


@pytest.mark.slow
@pytest.mark.parametrize("which", ["one", "two"])
def test_a_flipped_byte_is_noticed_wherever_it_is(signed: Signed, which: str) -> None:
    data: bytes = getattr(signed, which)
    chance = random.Random(20261121)
    inside = [at for gap in gaps(data) for at in gap]
    edges = [at + step for gap in gaps(data) for at in (gap.start, gap.stop - 1) for step in (-1, 0, 1)]
    places = [*edges, *chance.sample(inside, 80), *chance.sample(range(len(data)), 60)]
    for at in places:
        mask = chance.choice([0x01, 0x20, 0x80, chance.randrange(1, 256)])
        assert failed(check_signatures(flipped(data, at, mask), [])), f"byte {at} xor {mask:#x}"


def test_a_file_with_a_damaged_beginning_or_signature_dictionary_fails_and_is_not_called_no_pdf(
    signed: Signed,
) -> None:
    for word in (b"%PDF-", b"/ByteRange", b"/SubFilter", b"startxref", b"%%EOF", b"/XRef"):
        at = signed.one.rindex(word)
        for step in range(len(word)):
            assert failed(check_signatures(flipped(signed.one, at + step, 0x80), []))


@pytest.mark.slow
@pytest.mark.parametrize("signature", [0, 1])
def test_a_changed_container_is_noticed_in_each_of_its_parts(signed: Signed, signature: int) -> None:
    """Bits of the decoded container: every 61st byte, so the chain, the fields and the padding are all met."""
    gap = gaps(signed.two)[signature]
    for at in range(gap.start + 2, gap.stop - 1, 122):
        digit = int(chr(signed.two[at]), 16) ^ 1
        changed = signed.two[:at] + f"{digit:X}".encode() + signed.two[at + 1 :]
        assert failed(check_signatures(changed, [])), f"digit {at}"


@pytest.mark.parametrize("name", ["letter case", "other algorithm", "padding"])
def test_parts_of_the_container_that_viewers_ignore_are_held_fast(signed: Signed, name: str) -> None:
    gap = gaps(signed.one)[0]
    container = signed.one[gap.start : gap.stop]
    changed = {
        "letter case": container.replace(b"A", b"a", 1),
        # sha256WithRSAEncryption becomes rsaEncryption in the signer's part: same meaning, other bytes
        "other algorithm": b"2A864886F70D010101".join(container.rsplit(b"2A864886F70D01010B", 1)),
        "padding": container[:-2] + b"1>",
    }[name]
    assert changed != container
    data = signed.one[: gap.start] + changed + signed.one[gap.stop :]
    assert failed(check_signatures(data, [signed.developer])) == ["DeveloperSignature container"]


def test_a_certificate_too_many_is_noticed(signed: Signed) -> None:
    from asn1crypto import cms, pem
    from asn1crypto.x509 import Certificate

    gap = gaps(signed.one)[0]
    container = cms.ContentInfo.load(bytes.fromhex(signed.one[gap.start + 1 : gap.stop - 1].decode()))
    stranger = Certificate.load(pem.unarmor(signed.auditor)[2])
    container["content"]["certificates"].append(cms.CertificateChoices("certificate", stranger))
    written = container.dump(force=True).hex().upper().ljust(len(gap) - 2, "0").encode()
    data = signed.one[: gap.start + 1] + written + signed.one[gap.stop - 1 :]
    assert failed(check_signatures(data, [signed.developer])) == ["DeveloperSignature container"]


def drawn_over(data: bytes) -> bytes:
    """The file with an update after it that draws over page 1."""
    writer = IncrementalPdfFileWriter(io.BytesIO(data))
    stream = generic.StreamObject(stream_data=b"0 0 400 400 re f")
    writer.add_stream_to_page(0, writer.add_object(stream))
    output = io.BytesIO()
    writer.write(output)
    return output.getvalue()


def test_drawing_over_a_page_afterwards_is_noticed(signed: Signed) -> None:
    for data in (signed.one, signed.two):
        changed = drawn_over(data)
        found = by_name(check_signatures(changed, []))
        assert found["ending"].status == "failed"
        assert found["ending"].sentence == (
            f"{len(changed) - len(data)} bytes lie outside what the last signature covers: page 1 was changed."
        )
        assert signed_revision(changed) == signed.one


def test_drawing_over_a_page_before_the_second_signature_breaks_the_first(signed: Signed, tmp_path: Path) -> None:
    (tmp_path / "drawn.pdf").write_bytes(drawn_over(signed.one))
    key = signed.folder / "auditor" / "key.p12"
    sign_pdf(tmp_path / "drawn.pdf", key, tmp_path / "out.pdf", passphrase="p", role="auditor", reason="tricked")
    found = check_signatures((tmp_path / "out.pdf").read_bytes(), [signed.developer, signed.auditor])
    assert failed(found) == ["DeveloperSignature modifications"]
    assert by_name(found)["DeveloperSignature modifications"].sentence == (
        "After this signature more was changed than later signatures need: page 1 was changed."
    )


@pytest.mark.parametrize("junk", [b"x", b"\n", b"\n%%EOF\n", b"\0" * 1000])
def test_anything_after_the_end_is_noticed(signed: Signed, junk: bytes) -> None:
    for data in (signed.one, signed.two):
        assert failed(check_signatures(data + junk, [])) in (["ending"], ["signature"])


def test_a_file_cut_short_is_noticed(signed: Signed) -> None:
    for length in range(len(signed.plain) + 500, len(signed.two), 997):
        try:
            assert failed(check_signatures(signed.two[:length], [])), length
        except UsageError:  # nothing in it tells that it was to be signed
            assert b"/SubFilter" not in signed.two[:length]


def test_taking_the_second_signature_away_leaves_the_first_whole(signed: Signed) -> None:
    """Nothing in a PDF can show that something after it once was there; the ledger can."""
    assert failed(check_signatures(signed.two[: len(signed.one)], [signed.developer])) == []


def test_a_file_written_anew_is_noticed(signed: Signed) -> None:
    output = io.BytesIO()
    PdfWriter(clone_from=PdfReader(io.BytesIO(signed.one))).write(output)
    assert failed(check_signatures(output.getvalue(), []))


@pytest.mark.slow
def test_another_tools_timestamp_is_verified_though_not_each_byte_of_it(signed: Signed) -> None:
    from pyhanko.sign.signers import PdfSignatureMetadata, SimpleSigner
    from pyhanko.sign.signers import sign_pdf as sign_elsewhere

    office = Authority()
    signer = SimpleSigner.load_pkcs12(signed.folder / "auditor" / "key.p12", passphrase=b"p")
    writer = IncrementalPdfFileWriter(io.BytesIO(signed.plain))
    metadata = PdfSignatureMetadata(field_name="Other")
    data = sign_elsewhere(writer, metadata, signer, timestamper=office.stamper()).getvalue()
    found = by_name(check_signatures(data, [signed.auditor], stamp_trust=[office.pem]))
    assert failed(list(found.values())) == []
    assert found["Other time"].status == "ok"
    assert found["Other container"].status == "unknown"
    assert "made by another tool" in found["Other container"].sentence


def test_a_key_of_another_kind_without_its_ca_verifies(signed: Signed, tmp_path: Path) -> None:
    """An ECDSA key, its certificate issued by the developer's CA name but with nobody's key, and no chain."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Erna")])
    issuer = x509.load_pem_x509_certificate(signed.developer).subject
    key, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    start = datetime.now(UTC) - timedelta(hours=1)
    builder = x509.CertificateBuilder(issuer, name, key.public_key(), 1, start, start + timedelta(days=2))
    certificate = builder.sign(other, hashes.SHA256())
    encryption = BestAvailableEncryption(b"p")
    (tmp_path / "key.p12").write_bytes(serialize_key_and_certificates(None, key, certificate, None, encryption))
    sign_pdf(signed.folder / "plain.pdf", tmp_path / "key.p12", tmp_path / "a.pdf", passphrase="p", reason="r")
    data = (tmp_path / "a.pdf").read_bytes()
    assert failed(check_signatures(data, [])) == []
    assert by_name(check_signatures(data, []))["DeveloperSignature container"].status == "ok"
    assert failed(check_signatures(data, [signed.developer])) == ["DeveloperSignature trust"]
    gap = gaps(data)[0]
    for at in range(gap.start + 1, gap.stop - 1, 61):
        changed = data[:at] + f"{int(chr(data[at]), 16) ^ 1:X}".encode() + data[at + 1 :]
        assert failed(check_signatures(changed, [])), f"digit {at}"


def test_signed_revision_is_what_the_first_signer_saw(signed: Signed) -> None:
    assert signed_revision(signed.one) == signed.one
    assert signed_revision(signed.two) == signed.one
    for data in (signed.plain, b"", b"%PDF-1.7\nrubbish"):
        with pytest.raises(IntegrityError, match="what the signatures of the PDF cover cannot be told"):
            signed_revision(data)


def test_attachments_are_read_and_a_second_of_the_same_name_is_refused(signed: Signed) -> None:
    for data in (signed.plain, signed.one, signed.two):
        assert attachments(data) == {"assessment.json": ASSESSMENT}
    twice = [weasyprint.Attachment(string=text, name="a.json") for text in ("1", "2")]
    data = weasyprint.HTML(string="x").write_pdf(attachments=twice)
    with pytest.raises(IntegrityError, match=r"2 different attachments named 'a\.json'"):
        attachments(data)
    assert attachments(weasyprint.HTML(string="x").write_pdf()) == {}


@pytest.mark.parametrize("data", [b"", b"%PDF-1.7\nrubbish", b"\xff" * 5000])
def test_rubbish_has_no_attachments_and_no_text(data: bytes) -> None:
    with pytest.raises(IntegrityError, match="its attachments cannot be read"):
        attachments(data)
    with pytest.raises(IntegrityError, match="its text cannot be read"):
        page_text(data, [1])


def test_a_wrapped_digest_is_found_on_its_page_only(signed: Signed) -> None:
    assert DIGEST in page_text(signed.two, [1])
    assert page_text(signed.two, [2]) == "Secondpage"
    assert page_text(signed.two, [2, 1]).startswith("SecondpageReport")
    for number in (0, 3):
        with pytest.raises(IntegrityError, match=r"the PDF has 2 page\(s\)"):
            page_text(signed.two, [number])


def test_of_a_stream_with_many_objects_only_those_asked_for_are_parsed(
    signed: Signed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def parsed_whole(*arguments: object) -> None:
        raise AssertionError("pypdf parses all objects of a stream")

    assert "_get_object_from_stream" in vars(PdfReader)  # which is replaced
    monkeypatch.setattr(PdfReader, "_get_object_from_stream", parsed_whole)
    data = weasyprint.HTML(string="<html lang=en><title>T</title><h1>Report").write_pdf(
        pdf_variant="pdf/a-3a", attachments=[weasyprint.Attachment(string=ASSESSMENT, name="assessment.json")]
    )
    assert b"/ObjStm" in data
    assert attachments(data) == {"assessment.json": ASSESSMENT}
    assert page_text(data, [1]) == "Report"


@pytest.mark.slow
def test_a_long_tagged_report_with_two_signatures_takes_seconds(signed: Signed, tmp_path: Path) -> None:
    """PyHanko's comparison of all objects takes 20 s for the second; ours a tenth of one, so the bound is wide."""
    pages = "".join(f"<h1>{n}</h1>{'<p>word <b>word</b>' * 20}<p style='break-after: page'>" for n in range(30))
    path = tmp_path / "long.pdf"
    weasyprint.HTML(string=f"<html lang=en><title>T</title>{pages}").write_pdf(path, pdf_variant="pdf/ua-1")
    for role in ("developer", "auditor"):
        key = signed.folder / role / "key.p12"
        sign_pdf(path, key, path, passphrase="p", role=role, reason="long")  # type: ignore[arg-type]
        start = time.process_time()
        assert failed(check_signatures(path.read_bytes(), [signed.developer, signed.auditor])) == []
        assert time.process_time() - start < 3


def test_pyhanko_agrees_when_asked(signed: Signed, tmp_path: Path) -> None:
    found = by_name(check_signatures(signed.two, [], strict=True))
    assert found["DeveloperSignature second opinion"].status == "ok"
    (tmp_path / "drawn.pdf").write_bytes(drawn_over(signed.one))
    key = signed.folder / "auditor" / "key.p12"
    sign_pdf(tmp_path / "drawn.pdf", key, tmp_path / "out.pdf", passphrase="p", role="auditor", reason="tricked")
    signature = PdfFileReader(io.BytesIO((tmp_path / "out.pdf").read_bytes())).embedded_signatures[0]
    assert second_opinion(signature).status == "failed"
