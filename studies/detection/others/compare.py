"""Joins what our checks and other tools said of the same systems.

Writes docs/comparison.md and studies/results/comparison.csv.
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
from _cases import CASES, OURS, RADII, ROBUST, Line, read_lines

from assessor_checks._intervals import clopper_pearson

ROOT = Path(__file__).parents[3]
TOOLS = (OURS, "AI Verify", "AIF360", "ART", "deepchecks", "Fairlearn", "giskard")


class Row(NamedTuple):
    """What a tool said by one rule of one strength of a case; one line of the CSV file.

    Attributes:
        verdicts: Systems on which it gave one, alarm or none.
        missing: Systems for which it gave no number.
        separation: Share of pairs of a defective and a clean system in which the defective one's number is worse, ties
            by half; NaN at strength 0.
        seconds: Median a system.
    """

    case: str
    tool: str
    version: str
    rule: str
    strength: float
    systems: int
    verdicts: int
    alarms: int
    missing: int
    mean: float
    lowest: float
    highest: float
    separation: float
    seconds: float


def rows_of(lines: Iterable[Line]) -> list[Row]:
    """Lines counted: by case as in `CASES`, by tool, by rule, the clean twins first.

    Args:
        lines: Of all tools.

    Returns:
        A row a strength.

    Raises:
        ValueError: A tool was stopped before it came to the systems with the defect.
    """
    order = [*CASES, ROBUST]

    def kind(line: Line) -> tuple[int, int, str]:
        return order.index(line.case), TOOLS.index(line.tool), line.rule

    found: list[Row] = []
    for _, group in groupby(sorted(lines, key=kind), key=kind):
        own = list(group)
        strengths = sorted({line.strength for line in own})
        if len(strengths) != 2 and own[0].case != ROBUST:
            raise ValueError(f"{own[0].tool} has not answered all of {own[0].case}: run it again")
        parts = [[line for line in own if line.strength == strength] for strength in strengths]
        found += [_row(part, parts[0]) for part in parts]
    return found


def _row(lines: Sequence[Line], clean: Sequence[Line]) -> Row:
    first = lines[0]
    numbers = [line.number for line in lines if math.isfinite(line.number)]
    return Row(
        case=first.case,
        tool=first.tool,
        version=first.version,
        rule=first.rule,
        strength=first.strength,
        systems=len(lines),
        verdicts=sum(line.alarm != "" for line in lines),
        alarms=sum(line.alarm == "1" for line in lines),
        missing=len(lines) - len(numbers),
        mean=_rounded(np.mean(numbers)) if numbers else math.nan,
        lowest=min(numbers, default=math.nan),
        highest=max(numbers, default=math.nan),
        separation=separation(lines, clean) if first.strength else math.nan,
        seconds=round(median(line.seconds for line in lines), 3),
    )


def separation(defective: Iterable[Line], clean: Sequence[Line]) -> float:
    """Area under the curve of the number, read as a score of the defect; NaN without numbers on both sides."""
    signs = {"high": 1.0, "low": -1.0}
    pairs = [
        signs[bad.worse] * (bad.number - good.number)
        for bad in defective
        for good in clean
        if math.isfinite(bad.number) and math.isfinite(good.number)
    ]
    return _rounded(np.mean(np.sign(pairs) / 2 + 0.5)) if pairs else math.nan


def _rounded(value: float | np.floating) -> float:
    return round(float(value), 4)


# --- words -----------------------------------------------------------------------------------------------------------


def document(rows: Sequence[Row]) -> str:
    """The whole of docs/comparison.md."""
    by_case = {case: [row for row in rows if row.case == case] for case in (*CASES, ROBUST)}
    parts = [_head(rows), _overview(by_case)]
    for case in CASES:
        parts += [f"## {CASES[case].defect[0].upper()}{CASES[case].defect[1:]}", _section(case, by_case[case])]
    parts += ["## How much robust accuracy is left", _robust(by_case[ROBUST]), NOTES]
    return "\n\n".join(parts) + "\n"


def _head(rows: Sequence[Row]) -> str:
    versions = {row.tool: row.version for row in rows}
    made = ", ".join(f"{tool} {versions[tool]}" for tool in TOOLS if tool in versions)
    return f"""# Beside other tools

Written by `studies/detection/others/compare.py`; do not edit. {made}; Python 3.11.

The planted defects of [detection.md](detection.md), shown to other tools as well: the same systems from the same seeds,
in an environment of each tool's own. Who sees the defect, who raises false alarms?

- **Alarm**: the tool's verdict is bad. Ours is the verdict fail against a target: the whole interval outside it.
  Others use the threshold that they come with. Where a tool gives numbers and no threshold, it says "no verdict"; where
  the rule is ours, the table says so.
- **False alarms**: on clean twins. **Found**: with the defect. Brackets hold 95 % Clopper-Pearson intervals.
- **Separation**: how often the number of a system with the defect is worse than that of a clean one, ties by half; 1 is
  perfect, 0.5 is chance. It needs no threshold, so it is the fair measure between tools whose thresholds differ.
- **Seconds**: median a system, one thread, partly by the clock of a busy machine: orders of magnitude.

