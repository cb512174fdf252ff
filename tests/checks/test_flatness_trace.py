"""robustness.flatness_trace end to end: an overconfident model and its unsure twin, what is refused and said."""

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from pydantic import ValidationError
from sklearn.linear_model import LogisticRegression

from assessor.contract import Better, Lent, NotApplicable, Split, Task, lending
from assessor.subjects.sklearn_estimator import SklearnSubject
from assessor.subjects.torch_module import TorchSubject
from assessor_checks._intervals import clopper_pearson
from assessor_checks.robustness import _valley
from assessor_checks.robustness.flatness_trace import CHECK, FlatnessTraceParams

matplotlib.use("Agg")


def split(name, x, y, names=()):
    return Split(name=name, labels=np.asarray(y), sha256=name, features=np.asarray(x), feature_names=names)


def line(n=60):
    """Rows at about +1 and -1, labelled by their sign."""
    x = np.where(np.arange(n) % 2, 1.0, -1.0)[:, None] + np.random.default_rng(0).uniform(-0.05, 0.05, (n, 1))
    return x, (x[:, 0] > 0).astype(np.int64)


def head(weight, bias=0.0):
    net = torch.nn.Linear(1, 1).double()
    net.weight.data.fill_(weight)
    net.bias.data.fill_(bias)
    return net


def subject(net, n=60, y=None, **more):
    x, labels = line(n)
    return TorchSubject(net, Task.BINARY, ("no", "yes"), {"test": split("test", x, labels if y is None else y)}, **more)


def run(found, seed=0, **params):
    return CHECK.measure(found, FlatnessTraceParams(**{"eps": 2.5, "steps": 20, **params}), seed)


def kappa(x, w):
    p = 1 / (1 + np.exp(-x * w))
    return x**2 * w**2 * p * (1 - p)


def test_overconfident_model_ends_in_a_valley_and_its_unsure_twin_does_not():
    # Both are z = w x and flip at 0; attacked from x to x - 2.5 their ends are at about -1.5.
    sure, unsure = (run(subject(head(w))) for w in (10.0, 0.5))
    for result, share in ((sure, 1.0), (unsure, 0.0)):
        metric = result.metric("ends_flatter")
        assert (metric.value, metric.low, metric.high) == clopper_pearson(int(60 * share), 60)
        assert metric.primary
        assert metric.better is Better.LOWER
        assert result.metric("flipped_share").value == 1
        assert result.doubt is None
    assert sure.metric("confidently_wrong").value == 1
    assert unsure.metric("confidently_wrong").value == 0
    assert sure.metric("peak_height").value > 10 * unsure.metric("peak_height").value


def test_everything_is_reported_and_by_hand():
    found = subject(head(10.0))
    result = run(found)
    assert [metric.name for metric in result.metrics] == [
        "ends_flatter",
        "confidently_wrong",
        "flipped_share",
        "peak_near_flip",
        "flip_to_peak",
        "peak_height",
    ]
    assert result.metric("ends_flatter").method == (
        "of the rows that end misclassified; linf PGD, eps 2.5 (absolute), 20 steps from the clean row; "
        "95 % Clopper-Pearson"
    )
    # steps of 0.3125 towards the other side, at most 2.5: a path by hand for every row
    x = np.abs(line()[0][:, 0])
    path = x - np.minimum(0.3125 * np.arange(21), 2.5)[:, None]
    values = kappa(path, 10)
    assert result.metric("peak_height").value == pytest.approx(np.median(values.max(0) / values[0]))
    late = values.argmax(0) - (path < 0).argmax(0)
    assert result.metric("flip_to_peak").value == np.median(late)
    assert result.metric("flip_to_peak").unit == "steps"
    assert result.metric("peak_near_flip").value == (np.abs(late) <= 1).mean()
    (table,) = result.tables
    assert sum(count for _, count in table.rows) == 60
    assert dict(table.rows)["at the flip"] == (np.abs(late) <= 1).sum()
    steps, around = (series.columns for series in result.series)
    assert steps["step"] == tuple(range(21))
    assert steps["flatness_median"] == pytest.approx(np.median(values / values[0], axis=1))
    assert steps["wrong"] == pytest.approx((path < 0).mean(1))
    middle = around["steps_after_flip"].index(0)
    assert around["rows"][middle] == 60
    assert around["median"][middle] == pytest.approx(
        np.median((values / values[0])[(path < 0).argmax(0), np.arange(60)])
    )
    assert min(around["rows"]) >= 54
    assert result.remarks == (
        "60 of 60 test rows; 60 of them classified rightly and attacked, of which 60 end misclassified.",
    )


def test_only_rows_right_before_are_attacked_and_rows_are_chosen_by_seed():
    y = line()[1]
    y = np.where(np.arange(60) < 20, 1 - y, y)
    result = run(subject(head(10.0), y=y))
    assert result.metric("flipped_share").n == 40
    assert result.remarks[0].startswith("60 of 60 test rows; 40 of them classified rightly")
    few = run(subject(head(10.0)), max_samples=30)
    assert few.metric("flipped_share").n == 30
    assert few.model_dump_json() != run(subject(head(10.0)), 1, max_samples=30).model_dump_json()


