"""The report of a measurement made again: plain data for its template, and the PDF."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any

from assessor.canonical import canonical_json, sha256_hex
from assessor.contract import Metric
from assessor.messages import _, day, language, retold
from assessor.model import Status
from assessor.pages import Attached, page, pdf
from assessor.report_cards import WORDS
from assessor.rerun import Agreement, Number, Redone, Rerun, record
from assessor.verdicts import shown, shown_ends
from assessor.verify import RERUN

AGREEMENTS = {
    Agreement.IDENTICAL: ("pass", "identical"),
    Agreement.AGREES: ("pass", "agrees within its interval"),
    Agreement.DIFFERS: ("fail", "differs"),
    Agreement.MISSING: ("error", "not measured"),
}
HELD = {True: ("pass", "holds"), False: ("fail", "does not hold"), None: ("error", "not measured again")}


def rerun_html(found: Rerun) -> str:
    """One page of HTML that needs nothing else."""
    content = rerun_content(found)
    return page("rerun.html.j2", content, digest=content["digest"])


def rerun_pdf(found: Rerun) -> bytes:
    """PDF/A-3a with the record attached.

    Raises:
        UsageError: A system library is missing.
        MissingExtra: WeasyPrint is not installed.
    """
    description = "Machine-readable record of a measurement made again (canonical JSON)"
    return pdf(rerun_html(found), Attached(RERUN, canonical_json(record(found)), description, found.created))


def rerun_content(found: Rerun) -> dict[str, Any]:
    """Everything the template shows."""
    digest = sha256_hex(canonical_json(record(found)))
    moment = datetime.fromisoformat(found.created)
    return {
        "language": language(),
        "digest": digest,
        "report_id": f"AR-{digest[:12].upper()}",
        "attachment": RERUN,
        "created": day(moment) if language() != "en" else moment.strftime("%-d %B %Y"),
        "created_iso": found.created,
        "tool": found.tool,
        "system": found.system,
        "source": {**found.source, "integrity": retold(found.source["integrity"])},
        "replaced": found.replaced,
        "counts": {"held": sum(item.held is True for item in found.checks), "total": len(found.checks)},
        "checks": [_check(item) for item in found.checks],
    }


def _check(item: Redone) -> dict[str, Any]:
    mark, word = HELD[item.held]
    counts = Counter(number.agreement for number in item.numbers)
    return {
        "check": item.check,
        "title": retold(item.title),
        "mark": mark,
        "word": _(word),
        "claimed": _status(item.claimed),
        "again": "–" if item.again is None else _status(item.again),
        "repeatable": item.repeatable,
        "counted": ", ".join(f"{counts[kind]} {_(AGREEMENTS[kind][1])}" for kind in Agreement if counts[kind]),
        "because": [retold(text) for text in item.because],
        "differences": [retold(text) for text in item.differences],
        "numbers": [_number(number) for number in item.numbers],
    }


def _status(status: Status) -> str:
    return _("Not applicable") if status is Status.NOT_APPLICABLE else _(WORDS[status])


def _number(number: Number) -> dict[str, str]:
    mark, word = AGREEMENTS[number.agreement]
    return {
        "name": _(number.metric.replace("_", " ")),
        "claimed": _shown(number.claimed),
        "again": "–" if number.again is None else _shown(number.again),
        "mark": mark,
        "word": _(word),
    }


def _shown(metric: Metric) -> str:
    unit = "" if metric.unit == "1" else f" {retold(metric.unit)}"
    ends = "" if metric.low is None or metric.high is None else f" {shown_ends(metric.low, metric.high)}"
    return f"{shown(metric.value)}{unit}{ends}"
