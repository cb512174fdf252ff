"""How completely rows cover a domain: its values, their pairs or triples, and what no row has shown yet.

The domain is cut into cells, feature by feature. A combination is a cell of each of t features; coverage is the share
of all combinations that enough rows show (Kuhn, Kacker, Lei 2012, NISTIR 7878, doi 10.6028/NIST.IR.7878, there total
variable-value configuration coverage).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import ndtri

from assessor_checks._groups import MISSING, group_values, uncut
from assessor_checks._intervals import CONFIDENCE, Estimate

MOST = 100_000  # sets of features that are looked at
OUTSIDE = -1
_DIGITS = 4  # significant digits of an edge, so that the printed region is the one that was used


class Feature(NamedTuple):
    """A feature's part of the domain.

    Attributes:
        name: The column.
        cells: Names of its cells.
        edges: Ends of the cells of a number, one more than cells; a cell holds its upper end, the first also its lower.
        values: Texts of the values, for a feature without edges.
    """

    name: str
    cells: tuple[str, ...]
    edges: tuple[float, ...] = ()
    values: tuple[str, ...] = ()

    def codes(self, column: pd.Series) -> np.ndarray:
        """(n,) number of the cell of each row, `OUTSIDE` where it is in none, such as a missing value."""
        if self.edges:
            x = column.to_numpy(dtype=np.float64, na_value=np.nan)
            inner = np.searchsorted(self.edges[1:-1], x, side="left")
            inside = (x >= self.edges[0]) & (x <= self.edges[-1])
            return np.where(inside, inner, OUTSIDE).astype(np.int64)
        codes, names = group_values(column)
        place = {text: number for number, text in enumerate(self.values)}
        found: np.ndarray = np.array([place.get(name, OUTSIDE) for name in names], dtype=np.int64)[codes]
        return found


def in_range(name: str, low: float, high: float, bins: int) -> Feature:
    """A number between two ends, cut into equally wide cells."""
    return _numeric(name, np.linspace(low, high, bins + 1))


def of_values(name: str, values: Sequence[str | float]) -> Feature:
    """A feature with named values; whole numbers as integers, as `group_values` names them."""
    texts = tuple(str(int(one)) if isinstance(one, float) and one.is_integer() else str(one) for one in values)
    return Feature(name, texts, values=texts)


def learned(name: str, column: pd.Series, bins: int) -> Feature | None:
    """A feature as it is in some rows: quantile cells of a number, each value of anything else.

    Args:
        name: The column's name.
        column: Its values; missing ones are left out.
        bins: Cells of a number with more than ten distinct values.

    Returns:
        The feature; None where it has too many values, no finite ones, or a single one.
    """
    kind = column.dropna().infer_objects().dtype
    quantity = pd.api.types.is_numeric_dtype(kind) and not pd.api.types.is_bool_dtype(kind)
    if uncut(column):
        if not quantity:
            return None
        x = column.to_numpy(dtype=np.float64, na_value=np.nan)
        x = x[np.isfinite(x)]
        if not len(x):
            return None
        inner = np.quantile(x, np.arange(1, bins) / bins, method="inverted_cdf")
        inner = np.array([float(f"{edge:.{_DIGITS}g}") for edge in inner])
        inner = inner[(inner > x.min()) & (inner < x.max())]
        return _numeric(name, np.unique([x.min(), *inner, x.max()]))
    names = [text for text in group_values(column)[1] if text != MISSING]
    return Feature(name, tuple(names), values=tuple(names)) if len(names) > 1 else None


def _numeric(name: str, edges: np.ndarray) -> Feature:
    ends = tuple(float(edge) for edge in edges)
    return Feature(name, tuple(f"{low:.4g} to {high:.4g}" for low, high in itertools.pairwise(ends)), edges=ends)


class Combination(NamedTuple):
    """Counts of the combinations of some features.

    Attributes:
        features: Their numbers.
        shape: Their numbers of cells.
        possible: (product of shape,) bool.
        rows: (product of shape,) rows that show each.
        others: The same for other rows, such as those of the train split; None without any.
    """

    features: tuple[int, ...]
    shape: tuple[int, ...]
    possible: np.ndarray
    rows: np.ndarray
    others: np.ndarray | None


class Unseen(NamedTuple):
    """How many rows hold a combination that no other row holds, and what that says of the next row."""

    alone: int
    estimate: Estimate


def combinations(
    sizes: Sequence[int],
    codes: np.ndarray,
    strength: int,
    *,
    impossible: Sequence[Mapping[int, int]] = (),
    others: np.ndarray | None = None,
) -> list[Combination]:
    """Counts of all combinations of `strength` features.

    Args:
        sizes: (d,) number of cells of each feature.
        codes: (n, d) cells of the rows, `OUTSIDE` where in none.
        strength: Features in a combination, at least 1.
        impossible: Combinations that do not occur, as cells by feature, and with them all that contain them.
        others: (m, d) cells of other rows.

    Returns:
        One a set of features.
    """
    found = []
    codes, others = np.asfortranarray(codes), None if others is None else np.asfortranarray(others)
    for chosen in itertools.combinations(range(len(sizes)), strength):
        shape = tuple(sizes[feature] for feature in chosen)
        possible = np.ones(shape, dtype=bool)
        for ruled in impossible:
            if set(ruled) <= set(chosen):
                possible[tuple(ruled.get(feature, slice(None)) for feature in chosen)] = False
        rows = _counts(codes, chosen, shape)
        seen = None if others is None else _counts(others, chosen, shape)
        found.append(Combination(chosen, shape, possible.ravel(), rows, seen))
    return found


def _flat(codes: np.ndarray, chosen: tuple[int, ...], shape: tuple[int, ...]) -> np.ndarray:
    """(n,) number of the combination of each row, `OUTSIDE` where a feature is in no cell."""
    flat = codes[:, chosen[0]]
    for feature, size in zip(chosen[1:], shape[1:], strict=True):
        column = codes[:, feature]
        outside = (flat == OUTSIDE) | (column == OUTSIDE)
        flat = flat * size + column
        if outside.any():
            flat[outside] = OUTSIDE
    return flat


def _counts(codes: np.ndarray, chosen: tuple[int, ...], shape: tuple[int, ...]) -> np.ndarray:
    return np.bincount(_flat(codes, chosen, shape) + 1, minlength=math.prod(shape) + 1)[1:]


def covered(found: Sequence[Combination], minimum: int) -> tuple[int, int]:
    """Possible combinations with at least `minimum` rows, and all possible ones."""
    return sum(int(((one.rows >= minimum) & one.possible).sum()) for one in found), sum(
        int(one.possible.sum()) for one in found
    )


def covered_of_others(found: Sequence[Combination], minimum: int) -> tuple[int, int]:
    """Possible combinations that other rows show and these rows show often enough, and all that others show."""
    known = [(one, one.possible & (one.others > 0)) for one in found if one.others is not None]
    return sum(int(((one.rows >= minimum) & there).sum()) for one, there in known), sum(
        int(there.sum()) for _, there in known
    )


def unseen(found: Sequence[Combination], codes: np.ndarray) -> Unseen:
    """Probability that the next row holds a combination that none of these rows holds, by leaving rows out.

    A row that holds a combination by itself would be new to the others. The share of such rows estimates the
    probability; for one set of features it is the estimate of Good and Turing (Good 1953, Biometrika 40:237). Its mean
    squared error is at most (S (1 - S/n) + D) / n^2 for S such rows and D ordered pairs of rows of which one makes the
    other, otherwise not alone, alone by leaving; for one set of features that is Esty's variance (Esty 1983, Ann.
    Statist. 11:905). The interval is normal, with one row alone and one not alone added. Measured coverage at nominal
    95 %: 93 to 100 % over 36 settings of 50 to 1000 rows, 1 to 10 features, 1 to 3 at a time.

    Args:
        found: Counts of all sets of features.
        codes: (n, d) the rows that were counted, n at least 1.

    Returns:
        Rows alone and the probability with its interval.
    """
    n, codes = len(codes), np.asfortranarray(codes)
    alone = np.zeros(n, dtype=bool)
    partners: list[np.ndarray] = []
    for one in found:
        if not ((one.rows == 1) | (one.rows == 2)).any():
            continue
        flat = _flat(codes, one.features, one.shape)
        times = np.where(flat == OUTSIDE, 0, one.rows[flat])
        alone |= times == 1
        two = np.flatnonzero(times == 2)
        if len(two):
            pairs = two[np.argsort(flat[two], kind="stable")].reshape(-1, 2)
            partners += [pairs[:, 0] * n + pairs[:, 1], pairs[:, 1] * n + pairs[:, 0]]
    made = np.unique(np.concatenate(partners)) if partners else np.zeros(0, dtype=np.int64)
    single, leaving = int(alone.sum()), int((~alone[made % n]).sum())
    value, centre = single / n, (single + 1) / (n + 2)
    variance = (single + 1) * (1 - single / (n + 1)) + leaving
    half = float(ndtri(0.5 + CONFIDENCE / 2)) * math.sqrt(variance) / n
    low, high = max(0.0, min(value, centre - half)), min(1.0, max(value, centre + half))
    return Unseen(single, Estimate(value, 0.0 if single == 0 else low, high))


class Gap(NamedTuple):
    """A combination with too few rows.

    Attributes:
        features: Numbers of its features.
        cells: Numbers of its cells.
        rows: Rows that show it.
        others: Other rows that show it, or None.
        expected: Rows that would show it if features were independent of each other.
    """

    features: tuple[int, ...]
    cells: tuple[int, ...]
    rows: int
    others: int | None
    expected: float


def gaps(found: Sequence[Combination], codes: np.ndarray, minimum: int, most: int) -> list[Gap]:
    """Possible combinations with fewer than `minimum` rows, first those that other rows show most, then the likeliest.

    Args:
        found: Counts of all sets of features.
        codes: (n, d) the rows that were counted.
        minimum: Rows that are enough.
        most: Gaps to give.

    Returns:
        The gaps.
    """
    n = max(1, len(codes))
    empty: list[tuple[float, float, Gap]] = []
    for one in found:
        shares = [np.bincount(codes[codes[:, f] != OUTSIDE, f], minlength=size) / n
                  for f, size in zip(one.features, one.shape, strict=True)]  # fmt: skip
        expected = np.ones(1)
        for share in shares:
            expected = np.multiply.outer(expected, share).ravel()
        missing = np.flatnonzero(one.possible & (one.rows < minimum))
        seen = np.zeros(len(one.rows)) if one.others is None else one.others
        for place in missing[np.lexsort((-expected[missing], -seen[missing]))][:most].tolist():
            cells = tuple(int(part) for part in np.unravel_index(place, one.shape))
            known = None if one.others is None else int(seen[place])
            gap = Gap(one.features, cells, int(one.rows[place]), known, float(n * expected[place]))
            empty.append((-float(seen[place]), -gap.expected, gap))
    empty.sort(key=lambda item: (item[0], item[1], item[2].features, item[2].cells))
    return [gap for _, _, gap in empty[:most]]
