"""Outcomes upward: checks and answers to requirement, area, dimension, and the residual risk they still allow.

Nothing is averaged, and nothing unanswered or unmeasured counts as good.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from enum import StrEnum

from assessor.contract import Frozen
from assessor.model import (
    Answer,
    AreaKind,
    Aspect,
    Catalog,
    CheckRun,
    Configuration,
    DimensionHead,
    Kind,
    Level,
    Requirement,
    Status,
    Verdict,
)
from assessor.verdicts import judged_against


class ResidualRisk(StrEnum):
    """What a person rates a dimension's remaining risk."""

    NEGLIGIBLE = "negligible"
    ACCEPTABLE = "acceptable"
    UNACCEPTABLE = "unacceptable"


class Contradiction(Frozen):
    """An answer and a measurement that cannot both be right."""

    requirement: str
    check: str
    sentence: str


class RequirementState(Frozen):
    """Everything known about one requirement.

    Attributes:
        id: The requirement.
        self_verdict: The developer's own, not_assessed when unanswered.
        checks: Outcomes of the checks bound to it, by check id.
        contradictions: Check ids that fail although the answer says fulfilled.
    """

    id: str
    self_verdict: Verdict
    checks: Mapping[str, Status]
    contradictions: tuple[str, ...]


class AreaState(Frozen):
    """One area: what is open, what deviates.

    Attributes:
        id: The area.
        requirements: Its requirements' states, in order.
        open: Ids nobody answered.
        deviations: Ids answered partly or not fulfilled, or failed by a check.
        sentence: The area's state in words; "no deviation" only when nothing is open.
    """

    id: str
    requirements: tuple[RequirementState, ...]
    open: tuple[str, ...]
    deviations: tuple[str, ...]
    sentence: str


class DimensionState(Frozen):
    """One dimension: the best residual risk that a person may still state, and why.

    Attributes:
        id: The dimension.
        title: Its title.
        need: Protection need, None while nobody decided.
        need_because: Its reason.
        skipped: Whether the need is low, so that nothing is asked.
        areas: States of its areas.
        answered: Number of answered requirements.
        total: Number of requirements.
        tests_wanted: Requirements that demand a test report.
        tests_measured: Those with at least one check result.
        statuses: Number of check results by status.
        contradictions: Between answers and measurements.
        ceiling: Best residual risk that may be stated; None when nothing can be said yet.
        ceiling_because: Why not better.
        stated: What the developer stated in the dimension's summary, or None.
    """

    id: str
    title: str
    need: Level | None
    need_because: str
    skipped: bool
    areas: tuple[AreaState, ...]
    answered: int
    total: int
    tests_wanted: int
    tests_measured: int
    statuses: Mapping[Status, int]
    contradictions: tuple[Contradiction, ...]
    ceiling: ResidualRisk | None
    ceiling_because: str
    stated: str | None


def judge_assessment(
    catalog: Catalog, configuration: Configuration, answers: Mapping[str, Answer], runs: Mapping[str, CheckRun]
) -> tuple[DimensionState, ...]:
    """The state of every part of the catalog, the AI profile and the final judgement included.

    Args:
        catalog: The requirements.
        configuration: Protection needs.
        answers: Answers by requirement id.
        runs: Current results by check id.

    Returns:
        One state a dimension, in the catalog's order.
    """
    return tuple(_dimension(head, catalog, configuration, answers, runs) for head in catalog.head.dimensions)


def _dimension(
    head: DimensionHead,
    catalog: Catalog,
    configuration: Configuration,
    answers: Mapping[str, Answer],
    runs: Mapping[str, CheckRun],
) -> DimensionState:
    areas = tuple(_area(area.id, catalog.by_area[area.id], answers, runs) for area in head.areas)
    requirements = [requirement for area in head.areas for requirement in catalog.by_area[area.id]]
    states = [state for area in areas for state in area.requirements]
    need = configuration.protection_needs.of(head.id)
    skipped = need is not None and need.level is Level.LOW
    contradictions = tuple(
        Contradiction(requirement=state.id, check=check, sentence=_contradiction(state.id, check, answers, runs))
        for state in states
        for check in state.contradictions
    )
    concerned = {check for state in states for check in state.checks}
    unclear = [
        check
        for check in sorted(concerned)
        if runs[check].outcome.status in _UNCLEAR or not judged_against(runs[check], configuration.targets.get(check))
    ]
    ceiling, why = _ceiling(head, catalog, areas, contradictions, unclear)
    wanted = [item for item in requirements if item.wants_test and Kind.TEST not in item.conditional]
    measured = {state.id for state in states if set(state.checks.values()) & _MEASURED}
    summary = answers.get(f"{head.id}-S")
    return DimensionState(
        id=head.id,
        title=head.title,
        need=need.level if need else None,
        need_because=need.because if need else "",
        skipped=skipped,
        areas=areas,
        answered=sum(state.self_verdict is not Verdict.NOT_ASSESSED for state in states),
        total=len(states),
        tests_wanted=len(wanted),
        tests_measured=sum(requirement.id in measured for requirement in wanted),
        statuses=dict(sorted(Counter(runs[check].outcome.status for check in concerned).items())),
        contradictions=contradictions,
        ceiling=None if skipped else ceiling,
        ceiling_because="the protection need is low, so this dimension is not assessed" if skipped else why,
        stated=summary.replies.get("residual_risk") if summary else None,
    )


