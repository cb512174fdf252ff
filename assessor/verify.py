"""Verifying a report or a folder: what holds, what does not, what cannot be known here, one sentence each.

A part that cannot be checked is `unknown` and never `ok`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from assessor import ledger
from assessor.canonical import canonical_json, sha256_hex
from assessor.errors import IntegrityError, UsageError
from assessor.pdf_signatures import Finding, attachments, check_signatures, page_text
from assessor.project import Project
from assessor.report_content import ATTACHMENT

DIGEST = re.compile(r"[0-9a-f]{64}")


def verify(path: Path, *, trust: Sequence[Path] = ()) -> list[Finding]:
    """Verify a PDF report or an assessment folder.

    Args:
        path: The file or folder.
        trust: PEM files of authorities whose signatures count.

    Returns:
        Findings in the order they were made.

    Raises:
        UsageError: There is no such file, or it is neither a report nor a folder.
    """
    roots = [_read(root) for root in trust]
    if path.is_dir():
        return verify_folder(Project(path), roots)
    if not path.is_file():
        raise UsageError(f"{path}: no such file or folder")
    return verify_pdf(_read(path), roots)


def verify_pdf(data: bytes, roots: Sequence[bytes] = ()) -> list[Finding]:
    """Verify a report from its bytes alone.

    Args:
        data: The PDF.
        roots: PEM certificates of trusted authorities.

    Returns:
        Findings.

    Raises:
        UsageError: It is no PDF.
    """
    findings = list(check_signatures(data, list(roots)))
    content, finding = _embedded(data)
    findings.append(finding)
    if content is not None:
        findings.append(_printed_digest(data, sha256_hex(content)))
        findings += _inner_digests(json.loads(content))
    return findings


def _embedded(data: bytes) -> tuple[bytes | None, Finding]:
    name = "embedded results"
    try:
        content = attachments(data).get(ATTACHMENT)
    except IntegrityError as fault:
        return None, Finding(name, "failed", f"The attached files cannot be read: {fault}.")
    if content is None:
        return None, Finding(name, "failed", f"No {ATTACHMENT} is attached: this is no report of ai-assessor.")
    try:
        canonical = canonical_json(json.loads(content)) == content
    except ValueError:
        return None, Finding(name, "failed", f"{ATTACHMENT} is no JSON.")
    if not canonical:
        return None, Finding(name, "failed", f"{ATTACHMENT} is not in canonical form: it was not written by this tool.")
    return content, Finding(name, "ok", f"{ATTACHMENT} is attached, {len(content)} bytes of canonical JSON.")


def _printed_digest(data: bytes, digest: str) -> Finding:
    name = "printed digest"
    try:
        text = page_text(data, [1])
    except IntegrityError as fault:
        return Finding(name, "failed", f"Page one cannot be read: {fault}.")
    if digest in text:
        return Finding(name, "ok", f"The attached results have the digest printed on page one, {digest[:16]}…")
    printed = DIGEST.search(text)
    found = f"page one prints {printed.group()[:16]}…" if printed else "page one prints none"
    return Finding(name, "failed", f"The attached results have digest {digest[:16]}…, but {found}.")


def _inner_digests(record: Any) -> Iterable[Finding]:
    name = "results"
    try:
        results = {check: (item["sha256"], item["result"]) for check, item in record["results"].items()}
    except (TypeError, KeyError, AttributeError):
        yield Finding(name, "failed", "The attached results are not of a format this version knows.")
        return
    wrong = [check for check, (digest, result) in results.items() if sha256_hex(canonical_json(result)) != digest]
    if wrong:
        yield Finding(name, "failed", f"These results do not have the digest stated beside them: {', '.join(wrong)}.")
    else:
        yield Finding(name, "ok", f"{len(results)} results, each with the digest stated beside it.")


def verify_folder(project: Project, roots: Sequence[bytes] = ()) -> list[Finding]:
    """Verify a folder: ledger, files against it, reports and what they embed.

    Args:
        project: The folder.
        roots: PEM certificates of trusted authorities.

    Returns:
        Findings.
    """
    chain = project.ledger_bytes()
    findings: list[Finding] = []
    try:
        expected = ledger.expected_files(chain)
        size = chain.count(b"\n")
        findings.append(Finding("ledger", "ok", f"{size} lines, each follows the one before."))
    except IntegrityError as fault:
        return [Finding("ledger", "failed", str(fault)), *_reports(project, roots)]
    findings += _files(project, expected)
    return findings + _reports(project, roots)


def _ledger_of_report(project: Project, record: Any) -> Finding:
    """Whether the ledger as it was when the report was made is the beginning of the folder's: none was cut off."""
    name, stated = "ledger in the report", record.get("ledger", {})
    try:
        hashes = [ledger.START, *(entry.hash for entry in ledger.entries(project.ledger_bytes()))]
    except IntegrityError as fault:
        return Finding(name, "failed", f"{fault}.")
    size = stated.get("size")
    if not isinstance(size, int) or not 0 <= size < len(hashes) or hashes[size] != stated.get("head"):
        return Finding(name, "failed", "The report's ledger is not the beginning of this folder's: it was rewritten.")
    return Finding(name, "ok", f"The folder's ledger goes on from the {size} lines that the report states.")


