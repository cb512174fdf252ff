"""What reference models say: flatness ranks the gap or not (Kendall's tau), and the line that predicts the gap."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri, stdtrit

from assessor_checks._intervals import CONFIDENCE, Estimate, clopper_pearson

PERMUTATIONS = 4999
UNLIKELY = 0.05
_ENTRIES = 2**22  # entries of permuted sign matrices held at once


# --- what the family tells -------------------------------------------------------------------------------------------


class Line(NamedTuple):
    """A least-squares line: value = intercept + slope (x - centre), residual standard deviation sigma on n - 2."""

    intercept: float
    slope: float
    centre: float
    sigma: float
    spread: float
    n: int

    def at(self, x: float, confidence: float = CONFIDENCE) -> Estimate:
        """Prediction of a new value with its t-based prediction interval.

        Half width t_{n-2} sigma sqrt(1 + 1/n + (x - centre)^2 / spread), for instance Montgomery, Peck and Vining,
        Introduction to Linear Regression Analysis, section 2.5. Assumes independent normal residuals of one variance.
        """
        value = self.intercept + self.slope * (x - self.centre)
        t = float(stdtrit(self.n - 2, 1 - (1 - confidence) / 2))
        half = t * self.sigma * math.sqrt(1 + 1 / self.n + (x - self.centre) ** 2 / self.spread)
        return Estimate(value, value - half, value + half)


def fit_line(x: np.ndarray, y: np.ndarray) -> Line:
    """Ordinary least squares of y on x.

    Args:
        x: (n,), not all equal.
        y: (n,).

    Returns:
        The line.

    Raises:
        ValueError: Fewer than three points, or all x are equal.
    """
    centre, spread = float(x.mean()), float(((x - x.mean()) ** 2).sum())
    if len(x) < 3 or spread == 0:
        raise ValueError("a line needs three points and two values of x")
    slope = float(((x - centre) * y).sum()) / spread
    residuals = y - y.mean() - slope * (x - centre)
    return Line(float(y.mean()), slope, centre, math.sqrt(float((residuals**2).sum()) / (len(x) - 2)), spread, len(x))


def left_out_inside(x: np.ndarray, y: np.ndarray, confidence: float = CONFIDENCE) -> int:
    """How many points lie inside the prediction interval of the line through all the others."""
    inside = 0
    for out in range(len(x)):
        rest = np.arange(len(x)) != out
        found = fit_line(x[rest], y[rest]).at(float(x[out]), confidence)
        inside += found.low <= y[out] <= found.high
    return int(inside)


class Rank(NamedTuple):
    """Kendall's tau, the two-sided p-value of no association by permutation, and the number of pairs compared."""

    tau: float
    p: float
    pairs: int


def kendall(x: np.ndarray, y: np.ndarray, seed: int, *, groups: np.ndarray | None = None) -> Rank:
    """Kendall's tau-a: concordant minus discordant pairs as a share of all pairs, or of pairs inside one group.

    Args:
        x: (n,).
        y: (n,).
        seed: Seed of the permutations, which keep to the groups.
        groups: (n,) labels, or None. Comparing inside groups only takes out what the groups explain (Jiang et al.
            2020 call the like of it granulated).

    Returns:
        The rank correlation; tau 0 and p 1 where there is no pair.
    """
    groups = np.zeros(len(x)) if groups is None else groups
    same = (groups[:, None] == groups[None, :]) & ~np.eye(len(x), dtype=bool)
    pairs = int(same.sum()) // 2
    if not pairs:
        return Rank(0.0, 1.0, 0)
    signs, other = np.sign(x[:, None] - x[None, :]) * same, np.sign(y[:, None] - y[None, :])
    balance = float((signs * other).sum())
    as_far = sum(
        int(
            (np.abs(np.einsum("st,pst->p", signs, other[orders[:, :, None], orders[:, None, :]])) >= abs(balance)).sum()
        )
        for orders in _orders(groups, seed)
    )
    p = (1 + as_far) / (1 + PERMUTATIONS)
    return Rank(balance / (2 * pairs), p, pairs)


def tau_interval(tau: float, n: int) -> Estimate:
    """Interval of Kendall's tau: tanh(artanh(tau) +- z sqrt(0.437 / (n - 4))).

    Fieller, Hartley and Pearson, Biometrika 44 (1957) 470; Bonett and Wright, Psychometrika 65 (2000) 23. A perfect
    order would have no width; its ends are taken one pair short of it.

    Args:
        tau: Over all pairs of n points.
        n: At least 5.

    Returns:
        tau and interval.
    """
    most = 1 - 4 / (n * (n - 1))
    middle = math.atanh(max(-most, min(most, tau)))
    half = float(ndtri(1 - (1 - CONFIDENCE) / 2)) * math.sqrt(0.437 / (n - 4))
    return Estimate(tau, min(tau, math.tanh(middle - half)), max(tau, math.tanh(middle + half)))


