"""robustness.pgd_accuracy end to end: exact linear cases, a fragile model and its robust twin, signs of masking."""

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from pydantic import ValidationError
from sklearn.linear_model import LogisticRegression

from assessor.contract import NotApplicable, Split, Task
from assessor.subjects.sklearn_estimator import SklearnSubject
from assessor.subjects.torch_module import TorchSubject
from assessor_checks._intervals import clopper_pearson
from assessor_checks.robustness.pgd_accuracy import CHECK, PgdParams

matplotlib.use("Agg")


def split(name, x, y, names=()):
    return Split(name=name, labels=np.asarray(y), sha256=name, features=np.asarray(x), feature_names=names)


def data(n=300, m=4, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, m)).astype(np.float32)


def head(weight, bias=0.0):
    """z = w x + b as a single logit."""
    net = torch.nn.Linear(len(weight), 1)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([weight]))
        net.bias.fill_(bias)
    return net


def subject(net, x=None, y=None, names=(), train=None, task=Task.BINARY, classes=("no", "yes"), **more):
    x = data() if x is None else x
    if y is None:
        with torch.no_grad():
            z = net(torch.from_numpy(x))
        y = (z[:, 0] > 0).long().numpy() if z.shape[1] == 1 else z.argmax(1).numpy()
    splits = {"test": split("test", x, y, names)}
    if train is not None:
        splits["train"] = split("train", train, np.zeros(len(train), np.int64), names)
    return TorchSubject(net, task, classes, splits, **more)


def run(found, seed=0, **params):
    return CHECK.measure(found, PgdParams(**params), seed)


W = [1.0, -2.0, 0.5, 0.0]


def survival(x, w=W, bias=0.0, scale=1.0, order=1):
    """Largest eps each row survives, by hand: |w x + b| / ||w scale||, with the 1-norm for L-infinity."""
    w = np.asarray(w)
    return np.abs(x @ w + bias) / np.linalg.norm(w * scale, order)


def test_linear_model_is_exact_at_every_size():
    result, most = run(subject(head(W)), eps=0.4, steps=10), survival(data())
    assert result.metric("robust_accuracy").value == (most > 0.4).mean()
    assert result.metric("clean_accuracy").value == 1.0
    assert result.metric("attack_success_rate").value == (most <= 0.4).mean()
    curve = result.series[0].columns
    assert curve["eps"] == pytest.approx((0, 0.1, 0.2, 0.3, 0.4))
    assert curve["robust_accuracy"] == pytest.approx([(most > eps).mean() for eps in (0, 0.1, 0.2, 0.3, 0.4)])
    assert list(curve["robust_accuracy"]) == sorted(curve["robust_accuracy"], reverse=True)
    metric = result.metric("robust_accuracy")
    assert (metric.low, metric.high) == clopper_pearson(int((most > 0.4).sum()), 300)[1:]
    assert metric.primary
    assert metric.method == (
        "upper bound: L-infinity PGD on CE, eps 0.4 (absolute), 10 steps, 3 starts, seed 0; "
        "95 % Clopper-Pearson, sampling of rows only"
    )
    assert result.doubt is None
    assert [m.name for m in result.metrics] == ["robust_accuracy", "clean_accuracy", "attack_success_rate"]
    assert result.remarks[0].startswith("300 of 300 test rows; the attacks put ")
    assert result.remarks[1].startswith("The features that may move range from -3.")
    assert result.remarks[1].endswith("; moved values are not kept to a range, since no bounds are given.")
    assert result.remarks[2:] == ("Sanity check: with the whole range of the data allowed, 0 of 300 rows still stand.",)


def test_tables_tell_classes_attacks_and_signs():
    x, most = data(), survival(data())
    result = run(subject(head(W)), eps=0.4, steps=10)
    classes, attacks, signs = result.tables
    y = (x @ np.array(W) > 0).astype(int)
    assert [row[0] for row in classes.rows] == ["yes", "no"]  # the least robust first
    for name, row in zip(("yes", "no"), classes.rows, strict=True):
        mine = y == (name == "yes")
        stand = int((most > 0.4)[mine].sum())
        assert row == (name, mine.sum(), 1.0, *clopper_pearson(stand, int(mine.sum())))
    assert [row[0] for row in attacks.rows] == [
        "PGD, eps 0.1",
        "PGD, eps 0.2",
        "PGD, eps 0.3",
        "PGD, eps 0.4",
        "search without gradients, eps 0.4",
    ]
    left = [300, *((most > eps).sum() for eps in (0.1, 0.2, 0.3, 0.4, 0.4))]
    for row, before, after in zip(attacks.rows, left[:-1], left[1:], strict=True):
        assert row[1:5] == (before, before - after, after, 0)
    assert all(row[1] <= 0 for row in signs.rows)
    assert signs.columns[0] == "sign"


