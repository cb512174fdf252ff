"""fairness.group_metrics: solved by hand, planted gaps against clean twins, two attributes, refused inputs."""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from assessor.contract import NotApplicable, Split, Task
from assessor.model import Status, Target
from assessor.subjects.predictions import PredictionsSubject
from assessor.verdicts import judge
from assessor_checks._gaps import COMPONENTS
from assessor_checks.fairness.group_metrics import CHECK, GroupMetricsParams

matplotlib.use("Agg")

BY_HAND = {  # (positive rows, of which chosen, negative rows, of which chosen)
    "a": (40, 32, 60, 18),
    "b": (50, 25, 50, 5),
    "c": (20, 12, 80, 24),
}
PARITY_AT_MOST_TENTH = Target(metric="demographic_parity_difference", interval=(0, 0.1), because="a test")


def rows(positives, chosen_positives, negatives, chosen_negatives):
    """Labels and predictions of one group."""
    labels = [1] * positives + [0] * negatives
    chosen = [1] * chosen_positives + [0] * (positives - chosen_positives)
    return labels, chosen + [1] * chosen_negatives + [0] * (negatives - chosen_negatives)


def subject(attributes, labels, predictions, *, task=Task.BINARY, classes=("no", "yes")):
    frame = None if attributes is None else pd.DataFrame(attributes)
    split = Split(name="test", labels=np.asarray(labels, dtype=np.int64), sha256="test", attributes=frame)
    return PredictionsSubject(task, classes, {"test": split}, {"test": np.asarray(predictions, dtype=np.int64)}, {})


def grouped(counts, **more):
    """One attribute, "site", with the rows of `rows` a group."""
    made = {name: rows(*numbers) for name, numbers in counts.items()}
    sites = [name for name, (labels, _) in made.items() for _ in labels]
    labels, predictions = (np.concatenate(side) for side in zip(*made.values(), strict=True))
    return subject({"site": sites}, labels, predictions, **more)


def run(of, seed=0, **params):
    return CHECK.measure(of, GroupMetricsParams(**{"permutations": 499, **params}), seed)


def table(result, name):
    found = next(x for x in result.tables if x.name == name)
    return [dict(zip(found.columns, row, strict=True)) for row in found.rows]


# --- by hand ---------------------------------------------------------------------------------------------------------


def test_two_groups_by_hand():
    result = run(grouped({name: BY_HAND[name] for name in "ab"}))
    wanted = {
        "demographic_parity_difference": 0.5 - 0.3,
        "demographic_parity_ratio": 0.3 / 0.5,
        "equal_opportunity_difference": 0.8 - 0.5,
        "equalized_odds_difference": 0.3,  # of 0.8 - 0.5 and 0.3 - 0.1
        "accuracy_difference": 0.74 - 0.70,
    }
    assert [m.name for m in result.metrics] == [*COMPONENTS, "parity_p_value", "all_parity_p_value"]
    for name, value in wanted.items():
        metric = result.metric(name)
        assert metric.value == pytest.approx(value)
        assert metric.low <= metric.value <= metric.high
        assert metric.primary == (name == "equalized_odds_difference")
        assert metric.confidence == 0.95
    assert [result.metric(name).n for name in wanted] == [200, 200, 90, 200, 200]
    assert not result.metric("parity_p_value").primary
    assert result.metric("parity_p_value").value < 0.05
    assert result.doubt is None
    assert result.remarks[0] == "Favourable decision: predicted class 'yes'."
    assert [x.split(" cannot be seen")[0] for x in result.remarks[1:]] == [
        "With these group sizes a gap in true_positive_rate",
        "With these group sizes a gap in false_positive_rate",
    ]


