"""`assessor audit`: the auditor's side. Its slot is its own: nothing here touches an answer."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from assessor.cli import ask
from assessor.cli.terminal import (
    JsonOption,
    ProjectOption,
    complete_requirement,
    err,
    open_project,
    out,
    plain,
    print_json,
    styled,
)
from assessor.messages import _, day, plural

if TYPE_CHECKING:
    from assessor.assessment import Assessment
    from assessor.model import DimensionHead, Requirement
    from assessor.project import Project


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(audit)


def audit(
    which: Annotated[
        str | None,
        typer.Argument(
            metavar="[ID|AREA|DIMENSION]", autocompletion=complete_requirement, help="Default: what is not audited yet."
        ),
    ] = None,
    project: ProjectOption = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="ID=VERDICT",
            help="Judge without being asked: a requirement's verdict, or a dimension's residual risk; repeatable.",
        ),
    ] = None,
    because: Annotated[str | None, typer.Option(help="The reason.")] = None,
    deviation: Annotated[str | None, typer.Option(help="What falls short; compulsory below fulfilled.")] = None,
    assurance: Annotated[
        str | None, typer.Option(help="self_declared, document_reviewed or re_performed.", show_default=False)
    ] = None,
    objectives: Annotated[
        list[str] | None, typer.Option("--objective", help="Letter of an objective that is not met; repeatable.")
    ] = None,
    comment: Annotated[str, typer.Option(help="Anything else.")] = "",
    by: Annotated[str | None, typer.Option(help="Who judges; default: the user.")] = None,
    second: Annotated[
        str | None,
        typer.Option(metavar="DIMENSION", help="Agree to a rating as the second person; see --by.", show_default=False),
    ] = None,
    trade_off: Annotated[
        str | None,
        typer.Option(
            metavar="NAME=GIVES,GAINS",
            help="Accept a trade-off between dimensions, such as T1=RE,FN; with --what and --because.",
            show_default=False,
        ),
    ] = None,
    what: Annotated[str, typer.Option(help="What the trade-off gives up.")] = "",
    conclude: Annotated[
        str | None, typer.Option(help="The final statement: yes, with conditions or no.", show_default=False)
    ] = None,
    conditions: Annotated[str, typer.Option(help="Conditions of the final statement.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Judge requirement by requirement: answer, evidence, measurements; then residual risks and the conclusion."""
    from assessor import auditing
    from assessor.project import current_user

    opened, who = open_project(project), by or current_user()
    done: list[str] = []
    if settings:
        judged = auditing.Judgement(because or "", deviation or "", assurance, tuple(objectives or ()), comment)
        done += auditing.save_settings(opened, settings, judged, by=who)
    if second is not None:
        done.append(auditing.agree(opened, second, by=who))
    if trade_off is not None:
        done.append(auditing.accept(opened, trade_off, what=what, because=because or "", by=who))
    if conclude is not None:
        done.append(auditing.conclude(opened, conclude, because=because or "", conditions=conditions, by=who))
    if done:
        for line in done:
            out().print(line, markup=False)
    elif as_json:
        print_json(_waiting_plain(opened, which))
    else:
        _walk(opened, which, who)


def _waiting_plain(project: Project, which: str | None) -> list[dict[str, object]]:
    from assessor.assessment import Assessment
    from assessor.auditing import due

    found = Assessment.read(project)
    return [{"id": item.id, "title": item.title} for item in due(found, which)]


def _walk(project: Project, which: str | None, by: str) -> None:
    """Go through requirements, then through the dimensions whose requirements are all judged."""
    from assessor.assessment import Assessment
    from assessor.auditing import due, to_rate

    found = Assessment.read(project)
    waiting = list(due(found, which))
    console = err()
    console.print(plural("{n} requirement to judge", "{n} requirements to judge", len(waiting)))
    console.print(f"[dim]{ask.commands()}[/]")
    position = 0
    try:
        while position < len(waiting):
            outcome = _Steps(
                project, waiting[position], Assessment.read(project), by, f"{position + 1}/{len(waiting)}"
            ).run()
            position = max(0, position + outcome)
        for head in to_rate(Assessment.read(project), which):
            _rate(project, Assessment.read(project), head, by)
    except (ask.Quit, ask.Later):
        pass
    open_ids = {item.id for item in due(Assessment.read(project))}
    left = sum(item.id in open_ids for item in waiting)
    if not left:
        console.print("\n" + _("Nothing is left here. Next:  assessor status"))
        return
    console.print(
        "\n"
        + plural("Everything is kept; {n} requirement is not judged", "Everything is kept; {n} are not judged", left)
    )


def _rate(project: Project, found: Assessment, head: DimensionHead, by: str) -> None:
    """Ask for the residual risk of one dimension, under its ceiling."""
    from assessor import auditing
    from assessor.model import ResidualRisk
    from assessor.replies import chosen

    state = next(item for item in found.states if item.id == head.id)
    best = _(state.ceiling.value) if state.ceiling else _("nothing yet")
    console = err()
    console.print(f"\n[bold]{head.id}  {plain(head.title)}[/]")
    console.print(_("At best {best}: {because}", best=f"[bold]{best}[/]", because=plain(state.ceiling_because)))
    if state.stated:
        console.print(_("Stated by the developer: {stated}", stated=_(state.stated)))
    risks = [risk.value for risk in ResidualRisk]
    prompt = ask.Prompt(_("The remaining risk of this dimension is"), [_(risk) for risk in risks])
    try:
        risk, _taken = ask.ask(prompt, partial(chosen, choices=risks, labels={}))
        because, _taken = ask.ask(ask.Prompt(_("Because")), str)
    except (ask.Skip, ask.Back):
        return
    console.print(auditing.rate(project, head.id, ResidualRisk(risk), because=because, by=by), markup=False)


