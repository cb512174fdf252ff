"""Counting in parts, and resampling from counts: against all rows at once and against drawing rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assessor.contract import NotApplicable, Part, Task
from assessor_checks import _gaps, _groups, _rates

ROW = st.tuples(st.sampled_from(["a", "b", None]), st.sampled_from([9, 10, 2.5]), st.integers(0, 2), st.integers(0, 2))


def part(rows):
    first, second, labels, predictions = zip(*rows, strict=True)
    return Part(np.array(labels), np.array(predictions), pd.DataFrame({"x": first, "y": second}))


@given(st.lists(st.lists(ROW, min_size=1, max_size=12), min_size=1, max_size=4), st.sampled_from([None, 1, 2]))
@settings(max_examples=60, deadline=None)
def test_counting_in_parts_gives_what_all_rows_give(parts, depth):
    counted = _rates.tally(map(part, parts), positive=2)
    labels, predictions, frame = part([row for rows in parts for row in rows])
    groups = _groups.find_groups(frame, depth=depth)
    outcomes = _rates.count_outcomes(groups.cells, labels, predictions, positive=2)
    found, counts = _rates.tallied_groups(counted, depth=depth)
    assert (found.attributes, found.names) == (groups.attributes, groups.names)
    assert (found.members == groups.members).all()
    assert (counts == outcomes).all()
    one, other = (_rates.rates_of(x, y, minimum=1) for x, y in ((groups, outcomes), (found, counts)))
    for name in _rates.RATES:
        for mine, theirs in zip(one[name][1:], other[name][1:], strict=True):
            assert (mine == theirs).all()


def test_outcomes_by_hand():
    cells, labels = np.array([0, 0, 0, 1, 1, 1, 1]), np.array([2, 2, 0, 1, 1, 0, 2])
    predictions = np.array([2, 0, 2, 1, 0, 2, 2])
    found = _rates.count_outcomes(cells, labels, predictions, positive=2)
    assert found.tolist() == [[1, 1, 1, 0, 0], [1, 0, 1, 1, 1]]
    assert _rates.count_outcomes(np.empty(0, int), labels[:0], labels[:0], positive=1).shape == (0, 5)


@given(st.lists(st.lists(ROW, min_size=1, max_size=9), min_size=1, max_size=4), st.integers(1, 3), st.integers(3, 9))
@settings(max_examples=60, deadline=None)
def test_attributes_with_many_values_are_left_out_whatever_the_parts(parts, texts, cap):
    with pytest.MonkeyPatch.context() as patch:
        for module in (_groups, _rates):
            patch.setattr(module, "MAX_TEXTS", texts)
            patch.setattr(module, "MAX_VALUES", 1)
        patch.setattr(_rates, "_COUNTED", cap)
        one = part([row for rows in parts for row in rows])
        try:
            frame, unfit = _groups.comparable(one.attributes, None)
        except NotApplicable:
            with pytest.raises(NotApplicable, match=r"Use fairness\.distance_covariance"):
                _rates.tally(map(part, parts), positive=1)
            return
        counted = _rates.tally(map(part, parts), positive=1)
    assert counted.attributes == tuple(frame.columns)
    assert len(counted.unfit) == len(unfit)
    for said, wanted in zip(counted.unfit, unfit, strict=True):
        assert said == wanted or f"it has more than {cap} distinct values" in said
    groups = _groups.find_groups(frame)
    found, outcomes = _rates.tallied_groups(counted)
    assert found.names == groups.names
    assert (outcomes == _rates.count_outcomes(groups.cells, one.labels, one.predictions, positive=1)).all()


def test_rows_without_attributes_cannot_be_compared():
    bare = Part(np.array([1]), np.array([1]), None)
    empty = Part(np.array([], int), np.array([], int), pd.DataFrame({"x": []}))
    for parts in ([], [bare], [empty]):
        with pytest.raises(NotApplicable, match="no rows with sensitive attributes"):
            _rates.tally(parts, positive=1)
    with pytest.raises(NotApplicable, match="no sensitive column 'z'; found"):
        _rates.tally([part([("a", 9, 1, 1)])], ["z"], positive=1)


def test_all_intersections_of_up_to_three():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({name: rng.integers(0, 2, 200) for name in "abcd"})
    found = _groups.find_groups(frame, depth=3)
    assert len(found.families) == 4 + 6 + 4
    assert found.families[4] == "a × b"
    assert len(found.names) == 4 * 2 + 6 * 4 + 4 * 8
    rows = found.members[:, found.cells]
    for name, family, inside in zip(found.names, found.attributes, rows, strict=True):
        parts = zip(family.split(" × "), name.split(" × "), strict=True)
        wanted = np.all([frame[a].astype(str) == value for a, value in parts], axis=0)
        assert (inside == wanted).all()


def test_resampling_counts_is_resampling_rows():
    rng = np.random.default_rng(0)
    n = 300
    group, labels = rng.choice(3, n, p=[0.6, 0.3, 0.1]), rng.integers(0, 2, n)
    predictions = (rng.random(n) < 0.3 + 0.2 * labels).astype(int)
    groups = _groups.find_groups(pd.DataFrame({"g": group}))
    outcomes = _rates.count_outcomes(groups.cells, labels, predictions, positive=1)
    quick = _rates.resampled_rates(groups, outcomes, 4000, np.random.default_rng(1))
    slow = {name: np.empty((1500, 3)) for name in _rates.RATES}
    for draw in range(1500):
        rows = rng.integers(0, n, n)
        counts = _rates.count_outcomes(group[rows], labels[rows], predictions[rows], positive=1)
        for name, rate in _rates.rates_of(groups, counts, minimum=1).items():
            slow[name][draw] = rate.hits / rate.trials
    for name in _rates.RATES:
        error = 4 * slow[name].std(axis=0) / np.sqrt(1500)  # four standard errors
        assert (np.abs(quick[name].mean(axis=0) - slow[name].mean(axis=0)) < error).all()
        assert quick[name].std(axis=0) == pytest.approx(slow[name].std(axis=0), rel=0.1)
    rates = _rates.rates_of(groups, outcomes, minimum=20)
    for name, parts in _gaps.COMPONENTS.items():
        item = _gaps.compare(name, groups, rates, 0.95, 99, rng)
        found = _gaps.resampled_gaps(item, groups, quick)
        values = [quick[part] for part in parts]
        if name == "demographic_parity_ratio":
            wanted = values[0].min(axis=1) / values[0].max(axis=1)
        else:
            wanted = np.max([value.max(axis=1) - value.min(axis=1) for value in values], axis=0)
        assert found == pytest.approx(wanted)


def test_a_group_that_is_never_drawn_gives_no_rate():
    groups = _groups.find_groups(pd.DataFrame({"g": ["a", "b", "b", "b"]}))
    outcomes = np.array([[1, 0, 0, 0, 0], [1, 1, 1, 0, 0]])
    found = _rates.resampled_rates(groups, outcomes, 500, np.random.default_rng(0))
    assert np.isnan(found["selection_rate"][:, 0]).any()
    assert np.isfinite(found["selection_rate"][:, 0]).any()


def test_too_many_combinations_are_refused():
    frame = pd.DataFrame({"a": np.arange(9000) % 95, "b": np.arange(9000) // 95}).astype(str)
    with pytest.raises(NotApplicable, match="the attributes have 9000 combinations of values, too many to compare"):
        _groups.find_groups(frame)
    assert len(_groups.find_groups(frame, intersections=False).names) == 95 + 95


def test_a_right_model_is_right_in_every_resample():
    groups = _groups.find_groups(pd.DataFrame({"g": ["a", "b"] * 20}))
    outcomes = _rates.count_outcomes(groups.cells, np.zeros(40, int), np.zeros(40, int), positive=1)
    found = _rates.resampled_rates(groups, outcomes, 7, np.random.default_rng(0))
    assert found["accuracy"].tolist() == [[1.0, 1.0]] * 7


def test_the_favourable_class():
    assert _rates.favourable(Task.BINARY, ("no", "yes"), None, needed=True) == 1
    assert _rates.favourable(Task.MULTICLASS, ("a", "b", "c"), "b", needed=True) == 1
    assert _rates.favourable(Task.MULTICLASS, ("a", "b", "c"), None, needed=False) == 2
    with pytest.raises(NotApplicable, match="which class is the favourable decision"):
        _rates.favourable(Task.MULTICLASS, ("a", "b", "c"), None, needed=True)
