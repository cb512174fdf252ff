"""Groups of rows, told by one to three conditions on columns, in which a model does worse: the search.

In the spirit of Slice Finder (Chung and others 2019, arXiv 1807.06068). Who searches thousands of groups always finds
a bad one; `_halves` puts what was found to the test in rows that were not searched.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from assessor.contract import Condition as Rule
from assessor_checks._groups import MISSING, group_values, uncut

MOST_CONDITIONS = 600  # single conditions that are joined; of more, those with the worst loss
BEAM = 100  # pairs of conditions to which a third is joined
ALIKE = 0.5  # groups that share more than this part of their rows (Jaccard) count as one
_LOOKED_AT = 400  # worst groups among which different ones are picked
_ROWS = 16_384  # rows worked on at once
_DIGITS = 4  # significant digits of an edge, so that the printed condition is the one that was used


class Condition(NamedTuple):
    """A condition on one column, in words; `column` is its number, `rule` the same for a machine."""

    column: int
    text: str
    rule: Rule


class Conditions(NamedTuple):
    """Conditions and the rows that meet them.

    Attributes:
        names: (K,) the conditions.
        members: (n, K) bool.
        skipped: Columns that cannot be cut into groups.
    """

    names: tuple[Condition, ...]
    members: np.ndarray
    skipped: tuple[str, ...]


class Found(NamedTuple):
    """Groups that a search picked, the worst first, as numbers of their conditions, and how many it looked at."""

    slices: tuple[tuple[int, ...], ...]
    searched: int


def conditions(table: pd.DataFrame, *, bins: int, least: int) -> Conditions:
    """Conditions on every column of a table.

    A number with more than ten distinct values is cut at its quantiles: at most, more than, between two neighbouring
    ones. Any other column has one condition a value; missing values are one of their own.

    Args:
        table: (n, d) columns.
        bins: Quantile bins of a number.
        least: Rows that must meet a condition, and that must not.

    Returns:
        Conditions met by enough rows.
    """
    names: list[Condition] = []
    members: list[np.ndarray] = []
    skipped = []
    for number, title in enumerate(table.columns):
        column = table.iloc[:, number]
        if uncut(column) and not _is_quantity(column):
            skipped.append(str(title))
            continue
        for rule, met in _cut(str(title), column, bins) if uncut(column) else _values(str(title), column):
            if least <= int(met.sum()) <= len(met) - least:
                names.append(Condition(number, rule.told, rule))
                members.append(met)
    stacked = np.stack(members, axis=1) if members else np.zeros((len(table), 0), dtype=bool)
    return Conditions(tuple(names), stacked, tuple(skipped))


def _is_quantity(column: pd.Series) -> bool:
    kind = column.dropna().infer_objects().dtype
    return pd.api.types.is_numeric_dtype(kind) and not pd.api.types.is_bool_dtype(kind)


def _values(title: str, column: pd.Series) -> list[tuple[Rule, np.ndarray]]:
    codes, names = group_values(column)
    return [
        (Rule(column=title, missing=True) if name == MISSING else Rule(column=title, equals=name), codes == code)
        for code, name in enumerate(names)
    ]


def _cut(title: str, column: pd.Series, bins: int) -> list[tuple[Rule, np.ndarray]]:
    values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    missing = np.isnan(values)
    quantiles = np.quantile(values[~missing], np.arange(1, bins) / bins, method="inverted_cdf")
    edges = sorted({float(f"{edge:.{_DIGITS}g}") for edge in quantiles if np.isfinite(edge)})
    found = [(Rule(column=title, missing=True), missing)]
    for edge in edges:
        found += [(Rule(column=title, at_most=edge), values <= edge), (Rule(column=title, above=edge), values > edge)]
    for low, high in itertools.pairwise(edges):
        found.append((Rule(column=title, above=low, at_most=high), (values > low) & (values <= high)))
    return found


def search(
    members: np.ndarray, columns: Sequence[int], losses: np.ndarray, *, depth: int, least: int, most: int
) -> Found:
    """The groups with the clearest excess of the mean loss.

    A group's score is its standard score when losses are permuted. A conjunction must score above each shorter one in
    it; of groups that share most of their rows the best stands for all. Pairs of conditions are all looked at (of many
    conditions those of the `MOST_CONDITIONS` worst), triples that continue one of the `BEAM` worst pairs.

    Args:
        members: (n, K) bool, rows by condition.
        columns: (K,) column of each condition; conditions on one column are not joined.
        losses: (n,) of the rows.
        depth: Conditions in a conjunction, 1 to 3.
        least: Fewest rows inside and outside.
        most: Groups to pick.

    Returns:
        What was found; nothing where all losses are equal.
    """
    scale = float(losses.std(ddof=1)) if len(losses) > 1 else 0.0
    if scale == 0.0 or not members.shape[1]:
        return Found((), 0)
    centred = ((losses - losses.mean()) / scale).astype(np.float32)
    one = _scores(members, np.zeros((1, 0), dtype=np.int64), centred, least)[0]
    kept = np.sort(np.argsort(-np.nan_to_num(one, nan=-np.inf), kind="stable")[:MOST_CONDITIONS])
    members, one, own = members[:, kept], one[kept], np.asarray(columns)[kept]
    levels = [_Level(np.arange(len(kept))[:, None], one)]
    searched = int(np.isfinite(one).sum())
    if depth > 1:
        two = _scores(members, levels[0].parts, centred, least)
        two[own[:, None] == own] = np.nan
        first, second = np.nonzero(np.triu(np.isfinite(two), 1))
        pairs = _Level(np.stack([first, second], axis=1), two[first, second])
        levels.append(pairs.above(np.fmax(one[first], one[second])))
        searched += len(first)
        if depth > 2:
            triples = _triples(members, own, levels[1].best(BEAM).parts, centred, least)
            a, b, c = triples.parts.T
            levels.append(triples.above(np.fmax(two[a, b], np.fmax(two[a, c], two[b, c]))))
            searched += len(triples.parts)
    picked = _different(members, levels, most)
    return Found(tuple(tuple(kept[list(parts)].tolist()) for parts in picked), searched)


class _Level(NamedTuple):
    """Conjunctions of equal length: (L, p) conditions, and (L,) scores."""

    parts: np.ndarray
    scores: np.ndarray

    def best(self, count: int) -> _Level:
        order = np.argsort(-self.scores, kind="stable")[:count]
        return _Level(self.parts[order], self.scores[order])

    def above(self, bound: np.ndarray) -> _Level:
        clear = self.scores > np.nan_to_num(bound, nan=-np.inf)
        return _Level(self.parts[clear], self.scores[clear])


def _triples(members: np.ndarray, own: np.ndarray, pairs: np.ndarray, centred: np.ndarray, least: int) -> _Level:
    """Every pair with every condition on a third column, each triple once."""
    scores = _scores(members, pairs, centred, least)
    elsewhere = (own[pairs[:, 0], None] != own) & (own[pairs[:, 1], None] != own)
    row, last = np.nonzero(np.isfinite(scores) & elsewhere)
    parts = np.sort(np.column_stack([pairs[row], last]), axis=1).reshape(-1, 3)
    _, once = np.unique(parts @ np.array([len(own) ** 2, len(own), 1]), return_index=True)
    return _Level(parts[once], scores[row, last][once])


def _scores(members: np.ndarray, level: np.ndarray, centred: np.ndarray, least: int) -> np.ndarray:
    """(L, K) standard scores of each conjunction (L, p) joined with each condition; NaN where rows are too few."""
    n, shape = len(members), (len(level), members.shape[1])
    rows, sums = np.zeros(shape), np.zeros(shape)
    for start in range(0, n, _ROWS):
        block = members[start : start + _ROWS]
        inside, right = block[:, level].all(axis=2).astype(np.float32), block.astype(np.float32)
        rows += inside.T @ right
        sums += inside.T @ (right * centred[start : start + _ROWS, None])
    enough = (rows >= least) & (n - rows >= least)
    return np.where(enough, sums / np.sqrt(np.where(enough, rows * (1 - rows / n), 1.0)), np.nan)


def _different(members: np.ndarray, levels: Sequence[_Level], most: int) -> list[tuple[int, ...]]:
    """The best groups that are no near copies of better ones; of equal ones the shortest."""
    ranked: list[tuple[float, int, tuple[int, ...]]] = []
    for level in levels:
        best = level.best(_LOOKED_AT)
        pairs = zip(best.parts.tolist(), best.scores.tolist(), strict=True)
        ranked += [(-round(score, 6), len(parts), tuple(parts)) for parts, score in pairs if score > 0]
    picked: list[tuple[int, ...]] = []
    chosen = np.zeros((0, len(members)), dtype=bool)
    for _, _, parts in sorted(ranked)[:_LOOKED_AT]:
        inside = np.asarray(members[:, list(parts)].all(axis=1))
        shared = (chosen & inside).sum(axis=1)
        if (shared <= ALIKE * (chosen.sum(axis=1) + inside.sum() - shared)).all():
            picked.append(parts)
            chosen = np.concatenate([chosen, inside[None]])
        if len(picked) == most:
            break
    return picked
