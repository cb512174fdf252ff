"""A subject from Python objects, as a notebook or a test has them: no folder and no files."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from pydantic import ValidationError

from assessor.contract import UNKNOWN, Subject, Task
from assessor.errors import UsageError
from assessor.model import Data, DataSpec, ModelSpec, TargetSpec
from assessor.subjects.black_box import Source, black_box_subject
from assessor.subjects.data import RawSplit
from assessor.subjects.modules import is_module
from assessor.subjects.splits import split_of

NAMED = "given:object"  # where assessor.yaml would name a callable
SAID = {
    "target.model.outputs": "outputs",
    "target.model.load": "model",
    "target.classes": "classes",
    "target.device": "device",
    "target.model": "model",
    "target.task": "task",
    "features:": "X",
}
"""Fields of assessor.yaml and what they are called here."""


@dataclass(frozen=True, eq=False)
class Given:
    """What a caller gives.

    Attributes:
        model: A torch.nn.Module, a fitted estimator, or a callable.
        data: What it is judged on.
        train: What it was trained on, or None.
        task: "binary", "multiclass", "regression", or None to be told by model and labels.
        label: Column of the labels, where data are a DataFrame.
        sensitive: Names of columns, or the attributes of the rows of `data` themselves.
        classes: Class names in index order, or None.
        outputs: "logits", "probabilities", or None.
        device: "auto", "cpu", "cuda" or "cuda:N".
    """

    model: Any
    data: Any
    train: Any = None
    task: str | None = None
    label: str | None = None
    sensitive: Any = None
    classes: Sequence[str] | None = None
    outputs: str | None = None
    device: str = "auto"


def subject_of(given: Given) -> tuple[Subject, str, str | None]:
    """Check that model and data fit and make the subject.

    Args:
        given: Both.

    Returns:
        The subject, its kind ("torch", "sklearn" or "callable") and the digest of the model where it has one.

    Raises:
        UsageError: They do not fit; the message says what and where.
    """
    try:
        return _subject(given)
    except UsageError as fault:
        text = str(fault)
        for field, name in SAID.items():
            text = text.replace(field, name)
        raise UsageError(text) from fault


def _subject(given: Given) -> tuple[Subject, str, str | None]:
    raws = {"test": _split(given, given.data, "test", "data")}
    if given.train is not None:
        raws["train"] = _split(given, given.train, "train", "train")
    spec, model = _spec(given, raws["test"]), given.model
    if is_module(model):
        from assessor.subjects.torch_module import torch_subject

        # a copy: what is measured is put into eval mode on its device, and the caller goes on training
        module = torch_subject(copy.deepcopy(model), spec, raws, device=given.device)
        return module, "torch", module.sha256
    if _is_estimator(model):
        from assessor.subjects.sklearn_estimator import sklearn_subject

        estimator = sklearn_subject(model, spec, raws)
        return estimator, "sklearn", estimator.sha256
    if callable(model):
        return black_box_subject(_source(model, spec), spec, raws, origin=UNKNOWN), "callable", None
    raise UsageError(
        f"model: found a {type(model).__qualname__}, wanted a torch.nn.Module, a fitted scikit-learn estimator, or a "
        "callable that gives probabilities"
    )


def _is_estimator(model: object) -> bool:
    return hasattr(model, "predict") and hasattr(model, "get_params")


def _source(model: Any, spec: TargetSpec) -> Source:
    def ask(rows: np.ndarray) -> np.ndarray:
        found = model(rows)
        return np.asarray(found.detach().cpu() if hasattr(found, "detach") else found, dtype=np.float64)

    outputs = (spec.model.outputs or "probabilities") if spec.task.is_classification else "values"
    return Source(ask, "model", outputs=outputs, faults=(Exception,), allows_missing=True)


# --- data ------------------------------------------------------------------------------------------------------------


def _split(given: Given, value: Any, name: str, where: str) -> RawSplit:
    label, sensitive = given.label, given.sensitive
    if hasattr(value, "dataset") and hasattr(value, "batch_size"):  # a DataLoader of torch's: its rows, in their order
        value = value.dataset
    if isinstance(value, Mapping) and {"data", "target"} <= set(value):  # a Bunch of scikit-learn's
        value = (_named(value["data"], value.get("feature_names")), value["target"])
    names, attributes = _asked(sensitive)
    features = None
    if isinstance(value, tuple) and len(value) in {2, 3} and isinstance(value[0], pd.DataFrame):
        label = label or "label"
        if len(value) == 3:
            attributes, names = _frame(value[2], names), ()
        features = _known_features(given.model, value[0]) or tuple(map(str, value[0].columns))
        value = _joined(value[0], value[1], label, where)
    elif isinstance(value, pd.DataFrame):
        features = _known_features(given.model, value)
    raw = split_of(value, _data_spec(label, names, features, where), name, where)
    if names and raw.attributes is None:
        raise UsageError(
            f"sensitive: found names, but {where} has no columns; give the values: an array or a DataFrame"
        )
    return raw if attributes is None or name != "test" else _with_attributes(raw, attributes)


def _asked(sensitive: Any) -> tuple[tuple[str, ...], pd.DataFrame | None]:
    """Names of sensitive columns, or the attributes themselves."""
    if sensitive is None:
        return (), None
    if isinstance(sensitive, str):
        return (sensitive,), None
    if isinstance(sensitive, list | tuple):
        if all(isinstance(item, str) for item in sensitive):
            return tuple(sensitive), None
        raise UsageError("sensitive: found a list, wanted names of columns, or an array, Series or DataFrame of values")
    return (), _frame(sensitive, ())


def _frame(values: Any, names: Sequence[str]) -> pd.DataFrame:
    if isinstance(values, pd.Series):
        values = values.to_frame(values.name or "sensitive")
    found = pd.DataFrame(values.detach().cpu() if hasattr(values, "detach") else values).reset_index(drop=True)
    found.columns = found.columns.map(str)
    if list(found.columns) == ["0"]:  # values without a name
        found.columns = pd.Index(["sensitive"])
    for name in names:
        if name not in found:
            raise UsageError(f"sensitive: no column '{name}' in the attributes; columns: {', '.join(map(str, found))}")
    return found[list(names)] if names else found


def _with_attributes(raw: RawSplit, attributes: pd.DataFrame) -> RawSplit:
    assert raw.labels is not None
    if len(attributes) != len(raw.labels):
        raise UsageError(f"sensitive: found {len(attributes)} rows, data has {len(raw.labels)}")
    return replace(raw, attributes=attributes)


def _named(features: Any, names: Any) -> Any:
    """An array with the names of its columns, where they are known."""
    if names is None or isinstance(features, pd.DataFrame) or np.ndim(features) != 2:
        return features
    return pd.DataFrame(np.asarray(features), columns=list(map(str, names)))


def _joined(features: pd.DataFrame, labels: Any, label: str, where: str) -> pd.DataFrame:
    values = np.asarray(labels.detach().cpu() if hasattr(labels, "detach") else labels).reshape(-1)
    if len(values) != len(features):
        raise UsageError(f"{where}: X has {len(features)} rows, y has {len(values)}")
    if label in features:
        raise UsageError(f"{where}: X has a column '{label}'; name the labels otherwise with label=")
    found = features.reset_index(drop=True)
    found.columns = found.columns.map(str)
    return found.assign(**{label: values})


def _known_features(model: object, table: pd.DataFrame) -> tuple[str, ...] | None:
    """The columns that a model was fitted with, where it knows them."""
    known = getattr(model, "feature_names_in_", None)
    return None if known is None or not set(known) <= set(table.columns) else tuple(map(str, known))


def _data_spec(label: str | None, names: tuple[str, ...], features: tuple[str, ...] | None, where: str) -> DataSpec:
    try:
        return DataSpec(load=NAMED, label=label, sensitive=names, features=features)
    except ValidationError as fault:
        raise UsageError(f"{where}: {fault.errors()[0]['msg']}") from fault


# --- what is asked of the model --------------------------------------------------------------------------------------


def _spec(given: Given, test: RawSplit) -> TargetSpec:
    task = _task(given, test)
    wanted: dict[str, Any] = {
        "task": task,
        "classes": None if given.classes is None else tuple(map(str, given.classes)),
        "model": {"load": NAMED, "outputs": given.outputs},
        "data": {"test": {"load": NAMED}},
        "device": given.device,
    }
    try:
        return TargetSpec(**{**wanted, "model": ModelSpec(**wanted["model"]), "data": Data(**wanted["data"])})
    except ValidationError as fault:
        first = fault.errors()[0]
        raise UsageError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from fault


def _task(given: Given, test: RawSplit) -> Task:
    if given.task is not None:
        try:
            return Task(given.task)
        except ValueError as fault:
            raise UsageError(f"task: found '{given.task}', wanted one of {', '.join(Task)}") from fault
    if _is_estimator(given.model):
        known = getattr(given.model, "classes_", None)
        return Task.REGRESSION if known is None else Task.BINARY if len(known) == 2 else Task.MULTICLASS
    assert test.labels is not None
    return task_of_labels(test.labels, given.classes)


def task_of_labels(labels: np.ndarray, classes: Sequence[str] | None = None) -> Task:
    """The task, by its labels alone: numbers with a point other than 0. and 1. mean a regression.

    >>> task_of_labels(np.array([0.0, 1.0])), task_of_labels(np.array([25.0, 310.0])), task_of_labels(np.array([0, 2]))
    (<Task.BINARY: 'binary'>, <Task.REGRESSION: 'regression'>, <Task.MULTICLASS: 'multiclass'>)
    """
    distinct = pd.unique(labels)
    if labels.dtype.kind == "f" and classes is None and not np.isin(distinct, (0, 1)).all():
        return Task.REGRESSION
    if classes is not None:
        return Task.BINARY if len(classes) == 2 else Task.MULTICLASS
    numeric = labels.dtype.kind in "biuf"
    few = len(distinct) <= 2 and (not numeric or np.isin(distinct, (0, 1)).all())
    return Task.BINARY if few else Task.MULTICLASS
