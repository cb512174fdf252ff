"""Which requirements are due next, what is already known of them, and how long the rest takes. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from assessor.applicability import Scope
from assessor.contract import Frozen
from assessor.errors import UsageError, nearest
from assessor.expressions import references
from assessor.messages import _, number
from assessor.model import (
    Aspect,
    Catalog,
    CheckRun,
    EvidenceRef,
    Known,
    Param,
    Question,
    QuestionType,
    Reply,
    Requirement,
    Verdict,
)
from assessor.replies import checked_reply, reply_fault, shown_reply
from assessor.verdicts import told

FIRST = {Aspect.PROFILE: 0, Aspect.PROTECTION: 1}
LAST = {Aspect.OVERALL: 3, Aspect.SUMMARY: 4, Aspect.JUDGEMENT: 5}
STATED_BY_REPLIES = (Aspect.PROFILE, Aspect.PROTECTION)
"""Aspects whose questions are the whole answer, so that no verdict is asked."""

VERDICT_FIRST = (Aspect.MEASURE, Aspect.OVERALL)
"""Aspects whose verdict is asked first: of what is not done there is nothing more to ask than why."""

SECONDS: Mapping[QuestionType, int] = {
    QuestionType.YES_NO: 10,
    QuestionType.CHOICE: 10,
    QuestionType.SEVERAL: 15,
    QuestionType.DATE: 15,
    QuestionType.PERSON: 15,
    QuestionType.FILE: 20,
    QuestionType.NUMBER: 25,
    QuestionType.INTERVAL: 40,
    QuestionType.TEXT: 60,
    QuestionType.TABLE: 100,
}
"""First guess of the time a reply takes, until the person's own pace is known."""
SECONDS_PARAM, SECONDS_VERDICT, SECONDS_EVIDENCE, SECONDS_REASON, SECONDS_DRAFT = 45, 12, 8, 30, 10


def select(catalog: Catalog, which: str | None) -> tuple[Requirement, ...]:
    """Requirements by id, area or dimension; all for None.

    Args:
        catalog: The requirements.
        which: A name, or None.

    Returns:
        At least one requirement.

    Raises:
        UsageError: Nothing in the catalog is called so.
    """
    selected = catalog.select(which)
    if not selected:
        names = [*catalog.by_id, *catalog.by_area, *(head.id for head in catalog.head.dimensions)]
        raise UsageError(_("no requirement, area or dimension '{which}'", which=which) + nearest(str(which), names))
    return selected


def due(scope: Scope, which: str | None = None) -> tuple[Requirement, ...]:
    """Unanswered requirements in the order they are best asked.

    The profile and the protection needs come first, since they decide what else is asked; summaries and the final
    judgement come last, since they look back; between them the catalog's order.

    Args:
        scope: Catalog, needs, answers.
        which: Only this requirement (answered or not), area or dimension.

    Returns:
        What to ask.

    Raises:
        UsageError: Nothing in the catalog is called `which`.
    """
    selected = select(scope.catalog, which)
    if which in scope.catalog.by_id:
        return selected
    waiting = [item for item in selected if item.id not in scope.answers and scope.of(item).applies]
    order = {**FIRST, Aspect.SUMMARY: LAST[Aspect.SUMMARY], Aspect.JUDGEMENT: LAST[Aspect.JUDGEMENT]}
    return tuple(sorted(waiting, key=lambda item: order.get(item.aspect, 2)))


def most_unblocking(scope: Scope, which: str | None = None) -> tuple[Requirement, ...]:
    """What is due, what most others wait for first.

    A requirement waits for those it refers to and for those its conditions look up, at any distance. Profile and
    protection needs keep their place in front.

    Args:
        scope: Catalog, needs, answers.
        which: Only this area or dimension.

    Returns:
        What to ask.
    """
    waiting = due(scope, which)
    users = _users(scope.catalog)
    open_ids = {item.id for item in waiting}
    weight = {item.id: len(_downstream(item.id, users) & open_ids) for item in waiting}
    order = {**FIRST, **LAST}
    return tuple(sorted(waiting, key=lambda item: (order.get(item.aspect, 2), -weight[item.id])))


def _users(catalog: Catalog) -> dict[str, set[str]]:
    """By requirement id, those that wait for it."""
    found: dict[str, set[str]] = {item.id: set(catalog.used_by[item.id]) for item in catalog.requirements}
    facts = {question.fact: item.id for item in catalog.requirements for question in item.questions if question.fact}
    for item in catalog.requirements:
        conditions = [item.condition, *(question.condition for question in item.questions)]
        for name in (name for condition in conditions if condition for name in references(condition)):
            source = facts.get(name.removeprefix("profile."))
            if name.startswith(("reply(", "answered(")):
                inside = name[name.index("(") + 1 : -1]
                source = inside if name.startswith("answered(") else inside.rpartition(".")[0]
            elif name.startswith("need"):
                code = name.partition(".")[2] or item.dimension
                source = f"{code}-P" if f"{code}-P" in catalog.by_id else None
            if source in found and source != item.id:
                found[source].add(item.id)
    return found


