"""Our own JSON: the whole decision, for scripts."""

from __future__ import annotations

import json

from assessor.gate_formats.notices import GateReport, Notice


def written(report: GateReport) -> str:
    """As one JSON object."""
    decision = report.decision
    data = {
        **decision.model_dump(mode="json"),
        "sentence": decision.sentence,
        "counts": dict(decision.counts),
        "policy": report.policy.model_dump(),
        "baseline": dict(report.baseline) or None,
        "findings": [_told(item) for item in report.notices],
    }
    return json.dumps(data, indent=2) + "\n"


def _told(notice: Notice) -> dict[str, object]:
    data = notice.model_dump(mode="json")
    return {**data.pop("finding"), **data}
