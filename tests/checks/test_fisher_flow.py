"""generalization.fisher_flow end to end: small networks whose loss of information is known."""

import copy

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from sklearn.linear_model import Ridge

from assessor.contract import NotApplicable, Split, Task
from assessor.subjects.sklearn_estimator import SklearnSubject
from assessor.subjects.torch_module import TorchSubject
from assessor_checks.generalization.fisher_flow import CHECK, FisherFlowParams

matplotlib.use("Agg")
THETA = np.linspace(-2, 2, 7)
SIGNAL = np.array([1.0, 0.5, -0.5, 0.0])  # x = theta * SIGNAL + unit noise: J = 1.5 everywhere


def split(name, x, y):
    return Split(name=name, labels=np.asarray(y, np.float64), sha256=name, features=np.asarray(x))


def rows(repeats=60, theta=THETA, seed=0):
    y = np.repeat(theta, repeats)
    noise = np.random.default_rng(seed).standard_normal((len(y), 4))
    return (y[:, None] * SIGNAL + noise).astype(np.float32), y


def chain(*weights):
    """Linear layers without bias, the last with one output."""
    net = torch.nn.Sequential(*(torch.nn.Linear(len(w[0]), len(w), bias=False) for w in weights))
    with torch.no_grad():
        for layer, weight in zip(net, weights, strict=True):
            layer.weight.copy_(torch.from_numpy(np.array(weight)))
    return net


ROTATION = np.linalg.qr(np.random.default_rng(0).standard_normal((4, 4)))[0]
BEST = SIGNAL / 1.5  # the unbiased reading of least variance: 1 / J
LOSSLESS = (ROTATION, ROTATION.T, [BEST])
LOSSY = (ROTATION, np.diag([1.0, 0, 0, 0]) @ ROTATION.T, [BEST])  # after it only the first number is left: J = 1


def subject(net, design=None, train=None, task=Task.REGRESSION, classes=(), **more):
    x, y = rows(20, seed=1)
    labels = y if task is Task.REGRESSION else (y > 0)
    splits = {"test": split("test", x, labels), "design": split("design", *(design or rows()))}
    if train is not None:
        splits["train"] = split("train", *train)
    return TorchSubject(net, task, classes, splits, **more)


def run(found, seed=0, **params):
    return CHECK.measure(found, FisherFlowParams(**params), seed)


def test_the_whole_outcome_of_a_lossless_network():
    result = run(subject(chain(*LOSSLESS), rows(200)))
    share = result.metric("transmission_output")
    assert share.primary
    assert share.low < 1 < share.high
    assert share.high - share.low < 0.1
    assert result.metric("information_input").low < 1.5 < result.metric("information_input").high
    assert result.metric("crb_ratio").low < 1 < result.metric("crb_ratio").high
    assert [metric.name for metric in result.metrics] == [
        "transmission_output",
        "information_input",
        "information_output",
        "largest_loss",
        "crb_ratio",
    ]
    (table,) = result.tables
    assert [row[:4] for row in table.rows] == [
        ("input", None, 4, 4),
        ("0", "Linear", 4, 4),
        ("1", "Linear", 4, 4),
        ("2", "Linear", 1, 1),
    ]
    assert [row[7] for row in table.rows[:3]] == pytest.approx([1, 1, 1], rel=1e-4)  # float32 activations
    assert [row[8] for row in table.rows] == [False] * 4
    assert result.remarks == (
        "7 values of the parameter from -2 to 2, at least 200 and at most 200 repeats of each; 4 layers, input and "
        "output included.",
        f"A linear reading of the output tells the parameter with {share.value:.0%} of the information that a linear "
        "reading of the input has.",
        "No loss between two layers can be told from chance.",
        "The design's parameter is taken as what the model predicts; if it is another one, set parameter: other. A "
        "model that pulls its answers towards the middle may stay below the bound for unbiased estimates; the bound "
        "for biased ones is met where the output's share of the information is 1.",
    )
    assert result.doubt is None
    by_layer, by_value = result.series
    assert by_layer.columns["layer"] == (0, 1, 2, 3)
    assert by_value.columns["parameter"] == pytest.approx(THETA[1:-1])
    assert np.mean(by_value.columns["input"]) == pytest.approx(result.metric("information_input").value)


