"""Taking answers: checked, with their evidence, saved one by one; a half-finished one is kept as a draft."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from assessor.errors import UsageError
from assessor.model import Answer, Catalog, Question, Requirement, Verdict
from assessor.project import Project, evidence_ref, now
from assessor.questionnaire import checked_reply, checked_verdict, split_setting


class Saved(NamedTuple):
    """What was saved."""

    id: str
    value: str


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
        self.replies: dict[str, str] = {**(known.replies if known else {}), **self._restored()}

    def _restored(self) -> dict[str, str]:
        """Replies of the draft, if it is there and readable; of questions that are still asked."""
        try:
            draft = json.loads(self._draft.read_text("utf-8"))
            asked = [question.id for question in self._requirement.questions]
            return {name: str(draft[name]) for name in asked if name in draft}
        except (OSError, ValueError, TypeError):
            return {}

    def reply(self, question: Question, text: str) -> None:
        """Keep the reply to one question."""
        self.replies[question.id] = text
        self._draft.parent.mkdir(exist_ok=True)
        temporary = self._draft.with_suffix(".tmp")
        temporary.write_text(json.dumps(self.replies), "utf-8")
        temporary.replace(self._draft)

    def finish(self, verdict: Verdict, because: str, evidence: Sequence[Path]) -> None:
        """Save the answer and drop the draft."""
        contents = read_evidence(evidence)
        answer = _answer(verdict, because, self._by, self.replies, contents, self._known)
        self._project.save_answer(self._requirement.id, self._requirement.area, answer, evidence=contents)
        self._draft.unlink(missing_ok=True)


def save_settings(
    project: Project,
    catalog: Catalog,
    settings: Sequence[str],
    *,
    because: str | None,
    by: str,
    evidence: Sequence[Path],
) -> list[Saved]:
    """Save what a script sets.

    Args:
        project: The folder.
        catalog: The requirements.
        settings: `ID=VALUE` or `ID.QUESTION=TEXT`.
        because: The reason; may be left out where only replies of an answered requirement change.
        by: Who answers.
        evidence: Files to attach to every requirement set.

    Returns:
        What was saved.

    Raises:
        UsageError: A setting, the reason or a file is missing or wrong; then nothing is saved.
    """
    answers = project.answers(catalog)
    verdicts: dict[str, Verdict] = {}
    replies: dict[str, dict[str, str]] = {}
    for requirement, question, value in (split_setting(setting, catalog) for setting in settings):
        replies.setdefault(requirement.id, {})
        if question is None:
            verdicts[requirement.id] = checked_verdict(value)
        else:
            replies[requirement.id][question.id] = checked_reply(question, value)
    plan = []
    for name, new in replies.items():
        known = answers.get(name)
        verdict = verdicts.get(name) or (Verdict(known.value) if known else None)
        reason = because or (known.because if known and name not in verdicts else None)
        if verdict is None:
            raise UsageError(
                f"--set {name}: its verdict is missing, give  --set {name}=fulfilled  (or partly, ...) too"
            )
        if not reason:
            raise UsageError(f"--set {name}: the reason is missing, give  --because TEXT")
        plan.append((catalog.by_id[name], verdict, reason, {**(known.replies if known else {}), **new}))
    contents = read_evidence(evidence)
    finished = [
        (requirement, _answer(verdict, reason, by, merged, contents, answers.get(requirement.id)))
        for requirement, verdict, reason, merged in plan
    ]
    for requirement, answer in finished:
        project.save_answer(requirement.id, requirement.area, answer, evidence=contents)
    return [Saved(requirement.id, str(answer.value)) for requirement, answer in finished]


def _answer(
    verdict: Verdict,
    because: str,
    by: str,
    replies: Mapping[str, str],
    contents: Mapping[str, bytes],
    known: Answer | None,
) -> Answer:
    """The answer; evidence of the known one stays, unless a file of its name is given anew."""
    evidence = {reference.name: reference for reference in (known.evidence if known else ())}
    data = {"value": verdict, "because": because, "replies": replies, "by": by, "at": now()}
    try:
        evidence |= {name: evidence_ref(name, content) for name, content in contents.items()}
        return Answer.model_validate({**data, "evidence": tuple(evidence.values())})
    except ValidationError as faults:
        told = [f"{fault['loc'][0]}: found {fault['input']!r}: {fault['msg']}" for fault in faults.errors()]
        raise UsageError("; ".join(told)) from faults


def read_evidence(paths: Sequence[Path]) -> dict[str, bytes]:
    """Content of files by name.

    Raises:
        UsageError: One cannot be read, or two have one name.
    """
    contents: dict[str, bytes] = {}
    for path in paths:
        if path.name in contents:
            raise UsageError(f"--evidence {path}: found two files called {path.name}, wanted names that differ")
        try:
            contents[path.name] = path.read_bytes()
        except OSError as fault:
            raise UsageError(f"--evidence {path}: cannot read it: {fault.strerror}") from fault
    return contents
