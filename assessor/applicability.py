"""Which requirements and questions concern this system, and why: protection needs, AI profile, earlier replies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from assessor.contract import Frozen
from assessor.expressions import Expression, decisive, evaluate
from assessor.messages import _
from assessor.model import (
    Answer,
    Aspect,
    Catalog,
    Configuration,
    Evidence,
    Level,
    Question,
    Reply,
    Requirement,
    Role,
    State,
)


class Applicability(Frozen):
    """Whether a requirement concerns this system.

    Attributes:
        applies: Whether it is asked. What is not known yet is asked.
        because: Why, or why not; empty where there is nothing to say.
        known: Whether everything that decides is known.
    """

    applies: bool
    because: str = ""
    known: bool = True


@dataclass(frozen=True)
class Scope:
    """What conditions are decided on: needs, profile and replies of one assessment.

    Attributes:
        catalog: The requirements, in any language.
        configuration: Protection needs.
        answers: By requirement id.
        drafts: Replies that are not saved as an answer yet, by requirement id.
        evidence: The register by digest.
    """

    catalog: Catalog
    configuration: Configuration
    answers: Mapping[str, Answer]
    drafts: Mapping[str, Mapping[str, Reply]] | None = None
    evidence: Mapping[str, Evidence] = field(default_factory=dict)

    def replies(self, requirement: str) -> Mapping[str, Reply]:
        """Replies to a requirement, its draft over its answer.

        Where it is said to be the same as another one, that one's replies too, to questions of the same form.
        """
        answer = self.answers.get(requirement)
        known = dict(answer.replies) if answer else {}
        if answer and answer.same_as and answer.same_as in self.answers:
            known = {**self._shared(requirement, answer.same_as), **known}
        return {**known, **((self.drafts or {}).get(requirement) or {})}

    def _shared(self, requirement: str, other: str) -> Mapping[str, Reply]:
        """Replies to another requirement that fit a question of this one: same id, form, options and columns."""
        here, there = self.catalog.by_id[requirement], self.catalog.by_id[other]
        return {
            name: reply
            for name, reply in self.answers[other].replies.items()
            if (ours := here.question(name)) is not None
            and (theirs := there.question(name)) is not None
            and (ours.type, ours.choices, ours.columns) == (theirs.type, theirs.choices, theirs.columns)
        }

    @cached_property
    def facts(self) -> Mapping[str, Reply]:
        """Replies to the questions of the AI profile that conditions use, by the name they use."""
        found: dict[str, Reply] = {}
        for requirement in self.catalog.requirements:
            for question in requirement.questions:
                reply = self.replies(requirement.id).get(question.id) if question.fact else None
                if question.fact and reply is not None:
                    found[question.fact] = reply
        return found

    def _lookup(self, dimension: str, name: str) -> Reply | bool | None:
        kind, _dot, rest = name.partition(".")
        if name.startswith(("reply(", "answered(")):
            inside = name[name.index("(") + 1 : -1]
            if name.startswith("answered("):
                return self._id(inside) in self.answers
            requirement, _dot, question = inside.rpartition(".")
            return self.replies(self._id(requirement)).get(question)
        if kind == "need":
            need = self.configuration.protection_needs.of(rest or dimension)
            return str(need.level) if need else None
        return self.facts.get(rest)

    def _id(self, name: str) -> str:
        """A requirement's own id, for one of its aliases too."""
        found = self.catalog.by_id.get(name)
        return found.id if found else name

    def _decide(self, expression: Expression, dimension: str) -> tuple[bool | None, str]:
        """Outcome of a condition and what made it so, in words."""

        def lookup(name: str) -> Reply | bool | None:
            return self._lookup(dimension, name)

        outcome = evaluate(expression, lookup)
        names = decisive(expression, lookup)
        return outcome, "; ".join(self._told(name, dimension, lookup(name)) for name in names)

    def _told(self, name: str, dimension: str, value: Reply | bool | None) -> str:
        said = _("not known yet") if value is None else self._shown(name, value)
        kind, _dot, rest = name.partition(".")
        if kind == "need":
            code = rest or dimension
            return _("protection need {dimension}: {value}", dimension=code, value=said)
        if kind == "profile":
            question = self.catalog.facts.get(rest)
            return f"{question.label if question else rest}: {said}"
        return f"{name[name.index('(') + 1 : -1]}: {said}"

    def _shown(self, name: str, value: Reply | bool) -> str:
        labels: Mapping[str, str] = {}
        if isinstance(value, bool):
            return _("answered") if value else _("not answered")
        if name.startswith("profile."):
            question = self.catalog.facts.get(name.removeprefix("profile."))
            labels = question.labels if question else {}
        elif name.startswith("reply("):
            requirement, _dot, question_id = name[len("reply(") : -1].rpartition(".")
            item = self.catalog.by_id.get(requirement)
            asked = item.question(question_id) if item else None
            labels = asked.labels if asked else {}
        words = value if isinstance(value, tuple) else (value,)
        return ", ".join(labels.get(str(word), _(str(word))) for word in words)

    def of(self, requirement: Requirement) -> Applicability:
        """Whether a requirement concerns this system, and why.

        A low protection need skips the dimension, but never the analysis of that need itself.
        """
        if requirement.state is State.WITHDRAWN:
            return Applicability(applies=False, because=_("withdrawn from the catalog"))
        need = self.configuration.protection_needs.of(requirement.dimension)
        if requirement.aspect is not Aspect.PROTECTION and need is not None and need.level is Level.LOW:
            return Applicability(
                applies=False, because=_("the protection need is low: {because}", because=need.because)
            )
        expression = requirement.condition
        if expression is None:
            return Applicability(applies=True)
        outcome, why = self._decide(expression, requirement.dimension)
        return Applicability(applies=outcome is not False, because=why, known=outcome is not None)

    def shown(self, requirement: Requirement, question: Question) -> Applicability:
        """Whether a question is put, and why."""
        expression = question.condition
        if expression is None:
            return Applicability(applies=True)
        outcome, why = self._decide(expression, requirement.dimension)
        return Applicability(applies=outcome is not False, because=why, known=outcome is not None)

    def questions(self, requirement: Requirement, role: Role = Role.DEVELOPER) -> tuple[Question, ...]:
        """The questions of a requirement that are put to somebody, in order."""
        return tuple(
            question
            for question in requirement.questions
            if question.role is role and self.shown(requirement, question).applies
        )

    def applicable(self) -> tuple[Requirement, ...]:
        """All requirements that concern this system, in the catalog's order."""
        return tuple(item for item in self.catalog.requirements if self.of(item).applies)
