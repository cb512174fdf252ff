"""What all commands share: common options, JSON on standard output, everything else on standard error."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assessor.messages import SOURCE, _, language, retold

if TYPE_CHECKING:
    from rich.console import Console

    from assessor.assessment import Step
    from assessor.project import Project

ProjectOption = Annotated[
    Path | None,
    typer.Option(
        "--project", help="Assessment folder; default: the nearest one upwards.", file_okay=False, show_default=False
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]

PIPE_WIDTH = 200  # columns of a table that goes to a file or another program
QUIET_SECONDS = 10.0  # between lines about the parts of a check where there is no terminal to draw on

OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""What a terminal would obey rather than show; line feeds and tabs are let through."""

STATUS_STYLE = {
    "pass": "green",
    "fulfilled": "green",
    "fail": "bold red",
    "not_fulfilled": "red",
    "error": "bold red",
    "inconclusive": "yellow",
    "partly": "yellow",
    "measured": "cyan",
    "not_applicable": "dim",
    "not_assessed": "dim",
}


def out() -> Console:
    """Console on standard output, for what was asked for."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False)


def err() -> Console:
    """Console on standard error, for progress and messages."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


@contextmanager
def progress() -> Iterator[Step]:
    """A progress bar on standard error while checks run; plain lines when that is no terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = err()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(_("loading"), total=None)
        said = time.monotonic()

        def step(what: str, done: int, total: int, part: str = "") -> None:
            nonlocal said
            told = f"{retold(what)}: {retold(part)}" if part else retold(what)
            bar.update(task, description=told, completed=done, total=total)
            if not console.is_terminal and (not part or time.monotonic() - said >= QUIET_SECONDS):
                said = time.monotonic()
                console.print(f"[{done}/{total}] {told}", markup=False)

        yield step


def styled(word: str) -> str:
    """A status word in the language in use and in its colour, for rich; in English the very word that files use."""
    style = STATUS_STYLE.get(word)
    shown = word if language() == SOURCE else _(word.replace("_", " "))
    return f"[{style}]{shown}[/]" if style else shown


def aligned(rows: Mapping[str, str]) -> str:
    """Lines of two columns, the first as wide as its longest text."""
    width = max(map(len, rows))
    return "\n".join(f"  {left:{width}}  {right}" for left, right in rows.items())


def plain(text: object) -> str:
    """Text of others, for rich: nothing in it is markup, and nothing moves a terminal's cursor or colours it."""
    from rich.markup import escape

    return escape(visible(str(text)))


def visible(text: str) -> str:
    r"""Text whose control characters are written out, those that turn the direction of writing among them.

    >>> print(visible("a\x1b[2Jb\u202ec\n"), end="")
    a\x1b[2Jb\u202ec
    """
    return OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def print_json(value: Any) -> None:
    """One JSON document on standard output; models as their plain data."""
    text = json.dumps(_plain(value), indent=2, ensure_ascii=False)
    sys.stdout.write(OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text) + "\n")


def _plain(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", by_alias=True)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def open_project(folder: Path | None) -> Project:
    """The project a command works on."""
    from assessor.project import Project

    return Project.find(folder)


def complete_requirement(incomplete: str) -> list[tuple[str, str]]:
    """Tab completion: requirements, areas and dimensions."""
    from assessor.criteria import load_catalog

    catalog = load_catalog()
    names = [(head.id, head.title) for head in catalog.head.dimensions]
    names += [(area.id, area.title) for _dimension, area in catalog.areas()]
    names += [(item.id, item.title) for item in catalog.requirements]
    return [(name, title) for name, title in dict(names).items() if name.startswith(incomplete.upper())]


def complete_check(incomplete: str) -> list[tuple[str, str]]:
    """Tab completion: ids of installed checks."""
    from assessor.registry import load_checks

    return [(name, check.info.title) for name, check in load_checks().items() if incomplete in name]


def complete_gate_format(incomplete: str) -> list[str]:
    """Tab completion: formats of the gate."""
    from assessor.gate_formats import FORMATS

    return [name for name in FORMATS if name.startswith(incomplete)]


def one_of(*words: str) -> Callable[[str], list[str]]:
    """Tab completion: some words."""
    return lambda incomplete: [word for word in words if word.startswith(incomplete)]
