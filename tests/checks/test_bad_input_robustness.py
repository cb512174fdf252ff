"""What users get wrong, for all checks of the area: models without gradients, full devices, other units."""

import importlib

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from assessor.contract import NotApplicable, Split, Task, collecting
from assessor.subjects.sklearn_estimator import SklearnSubject
from assessor.subjects.torch_module import TorchSubject

PARAMS = {
    "pgd_accuracy": {"steps": 4, "restarts": 1},
    "autoattack": {"steps": 4, "queries": 20},
    "robust_flatness": {"steps": 3, "directions": 5, "worst_starts": 1},
    "flatness_trace": {"steps": 8, "eps": 1.0},
    "flatness_certificate": {},
    "ood_detection": {},
}
WITHOUT_GRADIENTS = {
    "noise_accuracy": {"levels": (0.1,)},
    "certified_accuracy": {"radius": 0.1, "sigma": 0.1},
    "decision_attack": {"eps": 0.1, "queries": 20},
}
BY_GRADIENTS = [name for name in PARAMS if name != "ood_detection"]


class Net(torch.nn.Module):
    """Three classes of three features; refuses batches that are too large for its device."""

    def __init__(self, most=None):
        super().__init__()
        self.most = most
        self.layers = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))

    def forward(self, x):
        if self.most and len(x) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.layers(x)


class CutOff(Net):
    """Leaves torch on its way, and its gradients there."""

    def forward(self, x):
        return torch.from_numpy(super().forward(x).detach().numpy())


def rows(scale=1.0):
    rng = np.random.default_rng(0)
    return (scale * rng.standard_normal((60, 3))).astype(np.float32)


def subject(net, x):
    torch.manual_seed(0)
    for layer in (net.layers[0], net.layers[2]):
        layer.reset_parameters()
    with torch.no_grad():
        labels = net.layers(torch.from_numpy(x)).argmax(dim=1).numpy()
    splits = {name: Split(name=name, labels=labels, sha256=name, features=x) for name in ("train", "test")}
    return TorchSubject(net, Task.MULTICLASS, ("a", "b", "c"), splits)


def run(name, found, **params):
    check = importlib.import_module(f"assessor_checks.robustness.{name}").CHECK
    with collecting() as remarks:
        result = check.measure(
            found, check.params(**{**PARAMS.get(name, {}), **WITHOUT_GRADIENTS.get(name, {}), **params}), 0
        )
    return result, remarks


@pytest.mark.parametrize("name", BY_GRADIENTS)
def test_an_estimator_is_sent_to_a_check_for_it(name):
    x = rows()
    estimator = LogisticRegression().fit(x, x[:, 0] > 0)
    splits = {"test": Split(name="test", labels=(x[:, 0] > 0).astype(np.int64), sha256="0", features=x)}
    instead = "certified_accuracy" if name == "flatness_certificate" else "decision_attack"
    with pytest.raises(NotApplicable, match=f"no PyTorch module.*; (use )?robustness.{instead}"):
        run(name, SklearnSubject(estimator, Task.BINARY, ("False", "True"), splits))


@pytest.mark.parametrize("name", [name for name in BY_GRADIENTS if name != "flatness_certificate"])
def test_outputs_that_are_cut_off_from_the_inputs(name):
    with pytest.raises(NotApplicable, match=r"no gradient to follow; use robustness\.decision_attack"):
        run(name, subject(CutOff(), rows()))


@pytest.mark.parametrize("name", BY_GRADIENTS)
def test_answers_that_depend_on_the_batch(name):
    found = subject(Net(), rows())
    found.module.layers.insert(0, torch.nn.BatchNorm1d(3, track_running_stats=False).eval())
    with pytest.raises(NotApplicable, match="normalises by the batch it is given"):
        run(name, found)


def test_features_that_depend_on_the_batch_give_no_distances():
    found = subject(Net(), rows())
    found.module.layers.insert(0, torch.nn.BatchNorm1d(3, track_running_stats=False).eval())
    result, _ = run("ood_detection", found)
    assert "The model's last layer gives no features, so distances at its features are missing." in result.remarks


@pytest.mark.parametrize("name", PARAMS)
def test_a_full_device_halves_the_batch_and_changes_no_number(name):
    params = {"space": "features"} if name == "flatness_certificate" else {}
    (whole, silent), (halved, told) = (run(name, subject(Net(most), rows()), **params) for most in (None, 32))
    assert silent == []
    assert "The device ran out of memory; the model was run on batches of 30 rows instead." in told
    traced = {"lipschitz_bound"}  # not with a forward pass that looks at the number of rows
    values = [{one.name: one.value for one in result.metrics if one.name not in traced} for result in (whole, halved)]
    assert values[1] == pytest.approx(values[0], rel=1e-5, abs=1e-7)  # sums in another order


@pytest.mark.parametrize("name", ["pgd_accuracy", "autoattack", "robust_flatness", "flatness_certificate"])
def test_a_distance_in_another_unit_is_not_judged(name):
    assert run(name, subject(Net(), rows()), eps=0.1)[0].doubt is None
    assert "was it meant for data in another unit" in run(name, subject(Net(), rows(1000.0)), eps=0.1)[0].doubt


@pytest.mark.parametrize("name", WITHOUT_GRADIENTS)
def test_a_distance_in_another_unit_is_not_judged_without_gradients(name):
    for scale, doubted in ((1.0, False), (1000.0, True)):
        doubt = run(name, subject(Net(), rows(scale)), scale="absolute")[0].doubt
        assert ("was it meant for data in another unit" in (doubt or "")) is doubted
