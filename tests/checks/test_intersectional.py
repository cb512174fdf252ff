"""fairness.intersectional: by hand, Fisher's test, shrinkage, planted subgroup, clean twin, level, refused inputs."""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from scipy import stats

from assessor.contract import NotApplicable, Split, Task
from assessor.model import Status, Target
from assessor.subjects.predictions import PredictionsSubject
from assessor.verdicts import judge
from assessor_checks import _groups, _rates
from assessor_checks.fairness import _subgroups
from assessor_checks.fairness.intersectional import CHECK, IntersectionalParams

matplotlib.use("Agg")
NONE = Target(metric="worst_subgroup_gap", interval=(None, 0.05), because="a test")


def subject(attributes, labels, predictions, *, task=Task.BINARY, classes=("no", "yes")):
    frame = None if attributes is None else pd.DataFrame(attributes)
    split = Split(name="test", labels=np.asarray(labels, dtype=np.int64), sha256="test", attributes=frame)
    return PredictionsSubject(task, classes, {"test": split}, {"test": np.asarray(predictions, dtype=np.int64)}, {})


def run(of, seed=0, **params):
    return CHECK.measure(of, IntersectionalParams(**{"permutations": 499, **params}), seed)


def table(result):
    (found,) = result.tables
    return [dict(zip(found.columns, row, strict=True)) for row in found.rows]


def people(seed=0, n=1600, gap=0.0):
    """Three attributes; old women of one origin are chosen more often by `gap`."""
    rng = np.random.default_rng(seed)
    sex, age, origin = rng.choice(["f", "m"], n), rng.choice(["old", "young"], n), rng.choice(["x", "y"], n)
    hit = (sex == "f") & (age == "old") & (origin == "x")
    chosen = rng.random(n) < 0.3 + gap * hit
    return subject({"sex": sex, "age": age, "origin": origin}, rng.integers(0, 2, n), chosen)


def test_by_hand():
    # Cells f old 30/60, f young 18/60, m old 18/60, m young 18/60: f old 0.5 against 54/180 of the others.
    sex, age = np.repeat(["f", "f", "m", "m"], 60), np.repeat(["old", "young", "old", "young"], 60)
    chosen = np.concatenate([[1] * hits + [0] * (60 - hits) for hits in (30, 18, 18, 18)])
    result = run(subject({"sex": sex, "age": age}, np.zeros(240), chosen))
    rows = table(result)
    assert (rows[0]["subgroup"], rows[0]["n"], rows[0]["rate"]) == ("f × old", 60, 0.5)
    assert rows[0]["gap"] == pytest.approx(0.5 - 54 / 180)
    assert len(rows) == 8
    whole = result.metric("worst_subgroup_gap")
    assert whole.value == pytest.approx(0.2)
    assert 0 < whole.low == pytest.approx(rows[0]["gap low"])
    assert result.metric("weighted_subgroup_gap").value == pytest.approx(0.25 * 0.75 * 0.2)  # 1/4 of 0.5 - 84/240
    assert result.metric("shrunken_subgroup_gap").value < abs(0.5 - 84 / 240)
    exact = stats.fisher_exact([[30, 30], [54, 126]]).pvalue
    assert rows[0]["p_holm"] == pytest.approx(8 * exact)
    assert result.metric("subgroup_parity_p_value").value == min(row["p_max_t"] for row in rows)
    assert 0.005 < result.metric("subgroup_parity_p_value").value < 0.05
    assert [m.primary for m in result.metrics] == [True, False, False, False]
    assert result.doubt is None
    assert result.remarks[0] == "Favourable decision: predicted class 'yes'."
    assert result.remarks[1].startswith(
        "8 subgroups are judged together. With these sizes a gap in selection_rate under"
    )


def test_planted_subgroup_fails_and_its_clean_twin_does_not():
    planted, clean = run(people(gap=0.3)), run(people())
    assert judge(planted, NONE).status is Status.FAIL
    assert table(planted)[0]["subgroup"] == "f × old × x"
    assert judge(clean, NONE).status is not Status.FAIL
    assert clean.metric("worst_subgroup_gap").low == 0
    assert clean.metric("subgroup_parity_p_value").value > 0.05


def test_depth_bounds_the_combinations():
    of = people()
    assert [len({row["attributes"] for row in table(run(of, depth=depth))}) for depth in (1, 2, 3)] == [3, 6, 7]
    alone = run(of, depth=1)
    assert alone.doubt == "No combination of attributes has enough rows, so only single attributes were judged."


@pytest.mark.parametrize("rate", ["true_positive_rate", "false_positive_rate", "accuracy"])
def test_other_rates(rate):
    of = people(gap=0.2)
    labels, said = of.splits["test"].labels, of.predictions("test")
    rows = {
        "true_positive_rate": (labels == 1, said == 1),
        "false_positive_rate": (labels == 0, said == 1),
        "accuracy": (labels >= 0, said == labels),
    }
    result = run(of, rate=rate)
    asked, hit = rows[rate]
    frame = of.splits["test"].attributes
    for row in table(result)[:5]:
        names, values = row["attributes"].split(" × "), row["subgroup"].split(" × ")
        inside = np.all([frame[name] == value for name, value in zip(names, values, strict=True)], axis=0)
        assert row["n"] == (inside & asked).sum()
        assert row["gap"] == pytest.approx(hit[inside & asked].mean() - hit[~inside & asked].mean())


