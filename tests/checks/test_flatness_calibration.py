"""generalization.flatness_calibration end to end: small families that are really trained, and planted ones."""

import functools
import math

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

from assessor.contract import Lent, NotApplicable, Split, Task, lending
from assessor.subjects.torch_module import TorchSubject
from assessor_checks.generalization import gap, relative_flatness
from assessor_checks.generalization.flatness_calibration import CHECK, FlatnessCalibrationParams

matplotlib.use("Agg")
CLASSES = ("a", "b", "c")
QUICK = {"models": 9, "max_epochs": 80, "learning_rates": (0.01, 0.02), "batch_sizes": (8, 16), "loss_target": 0.1}
LEVELS = {"label_noise": (0.0, 0.2)}


def rows(n, seed):
    """Three overlapping classes in ten dimensions."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    x = rng.standard_normal((n, 10))
    x[np.arange(n), y] += 3
    return x.astype(np.float32), y.astype(np.int64)


def build(outputs=3, width=24):
    return nn.Sequential(nn.Linear(10, width), nn.ReLU(), nn.Linear(width, outputs))


@functools.cache
def _fitted(target):
    torch.manual_seed(100)
    net = build()
    x, y = map(torch.from_numpy, rows(60, 0))
    optimiser = torch.optim.AdamW(net.parameters(), lr=0.01)
    while True:
        loss = nn.functional.cross_entropy(net(x), y)
        if loss.item() < target:
            return net.state_dict()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def trained(target=0.09):
    """A fresh copy of a model trained to that loss, a little below the one of the references."""
    net = build()
    net.load_state_dict(_fitted(target))
    return net


def split(name, x, y):
    return Split(name=name, labels=y, sha256=name, features=x)


def subject(net=None, make=build, task=Task.MULTICLASS, classes=CLASSES, labels=None, n=60, **more):
    (x, y), (test_x, test_y) = rows(n, 0), rows(90, 1)
    y, test_y = (y, test_y) if labels is None else (labels(y), labels(test_y))
    splits = {"train": split("train", x, y), "test": split("test", test_x, test_y)}
    return TorchSubject(trained() if net is None else net, task, classes, splits, build=make, **more)


def run(found, seed=0, **params):
    return CHECK.measure(found, FlatnessCalibrationParams(**{**QUICK, **params}), seed)


class Store:
    """A store and display as an engine lends them; `planted` answers in place of training."""

    def __init__(self, planted=None, stop_at=None):
        self.kept, self.told, self.planted, self.stop_at = [], [], planted, stop_at

    def lent(self):
        return Lent(progress=self.progress, find=self.find, keep=lambda key, value: self.kept.append((key, value)))

    def progress(self, what, done, total):
        self.told.append((what, done, total))
        if done == self.stop_at:
            raise KeyboardInterrupt

    def find(self, key):
        if self.planted is not None:
            return self.planted(key["recipe"])
        return next((value for known, value in self.kept if known == key), None)


def run_planted(planted, net=None, **params):
    """The check on a family whose numbers are given: nothing is trained."""
    with lending(Store(planted).lent()):
        return run(subject(net), **{"models": 24, "label_noise": (0.0, 0.1, 0.2), **params})


def family(slope=0.3, by_noise=0.0, scatter=0.02, spread=1.0, reached=1.0, centre=None):
    """Fits around the assessed model's flatness: gap = 0.5 + slope (log kappa - centre) + by_noise label noise."""
    centre = math.log(assessed_kappa()) if centre is None else centre

    def of(recipe):
        rng = np.random.default_rng(recipe["seed"])
        if rng.random() > reached:
            return dict.fromkeys(("epochs", "kappa", "train_loss", "test_loss", "train_error", "test_error"))
        x = spread * rng.uniform(-1, 1) + 10 * by_noise * (recipe["label_noise"] - 0.1)
        level = 0.5 + slope * x + scatter * rng.normal() + 10 * by_noise * recipe["label_noise"]
        return {
            "epochs": 9, "kappa": math.exp(centre + x), "train_loss": 0.09, "test_loss": 0.09 + level,
            "train_error": 0.0, "test_error": level / 4,
        }  # fmt: skip

    return of