@pytest.mark.parametrize("more", [{"method": "apgd"}, {"targets": 3}, {"method": "apgd", "targets": 1, "restarts": 2}])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_every_method_is_exact_in_both_norms(norm, more):
    most = survival(data(), order=1 if norm == "linf" else 2)
    result = run(subject(head(W)), eps=0.4, norm=norm, steps=20, curve=(0.5, 2.0), **more)
    assert result.metric("robust_accuracy").value == (most > 0.4).mean()
    curve = result.series[0].columns
    assert curve["eps"] == pytest.approx((0, 0.2, 0.4, 0.8))
    assert curve["robust_accuracy"] == pytest.approx([(most > eps).mean() for eps in (0, 0.2, 0.4, 0.8)])
    assert result.doubt is None
    assert ("towards each of 1 wrong classes" in result.metrics[0].method) == ("targets" in more)


def test_l2_in_standard_deviations_with_a_held_column():
    x = data() * np.array([1, 10, 0.1, 1], np.float32)
    w, scale = [1.0, -0.2, 5.0, 3.0], x.std(axis=0, dtype=np.float64) * np.array([1, 1, 1, 0])
    names = ("a", "b", "c", "d")
    result = run(subject(head(w), x, names=names), eps=0.3, norm="l2", scale="feature_std", frozen=("d",), steps=20)
    exact = survival(x.astype(np.float64), w, scale=scale, order=2) > 0.3
    assert result.metric("robust_accuracy").value == exact.mean()


def test_dlr_of_three_classes_and_not_of_two():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(4, 30), torch.nn.ReLU(), torch.nn.Linear(30, 3))
    found = subject(net, task=Task.MULTICLASS, classes=("a", "b", "c"))
    values = {
        loss: run(found, eps=0.1, steps=20, loss=loss, method="apgd", targets=targets).metrics[0].value
        for loss, targets in (("ce", 0), ("dlr", 0), ("dlr", 2))
    }
    assert max(values.values()) - min(values.values()) <= 0.01
    with pytest.raises(NotApplicable, match="two classes; use loss: ce"):
        run(subject(head(W)), loss="dlr")


def test_standard_deviations_and_held_columns_are_exact():
    x = data() * np.array([1, 10, 0.1, 1], np.float32)
    x[:, 3] = np.arange(300) % 2
    names = ("age", "income", "ratio", "member")
    w = [1.0, -0.2, 5.0, 3.0]
    found = subject(head(w), x, names=names, train=3 * x)
    result = run(found, eps=0.1, scale="feature_std", frozen=("age",), steps=10)
    scale = 3 * x.std(axis=0, dtype=np.float64) * np.array([0, 1, 1, 0])
    exact = (survival(x.astype(np.float64), w, scale=scale) > 0.1).mean()
    assert result.metric("robust_accuracy").value == exact
    assert result.remarks[:3] == (
        "Held fixed as asked: age.",
        "Perturbations are in standard deviations of each feature over the train split.",
        "Held fixed because they take at most two values: member.",
    )
    assert result.remarks[-1].startswith("Not tried, since features are held fixed")
    assert run(found, eps=0.1, scale="feature_std", frozen=("#0",), steps=10).metrics == result.metrics


def test_fragile_model_and_its_robust_twin():
    # Both are right on every row; one leans on 20 faint features, the other on one that an attacker hardly moves.
    rng = np.random.default_rng(0)
    y = np.arange(200) % 2
    sign = (2 * y - 1)[:, None]
    x = np.hstack([sign * 1.0, sign * 0.05 + 0 * rng.random((200, 20))]).astype(np.float32)
    fragile, robust = head([0.0] + [1.0] * 20), head([1.0] + [0.0] * 20)
    for net, share in ((fragile, 0.0), (robust, 1.0)):
        result = run(subject(net, x, y), eps=0.1)
        assert result.metric("clean_accuracy").value == 1.0
        assert result.metric("robust_accuracy").value == share
        assert result.doubt is None