def test_small_cells_are_named_and_only_shrunken():
    of = people()
    frame = of.splits["test"].attributes.assign(origin=["z"] * 5 + list(of.splits["test"].attributes["origin"][5:]))
    result = run(subject(frame, of.splits["test"].labels, of.predictions("test")))
    assert any("origin: z (5)" in remark for remark in result.remarks)
    (row,) = (row for row in table(result) if row["subgroup"] == "z")
    assert row["status"] == "insufficient data"
    assert row["rate"] is row["gap"] is row["p_holm"] is None
    assert 0.2 < row["shrunken"] < 0.4


def test_shrinkage_lies_between_the_rate_and_the_mean():
    hits, trials = np.array([0, 30, 90, 9]), np.array([4, 100, 200, 10])
    found = _subgroups.shrunken(hits, trials, 0.95)
    raw, middle = hits / trials, 0.4
    assert ((found.rate - raw) * (middle - raw) > 0).all()  # all pulled inwards
    assert np.abs(found.rate - raw)[0] > np.abs(found.rate - raw)[2]  # the smaller, the more
    assert (found.low < found.rate).all()
    assert (found.rate < found.high).all()


def test_shrinkage_finds_the_prior():
    rng = np.random.default_rng(1)
    rates = rng.beta(6, 14, 300)
    trials = rng.integers(10, 200, 300)
    hits = rng.binomial(trials, rates)
    found = _subgroups.shrunken(hits, trials, 0.95)
    assert found.precision == pytest.approx(20, rel=0.25)
    assert np.mean((found.low <= rates) & (rates <= found.high)) == pytest.approx(0.95, abs=0.04)
    assert ((found.rate - rates) ** 2).mean() < ((hits / trials - rates) ** 2).mean()
    assert _subgroups.shrunken(hits[:2], trials[:2], 0.95) is None
    assert _subgroups.shrunken(np.zeros(5, int), trials[:5], 0.95) is None


@pytest.mark.parametrize(
    ("hits", "n", "all_hits", "total"), [(8, 20, 30, 100), (0, 12, 9, 60), (5, 5, 40, 90), (3, 40, 7, 80)]
)
def test_fisher_as_in_scipy(hits, n, all_hits, total):
    cells = [[hits, n - hits], [all_hits - hits, total - n - all_hits + hits]]
    assert _subgroups._hypergeometric_p(hits, n, all_hits, total) == pytest.approx(stats.fisher_exact(cells).pvalue)


@pytest.mark.slow
def test_level_of_test_and_limits():
    alarms = np.zeros(2)
    for seed in range(300):
        rng = np.random.default_rng(seed)
        frame = pd.DataFrame(
            {"a": rng.choice(2, 500), "b": rng.choice(3, 500, p=[0.6, 0.3, 0.1]), "c": rng.choice(2, 500)}
        )
        said = (rng.random(500) < 0.3).astype(int)
        groups = _groups.find_groups(frame, depth=3)
        rate = _rates.count_rates(groups, said, said, positive=1, minimum=20)["selection_rate"]
        found = _subgroups.compare_subgroups(groups, rate, minimum=20, confidence=0.95, permutations=99, rng=rng)
        alarms += [found.p_max_t.min() <= 0.05, ((found.low > 0) | (found.high < 0)).any()]
    assert (alarms / 300 <= 0.076).all()  # 5 % and two standard errors of 300


SEX, AGE = ["f", "m"] * 30, ["old"] * 30 + ["young"] * 30


@pytest.mark.parametrize(
    ("of", "params", "message"),
    [
        (subject(None, [0], [0]), {}, "no rows with sensitive attributes"),
        (subject({"sex": [], "age": []}, [], []), {}, "no rows with sensitive attributes"),
        (subject({"sex": SEX}, [0] * 60, [0] * 60), {}, "only one sensitive attribute .* use fairness.group_metrics$"),
        (subject({"sex": ["f"], "age": ["old"]}, [0], [0]), {}, "no subgroup has at least 20 rows"),
        (
            subject({"sex": SEX, "age": AGE}, [0] * 60, [0] * 60),
            {"attributes": ("sex", "size")},
            "no sensitive column 'size'",
        ),
        (
            subject({"sex": SEX, "age": range(60)}, [0] * 60, [0] * 60),
            {},
            "use fairness.group_metrics. .*it has 60 distinct",
        ),
        (subject({"sex": SEX, "age": AGE}, [0] * 60, [0] * 60), {"rate": "true_positive_rate"}, "no subgroup has"),
        (
            subject({"sex": SEX, "age": AGE}, [0] * 60, [0] * 60, task=Task.MULTICLASS, classes=("a", "b", "c")),
            {},
            "which class is the favourable decision",
        ),
    ],
)
def test_refused(of, params, message):
    with pytest.raises(NotApplicable, match=message):
        run(of, **params)


def test_nobody_is_chosen():
    result = run(subject({"sex": SEX, "age": AGE}, [0] * 60, [0] * 60), minimum_group=10)
    assert result.metric("worst_subgroup_gap").value == 0
    assert result.metric("subgroup_parity_p_value").value == 1
    assert "shrunken_subgroup_gap" not in [m.name for m in result.metrics]


def test_same_seed_same_bytes():
    of = people(n=400)
    assert run(of, 3).model_dump_json() == run(of, 3).model_dump_json()


def test_plot_draws():
    axes = Figure().add_subplot()
    CHECK.plot(run(people()), axes)
    assert axes.get_xlabel() == "rate of the subgroup, with interval"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["raw", "shrunken"]
