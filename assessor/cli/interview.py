"""Asking the developer: a walk through requirements, one question at a time, everything kept at every step."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from assessor.cli import ask
from assessor.cli.terminal import err, plain, styled
from assessor.errors import UsageError
from assessor.messages import _, plural

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console

    from assessor.answering import Interview
    from assessor.assessment import Assessment
    from assessor.model import Answer, Param, Question, Requirement
    from assessor.project import Project


class Questionnaire:
    """A walk through requirements, one question at a time. Everything is kept at every step."""

    def __init__(self, project: Project, by: str, evidence: Sequence[Path]) -> None:
        """Start.

        Args:
            project: The folder.
            by: Who answers.
            evidence: Files to attach to every answer.
        """
        self._project = project
        self._by = by
        self._evidence = list(evidence)
        self._spent = self._guessed = 0.0

    def walk(self, waiting: Sequence[Requirement]) -> None:
        """Ask requirements in order until the end or until the person stops.

        Args:
            waiting: What to ask.
        """
        from assessor.questionnaire import effort

        left = list(waiting)
        done: list[Requirement] = []
        put_off: set[str] = set()
        found = self._read()
        total = effort(left, found.scope, found.runs, found.known)
        console = err()
        console.print(
            plural("{n} requirement to answer", "{n} requirements to answer", total.requirements)
            + ", "
            + _("{n} questions, {drafted} of them with a draft", n=total.questions, drafted=total.drafted)
            + f", {ask.minutes(total.seconds)}."
        )
        console.print(f"[dim]{ask.commands()}[/]")
        try:
            while left:
                requirement = left[0]
                found = self._read()
                if not found.scope.of(requirement).applies:
                    left.pop(0)
                    continue
                outcome = self._one(requirement, found, left)
                if outcome == "done":
                    done.append(left.pop(0))
                elif outcome == "later":
                    left.append(left.pop(0))
                    if requirement.id in put_off and all(item.id in put_off for item in left):
                        break
                    put_off.add(requirement.id)
                elif outcome == "back" and done:
                    left.insert(0, done.pop())
        except ask.Quit:
            pass
        self._farewell(left)

    def _read(self) -> Assessment:
        from assessor.assessment import Assessment

        return Assessment.read(self._project)

    def _farewell(self, left: Sequence[Requirement]) -> None:
        from assessor.questionnaire import effort

        found = self._read()
        still = [item for item in left if found.scope.of(item).applies]
        if not still:
            err().print("\n" + _("Nothing is left here. Next:  assessor status"))
            return
        rest = effort(still, found.scope, found.runs, found.known, pace=self._pace)
        err().print(
            "\n"
            + plural("Everything is kept; {n} requirement is left", "Everything is kept; {n} are left", len(still))
            + f", {ask.minutes(rest.seconds)}."
        )

    @property
    def _pace(self) -> float:
        """The person's time over the first guess, held within reason."""
        return min(max(self._spent / self._guessed, 0.3), 3.0) if self._guessed > 300 else 1.0

    def _one(self, requirement: Requirement, found: Assessment, left: Sequence[Requirement]) -> str:
        """Ask one requirement; done, later or back."""
        from assessor.questionnaire import effort

        rest = effort(left, found.scope, found.runs, found.known, pace=self._pace)
        guess = effort([requirement], found.scope, found.runs, found.known).seconds
        head(requirement, found, len(left), rest.seconds)
        started = time.monotonic()
        try:
            outcome = _Steps(self._project, requirement, found, self._by, self._evidence).run()
        except ask.Later:
            return "later"
        if outcome == "done":
            self._spent += time.monotonic() - started
            self._guessed += guess
        return outcome


def head(requirement: Requirement, found: Assessment, left: int, seconds: int) -> None:
    """What a person needs to see before the first question."""
    from rich.rule import Rule

    console = err()
    console.print()
    console.print(
        Rule(f"[bold]{requirement.id}[/]  [dim]{_('{n} left', n=left)}, {ask.minutes(seconds)}[/]", align="left")
    )
    console.print(f"[bold]{plain(requirement.title)}[/]")
    console.print(plain(requirement.statement))
    why = found.scope.of(requirement)
    if why.because:
        console.print(f"[dim]{_('asked because')}[/] {plain(why.because)}")
    for name in requirement.refers_to:
        earlier = found.answers.get(name)
        if earlier is not None:
            said = plain(_short(_said(name, earlier, found)))
            console.print(f"[dim]{name}[/] {styled(str(earlier.value))}[dim]: {said}[/]")
    for check, run in found.runs.items():
        if requirement.id in run.requirements:
            from assessor.verdicts import told

            console.print(f"[dim]{_('measured')}[/] {check} {styled(run.outcome.status)}: {plain(told(run))}")


