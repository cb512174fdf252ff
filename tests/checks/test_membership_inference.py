"""privacy.membership_inference: over-fitted models and their regularised twins, a true null, shifts, refusals."""

import json
import math

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from pydantic import ValidationError
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import Ridge
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from assessor.contract import Lent, Need, NotApplicable, Split, Task, lending
from assessor.model import JudgedTarget, Status
from assessor.subjects.predictions import PredictionsSubject
from assessor.subjects.sklearn_estimator import SklearnSubject
from assessor.subjects.torch_module import TorchSubject
from assessor.verdicts import judge
from assessor_checks.privacy import _membership as maths
from assessor_checks.privacy import _membership_attacks as attacks
from assessor_checks.privacy.membership_inference import CHECK, MembershipInferenceParams

matplotlib.use("Agg")
CLASSES = tuple(map(str, range(10)))
TARGET = JudgedTarget(metric="attack_auc", interval=(None, 0.6), because="test", source="test")


def run(subject, seed=0, **params):
    return CHECK.measure(subject, MembershipInferenceParams(**params), seed)


def part(name, x, y):
    return Split(name=name, labels=y, sha256=name, features=x)


def digits(model, n=400, seed=0, trained_elsewhere=False):
    """Handwritten digits with a fifth of wrong labels; trained elsewhere, nothing can leak."""
    x, y = load_digits(return_X_y=True)
    rng = np.random.default_rng(seed)
    wrong = rng.random(len(y)) < 0.2
    y = np.where(wrong, rng.integers(0, 10, len(y)), y).astype(np.int64)
    order = rng.permutation(len(x))
    train, test, other = order[:n], order[n : 2 * n], order[2 * n : 3 * n]
    fitted = other if trained_elsewhere else train
    splits = {"train": part("train", x[train], y[train]), "test": part("test", x[test], y[test])}
    return SklearnSubject(model.fit(x[fitted], y[fitted]), Task.MULTICLASS, CLASSES, splits)


def tree(**params):
    return DecisionTreeClassifier(random_state=0, **params)


def test_overfitted_tree_and_its_regularised_twin():
    bad, good = run(digits(tree()), shadows=8), run(digits(tree(max_leaf_nodes=6)), shadows=8)
    assert judge(bad, TARGET).status is Status.FAIL
    assert judge(good, TARGET).status is not Status.FAIL
    assert good.metric("attack_auc").low < 0.6
    assert bad.metric("attack_auc").primary
    assert bad.metric("attack_advantage").low > 0.2
    assert [m.name for m in bad.metrics] == ["attack_auc", "attack_advantage", "loss_attack_auc"]
    assert "offline LiRA" in bad.metrics[0].method
    assert bad.doubt is None
    assert bad.remarks == (
        "400 other rows are too few to say what is found at 1 % false alarms; 1000 are needed.",
        "400 other rows are too few to say what is found at 0.1 % false alarms; 10000 are needed.",
    )
    by_class, exposed = bad.tables
    assert [row[0] for row in by_class.rows] == list(CLASSES)
    assert sum(row[1] for row in by_class.rows) == 400
    assert len(exposed.rows) == 10
    assert [row[1] for row in exposed.rows] == sorted((row[1] for row in exposed.rows), reverse=True)


def test_likelihood_ratio_finds_more_than_the_loss():
    subject = digits(RandomForestClassifier(10, min_samples_leaf=5, random_state=0), seed=1)
    lira, loss = run(subject, shadows=16), run(subject, attack="loss")
    assert lira.metric("loss_attack_auc").value == loss.metric("attack_auc").value
    assert lira.metric("attack_auc").value > loss.metric("attack_auc").value + 0.02
    assert loss.remarks[0] == "Only the loss was looked at, as asked; the likelihood ratio attack finds more."


@pytest.mark.parametrize("params", [{"shadows": 4}, {"attack": "loss"}])
def test_nothing_leaks_from_a_model_trained_elsewhere(params):
    found = [run(digits(tree(), 200, seed, True), seed, **params) for seed in range(12)]
    areas = [result.metric("attack_auc") for result in found]
    assert np.mean([one.value for one in areas]) == pytest.approx(0.5, abs=4 * 0.029 / math.sqrt(12))
    assert sum(one.low <= 0.5 <= one.high for one in areas) >= 9


def test_procedure_is_attacked_without_test_rows():
    bad, good = (run(digits(model), audit="procedure", shadows=8) for model in (tree(), tree(max_leaf_nodes=6)))
    assert judge(bad, TARGET).status is Status.FAIL
    assert judge(good, TARGET).status is not Status.FAIL
    assert "online LiRA" in bad.metrics[0].method
    assert bad.metrics[0].n == 200