def _downstream(start: str, users: Mapping[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        new = users[waiting.pop()] - seen
        seen |= new
        waiting += new
    return seen - {start}


# --- what is already known -------------------------------------------------------------------------------------------


class Draft(NamedTuple):
    """A first draft of a reply and where it comes from."""

    value: Reply
    origin: str


def drafts(
    question: Question, scope: Scope, runs: Mapping[str, CheckRun], known: Mapping[str, Sequence[Known]]
) -> Iterator[Draft]:
    """First drafts of a reply, best first: measured, said before, or found in files.

    Args:
        question: What is asked.
        scope: Earlier answers.
        runs: Current results by check id.
        known: What was found outside, by key.

    Yields:
        Drafts that fit the question's type.
    """
    for source in question.prefill:
        kind, _colon, name = source.partition(":")
        if kind == "result" and name in runs:
            yield from _fitting(question, _measured(runs[name]), _("measured by {check}", check=name))
        elif kind == "answer":
            requirement, _dot, other = name.rpartition(".")
            value = scope.replies(requirement).get(other)
            asked = scope.catalog.by_id[requirement].question(other)
            if value is not None and asked is not None:
                carried = _carried(question, asked, value)
                if carried is not None:
                    yield Draft(carried, _("said in {requirement}", requirement=requirement))
        elif kind == "known":
            for found in known.get(name, ()):
                if question.type is QuestionType.YES_NO and found.value not in question.choices:
                    statement = _shortened(found.value)
                    yield Draft("yes", _("{origin}: {statement}", origin=found.origin, statement=statement))
                else:
                    yield from _fitting(question, found.value, found.origin)


def _fitting(question: Question, text: str, origin: str) -> Iterator[Draft]:
    """A text as a draft, where it is a reply of the question's type: never one that would have to be guessed."""
    fitting: Reply | None = None
    match question.type:
        case QuestionType.TEXT:
            fitting = text
        case QuestionType.YES_NO | QuestionType.CHOICE:
            fitting = text if text in question.choices else None
        case QuestionType.SEVERAL:
            words = tuple(dict.fromkeys(word.strip() for word in re.split(r"[,;\n]", text)))
            fits = set(words) <= set(question.options) and not ("none" in words and len(words) > 1)
            fitting = words if fits else None
        case QuestionType.TABLE:
            fitting = _rows(question, text)
    if fitting is not None:
        yield Draft(fitting, origin)


def _rows(question: Question, text: str) -> Reply | None:
    """Lines `a | b` as rows, a list as one row an item, any other text as one row; None with too many cells."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not all(" | " in line for line in lines):
        items = lines if all(line.startswith("- ") for line in lines) else [" ".join(lines)]
        lines = [item.removeprefix("- ").replace("|", "/") for item in items]
    try:
        return checked_reply(question, "\n".join(lines)) or None
    except UsageError:
        return None


def _carried(question: Question, asked: Question, value: Reply) -> Reply | None:
    """What was said to another question as a draft of this one; None where it does not fit."""
    if asked.type is QuestionType.TABLE and question.type is QuestionType.TABLE:
        return _matching_rows(question, asked, value)
    if asked.type is question.type:
        return None if reply_fault(question, value) else value
    text = shown_reply(asked, value) if question.type in {QuestionType.TEXT, QuestionType.TABLE} else value
    draft = next(_fitting(question, text, ""), None) if isinstance(text, str) else None
    return draft.value if draft else None


def _matching_rows(question: Question, asked: Question, value: Reply) -> Reply | None:
    """Rows of another table: columns of the same name, and what stood first in the first one."""
    sources = {column: column for column in question.columns if column in asked.columns}
    sources.setdefault(question.columns[0], asked.columns[0])
    rows = [row for row in value if isinstance(row, Mapping)] if isinstance(value, tuple) else []
    taken = [{column: str(row.get(sources.get(column, ""), "")) for column in question.columns} for row in rows]
    return tuple(row for row in taken if any(row.values())) or None


def _shortened(text: str, longest: int = 100) -> str:
    line = " ".join(text.split())
    return line if len(line) <= longest else line[: longest - 2] + " …"


def _measured(run: CheckRun) -> str:
    """A result in two sentences: the outcome, and the numbers with their intervals."""
    numbers = "; ".join(
        f"{metric.name.replace('_', ' ')} {number(metric.value)}"
        + (
            f" [{number(metric.low)}, {number(metric.high)}]"
            if metric.low is not None and metric.high is not None
            else ""
        )
        for metric in run.metrics[:6]
    )
    return f"{told(run).removesuffix('.')}. {numbers}".strip()


class Offer(NamedTuple):
    """Evidence already attached elsewhere that is expected here too."""

    evidence: EvidenceRef
    given_for: str


def offered_evidence(requirement: Requirement, scope: Scope) -> tuple[Offer, ...]:
    """Files attached elsewhere as a document that this requirement expects too, each once."""
    wanted = [expected.document for expected in requirement.evidence if expected.document]
    found: dict[str, Offer] = {}
    for name, answer in scope.answers.items():
        for item in answer.evidence:
            if item.document in wanted and name != requirement.id and item.sha256 not in found:
                found[item.sha256] = Offer(item, name)
    for digest, known in scope.evidence.items():
        elsewhere = known.requirements and requirement.id not in known.requirements
        if known.document in wanted and elsewhere and digest not in found:
            found[digest] = Offer(known.reference(digest), known.requirements[0])
    return tuple(sorted(found.values(), key=lambda offer: wanted.index(str(offer.evidence.document))))


# --- how long it takes -----------------------------------------------------------------------------------------------


class Effort(Frozen):
    """What is still to do.

    Attributes:
        requirements: Number of requirements.
        questions: Number of questions, params included.
        drafted: Number of those for which a draft is at hand.
        seconds: Estimated time.
    """

    requirements: int
    questions: int
    drafted: int
    seconds: int


def effort(
    waiting: Sequence[Requirement],
    scope: Scope,
    runs: Mapping[str, CheckRun],
    known: Mapping[str, Sequence[Known]],
    *,
    pace: float = 1.0,
) -> Effort:
    """How much the requirements ask of a person.

    Args:
        waiting: Requirements; of answered ones it tells what they asked.
        scope: Answers and profile.
        runs: Current results by check id.
        known: What was found outside, by key.
        pace: Time the person took so far over the first guess.

    Returns:
        Counts and time.
    """
    questions = drafted = seconds = 0
    for requirement in waiting:
        if requirement.aspect not in STATED_BY_REPLIES:
            seconds += SECONDS_VERDICT
        asked = scope.questions(requirement)
        if _needs_only_a_reason(requirement, scope):
            seconds += SECONDS_REASON
            named = deciding(requirement, scope.catalog)
            asked = tuple(question for question in asked if question.id in named)
        elif requirement.aspect not in STATED_BY_REPLIES:
            seconds += SECONDS_EVIDENCE
        for question in asked:
            questions += 1
            has_draft = next(drafts(question, scope, runs, known), None) is not None
            drafted += has_draft
            seconds += SECONDS_DRAFT if has_draft else SECONDS[question.type]
        targets = [param for param in requirement.params if not param_is_set(param, scope)]
        questions += len(targets)
        seconds += SECONDS_PARAM * len(targets)
    return Effort(requirements=len(waiting), questions=questions, drafted=drafted, seconds=round(seconds * pace))


def deciding(requirement: Requirement, catalog: Catalog) -> frozenset[str]:
    """Ids of the questions of a requirement that conditions of other requirements look up.

    They are asked even of what is not fulfilled, since they spare questions elsewhere.
    """
    return frozenset(
        name.removeprefix("reply(").removesuffix(")").rpartition(".")[2]
        for item in catalog.requirements
        if item.id != requirement.id
        for condition in (item.condition, *(question.condition for question in item.questions))
        if condition is not None
        for name in references(condition)
        if name.startswith(f"reply({requirement.id}.")
    )


def _needs_only_a_reason(requirement: Requirement, scope: Scope) -> bool:
    """Whether it is already said not to be done or not to concern the system, so that only the reason was asked."""
    answer = scope.answers.get(requirement.id)
    said = Verdict(answer.value) if answer else Verdict.NOT_ASSESSED
    return requirement.aspect in VERDICT_FIRST and said in {Verdict.NOT_FULFILLED, Verdict.NOT_APPLICABLE}


def param_is_set(param: Param, scope: Scope) -> bool:
    """Whether a param is a check's target that assessor.yaml holds already."""
    return param.check is not None and param.check in scope.configuration.targets


def split_setting(setting: str, catalog: Catalog) -> tuple[Requirement, Question | Param | None, str]:
    """`ID=VALUE`, `ID.QUESTION=TEXT` or `ID.PARAM=VALUE` in its parts.

    Args:
        setting: As given on the command line.
        catalog: Its ids are known.

    Returns:
        Requirement, question or param (None for the verdict) and value.

    Raises:
        UsageError: Not of this form, or an unknown id.
    """
    left, separator, value = setting.partition("=")
    name, _dot, part = left.partition(".")
    if not separator:
        raise UsageError(_("--set: found '{setting}', wanted ID=VALUE or ID.QUESTION=TEXT", setting=setting))
    requirement = catalog.by_id.get(name)
    if requirement is None:
        raise UsageError(_("--set: no requirement '{name}'", name=name) + nearest(name, catalog.by_id))
    if not part:
        return requirement, None, value
    parts: dict[str, Question | Param] = {question.id: question for question in requirement.for_developer}
    parts = {**{param.id: param for param in requirement.params}, **parts}
    found = parts.get(part)
    if found is None:
        known = ", ".join(parts)
        raise UsageError(
            _("--set: {id} has no question '{part}'; known: {known}", id=requirement.id, part=part, known=known)
        )
    return requirement, found, value
