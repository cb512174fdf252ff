"""Verification of reports and folders: one changed byte is found, and what cannot be known is not called ok."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from assessor.assessment import Assessment
from assessor.canonical import canonical_json
from assessor.contract import Better, Check, CheckInfo, Metric, Need, Params, Result, Subject, Task
from assessor.engine import Job, run_job, subject_record
from assessor.errors import UsageError
from assessor.findings import Finding
from assessor.keys import new_key
from assessor.model import Answer
from assessor.project import Project, now
from assessor.report import report_pdf
from assessor.signing import sign_pdf
from assessor.subjects import load_subject
from assessor.verify import verify

CONFIGURATION = b"""\
format: 1
catalog: {version: 1.1.0}
system: {name: Triage, version: "1"}
protection_needs: {reliability: {level: high, because: people wait}}
target: {task: binary, model: {predictions: p.csv}, data: {test: {label: y, prediction: p}}}
"""
PASSPHRASE = "secret"

INFO = CheckInfo(
    id="test.accuracy", version="1", title="Accuracy by hand", measures="Something.", unit="1",
    needs=frozenset({Need.TEST}), tasks=frozenset(Task), limits=("Few.",), remedy="Sort better.", source="nobody",
    requirements=("RE-R-SC-ME-05",),
)  # fmt: skip


def measure(subject: Subject, params: Params, seed: int) -> Result:
    value = float((subject.predictions("test") == subject.splits["test"].labels).mean())
    return Result(metrics=(Metric(name="accuracy", value=value, n=4, better=Better.HIGHER, method="by hand"),))


CHECK = Check(INFO, Params, measure)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    new_key(folder, name="Ada", organisation="ACME", passphrase=PASSPHRASE)
    return folder


def build(folder: Path, keys: Path) -> Path:
    """A small assessment with one result, one answer with evidence and one signed report."""
    (folder / "p.csv").write_text("y,p\n0,0\n1,1\n0,1\n1,1\n")
    project = Project.create(folder, {"assessor.yaml": CONFIGURATION}, actor="t", action="init")
    configuration = project.configuration()
    assert configuration.target is not None
    subject, kind, digest = load_subject(configuration.target, folder)
    project.save_run(
        run_job(Job(CHECK, Params(), None, 0, INFO.requirements), subject, subject_record(subject, kind, digest))
    )
    answer = Answer(value="fulfilled", because="tested", by="Ada", at=now())
    project.save_answer("RE-R-SC-ME-05", "RE-R-SC", answer, evidence={"protocol.md": b"tested on letters"})
    (folder / "reports").mkdir()
    report = folder / "reports" / "r.pdf"
    report.write_bytes(report_pdf(Assessment.read(project), {CHECK.id: CHECK}))
    sign_pdf(report, keys / "key.p12", report, passphrase=PASSPHRASE, role="developer", reason="made it")
    return folder


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Path:
    return build(tmp_path_factory.mktemp("original"), keys)


@pytest.fixture
def copy(original: Path, tmp_path: Path) -> Path:
    import shutil

    return Path(shutil.copytree(original, tmp_path / "copy"))


def failed(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.status == "failed"]


def test_report_and_folder_hold(original: Path, keys: Path) -> None:
    report = verify(original / "reports" / "r.pdf", trust=[keys / "ca.pem"])
    # the check of this test is installed nowhere, and the evidence lies in the folder
    other = {finding.name: finding.status for finding in report if finding.status != "ok"}
    assert other == {
        "DeveloperSignature time": "unknown",
        "checks": "unknown",
        "evidence": "withheld",
        "ledger head": "withheld",
    }
    folder = verify(original, trust=[keys / "ca.pem"])
    assert not failed(folder)
    assert "The report's 1 results are those of this folder." in [finding.sentence for finding in folder]


def test_without_trust_the_identity_is_unknown_and_never_ok(original: Path) -> None:
    statuses = {finding.status for finding in verify(original / "reports" / "r.pdf")}
    assert statuses == {"ok", "unknown", "withheld"}


@pytest.mark.slow
def test_any_byte_counts(original: Path, tmp_path: Path, keys: Path) -> None:
    """12 bytes anywhere, and 8 in the signature's own container, which no signature covers."""
    data = (original / "reports" / "r.pdf").read_bytes()
    rng = random.Random(0)
    start = data.rindex(b"/Contents <") + len(b"/Contents <")
    positions = rng.sample(range(len(data)), 12) + rng.sample(range(start, start + 8000), 8)
    path = tmp_path / "r.pdf"
    for position in positions:
        changed = bytearray(data)
        changed[position] ^= rng.choice((0x01, 0x20, 0x80))
        path.write_bytes(changed)
        try:
            assert failed(verify(path)), f"byte {position} of {len(data)}"
        except UsageError:
            assert position < 1024, f"byte {position}: not even a PDF any more"


