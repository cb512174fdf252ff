"""Devices that are too small for a batch: checks of parameters go on with half as many rows, and say so."""

import importlib

import numpy as np
import pytest
import torch

from assessor.contract import Split, Task, collecting
from assessor.subjects.torch_module import TorchSubject

SAID = "The device ran out of memory; the model was run on batches of {rows} rows instead."
PARAMS = {
    "hessian_spectrum": {"probes": 5, "steps": 8},
    "sharpness": {"steps": 3, "restarts": 2, "draws": 2},
    "norm_measures": {},
    "fisher_flow": {"max_repeats": 20},
    "relative_flatness": {"max_training_loss": 10.0},
    "mode_connectivity": {},
}
PLENTY = 2000
FEWER = {"relative_flatness": 8, "mode_connectivity": 8}  # halves of 1024, not of the 80 rows


class Net(torch.nn.Module):
    """Two classes of three features; refuses batches that are too large for its device."""

    def __init__(self, most):
        super().__init__()
        torch.manual_seed(0)
        self.most = most
        self.layers = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))

    def forward(self, x):
        if len(x) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.layers(x)


def subject(most):
    rng = np.random.default_rng(0)
    angle = np.repeat(np.arange(4.0), 20)
    x = rng.standard_normal((80, 3)).astype(np.float32)
    x[:, 0] += angle
    labels = (x[:, 0] > 1.5).astype(np.int64)
    splits = {name: Split(name=name, labels=labels, sha256=name, features=x) for name in ("train", "test")}
    splits["design"] = Split(name="design", labels=angle, sha256="design", features=x)
    other = Net(most)
    with torch.no_grad():
        other.layers[0].weight.mul_(1.5)
    baseline = TorchSubject(other, Task.BINARY, ("0", "1"), splits)
    return TorchSubject(Net(most), Task.BINARY, ("0", "1"), splits, baseline=baseline)


def run(name, most):
    check = importlib.import_module(f"assessor_checks.generalization.{name}").CHECK
    with collecting() as remarks:
        result = check.measure(subject(most), check.params(**PARAMS[name]), 0)
    return [(metric.name, metric.value) for metric in result.metrics], remarks


@pytest.mark.parametrize("name", PARAMS)
def test_out_of_memory_halves_the_batch(name):
    plenty, nothing = run(name, PLENTY)
    scarce, said = run(name, 15)
    assert nothing == []
    assert SAID.format(rows=FEWER.get(name, 10)) in said
    for (first, whole), (second, halved) in zip(plenty, scarce, strict=True):
        assert (first, pytest.approx(whole, rel=1e-3, abs=1e-6)) == (second, halved)


@pytest.mark.parametrize("name", PARAMS)
def test_a_row_too_large_for_the_device_is_an_error(name):
    with pytest.raises(torch.OutOfMemoryError):
        run(name, 0)