def _said(requirement: str, answer: Answer, found: Assessment) -> str:
    """What an earlier answer says, in one text: its reason, or its first reply where that says it all."""
    from assessor.answering import stated_by_replies
    from assessor.replies import shown_reply

    if answer.because != stated_by_replies():
        return answer.because
    item = found.catalog.by_id[requirement]
    for question in item.for_developer:
        if question.id in answer.replies:
            rows = shown_reply(question, answer.replies[question.id]).splitlines()
            return "; ".join(row.rstrip(" |") for row in rows)
    return answer.because


def _short(text: str, length: int = 140) -> str:
    return text if len(text) <= length else text[: length - 1].rsplit(" ", 1)[0] + " …"


def _item(mark: str, text: str, console: Console | None = None) -> None:
    """One line of a list, wrapped under its text."""
    from rich.table import Table

    row = Table.grid(padding=(0, 1, 0, 0))
    row.add_column(width=4, justify="right")
    row.add_column()
    row.add_row(mark, plain(text))
    (console or err()).print(row)


def show_help(requirement: Requirement, console: Console | None = None) -> None:
    """Guidance, example, mistakes and objectives.

    Args:
        requirement: Whose.
        console: Where; default standard error.
    """
    console = console or err()
    guidance = requirement.guidance
    console.print(f"\n[bold]{_('What to do')}[/]\n{plain(guidance.do)}")
    console.print(f"[bold]{_('A good answer')}[/]\n{plain(guidance.example)}")
    console.print(f"[bold]{_('What often goes wrong')}[/]")
    for mistake in guidance.mistakes:
        _item("–", mistake, console)
    console.print(f"[bold]{_('What an assessor establishes')}[/]")
    for objective in requirement.objectives:
        _item(objective.id, objective.text, console)


