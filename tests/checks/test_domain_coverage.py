"""reliability.domain_coverage end to end: declared and learned domains, planted gaps, what is refused."""

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from pydantic import ValidationError

from assessor.contract import Better, NotApplicable, Split, Task
from assessor.subjects.predictions import PredictionsSubject
from assessor_checks._intervals import clopper_pearson
from assessor_checks.reliability.domain_coverage import CHECK, DomainCoverageParams

matplotlib.use("Agg")
NAMES = ("light", "site")
DOMAIN = {"light": {"low": 0, "high": 100}, "site": {"values": [0, 1, 2]}}


def split(name, x, names=NAMES, attributes=None):
    n = len(x) if x is not None else len(attributes)
    return Split(name, np.zeros(n, np.int64), name, features=x, feature_names=names, attributes=attributes)


def subject(test, train=None, **more):
    splits = {"test": split("test", test, **more)}
    if train is not None:
        splits["train"] = split("train", train, more.get("names", NAMES))
    nothing = {name: np.zeros(found.n, np.int64) for name, found in splits.items()}
    return PredictionsSubject(Task.BINARY, ("no", "yes"), splits, nothing, {})


def rows(n=300, seed=0):
    rng = np.random.default_rng(seed)
    return np.column_stack([rng.uniform(0, 100, n), rng.integers(0, 3, n).astype(float)])


def run(found, seed=0, **params):
    return CHECK.measure(found, DomainCoverageParams(**params), seed)


def test_by_hand():
    x = np.array([[10, 0], [10, 0], [30, 1], [60, 2], [90, 2], [101, 1]], float)
    result = run(subject(x), domain=DOMAIN)
    assert [metric.name for metric in result.metrics] == [
        "pair_coverage",
        "value_coverage",
        "outside_share",
        "unseen_share",
    ]
    pairs = result.metric("pair_coverage")
    assert (pairs.value, pairs.low, pairs.high, pairs.n, pairs.confidence) == (4 / 12, 4 / 12, 4 / 12, 12, None)
    assert pairs.primary
    assert result.metric("value_coverage").value == 1
    outside = result.metric("outside_share")
    assert (outside.value, outside.high, outside.better) == (1 / 6, clopper_pearson(1, 6).high, Better.LOWER)
    assert result.metric("unseen_share").value == 3 / 6
    features, gaps = result.tables
    assert features.rows == (("light", 4, 4, 1, "25 to 50", 1), ("site", 3, 3, 0, "0", 2))
    assert len(gaps.rows) == 8
    assert gaps.rows[0] == ("light: 0 to 25, site: 1", 0, None, round(6 * 2 / 6 * 2 / 6, 2))
    assert result.series[0].columns["coverage"][:3] == (4 / 12, 1 / 12, 0)
    assert result.remarks == ("6 rows of the test split, 2 features, 12 combinations of 2; 8 of them have no row.",)


def test_planted_gap_and_clean_twin():
    clean = rows()
    holes = clean[~((clean[:, 0] > 75) & (clean[:, 1] == 2))]
    target = 0.95
    assert run(subject(clean), domain=DOMAIN).metric("pair_coverage").low >= target
    found = run(subject(holes, clean), domain=DOMAIN)
    assert found.metric("pair_coverage").high < target
    region, count, training, expected = found.tables[1].rows[0]
    assert region == "light: 75 to 100, site: 2"
    assert (count, training > 10, expected > 10) == (0, True, True)
    assert found.metric("train_coverage").value == 11 / 12
    strict = run(subject(clean), domain=DOMAIN, minimum_rows=40)
    assert strict.metric("pair_coverage").value < target


def test_domain_from_the_training_data():
    train, test = rows(500), rows(200, seed=1)
    test[0] = [120, 7]
    result = run(subject(test, train))
    assert result.metric("outside_share").value >= 1 / 200
    assert result.metric("pair_coverage").value == 1
    assert result.remarks[0] == "No domain was declared: the values in the training data stand for it."
    constant = np.column_stack([train, np.ones(500)])
    found = subject(np.column_stack([test, np.ones(200)]), constant, names=(*NAMES, "unit"))
    assert "Left out, since they have one value or too many: unit." in run(found).remarks
    own = run(subject(test, train), split="train")
    assert own.metric("pair_coverage").value == 1
    assert "train_coverage" not in {metric.name for metric in own.metrics}


