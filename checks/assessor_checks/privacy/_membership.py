"""Membership inference: telling from a model's outputs which rows it was trained on.

Scores are higher for likelier members. The likelihood ratio attack (LiRA; Carlini et al. 2022, arXiv:2112.03570)
compares what the model says about a row with what models say that were trained without it (and, online, with it).
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import bdtr

from assessor_checks._intervals import CONFIDENCE, Estimate, clopper_pearson, wilson
from assessor_checks._selective import auroc

ENOUGH_ABOVE = 10  # non-members that must lie above a threshold before a rate is read there
_OWN_VARIANCE = 32  # shadow models a row and side from which it gets a variance of its own (Carlini et al., figure 9)
_LEAST, _MOST = 1e-12, 1e-3  # bounds of what a probability of 0 or 1 is moved by
_WAVES, _RIDGE, _KEPT_DIRECTIONS, _SAMPLE = 128, 1.0, 32, 1000
_SURE = 0.995  # of the interval of `inputs_alone`: one false doubt in 400 audits
_MOST_ROWS = 5000  # of each set that a classifier of the inputs is fitted and tried on


def floor_of(outputs: np.ndarray, labels: np.ndarray) -> float:
    """How far from 0 and 1 probabilities are held, and from 0 errors: half the least distance that occurs.

    A forest gives steps of a hundredth, a network 1 - 1e-9; what a 0 or 1 stands for depends on that.

    Args:
        outputs: (n, C) probabilities or (n,) values.
        labels: (n,) class or value.

    Returns:
        A number between 1e-12 and 1e-3, for values in units of the labels' standard deviation.
    """
    if outputs.ndim == 1:
        scale, ends = float(labels.std()) or 1.0, np.abs(outputs - labels)
        seen = ends[ends > 0]
        return float(np.clip(seen.min() / 2, _LEAST * scale, _MOST * scale)) if len(seen) else _MOST * scale
    own = outputs[np.arange(len(labels)), labels]
    ends = np.minimum(own, _others(outputs, labels))
    seen = ends[ends > 0]
    return float(np.clip(seen.min() / 2, _LEAST, _MOST)) if len(seen) else _MOST


def _others(outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Probability of all wrong classes together, summed so that it keeps its digits where it is tiny."""
    rest = outputs.copy()
    rest[np.arange(len(labels)), labels] = 0
    found: np.ndarray = rest.sum(axis=1)
    return found


def signal(outputs: np.ndarray, labels: np.ndarray, floor: float) -> np.ndarray:
    """What is looked at of each row: log p - log (1 - p), p the true class's probability; near normal for networks.

    Carlini et al. 2022, section IV-B. For a regression minus the logarithm of the size of the error.

    Args:
        outputs: (n, C) probabilities or (n,) values, finite.
        labels: (n,) class or value.
        floor: Of `floor_of`.

    Returns:
        (n,) higher where the model does better.
    """
    if outputs.ndim == 1:
        return np.asarray(-np.log(np.maximum(np.abs(outputs - labels), floor)))
    own = np.maximum(outputs[np.arange(len(labels)), labels], floor)
    return np.asarray(np.log(own) - np.log(np.maximum(_others(outputs, labels), floor)))


