"""What the report says, as plain data for its templates: no arithmetic is left to them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from assessor.assessment import Assessment
from assessor.canonical import canonical_json, sha256_hex
from assessor.contract import Check
from assessor.evidence import serves
from assessor.judgement import attached_evidence
from assessor.messages import _, day, language, retold
from assessor.model import (
    DIMENSION_NAMES,
    Answer,
    AreaState,
    Assurance,
    Audit,
    DimensionState,
    Evidence,
    EvidenceRef,
    Imported,
    QuestionType,
    Reply,
    Requirement,
    RequirementState,
    Status,
    Verdict,
)
from assessor.replies import cells, label, shown_param, shown_reply
from assessor.report_cards import WORDS, card, in_words, without_empty
from assessor.verdicts import shown_interval, told

ATTACHMENT = "assessment.json"
ASSURANCE = {
    Assurance.SELF_DECLARED: "self-declared",
    Assurance.DOCUMENT_REVIEWED: "documents reviewed",
    Assurance.RE_PERFORMED: "measured again",
}

FILES = "files"  # kind of a subject of which nothing was loaded
LOUDEST_FIRST = (Status.FAIL, Status.ERROR, Status.INCONCLUSIVE, Status.PASS, Status.MEASURED, Status.NOT_APPLICABLE)


def report_content(record: dict[str, Any], assessment: Assessment, checks: Mapping[str, Check]) -> dict[str, Any]:
    """Everything the templates show.

    Args:
        record: The assessment as it is attached to the report.
        assessment: The same as objects.
        checks: Installed checks, for words and plots.

    Returns:
        Plain data by the names that the templates use.
    """
    digest = sha256_hex(canonical_json(record))
    cards = {name: card(run, checks.get(name)) for name, run in assessment.runs.items()}
    placed: set[str] = set()
    dimensions = [_dimension(state, assessment, cards, placed) for state in assessment.states]
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
        "target": _target(record["configuration"]["target"]),
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
        "loose": [name for name in cards if name not in placed],
        "order": sorted(cards, key=lambda name: (LOUDEST_FIRST.index(Status(cards[name]["status"])), name)),
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
            "self": _word(state.self_verdict),
            "self_mark": state.self_verdict.value,
            "auditor": _word(state.auditor_verdict),
            "auditor_mark": state.auditor_verdict.value,
            "deviation": assessment.audits[state.id].deviation,
        }
        for dimension in assessment.states
        for area in dimension.areas
        for state in area.requirements
        if state.disagree
    ]


def _word(status: Status | Verdict) -> str:
    return _("Not applicable") if status is Verdict.NOT_APPLICABLE else _(WORDS[status])


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


def _target(target: Mapping[str, Any] | None) -> list[dict[str, str]]:
    if target is None:
        return []
    rows = {
        _("Task"): _(target["task"]),
        _("Model"): target["model"],
        _("Data"): target["data"],
        _("Device"): target["device"],
    }
    if target["classes"]:
        rows[_("Classes")] = target["classes"]
    return [{"label": label, "value": in_words(without_empty(value))} for label, value in rows.items()]


def _dimension(
    state: DimensionState, assessment: Assessment, cards: Mapping[str, Any], placed: set[str]
) -> dict[str, Any]:
    areas = [_area(area, assessment, cards, placed) for area in state.areas] if not state.skipped else []
    rating = state.rating
    return {
        "id": state.id,
        "title": state.title,
        "named": state.id in DIMENSION_NAMES.values() or state.id.startswith("X-"),
        "need": _(state.need.value) if state.need else None,
        "need_because": state.need_because,
        "skipped": state.skipped,
        "answered": state.answered,
        "audited": state.audited,
        "total": state.total,
        "left_out": state.left_out,
        "tests_wanted": state.tests_wanted,
        "tests_measured": state.tests_measured,
        "evidence_wanted": state.evidence_wanted,
        "evidence_attached": state.evidence_attached,
        "evidence_aged": state.evidence_aged,
        "counts": [
            {"status": status.value, "word": _(WORDS[status]), "count": state.statuses[status]}
            for status in LOUDEST_FIRST
            if status in state.statuses
        ],
        "ceiling": state.ceiling.value if state.ceiling else None,
        "ceiling_word": _(state.ceiling.value) if state.ceiling else _("cannot be said yet"),
        "ceiling_because": state.ceiling_because,
        "stated": _(state.stated) if state.stated else None,
        "rating": {
            "risk": _(rating.risk.value),
            "mark": rating.risk.value,
            "by": rating.by,
            "auditor": rating.auditor,
            "second": rating.second,
            "fault": rating.fault,
            "because": assessment.summary.dimensions[state.id].because if rating.auditor else "",
        }
        if rating
        else None,
        "second_wanted": state.second_wanted,
        "contradictions": [found.model_dump() for found in state.contradictions],
        "areas": areas,
    }


def _area(area: AreaState, assessment: Assessment, cards: Mapping[str, Any], placed: set[str]) -> dict[str, Any]:
    """One area; a card stands in the first area that its check is evidence for, which is kept in `placed`."""
    head = next(head for _dimension_head, head in assessment.catalog.areas() if head.id == area.id)
    here = sorted({check for state in area.requirements for check in state.checks if check in cards} - placed)
    placed.update(here)
    by_id = assessment.catalog.by_id
    said = {**assessment.answers, **assessment.audits}
    return {
        "id": area.id,
        "title": head.title,
        "kind": head.kind.value,
        "sentence": area.sentence,
        "answered": [
            _requirement(by_id[state.id], state, assessment, cards) for state in area.requirements if state.id in said
        ],
        "open": [{"id": name, "title": by_id[name].title} for name in area.open],
        "cards": here,
    }


def _requirement(
    requirement: Requirement, state: RequirementState, assessment: Assessment, cards: Mapping[str, Any]
) -> dict[str, Any]:
    answer, audit = assessment.answers.get(requirement.id), assessment.audits.get(requirement.id)
    return {
        "id": requirement.id,
        "title": requirement.title,
        "provenance": requirement.provenance.status.value,
        "verdict": state.self_verdict.value,
        "word": _word(state.self_verdict),
        "answer": _answer(requirement, answer, assessment) if answer else None,
        "audit": _audit(requirement, audit, state) if audit else None,
        "applies": state.applies,
        "left_out_because": "" if state.applies else state.because,
        "aged": list(state.evidence.aged),
        "evidence": [_evidence(item, assessment) for item in attached_evidence(requirement.id, assessment.scope)],
        "checks": [
            {"id": name, "status": cards[name]["status"], "word": cards[name]["word"], "anchor": cards[name]["anchor"]}
            for name in state.checks
        ],
        "contradicted": list(state.contradictions),
    }


def _answer(requirement: Requirement, answer: Answer, assessment: Assessment) -> dict[str, Any]:
    replies = []
    for name, value in assessment.scope.replies(requirement.id).items():
        question = requirement.question(name)
        if question is not None:
            origin = retold(answer.origins[name]) if name in answer.origins else ""
            replies.append({"question": question.text, "origin": origin, **_reply(requirement, name, value)})
    params = []
    for name, set_to in answer.params.items():
        param = requirement.param(name)
        if param is not None:
            params.append({"label": param.label, "value": shown_param(param, set_to.value), "because": set_to.because})
    for param in requirement.params:
        target = assessment.configuration.targets.get(param.check) if param.check else None
        if target is not None and param.id not in answer.params:
            params.append({"label": param.label, "value": shown_interval(target.interval), "because": target.because})
    return {
        "because": answer.because,
        "by": answer.by,
        "at": day(answer.at),
        "same_as": answer.same_as,
        "replies": replies,
        "params": params,
    }


def _reply(requirement: Requirement, name: str, value: Reply) -> dict[str, Any]:
    question = requirement.question(name)
    if question is None:
        return {"text": str(value), "columns": [], "rows": []}
    if question.type is QuestionType.TABLE and isinstance(value, tuple):
        rows = [cells(question, row) for row in value if isinstance(row, Mapping)]
        return {"text": "", "columns": [label(question, column) for column in question.columns], "rows": rows}
    return {"text": shown_reply(question, value), "columns": [], "rows": []}


def _evidence(item: EvidenceRef, assessment: Assessment) -> dict[str, Any]:
    document = assessment.catalog.document(item.document) if item.document else None
    known = assessment.evidence.get(item.sha256)
    return {
        "name": item.name,
        "sha256": item.sha256,
        "document": document.title if document else "",
        "collected": day(item.collected) if item.collected else "",
        "expired": day(known.expires) if known and known.expires and known.is_expired(assessment.today) else "",
        "withheld": bool(known and known.withheld),
    }


def _register(assessment: Assessment) -> list[dict[str, Any]]:
    """All evidence: what evidence.yaml describes, then what only answers name."""
    by_digest = {item.sha256: item for answer in assessment.answers.values() for item in answer.evidence}
    return [
        {
            **_evidence(by_digest.get(digest) or _reference(digest, assessment), assessment),
            **_registered(assessment.evidence.get(digest)),
            "serves": list(names),
        }
        for digest, names in serves(assessment.evidence, assessment.answers).items()
    ]


def _reference(digest: str, assessment: Assessment) -> EvidenceRef:
    item = assessment.evidence[digest]
    return EvidenceRef(name=item.name, sha256=digest, document=item.document)


def _registered(item: Evidence | None) -> dict[str, Any]:
    """What the register says of a piece of evidence."""
    if item is None:
        return {"title": "", "owner": "", "classification": "", "expires": "", "uri": "", "because": "", "import": None}
    return {
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


def _audit(requirement: Requirement, audit: Audit, state: RequirementState) -> dict[str, Any]:
    texts = {item.id: item.text for item in requirement.objectives}
    return {
        "verdict": audit.value.value,
        "word": _word(Verdict(audit.value)),
        "because": audit.because,
        "deviation": audit.deviation,
        "assurance": _(ASSURANCE[audit.assurance]),
        "objectives": [texts[name] for name in audit.objectives],
        "replies": [
            {"question": question.text, "text": shown_reply(question, audit.replies[question.id])}
            for question in requirement.for_auditor
            if question.id in audit.replies
        ],
        "comment": audit.comment,
        "by": audit.by,
        "at": day(audit.at),
        "outdated": state.outdated,
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
