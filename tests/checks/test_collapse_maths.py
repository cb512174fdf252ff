"""Neural collapse against its definitions in numpy, constructed simplices, and explicit resampling."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from assessor_checks._intervals import Estimate
from assessor_checks.generalization import _collapse as collapse

FEW = settings(max_examples=20, deadline=None)


def case(count=4, width=6, rows=10, seed=0, offset=0.0, separation=1.0):
    """Features of `count` classes of unequal size around random means."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.full(rows + label, label) for label in range(count)])
    labels = rng.permutation(labels)
    means = separation * rng.standard_normal((count, width))
    features = means[labels] + rng.standard_normal((len(labels), width)) + offset
    return torch.from_numpy(features), torch.from_numpy(labels)


def simplex(count, width, scale=3.0, offset=5.0):
    """(count, width) equally long vectors at equal angles around `offset`."""
    frame = torch.eye(count, dtype=torch.float64) - 1 / count
    basis = torch.linalg.qr(torch.randn(width, count, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    return scale * frame @ basis.Q.T + offset


def slow(features, labels):
    """NC1 and NC2 as Papyan, Han, Donoho define them, every class of the same weight, with (m, m) matrices."""
    x, y = features.numpy(), labels.numpy()
    names = np.unique(y)
    means = np.stack([x[y == name].mean(axis=0) for name in names])
    within = [np.cov(x[y == name].T, ddof=0).reshape(x.shape[1], -1) for name in names]
    centred = means - means.mean(axis=0)
    between = centred.T @ centred / len(names)
    inverse = np.linalg.pinv(between, rcond=1e-12, hermitian=True)
    parts = [np.trace(sigma @ inverse) / len(names) for sigma in within]
    norms = np.linalg.norm(centred, axis=1)
    cosines = centred @ centred.T / np.outer(norms, norms)
    apart = ~np.eye(len(names), dtype=bool)
    return parts, norms.std(ddof=1) / norms.mean(), np.abs(cosines[apart] + 1 / (len(names) - 1)).mean()


@FEW
@given(count=st.integers(2, 6), width=st.integers(1, 8), rows=st.integers(2, 8), seed=st.integers(0, 10_000))
def test_equals_the_definition(count, width, rows, seed):
    features, labels = case(count, width, rows, seed)
    found = collapse.geometry(features, collapse.classes_of(features, labels))
    parts, norms, angles = slow(features, labels)
    # The slow pseudo-inverse squares the singular values: near-equal means cost it half its digits.
    assert found.nc1.tolist() == pytest.approx(parts, rel=1e-5)
    assert found.nc2_norms == pytest.approx(norms, rel=1e-9, abs=1e-12)
    assert found.nc2_angles == pytest.approx(angles, rel=1e-9, abs=1e-12)
    assert found.rank == min(count - 1, width)


def test_parts_by_hand():
    # Classes at 0 and 4 on a line, rows 1 away: Sigma_W = 1, M = -+2, Sigma_B = 4, NC1 = 1 / 4 / 2.
    features, labels = torch.tensor([[-1.0], [1.0], [3.0], [5.0]]), torch.tensor([0, 0, 1, 1])
    classes = collapse.classes_of(features, labels)
    found = collapse.geometry(features, classes)
    assert classes.means.tolist() == [[0.0], [4.0]]
    assert found.nc1.tolist() == [0.125, 0.125]
    assert found.spread.tolist() == [1.0, 1.0]
    assert found.distance.tolist() == [2.0, 2.0]
    assert found.nc2_norms == 0
    assert found.nc2_angles == pytest.approx(0, abs=1e-15)
    assert collapse.relative_distances(features, classes).tolist() == [0.5] * 4
    assert collapse.nearest_class(torch.tensor([[1.9], [2.0], [2.1]]), classes).tolist() == [0, 0, 1]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("count", "width"), [(3, 3), (5, 20), (10, 12)])
def test_a_collapsed_simplex_is_zero_throughout(count, width, dtype):
    means = simplex(count, width)
    labels = torch.arange(4 * count) % count
    features = means[labels].to(dtype)
    classes = collapse.classes_of(features, labels)
    found = collapse.geometry(features, classes)
    tolerance = 50 * torch.finfo(dtype).eps  # the features' own rounding
    assert found.nc1.mean() < tolerance**2
    assert found.nc2_norms < tolerance
    assert found.nc2_angles < tolerance
    assert found.rank == count - 1
    assert collapse.nc3((means - means.mean(dim=0)).to(dtype) * 0.1, classes.means) < tolerance
    assert collapse.nearest_class(features, classes).equal(labels)
    drawn = collapse.bootstrap(features, classes, means - means.mean(dim=0), replicates=50, seed=0)
    assert max(float(part.max()) for part in drawn) < tolerance


def test_nc3_knows_aligned_unrelated_and_opposite():
    means = torch.tensor([[2.0, 0.0, 0.0], [-2.0, 0.0, 0.0]], dtype=torch.float64) + 9
    weight = torch.tensor([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]])
    assert collapse.nc3(weight, means) == pytest.approx(0)
    assert collapse.nc3(weight[:, [1, 0, 2]], means) == pytest.approx(2**0.5)
    assert collapse.nc3(-weight, means) == pytest.approx(2)