def test_three_groups_by_hand():
    result = run(grouped(BY_HAND))
    values = {m.name: m.value for m in result.metrics[:-2]}
    assert values == pytest.approx(
        {
            "demographic_parity_difference": 0.5 - 0.3,
            "demographic_parity_ratio": 0.3 / 0.5,
            "equal_opportunity_difference": 0.8 - 0.5,
            "equalized_odds_difference": 0.3,
            "accuracy_difference": 0.74 - 0.68,
        }
    )
    groups = table(result, "groups")
    assert [(row["attribute"], row["group"], row["n"], row["status"]) for row in groups] == [
        ("site", name, 100, "judged") for name in "abc"
    ]
    rates = [[row[rate] for row in groups] for rate in ("selection_rate", "true_positive_rate", "false_positive_rate")]
    assert rates == [[0.5, 0.3, 0.36], [0.8, 0.5, 0.6], [0.3, 0.1, 0.3]]
    assert [row["accuracy"] for row in groups] == [0.74, 0.7, 0.68]
    worst = table(result, "pairs")[0]
    assert (worst["first"], worst["second"], worst["rate"]) == ("a", "b", "true_positive_rate")
    assert worst["low"] == pytest.approx(result.metric("equalized_odds_difference").low)
    assert len(table(result, "pairs")) == 6
    assert [row["metric"] for row in table(result, "parity_tests")] == list(COMPONENTS)


def test_the_chosen_metric_is_primary_and_tested():
    of = grouped(BY_HAND)
    for name in COMPONENTS:
        result = run(of, metric=name)
        assert [m.name for m in result.metrics if m.primary] == [name]
        (test,) = (row for row in table(result, "parity_tests") if row["metric"] == name)
        assert result.metric("parity_p_value").value == test["p_holm"]


def test_swapping_the_favourable_class_swaps_the_rates():
    result = run(grouped(BY_HAND), positive="no")
    assert [row["selection_rate"] for row in table(result, "groups")] == [0.5, 0.7, 0.64]
    assert [row["true_positive_rate"] for row in table(result, "groups")] == [0.7, 0.9, 0.7]
    assert result.metric("accuracy_difference").value == pytest.approx(0.06)


# --- power -----------------------------------------------------------------------------------------------------------