def test_impossible_combinations_do_not_count():
    x = np.array([[10, 0], [30, 1], [60, 2]], float)
    ruled = [{"light": "0 to 25", "site": 1}, {"light": 80, "site": 0}, {"light": 60, "site": 2}]
    result = run(subject(x), domain=DOMAIN, impossible=ruled)
    assert result.metric("pair_coverage").value == 2 / 9
    assert result.metric("pair_coverage").n == 9
    assert result.remarks[1:] == (
        "3 combinations do not count, since they are named as impossible.",
        "Combinations named as impossible occur 1 times in the data; look at them again.",
    )
    with pytest.raises(NotApplicable, match="impossible: 'dust' is none of the columns that count: light, site"):
        run(subject(x), domain=DOMAIN, impossible=[{"dust": 1}])
    with pytest.raises(NotApplicable, match="impossible: site = 9 lies in no cell of site: 0, 1, 2"):
        run(subject(x), domain=DOMAIN, impossible=[{"site": 9}])


def test_attributes_strengths_and_columns():
    attributes = pd.DataFrame({"sex": list("fm") * 20, "age": ["old", "young", "young", "old"] * 10})
    pictures = subject(np.zeros((40, 1, 2, 2)), attributes=attributes, names=())
    domain = {"sex": {"values": ["f", "m"]}, "age": {"values": ["old", "young"]}}
    assert run(pictures, domain=domain).metric("pair_coverage").value == 1
    single = run(pictures, domain=domain, strength=1, columns=("sex",))
    assert [metric.name for metric in single.metrics][:1] == ["value_coverage"]
    assert single.remarks[0] == "Columns without a declared domain do not count: age."
    x = np.random.default_rng(0).integers(0, 2, (100, 4)).astype(float)
    triples = run(subject(x, x, names=()), strength=3)
    assert [metric.name for metric in triples.metrics][:3] == ["triple_coverage", "pair_coverage", "value_coverage"]


def test_missing_values_are_outside():
    x = rows(50)
    x[:10, 0] = np.nan
    assert run(subject(x), domain=DOMAIN).metric("outside_share").value == 10 / 50


def test_one_row_and_same_bytes():
    one = run(subject(rows(1)), domain=DOMAIN)
    assert one.metric("unseen_share").value == 1
    assert one.metric("pair_coverage").value == 1 / 12
    assert (
        run(subject(rows()), 1, domain=DOMAIN).model_dump_json()
        == run(subject(rows()), 2, domain=DOMAIN).model_dump_json()
    )


def test_refused():
    x = rows(20)
    with pytest.raises(NotApplicable, match="no domain was declared, and there are no training data"):
        run(subject(x))
    with pytest.raises(NotApplicable, match="domain: no column 'lihgt'; did you mean 'light'"):
        run(subject(x), domain={"lihgt": {"low": 0, "high": 1}})
    with pytest.raises(NotApplicable, match="columns: no column 'x'; found light, site"):
        run(subject(x), domain=DOMAIN, columns=("x",))
    with pytest.raises(NotApplicable, match="1 columns have a domain, wanted at least 2 for pairs; declare them"):
        run(subject(x), domain=DOMAIN, columns=("site",))
    with pytest.raises(NotApplicable, match="no columns to tell regions by"):
        run(subject(np.zeros((5, 1, 2, 2)), names=()))
    with pytest.raises(NotApplicable, match="the test split has no rows"):
        run(subject(x[:0]), domain=DOMAIN)
    with pytest.raises(NotApplicable, match="there is no train split"):
        run(subject(x), domain=DOMAIN, split="train")
    texts = subject(None, attributes=pd.DataFrame({"light": list("ab"), "site": [1, 2]}), names=())
    with pytest.raises(NotApplicable, match="column 'light' holds no numbers"):
        run(texts, domain=DOMAIN)
    wide = np.random.default_rng(0).integers(0, 2, (30, 90)).astype(float)
    with pytest.raises(NotApplicable, match="117480 sets of 3 columns are too many"):
        run(subject(wide, wide, names=()), strength=3)
    for wrong in (
        {"domain": {}},
        {"domain": {"light": {"low": 3, "high": 1}}},
        {"domain": {"light": {"values": []}}},
        {"strength": 4},
        {"minimum_rows": 0},
    ):
        with pytest.raises(ValidationError):
            DomainCoverageParams(**wrong)


def test_plot_draws():
    axes = Figure().add_subplot()
    CHECK.plot(run(subject(rows()), domain=DOMAIN), axes)
    assert axes.get_xlabel() == "rows a combination needs to count"