def test_small_classes_are_left_out_and_empty_ones_too():
    features, labels = case(3, 4, 5)
    labels = labels + 2  # classes 0 and 1 have no row
    features, labels = torch.cat([features, features[:1]]), torch.cat([labels, torch.tensor([7])])
    classes = collapse.classes_of(features, labels)
    assert classes.labels == (2, 3, 4)
    assert sum(map(len, classes.rows)) == len(labels) - 1
    assert collapse.classes_of(features[:1], labels[:1]).labels == ()


def test_equal_means_are_called_flat_and_rounding_is_no_direction():
    features = torch.randn(12, 5, generator=torch.Generator().manual_seed(0)) + 3
    twice, labels = torch.cat([features, features]), torch.arange(24) // 12
    assert collapse.classes_of(twice, labels).flat
    # Two of three classes have the same mean but for rounding: two directions would make NC1 astronomic.
    three = torch.cat([features, features.flip(0), features + 10])
    classes = collapse.classes_of(three, torch.arange(36) // 12)
    found = collapse.geometry(three, classes)
    assert not classes.flat
    assert found.rank == 1
    assert found.nc1.mean() < 1


def test_a_mean_at_the_centre_has_no_angle():
    features = torch.tensor([[-1.0, 0.0], [-1.0, 0.1], [0.0, 0.0], [0.0, 0.1], [1.0, 0.0], [1.0, 0.1]])
    found = collapse.geometry(features, collapse.classes_of(features, torch.arange(6) // 2))
    assert found.nc2_angles is None
    assert found.nc2_norms == pytest.approx(3**0.5 / 2)  # norms 1, 0, 1


def test_a_great_common_offset_changes_nothing():
    features, labels = case(seed=3)
    plain = collapse.geometry(features, collapse.classes_of(features, labels))
    moved = features + 1e6
    shifted = collapse.geometry(moved, collapse.classes_of(moved, labels))
    assert shifted.nc1.tolist() == pytest.approx(plain.nc1.tolist(), rel=1e-8)
    assert shifted.nc2_angles == pytest.approx(plain.nc2_angles, rel=1e-8)


def test_chunks_change_nothing(monkeypatch):
    features, labels = case(rows=20)
    weight = torch.randn(4, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def everything():
        classes = collapse.classes_of(features, labels)
        drawn = collapse.bootstrap(features, classes, weight, replicates=30, seed=0)
        return collapse.geometry(features, classes).nc1, *drawn, collapse.nearest_class(features, classes)

    whole = everything()
    monkeypatch.setattr(collapse, "ROWS", 7)
    for one, other in zip(whole, everything(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=0)


def test_float32_is_near_float64():
    features, labels = case(rows=30)
    single = features.float()
    one = collapse.geometry(features, collapse.classes_of(features, labels))
    other = collapse.geometry(single, collapse.classes_of(single, labels))
    torch.testing.assert_close(one.nc1, other.nc1, rtol=1e-6, atol=0)


def test_replicates_equal_explicit_resampling():
    features, labels = case(rows=12)
    classes = collapse.classes_of(features, labels)
    weight = torch.randn(4, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    drawn = collapse.bootstrap(features, classes, weight, replicates=5, seed=3)
    generator = torch.Generator().manual_seed(3)
    times = [collapse._draws(len(rows), 5, generator) for rows in classes.rows]
    for replicate in range(5):
        parts = [rows.repeat_interleave(t[replicate].long()) for rows, t in zip(classes.rows, times, strict=True)]
        assert [len(part) for part in parts] == [len(rows) for rows in classes.rows]
        again, names = features[torch.cat(parts)], labels[torch.cat(parts)]
        redone = collapse.classes_of(again, names)
        found = collapse.geometry(again, redone)
        assert drawn.nc1[replicate].item() == pytest.approx(found.nc1.mean().item(), rel=1e-10)
        assert drawn.nc2_norms[replicate].item() == pytest.approx(found.nc2_norms, rel=1e-10)
        assert drawn.nc2_angles[replicate].item() == pytest.approx(found.nc2_angles, rel=1e-10)
        assert drawn.nc3[replicate].item() == pytest.approx(collapse.nc3(weight, redone.means), rel=1e-10)


def test_same_seed_same_replicates():
    features, labels = case()
    classes = collapse.classes_of(features, labels)
    one, same, other = (
        collapse.bootstrap(features, classes, torch.eye(4, 6), replicates=20, seed=seed) for seed in (0, 0, 1)
    )
    assert one.nc1.equal(same.nc1)
    assert not one.nc1.equal(other.nc1)


@pytest.mark.slow
def test_intervals_cover_what_they_claim():
    # Gaussian classes, 100 rows each: the truth in closed form. Of 60 intervals at 95 % at least 50 must hold it
    # (fewer have probability 2e-4), and the plain percentile interval of NC1 would hold it in few.
    rng = np.random.default_rng(1)
    count, width, rows = 10, 32, 100
    means = 0.5 * rng.standard_normal((count, width))
    centred = means - means.mean(axis=0)
    weight = torch.from_numpy(means + 0.3 * rng.standard_normal(means.shape))
    nc1 = np.trace(np.linalg.pinv(centred.T @ centred / count, rcond=1e-10)) / count
    nc3 = collapse.nc3(weight, torch.from_numpy(means))
    labels = torch.arange(rows * count) % count
    _, norms, angles = slow(torch.from_numpy(np.repeat(means, 2, axis=0)), torch.arange(2 * count) // 2)
    hits = np.zeros(5)
    for seed in range(60):
        features = torch.from_numpy(means[labels] + rng.standard_normal((len(labels), width)))
        classes = collapse.classes_of(features, labels)
        found = collapse.geometry(features, classes)
        drawn = collapse.bootstrap(features, classes, weight, replicates=200, seed=seed)
        ends = (
            (collapse.bias_corrected(found.nc1.mean().item(), drawn.nc1)[0], nc1),
            (collapse.either_way(found.nc2_norms, drawn.nc2_norms), norms),
            (collapse.either_way(found.nc2_angles, drawn.nc2_angles), angles),
            (collapse.aligned(collapse.nc3(weight, classes.means), drawn.nc3), nc3),
            (Estimate(0.0, *np.quantile(drawn.nc1.numpy(), [0.025, 0.975])), nc1),
        )
        hits += [found.low <= truth <= found.high for found, truth in ends]
    assert (hits[:4] >= 50).all()
    assert hits[4] < 20


def test_intervals_hold_the_value_and_their_range():
    drawn = torch.tensor([0.5, 0.6, 0.7], dtype=torch.float64)
    found, bias = collapse.bias_corrected(2.0, drawn)
    assert found.low == 2.0  # all replicates lie below, so the interval lies above
    assert found.high > 6
    assert bias < -1
    assert collapse.bias_corrected(0.0, torch.zeros(9, dtype=torch.float64)) == ((0.0, 0.0, 0.0), 0.0)
    assert collapse.bias_corrected(1.0, torch.tensor([0.0, 2.0], dtype=torch.float64)) == ((1.0, 0.0, 2.0), 0.0)
    assert collapse.either_way(0.1, drawn).low == 0
    assert collapse.either_way(0.1, torch.tensor([0.2, torch.nan])).high == pytest.approx(0.2)
    wide = collapse.aligned(1.9, torch.tensor([1.8, 1.95], dtype=torch.float64))
    assert wide.low < 1.9 < wide.high <= 2
    near = collapse.aligned(0.2, torch.tensor([0.3, 0.35], dtype=torch.float64))
    assert 0 <= near.low <= 0.2 <= near.high


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_cpu():
    features, labels = case(rows=50)
    weight = torch.eye(4, 6, dtype=torch.float64)
    found = []
    for device in ("cpu", "cuda"):
        there = collapse.classes_of(features.to(device), labels.to(device))
        drawn = collapse.bootstrap(features.to(device), there, weight.to(device), replicates=50, seed=0)
        found.append((collapse.geometry(features.to(device), there).nc1.cpu(), *drawn))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
