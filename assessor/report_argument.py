"""The argument of a report, dimension by dimension: risks, criteria, measures, what was measured, what deviates."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from assessor.assessment import Assessment
from assessor.judgement import attached_evidence
from assessor.messages import _, day, retold
from assessor.model import (
    DIMENSION_NAMES,
    Answer,
    AreaState,
    Aspect,
    Assurance,
    Audit,
    DimensionState,
    EvidenceRef,
    Lifecycle,
    QuestionType,
    Reply,
    Requirement,
    RequirementState,
    Status,
    Verdict,
)
from assessor.replies import cells, label, shown_param, shown_reply
from assessor.report_cards import WORDS
from assessor.verdicts import shown_interval

ASSURANCE = {
    Assurance.SELF_DECLARED: "self-declared",
    Assurance.DOCUMENT_REVIEWED: "documents reviewed",
    Assurance.RE_PERFORMED: "measured again",
}
LOUDEST_FIRST = (Status.FAIL, Status.ERROR, Status.INCONCLUSIVE, Status.PASS, Status.MEASURED, Status.NOT_APPLICABLE)
Step = tuple[Aspect, Lifecycle | None]

STEPS: Mapping[Step, str] = {
    (Aspect.RISK, None): "Risks and objectives",
    (Aspect.CRITERION, None): "Criteria and targets",
    (Aspect.MEASURE, Lifecycle.ANY): "Measures at any stage",
    (Aspect.MEASURE, Lifecycle.DATA): "Measures in the data",
    (Aspect.MEASURE, Lifecycle.COMPONENT): "Measures in the AI component",
    (Aspect.MEASURE, Lifecycle.EMBEDDING): "Measures in the embedding",
    (Aspect.MEASURE, Lifecycle.OPERATION): "Measures in operation",
    (Aspect.OVERALL, None): "Overall assessment of the area",
}
"""Steps of the argument in an area, in their order."""
COLUMNS = ("Risks", "Criteria", "Any stage", "Data", "AI component", "Embedding", "Operation", "Overall")
"""The same in a word, over the columns of the map."""
WORST_FIRST = (Verdict.NOT_FULFILLED, Verdict.PARTLY, Verdict.NOT_ASSESSED, Verdict.FULFILLED)


def verdict_word(status: Status | Verdict) -> str:
    """A verdict or the status of a check in words."""
    return _("Not applicable") if status is Verdict.NOT_APPLICABLE else _(WORDS[status])


def heat_map(assessment: Assessment) -> dict[str, Any]:
    """How many requirements are fulfilled, by dimension and step of the argument.

    Args:
        assessment: What to report.

    Returns:
        `columns`, words; `rows` with `id`, `title`, `cells`: None where nothing is asked, else `fulfilled` and `total`
        of the requirements that concern the system, `mark` of the worst verdict that stands, and `shade` from 0 (all
        fulfilled) to 3.
    """
    by_id = assessment.catalog.by_id
    rows = []
    for dimension in assessment.states:
        if dimension.skipped or dimension.id not in DIMENSION_NAMES.values():
            continue
        found: dict[Step, list[Verdict]] = {}
        for state in (state for area in dimension.areas for state in area.requirements if state.applies):
            if state.standing is not Verdict.NOT_APPLICABLE:
                found.setdefault(_step(by_id[state.id]), []).append(state.standing)
        cells = [_cell(found[step]) if step in found else None for step in STEPS]
        rows.append({"id": dimension.id, "title": dimension.title, "cells": cells})
    return {"columns": [_(word) for word in COLUMNS], "rows": rows}


def _step(requirement: Requirement) -> Step:
    return requirement.aspect, requirement.lifecycle


def _cell(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    fulfilled, total = verdicts.count(Verdict.FULFILLED), len(verdicts)
    worst = next(verdict for verdict in WORST_FIRST if verdict in verdicts)
    return {"fulfilled": fulfilled, "total": total, "mark": worst.value, "shade": -(-3 * (total - fulfilled) // total)}


def deviations(assessment: Assessment) -> list[dict[str, Any]]:
    """What deviates in each risk area: ids not fulfilled, partly, open, and its checks that fail."""
    heads = {head.id: head for _dimension_head, head in assessment.catalog.areas()}
    found = []
    for area in (area for dimension in assessment.states if not dimension.skipped for area in dimension.areas):
        applying = [state for state in area.requirements if state.applies]
        by_verdict = {
            verdict.value: [state.id for state in applying if state.standing is verdict] for verdict in WORST_FIRST[:3]
        }
        failing = sorted({name for state in applying for name, status in state.checks.items() if status is Status.FAIL})
        if failing or any(by_verdict.values()):
            found.append({"id": area.id, "title": heads[area.id].title, "failing": failing, **by_verdict})
    return found


def dimension_content(state: DimensionState, assessment: Assessment, cards: Mapping[str, Any]) -> dict[str, Any]:
    """One dimension with its areas.

    Args:
        state: How it stands.
        assessment: What to report.
        cards: The measurements as they are shown, by check.

    Returns:
        Plain data for the templates.
    """
    areas = [_area(area, assessment, cards) for area in state.areas] if not state.skipped else []
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


def _area(area: AreaState, assessment: Assessment, cards: Mapping[str, Any]) -> dict[str, Any]:
    """One area: what its checks found, then its answered requirements by the steps of the argument."""
    head = next(head for _dimension_head, head in assessment.catalog.areas() if head.id == area.id)
    here = {check for state in area.requirements for check in state.checks if check in cards}
    by_id = assessment.catalog.by_id
    said = {**assessment.answers, **assessment.audits}
    steps: dict[Step, list[dict[str, Any]]] = {}
    for state in area.requirements:
        if state.id in said:
            entry = _requirement(by_id[state.id], state, assessment, cards)
            steps.setdefault(_step(by_id[state.id]), []).append(entry)
    order = [*STEPS, *(step for step in steps if step not in STEPS)]
    return {
        "id": area.id,
        "title": head.title,
        "kind": head.kind.value,
        "sentence": area.sentence,
        "steps": [
            {"title": _(STEPS[step]) if step in STEPS else "", "answered": steps[step]}
            for step in order
            if step in steps
        ],
        "open": [{"id": name, "title": by_id[name].title} for name in area.open],
        "checks": loudest_first(here, cards),
    }


def loudest_first(names: Collection[str], cards: Mapping[str, Any]) -> list[str]:
    """Checks by what they found, failures first."""
    return sorted(names, key=lambda name: (LOUDEST_FIRST.index(Status(cards[name]["status"])), name))


def _requirement(
    requirement: Requirement, state: RequirementState, assessment: Assessment, cards: Mapping[str, Any]
) -> dict[str, Any]:
    answer, audit = assessment.answers.get(requirement.id), assessment.audits.get(requirement.id)
    return {
        "id": requirement.id,
        "title": requirement.title,
        "provenance": requirement.provenance.status.value,
        "verdict": state.self_verdict.value,
        "word": verdict_word(state.self_verdict),
        "answer": _answer(requirement, answer, assessment) if answer else None,
        "audit": _audit(requirement, audit, state) if audit else None,
        "applies": state.applies,
        "left_out_because": "" if state.applies else state.because,
        "aged": list(state.evidence.aged),
        "evidence": [
            evidence_content(item, assessment) for item in attached_evidence(requirement.id, assessment.scope)
        ],
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


def _audit(requirement: Requirement, audit: Audit, state: RequirementState) -> dict[str, Any]:
    texts = {item.id: item.text for item in requirement.objectives}
    return {
        "verdict": audit.value.value,
        "word": verdict_word(Verdict(audit.value)),
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


def evidence_content(item: EvidenceRef, assessment: Assessment) -> dict[str, Any]:
    """A piece of evidence as a requirement names it."""
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