def sampled(shares, n=500, seed=0):
    """Groups of n rows whose selection rates are drawn at these shares; half of the rows are positive."""
    rng = np.random.default_rng(seed)
    labels, predictions, sites = [], [], []
    for name, share in shares.items():
        labels += [1, 0] * (n // 2)
        predictions += (rng.random(n) < share).astype(int).tolist()
        sites += [name] * n
    return subject({"site": sites}, labels, predictions)


@pytest.mark.parametrize("metric", ["demographic_parity_difference", "equalized_odds_difference"])
def test_planted_gap_fails_and_its_clean_twin_does_not(metric):
    target = Target(metric=metric, interval=(0, 0.1), because="a test")
    planted, clean = (run(sampled({"a": 0.3, "b": other}), metric=metric) for other in (0.6, 0.3))
    assert planted.metric("parity_p_value").value < 0.05
    assert judge(planted, target).status is Status.FAIL
    assert "lies outside the target of 0 to 0.1" in judge(planted, target).sentence
    assert clean.metric("parity_p_value").value > 0.05
    assert clean.metric(metric).low == 0
    assert judge(clean, target).status in {Status.PASS, Status.INCONCLUSIVE}


@pytest.mark.slow
def test_power_at_twenty_points_and_its_clean_twins():
    found = {
        other: [
            run(sampled({"a": 0.3, "b": other}, seed=seed), metric="demographic_parity_difference", permutations=199)
            for seed in range(20)
        ]
        for other in (0.5, 0.3)
    }
    assert all(x.metric("demographic_parity_difference").low > 0 for x in found[0.5])
    assert all(x.metric("parity_p_value").value < 0.05 for x in found[0.5])
    # Observed gaps above 0.162 put the lower end beyond 0.1; of a true 0.2 that is 9 of 10 samples.
    assert sum(judge(x, PARITY_AT_MOST_TENTH).status is Status.FAIL for x in found[0.5]) >= 14
    assert not any(judge(x, PARITY_AT_MOST_TENTH).status is Status.FAIL for x in found[0.3])
    assert any(judge(x, PARITY_AT_MOST_TENTH).status is Status.PASS for x in found[0.3])


def test_outcome_in_words():
    found = run(grouped({"a": (250, 150, 250, 0), "b": (250, 250, 250, 0)}), metric="demographic_parity_difference")
    outcome = judge(found, PARITY_AT_MOST_TENTH)
    assert outcome.status is Status.FAIL
    assert outcome.sentence == (
        "demographic_parity_difference 0.2 [0.1397, 0.2582] lies outside the target of 0 to 0.1"
    )


def crossed(seed=0, n=200):
    """Two attributes whose cells are chosen at 0.7 where they differ and at 0.3 where they agree."""
    rng = np.random.default_rng(seed)
    sex, age = np.repeat(["f", "f", "m", "m"], n), np.repeat(["old", "young", "old", "young"], n)
    hits = [round(n * share) for share in (0.3, 0.7, 0.7, 0.3)]
    chosen = np.concatenate([rng.permutation([1] * hit + [0] * (n - hit)) for hit in hits])
    return subject({"sex": sex, "age": age}, np.tile([1, 0], 2 * n), chosen)


def test_exclusive_or_shows_in_the_intersection_only():
    alone = run(crossed(), metric="demographic_parity_difference", intersections=False)
    assert alone.metric("demographic_parity_difference").value == pytest.approx(0)
    assert alone.metric("parity_p_value").value == 1
    both = run(crossed(), metric="demographic_parity_difference")
    assert both.metric("demographic_parity_difference").value == pytest.approx(0.4)
    assert both.metric("demographic_parity_difference").low > 0.2
    tests = {
        row["attribute"]: row["p_value"]
        for row in table(both, "parity_tests")
        if row["metric"] == "demographic_parity_difference"
    }
    assert tests == {"sex": 1, "age": 1, "sex × age": 1 / 500}
    assert both.metric("parity_p_value").value == pytest.approx(3 / 500)  # Holm over three
    assert {row["attribute"] for row in table(both, "pairs")[:4]} == {"sex × age"}


def test_power_is_stated_for_the_smallest_groups_of_each_attribute():
    result = run(grouped({"a": (200, 100, 200, 50), "b": (40, 20, 40, 10), "c": (100, 50, 100, 25)}))
    rows = table(result, "power")
    assert [(row["rate"], row["attribute"], row["first"], row["second"]) for row in rows] == [
        (rate, "site", "b", "c") for rate in ("selection_rate", "true_positive_rate", "false_positive_rate", "accuracy")
    ]
    assert [(row["rows of first"], row["rows of second"]) for row in rows] == [
        (80, 200),
        (40, 100),
        (40, 100),
        (80, 200),
    ]
    assert rows[1]["gap"] > rows[0]["gap"] > 0.1


def test_holm_over_metrics_and_attributes():
    result = run(crossed(), metric="demographic_parity_difference")
    rows = table(result, "parity_tests")
    # Selection rate and its ratio are one test: four hypotheses by three attributes; the smallest p-value is 1 / 500.
    worst = [row for row in rows if row["attribute"] == "sex × age" and row["metric"].startswith("demographic")]
    assert [row["p_holm_all"] for row in worst] == pytest.approx([12 / 500] * 2)
    assert all(row["p_value"] <= row["p_holm"] <= row["p_holm_all"] + 1e-12 for row in rows)
    assert result.metric("all_parity_p_value").value == min(row["p_holm_all"] for row in rows)
    assert result.metric("all_parity_p_value").method.startswith("the smallest of 12 p-values")


def test_percentile_bootstrap_stands_beside():
    result = run(grouped(BY_HAND), bootstrap=400)
    rows = {row["metric"]: row for row in table(result, "bootstrap")}
    assert set(rows) == set(COMPONENTS)
    for name, row in rows.items():
        assert row["value"] == result.metric(name).value
        assert row["low"] < row["value"] < row["high"] or name == "accuracy_difference"
    parity = run(grouped(dict.fromkeys("ab", (60, 30, 60, 15))))
    assert table(parity, "bootstrap")[0]["low"] >= 0  # never below parity, so no test


# --- groups that cannot be judged ------------------------------------------------------------------------------------


def test_small_groups_are_named_and_not_judged():
    counts = {**BY_HAND, "tiny": (5, 5, 5, 5), "few positives": (8, 8, 40, 0)}
    result = run(grouped(counts))
    status = {row["group"]: row["status"] for row in table(result, "groups")}
    assert status["tiny"] == "insufficient data"
    assert status["few positives"] == "insufficient data: true_positive_rate"
    (row,) = (row for row in table(result, "groups") if row["group"] == "tiny")
    assert row["n"] == 10
    assert row["selection_rate"] is row["accuracy"] is row["true_positive_rate_low"] is None
    assert result.metric("equal_opportunity_difference").value == pytest.approx(0.3)  # tiny's 1.0 is left out
    assert not any("tiny" in {row["first"], row["second"]} for row in table(result, "pairs"))
    assert result.remarks[1:3] == (
        "Insufficient data, not judged (fewer than 20 rows): site: tiny (10).",
        "Insufficient data for true_positive_rate (fewer than 20 rows with the positive label): "
        "site: few positives (8).",
    )
    assert run(grouped(counts), minimum_group=5).metric("demographic_parity_ratio").value == pytest.approx(8 / 48)


def test_many_small_groups_are_counted():
    counts = {**BY_HAND, **{f"s{i:02}": (1, 1, 1, 1) for i in range(13)}}
    assert run(grouped(counts)).remarks[1].endswith("s09 (2) and 3 more.")


def test_missing_values_are_a_group():
    of = grouped({**BY_HAND, "gone": (30, 3, 30, 3)})
    frame = of.splits["test"].attributes
    frame.loc[frame["site"] == "gone", "site"] = None
    result = run(of)
    assert [row["group"] for row in table(result, "groups")] == ["a", "b", "c", "(missing)"]
    assert result.metric("equal_opportunity_difference").value == pytest.approx(0.7)


def with_ages(ages):
    of = grouped(BY_HAND)
    frame = of.splits["test"].attributes.assign(age=ages)
    return subject(frame, of.splits["test"].labels, of.predictions("test"))


def test_a_quantity_is_refused_and_casts_doubt():
    sentence = "'age' is not judged: it has 60 distinct values; cut it into groups first."
    for ages in (np.arange(300) % 60, pd.Series(np.arange(300) % 60, dtype=object)):
        result = run(with_ages(ages))
        assert sentence in result.remarks
        assert result.doubt == sentence
        assert {row["attribute"] for row in table(result, "groups")} == {"site"}
        assert judge(result, PARITY_AT_MOST_TENTH).status is Status.INCONCLUSIVE
        with pytest.raises(NotApplicable, match="60 distinct values"):
            run(with_ages(ages), attributes=("age",))
    assert run(with_ages(np.arange(300) % 60), attributes=("site",)).doubt is None
    ten = run(with_ages(np.arange(300) % 10), metric="demographic_parity_difference")
    assert ten.doubt is None
    assert [row["group"] for row in table(ten, "groups") if row["attribute"] == "age"] == list("0123456789")


def test_an_attribute_with_one_judged_group_casts_doubt():
    result = run(with_ages(np.where(np.arange(300) < 5, 1, 0)))
    assert result.doubt == "Fewer than two groups have enough rows for equalized_odds_difference in: age."
    assert judge(result, PARITY_AT_MOST_TENTH).status is Status.INCONCLUSIVE


def test_a_metric_that_leaves_out_an_attribute_is_not_judged_by_its_name():
    # Ages have enough rows, but not enough of them positive: equalized odds would speak of the site alone.
    result = run(with_ages(np.arange(300) % 10), metric="demographic_parity_difference")
    odds = result.metric("equalized_odds_difference")
    assert (odds.value, odds.low, odds.high) == (pytest.approx(0.3), None, None)
    assert result.metric("demographic_parity_difference").low is not None
    assert (
        "Fewer than two groups have enough rows for equalized_odds_difference in: age. So it has no interval."
        in result.remarks
    )
    target = Target(metric="equalized_odds_difference", interval=(0, 1), because="a test")
    assert judge(result, target).status is Status.INCONCLUSIVE


def test_metrics_that_cannot_be_computed_are_named():
    result = run(grouped({"a": (40, 30, 0, 0), "b": (40, 20, 0, 0)}), metric="demographic_parity_difference")
    assert [m.name for m in result.metrics] == [
        "demographic_parity_difference",
        "demographic_parity_ratio",
        "equal_opportunity_difference",
        "accuracy_difference",
        "parity_p_value",
        "all_parity_p_value",
    ]
    assert "Not computed, too few rows or the rate is 0 in all groups: equalized_odds_difference." in result.remarks
    nobody = run(grouped({"a": (40, 0, 40, 0), "b": (40, 0, 40, 0)}))
    assert "Not computed, too few rows or the rate is 0 in all groups: demographic_parity_ratio." in nobody.remarks
    assert nobody.metric("equalized_odds_difference").value == 0
    assert nobody.metric("parity_p_value").value == 1


# --- refused ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("of", "params", "message"),
    [
        (subject({"site": []}, [], []), {}, "the test split has no rows with sensitive attributes"),
        (subject(None, [0, 1], [0, 1]), {}, "the test split has no rows with sensitive attributes"),
        (subject({"site": ["a"]}, [1], [1]), {}, r"no two groups .* at least 20 rows .*site: a \(1\)"),
        (grouped({"a": (40, 30, 40, 10)}), {}, "All rows have the same value of: site"),
        (grouped({"a": (40, 30, 0, 0), "b": (40, 20, 0, 0)}), {}, "negative label.*suffice for other metrics: d"),
        (grouped({"a": (40, 0, 0, 0), "b": (40, 0, 0, 0)}), {"metric": "demographic_parity_ratio"}, "nobody gets the"),
        (grouped(BY_HAND), {"attributes": ("size",)}, r"attributes: no sensitive column 'size'; found \['site'\]"),
        (grouped(BY_HAND), {"positive": "maybe"}, r"positive: no class 'maybe'; wanted one of \['no', 'yes'\]"),
        (
            grouped(BY_HAND, task=Task.MULTICLASS, classes=("no", "yes", "later")),
            {},
            r"which class is the favourable decision\? Set positive to one of \['no', 'yes', 'later'\]",
        ),
    ],
)
def test_refused(of, params, message):
    with pytest.raises(NotApplicable, match=message):
        run(of, **params)


