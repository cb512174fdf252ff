"""Verifying a report or a folder: what holds, what does not, what cannot be known here, one sentence each.

A part that cannot be checked is `unknown` and never `ok`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from assessor import ledger
from assessor.attestation import evidence_in, is_envelope, verify_envelope
from assessor.canonical import canonical_json, sha256_hex
from assessor.certificates import read_certificates
from assessor.criteria import followed_catalog, load_catalog
from assessor.errors import IntegrityError, UsageError
from assessor.evidence import BROKEN, Standing
from assessor.evidence import check as look_again
from assessor.findings import Finding
from assessor.hand_edits import FIXED, RECORD, Difference, breaks, hand_edits
from assessor.ledger_proofs import Tree, check_proof, is_proof
from assessor.pdf_content import attachments, page_text
from assessor.pdf_signatures import check_signatures
from assessor.project import EVIDENCE, Project, now
from assessor.registry import load_checks
from assessor.report_content import ATTACHMENT
from assessor.signers import require_libraries

DIGEST = re.compile(r"[0-9a-f]{64}")
RERUN = "rerun.json"
"""What is attached to a report of `rerun`."""


class Trusted(NamedTuple):
    """Whose word counts, certificates in PEM.

    Attributes:
        signers: Authorities that signers' certificates lead to.
        stampers: Authorities that timestamps' certificates lead to; empty for the same.
        strict: Whether pyHanko shall compare all objects of the revisions too.
    """

    signers: Sequence[bytes] = ()
    stampers: Sequence[bytes] = ()
    strict: bool = False


NOBODY = Trusted()


def verify(
    path: Path,
    *,
    trust: Sequence[Path] = (),
    stamp_trust: Sequence[Path] = (),
    strict: bool = False,
    file: Path | None = None,
) -> list[Finding]:
    """Verify a PDF report, its envelope (.intoto.json), a proof on a ledger or an assessment folder.

    Args:
        path: The file or folder.
        trust: PEM files of authorities whose signatures count.
        stamp_trust: PEM files of authorities whose timestamps count; default those of `trust`.
        strict: Have pyHanko compare all objects too, half a minute for a long report.
        file: What an envelope speaks of, default what lies beside it; for a folder or a proof, what states the
            ledger that they have to go with.

    Returns:
        Findings in the order they were made.

    Raises:
        UsageError: There is no such file, or it is none of these.
    """
    trusted = Trusted([_certificates(one) for one in trust], [_certificates(one) for one in stamp_trust], strict)
    if path.is_dir():
        findings = verify_folder(Project(path), trusted)
        return findings if file is None else [*findings, _ledger_of_report(Project(path), _stated_ledger(file))]
    if not path.is_file():
        raise UsageError(f"{path}: no such file or folder")
    if is_envelope(path):
        return verify_envelope(path, file, trust=trust, stamp_trust=stamp_trust)
    content = _read(path)
    if is_proof(content):
        return check_proof(content, None if file is None else _tree(file))
    try:
        return verify_pdf(content, trusted)
    except UsageError as fault:
        raise UsageError(f"{path}: {fault}; wanted a report (PDF), an .intoto.json, a proof or a folder") from fault


def verify_pdf(data: bytes, trusted: Trusted = NOBODY) -> list[Finding]:
    """Verify a report from its bytes alone.

    Args:
        data: The PDF.
        trusted: Whose word counts.

    Returns:
        Findings.

    Raises:
        UsageError: It is no PDF.
    """
    findings = check_signatures(data, trusted.signers, stamp_trust=trusted.stampers, strict=trusted.strict)
    name, content, finding = _embedded(data)
    findings.append(finding)
    if content is not None:
        findings.append(_printed_digest(data, sha256_hex(content)))
        findings += verify_results(content) if name == ATTACHMENT else [_measured_again(content)]
    return findings


def _measured_again(content: bytes) -> Finding:
    """What a report of `rerun` says."""
    try:
        record = json.loads(content)
        held, source = [check["held"] for check in record["checks"]], record["source"]
        sentence = (
            f"Says that {held.count(True)} of {len(held)} checks of report {source['report']} held when they were "
            f"measured again; that report has record {source['record_sha256'][:16]}…"
        )
    except (TypeError, KeyError, AttributeError):
        return Finding("rerun", "failed", "The attached record of a rerun is not of a format this version knows.")
    return Finding("rerun", "ok", sentence)


def verify_results(content: bytes) -> list[Finding]:
    """Verify results from their bytes alone: what they state of themselves, and what is known of it here.

    Args:
        content: The results as they are attached to a report.

    Returns:
        Findings.
    """
    record = json.loads(content)
    findings = list(_inner_digests(record))
    if any(finding.status == "failed" for finding in findings):
        return findings
    try:
        return [*findings, *_known_here(record), *_kept_elsewhere(record)]
    except (TypeError, KeyError, AttributeError, ValueError):
        return [*findings, Finding("record", "unknown", "What the results rest on is not told in a way known here.")]


def _known_here(record: Any) -> Iterable[Finding]:
    """Whether this installation has the catalog and the checks that the results rest on."""
    stated = record["catalog"]
    named = f"{stated['id']} {stated['version']}"
    try:
        catalog = load_catalog(packs=stated["packs"])
    except UsageError:
        catalog = None
    if catalog is not None and catalog.sha256 == stated["sha256"]:
        yield Finding("catalog", "ok", f"The catalog {named} is the one installed here, by its digest.")
    else:
        yield Finding(
            "catalog", "unknown", f"The catalog {named} is not the one installed here: it cannot be compared."
        )
    installed = {name: check.info.version for name, check in load_checks().items()}
    used = {name: item["result"]["check_version"] for name, item in record["results"].items()}
    other = [f"{name} {version}" for name, version in used.items() if installed.get(name) != version]
    if other:
        yield Finding("checks", "unknown", f"These checks are not installed here in that version: {', '.join(other)}.")
    else:
        yield Finding("checks", "ok", f"All {len(used)} checks are installed here in the same version.")


def _kept_elsewhere(record: Any) -> Iterable[Finding]:
    """What the results name by digest and do not hold."""
    if pieces := evidence_in(record):
        sentence = f"{len(pieces)} pieces of evidence are named by their digests and are not in this file."
        yield Finding("evidence", "withheld", sentence)
    size, head = record["ledger"]["size"], record["ledger"]["head"]
    sentence = f"States a ledger of {size} lines with head {head[:16]}…; only the folder shows that it goes on from it."
    yield Finding("ledger head", "withheld", sentence)


def _embedded(data: bytes) -> tuple[str, bytes | None, Finding]:
    """Name and content of the attached record, and what is to be said of it."""
    title = "embedded results"
    try:
        attached = attachments(data)
    except IntegrityError as fault:
        return "", None, Finding(title, "failed", f"The attached files cannot be read: {fault}.")
    name = next((one for one in (ATTACHMENT, RERUN) if one in attached), "")
    if not name:
        sentence = f"No {ATTACHMENT} is attached: this is no report of ai-assessor."
        return name, None, Finding(title, "failed", sentence)
    content = attached[name]
    try:
        canonical = canonical_json(json.loads(content)) == content
    except (ValueError, RecursionError):
        return name, None, Finding(title, "failed", f"{name} is no JSON.")
    if not canonical:
        sentence = f"{name} is not in canonical form: it was not written by this tool."
        return name, None, Finding(title, "failed", sentence)
    return name, content, Finding(title, "ok", f"{name} is attached, {len(content)} bytes of canonical JSON.")


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


def verify_folder(project: Project, trusted: Trusted = NOBODY) -> list[Finding]:
    """Verify a folder: ledger, files against it, reports and what they embed.

    Args:
        project: The folder.
        trusted: Whose word counts.

    Returns:
        Findings.
    """
    chain = project.ledger_bytes()
    findings: list[Finding] = []
    try:
        history = ledger.history(chain)
        findings.append(Finding("ledger", "ok", f"{history.size} lines, each follows the one before."))
    except IntegrityError as fault:
        return [Finding("ledger", "failed", str(fault)), *_reports(project, trusted)]
    findings += _ledger_edits(history.edits)
    findings += _files(project, history.files)
    findings += _evidence(project, history.files)
    return findings + _reports(project, trusted)


def _ledger_of_report(project: Project, stated: Any) -> Finding:
    """Whether the ledger as it was when the report was made is the beginning of the folder's: none was cut off."""
    name = "ledger in the report"
    try:
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


