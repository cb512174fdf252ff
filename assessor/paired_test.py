"""Whether a share of the same rows rose or fell: the test of two outcomes a row, beyond a tolerance.

Rows that came out alike both times say nothing of a difference. Of those that did not, as many should rise as fall
where nothing changed: that is McNemar's test, taken exactly from the binomial distribution. Beyond a tolerance, and for
the interval, the score test of Tango (1998, Stat. Med. 17:891) asks how far the difference lies from the one supposed,
in standard errors under that supposition. Beyond a tolerance both must agree, so that a small tolerance never makes
more of a change than none; and so must the binomial test of the falls alone, since where hardly any row rises the score
is too far from normal: without it up to 5.2 % of true falls of just the tolerance are called larger, with it 3.6 %
(enumerated for 20 to 400 rows).
"""

from __future__ import annotations

import math
from statistics import NormalDist

from assessor.contract import Frozen, Outcomes

CONFIDENCE = 0.95
HALVINGS = 60
NEGLIGIBLE = 1e-17


class Pairs(Frozen):
    """What became of the same rows.

    Attributes:
        n: How many there are.
        rose: Those that were 0 and are 1.
        fell: Those that were 1 and are 0.
    """

    n: int
    rose: int
    fell: int


def pairs_of(before: Outcomes, after: Outcomes) -> Pairs | None:
    """The rows of two results counted by what became of them; None where they are not the same rows.

    >>> one = Outcomes(metric="accuracy", rows="0" * 64, n=8, bits="8A==")
    >>> pairs_of(one, one.model_copy(update={"bits": "4Q=="}))
    Pairs(n=8, rose=1, fell=1)
    """
    if (before.rows, before.n) != (after.rows, after.n):
        return None
    one, two = before.number, after.number
    return Pairs(n=before.n, rose=(two & ~one).bit_count(), fell=(one & ~two).bit_count())


def difference_in_pairs(pairs: Pairs, tolerance: float = 0.0) -> tuple[float, float, float]:
    """Interval of the share after less that before, and the p-value of no difference beyond a tolerance.

    Args:
        pairs: What became of the rows.
        tolerance: Largest difference, either way, that counts as none.

    Returns:
        Lower and upper end of the 95 % interval, two-sided p-value.

    >>> low, high, p_value = difference_in_pairs(Pairs(n=100, rose=2, fell=12))
    >>> round(p_value, 4)
    0.0129
    """
    size = abs(pairs.rose - pairs.fell) / pairs.n
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    low, high = _crossing(pairs, z, -1.0), _crossing(pairs, -z, 1.0)
    if size <= tolerance:
        return low, high, 1.0
    more, fewer = max(pairs.rose, pairs.fell), min(pairs.rose, pairs.fell)
    tails = [_tail(more, more + fewer, 0.5)]
    if tolerance:
        tails.append(NormalDist().cdf(-_score(Pairs(n=pairs.n, rose=more, fell=fewer), tolerance)))
        tails.append(_tail(more, pairs.n, tolerance))
    return low, high, min(1.0, 2 * max(tails))


def _tail(k: int, n: int, p: float) -> float:
    """Probability of k or more successes of n, each with probability p; k above n p, so that terms fall from there."""
    log = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * math.log(p) + (n - k) * math.log1p(-p)
    term, total = math.exp(log), 0.0
    while k <= n and term > NEGLIGIBLE * total:
        total += term
        term *= (n - k) / (k + 1) * p / (1 - p)
        k += 1
    return total


def _score(pairs: Pairs, difference: float) -> float:
    """Standard errors by which the rise lies above a supposed one, under that supposition (Tango's equations 3, 4)."""
    if difference < 0:
        return -_score(Pairs(n=pairs.n, rose=pairs.fell, fell=pairs.rose), -difference)
    n, rose, fell = pairs.n, pairs.rose, pairs.fell
    a, b = 2 * n, (2 * n - rose + fell) * difference - rose - fell
    c = -fell * difference * (1 - difference)
    root = math.sqrt(b * b - 4 * a * c)
    falls = (root - b) / (2 * a) if b <= 0 else -2 * c / (b + root)  # the likeliest share of falls; no cancellation
    variance = n * (2 * falls + difference * (1 - difference))
    above = rose - fell - n * difference
    if variance <= 0:
        return math.copysign(math.inf, above) if above else 0.0
    return above / math.sqrt(variance)


def _crossing(pairs: Pairs, z: float, end: float) -> float:
    """The supposed difference whose score is z, between what was found and an end: the score falls as it grows."""
    inner, outer = (pairs.rose - pairs.fell) / pairs.n, end
    for _ in range(HALVINGS):
        middle = (inner + outer) / 2
        if abs(_score(pairs, middle)) < abs(z):
            inner = middle
        else:
            outer = middle
    return inner
