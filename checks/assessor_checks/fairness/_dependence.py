"""Does a model's output depend on attributes of any kind: distance correlation with interval and permutation test.

Several attributes are taken together in two ways. Concatenated: numbers in standard deviations and groups 0 or 1 apart,
as one vector with Euclidean distance (Lee, Antonio, Avanzi, Marchi, Zhou 2025, arXiv 2509.08163). Joint: the part of
joint distance covariance that holds the output (Chakraborty and Zhang 2019, J. Am. Stat. Assoc. 114:1638, with c = 1
and each attribute scaled by its distance standard deviation). With U the centred distances, negated, it is the mean
of U_output times the product over attributes of (1 + U_attribute), which is the sum over all sets of attributes of
their distance covariance of higher order with the output. Each of these is at least 0, so the sum is 0 exactly where
the output is independent of all attributes together; it is above 0 where only combinations of them matter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from scipy.special import ndtri

from assessor.contract import progress
from assessor_checks._intervals import Estimate
from assessor_checks.fairness import _distance_covariance as dcov

BINS = 128  # quantiles that numbers are rounded to where rows are shuffled; the estimate itself is not rounded
MOST_CELLS = 512  # combinations of values whose distances are held as a matrix
_MOST_ROUNDED = 256  # combinations of values where rows are shuffled and some are numbers
_KEPT = 0.995  # of the variance of the features, where rows are shuffled: the rest costs most of the time
_TOLD = 50  # permutations between two signs of life
POWER = 0.8

Together = Literal["concatenated", "joint"]


class Column(NamedTuple):
    """One attribute or the output: numbers, or codes of groups (which are 0 or 1 apart)."""

    name: str
    values: np.ndarray
    is_number: bool

    def distances(self, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
        """(r, m) distances of some rows to others: |difference|, or whether the groups differ."""
        mine, theirs = self.values[rows, None], self.values[None, others]
        return np.asarray(np.abs(mine - theirs) if self.is_number else (mine != theirs).astype(np.float64))

    def rounded(self, bins: int) -> Column:
        """Numbers with more than `bins` distinct values set to the mean of their quantile bin."""
        if not self.is_number or len(np.unique(self.values)) <= bins:
            return self
        edges = np.sort(self.values)[np.arange(1, bins) * len(self.values) // bins]
        index = np.unique(np.searchsorted(np.unique(edges), self.values, side="right"), return_inverse=True)[1]
        means = np.bincount(index, self.values) / np.bincount(index)
        return self._replace(values=means[index])


class Attributes:
    """One or several attributes of the same rows, and the distances between rows in them.

    Args:
        columns: At least one; equal lengths, finite, none constant.
        together: How distances of several attributes are put together; no difference for one.
    """

    def __init__(self, columns: Sequence[Column], together: Together = "concatenated") -> None:
        self.columns = tuple(columns)
        self.together: Together = together
        self.n = len(columns[0].values)
        self._scales, self._means = zip(*(_scale_and_means(column, together) for column in columns), strict=True)

    @property
    def is_one_number(self) -> bool:
        """Whether distances are |x - x'|, so that the fast sums apply."""
        return len(self.columns) == 1 and self.columns[0].is_number

    def distances(self, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
        """(r, m) distances of some rows to others."""
        if len(self.columns) == 1:
            return self.columns[0].distances(rows, others)
        parts = zip(self.columns, self._scales, self._means, strict=True)
        if self.together == "concatenated":
            squares = np.zeros((len(rows), len(others)))
            for column, scale, _ in parts:
                squares += (column.distances(rows, others) / scale) ** 2
            return np.asarray(np.sqrt(squares, out=squares))
        kernel = np.ones((len(rows), len(others)))
        own, theirs = np.ones(len(rows)), np.ones(len(others))
        for column, scale, means in parts:
            mean = means.mean()
            kernel *= 1 + (means[rows, None] + means[others] - mean - column.distances(rows, others)) / scale
            own *= 1 + (2 * means[rows] - mean) / scale
            theirs *= 1 + (2 * means[others] - mean) / scale
        return np.asarray((own[:, None] + theirs) / 2 - kernel)

    def rounded(self, most: int = _MOST_ROUNDED) -> Attributes:
        """The same with numbers rounded to quantiles, as few as leave at most `most` combinations if that is possible.

        Groups are never merged, so that many groups may leave more.
        """
        bins = BINS
        while True:
            found = Attributes([column.rounded(bins) for column in self.columns], self.together)
            if bins <= 2 or len(found.cells()[0]) <= most:
                return found
            bins //= 2

    def cells(self) -> tuple[np.ndarray, np.ndarray]:
        """A row of each combination of values (G,), and the combination of each row (n,)."""
        cells = np.zeros(self.n, dtype=np.int64)
        for column in self.columns:
            found, codes = np.unique(column.values, return_inverse=True)
            cells = np.unique(cells * len(found) + codes, return_inverse=True)[1]
        rows = np.unique(cells, return_index=True)[1]
        return rows, cells

    def some(self, rows: np.ndarray) -> Attributes:
        """The same attributes of some rows, scaled anew."""
        kept = [column._replace(values=column.values[rows]) for column in self.columns]
        return Attributes(kept, self.together)


def _scale_and_means(column: Column, together: Together) -> tuple[float, np.ndarray]:
    """What distances are divided by, and each row's mean distance to all."""
    n = len(column.values)
    if column.is_number:
        own = dcov.of_values(column.values, column.values).first
        means = dcov.row_sums(column.values) / n
        deviation = float(column.values.std())
    else:
        counts = np.bincount(column.values)
        own = dcov.of_table(np.diag(counts), *(1.0 - np.eye(len(counts)),) * 2).first
        means, deviation = 1 - counts[column.values] / n, 1.0
    scale = deviation if together == "concatenated" else float(np.sqrt(max(own.biased, 0.0)))
    return (scale if scale > 0 else 1.0), means


def dependence(output: Column, attributes: Attributes, *, pair_rows: int, seed: int) -> tuple[dcov.Dependence, int]:
    """Exact sums of output and attributes, by the quickest way there is.

    Args:
        output: (n,) what the model says.
        attributes: Of the same rows.
        pair_rows: Where all pairs must be visited, only these many rows are used, drawn at random.
        seed: Of that draw.

    Returns:
        The sums, and the rows behind them.
    """
    if output.is_number and attributes.is_one_number:
        return dcov.of_values(output.values, attributes.columns[0].values), attributes.n
    if not attributes.is_one_number:
        rows, cells = attributes.cells()
        if len(rows) <= MOST_CELLS:
            distances = attributes.distances(rows, rows)
            if output.is_number:
                return dcov.of_values_and_cells(output.values, cells, distances), attributes.n
            return dcov.of_table(_table(output.values, cells), _apart(output.values), distances), attributes.n
    elif output.values.max() < MOST_CELLS:
        found = dcov.of_values_and_cells(attributes.columns[0].values, output.values, _apart(output.values))
        return dcov.Dependence(found.both, found.second, found.first), attributes.n
    kept = np.sort(np.random.default_rng(seed).permutation(attributes.n)[:pair_rows])
    attributes, output = attributes.some(kept), output._replace(values=output.values[kept])
    everything = np.arange(attributes.n)
    first, second = (
        lambda some: output.distances(everything[some], everything),
        lambda some: attributes.distances(everything[some], everything),
    )
    return dcov.of_blocks(first, second, attributes.n), attributes.n


def _apart(codes: np.ndarray) -> np.ndarray:
    return 1.0 - np.eye(int(codes.max()) + 1)


def _table(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    size = int(second.max()) + 1
    return np.bincount(first * size + second, minlength=(int(first.max()) + 1) * size).reshape(-1, size)


# --- shuffling -------------------------------------------------------------------------------------------------------


class Side(NamedTuple):
    """Output or attributes rounded to cells within one stratum.

    Attributes:
        cells: (n,) cell of each row.
        features: (G, r) whose inner products are the negated, doubly centred distances of the cells, but for the last
            half per cent of their sum.
    """

    cells: np.ndarray
    features: np.ndarray

    @property
    def kernel(self) -> np.ndarray:
        """(G, G) negated, doubly centred distances."""
        return np.asarray(self.features @ self.features.T)

    @property
    def largest(self) -> float:
        """Largest variance of a direction of the features over the rows."""
        weighted = self.features * np.sqrt(np.bincount(self.cells) / len(self.cells))[:, None]
        return float(np.linalg.norm(weighted, 2) ** 2)


def side(attributes: Attributes) -> Side:
    """Cells and features of attributes, or of the output as an attribute; numbers rounded."""
    rounded = attributes.rounded()
    rows, cells = rounded.cells()
    distances = rounded.distances(rows, rows)
    share = np.bincount(cells) / len(cells)
    means = distances @ share
    values, vectors = np.linalg.eigh(means[:, None] + means - distances - share @ means)
    values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
    kept = int((np.cumsum(values) < _KEPT * values.sum()).sum()) + 1
    return Side(cells, vectors[:, :kept] * np.sqrt(values[:kept]))


def covariances(output: Side, attributes: Sequence[Side], shuffled: np.ndarray) -> np.ndarray:
    """(K,) squared distance covariances of the output, its cells given as `shuffled`, with each set of attributes."""
    found = []
    for other in attributes:
        table = np.bincount(
            shuffled * len(other.features) + other.cells, minlength=len(output.features) * len(other.features)
        ).reshape(len(output.features), -1)
        found.append(((output.features.T @ (table @ other.features)) ** 2).sum() / len(shuffled) ** 2)
    return np.array(found)


def p_values(
    strata: Sequence[tuple[Side, Sequence[Side]]], permutations: int, rng: np.random.Generator
) -> tuple[float, ...]:
    """P-values of independence of the output from each set of attributes, rows shuffled within strata.

    The same shuffles serve all sets. Exact at any size: neither the rounding nor what is left out of the features
    looks at how rows belong together.

    Args:
        strata: Output and sets of attributes in each stratum.
        permutations: Number of shuffles.
        rng: Source of the shuffles.

    Returns:
        (1 + number at least as large) / (1 + permutations) for each set.
    """
    n = sum(len(output.cells) for output, _ in strata)
    observed = sum(len(output.cells) / n * covariances(output, others, output.cells) for output, others in strata)
    reached = np.zeros(len(strata[0][1]), dtype=np.int64)
    for done in range(permutations):
        if done % _TOLD == 0:
            progress("permutations", done, permutations)
        drawn = sum(
            len(output.cells) / n * covariances(output, others, rng.permutation(output.cells))
            for output, others in strata
        )
        reached += drawn >= observed * (1 - 1e-9) - 1e-15
    return tuple(((1 + reached) / (1 + permutations)).tolist())


# --- estimate and interval -------------------------------------------------------------------------------------------


def corrected(parts: Sequence[dcov.Dependence]) -> float:
    """Bias-corrected squared distance correlation over strata, weighted by their rows."""
    both, first, second = (sum(part[index].n * part[index].unbiased for part in parts) for index in range(3))
    return float(both / np.sqrt(first * second)) if min(first, second) > 0 else 0.0


def uncorrected(parts: Sequence[dcov.Dependence]) -> tuple[float, float]:
    """Distance covariance and distance correlation from V-statistics over strata, weighted by their rows."""
    n = sum(part.both.n for part in parts)
    both, first, second = (sum(part[index].n / n * part[index].biased for part in parts) for index in range(3))
    spread = float(np.sqrt(max(first * second, 0.0)))
    return float(np.sqrt(max(both, 0.0))), float(np.sqrt(max(both, 0.0) / spread)) if spread > 0 else 0.0


def direction_variance(pairs: Sequence[tuple[Side, Side]], square: float) -> float:
    """How much the squared distance correlation R of n rows varies beyond its variance under independence.

    Its variance is about 4 R v / n + 2 / n^2; v is given here, found by the influence function. The influence of a row
    on the squared distance covariance is 2 (h - mean of h), h being the row's mean product of centred distances; the
    centring itself adds nothing, since these products sum to 0. Values are rounded to cells, as for the shuffles.
    So far as the plain square is noise its direction is not known, and the one of the largest variance is taken.

    Args:
        pairs: Output and one set of attributes in each stratum.
        square: Bias-corrected squared distance correlation.

    Returns:
        v; it is about 1 where both sides are groups of two, whatever R.
    """
    parts, weights, largest, n = [], [], 0.0, sum(len(output.cells) for output, _ in pairs)
    for output, other in pairs:
        table = _table(output.cells, other.cells)
        ours, theirs, share = output.kernel, other.kernel, table / table.sum()
        first, second = ours**2 @ share.sum(axis=1), theirs**2 @ share.sum(axis=0)
        grid = np.broadcast_arrays(ours @ share @ theirs, first[:, None], second[None, :])
        parts.append([(2 * part - (part * share).sum()).ravel() for part in grid])
        weights.append(table.ravel())
        largest += float(table.sum()) / n * output.largest * other.largest
    both, first, second = (np.concatenate(part) for part in zip(*parts, strict=True))
    share = np.concatenate(weights) / sum(table.sum() for table in weights)
    means = [float(part @ share) for part in (both, first, second)]
    if min(means) <= 0:
        return 1.0
    scale = np.sqrt(means[1] * means[2])
    influence = (both - means[0] * (first / means[1] + second / means[2]) / 2) / scale
    plain = means[0] / scale
    trust = float(np.clip(square / plain, 0.0, 1.0))
    return float(trust * (influence**2 @ share) / (4 * plain) + (1 - trust) * min(1.0, largest / scale))


def interval(square: float, variance: float, n: int, p_value: float, confidence: float) -> Estimate:
    """Distance correlation with its interval, from the bias-corrected square.

    The ends are the roots of those true squares t at which the observed one is a quantile of its distribution. That is
    taken as in the space of features: along the direction of the dependence (sqrt(t) + sqrt(v / n) g)^2 - v / n with g
    standard normal, and across it noise, so that under independence the variance is 2 / n^2 (Székely and Rizzo 2013,
    J. Multivariate Anal. 117:193). The low end is 0 unless the permutation test rejects independence at the level that
    is left to one end. See the simulations in tests.

    Args:
        square: Bias-corrected squared distance correlation, may be negative.
        variance: v as from `direction_variance`.
        n: Rows, at least 4.
        p_value: Of independence.
        confidence: Wanted coverage.

    Returns:
        Root of the square (0 where it is negative) and ends in [0, 1].
    """
    z, along = float(ndtri((1 + confidence) / 2)), variance / n
    across = z * z * max(2 - 2 * variance**2, 0.0) / n**2

    def quantile(root: float, sign: int) -> float:
        far = 2 * z * root * np.sqrt(along) + sign * (z * z - 1) * along
        return float(root**2 + sign * np.sqrt(far**2 + across))

    low = _crossing(lambda root: quantile(root, 1), 0.0, square) if p_value <= (1 - confidence) / 2 else 0.0
    high = _crossing(lambda root: quantile(root, -1), z * float(np.sqrt(along)), square)
    value = float(np.sqrt(np.clip(square, 0.0, 1.0)))
    return Estimate(value, min(low, value), min(1.0, max(high, value)))


def _crossing(rising: Callable[[float], float], low: float, level: float) -> float:
    """The argument from `low` to 2 at which a rising function reaches a level, by halving; an end where it does not."""
    high = 2.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < level else (low, middle)
    return low


def detectable(n: int, level: float) -> float:
    """Distance correlation that n rows show with power `POWER` in the simplest case: yes or no on both sides.

    There the square is the square of the phi coefficient, and n times it is chi-square with one degree of freedom.
    Attributes with more values need more.
    """
    needed = float(ndtri(1 - level / 2) + ndtri(POWER)) ** 2
    return float(min(1.0, np.sqrt(needed / n)))
