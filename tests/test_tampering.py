"""What is done to signed reports and envelopes, and what `assessor verify` says of it: docs/tampering.md.

`python -m tests.test_tampering` writes the page anew.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from pyhanko.pdf_utils import generic
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pypdf import PdfReader, PdfWriter

from assessor.attestation import attest, countersign, verify_envelope
from assessor.canonical import canonical_json
from assessor.findings import Finding
from assessor.keys import new_key
from assessor.pdf_signatures import check_signatures
from assessor.signing import Level, Proof, sign_pdf
from assessor.verify import Trusted, verify_pdf
from tests.authority import Authority, serving
from tests.test_attestation import RECORD

weasyprint = pytest.importorskip("weasyprint")
PAGE = Path(__file__).parents[1] / "docs" / "tampering.md"
HOLDS = "holds"


class Desk(NamedTuple):
    """Everything an attacker may have, but the two keys' passphrases."""

    folder: Path
    office: Authority
    plain: bytes
    one: bytes
    """Signed by the developer, with a timestamp."""
    two: bytes
    """Then by the auditor, with revocation data and a timestamp over all."""
    bare: bytes
    """Signed by the developer, without timestamp."""
    envelope: dict[str, Any]

    def key(self, who: str) -> Path:
        return self.folder / who / "key.p12"

    def ca(self, who: str) -> bytes:
        return (self.folder / who / "ca.pem").read_bytes()

    def signed(self, data: bytes, who: str, role: str, proof: Proof | None = None) -> bytes:
        source, target = self.folder / "in.pdf", self.folder / "out.pdf"
        source.write_bytes(data)
        sign_pdf(source, self.key(who), target, passphrase="p", role=role, reason="r", proof=proof)  # type: ignore[arg-type]
        return target.read_bytes()

    def verify(self, data: bytes, **more: Any) -> list[Finding]:
        roots = [self.ca("developer"), self.ca("auditor")]
        if more:
            return check_signatures(data, roots, stamp_trust=[self.office.pem], **more)
        return verify_pdf(data, Trusted(roots, [self.office.pem]))

    def verify_json(self, content: bytes) -> list[Finding]:
        path = self.folder / "case.intoto.json"
        path.write_bytes(content)
        trust = [self.folder / who / "ca.pem" for who in ("developer", "auditor")]
        return verify_envelope(path, self.folder / "report.pdf", trust=trust, stamp_trust=[self.folder / "tsa.pem"])


def prepared(folder: Path) -> Iterator[Desk]:
    office = Authority()
    (folder / "tsa.pem").write_bytes(office.pem)
    (folder / "tsa.crl").write_bytes(office.crl)
    for who, name in {"developer": "Dora", "auditor": "Axel", "stranger": "Dora"}.items():
        new_key(folder / who, name=name, organisation="Example", passphrase="p")
    results = canonical_json(RECORD)
    html = f"<html lang=en><title>T</title><h1>Report</h1><p>{hashlib.sha256(results).hexdigest()}</p><p>Passed.</p>"
    attached = weasyprint.Attachment(string=results, name="assessment.json")
    plain = weasyprint.HTML(string=html).write_pdf(attachments=[attached])
    with serving(office.answer) as url:
        desk = Desk(folder, office, plain, b"", b"", b"", {})
        one = desk.signed(plain, "developer", "developer", Proof(url))
        lists = [folder / "auditor" / "ca.crl", folder / "tsa.crl"]
        proof = Proof(url, Level.LTA, [folder / "auditor" / "ca.pem"], [folder / "tsa.pem"], lists)
        two = desk.signed(one, "auditor", "auditor", proof)
        (folder / "report.pdf").write_bytes(two)
        envelope = folder / "report.intoto.json"
        attest(folder / "report.pdf", desk.key("developer"), envelope, passphrase="p", proof=Proof(url))
        countersign(envelope, desk.key("auditor"), envelope, passphrase="p", proof=Proof(url))
        bare = desk.signed(plain, "developer", "developer")
        yield desk._replace(one=one, two=two, bare=bare, envelope=json.loads(envelope.read_bytes()))


def flipped(data: bytes, at: int, mask: int = 1) -> bytes:
    return data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :]


def gap(data: bytes, number: int) -> range:
    start, end = [(int(a), int(b)) for a, b in re.findall(rb"/ByteRange \[0 (\d+) (\d+)", data)][number]
    return range(start + 1, end - 1)


def bent(data: bytes) -> bytes:
    """One bit of the value of a signature without timestamp: the last thing in its container, before the padding."""
    place = gap(data, 0)
    at = place.start + len(data[place.start : place.stop].rstrip(b"0")) - 100
    return data[:at] + f"{int(chr(data[at]), 16) ^ 1:X}".encode() + data[at + 1 :]


