"""robustness.autoattack end to end: exact linear cases, a fragile model and its robust twin, masking, budgets."""

import json

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from pydantic import ValidationError
from sklearn.linear_model import LogisticRegression

from assessor.contract import Lent, NotApplicable, Split, Task, lending
from assessor.subjects.sklearn_estimator import SklearnSubject
from assessor.subjects.torch_module import TorchSubject
from assessor_checks._intervals import clopper_pearson
from assessor_checks.robustness.autoattack import CHECK, AutoAttackParams, most_rows

matplotlib.use("Agg")
W = [1.0, -2.0, 0.5, 0.0]
SMALL = {"steps": 20, "queries": 60}


def data(n=200, m=4, seed=0):
    return np.random.default_rng(seed).standard_normal((n, m)).astype(np.float32)


def head(weight, bias=0.0):
    """z = w x + b as a single logit."""
    net = torch.nn.Linear(len(weight), 1)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([weight]))
        net.bias.fill_(bias)
    return net


def subject(net, x=None, y=None, task=Task.BINARY, classes=("no", "yes"), **more):
    x = data() if x is None else x
    if y is None:
        with torch.no_grad():
            z = net(torch.from_numpy(x))
        y = (z[:, 0] > 0).long().numpy() if z.shape[1] == 1 else z.argmax(1).numpy()
    return TorchSubject(net, task, classes, {"test": Split(name="test", labels=y, sha256="test", features=x)}, **more)


def three():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(4, 30), torch.nn.ReLU(), torch.nn.Linear(30, 3))
    return subject(net, task=Task.MULTICLASS, classes=("a", "b", "c"))


def run(found, seed=0, **params):
    return CHECK.measure(found, AutoAttackParams(**{**SMALL, **params}), seed)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_linear_model_is_exact_and_everything_is_told(norm):
    most = np.abs(data() @ np.array(W)) / np.linalg.norm(W, 1 if norm == "linf" else 2)
    result = run(subject(head(W)), eps=0.4, norm=norm)
    standing = int((most > 0.4).sum())
    metric = result.metric("robust_accuracy")
    assert (metric.value, metric.low, metric.high) == clopper_pearson(standing, 200)
    assert metric.primary
    name = {"linf": "L-infinity", "l2": "L2"}[norm]
    assert metric.method == (
        f"upper bound: {name} AutoAttack, eps 0.4 (absolute), 20 steps, 1 targets, 60 queries, seed 0; 95 % "
        "Clopper-Pearson, sampling of rows only"
    )
    assert [m.name for m in result.metrics] == ["robust_accuracy", "clean_accuracy", "attack_success_rate"]
    assert result.doubt is None
    after = result.series[0].columns
    assert after["attack"] == (0, 1, 2, 3, 4)
    assert after["robust_accuracy"] == (1.0, *(standing / 200,) * 4)  # APGD-CE finds all there are
    classes, attacks, signs = result.tables
    assert sum(row[1] for row in classes.rows) == 200
    assert [row[:5] for row in attacks.rows] == [
        ("APGD-CE", 200, 200 - standing, standing, 0),
        ("APGD-T", standing, 0, standing, 0),
        ("FAB-T", standing, 0, standing, 0),
        ("Square", standing, 0, standing, 0),
    ]
    assert len(signs.rows) == 7
    assert "the attacks put" in result.remarks[0]
    assert result.remarks[2].startswith("With two classes the DLR loss of APGD-T is not defined")


def test_three_classes_and_the_unfoolable_cost():
    result = run(three(), eps=0.1)
    assert result.doubt is None
    assert 0 < result.metrics[0].value < 1
    assert any(remark.startswith("With three classes") for remark in result.remarks)
    sturdy = run(three(), eps=1e-6)
    cost = sum(row[5] for row in sturdy.tables[1].rows)
    assert sturdy.metrics[0].value == 1
    assert cost == most_rows(200, 3, AutoAttackParams(**SMALL))
    assert f"the attacks put {cost} rows through the model, of {cost} if no row had fallen" in sturdy.remarks[0]
    assert most_rows(1000, 10, AutoAttackParams()) == 1000 * (101 + 1 + 9 * 101 + 1 + 9 * 201 + 1 + 5000)


def test_fragile_model_and_its_robust_twin():
    # Both are right on every row; one leans on 20 faint features, the other on one that an attacker hardly moves.
    y = np.arange(100) % 2
    sign = (2 * y - 1)[:, None]
    x = np.hstack([sign * 1.0, sign * np.full((100, 20), 0.05)]).astype(np.float32)
    for net, share in ((head([0.0] + [1.0] * 20), 0.0), (head([1.0] + [0.0] * 20), 1.0)):
        result = run(subject(net, x, y), eps=0.1)
        assert result.metric("robust_accuracy").value == share
        assert result.doubt is None


class Steps(torch.nn.Module):
    """Right on the data, no gradient: the input is rounded first."""

    def forward(self, x):
        return ((x * 50).round() / 50 @ torch.tensor(W))[:, None] + 0 * x[:, :1]