@functools.cache
def assessed_kappa():
    params = relative_flatness.RelativeFlatnessParams()
    return relative_flatness.CHECK.measure(subject(), params, 0).metric("relative_flatness").value


# --- a family that is really trained ---------------------------------------------------------------------------------


@functools.cache
def real():
    return run(subject(), **LEVELS)


def test_a_trained_family_reports_everything():
    result = real()
    assert [metric.name for metric in result.metrics] == [
        "predicted_gap",
        "measured_gap",
        "kendall_tau",
        "kendall_tau_same_noise",
        "relative_flatness",
        "flatness_percentile",
    ]
    predicted, measured = result.metrics[:2]
    assert predicted.primary
    assert predicted.unit == measured.unit == "nats"
    assert predicted.low < predicted.value < predicted.high
    assert result.metric("kendall_tau_same_noise").low is None
    (table,) = result.tables
    reached = [row for row in table.rows if row[0] == "target reached"]
    assert len(table.rows) == 9
    assert predicted.n == len(reached) >= 8
    assert all(row[6] <= 0.1 for row in reached)
    assert result.remarks[0] == (
        f"{len(reached)} of 9 reference models reached a training loss of 0.1 within 80 passes and are compared; "
        "the others are left out."
    )
    assert len(result.remarks) == 4
    assert [series.name for series in result.series] == ["family", "fit", "assessed"]
    x, y = np.log([row[7] for row in reached]), np.array([row[8] for row in reached])
    slope, height = np.polyfit(x, y, 1)
    assert predicted.value == pytest.approx(height + slope * math.log(result.metric("relative_flatness").value))


def test_the_assessed_model_is_measured_as_its_own_checks_measure_it():
    found = subject()
    theirs = relative_flatness.CHECK.measure(found, relative_flatness.RelativeFlatnessParams(), 0)
    assert real().metric("relative_flatness").value == pytest.approx(theirs.metric("relative_flatness").value, rel=1e-9)
    for kind, name in (("loss", "loss_gap"), ("accuracy", "accuracy_gap")):
        measured = run_planted(family(), gap=kind).metric("measured_gap")
        other = gap.CHECK.measure(found, gap.GapParams(), 0).metric(name)
        assert (measured.value, measured.low, measured.high) == pytest.approx(
            (other.value, other.low, other.high), rel=1e-5
        )


@pytest.mark.slow
def test_same_seed_same_bytes_and_no_trace_is_left():
    expected, found, state = real(), subject(), torch.random.get_rng_state()
    weights = [value.clone() for value in found.module.state_dict().values()]
    assert run(found, **LEVELS).model_dump_json() == expected.model_dump_json()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(map(torch.equal, found.module.state_dict().values(), weights))
    assert all(parameter.grad is None for parameter in found.module.parameters())
    assert [row[1] for row in run(found, seed=5, **LEVELS).tables[0].rows] != [row[1] for row in real().tables[0].rows]


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_stopped():
    store = Store(stop_at=4)
    with lending(store.lent()), pytest.raises(KeyboardInterrupt):
        run(subject(), **LEVELS)
    assert len(store.kept) == 4
    store.stop_at = None
    with lending(store.lent()):
        resumed = run(subject(), **LEVELS)
    assert len(store.kept) == 9
    assert resumed.model_dump_json() == real().model_dump_json()
    assert store.told[-10:] == [("training reference model", done, 9) for done in range(10)]
    with lending(store.lent()):  # another target: nothing of the old is taken
        run(subject(), **LEVELS, **{"loss_target": 0.11})
    assert len(store.kept) == 18


