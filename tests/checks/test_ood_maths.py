"""Scores for foreign rows, each against its definition; made rows against what they claim."""

import numpy as np
import pytest
import torch
from scipy.stats import entropy

from assessor.contract import Split, Task
from assessor.subjects.torch_module import TorchSubject
from assessor_checks.robustness._ood import (
    Gaussians,
    complete,
    finite,
    given_rows,
    made_rows,
    neighbour_distance,
    of_logits,
    of_probabilities,
    scorer,
    training_rows,
    twins,
)


def rows(n=60, d=3, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d)) * np.arange(1, d + 1)


def test_made_rows_are_what_they_claim():
    x, rng = rows(400), np.random.default_rng(1)
    x[:, 1] = x[:, 0]  # a bond that shuffling must break
    shuffled = made_rows("shuffled", x, rng)
    assert (np.sort(shuffled, axis=0) == np.sort(x, axis=0)).all()
    assert abs(np.corrcoef(shuffled[:, 0], shuffled[:, 1])[0, 1]) < 0.2
    gaussian = made_rows("gaussian", x, rng)
    assert gaussian.std(axis=0) == pytest.approx(x.std(axis=0), rel=0.15)
    uniform = made_rows("uniform", x, rng)
    assert (uniform >= x.min(axis=0)).all()
    assert (uniform <= x.max(axis=0)).all()
    stretched = made_rows("stretched", x, rng)
    assert stretched - x.mean(axis=0) == pytest.approx(3 * (x - x.mean(axis=0)))


def test_made_rows_keep_shape_and_type():
    x = rows(20, 12).astype(np.float32).reshape(20, 1, 3, 4)
    for kind in ("shuffled", "gaussian", "uniform", "stretched"):
        made = made_rows(kind, x, np.random.default_rng(0))
        assert (made.shape, made.dtype) == (x.shape, x.dtype)
        assert (made == made_rows(kind, x, np.random.default_rng(0))).all()


def test_scores_of_probabilities_and_logits():
    p = np.array([[0.7, 0.2, 0.1], [1.0, 0.0, 0.0]])
    found = of_probabilities(p)
    assert found["max_probability"].tolist() == [-0.7, -1.0]
    assert found["entropy"] == pytest.approx(entropy(p, axis=1))
    z = np.array([[1000.0, 999.0, -5.0]])
    assert of_logits(z)["energy"] == pytest.approx([-1000 - np.log1p(np.exp(-1))])
    assert of_logits(np.array([[0.0, 3.0], [0.0, -2.0]])) == {}


def test_mahalanobis_by_hand():
    features = np.array([[0.0, 0.0], [2.0, 0.0], [10.0, 1.0], [10.0, -1.0]])
    found = Gaussians.fitted(features, np.array([0, 0, 1, 1]))
    assert found.means.tolist() == [[1.0, 0.0], [10.0, 0.0]]
    # pooled covariance: diag(1/2, 1/2), so squared distances are doubled; the ridge is a millionth
    assert found.distance(np.array([[1.0, 0.0], [4.0, 0.0], [9.0, 2.0]])) == pytest.approx([0, 18, 10], rel=1e-5)


def test_a_flat_direction_does_not_break_mahalanobis():
    features = np.stack([np.arange(10.0), np.zeros(10)], axis=1)
    assert np.isfinite(Gaussians.fitted(features, np.zeros(10, int)).distance(features)).all()
    assert np.isfinite(Gaussians.fitted(np.ones((4, 2)), np.zeros(4, int)).distance(np.ones((4, 2)))).all()


@pytest.mark.parametrize("k", [1, 3, 60])
def test_neighbour_distance_is_the_slow_one(k):
    x, reference = rows(30), rows(60, seed=1)
    slow = np.sort(np.linalg.norm(x[:, None] - reference, axis=2), axis=1)[:, k - 1]
    assert neighbour_distance(x, reference, k) == pytest.approx(slow)


def subject(x, y, ood=None, net=None):
    torch.manual_seed(0)
    net = net or torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3))
    splits = {"train": Split("train", y, "a", x), "test": Split("test", y, "b", x)}
    if ood is not None:
        splits["ood"] = Split("ood", np.full(len(ood), np.nan), "c", ood)
    return TorchSubject(net, Task.MULTICLASS, ("a", "b", "c"), splits)


def test_all_scores_of_a_module():
    x, y = rows().astype(np.float32), np.arange(60) % 3
    found = subject(x, y)
    scores, deep = scorer(found, (x, y), 2)
    values = scores(x)
    assert deep
    assert list(values) == ["max_probability", "entropy", "energy", "mahalanobis", "knn_features", "knn_inputs"]
    with torch.no_grad():
        phi = found.module[:2](torch.from_numpy(x)).double().numpy()
        z = found.module(torch.from_numpy(x)).double()
    assert values["energy"] == pytest.approx(-z.logsumexp(dim=1).numpy(), rel=1e-6)
    assert values["mahalanobis"] == pytest.approx(Gaussians.fitted(phi, y).distance(phi))
    unit = phi / np.maximum(np.linalg.norm(phi, axis=1, keepdims=True), 1e-300)
    assert values["knn_features"] == pytest.approx(neighbour_distance(unit, unit, 2))
    scaled = x / x.astype(float).std(axis=0)
    assert values["knn_inputs"] == pytest.approx(neighbour_distance(scaled, scaled, 2), rel=1e-5)


def test_without_train_rows_or_last_layer():
    x, y = rows().astype(np.float32), np.arange(60) % 3
    scores, deep = scorer(subject(x, y), None, 2)
    assert not deep
    assert list(scores(x)) == ["max_probability", "entropy", "energy"]
    softmax = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Softmax(dim=1))
    scores, deep = scorer(subject(x, y, net=softmax), (x, y), 2)
    assert not deep
    assert list(scores(x)) == ["max_probability", "entropy", "energy", "knn_inputs"]


def test_rows_given_their_twins_and_what_is_complete():
    x, y = rows().astype(np.float32), np.arange(60) % 3
    x[0, 0] = np.nan
    ood = np.concatenate([rows(10, seed=5), x[:11].astype(float)])
    found = subject(x, y, ood)
    given = given_rows(found, x, 1000, 0)
    assert given.dtype == np.float32
    assert len(given) == 20  # one is incomplete
    assert twins(found, given) == 0.5
    assert len(complete(x)) == 59
    reference = training_rows(found, x.dtype, 0)
    assert len(reference[0]) == len(reference[1]) == 59
    assert given_rows(subject(x, y), x, 10, 0) is None
    kept = finite({"a": np.array([1.0, np.nan, 3.0]), "b": np.array([1.0, 2.0, np.inf])})
    assert [values.tolist() for values in kept.values()] == [[1.0], [1.0]]
