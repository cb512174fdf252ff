"""A fitted scikit-learn estimator as a subject."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np

from assessor.contract import Need, NotApplicable, Split, Task
from assessor.errors import UsageError
from assessor.model import TargetSpec
from assessor.subjects.data import RawSplit, check_finite, label_texts


class SklearnSubject:
    """An estimator with its data; see `assessor.contract.Subject`."""

    device = "cpu"

    def __init__(self, estimator: Any, task: Task, classes: tuple[str, ...], splits: Mapping[str, Split]) -> None:
        """Keep the estimator; it must be fitted.

        Args:
            estimator: Has `predict`, for a classifier perhaps `predict_proba`.
            task: What it does.
            classes: Class names in the order of the estimator's `classes_`, empty for regression.
            splits: At least "test".
        """
        self._estimator = estimator
        self.task = task
        self.classes = classes
        self.splits = splits
        self._cache: dict[tuple[str, str], np.ndarray] = {}

    @property
    def sha256(self) -> str:
        """Digest of the estimator's parameters and fitted state."""
        return _digest(self._estimator)

    @property
    def offers(self) -> frozenset[Need]:
        """What checks may ask of it."""
        offered = {Need.TEST, Need.QUERY}
        if self.task.is_classification and hasattr(self._estimator, "predict_proba"):
            offered.add(Need.PROBABILITIES)
        if "train" in self.splits:
            offered.add(Need.TRAIN)
        if self.splits["test"].attributes is not None:
            offered.add(Need.SENSITIVE)
        return frozenset(offered)

    def scores(self, split: str) -> np.ndarray:
        """(n, C) class probabilities or (n,) predicted values, float64, computed once."""
        if not self.task.is_classification:
            return self.predictions(split)
        if Need.PROBABILITIES not in self.offers:
            raise NotApplicable(f"{type(self._estimator).__name__} gives no probabilities (no predict_proba)")
        return self._once("scores", split)

    def predictions(self, split: str) -> np.ndarray:
        """(n,) predicted class index or value."""
        return self._once("predictions", split)

    def query(self, features: np.ndarray) -> np.ndarray:
        """Predictions for new inputs."""
        found = np.asarray(self._estimator.predict(features))
        if not self.task.is_classification:
            return found.astype(np.float64).reshape(len(features))
        order = {name: position for position, name in enumerate(self.classes)}
        return np.array([order[text] for text in label_texts(found)], dtype=np.int64)

    def _once(self, what: str, split: str) -> np.ndarray:
        if (what, split) not in self._cache:
            features = self.splits[split].features
            assert features is not None
            made = self.query(features) if what == "predictions" else self._estimator.predict_proba(features)
            self._cache[what, split] = np.asarray(made, np.int64 if made.dtype.kind == "i" else np.float64)
        return self._cache[what, split]

    @property
    def module(self) -> NoReturn:
        """Never there."""
        raise NotApplicable("a scikit-learn estimator is no PyTorch module")

    def logits(self, inputs: object) -> NoReturn:
        """Never there."""
        raise NotApplicable("a scikit-learn estimator gives no gradients")

    def tensors(self, split: str) -> NoReturn:
        """Never there."""
        raise NotApplicable("a scikit-learn estimator is no PyTorch module")


def sklearn_subject(estimator: Any, spec: TargetSpec, raws: Mapping[str, RawSplit]) -> SklearnSubject:
    """Check that estimator and data fit and make the subject.

    Args:
        estimator: A fitted estimator.
        spec: `target` of assessor.yaml.
        raws: Data by split.

    Returns:
        The subject.

    Raises:
        UsageError: Not fitted, wrong features, or labels the estimator does not know.
    """
    for raw in raws.values():
        if raw.features is None:
            raise UsageError(f"{raw.where}: wanted numeric features for a scikit-learn estimator")
        if not _allows_nan(estimator):
            check_finite(raw)
    features = raws["test"].features
    assert features is not None
    try:
        estimator.predict(features[:1])
    except Exception as fault:  # estimators raise many kinds, NotFittedError among them
        raise UsageError(f"target.model.load: predict raised {type(fault).__name__}: {fault}") from fault
    if not spec.task.is_classification:
        return SklearnSubject(estimator, spec.task, (), {name: raw.encode(None) for name, raw in raws.items()})
    known = getattr(estimator, "classes_", None)
    if known is None:
        raise UsageError(f"target.task: {type(estimator).__name__} is no classifier, but the task is {spec.task}")
    classes = tuple(label_texts(np.asarray(known)))
    if spec.task is Task.BINARY and len(classes) != 2:
        raise UsageError(f"target.task: found binary, but the estimator knows {len(classes)} classes")
    splits = {name: raw.encode(classes) for name, raw in raws.items()}
    return SklearnSubject(estimator, spec.task, classes, splits)


def _allows_nan(estimator: Any) -> bool:
    tags = getattr(estimator, "__sklearn_tags__", None)
    return bool(tags and tags().input_tags.allow_nan)


def _digest(value: Any) -> str:
    """SHA-256 over an object's class and state: the same for the same fit, whatever the process."""
    sha = hashlib.sha256()
    if isinstance(value, np.ndarray) and value.dtype != object:
        sha.update(f"{value.dtype.descr}{value.shape}".encode())
        sha.update(np.ascontiguousarray(value).tobytes())
    elif isinstance(value, Mapping):
        for key in sorted(value, key=str):
            sha.update(f"{key}={_digest(value[key])}".encode())
    elif isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.dtype == object):
        for item in value:
            sha.update(_digest(item).encode())
    elif isinstance(value, str | bytes | int | float | complex | None | np.generic):
        sha.update(repr(value).encode())
    elif callable(value) and hasattr(value, "__qualname__"):
        sha.update(f"{value.__module__}.{value.__qualname__}".encode())
    else:
        sha.update(f"{type(value).__module__}.{type(value).__qualname__}".encode())
        state = value.__getstate__() if hasattr(value, "__getstate__") else getattr(value, "__dict__", None)
        sha.update((_digest(state) if state is not None else pickle.dumps(value).hex()).encode())
    return sha.hexdigest()
