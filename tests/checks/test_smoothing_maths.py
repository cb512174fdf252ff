"""Sequential certificates: level, agreement with fixed samples, exact linear models, and their savings."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import beta, binom, norm
from sklearn.linear_model import LogisticRegression

from assessor.contract import Split, Task
from assessor.subjects.sklearn_estimator import SklearnSubject
from assessor.subjects.torch_module import TorchSubject
from assessor_checks.robustness._smoothing import (
    certify,
    log_evidence,
    lower_bound,
    most_certifiable,
    noisy,
    thresholds_of,
)

LADDER = thresholds_of(np.array([0.0, 0.25, 0.5, 0.75, 1.0]), 1.0)


def coins(p, seed):
    """Rows whose class 0 comes with these probabilities, else class 1."""
    rng = np.random.default_rng(seed)
    return lambda which, count: (rng.random((len(which), count)) >= np.asarray(p)[which, None]).astype(np.int64)


def certified(p, seed=0, thresholds=LADDER, alpha=0.001, most=2000, rungs=None):
    n = len(p)
    rungs = np.full(n, len(thresholds)) if rungs is None else rungs
    return certify(coins(p, seed), np.zeros(n, np.int64), rungs, thresholds, alpha=alpha, most=most)


@pytest.mark.parametrize(("hits", "copies", "t"), [(30, 32, 0.5), (95, 100, 0.84), (10, 40, 0.5), (64, 64, 0.977)])
def test_evidence_is_the_integral(hits, copies, t):
    # the density of the mixture ends in a root at 1, where numerical integration is good to 1e-6
    def bet(q):
        ratio = (q / t) ** hits * ((1 - q) / (1 - t)) ** (copies - hits)
        return ratio * beta.pdf(q, 0.5, 0.5) / beta.sf(t, 0.5, 0.5)

    slow = quad(bet, t, 1, limit=500)[0]
    assert log_evidence(np.array(hits), np.array(copies), np.array(t)) == pytest.approx(np.log(slow), abs=1e-5)


@settings(max_examples=30, deadline=None)
@given(copies=st.integers(1, 10**6), share=st.floats(0, 1), t=st.floats(0.5, 0.999))
def test_evidence_is_always_a_number_or_nothing(copies, share, t):
    found = float(log_evidence(np.array(round(copies * share)), np.array(copies), np.array(t)))
    assert not np.isnan(found)
    assert found < np.inf


def test_evidence_is_fair_at_the_threshold():
    # a supermartingale that starts at 1: the mean over all outcomes of 20 copies is 1 at p = t and less below
    hits, copies, t = np.arange(21), np.array(20), np.array(0.7)
    evidence = np.exp(log_evidence(hits, copies, t))
    assert (evidence * binom.pmf(hits, 20, 0.7)).sum() == pytest.approx(1, rel=1e-9)
    assert (evidence * binom.pmf(hits, 20, 0.6)).sum() < 1


def test_lower_bound_is_clopper_pearson():
    assert lower_bound(np.array([0, 90, 100]), 100, 0.05) == pytest.approx(
        [0, beta.ppf(0.05, 90, 11), 0.05 ** (1 / 100)]
    )
    assert most_certifiable(100, 0.02) == pytest.approx(0.01 ** (1 / 100))


@pytest.mark.parametrize("p", [0.5, 0.6, LADDER[2], LADDER[4]])
def test_wrong_certificates_keep_their_level(p):
    # any threshold at or above p that falls is a wrong certificate; 4 000 rows, alpha 5 %
    n, alpha = 4000, 0.05
    found = certified(np.full(n, p), alpha=alpha, most=1000)
    wrong = (found.rung > (p > LADDER).sum()).sum()
    assert wrong <= binom.ppf(0.9999, n, alpha)
    assert (found.copies <= 1000).all()


def test_as_good_as_a_fixed_number_at_a_part_of_the_cost():
    p = np.random.default_rng(3).beta(6, 0.5, 600)
    few = certified(p, most=10_000)
    hits = np.random.default_rng(4).binomial(10_000, p)
    fixed = (lower_bound(hits, 10_000, 0.001)[:, None] > LADDER).sum(axis=1)
    for rung in (1, 5):  # smoothed at all, and the last radius; those between may cost a quarter of the copies only
        assert abs((few.rung >= rung).mean() - (fixed >= rung).mean()) < 0.02
    assert np.mean(few.rung >= 3) > np.mean(fixed >= 3) - 0.03
    assert few.copies.mean() < 2500


def test_easy_rows_stop_early_and_hopeless_ones_too():
    found = certified(np.array([1.0, 0.02, 0.5, 0.97]), most=100_000)
    assert found.rung.tolist() == [5, 0, 0, 5]
    assert found.copies[0] < 200
    assert found.copies[1] < 100
    assert found.copies[2] == 100_000
    assert found.copies[3] < 1000


def test_a_row_of_one_rung_needs_the_first_only():
    found = certified(np.array([0.8, 0.8]), rungs=np.array([1, 0]))
    assert found.rung.tolist() == [1, 0]
    assert found.copies[1] == 0
    assert found.copies[0] < 200


def test_same_seed_same_numbers_and_no_rows():
    p = np.linspace(0.4, 1, 20)
    assert all(np.array_equal(a, b) for a, b in zip(certified(p), certified(p), strict=True))
    assert certified(np.empty(0)).rung.shape == (0,)


def linear_subjects():
    """One linear classifier of two features as both kinds of subject: weights (3, 4), length 5."""
    x = np.random.default_rng(0).standard_normal((40, 2))
    model = LogisticRegression().fit(x, np.arange(40) % 2)
    model.coef_, model.intercept_ = np.array([[3.0, 4.0]]), np.zeros(1)
    net = torch.nn.Linear(2, 1).double()
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[3.0, 4.0]]))
        net.bias.zero_()
    splits = {"test": Split("test", model.predict(x), "t", x)}
    return x, (
        SklearnSubject(model, Task.BINARY, ("0", "1"), splits),
        TorchSubject(net, Task.BINARY, ("0", "1"), splits),
    )


def test_noise_of_both_kinds_of_subject_hits_as_the_exact_model_does():
    x, subjects = linear_subjects()
    exact = norm.cdf(x @ np.array([3.0, 4.0]) / 5 / 0.5)
    for subject in subjects:
        draw = noisy(subject, x, np.full(2, 0.5), 0)
        answers = draw(np.arange(40), 2000)
        assert answers.shape == (40, 2000)
        error = np.sqrt(exact * (1 - exact) / 2000)
        assert (np.abs((answers == 1).mean(axis=1) - exact) < 4 * error + 1e-3).all()
        again = noisy(subject, x, np.full(2, 0.5), 0)(np.arange(40), 2000)
        assert np.array_equal(answers, again)


def test_features_without_noise_are_left_alone():
    x, subjects = linear_subjects()
    for subject in subjects:
        answers = noisy(subject, x, np.zeros(2), 0)(np.arange(40), 3)
        assert (answers == subject.query(x)[:, None]).all()


@pytest.mark.cuda
def test_noise_on_a_gpu():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    x, (_, subject) = linear_subjects()
    found = TorchSubject(subject.module, Task.BINARY, ("0", "1"), subject.splits, device="cuda")
    answers = noisy(found, x, np.full(2, 0.5), 0)(np.arange(40), 2000)
    exact = norm.cdf(x @ np.array([3.0, 4.0]) / 5 / 0.5)
    assert np.abs((answers == 1).mean(axis=1) - exact).max() < 0.06
