"""Which requirements are due next, and how a reply is checked. Pure: asks nothing, writes nothing."""

from __future__ import annotations

from collections.abc import Mapping

from assessor.errors import UsageError, nearest
from assessor.model import Answer, Aspect, Catalog, Configuration, Level, Question, Requirement, Verdict

ANSWERS = (Verdict.FULFILLED, Verdict.PARTLY, Verdict.NOT_FULFILLED, Verdict.NOT_APPLICABLE)


def in_scope(requirement: Requirement, configuration: Configuration) -> bool:
    """Whether a requirement is asked: a dimension of low protection need is left out, but for its protection need."""
    need = configuration.protection_needs.of(requirement.dimension)
    return requirement.aspect is Aspect.PROTECTION or need is None or need.level is not Level.LOW


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
        raise UsageError(f"no requirement, area or dimension '{which}'{nearest(str(which), names)}")
    return selected


def due(
    catalog: Catalog, configuration: Configuration, answers: Mapping[str, Answer], which: str | None = None
) -> tuple[Requirement, ...]:
    """Unanswered requirements in the order they are best asked.

    The profile and the protection needs come first, since they decide what else is asked; then the catalog's order.

    Args:
        catalog: The requirements.
        configuration: Protection needs.
        answers: What is answered.
        which: Only this requirement (answered or not), area or dimension.

    Returns:
        What to ask.

    Raises:
        UsageError: Nothing in the catalog is called `which`.
    """
    selected = select(catalog, which)
    if which in catalog.by_id:
        return selected
    first = {Aspect.PROFILE: 0, Aspect.PROTECTION: 1}
    waiting = [item for item in selected if item.id not in answers and in_scope(item, configuration)]
    return tuple(sorted(waiting, key=lambda item: first.get(item.aspect, 2)))


def checked_reply(question: Question, reply: str) -> str:
    """The reply as it is kept.

    Args:
        question: What was asked.
        reply: What was typed; a choice may be given by its number.

    Returns:
        The reply, stripped; a choice in its full wording.

    Raises:
        UsageError: Empty, or none of the choices.
    """
    text = reply.strip()
    if not text:
        raise UsageError("found an empty reply, wanted some text")
    if not question.choices:
        return text
    if text.isdecimal() and 1 <= int(text) <= len(question.choices):
        return question.choices[int(text) - 1]
    matches = [choice for choice in question.choices if choice.casefold().startswith(text.casefold())]
    if len(matches) == 1 or text in matches:
        return text if text in matches else matches[0]
    raise UsageError(f"found '{text}', wanted one of: {', '.join(question.choices)}")


def checked_verdict(reply: str) -> Verdict:
    """The verdict that was typed, by word, its start or its number.

    Args:
        reply: What was typed.

    Returns:
        The verdict.

    Raises:
        UsageError: It is none.
    """
    text = reply.strip().casefold().replace(" ", "_")
    if text.isdecimal() and 1 <= int(text) <= len(ANSWERS):
        return ANSWERS[int(text) - 1]
    matches = [verdict for verdict in ANSWERS if str(verdict).startswith(text)] if text else []
    if len(matches) == 1 or text in matches:
        return Verdict(text) if text in matches else matches[0]
    raise UsageError(f"found '{reply}', wanted one of: {', '.join(ANSWERS)}")


def split_setting(setting: str, catalog: Catalog) -> tuple[Requirement, Question | None, str]:
    """`ID=VALUE` or `ID.QUESTION=TEXT` in its parts.

    Args:
        setting: As given on the command line.
        catalog: Its ids are known.

    Returns:
        Requirement, question (None for the verdict) and value.

    Raises:
        UsageError: Not of this form, or an unknown id.
    """
    left, separator, value = setting.partition("=")
    name, _, question_id = left.partition(".")
    if not separator:
        raise UsageError(f"--set: found '{setting}', wanted ID=VALUE or ID.QUESTION=TEXT")
    requirement = catalog.by_id.get(name)
    if requirement is None:
        raise UsageError(f"--set: no requirement '{name}'{nearest(name, catalog.by_id)}")
    if not question_id:
        return requirement, None, value
    question = requirement.question(question_id)
    if question is None:
        known = ", ".join(question.id for question in requirement.questions)
        raise UsageError(f"--set: {requirement.id} has no question '{question_id}'; known: {known}")
    return requirement, question, value
