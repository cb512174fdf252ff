"""What an assessment found, as OSCAL assessment results.

    check result                 observation by TEST, with every number and its interval
    answer, auditor's verdict    observation by EXAMINE; TEST where the auditor measured again
    objective of a requirement   finding, with both verdicts in its properties
    residual risk, trade-off     risk; conclusion: attestation
    not assessed                 property of the reviewed controls, never a finding
    not applicable               excluded control with its reason, never a finding

Where a measurement contradicts a statement, the finding is `not-satisfied`, whatever was stated.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from assessor.exports.oscal_catalog import objective_id, statement_id
from assessor.exports.oscal_observations import (
    answer_observation,
    answer_uuid,
    audit_observation,
    audit_uuid,
    observed_answers,
    origin,
    run_observation,
    run_uuid,
)
from assessor.exports.oscal_plan import planned_checks
from assessor.exports.oscal_scope import AUDITOR, DEVELOPER, OWNER, Export, selection
from assessor.exports.oscal_words import NS, PLAN, Node, filled, line, moment, optional, prop, props
from assessor.messages import _
from assessor.model import DimensionState, Requirement, RequirementState, ResidualRisk, TradeOff, Verdict

SATISFIED, NOT_SATISFIED = "satisfied", "not-satisfied"
_STATUS = {
    Verdict.FULFILLED: (SATISFIED, "pass"),
    Verdict.PARTLY: (NOT_SATISFIED, "other"),
    Verdict.NOT_FULFILLED: (NOT_SATISFIED, "fail"),
}


def results_to_oscal(export: Export) -> Node:
    """The results.

    Args:
        export: The assessment.

    Returns:
        The document.
    """
    found = export.found
    observations = [
        *(run_observation(export, check) for check in found.runs),
        *(answer_observation(export, name) for name in observed_answers(export)),
        *(audit_observation(export, name) for name in found.audits),
    ]
    moments = sorted(item["collected"] for item in observations) or [moment(export.modified)]
    return {
        "assessment-results": filled(
            uuid=export.uid("results", found.ledger_head),
            metadata=export.metadata(_("assessment results")),
            import_ap={"href": PLAN},
            results=[
                filled(
                    uuid=export.uid("result", found.ledger_head),
                    title=export.system,
                    description=_description(export),
                    start=moments[0],
                    end=moments[-1],
                    local_definitions=filled(
                        components=[export.system_component()], assessment_assets=export.assets(planned_checks(export))
                    ),
                    reviewed_controls=selection(
                        export.scope.assessed, export.scope.excluded, props("not-assessed", export.scope.open)
                    ),
                    attestations=_attestations(export),
                    observations=observations,
                    risks=_risks(export),
                    findings=_findings(export),
                )
            ],
            back_matter=filled(resources=export.files()) or None,
        )
    }


def _description(export: Export) -> str:
    scope = export.scope
    return _(
        "{assessed} requirements were assessed, {open} are open, {excluded} do not concern the system. "
        "What is open is not satisfied.",
        assessed=len(scope.assessed),
        open=len(scope.open),
        excluded=len(scope.excluded),
    )


# --- findings --------------------------------------------------------------------------------------------------------


def objective_status(state: RequirementState, *, unmet: bool = False) -> tuple[str, str] | None:
    """State and reason of an objective's finding.

    Args:
        state: Of its requirement.
        unmet: Whether the auditor named this objective as not met.

    Returns:
        State and reason; None where there is no finding: nothing assessed, or it does not concern the system. Never
        `satisfied` where a measurement contradicts a statement.
    """
    if state.contradictions:
        return NOT_SATISFIED, "other"
    if not state.applies or state.standing not in _STATUS:
        return None
    status = _STATUS[state.standing]
    return (NOT_SATISFIED, "fail") if unmet and status[0] == SATISFIED else status


def _findings(export: Export) -> list[Node]:
    found = []
    for name in export.scope.assessed:
        requirement, state = export.found.catalog.by_id[name], export.states[name]
        audit = export.found.audits.get(name)
        for objective in requirement.objectives:
            named = audit is not None and objective.id in audit.objectives
            status = objective_status(state, unmet=named)
            if status is not None:
                target = filled(
                    type="objective-id",
                    target_id=objective_id(name, objective.id),
                    status=filled(state=status[0], reason=status[1], remarks=_contradicted(export, name)),
                )
                found.append(_finding(export, requirement, objective.text, target, named=named))
        if not requirement.objectives and (status := objective_status(state)) is not None:
            target = filled(
                type="statement-id",
                target_id=statement_id(name),
                status=filled(state=status[0], reason=status[1], remarks=_contradicted(export, name)),
            )
            found.append(_finding(export, requirement, requirement.statement, target, named=False))
    return found


def _contradicted(export: Export, name: str) -> str:
    return "\n".join(item.sentence for item in export.found.contradictions if item.requirement == name)


def _finding(export: Export, requirement: Requirement, text: str, target: Node, *, named: bool) -> Node:
    state, rated = export.states[requirement.id], _rated(export)
    answer, audit = export.found.answers.get(state.id), export.found.audits.get(state.id)
    actors = [
        *([origin(export, answer.by, DEVELOPER)] if answer else []),
        *([origin(export, audit.by, AUDITOR)] if audit else []),
    ]
    observed = [
        *([answer_uuid(export, state.id)] if answer else []),
        *([audit_uuid(export, state.id)] if audit else []),
        *(run_uuid(export, check) for check in state.checks),
    ]
    return filled(
        uuid=export.uid("finding", target["target-id"]),
        title=f"{target['target-id']} {line(requirement.title)}",
        description=text,
        props=[
            *optional(
                verdict=state.standing,
                self_verdict=state.self_verdict,
                auditor_verdict=state.auditor_verdict,
                assurance=state.assurance,
            ),
            *([prop("named-by-auditor", "yes")] if named else []),
            *([prop("outdated", "yes")] if state.outdated else []),
            *(prop("check", check, remarks=status) for check, status in state.checks.items()),
            *props("contradiction", state.contradictions),
        ],
        origins=[{"actors": [actor]} for actor in actors],
        target=target,
        related_observations=[{"observation-uuid": identifier} for identifier in observed],
        related_risks=[{"risk-uuid": _risk_uuid(export, requirement.dimension)}]
        if requirement.dimension in rated
        else None,
    )


# --- risks -----------------------------------------------------------------------------------------------------------


def _rated(export: Export) -> dict[str, DimensionState]:
    return {state.id: state for state in export.found.states if state.rating is not None and not state.skipped}


def _risk_uuid(export: Export, dimension: str) -> str:
    return export.uid("risk", dimension)


def _risks(export: Export) -> list[Node]:
    trade_offs = export.found.summary.trade_offs
    return [
        *(_risk(export, state) for state in _rated(export).values()),
        *(_trade_off(export, name, item) for name, item in trade_offs.items()),
    ]


def _risk(export: Export, state: DimensionState) -> Node:
    """The residual risk of a dimension as it was rated."""
    rating = state.rating
    if rating is None:
        raise ValueError(f"{state.id}: not rated")
    stated = export.found.summary.dimensions.get(state.id)
    answer = export.found.answers.get(f"{state.id}-S")
    because = stated.because if stated else answer.because if answer else ""
    actor = origin(export, rating.by, AUDITOR if rating.auditor else DEVELOPER)
    facets = {
        "residual-risk": rating.risk.value,
        "protection-need": state.need.value if state.need else "",
        "best-that-findings-allow": state.ceiling.value if state.ceiling else "",
    }
    return filled(
        uuid=_risk_uuid(export, state.id),
        title=_("Residual risk: {dimension}", dimension=line(state.title)),
        description=because or rating.risk.value,
        statement=state.ceiling_because,
        props=[
            prop("dimension", state.id),
            prop("slot", AUDITOR if rating.auditor else "self"),
            *optional(second=rating.second, fault=rating.fault),
            *([prop("second-wanted", "yes")] if state.second_wanted else []),
        ],
        status=_risk_status(state),
        origins=[{"actors": [actor]}],
        characterizations=[
            {
                "origin": {"actors": [actor]},
                "facets": [{"name": name, "system": NS, "value": value} for name, value in facets.items() if value],
            }
        ],
    )


def _risk_status(state: DimensionState) -> str:
    """Closed only where an auditor rated it negligible and the rating stands; approved only by an auditor."""
    rating = state.rating
    if rating is None or rating.fault or state.second_wanted:
        return "open"
    if rating.risk is ResidualRisk.NEGLIGIBLE:
        return "closed" if rating.auditor else "open"
    if rating.risk is ResidualRisk.ACCEPTABLE or state.trade_offs:
        return "deviation-approved" if rating.auditor else "deviation-requested"
    return "open"


def _trade_off(export: Export, name: str, item: TradeOff) -> Node:
    gives, *gains = item.between
    actor = origin(export, item.accepted_by, OWNER)
    return filled(
        uuid=export.uid("trade-off", name),
        title=_("Trade-off {name}: {gives} gives for {gains}", name=name, gives=gives, gains=", ".join(gains)),
        description=item.what,
        statement=item.because,
        props=[prop("trade-off", name), prop("gives", gives), *props("gains", gains), prop("at", moment(item.at))],
        status="deviation-approved",
        origins=[{"actors": [actor]}],
    )


def _attestations(export: Export) -> Sequence[Node]:
    """The auditor's conclusion."""
    conclusion, overall = export.found.summary.conclusion, export.found.overall
    if conclusion is None:
        return []
    stated: datetime = conclusion.at
    return [
        {
            "responsible-parties": [{"role-id": AUDITOR, "party-uuids": [export.party(conclusion.by)]}],
            "parts": [
                filled(
                    uuid=export.uid("conclusion"),
                    name="conclusion",
                    ns=NS,
                    props=[
                        prop("trustworthy", conclusion.trustworthy),
                        prop("at", moment(stated)),
                        *optional(conditions=conclusion.conditions, allowed=overall.allowed, fault=overall.fault),
                    ],
                    prose=conclusion.because,
                )
            ],
        }
    ]
