"""reliability.frozen_weakness: planted weaknesses and mended models, every kind of case, files of strangers."""

from __future__ import annotations

import hashlib
import io
import zipfile

import matplotlib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from pydantic import ValidationError

from assessor.contract import Condition, NotApplicable, Origin, Split, Task
from assessor.freezing import packed
from assessor.subjects.predictions import PredictionsSubject
from assessor_checks._intervals import clopper_pearson, wilson
from assessor_checks.reliability import _frozen
from assessor_checks.reliability.frozen_weakness import CHECK, FrozenWeaknessParams

matplotlib.use("Agg")
WHERE = [{"column": "age", "above": 47}, {"column": "site", "equals": "1"}]


def predicted(wrong, x, *, task=Task.BINARY, attributes=None, labels=None):
    """Predictions that err where said; for a regression by as much as said."""
    n = len(wrong)
    labels = np.arange(n) % 2 if labels is None else labels
    values = np.asarray(wrong, dtype=float) if task is Task.REGRESSION else labels ^ np.asarray(wrong, dtype=int)
    split = Split("test", labels * 1.0 if task is Task.REGRESSION else labels, "0", features=x,
                  feature_names=("age", "dose", "site"), attributes=attributes)  # fmt: skip
    predictions = split.labels + values if task is Task.REGRESSION else values
    classes = () if task is Task.REGRESSION else ("no", "yes")
    return PredictionsSubject(task, classes, {"test": split}, {"test": predictions}, {})


def rows(n=800, seed=0):
    rng = np.random.default_rng(seed)
    return np.column_stack([rng.normal(40, 10, n), rng.normal(0, 1, n), rng.integers(0, 3, n)])


def weak(x):
    return (x[:, 0] > 47) & (x[:, 2] == 1)


def run(subject, cases, seed=0):
    return CHECK.measure(subject, FrozenWeaknessParams(cases=cases), seed)


def test_a_weak_group_and_its_mended_twin():
    x = rows()
    inside = weak(x)
    rng = np.random.default_rng(1)
    for chance, low, high in ((0.45, 0.2, 0.7), (0.0, 0.0, 0.15)):
        wrong = rng.random(len(x)) < np.where(inside, chance, 0.05)
        found = run(predicted(wrong, x), {"weak_site": {"told": "a", "where": WHERE}})
        worst, case = found.metrics
        expected = clopper_pearson(int(wrong[inside].sum()), int(inside.sum()))
        assert (worst.value, worst.low, worst.high) == (case.value, case.low, case.high) == tuple(expected)
        assert low <= worst.low
        assert worst.high <= high
        assert (worst.name, worst.primary, case.name, case.n) == ("worst_case", True, "case_weak_site", inside.sum())


def test_the_worst_of_several_allows_for_their_number():
    x = rows()
    wrong = np.random.default_rng(1).random(len(x)) < 0.3
    cases = {f"c{k}": {"told": "a", "where": [{"column": "site", "equals": str(k)}]} for k in range(3)}
    found = run(predicted(wrong, x), cases)
    worst, *each = found.metrics
    assert worst.value == max(metric.value for metric in each)
    assert worst.high == max(metric.high for metric in each)
    for metric in each:
        together = clopper_pearson(round(metric.value * metric.n), metric.n, 1 - 0.05 / 3)
        assert (metric.value, metric.low) == (together.value, together.low)
    assert worst.low == max(metric.low for metric in each)


@pytest.mark.slow
def test_coverage_of_the_worst_case():
    """600 times three groups of equal error: the interval of the worst one holds the truth in at least 95 %."""
    x = rows(600)
    cases = {f"c{k}": {"told": "a", "where": [{"column": "site", "equals": str(k)}]} for k in range(3)}
    rng, held = np.random.default_rng(2), 0
    for _ in range(600):
        worst = run(predicted(rng.random(len(x)) < 0.2, x), cases).metrics[0]
        held += worst.low <= 0.2 <= worst.high
    assert held >= 0.95 * 600


def test_a_regression_group_in_its_units():
    x = rows()
    errors = np.where(weak(x), 3.0, 0.1) * np.random.default_rng(0).standard_normal(len(x))
    found = run(predicted(errors, x, task=Task.REGRESSION), {"a": {"told": "a", "where": WHERE}})
    assert found.metrics[0].unit == "units of the label"
    assert found.metrics[0].low < np.abs(errors[weak(x)]).mean() < found.metrics[0].high
    with pytest.raises(NotApplicable, match="case a: accuracy is a rate of decisions"):
        run(predicted(errors, x, task=Task.REGRESSION), {"a": {"told": "a", "where": WHERE, "compared": "accuracy"}})


