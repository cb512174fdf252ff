"""Distance covariance: all quick ways against double-centred matrices, invariances, known values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from assessor_checks.fairness import _distance_covariance as dcov

NUMBERS = st.integers(4, 25).flatmap(
    lambda n: st.tuples(*[arrays(np.float64, n, elements=st.integers(-4, 4).map(float)) for _ in range(2)])
)


def apart(values):
    return np.abs(values[:, None] - values)


def centred(matrix):
    return matrix - matrix.mean(1, keepdims=True) - matrix.mean(0) + matrix.mean()


def u_centred(matrix):
    n = len(matrix)
    rows = matrix.sum(1, keepdims=True) / (n - 2) + matrix.sum(0) / (n - 2)
    return (matrix - rows + matrix.sum() / ((n - 1) * (n - 2))) * (1 - np.eye(n))


def slow(a, b):
    """Biased and unbiased squared covariance of (a, b), (a, a), (b, b) from whole matrices."""
    n = len(a)
    pairs = ((a, b), (a, a), (b, b))
    biased = [(centred(x) * centred(y)).mean() for x, y in pairs]
    return biased, [(u_centred(x) * u_centred(y)).sum() / (n * (n - 3)) for x, y in pairs]


def same(found, a, b):
    biased, unbiased = slow(a, b)
    scale = 1e-10 * max(1.0, float(np.abs(a).max()) * float(np.abs(b).max()))
    assert [part.biased for part in found] == pytest.approx(biased, abs=scale)
    assert [part.unbiased for part in found] == pytest.approx(unbiased, abs=scale)


@given(NUMBERS)
@settings(max_examples=60, deadline=None)
def test_numbers_with_ties_against_matrices(sides):
    x, y = sides
    same(dcov.of_values(x, y), apart(x), apart(y))


@pytest.mark.parametrize("n", [4, 5, 64, 301])
def test_numbers_without_ties_against_matrices(n):
    rng = np.random.default_rng(n)
    x = rng.standard_normal(n)
    y = 1e6 + x + rng.standard_normal(n)  # far from 0, so that squares would lose digits
    same(dcov.of_values(x, y), apart(x), apart(y))


@pytest.mark.parametrize("n", [5, 120])
def test_groups_against_matrices(n):
    rng = np.random.default_rng(n)
    x, one, two = rng.standard_normal(n).round(1), rng.integers(0, 3, n), rng.integers(0, 4, n)
    distance = np.abs(np.subtract.outer([0.0, 1.0, 5.0], [0.0, 1.0, 5.0]))
    same(dcov.of_values_and_cells(x, one, distance), apart(x), distance[one][:, one])
    other = 1.0 - np.eye(4)
    table = np.bincount(one * 4 + two, minlength=12).reshape(3, 4)
    same(dcov.of_table(table, distance, other), distance[one][:, one], other[two][:, two])


def test_blocks_of_any_size_are_the_same():
    rng = np.random.default_rng(0)
    points = rng.standard_normal((40, 3)), rng.standard_normal((40, 2))
    a, b = (np.sqrt(((p[:, None] - p) ** 2).sum(2)) for p in points)
    for held in (1, 130, 10_000):
        same(dcov.of_blocks(lambda some: a[some], lambda some: b[some], 40, held=held), a, b)


def test_a_straight_function_has_correlation_one():
    x = np.random.default_rng(0).standard_normal(50)
    found = dcov.of_values(x, 3 - 2 * x)
    assert found.plain == pytest.approx(1)
    assert found.corrected == pytest.approx(1)


def test_two_by_two_is_the_phi_coefficient():
    # For 0/1 on both sides distance correlation is |phi| (Székely, Rizzo, Bakirov 2007, example of Bernoulli).
    table = np.array([[30, 20], [10, 40]])
    phi = (30 * 40 - 20 * 10) / np.sqrt(50 * 50 * 40 * 60)
    assert dcov.of_table(table, 1.0 - np.eye(2), 1.0 - np.eye(2)).plain == pytest.approx(phi)


def test_scale_and_place_do_not_matter():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 80))
    first, second = dcov.of_values(x, y), dcov.of_values(1000 * x - 5, 0.001 * y + 7)
    assert (first.plain, first.corrected) == pytest.approx((second.plain, second.corrected))
    assert second.covariance == pytest.approx(first.covariance)  # root of 1000 x 0.001


def test_independent_design_has_covariance_zero():
    x, y = (side.ravel().astype(float) for side in np.meshgrid(range(6), range(5)))
    assert dcov.of_values(x, y).both.biased == pytest.approx(0, abs=1e-12)


def test_unbiased_under_independence():
    found = [dcov.of_values(*np.random.default_rng(seed).exponential(size=(2, 30))).corrected for seed in range(600)]
    assert abs(np.mean(found)) < 4 * np.std(found) / np.sqrt(len(found))
    assert np.mean([dcov.of_values(*np.random.default_rng(s).exponential(size=(2, 30))).plain for s in range(50)]) > 0.2


def test_a_constant_side_gives_zero():
    x = np.arange(10.0)
    found = dcov.of_values(x, np.ones(10))
    assert (found.plain, found.corrected, found.covariance) == (0, 0, 0)
