"""One small model in every format, over one table, and what each says computed in this process."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

COLUMNS = ("a", "b", "c", "d")
TABLE = {"file": "t.csv", "label": "y", "features": list(COLUMNS)}
DATA = {"train": TABLE, "test": TABLE}
CODE = """
import torch
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    def forward(self, x): return self.layers(x)
def build(): return Net()
def load():
    torch.manual_seed(0)
    return Net()
"""


class Case(NamedTuple):
    """A model in one format.

    Attributes:
        model: `target.model` of assessor.yaml.
        scores: (n, 3) probabilities computed in this process.
        trust: Whether it is loaded with --trust.
        gradients: Whether gradients are offered.
        confined: Whether it is opened in a child.
    """

    model: Mapping[str, Any]
    scores: np.ndarray
    trust: bool = False
    gradients: bool = False
    confined: bool = False


class Made(NamedTuple):
    """The folder of all models, their table and the module behind most of them."""

    folder: Path
    rows: np.ndarray
    labels: np.ndarray
    cases: Mapping[str, Case]


def make_models(folder: Path) -> Made:
    """Write them all."""
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(60, 4)).round(3)
    labels = np.digitize(rows[:, 0] + 0.3 * rng.normal(size=60), [-0.5, 0.5])
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    table["y"] = labels
    table.to_csv(folder / "t.csv", index=False)
    (folder / "system.py").write_text(CODE)
    features = table[list(COLUMNS)].to_numpy(np.float64).copy()
    return Made(folder, features, labels, {**_torch(folder, features), **_others(folder, features, labels)})


def module() -> torch.nn.Module:
    scope: dict[str, Any] = {"__name__": "system"}
    exec(CODE, scope)
    found: torch.nn.Module = scope["load"]()
    return found.eval()


@torch.no_grad()
def _torch(folder: Path, rows: np.ndarray) -> dict[str, Case]:
    from safetensors.torch import save_file

    net, inputs = module(), torch.from_numpy(rows).float()
    scores = net(inputs).double().softmax(dim=1).numpy()
    save_file(net.state_dict(), folder / "m.safetensors")
    torch.save(net.state_dict(), folder / "m.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(net, inputs[:3]), folder / "m.ts")
    (folder / "m.onnx").write_bytes(onnx_mlp(net, "Relu"))
    (folder / "celu.onnx").write_bytes(onnx_mlp(net, "Celu"))
    weights = list(net.state_dict().values())
    other = torch.nn.functional.celu(inputs @ weights[0].T + weights[1]) @ weights[2].T + weights[3]
    build = {"build": "system:build"}
    return {
        "load": Case({"load": "system:load"}, scores, gradients=True),
        "safetensors": Case({"safetensors": "m.safetensors", **build}, scores, gradients=True),
        "state_dict": Case({"state_dict": "m.pt", **build}, scores, gradients=True),
        "torchscript": Case({"torchscript": "m.ts"}, scores, confined=True),
        "torchscript, trusted": Case({"torchscript": "m.ts"}, scores, trust=True, gradients=True),
        "onnx": Case({"onnx": "m.onnx"}, scores, gradients=True),
        "onnx, unknown operator": Case({"onnx": "celu.onnx"}, other.double().softmax(dim=1).numpy(), confined=True),
    }


def exported(made: Made) -> Made:
    """With torch.export's program too, which takes seconds to make."""
    axis = torch.export.Dim("rows", min=1, max=100_000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(module(), (torch.zeros(3, 4),), dynamic_shapes=({0: axis},))
        torch.export.save(program, made.folder / "m.pt2")
    scores = made.cases["load"].scores
    cases = {
        "torch_export": Case({"torch_export": "m.pt2"}, scores, confined=True),
        "torch_export, trusted": Case({"torch_export": "m.pt2"}, scores, trust=True, gradients=True),
    }
    return made._replace(cases={**made.cases, **cases})


def onnx_mlp(net: torch.nn.Module, between: str, rows: Any = "n") -> bytes:
    """Two layers in ONNX with an operator between them."""
    from onnx import TensorProto, checker, helper, numpy_helper

    weights = [
        numpy_helper.from_array(value.numpy(), name)
        for value, name in zip(net.state_dict().values(), ("w", "v", "u", "t"), strict=True)
    ]
    nodes = [
        helper.make_node("Gemm", ["x", "w", "v"], ["h"], transB=1),
        helper.make_node(between, ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "u", "t"], ["y"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "mlp",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [rows, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [rows, 3])],
        initializer=weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def _others(folder: Path, rows: np.ndarray, labels: np.ndarray) -> dict[str, Case]:
    import joblib
    import lightgbm
    import skops.io
    import xgboost
    from sklearn.linear_model import LogisticRegression

    estimator = LogisticRegression().fit(rows, labels)
    skops.io.dump(estimator, folder / "m.skops")
    joblib.dump(estimator, folder / "m.joblib", compress=3)
    (folder / "m.pkl").write_bytes(pickle.dumps(estimator))
    told = estimator.predict_proba(rows)
    settings = {"objective": "multi:softprob", "num_class": 3, "nthread": 1, "max_depth": 2}
    trees = xgboost.train(settings, xgboost.DMatrix(rows, labels, feature_names=list(COLUMNS)), 5)
    trees.save_model(folder / "m.json")
    trees.save_model(folder / "m.ubj")
    grown = trees.predict(xgboost.DMatrix(rows, feature_names=list(COLUMNS))).astype(np.float64)
    leaves = {"objective": "multiclass", "num_class": 3, "verbosity": -1, "num_threads": 1, "min_data_in_leaf": 5}
    booster = lightgbm.train(leaves, lightgbm.Dataset(rows, labels), 5)
    booster.save_model(folder / "m.txt")
    return {
        "sklearn": Case({"sklearn": "m.skops"}, told),
        "joblib": Case({"joblib": "m.joblib"}, told, trust=True),
        "pickle": Case({"pickle": "m.pkl"}, told, trust=True),
        "xgboost json": Case({"xgboost": "m.json"}, grown, confined=True),
        "xgboost ubj": Case({"xgboost": "m.ubj"}, grown, confined=True),
        "lightgbm": Case({"lightgbm": "m.txt"}, np.asarray(booster.predict(rows)), confined=True),
    }