@pytest.mark.parametrize("rate", ["selection_rate", "true_positive_rate", "false_positive_rate", "accuracy"])
def test_a_rate_of_a_group_by_hand(rate):
    labels = np.array([0, 1] * 100)
    predictions = np.where(np.arange(200) < 60, 1, labels)
    attributes = pd.DataFrame({"sex": ["f"] * 50 + ["m"] * 150})
    subject = predicted(predictions ^ labels, None, attributes=attributes, labels=labels)
    case = {"told": "a", "where": [{"column": "sex", "equals": "f"}], "compared": rate, "positive": "yes"}
    metric = run(subject, {"a": case}).metrics[1]
    counted = {"selection_rate": labels >= 0, "accuracy": labels >= 0, "true_positive_rate": labels == 1,
               "false_positive_rate": labels == 0}[rate]  # fmt: skip
    hits = (predictions == labels) if rate == "accuracy" else predictions == 1
    one, two = (hits[counted & side] for side in (np.arange(200) < 50, np.arange(200) >= 50))
    assert metric.value == pytest.approx(abs(one.mean() - two.mean()))
    a, b = wilson(int(one.sum()), len(one)), wilson(int(two.sum()), len(two))
    gap = a.value - b.value
    ends = gap - np.hypot(a.value - a.low, b.high - b.value), gap + np.hypot(a.high - a.value, b.value - b.low)
    assert metric.high == pytest.approx(min(1, max(map(abs, ends))))
    assert metric.low == pytest.approx(max(0, ends[0], -ends[1]))


def test_conditions():
    table = pd.DataFrame({"age": [1.0, 2.0, np.nan], "site": ["a", None, "b"]})
    told = [
        (Condition(column="age", above=1), [False, True, False], "age > 1"),
        (Condition(column="age", at_most=1), [True, False, False], "age <= 1"),
        (Condition(column="age", above=0, at_most=2), [True, True, False], "0 < age <= 2"),
        (Condition(column="age", missing=True), [False, False, True], "age is missing"),
        (Condition(column="site", missing=True), [False, True, False], "site is missing"),
        (Condition(column="site", equals="b"), [False, False, True], "site = b"),
        (Condition(column="site", equals="c"), [False, False, False], "site = c"),
    ]
    for condition, met, words in told:
        assert _frozen.rows_where((condition,), table).tolist() == met
        assert condition.told == words
    assert _frozen.rows_where((told[0][0], told[4][0]), table).tolist() == [False, True, False]
    for refused, message in (
        (Condition(column="ages", above=1), "did you mean 'age'"),
        (Condition(column="site", above=1), "holds no numbers"),
    ):
        with pytest.raises(NotApplicable, match=message):
            _frozen.rows_where((refused,), table)
    for fields in ({}, {"above": 1, "equals": "x"}, {"missing": True, "equals": "x"}):
        with pytest.raises(ValidationError, match="wanted one of"):
            Condition(column="a", **fields)


# --- inputs ----------------------------------------------------------------------------------------------------------


class Asked:
    """A classifier by its answers."""

    task, classes = Task.BINARY, ("no", "yes")
    offers = frozenset({"query", "test"})

    def __init__(self, folder, answer):
        self.origin = Origin(folder=folder)
        self.splits = {"test": Split("test", np.array([0, 1]), "0", features=np.zeros((2, 3)))}
        self.answer = answer

    def query(self, features):
        return np.array([self.answer(row) for row in features])


def kept(folder, features, labels):
    content = packed(features, labels)
    digest = hashlib.sha256(content).hexdigest()
    (folder / "frozen").mkdir(exist_ok=True)
    (folder / "frozen" / f"{digest}.npz").write_bytes(content)
    return {"a": {"told": "a", "inputs": digest}}


FEATURES, LABELS = np.arange(12.0).reshape(4, 3), np.array(["no", "yes", "yes", "no"])


def test_kept_inputs_are_exact(tmp_path):
    cases = kept(tmp_path, FEATURES, LABELS)
    found = run(Asked(tmp_path, lambda _row: 0), cases).metrics[0]
    assert (found.value, found.low, found.high, found.n) == (0.5, 0.5, 0.5, 4)
    mended = dict(zip(map(tuple, FEATURES), [0, 1, 1, 0], strict=True))
    assert run(Asked(tmp_path, lambda row: mended[tuple(row)]), cases).metrics[0].value == 0
    assert packed(FEATURES, LABELS) == packed(FEATURES.copy(), LABELS.copy())