def moved(by):
    """Test rows moved away from the training rows; the model knows nothing of either."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((1200, 3)), rng.integers(0, 2, 1200)
    model = DecisionTreeClassifier(max_depth=3, random_state=0).fit(x[800:], x[800:, 0] > 0)
    splits = {
        "train": part("train", x[:400] + np.array([by, 0, 0]), y[:400] | 1),
        "test": part("test", x[400:800], y[400:800]),
    }
    return SklearnSubject(model, Task.BINARY, ("0", "1"), splits)


def test_a_shift_is_not_taken_for_membership():
    result = run(moved(1.5), attack="loss")
    assert result.doubt.startswith("Training and test rows differ: without the model a classifier of the inputs")
    assert judge(result, TARGET).status is Status.INCONCLUSIVE
    assert any(remark.startswith("Without the model a classifier") for remark in result.remarks)


def test_copies_of_training_rows_are_no_outsiders():
    subject = digits(tree())
    train, test = subject.splits["train"], subject.splits["test"]
    x = test.features.copy()
    x[:30] = train.features[:30]
    splits = {"train": train, "test": part("test", x, test.labels)}
    result = run(SklearnSubject(subject._estimator, Task.MULTICLASS, CLASSES, splits), attack="loss")
    assert "30 test rows are copies of training rows and were left out." in result.remarks
    assert sum(row[2] for row in result.tables[0].rows) == 370
    alike = {"train": train, "test": part("test", train.features, train.labels)}
    with pytest.raises(NotApplicable, match="every test row is a copy of a training row"):
        run(SklearnSubject(subject._estimator, Task.MULTICLASS, CLASSES, alike))


def test_rates_at_few_false_alarms():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2400, 5))
    y = rng.integers(0, 2, 2400)
    model = DecisionTreeClassifier(random_state=0).fit(x[:1200], y[:1200])
    splits = {"train": part("train", x[:1200], y[:1200]), "test": part("test", x[1200:], y[1200:])}
    result = run(SklearnSubject(model, Task.BINARY, ("0", "1"), splits), attack="loss", max_rows=1100)
    assert [m.name for m in result.metrics] == ["attack_auc", "attack_advantage", "tpr_at_1_percent_fpr"]
    assert result.metric("attack_auc").value == pytest.approx(
        0.75, abs=0.03
    )  # labels are noise: half of the guesses hit
    # all members score alike, with half of the others: 1 % of others are found with 2 % of members
    assert result.metric("tpr_at_1_percent_fpr").value == pytest.approx(0.02, abs=0.002)
    assert result.metric("attack_auc").n == 1100


def test_regression():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((600, 4))
    y = x[:, 0] + 0.5 * rng.standard_normal(600)
    splits = {"train": part("train", x[:300], y[:300]), "test": part("test", x[300:], y[300:])}
    bad = SklearnSubject(DecisionTreeRegressor(random_state=0).fit(x[:300], y[:300]), Task.REGRESSION, (), splits)
    good = SklearnSubject(Ridge().fit(x[:300], y[:300]), Task.REGRESSION, (), splits)
    assert run(bad, shadows=8).metric("attack_auc").low > 0.9
    assert run(good, shadows=8).metric("attack_auc").low < 0.55
    assert run(bad, attack="loss").metric("attack_auc").value == 1
    assert len(run(bad, shadows=4).tables) == 1


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.ReLU(), torch.nn.Linear(32, 2))


def fit(features, labels, seed):
    torch.manual_seed(seed)
    net = network()
    x, y = torch.from_numpy(features), torch.from_numpy(labels)
    for _ in range(100):
        found = torch.autograd.grad(torch.nn.functional.cross_entropy(net(x), y), list(net.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(net.parameters(), found, strict=True):
                parameter.sub_(gradient)
    return net


def test_torch_module_with_a_way_to_train_it():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((300, 8)).astype(np.float32), rng.integers(0, 2, 300)
    splits = {"train": part("train", x[:150], y[:150]), "test": part("test", x[150:], y[150:])}
    subject = TorchSubject(fit(x[:150], y[:150], 9), Task.BINARY, ("a", "b"), splits, train=fit)
    assert Need.REFIT in subject.offers
    assert run(subject, shadows=8).metric("attack_auc").low > 0.55
    without = TorchSubject(fit(x[:150], y[:150], 9), Task.BINARY, ("a", "b"), splits)
    result = run(without)
    assert "threshold on the loss" in result.metrics[0].method
    assert result.remarks[0].startswith(
        "Only the loss was looked at; the likelihood ratio attack, which finds more, needs"
    )
    with pytest.raises(NotApplicable, match="needs a way to train the model anew"):
        run(without, attack="lira")


def test_shadow_models_are_kept():
    store, told = {}, []
    lent = Lent(
        lambda what, done, total: told.append((what, done, total)),
        lambda key: store.get(json.dumps(key)),
        lambda key, value: store.__setitem__(json.dumps(key), value),
    )
    subject = digits(tree(), 100)
    with lending(lent):
        first = run(subject, shadows=4)
    assert len(store) == 4
    assert told == [("shadow models", i, 4) for i in range(4)]
    assert all(len(value) == 200 for value in store.values())

    class Forgetful(SklearnSubject):
        def refit(self, rows, seed, labels=None):
            raise AssertionError("trained again")

    again = Forgetful(subject._estimator, Task.MULTICLASS, CLASSES, subject.splits)
    with lending(lent):
        assert run(again, shadows=4) == first


def test_offline_scores_by_hand():
    subject = digits(tree(), 60)
    attack = attacks.by_likelihood_ratio(subject, 4, 1000, 3)
    inside = maths.halves(60, 4, np.random.default_rng([3, 1]))
    x, y = subject.splits["train"].features, subject.splits["train"].labels
    outputs = subject.scores("train")
    both = np.concatenate([outputs, subject.scores("test")])
    floor = maths.floor_of(both, np.concatenate([y, subject.splits["test"].labels]))
    shadows = [subject.refit(np.flatnonzero(inside[k]), 3 + k)(x) for k in range(4)]
    own = maths.signal(outputs, y, floor)
    row = 17
    mean = np.mean([maths.signal(shadows[k], y, floor)[row] for k in range(4) if not inside[k, row]])
    others = [i for i in range(60) if attack.rows[i] == row]
    differences = own - np.array([
        np.mean([maths.signal(shadows[k], y, floor)[i] for k in range(4) if not inside[k, i]]) for i in range(60)
    ])  # fmt: skip
    scale = differences[attack.rows[:60]] / np.where(attack.scores[:60] == 0, np.nan, attack.scores[:60])
    assert np.nanstd(scale) == pytest.approx(0, abs=1e-9)  # one spread for all rows
    assert attack.scores[others[0]] * np.nanmean(scale) == pytest.approx(own[row] - mean)


def stored(n, finite=True):
    scores = np.full((n, 2), 0.5)
    if not finite:
        scores[0] = np.nan
    labels = np.arange(n) % 2
    splits = {name: Split(name=name, labels=labels, sha256=name) for name in ("train", "test")}
    both = dict.fromkeys(splits, scores)
    return PredictionsSubject(Task.BINARY, ("a", "b"), splits, dict.fromkeys(splits, labels), both)


def test_table_of_predictions():
    result = run(stored(60))
    assert result.metric("attack_auc").value == 0.5
    assert "The inputs are not known as numbers, so that no shift between training and test was looked for." in (
        result.remarks
    )
    assert result.doubt is None


def test_few_rows_are_doubtful():
    assert run(stored(49)).doubt == "49 training rows and 49 other rows are too few to judge an attack; 50 are needed."


def test_refused():
    with pytest.raises(NotApplicable, match="the train split has 1 rows that could be attacked"):
        run(stored(1))
    with pytest.raises(NotApplicable, match="not finite for 1 of 60 rows of the train split"):
        run(stored(60, finite=False))
    splits = {name: Split(name=name, labels=np.zeros(9, np.int64), sha256=name) for name in ("train", "test")}
    hard = PredictionsSubject(Task.BINARY, ("a", "b"), splits, dict.fromkeys(splits, np.zeros(9, np.int64)), {})
    with pytest.raises(NotApplicable, match="decisions without probabilities; use generalization"):
        run(hard)
    with pytest.raises(NotApplicable, match="audit procedure goes with the likelihood ratio attack"):
        run(digits(tree(), 60), attack="loss", audit="procedure")
    for wrong in ({"shadows": 5}, {"shadows": 2}, {"attack": "x"}, {"max_rows": 1}):
        with pytest.raises(ValidationError):
            MembershipInferenceParams(**wrong)


def test_same_seed_same_bytes():
    subject = digits(tree(), 100)
    first, second, other = (run(subject, seed, shadows=4).model_dump_json() for seed in (5, 5, 6))
    assert first == second
    assert first != other


def test_plot_draws():
    axes = Figure().add_subplot()
    CHECK.plot(run(digits(tree(), 100), shadows=4), axes)
    assert axes.get_xscale() == axes.get_yscale() == "log"
    assert axes.get_xlabel() == "share of other rows taken for training rows"
    assert len(axes.lines) == 2
