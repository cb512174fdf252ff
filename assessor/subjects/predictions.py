"""A table of predictions as a subject: what a model said, without the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

import numpy as np

from assessor.contract import UNKNOWN, Need, NotApplicable, Origin, Split, Task
from assessor.errors import UsageError
from assessor.model import DataSpec, TargetSpec
from assessor.subjects.data import RawSplit, class_order, encode_labels, label_texts, offered_by, refuse_missing

NO_MODEL = "only a table of predictions is at hand, not the model"


class PredictionsSubject:
    """Stored predictions with their labels; see `assessor.contract.Subject`."""

    device = "cpu"

    def __init__(
        self,
        task: Task,
        classes: tuple[str, ...],
        splits: Mapping[str, Split],
        predictions: Mapping[str, np.ndarray],
        scores: Mapping[str, np.ndarray],
        *,
        origin: Origin = UNKNOWN,
    ) -> None:
        """Keep the arrays.

        Args:
            task: What the model does.
            classes: Class names in index order, empty for regression.
            splits: At least "test".
            predictions: (n,) class index or value by split.
            scores: (n, C) probabilities by split; may lack splits.
            origin: Where they come from.
        """
        self.origin = origin
        self.task = task
        self.classes = classes
        self.splits = splits
        self._predictions = predictions
        self._scores = scores

    @property
    def offers(self) -> frozenset[Need]:
        """What checks may ask of it."""
        offered = offered_by(self.splits, self.origin)
        if self.task.is_classification and "test" in self._scores:
            offered.add(Need.PROBABILITIES)
        return frozenset(offered)

    def scores(self, split: str) -> np.ndarray:
        """(n, C) class probabilities or (n,) predicted values."""
        if not self.task.is_classification:
            return self._predictions[split]
        if split not in self._scores:
            raise NotApplicable("the table has predicted labels and no scores")
        return self._scores[split]

    def predictions(self, split: str) -> np.ndarray:
        """(n,) predicted class index or value."""
        return self._predictions[split]

    def query(self, features: np.ndarray) -> NoReturn:
        """Never there."""
        raise NotApplicable(NO_MODEL)

    def query_scores(self, features: np.ndarray) -> NoReturn:
        """Never there."""
        raise NotApplicable(NO_MODEL)

    def refit(self, rows: np.ndarray, seed: int, labels: np.ndarray | None = None) -> NoReturn:
        """Never there."""
        raise NotApplicable(NO_MODEL)

    @property
    def module(self) -> NoReturn:
        """Never there."""
        raise NotApplicable(NO_MODEL)

    def logits(self, inputs: object) -> NoReturn:
        """Never there."""
        raise NotApplicable(NO_MODEL)

    def tensors(self, split: str) -> NoReturn:
        """Never there."""
        raise NotApplicable(NO_MODEL)

    @property
    def baseline(self) -> NoReturn:
        """Never there."""
        raise NotApplicable(NO_MODEL)

    def new_module(self) -> NoReturn:
        """Never there."""
        raise NotApplicable(NO_MODEL)


def predictions_subject(
    spec: TargetSpec, raws: Mapping[str, RawSplit], *, origin: Origin = UNKNOWN
) -> PredictionsSubject:
    """Make the subject from tables.

    Args:
        spec: `target` of assessor.yaml.
        raws: Data by split, each with its table.
        origin: Where it comes from.

    Returns:
        The subject.

    Raises:
        UsageError: Columns are missing, or scores are no probabilities.
    """
    for name in raws.keys() - {"train", "test"}:
        raise UsageError(
            f"target.data.{name}: wants the model itself, and a table of predictions is given; leave it out"
        )
    specs = {name: found for name, found in (("train", spec.data.train), ("test", spec.data.test)) if found}
    classes = _classes(spec, specs, raws) if spec.task.is_classification else None
    splits, predictions, scores = {}, {}, {}
    for name, raw in raws.items():
        splits[name] = raw.encode(classes)
        if classes is not None and specs[name].score is not None:
            scores[name] = _scores(raw, specs[name], classes)
        predictions[name] = _predictions(raw, specs[name], classes, scores.get(name))
        splits[name] = _with_outputs(splits[name], predictions[name], scores.get(name))
    return PredictionsSubject(spec.task, classes or (), splits, predictions, scores, origin=origin)


def _classes(spec: TargetSpec, specs: Mapping[str, DataSpec], raws: Mapping[str, RawSplit]) -> tuple[str, ...]:
    texts: set[str] = set()
    for name, raw in raws.items():
        assert raw.labels is not None
        refuse_missing(raw.labels, f"{raw.where} label")
        texts |= set(label_texts(raw.labels))
        prediction = specs[name].prediction
        if prediction:
            texts |= set(label_texts(_column(raw, prediction)))
    classes = spec.classes or class_order(texts)
    if spec.task is Task.BINARY and len(classes) != 2:
        raise UsageError(
            f"target.task: found binary, but the table has the classes {list(classes)}; "
            "name both under target.classes, negative first"
        )
    return classes


def _column(raw: RawSplit, name: str) -> np.ndarray:
    if raw.table is None:
        raise UsageError(f"{raw.where}: found arrays, wanted a table (a file or a DataFrame) with the column '{name}'")
    found: np.ndarray = raw.table[name].to_numpy()
    refuse_missing(found, f"{raw.where} {name}")
    return found


def _scores(raw: RawSplit, spec: DataSpec, classes: tuple[str, ...]) -> np.ndarray:
    names = (spec.score,) if isinstance(spec.score, str) else tuple(spec.score or ())
    try:
        found = np.stack([_column(raw, name).astype(np.float64) for name in names], axis=1)
    except (TypeError, ValueError) as fault:
        raise UsageError(f"{raw.where} score: wanted numbers: {fault}") from fault
    if len(names) == 1 and len(classes) == 2:
        found = np.concatenate([1 - found, found], axis=1)
    if found.shape[1] != len(classes):
        raise UsageError(f"{raw.where} score: found {len(names)} columns, wanted one a class: {list(classes)}")
    bad = ~((found >= 0) & (found <= 1)).all(axis=1) | (np.abs(found.sum(axis=1) - 1) > 1e-3)
    if bad.any():
        raise UsageError(
            f"{raw.where} score: {int(bad.sum())} rows are no probabilities "
            f"(first: row {int(np.flatnonzero(bad)[0])}); wanted values from 0 to 1 that sum to 1"
        )
    return found


def _predictions(
    raw: RawSplit, spec: DataSpec, classes: tuple[str, ...] | None, scores: np.ndarray | None
) -> np.ndarray:
    if spec.prediction is not None:
        column = _column(raw, spec.prediction)
        if classes is not None:
            return encode_labels(column, classes, f"{raw.where} prediction")
        return RawSplit(raw.name, f"{raw.where} prediction", None, column).encode(None).labels
    if scores is not None:
        found: np.ndarray = scores.argmax(axis=1)
        return found
    raise UsageError(f"{raw.where}: wanted prediction: or score: the column of the model's outputs")


def _with_outputs(split: Split, predictions: np.ndarray, scores: np.ndarray | None) -> Split:
    """The split with a digest that also covers the outputs, since they are what is measured."""
    from dataclasses import replace

    from assessor.subjects.data import digest

    outputs = predictions.astype(np.float64)[:, None]
    if scores is not None:
        outputs = np.concatenate([outputs, scores], axis=1)
    return replace(split, sha256=digest(outputs, split.labels, split.attributes), features=None, feature_names=())