def test_rows_that_flip_back_do_not_count():
    # z = 4 x - x^3 from features x and x^3: wrong between 0 and 2 on the other side, right beyond
    class Cubic(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.last = torch.nn.Linear(2, 1).double()
            self.last.weight.data = torch.tensor([[4.0, -1.0]]).double()
            self.last.bias.data.zero_()

        def forward(self, x):
            return self.last(torch.cat([x, x**3], dim=1))

    found = subject(Cubic())
    with pytest.raises(NotApplicable, match="none of the 60 attacked rows ends misclassified"):
        run(found, eps=50.0, steps=10)  # steps of 12.5: over the valley at once
    assert run(found, eps=2.0).metric("flipped_share").value == 1


def test_l2_scale_bounds_and_held_columns():
    rng = np.random.default_rng(0)
    x = np.stack([line()[0][:, 0], rng.integers(0, 2, 60)], axis=1)
    net = torch.nn.Linear(2, 1).double()
    net.weight.data = torch.tensor([[10.0, 0.1]]).double()
    net.bias.data.zero_()
    splits = {"test": split("test", x, line()[1], ("height", "member"))}
    found = TorchSubject(net, Task.BINARY, ("no", "yes"), splits)
    result = run(found, scale="feature_std", norm="l2", bounds=(-2.0, 2.0))
    assert result.metric("flipped_share").value == 1
    assert result.remarks[:2] == (
        "Perturbations are in standard deviations of each feature over the test split.",
        "Held fixed because they take at most two values: member.",
    )
    held = run(found, frozen=("member",), norm="l2")
    assert held.remarks[0] == "Held fixed as asked: member."
    with pytest.raises(NotApplicable, match=r"none of the 60 attacked rows ends misclassified within eps 0\.5"):
        run(found, eps=0.5)


def test_certain_rows_are_left_out_of_what_is_relative():
    net = torch.nn.Sequential(torch.nn.Linear(1, 2), torch.nn.ReLU(), torch.nn.Linear(2, 2)).double()
    net[0].weight.data, net[0].bias.data = torch.tensor([[1.0], [-1.0]]).double(), torch.zeros(2).double()
    net[2].weight.data = torch.tensor([[-1e3, 1e3], [1e3, -1e3]]).double()  # z differs by 2000: p is exactly 0 or 1
    net[2].bias.data.zero_()
    result = run(subject(net))
    assert "relative flatness of exactly 0, since the model is certain: 60." in result.remarks[-1]
    assert "peak_height" not in [metric.name for metric in result.metrics]
    assert result.metric("ends_flatter").value == 0
    CHECK.plot(result, Figure().add_subplot())


def test_few_flips_and_broken_rows_give_a_doubt():
    assert run(subject(head(10.0), n=4)).doubt == "The attack shows little: too few rows end misclassified (4)."

    class Broken(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.last = head(10.0)

        def forward(self, x):
            return self.last(torch.where(x < -1.2, torch.nan, x))

    result = run(subject(Broken()))
    assert "the model gave NaN or infinite outputs or gradients on the way for 30 rows" in result.doubt
    assert result.metric("ends_flatter").n == 30


def test_one_row():
    result = run(subject(head(10.0), n=1))
    assert result.metric("ends_flatter").n == 1
    assert result.metric("peak_height").low is None
    assert result.metric("peak_height").method.endswith("no interval from so few rows")
    assert result.doubt is not None


def test_same_seed_same_bytes_and_progress():
    told = []
    lent = Lent(lambda *step: told.append(step), lambda _key: None, lambda _key, _value: None)
    with lending(lent):
        first = run(subject(head(10.0)), 5)
    assert told == [("attacked rows", 60, 60)]
    assert first.model_dump_json() == run(subject(head(10.0)), 5).model_dump_json()


def test_refused():
    with pytest.raises(NotApplicable, match="none of 60 test rows is classified rightly"):
        run(subject(head(10.0), y=1 - line()[1]))
    with pytest.raises(NotApplicable, match="outputs are not finite for 60 of 60"):
        run(subject(head(float("nan"))))
    with pytest.raises(NotApplicable, match="no rows"):
        run(subject(head(10.0), n=0))
    with pytest.raises(NotApplicable, match="not the output of its last linear layer"):
        run(subject(torch.nn.Sequential(head(10.0), torch.nn.Sigmoid()), outputs="probabilities"))
    with pytest.raises(NotApplicable, match="no feature '#3'"):
        run(subject(head(10.0)), frozen=("#3",))
    estimator = LogisticRegression().fit(*line())
    with pytest.raises(NotApplicable, match="no PyTorch module"):
        run(SklearnSubject(estimator, Task.BINARY, ("0", "1"), {"test": split("test", *line())}))
    for wrong in ({"eps": 0}, {"steps": 1}, {"norm": "l1"}, {"confident": 1}, {"max_samples": 0}):
        with pytest.raises(ValidationError):
            FlatnessTraceParams(**wrong)


def test_memory_is_bounded_by_fewer_rows():
    steps = 10_000
    most = _valley.ENTRIES // (steps + 1)
    assert most * (steps + 1) <= _valley.ENTRIES
    assert most >= 200


def test_plot_draws():
    axes = Figure().add_subplot()
    CHECK.plot(run(subject(head(10.0))), axes)
    assert axes.get_xlabel() == "steps after the flip (dotted)"
    assert axes.get_ylabel() == "relative flatness over its start (high: sharp)"
    assert len(axes.lines) == 3


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_cpu():
    here, there = (run(subject(head(10.0), device=device)).metrics for device in ("cpu", "cuda"))
    for one, other in zip(here, there, strict=True):
        assert one.value == pytest.approx(other.value, rel=1e-6)