def test_bounds_are_kept():
    x = np.abs(data()).clip(0, 1)
    free, bound = (run(subject(head(W, 0.2), x), eps=0.3, bounds=b).metrics[0].value for b in (None, (0.0, 1.0)))
    low, high = np.maximum(x - 0.3, 0), np.minimum(x + 0.3, 1)
    w, z = np.array(W), x @ np.array(W) + 0.2
    worst = np.where(z > 0, np.where(w > 0, low, high) @ w + 0.2, np.where(w > 0, high, low) @ w + 0.2)
    assert bound == ((worst > 0) == (z > 0)).mean()
    assert bound > free


class Steps(torch.nn.Module):
    """Right on the data, no gradient: the input is rounded first."""

    def forward(self, x):
        return ((x * 50).round() / 50 @ torch.tensor(W))[:, None] + 0 * x[:, :1]


class Bump(torch.nn.Module):
    """Gradients point away from the boundary: a steep ripple on a linear model."""

    def forward(self, x):
        z = x @ torch.tensor(W)
        return (z + 0.02 * torch.sin(-2000 * z))[:, None]


class Broken(torch.nn.Module):
    """Finite on the data, NaN beside it."""

    def forward(self, x):
        known = torch.from_numpy(data())
        off = (x[:, None] - known[None]).abs().amax(-1).amin(-1) > 1e-3
        return torch.where(off, torch.nan, (x @ torch.tensor(W)))[:, None]


class Noisy(torch.nn.Module):
    """Dropout that stays on."""

    def __init__(self):
        super().__init__()
        self.generator = torch.Generator().manual_seed(0)

    def forward(self, x):
        kept = torch.rand(x.shape, generator=self.generator) < 0.9
        return (x * kept @ torch.tensor(W))[:, None]


MASKED = "The gradients may be masked or the attack too weak: "


@pytest.mark.slow
def test_masked_gradients_give_a_doubt():
    rounding = run(subject(Steps()), eps=0.1, steps=5).doubt
    assert rounding.startswith(f"{MASKED}the gradient is exactly 0 for ")
    assert "a search without gradients fooled" in rounding
    assert "even with the whole range of the data allowed" in rounding
    ripple = run(subject(Bump()), eps=0.2, steps=5).doubt
    assert "a search without gradients fooled" in ripple
    assert "the model gave NaN or infinite outputs" in run(subject(Broken()), eps=0.1, steps=5, restarts=1).doubt
    noisy = subject(Noisy(), y=(data() @ np.array(W) > 0).astype(np.int64))
    assert run(noisy, eps=0.1, steps=5).doubt.startswith(
        f"{MASKED}the model answers the same input differently from pass to pass ("
    )


def test_saturated_outputs_give_a_doubt_and_their_clean_twin_none():
    # Outputs as probabilities: scaled by 1e4 the sigmoid is exactly 0 or 1, without a gradient and flat all around.
    y = (data() @ np.array(W) > 0).astype(np.int64)
    for scale in (1.0, 1e4):
        net = torch.nn.Sequential(head([scale * w for w in W]), torch.nn.Sigmoid())
        result = run(subject(net, data(), y, outputs="probabilities"), eps=0.1, steps=10)
        if scale == 1.0:
            assert result.doubt is None
        else:
            assert "the gradient is exactly 0 for" in result.doubt
            assert "the outputs do not change at all within the distance for" in result.doubt


def test_rows_found_without_gradients_count_as_fooled():
    result = run(subject(Steps()), eps=0.4, steps=2, restarts=1)
    assert result.metric("robust_accuracy").value < 0.6
    assert any("were fooled by the search without gradients only" in remark for remark in result.remarks)
    assert result.metric("robust_accuracy").value >= (survival(data()) > 0.4 + 0.01).mean()


def test_constant_model_keeps_its_accuracy_and_is_doubtful():
    y = np.arange(300) % 2
    result = run(subject(head([0.0] * 4, 1.0), y=y), steps=2)
    assert result.metric("robust_accuracy").value == result.metric("clean_accuracy").value == 0.5
    assert "a model that ignores its inputs" in result.doubt


def test_saturated_model_is_still_attacked():
    most = survival(data())
    result = run(subject(head([1e4 * w for w in W])), eps=0.4, steps=10)
    assert result.metric("robust_accuracy").value == (most > 0.4).mean()
    assert result.doubt is None


def test_trained_network_raises_no_false_alarm():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(4, 30), torch.nn.ReLU(), torch.nn.Linear(30, 3))
    result = run(subject(net, task=Task.MULTICLASS, classes=("a", "b", "c")), eps=0.1, steps=10)
    assert result.doubt is None
    assert 0 < result.metrics[0].value < 1