def test_a_layer_that_throws_information_away_is_found():
    result = run(subject(chain(*LOSSY), rows(200)))
    share, loss = result.metric("transmission_output"), result.metric("largest_loss")
    assert share.low < 1 / 1.5 < share.high < 0.9
    assert loss.low < 1 - 1 / 1.5 < loss.high
    assert f"is between '0' and '1': {loss.value:.0%} of the input's information." in result.remarks[2]
    clean = run(subject(chain(*LOSSLESS), rows(200)))
    assert clean.metric("transmission_output").low > share.high
    assert clean.metric("largest_loss").value < loss.low
    crb = result.metric("crb_ratio")  # error of the first number alone, read with slope 2 / 3: biased
    assert crb.low < np.mean(((THETA[1:-1] / 3) ** 2 + 4 / 9) * 1.5) < crb.high


def test_a_constant_output_tells_nothing():
    result = run(subject(chain(ROTATION, [[0.0] * 4])))
    assert result.metric("information_output").value == 0
    assert result.metric("transmission_output").value == 0
    assert result.tables[0].rows[-1][3] == 0


def memorised(x, y):
    """A network that gives the training targets at the training rows, and about 0 elsewhere."""

    class Table(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.x, self.y = torch.nn.Parameter(torch.from_numpy(x)), torch.nn.Parameter(torch.from_numpy(y).float())

        def forward(self, rows):
            distance = torch.cdist(rows, self.x, compute_mode="donot_use_mm_for_euclid_dist")
            return 0.3 * rows[:, :1] + torch.where(distance < 1e-6, self.y - 0.3 * rows[:, :1], 0).sum(1, keepdim=True)

    return Table()


def test_learning_the_noise_by_heart_is_told_from_shrinking():
    rng = np.random.default_rng(3)
    y = rng.uniform(-1.3, 1.3, 400)
    train = ((y[:, None] * SIGNAL + rng.standard_normal((400, 4))).astype(np.float32), y)
    told = {}
    for name, net in (
        ("honest", chain([BEST])),
        ("shrinking", chain([0.5 * BEST])),
        ("by heart", memorised(*train)),
        ("constant", chain([0 * BEST])),
    ):
        result = run(subject(net, rows(100), train))
        told[name] = (
            result.metric("training_crb_ratio"),
            result.metric("training_crb_ratio_biased") if name != "constant" else None,
            result.remarks[-1],
        )
        assert result.metric("training_crb_ratio").n == 400
    assert told["honest"][0].low < 1 < told["honest"][0].high
    assert told["honest"][2].startswith("The design's parameter is taken as what the model predicts")
    assert told["shrinking"][0].high < 1 < told["shrinking"][1].high
    assert told["shrinking"][1].low < 1
    assert told["shrinking"][2].endswith("may explain that, so that it is no sign of overfitting.")
    assert told["by heart"][0].value == pytest.approx(0, abs=1e-9)
    assert told["by heart"][1].high < 1
    assert told["by heart"][2].endswith(
        "least with this model's bias too: the model has learned the noise of its training data (overfitting)."
    )
    assert told["constant"][2].endswith("gives much the same for every input cannot be told.")


def test_training_rows_outside_the_design_are_not_compared():
    train = rows(60, theta=np.array([5.0]))
    result = run(subject(chain(*LOSSLESS), train=train))
    assert [metric.name for metric in result.metrics][-1] == "crb_ratio"
    assert result.remarks[-1].startswith("Fewer than 40 training rows have their target among the inner values")


def test_another_parameter_has_no_bound():
    result = run(subject(chain(*LOSSLESS)), parameter="other")
    assert [metric.name for metric in result.metrics][-1] == "largest_loss"
    assert not any("set parameter: other" in remark for remark in result.remarks)


def test_a_classifier_is_followed_to_its_logits():
    net = torch.nn.Sequential(chain(ROTATION), torch.nn.ReLU(), chain(np.random.default_rng(1).normal(size=(3, 4))))
    result = run(subject(net, rows(100), task=Task.MULTICLASS, classes=("a", "b", "c")))
    assert [row[0] for row in result.tables[0].rows] == ["input", "0.0", "1", "2.0"]
    assert result.metric("information_output").value > 0
    assert [metric.name for metric in result.metrics][-1] == "largest_loss"


@pytest.mark.slow
def test_more_linear_information_than_at_the_input_is_explained():
    # The parameter is the noise's size: no linear reading of x tells it, but one of |x| does.
    theta = np.linspace(1, 3, 5)
    y = np.repeat(theta, 300)
    noise = np.random.default_rng(0).standard_normal((len(y), 4))
    x = (y[:, None] * (noise + 0.3)).astype(np.float32)

    class Absolute(torch.nn.Module):
        def forward(self, x):
            return x.abs()

    net = torch.nn.Sequential(Absolute(), chain([[0.25] * 4]))
    found = subject(net, (x, y))
    result = run(found, tighten=True)
    assert result.metric("transmission_output").low > 1.001
    assert "More linear information than at the input is found at: 0, 1." in " ".join(result.remarks)
    learned = result.metric("information_input_learned")
    assert learned.low > result.metric("information_input").high
    assert learned.n == 750
    assert "as a learned reading finds it" in result.metric("crb_ratio").method
    assert result.metric("transmission_output_learned").value < result.metric("transmission_output").value
    assert result.tables[0].rows[0][9] == pytest.approx(learned.value)


def test_an_input_too_wide_for_the_repeats_is_doubtful():
    rng = np.random.default_rng(0)
    y = np.repeat(THETA, 12)
    x = (y[:, None] * 2 * rng.standard_normal(50) + rng.standard_normal((len(y), 50))).astype(np.float32)
    result = run(subject(torch.nn.Linear(50, 1), (x, y)))
    assert result.doubt == (
        "The input has 50 numbers, and from 12 repeats of a value its information could only be bounded from below, so "
        "that the shares may be too high: give at least 27 repeats of each value, and max_dimensions as high as the "
        "input is wide."
    )
    assert "for so few repeats or more than max_dimensions: input." in " ".join(result.remarks)
    assert [metric.name for metric in result.metrics][3] != "largest_loss"


def test_copied_rows_are_doubtful():
    x, y = rows(30)
    result = run(subject(chain(*LOSSLESS), (np.concatenate([x, x]), np.concatenate([y, y]))))
    assert result.doubt.startswith("210 of 420 rows of the design split repeat another row exactly")
    assert run(subject(chain(*LOSSLESS), (x, y))).doubt is None


def test_rows_that_are_not_used_are_told():
    x, y = rows(30)
    result = run(subject(chain(*LOSSLESS), (x[:-25], y[:-25])), max_repeats=20)
    assert result.metrics[0].n == 120
    assert result.remarks[1] == (
        "65 rows of the design split are not used: 1 values have too few repeats, and of each value at most 20 repeats "
        "are used."
    )


def test_wide_steps_are_told():
    result = run(subject(chain(*LOSSLESS), rows(theta=5 * THETA)))
    assert "standard errors of a single input apart" in " ".join(result.remarks)


class Steps(torch.nn.Module):
    def forward(self, x):
        return 100 * torch.round(x[:, :1] / 100)


def test_layers_without_finite_information_are_named():
    class Inner(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.steps, self.broken, self.last = Steps(), torch.nn.LogSigmoid(), chain([[1.0, 0, 0, 0]])

        def forward(self, x):
            self.broken(torch.full_like(x, torch.nan))
            return self.last(x) + 0 * self.steps(x)

    design = rows(theta=300 * THETA)
    result = run(subject(Inner(), design))
    remarks = " ".join(result.remarks)
    assert "Not measured, because the parameter changes numbers that carry no noise there: steps." in remarks
    assert "Not measured, because of their size or because of numbers that are not finite: broken." in remarks
    assert [row[0] for row in result.tables[0].rows if row[4] is None] == ["steps"]
    axes = Figure().add_subplot()
    CHECK.plot(result, axes)
    with pytest.raises(NotApplicable, match="at 'model' the parameter changes numbers that carry no noise"):
        run(subject(Steps(), design))


def test_not_applicable_says_why():
    net = chain(*LOSSLESS)
    with pytest.raises(NotApplicable, match="has 0 values of the parameter with at least 10 repeats, wanted 3 or more"):
        run(subject(net, rows(9)))
    with pytest.raises(NotApplicable, match="has 0 values"):
        run(subject(net, rows(1, theta=THETA[:1])))
    empty = (np.empty((0, 4), np.float32), np.empty(0))
    with pytest.raises(NotApplicable, match="found 0 values in 0 rows"):
        run(TorchSubject(net, Task.REGRESSION, (), {"design": split("design", *empty)}))
    still = np.repeat(THETA, 20)[:, None] * SIGNAL
    with pytest.raises(NotApplicable, match="at 'input' the parameter changes numbers that carry no noise"):
        run(subject(net, (still.astype(np.float32), np.repeat(THETA, 20))))
    x, y = rows()
    with pytest.raises(NotApplicable, match=r"cannot be told from 0 .*; give more repeats or values further apart"):
        run(subject(net, (np.random.default_rng(0).standard_normal(x.shape).astype(np.float32), y)))
    with pytest.raises(NotApplicable, match=r"the inputs are of type torch\.int64"):
        run(subject(net, ((10 * x).astype(np.int64), y)))
    with pytest.raises(NotApplicable, match="the numbers at '2' are not finite for 420 rows"):
        run(subject(chain(ROTATION, ROTATION, [np.nan * BEST])))
    with pytest.raises(NotApplicable, match="reach 4 wants 9 values"):
        run(subject(net), reach=4)
    with pytest.raises(NotApplicable, match="tighten wants at least 40 repeats of each value, found 20"):
        run(subject(net, rows(20)), tighten=True)
    splits = {"test": split("test", x, y), "design": split("design", x, y)}
    estimator = SklearnSubject(Ridge().fit(x, y), Task.REGRESSION, (), splits)
    with pytest.raises(NotApplicable, match="no PyTorch module"):
        run(estimator)


def test_a_dropout_in_train_mode_is_refused():
    net = torch.nn.Sequential(torch.nn.Dropout(), chain([BEST]))
    found = subject(net)
    net[0].train()
    with pytest.raises(NotApplicable, match="layer '0' is in train mode"):
        run(found)


def test_the_model_is_left_as_it_was():
    net = torch.nn.Sequential(chain(ROTATION), torch.nn.ReLU(inplace=True), chain([BEST]))
    before = copy.deepcopy(net.state_dict())
    run(subject(net, rows(40)))
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in net.parameters())
    assert not any(module._forward_hooks for module in net.modules())


def test_same_seed_same_bytes():
    found = subject(chain(*LOSSY))
    assert run(found, seed=3).model_dump_json() == run(found, seed=3).model_dump_json()
    assert run(found, seed=3).metrics[0].low != run(found, seed=4).metrics[0].low


def test_plot_draws():
    axes = Figure().add_subplot()
    CHECK.plot(run(subject(chain(*LOSSY))), axes)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["input", "0", "1", "2"]
    assert axes.get_xlabel() == "layer"
    assert axes.get_ylabel() == "information (1 / parameter squared)"
    assert axes.get_title() == ""


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_cpu():
    here = run(subject(chain(*LOSSY))).metrics
    there = run(subject(chain(*LOSSY), device="cuda")).metrics
    for one, other in zip(here, there, strict=True):
        assert one.value == pytest.approx(other.value, rel=1e-3)