def test_multiclass():
    rng = np.random.default_rng(0)
    labels, site = rng.integers(0, 3, 600), np.repeat(["a", "b"], 300)
    predictions = np.where(rng.random(600) < 0.7, labels, rng.integers(0, 3, 600))
    of = subject({"site": site}, labels, predictions, task=Task.MULTICLASS, classes=("red", "green", "blue"))
    result = run(of, positive="green")
    chosen = [(predictions[site == name] == 1).mean() for name in "ab"]
    assert result.metric("demographic_parity_difference").value == pytest.approx(abs(chosen[0] - chosen[1]))
    right = [(predictions == labels)[site == name].mean() for name in "ab"]
    assert result.metric("accuracy_difference").value == pytest.approx(abs(right[0] - right[1]))
    assert result.remarks[0] == "Favourable decision: predicted class 'green'."
    assert run(of, metric="accuracy_difference").metric("accuracy_difference").value == pytest.approx(
        abs(right[0] - right[1])
    )


def test_one_class_only():
    result = run(subject({"site": ["a"] * 30 + ["b"] * 30}, [0] * 60, [0] * 60), metric="accuracy_difference")
    accuracy = result.metric("accuracy_difference")
    assert (accuracy.value, accuracy.low) == (0, 0)
    assert 0 < accuracy.high < 0.2
    assert result.metric("parity_p_value").value == 1
    assert [m.name for m in result.metrics] == [
        "demographic_parity_difference",
        "accuracy_difference",
        "parity_p_value",
        "all_parity_p_value",
    ]


