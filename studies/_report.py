"""How a study ends: criteria that are met or not, tables, a figure; PASS or FAIL."""

from __future__ import annotations

import argparse
import csv
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, NoReturn

import torch
from matplotlib.figure import Figure

RESULTS = Path(__file__).parent / "results"
HEAD = """# Results of the studies

Written by the studies themselves; what they show and how to run them: [README](../README.md).
"""
Cell = str | int | float


class Criterion(NamedTuple):
    """What the paper leads one to expect, what was found, and whether the one is met by the other."""

    expected: str
    found: str
    met: bool


class Table(NamedTuple):
    """One CSV file, and with a title one table of the Markdown section; one tuple a row."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: list[tuple[Cell, ...]]


class Outcome(NamedTuple):
    """What a study found; it passes where every criterion is met."""

    criteria: list[Criterion]
    tables: list[Table]
    figure: Figure
    notes: list[str]

    @property
    def verdict(self) -> str:
        """PASS or FAIL."""
        return "PASS" if all(criterion.met for criterion in self.criteria) else "FAIL"


def main(study: Callable[[bool], Outcome]) -> NoReturn:
    """Run a study from the command line and leave with 0 where it passes, else with 1.

    Args:
        study: Takes whether it is to be quick, gives what it found. Its module's name is the study's, and the first
            line of its docstring the first sentence of the section.
    """
    module = sys.modules[study.__module__]
    name, about = Path(module.__file__ or "").stem, module.__doc__ or ""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small version, whose verdict means nothing")
    parser.add_argument("--out", type=Path, help=f"folder of the results; {RESULTS}, when quick a temporary one")
    options = parser.parse_args()
    out = options.out or (Path(tempfile.mkdtemp()) if options.quick else RESULTS)
    start = time.perf_counter()
    torch.set_num_threads(1)  # small tensors: more threads only wait for each other, and sums keep their order
    outcome = study(options.quick)
    write(name, about, outcome, out, quick=options.quick)
    for criterion in outcome.criteria:
        print(f"{'met    ' if criterion.met else 'not met'} {criterion.expected}: {criterion.found}")
    for note in outcome.notes:
        print(f"        {note}")
    print(f"{outcome.verdict} {name} in {time.perf_counter() - start:.0f} s; {out / 'results.md'}")
    sys.exit(outcome.verdict != "PASS")


def progress(what: str, done: int, total: int) -> None:
    """Show whoever waits at a terminal how far a study is."""
    if sys.stderr.isatty():
        print(f"\r{what} {done} of {total}   ", end="" if done < total else "\n", file=sys.stderr, flush=True)


def write(name: str, about: str, outcome: Outcome, out: Path, *, quick: bool = False) -> None:
    """Write the figure, the tables and the study's section of results.md, where other sections stay.

    Args:
        name: Of the study and its files.
        about: Its docstring.
        outcome: What it found.
        out: Folder; made where there is none.
        quick: Whether to say that the numbers are of a small version.
    """
    out.mkdir(parents=True, exist_ok=True)
    outcome.figure.savefig(out / f"{name}.png", dpi=100, metadata={"Software": None})
    for table in outcome.tables:
        with (out / f"{name}_{table.name}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(table.columns)
            writer.writerows(tuple(shown(cell, 6) for cell in row) for row in table.rows)
    path = out / "results.md"
    _, *sections = (path.read_text("utf-8") if path.exists() else "").split("\n## ")
    kept = {section.split(":", 1)[0]: section.rstrip() for section in sections}
    kept[name] = section_of(name, about, outcome, quick=quick)
    path.write_text(HEAD + "".join(f"\n## {kept[key]}\n" for key in sorted(kept)), "utf-8")


def section_of(name: str, about: str, outcome: Outcome, *, quick: bool) -> str:
    """The study's section without its leading `## `."""
    machine = f"torch {torch.__version__.partition('+')[0]}, one thread, {platform.machine()}"
    parts = [
        f"{name}: {outcome.verdict}{' (quick: says nothing)' if quick else ''}",
        f"{about.splitlines()[0]} ({machine})",
        _markdown(
            ("expected", "found", "met"),
            [(one.expected, one.found, "yes" if one.met else "no") for one in outcome.criteria],
        ),
        "\n".join(f"- {note}" for note in outcome.notes),
        f"![{name}]({name}.png)",
        *(f"**{table.title}**\n\n{_markdown(table.columns, table.rows)}" for table in outcome.tables if table.title),
    ]
    return "\n\n".join(part for part in parts if part)


def shown(cell: Cell, digits: int = 3) -> str:
    """A cell as text, numbers to some significant digits.

    >>> shown(0.123456), shown(7), shown("a"), shown(123456.0, 6)
    ('0.123', '7', 'a', '123456')
    """
    return f"{cell:.{digits}g}" if isinstance(cell, float) else str(cell)


def _markdown(columns: tuple[str, ...], rows: list[tuple[Cell, ...]]) -> str:
    lines = [columns, ("---",) * len(columns), *(tuple(shown(cell) for cell in row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
