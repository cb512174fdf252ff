"""What group sizes can show, before any difference is looked at: power of a difference of two shares, exactly."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import gammaln, ndtr, ndtri

from assessor.contract import Cell
from assessor_checks._groups import Groups
from assessor_checks._rates import Rate

POWER = 0.8
_MANY = 1_000  # rows in the smaller group from which normal and exact power agree to a hundredth
_FAR = 5.0  # standard deviations beyond which outcomes are left out: less than a millionth
_NEAR = 0.002  # of the gap: how near it is found


class Detectable(NamedTuple):
    """The smallest difference of a rate that two groups would show with power `POWER`.

    Attributes:
        first: Index of a group.
        second: Index of the other.
        difference: Of their shares; infinite where not even the largest possible one would show.
    """

    first: int
    second: int
    difference: float


def power(share: float, other: float, n: int, m: int, critical: float) -> float:
    """Probability that Newcombe's interval (method 10) of a difference of two shares leaves 0 out.

    Exact: the sum of binomial probabilities over all outcomes; from `_MANY` rows on normal.

    Args:
        share: True share of the first group.
        other: True share of the second.
        n: Rows of the first.
        m: Rows of the second.
        critical: Critical value of the interval, 1.96 at 95 %.

    Returns:
        Probability of either sign.
    """
    if min(n, m) >= _MANY:
        null = (share * n + other * m) / (n + m)
        error = np.sqrt(share * (1 - share) / n + other * (1 - other) / m)
        needed = critical * np.sqrt(null * (1 - null) * (1 / n + 1 / m))
        gap = abs(share - other)
        return float(ndtr((gap - needed) / error) + ndtr((-gap - needed) / error)) if error > 0 else float(gap > 0)
    (hits, weights), (others, more) = _outcomes(share, n), _outcomes(other, m)
    low, high = _wilson(hits / n, n, critical)
    below, above = _wilson(others / m, m, critical)
    apart = hits[:, None] / n - others / m
    down = np.hypot((hits / n - low)[:, None], above - others / m)
    up = np.hypot((high - hits / n)[:, None], others / m - below)
    shown = (apart - down > 0) | (apart + up < 0)
    return float(weights @ shown @ more)


def _outcomes(share: float, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of hits that are not all but impossible, and their probabilities."""
    middle, far = n * share, _FAR * np.sqrt(n * share * (1 - share)) + 5
    hits = np.arange(max(0, int(middle - far)), min(n, int(middle + far)) + 1)
    if share in {0.0, 1.0}:
        return np.array([n * share]), np.ones(1)
    logs = gammaln(n + 1) - gammaln(hits + 1) - gammaln(n - hits + 1)
    return hits, np.exp(logs + hits * np.log(share) + (n - hits) * np.log1p(-share))


def _wilson(share: np.ndarray, n: int, z: float) -> tuple[np.ndarray, np.ndarray]:
    centre, scale = share + z * z / (2 * n), 1 + z * z / n
    half = z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return np.clip((centre - half) / scale, 0, share), np.clip((centre + half) / scale, share, 1)


def detectable_difference(share: float, n: int, m: int, critical: float) -> float:
    """Smallest difference that groups of n and m rows show with power `POWER`.

    One group has the share that all rows have, the other, the smaller one, lies farther towards the more distant end
    of [0, 1], where there is room.

    Args:
        share: Share over all rows.
        n: Rows of one group.
        m: Rows of the other.
        critical: Critical value of the interval that must leave 0 out.

    Returns:
        The difference; infinite where not even the largest possible one would show.
    """
    larger, smaller = max(n, m), min(n, m)
    room, sign = (1 - share, 1) if share <= 0.5 else (share, -1)

    def shown(gap: float) -> bool:
        return power(share, min(1.0, max(0.0, share + sign * gap)), larger, smaller, critical) >= POWER

    if not shown(room):
        return float("inf")
    normal = (critical + float(ndtri(POWER))) * float(np.sqrt(share * (1 - share) * (1 / n + 1 / m)))
    low, high = 0.8 * normal, min(room, 1.3 * normal)
    if high <= low or not shown(high):
        low, high = (high, room) if high > low else (0.0, room)
    elif shown(low):
        low, high = 0.0, low
    while high - low > _NEAR * high:
        middle = (low + high) / 2
        low, high = (low, middle) if shown(middle) else (middle, high)
    return high


