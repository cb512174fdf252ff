"""The dialogue at a terminal: one question at a time, with help, drafts, a way back and a way out."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from assessor.cli.terminal import err, plain
from assessor.errors import UsageError
from assessor.messages import _, number

if TYPE_CHECKING:
    from assessor.model import Param, Question

T = TypeVar("T")


class Wish(Exception):  # noqa: N818 - where a person wants to go, not an error
    """Typed in place of a reply."""


class Quit(Wish):
    """Stop here; everything kept stays."""


class Back(Wish):
    """One step back."""


class Skip(Wish):
    """Leave this question open."""


class Later(Wish):
    """Put the requirement off to the end."""


class SameAs(Wish):
    """Another requirement's answer serves here too."""

    def __init__(self, requirement: str) -> None:
        """Remember which.

        Args:
            requirement: Its id as typed.
        """
        super().__init__(requirement)
        self.requirement = requirement


class Attach(Wish):
    """Attach a file as evidence."""

    def __init__(self, path: Path) -> None:
        """Remember which.

        Args:
            path: The file.
        """
        super().__init__(str(path))
        self.path = path


def commands() -> str:
    """The commands that work at every prompt, in one line."""
    return _("? help  /b back  /s skip  /l later  =ID same as  +FILE attach  /e editor  q stop")


@dataclass
class Prompt:
    """One thing that is asked.

    Attributes:
        text: The question.
        choices: Permitted replies as they are shown.
        hint: What form the reply has.
        draft: What Enter takes.
        origin: Where the draft comes from.
        lines: Whether the reply may have several lines.
        help: What `?` shows.
    """

    text: str
    choices: Sequence[str] = ()
    hint: str = ""
    draft: str = ""
    origin: str = ""
    lines: bool = False
    help: Callable[[], None] = field(default=lambda: None)

    def show(self) -> None:
        """Print it."""
        console = err()
        if self.text:
            console.print(f"\n[bold]{plain(self.text)}[/]")
        for index, choice in enumerate(self.choices, start=1):
            console.print(f"  [cyan]{index}[/]  {plain(choice)}")
        if self.hint:
            console.print(f"[dim]{plain(self.hint)}[/]")
        if self.draft:
            source = f" ({plain(self.origin)})" if self.origin else ""
            console.print(f"[dim]{_('Enter keeps')}{source}:[/] {plain(self.draft)}")


def ask(prompt: Prompt, checked: Callable[[str], T]) -> tuple[T, bool]:
    """Ask until the reply fits.

    Args:
        prompt: What is asked.
        checked: Typed text to the value; its UsageError is shown and the question put again.

    Returns:
        The value, and whether it is the draft taken over.

    Raises:
        Quit: The person wants to stop.
        Back: One step back.
        Skip: Leave it open, or Enter without a draft.
        Later: Put the requirement off.
        SameAs: Another answer serves here too.
        Attach: A file is to be attached.
        UsageError: There is nobody to ask.
    """
    while True:
        line = typed(prompt)
        if line == "?":
            prompt.help()
            continue
        if not line:
            if not prompt.draft:
                raise Skip
            return checked(prompt.draft), True
        try:
            return checked(line), False
        except UsageError as fault:
            err().print(f"[yellow]{plain(fault)}[/]")


def typed(prompt: Prompt) -> str:
    """Show a prompt and read one line, or several where it takes them.

    Args:
        prompt: What is asked; nothing is checked.

    Returns:
        What was typed, stripped; the editor's text for `/e`.

    Raises:
        Quit: The person wants to stop.
        Attach: A file is to be attached.
        SameAs: Another answer serves here too.
    """
    prompt.show()
    line = _line()
    word = line.strip()
    _obey(word)
    if word.startswith("=") and len(word) > 1:
        raise SameAs(word[1:].strip())
    if word.startswith("+") and len(word) > 1 and not word[1:].lstrip().replace(".", "").isdigit():
        raise Attach(Path(word[1:].strip()).expanduser())
    if word == "/e":
        return edited(prompt.draft)
    if not prompt.lines or not word or word == "?":
        return word
    lines = [line]
    while following := _line("… ").rstrip():
        _obey(following.strip())
        lines.append(following)
    return "\n".join(lines)


def _obey(word: str) -> None:
    """Follow a command to move; anything else is a reply."""
    if word in {"q", "/q"}:
        raise Quit
    signals: dict[str, type[Wish]] = {"/b": Back, "/s": Skip, "/l": Later}
    if word in signals:
        raise signals[word]


def _line(mark: str = "> ") -> str:
    try:
        return input(mark)
    except EOFError as fault:
        raise UsageError(_("no terminal to ask at; use  --set ID=VALUE --because TEXT")) from fault


def edited(text: str) -> str:
    """Text from the person's editor ($VISUAL, $EDITOR), started with a draft."""
    with tempfile.TemporaryDirectory(prefix="assessor-") as folder:
        path = Path(folder) / "reply.txt"
        path.write_text(text + "\n", "utf-8")
        editor = shlex.split(os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi")
        try:
            subprocess.run([*editor, str(path)], check=True)  # noqa: S603 - the person's own choice
        except (OSError, subprocess.CalledProcessError) as fault:
            err().print(
                f"[yellow]{_('the editor {editor} failed; name another in EDITOR', editor=editor[0])}[/] {fault}"
            )
            return text
        return path.read_text("utf-8").strip()


def prompt_for(
    question: Question | Param, draft: str, origin: str, show_help: Callable[[], None], place: str = ""
) -> Prompt:
    """How a question or param of the catalog is put."""
    from assessor.model import Param, QuestionType
    from assessor.replies import HINTS, label

    if isinstance(question, Param):
        text, choices, hint = question.label, question.options, _param_hint(question)
        lines = False
    else:
        text, choices = question.text, question.choices
        hint = _(HINTS[question.type]) if question.type in HINTS else ""
        lines = question.type is QuestionType.TABLE
        if question.columns:
            hint = " | ".join(label(question, column) for column in question.columns) + f"\n{hint}"
    unit = f" [{question.unit}]" if question.unit and question.unit != "1" else ""
    return Prompt(
        text=f"{place}{text}{unit}",
        choices=[label(question, choice) for choice in choices],
        hint=hint,
        draft=draft,
        origin=origin,
        lines=lines,
        help=show_help,
    )


def _param_hint(param: Param) -> str:
    from assessor.model import ParamType, QuestionType
    from assessor.replies import HINTS

    target = _("the target you set, the catalog sets none; - for no target")
    forms = {ParamType.INTERVAL: _(HINTS[QuestionType.INTERVAL]), ParamType.NUMBER: _(HINTS[QuestionType.NUMBER])}
    return "; ".join(text for text in (target, forms.get(param.type, "")) if text)


def is_terminal() -> bool:
    """Whether a person can be asked."""
    return sys.stdin.isatty()


def minutes(seconds: float) -> str:
    """A time in words that promise no more than an estimate can."""
    if seconds < 90:
        return _("about a minute")
    if seconds < 5400:
        return _("about {n} minutes", n=round(seconds / 60))
    return _("about {n} hours", n=number(seconds / 3600, 2))