def test_more_starts_never_help_the_model_and_same_seed_same_bytes():
    torch.manual_seed(1)
    net = torch.nn.Sequential(torch.nn.Linear(4, 30), torch.nn.Tanh(), torch.nn.Linear(30, 1))
    found = subject(net)
    few, many = (run(found, eps=0.3, steps=4, restarts=k).metrics[0].value for k in (1, 6))
    assert many <= few
    assert run(found, 7, steps=4).model_dump_json() == run(found, 7, steps=4).model_dump_json()


def test_max_samples_chooses_rows_by_seed():
    result = run(subject(head(W)), max_samples=50, steps=4)
    assert result.metrics[0].n == 50
    assert result.remarks[0].startswith("50 of 300 test rows")
    assert len({run(subject(head(W)), seed, max_samples=50, steps=4).metrics[0].value for seed in range(5)}) > 1


def test_one_row_and_no_row_right():
    one = run(subject(head(W), data(1)), steps=4)
    assert one.metrics[0].n == 1
    assert one.metrics[0].low < one.metrics[0].high
    assert one.tables[2].rows[-1][:2] == ("standing with the whole range allowed", None)  # which has no width here
    assert one.doubt is None
    wrong = subject(head(W), data(), y=(data() @ np.array(W) <= 0).astype(np.int64))
    result = run(wrong, steps=4)
    assert result.metric("robust_accuracy").value == 0
    assert [m.name for m in result.metrics] == ["robust_accuracy", "clean_accuracy"]
    assert "nothing to attack" in " ".join(result.remarks)
    assert result.doubt is None


def test_subject_with_probabilities():
    net = torch.nn.Sequential(head(W), torch.nn.Sigmoid())
    y = (data() @ np.array(W) > 0).astype(np.int64)
    result = run(subject(net, data(), y, outputs="probabilities"), eps=0.4, steps=10)
    assert result.metric("robust_accuracy").value == (survival(data()) > 0.4).mean()


def test_refused():
    with pytest.raises(NotApplicable, match=r"no feature 'agee'; did you mean 'age'\?"):
        run(subject(head(W), names=("age", "b", "c", "d")), frozen=("agee",))
    with pytest.raises(NotApplicable, match="no feature '#4'; wanted one of #0 to #3"):
        run(subject(head(W)), frozen=("#4",))
    with pytest.raises(NotApplicable, match=r"bounds \(0.0, 1.0\): \d+ of 300 test rows lie outside"):
        run(subject(head(W)), bounds=(0.0, 1.0))
    with pytest.raises(NotApplicable, match="every feature is held fixed"):
        run(subject(head(W)), frozen=("#0", "#1", "#2", "#3"))
    with pytest.raises(NotApplicable, match="wanted floating-point"):
        run(subject(head(W), np.ones((3, 4), np.int64), np.ones(3, np.int64)))
    with pytest.raises(NotApplicable, match="no rows"):
        run(subject(head(W), data(0), np.empty(0, np.int64)))
    nan = data()
    nan[0, 0] = np.nan
    with pytest.raises(NotApplicable, match="outputs are not finite for 1 of 300"):
        run(subject(head(W), nan, np.zeros(300, np.int64)))
    estimator = LogisticRegression().fit(data(), np.arange(300) % 2)
    splits = {"test": split("test", data(), np.arange(300) % 2)}
    with pytest.raises(NotApplicable, match=r"no PyTorch module, .* use robustness.decision_attack"):
        run(SklearnSubject(estimator, Task.BINARY, ("0", "1"), splits))
    for wrong in ({"eps": 0}, {"steps": 0}, {"restarts": 0}, {"max_samples": 0}, {"curve": (0.0,)}, {"norm": "l1"}):
        with pytest.raises(ValidationError):
            PgdParams(**wrong)


def test_plot_draws():
    axes = Figure().add_subplot()
    CHECK.plot(run(subject(head(W)), steps=4), axes)
    assert axes.get_ylabel() == "robust accuracy (upper bound)"
    assert len(axes.lines[0].get_xdata()) == 5


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_is_exact_too():
    result = run(subject(head(W), y=(data() @ np.array(W) > 0).astype(np.int64), device="cuda"), eps=0.4, steps=10)
    assert result.metric("robust_accuracy").value == pytest.approx((survival(data()) > 0.4).mean(), abs=0.005)
