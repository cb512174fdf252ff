"""A table of predictions as a subject: what a model said, without the model.

A table is read in parts to be checked and digested. Rows are held only when a check asks for all of them at once; a
check that takes them by `parts` needs the memory of one part, however long the file is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np
import pandas as pd

from assessor.contract import UNKNOWN, Need, NotApplicable, Origin, Part, Sample, Split, Task, whole_split
from assessor.errors import UsageError
from assessor.model import SOURCES, DataSpec, TargetSpec
from assessor.subjects.data import (
    class_order,
    distinct_texts,
    encode_labels,
    numbers,
    offered_by,
    refuse_missing,
)
from assessor.subjects.digests import RowsDigest
from assessor.subjects.loading import call_user
from assessor.subjects.splits import check_columns, named_table, ready, score_columns
from assessor.subjects.tables import Table, table_of_frame

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
        parts: Mapping[str, Callable[[], Iterator[Part]]] | None = None,
    ) -> None:
        """Keep the arrays.

        Args:
            task: What the model does.
            classes: Class names in index order, empty for regression.
            splits: At least "test".
            predictions: (n,) class index or value by split.
            scores: (n, C) probabilities by split; may lack splits.
            origin: Where they come from.
            parts: Gives the rows of a split in parts, where they are not held.
        """
        self.origin = origin
        self.task = task
        self.classes = classes
        self.splits = splits
        self._predictions = predictions
        self._scores = scores
        self._parts = parts or {}

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

    def parts(self, split: str) -> Iterator[Part]:
        """The rows of a split with their predictions."""
        return self._parts[split]() if split in self._parts else whole_split(self, split)

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

    def inputs(self, split: str) -> NoReturn:
        """Never there."""
        raise NotApplicable(NO_MODEL)

    @property
    def baseline(self) -> NoReturn:
        """Never there."""
        raise NotApplicable(NO_MODEL)

    def new_module(self) -> NoReturn:
        """Never there."""
        raise NotApplicable(NO_MODEL)


def predictions_subject(spec: TargetSpec, folder: Path, *, origin: Origin = UNKNOWN) -> PredictionsSubject:
    """Make the subject from tables.

    Args:
        spec: `target` of assessor.yaml.
        folder: Where relative paths and modules are looked up first.
        origin: Where it comes from.

    Returns:
        The subject.

    Raises:
        UsageError: A file or columns are missing, or scores are no probabilities.
    """
    specs = {name: getattr(spec.data, name) for name in type(spec.data).model_fields}
    for name in specs.keys() - {"train", "test"}:
        if specs[name] is not None:
            raise UsageError(
                f"target.data.{name}: wants the model itself, and a table of predictions is given; leave it out"
            )
    tables = {name: _table(found, name, spec, folder) for name, found in specs.items() if found is not None}
    classes = _classes(spec, specs, tables) if spec.task.is_classification else None
    outputs = {name: _Outputs(table, specs[name], classes) for name, table in tables.items()}
    return PredictionsSubject(
        spec.task,
        classes or (),
        {name: _StoredSplit(name, found) for name, found in outputs.items()},
        _Stored({name: found.predictions for name, found in outputs.items()}),
        _Stored({name: found.scores for name, found in outputs.items() if found.has_scores}),
        origin=origin,
        parts={name: found.parts for name, found in outputs.items()},
    )


def _table(spec: DataSpec, name: str, target: TargetSpec, folder: Path) -> Table:
    field = f"target.data.{name}"
    if spec.load is not None:
        where, found = f"{field} ({spec.load})", call_user(spec.load, folder, field=f"{field}.load")
        if not isinstance(found, pd.DataFrame):
            column = spec.prediction or next(iter(score_columns(spec)), "prediction")
            raise UsageError(
                f"{where}: found arrays, wanted a table (a file or a DataFrame) with the column '{column}'"
            )
        table = ready(table_of_frame(found, where), spec)
    else:
        if name == "test" and all(getattr(spec, source) is None for source in SOURCES):
            spec = spec.model_copy(update={"file": target.model.predictions})
        table = named_table(spec, field, folder)
    check_columns(table.columns, table.rows, spec, name, table.where)
    return table


def _classes(spec: TargetSpec, specs: Mapping[str, DataSpec], tables: Mapping[str, Table]) -> tuple[str, ...]:
    classes = spec.classes or class_order(_texts(specs, tables))
    if spec.task is Task.BINARY and len(classes) != 2:
        raise UsageError(
            f"target.task: found binary, but the table has the classes {list(classes)}; "
            "name both under target.classes, negative first"
        )
    return classes


def _texts(specs: Mapping[str, DataSpec], tables: Mapping[str, Table]) -> set[str]:
    """All labels and predictions that occur, as texts."""
    texts: set[str] = set()
    for name, table in tables.items():
        columns = {"label": specs[name].label, "prediction": specs[name].prediction}
        first = 0
        for part in table.parts([column for column in columns.values() if column is not None]):
            for meaning, column in columns.items():
                if column is not None:
                    called = f"{table.where} {'label' if meaning == 'label' else column}"
                    refuse_missing(part[column], called, first=first)
                    texts |= distinct_texts(part[column])
            first += len(part)
    return texts


class _Rows(NamedTuple):
    """Rows of a table, checked and encoded: labels (n,), predictions (n,), scores (n, C), attributes (n, k)."""

    labels: np.ndarray
    predictions: np.ndarray
    scores: np.ndarray | None
    attributes: pd.DataFrame | None


@dataclass(frozen=True, eq=False)
class _Outputs:
    """What the model said of one split, read from its table whenever it is asked for."""

    table: Table
    spec: DataSpec
    classes: tuple[str, ...] | None

    @cached_property
    def rows(self) -> _Rows:
        """All of them, held from then on."""
        return self._encoded(self.table.whole(self._columns), 0)

    @property
    def has_scores(self) -> bool:
        return self.classes is not None and self.spec.score is not None

    def predictions(self) -> np.ndarray:
        return self.rows.predictions

    def scores(self) -> np.ndarray:
        assert self.rows.scores is not None
        return self.rows.scores

    def parts(self) -> Iterator[Part]:
        """As `Subject.parts` gives them."""
        return (Part(rows.labels, rows.predictions, rows.attributes) for rows in self._in_parts())

    def digest(self) -> str:
        """SHA-256 that also covers the outputs, since they are what is measured."""
        found = RowsDigest()
        for rows in self._in_parts():
            outputs = rows.predictions.astype(np.float64)[:, None]
            if rows.scores is not None:
                outputs = np.concatenate([outputs, rows.scores], axis=1)
            found.add(outputs, rows.labels, rows.attributes)
        return found.hexdigest()

    def rows_digest(self) -> str:
        """SHA-256 of labels and attributes alone, the same for every model's outputs."""
        found = RowsDigest()
        for rows in self._in_parts():
            found.add(None, rows.labels, rows.attributes)
        return found.hexdigest()

    @property
    def _columns(self) -> list[str]:
        spec = self.spec
        named = [spec.label, spec.prediction, *score_columns(spec), *spec.sensitive]
        return list(dict.fromkeys(name for name in named if name is not None))

    def _in_parts(self) -> Iterator[_Rows]:
        first = 0
        for part in self.table.parts(self._columns):
            yield self._encoded(part, first)
            first += len(part)

    def _encoded(self, part: pd.DataFrame, first: int) -> _Rows:
        spec, where = self.spec, self.table.where
        if len(part) < self.table.rows:
            where += f", rows {first} to {first + len(part) - 1}"
        assert spec.label is not None
        labels = self._values(part[spec.label], f"{where} label", f"{where} label", first)
        scores = _scores(part, score_columns(spec), self.classes, where, first) if self.has_scores else None
        if spec.prediction is not None:
            column = part[spec.prediction]
            said = self._values(column, f"{where} {spec.prediction}", f"{where} prediction", first)
        elif scores is not None:
            said = scores.argmax(axis=1)
        else:
            raise UsageError(f"{where}: wanted prediction: or score: the column of the model's outputs")
        return _Rows(labels, said, scores, part[list(spec.sensitive)] if spec.sensitive else None)

    def _values(self, column: pd.Series, name: str, meaning: str, first: int) -> np.ndarray:
        refuse_missing(column, name, first=first)
        if self.classes is None:
            return numbers(column.to_numpy(), meaning, wanted="numbers for a regression", first=first)
        return encode_labels(column, self.classes, meaning, first=first)