def in_container(data: bytes, number: int, old: bytes, new: bytes) -> bytes:
    """Hexadecimal text in the gap of one signature exchanged."""
    place = gap(data, number)
    content = data[place.start : place.stop]
    assert content.count(old) >= 1, old
    return data[: place.start] + content.replace(old, new, 1) + data[place.stop :]


def updated(data: bytes, change: Callable[[IncrementalPdfFileWriter], None]) -> bytes:
    writer = IncrementalPdfFileWriter(io.BytesIO(data))
    change(writer)
    output = io.BytesIO()
    writer.write(output)
    return output.getvalue()


def draw(writer: IncrementalPdfFileWriter) -> None:
    stream = generic.StreamObject(stream_data=b"0 0 400 400 re f")
    writer.add_stream_to_page(0, writer.add_object(stream))


def note(writer: IncrementalPdfFileWriter) -> None:
    box = generic.ArrayObject([generic.NumberObject(number) for number in (0, 0, 300, 300)])
    entries = {"/Type": "/Annot", "/Subtype": "/FreeText"}
    annotation = {generic.pdf_name(name): generic.pdf_name(value) for name, value in entries.items()}
    page = writer.root["/Pages"]["/Kids"][0]
    added = writer.add_object(generic.DictionaryObject({**annotation, generic.pdf_name("/Rect"): box}))
    page["/Annots"] = generic.ArrayObject([*page["/Annots"], added])
    writer.update_container(page)


def action(writer: IncrementalPdfFileWriter) -> None:
    script = {"/S": generic.pdf_name("/JavaScript"), "/JS": generic.pdf_string("app.alert(1)")}
    writer.root["/OpenAction"] = generic.DictionaryObject({generic.pdf_name(name): one for name, one in script.items()})
    writer.update_root()


def retitle(writer: IncrementalPdfFileWriter) -> None:
    writer.set_info(generic.DictionaryObject({generic.pdf_name("/Title"): generic.pdf_string("Certificate")}))


def more_fields(writer: IncrementalPdfFileWriter) -> None:
    from pyhanko.sign.fields import SigFieldSpec, append_signature_field

    append_signature_field(writer, SigFieldSpec("Guest"))


def exchange_results(writer: IncrementalPdfFileWriter) -> None:
    files = writer.root["/Names"]["/EmbeddedFiles"]["/Names"]
    stream = files[1]["/EF"]["/F"]
    stream._data, stream._encoded_data = canonical_json({**RECORD, "format": 2}), None
    writer.update_container(stream)


def store(*contents: bytes) -> Callable[[IncrementalPdfFileWriter], None]:
    def change(writer: IncrementalPdfFileWriter) -> None:
        blobs = [writer.add_object(generic.StreamObject(stream_data=content)) for content in contents]
        found = generic.DictionaryObject({generic.pdf_name("/CRLs"): generic.ArrayObject(blobs)})
        writer.root["/DSS"] = writer.add_object(found)
        writer.update_root()

    return change


def resaved(data: bytes) -> bytes:
    output = io.BytesIO()
    PdfWriter(clone_from=PdfReader(io.BytesIO(data))).write(output)
    return output.getvalue()


def forged(desk: Desk) -> bytes:
    """Not signed at all, and other results inside than the page says."""
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(desk.plain)))
    writer.add_attachment("assessment.json", canonical_json({**RECORD, "format": 2}))
    output = io.BytesIO()
    writer.write(output)
    return output.getvalue()


def stamp_of_another(desk: Desk) -> bytes:
    """The timestamp beside the developer's signature exchanged for one over something else, of the same authority."""
    from asn1crypto import tsp

    from assessor.pdf_container import loaded, rebuilt, tidied

    place = gap(desk.one, 0)
    container = loaded(bytes.fromhex(desk.one[place.start : place.stop].decode()))
    imprint = {"hash_algorithm": {"algorithm": "sha256"}, "hashed_message": hashlib.sha256(b"other").digest()}
    request = tsp.TimeStampReq({"version": 1, "message_imprint": imprint, "cert_req": True})
    token = tidied(tsp.TimeStampResp.load(desk.office.answer(request))["time_stamp_token"])
    (info,) = container["content"]["signer_infos"]
    info["unsigned_attrs"][0]["values"] = [token]
    written = rebuilt(loaded(container.dump(force=True))).hex().encode().ljust(len(place), b"0")
    return desk.one[: place.start] + written + desk.one[place.stop :]


def changed_statement(desk: Desk, change: Callable[[Any], None]) -> bytes:
    said = json.loads(base64.b64decode(desk.envelope["payload"]))
    change(said)
    return canonical_json({**desk.envelope, "payload": base64.b64encode(canonical_json(said)).decode()})


def with_signatures(desk: Desk, *signatures: dict[str, Any]) -> bytes:
    return canonical_json({**desk.envelope, "signatures": list(signatures)})


