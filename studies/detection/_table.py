"""What planted defects say of a check: rates with intervals, verdicts, a table, figures."""

from __future__ import annotations

import csv
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, get_type_hints

from _frame import ALARM, Defect, Measured
from matplotlib.figure import Figure

from assessor.model import Status
from assessor.verdicts import shown_interval
from assessor_checks._intervals import Estimate, clopper_pearson

WANTED = 0.8  # power where the target names the strength
VERDICTS = {
    "ok": "no more false alarms than promised, and at least 80 % of the named defects found",
    "weak": "fewer than 80 % of the defects found at the named strength; the check's limits say so",
    "false alarms": "more alarms on clean twins than promised, by more than chance explains",
    "unmeasured": "the check refuses most clean twins",
    "error": "the check crashed",
}
COLUMNS = 4
PANEL = (2.5, 2.3)  # inches


class Row(NamedTuple):
    """What came out at one strength of one defect; one line of the CSV file."""

    area: str
    check: str
    defect: str
    unit: str
    target: str
    nominal: float
    named: float
    strength: float
    runs: int
    alarms: int
    passes: int
    inconclusive: int
    not_applicable: int
    errors: int
    seconds: float

    @property
    def rate(self) -> Estimate:
        """Share of alarms with its 95 % Clopper-Pearson interval, which is the simulation's error."""
        return clopper_pearson(self.alarms, self.runs)

    @property
    def silent(self) -> float:
        """Share of runs without a verdict: inconclusive, refused or crashed."""
        return (self.inconclusive + self.not_applicable + self.errors) / self.runs


class Found(NamedTuple):
    """All strengths of one defect, the clean twin first."""

    rows: tuple[Row, ...]

    @property
    def clean(self) -> Row:
        """The clean twin."""
        return self.rows[0]

    @property
    def named(self) -> Row:
        """The strength at which power is judged."""
        return next(row for row in self.rows if row.strength == row.named)

    @property
    def verdict(self) -> str:
        """One of `VERDICTS`."""
        if any(row.errors for row in self.rows):
            return "error"
        if 2 * self.clean.not_applicable > self.clean.runs:
            return "unmeasured"
        if self.clean.rate.low > self.clean.nominal:
            return "false alarms"
        return "ok" if self.named.rate.value >= WANTED else "weak"


def row_of(area: str, defect: Defect, strength: float, measured: Sequence[Measured]) -> Row:
    """Count the verdicts on one strength of a defect."""
    target = defect.judged
    counts = Counter(one.status(target) for one in measured)
    return Row(
        area=area,
        check=defect.check,
        defect=defect.name,
        unit=defect.unit,
        target=f"{target.metric or 'the primary metric'} {shown_interval(target.interval)}",
        nominal=defect.nominal,
        named=float(defect.named),
        strength=float(strength),
        runs=len(measured),
        alarms=counts[ALARM],
        passes=counts[Status.PASS],
        inconclusive=counts[Status.INCONCLUSIVE],
        not_applicable=counts[Status.NOT_APPLICABLE],
        errors=counts[Status.ERROR],
        seconds=round(median(one.seconds for one in measured), 3),
    )


def grouped(rows: Iterable[Row]) -> list[Found]:
    """Rows by defect, in their order."""
    return [Found(tuple(group)) for _, group in groupby(rows, key=lambda row: (row.check, row.defect))]


# --- files -----------------------------------------------------------------------------------------------------------


def read_rows(path: Path) -> list[Row]:
    """The rows of an earlier run; none without one."""
    if not path.exists():
        return []
    kinds = get_type_hints(Row)
    with path.open(encoding="utf-8", newline="") as file:
        return [Row(**{name: kinds[name](text) for name, text in line.items()}) for line in csv.DictReader(file)]


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """All rows as a CSV file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Row._fields)
        writer.writerows(rows)


def merged(new: Sequence[Row], before: Sequence[Row], known: Mapping[str, Sequence[Defect]]) -> list[Row]:
    """New rows, and those of an earlier run for defects that were not measured now; none of defects that are gone.

    Args:
        new: Rows of this run.
        before: Rows of the earlier one.
        known: Defects by area, which give the order.

    Returns:
        The rows, by area and defect.
    """
    fresh = {(row.check, row.defect) for row in new}
    rows = [*new, *(row for row in before if (row.check, row.defect) not in fresh)]
    found: list[Row] = []
    for area, defects in known.items():
        for defect in defects:
            own = [row._replace(area=area) for row in rows if (row.check, row.defect) == (defect.check, defect.name)]
            found += sorted(own, key=lambda row: row.strength)
    return found


# --- words -----------------------------------------------------------------------------------------------------------


def document(rows: Sequence[Row], known: Mapping[str, Sequence[Defect]], *, results: str, made: str) -> str:
    """The whole of docs/detection.md.

    Args:
        rows: Of all defects.
        known: Defects by area.
        results: Path to CSV file and figures, from the document.
        made: What it was measured with, in words.

    Returns:
        Markdown.
    """
    found = grouped(rows)
    parts = [_head(found, made, results)]
    for area in known:
        own = [one for one in found if one.clean.area == area]
        missing = [defect for defect in known[area] if not any(one.clean.defect == defect.name for one in own)]
        parts += [f"## {area.replace('_', ' ').capitalize()}", *_section(area, own, results)]
        if missing:
            parts.append("\n".join(f"- not measured yet: `{defect.check}`, {defect.name}" for defect in missing))
    return "\n\n".join(parts) + "\n"


def _head(found: Sequence[Found], made: str, results: str) -> str:
    counts = Counter(one.verdict for one in found)
    checks = len({one.clean.check for one in found})
    tally = "\n".join(f"| {name} | {counts[name]} | {meaning} |" for name, meaning in VERDICTS.items())
    return f"""# Do the checks find what they should?

