"""Plants defects and asks the checks: how often they find them, how often they cry wolf.

Writes docs/detection.md, studies/results/detection.csv and a figure an area. What is measured is kept at once, so that
a stopped run goes on where it was. Ends with 0 where every defect is ok, else with 1.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import platform
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from _cells import Cell, Kept, measure_all
from _frame import HERE, Defect, areas
from _table import Row, document, figure, grouped, line_of, merged, read_rows, row_of, write_rows

from assessor.model import Status

ROOT = HERE.parents[1]
CELLS = ROOT / "build" / "detection"
QUICK = 2  # seeds a strength, of the clean twin and the named strength


class Places(NamedTuple):
    """Where results go."""

    document: Path
    results: Path
    link: str


def main(arguments: Sequence[str] | None = None, folder: Path = HERE) -> int:
    """Run from the command line.

    Args:
        arguments: Instead of the process's.
        folder: Of the area modules.

    Returns:
        The exit code: 0 all ok, 1 not so, 2 nothing to do, 130 stopped.
    """
    options, known = _options(arguments), areas(folder)
    plan = _plan(known, folder, options.only, quick=options.quick)
    if not plan:
        print(f"no defect for {', '.join(options.only) or 'any check'} in {folder}", file=sys.stderr)
        return 2
    places, kept, start = _places(options.out, quick=options.quick), Kept(options.cells), time.perf_counter()
    try:
        rows = [row for planned in _measured(plan, kept, options.jobs) for row in _rows(planned, kept)]
    except KeyboardInterrupt:
        print(f"\nstopped; what is measured is kept in {options.cells}: run it again to go on", file=sys.stderr)
        return 130
    _write(rows, known, places, quick=options.quick)
    verdicts = [found.verdict for found in grouped(rows)]
    good, seconds = verdicts.count("ok"), time.perf_counter() - start
    print(f"{good} of {len(verdicts)} ok in {seconds:.0f} s; {places.document}")
    return 0 if good == len(verdicts) else 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} seeds, whose verdicts mean nothing")
    parser.add_argument("--only", action="append", default=[], metavar="CHECK", help="a check or an area; may repeat")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes, one a core; 1 by default")
    parser.add_argument("--out", type=Path, help="one folder for all files; when quick a temporary one")
    parser.add_argument("--cells", type=Path, default=CELLS, help="folder of what is measured; build/detection")
    return parser.parse_args(arguments)


def _places(out: Path | None, *, quick: bool) -> Places:
    if out is None and not quick:
        return Places(ROOT / "docs" / "detection.md", ROOT / "studies" / "results", "../studies/results")
    folder = out or Path(tempfile.mkdtemp())
    return Places(folder / "detection.md", folder, ".")


class Planned(NamedTuple):
    """A defect with its cells, one list a strength."""

    area: str
    defect: Defect
    cells: tuple[tuple[Cell, ...], ...]


def _plan(known: Mapping[str, Sequence[Defect]], folder: Path, only: Sequence[str], *, quick: bool) -> list[Planned]:
    """What to measure, in the order of the table."""
    plan = []
    for area, defects in known.items():
        for position, defect in enumerate(defects):
            if only and not any(f"{defect.check}.".startswith(f"{name}.") for name in only):
                continue
            seeds = range(min(QUICK, defect.repeats) if quick else defect.repeats)
            strengths = [one for one in defect.strengths if not quick or one in {0, defect.named}]
            cells = (tuple(Cell(folder / f"{area}.py", position, one, seed) for seed in seeds) for one in strengths)
            plan.append(Planned(area, defect, tuple(cells)))
    return plan


def _measured(plan: Sequence[Planned], kept: Kept, jobs: int) -> Iterator[Planned]:
    """Measure what is not kept yet; gives the plan's defects in turn, each when all of it is measured."""
    todo = [cell for planned in plan for cells in planned.cells for cell in cells if cell not in kept]
    measuring = measure_all(todo, jobs)
    done = 0
    for planned in plan:
        missing = {cell for cells in planned.cells for cell in cells if cell not in kept}
        while missing:
            cell, found = next(measuring)
            kept.add(cell, found)
            missing.discard(cell)
            done += 1
            _progress(cell, done, len(todo))
        yield planned


def _rows(planned: Planned, kept: Kept) -> list[Row]:
    """Count a defect's verdicts and tell them."""
    rows = []
    for cells in planned.cells:
        found = [kept[cell] for cell in cells]
        rows.append(row_of(planned.area, planned.defect, cells[0].strength, found))
        for fault in {one.sentence for one in found if one.refused is Status.ERROR}:
            print(f"{planned.defect.check}: {planned.defect.name}: {fault}", file=sys.stderr)
    print(line_of(grouped(rows)[0]), flush=True)
    return rows


def _progress(cell: Cell, done: int, total: int) -> None:
    if sys.stderr.isatty():
        line = f"\r{done} of {total}: {cell.defect.check}\x1b[K"
        print(line, end="" if done < total else "\n", file=sys.stderr, flush=True)


def _write(rows: Sequence[Row], known: Mapping[str, Sequence[Defect]], places: Places, *, quick: bool) -> None:
    """The table, the document and the figures; what was not measured now stays as it was."""
    table = places.results / "detection.csv"
    rows = merged(rows, read_rows(table), known)
    write_rows(table, rows)
    packages = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("numpy", "scikit-learn", "torch"))
    made = f"Python {platform.python_version()}, {packages}, one thread, {platform.machine()}."
    if quick:
        made = f"**Quick: says nothing.** {made}"
    places.document.parent.mkdir(parents=True, exist_ok=True)
    places.document.write_text(document(rows, known, results=places.link, made=made), "utf-8")
    for area in {row.area for row in rows}:
        found = grouped(row for row in rows if row.area == area)
        figure(found).savefig(places.results / f"detection_{area}.png", dpi=80, metadata={"Software": None})


if __name__ == "__main__":
    sys.exit(main())
