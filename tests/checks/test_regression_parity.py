"""fairness.regression_parity: against SciPy, planted errors and clean twins, level and coverage, refused inputs."""

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
from assessor_checks import _groups
from assessor_checks.fairness import _distribution_gaps, _mean_gaps
from assessor_checks.fairness.regression_parity import CHECK, RegressionParityParams

matplotlib.use("Agg")
NONE = Target(metric="mean_error_difference", interval=(None, 1.0), because="a test")
METRICS = [
    "mean_error_difference", "mae_difference", "prediction_kolmogorov_distance", "prediction_wasserstein_distance",
    "parity_p_value", "all_parity_p_value",
]  # fmt: skip


def subject(attributes, labels, predictions):
    frame = None if attributes is None else pd.DataFrame(attributes)
    split = Split(name="test", labels=np.asarray(labels, dtype=float), sha256="test", attributes=frame)
    return PredictionsSubject(Task.REGRESSION, (), {"test": split}, {"test": np.asarray(predictions, dtype=float)}, {})


def run(of, seed=0, **params):
    return CHECK.measure(of, RegressionParityParams(**{"permutations": 199, **params}), seed)


def table(result, name):
    found = next(x for x in result.tables if x.name == name)
    return [dict(zip(found.columns, row, strict=True)) for row in found.rows]


def wages(seed=1, n=300, shift=0.0):
    """Wages of around 50; those of group f are predicted too low by `shift`."""
    rng = np.random.default_rng(seed)
    sex, true = rng.choice(["f", "m"], n), 50 + 10 * rng.standard_normal(n)
    return subject({"sex": sex}, true, true + 3 * rng.standard_normal(n) - shift * (sex == "f"))


def test_against_scipy():
    of = wages(shift=2.0)
    result = run(of)
    assert [m.name for m in result.metrics] == METRICS
    assert [m.primary for m in result.metrics] == [True] + [False] * 5
    women = of.splits["test"].attributes["sex"].to_numpy() == "f"
    said = of.predictions("test")
    errors = said - of.splits["test"].labels
    for name, values in (("mean_error_difference", errors), ("mae_difference", np.abs(errors))):
        found = stats.ttest_ind(values[women], values[~women], equal_var=False)
        ends = sorted(np.abs(found.confidence_interval()))
        metric = result.metric(name)
        assert metric.value == pytest.approx(abs(values[women].mean() - values[~women].mean()))
        assert metric.high == pytest.approx(ends[1])
        assert metric.unit == "units of the target"
    # A single pair: the near end is Welch's, but for the simulated critical value.
    low = stats.ttest_ind(errors[women], errors[~women], equal_var=False).confidence_interval()
    assert result.metric("mean_error_difference").low == pytest.approx(min(np.abs(low)), abs=0.05)
    far = result.metric("prediction_kolmogorov_distance")
    assert far.value == pytest.approx(stats.ks_2samp(said[women], said[~women]).statistic)
    assert result.metric("prediction_wasserstein_distance").value == pytest.approx(
        stats.wasserstein_distance(said[women], said[~women])
    )
    # Two groups: bands of 97.5 % each for either end (Massart: the root of ln(2 / 0.025) / 2n).
    reach = sum(np.sqrt(np.log(80) / (2 * n)) for n in (women.sum(), (~women).sum()))
    assert (far.low, far.high) == pytest.approx((max(0, far.value - reach), far.value + reach))
    assert result.metric("parity_p_value").value == 1 / 200
    assert result.metric("all_parity_p_value").value == 3 / 200
    assert result.doubt is None
    assert len(result.remarks) == 2
    assert result.remarks[0].startswith("With these group sizes a mean_error_difference under about 1.")


