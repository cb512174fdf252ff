"""Small models that imitate a large one: trees with few leaves and linear models of few features.

Source: global surrogates by decision trees, Craven and Shavlik 1996 (NIPS 8), fidelity as the share of unseen rows on
which both agree; features of the linear model chosen by simultaneous orthogonal matching pursuit, Tropp, Gilbert,
Strauss 2006, algorithm 3.1, with squares in place of absolute values. Values (n,) int64 classes or
float64 numbers are what the large model answers.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from assessor_checks._intervals import CONFIDENCE, Estimate, clopper_pearson

Answers = Callable[[np.ndarray], np.ndarray]


class Surrogate(NamedTuple):
    """A fitted imitation.

    Attributes:
        answers: Takes features (n, d), gives (n,) answers.
        size: Leaves of the tree, or features of the linear model.
        fitted: The scikit-learn model.
        columns: (k,) features it may use.
    """

    answers: Answers
    size: int
    fitted: Any
    columns: np.ndarray


class Rule(NamedTuple):
    """One leaf of a tree: its conditions in words, its answer, and the share of training rows in it."""

    conditions: str
    answer: float
    share: float
    agreement: float


def tree(features: np.ndarray, answers: np.ndarray, leaves: int, *, classes: bool, seed: int) -> Surrogate:
    """A decision tree with at most so many leaves, grown where it gains most.

    Args:
        features: (n, d) rows to learn from; NaN allowed.
        answers: (n,) what the large model says of them.
        leaves: At least 2.
        classes: Whether answers are classes.
        seed: Of the choice among equal splits.

    Returns:
        The tree.
    """
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    kind = DecisionTreeClassifier if classes else DecisionTreeRegressor
    fitted = kind(max_leaf_nodes=leaves, random_state=seed).fit(features, answers)
    return Surrogate(fitted.predict, int(fitted.get_n_leaves()), fitted, np.arange(features.shape[1]))


def linear(features: np.ndarray, answers: np.ndarray, order: np.ndarray, size: int, *, classes: bool) -> Surrogate:
    """A linear (for classes logistic) model of the first features of an order.

    Args:
        features: (n, d) rows to learn from, without NaN.
        answers: (n,) what the large model says of them.
        order: (k,) features, most useful first; see `pursuit`.
        size: Features used, at most.
        classes: Whether answers are classes.

    Returns:
        The model; features are put on one scale first.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LinearRegression, LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    columns = order[:size]
    fitted = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000) if classes else LinearRegression())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # separable answers: the weights grow, the classes stay
        fitted.fit(features[:, columns], answers)
    return Surrogate(lambda rows: fitted.predict(rows[:, columns]), len(columns), fitted, columns)


def pursuit(features: np.ndarray, answers: np.ndarray, most: int, *, classes: bool) -> np.ndarray:
    """(k,) features in the order in which they explain the answers best together, constant ones left out.

    Simultaneous orthogonal matching pursuit: the next feature is the one with the greatest sum of squared products
    with what least squares on those before left of the answers (of all classes' indicators at once).

    Args:
        features: (n, d) without NaN.
        answers: (n,).
        most: Features at most.
        classes: Whether answers are classes.

    Returns:
        The order, k at most `most`.
    """
    centred = features - features.mean(axis=0, dtype=np.float64)
    spread = centred.std(axis=0)
    usable = spread > 1e-12 * np.abs(features).max(axis=0, initial=1e-300)
    unit = np.divide(centred, spread, out=np.zeros_like(centred), where=usable)
    targets = (answers[:, None] == np.unique(answers)).astype(np.float64) if classes else answers[:, None]
    targets = targets - targets.mean(axis=0)
    left, chosen = targets, np.empty(0, dtype=np.int64)
    for _ in range(min(most, int(usable.sum()))):
        gain = ((unit.T @ left) ** 2).sum(axis=1)
        gain[~usable] = -1.0
        gain[chosen] = -1.0
        chosen = np.append(chosen, gain.argmax())
        weights, *_ = np.linalg.lstsq(unit[:, chosen], targets)
        left = targets - unit[:, chosen] @ weights
    return chosen


def rules(surrogate: Surrogate, names: tuple[str, ...], features: np.ndarray, answers: np.ndarray) -> list[Rule]:
    """The leaves of a tree as rules, the largest first.

    Args:
        surrogate: A tree.
        names: (d,) of the features.
        features: (n, d) rows to count.
        answers: (n,) what the large model says of them.

    Returns:
        One rule a leaf.
    """
    grown = surrogate.fitted.tree_
    leaf, said = surrogate.fitted.apply(features), surrogate.answers(features)
    found = []
    for node, conditions in _paths(grown, names):
        inside = leaf == node
        agreement = float((said[inside] == answers[inside]).mean()) if inside.any() else 0.0
        value = grown.value[node, 0]
        classes = getattr(surrogate.fitted, "classes_", None)
        answer = float(value[0] if classes is None else classes[value.argmax()])
        found.append(Rule(" and ".join(conditions) or "always", answer, float(inside.mean()), agreement))
    return sorted(found, key=lambda rule: -rule.share)


def _paths(grown: Any, names: tuple[str, ...]) -> list[tuple[int, list[str]]]:
    """Leaves with the tightest conditions on the way to them, by feature in order of first use."""
    found: list[tuple[int, list[str]]] = []
    open_nodes: list[tuple[int, dict[int, tuple[float, float]]]] = [(0, {})]
    while open_nodes:
        node, bounds = open_nodes.pop()
        if grown.children_left[node] < 0:
            found.append((node, [_interval(names[feature], *ends) for feature, ends in bounds.items()]))
            continue
        feature, cut = int(grown.feature[node]), float(grown.threshold[node])
        low, high = bounds.get(feature, (-np.inf, np.inf))
        open_nodes.append((int(grown.children_right[node]), {**bounds, feature: (max(low, cut), high)}))
        open_nodes.append((int(grown.children_left[node]), {**bounds, feature: (low, min(high, cut))}))
    return found


def _interval(name: str, low: float, high: float) -> str:
    if np.isinf(low):
        return f"{name} <= {high:.4g}"
    return f"{name} > {low:.4g}" if np.isinf(high) else f"{low:.4g} < {name} <= {high:.4g}"


def kappa(a: np.ndarray, b: np.ndarray, confidence: float = CONFIDENCE) -> Estimate:
    """Cohen's kappa of two codings (n,): the share of agreement that chance leaves open and that is reached.

    Cohen 1960. The interval is that of the agreement (Clopper-Pearson), agreement by chance taken as observed: unlike
    the usual normal one it has a width where all rows agree.

    Args:
        a: Classes.
        b: Classes.
        confidence: Wanted coverage.

    Returns:
        Kappa and interval, within -1 and 1; NaN where chance alone gives full agreement.

    >>> kappa(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1])).value
    0.5
    """
    names, codes = np.unique(np.concatenate([a, b]), return_inverse=True)
    shares = [np.bincount(part, minlength=len(names)) / len(a) for part in np.split(codes, 2)]
    chance = float(shares[0] @ shares[1])
    if chance >= 1:
        return Estimate(*(float("nan"),) * 3)
    found = clopper_pearson(int((a == b).sum()), len(a), confidence)
    return Estimate(*(max(-1.0, (end - chance) / (1 - chance)) for end in found))
