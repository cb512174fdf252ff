"""A fitted scikit-learn estimator as a subject."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from assessor.contract import UNKNOWN, Need, NotApplicable, Origin, Part, Scores, Split, Task, whole_split
from assessor.errors import UsageError
from assessor.model import TargetSpec
from assessor.subjects.data import (
    RawSplit,
    check_finite,
    label_texts,
    offered_by,
    refuse_other_columns,
    splits_of,
)
from assessor.subjects.loading import own_name
from assessor.subjects.no_module import NoModule
from assessor.subjects.spool import in_slices


class SklearnSubject(NoModule):
    """An estimator with its data; see `assessor.contract.Subject`."""

    device = "cpu"
    no_module = "a scikit-learn estimator is no PyTorch module"

    def __init__(
        self,
        estimator: Any,
        task: Task,
        classes: tuple[str, ...],
        splits: Mapping[str, Split],
        *,
        origin: Origin = UNKNOWN,
    ) -> None:
        """Keep the estimator; it must be fitted.

        Args:
            estimator: Has `predict`, for a classifier perhaps `predict_proba`.
            task: What it does.
            classes: Class names in the order of the estimator's `classes_`, empty for regression.
            splits: At least "test".
            origin: Where it comes from.
        """
        self._estimator = estimator
        self.origin = origin
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
        offered = offered_by(self.splits, self.origin) | {Need.QUERY}
        proba = hasattr(self._estimator, "predict_proba")
        if self.task.is_classification and proba:
            offered.add(Need.PROBABILITIES)
        if "train" in self.splits and (proba or not self.task.is_classification):
            offered.add(Need.REFIT)
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

    def parts(self, split: str) -> Iterator[Part]:
        """All rows of the split at once."""
        return whole_split(self, split)

    def query(self, features: np.ndarray) -> np.ndarray:
        """Predictions for new inputs."""
        found = np.asarray(self._estimator.predict(self._named(features)))
        if not self.task.is_classification:
            return found.astype(np.float64).reshape(len(features))
        texts, order = label_texts(found), {name: position for position, name in enumerate(self.classes)}
        if found.shape != (len(features),):
            raise ValueError(f"predict gave {found.shape} for {len(features)} rows, wanted one label a row")
        if strange := set(texts) - set(order):
            raise ValueError(f"predict gave '{min(strange)}', which is none of the classes {list(order)}")
        return np.array([order[text] for text in texts], dtype=np.int64)

    def query_scores(self, features: np.ndarray) -> np.ndarray:
        """Scores for new inputs."""
        return self._scored(self._estimator, features)

    def _scored(self, estimator: Any, features: np.ndarray) -> np.ndarray:
        """Another fit may know fewer classes than this subject has; to these it gives nothing."""
        if not self.task.is_classification:
            return np.asarray(estimator.predict(self._named(features)), np.float64).reshape(len(features))
        if not hasattr(estimator, "predict_proba"):
            raise NotApplicable(f"{type(estimator).__name__} gives no probabilities (no predict_proba)")
        order = {name: position for position, name in enumerate(self.classes)}
        scores = np.zeros((len(features), len(self.classes)))
        found, known = np.asarray(estimator.predict_proba(self._named(features))), label_texts(estimator.classes_)
        if found.shape != (len(features), len(known)):
            raise ValueError(
                f"predict_proba gave {found.shape} for {len(features)} rows, wanted one column for each of the "
                f"{len(known)} classes"
            )
        sums = found.sum(axis=1, dtype=np.float64)
        if (found < 0).any() or (np.abs(sums - 1) > 1e-3).any():
            row = int(np.argmax(np.abs(sums - 1)))
            raise ValueError(f"predict_proba gave no probabilities: row {row} sums to {sums[row]:.4g}, wanted 1")
        scores[:, [order[text] for text in known]] = found
        return scores

    def refit(self, rows: np.ndarray, seed: int, labels: np.ndarray | None = None) -> Scores:
        """A clone with the same parameters and another random state, fitted on some training rows."""
        from sklearn.base import clone

        if Need.REFIT not in self.offers:
            raise NotApplicable("needs training data and class probabilities to train the model anew")
        train = self.splits["train"]
        assert train.features is not None
        chosen = train.labels[rows] if labels is None else labels
        wanted = np.asarray(self._estimator.classes_)[chosen] if self.task.is_classification else chosen
        made: Any = clone(self._estimator)
        states = [name for name in made.get_params() if name == "random_state" or name.endswith("__random_state")]
        made.set_params(**dict.fromkeys(states, seed % 2**32))
        made.fit(self._named(train.features[rows]), wanted)
        return partial(self._scored, made)

    def _once(self, what: str, split: str) -> np.ndarray:
        if (what, split) not in self._cache:
            features = self.splits[split].features
            assert features is not None
            ask = partial(self._scored, self._estimator) if what == "scores" else self.query
            made = np.concatenate([ask(features[rows]) for rows in in_slices(features)])
            self._cache[what, split] = np.asarray(made, np.int64 if made.dtype.kind == "i" else np.float64)
        return self._cache[what, split]

    def _named(self, features: np.ndarray) -> np.ndarray | pd.DataFrame:
        """As the estimator was fitted: with column names if it knows some, so that it refuses another order."""
        names = self.splits["test"].feature_names
        known = hasattr(self._estimator, "feature_names_in_") and len(names) == features.shape[1]
        return pd.DataFrame(features, columns=list(names)) if known else features


def sklearn_subject(
    estimator: Any, spec: TargetSpec, raws: Mapping[str, RawSplit], *, origin: Origin = UNKNOWN
) -> SklearnSubject:
    """Check that estimator and data fit and make the subject.

    Args:
        estimator: A fitted estimator.
        spec: `target` of assessor.yaml.
        raws: Data by split.
        origin: Where both come from.

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
    refuse_other_columns(raws)
    classes = _classes(estimator, spec) if spec.task.is_classification else None
    splits = splits_of(raws, classes)
    subject = SklearnSubject(estimator, spec.task, classes or (), splits, origin=origin)
    features = splits["test"].features
    assert features is not None
    try:
        subject.query(features[:1])
    except Exception as fault:  # estimators raise many kinds, NotFittedError among them
        raise UsageError(f"target.model.{spec.model.form}: predict raised {type(fault).__name__}: {fault}") from fault
    return subject