class _Steps:
    """The steps of one requirement: its questions, its targets, evidence, verdict and reason."""

    def __init__(
        self, project: Project, requirement: Requirement, found: Assessment, by: str, evidence: Sequence[Path]
    ) -> None:
        from assessor.answering import Interview

        self._project = project
        self._requirement = requirement
        self._found = found
        self._evidence = evidence
        self._interview: Interview = Interview(project, requirement, by, found.answers.get(requirement.id))
        self._verdict: str = ""
        self._because = ""
        self._attached = False

    def run(self) -> str:
        """Ask until all is said; done or back."""
        position = 0
        while True:
            steps = self._steps()
            if position >= len(steps):
                self._finish()
                return "done"
            try:
                steps[position]()
                position += 1
            except ask.Back:
                if position == 0:
                    return "back"
                position -= 1
            except ask.Skip:
                position += 1
            except ask.Attach as wish:
                self._attach(wish.path)
            except ask.SameAs as wish:
                if self._same_as(wish.requirement):
                    return "done"

    def _steps(self) -> list[Callable[[], None]]:
        """What is asked, in order; the verdict first where nothing more needs to be said of what is not there."""
        from assessor.questionnaire import STATED_BY_REPLIES, VERDICT_FIRST, deciding, param_is_set

        asked = self._asked()
        if self._requirement.aspect in VERDICT_FIRST and self._verdict not in {"fulfilled", "partly"}:
            named = deciding(self._requirement, self._found.catalog)
            asked = tuple(item for item in asked if item.id in named)
        questions: list[Callable[[], None]] = [
            partial(self._question, question, f"{index}/{len(asked)}  ")
            for index, question in enumerate(asked, start=1)
        ]
        targets: list[Callable[[], None]] = [
            partial(self._param, param)
            for param in self._requirement.params
            if not param_is_set(param, self._found.scope)
        ]
        if self._requirement.aspect in STATED_BY_REPLIES:
            return questions
        if self._requirement.aspect not in VERDICT_FIRST:
            return [*questions, *targets, self._files, self._ask_verdict, self._reason]
        if self._verdict in {"fulfilled", "partly"}:
            return [self._ask_verdict, *questions, self._files, self._reason]
        return [self._ask_verdict, *questions, self._reason] if self._verdict else [self._ask_verdict]

    def _asked(self) -> tuple[Question, ...]:
        from assessor.applicability import Scope

        scope = self._found.scope
        here = {self._requirement.id: self._interview.replies}
        return Scope(scope.catalog, scope.configuration, scope.answers, here).questions(self._requirement)

    def _help(self) -> None:
        show_help(self._requirement)
        err().print(f"[dim]{ask.commands()}[/]")

    def _question(self, question: Question, place: str) -> None:
        from assessor.questionnaire import drafts
        from assessor.replies import checked_reply, editable

        found = self._found
        kept = self._interview.replies.get(question.id)
        origin = self._interview.draft.origins.get(question.id, _("said before")) if kept is not None else ""
        value = kept
        if kept is None:
            draft = next(drafts(question, found.scope, found.runs, found.known), None)
            value, origin = (draft.value, draft.origin) if draft else (None, "")
        shown = "" if value is None else editable(question, value)
        prompt = ask.prompt_for(question, shown, origin, self._help, place)
        reply, taken = ask.ask(prompt, partial(checked_reply, question))
        typed = value if taken and value is not None else reply
        self._interview.reply(question, typed, origin if taken and kept is None else "")
        self._drop_unasked()

    def _drop_unasked(self) -> None:
        from assessor.answering import unasked

        for question in unasked(self._requirement, self._found.scope, self._interview.replies):
            self._interview.forget(question)

    def _param(self, param: Param) -> None:
        from assessor.replies import checked_param, shown_param

        kept = self._interview.draft.params.get(param.id)
        shown = shown_param(param, kept.value) if kept else ""
        prompt = ask.prompt_for(param, shown, _("said before") if kept else "", self._help)
        value, taken = ask.ask(
            prompt, lambda text: kept.value if kept and text == shown else checked_param(param, text)
        )
        if taken:
            return
        why = _("Why is none set?") if value is None else _("Why is this the right target?")
        because, _taken = ask.ask(ask.Prompt(why, help=self._help), _some_text)
        self._interview.set_param(param, value, because)

    def _files(self) -> None:
        """Offer what was attached elsewhere, and take files until Enter."""
        from assessor.cli.evidence import known_of
        from assessor.judgement import attached_evidence
        from assessor.questionnaire import offered_evidence

        console = err()
        offers = () if self._attached else offered_evidence(self._requirement, self._found.scope)
        if self._attached:
            hint = _("another file, or Enter")
        else:
            console.print(f"\n[bold]{_('Evidence')}[/]")
            for expected in self._requirement.evidence:
                _item("–", expected.what)
            for item in attached_evidence(self._requirement.id, self._found.scope):
                console.print(f"  [green]{_('attached')}[/] {plain(item.name)} {plain(known_of(item, self._found))}")
            for offer in offers:
                given = _(
                    "({document}, given for {requirement})",
                    document=self._title(str(offer.evidence.document)),
                    requirement=offer.given_for,
                )
                known = known_of(offer.evidence, self._found)
                console.print(f"  [cyan]{plain(offer.evidence.name)}[/] {plain(given)} {plain(known)}")
            offered = _("path of a file; Enter takes over what is offered; - for none")
            hint = offered if offers else _("path of a file, or Enter")
        typed = ask.typed(ask.Prompt("", hint=hint))
        if typed == "?":
            self._help()
            self._files()
        elif not typed:
            for offer in offers:
                self._interview.share(offer.evidence)
        elif typed != "-":
            self._attach(Path(typed).expanduser())
            self._files()

    def _attach(self, path: Path) -> None:
        documents = [item.document for item in self._requirement.evidence if item.document]
        document = documents[0] if documents else None
        if len(set(documents)) > 1:
            from assessor.replies import chosen

            titles = {name: self._title(name) for name in dict.fromkeys(documents)}
            prompt = ask.Prompt(_("Which document is it?"), list(titles.values()), help=self._help)
            try:
                document, _taken = ask.ask(prompt, partial(chosen, choices=list(titles), labels=titles))
            except ask.Skip:
                document = None
        try:
            name = self._interview.attach(path, document)
        except UsageError as fault:
            err().print(f"[yellow]{plain(fault)}[/]")
            return
        self._attached = True
        err().print(f"[green]{_('attached')}[/] {plain(name)}")

    def _title(self, document: str) -> str:
        found = self._found.catalog.document(document)
        return found.title if found else document

    def _ask_verdict(self) -> None:
        from assessor.model import Status
        from assessor.replies import ANSWERS, checked_verdict

        failing = [
            name
            for name, run in self._found.runs.items()
            if self._requirement.id in run.requirements and run.outcome.status is Status.FAIL
        ]
        for name in failing:
            err().print(f"[yellow]{_('{check} failed: “fulfilled” would contradict it.', check=name)}[/]")
        known = self._found.answers.get(self._requirement.id)
        draft = self._verdict or (str(known.value) if known else "")
        words = [_(str(verdict).replace("_", " ")) for verdict in ANSWERS]
        prompt = ask.Prompt(_("So the requirement is"), words, draft=_(draft.replace("_", " ")), help=self._help)
        verdict, _taken = ask.ask(prompt, checked_verdict)
        self._verdict = str(verdict)

    def _reason(self) -> None:
        from assessor.answering import stated_by_replies

        known = self._found.answers.get(self._requirement.id)
        draft = known.because if known and str(known.value) == self._verdict else ""
        if not draft and self._interview.replies and self._verdict != "not_applicable":
            draft = stated_by_replies()
        while not self._because:
            try:
                self._because, _taken = ask.ask(ask.Prompt(_("Because"), draft=draft, help=self._help), _some_text)
            except ask.Skip:
                err().print(f"[yellow]{_('a verdict needs its reason')}[/]")

    def _same_as(self, name: str) -> bool:
        """Take over another answer; whether that was possible."""
        from assessor.errors import nearest
        from assessor.model import Verdict

        catalog, answers = self._found.catalog, self._found.answers
        other = catalog.by_id.get(name)
        if other is None or other.id not in answers or other.id == self._requirement.id:
            known = [item for item in answers if item != self._requirement.id]
            err().print(f"[yellow]{_('no answered requirement {name}', name=name)}{nearest(name, known)}[/]")
            return False
        answer = answers[other.id]
        because = _("The same as {requirement}: {because}", requirement=other.id, because=answer.because)
        self._interview.finish(Verdict(answer.value), because, self._evidence, same_as=other.id)
        err().print(f"[dim]{_('kept in {file}', file=f'answers/{self._requirement.area}.yaml')}[/]")
        return True

    def _finish(self) -> None:
        from assessor.answering import stated_by_replies
        from assessor.model import Verdict
        from assessor.questionnaire import STATED_BY_REPLIES

        if self._requirement.aspect in STATED_BY_REPLIES:
            if len(self._interview.replies) < len(self._asked()):
                err().print(f"[yellow]{_('left open: these questions decide what else is asked')}[/]")
                raise ask.Later
            reason = str(self._interview.replies.get("reason") or "") or stated_by_replies()
            self._interview.finish(Verdict.FULFILLED, reason, self._evidence)
            self._say_need()
        else:
            if not self._verdict:
                err().print(f"[yellow]{_('left open: without a verdict nothing is answered; the replies are kept')}[/]")
                raise ask.Later
            self._interview.finish(Verdict(self._verdict), self._because, self._evidence)
        err().print(f"[dim]{_('kept in {file}', file=f'answers/{self._requirement.area}.yaml')}[/]")

    def _say_need(self) -> None:
        from assessor.model import Aspect

        if self._requirement.aspect is Aspect.PROTECTION:
            need = self._project.configuration().protection_needs.of(self._requirement.dimension)
            if need is not None:
                err().print(_("So the protection need is {level}.", level=f"[bold]{_(need.level.value)}[/]"))


def _some_text(text: str) -> str:
    if not text.strip():
        raise UsageError(_("found an empty reply, wanted some text"))
    return text.strip()
