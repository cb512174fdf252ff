"""What becomes of an answer or audit under a later catalog: where it goes, and what of it still fits. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

from assessor.catalog_diff import Edition
from assessor.messages import _
from assessor.model import (
    Answer,
    Audit,
    Catalog,
    Param,
    ParamType,
    ParamValue,
    Reply,
    Requirement,
    Role,
    State,
    Verdict,
)
from assessor.replies import normalised, reply_fault, shown_bounds

WORST_FIRST = (Verdict.NOT_FULFILLED, Verdict.PARTLY, Verdict.FULFILLED, Verdict.NOT_APPLICABLE)

Entry = TypeVar("Entry", Answer, Audit)


class Adapted(NamedTuple):
    """An entry as it stands under one requirement, and what had to move into its reason."""

    entry: Any
    notes: tuple[str, ...]


class Rules:
    """Where entries go and what of them still fits."""

    def __init__(self, catalog: Catalog, before: str, earlier: Edition | None) -> None:
        """Remember both sides.

        Args:
            catalog: The installed one.
            before: Version that the assessment follows.
            earlier: Its edition, if at hand.
        """
        self.catalog = catalog
        self.before = before
        self.earlier = earlier

    @cached_property
    def _order(self) -> Mapping[str, int]:
        return {item.id: position for position, item in enumerate(self.catalog.requirements)}

    def order(self, name: str) -> tuple[bool, int]:
        """Where an entry comes: those of requirements in use before those that move there, in the catalog's order."""
        requirement = self.catalog.by_id.get(name)
        if requirement is None:
            return True, len(self._order)
        return requirement.state is not State.ACTIVE, self._order[requirement.id]

    def places(self, name: str) -> tuple[Requirement, ...]:
        """Requirements in use that an id stands for now: itself, or what replaced it, over any number of steps."""
        found: dict[str, Requirement] = {}
        waiting, seen = [name], set()
        while waiting:
            requirement = self.catalog.by_id.get(waiting.pop(0))
            if requirement is None or requirement.id in seen:
                continue
            seen.add(requirement.id)
            if requirement.state is State.ACTIVE:
                found[requirement.id] = requirement
            waiting += requirement.replaced_by
        return tuple(found.values())

    def answer(self, name: str, answer: Answer, requirement: Requirement, copies: Sequence[str]) -> Adapted:
        """An answer as it stands under a requirement."""
        own = self._is_own(name, requirement)
        replies, notes = self._replies(answer.replies, requirement, Role.DEVELOPER, own=own)
        params = {}
        for key, value in answer.params.items():
            param = requirement.param(key) if own else None
            if param is not None and _fits(param, value.value):
                params[key] = value
            else:
                notes.append(_("(earlier target {name}: {text})", name=key, text=_told_param(value)))
        same_as, note = self._same_as(answer.same_as, requirement)
        notes += [note] if note else []
        origins = {key: text for key, text in answer.origins.items() if key in replies}
        for key in replies:
            if not self._same_question(requirement, key):
                origins.setdefault(key, _("said under catalog {version}", version=self.before))
        changes = {"replies": replies, "origins": origins, "params": params, "same_as": same_as}
        return _marked(answer, changes, [*notes, *self._moved(name, requirement, copies)])

    def audit(self, name: str, audit: Audit, requirement: Requirement, copies: Sequence[str]) -> Adapted:
        """An auditor's verdict as it stands under a requirement."""
        own = self._is_own(name, requirement)
        replies, notes = self._replies(audit.replies, requirement, Role.AUDITOR, own=own)
        known = {objective.id for objective in requirement.objectives} if own else set()
        if gone := [letter for letter in audit.objectives if letter not in known]:
            notes.append(_("(earlier unmet objectives: {names})", names=", ".join(gone)))
        objectives = tuple(letter for letter in audit.objectives if letter in known)
        changes = {"replies": replies, "objectives": objectives}
        return _marked(audit, changes, [*notes, *self._moved(name, requirement, copies)])

    def _is_own(self, name: str, requirement: Requirement) -> bool:
        """Whether the entry was given for this very requirement, under its id or an alias."""
        return name == requirement.id or name in requirement.aliases

    def _moved(self, name: str, requirement: Requirement, copies: Sequence[str]) -> Iterator[str]:
        if self._is_own(name, requirement):
            return
        if len(copies) > 1:
            ids = ", ".join(copies)
            yield _("(taken over from {name}, which {ids} replace; the same text stands in each)", name=name, ids=ids)
        else:
            yield _("(taken over from {name}, which this requirement replaces)", name=name)

    def _replies(
        self, replies: Mapping[str, Reply], requirement: Requirement, role: Role, *, own: bool
    ) -> tuple[dict[str, Reply], list[str]]:
        """Replies that still fit, and the others as notes."""
        kept: dict[str, Reply] = {}
        notes = []
        for name, reply in replies.items():
            question = requirement.question(name) if own else None
            if question is not None and question.role is role and not reply_fault(question, reply):
                kept[name] = normalised(question, reply)
            else:
                notes.append(_("(earlier reply to {name}: {text})", name=name, text=told_reply(reply)))
        return kept, notes

    def _same_question(self, requirement: Requirement, name: str) -> bool:
        """Whether the earlier edition is known to have asked the same, word for word."""
        if self.earlier is None:
            return False
        names = (requirement.id, *requirement.aliases)
        asked = next((self.earlier.requirements[key] for key in names if key in self.earlier.requirements), None)
        question = requirement.question(name)
        parts = asked["questions"] if asked else []
        return question is not None and any(
            part["id"] == name and part["text"] == question.text and part["unit"] == question.unit for part in parts
        )

    def _same_as(self, name: str | None, requirement: Requirement) -> tuple[str | None, str]:
        """The requirement whose replies serve here too, under its present id; a note where there is no single one."""
        if name is None:
            return None, ""
        places = [place.id for place in self.places(name) if place.id != requirement.id]
        if len(places) == 1:
            return places[0], ""
        return None, _("(was said to be the same as {name})", name=name)