_UNCLEAR = {Status.INCONCLUSIVE, Status.ERROR}
_MEASURED = {Status.PASS, Status.FAIL, Status.INCONCLUSIVE, Status.MEASURED}


def _area(
    area: str, requirements: tuple[Requirement, ...], answers: Mapping[str, Answer], runs: Mapping[str, CheckRun]
) -> AreaState:
    states = tuple(_requirement(requirement, answers, runs) for requirement in requirements)
    unanswered = tuple(state.id for state in states if state.self_verdict is Verdict.NOT_ASSESSED)
    deviations = tuple(
        state.id
        for state in states
        if state.self_verdict in {Verdict.PARTLY, Verdict.NOT_FULFILLED} or Status.FAIL in state.checks.values()
    )
    return AreaState(
        id=area,
        requirements=states,
        open=unanswered,
        deviations=deviations,
        sentence=_area_sentence(len(states), len(unanswered), len(deviations)),
    )


def _area_sentence(total: int, unanswered: int, deviations: int) -> str:
    if unanswered == total:
        return "not assessed" if not deviations else f"not answered, {deviations} failed by measurement"
    found = f"{deviations} deviation{'s' if deviations != 1 else ''}" if deviations else "no deviation"
    if unanswered:
        return f"{found} so far, {unanswered} of {total} requirements open"
    return found


def _requirement(
    requirement: Requirement, answers: Mapping[str, Answer], runs: Mapping[str, CheckRun]
) -> RequirementState:
    answer = answers.get(requirement.id)
    bound = {check: run.outcome.status for check, run in runs.items() if requirement.id in run.requirements}
    verdict = answer.value if answer else Verdict.NOT_ASSESSED
    failing = tuple(check for check, status in bound.items() if status is Status.FAIL)
    return RequirementState(
        id=requirement.id,
        self_verdict=Verdict(verdict),
        checks=bound,
        contradictions=failing if verdict is Verdict.FULFILLED else (),
    )


def _contradiction(requirement: str, check: str, answers: Mapping[str, Answer], runs: Mapping[str, CheckRun]) -> str:
    answer = answers[requirement]
    return f"{answer.by} answered {requirement} “fulfilled”, but {check} measured: {runs[check].outcome.sentence}"


def _ceiling(
    head: DimensionHead,
    catalog: Catalog,
    areas: tuple[AreaState, ...],
    contradictions: tuple[Contradiction, ...],
    unclear: list[str],
) -> tuple[ResidualRisk | None, str]:
    """The best residual risk a person may state. The catalog lets deviations be acceptable, never invisible."""
    if not head.is_dimension:
        return None, "not rated: profile and final judgement carry no residual risk of their own"
    if contradictions:
        return (
            ResidualRisk.UNACCEPTABLE,
            f"{_count(contradictions, 'contradiction')} between answers and measurements must be settled first",
        )
    risk_areas = [state for state, area in zip(areas, head.areas, strict=True) if area.kind is AreaKind.RISK]
    criteria = {item.id for item in catalog.requirements if item.aspect in {Aspect.CRITERION, Aspect.OVERALL}}
    missing = [name for area in risk_areas for name in area.open if name in criteria]
    if missing:
        return (
            None,
            f"{_count(missing, 'criterion', 'criteria')} and overall assessments are unanswered, {missing[0]} first",
        )
    deviations = [name for area in risk_areas for name in area.deviations]
    unanswered = [name for area in risk_areas for name in area.open]
    if deviations or unclear or unanswered:
        found = [
            _count(deviations, "deviation") if deviations else "",
            f"{_count(unclear, 'check')} without a clear result" if unclear else "",
            f"{_count(unanswered, 'measure')} unanswered" if unanswered else "",
        ]
        return ResidualRisk.ACCEPTABLE, ", ".join(text for text in found if text)
    return ResidualRisk.NEGLIGIBLE, "every requirement is answered and nothing deviates"


def _count(items: tuple[object, ...] | list[str], word: str, plural: str | None = None) -> str:
    return f"{len(items)} {word if len(items) == 1 else plural or word + 's'}"