def _files(project: Project, expected: dict[str, str | None]) -> list[Finding]:
    """Recorded files as they are now; what people may edit by hand is unknown, all else failed."""
    findings, intact = [], 0
    for name, digest in expected.items():
        path = project.folder / name
        now = sha256_hex(path.read_bytes()) if path.is_file() else None
        if now == digest:
            intact += 1
            continue
        what = "is gone" if now is None else "was changed"
        if name.startswith(("results/", "evidence/")):
            findings.append(Finding(name, "failed", f"{name} {what} since it was recorded."))
        else:
            findings.append(Finding(name, "unknown", f"{name} {what} by hand and the ledger does not know it."))
    unrecorded = _unrecorded(project, expected)
    findings += [
        Finding(name, "failed", f"{name} is not in the ledger: not written by this tool.") for name in unrecorded
    ]
    return [Finding("files", "ok", f"{intact} of {len(expected)} recorded files are as recorded."), *findings]


def _unrecorded(project: Project, expected: dict[str, str | None]) -> list[str]:
    found = sorted((project.folder / "results").rglob("*.json"))
    return [name for path in found if (name := path.relative_to(project.folder).as_posix()) not in expected]


def _reports(project: Project, roots: Sequence[bytes]) -> list[Finding]:
    findings = []
    for path in sorted((project.folder / "reports").glob("*.pdf")):
        data = path.read_bytes()
        prefix = f"reports/{path.name}"
        try:
            found = verify_pdf(data, roots)
        except UsageError as fault:
            found = [Finding("file", "failed", str(fault))]
        found += _same_results(project, data)
        findings += [Finding(f"{prefix} {item.name}", item.status, item.sentence) for item in found]
    return findings


def _same_results(project: Project, data: bytes) -> list[Finding]:
    """Whether the folder still has the very results a report embeds."""
    content, _ = _embedded(data)
    if content is None:
        return []
    name, missing, differing = "results in the folder", [], []
    record = json.loads(content)
    continued, results = _ledger_of_report(project, record), record.get("results", {})
    for check, item in results.items():
        path = project.folder / "results" / check / f"{item.get('run')}.json"
        if not path.is_file():
            missing.append(check)
        elif sha256_hex(path.read_bytes()) != item.get("sha256"):
            differing.append(check)
    if missing or differing:
        words = [f"missing: {', '.join(missing)}"] if missing else []
        words += [f"different: {', '.join(differing)}"] if differing else []
        sentence = f"The report's results are not those of this folder ({'; '.join(words)})."
        return [Finding(name, "failed", sentence), continued]
    return [Finding(name, "ok", f"The report's {len(results)} results are those of this folder."), continued]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as fault:
        raise UsageError(f"{path}: cannot read it: {fault.strerror}") from fault