def _orders(groups: np.ndarray, seed: int) -> Iterator[np.ndarray]:
    """PERMUTATIONS orders (rows, n) of the points that exchange them inside their groups only, some rows at a time."""
    rng, n = np.random.default_rng(seed), len(groups)
    most = max(1, _ENTRIES // n**2)
    for start in range(0, PERMUTATIONS, most):
        keys = rng.random((min(most, PERMUTATIONS - start), n))
        by_group = np.argsort(groups, kind="stable")
        orders = np.empty(keys.shape, dtype=np.int64)
        orders[:, by_group] = np.lexsort((keys, np.broadcast_to(groups, keys.shape)))
        yield orders


class Family(NamedTuple):
    """Reference models that reached the target: relative flatness, gap, label noise, (k,) each."""

    kappa: np.ndarray
    gap: np.ndarray
    noise: np.ndarray


class Findings(NamedTuple):
    """What a family tells.

    Attributes:
        line: Gap over log kappa.
        rank: Kendall's tau of gap and kappa over all pairs of models.
        tau: The same with its interval.
        same: Over pairs of models with the same label noise; None where all have the same.
        inside: Models that lie inside the interval predicted from the others.
        predicted: Gap of one more model, with its prediction interval.
    """

    line: Line
    rank: Rank
    tau: Estimate
    same: Rank | None
    inside: int
    predicted: Estimate


def read_off(family: Family, kappa: float, seed: int) -> Findings:
    """What a family tells of a model of that flatness.

    Args:
        family: At least five models, not all equally flat.
        kappa: Of the model, above 0.
        seed: Seed of the permutations.

    Returns:
        The findings.
    """
    x = np.log(family.kappa)
    line, rank = fit_line(x, family.gap), kendall(x, family.gap, seed)
    several = len(np.unique(family.noise)) > 1
    return Findings(
        line=line,
        rank=rank,
        tau=tau_interval(rank.tau, len(x)),
        same=kendall(x, family.gap, seed + 1, groups=family.noise) if several else None,
        inside=left_out_inside(x, family.gap),
        predicted=line.at(math.log(kappa)),
    )


def difference(a: Estimate, b: Estimate) -> Estimate:
    """Difference a - b of independent estimates: MOVER (Zou and Donner 2008), the arms that matter added in squares."""
    value = a.value - b.value
    low = value - math.hypot(a.value - a.low, b.high - b.value)
    return Estimate(value, low, value + math.hypot(a.high - a.value, b.value - b.low))


def doubts_about(found: Findings, family: Family, *, kappa: float, loss: float, target: float) -> list[str]:
    """Every reason not to judge the prediction, a sentence each.

    Args:
        found: The prediction.
        family: The reference models.
        kappa: Relative flatness of the assessed model.
        loss: Its training loss, as compared with `target`.
        target: Training loss at which the reference models were stopped.

    Returns:
        The sentences.
    """
    doubts = []
    if loss > target:
        doubts.append(
            f"The assessed model's training loss is {loss:.3g}, above the {target:.3g} at which the reference "
            "models were stopped: it is trained less far than they are."
        )
    if loss < target / 2:
        doubts.append(
            f"The assessed model's training loss is {loss:.3g}, less than half of the {target:.3g} at which "
            "the reference models were stopped: a more certain model is flatter for that reason alone."
        )
    if not family.kappa.min() <= kappa <= family.kappa.max():
        doubts.append(
            f"The assessed model's relative flatness {kappa:.3g} lies outside the {family.kappa.min():.3g} to "
            f"{family.kappa.max():.3g} of the reference models: the prediction is an extrapolation."
        )
    if found.tau.low <= 0 <= found.tau.high:
        doubts.append(
            "Flatness says nothing about the gap in this family: the interval of the rank correlation includes 0."
        )
    elif found.tau.high < 0:
        doubts.append("In this family the flatter models have the larger gap: flatness is no good sign here.")
    elif found.same is not None and found.same.p >= UNLIKELY:
        doubts.append(
            "Among reference models with the same label noise, flatness and gap do not visibly go together: in this "
            "family flatness tells wrong labels from right ones, and perhaps no more."
        )
    elif found.same is not None and found.same.tau < 0:
        doubts.append(
            "Among reference models with the same label noise, the flatter ones have the larger gap: in this family "
            "flatness tells wrong labels from right ones, and nothing else."
        )
    if clopper_pearson(found.inside, len(family.kappa)).high < CONFIDENCE:
        doubts.append(
            "Too few reference models lie inside the interval predicted from the others: the prediction interval is "
            "too narrow."
        )
    return doubts
