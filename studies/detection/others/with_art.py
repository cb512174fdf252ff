"""Asks the Adversarial Robustness Toolbox (ART): HopSkipJump on models known by their answers alone.

It gives no verdict; the target is ours. Rows are given one by one, as in benchmarks/peers/decision_attack.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import _quiet  # noqa: F401
import numpy as np
from _cases import RADII, ROBUST, Answer, Ask, System, answer_all, radius_rule
from art.attacks.evasion import HopSkipJump
from art.estimators.classification import BlackBoxClassifier
from sklearn.ensemble import RandomForestClassifier

NEAR, WANTED = 0.1, 0.6  # the planted defect's radius, in standard deviations, and its target
FEW, MANY = 3, 10  # iterations of 50 by default


def distances(model: Any, system: System, norm: float, iterations: int) -> np.ndarray:
    """(n,) standard deviations to what ART returns; 0 for rows wrong before, inf where it finds nothing."""
    train, test, labels = (system.arrays[name] for name in ("train_features", "test_features", "test_labels"))
    unit, seen = train.std(axis=0), np.concatenate([train, test])
    ends = tuple((end / unit).astype(np.float32) for end in (seen.min(axis=0), seen.max(axis=0)))

    def answers(x: np.ndarray) -> np.ndarray:
        return np.eye(2, dtype=np.float32)[model.predict(np.asarray(x, dtype=np.float64) * unit)]

    black_box = BlackBoxClassifier(answers, (test.shape[1],), 2, clip_values=ends)
    attack = HopSkipJump(black_box, batch_size=100_000, norm=norm, max_iter=iterations, verbose=False)
    np.random.seed(system.seed)  # what ART draws from
    found = np.zeros(len(test))
    for place, row in enumerate((test / unit).astype(np.float32)):
        if model.predict(test[place][None])[0] != labels[place]:
            continue
        changed = attack.generate(row[None]).astype(np.float64)
        fooled = model.predict(changed * unit)[0] != labels[place]
        found[place] = np.linalg.norm((changed - row).ravel(), norm) if fooled else np.inf
    return found


def shortcut(system: System) -> Iterator[Answer]:
    """The forest of the planted defect, trained anew."""
    forest = RandomForestClassifier(10, max_features=None, random_state=system.seed)
    forest.fit(system.arrays["train_features"], system.arrays["train_labels"])
    left = float((distances(forest, system, np.inf, FEW) > NEAR).mean())
    rule = f"HopSkipJump, {FEW} iterations: less than {WANTED:g} right within {NEAR:g}, our target"
    yield Answer(rule, left, "low", left < WANTED)


def robust(system: System) -> Iterator[Answer]:
    """The forest of 100 trees, trained anew."""
    forest = RandomForestClassifier(100, random_state=0)
    forest.fit(system.arrays["train_features"], system.arrays["train_labels"])
    found = distances(forest, system, 2, MANY)
    for radius in RADII:
        yield Answer(radius_rule(radius), float((found > radius).mean()), "low")


ASKS: dict[str, Ask] = {"forest": shortcut, ROBUST: robust}

if __name__ == "__main__":
    answer_all("ART", "adversarial-robustness-toolbox", ASKS)