def strange_envelope(desk: Desk) -> bytes:
    path = desk.folder / "strange.intoto.json"
    path.unlink(missing_ok=True)
    attest(desk.folder / "report.pdf", desk.key("stranger"), path, passphrase="p")
    return path.read_bytes()


def later(**more: int) -> datetime:
    return datetime.now(UTC) + timedelta(**more)


Case = tuple[str, Callable[[Desk], list[Finding]], str]
"""What is done, what verify finds, and the name of the first finding that must fail."""

DEVELOPER, AUDITOR = "DeveloperSignature", "AuditorSignature"
PDF: list[Case] = [
    ("nothing", lambda d: d.verify(d.two), HOLDS),
    ("one bit of a page", lambda d: d.verify(flipped(d.two, d.two.index(b"stream\nx") + 40)), f"{DEVELOPER} integrity"),
    ("one bit of the reason for signing", lambda d: d.verify(flipped(d.two, d.two.index(b"/Reason (") + 9)),
     f"{DEVELOPER} integrity"),
    ("one bit of the signature itself", lambda d: d.verify(bent(d.bare)), "integrity"),
    ("a digit in the padding behind a signature", lambda d: d.verify(flipped(d.one, gap(d.one, 0).stop - 2)),
     f"{DEVELOPER} container"),
    ("letters of the container in another case",
     lambda d: d.verify(in_container(d.one, 0, b"A", b"a")), f"{DEVELOPER} container"),
    ("the numbers of the bytes that a signature covers",
     lambda d: d.verify(d.one.replace(b"/ByteRange [0 ", b"/ByteRange [9 ")), "ending"),
    ("the kind of the last signature, so that readers skip it",
     lambda d: d.verify(b"/SubFilter /ETSI.RFC3162".join(d.two.rsplit(b"/SubFilter /ETSI.RFC3161", 1))), "signature"),
    ("a box drawn over page one, appended", lambda d: d.verify(updated(d.two, draw)), "ending"),
    ("a box drawn over page one before the auditor signed",
     lambda d: d.verify(d.signed(updated(d.one, draw), "auditor", "auditor")), f"{DEVELOPER} modifications"),
    ("a note laid upon page one, appended", lambda d: d.verify(updated(d.two, note)), "ending"),
    ("a script that runs when the file is opened, appended", lambda d: d.verify(updated(d.two, action)), "ending"),
    ("another title, appended", lambda d: d.verify(updated(d.two, retitle)), "ending"),
    ("one more signature field, appended", lambda d: d.verify(updated(d.two, more_fields)), "ending"),
    ("other results attached, appended", lambda d: d.verify(updated(d.two, exchange_results)), "ending"),
    ("other results attached before the auditor signed",
     lambda d: d.verify(d.signed(updated(d.one, exchange_results), "auditor", "auditor")),
     f"{DEVELOPER} modifications"),
    ("a line feed after the end", lambda d: d.verify(d.two + b"\n"), "ending"),
    ("a second file after the end", lambda d: d.verify(d.two + d.plain), "signature"),
    ("a comment hidden between appended objects",
     lambda d: d.verify(d.two.replace(b"endobj\n", b"endobj\n%x\n")), "signature"),
    ("something that is no revocation list appended as one", lambda d: d.verify(updated(d.two, store(b"x"))), "ending"),
    ("saved anew by another program", lambda d: d.verify(resaved(d.two)), "ending"),
    ("not signed, other results than the page says", lambda d: d.verify(forged(d)), "signature"),
    ("signed by a stranger under the developer's name",
     lambda d: d.verify(d.signed(d.plain, "stranger", "developer")), f"{DEVELOPER} trust"),
    ("the certificate expired, no timestamp", lambda d: d.verify(d.bare, now=later(days=900)), f"{DEVELOPER} trust"),
    ("the certificate expired after a timestamp", lambda d: d.verify(d.one, now=later(days=900)), HOLDS),
    ("the timestamp exchanged for one over something else",
     lambda d: d.verify(stamp_of_another(d)), f"{DEVELOPER} time"),
    ("a digit in the padding behind the document's timestamp",
     lambda d: d.verify(flipped(d.two, gap(d.two, 2).stop - 2)), "container"),
    ("a version number in the document's timestamp, which nothing covers",
     lambda d: d.verify(in_container(d.two, 2, b"02010130", b"02010230")), "container"),
    ("a timestamp of an authority that is not trusted",
     lambda d: check_signatures(d.one, [d.ca("developer")], stamp_trust=[Authority().pem]), f"{DEVELOPER} time"),
    ("the auditor's signature and all after it cut off", lambda d: d.verify(d.two[: len(d.one)]), HOLDS),
]  # fmt: skip
ENVELOPE: list[Case] = [
    ("nothing", lambda d: d.verify_json(canonical_json(d.envelope)), HOLDS),
    ("the size of the ledger in the statement",
     lambda d: d.verify_json(changed_statement(d, lambda said: said["predicate"]["ledger"].update(size=2))),
     "signature 1 integrity"),
    ("another report named in the statement",
     lambda d: d.verify_json(changed_statement(d, lambda s: s["subject"][0]["digest"].update(sha256="0" * 64))),
     "signature 1 integrity"),
    ("one piece of evidence left out of the statement",
     lambda d: d.verify_json(changed_statement(d, lambda said: said["predicate"]["evidence"].clear())),
     "signature 1 integrity"),
    ("a statement of another kind",
     lambda d: d.verify_json(changed_statement(d, lambda said: said.update(predicateType="x"))), "envelope"),
    ("a space in the envelope",
     lambda d: d.verify_json(canonical_json(d.envelope).replace(b":", b": ", 1)), "envelope"),
    ("another type of payload",
     lambda d: d.verify_json(canonical_json({**d.envelope, "payloadType": "x"})), "envelope"),
    ("the auditor's certificate beside the developer's signature",
     lambda d: d.verify_json(with_signatures(d, {**d.envelope["signatures"][0],
         "certificates": d.envelope["signatures"][1]["certificates"],
         "keyid": d.envelope["signatures"][1]["keyid"]})), "signature 1 integrity"),
    ("the auditor's timestamp beside the developer's signature",
     lambda d: d.verify_json(with_signatures(d, {**d.envelope["signatures"][0],
         "timestamp": d.envelope["signatures"][1]["timestamp"]})), "signature 1 time"),
    ("signed by a stranger under the developer's name",
     lambda d: d.verify_json(strange_envelope(d)), "signature 1 trust"),
    ("all signatures taken away", lambda d: d.verify_json(with_signatures(d)), "envelope"),
    ("the auditor's signature taken away",
     lambda d: d.verify_json(with_signatures(d, d.envelope["signatures"][0])), HOLDS),
]  # fmt: skip


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    yield from prepared(tmp_path_factory.mktemp("desk"))


