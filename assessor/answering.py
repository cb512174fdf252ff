"""Taking answers: checked, with their evidence, saved one by one; a half-finished one is kept as a draft."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from assessor.applicability import Scope
from assessor.criteria import followed_catalog
from assessor.errors import UsageError, nearest
from assessor.evidence_files import read_plain
from assessor.files import write_whole
from assessor.messages import _
from assessor.model import (
    Answer,
    Aspect,
    Catalog,
    EvidenceRef,
    Param,
    ParamValue,
    Question,
    Reply,
    Requirement,
    Verdict,
)
from assessor.project import Project, evidence_ref, now
from assessor.protection import NAMES, level_of
from assessor.questionnaire import STATED_BY_REPLIES, split_setting
from assessor.replies import checked_param, checked_reply, checked_verdict, normalised, param_fault, reply_fault


class Saved(NamedTuple):
    """What was saved."""

    id: str
    value: str


@dataclass
class Draft:
    """One requirement's answer in the making.

    Attributes:
        replies: By question id.
        origins: Where a reply was taken over from, by question id.
        params: By param id.
        shared: Evidence taken over from other requirements.
        files: New evidence: content by file name.
        documents: Which document of the catalog a new file is, by file name.
    """

    replies: dict[str, Reply] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    params: dict[str, ParamValue] = field(default_factory=dict)
    shared: list[EvidenceRef] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    documents: dict[str, str] = field(default_factory=dict)


class Interview:
    """One requirement being answered at a terminal; replies survive a kill."""

    def __init__(self, project: Project, requirement: Requirement, by: str, known: Answer | None = None) -> None:
        """Start, or go on where a killed process was.

        Args:
            project: The folder.
            requirement: What is asked.
            by: Who answers.
            known: The answer so far, whose replies and evidence are kept unless they are replaced.
        """
        self._project = project
        self._requirement = requirement
        self._by = by
        self._known = known
        self._draft = project.folder / ".assessor" / f"draft-{requirement.id}.json"
        self.draft = Draft(
            replies=dict(known.replies) if known else {},
            origins=dict(known.origins) if known else {},
            params=dict(known.params) if known else {},
        )
        self._restore()

    @property
    def requirement(self) -> Requirement:
        """What is asked."""
        return self._requirement

    @property
    def replies(self) -> dict[str, Reply]:
        """Replies so far, by question id."""
        return self.draft.replies

    def _restore(self) -> None:
        """Take up replies of the draft, if it is there and readable; of questions that are still asked."""
        try:
            kept = json.loads(self._draft.read_text("utf-8"))
            for question in self._requirement.questions:
                if question.id in kept["replies"]:
                    reply = _from_json(kept["replies"][question.id])
                    if not reply_fault(question, reply):
                        self.draft.replies[question.id] = normalised(question, reply)
            for param in self._requirement.params:
                if param.id in kept["params"]:
                    value = ParamValue.model_validate(kept["params"][param.id])
                    if not param_fault(param, value.value):
                        self.draft.params[param.id] = value
            self.draft.origins |= {name: str(text) for name, text in kept["origins"].items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return

    def _keep(self) -> None:
        kept = {
            "replies": self.draft.replies,
            "origins": self.draft.origins,
            "params": {name: value.model_dump(mode="json") for name, value in self.draft.params.items()},
        }
        self._draft.parent.mkdir(exist_ok=True)
        write_whole(self._draft, json.dumps(kept).encode())

    def reply(self, question: Question, value: Reply, origin: str = "") -> None:
        """Keep the reply to one question.

        Args:
            question: What was asked.
            value: As it is kept.
            origin: Where it was taken over from; empty when it was typed.
        """
        self.draft.replies[question.id] = value
        self.draft.origins.pop(question.id, None)
        if origin:
            self.draft.origins[question.id] = origin
        self._keep()

    def forget(self, question: Question) -> None:
        """Drop the reply to a question that is not put any more."""
        if self.draft.replies.pop(question.id, None) is not None:
            self.draft.origins.pop(question.id, None)
            self._keep()

    def set_param(self, param: Param, value: Any, because: str) -> None:
        """Keep the value of a criterion's param."""
        self.draft.params[param.id] = ParamValue(value=value, because=because)
        self._keep()

    def attach(self, path: Path, document: str | None = None) -> str:
        """Attach a file as evidence.

        Args:
            path: The file.
            document: Which document of the catalog it is.

        Returns:
            Its name.

        Raises:
            UsageError: It cannot be read.
        """
        for name, content in read_evidence([path]).items():
            add_file(self.draft.files, name, content)
            if document:
                self.draft.documents[name] = document
        return path.name

    def share(self, evidence: EvidenceRef) -> None:
        """Take over evidence that was attached elsewhere."""
        self.draft.shared.append(evidence)

    def finish(self, verdict: Verdict, because: str, evidence: Sequence[Path] = (), same_as: str | None = None) -> None:
        """Save the answer, with what it decides in assessor.yaml, and drop the draft.

        Args:
            verdict: The developer's own.
            because: Its reason.
            evidence: Further files.
            same_as: Requirement whose replies and evidence serve here too.

        Raises:
            UsageError: A file or a value is wrong; then nothing is saved.
        """
        for name, content in read_evidence(evidence).items():
            add_file(self.draft.files, name, content)
        answer = made_answer(verdict, because, self._by, self.draft, self._known, same_as)
        save(self._project, self._requirement, answer, self.draft.files)
        self._draft.unlink(missing_ok=True)


