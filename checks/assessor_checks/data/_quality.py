"""Faults that can be seen in the data themselves: missing values and codes for them, copies, conflicts, odd columns."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from assessor.contract import progress
from assessor_checks._near_duplicates import repeated, same_rows

FEW = 20  # distinct values up to which whole numbers may be codes of categories
_ROBUST_Z = 3.5  # Iglewicz and Hoaglin 1993, "How to detect and handle outliers": cut for 0.6745 |x - median| / MAD
_NORMAL_QUARTILE = 0.6744897501960817  # of the standard normal; MAD over it estimates the standard deviation
_FENCE = 1.5  # interquartile ranges beyond the quartiles (Tukey 1977)
_NEAREST = 5  # distinct values next to a spike that its count is compared with
_SPIKE = 5  # times as often as any of those
_SIDE_BY_SIDE = 3
_MOST_CODES = 3  # on each side of a column
_SHUFFLED = 20_000_000  # numbers in the copy that is shuffled
_FILLS = frozenset(
    {
        *(1e20, 1e30, 1e36, 9.969209968386869e36, float(np.finfo(np.float32).max), float(np.finfo(np.float64).max)),
        *(32767.0, 65535.0, 2147483647.0, 4294967295.0, 9223372036854775807.0, 32768.0, 2147483648.0),
    }
)
"""Values that programs write where there is none: 1e20 and 9.97e36 (netCDF), greatest integers and floats."""
_TEXTS = frozenset({"", "?", "-", "--", ".", "na", "n/a", "nan", "none", "null", "nil", "unknown", "missing", "#n/a"})


class Column(NamedTuple):
    """What one column looks like.

    Attributes:
        missing: NaN values.
        infinite: Infinite values.
        distinct: Distinct finite values.
        top: Share of the most frequent value, among all rows.
        kind: "empty", "constant", "two values", "few whole numbers", "whole numbers" or "continuous".
        codes: Values that look like codes for a missing value, with their counts.
        far: Rows more than 3.5 robust standard deviations from the median; None where half the rows are equal.
        beyond: Rows more than 1.5 interquartile ranges beyond a quartile; None where the quartiles are equal.
    """

    missing: int
    infinite: int
    distinct: int
    top: float
    kind: str
    codes: tuple[tuple[float, int], ...]
    far: int | None
    beyond: int | None


def column(
    values: np.ndarray, codes: Sequence[float] = (), elsewhere: Collection[float] = ()
) -> tuple[Column, np.ndarray]:
    """Look at one column.

    Args:
        values: (n,) float64.
        codes: Values known to stand for a missing one; taken out before anything else is looked at.
        elsewhere: Usual codes suspected in other columns, for which a single row is enough.

    Returns:
        What was found, and (n,) bool, which rows are far from the median; what looks like a code is no outlier.
    """
    finite = np.isfinite(values) & ~np.isin(values, codes)
    found, counts = np.unique(values[finite], return_counts=True)
    suspects = suspected_codes(found, counts, elsewhere)
    kept = finite & ~np.isin(values, [value for value, _ in suspects])
    far, beyond = outliers(values, kept)
    top = max(int(counts.max(initial=0)), int(np.isnan(values).sum())) / max(1, len(values))
    kind = _kind(np.setdiff1d(found, [value for value, _ in suspects]))
    seen = Column(
        missing=int(np.isnan(values).sum()),
        infinite=int(np.isinf(values).sum()),
        distinct=len(found),
        top=top,
        kind=kind,
        codes=suspects,
        far=None if far is None else int(far.sum()),
        beyond=None if beyond is None else int(beyond.sum()),
    )
    return seen, np.zeros(len(values), dtype=bool) if far is None else far


def _kind(found: np.ndarray) -> str:
    if len(found) < 3:
        return ("empty", "constant", "two values")[len(found)]
    if (found != np.round(found)).any():
        return "continuous"
    return "few whole numbers" if len(found) <= FEW else "whole numbers"


def suspected_codes(
    found: np.ndarray, counts: np.ndarray, elsewhere: Collection[float] = ()
) -> tuple[tuple[float, int], ...]:
    """Values at either end of a column that look as if they stood for a missing one, such as -999.

    A value counts when it lies beyond Tukey's fence of the rest and more than an interquartile range away from it, and
    occurs twice and is written in nines or eights or is a usual fill value, or else in at least 5 rows and 0.5 % of
    all, and five times as often as any of the five values next to it. A number in nines needs no distance when it is
    such a spike, and no fence when it is the only negative one (nor do -1 and -9). Codes come side by side (997, 998,
    999): values at most 3 apart do not hide each other, and the neighbour of a usual code counts as one.

    Args:
        found: (k,) distinct finite values, ascending.
        counts: (k,) how often each occurs.
        elsewhere: Usual codes suspected in other columns, for which a single row is enough.

    Returns:
        Suspected values with counts, at most three a side.

    >>> suspected_codes(np.array([-999.0, *range(20, 80)]), np.array([7] + [2] * 60))
    ((-999.0, 7),)
    """
    low, high = 0, len(found)
    suspects = []
    for side in (0, -1):
        last = np.inf
        for _ in range(_MOST_CODES):
            if high - low < 3:
                break
            rest = slice(low + 1, high) if side == 0 else slice(low, high - 1)
            value, count = float(found[low:high][side]), int(counts[low:high][side])
            usual = _usual(value) or abs(value - last) <= _SIDE_BY_SIDE
            seen = count + (value in elsewhere)
            if not _is_code(value, seen, found[rest], counts[rest], side, usual=usual):
                break
            suspects.append((value, count))
            last = value if usual else last
            low, high = rest.start, rest.stop
    return tuple(suspects)


def _is_code(value: float, count: int, rest: np.ndarray, counts: np.ndarray, side: int, *, usual: bool) -> bool:
    first, third = _quartiles(rest, counts)
    spread = third - first or float(rest[-1] - rest[0])
    apart = np.abs(value - rest)
    apart = apart[apart > _SIDE_BY_SIDE] if usual else apart[side, None]
    gap = float(apart.min()) if len(apart) else 0.0
    if value < 0 <= rest[0] and gap > 1 and count >= 2 and (usual or value in {-1.0, -9.0}):
        return True
    if not (value < first - _FENCE * spread or value > third + _FENCE * spread):
        return False
    near = counts[:_NEAREST] if side == 0 else counts[-_NEAREST:]
    spike = count >= 5 and count >= _SPIKE * int(near.max())
    if usual:
        return spike or (count >= 2 and gap > spread)
    return spike and gap > spread and count >= 0.005 * (count + int(counts.sum()))


def _usual(value: float) -> bool:
    """Whether people or programs write this number where there is none."""
    digits = f"{abs(value):.0f}"
    repeated = len(digits) > 1 and set(digits) in ({"9"}, {"8"}) and abs(value) == round(abs(value))
    return repeated or abs(value) in _FILLS


def _quartiles(found: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
    """Quartiles of values that occur several times: the least value with a quarter, three quarters at or below it."""
    below = np.cumsum(counts)
    first, third = np.searchsorted(below, np.array([0.25, 0.75]) * below[-1])
    return float(found[first]), float(found[third])


def outliers(values: np.ndarray, kept: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Rows far from the rest of their column, by two rules; neither says that a value is wrong.

    Args:
        values: (n,) float64.
        kept: (n,) bool, which values to look at.

    Returns:
        (n,) bool: 0.6745 |x - median| / MAD above 3.5 (Iglewicz and Hoaglin 1993), and beyond Tukey's inner fences;
        None where the MAD, or the interquartile range, is 0.
    """
    inside = values[kept]
    if not len(inside):
        return None, None
    first, median, third = np.quantile(inside, [0.25, 0.5, 0.75])
    mad, spread = float(np.median(np.abs(inside - median))), third - first
    filled = np.where(kept, values, median)
    far = np.abs(filled - median) * _NORMAL_QUARTILE > _ROBUST_Z * mad if mad > 0 else None
    beyond = (filled < first - _FENCE * spread) | (filled > third + _FENCE * spread) if spread > 0 else None
    return far, beyond


