"""Models in formats of others, opened to be asked: rows in, raw outputs out. Used inside a confined child only."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

XGBOOST_OUTPUTS = {"binary:logistic": "probabilities", "multi:softprob": "probabilities", "binary:logitraw": "logits",
                   "multi:softmax": "classes", "binary:hinge": "classes"}  # fmt: skip
LIGHTGBM_OUTPUTS = {"binary": "probabilities", "multiclass": "probabilities", "cross_entropy": "probabilities"}
ONNX_TYPES = {"float": "f4", "double": "f8", "float16": "f2", "int64": "i8", "int32": "i4", "uint8": "u1", "int8": "i1"}


class Opened(NamedTuple):
    """A model that can be asked.

    Attributes:
        ask: (n, ...) rows to the model's own outputs, one a row, float64.
        about: What the file says of itself, plain data: "outputs" ("probabilities", "logits", "classes", "values" or
            None where it does not say) and "names" of the features, or None.
    """

    ask: Callable[[np.ndarray], np.ndarray]
    about: dict[str, Any]


def _about(outputs: str | None = None, names: Sequence[str] | None = None) -> dict[str, Any]:
    return {"outputs": outputs, "names": None if names is None else list(names)}


def _torchscript(path: Path, options: Mapping[str, Any]) -> Opened:
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the format itself
        module = torch.jit.load(str(path), map_location="cpu")
    return Opened(_asking(module.eval()), _about())


def _torch_export(path: Path, options: Mapping[str, Any]) -> Opened:
    import torch

    return Opened(_asking(torch.export.load(str(path)).module()), _about())


def _asking(module: Any) -> Callable[[np.ndarray], np.ndarray]:
    import torch

    dtype = next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)

    @torch.no_grad()
    def ask(rows: np.ndarray) -> np.ndarray:
        inputs = torch.from_numpy(rows.copy())
        out = module(inputs.to(dtype) if inputs.is_floating_point() else inputs)
        if not isinstance(out, torch.Tensor):
            raise TypeError(f"the model gave a {type(out).__name__}, wanted a tensor")
        found: np.ndarray = out.double().numpy()
        return found

    return ask


def _xgboost(path: Path, options: Mapping[str, Any]) -> Opened:
    import xgboost

    booster = xgboost.Booster(model_file=bytearray(path.read_bytes()))
    objective = json.loads(booster.save_config())["learner"]["objective"]["name"]
    best = booster.attributes().get("best_iteration")
    trees = (0, int(best) + 1) if best is not None else (0, 0)

    def ask(rows: np.ndarray) -> np.ndarray:
        names, kinds = booster.feature_names, booster.feature_types
        matrix = xgboost.DMatrix(rows, feature_names=names, feature_types=kinds, enable_categorical=True)
        return np.asarray(booster.predict(matrix, iteration_range=trees), np.float64)

    return Opened(ask, _about(XGBOOST_OUTPUTS.get(objective, "values"), booster.feature_names))


def _lightgbm(path: Path, options: Mapping[str, Any]) -> Opened:
    import lightgbm

    booster = lightgbm.Booster(model_file=str(path), params={"verbosity": -1})
    with path.open(encoding="utf-8") as lines:
        said = next((line for line in lines if line.startswith("objective=")), "objective=")
    objective = (said.removeprefix("objective=").split() or [""])[0]

    def ask(rows: np.ndarray) -> np.ndarray:
        return np.asarray(booster.predict(rows), np.float64)

    names = booster.feature_name()
    unnamed = names == [f"Column_{place}" for place in range(len(names))]
    return Opened(ask, _about(LIGHTGBM_OUTPUTS.get(objective, "values"), None if unnamed else names))


def _onnx(path: Path, options: Mapping[str, Any]) -> Opened:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    inputs, outputs = session.get_inputs(), [one.name for one in session.get_outputs()]
    if len(inputs) != 1:
        raise ValueError(f"the model has the inputs {[one.name for one in inputs]}, wanted one")
    output = str(options.get("output") or (outputs[0] if len(outputs) == 1 else ""))
    if output not in outputs:
        raise ValueError(f"the model has the outputs {outputs}; name the one with the scores under target.model.output")
    kind, size = ONNX_TYPES.get(inputs[0].type[7:-1]), inputs[0].shape[0] if inputs[0].shape else None
    if kind is None:
        raise ValueError(f"the model's input is a {inputs[0].type}, wanted numbers")
    ask = partial(_run, session, inputs[0].name, output, kind)
    return Opened(partial(_in_batches, ask, size) if isinstance(size, int) else ask, _about())


def _run(session: Any, name: str, output: str, kind: str, rows: np.ndarray) -> np.ndarray:
    found = session.run([output], {name: rows.astype(kind)})[0]
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "biuf":
        raise ValueError(
            f"the output '{output}' is no array of numbers; write the model without ZipMap (skl2onnx: zipmap=False), "
            "or name another output under target.model.output"
        )
    return found.astype(np.float64)


def _in_batches(ask: Callable[[np.ndarray], np.ndarray], size: int, rows: np.ndarray) -> np.ndarray:
    """A model with a fixed number of rows is asked for as many; the last ones are filled up with the last row."""
    missing = -len(rows) % size
    filled = np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)])
    parts = [ask(filled[start : start + size]) for start in range(0, len(filled), size)]
    return np.concatenate(parts)[: len(rows)]


OPENERS: Mapping[str, Callable[[Path, Mapping[str, Any]], Opened]] = {
    "torchscript": _torchscript,
    "torch_export": _torch_export,
    "xgboost": _xgboost,
    "lightgbm": _lightgbm,
    "onnx": _onnx,
}
"""By the format's name in assessor.yaml."""
