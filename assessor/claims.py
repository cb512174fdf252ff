"""What a report or an assessment folder claims: the record that is inside it, checked and as objects."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from assessor.assessment import Assessment
from assessor.canonical import canonical_json, sha256_hex
from assessor.errors import IntegrityError, UsageError
from assessor.model import CheckRun, Configuration
from assessor.project import Project
from assessor.report_content import ATTACHMENT
from assessor.verify import Trusted, verify_pdf

MOST_BYTES = 2**28  # of a record: more is none of ours


@dataclass(frozen=True)
class Claims:
    """What is claimed.

    Attributes:
        where: How messages call it.
        record: The machine-readable whole, as `Assessment.record` gives it.
        sha256: Digest of the record in canonical form: what a report prints on page one.
        configuration: Its assessor.yaml.
        runs: Its results by check id.
        integrity: What is known of its integrity, in words.
    """

    where: str
    record: Mapping[str, Any]
    sha256: str
    configuration: Configuration
    runs: Mapping[str, CheckRun]
    integrity: str

    @property
    def report_id(self) -> str:
        """As a report prints it."""
        return f"AR-{self.sha256[:12].upper()}"


def read_claims(path: Path, *, trust: tuple[Path, ...] = ()) -> Claims:
    """The claims of a PDF report, of the record that is attached to one, or of an assessment folder.

    Args:
        path: PDF, JSON or folder.
        trust: PEM files of authorities whose signatures on a PDF count.

    Returns:
        The claims.

    Raises:
        UsageError: There is no such file, or it is none of these.
        IntegrityError: The report does not hold: a signature or a digest is broken.
    """
    if path.is_dir():
        record = Assessment.read(Project(path)).record()
        return _claims(str(path), record, "read from the assessment folder, which anybody with the folder can change")
    try:
        size, data = path.stat().st_size, path.read_bytes() if path.stat().st_size <= MOST_BYTES else b""
    except OSError as fault:
        raise UsageError(f"{path}: cannot read it: {fault.strerror}") from fault
    if size > MOST_BYTES:
        raise UsageError(f"{path}: {size} bytes, more than any report has")
    if b"%PDF-" in data[:1024]:
        content, integrity = _of_pdf(path, data, trust)
        return _claims(str(path), _parsed(path, content), integrity)
    return _claims(str(path), _parsed(path, data), "read from a record without a signature")


def _of_pdf(path: Path, data: bytes, trust: tuple[Path, ...]) -> tuple[bytes, str]:
    """The attached record, and what its signatures are worth."""
    from assessor.pdf_content import attachments
    from assessor.pdf_signatures import signed_revision

    signed = b"/ByteRange" in data
    findings = verify_pdf(data, Trusted([root.read_bytes() for root in trust]))
    broken = [item.sentence for item in findings if item.status == "failed" and (signed or item.name != "signature")]
    if broken:
        raise IntegrityError(f"{path}: the report does not hold: {' '.join(broken)} See  assessor verify {path}")
    content = attachments(signed_revision(data) if signed else data).get(ATTACHMENT)
    if content is None:
        raise UsageError(f"{path}: tells of another report that was measured again, and claims nothing itself")
    if not signed:
        return content, "read from a report without a signature, which anybody can have changed"
    unknown = [item.sentence for item in findings if item.status == "unknown"]
    return content, " ".join(["read from a signed report, intact.", *unknown])


def _parsed(path: Path, content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as fault:
        raise UsageError(f"{path}: is neither a PDF report nor the record of one: {fault}") from fault


def _claims(where: str, record: Any, integrity: str) -> Claims:
    try:
        if record["format"] != 1:
            raise UsageError(f"{where}: a record of format {record['format']}, wanted 1; a newer ai-assessor wrote it")
        configuration = Configuration.model_validate(record["configuration"])
        runs = {check: CheckRun.model_validate(item["result"]) for check, item in record["results"].items()}
        stated = {check: item["sha256"] for check, item in record["results"].items()}
        digest = sha256_hex(canonical_json(record))
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as fault:  # no numbers or texts of JSON
        told = fault.errors()[0]["msg"] if isinstance(fault, ValidationError) else f"no {fault}"
        raise UsageError(f"{where}: is no record of an assessment: {told}") from fault
    wrong = [check for check, run in runs.items() if sha256_hex(canonical_json(run)) != stated[check]]
    if wrong:
        raise IntegrityError(f"{where}: these results do not have the digest stated beside them: {', '.join(wrong)}")
    return Claims(where, record, digest, configuration, runs, integrity)
