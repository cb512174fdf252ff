"""Tests of groups in rows that did not pick them: search in one half, test in the other, both ways.

The half of the rows that found a group says nothing about it. The other half tests the few that were picked, adjusted
for their number (Holm 1979), and both halves take both parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import betaincinv, gammaln, ndtr, ndtri, stdtrit

from assessor_checks._gaps import holm
from assessor_checks._intervals import CONFIDENCE, Estimate
from assessor_checks.reliability import _slices

POWER = 0.8
_NORMAL = 10_000  # rows from which a permutation test takes its normal limit
_CHUNK = 4_000_000  # entries of permuted losses held at once


class Candidate(NamedTuple):
    """A group in the half that did not pick it.

    Attributes:
        parts: Its conditions.
        rows: Rows of the half inside it.
        inside: Mean loss inside.
        outside: Mean loss of the half's other rows.
        low: Lower limit of the difference, simultaneous over all groups that are tested.
        high: Upper limit of the difference, by itself.
        p_value: Of losses that do not depend on the group, one-sided.
        p_holm: The same after Holm, over all groups of both halves.
    """

    parts: tuple[int, ...]
    rows: int
    inside: float
    outside: float
    low: float
    high: float
    p_value: float
    p_holm: float

    @property
    def gap(self) -> float:
        """Mean loss inside minus outside."""
        return self.inside - self.outside


class Search(NamedTuple):
    """What a search both ways found.

    Attributes:
        conditions: What groups are made of.
        found: Groups tested, the clearest first.
        searched: Groups looked at in the half where there were more.
        held: Losses of the half that tested first, for what could be detected.
    """

    conditions: _slices.Conditions
    found: tuple[Candidate, ...]
    searched: int
    held: np.ndarray


def both_ways(
    table: pd.DataFrame,
    losses: np.ndarray,
    seed: int,
    *,
    depth: int,
    bins: int,
    least: int,
    most: int,
    permutations: int,
) -> Search:
    """Search each half of the rows for weak groups and test them in the other.

    Args:
        table: (n, d) columns.
        losses: (n,) loss of each row.
        seed: Of the split into halves and of the permutations.
        depth: Conditions in a conjunction, 1 to 3.
        bins: Quantile bins of a number.
        least: Fewest rows of a group, and of the rest, in each half.
        most: Groups that each half puts to the test.
        permutations: Behind each p-value of losses other than 0 and 1.

    Returns:
        What was found; nothing where no group has rows enough or losses are equal.
    """
    made = _slices.conditions(table, bins=bins, least=2 * least)
    order = np.random.default_rng(seed).permutation(len(losses))
    halves = np.sort(order[: len(order) // 2]), np.sort(order[len(order) // 2 :])
    columns = [name.column for name in made.names]
    picks = [
        _slices.search(made.members[half], columns, losses[half], depth=depth, least=least, most=most)
        for half in halves
    ]
    tests = max(1, sum(len(pick.slices) for pick in picks))
    results = [
        put_to_test(
            made.members[other],
            losses[other],
            pick.slices,
            tests=tests,
            permutations=permutations,
            rng=np.random.default_rng([seed, place]),
            least=least,
        )
        for place, (pick, other) in enumerate(zip(picks, halves[::-1], strict=True))
    ]
    found = sorted(
        (one for half in adjusted(results) for one in half), key=lambda one: (one.p_holm, one.p_value, -one.gap)
    )
    return Search(made, tuple(found), max(pick.searched for pick in picks), losses[halves[1]])


def put_to_test(
    members: np.ndarray,
    losses: np.ndarray,
    slices: Sequence[tuple[int, ...]],
    *,
    tests: int,
    permutations: int,
    rng: np.random.Generator,
    least: int,
) -> list[Candidate]:
    """Groups in rows that did not pick them, without Holm's adjustment yet.

    Args:
        members: (n, K) bool.
        losses: (n,) of the rows; where all are 0 or 1 the tests are exact.
        slices: Groups; those with fewer than `least` rows inside or outside are left out.
        tests: Number of tests that the lower limits hold for together.
        permutations: Behind each p-value of losses other than 0 and 1.
        rng: Source of the permutations.
        least: Fewest rows inside and outside.

    Returns:
        One a group.
    """
    inside = (
        np.stack([members[:, parts].all(axis=1) for parts in slices]) if slices else np.zeros((0, len(losses)), bool)
    )
    rows: np.ndarray = inside.sum(axis=1)
    enough: np.ndarray = (rows >= least) & (len(losses) - rows >= least)
    inside, named = inside[enough], [one for one, fits in zip(slices, enough, strict=True) if fits]
    if not named:
        return []
    binary = bool(np.isin(losses, (0.0, 1.0)).all())
    p_values = _exact(inside, losses) if binary else _permuted(inside, losses, permutations, rng)
    tail = (1 - CONFIDENCE) / 2
    limits = _hybrid if binary else _welch
    low, high = limits(inside, losses, tail / tests)[0], limits(inside, losses, tail)[1]
    low = np.where(p_values > tail / tests, np.minimum(low, 0.0), low)  # what no test confirms is not above 0
    found = []
    for parts, one, lower, upper, p in zip(named, inside, low.tolist(), high.tolist(), p_values.tolist(), strict=True):
        means = float(losses[one].mean()), float(losses[~one].mean())
        found.append(Candidate(parts, int(one.sum()), means[0], means[1], lower, upper, p, p))
    return found


def adjusted(halves: Sequence[Sequence[Candidate]]) -> list[list[Candidate]]:
    """P-values after Holm within each half's tests, times the number of halves that have some."""
    used = sum(bool(half) for half in halves)
    return [
        [
            one._replace(p_holm=min(1.0, used * p))
            for one, p in zip(half, holm([one.p_value for one in half]), strict=True)
        ]
        for half in halves
    ]