@pytest.mark.slow
def test_binary_with_one_output_and_regression():
    two = subject(build(1), lambda: build(1), Task.BINARY, ("no", "yes"), labels=lambda y: y % 2, outputs="logits")
    result = run(two, label_noise=(0.0,))
    assert result.metric("predicted_gap").unit == "nats"
    assert [metric.name for metric in result.metrics if metric.name.startswith("kendall")] == ["kendall_tau"]
    value = subject(build(1), lambda: build(1), Task.REGRESSION, (), labels=lambda y: y.astype(np.float64))
    result = run(value, label_noise=(0.0,))
    assert result.metric("predicted_gap").unit == "squared units of the target"
    assert "The assessed model's training loss is" in result.doubt  # it is not trained at all
    with pytest.raises(NotApplicable, match="a regression has no accuracy; set gap: loss"):
        run(value, gap="accuracy")


# --- planted families ------------------------------------------------------------------------------------------------


def test_a_planted_relation_is_found_without_doubt():
    result = run_planted(family())
    assert result.doubt is None
    predicted = result.metric("predicted_gap")
    assert predicted.low < 0.5 < predicted.high
    assert predicted.value == pytest.approx(0.5, abs=0.02)
    assert result.metric("kendall_tau").low > 0.5
    flatter = [row[7] < assessed_kappa() for row in result.tables[0].rows]
    assert result.metric("flatness_percentile").value == sum(flatter) / 24
    assert result.metric("measured_gap").value < 0.4
    assert result.remarks[-1] == (
        "The measured gap lies below the predicted interval: the model generalizes better than its flatness says."
    )
    assert "24 of 24 reference models lie inside" in result.remarks[2] or "23 of 24" in result.remarks[2]


@pytest.mark.parametrize(
    ("planted", "doubt"),
    [
        ({"slope": 0.0, "scatter": 0.2}, "Flatness says nothing about the gap in this family: the interval of the rank "
         "correlation includes 0."),
        ({"slope": -0.3}, "In this family the flatter models have the larger gap: flatness is no good sign here."),
        ({"slope": 0.0, "by_noise": 1.0, "spread": 0.5}, "Among reference models with the same label noise, flatness "
         "and gap do not visibly go together: in this family flatness tells wrong labels from right ones, and perhaps "
         "no more."),
        ({"slope": -0.3, "by_noise": 1.0, "spread": 0.5}, "Among reference models with the same label noise, the "
         "flatter ones have the larger gap: in this family flatness tells wrong labels from right ones, and nothing "
         "else."),
    ],
    ids=["no relation", "inverse relation", "label noise alone", "inverse within one noise"],
)  # fmt: skip
def test_planted_families_that_say_nothing(planted, doubt):
    assert run_planted(family(**planted)).doubt == doubt


def test_extrapolation_is_doubtful_on_either_side():
    for shift in (-2, 2):
        result = run_planted(family(centre=math.log(assessed_kappa()) + shift))
        assert result.doubt.startswith(f"The assessed model's relative flatness {assessed_kappa():.3g} lies outside")
        assert result.doubt.endswith("of the reference models: the prediction is an extrapolation.")
        assert result.metric("flatness_percentile").value == (shift < 0)


def test_models_trained_less_or_much_further_than_the_references_are_doubtful():
    assert run_planted(family(), loss_target=0.05).doubt.startswith("The assessed model's training loss is 0.0")
    less = run_planted(family(), loss_target=0.05).doubt
    assert "above the 0.05 at which the reference models were stopped: it is trained less far" in less
    more = run_planted(family(), loss_target=0.5).doubt
    assert "less than half of the 0.5 at which" in more
    assert run_planted(family(), loss_target=None).doubt is None
    untrained = run_planted(family(), build(), loss_target=None).doubt
    assert "above the 0.1 at which the reference models were stopped" in untrained


