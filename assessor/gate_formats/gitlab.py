"""GitLab's code quality report: the part of Code Climate's format that GitLab reads."""

from __future__ import annotations

import json

from assessor.gate_formats.notices import GateReport, Group

SEVERITIES = {
    Group.BLOCKING: "critical",
    Group.INCOMPLETE: "major",
    Group.STALE: "minor",
    Group.TOLERATED: "minor",
    Group.WAIVED: "info",
}


def written(report: GateReport) -> str:
    """As an array, one object a finding that asks for attention."""
    found = [
        {
            "description": f"{item.finding.id}: {item.finding.status}. {item.finding.sentence}",
            "check_name": item.rule,
            "fingerprint": item.fingerprint,
            "severity": SEVERITIES[item.group],
            "location": {"path": item.place.file, "lines": {"begin": item.place.line}},
        }
        for item in report.shown
    ]
    return json.dumps(found, indent=2) + "\n"
