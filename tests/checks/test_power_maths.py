"""Power of a difference of two shares: exact against simulation, the detectable gap against its power."""

from __future__ import annotations

import numpy as np
import pytest

from assessor_checks import _gaps
from assessor_checks._groups import Groups
from assessor_checks._rates import Rate
from assessor_checks.fairness import _power

Z = 1.959963984540054


def rate(hits, trials):
    first, second = np.triu_indices(len(trials), k=1)
    return Rate("selection_rate", np.array(hits), np.array(trials), np.array(trials), first, second)


@pytest.mark.parametrize(("share", "other", "n", "m"), [(0.3, 0.5, 60, 90), (0.05, 0.2, 40, 300), (0.5, 0.5, 30, 30)])
def test_exact_power_against_simulation(share, other, n, m):
    rng = np.random.default_rng(0)
    hits = np.stack([rng.binomial(n, share, 4000), rng.binomial(m, other, 4000)], axis=1)
    shown = 0
    for pair in hits:
        _, low, high = _gaps.differences(rate(pair, [n, m]), Z)
        shown += low[0] > 0 or high[0] < 0
    wanted = _power.power(share, other, n, m, Z)
    assert shown / 4000 == pytest.approx(wanted, abs=4 * np.sqrt(wanted * (1 - wanted) / 4000))


def test_certain_shares():
    assert _power.power(0.0, 1.0, 20, 20, Z) == pytest.approx(1)
    assert _power.power(0.0, 0.0, 20, 20, Z) == 0
    assert _power.power(1.0, 1.0, 2000, 2000, Z) == 0


def test_normal_and_exact_power_meet():
    for gap in (0.03, 0.05):
        exact, normal = (_power.power(0.3, 0.3 + gap, n, n, Z) for n in (_power._MANY - 1, _power._MANY))
        assert exact == pytest.approx(normal, abs=0.02)


@pytest.mark.parametrize(("share", "n", "m"), [(0.3, 50, 500), (0.9, 200, 200), (0.02, 80, 400), (0.4, 5000, 3000)])
@pytest.mark.parametrize("critical", [Z, 3.0])
def test_the_detectable_gap_has_the_power_it_claims(share, n, m, critical):
    gap = _power.detectable_difference(share, n, m, critical)
    other = share + gap if share <= 0.5 else share - gap
    assert _power.power(share, other, max(n, m), min(n, m), critical) == pytest.approx(0.8, abs=0.02)
    assert _power.detectable_difference(share, m, n, critical) == gap


def test_too_few_rows_for_any_gap():
    assert _power.detectable_difference(0.5, 2, 2, 3.0) == float("inf")
    groups = Groups(("g",) * 2, ("a", "b"), np.eye(2, dtype=bool), np.arange(0))
    tiny = rate([1, 1], [2, 2])
    assert _power.power_sentence(tiny, groups, 3.0) == (
        "With these group sizes a gap in selection_rate cannot be seen reliably (power under 80%) when it is under 1 "
        "between the largest groups compared (g: a and b, n = 2 and 2)."
    )
    assert _power.power_rows(tiny, groups, 3.0) == (("selection_rate", "g", "a", 2, "b", 2, None),)


def test_rows_name_the_pair_that_shows_least():
    groups = Groups(("g",) * 3 + ("h",) * 2, tuple("abcde"), np.ones((5, 1), dtype=bool), np.arange(0))
    trials = np.array([500, 40, 300, 400, 440])
    first, second = np.array([0, 0, 1, 3]), np.array([1, 2, 2, 4])
    found = _power.power_rows(Rate("accuracy", trials // 3, trials, trials[:1], first, second), groups, 2.5)
    assert [row[:6] for row in found] == [("accuracy", "g", "b", 40, "c", 300), ("accuracy", "h", "d", 400, "e", 440)]
    assert 0.2 < found[0][6] < 0.35
    assert found[1][6] < 0.15


def test_shift_of_means():
    assert _power.detectable_shift(100, 100, Z) == pytest.approx((Z + 0.8416) * np.sqrt(0.02), abs=1e-4)
