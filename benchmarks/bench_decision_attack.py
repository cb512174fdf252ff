"""Attack by questions alone: what budgets find on several models, how near the exact distances, and at what time.

One line a model and norm: robust accuracy's median distance after an eighth, a half and all of the questions. For the
linear model the exact distance is known; the last column is the median ratio to it. Distances in standard deviations.

Run: OMP_NUM_THREADS=1 python benchmarks/bench_decision_attack.py
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from assessor_checks.robustness._hopskipjump import Reach, Search, smallest_changes
from assessor_checks.robustness._nudges import Norm

QUESTIONS = 2000
MODELS: dict[str, Any] = {
    "linear": LogisticRegression(),
    "forest": RandomForestClassifier(100, random_state=0),
    "boosted": HistGradientBoostingClassifier(random_state=0),
    "network": MLPClassifier((64,), max_iter=500, random_state=0),
}


def main() -> None:
    """Print one line a model and norm."""
    data = load_breast_cancer()
    scaled = (data.data - data.data.mean(axis=0)) / data.data.std(axis=0)
    train, test, train_labels, labels = train_test_split(scaled, data.target, test_size=0.4, random_state=0)
    ends = (scaled.min(axis=0) - 1e9, scaled.max(axis=0) + 1e9)  # no bounds, as the exact distance has none
    print(f"{QUESTIONS} questions a row; median distance after some of them")
    print(f"model    norm  rows  seconds  calls{QUESTIONS // 8:>8}{QUESTIONS // 2:>8}{QUESTIONS:>8}   to exact")
    for name, model in MODELS.items():
        model.fit(train, train_labels)
        right = model.predict(test) == labels
        for norm in Norm:
            calls = 0

            def decide(x: np.ndarray, model: Any = model) -> np.ndarray:
                nonlocal calls
                calls += 1
                found: np.ndarray = model.predict(x)
                return found

            low, high = ends if name == "linear" else (scaled.min(axis=0), scaled.max(axis=0))
            reach = Reach(np.ones(30), low, high, np.zeros(30, bool))
            marks = (QUESTIONS // 8, QUESTIONS // 2, QUESTIONS)
            search = Search(decide, reach, train, model.predict(train), norm, QUESTIONS, marks)
            begin = time.perf_counter()
            found = smallest_changes(search, test[right], labels[right], np.random.default_rng(0))
            seconds = time.perf_counter() - begin
            medians = "".join(f"{np.median(column):>8.3f}" for column in found.by_queries.T)
            ratio = ""
            if name == "linear":
                dual = np.linalg.norm(model.coef_[0], 2 if norm is Norm.L2 else 1)
                exact = np.abs(model.decision_function(test[right])) / dual
                ratio = f"{np.median(found.distance / exact):.4f}"
            print(f"{name:<9}{norm:<6}{right.sum():>4}{seconds:>9.1f}{calls:>7}{medians}{ratio:>11}")


if __name__ == "__main__":
    main()