class Noisy(torch.nn.Module):
    """Dropout that stays on."""

    def __init__(self):
        super().__init__()
        self.generator = torch.Generator().manual_seed(0)

    def forward(self, x):
        kept = torch.rand(x.shape, generator=self.generator) < 0.9
        return (x * kept @ torch.tensor(W))[:, None]


def test_masked_gradients_give_a_doubt_and_square_still_finds_rows():
    rounded = run(subject(Steps()), eps=0.2)
    assert "the gradient is exactly 0 for" in rounded.doubt
    assert "a search without gradients fooled" in rounded.doubt
    square = rounded.tables[1].rows[-1]
    assert square[2] > 0
    assert rounded.metrics[0].value < 1
    y = (data() @ np.array(W) > 0).astype(np.int64)
    noisy = run(subject(Noisy(), y=y), eps=0.1)
    assert "answers the same input differently from pass to pass" in noisy.doubt
    constant = run(subject(head([0.0] * 4, 1.0), y=np.arange(200) % 2), eps=0.1)
    assert constant.metrics[0].value == 0.5
    assert "a model that ignores its inputs" in constant.doubt


def test_members_are_kept_and_a_run_that_goes_on_says_the_same():
    store, told = {}, []
    lent = Lent(
        progress=lambda what, done, total: told.append(what),
        find=lambda key: store.get(json.dumps(key)),
        keep=lambda key, value: store.__setitem__(json.dumps(key), json.loads(json.dumps(value))),
    )
    plain = run(three(), eps=0.1).model_dump_json()
    with lending(lent):
        first = run(three(), eps=0.1).model_dump_json()
        assert len(store) == 4
        store.popitem()
        second = run(three(), eps=0.1).model_dump_json()
    assert plain == first == second
    assert (
        told[0] == f"AutoAttack, at most {most_rows(200, 3, AutoAttackParams(**SMALL))} rows through the model: attacks"
    )
    assert run(three(), 1, eps=0.1).model_dump_json() != plain


def test_bounds_and_held_columns():
    x = np.abs(data()).clip(0, 1)
    found = subject(head(W, 0.2), x)
    free, bound = (run(found, eps=0.3, bounds=b).metrics[0].value for b in (None, (0.0, 1.0)))
    low, high = np.maximum(x - 0.3, 0), np.minimum(x + 0.3, 1)
    w, z = np.array(W), x @ np.array(W) + 0.2
    worst = np.where(z > 0, np.where(w > 0, low, high) @ w + 0.2, np.where(w > 0, high, low) @ w + 0.2)
    assert bound == ((worst > 0) == (z > 0)).mean() > free
    held = run(found, eps=0.3, frozen=("#0", "#1", "#2"))
    assert held.metrics[0].value == 1  # the only column left to move has no weight
    assert held.remarks[-1].startswith("Not tried, since features are held fixed")


def test_one_row_no_row_right_and_few_samples():
    one = run(subject(head(W), data(1)))
    assert one.metrics[0].n == 1
    assert one.metrics[0].low < one.metrics[0].high
    wrong = run(subject(head(W), y=(data() @ np.array(W) <= 0).astype(np.int64)))
    assert wrong.metric("robust_accuracy").value == 0
    assert [m.name for m in wrong.metrics] == ["robust_accuracy", "clean_accuracy"]
    assert "nothing to attack" in " ".join(wrong.remarks)
    assert wrong.doubt is None
    few = run(subject(head(W)), max_samples=50)
    assert few.metrics[0].n == 50
    assert few.remarks[0].startswith("50 of 200 test rows")


def test_refused():
    nan = data()
    nan[0, 0] = np.nan
    with pytest.raises(NotApplicable, match="outputs are not finite for 1 of 200"):
        run(subject(head(W), nan, np.zeros(200, np.int64)))
    forced = torch.nn.Sequential(torch.nn.BatchNorm1d(4), head(W))
    found = subject(forced.eval())
    forced.train()
    with pytest.raises(NotApplicable, match="layer '0' is in train mode"):
        run(found)
    estimator = LogisticRegression().fit(data(), np.arange(200) % 2)
    split = Split(name="test", labels=np.arange(200) % 2, sha256="test", features=data())
    with pytest.raises(NotApplicable, match=r"no PyTorch module, .* use robustness.decision_attack"):
        run(SklearnSubject(estimator, Task.BINARY, ("0", "1"), {"test": split}))
    for wrong in ({"eps": 0}, {"steps": 0}, {"targets": 0}, {"queries": 0}, {"norm": "l1"}):
        with pytest.raises(ValidationError):
            AutoAttackParams(**wrong)


def test_plot_draws():
    axes = Figure().add_subplot()
    CHECK.plot(run(three(), eps=0.1), axes)
    assert axes.get_ylabel() == "robust accuracy (upper bound)"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["none", "APGD-CE", "APGD-T", "FAB-T", "Square"]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_is_exact_too():
    most = np.abs(data() @ np.array(W)) / np.abs(W).sum()
    result = run(subject(head(W), y=(data() @ np.array(W) > 0).astype(np.int64), device="cuda"), eps=0.4)
    assert result.metric("robust_accuracy").value == pytest.approx((most > 0.4).mean(), abs=0.01)
