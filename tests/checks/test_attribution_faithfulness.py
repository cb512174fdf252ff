"""transparency.attribution_faithfulness end to end."""

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression
from sklearn.svm import LinearSVC

from assessor.contract import NotApplicable, Split, Task
from assessor.subjects.sklearn_estimator import SklearnSubject
from assessor.subjects.torch_module import TorchSubject
from assessor_checks.transparency.attribution_faithfulness import CHECK, FaithfulnessParams

matplotlib.use("Agg")
CLASSES = ("0", "1", "2")


def split(name, x, y):
    return Split(name=name, labels=np.asarray(y), sha256=name, features=np.asarray(x))


def table(n=80, seed=0):
    """Eight columns; the first three tell the class."""
    rng = np.random.default_rng(seed)
    y = (np.arange(n) % 3).astype(np.int64)
    x = rng.standard_normal((n, 8))
    x[np.arange(n), y] += 3
    return x.astype(np.float32), y


class Lying(torch.autograd.Function):
    """The input; its gradient is another one."""

    @staticmethod
    def forward(_, x):
        return x.view_as(x)

    @staticmethod
    def backward(_, gradient):
        return gradient.flip(1)


class Net(torch.nn.Module):
    def __init__(self, lie=False):
        super().__init__()
        self.lie, self.head = lie, torch.nn.Linear(8, 3)
        with torch.no_grad():
            self.head.weight.copy_(torch.eye(3, 8))
            self.head.bias.zero_()

    def forward(self, x):
        return self.head(Lying.apply(x) if self.lie else x)


def subject(net=None, x=None, y=None):
    x, y = table() if x is None else (x, y)
    splits = {"train": split("train", *table(seed=1)), "test": split("test", x, y)}
    return TorchSubject(net or Net(), Task.MULTICLASS, CLASSES, splits)


def run(of=None, seed=0, **params):
    return CHECK.measure(of or subject(), FaithfulnessParams(**params), seed)


def test_reports_everything():
    result = run()
    assert [metric.name for metric in result.metrics] == [
        "gain_over_random",
        "gain_over_input_size",
        "insertion_area",
        "deletion_area",
        "infidelity",
        "unexplained_change",
        "completeness_gap",
    ]
    gain = result.metric("gain_over_random")
    assert gain.primary
    assert gain.n == 80
    assert gain.value == pytest.approx(
        (result.metric("insertion_area").value - result.metric("deletion_area").value) / 2
    )
    assert gain.low > 0.1
    assert result.metric("gain_over_input_size").low > 0.02
    assert result.metric("unexplained_change").high < 0.2
    assert result.metric("completeness_gap").high < 1e-5
    assert result.remarks == (
        "80 of 80 test rows were explained by integrated_gradients, 8 parts each. Explained is the probability of the "
        "predicted class; absent parts were replaced by: mean.",
    )
    assert result.doubt is None
    columns = result.series[0].columns
    assert columns["share"] == tuple(np.arange(9) / 8)
    assert columns["insertion"][-1] == pytest.approx(columns["deletion"][0])
    assert columns["insertion"][0] == pytest.approx(columns["random"][0])
    rows = result.tables[0].rows
    assert [row[0] for row in rows] == ["right", "wrong"]
    assert sum(row[1] for row in rows) == 80
    CHECK.plot(result, Figure().subplots())


def test_lying_gradients_fall_and_the_twin_does_not():
    for method in ("gradient", "gradient_x_input", "integrated_gradients", "smoothgrad"):
        honest, lying = (run(subject(Net(lie)), method=method, max_samples=40, samples=4) for lie in (False, True))
        name = "gain_over_random"
        assert lying.metric(name).high < 0.05 < honest.metric(name).low
        assert lying.metric("unexplained_change").low > 0.5 > honest.metric("unexplained_change").high
        assert lying.metric("insertion_area").value < honest.metric("insertion_area").value
    (remark,) = run(subject(Net(True)), max_samples=40).remarks[1:]
    assert remark.startswith("The attributions should add up to the output's difference, ")
    assert remark.endswith("either they need more steps, or the model's gradients are not those of its output.")


def test_asked_models_by_shapley_values():
    x, y = table()
    splits = {"train": split("train", x, y), "test": split("test", *table(seed=1))}
    forest = SklearnSubject(RandomForestClassifier(10, random_state=0).fit(x, y), Task.MULTICLASS, CLASSES, splits)
    result = run(forest, max_samples=20, samples=4, replacement="marginal", draws=2, orders=1, sets=10)
    assert result.metric("gain_over_random").low > 0.1
    assert "shapley_sampling" in result.remarks[0]
    assert result.metric("completeness_gap").high < 0.2  # baselines differ between orders and curves


