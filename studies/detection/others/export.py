"""Plants the defects, writes the systems for other tools and what our checks say of them.

Runs in our own environment. Another tool's environment reads the files with `_cases.py`.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split

sys.path.append(str(Path(__file__).parents[1]))  # the frame of the study stands there

from _cases import CASES, OURS, RADII, ROBUST, Case, Line, System, radius_rule, write_lines, write_system
from _frame import ALARM, Defect, areas, measured, one_thread

from assessor.contract import Need, Split, Subject, Task
from assessor.subjects.sklearn_estimator import SklearnSubject
from assessor.verdicts import shown_interval
from assessor_checks.robustness.decision_attack import CHECK, DecisionAttackParams

RUNS, QUESTIONS = 3, 2300  # of the robust case; ART asks as many in ten iterations


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=30, help="systems a strength; 30 by default")
    options = parser.parse_args()
    with one_thread():
        write_lines(options.folder / "answers" / f"{OURS}.csv", _lines(options.folder, options.seeds))


def _lines(folder: Path, seeds: int) -> Iterator[Line]:
    for key, case in CASES.items():
        defect = defect_of(case)
        for strength in (0.0, case.strength):
            for seed in range(seeds):
                write_system(folder, System(key, strength, seed, arrays_of(defect.make(strength, seed))))
                yield said(key, defect, strength, seed)
    subject = robust()
    for seed in range(RUNS):
        write_system(folder, System(ROBUST, 0.0, seed, arrays_of(subject)))
        yield from left(subject, seed)


def defect_of(case: Case) -> Defect:
    """The planted defect of that name."""
    known = (defect for defects in areas().values() for defect in defects)
    return next(defect for defect in known if (defect.check, defect.name) == (case.check, case.defect))


def arrays_of(subject: Subject) -> dict[str, np.ndarray]:
    """All that another tool may want of a subject."""
    found: dict[str, np.ndarray] = {"test_predictions": subject.predictions("test")}
    if Need.PROBABILITIES in subject.offers:
        found["test_scores"] = subject.scores("test")
    for name, split in subject.splits.items():
        found[f"{name}_labels"] = split.labels
        if split.features is not None:
            found[f"{name}_features"] = split.features
        if split.attributes is not None:
            for column, values in split.attributes.items():
                found[f"{name}_attribute_{column}"] = values.to_numpy().astype("U")
    return found


def said(key: str, defect: Defect, strength: float, seed: int) -> Line:
    """Our verdict by the engine, as in the study."""
    found, target = measured(defect, strength, seed), defect.judged
    metric = next(metric for metric in found.metrics if metric.name == target.metric)
    rule = f"{target.metric} {shown_interval(target.interval)}: the whole interval outside"
    alarm, worse = str(int(found.status(target) is ALARM)), "high" if target.interval[0] is None else "low"
    return Line(OURS, _version(), key, strength, seed, rule, metric.value, worse, alarm, round(found.seconds, 4))


def robust() -> Subject:
    """A random forest of 100 trees on breast cancer data, 228 test rows."""
    data: Any = load_breast_cancer()
    parts: Any = train_test_split(data.data, data.target, test_size=0.4, random_state=0)
    train, test, train_labels, labels = parts
    forest = RandomForestClassifier(100, random_state=0).fit(train, train_labels)
    splits = {
        name: Split(name=name, labels=y.astype(np.int64), sha256=name, features=x)
        for name, x, y in (("train", train, train_labels), ("test", test, labels))
    }
    return SklearnSubject(forest, Task.BINARY, ("0", "1"), splits)


def left(subject: Subject, seed: int) -> Iterator[Line]:
    """Robust accuracy by our attack at each radius."""
    for radius in RADII:
        params = DecisionAttackParams(norm="l2", eps=radius, queries=QUESTIONS, max_samples=228)
        begin = time.perf_counter()
        value = CHECK.measure(subject, params, seed).metric("robust_accuracy").value
        seconds = round(time.perf_counter() - begin, 1)
        yield Line(OURS, _version(), ROBUST, 0.0, seed, radius_rule(radius), value, "low", "", seconds)


def _version() -> str:
    return importlib.metadata.version(OURS)


if __name__ == "__main__":
    main()
