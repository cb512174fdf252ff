"""What the report says, as plain data for its templates: no arithmetic is left to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from assessor.assessment import Assessment
from assessor.canonical import canonical_json, sha256_hex
from assessor.contract import Check
from assessor.evidence import serves
from assessor.messages import _, day, language, retold
from assessor.model import (
    Assurance,
    Evidence,
    EvidenceRef,
    Imported,
    Status,
    TargetSpec,
)
from assessor.report_argument import (
    ASSURANCE,
    deviations,
    dimension_content,
    evidence_content,
    heat_map,
    loudest_first,
    verdict_word,
)
from assessor.report_cards import card, in_words, without_empty
from assessor.verdicts import told

ATTACHMENT = "assessment.json"

FILES = "files"  # kind of a subject of which nothing was loaded


def report_content(
    record: dict[str, Any], assessment: Assessment, checks: Mapping[str, Check], plots: Mapping[str, str]
) -> dict[str, Any]:
    """Everything the templates show.

    Args:
        record: The assessment as it is attached to the report.
        assessment: The same as objects.
        checks: Installed checks, for words.
        plots: Addresses of their plots.

    Returns:
        Plain data by the names that the templates use.
    """
    digest = sha256_hex(canonical_json(record))
    cards = {name: card(run, checks.get(name), plots.get(name)) for name, run in assessment.runs.items()}
    dimensions = [dimension_content(state, assessment, cards) for state in assessment.states]
    return {
        "language": language(),
        "report_id": f"AR-{digest[:12].upper()}",
        "digest": digest,
        "attachment": ATTACHMENT,
        "created": _day(record["created"]),
        "created_iso": record["created"],
        "tool": record["tool"],
        "catalog": {**record["catalog"], "source": assessment.catalog.head.source.model_dump()},
        "system": record["configuration"]["system"],
        "profile": _profile(record["configuration"]["system"]),
        "target": _target(assessment.configuration.target),
        "contradictions": [found.model_dump() for found in assessment.contradictions],
        "disagreements": _disagreements(assessment),
        "overall": _overall(assessment),
        "audit": _audited(assessment),
        "trade_offs": _trade_offs(assessment),
        "left_out": _left_out(assessment),
        "failures": _outcomes(assessment, Status.FAIL),
        "unclear": _outcomes(assessment, Status.INCONCLUSIVE, Status.ERROR),
        "outdated": list(assessment.outdated),
        "dimensions": dimensions,
        "cards": cards,
        "order": loudest_first(cards, cards),
        "measured": _measured(dimensions, cards),
        "heat_map": heat_map(assessment),
        "deviations": deviations(assessment),
        "environment": _environment(assessment),
        "subject": _subject(assessment),
        "ledger": record["ledger"],
        "provenance_counts": _provenance(assessment),
        "waivers": record["configuration"]["policy"]["waivers"],
        "evidence": _register(assessment),
    }


def _day(text: str) -> str:
    moment = datetime.fromisoformat(text)
    return day(moment) if language() != "en" else moment.strftime("%-d %B %Y")


def _measured(dimensions: Sequence[Mapping[str, Any]], cards: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The checks by dimension, each where it is evidence first, then those that are evidence for nothing in scope."""
    left = set(cards)
    found = []
    for dimension in dimensions:
        here = [name for area in dimension["areas"] for name in area["checks"] if name in left]
        here = list(dict.fromkeys(here))
        left.difference_update(here)
        found.append({"title": dimension["title"], "checks": here})
    found.append({"title": _("Evidence for no requirement in scope"), "checks": loudest_first(left, cards)})
    return [group for group in found if group["checks"]]


def _outcomes(assessment: Assessment, *statuses: Status) -> list[dict[str, str]]:
    return [
        {"check": name, "title": retold(run.title), "sentence": told(run), "status": run.outcome.status.value}
        for name, run in assessment.runs.items()
        if run.outcome.status in statuses
    ]


def _disagreements(assessment: Assessment) -> list[dict[str, str]]:
    """Requirements that developer and auditor see differently."""
    by_id = assessment.catalog.by_id
    return [
        {
            "id": state.id,
            "title": by_id[state.id].title,
            "self": verdict_word(state.self_verdict),
            "self_mark": state.self_verdict.value,
            "auditor": verdict_word(state.auditor_verdict),
            "auditor_mark": state.auditor_verdict.value,
            "deviation": assessment.audits[state.id].deviation,
        }
        for dimension in assessment.states
        for area in dimension.areas
        for state in area.requirements
        if state.disagree
    ]


def _overall(assessment: Assessment) -> dict[str, Any]:
    found, conclusion = assessment.overall, assessment.summary.conclusion
    return {
        "allowed": _(found.allowed) if found.allowed else None,
        "because": list(found.because),
        "stated": _(found.stated) if found.stated else None,
        "mark": {"yes": "negligible", "with conditions": "acceptable", "no": "unacceptable"}.get(
            found.stated or "", "none"
        ),
        "fault": found.fault,
        "statement": {**conclusion.model_dump(), "at": day(conclusion.at)} if conclusion else None,
    }


def _audited(assessment: Assessment) -> dict[str, Any]:
    """Who audited how much, and how, in one line."""
    applying = sum(state.total for state in assessment.states)
    people = sorted({audit.by for audit in assessment.audits.values()})
    counts = {
        level: sum(audit.assurance is level for audit in assessment.audits.values()) for level in reversed(Assurance)
    }
    return {
        "count": len(assessment.audits),
        "total": applying,
        "people": people,
        "levels": ", ".join(f"{counts[level]} {_(ASSURANCE[level])}" for level in counts if counts[level]),
    }