def test_regression_in_units_of_the_target():
    # y = 2 x0 - x1 + 0 x2, replaced by 0: attributions are known, the order of gifts is optimal.
    x = np.array([[1.0, 1.0, 1.0], [2.0, -1.0, 0.5]])
    model = LinearRegression().fit(np.random.default_rng(0).standard_normal((20, 3)), np.zeros(20))
    model.coef_, model.intercept_ = np.array([2.0, -1.0, 0.0]), 0.0
    found = SklearnSubject(model, Task.REGRESSION, (), {"test": split("test", x, [0.0, 0.0])})
    result = run(found, method="occlusion", replacement="zero")
    # row 1: gifts 2, -1, 0; insertion 0 2 2 1, deletion 1 -1 -1 0. row 2: gifts 4, 1, 0; 0 4 5 5 and 5 1 0 0.
    insertion = [(0 / 2 + 2 + 2 + 1 / 2) / 3, (0 + 4 + 5 + 5 / 2) / 3]
    deletion = [(1 / 2 - 1 - 1 + 0) / 3, (5 / 2 + 1 + 0 + 0) / 3]
    assert result.metric("insertion_area").value == pytest.approx(np.mean(insertion))
    assert result.metric("deletion_area").value == pytest.approx(np.mean(deletion))
    assert result.metric("infidelity").value == pytest.approx(0, abs=1e-20)
    assert result.metric("gain_over_random").unit == "units of the target"
    assert result.metric("infidelity").unit == "squared units of the target"
    assert result.tables == ()
    assert "Explained is the predicted value" in result.remarks[0]


def test_an_output_that_never_changes_is_doubted():
    net = Net()
    with torch.no_grad():
        net.head.weight.zero_()
    result = run(subject(net), method="occlusion")
    assert result.doubt == (
        "The output does not change for any row, whatever is replaced, so no explanation can be judged."
    )
    assert "unexplained_change" not in [metric.name for metric in result.metrics]
    assert result.remarks[1] == "For 80 rows the output does not change, whatever is replaced."
    assert result.metric("gain_over_random").value == 0


def test_images_by_patches():
    x = np.random.default_rng(0).random((10, 1, 6, 6)).astype(np.float32)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 3))
    splits = {"test": split("test", x, np.zeros(10, np.int64))}
    result = run(TorchSubject(net, Task.MULTICLASS, CLASSES, splits), patch=3, replacement="blur")
    assert "4 parts each" in result.remarks[0]
    assert len(result.series[0].columns["share"]) == 5


def test_same_seed_same_bytes():
    first, again, other = (run(seed=seed, max_samples=20).model_dump_json() for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_not_applicable_says_why():
    x, y = table()
    splits = {"test": split("test", x, y)}
    forest = SklearnSubject(RandomForestClassifier(3).fit(x, y), Task.MULTICLASS, CLASSES, splits)
    with pytest.raises(
        NotApplicable, match="integrated_gradients needs gradients and the model gives none; set method"
    ):
        run(forest, method="integrated_gradients")
    with pytest.raises(NotApplicable, match="explained: logit needs a PyTorch module"):
        run(forest, explained="logit")
    hard = SklearnSubject(LinearSVC().fit(x, y), Task.MULTICLASS, CLASSES, splits)
    with pytest.raises(NotApplicable, match=r"transparency\.surrogate_fidelity needs only its answers"):
        run(hard)
    with pytest.raises(NotApplicable, match="a single row"):
        run(subject(x=x[:1], y=y[:1]))
    with pytest.raises(NotApplicable, match="no rows"):
        run(subject(x=x[:0], y=y[:0]))
    net = Net()
    with torch.no_grad():
        net.head.bias[0] = torch.nan
    with pytest.raises(NotApplicable, match="no finite output for 80 of 80 inputs"):
        run(subject(net))
    one = SklearnSubject(
        RandomForestClassifier(3).fit(x[:, :1], y), Task.MULTICLASS, CLASSES, {"test": split("test", x[:, :1], y)}
    )
    with pytest.raises(
        NotApplicable, match=r"fewer than 2 features, so their order shows nothing; transparency\.surrogate_fidelity"
    ):
        run(one)
