"""Insertion, deletion and infidelity by hand, against captum, and without any knowledge of the model."""

import numpy as np
import pytest

from assessor_checks._explained import Rows
from assessor_checks.transparency import _faithfulness as faithfulness
from assessor_checks.transparency._attributions import parts_of

W = np.array([4.0, -2.0, 1.0, 0.0])


def rows(x, baselines=None):
    x = np.asarray(x, dtype=np.float64)
    base = np.zeros((1, *x.shape)) if baselines is None else baselines
    return Rows(x, np.zeros(len(x), np.int64), base, np.arange(len(x)), np.ones(x.shape[1:]))


def linear(x, _):
    return x @ W


PARTS = parts_of((4,), 1)


def test_curves_of_a_linear_model_by_hand():
    # x = 1: the parts give 4, -2, 1, 0. By size of their gift: 4, 1, 0, -2.
    some, scores = rows(np.ones((1, 4))), W[None]
    place = faithfulness.places(scores, np.random.default_rng(0))
    assert place.tolist() == [[0, 3, 1, 2]]
    curves = faithfulness.curves(linear, some, PARTS, place, 20)
    assert curves.shares.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert curves.insertion.tolist() == [[0, 4, 5, 5, 3]]
    assert curves.deletion.tolist() == [[3, -1, -2, -2, 0]]
    assert curves.gain.tolist() == [pytest.approx(((4 + 5 + 5 + 1.5) - (1.5 - 1 - 2 - 2)) / 8)]
    coarse = faithfulness.curves(linear, some, PARTS, place, 2)
    assert coarse.insertion.tolist() == [[0, 5, 3]]


def test_no_order_has_more_gain_than_the_true_one_in_a_linear_model():
    from itertools import permutations

    some = rows(np.ones((1, 4)))
    gains = {
        order: float(faithfulness.curves(linear, some, PARTS, np.array([order]), 20).gain[0])
        for order in permutations(range(4))
    }
    assert max(gains, key=gains.get) == (0, 3, 1, 2)
    assert np.mean(list(gains.values())) == pytest.approx(0)  # a random order gains nothing


def test_constant_scores_are_a_random_order():
    # Ties must not fall in the order of the columns, where the first happens to matter most.
    some = rows(np.ones((4000, 4)))
    place = faithfulness.places(np.zeros((4000, 4)), np.random.default_rng(0))
    gain = faithfulness.curves(linear, some, PARTS, place, 20).gain
    assert abs(gain.mean()) < 4 * gain.std() / np.sqrt(4000)
    assert np.bincount(place[:, 0]).tolist() == pytest.approx([1000] * 4, rel=0.15)


def test_infidelity_is_0_for_the_true_attributions_and_1_for_none():
    some = rows(np.random.default_rng(0).standard_normal((5, 4)))
    true = W * some.x
    found = faithfulness.infidelity(linear, some, PARTS, true, sets=40, seed=0)
    assert found.squared_error == pytest.approx(np.zeros(5), abs=1e-24)
    assert found.unexplained == pytest.approx(np.zeros(5), abs=1e-12)
    scaled = faithfulness.infidelity(linear, some, PARTS, 3 * true, sets=40, seed=0)
    assert scaled.unexplained == pytest.approx(np.zeros(5), abs=1e-12)
    assert (scaled.squared_error > 0).all()
    none = faithfulness.infidelity(linear, some, PARTS, np.zeros((5, 4)), sets=40, seed=0)
    assert none.unexplained == pytest.approx(np.ones(5))
    still = faithfulness.infidelity(lambda x, _: np.ones(len(x)), some, PARTS, true, sets=40, seed=0)
    assert np.isnan(still.unexplained).all()


def test_infidelity_equals_captum():
    torch = pytest.importorskip("torch")
    metrics = pytest.importorskip("captum.metrics")
    some = rows(np.random.default_rng(1).standard_normal((3, 4)))
    told = np.random.default_rng(2).standard_normal((3, 4))

    def values(x, _):
        return np.tanh(x @ W) + x[:, 0] * x[:, 1]

    ours = faithfulness.infidelity(values, some, PARTS, told, sets=30, seed=0).squared_error
    for row in range(3):
        gone = faithfulness._set(4, 30, 0, row)

        def replaced(inputs, row=row, gone=gone):
            mask = torch.from_numpy(gone).double()
            return mask, inputs * (1 - mask)  # captum's global attributions: the set itself is the perturbation

        theirs = metrics.infidelity(
            lambda x: torch.from_numpy(values(x.numpy(), None)),
            replaced,
            torch.from_numpy(some.x[row : row + 1]),
            torch.from_numpy(told[row : row + 1]),
            n_perturb_samples=30,
        )
        assert ours[row] == pytest.approx(float(theirs), rel=1e-9)


def test_sets_are_of_every_size_equally_often():
    sizes = faithfulness._set(4, 20_000, 0, 7).sum(axis=1)
    assert np.bincount(sizes, minlength=5).tolist() == pytest.approx([0, 5000, 5000, 5000, 5000], rel=0.05)
    assert faithfulness._set(4, 5, 0, 1).tolist() != faithfulness._set(4, 5, 0, 2).tolist()


def test_several_baselines_give_the_mean_curve():
    x = np.random.default_rng(0).standard_normal((3, 4))
    bases = np.random.default_rng(1).standard_normal((2, 3, 4))
    place = np.tile([0, 3, 1, 2], (3, 1))
    whole = faithfulness.curves(linear, rows(x, bases), PARTS, place, 20).insertion
    alone = [faithfulness.curves(linear, rows(x, base[None]), PARTS, place, 20).insertion for base in bases]
    assert whole == pytest.approx(np.mean(alone, axis=0))