We chose the defects, and they are those our checks are made for; every tool can do things that are not asked here, and
most of them do not aim at verdicts. Slow tools saw fewer systems: the first ones, by seed."""


def _overview(by_case: Mapping[str, Sequence[Row]]) -> str:
    head = f"| planted defect | {' | '.join(TOOLS)} |"
    lines = [f"| {CASES[case].defect} | {' | '.join(_cell(tool, by_case[case]) for tool in TOOLS)} |" for case in CASES]
    said = "False alarms and found, rule by rule as in the tables below; a dash where a tool offers nothing:"
    return "\n".join([said, "", head, "|---" * (len(TOOLS) + 1) + "|", *lines])


def _cell(tool: str, rows: Sequence[Row]) -> str:
    found = [
        f"{clean.alarms}/{clean.verdicts}, {bad.alarms}/{bad.verdicts}" if clean.verdicts else "no verdict"
        for clean, bad in _pairs(rows)
        if clean.tool == tool
    ]
    return "; ".join(found) or "-"


def _pairs(rows: Sequence[Row]) -> list[tuple[Row, Row]]:
    """Clean twin and defect of each rule."""
    return list(zip(rows[::2], rows[1::2], strict=True))


def _section(case: str, rows: Sequence[Row]) -> str:
    head = ("tool", "rule", "false alarms", "found", "number clean, defect", "separation", "seconds")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|", *(_line(*pair) for pair in _pairs(rows))]
    absent = [tool for tool in TOOLS if tool not in {row.tool for row in rows}]
    about = f"`{CASES[case].check}`, strength {CASES[case].strength:g}."
    return "\n".join([about, "", *lines, "", f"Not offered: {', '.join(absent)}."])


def _line(clean: Row, bad: Row) -> str:
    cells = (
        clean.tool,
        clean.rule,
        _share(clean),
        _share(bad),
        f"{_number(clean)}, {_number(bad)}",
        "-" if math.isnan(bad.separation) else f"{bad.separation:.2f}",
        f"{bad.seconds:.2g}" if bad.seconds >= 0.01 else "under 0.01",
    )
    return f"| {' | '.join(cells)} |"


def _share(row: Row) -> str:
    if not row.verdicts:
        return "no verdict"
    rate = clopper_pearson(row.alarms, row.verdicts)
    return f"{row.alarms} of {row.verdicts} [{rate.low:.2f}, {rate.high:.2f}]"


def _number(row: Row) -> str:
    if row.missing == row.systems:
        return f"none for any of {row.systems}"
    return f"{row.mean:.3g}" + (f" (none for {row.missing} of {row.systems})" if row.missing else "")


def _robust(rows: Sequence[Row]) -> str:
    head = ("tool", "what it reports", "mean", "lowest, highest", "runs")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in rows:
        cells = (row.tool, row.rule, f"{row.mean:.3f}", f"{row.lowest:.3f}, {row.highest:.3f}", str(row.systems))
        lines.append(f"| {' | '.join(cells)} |")
    radii = " and ".join(f"{radius:g}" for radius in RADII)
    about = f"""One random forest of 100 trees on breast cancer data, trained anew in each environment, 228 test rows.
Runs differ by the tool's seed. An attack finds an upper bound of the robust accuracy, so the lower number is nearer to
the truth. ART's HopSkipJump in ten iterations and our attack ask about 2,300 questions a row; the radii are {radii}
standard deviations. The larger one lets a row change as much as rows differ from each other: that compares attacks and
is no realistic threat."""
    return "\n".join([about, "", *lines])


NOTES = """## What to know of it

- **AI Verify** reports and leaves the verdict to the reader. Its documentation says that the robustness toolbox was
  made mainly for images and that results on tables want caution. It gives the accuracy on the rows that it perturbed,
  not how far it moved them, so that its number cannot be read at a radius; where that accuracy is 0 it ends with an
  error. Its "True Positive Rate" of a group is divided by the favourable rows of all groups together: groups of unequal
  size differ in it without any unfairness, and the group found less often is hidden behind a smaller one.
- **AIF360** has no verdicts; the ranges are those that its web demo calls fair. It has no intervals, and compares two
  groups, so each of four sites was held against the rest.
- **Fairlearn** has no verdicts on purpose. The four-fifths rule stands here because it is common; Fairlearn's user
  guide calls it a very common misuse. The bootstrap is its own (100 resamples), the rule on it ours. Its interval of
  the largest difference between groups would not do: that difference is never negative, so that its interval lies
  above 0 on fair systems too.
- **deepchecks** judges by shares and scores without intervals. Missing values count by column: about 1 % in each of ten
  here, below its 5 %. The weakest of many segments searched is weak by chance too, which its condition does not allow
  for. Its fairness check has a condition without a default threshold.
- **giskard** reports a slice whose metric is 5 % worse than on all rows. That some slice is so by chance is allowed for
  only by its option `alpha`, experimental and off by default. It looks at models rather than at data, and at how right
  decisions are rather than at how often they favour a group. Its overconfidence is that of a slice beside the rest, so
  that a model which is too sure everywhere is not what it looks for.
- **ART** is a library of attacks: it gives changed inputs and leaves the rest to its user. The target is ours.
- Ours compares groups of every attribute and of their combinations, so that its numbers on two attributes are higher.
- Nobody looked for the settings with which a tool would do best: defaults are what most users see. Our targets and the
  strengths of the defects were set on systems of this kind, some of them with these seeds, which favours our checks."""


# --- files -----------------------------------------------------------------------------------------------------------


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="that of export.py")
    parser.add_argument("--out", type=Path, help="one folder for both files instead of their places")
    options = parser.parse_args()
    lines = [line for path in sorted((options.folder / "answers").glob("*.csv")) for line in read_lines(path)]
    if not lines:
        sys.exit(f"no answers in {options.folder / 'answers'}")
    rows = rows_of(lines)
    (options.out or ROOT / "docs").joinpath("comparison.md").write_text(document(rows), "utf-8")
    table = (options.out or ROOT / "studies" / "results") / "comparison.csv"
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Row._fields)
        writer.writerows(rows)


if __name__ == "__main__":
    main()
