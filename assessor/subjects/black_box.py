"""A model that can only be asked: rows in, outputs out. Neither gradients nor another training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from assessor.contract import UNKNOWN, Need, NotApplicable, Origin, Part, Scores, Split, Task, remark, whole_split
from assessor.errors import UsageError
from assessor.model import TargetSpec
from assessor.subjects.data import RawSplit, check_finite, offered_by, refuse_other_columns, splits_of
from assessor.subjects.no_module import NoModule
from assessor.subjects.spool import in_slices

PROBED = 256  # rows that tell the kind of outputs before anything is measured
OFF = 1e-3  # by which probabilities may miss the sum 1


class Source(NamedTuple):
    """A model to be asked.

    Attributes:
        ask: (n, ...) rows to outputs, one a row: (n,), (n, 1) or (n, C) float64.
        field: How messages call it, such as "target.model.onnx".
        outputs: "probabilities", "logits", "classes" (an index a row), "values", or None where nobody says.
        names: The features that it knows, in its order; None where it knows none.
        faults: What `ask` raises.
        allows_missing: Whether features may be NaN.
        confinement: What keeps it from everything else; see `assessor.confinement`.
        remarks: What readers of its results must know.
        probed: Rows that it is asked to see what it gives.
    """

    ask: Callable[[np.ndarray], np.ndarray]
    field: str
    outputs: str | None = None
    names: Sequence[str] | None = None
    faults: tuple[type[Exception], ...] = (ValueError, TypeError)
    allows_missing: bool = False
    confinement: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    probed: int = PROBED


class BlackBoxSubject(NoModule):
    """A model that can be asked, with its data; see `assessor.contract.Subject`."""

    device = "cpu"
    no_module = "the model can only be asked for outputs; it is no PyTorch module here"

    def __init__(
        self,
        source: Source,
        outputs: str,
        task: Task,
        classes: tuple[str, ...],
        splits: Mapping[str, Split],
        *,
        origin: Origin = UNKNOWN,
    ) -> None:
        """Keep them.

        Args:
            source: The model.
            outputs: What it gives: "probabilities", "logits", "classes" or "values".
            task: What it does.
            classes: Class names in index order, empty for regression.
            splits: At least "test".
            origin: Where it comes from.
        """
        self._source = source
        self._outputs = outputs
        self.task = task
        self.classes = classes
        self.splits = splits
        self.origin = origin
        self._cache: dict[str, np.ndarray] = {}

    @property
    def confinement(self) -> tuple[str, ...]:
        """What keeps the model from everything else; see `assessor.confinement`."""
        return self._source.confinement

    @property
    def offers(self) -> frozenset[Need]:
        """What checks may ask of it."""
        offered = offered_by(self.splits, self.origin) | {Need.QUERY}
        if self.task.is_classification and self._outputs != "classes":
            offered.add(Need.PROBABILITIES)
        return frozenset(offered)

    def scores(self, split: str) -> np.ndarray:
        """(n, C) class probabilities or (n,) predicted values, float64, computed once."""
        self._refuse_without_scores()
        return self._finite(split)

    def predictions(self, split: str) -> np.ndarray:
        """(n,) predicted class index or value."""
        return self._decided(self._finite(split))

    def parts(self, split: str) -> Iterator[Part]:
        """All rows of the split at once."""
        return whole_split(self, split)

    def query(self, features: np.ndarray) -> np.ndarray:
        """Predictions for new inputs; -1, which is no class, where the outputs are not finite."""
        found = self._given(features)
        if not self.task.is_classification or found.ndim == 1:
            return found
        return np.where(np.isfinite(found).all(axis=1), self._decided(found), -1)

    def query_scores(self, features: np.ndarray) -> np.ndarray:
        """Scores for new inputs; NaN where the outputs are not finite."""
        self._refuse_without_scores()
        found = self._given(features)
        found[~np.isfinite(found.reshape(len(found), -1)).all(axis=1)] = np.nan
        return found

    def refit(self, rows: np.ndarray, seed: int, labels: np.ndarray | None = None) -> Scores:
        """Never there."""
        raise NotApplicable("nobody said how the model is trained anew")

    def _refuse_without_scores(self) -> None:
        if self._outputs == "classes":
            raise NotApplicable("the model gives classes and no scores")

    def _finite(self, split: str) -> np.ndarray:
        if split not in self._cache:
            features = self.splits[split].features
            assert features is not None
            found = self._given(features)
            if bad := int((~np.isfinite(found.reshape(len(found), -1))).any(axis=1).sum()):
                raise ValueError(f"the model gives NaN or infinite outputs for {bad} of {len(found)} {split} rows")
            self._cache[split] = found
        for text in self._source.remarks:
            remark(text)
        return self._cache[split]

    def _given(self, features: np.ndarray) -> np.ndarray:
        for text in self._source.remarks:
            remark(text)
        found = []
        for rows in in_slices(features):
            some = features[rows]
            found.append(scores_of(self._source.ask(some), self._outputs, self.task, len(self.classes), len(some)))
        return np.concatenate(found)

    def _decided(self, found: np.ndarray) -> np.ndarray:
        return found.argmax(axis=1) if self.task.is_classification and found.ndim == 2 else found


def scores_of(out: np.ndarray, outputs: str, task: Task, count: int, rows: int) -> np.ndarray:
    """A model's own outputs as scores.

    Args:
        out: (n,), (n, 1) or (n, C).
        outputs: What they are.
        task: What the model does.
        count: How many classes there are.
        rows: n, as asked.

    Returns:
        (n, C) probabilities, (n,) class indices for "classes", or (n,) values; float64 but for class indices.

    Raises:
        ValueError: They have another shape, or are no probabilities or classes.
    """
    if out.ndim not in {1, 2} or len(out) != rows:
        raise ValueError(f"the model gave outputs of shape {out.shape} for {rows} rows, wanted one a row")
    if not task.is_classification:
        if out[:1].size > 1:
            raise ValueError(f"the model gave outputs of shape {out.shape}, wanted one value a row")
        return out.reshape(rows).astype(np.float64)
    if outputs == "classes":
        found = out.reshape(rows)
        if not np.isin(found, np.arange(count)).all():
            raise ValueError(f"the model gave a class that is none of 0 to {count - 1}")
        return found.astype(np.int64)
    wide = out.reshape(rows, -1).astype(np.float64)
    single = wide.shape[1] == 1
    if (2 if single else wide.shape[1]) != count:
        raise ValueError(f"the model gave {wide.shape[1]} outputs a row, wanted one for each of the {count} classes")
    if outputs == "probabilities":
        whole = np.concatenate([1 - wide, wide], axis=1) if single else wide
        off = (whole < -OFF) | (whole > 1 + OFF) | (np.abs(whole.sum(axis=1, keepdims=True) - 1) > OFF)
        if off.any():
            row = int(np.flatnonzero(off.any(axis=1))[0])
            raise ValueError(f"the model's outputs are no probabilities (first: row {row}), as they are said to be")
        return whole
    return _softmax(np.concatenate([np.zeros_like(wide), wide], axis=1) if single else wide)


def _softmax(logits: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):  # infinite logits give NaN, which is told
        raised = np.exp(logits - logits.max(axis=1, keepdims=True))
        found: np.ndarray = raised / raised.sum(axis=1, keepdims=True)
    return found


def black_box_subject(
    source: Source, spec: TargetSpec, raws: Mapping[str, RawSplit], *, origin: Origin = UNKNOWN
) -> BlackBoxSubject:
    """Check that model and data fit and make the subject.

    Args:
        source: The model.
        spec: `target` of assessor.yaml.
        raws: Data by split.
        origin: Where both come from.

    Returns:
        The subject.

    Raises:
        UsageError: Features, outputs or labels do not fit.
    """
    for raw in raws.values():
        if raw.features is None:
            raise UsageError(f"{raw.where}: wanted numeric features for this model; name them under features:")
        if not source.allows_missing:
            check_finite(raw)
    refuse_other_columns(raws)
    test = raws["test"]
    _refuse_other_names(source, test)
    assert test.features is not None
    rows = test.features[: source.probed]
    try:
        out = source.ask(rows)
    except source.faults as fault:
        raise UsageError(
            f"{source.field}: the model raised an error on rows of {test.where} of shape {rows.shape[1:]}: {fault}"
        ) from fault
    outputs = _outputs(out, source, spec)
    classes = _classes(out, outputs, source, spec) if spec.task.is_classification else ()
    try:
        scores_of(out, outputs, spec.task, len(classes), len(rows))
    except ValueError as fault:
        raise UsageError(f"{source.field}: {fault}") from fault
    splits = splits_of(raws, classes or None)
    return BlackBoxSubject(source, outputs, spec.task, classes, splits, origin=origin)


def _refuse_other_names(source: Source, test: RawSplit) -> None:
    if source.names is None or not test.feature_names:
        return
    for found, wanted in zip(test.feature_names, source.names, strict=False):
        if found != wanted:
            raise UsageError(
                f"{test.where}: found feature '{found}' where the model has '{wanted}'; wanted the model's features in "
                f"its order: {', '.join(source.names)}"
            )


def _outputs(out: np.ndarray, source: Source, spec: TargetSpec) -> str:
    said = source.outputs
    if not spec.task.is_classification:
        if said not in {None, "values"}:
            raise UsageError(f"target.task: found {spec.task}, but the model gives {said}")
        return "values"
    if said is not None and spec.model.outputs not in {None, said}:
        raise UsageError(f"target.model.outputs: found '{spec.model.outputs}', but the file says {said}")
    if said == "values":
        raise UsageError(f"target.task: found {spec.task}, but the model's file says that it gives values")
    if (named := said or spec.model.outputs) is not None:
        return named
    single = out[:1].size == 1
    if ((out >= 0) & (out <= 1)).all() and (single or np.allclose(out.sum(axis=-1), 1, atol=1e-4)):
        raise UsageError(
            "target.model: the outputs look like probabilities, and logits are taken by default; "
            "say which under target.model.outputs: logits or probabilities"
        )
    return "logits"


def _classes(out: np.ndarray, outputs: str, source: Source, spec: TargetSpec) -> tuple[str, ...]:
    width = out[:1].size
    if outputs == "classes":
        if spec.classes is None:
            raise UsageError(f"target.classes: {source.field} gives classes only; name them all, in their order")
        return spec.classes
    if (spec.task is Task.MULTICLASS and width < 2) or (spec.task is Task.BINARY and width > 2):
        raise UsageError(f"target.task: a {spec.task} task does not go with outputs of shape {out.shape}")
    count = max(2, width)
    classes = spec.classes or tuple(map(str, range(count)))
    if len(classes) != count:
        raise UsageError(f"target.classes: found {len(classes)} names, the model has {count} classes")
    return classes