def _classes(estimator: Any, spec: TargetSpec) -> tuple[str, ...]:
    known = getattr(estimator, "classes_", None)
    if known is None:
        name = type(estimator).__name__
        raise UsageError(
            f"target.model.{spec.model.form}: {name} knows no classes, so it is not fitted or no classifier "
            f"({spec.task})"
        )
    classes = tuple(label_texts(np.asarray(known)))
    if spec.task is Task.BINARY and len(classes) != 2:
        raise UsageError(f"target.task: found binary, but the estimator knows {len(classes)} classes")
    if spec.classes not in {None, classes}:
        raise UsageError(f"target.classes: found {list(spec.classes or ())}, wanted the estimator's: {list(classes)}")
    return classes


def _allows_nan(estimator: Any) -> bool:
    tags = getattr(estimator, "__sklearn_tags__", None)
    return bool(tags and tags().input_tags.allow_nan)


def _digest(value: Any) -> str:
    """SHA-256 over an object's class and state: the same for the same fit, whatever the process."""
    sha = hashlib.sha256()
    if isinstance(value, np.ndarray) and value.dtype.names:  # by field: the padding between them is random
        for name in value.dtype.names:
            sha.update(f"{name}={_digest(value[name])}".encode())
    elif isinstance(value, np.ndarray) and value.dtype != object:
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
    elif isinstance(value, set | frozenset):
        sha.update("".join(sorted(map(_digest, value))).encode())
    elif callable(value) and hasattr(value, "__qualname__"):
        sha.update(own_name(value).encode())
    else:
        sha.update(own_name(type(value)).encode())
        sha.update(_digest(_parts(value)).encode())
    return sha.hexdigest()


def _parts(value: Any) -> tuple[Any, ...]:
    """What pickle would write of an object: arguments and state, items last."""
    reduced = value.__reduce_ex__(4)
    if isinstance(reduced, str):
        return (reduced,)
    return tuple(list(part) if isinstance(part, Iterator) else part for part in reduced)