def _stated_ledger(path: Path) -> Any:
    """The ledger that a report states, or what `assessor ledger head --json` printed."""
    content: bytes | None = _read(path)
    try:
        if content and content.startswith(b"%PDF-"):
            content = attachments(content).get(ATTACHMENT)
        stated = json.loads(content or b"")
        return stated.get("ledger", stated)
    except (IntegrityError, ValueError, AttributeError, RecursionError) as fault:
        wanted = "wanted a report (PDF or JSON), or what  assessor ledger head --json  printed"
        raise UsageError(f"{path}: states no ledger; {wanted}") from fault


def _tree(path: Path) -> Tree:
    stated = _stated_ledger(path)
    try:
        return Tree(size=stated["size"], root=stated["root"])
    except (TypeError, KeyError, ValueError) as fault:
        raise UsageError(f"{path}: states no size and root of a ledger, which a proof is compared with") from fault


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


def _reports(project: Project, trusted: Trusted) -> list[Finding]:
    findings = []
    for path in sorted((project.folder / "reports").glob("*.pdf")):
        data = path.read_bytes()
        prefix = f"reports/{path.name}"
        try:
            found = verify_pdf(data, trusted)
        except UsageError as fault:
            found = [Finding("file", "failed", str(fault))]
        found += _same_results(project, data)
        findings += [Finding(f"{prefix} {item.name}", item.status, item.sentence) for item in found]
    return findings


def _same_results(project: Project, data: bytes) -> list[Finding]:
    """Whether the folder still has the very results a report embeds."""
    attached, content, _ = _embedded(data)
    if content is None or attached != ATTACHMENT:
        return []
    name, missing, differing = "results in the folder", [], []
    record = json.loads(content)
    continued, results = _ledger_of_report(project, record.get("ledger")), record.get("results", {})
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


def _certificates(path: Path) -> bytes:
    """PEM, read once to tell a fault with the file's name."""
    content = _read(path)
    require_libraries()
    read_certificates([content], str(path))
    return content


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as fault:
        raise UsageError(f"{path}: cannot read it: {fault.strerror}") from fault