def _marked(entry: Entry, changes: Mapping[str, Any], notes: Sequence[str]) -> Adapted:
    because = "\n".join([entry.because, *notes])
    return Adapted(entry.model_copy(update={**changes, "because": because}), tuple(notes))


def _fits(param: Param, value: object) -> bool:
    match param.type:
        case ParamType.INTERVAL:
            return isinstance(value, tuple)
        case ParamType.NUMBER:
            return isinstance(value, float)
        case ParamType.CHOICE:
            return value in param.options
        case ParamType.TEXT:
            return isinstance(value, str)


def told_reply(reply: Reply) -> str:
    """A reply in words, without its question.

    >>> told_reply(({"a": "1", "b": "2"},)), told_reply(("x", "y")), told_reply((None, 0.5))
    ('a 1, b 2', 'x, y', 'at most 0.5')
    """
    if isinstance(reply, float):
        return f"{reply:g}"
    if not isinstance(reply, tuple):
        return str(reply)
    if len(reply) == 2 and all(isinstance(end, float | None) for end in reply):
        return shown_bounds(reply[0], reply[1]) if any(end is not None for end in reply) else "-"
    rows = [
        ", ".join(f"{column} {cell}" for column, cell in part.items()) if isinstance(part, Mapping) else str(part)
        for part in reply
    ]
    return ("; " if any(isinstance(part, Mapping) for part in reply) else ", ").join(rows)


def _told_param(value: ParamValue) -> str:
    return f"{'-' if value.value is None else told_reply(value.value)}: {value.because}"


# --- entries that meet -----------------------------------------------------------------------------------------------


def merged(first: Any, other: Any, name: str) -> Any:
    """One entry of two that meet under one requirement: never better than the worse of them.

    Args:
        first: An answer or audit.
        other: Another of the same kind.
        name: Id that the other was given for.

    Returns:
        Both in one.
    """
    return _merged_answers(first, other, name) if isinstance(first, Answer) else _merged_audits(first, other, name)


def _merged_answers(first: Answer, other: Answer, name: str) -> Answer:
    """One answer of two that meet under one requirement: the worse verdict, both reasons, all evidence."""
    evidence = {(item.sha256, item.name): item for item in (*first.evidence, *other.evidence)}
    return first.model_copy(update={**_merged(first, other, name), "evidence": tuple(evidence.values())})


def _merged_audits(first: Audit, other: Audit, name: str) -> Audit:
    """One verdict of two that meet under one requirement: the worse one, the weaker assurance, both reasons."""
    weaker = min(first.assurance, other.assurance, key=list(type(first.assurance)).index)
    deviation = "\n".join(dict.fromkeys(text for text in (first.deviation, other.deviation) if text))
    comment = "\n".join(dict.fromkeys(text for text in (first.comment, other.comment) if text))
    changes = {"assurance": weaker, "deviation": deviation, "comment": comment}
    return first.model_copy(update={**_merged(first, other, name), **changes})


def _merged(first: Answer | Audit, other: Answer | Audit, name: str) -> dict[str, Any]:
    verdicts = (Verdict(first.value), Verdict(other.value))
    said = _("(taken over from {name}, answered {verdict} by {by}:)", name=name, verdict=other.value, by=other.by)
    return {
        "value": min(verdicts, key=WORST_FIRST.index),
        "because": f"{first.because}\n{said}\n{other.because}",
    }