class _Steps:
    """One requirement: what was said and measured, then the auditor's own words."""

    def __init__(self, project: Project, requirement: Requirement, found: Assessment, by: str, place: str) -> None:
        self._project = project
        self._requirement = requirement
        self._found = found
        self._by = by
        self._place = place

    def run(self) -> int:
        """Ask; how far to move on: one on, or one back."""
        from assessor import auditing
        from assessor.cli.interview import show_help
        from assessor.model import Assurance, Verdict
        from assessor.replies import ANSWERS, checked_verdict, chosen

        self._show()
        show = partial(show_help, self._requirement)
        known = self._found.audits.get(self._requirement.id)
        replies = dict(known.replies) if known else {}
        try:
            for question in self._requirement.for_auditor:
                try:
                    kept = str(replies.get(question.id, ""))
                    reply, _taken = ask.ask(ask.Prompt(question.text, draft=kept, help=show), str)
                    replies[question.id] = reply
                except ask.Skip:
                    continue
            words = [_(str(verdict).replace("_", " ")) for verdict in ANSWERS]
            draft = _(str(known.value).replace("_", " ")) if known else ""
            verdict, _taken = ask.ask(ask.Prompt(_("Your verdict"), words, draft=draft, help=show), checked_verdict)
            deviation, missed = "", tuple[str, ...]()
            if verdict in {Verdict.PARTLY, Verdict.NOT_FULFILLED}:
                deviation, _taken = ask.ask(
                    ask.Prompt(_("What falls short?"), draft=known.deviation if known else "", help=show), str
                )
                missed = self._missed(show)
            levels = [level.value for level in Assurance]
            labels = {level: _(level.replace("_", " ")) for level in levels}
            assurance, _taken = ask.ask(
                ask.Prompt(
                    _("How did you establish it?"),
                    list(labels.values()),
                    draft=labels[known.assurance] if known else "",
                    help=show,
                ),
                partial(chosen, choices=levels, labels=labels),
            )
            because, _taken = ask.ask(ask.Prompt(_("Because"), draft=known.because if known else "", help=show), str)
        except ask.Back:
            return -1
        except (ask.Skip, ask.Attach, ask.SameAs):
            err().print(f"[yellow]{_('left open')}[/]")
            return 1
        judged = auditing.Judgement(because, deviation, assurance, missed, "", replies)
        auditing.save(self._project, self._found, self._requirement, verdict, judged, by=self._by)
        err().print(f"[dim]{_('kept in {file}', file=f'audit/{self._requirement.area}.yaml')}[/]")
        return 1

    def _missed(self, show: partial[None]) -> tuple[str, ...]:
        letters = [item.id for item in self._requirement.objectives]
        if len(letters) < 2:
            return tuple(letters)
        texts = [f"{item.id}  {item.text}" for item in self._requirement.objectives]
        prompt = ask.Prompt(_("Which objectives are not met?"), texts, hint=_("one or more, with commas"), help=show)

        def checked(text: str) -> tuple[str, ...]:
            from assessor.replies import chosen

            return tuple(chosen(part, letters, {}) for part in text.split(","))

        try:
            found, _taken = ask.ask(prompt, checked)
        except ask.Skip:
            return ()
        return found

    def _show(self) -> None:
        """The developer's answer, its evidence, the measurements, and contradictions first."""
        from rich.rule import Rule

        from assessor.cli.evidence import shown_evidence
        from assessor.judgement import attached_evidence
        from assessor.replies import shown_param, shown_reply
        from assessor.verdicts import told

        item, found, console = self._requirement, self._found, err()
        console.print()
        console.print(Rule(f"[bold]{item.id}[/]  [dim]{self._place}[/]", align="left"))
        console.print(f"[bold]{plain(item.title)}[/]\n{plain(item.statement)}")
        for contradiction in found.contradictions:
            if contradiction.requirement == item.id:
                console.print(f"[bold red]{_('contradiction')}[/]  {plain(contradiction.sentence)}")
        answer = found.answers.get(item.id)
        if answer is None:
            console.print(f"[yellow]{_('not answered')}[/]")
        else:
            console.print(
                f"\n{plain(answer.by)}, {day(answer.at)}: {styled(str(answer.value))}  {plain(answer.because)}"
            )
            for name, reply in found.scope.replies(item.id).items():
                question = item.question(name)
                if question is not None:
                    origin = f" [dim]({plain(answer.origins[name])})[/]" if name in answer.origins else ""
                    console.print(f"  [dim]{plain(question.text)}[/]\n  {plain(shown_reply(question, reply))}{origin}")
            for name, value in answer.params.items():
                param = item.param(name)
                if param is not None:
                    set_to = f"{plain(shown_param(param, value.value))}: {plain(value.because)}"
                    console.print(f"  [dim]{plain(param.label)}[/] {set_to}")
        for evidence in attached_evidence(item.id, found.scope):
            console.print(f"  [cyan]{_('evidence')}[/] {plain(shown_evidence(evidence, found))}")
        for check, run in found.runs.items():
            if item.id in run.requirements:
                console.print(f"  [cyan]{check}[/] {styled(run.outcome.status)}: {plain(told(run))}")
