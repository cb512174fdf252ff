"""Outcomes upward: checks, answers and audit to requirement, area, dimension, the whole, and what they still allow.

Nothing is averaged, and nothing unanswered or unmeasured counts as good. How much was answered and tested and how fresh
the evidence is stands beside the verdict and never in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

from assessor.applicability import Scope
from assessor.messages import _, plural
from assessor.model import (
    Answer,
    AreaHead,
    AreaKind,
    AreaState,
    Aspect,
    Assurance,
    Audit,
    AuditSummary,
    CheckRun,
    Contradiction,
    DimensionHead,
    DimensionState,
    EvidenceRef,
    EvidenceState,
    Kind,
    Level,
    OverallState,
    Rating,
    Requirement,
    RequirementState,
    ResidualRisk,
    Slot,
    Status,
    Verdict,
)
from assessor.verdicts import judged_against, told


@dataclass(frozen=True)
class Facts:
    """All that is judged on.

    Attributes:
        scope: Catalog, needs and the developer's answers.
        runs: Current results by check id.
        audits: The auditor's verdicts by requirement id.
        summary: The auditor's ratings, trade-offs and conclusion.
        today: Day at which the age of evidence is counted.
    """

    scope: Scope
    runs: Mapping[str, CheckRun] = field(default_factory=dict)
    audits: Mapping[str, Audit] = field(default_factory=dict)
    summary: AuditSummary = field(default_factory=AuditSummary)
    today: date = date.max


CONCLUSIONS = ("no", "with conditions", "yes")
_RISKS = (ResidualRisk.UNACCEPTABLE, None, ResidualRisk.ACCEPTABLE, ResidualRisk.NEGLIGIBLE)
_UNCLEAR = {Status.INCONCLUSIVE, Status.ERROR}
_MEASURED = {Status.PASS, Status.FAIL, Status.INCONCLUSIVE, Status.MEASURED}
_CLAIMS = {Verdict.FULFILLED, Verdict.NOT_APPLICABLE}
_WORST_FIRST = (Verdict.NOT_FULFILLED, Verdict.PARTLY, Verdict.FULFILLED, Verdict.NOT_APPLICABLE)


def rank(ceiling: ResidualRisk | None) -> int:
    """Order of ceilings, worst first: unacceptable, nothing to be said yet, acceptable, negligible.

    >>> rank(None) < rank(ResidualRisk.ACCEPTABLE)
    True
    """
    return _RISKS.index(ceiling)


def judge_assessment(facts: Facts) -> tuple[DimensionState, ...]:
    """The state of every part of the catalog, the AI profile and the final judgement included.

    Args:
        facts: All that is judged on.

    Returns:
        One state a dimension, in the catalog's order.
    """
    return tuple(_dimension(head, facts) for head in facts.scope.catalog.head.dimensions)


# --- one requirement -------------------------------------------------------------------------------------------------


def _requirement(requirement: Requirement, facts: Facts) -> RequirementState:
    answer, audit = facts.scope.answers.get(requirement.id), facts.audits.get(requirement.id)
    applicability = facts.scope.of(requirement)
    bound = {check: run.outcome.status for check, run in facts.runs.items() if requirement.id in run.requirements}
    said = Verdict(answer.value) if answer else Verdict.NOT_ASSESSED
    found = Verdict(audit.value) if audit else Verdict.NOT_ASSESSED
    failing = tuple(check for check, status in bound.items() if status is Status.FAIL)
    return RequirementState(
        id=requirement.id,
        applies=applicability.applies,
        because=applicability.because,
        self_verdict=said,
        auditor_verdict=found,
        standing=_worse(said, found),
        assurance=audit.assurance if audit else Assurance.SELF_DECLARED,
        outdated=audit is not None and _is_outdated(audit, answer),
        checks=bound,
        contradictions=failing if {said, found} & _CLAIMS else (),
        evidence=_evidence(requirement, answer, facts),
    )


def _is_outdated(audit: Audit, answer: Answer | None) -> bool:
    """Whether the answer is another one than the auditor judged, or was given only afterwards."""
    if audit.answer_at is None:
        return answer is not None and answer.at > audit.at
    return answer is None or answer.at != audit.answer_at


def _worse(said: Verdict, found: Verdict) -> Verdict:
    """What counts upward: an auditor may lower what a developer says of himself, and raise nothing unseen by him."""
    stated = [verdict for verdict in (said, found) if verdict is not Verdict.NOT_ASSESSED]
    return min(stated, key=_WORST_FIRST.index) if stated else Verdict.NOT_ASSESSED


def _evidence(requirement: Requirement, answer: Answer | None, facts: Facts) -> EvidenceState:
    attached, register = attached_evidence(requirement.id, facts.scope), facts.scope.evidence
    dated = facts.today != date.max
    aged = []
    for item in attached:
        limits = [
            expected.max_age_days
            for expected in requirement.evidence
            if expected.max_age_days and (item.document is None or expected.document == item.document)
        ]
        since = item.collected or (answer.at.date() if answer else facts.today)
        if limits and dated and (facts.today - since).days > min(limits):
            aged.append(item.name)
    registered = [register[item.sha256] for item in attached if item.sha256 in register]
    expired = [item.name for item in registered if dated and item.is_expired(facts.today)]
    claims = answer is not None and Verdict(answer.value) in {Verdict.FULFILLED, Verdict.PARTLY}
    return EvidenceState(
        attached=len(attached), aged=tuple(aged), expected=claims and not attached, expired=tuple(expired)
    )


def attached_evidence(requirement: str, scope: Scope) -> tuple[EvidenceRef, ...]:
    """Evidence of an answer, of the one it says it is the same as, and what the register says serves either."""
    answer = scope.answers.get(requirement)
    other = scope.answers.get(answer.same_as) if answer and answer.same_as else None
    named = [*(answer.evidence if answer else ()), *(other.evidence if other else ())]
    served = {requirement, answer.same_as if answer else None}
    found = {(item.sha256, item.name): _registered(item, scope) for item in named}
    digests = {item.sha256 for item in named}
    for digest, item in scope.evidence.items():
        if digest not in digests and not served.isdisjoint(item.requirements):
            reference = EvidenceRef(name=item.name, sha256=digest)
            found[digest, item.name] = _registered(reference, scope)
    return tuple(found.values())


def _registered(reference: EvidenceRef, scope: Scope) -> EvidenceRef:
    """A reference with what the register says of its document and day."""
    item = scope.evidence.get(reference.sha256)
    if item is None:
        return reference
    known = {"document": item.document or reference.document, "collected": item.collected or reference.collected}
    return reference.model_copy(update=known)


def _contradictions(states: Sequence[RequirementState], facts: Facts) -> tuple[Contradiction, ...]:
    found = []
    for state in states:
        for check in state.contradictions:
            for auditor, by, verdict in _claims(state, facts):
                found.append(
                    Contradiction(
                        requirement=state.id,
                        check=check,
                        slot=Slot(by=by, auditor=auditor),
                        sentence=_(
                            "{by} answered {requirement} “{verdict}”, but {check} measured: {sentence}",
                            by=by,
                            requirement=state.id,
                            verdict=_(verdict.value.replace("_", " ")),
                            check=check,
                            sentence=told(facts.runs[check]),
                        ),
                    )
                )
    return tuple(found)


def _claims(state: RequirementState, facts: Facts) -> list[tuple[bool, str, Verdict]]:
    """Who claims that a requirement is met or does not concern the system."""
    found = []
    if state.self_verdict in _CLAIMS:
        found.append((False, facts.scope.answers[state.id].by, state.self_verdict))
    if state.auditor_verdict in _CLAIMS:
        found.append((True, facts.audits[state.id].by, state.auditor_verdict))
    return found


# --- one area --------------------------------------------------------------------------------------------------------


def _area(head: AreaHead, facts: Facts) -> AreaState:
    requirements = facts.scope.catalog.by_area[head.id]
    states = tuple(_requirement(requirement, facts) for requirement in requirements)
    concerned = [state for state in states if state.applies]
    unanswered = tuple(state.id for state in concerned if state.standing is Verdict.NOT_ASSESSED)
    deviations = tuple(state.id for state in states if _deviates(state))
    criteria = {item.id for item in requirements if item.aspect is Aspect.CRITERION}
    set_aside = tuple(
        state.id for state in concerned if state.id in criteria and state.standing is Verdict.NOT_APPLICABLE
    )
    return AreaState(
        id=head.id,
        requirements=states,
        open=unanswered,
        deviations=deviations,
        unmet=tuple(name for name in deviations if name in criteria),
        set_aside=set_aside,
        sentence=_area_sentence(len(concerned), len(unanswered), len(deviations), len(set_aside)),
    )


def _deviates(state: RequirementState) -> bool:
    stated = state.applies and state.standing in {Verdict.PARTLY, Verdict.NOT_FULFILLED}
    return stated or Status.FAIL in state.checks.values()


def _area_sentence(total: int, unanswered: int, deviations: int, set_aside: int) -> str:
    if not total and not deviations:
        return _("does not concern this system")
    if total and unanswered == total:
        return _("not assessed") if not deviations else _("not answered, {n} failed by measurement", n=deviations)
    found = plural("{n} deviation", "{n} deviations", deviations) if deviations else _("no deviation")
    if unanswered:
        found = _("{found} so far, {n} of {total} requirements open", found=found, n=unanswered, total=total)
    return f"{found}, {_set_aside(set_aside)}" if set_aside else found


def _set_aside(n: int) -> str:
    return plural("{n} criterion stated not applicable", "{n} criteria stated not applicable", n)


# --- one dimension ---------------------------------------------------------------------------------------------------


def _dimension(head: DimensionHead, facts: Facts) -> DimensionState:
    configuration, catalog = facts.scope.configuration, facts.scope.catalog
    areas = tuple(_area(area, facts) for area in head.areas)
    by_id = {state.id: state for area in areas for state in area.requirements}
    states = tuple(by_id.values())
    concerned = [state for state in states if state.applies]
    need = configuration.protection_needs.of(head.id)
    skipped = need is not None and need.level is Level.LOW
    contradictions = _contradictions(states, facts)
    checks = {check for state in states for check in state.checks}
    decisive = {
        item.id
        for area in head.areas
        for item in catalog.by_area[area.id]
        if item.aspect in {Aspect.CRITERION, Aspect.OVERALL}
    }
    ceiling, why = _ceiling(head, areas, contradictions, _unclear(checks, facts), decisive)
    wanted = [
        by_id[item.id]
        for area in head.areas
        for item in catalog.by_area[area.id]
        if item.wants_test and Kind.TEST not in item.conditional and by_id[item.id].applies
    ]
    claimed = [state for state in concerned if state.evidence.attached or state.evidence.expected]
    rating = _rating(head, facts, None if skipped else ceiling)
    high = need is not None and need.level is Level.HIGH and head.is_dimension
    summary = facts.scope.answers.get(f"{head.id}-S")
    stated = summary.replies.get("residual_risk") if summary else None
    return DimensionState(
        id=head.id,
        title=head.title,
        need=need.level if need else None,
        need_because=need.because if need else "",
        skipped=skipped,
        areas=areas,
        answered=sum(state.self_verdict is not Verdict.NOT_ASSESSED for state in concerned),
        audited=sum(state.auditor_verdict is not Verdict.NOT_ASSESSED for state in concerned),
        total=len(concerned),
        left_out=len(states) - len(concerned),
        tests_wanted=len(wanted),
        tests_measured=sum(bool(set(state.checks.values()) & _MEASURED) for state in wanted),
        evidence_wanted=len(claimed),
        evidence_attached=sum(bool(state.evidence.attached) for state in claimed),
        evidence_aged=sum(state.evidence.is_stale for state in claimed),
        statuses=dict(sorted(Counter(facts.runs[check].outcome.status for check in checks).items())),
        contradictions=contradictions,
        ceiling=None if skipped else ceiling,
        ceiling_because=_("the protection need is low, so this dimension is not assessed") if skipped else why,
        stated=str(stated) if stated else None,
        rating=rating,
        second_wanted=high and rating is not None and not rating.second,
        trade_offs={name: item for name, item in facts.summary.trade_offs.items() if item.between[0] == head.id},
    )


def _unclear(checks: set[str], facts: Facts) -> list[str]:
    targets = facts.scope.configuration.targets
    return [
        check
        for check in sorted(checks)
        if facts.runs[check].outcome.status in _UNCLEAR or not judged_against(facts.runs[check], targets.get(check))
    ]


def _ceiling(
    head: DimensionHead,
    areas: tuple[AreaState, ...],
    contradictions: tuple[Contradiction, ...],
    unclear: list[str],
    criteria: set[str],
) -> tuple[ResidualRisk | None, str]:
    """The best residual risk a person may state. The catalog lets deviations be acceptable, never invisible."""
    if not head.is_dimension:
        return None, _("not rated: profile and final judgement carry no residual risk of their own")
    if contradictions:
        return ResidualRisk.UNACCEPTABLE, plural(
            "{n} contradiction between statements and measurements must be settled first",
            "{n} contradictions between statements and measurements must be settled first",
            len(contradictions),
        )
    risk_areas = [state for state, area in zip(areas, head.areas, strict=True) if area.kind is AreaKind.RISK]
    unanswered = [name for area in risk_areas for name in area.open]
    decisive = [name for name in unanswered if name in criteria]
    if decisive:
        return None, plural(
            "{n} criterion or overall assessment is unanswered: {first}",
            "{n} criteria and overall assessments are unanswered, {first} first",
            len(decisive),
            first=decisive[0],
        )
    deviations = [name for area in risk_areas for name in area.deviations]
    set_aside = [name for area in risk_areas for name in area.set_aside]
    outdated = [state.id for area in areas for state in area.requirements if state.outdated and state.applies]
    found = [
        plural("{n} deviation", "{n} deviations", len(deviations)) if deviations else "",
        plural("{n} check without a clear result", "{n} checks without a clear result", len(unclear))
        if unclear
        else "",
        _set_aside(len(set_aside)) if set_aside else "",
        plural("{n} measure unanswered", "{n} measures unanswered", len(unanswered)) if unanswered else "",
        plural("{n} answer changed after its audit", "{n} answers changed after their audit", len(outdated))
        if outdated
        else "",
    ]
    if any(found):
        return ResidualRisk.ACCEPTABLE, ", ".join(text for text in found if text)
    return ResidualRisk.NEGLIGIBLE, _("every requirement is answered and nothing deviates")


def _rating(head: DimensionHead, facts: Facts, ceiling: ResidualRisk | None) -> Rating | None:
    """The auditor's rating, else the developer's, and whether it stands under the ceiling."""
    if not head.is_dimension:
        return None
    rated = facts.summary.dimensions.get(head.id)
    if rated is not None:
        risk, by, second, auditor = rated.residual_risk, rated.by, rated.second.by if rated.second else "", True
    else:
        answer = facts.scope.answers.get(f"{head.id}-S")
        said = answer.replies.get("residual_risk") if answer else None
        if answer is None or said not in set(ResidualRisk):
            return None
        risk, by, second, auditor = ResidualRisk(str(said)), answer.by, "", False
    fault = ""
    if rank(risk) > rank(ceiling):
        best = _(ceiling.value) if ceiling else _("nothing")
        fault = _("stated better than the {best} that the findings allow", best=best)
    return Rating(risk=risk, by=by, auditor=auditor, second=second, fault=fault)


# --- the whole -------------------------------------------------------------------------------------------------------


def judge_overall(states: Sequence[DimensionState], facts: Facts) -> OverallState:
    """What the final statement on trustworthiness may at best be.

    "No" where a dimension is unacceptable and no named person accepted a trade-off for it, or where a contradiction is
    open. Nothing while a dimension is unrated. "With conditions" where a risk is only acceptable, a trade-off was made
    or a second person has not agreed. "Yes" else.

    Args:
        states: Of all dimensions.
        facts: All that is judged on.

    Returns:
        The best conclusion, and whether the stated one stands.
    """
    heads = {head.id: head for head in facts.scope.catalog.head.dimensions}
    rated = [state for state in states if heads[state.id].is_dimension and not state.skipped]
    nothing, conditions = [], []
    no = [_("{dimension}: a contradiction is open", dimension=state.title) for state in states if state.contradictions]
    for state in rated:
        values = {"dimension": state.title}
        if state.contradictions:
            continue
        if state.rating is None:
            nothing.append(_("{dimension}: nobody rated the residual risk", **values))
        elif state.rating.fault:
            nothing.append(f"{state.title}: {state.rating.fault}")
        elif state.rating.risk is ResidualRisk.UNACCEPTABLE:
            if state.trade_offs:
                conditions.append(_("{dimension}: unacceptable, accepted as a trade-off", **values))
            else:
                no.append(_("{dimension}: residual risk unacceptable, and no trade-off accepts it", **values))
        elif state.second_wanted:
            conditions.append(_("{dimension}: the need is high and a second person has not agreed", **values))
        elif state.rating.risk is ResidualRisk.ACCEPTABLE or state.trade_offs:
            conditions.append(_("{dimension}: residual risk acceptable, not negligible", **values))
    undecided = [state.title for state in states if heads[state.id].is_dimension and state.need is None]
    nothing += [_("{dimension}: its protection need is undecided", dimension=title) for title in undecided]
    allowed = "no" if no else None if nothing else "with conditions" if conditions else "yes"
    stated = facts.summary.conclusion.trustworthy if facts.summary.conclusion else None
    fault = ""
    if stated is not None and CONCLUSIONS.index(stated) > (CONCLUSIONS.index(allowed) if allowed else 0):
        fault = _("stated better than the findings allow")
    return OverallState(allowed=allowed, because=(*no, *nothing, *conditions), stated=stated, fault=fault)