def test_inputs_that_do_not_fit(tmp_path):
    for features, labels, message in (
        (FEATURES[:, :2], LABELS, "shape"),
        (FEATURES, np.array(["no", "maybe", "no", "no"]), "class 'maybe'"),
    ):
        with pytest.raises(NotApplicable, match=message):
            run(Asked(tmp_path, lambda _row: 0), kept(tmp_path, features, labels))
    with pytest.raises(NotApplicable, match="the model itself"):
        run(predicted(np.zeros(20), rows(20)), kept(tmp_path, FEATURES, LABELS))


def test_a_file_that_was_changed_or_is_missing(tmp_path):
    cases = kept(tmp_path, FEATURES, LABELS)
    (path,) = (tmp_path / "frozen").glob("*.npz")
    path.write_bytes(packed(FEATURES + 1, LABELS))
    with pytest.raises(ValueError, match="another digest"):
        run(Asked(tmp_path, lambda _row: 0), cases)
    path.unlink()
    with pytest.raises(ValueError, match="missing"):
        run(Asked(tmp_path, lambda _row: 0), cases)


def npz(**members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return stream.getvalue()


def npy(array, **options):
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


@pytest.mark.slow
def test_files_of_strangers():
    objects = npy(np.array([{"a": 1}], dtype=object), allow_pickle=True)
    lying = npy(np.zeros((2, 2)))[:-8]
    good = npy(LABELS)
    for content, message in (
        (b"", "no file of frozen inputs"),
        (b"PK\x05\x06" + b"\0" * 18, "wanted"),
        (npz(features=npy(FEATURES)), "wanted"),
        (npz(features=objects, labels=good), "wanted numbers or text"),
        (npz(features=lying, labels=good), "an array of shape"),
        (npz(features=npy(FEATURES), labels=npy(LABELS[:2])), "wanted .k, ...."),
        (npz(features=npy(FEATURES[:0]), labels=npy(LABELS[:0])), "wanted"),
        (npz(features=b"\x93NUMPY\x09\x00", labels=good), "version"),
        (npz(features=bytes(2**29), labels=good), "unpacks to more"),
    ):
        with pytest.raises(ValueError, match=message):
            _frozen.unpacked(content)


@given(st.binary(max_size=400), st.integers(0, 600))
def test_any_bytes_are_arrays_or_refused(junk, place):
    plain, deflated = packed(FEATURES, LABELS), npz(features=npy(FEATURES), labels=npy(LABELS))
    spoiled = [good[:place] + junk + good[place + len(junk) :] for good in (plain, deflated)]
    for content in (junk, *spoiled):
        try:
            found = _frozen.unpacked(content)
        except ValueError:
            continue
        assert len(found.features) == len(found.labels)


# --- refused ---------------------------------------------------------------------------------------------------------


def test_nothing_frozen_and_bad_input():
    x = rows(40)
    with pytest.raises(NotApplicable, match="nothing was frozen"):
        run(predicted(np.zeros(40), x), {})
    empty = {"told": "a", "where": [{"column": "age", "above": 1e9}]}
    with pytest.raises(NotApplicable, match="case gone: only 0 test rows"):
        run(predicted(np.zeros(40), x), {"gone": empty, "here": {"told": "a", "where": WHERE[1:]}})
    with pytest.raises(NotApplicable, match="no columns"):
        run(predicted(np.zeros(40), None), {"a": empty})
    one = run(predicted(np.ones(1), x[:1]), {"a": {"told": "a", "where": [{"column": "age", "above": -1e9}]}})
    assert (one.metrics[0].n, one.metrics[0].value) == (1, 1.0)
    for case in ({"told": "a"}, {"told": "a", "where": WHERE, "inputs": "0" * 64}, {"told": "a", "inputs": "../x"},
                 {"told": "a", "inputs": "0" * 64, "compared": "accuracy"}):  # fmt: skip
        with pytest.raises(ValidationError):
            FrozenWeaknessParams(cases={"a": case})
    with pytest.raises(ValidationError):
        FrozenWeaknessParams(cases={"../a": {"told": "a", "where": WHERE}})


def test_the_same_seed_the_same_bytes_and_a_plot():
    x = rows()
    subject = predicted(np.random.default_rng(0).standard_normal(len(x)), x, task=Task.REGRESSION)
    cases = {"a": {"told": "a", "where": WHERE}, "b": {"told": "b", "where": WHERE[:1]}}
    one, two = (run(subject, cases, seed=3) for _ in range(2))
    assert one.model_dump_json() == two.model_dump_json()
    axes = Figure().subplots()
    CHECK.plot(one, axes)
    assert axes.get_xlabel()
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"] or axes.get_yticklabels()