Written by `studies/detection/run.py`; do not edit. {made}

A defect of known strength is planted into a system that is otherwise fine, and the check is asked for its verdict
against a target, as `assessor check run` asks it. An **alarm** is the verdict fail: the whole interval lies outside the
target. A **false alarm** is one on the clean twin, the same system without the defect. **Power** is the share of
systems with the defect in which there is an alarm. Inconclusive is neither pass nor alarm, and neither is a refusal;
the column "no verdict" counts both. Systems differ by seed. Brackets hold 95 % Clopper-Pearson intervals: how far the
share may be off because only so many systems were made. At the strength that the target names, power of at least 80 %
is wanted.

{len(found)} defects for {checks} checks:

| verdict | defects | meaning |
|---|---|---|
{tally}

Ok means just that: this defect, planted in this way into these small systems, is found. Other defects may not be. All
numbers: [detection.csv]({results}/detection.csv)."""


def _section(area: str, found: Sequence[Found], results: str) -> list[str]:
    if not found:
        return []
    head = ("check", "planted defect", "target", "false alarms", "power by strength", "named", "no verdict", "verdict")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|", *map(_line, found)]
    return ["\n".join(lines), f"![{area}]({results}/detection_{area}.png)"]


def _line(found: Found) -> str:
    clean, named = found.clean, found.named
    curve = ", ".join(f"{row.strength:g}: {row.rate.value:.2f}" for row in found.rows[1:])
    cells = (
        f"`{clean.check}`",
        f"{clean.defect} ({clean.unit})",
        clean.target,
        f"{clean.alarms} of {clean.runs} {_ends(clean.rate)}, promised {clean.nominal:g}",
        curve,
        f"{named.named:g}: {named.rate.value:.2f} {_ends(named.rate)}",
        f"clean {clean.silent:.0%}, named {named.silent:.0%}",
        found.verdict if found.verdict == "ok" else f"**{found.verdict}**",
    )
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _ends(rate: Estimate) -> str:
    return f"[{rate.low:.2f}, {rate.high:.2f}]"


def line_of(found: Found) -> str:
    """One defect's outcome for the terminal."""
    clean, named = found.clean, found.named
    return (
        f"{found.verdict:<12} {clean.check}: {clean.defect}: false alarms {clean.alarms} of {clean.runs}, "
        f"found {named.alarms} of {named.runs} at {named.named:g} ({named.seconds:g} s each)"
    )


# --- figures ---------------------------------------------------------------------------------------------------------


def figure(found: Sequence[Found]) -> Figure:
    """One panel a defect: share of alarms over strength, the clean twin at 0, the named strength shaded."""
    columns = min(COLUMNS, len(found))
    lines = -(-len(found) // columns)
    drawing = Figure(figsize=(PANEL[0] * columns, PANEL[1] * lines), layout="constrained")
    panels = list(drawing.subplots(lines, columns, squeeze=False, sharey=True).flat)
    for axes, one in zip(panels, found, strict=False):
        _panel(axes, one)
    for axes in panels[len(found) :]:
        axes.set_axis_off()
    return drawing


def _panel(axes: Any, found: Found) -> None:
    strengths = [row.strength for row in found.rows]  # evenly apart, whatever they are
    rates = [row.rate for row in found.rows]
    arms = [[rate.value - rate.low for rate in rates], [rate.high - rate.value for rate in rates]]
    axes.axhline(found.clean.nominal, linestyle=":", color="0.5", linewidth=0.8)
    axes.axhline(WANTED, linestyle="--", color="0.5", linewidth=0.8)
    axes.axvline(strengths.index(found.clean.named), color="0.85", linewidth=3, zorder=0)
    values, places = [rate.value for rate in rates], range(len(rates))
    axes.errorbar(places, values, arms, fmt="o-", color="black", markersize=3, linewidth=1)
    axes.set_xticks(places, [f"{strength:g}" for strength in strengths])
    axes.set_ylim(-0.04, 1.04)
    title = f"{found.clean.check.partition('.')[2]}: {found.clean.defect}"
    axes.set_title("\n".join(textwrap.wrap(title, 34)), fontsize=7)
    axes.set_xlabel("\n".join(textwrap.wrap(found.clean.unit, 34)), fontsize=7)
    axes.set_ylabel("share of alarms" if axes.get_subplotspec().is_first_col() else "", fontsize=7)
    axes.tick_params(labelsize=6)