def _scores(
    part: pd.DataFrame, names: tuple[str, ...], classes: tuple[str, ...] | None, where: str, first: int
) -> np.ndarray:
    assert classes is not None
    for name in names:
        refuse_missing(part[name], f"{where} {name}", first=first)
    try:
        found = np.stack([part[name].to_numpy().astype(np.float64) for name in names], axis=1)
    except (TypeError, ValueError) as fault:
        raise UsageError(f"{where} score: wanted numbers: {fault}") from fault
    if len(names) == 1 and len(classes) == 2:
        found = np.concatenate([1 - found, found], axis=1)
    if found.shape[1] != len(classes):
        raise UsageError(f"{where} score: found {len(names)} columns, wanted one a class: {list(classes)}")
    bad = ~((found >= 0) & (found <= 1)).all(axis=1) | (np.abs(found.sum(axis=1) - 1) > 1e-3)
    if bad.any():
        raise UsageError(
            f"{where} score: {int(bad.sum())} rows are no probabilities "
            f"(first: row {first + int(np.flatnonzero(bad)[0])}); wanted values from 0 to 1 that sum to 1"
        )
    return found


class _StoredSplit(Split):
    """A split whose labels and attributes stay in their table until they are asked for."""

    _outputs: _Outputs

    def __init__(self, name: str, outputs: _Outputs) -> None:
        for field, value in (("name", name), ("sha256", outputs.digest()), ("_outputs", outputs)):
            object.__setattr__(self, field, value)

    @cached_property
    def labels(self) -> np.ndarray:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self._outputs.rows.labels

    @cached_property
    def attributes(self) -> pd.DataFrame | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self._outputs.rows.attributes

    @cached_property
    def rows_sha256(self) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._outputs.rows_digest()

    @property
    def n(self) -> int:
        return self._outputs.table.rows

    @property
    def sensitive(self) -> tuple[str, ...]:
        return self._outputs.spec.sensitive

    @property
    def sample(self) -> Sample | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self._outputs.table.sample


class _Stored(Mapping[str, np.ndarray]):
    """Arrays by split that stay in their tables until they are asked for."""

    def __init__(self, found: Mapping[str, Callable[[], np.ndarray]]) -> None:
        self._found = found

    def __getitem__(self, name: str) -> np.ndarray:
        return self._found[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)