def broken(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.status == "failed"]


@pytest.mark.slow
@pytest.mark.parametrize("case", [*PDF, *ENVELOPE], ids=lambda case: case[0])
def test_what_was_done_is_found_where_it_was_done(desk: Desk, case: Case) -> None:
    found = broken(case[1](desk))
    assert bool(found) == (case[2] != HOLDS), found
    assert not found or found[0].name.endswith(case[2]), found


def rows(desk: Desk, cases: list[Case]) -> list[str]:
    said = []
    for what, findings, _ in cases:
        found = broken(findings(desk))
        told = f"`{found[0].name}`: {found[0].sentence}" if found else "holds"
        said.append(f"| {what} | {measureless(told)} |")
    return said


def measureless(sentence: str) -> str:
    """A sentence without what differs from run to run."""
    for pattern, word in {
        r"20\d\d-\d\d-\d\d": "DATE",
        r"at \d\d:\d\d:\d\d UTC": "TIME",
        r"\d+(?= bytes)": "N",
        r"byte range [\d ]+": "byte range N",
        r"object \d+": "object N",
        r"digest [0-9a-f]{16}": "digest D",
        r"prints [0-9a-f]{16}": "prints D",
        r"(?<=ai-assessor CA )[0-9a-f]{8} \(test only, not trusted\),": "D,",
        r"Unexpected byte .*": "…",
    }.items():
        sentence = re.sub(pattern, word, sentence)
    return sentence.replace("|", "\\|")


def page(desk: Desk) -> str:
    return "\n".join(
        [
            "# What is found when a signed report is changed",
            "",
            "Each row was done to a report that the developer signed with a timestamp (B-T) and the auditor with",
            "proof for the archive (B-LTA), or to the signed statement on it, and `assessor verify` was asked, with",
            "`--trust` and `--tsa-trust`. The first finding that failed is shown; N, D, DATE and TIME stand for",
            "numbers, digests, days and times. Written by `python -m tests.test_tampering`; a test holds it current.",
            "",
            "## The report (PDF)",
            "",
            "| what was changed | what verify says |",
            "|---|---|",
            *rows(desk, PDF),
            "",
            "Nothing in a file can show that something behind it was cut off: where the last row matters, ask for the",
            "signed statement, or compare with the ledger's folder.",
            "",
            "## The statement (.intoto.json)",
            "",
            "| what was changed | what verify says |",
            "|---|---|",
            *rows(desk, ENVELOPE),
            "",
        ]
    )


@pytest.mark.slow
def test_the_page_is_current(desk: Desk) -> None:
    assert PAGE.read_text("utf-8") == page(desk), "write it anew with  python -m tests.test_tampering"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        for found in prepared(Path(temporary)):
            PAGE.write_text(page(found), "utf-8")