def test_group_table():
    of = wages(shift=2.0)
    row = table(run(of), "groups")[0]
    women = of.splits["test"].attributes["sex"].to_numpy() == "f"
    errors = (of.predictions("test") - of.splits["test"].labels)[women]
    ends = stats.t.interval(0.95, len(errors) - 1, errors.mean(), stats.sem(errors))
    assert (row["group"], row["n"], row["status"]) == ("f", women.sum(), "judged")
    assert (row["mean error"], row["low"], row["high"]) == pytest.approx((errors.mean(), *ends))


def test_planted_errors_fail_and_their_clean_twin_does_not():
    planted, clean = run(wages(shift=3.0)), run(wages())
    assert judge(planted, NONE).status is Status.FAIL
    assert judge(clean, NONE).status is not Status.FAIL
    assert clean.metric("mean_error_difference").low == 0
    assert clean.metric("parity_p_value").value > 0.05


def test_unequal_spread_shows_in_the_absolute_error():
    rng = np.random.default_rng(0)
    sex = np.repeat(["f", "m"], 200)
    of = subject({"sex": sex}, np.zeros(400), rng.standard_normal(400) * np.where(sex == "f", 2.0, 1.0))
    result = run(of, metric="mae_difference")
    assert result.metric("mae_difference").low > 0.3
    assert result.metric("mae_difference").primary
    assert result.metric("mean_error_difference").low == 0


def test_the_chosen_metric_is_primary_and_tested():
    for name in METRICS[:3]:
        result = run(wages(shift=1.0), metric=name)
        assert [m.name for m in result.metrics if m.primary] == [name]
        (row,) = (row for row in table(result, "parity_tests") if row["metric"] == name)
        assert result.metric("parity_p_value").value == row["p_holm"]


def test_small_groups_quantities_and_intersections():
    rng = np.random.default_rng(0)
    sex, site = np.repeat(["f", "m"], 60), np.where(np.arange(120) < 10, "b", "a")
    values = rng.standard_normal(120)
    result = run(subject({"sex": sex, "site": site, "age": np.arange(120.0)}, np.zeros(120), values))
    assert "Insufficient data, not judged (fewer than 20 rows): site: b (10), sex × site: f × b (10)." in result.remarks
    assert result.doubt == (
        "'age' is not judged: it has 120 distinct values; cut it into groups first. "
        "Fewer than two groups have enough rows in: site."
    )
    assert {row["attribute"] for row in table(result, "pairs")} == {"sex", "sex × site"}
    assert {row["attribute"] for row in table(run(subject({"sex": sex, "site": site}, values, values),
            intersections=False), "pairs")} == {"sex"}  # fmt: skip


def test_perfect_predictions():
    result = run(subject({"sex": ["f", "m"] * 30}, np.arange(60.0), np.arange(60.0)))
    metric = result.metric("mean_error_difference")
    assert (metric.value, metric.low, metric.high) == (0, 0, 0)
    assert result.metric("parity_p_value").value == 1


def groups(sizes):
    return _groups.find_groups(pd.DataFrame({"g": np.repeat(np.arange(len(sizes)), sizes)}))


@pytest.mark.slow
@pytest.mark.parametrize(("sizes", "spreads"), [((30, 200), (3, 1)), ((300, 60, 30, 20), (1, 2, 1, 3))])
@pytest.mark.parametrize("skewed", [False, True])
def test_level_of_means(sizes, spreads, skewed):
    alarms = np.zeros(2)
    for seed in range(200):
        rng = np.random.default_rng(seed)
        noise = rng.exponential(size=sum(sizes)) - 1 if skewed else rng.standard_normal(sum(sizes))
        found = _mean_gaps.compare_means(
            "x", groups(sizes), noise * np.repeat(spreads, sizes), minimum=5, confidence=0.95, permutations=99, rng=rng
        )
        alarms += [found.p_value <= 0.05, found.gap.low > 0]
    assert (alarms / 200 <= 0.081).all()  # 5 % and two standard errors of 200