# --- the same again --------------------------------------------------------------------------------------------------


def test_same_seed_same_bytes_and_another_seed_the_same_values():
    first, again, other = (run(crossed(), seed) for seed in (5, 5, 6))
    assert first.model_dump_json() == again.model_dump_json()
    assert first.model_dump_json() != other.model_dump_json()
    assert [m.value for m in first.metrics[:-1]] == [m.value for m in other.metrics[:-1]]


def test_order_of_rows_is_without_effect():
    of, order = crossed(), np.random.default_rng(3).permutation(800)
    split = of.splits["test"]
    shuffled = subject(split.attributes.iloc[order], split.labels[order], of.predictions("test")[order])
    assert run(of).model_dump_json() == run(shuffled).model_dump_json()


@pytest.mark.parametrize("of", [grouped({**BY_HAND, "tiny": (1, 1, 1, 1), "no positives": (0, 0, 40, 3)}), crossed()])
def test_plot_draws(of):
    figure = Figure()
    axes = figure.add_subplot()
    result = run(of)
    CHECK.plot(result, axes)
    figure.canvas.draw()
    labels = [text.get_text() for text in axes.get_yticklabels()]
    judged = [row for row in table(result, "groups") if row["selection_rate"] is not None]
    assert labels == [f"{row['group']} (n = {row['n']})" for row in judged]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "selection rate",
        "true positive rate",
        "false positive rate",
    ]
