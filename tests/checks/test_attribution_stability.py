"""transparency.attribution_stability end to end."""

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from sklearn.ensemble import RandomForestClassifier

from assessor.contract import NotApplicable, Split, Task
from assessor.subjects.sklearn_estimator import SklearnSubject
from assessor.subjects.torch_module import TorchSubject
from assessor_checks.transparency.attribution_stability import CHECK, StabilityParams

matplotlib.use("Agg")
CLASSES = ("0", "1")


def split(name, x, y):
    return Split(name=name, labels=np.asarray(y), sha256=name, features=np.asarray(x))


def table(n=60, seed=0):
    x = np.random.default_rng(seed).standard_normal((n, 10))
    return x, (x[:, 0] > 0).astype(np.int64)


class Net(torch.nn.Module):
    """Linear logits; a ripple too fine to change them, steep enough to turn their gradients."""

    def __init__(self, ripple=0.0, weight=None):
        super().__init__()
        self.ripple = ripple
        self.head = torch.nn.Linear(10, 2).double()
        with torch.no_grad():
            self.head.weight.copy_(torch.stack([-torch.arange(10.0) / 10, torch.arange(10.0) / 10 + 0.1]))
            self.head.bias.zero_()
            if weight is not None:
                self.head.weight.fill_(weight)

    def forward(self, x):
        return self.head(x + self.ripple * torch.sin(300 * x) / 300)


def subject(net=None, x=None, y=None):
    x, y = table() if x is None else (x, y)
    return TorchSubject(net or Net(), Task.BINARY, CLASSES, {"test": split("test", x, y)})


def run(of=None, seed=0, **params):
    return CHECK.measure(of or subject(), StabilityParams(**params), seed)


def test_a_linear_model_is_perfectly_stable_by_gradients():
    result = run(method="gradient", explained="log_odds")
    assert [metric.name for metric in result.metrics] == [
        "rank_correlation",
        "rank_correlation_worst",
        "first_parts_kept",
        "max_sensitivity",
    ]
    assert [metric.value for metric in result.metrics] == pytest.approx([1, 1, 1, 0])
    assert result.metrics[0].primary
    assert "share of the 5 most important parts" in result.metric("first_parts_kept").method
    assert result.remarks[:2] == (
        "60 of 60 test rows were explained by gradient, 10 parts each. Explained is the log_odds of the predicted "
        "class; absent parts were replaced by: mean.",
        "Perturbations are in standard deviations of each feature over the test split.",
    )
    assert result.remarks[2].endswith("copies got another answer than their row and were left out.")
    assert result.doubt is None
    assert result.tables[0].rows[0][2] == pytest.approx(1)
    CHECK.plot(result, Figure().subplots())


def test_max_sensitivity_by_hand():
    # f = x0^2 / 2 + x1: gradient (x0, 1); a copy moves the first entry by its noise.
    class Square(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.unused = torch.nn.Linear(1, 1).double()

        def forward(self, x):
            return x[:, :1] ** 2 / 2 + x[:, 1:2]

    x = np.array([[1.0, 0.0], [3.0, 2.0], [5.0, 1.0]])
    of = TorchSubject(Square(), Task.REGRESSION, (), {"test": split("test", x, np.zeros(3))})
    result = run(of, method="gradient", radius=0.5, copies=500, first=1)
    # Noise up to half the first feature's standard deviation; the greatest of 500 draws is near it.
    wanted = np.mean(0.5 * x[:, 0].std() / np.hypot(x[:, 0], 1))
    assert result.metric("max_sensitivity").value == pytest.approx(wanted, rel=0.02)
    assert result.metric("max_sensitivity").value < wanted  # a lower bound
    assert result.tables == ()


def test_trembling_gradients_fall_and_the_twin_does_not():
    calm, trembling = (run(subject(Net(ripple)), method="gradient") for ripple in (0.0, 1.0))
    assert trembling.metric("rank_correlation").high < 0.8 < 0.95 < calm.metric("rank_correlation").low
    assert trembling.metric("first_parts_kept").high < calm.metric("first_parts_kept").low
    assert trembling.metric("max_sensitivity").low > calm.metric("max_sensitivity").high
    averaged = run(subject(Net(1.0)), method="integrated_gradients", replacement="zero", steps=200, copies=3)
    assert averaged.metric("rank_correlation").low > 0.95  # the path averages the ripple out


def test_methods_that_draw_are_compared_between_seeds():
    result = run(method="smoothgrad", samples=5, max_samples=20)
    assert result.metrics[-1].name == "seed_rank_correlation"
    assert "seed_rank_correlation" not in [m.name for m in run(method="occlusion").metrics]
    drawn = run(method="occlusion", replacement="marginal", draws=2, max_samples=20)
    assert drawn.metric("seed_rank_correlation").value < 0.99
    # The same draws for a row and its copies: stability is not the noise of the draws.
    assert drawn.metric("rank_correlation").value > drawn.metric("seed_rank_correlation").value


def test_asked_models():
    x, y = table()
    forest = SklearnSubject(
        RandomForestClassifier(5, random_state=0).fit(x, y), Task.BINARY, CLASSES, {"test": split("test", x, y)}
    )
    result = run(forest, samples=4, copies=3, max_samples=15)
    assert "shapley_sampling" in result.remarks[0]
    assert 0.3 < result.metric("rank_correlation").value < 1
    assert result.metric("seed_rank_correlation").n <= 15


def test_copies_with_another_answer_are_left_out():
    x = np.zeros((30, 10))
    x[:, 0] = np.linspace(-1, 1, 30)
    x[:, 9] = 1e-3 * np.where(np.arange(30) % 2, 1, -1)  # many rows are near the boundary
    result = run(subject(x=x, y=np.zeros(30, np.int64)), method="gradient", radius=0.5, copies=4)
    assert any("of 120 copies got another answer" in remark for remark in result.remarks)


@pytest.mark.slow
def test_same_seed_same_bytes():
    first, again, other = (run(seed=seed, max_samples=20).model_dump_json() for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_not_applicable_says_why():
    flat = subject(Net(weight=0.0))
    with pytest.raises(NotApplicable, match="all parts count the same in the explanations of 600 of 600 copies"):
        run(flat, method="gradient")
    x, y = table()
    with pytest.raises(NotApplicable, match="every feature is held fixed or constant"):
        run(subject(x=np.ones_like(x), y=y))
    with pytest.raises(NotApplicable, match="a single row"):
        run(subject(x=x[:1], y=y[:1]))
    with pytest.raises(NotApplicable, match="no feature 'age'"):
        run(frozen=("age",))
