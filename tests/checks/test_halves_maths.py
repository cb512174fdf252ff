"""Tests of weak groups: against scipy, and the level under a homogeneous model."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.tree import DecisionTreeRegressor

from assessor_checks.reliability import _halves as halves
from assessor_checks.reliability import _slices as slices


def table(n, seed, numbers=3):
    rng = np.random.default_rng(seed)
    made = pd.DataFrame(rng.standard_normal((n, numbers)), columns=[f"x{i}" for i in range(numbers)])
    made["site"] = rng.choice(list("abc"), n)
    return made


def check_groups(members, losses, parts, tests=1, permutations=1999, least=5):
    return halves.put_to_test(
        members, losses, parts, tests=tests, permutations=permutations, rng=np.random.default_rng(0), least=least
    )


def test_exact_test_is_fishers():
    made = slices.conditions(table(90, 1), bins=4, least=5)
    losses = (np.random.default_rng(1).random(90) < 0.2).astype(float)
    for one in check_groups(made.members, losses, [(0,), (3,), (0, len(made.names) - 1)]):
        inside = made.members[:, one.parts].all(axis=1)
        counts = [[losses[part].sum(), (1 - losses[part]).sum()] for part in (inside, ~inside)]
        assert one.p_value == pytest.approx(stats.fisher_exact(counts, "greater").pvalue, rel=1e-9)
        assert (one.rows, one.inside) == (inside.sum(), pytest.approx(losses[inside].mean()))
        assert one.gap == pytest.approx(losses[inside].mean() - losses[~inside].mean())
        assert one.low <= one.gap <= one.high


def test_permutation_test_agrees_with_scipys_and_with_its_normal_limit(monkeypatch):
    rng = np.random.default_rng(3)
    inside = np.arange(60) < 15
    losses = rng.exponential(size=60) + 0.4 * inside
    (one,) = check_groups(inside[:, None], losses, [(0,)], permutations=19_999)
    slow = stats.permutation_test(
        (losses[inside], losses[~inside]), lambda a, b: a.mean() - b.mean(), alternative="greater", n_resamples=9999,
        rng=np.random.default_rng(4),
    )  # fmt: skip
    assert one.p_value == pytest.approx(slow.pvalue, abs=4 * (slow.pvalue / 9999) ** 0.5)
    monkeypatch.setattr(halves, "_NORMAL", 10)
    assert check_groups(inside[:, None], losses, [(0,)])[0].p_value == pytest.approx(one.p_value, abs=0.02)


def test_limits_of_means_are_welchs():
    rng = np.random.default_rng(5)
    inside = np.arange(80) < 30
    losses = rng.normal(2, 1, 80) + 2.0 * inside
    (one,) = check_groups(inside[:, None], losses, [(0,)], tests=4)
    result = stats.ttest_ind(losses[inside], losses[~inside], equal_var=False)
    assert one.high == pytest.approx(result.confidence_interval(0.95).high)
    assert one.low == pytest.approx(result.confidence_interval(1 - 0.05 / 4).low)


def test_what_no_test_confirms_is_not_above_zero():
    inside = np.arange(200) < 40
    losses = np.zeros(200)
    losses[:6] = 1
    losses[100:108] = 1
    (one,) = check_groups(inside[:, None], losses, [(0,)], tests=50)
    assert one.p_value > 0.025 / 50
    assert one.low <= 0


def test_too_few_rows_are_not_tested():
    members = np.zeros((50, 2), bool)
    members[:4, 0] = True
    members[:20, 1] = True
    assert [one.parts for one in check_groups(members, np.arange(50) % 2.0, [(0,), (1,)])] == [(1,)]
    assert check_groups(members, np.arange(50) % 2.0, []) == []


def test_holm_counts_both_halves():
    one = halves.Candidate((0,), 5, 0.2, 0.1, 0.0, 0.2, 0.01, 0.01)
    first, second = halves.adjusted([[one, one._replace(p_value=0.02)], []])
    assert [item.p_holm for item in first] == [0.02, 0.02]
    assert second == []
    first, second = halves.adjusted([[one], [one._replace(p_value=0.4), one._replace(p_value=0.9)]])
    assert [item.p_holm for item in first + second] == [0.02, 1.0, 1.0]


def both_ways(frame, losses, seed):
    return halves.both_ways(frame, losses, seed, depth=2, bins=4, least=20, most=10, permutations=999)


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.05, 0.3])
def test_level_under_a_homogeneous_model(rate):
    """At most 5 % of 150 homogeneous models may have a confirmed group: 4 standard errors above is 12 %."""
    false, above = 0, 0
    for seed in range(150):
        losses = (np.random.default_rng([seed, 1]).random(400) < rate).astype(float)
        found = both_ways(table(400, seed, 5), losses, seed).found
        false += any(one.p_holm <= 0.05 for one in found)
        above += halves.worst(found).low > 0
    assert false <= 0.12 * 150
    assert above <= 0.075 * 150


def test_planted_group_is_found_and_overlaps_that_of_a_decision_tree():
    frame = table(1500, 3, 5)
    weak = ((frame.x0 > 0.6) & (frame.site == "a")).to_numpy()
    rng = np.random.default_rng(0)
    losses = (rng.random(1500) < np.where(weak, 0.5, 0.1)).astype(float)
    search = both_ways(frame, losses, 0)
    made, found = search.conditions, search.found
    best = min(found, key=lambda one: one.p_holm)
    assert best.p_holm < 0.001
    inside = made.members[:, best.parts].all(axis=1)
    assert (inside & weak).sum() > 0.7 * (inside | weak).sum()
    coded = pd.get_dummies(frame)
    tree = DecisionTreeRegressor(max_depth=3, min_samples_leaf=40, random_state=0).fit(coded, losses)
    leaf = tree.apply(coded)
    worst = leaf == leaf[tree.predict(coded).argmax()]
    assert (inside & worst).sum() > 0.5 * (inside | worst).sum()
    assert halves.worst(found).low > 0.1
    assert halves.worst(found).low < 0.4 < halves.worst(found).high


def test_detectable_excess_is_found_in_four_of_five():
    """By simulation of the very test: one group of a fifth of 600 rows, 5 tests."""
    inside = np.arange(600) < 120
    losses = np.zeros(600)
    losses[:120] = 1  # a fifth
    excess = halves.detectable(losses, 0.2, 5)
    rng, hits = np.random.default_rng(0), 0
    for _ in range(400):
        drawn = (rng.random(600) < np.where(inside, 0.2 + 0.8 * excess, 0.2 - 0.2 * excess)).astype(float)
        (one,) = check_groups(inside[:, None], drawn, [(0,)], tests=5)
        hits += one.p_value <= 0.05 / 5
    assert hits / 400 == pytest.approx(0.8, abs=0.09)
