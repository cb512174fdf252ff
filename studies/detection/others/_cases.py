"""The planted defects that other tools are asked about, and how systems and answers travel between environments.

It runs in every tool's environment, so that it needs Python, numpy and nothing of ours.
"""

from __future__ import annotations

import argparse
import csv
import importlib.metadata
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np


class Case(NamedTuple):
    """A planted defect.

    Attributes:
        check: Of ours.
        defect: Its name in `studies/detection`.
        strength: At which it must be found; its clean twin has 0.
    """

    check: str
    defect: str
    strength: float


CASES = {
    "women": Case("fairness.group_metrics", "women chosen less often", 0.25),
    "sites": Case("fairness.group_metrics", "one of four groups found less often (true positive rate)", 0.2),
    "turned": Case("fairness.data_bias", "favourable labels of one group turned (breast cancer)", 0.3),
    "moody": Case("fairness.individual_consistency", "decisions turned round at random (breast cancer)", 0.15),
    "missing": Case("data.quality", "values missing", 0.1),
    "copied": Case("data.quality", "rows copied within training", 0.1),
    "contradicted": Case("data.quality", "same inputs, other labels", 0.05),
    "seen": Case("data.leakage", "test rows that training has seen", 0.1),
    "telling": Case("data.leakage", "a column that holds the class", 0.9),
    "mislabelled": Case("data.label_noise", "training labels wrong, ten classes", 0.1),
    "moved": Case("data.drift", "one column of 30 moved", 1),
    "mixed": Case("data.drift", "test rows from another source", 0.5),
    "mix": Case("data.drift", "another mix of classes", 0.5),
    "weak": Case("reliability.weak_slices", "errs more where two measures are high, 569 rows", 0.3),
    "sure": Case("uncertainty.calibration", "logits of handwritten digits stretched", 1),
    "forest": Case(
        "robustness.decision_attack", "a forest that hangs on a column in which a tiny step decides", 1.0
    ),
}  # fmt: skip
ROBUST = "robust"  # the forest of benchmarks/peers/decision_attack.py: one system, whose seeds are those of the tools
RADII = (1.0, 3.795)  # Euclidean, in standard deviations of the train split
OURS = "ai-assessor"


def radius_rule(radius: float) -> str:
    """What tools that search for the nearest wrong answer report of the robust case."""
    return f"robust accuracy within {radius:g} standard deviations (L2)"


class System(NamedTuple):
    """One system: arrays by name, `train_features` or `test_site` for instance."""

    case: str
    strength: float
    seed: int
    arrays: Mapping[str, np.ndarray]

    def attributes(self) -> dict[str, np.ndarray]:
        """Sensitive attributes of the test rows by name."""
        return {name[15:]: column for name, column in self.arrays.items() if name.startswith("test_attribute_")}


class Answer(NamedTuple):
    """What a tool says by one of its rules.

    Attributes:
        rule: When it is an alarm, in words; without a verdict what is reported.
        number: What it reports.
        worse: "high" or "low": which numbers are the bad ones.
        alarm: None where it offers no verdict.
    """

    rule: str
    number: float
    worse: str
    alarm: bool | None = None


class Line(NamedTuple):
    """One line of an answers file."""

    tool: str
    version: str
    case: str
    strength: float
    seed: int
    rule: str
    number: float
    worse: str
    alarm: str
    seconds: float


Ask = Callable[[System], Iterable[Answer]]


def write_system(folder: Path, system: System) -> None:
    """One npz file in the folder `systems`."""
    path = folder / "systems" / f"{system.case}_{system.strength:g}_{system.seed}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **system.arrays)  # type: ignore[arg-type]


def read_systems(folder: Path, case: str) -> Iterator[System]:
    """All systems of a case, clean twins first."""
    for path in sorted((folder / "systems").glob(f"{case}_*.npz"), key=_place):
        with np.load(path) as arrays:
            yield System(case, *_place(path), dict(arrays))


def _place(path: Path) -> tuple[float, int]:
    _, strength, seed = path.stem.split("_")
    return float(strength), int(seed)


def answer_all(tool: str, package: str, asks: Mapping[str, Ask]) -> None:
    """A tool's command line: answers on all systems of all cases it has something for.

    Args:
        tool: Its name.
        package: As it is installed.
        asks: By case, what it says of a system.
    """
    parser = argparse.ArgumentParser(description=f"Ask {tool} about the systems that export.py wrote.")
    parser.add_argument("folder", type=Path, help="where export.py wrote them; answers go into its folder answers")
    parser.add_argument("--only", action="append", default=[], metavar="CASE", help="instead of all; may repeat")
    parser.add_argument("--seeds", type=int, help="only the first so many systems a strength")
    options = parser.parse_args()
    cases = [case for case in asks if case in (options.only or asks)]
    path = options.folder / "answers" / f"{tool}.csv"
    kept = [line for line in read_lines(path) if line.case not in cases] if path.exists() else []
    version = importlib.metadata.version(package)
    systems = (
        (asks[case], system)
        for case in cases
        for system in read_systems(options.folder, case)
        if options.seeds is None or system.seed < options.seeds
    )
    new = (line for ask, system in systems for line in lines_of(tool, version, ask, system))
    write_lines(path, (line for lines in (kept, new) for line in lines))


def lines_of(tool: str, version: str, ask: Ask, system: System) -> Iterator[Line]:
    """What a tool says of a system, and the processor time of each answer."""
    begin = time.process_time()
    for found in ask(system):
        seconds = time.process_time() - begin
        yield Line(
            tool=tool,
            version=version,
            case=system.case,
            strength=system.strength,
            seed=system.seed,
            rule=found.rule,
            number=round(float(found.number), 6),
            worse=found.worse,
            alarm="" if found.alarm is None else str(int(found.alarm)),
            seconds=round(seconds, 4),
        )
        begin = time.process_time()


def write_lines(path: Path, lines: Iterable[Line]) -> None:
    """A CSV file, each line as soon as it is known."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="", buffering=1) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Line._fields)
        writer.writerows(lines)


def read_lines(path: Path) -> list[Line]:
    """The lines of a CSV file."""
    with path.open(encoding="utf-8", newline="") as file:
        return [_line(row) for row in csv.DictReader(file)]


def _line(row: dict[str, str]) -> Line:
    texts = Line(**row)  # type: ignore[arg-type]
    return texts._replace(
        strength=float(texts.strength), seed=int(texts.seed), number=float(texts.number), seconds=float(texts.seconds)
    )
