"""Dependence on several attributes: distances by hand, exact independence, level, coverage and power in simulations."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from assessor_checks.fairness import _dependence as maths
from assessor_checks.fairness._dependence import Attributes, Column


def numbers(values, name="x"):
    return Column(name, np.asarray(values, dtype=float), is_number=True)


def codes(values, name="g"):
    return Column(name, np.asarray(values), is_number=False)


def everything(attributes):
    rows = np.arange(attributes.n)
    return attributes.distances(rows, rows)


def xor(rng, n, shift):
    a, b = rng.integers(0, 2, (2, n))
    return numbers(rng.standard_normal(n) + shift * (a ^ b)), [codes(a, "a"), codes(b, "b")]


# --- distances -------------------------------------------------------------------------------------------------------


def test_concatenated_distances_by_hand():
    values, groups = np.array([0.0, 2.0, 4.0, 2.0]), np.array([0, 0, 1, 1])
    found = everything(Attributes([numbers(values), codes(groups)]))
    for i, j in itertools.product(range(4), repeat=2):
        wanted = np.sqrt((values[i] - values[j]) ** 2 / values.var() + (groups[i] != groups[j]))
        assert found[i, j] == pytest.approx(wanted)


def test_joint_covariance_is_the_sum_over_sets_of_attributes():
    # Mean of U_y (1 + U_a)(1 + U_b) = dCov(y, a) + dCov(y, b) + the mean of U_y U_a U_b, all U scaled.
    rng = np.random.default_rng(0)
    y, columns = xor(rng, 60, 1.0)
    columns[0] = numbers(rng.standard_normal(60))

    def negated(column):
        d = column.distances(np.arange(60), np.arange(60))
        u = d.mean(1, keepdims=True) + d.mean(0) - d - d.mean()
        return u, np.sqrt((u**2).mean())

    output = negated(y)[0]
    one, two = (u / scale for u, scale in map(negated, columns))
    wanted = (output * one).mean() + (output * two).mean() + (output * one * two).mean()
    found, _ = maths.dependence(y, Attributes(columns, "joint"), pair_rows=100, seed=0)
    assert found.both.biased == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("together", ["concatenated", "joint"])
def test_every_way_gives_the_same_sums(together):
    rng = np.random.default_rng(1)
    n = 80
    outputs = [numbers(rng.standard_normal(n)), codes(rng.integers(0, 3, n))]
    sets = [
        [codes(rng.integers(0, 3, n))],
        [numbers(rng.standard_normal(n))],
        [codes(rng.integers(0, 2, n)), codes(rng.integers(0, 3, n))],
        [numbers(rng.standard_normal(n)), codes(rng.integers(0, 3, n))],
    ]
    rows = np.arange(n)
    for output, columns in itertools.product(outputs, sets):
        attributes = Attributes(columns, together)
        found, used = maths.dependence(output, attributes, pair_rows=1000, seed=0)
        first, second = output.distances(rows, rows), everything(attributes)
        slow = maths.dcov.of_blocks(lambda some, a=first: a[some], lambda some, b=second: b[some], n)
        assert used == n
        assert [part.biased for part in found] == pytest.approx([part.biased for part in slow], abs=1e-12)
        assert found.corrected == pytest.approx(slow.corrected, abs=1e-12)


def test_many_rows_are_sampled_where_all_pairs_are_needed():
    rng = np.random.default_rng(0)
    n = 900
    attributes = Attributes([numbers(rng.standard_normal(n)), codes(rng.integers(0, 2, n))])
    found, used = maths.dependence(numbers(rng.standard_normal(n)), attributes, pair_rows=200, seed=3)
    assert used == found.both.n == 200


def test_rounding_keeps_few_values_and_bounds_many():
    few = numbers([1.0, 2.0, 2.0, 5.0])
    assert few.rounded(128) is few
    many = numbers(np.random.default_rng(0).standard_normal(5000))
    rounded = many.rounded(64)
    assert len(np.unique(rounded.values)) == 64
    assert rounded.values.mean() == pytest.approx(many.values.mean())
    two = Attributes([many, numbers(np.random.default_rng(1).standard_normal(5000))])
    assert len(two.rounded(100).cells()[0]) <= 100


# --- tests of independence -------------------------------------------------------------------------------------------


def test_exact_independence_of_a_full_design():
    y, a, b = (side.ravel() for side in np.meshgrid(range(5), range(2), range(3)))
    for together in ("concatenated", "joint"):
        attributes = Attributes([codes(a), codes(b)], together)
        found, _ = maths.dependence(numbers(y), attributes, pair_rows=100, seed=0)
        assert found.both.biased == pytest.approx(0, abs=1e-12)


def test_exclusive_or_shows_only_together():
    a, b = (side.ravel() for side in np.meshgrid([0, 1], [0, 1]))
    a, b = np.repeat(a, 5), np.repeat(b, 5)
    y = numbers(a ^ b)
    for column in (a, b):
        assert maths.dependence(y, Attributes([codes(column)]), pair_rows=9, seed=0)[0].both.biased == pytest.approx(0)
    for together in ("concatenated", "joint"):
        both = Attributes([codes(a), codes(b)], together)
        assert maths.dependence(y, both, pair_rows=9, seed=0)[0].both.biased > 0.02


def test_permutation_against_shuffled_rows():
    rng = np.random.default_rng(5)
    y, z = rng.standard_normal((2, 60))
    z += 0.15 * y
    observed = maths.dcov.of_values(y, z).both.biased
    slow = [maths.dcov.of_values(rng.permutation(y), z).both.biased for _ in range(1000)]
    wanted = (1 + sum(value >= observed for value in slow)) / 1001
    one, two = (maths.side(Attributes([numbers(side)])) for side in (y, z))
    found = maths.p_values([(one, [two])], 3000, np.random.default_rng(0))[0]
    assert 0.005 < wanted < 0.5
    # Four standard errors of both, and a little for the half per cent of the features that is left out.
    assert found == pytest.approx(wanted, abs=4 * np.sqrt(wanted * (1 - wanted) * (1 / 1000 + 1 / 3000)) + 0.01)


def test_shuffles_stay_within_strata():
    # Output and attribute both follow the label and nothing else: dependent over all rows, not within labels.
    rng = np.random.default_rng(0)
    label = np.repeat([0, 1], 150)
    y, g = label + 0.1 * rng.standard_normal(300), (rng.random(300) < 0.2 + 0.6 * label).astype(int)

    def sides(rows):
        return maths.side(Attributes([numbers(y[rows])])), [maths.side(Attributes([codes(g[rows])]))]

    whole = maths.p_values([sides(label >= 0)], 499, np.random.default_rng(0))[0]
    within = maths.p_values([sides(label == 0), sides(label == 1)], 499, np.random.default_rng(0))[0]
    assert whole == 1 / 500
    assert within > 0.05


def measured(output, attributes, seed, permutations=79):
    found, n = maths.dependence(output, attributes, pair_rows=1000, seed=0)
    pair = (maths.side(Attributes([output])), maths.side(attributes))
    p = maths.p_values([(pair[0], [pair[1]])], permutations, np.random.default_rng(seed))[0]
    square = found.corrected
    return maths.interval(square, maths.direction_variance([pair], square), n, p, 0.95), p


def binary(rng, n, gap):
    g = rng.choice(2, n, p=[0.7, 0.3])
    return codes((rng.random(n) < 0.3 + gap * g).astype(int)), Attributes([codes(g)])


def four(rng, n, shift):
    g = rng.choice(4, n, p=[0.5, 0.3, 0.15, 0.05])
    return numbers(rng.standard_normal(n) + shift * g), Attributes([codes(g)])


@pytest.mark.slow
@pytest.mark.parametrize("make", [binary, four])
def test_level_under_independence(make):
    found = [measured(*make(np.random.default_rng(seed), 60, 0.0), seed) for seed in range(250)]
    assert np.mean([p <= 0.05 for _, p in found]) <= 0.078  # 5 % and two standard errors of 250
    assert np.mean([ends.low > 0 for ends, _ in found]) <= 0.045  # one end: 2.5 % and two standard errors


# The true values are those of a million rows.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "strength", "true"), [(binary, 0.1, 0.0977), (binary, 0.5, 0.4608), (four, 0.3, 0.186)]
)
def test_coverage_under_dependence(make, strength, true):
    found = [measured(*make(np.random.default_rng(seed), 200, strength), seed)[0] for seed in range(150)]
    for held in ([ends.low <= true for ends in found], [ends.high >= true for ends in found]):
        assert np.mean(held) >= 0.975 - 2.5 * np.sqrt(0.025 * 0.975 / 150)


def test_true_values_of_the_coverage_test():
    output, attributes = binary(np.random.default_rng(99), 400_000, 0.5)
    found, _ = maths.dependence(output, attributes, pair_rows=1000, seed=0)
    assert np.sqrt(found.corrected) == pytest.approx(0.4608, abs=0.003)


def test_detectable_size_is_seen_in_four_of_five():
    # A yes or no on both sides with phi of the detectable size, at 5 %.
    n, rng = 400, np.random.default_rng(0)
    phi = maths.detectable(n, 0.05)
    seen = []
    for _ in range(200):
        g = rng.integers(0, 2, n)
        y = (rng.random(n) < 0.5 + phi * (g - 0.5)).astype(int)
        sums, _ = maths.dependence(codes(y), Attributes([codes(g)]), pair_rows=10, seed=0)
        seen.append(n * sums.corrected + 1 >= 3.84)
    assert np.mean(seen) == pytest.approx(0.8, abs=4 * np.sqrt(0.16 / 200))


def test_interval_holds_its_value():
    for square, variance, n, p in [
        (-0.01, 0.5, 50, 0.9),
        (0.0, 1.0, 4, 1.0),
        (0.9, 0.01, 1000, 0.001),
        (1.0, 0.0, 20, 0),
    ]:
        found = maths.interval(square, variance, n, p, 0.95)
        assert 0 <= found.low <= found.value <= found.high <= 1