def test_a_scatter_that_the_interval_does_not_hold_is_doubtful():
    rng = np.random.default_rng(0)

    def heavy(recipe):
        found = family(slope=3.0, scatter=0.0)(recipe)
        return {**found, "test_loss": found["test_loss"] + (rng.choice([-5, 5]) if rng.random() < 0.15 else 0)}

    result = run_planted(heavy, models=40)
    assert result.remarks[2].startswith("Left out one by one, 34 of 40 reference models lie inside")
    assert result.doubt == (
        "Too few reference models lie inside the interval predicted from the others: the prediction interval is too "
        "narrow."
    )


def test_accuracy_gap():
    result = run_planted(family(slope=0.4), gap="accuracy")
    assert result.metric("predicted_gap").unit == "1"
    assert result.metric("predicted_gap").value == pytest.approx(0.125, abs=0.02)
    assert "Newcombe" in result.metric("measured_gap").method


def test_models_that_missed_the_target_are_left_out_and_counted():
    result = run_planted(family(reached=0.7))
    missed = [row for row in result.tables[0].rows if row[0] == "target missed"]
    assert 0 < len(missed) < 16
    assert all(row[5:] == (None,) * 4 for row in missed)
    assert result.remarks[0].startswith(f"{24 - len(missed)} of 24 reference models reached")
    assert result.metric("predicted_gap").n == len(result.series[0].columns["gap"]) == 24 - len(missed)


# --- what is refused -------------------------------------------------------------------------------------------------


def test_too_few_models_reach_the_target():
    with pytest.raises(
        NotApplicable, match=r"only \d of 24 reference models reached a training loss of 0.1 within 80 "
    ):
        run_planted(family(reached=0.2))
    with pytest.raises(NotApplicable, match="all reference models are equally flat"):
        run_planted(family(spread=0.0))


def test_what_build_gives_is_looked_at():
    with pytest.raises(NotApplicable, match="another architecture than the assessed model"):
        run(subject(make=lambda: build(width=5)))
    with pytest.raises(NotApplicable, match="gives the trained model itself"):
        run(subject(make=trained))

    def seeded():
        torch.manual_seed(1)
        return build()

    with lending(Store(family()).lent()):
        result = run(subject(make=seeded), models=24)
    assert result.remarks[-1] == (
        "All reference models start from the same weights: target.model.build sets a seed of its own."
    )


def test_data_and_models_that_cannot_be_measured():
    with pytest.raises(NotApplicable, match=r"the train split has 1 rows; a gap needs at least 2"):
        run(subject(n=1))
    with pytest.raises(NotApplicable, match=r"the train split has 0 rows"):
        run(subject(n=0))
    broken = trained()
    with torch.no_grad():
        broken[2].bias[0] = math.nan
    with pytest.raises(NotApplicable, match="the model's loss is not finite for 90 of 90 rows of the test split"):
        run(subject(broken))
    dead = trained()
    with torch.no_grad():
        dead[0].weight.zero_()
    with pytest.raises(NotApplicable, match="relative flatness of layer '2' is 0, which has no place"):
        run(subject(dead))
    with pytest.raises(NotApplicable, match="not the output of its last linear layer"):
        run(subject(nn.Sequential(trained(), nn.Softmax(1)), outputs="probabilities"))
    with pytest.raises(NotApplicable, match="nobody said how"):
        run(subject(make=None))


@pytest.mark.parametrize(
    "wrong",
    [{"models": 7}, {"loss_target": 0}, {"learning_rates": ()}, {"batch_sizes": (0,)}, {"label_noise": (1.0,)}],
    ids=str,
)
def test_params_are_bounded(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        FlatnessCalibrationParams(**wrong)


def test_plot_draws():
    axes = Figure().add_subplot()
    CHECK.plot(run_planted(family()), axes)
    assert axes.get_xlabel() == "relative flatness (nats; lower is flatter)"
    assert axes.get_ylabel() == "loss gap (nats)"
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["95 % prediction", "label noise 0", "label noise 0.1", "label noise 0.2", "assessed model"]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_trains_a_family():
    result = run(subject(device="cuda"), **LEVELS)
    assert result.metric("predicted_gap").n >= 8