class Copies(NamedTuple):
    """Rows with the same features.

    Attributes:
        clumps: (n,) number of the distinct input of each row.
        repeats: (n,) bool, rows that repeat an earlier one, label included.
        conflicts: (n,) bool, rows whose input occurs with more than one label.
        minority: (n,) bool, rows that a model must get wrong if it gets the most rows of their input right.
    """

    clumps: np.ndarray
    repeats: np.ndarray
    conflicts: np.ndarray
    minority: np.ndarray


def copies(features: np.ndarray, labels: np.ndarray) -> Copies:
    """Find rows with the same features and compare their labels.

    A function of the features gives all rows of one input the same answer, so it errs at least on those whose label
    is not the most frequent one there.

    Args:
        features: (n, ...) numbers.
        labels: (n,) labels.

    Returns:
        Flags by row.
    """
    clumps = same_rows(features)[0]
    names = np.unique(labels, return_inverse=True)[1].reshape(-1)
    pairs, place, counts = np.unique(np.stack([clumps, names]), axis=1, return_inverse=True, return_counts=True)
    place = place.reshape(-1)
    conflicts = np.bincount(pairs[0], minlength=int(clumps.max()) + 1)[clumps] > 1
    order = np.lexsort((pairs[1], -counts, pairs[0]))
    leading = order[np.unique(pairs[0][order], return_index=True)[1]]
    minority = leading[clumps] != place
    repeats = np.ones(len(labels), dtype=bool)
    repeats[np.unique(place, return_index=True)[1]] = False
    return Copies(clumps, repeats, conflicts, minority)


