"""What was seen and said, as OSCAL observations: results of checks, developers' answers, auditors' verdicts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, time, timedelta

from assessor.exports.oscal_scope import AUDITOR, DEVELOPER, Export
from assessor.exports.oscal_words import Node, filled, line, moment, optional, prop, token
from assessor.judgement import attached_evidence
from assessor.messages import _
from assessor.model import Assurance, CheckRun, Reply, Requirement
from assessor.replies import shown_param, shown_reply


def origin(export: Export, name: str, role: str) -> Node:
    """A person as the actor behind something."""
    return {"type": "party", "actor-uuid": export.party(name), "role-id": role}


def run_uuid(export: Export, check: str) -> str:
    """UUID of the observation of a check's current result."""
    return export.uid("observation", "run", check, export.found.run_ids[check])


def answer_uuid(export: Export, requirement: str) -> str:
    """UUID of the observation of an answer."""
    return export.uid("observation", "answer", requirement)


def audit_uuid(export: Export, requirement: str) -> str:
    """UUID of the observation of an auditor's verdict."""
    return export.uid("observation", "audit", requirement)


def observed_answers(export: Export) -> list[str]:
    """Ids of the answers that are reported: of what concerns the system or is contradicted."""
    return [name for name in export.found.answers if export.states[name].applies or export.states[name].contradictions]


# --- checks ----------------------------------------------------------------------------------------------------------


def run_observation(export: Export, check: str) -> Node:
    """One measurement: numbers with their intervals, what was measured, and where the whole result lies."""
    run = export.found.runs[check]
    return filled(
        uuid=run_uuid(export, check),
        title=line(run.title),
        description=run.outcome.sentence,
        props=[
            *optional(check=check, check_version=run.check_version, status=run.outcome.status, seed=run.seed),
            *(prop("requirement", name) for name in run.requirements),
            *_target(run),
            *_metrics(run),
            *(prop("limit", text) for text in run.limits),
            *(prop("remark", text) for text in run.remarks),
            *optional(doubt=run.doubt),
        ],
        methods=["TEST"],
        types=["control-objective"],
        origins=[
            {
                "actors": [
                    filled(
                        type="tool",
                        actor_uuid=export.check_uuid(check),
                        props=optional(package=run.code.package, code_version=run.code.version),
                    )
                ]
            }
        ],
        subjects=[
            filled(
                subject_uuid=export.system_uuid,
                type="component",
                props=[
                    *optional(model_sha256=run.subject.model_sha256),
                    *(
                        prop("data-sha256", split.sha256, class_=token(name), remarks=f"n = {split.n}")
                        for name, split in run.subject.data.items()
                    ),
                ],
            )
        ],
        relevant_evidence=[
            {"href": f"#{export.result_uuid(check)}", "description": _("The stored result, with all of its numbers")}
        ],
        collected=moment(run.started),
    )


def _target(run: CheckRun) -> Iterator[Node]:
    if run.target is None:
        return
    low, high = run.target.interval
    yield from optional(target_metric=run.target.metric, target_low=low, target_high=high)
    yield from optional(target_because=run.target.because, target_source=run.target.source)


def _metrics(run: CheckRun) -> Iterator[Node]:
    """Every number: value, interval, coverage, sample size, unit and method, held together by the group."""
    for metric in run.metrics:
        parts = {
            "metric": metric.name,
            "value": metric.value,
            "low": metric.low,
            "high": metric.high,
            "confidence": metric.confidence,
            "unit": metric.unit,
            "n": metric.n,
            "method": metric.method,
        }
        for name, value in parts.items():
            if value not in (None, ""):
                yield prop(name, value, group=token(metric.name))


# --- people ----------------------------------------------------------------------------------------------------------


def answer_observation(export: Export, name: str) -> Node:
    """A developer's answer with its replies, targets and evidence; it expires with its evidence."""
    found = export.found
    requirement, answer = found.catalog.by_id[name], found.answers[name]
    evidence = attached_evidence(name, found.scope)
    return filled(
        uuid=answer_uuid(export, name),
        title=_("{requirement}: answer of the developer", requirement=name),
        description=answer.because,
        props=[
            *optional(requirement=name, self_verdict=answer.value, same_as=answer.same_as),
            *_replies(requirement, answer.replies, answer.origins),
            *_params(export, name),
        ],
        methods=["EXAMINE"],
        types=["control-objective"],
        origins=[{"actors": [origin(export, answer.by, DEVELOPER)]}],
        subjects=[{"subject-uuid": export.system_uuid, "type": "component"}],
        relevant_evidence=[
            filled(
                href=f"#{export.evidence_uuid(item)}",
                description=item.name,
                props=optional(sha256=item.sha256, document=item.document, collected=item.collected),
            )
            for item in evidence
        ],
        collected=moment(answer.at),
        expires=_expires(export, name),
    )


def _replies(requirement: Requirement, replies: Mapping[str, Reply], origins: Mapping[str, str]) -> Iterator[Node]:
    for name, reply in replies.items():
        question = requirement.question(name)
        if question is not None:
            yield prop("reply", shown_reply(question, reply) or "-", class_=token(name))
            if name in origins:
                yield prop("reply-origin", origins[name], class_=token(name))


def _params(export: Export, name: str) -> Iterator[Node]:
    requirement, answer = export.found.catalog.by_id[name], export.found.answers[name]
    for param_id, said in answer.params.items():
        param = requirement.param(param_id)
        if param is not None:
            yield prop("param", shown_param(param, said.value), class_=token(param_id))
            yield prop("param-because", said.because, class_=token(param_id))


def _expires(export: Export, name: str) -> str | None:
    """When the first of an answer's evidence expires or becomes older than the catalog lets it be."""
    requirement, answer = export.found.catalog.by_id[name], export.found.answers[name]
    attached = attached_evidence(name, export.found.scope)
    days = [
        (item.collected or answer.at.date()) + timedelta(days=expected.max_age_days)
        for item in attached
        for expected in requirement.evidence
        if expected.max_age_days and (item.document is None or expected.document == item.document)
    ]
    registered = (export.found.evidence.get(item.sha256) for item in attached)
    days += [item.expires for item in registered if item and item.expires]
    return moment(datetime.combine(min(days), time(), UTC)) if days else None


def audit_observation(export: Export, name: str) -> Node:
    """An auditor's verdict, and how it was come by."""
    requirement, audit = export.found.catalog.by_id[name], export.found.audits[name]
    return filled(
        uuid=audit_uuid(export, name),
        title=_("{requirement}: verdict of the auditor", requirement=name),
        description=audit.because,
        props=[
            *optional(
                requirement=name,
                auditor_verdict=audit.value,
                assurance=audit.assurance,
                deviation=audit.deviation,
                comment=audit.comment,
            ),
            *(prop("unmet-objective", f"{name}.{letter}") for letter in audit.objectives),
            *_replies(requirement, audit.replies, {}),
        ],
        methods=["TEST" if audit.assurance is Assurance.RE_PERFORMED else "EXAMINE"],
        types=["control-objective"],
        origins=[{"actors": [origin(export, audit.by, AUDITOR)]}],
        subjects=[{"subject-uuid": export.system_uuid, "type": "component"}],
        collected=moment(audit.at),
    )