def _exact(inside: np.ndarray, losses: np.ndarray) -> np.ndarray:
    """P-values of Fisher's exact test, one-sided: at least so many errors inside, given all margins."""
    n, errors = len(losses), int(losses.sum())
    found = []
    for one in inside:
        size, hits = int(one.sum()), int(losses[one].sum())
        counts = np.arange(hits, min(size, errors) + 1)
        logs = _log_choose(errors, counts) + _log_choose(n - errors, size - counts) - _log_choose(n, np.array([size]))
        found.append(min(1.0, float(np.exp(logs[size - counts <= n - errors]).sum())))
    return np.array(found)


def _log_choose(n: int, k: np.ndarray) -> np.ndarray:
    found: np.ndarray = gammaln(n + 1) - gammaln(k + 1) - gammaln(np.maximum(n - k, 0) + 1)
    return found


def _permuted(inside: np.ndarray, losses: np.ndarray, permutations: int, rng: np.random.Generator) -> np.ndarray:
    """P-values by permuting losses over rows; from `_NORMAL` rows on from the normal limit of that distribution."""
    n, sums, rows = len(losses), inside @ losses, inside.sum(axis=1)
    if n >= _NORMAL:
        spread = np.sqrt(losses.var(ddof=1) * rows * (1 - rows / n))
        return np.asarray(ndtr(-(sums - rows * losses.mean()) / np.where(spread > 0, spread, np.inf)))
    weights, reached, step = inside.T.astype(np.float64), np.zeros(len(inside)), max(1, _CHUNK // n)
    slack = 1e-9 * max(1.0, float(np.abs(losses).sum()))
    for start in range(0, permutations, step):
        drawn = rng.permuted(np.tile(losses, (min(step, permutations - start), 1)), axis=1)
        reached += (drawn @ weights >= sums - slack).sum(axis=0)
    return (1 + reached) / (1 + permutations)


def _hybrid(inside: np.ndarray, losses: np.ndarray, tail: float) -> tuple[np.ndarray, np.ndarray]:
    """Limits of the difference of two shares, from those of Clopper and Pearson of each.

    Newcombe 1998 (Stat. Med. 17:873), method 10, with exact instead of Wilson's limits: in the far tails that many
    groups ask for, Wilson's are too narrow (under equal shares the largest of 20 lower limits left 0 in 6 % of
    simulations instead of 2.5 %).
    """
    hits, rows = inside @ losses, inside.sum(axis=1)
    other, left = losses.sum() - hits, len(losses) - rows
    (low, high), (below, above) = _clopper_pearson(hits, rows, tail), _clopper_pearson(other, left, tail)
    first, second = hits / rows, other / left
    gap = first - second
    return gap - np.hypot(first - low, above - second), gap + np.hypot(high - first, second - below)


def _clopper_pearson(hits: np.ndarray, rows: np.ndarray, tail: float) -> tuple[np.ndarray, np.ndarray]:
    low = np.where(hits > 0, betaincinv(np.maximum(hits, 1), rows - hits + 1, tail), 0.0)
    high = np.where(hits < rows, betaincinv(hits + 1, np.maximum(rows - hits, 1), 1 - tail), 1.0)
    return low, high


def _welch(inside: np.ndarray, losses: np.ndarray, tail: float) -> tuple[np.ndarray, np.ndarray]:
    """Limits of the difference of two means by Welch's t; for losses skewed to the right the lower one is cautious."""
    gap, half = np.zeros(len(inside)), np.zeros(len(inside))
    for place, one in enumerate(inside):
        parts = [losses[one], losses[~one]]
        squares = [float(part.var(ddof=1)) / len(part) for part in parts]
        freedom = sum(squares) ** 2 / max(
            sum(square**2 / (len(part) - 1) for square, part in zip(squares, parts, strict=True)), 1e-300
        )
        gap[place] = parts[0].mean() - parts[1].mean()
        half[place] = float(stdtrit(max(freedom, 1.0), 1 - tail)) * np.sqrt(sum(squares))
    return gap - half, gap + half


def worst(found: Sequence[Candidate]) -> Estimate:
    """The largest difference among the tested groups.

    The lower end is the largest of limits that hold together; the upper one the largest of the limits by themselves,
    since only that of the truly worst group must hold (Berger 1982, Technometrics 24:295).
    """
    return Estimate(max(one.gap for one in found), max(one.low for one in found), max(one.high for one in found))


def detectable(losses: np.ndarray, share: float, tests: int) -> float:
    """Excess of the mean loss that a test finds with 80 %, for a group with this share of the rows (normal limit).

    Args:
        losses: (n,) of the half that tests.
        share: Of the rows that are in the group, between 0 and 1.
        tests: How many groups are tested.

    Returns:
        Difference of the mean loss inside and outside.
    """
    z = float(ndtri(1 - (1 - CONFIDENCE) / tests) + ndtri(POWER))
    return z * float(losses.std()) / float(np.sqrt(len(losses) * share * (1 - share)))