def _from_json(value: Any) -> Reply:
    """A reply as it was before it went through JSON: lists back to tuples."""
    found: Reply = tuple(value) if isinstance(value, list) else value
    return found


def save(project: Project, requirement: Requirement, answer: Answer, files: Mapping[str, bytes]) -> None:
    """Save an answer and, in the same step, what it decides in assessor.yaml.

    Args:
        project: The folder.
        requirement: What is answered.
        answer: The answer.
        files: Content of new evidence by name.

    Raises:
        UsageError: assessor.yaml would not be valid with it; then nothing is saved.
    """
    settings = [*_needs(project, requirement, answer), *_targets(project, requirement, answer)]
    elsewhere = {param.id for param in requirement.params if param.check}
    kept = {name: value for name, value in answer.params.items() if name not in elsewhere}
    answer = answer.model_copy(update={"params": kept})
    project.save_answer(requirement.id, requirement.area, answer, evidence=files, settings=settings)


def _needs(project: Project, requirement: Requirement, answer: Answer) -> list[tuple[str, str, Any]]:
    """The protection needs that this answer decides: its own dimension's, or data protection's by the profile."""
    if requirement.aspect not in STATED_BY_REPLIES:
        return []
    configuration = project.configuration()
    catalog = followed_catalog(configuration)
    scope = Scope(catalog, configuration, {**project.answers(catalog), requirement.id: answer})
    dimension = requirement.dimension if requirement.aspect is Aspect.PROTECTION else "DP"
    analysis = scope.answers.get(f"{dimension}-P")
    if analysis is None or dimension not in NAMES:
        return []
    found = level_of(dimension, analysis.replies, scope.facts)
    if found is None:
        return []
    level, why = found
    known = configuration.protection_needs.of(dimension)
    if known is not None and known.level.rank >= level.rank and requirement.aspect is Aspect.PROFILE:
        return []
    name = NAMES[dimension]
    reason = str(analysis.replies.get("reason", analysis.because))
    return [("protection_needs", name, {"level": level.value, "because": f"{reason} ({why})", "by": answer.by})]


def _targets(project: Project, requirement: Requirement, answer: Answer) -> list[tuple[str, str, Any]]:
    """Targets of checks that a criterion's params set; the metric a target names stays."""
    found: list[tuple[str, str, Any]] = []
    known = project.configuration().targets if requirement.params else {}
    for param in requirement.params:
        value = answer.params.get(param.id)
        if param.check and value is not None and isinstance(value.value, tuple):
            target = {"interval": list(value.value), "because": value.because}
            before = known.get(param.check)
            if before is not None and before.metric:
                target = {"metric": before.metric, **target}
            found.append(("targets", param.check, target))
    return found


def save_settings(
    project: Project,
    catalog: Catalog,
    settings: Sequence[str],
    *,
    because: str | None,
    by: str,
    evidence: Sequence[Path],
    same_as: str | None = None,
    document: str | None = None,
) -> list[Saved]:
    """Save what a script sets.

    Args:
        project: The folder.
        catalog: The requirements.
        settings: `ID=VALUE`, `ID.QUESTION=TEXT` or `ID.PARAM=VALUE`.
        because: The reason; may be left out where only replies of an answered requirement change.
        by: Who answers.
        evidence: Files to attach to every requirement set.
        same_as: Requirement whose replies and evidence serve here too.
        document: Which document of the catalog the files are.

    Returns:
        What was saved.

    Raises:
        UsageError: A setting, the reason or a file is missing or wrong; then nothing is saved.
    """
    answers = project.answers(catalog)
    same_as = _other(same_as, catalog, answers)
    taken = _taken(settings, catalog, answers, because)
    if document is not None and catalog.document(document) is None:
        known_ids = ", ".join(item.id for item in catalog.head.documents)
        raise UsageError(_("--document: found '{text}', wanted one of: {wanted}", text=document, wanted=known_ids))
    contents = read_evidence(evidence)
    finished = []
    for name, draft in taken.drafts.items():
        requirement, known = catalog.by_id[name], answers.get(name)
        if name == same_as:
            raise UsageError(_("--same-as: found {name} itself, wanted another requirement", name=name))
        draft.files = dict(contents)
        draft.documents = dict.fromkeys(contents, document) if document else {}
        only_params = name not in taken.verdicts and name not in taken.replied
        answer = made_answer(
            _verdict(requirement, taken.verdicts.get(name), known),
            _reason(
                requirement,
                None if only_params and known else because,
                known,
                draft,
                changed=name in taken.verdicts,
            ),
            by,
            draft,
            known,
            same_as,
        )
        finished.append((requirement, answer))
    for requirement, answer in finished:
        save(project, requirement, answer, contents)
    return [Saved(requirement.id, str(answer.value)) for requirement, answer in finished]