class Look(NamedTuple):
    """What was found in one split.

    Attributes:
        split: Its name.
        names: (d,) names of the columns, "#0" where they have none.
        columns: (d,) what each looks like; empty where the inputs are no table.
        copies: Rows with the same features.
        flags: (n,) bool by fault: "missing", "infinite", "code", "out_of_range", "duplicate", "conflict", "outlier".
        chance: Share of rows that would repeat another by chance, at least.
    """

    split: str
    names: tuple[str, ...]
    columns: tuple[Column, ...]
    copies: Copies
    flags: dict[str, np.ndarray]
    chance: float

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.copies.clumps)


def look(
    features: np.ndarray,
    labels: np.ndarray,
    names: tuple[str, ...],
    *,
    split: str,
    codes: Sequence[float] = (),
    ranges: Mapping[str, tuple[float | None, float | None]],
    seed: int = 0,
) -> Look:
    """Look for all faults in one split.

    Args:
        features: (n, ...) numbers, n at least 1; only tables (n, d) are looked at column by column.
        labels: (n,) labels.
        names: Names of the columns, as many as a row has numbers.
        split: Its name.
        codes: Values known to stand for a missing one.
        ranges: Least and greatest possible value, by column; None for no end.
        seed: Of the shuffling.

    Returns:
        The findings.
    """
    n, flat = len(features), features.reshape(len(features), -1)
    found, columns = copies(features, labels), []
    flags = {fault: np.zeros(n, dtype=bool) for fault in ("missing", "infinite", "code", "out_of_range", "outlier")}
    flags |= {"duplicate": found.repeats, "conflict": found.conflicts}
    elsewhere = _usual_codes(flat, codes) if features.ndim == 2 else set()
    for index in range(flat.shape[1]):
        values = flat[:, index].astype(np.float64)
        flags["missing"] |= np.isnan(values)
        flags["infinite"] |= np.isinf(values)
        if features.ndim != 2:
            continue
        progress("looking at columns", index, flat.shape[1])
        seen, far = column(values, codes, elsewhere)
        columns.append(seen)
        flags["code"] |= np.isin(values, [*codes, *(value for value, _ in seen.codes)])
        flags["outlier"] |= far
        low, high = ranges.get(names[index], (None, None))
        flags["out_of_range"] |= values < (-np.inf if low is None else low)
        flags["out_of_range"] |= values > (np.inf if high is None else high)
    return Look(split, names, tuple(columns), found, flags, chance_repeats(features, seed))


def _usual_codes(table: np.ndarray, codes: Sequence[float]) -> set[float]:
    """Usual codes suspected in any column of a table (n, d)."""
    found: set[float] = set()
    for index in range(table.shape[1]):
        values = table[:, index].astype(np.float64)
        kept = values[np.isfinite(values) & ~np.isin(values, codes)]
        suspects = suspected_codes(*np.unique(kept, return_counts=True))
        found |= {value for value, _ in suspects if _usual(value)}
    return found


def least_error(clumps: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """(n,) squared distance of each target from the mean over the rows with its input.

    Their mean is the least mean squared error that any function of the features can have on these rows.
    """
    sizes = np.bincount(clumps)
    return np.asarray((targets - (np.bincount(clumps, weights=targets) / np.maximum(sizes, 1))[clumps]) ** 2)


def chance_repeats(features: np.ndarray, seed: int) -> float:
    """Share of rows that repeat an earlier one when every column is shuffled by itself.

    What coarse data give without any copying; an underestimate where columns depend on each other.

    Args:
        features: (n, ...) numbers.
        seed: Of the shuffling.

    Returns:
        Share of rows, of at most as many as fit the memory set aside.
    """
    flat = features.reshape(len(features), -1)
    rows = flat[: max(1, _SHUFFLED // max(1, flat.shape[1]))]
    mixed = np.random.default_rng(seed).permuted(rows, axis=0)
    return 1 - (int(same_rows(mixed)[0].max(initial=-1)) + 1) / max(1, len(mixed))


def written_missing(values: pd.Series) -> tuple[int, int, bool]:
    """Missing values of a column of attributes.

    Args:
        values: Any dtype.

    Returns:
        Missing values; texts that stand for one, such as "n/a"; whether numbers and texts are mixed.
    """
    there = values.dropna()
    texts = [value for value in there.tolist() if isinstance(value, str)]
    coded = sum(text.strip().lower() in _TEXTS for text in texts)
    return int(values.isna().sum()), coded, 0 < len(texts) - coded < len(there) - coded


def same_columns(features: np.ndarray) -> list[tuple[int, int]]:
    """Columns of (n, d) features that equal an earlier one in every row and vary: (first of its kind, later one).

    >>> same_columns(np.array([[1.0, 2.0, 1.0], [3.0, 4.0, 3.0]]))
    [(0, 2)]
    """
    pairs = repeated(np.ascontiguousarray(features.T))
    varies = (features != features[0]).any(axis=0)
    return [(int(i), int(j)) for i, j in zip(pairs.first, pairs.second, strict=True) if varies[i]]
