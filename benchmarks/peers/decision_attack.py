"""Decision-based attacks on a random forest: ours beside HopSkipJump of the Adversarial Robustness Toolbox (ART).

Breast cancer data, 228 test rows, distances in standard deviations of the train split. ART runs first, one row after
the other as it does; ours gets as many questions a row as ART used on average. ART is given every advantage: batches
of any size, and next to what it returns, the nearest adversarial point it asked for on its way (it never looks back).

The packages need an environment of their own (requirements.txt beside this file says how). Run, with it:
OMP_NUM_THREADS=1 python benchmarks/peers/decision_attack.py [rows] [iterations]
"""

from __future__ import annotations

import sys
import time
from typing import Any, NamedTuple

import numpy as np
from art.attacks.evasion import HopSkipJump
from art.estimators.classification import BlackBoxClassifier
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split

from assessor.contract import Split, Task
from assessor.subjects.sklearn_estimator import SklearnSubject
from assessor_checks.robustness.decision_attack import CHECK, DecisionAttackParams

LEFT = 0.36  # robust accuracy that a standard attack leaves; ours is looked at where ART leaves as much
SIZES = {"l2": (0.5, 1.0, 2.0, 3.0), "linf": (0.1, 0.25, 0.5, 1.0)}


class Bench(NamedTuple):
    """The forest, its rows and their units."""

    subject: SklearnSubject
    forest: Any
    rows: np.ndarray
    labels: np.ndarray
    unit: np.ndarray
    low: np.ndarray
    high: np.ndarray


class Run(NamedTuple):
    """Distances (n,), 0 for rows wrong before and inf for none found; questions a row and seconds."""

    distance: np.ndarray
    questions: float
    seconds: float


def made(rows: int) -> Bench:
    """A random forest of 100 trees on 341 rows, and the first test rows."""
    data = load_breast_cancer()
    train, test, train_labels, labels = train_test_split(data.data, data.target, test_size=0.4, random_state=0)
    test, labels = test[:rows], labels[:rows]
    forest = RandomForestClassifier(100, random_state=0).fit(train, train_labels)
    splits = {
        name: Split(name=name, labels=y.astype(np.int64), sha256=name, features=x)
        for name, x, y in (("train", train, train_labels), ("test", test, labels))
    }
    seen = np.concatenate([train, test])
    subject = SklearnSubject(forest, Task.BINARY, ("0", "1"), splits)
    return Bench(subject, forest, test, labels, train.std(axis=0), seen.min(axis=0), seen.max(axis=0))


def length(norm: str, changes: np.ndarray) -> np.ndarray:
    """(k,) lengths of changes (k, d)."""
    found: np.ndarray = np.linalg.norm(changes, axis=1) if norm == "l2" else np.abs(changes).max(axis=1)
    return found


def art(bench: Bench, norm: str, iterations: int) -> tuple[Run, Run]:
    """What ART returns, and the nearest it asked for."""
    state: dict[str, Any] = {"asked": 0, "nearest": np.inf, "row": None, "label": None}

    def predict(x: np.ndarray) -> np.ndarray:
        x = np.asarray(x, dtype=np.float64)
        answers = bench.forest.predict(x * bench.unit)
        state["asked"] += len(x)
        if state["row"] is not None and (wrong := answers != state["label"]).any():
            state["nearest"] = min(state["nearest"], length(norm, x[wrong] - state["row"]).min())
        return np.eye(2, dtype=np.float32)[answers]

    ends = tuple((end / bench.unit).astype(np.float32) for end in (bench.low, bench.high))
    model = BlackBoxClassifier(predict, (bench.rows.shape[1],), 2, clip_values=ends)
    attack = HopSkipJump(
        model,
        batch_size=100_000,
        norm=2 if norm == "l2" else np.inf,
        max_iter=iterations,
        verbose=False,
    )
    scaled = (bench.rows / bench.unit).astype(np.float32)
    np.random.seed(0)  # what ART draws from
    returned, nearest, asked = np.zeros(len(scaled)), np.zeros(len(scaled)), []
    begin = time.perf_counter()
    for place, (row, label) in enumerate(zip(scaled, bench.labels, strict=True)):
        exact = row.astype(np.float64)
        if bench.forest.predict(exact[None] * bench.unit)[0] != label:
            continue
        state.update(asked=0, nearest=np.inf, row=exact, label=label)
        changed = attack.generate(row[None]).astype(np.float64)
        fooled = bench.forest.predict(changed * bench.unit)[0] != label
        returned[place] = length(norm, changed - exact)[0] if fooled else np.inf
        nearest[place] = state["nearest"]
        asked.append(state["asked"])
    seconds = time.perf_counter() - begin
    return Run(returned, float(np.mean(asked)), seconds), Run(nearest, float(np.mean(asked)), seconds)


def ours(bench: Bench, norm: str, questions: int, eps: float) -> tuple[float, dict[float, float]]:
    """Seconds of the check, end to end, and its curve: robust accuracy by distance, `eps` among them."""
    params = DecisionAttackParams.model_validate(
        {"norm": norm, "eps": eps, "queries": questions, "max_samples": len(bench.rows)}
    )
    begin = time.perf_counter()
    result = CHECK.measure(bench.subject, params, 0)
    seconds = time.perf_counter() - begin
    columns = result.series[0].columns
    return seconds, dict(zip(columns["eps"], columns["robust_accuracy"], strict=True))  # type: ignore[arg-type]


def left(distance: np.ndarray, eps: float) -> float:
    """Robust accuracy at a distance."""
    return float((distance > eps).mean())


def main() -> None:
    """Print both norms."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 228
    iterations = int(sys.argv[2]) if len(sys.argv) > 2 else 10
    bench = made(rows)
    for norm in ("l2", "linf"):
        returned, nearest = art(bench, norm, iterations)
        target = float(np.sort(returned.distance)[::-1][round(LEFT * rows)])  # where ART leaves LEFT
        seconds, curve = ours(bench, norm, int(returned.questions), target)
        print(f"\n{norm}, {rows} rows, {iterations} iterations of ART: {returned.questions:.0f} questions a row")
        print(f"seconds: ART {returned.seconds:.1f}, ours {seconds:.1f}, ratio {returned.seconds / seconds:.1f}")
        print(f"no adversarial point: ART {np.isinf(returned.distance).sum()} rows")
        print("distance   ART returned   ART nearest     ours   (robust accuracy)")
        for eps in sorted({*SIZES[norm], target}):
            value = curve[max(size for size in curve if size <= eps)]  # never flatters ours
            mark = f"  where ART leaves {LEFT}" if eps == target else ""
            shown = (left(returned.distance, eps), left(nearest.distance, eps), value)
            print(f"{eps:<9.3f}{shown[0]:>14.3f}{shown[1]:>14.3f}{shown[2]:>9.3f}{mark}")


if __name__ == "__main__":
    main()