def halves(n: int, models: int, rng: np.random.Generator) -> np.ndarray:
    """Which row each model is trained on: every row in exactly half of the models, in a random half.

    Args:
        n: Number of rows.
        models: Number of models, even.
        rng: Randomness.

    Returns:
        (models, n) bool.
    """
    ranks = rng.random((models, n)).argsort(axis=0)
    return np.asarray(ranks < models // 2)


def _moments(signals: np.ndarray, used: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (n,) and variance (n,) of each row's signals over the models that count for it, as many for all rows.

    The variance is shared by all rows where there are few models for a row.
    """
    count = used.sum(axis=0)
    mean = np.where(used, signals, 0).sum(axis=0) / count
    squares = np.where(used, (signals - mean) ** 2, 0).sum(axis=0)
    if count.min() >= _OWN_VARIANCE:
        own = squares / (count - 1)
        return mean, np.maximum(own, 1e-6 * max(float(own.mean()), 1e-300))
    shared = float(squares.sum() / max(1, int((count - 1).sum())))
    return mean, np.full(len(mean), max(shared, 1e-300))


def offline(signals: np.ndarray, target: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """LiRA with models that were not trained on the row: how surprisingly well the target does on it.

    Carlini et al. 2022, section IV-C, equation 4; the standard score instead of its probability, which rounds to 1.

    Args:
        signals: (K, n) signals of the shadow models.
        target: (n,) signals of the audited model.
        outside: (K, n) bool, shadow models that count: not trained on the row, equally many for every row.

    Returns:
        (n,) scores.
    """
    mean, variance = _moments(signals, outside)
    found: np.ndarray = (target - mean) / np.sqrt(variance)
    return found


def online(signals: np.ndarray, target: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """LiRA with models of both kinds: the logarithm of the likelihood ratio of two normal distributions.

    Carlini et al. 2022, algorithm 1.

    Args:
        signals: (K, n) signals of the shadow models.
        target: (n,) signals of the audited model.
        inside: (K, n) bool, shadow models trained on the row.

    Returns:
        (n,) scores.
    """

    def log_density(used: np.ndarray) -> np.ndarray:
        mean, variance = _moments(signals, used)
        found: np.ndarray = -0.5 * (np.log(variance) + (target - mean) ** 2 / variance)
        return found

    return np.asarray(log_density(inside) - log_density(~inside))


def ranks_by_class(signals: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Share of rows of the same class with a lower signal, ties counting half: a threshold of its own for each class.

    Taken over members and non-members together, so that neither is favoured; it also takes out that classes may be
    more frequent among members.

    Args:
        signals: (n,) of members and non-members.
        classes: (n,) class of each.

    Returns:
        (n,) in (0, 1).
    """
    found = np.empty(len(signals))
    for value in np.unique(classes):
        rows = np.flatnonzero(classes == value)
        ordered = np.sort(signals[rows])
        ends = [np.searchsorted(ordered, signals[rows], side) for side in ("left", "right")]
        found[rows] = (ends[0] + ends[1]) / 2 / len(rows)
    return found


def roc(members: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rates (k,), (k,) at every threshold, from (0, 0) to (1, 1)."""
    thresholds = np.unique(np.concatenate([members, others]))[::-1]
    rates = (1 - np.searchsorted(np.sort(part), thresholds, "left") / len(part) for part in (others, members))
    false, true = (np.concatenate([[0.0], rate]) for rate in rates)
    return false, true


def rate_at(members: np.ndarray, others: np.ndarray, false_rate: float) -> Estimate | None:
    """Share of members that are found when a small share of non-members is taken for members.

    The interval allows for the threshold, which comes from few non-members: how many of them lie above the true one is
    binomial, so two of them enclose it. The arm that this makes and that of the Clopper-Pearson interval of the members
    are added in squares (MOVER, Zou and Donner 2008). Measured coverage 97 to 99 % (normal scores, 300 to 5000 members,
    1000 to 10 000 others, rates 0.1 and 1 %).

    Args:
        members: (n,) scores.
        others: (m,) scores of non-members.
        false_rate: Share of non-members, between 0 and 1.

    Returns:
        Share and interval; None where under ten non-members lie above the threshold.
    """
    m, tail = len(others), (1 - CONFIDENCE) / 2
    if m * false_rate < ENOUGH_ABOVE - 1e-9:
        return None
    value = float(np.interp(false_rate, *roc(members, others)))
    below = bdtr(np.arange(m + 1), m, false_rate)  # probability of at most k above the true threshold
    fewest, most = int(np.searchsorted(below, tail, "right")), int(np.searchsorted(below, 1 - tail, "left"))
    falling = np.sort(others)[::-1]
    least = 0.0 if fewest == 0 else float((members >= falling[fewest - 1]).mean())
    greatest = 1.0 if most >= m else float((members >= falling[most]).mean())
    exact = clopper_pearson(round(value * len(members)), len(members))
    low = value - math.hypot(max(0.0, value - exact.low), max(0.0, value - least))
    high = value + math.hypot(max(0.0, exact.high - value), max(0.0, greatest - value))
    return Estimate(value, max(0.0, low), min(1.0, high))


def advantage(members: np.ndarray, others: np.ndarray, seed: int) -> Estimate:
    """True minus false positive rate at the best threshold of one half of the rows, counted on the other half.

    Yeom et al. 2018, arXiv:1709.01604, definition 4. Interval of a difference of shares: Newcombe 1998, method 10.

    Args:
        members: (n,) scores, n at least 2.
        others: (m,) scores of non-members, m at least 2.
        seed: Seed of the halves.

    Returns:
        0 for guessing, 1 for knowing.
    """
    rng = np.random.default_rng([seed, 7])
    (chosen, counted), (chosen_others, counted_others) = (
        np.array_split(part[rng.permutation(len(part))], 2) for part in (members, others)
    )
    threshold = _best_threshold(chosen, chosen_others)
    true, false = (wilson(int((part >= threshold).sum()), len(part)) for part in (counted, counted_others))
    value = true.value - false.value
    low = value - math.hypot(true.value - true.low, false.high - false.value)
    return Estimate(value, low, value + math.hypot(true.high - true.value, false.value - false.low))


def _best_threshold(members: np.ndarray, others: np.ndarray) -> float:
    thresholds = np.unique(np.concatenate([members, others]))
    true, false = (1 - np.searchsorted(np.sort(part), thresholds, "left") / len(part) for part in (members, others))
    return float(thresholds[int((true - false).argmax())])


def inputs_alone(a: np.ndarray, b: np.ndarray, seed: int) -> Estimate:
    """How well a classifier tells the rows of two sets apart, without the model: area under its ROC curve.

    A classifier two-sample test (Lopez-Paz and Oquab 2017, arXiv:1610.06545): ridge regression on the columns, their
    squares and random Fourier features, fitted on one half of the rows and tried on the other.

    Args:
        a: (n, d) finite numbers, n at least 2.
        b: (m, d) finite numbers, m at least 2.
        seed: Seed of halves and features.

    Returns:
        0.5 where they come from one source; interval at 99.5 %.
    """
    rng = np.random.default_rng([seed, 8])
    a, b = (part[rng.permutation(len(part))[:_MOST_ROWS]].astype(np.float64) for part in (a, b))
    points = np.concatenate([a, b])
    spread = points.std(axis=0)
    points = (points - points.mean(axis=0)) / np.where(spread > 1e-12, spread, np.inf)
    if points.shape[1] > _KEPT_DIRECTIONS:
        points = _main_directions(points, rng)
    width = math.sqrt(points.shape[1])
    waves = np.cos(points @ rng.standard_normal((points.shape[1], _WAVES)) / width + rng.uniform(0, 2 * np.pi, _WAVES))
    x = np.concatenate([np.ones((len(points), 1)), points, points**2, waves], axis=1)
    fitted = np.concatenate([np.arange(len(part)) % 2 == 0 for part in (a, b)])
    truth = np.repeat([1.0 / len(a), -1.0 / len(b)], [len(a), len(b)]) * len(points)
    gram = x[fitted].T @ x[fitted] + _RIDGE * np.eye(x.shape[1])
    scores = (x @ np.linalg.solve(gram, x[fitted].T @ truth[fitted])).round(9)  # equal rows, equal scores
    return auroc(scores[~fitted & (truth > 0)], scores[~fitted & (truth < 0)], _SURE)


def _main_directions(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rows (n, 32) projected on the main directions of a sample, each scaled to standard deviation 1."""
    sample = points[np.sort(rng.permutation(len(points))[:_SAMPLE])]
    _, vectors = np.linalg.eigh(sample @ sample.T)
    found = points @ (sample.T @ vectors[:, -_KEPT_DIRECTIONS:])
    spread = found.std(axis=0)
    scaled: np.ndarray = found / np.where(spread > 1e-12 * max(1e-300, float(spread.max())), spread, np.inf)
    return scaled
