"""uncertainty.selective_risk: by hand, a model whose confidence says nothing and its clean twin, refusals."""

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from pydantic import ValidationError
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from assessor.contract import NotApplicable, Split, Task
from assessor.model import JudgedTarget, Status
from assessor.subjects.predictions import PredictionsSubject
from assessor.subjects.sklearn_estimator import SklearnSubject
from assessor.verdicts import judge
from assessor_checks import _selective as maths
from assessor_checks.uncertainty.selective_risk import CHECK, SelectiveRiskParams

matplotlib.use("Agg")


def stored(labels, scores, predicted=None):
    scores = np.asarray(scores, float)
    split = Split(name="test", labels=np.asarray(labels, np.int64), sha256="0")
    task = Task.BINARY if scores.shape[1] == 2 else Task.MULTICLASS
    names = tuple(f"c{i}" for i in range(scores.shape[1]))
    predicted = scores.argmax(axis=1) if predicted is None else predicted
    return PredictionsSubject(task, names, {"test": split}, {"test": predicted}, {"test": scores})


def run(subject, seed=0, **params):
    return CHECK.measure(subject, SelectiveRiskParams(**params), seed)


def model(n, informative, seed=0):
    """Errors in a fifth of the rows, the likelier the lower the confidence, or at random."""
    rng = np.random.default_rng(seed)
    confidence = 0.5 + 0.5 * rng.random(n)
    wrong = rng.random(n) < (np.clip(1.6 * (1 - confidence), 0, 1) if informative else 0.2 * 2)
    return stored(wrong.astype(int), np.stack([confidence, 1 - confidence], axis=1))


def by_hand(n=100):
    """100 rows: confidence falls from 0.99 on, the last 20 are wrong but for 5."""
    confidence = np.linspace(0.99, 0.6, n)
    wrong = np.zeros(n, int)
    wrong[85:] = 1
    return stored(wrong, np.stack([confidence, 1 - confidence], axis=1))


def test_by_hand():
    result = run(by_hand(), coverage=0.9)
    oracle = maths.oracle(15, 100)
    assert result.metric("aurc").value == pytest.approx(oracle.mean())
    assert result.metric("aurc").primary
    assert result.metric("excess_aurc").value == pytest.approx(0, abs=1e-12)
    assert "bound for any order" in result.metric("excess_aurc").method
    assert result.metric("rejection_ratio").value == pytest.approx(1)
    assert result.metric("error_auroc").value == 1
    assert result.metric("risk_at_coverage").value == pytest.approx(5 / 90)
    assert result.metric("risk_at_coverage").n == 90
    assert result.metric("risk").value == 0.15
    assert [m.name for m in result.metrics] == [
        "aurc",
        "excess_aurc",
        "rejection_ratio",
        "error_auroc",
        "risk_at_coverage",
        "risk",
    ]
    levels = {row[0]: row[1:] for row in result.tables[0].rows}
    assert levels[0.8][:1] == (0.8,)
    assert levels[0.8][2:5] == (80, 0, 0.0)
    assert levels[0.9][4] == pytest.approx(5 / 90)
    assert result.remarks == ()
    assert result.doubt is None


def test_planted_useless_confidence_and_its_clean_twin():
    target = JudgedTarget(metric="rejection_ratio", interval=(0.25, None), because="test", source="test")
    bad, good = run(model(2000, False)), run(model(2000, True))
    assert judge(bad, target).status is Status.FAIL
    assert judge(good, target).status is Status.PASS
    assert bad.metric("error_auroc").low < 0.5 < bad.metric("error_auroc").high
    assert good.metric("risk_at_coverage").high < good.metric("risk").low


def test_kinds_of_confidence_agree_for_two_classes():
    found = [run(model(300, True), confidence=kind) for kind in ("max_probability", "margin", "entropy")]
    values = [[m.value for m in result.metrics] for result in found]
    assert values[0] == pytest.approx(values[1])
    assert values[0] == pytest.approx(values[2])
    three = np.array([[0.5, 0.5, 0.0], [0.4, 0.3, 0.3]])
    from assessor_checks.uncertainty.selective_risk import _confidence

    assert _confidence(three, "margin") == pytest.approx([0, 0.1])
    assert _confidence(three, "max_probability") == pytest.approx([0.5, 0.4])
    assert _confidence(three, "entropy") == pytest.approx([np.log(0.5), 0.4 * np.log(0.4) + 0.6 * np.log(0.3)])


