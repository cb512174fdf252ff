"""Repeated inputs at known values of a parameter: which values and rows are used, slopes over neighbouring values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from assessor.contract import NotApplicable

FOLDS = 20  # groups of repeats that are left out in turn: an interval from 19 degrees of freedom
LEAST_REPEATS = 10
LEAST_VALUES = 3


class Design(NamedTuple):
    """Rows by value of the parameter.

    Attributes:
        theta: (G,) float64 values, ascending.
        rows: By value, the indices of its repeats, in an order drawn by the seed.
        dropped_values: Values left out because of too few repeats.
        dropped_rows: Rows left out, those of such values and those beyond the most a value may have.
    """

    theta: np.ndarray
    rows: tuple[np.ndarray, ...]
    dropped_values: int
    dropped_rows: int

    @property
    def repeats(self) -> tuple[int, int]:
        """Fewest and most repeats of a value."""
        counts = [len(rows) for rows in self.rows]
        return min(counts), max(counts)


class Stencil(NamedTuple):
    """A derivative as a weighted sum of means: sum of weights[i] mu[groups[i]], exact for quadratics at `at`."""

    at: float
    groups: tuple[int, ...]
    weights: tuple[float, ...]


class Plan(NamedTuple):
    """Where and how derivatives are taken.

    Attributes:
        local: Slopes over neighbouring values, one for each value that has all its neighbours.
        whole: Slope over all values.
        folds: Number of folds for the interval: even, so that halves are made of whole folds.
    """

    local: tuple[Stencil, ...]
    whole: Stencil
    folds: int


def design_of(theta: np.ndarray, *, most: int, seed: int) -> Design:
    """Group the rows by the parameter's value.

    Args:
        theta: (n,) value of the parameter at each row.
        most: Most repeats of a value that are used, drawn by the seed.
        seed: Seed of that choice and of the order within a value.

    Returns:
        The design.

    Raises:
        NotApplicable: Fewer than three values have at least ten repeats.
    """
    values, which, counts = np.unique(theta, return_inverse=True, return_counts=True)
    enough = np.flatnonzero(counts >= LEAST_REPEATS)
    if len(enough) < LEAST_VALUES:
        raise NotApplicable(
            f"the design split has {len(enough)} values of the parameter with at least {LEAST_REPEATS} repeats, wanted "
            f"{LEAST_VALUES} or more (found {len(values)} values in {len(theta)} rows, at most {counts.max(initial=0)} "
            "repeats of one); take noisy inputs again and again at the same few values"
        )
    rng = np.random.default_rng(seed)
    order = [rng.permutation(np.flatnonzero(which == index))[:most] for index in enough]
    used = sum(map(len, order))
    return Design(values[enough], tuple(order), len(values) - len(enough), len(theta) - used)


def plan_of(design: Design, reach: int | None = None) -> Plan:
    """Slopes of the least-squares line over a value and `reach` neighbours on either side.

    Args:
        design: The values.
        reach: Neighbours on a side; None for an eighth of the steps, at least one.

    Returns:
        The plan.

    Raises:
        NotApplicable: No value has so many neighbours.
    """
    count = len(design.theta)
    reach = reach or max(1, (count - 1) // 8)
    if count < 2 * reach + 1:
        raise NotApplicable(f"reach {reach} wants {2 * reach + 1} values of the parameter or more, found {count}")
    local = tuple(slope_over(design.theta, range(i - reach, i + reach + 1)) for i in range(reach, count - reach))
    return Plan(local, slope_over(design.theta, range(count)), min(FOLDS, design.repeats[0] // 2 * 2))


def slope_over(theta: np.ndarray, groups: Sequence[int]) -> Stencil:
    """Slope of the least-squares line through the means at these values.

    Args:
        theta: (G,) values.
        groups: Which, two or more.

    Returns:
        The stencil; its place is where a quadratic has this slope.

    >>> slope_over(np.array([0.0, 1.0, 2.0]), range(3))
    Stencil(at=1.0, groups=(0, 1, 2), weights=(-0.5, 0.0, 0.5))
    """
    chosen = theta[list(groups)]
    offsets = chosen - chosen.mean()
    weights = offsets / (offsets**2).sum()
    return Stencil(float(weights @ chosen**2 / 2), tuple(groups), tuple(weights.tolist()))
