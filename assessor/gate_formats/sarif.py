"""SARIF 2.1.0 (OASIS): for code scanning of GitHub, GitLab, Azure DevOps and editors."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import quote

from assessor import __version__
from assessor.gate_formats.notices import GateReport, Group, Level, Notice

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
PLACEHOLDER = re.compile(r"\{(\d+)\}")


def written(report: GateReport) -> str:
    """As a SARIF log of one run."""
    rules = {name: number for number, name in enumerate(report.rules)}
    driver = {
        "name": "ai-assessor",
        "version": __version__,
        "rules": [
            {
                "id": name,
                "shortDescription": {"text": _text(rule.title)},
                "help": {"text": _text(rule.help)},
            }
            for name, rule in report.rules.items()
        ],
    }
    run = {
        "tool": {"driver": driver},
        "automationDetails": {"id": f"assessor-gate/{report.folder}"},
        "columnKind": "unicodeCodePoints",
        "invocations": [{"executionSuccessful": True, "exitCode": report.decision.exit_code}],
        "results": [_result(item, rules[item.rule]) for item in report.notices],
        "properties": {"sentence": report.decision.sentence, "mode": report.decision.mode,
                       "policySha256": report.policy.sha256},
    }  # fmt: skip
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


def _result(item: Notice, rule: int) -> dict[str, Any]:
    kind = _kind(item)
    level = item.level if kind == "fail" else Level.NONE  # section 3.27.10: no other kind has a level
    found = {
        "ruleId": item.rule,
        "ruleIndex": rule,
        "kind": kind,
        "level": level.value,
        "message": {"text": _text(f"{item.finding.id}: {item.finding.status}. {item.finding.sentence}")},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": quote(item.place.file)},
                    "region": {"startLine": item.place.line},
                }
            }
        ],
        "partialFingerprints": {"assessorFinding/v1": item.fingerprint},
        "properties": {"group": item.group.value, "requirements": list(item.finding.requirements)},
    }
    if item.group is Group.WAIVED:
        told = _text(item.finding.sentence)
        found["suppressions"] = [{"kind": "external", "status": "accepted", "justification": told}]
    return found


def _kind(item: Notice) -> str:
    if item.group is Group.PASSED:
        return "pass"
    if item.group is Group.NOT_JUDGED:
        return "notApplicable" if item.finding.status == "not_applicable" else "informational"
    return "fail"


def _text(text: str) -> str:
    """Text that no reader takes for a link or a placeholder (sections 3.11.5 and 3.11.6).

    >>> _text("[a](b) {0} [0.1, 0.2]")
    '[a] (b) {{0}} [0.1, 0.2]'
    """
    return PLACEHOLDER.sub(r"{{\1}}", text).replace("](", "] (")
