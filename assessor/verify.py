"""Verifying a report or a folder: what holds, what does not, what cannot be known here, one sentence each.

A part that cannot be checked is `unknown` and never `ok`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from assessor import ledger
from assessor.canonical import canonical_json, sha256_hex
from assessor.criteria import followed_catalog
from assessor.errors import IntegrityError, UsageError
from assessor.evidence import BROKEN, Standing
from assessor.evidence import check as look_again
from assessor.hand_edits import FIXED, RECORD, Difference, breaks, hand_edits
from assessor.pdf_signatures import Finding, attachments, check_signatures, page_text
from assessor.project import EVIDENCE, Project, now
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
        history = ledger.history(chain)
        findings.append(Finding("ledger", "ok", f"{history.size} lines, each follows the one before."))
    except IntegrityError as fault:
        return [Finding("ledger", "failed", str(fault)), *_reports(project, roots)]
    findings += _ledger_edits(history.edits)
    findings += _files(project, history.files)
    findings += _evidence(project, history.files)
    return findings + _reports(project, roots)


def _ledger_of_report(project: Project, record: Any) -> Finding:
    """Whether the ledger as it was when the report was made is the beginning of the folder's: none was cut off."""
    name = "ledger in the report"
    try:
        stated = record["ledger"]
        begun = ledger.beginning(project.ledger_bytes(), int(stated["size"]))
        found = None if begun is None else ledger.tree_head(begun)._asdict()
        if begun and found and "root" not in stated:  # by an earlier version: the chain links head and lines
            found = {"size": ledger.history(begun).size, "head": found["head"]}
    except (TypeError, KeyError, ValueError):
        return Finding(name, "failed", "The report does not state a ledger in a form that this version knows.")
    except IntegrityError as fault:
        return Finding(name, "failed", f"{fault}.")
    if found is None or any(stated.get(key) != value for key, value in found.items()):
        return Finding(name, "failed", "The report's ledger is not the beginning of this folder's: it was rewritten.")
    return Finding(name, "ok", f"The folder's ledger goes on from the {stated['size']} lines that the report states.")


def _ledger_edits(edits: Sequence[ledger.Edit]) -> Iterable[Finding]:
    """Hand edits that were never recorded: a line tells of them by the digest that it found."""
    for edit in edits:
        if edit.name.startswith(FIXED):
            sentence = f"{edit.name} was changed by hand before line {edit.line} of the ledger; nobody may edit it."
            yield Finding(edit.name, "failed", sentence)
    if names := dict.fromkeys(edit.name for edit in edits if not edit.name.startswith(FIXED)):
        sentence = f"The ledger tells of hand edits that nobody gave a reason for, of {', '.join(names)}."
        yield Finding("earlier hand edits", "ok", sentence)


def _files(project: Project, recorded: Mapping[str, str | None]) -> list[Finding]:
    """Recorded files as they are now; what people may edit by hand is unknown, all else failed."""
    broken, edited = breaks(project, recorded), hand_edits(project, recorded)
    intact = len(recorded) - sum(item.name in recorded for item in (*broken, *edited))
    return [
        Finding("files", "ok", f"{intact} of {len(recorded)} recorded files are as recorded."),
        *(Finding(item.name, "failed", _broken(item)) for item in broken),
        *(Finding(item.name, "unknown", _edited(item)) for item in edited),
    ]


EVIDENCE_STATUS: Mapping[Standing, Literal["ok", "failed", "unknown", "withheld"]] = {
    "intact": "ok",
    "missing": "failed",
    "changed": "failed",
    "elsewhere": "unknown",
    "expired": "unknown",
    "orphaned": "unknown",
    "withheld": "withheld",
}


def _evidence(project: Project, recorded: Mapping[str, str | None]) -> Iterable[Finding]:
    """What the ledger's digests do not tell of evidence: expired, kept elsewhere, withheld, named by nobody."""
    if not (project.folder / EVIDENCE).is_file() and not (project.folder / "evidence").is_dir():
        return
    try:
        found = list(look_again(project, followed_catalog(project.configuration()), now().date()))
    except UsageError as fault:
        yield Finding("evidence", "unknown", f"The evidence cannot be looked at: {fault}.")
        return
    intact = sum(item.standing == "intact" for item in found)
    looked_at = len({(item.id, item.name) for item in found})
    yield Finding("evidence", "ok", f"{intact} of {looked_at} pieces of evidence have their digest.")
    for item in found:
        name = f"evidence/{item.id}/{item.name}"
        broken = item.standing in BROKEN and name in recorded and project.digest(name) != recorded[name]
        if item.standing != "intact" and not broken:  # what is broken was told with the recorded files
            yield Finding(name, EVIDENCE_STATUS[item.standing], item.sentence)


def _broken(item: Difference) -> str:
    if item.recorded is None:
        return f"{item.name} is not in the ledger: not written by this tool."
    if item.found is None:
        return f"{item.name} is gone since it was recorded."
    return f"{item.name} was changed since it was recorded."


def _edited(item: Difference) -> str:
    if item.recorded is None:
        return f"{item.name} was made by hand; record it with  {RECORD}"
    if item.found is None:
        return f"{item.name} was removed by hand; record it with  {RECORD}"
    return f"{item.name} was edited by hand; record it with  {RECORD}"


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
