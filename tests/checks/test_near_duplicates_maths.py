"""Exact and near duplicates against brute force, in tables and pictures."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from assessor_checks import _close_points as core
from assessor_checks import _near_duplicates as maths

rng_strategy = st.integers(0, 10_000).map(np.random.default_rng)


def all_distances(a, b):
    return np.sqrt(((a[:, None, :] - b[None, :, :]) ** 2).sum(axis=2))


def listed(pairs):
    return list(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))


def test_same_rows_by_hand():
    x = np.array([[0.0, np.nan], [1.0, 2.0], [-0.0, np.nan], [1.0, 2.0], [3.0, 2.0]])
    (codes,) = maths.same_rows(x)
    assert codes.tolist() == [0, 1, 0, 1, 2]
    assert listed(maths.repeated(x)) == [(0, 2), (1, 3)]
    assert maths.repeated(x).distance.tolist() == [0, 0]
    assert listed(maths.shared(x, x[[4, 3, 1]])) == [(1, 1), (3, 1), (4, 0)]


def test_integers_equal_floats_and_shapes_must_fit():
    assert listed(maths.shared(np.array([[1, 2]]), np.array([[1.0, 2.0]]))) == [(0, 0)]
    assert listed(maths.shared(np.array([[True]]), np.array([[1]]))) == [(0, 0)]
    with pytest.raises(ValueError, match="rows differ in shape"):
        maths.same_rows(np.zeros((2, 3)), np.zeros((2, 4)))


@pytest.mark.parametrize("shape", [(0, 3), (1, 3)])
def test_nothing_to_find(shape):
    x = np.zeros(shape)
    for pairs in (maths.repeated(x), maths.near_pairs_within(x, 0.1), maths.near_pairs(x[:0], x, 0.1)):
        assert listed(pairs) == []
        assert pairs.complete
    with pytest.raises(ValueError, match="there is no other row"):
        maths.nearest(x)


@given(rng_strategy, st.integers(1, 60), st.integers(1, 60), st.integers(1, 14), st.floats(0, 0.8))
@settings(max_examples=80, deadline=None)
def test_cross_pairs_are_those_of_brute_force(rng, n, m, d, tolerance):
    a, b = rng.standard_normal((n, d)).round(1), rng.standard_normal((m, d)).round(1)
    b[: m // 2] = a[rng.integers(0, n, m // 2)] + 0.05 * rng.standard_normal((m // 2, d)).round(1)
    scale = maths.column_scale(b)
    a, b = maths.scaled(a, scale), maths.scaled(b, scale)
    gaps = all_distances(a, b)
    pairs = maths.near_pairs(a, b, tolerance)
    assert listed(pairs) == [tuple(pair) for pair in np.argwhere(gaps <= tolerance).tolist()]
    assert np.array_equal(pairs.distance, gaps[pairs.first, pairs.second])


@given(rng_strategy, st.integers(1, 60), st.integers(1, 14), st.floats(0, 0.8))
@settings(max_examples=80, deadline=None)
def test_pairs_within_give_the_clusters_of_brute_force(rng, n, d, tolerance):
    x = maths.scaled(rng.integers(-2, 3, (n, d)) / 2, np.ones(d))
    pairs = maths.near_pairs_within(x, tolerance)
    assert (pairs.first < pairs.second).all()
    assert np.array_equal(pairs.distance, all_distances(x, x)[pairs.first, pairs.second])
    close = all_distances(x, x) <= tolerance
    for _ in range(n):  # transitive closure
        close = close @ close
    found = maths.clusters(n, pairs)
    assert np.array_equal(found[:, None] == found[None, :], close)


@given(rng_strategy, st.integers(2, 40), st.integers(1, 40), st.sampled_from([1, 3, 8, 9, 40]))
@settings(max_examples=60, deadline=None)
def test_nearest_is_that_of_brute_force(rng, n, m, d):
    a, b = rng.standard_normal((n, d)), rng.standard_normal((m, d)) + 100
    gaps = all_distances(a, b)
    found = maths.nearest(a, b)
    assert np.allclose(found.distance, gaps.min(axis=1), rtol=1e-12)
    assert np.array_equal(found.distance, gaps[np.arange(n), found.row])
    a[-1] = a[0]
    own = all_distances(a, a)
    np.fill_diagonal(own, np.inf)
    assert np.allclose(maths.nearest(a).distance, own.min(axis=1), rtol=1e-12)
    assert (maths.nearest(a).row != np.arange(n)).all()


def test_small_blocks_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((50, 12)), rng.standard_normal((70, 12))
    whole = maths.near_pairs(a, b, 4.0), maths.nearest(a, b), maths.nearest(a), maths.same_rows(a, b)
    monkeypatch.setattr(maths, "HELD", 100)
    monkeypatch.setattr(core, "HELD", 100)
    monkeypatch.setattr(core, "CANDIDATES", 50)
    parts = maths.near_pairs(a, b, 4.0), maths.nearest(a, b), maths.nearest(a), maths.same_rows(a, b)
    for one, other in zip(whole, parts, strict=True):
        for left, right in zip(one, other, strict=True):
            assert np.array_equal(left, right)


def test_small_blocks_of_pictures_change_nothing(monkeypatch):
    x = pictures(20)
    x[10:] = x[:10] + 0.5 * x.std() * np.random.default_rng(0).standard_normal(x[:10].shape)
    whole = maths.picture_pairs(x, None, 0.7)
    assert len(whole.first) >= 10
    monkeypatch.setattr(maths, "HELD", 3000)
    parts = maths.picture_pairs(x, None, 0.7)
    assert listed(parts) == listed(whole)
    assert parts.distance == pytest.approx(whole.distance, abs=1e-12)


def test_more_pairs_than_are_kept_is_told():
    x = np.random.default_rng(0).standard_normal((40, 2))
    found = maths.near_pairs(x, x, 10.0, most=100)
    assert len(found.first) == 100
    assert not found.complete
    assert maths.near_pairs(x, x, 10.0, most=1600).complete
    copies = np.repeat(x[:2], 500, axis=0)  # a million pairs of the same row, told by 998
    within = maths.near_pairs_within(copies, 0.0)
    assert within.complete
    assert len(within.first) == 998


def test_scale_and_distance_by_hand():
    x = np.array([[0.0, 5.0, 100.0], [2.0, 5.0, 300.0]])
    assert maths.column_scale(x).tolist() == [1.0, 1.0, 100.0]
    points = maths.scaled(x, maths.column_scale(x))
    assert all_distances(points, points)[0, 1] == pytest.approx(np.sqrt((4 + 0 + 4) / 3))
    assert maths.column_scale(np.full((3, 1), 0.1)).tolist() == [1.0]  # its standard deviation is rounding
    with pytest.raises(ValueError, match="finite"):
        maths.scaled(np.array([[np.nan]]), np.ones(1))


def pictures(n=30, seed=0):
    """Smooth colour pictures, (n, 3, 20, 24)."""
    x = np.random.default_rng(seed).standard_normal((n, 3, 24, 28))
    return sum(x[..., i : i + 20, j : j + 24] for i in range(5) for j in range(5))


def test_changed_pictures_are_found():
    base = pictures()
    rng = np.random.default_rng(1)
    changes = {
        "brighter": 3 + 0.5 * base[0],
        "moved": np.roll(base[1], (1, -1), axis=(1, 2)),
        "mirrored": base[2][..., ::-1],
        "noisy": base[3] + 0.05 * base[3].std() * rng.standard_normal(base[3].shape),
        "mirrored and moved": np.roll(base[4][..., ::-1], 1, axis=2),
        "another": pictures(1, seed=5)[0],
        "moved too far": np.roll(base[6], 3, axis=2),
    }
    found = maths.picture_pairs(np.stack(list(changes.values())), base, 0.1)
    assert listed(found) == [(i, i) for i in range(5)]
    assert found.distance[[0, 1, 2, 4]] == pytest.approx(0, abs=1e-7)
    assert found.distance[3] == pytest.approx(0.05, abs=0.005)
    without = maths.picture_pairs(np.stack(list(changes.values())), base, 0.1, shift=0, mirror=False)
    assert listed(without) == [(0, 0), (3, 3)]


def test_picture_distance_against_a_plain_loop():
    x = pictures(12)[:, 0, :6, :7]
    x[6:] = x[:6] + 0.6 * x[:6].std() * np.random.default_rng(2).standard_normal(x[:6].shape)

    def units(picture):
        return (picture - picture.mean()) / picture.std()

    expected = {}
    for i in range(12):
        for j in range(i + 1, 12):
            gaps = [
                np.sqrt(((units(side[u : u + 4, v : v + 5]) - units(middle[1:5, 1:6])) ** 2).mean())
                for one, middle in ((x[i], x[j]), (x[j], x[i]))
                for side in (one, one[:, ::-1])
                for u in range(3)
                for v in range(3)
            ]
            if min(gaps) <= 0.8:
                expected[i, j] = min(gaps)
    found = maths.picture_pairs(x, None, 0.8)
    assert len(expected) > 3
    assert dict(zip(listed(found), found.distance, strict=True)) == pytest.approx(expected)


def test_pictures_of_one_colour_and_refused_input():
    flat = np.full((3, 5, 5), 0.3)
    assert listed(maths.picture_pairs(flat, None, 0.5)) == []
    assert listed(maths.picture_pairs(np.zeros((2, 1, 1)), None, 0.5)) == []
    with pytest.raises(ValueError, match="wanted two of"):
        maths.picture_pairs(np.zeros((2, 5)), None, 0.1)
    with pytest.raises(ValueError, match="wanted two of"):
        maths.picture_pairs(np.zeros((2, 5, 5)), np.zeros((2, 6, 5)), 0.1)
    with pytest.raises(ValueError, match="finite"):
        maths.picture_pairs(np.full((2, 5, 5), np.nan), None, 0.1)


def test_handwritten_digits_hold_no_copies_and_planted_ones_are_found():
    x = load_digits().images
    assert listed(maths.picture_pairs(x[:900], x[900:], 0.1)) == []
    planted = x[900:].copy()
    planted[:20] = np.clip(x[:20] + 1, 0, 16)
    found = maths.picture_pairs(x[:900], planted, 0.2)
    assert {(i, i) for i in range(20)} <= set(listed(found))