class _Taken(NamedTuple):
    """What settings say, by requirement id."""

    drafts: dict[str, Draft]
    verdicts: dict[str, Verdict]
    replied: set[str]


def _taken(settings: Sequence[str], catalog: Catalog, answers: Mapping[str, Answer], because: str | None) -> _Taken:
    """Settings, checked and laid over what is known."""
    taken = _Taken({}, {}, set())
    for requirement, part, value in (split_setting(setting, catalog) for setting in settings):
        known = answers.get(requirement.id)
        start = Draft(dict(known.replies), dict(known.origins), dict(known.params)) if known else Draft()
        draft = taken.drafts.setdefault(requirement.id, start)
        if part is None:
            taken.verdicts[requirement.id] = checked_verdict(value)
        elif isinstance(part, Question):
            draft.replies[part.id] = checked_reply(part, value)
            draft.origins.pop(part.id, None)
            taken.replied.add(requirement.id)
        else:
            if not because:
                raise UsageError(_("--set {name}: the reason is missing, give  --because TEXT", name=requirement.id))
            draft.params[part.id] = ParamValue(value=checked_param(part, value), because=because)
    return taken


def _other(same_as: str | None, catalog: Catalog, answers: Mapping[str, Answer]) -> str | None:
    """The answered requirement that `--same-as` names."""
    if same_as is None:
        return None
    found = catalog.by_id.get(same_as)
    if found is None or found.id not in answers:
        raise UsageError(_("--same-as: no answered requirement '{name}'", name=same_as) + nearest(same_as, answers))
    return found.id


def _verdict(requirement: Requirement, given: Verdict | None, known: Answer | None) -> Verdict:
    verdict = given or (Verdict(known.value) if known else None)
    if verdict is None and requirement.aspect in STATED_BY_REPLIES:
        return Verdict.FULFILLED
    if verdict is None:
        raise UsageError(
            _(
                "--set {name}: its verdict is missing, give  --set {name}=fulfilled  (or partly, ...) too",
                name=requirement.id,
            )
        )
    return verdict


def _reason(requirement: Requirement, because: str | None, known: Answer | None, draft: Draft, *, changed: bool) -> str:
    reason = because or (known.because if known and not changed else None)
    if not reason and requirement.aspect in STATED_BY_REPLIES:
        reason = str(draft.replies.get("reason") or "") or stated_by_replies()
    if not reason:
        raise UsageError(_("--set {name}: the reason is missing, give  --because TEXT", name=requirement.id))
    return reason


def stated_by_replies() -> str:
    """The reason of an answer whose replies say it all."""
    return _("The replies say it.")


def unasked(requirement: Requirement, scope: Scope, replies: Mapping[str, Reply]) -> tuple[Question, ...]:
    """Questions of a requirement that have replies but are not put any more, given the other replies."""
    here = Scope(scope.catalog, scope.configuration, scope.answers, {requirement.id: replies})
    put = {question.id for question in here.questions(requirement)}
    return tuple(item for item in requirement.for_developer if item.id in replies and item.id not in put)


def made_answer(
    verdict: Verdict, because: str, by: str, draft: Draft, known: Answer | None, same_as: str | None
) -> Answer:
    """The answer; evidence of the known one stays, unless a file of its name is given anew."""
    evidence = {reference.name: reference for reference in (known.evidence if known else ())}
    try:
        evidence |= {item.name: item for item in draft.shared}
        for name, content in draft.files.items():
            evidence[name] = evidence_ref(name, content, draft.documents.get(name), date.today())
        return Answer.model_validate(
            {
                "value": verdict,
                "because": because,
                "replies": draft.replies,
                "origins": {name: text for name, text in draft.origins.items() if name in draft.replies},
                "params": draft.params,
                "same_as": same_as or (known.same_as if known else None),
                "by": by,
                "at": now(),
                "evidence": tuple(evidence.values()),
            }
        )
    except ValidationError as faults:
        told = [f"{fault['loc'][0]}: found {fault['input']!r}: {fault['msg']}" for fault in faults.errors()]
        raise UsageError("; ".join(told)) from faults


def add_file(files: dict[str, bytes], name: str, content: bytes) -> None:
    """Add a file to those that go with one answer.

    Args:
        files: Content by name so far; changed.
        name: The file's name.
        content: Its content.

    Raises:
        UsageError: Another file of that name is among them.
    """
    if files.get(name, content) != content:
        raise UsageError(_("found two files called {name}, wanted names that differ", name=name))
    files[name] = content


def read_evidence(paths: Sequence[Path]) -> dict[str, bytes]:
    """Content of files by name.

    Raises:
        UsageError: One is not fit to be kept, or two have one name.
    """
    contents: dict[str, bytes] = {}
    for path in paths:
        if path.name in contents:
            raise UsageError(
                _(
                    "--evidence {path}: found two files called {name}, wanted names that differ",
                    path=path,
                    name=path.name,
                )
            )
        contents[path.name] = read_plain(path, f"--evidence {path}")
    return contents