@pytest.mark.slow
def test_coverage_of_the_worst_difference():
    sizes, means = (120, 80, 40), np.array([0.0, 0.5, 0.2])
    found = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        values = rng.standard_normal(240) * np.repeat([1, 2, 1], sizes) + np.repeat(means, sizes)
        of = groups(sizes)
        found.append(_mean_gaps.mean_gap(of, _mean_gaps.moments("x", of, values, minimum=5), 0.95, rng)[0])
    assert np.mean([gap.low <= 0.5 for gap in found]) >= 0.95
    assert np.mean([gap.high >= 0.5 for gap in found]) >= 0.95


def test_single_pair_has_welchs_critical_value():
    rng = np.random.default_rng(0)
    of = groups((12, 40))
    found = _mean_gaps.moments("x", of, rng.standard_normal(52), minimum=5)
    freedom = _mean_gaps._freedom(found)[0]
    assert _mean_gaps.critical_value(of, found, 0.95, rng) == pytest.approx(stats.t.ppf(0.975, freedom), abs=0.08)


def test_variances_far_from_zero_keep_their_digits():
    values = 1e9 + np.arange(20.0)
    found = _mean_gaps.moments("x", groups((10, 10)), values, minimum=2)
    assert found.variance == pytest.approx([np.var(np.arange(10), ddof=1)] * 2, rel=1e-6)
    assert found.mean == pytest.approx([1e9 + 4.5, 1e9 + 14.5])


@pytest.mark.slow
def test_level_and_coverage_of_distributions():
    alarms = held = 0
    for seed in range(150):
        rng = np.random.default_rng(seed)
        of, options = groups((80, 60, 40)), {"minimum": 20, "confidence": 0.95, "permutations": 79}
        same = _distribution_gaps.compare_distributions(of, rng.integers(0, 9, 180) * 1.0, **options, rng=rng)
        alarms += same.p_value <= 0.05 or same.low > 0
        values = rng.random(180) + np.repeat([0.0, 0.0, 0.3], (80, 60, 40))  # Kolmogorov distance 0.3
        apart = _distribution_gaps.compare_distributions(of, values, **{**options, "permutations": 1}, rng=rng)
        held += apart.low <= 0.3 <= apart.high
    assert alarms / 150 <= 0.086  # 5 % and two standard errors of 150
    assert held / 150 >= 0.95


@pytest.mark.parametrize(
    ("of", "params", "message"),
    [
        (subject(None, [0], [0]), {}, "no rows with sensitive attributes"),
        (subject({"sex": []}, [], []), {}, "no rows with sensitive attributes"),
        (subject({"sex": ["f"]}, [1], [1]), {}, "have 20 rows or more. All rows have the same value of: sex."),
        (subject({"sex": ["f", "m", "m"]}, [1] * 3, [1] * 3), {}, r"sex: f \(1\), sex: m \(2\)\. Take more rows"),
        (subject({"sex": ["f", "m"] * 30}, [0] * 60, [np.nan] * 60), {}, "not finite for 60 of 60 rows"),
        (subject({"sex": ["f", "m"] * 30}, [np.inf] * 60, [0] * 60), {}, "not finite for 60 of 60 rows"),
        (subject({"sex": ["f", "m"] * 30}, [0] * 60, [0] * 60), {"attributes": ("age",)}, "no sensitive column 'age'"),
        (subject({"age": np.arange(60.0)}, [0] * 60, [0] * 60), {}, r"Use fairness\.distance_covariance"),
    ],
)
def test_refused(of, params, message):
    with pytest.raises(NotApplicable, match=message):
        run(of, **params)


def test_same_seed_same_bytes():
    assert run(wages(), 3).model_dump_json() == run(wages(), 3).model_dump_json()


def test_plot_draws():
    axes = Figure().add_subplot()
    CHECK.plot(run(wages()), axes)
    assert axes.get_xlabel() == "mean error, prediction minus true value"
    assert len(axes.get_yticklabels()) == 2
