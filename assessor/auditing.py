"""The auditor's side: verdicts, ratings, trade-offs and the conclusion, each checked and saved by itself."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from assessor.assessment import Assessment
from assessor.canonical import canonical_json, sha256_hex
from assessor.errors import UsageError, nearest
from assessor.messages import _
from assessor.model import (
    Assurance,
    Audit,
    Conclusion,
    DimensionHead,
    DimensionRating,
    Reply,
    Requirement,
    ResidualRisk,
    Second,
    TradeOff,
    Verdict,
)
from assessor.project import Project, now
from assessor.questionnaire import select
from assessor.replies import checked_reply, checked_verdict, chosen, reply_fault

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Judgement:
    """What an auditor says beside the verdict.

    Attributes:
        because: The reason.
        deviation: What falls short.
        assurance: How it was established; None for document_reviewed where there is an answer or evidence.
        objectives: Ids of objectives that are not met.
        comment: Anything else.
        replies: To the auditor's questions.
    """

    because: str
    deviation: str = ""
    assurance: str | None = None
    objectives: tuple[str, ...] = ()
    comment: str = ""
    replies: Mapping[str, Reply] = field(default_factory=dict)


def due(found: Assessment, which: str | None = None) -> tuple[Requirement, ...]:
    """Requirements an auditor has yet to judge: not judged, or answered anew since.

    Args:
        found: The assessment.
        which: Only this requirement (judged or not), area or dimension.

    Returns:
        In the catalog's order, contradictions first.

    Raises:
        UsageError: Nothing in the catalog is called `which`.
    """
    selected = select(found.catalog, which)
    if which in found.catalog.by_id:
        return selected
    states = {state.id: state for head in found.states for area in head.areas for state in area.requirements}
    contradicted = {item.requirement for item in found.contradictions}
    waiting = [
        item
        for item in selected
        if states[item.id].applies and (item.id not in found.audits or states[item.id].outdated)
    ]
    return tuple(sorted(waiting, key=lambda item: item.id not in contradicted))


def to_rate(found: Assessment, which: str | None = None) -> tuple[DimensionHead, ...]:
    """Dimensions whose requirements are all judged and whose residual risk is not.

    Args:
        found: The assessment.
        which: Only within this selection.

    Returns:
        In the catalog's order.
    """
    concerned = {item.dimension for item in select(found.catalog, which)}
    states = {state.id: state for state in found.states}
    return tuple(
        head
        for head in found.catalog.head.dimensions
        if head.is_dimension
        and head.id in concerned
        and not states[head.id].skipped
        and states[head.id].audited == states[head.id].total
        and head.id not in found.summary.dimensions
    )


def save(
    project: Project, found: Assessment, requirement: Requirement, verdict: Verdict, judged: Judgement, *, by: str
) -> None:
    """Save the verdict on one requirement.

    Args:
        project: The folder.
        found: The assessment, whose answer is judged.
        requirement: What is judged.
        verdict: The auditor's.
        judged: What else is said.
        by: Who judges.

    Raises:
        UsageError: Something is missing or does not fit; then nothing is saved.
    """
    answer = found.answers.get(requirement.id)
    audit = _audit(requirement, verdict, judged, by=by, answer_at=answer.at if answer else None)
    project.save_audit(requirement.id, requirement.area, audit)


def _audit(
    requirement: Requirement, verdict: Verdict, judged: Judgement, *, by: str, answer_at: datetime | None
) -> Audit:
    """The verdict with all that goes with it; `answer_at` is the time of the answer that was judged."""
    if not judged.because:
        raise UsageError(_("--set {name}: the reason is missing, give  --because TEXT", name=requirement.id))
    if verdict in {Verdict.PARTLY, Verdict.NOT_FULFILLED} and not judged.deviation:
        raise UsageError(_("{name}: what falls short is missing, give  --deviation TEXT", name=requirement.id))
    for name, reply in judged.replies.items():
        question = requirement.question(name)
        if question is not None and (fault := reply_fault(question, reply)):
            raise UsageError(f"{requirement.id}.{name}: {fault}")
    letters = [item.id for item in requirement.objectives]
    if stray := set(judged.objectives) - set(letters):
        raise UsageError(
            _(
                "{name}: no objective '{text}'; known: {wanted}",
                name=requirement.id,
                text=min(stray),
                wanted=", ".join(letters),
            )
        )
    levels = [level.value for level in Assurance]
    given = judged.assurance.replace("-", "_") if judged.assurance else None
    if given is not None and given not in levels:
        raise UsageError(
            _("--assurance: found '{text}', wanted one of: {wanted}", text=given, wanted=", ".join(levels))
        )
    return _checked(
        Audit,
        value=verdict,
        because=judged.because,
        assurance=given or (Assurance.DOCUMENT_REVIEWED if answer_at else Assurance.SELF_DECLARED),
        deviation=judged.deviation,
        objectives=judged.objectives,
        replies=judged.replies,
        comment=judged.comment,
        answer_at=answer_at,
        by=by,
        at=now(),
    )


def raise_assurance(project: Project, held: Mapping[str, str], *, by: str) -> list[str]:
    """Note under the auditor's verdicts what was measured again and held: their assurance becomes re-performed.

    Args:
        project: The folder.
        held: Digests of the results that held, by check; results that have changed since do not count.
        by: Who measured again.

    Returns:
        Ids of the requirements that an auditor judged and all whose results are among these.
    """
    found, raised = Assessment.read(project), []
    same = {check for check, run in found.runs.items() if sha256_hex(canonical_json(run)) == held.get(check)}
    for requirement, audit in found.audits.items():
        rests_on = {check for check, run in found.runs.items() if run.metrics and requirement in run.requirements}
        if not rests_on or not rests_on <= same or audit.assurance is Assurance.RE_PERFORMED:
            continue
        said = _("measured again by {by} on {day}: {names}", by=by, day=now().date(), names=", ".join(sorted(rests_on)))
        comment = f"{audit.comment} {said}".strip()
        changed = audit.model_copy(update={"assurance": Assurance.RE_PERFORMED, "comment": comment})
        project.save_audit(requirement, found.catalog.by_id[requirement].area, changed, actor=by)
        raised.append(requirement)
    return raised


def save_settings(project: Project, settings: Sequence[str], judged: Judgement, *, by: str) -> list[str]:
    """Save what a script sets: verdicts of requirements and residual risks of dimensions.

    Args:
        project: The folder.
        settings: `ID=VERDICT`, `ID.QUESTION=TEXT` or `DIMENSION=RISK`.
        judged: What is said of all of them.
        by: Who judges.

    Returns:
        A line for each.

    Raises:
        UsageError: One of them does not fit; then nothing is saved.
    """
    found = Assessment.read(project)
    heads = {head.id: head for head in found.catalog.head.dimensions if head.is_dimension}
    ratings: list[tuple[str, ResidualRisk, DimensionRating]] = []
    verdicts: dict[str, Verdict] = {}
    replies: dict[str, dict[str, Reply]] = {}
    for setting in settings:
        left, separator, value = setting.partition("=")
        name, _dot, question_id = left.partition(".")
        if not separator:
            raise UsageError(_("--set: found '{setting}', wanted ID=VERDICT or DIMENSION=RISK", setting=setting))
        if name in heads and not question_id:
            risk = ResidualRisk(chosen(value, [risk.value for risk in ResidualRisk], {}))
            ratings.append((name, risk, _rated(name, risk, because=judged.because, by=by)))
            continue
        requirement = found.catalog.by_id.get(name)
        if requirement is None:
            raise UsageError(
                _("--set: no requirement or dimension '{name}'", name=name)
                + nearest(name, [*found.catalog.by_id, *heads])
            )
        replies.setdefault(requirement.id, {})
        if question_id:
            question = next((item for item in requirement.for_auditor if item.id == question_id), None)
            if question is None:
                wanted = ", ".join(item.id for item in requirement.for_auditor)
                raise UsageError(
                    _("--set: {id} has no question '{part}'; known: {known}", id=name, part=question_id, known=wanted)
                )
            replies[requirement.id][question_id] = checked_reply(question, value)
        else:
            verdicts[requirement.id] = checked_verdict(value)
    plan = []
    for name, said in replies.items():
        known = found.audits.get(name)
        verdict = verdicts.get(name) or (Verdict(known.value) if known else None)
        if verdict is None:
            raise UsageError(_("--set {name}: its verdict is missing, give  --set {name}=fulfilled", name=name))
        merged = _merged(judged, known, said, same=known is not None and verdict == known.value)
        requirement, answer = found.catalog.by_id[name], found.answers.get(name)
        answer_at = known.answer_at if known and name not in verdicts else answer.at if answer else None
        plan.append((requirement, _audit(requirement, verdict, merged, by=by, answer_at=answer_at)))
    for requirement, audit in plan:
        project.save_audit(requirement.id, requirement.area, audit)
    told = [f"{requirement.id} {audit.value}" for requirement, audit in plan]
    return told + [rate(project, name, risk, because=judged.because, by=by) for name, risk, _rating in ratings]


def _merged(judged: Judgement, known: Audit | None, said: Mapping[str, Reply], *, same: bool) -> Judgement:
    """What is said now over what was said before; an earlier reason does not outlive its verdict."""
    if known is None:
        return replace(judged, replies=said)
    replies = {**known.replies, **said}
    if not same:
        return replace(judged, replies=replies)
    return Judgement(
        judged.because or known.because,
        judged.deviation or known.deviation,
        judged.assurance or known.assurance.value,
        judged.objectives or known.objectives,
        judged.comment or known.comment,
        replies,
    )


def rate(project: Project, dimension: str, risk: ResidualRisk, *, because: str, by: str) -> str:
    """Save the residual risk of a dimension.

    Args:
        project: The folder.
        dimension: Its id.
        risk: The rating.
        because: The reason.
        by: Who rates.

    Returns:
        What was saved, and whether it stands under the ceiling.

    Raises:
        UsageError: The reason is missing.
    """
    rating = _rated(dimension, risk, because=because, by=by)
    with project.lock():
        summary = project.audit_summary()
        changed = summary.model_copy(update={"dimensions": {**summary.dimensions, dimension: rating}})
        project.save_summary(changed, actor=by, action=f"rate {dimension}", because=because)
    state = next(item for item in Assessment.read(project).states if item.id == dimension)
    told = f"{dimension} {_(risk.value)}"
    if state.rating and state.rating.fault:
        told += f"  ({state.rating.fault}: {state.ceiling_because})"
    if state.second_wanted:
        told += "  " + _(
            "(the need is high: a second person agrees with  assessor audit --second {id} --by NAME)", id=dimension
        )
    return told


def _rated(dimension: str, risk: ResidualRisk, *, because: str, by: str) -> DimensionRating:
    if not because.strip():
        raise UsageError(_("--set {name}: the reason is missing, give  --because TEXT", name=dimension))
    return _checked(DimensionRating, residual_risk=risk, because=because, by=by, at=now())


def agree(project: Project, dimension: str, *, by: str) -> str:
    """Agree to a dimension's rating as the second person.

    Args:
        project: The folder.
        dimension: Its id.
        by: The second person.

    Returns:
        What was saved.

    Raises:
        UsageError: It is not rated, or by the same person.
    """
    with project.lock():
        summary = project.audit_summary()
        rating = summary.dimensions.get(dimension)
        if rating is None:
            known = ", ".join(summary.dimensions) or _("none")
            raise UsageError(_("--second: no rating of '{name}'; rated: {known}", name=dimension, known=known))
        agreed = _checked(DimensionRating, **{**dict(rating), "second": _checked(Second, by=by, at=now())})
        changed = summary.model_copy(update={"dimensions": {**summary.dimensions, dimension: agreed}})
        project.save_summary(changed, actor=by, action=f"agree {dimension}", because=rating.because)
    return f"{dimension} {_(rating.residual_risk.value)}: {rating.by}, {by}"


def accept(project: Project, text: str, *, what: str, because: str, by: str) -> str:
    """Accept a trade-off between dimensions.

    Args:
        project: The folder.
        text: `NAME=GIVES,GAINS`.
        what: What is given up.
        because: Why that is within reason and cannot be avoided.
        by: Who answers for it.

    Returns:
        What was saved.

    Raises:
        UsageError: A part is missing, or a dimension is none.
    """
    name, _separator, between = text.partition("=")
    name, parts = name.strip(), [part.strip() for part in between.split(",") if part.strip()]
    if not _NAME.fullmatch(name) or len(parts) < 2 or len(set(parts)) < len(parts):
        raise UsageError(_("--trade-off: found '{text}', wanted NAME=GIVES,GAINS such as T1=RE,FN", text=text))
    heads = [head.id for head in Assessment.read(project).catalog.head.dimensions if head.is_dimension]
    for part in parts:
        if part not in heads:
            raise UsageError(_("--trade-off: no dimension '{name}'; known: {known}", name=part, known=", ".join(heads)))
    if not what or not because:
        raise UsageError(_("--trade-off: give  --what TEXT  and  --because TEXT"))
    item = _checked(TradeOff, between=tuple(parts), what=what, because=because, accepted_by=by, at=now())
    with project.lock():
        summary = project.audit_summary()
        changed = summary.model_copy(update={"trade_offs": {**summary.trade_offs, name: item}})
        project.save_summary(changed, actor=by, action=f"trade-off {name}", because=because)
    return f"{name}: {' < '.join(parts)}, {by}"


def conclude(project: Project, verdict: str, *, because: str, conditions: str, by: str) -> str:
    """Save the final statement on trustworthiness.

    Args:
        project: The folder.
        verdict: yes, with conditions or no.
        because: The reason.
        conditions: What it is bound to.
        by: Who states it.

    Returns:
        What was saved, and whether the findings allow it.

    Raises:
        UsageError: The reason is missing, or conditions where they are named.
    """
    choices = get_args(Conclusion.model_fields["trustworthy"].annotation)
    word = chosen(verdict, choices, {})
    if not because:
        raise UsageError(_("--conclude: the reason is missing, give  --because TEXT"))
    if word == "with conditions" and not conditions:
        raise UsageError(_("--conclude: the conditions are missing, give  --conditions TEXT"))
    statement = _checked(Conclusion, trustworthy=word, because=because, conditions=conditions, by=by, at=now())
    with project.lock():
        changed = project.audit_summary().model_copy(update={"conclusion": statement})
        project.save_summary(changed, actor=by, action="conclude", because=because)
    overall = Assessment.read(project).overall
    told = f"{_('trustworthy')}: {_(word)}"
    return told + (f"  ({overall.fault}: {'; '.join(overall.because)})" if overall.fault else "")


Made = TypeVar("Made", bound=BaseModel)


def _checked(kind: type[Made], **values: Any) -> Made:
    try:
        return kind.model_validate(values)
    except ValidationError as faults:
        told = [
            f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}".removeprefix(": ").replace("Value error, ", "")
            for fault in faults.errors()
        ]
        raise UsageError("; ".join(told)) from faults