def _trade_offs(assessment: Assessment) -> list[dict[str, str]]:
    titles = {head.id: head.title for head in assessment.catalog.head.dimensions}
    return [
        {
            "id": name,
            "gives": titles.get(item.between[0], item.between[0]),
            "gains": ", ".join(titles.get(code, code) for code in item.between[1:]),
            "what": item.what,
            "because": item.because,
            "by": item.accepted_by,
            "at": day(item.at),
        }
        for name, item in assessment.summary.trade_offs.items()
    ]


def _left_out(assessment: Assessment) -> list[dict[str, str]]:
    """Statement of applicability: what is left out, by reason; a dimension of low need as a whole."""
    found = []
    for dimension in assessment.states:
        by_reason: dict[str, list[str]] = {}
        for area in dimension.areas:
            for state in area.requirements:
                if not state.applies:
                    by_reason.setdefault(state.because, []).append(state.id)
        for because, ids in by_reason.items():
            whole = dimension.skipped and len(by_reason) == 1
            text = _("all {n} but the protection need itself", n=len(ids)) if whole else ", ".join(ids)
            found.append({"dimension": dimension.title, "because": because, "ids": text})
    return found


def _profile(system: Mapping[str, Any]) -> list[dict[str, str]]:
    labels = {"assessed_by": _("Assessed by"), "ai_act": _("EU AI Act")}
    return [
        {"label": labels.get(key) or _(key.replace("_", " ").capitalize()), "value": in_words(value)}
        for key, value in system.items()
        if value not in ("", None)
    ]


def _target(target: TargetSpec | None) -> list[dict[str, str]]:
    if target is None:
        return []
    stated = target.model_dump(mode="json", exclude_defaults=True)
    rows = {
        _("Task"): _(target.task),
        _("Model"): stated["model"],
        _("Data"): stated["data"],
        _("Device"): target.device,
    }
    if target.classes:
        rows[_("Classes")] = target.classes
    return [{"label": label, "value": in_words(without_empty(value))} for label, value in rows.items()]


def _register(assessment: Assessment) -> list[dict[str, Any]]:
    """All evidence: what evidence.yaml describes, then what only answers name."""
    order = {item.id: place for place, item in enumerate(assessment.catalog.requirements)}
    by_digest = {item.sha256: item for answer in assessment.answers.values() for item in answer.evidence}
    return [
        {
            **evidence_content(by_digest.get(digest) or _reference(digest, assessment), assessment),
            **_registered(assessment.evidence.get(digest)),
            "serves": sorted(names, key=lambda name: order.get(name, len(order))),
        }
        for digest, names in serves(assessment.evidence, assessment.answers).items()
    ]


def _reference(digest: str, assessment: Assessment) -> EvidenceRef:
    item = assessment.evidence[digest]
    return EvidenceRef(name=item.name, sha256=digest, document=item.document)


def _registered(item: Evidence | None) -> dict[str, Any]:
    """What the register says of a piece of evidence."""
    if item is None:
        missing = ("type", "title", "owner", "classification", "expires", "uri", "because")
        return {**dict.fromkeys(missing, ""), "import": None}
    return {
        "type": _(item.type.value.replace("_", " ")),
        "title": item.title,
        "owner": item.owner,
        "classification": _(item.classification.value),
        "collected": day(item.collected) if item.collected else "",
        "expires": day(item.expires) if item.expires else "",
        "uri": item.uri or "",
        "because": item.withheld,
        "import": _imported(item.provenance) if item.provenance else None,
    }


def _imported(found: Imported) -> dict[str, Any]:
    """What another tool reported, in its own words."""
    return {
        "format": found.format,
        "tool": " ".join(text for text in (found.tool, found.version) if text),
        "made": day(found.made) if found.made else "",
        "subject": found.subject,
        "findings": [item.model_dump() for item in found.findings],
        "more": found.total - len(found.findings) if found.findings else 0,
    }


def _environment(assessment: Assessment) -> list[dict[str, Any]]:
    """Distinct environments of the results, each with its checks."""
    found: dict[str, dict[str, Any]] = {}
    for name, run in assessment.runs.items():
        facts = run.environment
        entry = found.setdefault(
            canonical_json(facts).hex(),
            {
                "python": facts.python,
                "platform": facts.platform,
                "device": facts.device,
                "threads": facts.threads,
                "packages": ", ".join(f"{package} {version}" for package, version in facts.packages.items()),
                "checks": [],
            },
        )
        entry["checks"].append(name)
    return list(found.values())


def _subject(assessment: Assessment) -> list[dict[str, Any]]:
    """Distinct subjects of the results: one, unless model or data changed in between.

    Checks of files load nothing: their subject is the one that has these files.
    """
    records = [run.subject for run in assessment.runs.values()]
    loaded = [(record.files, record.dependencies) for record in records if record.kind != FILES]
    kept = [record for record in records if record.kind != FILES or (record.files, record.dependencies) not in loaded]
    return list({canonical_json(record): record.model_dump() for record in kept}.values())


def _provenance(assessment: Assessment) -> dict[str, int]:
    counts: dict[str, int] = {}
    for item in assessment.catalog.requirements:
        counts[item.provenance.status.value] = counts.get(item.provenance.status.value, 0) + 1
    return counts