def test_results_exchanged_inside_are_found(original: Path, tmp_path: Path) -> None:
    """An unsigned PDF with other results attached: the digest printed on the page gives it away."""
    import pypdf

    reader = pypdf.PdfReader(original / "reports" / "r.pdf")
    writer = pypdf.PdfWriter()
    for page in reader.pages:
        writer.add_page(page)
    record = json.loads(reader.attachments["assessment.json"][0])
    record["results"]["test.accuracy"]["result"]["metrics"][0]["value"] = 1.0
    writer.add_attachment("assessment.json", canonical_json(record))
    path = tmp_path / "forged.pdf"
    writer.write(path)
    sentences = {finding.name: finding.sentence for finding in failed(verify(path))}
    assert "but page one prints" in sentences["printed digest"]
    assert "test.accuracy" in sentences["results"]
    assert len(sentences) >= 3


def change(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x01
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("which", "words"),
    [
        (lambda f: next((f / "results").glob("*/*.json")), "was changed since it was recorded"),
        (lambda f: f / "results" / "index.json", "was changed since it was recorded"),
        (lambda f: next((f / "evidence").glob("*/*")), "was changed since it was recorded"),
        (lambda f: f / "ledger.jsonl", "ledger"),
        (lambda f: f / "reports" / "r.pdf", ""),
    ],
)
def test_a_changed_file_in_the_folder_is_found(copy: Path, which: Callable[[Path], Path], words: str) -> None:
    change(which(copy))
    found = failed(verify(copy))
    assert found
    assert any(words in finding.sentence for finding in found)


def test_a_ledger_with_its_end_cut_off_is_found_by_the_report(copy: Path) -> None:
    """A shorter chain is still a chain; the head that the signed report holds gives it away."""
    path = copy / "ledger.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]))
    sentences = [finding.sentence for finding in failed(verify(copy))]
    assert any("it was rewritten" in sentence for sentence in sentences)


def test_a_lost_line_feed_is_told_and_nothing_is_cut_off(copy: Path) -> None:
    path = copy / "ledger.jsonl"
    changed = path.read_bytes()[:-1] + b"\x0b"
    path.write_bytes(changed)
    assert any("cut off" in finding.sentence for finding in failed(verify(copy)))
    assert path.read_bytes() == changed


def test_a_hand_edit_is_unknown_until_recorded(copy: Path) -> None:
    path = copy / "assessor.yaml"
    path.write_text(path.read_text().replace("people wait", "people may wait"))
    findings = verify(copy)
    assert not failed(findings)
    (unknown,) = [finding for finding in findings if finding.name == "assessor.yaml"]
    assert unknown.status == "unknown"
    assert "by hand" in unknown.sentence


def test_a_foreign_result_is_found(copy: Path) -> None:
    source = next((copy / "results" / "test.accuracy").glob("*.json"))
    source.with_name("20260101T000000000000Z-00000000.json").write_bytes(source.read_bytes())
    assert "not written by this tool" in failed(verify(copy))[0].sentence


def test_a_result_that_is_gone_is_missed_by_ledger_and_report(copy: Path) -> None:
    next((copy / "results" / "test.accuracy").glob("*.json")).unlink()
    sentences = " ".join(finding.sentence for finding in failed(verify(copy)))
    assert "is gone since it was recorded" in sentences
    assert "missing: test.accuracy" in sentences


def test_unsigned_report_is_not_ok(original: Path, tmp_path: Path) -> None:
    report = report_pdf(Assessment.read(Project(original)), {})
    path = tmp_path / "unsigned.pdf"
    path.write_bytes(report)
    found = failed(verify(path))
    assert len(found) == 1
    assert "sign" in found[0].sentence


@pytest.mark.parametrize("content", [b"", b"no PDF", b"%PDF-1.7\n"])
def test_what_is_no_report_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "r.pdf"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="PDF"):
        verify(path)
    with pytest.raises(UsageError, match=r"r\.pdf: is no readable PDF: .*; wanted a report \(PDF\), an \.intoto\.json"):
        verify(path)


def test_a_trusted_certificate_that_is_none_is_told_with_its_name(original: Path, tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_bytes(b"no PEM")
    for more in ({"trust": [path]}, {"stamp_trust": [path]}):
        with pytest.raises(UsageError, match=r"ca\.pem: no readable PEM: .*; wanted certificates in PEM"):
            verify(original / "reports" / "r.pdf", **more)
    with pytest.raises(UsageError, match=r"absent: cannot read it: No such file"):
        verify(original / "reports" / "r.pdf", trust=[tmp_path / "absent"])