def detectable_gap(
    hits: np.ndarray, trials: np.ndarray, first: np.ndarray, second: np.ndarray, critical: float, *, largest: bool
) -> Detectable:
    """What the largest or the smallest pair of groups could show.

    Args:
        hits: (G,) rows of each group that count.
        trials: (G,) rows that could count.
        first: (P,) index of the first group of each pair, P at least 1.
        second: (P,) of the second.
        critical: Critical value of the simultaneous intervals.
        largest: Whether to take the pair with the smallest standard error, else that with the largest.

    Returns:
        Of that pair.
    """
    precision = 1 / trials[first] + 1 / trials[second]
    compared = np.unique(np.concatenate([first, second]))
    share = float((hits[compared].sum() + 2) / (trials[compared].sum() + 4))
    index = int(precision.argmin() if largest else precision.argmax())
    i, j = int(first[index]), int(second[index])
    return Detectable(i, j, detectable_difference(share, int(trials[i]), int(trials[j]), critical))


def detectable_shift(n: int, m: int, critical: float) -> float:
    """Smallest difference of two means, in standard deviations, that n and m rows show with power `POWER`; normal."""
    return (critical + float(ndtri(POWER))) * float(np.sqrt(1 / n + 1 / m))


def power_rows(rate: Rate, groups: Groups, critical: float) -> tuple[tuple[Cell, ...], ...]:
    """Rows of the table of power: for each attribute the pair of groups that could show least.

    Args:
        rate: With at least one pair.
        groups: The groups.
        critical: Critical value of the simultaneous intervals.

    Returns:
        Rate, attribute, both groups with their rows, and the detectable difference, None where there is none.
    """
    families, rows = np.array(groups.attributes), []
    for family in groups.families:
        inside = families[rate.first] == family
        if inside.any():
            pairs = (rate.first[inside], rate.second[inside])
            worst = detectable_gap(rate.hits, rate.trials, *pairs, critical, largest=False)
            names = (groups.names[worst.first], groups.names[worst.second])
            sizes = (int(rate.trials[worst.first]), int(rate.trials[worst.second]))
            seen = worst.difference if np.isfinite(worst.difference) else None
            rows.append((rate.name, family, names[0], sizes[0], names[1], sizes[1], seen))
    return tuple(rows)


def power_sentence(rate: Rate, groups: Groups, critical: float) -> str:
    """Which differences these group sizes could show, for the largest and the smallest pair of groups.

    Args:
        rate: With at least one pair.
        groups: The groups.
        critical: Critical value of the simultaneous intervals.

    Returns:
        A sentence with the detectable differences.
    """
    counts = (rate.hits, rate.trials, rate.first, rate.second)
    best, worst = (detectable_gap(*counts, critical, largest=largest) for largest in (True, False))
    parts = []
    for kind, (i, j, seen) in (("largest", best), ("smallest", worst)):
        names = f"{groups.attributes[i]}: {groups.names[i]} and {groups.names[j]}"
        size = f"about {seen:.2f}" if np.isfinite(seen) else "1"
        parts.append(f"{size} between the {kind} groups compared ({names}, n = {rate.trials[i]} and {rate.trials[j]})")
    first, second = parts
    return (
        f"With these group sizes a gap in {rate.name} cannot be seen reliably (power under {POWER:.0%}) when it is "
        f"under {first}{f' or under {second}' if best != worst else ''}."
    )