def test_real_model():
    x, y = load_breast_cancer(return_X_y=True)
    fitted = make_pipeline(StandardScaler(), LogisticRegression(C=0.01)).fit(x[:150], y[:150])
    split = Split(name="test", labels=y[150:].astype(np.int64), sha256="0", features=x[150:])
    result = run(SklearnSubject(fitted, Task.BINARY, ("0", "1"), {"test": split}))
    assert result.metric("error_auroc").low > 0.7
    assert result.metric("risk_at_coverage").value < result.metric("risk").value
    assert result.metric("aurc").low < result.metric("aurc").value < result.metric("aurc").high


def test_no_errors_still_give_a_bound():
    confidence = np.linspace(0.6, 0.99, 400)
    result = run(stored(np.zeros(400), np.stack([confidence, 1 - confidence], axis=1)))
    found = result.metric("aurc")
    assert (found.value, found.low) == (0, 0)
    assert found.high == pytest.approx(maths.worst_area(1 - 0.025 ** (1 / 400)))
    assert [m.name for m in result.metrics] == ["aurc", "excess_aurc", "risk_at_coverage", "risk"]
    assert result.remarks[0].startswith("0 of 400 decisions are wrong; 10 right and 10 wrong ones are needed")


def test_all_wrong_and_equal_confidence():
    result = run(stored(np.ones(60), np.tile([0.7, 0.3], (60, 1))))
    assert result.metric("aurc").value == 1
    assert result.metric("excess_aurc").value == 0
    assert "The confidence is the same in all rows, so that it sorts nothing." in result.remarks
    assert "60 of the 60 rows of the very highest confidence are decided wrongly." in result.remarks
    half = run(stored(np.arange(60) % 2, np.tile([0.7, 0.3], (60, 1))))
    assert half.metric("rejection_ratio").value == half.metric("rejection_ratio").high == 0
    assert half.metric("error_auroc").value == 0.5


def test_few_rows_are_doubtful():
    assert run(by_hand(49)).doubt == "49 rows are too few to judge an order of confidences; 50 are needed."
    result = run(stored([0], [[0.9, 0.1]]))
    assert result.metric("risk").value == 0
    assert result.doubt is not None


def test_refused():
    with pytest.raises(NotApplicable, match="the test split has no rows"):
        run(stored([], np.empty((0, 2))))
    with pytest.raises(NotApplicable, match="scores are not finite for 1 of 2 rows"):
        run(stored([0, 1], [[np.nan, 0.5], [0.5, 0.5]]))
    with pytest.raises(NotApplicable, match="no probabilities that sum to 1 for 1 of 2 rows"):
        run(stored([0, 1], [[0.5, 0.4], [0.5, 0.5]]))
    split = Split(name="test", labels=np.zeros(3), sha256="0")
    with pytest.raises(NotApplicable, match="states no confidence"):
        run(PredictionsSubject(Task.REGRESSION, (), {"test": split}, {"test": np.zeros(3)}, {}))
    split = Split(name="test", labels=np.zeros(3, np.int64), sha256="0")
    with pytest.raises(NotApplicable, match="decisions without probabilities"):
        run(PredictionsSubject(Task.BINARY, ("a", "b"), {"test": split}, {"test": np.zeros(3, int)}, {}))
    for wrong in ({"coverage": 0}, {"coverage": 1.1}, {"confidence": "x"}):
        with pytest.raises(ValidationError):
            SelectiveRiskParams(**wrong)


def test_same_bytes_whatever_the_seed():
    assert run(model(300, True), 1).model_dump_json() == run(model(300, True), 2).model_dump_json()


def test_plot_draws():
    axes = Figure().add_subplot()
    CHECK.plot(run(by_hand()), axes)
    assert axes.get_xlabel() == "share of rows accepted"
    assert [line.get_label() for line in axes.lines] == ["this model", "best order", "random order"]
