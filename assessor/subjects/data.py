"""The user's data in one shape: features, labels, sensitive attributes, digest."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from assessor.contract import Need, Origin, Split
from assessor.errors import UsageError, nearest
from assessor.model import DataSpec
from assessor.subjects.digests import RowsDigest
from assessor.subjects.loading import call_user
from assessor.subjects.tables import read_table


@dataclass(frozen=True, eq=False)
class RawSplit:
    """A split as loaded, before labels are encoded.

    Attributes:
        name: "train", "test", "design", "ood" or "production".
        where: How messages call it, such as "target.data.test (patients.csv)".
        features: (n, ...) numeric, or None.
        labels: (n,) as the user has them; None where no labels are known (only for "ood" and "production").
        feature_names: Column names, if the features came as a table.
        attributes: (n, k) sensitive attributes or None.
    """

    name: str
    where: str
    features: np.ndarray | None
    labels: np.ndarray | None
    feature_names: tuple[str, ...] = ()
    attributes: pd.DataFrame | None = None

    def encode(self, classes: tuple[str, ...] | None) -> Split:
        """Labels as indices into `classes`, or as float64 for None (regression, and any design); NaN where unknown.

        Raises:
            UsageError: A label is missing, no class, or no finite number.
        """
        labels, digest = self._encoded(classes), RowsDigest()
        digest.add(self.features, labels, self.attributes)
        return Split(
            name=self.name,
            labels=labels,
            sha256=digest.hexdigest(),
            features=self.features,
            feature_names=self.feature_names,
            attributes=self.attributes,
        )

    def _encoded(self, classes: tuple[str, ...] | None) -> np.ndarray:
        if self.labels is None:
            assert self.features is not None
            return np.full(len(self.features), np.nan)
        refuse_missing(self.labels, f"{self.where} label")
        if classes is None:
            wanted = "numbers, the values of the parameter" if self.name == "design" else "numbers for a regression"
            return numbers(self.labels, f"{self.where} label", wanted=wanted)
        return encode_labels(self.labels, classes, f"{self.where} label")


def splits_of(raws: Mapping[str, RawSplit], classes: tuple[str, ...] | None) -> dict[str, Split]:
    """Finished splits: labels as indices into `classes`, as float64 for None (regression) and in "design"."""
    return {name: raw.encode(None if name == "design" else classes) for name, raw in raws.items()}


def offered_by(splits: Mapping[str, Split], origin: Origin) -> set[Need]:
    """What any kind of model offers checks with these data and this origin."""
    named = {
        Need.TEST: "test" in splits,
        Need.TRAIN: "train" in splits,
        Need.DESIGN: "design" in splits,
        Need.OOD: "ood" in splits,
        Need.PRODUCTION: "production" in splits,
        Need.SENSITIVE: "test" in splits and bool(splits["test"].sensitive),
        Need.FILES: bool(origin.files),
        Need.DEPENDENCIES: bool(origin.dependencies),
        Need.RELOAD: origin.reload is not None,
    }
    return {need for need, there in named.items() if there}


UNLABELLED = ("ood", "production")
"""Splits that need no labels."""


def load_split(spec: DataSpec, name: str, folder: Path) -> RawSplit:
    """Load one split.

    Args:
        spec: `target.data.<name>` of assessor.yaml.
        name: Of the split, as in the configuration.
        folder: The assessment folder.

    Returns:
        The split, checked for shape, length and emptiness.

    Raises:
        UsageError: Something is missing or does not fit.
    """
    field = f"target.data.{name}"
    if spec.load is not None:
        return _from_object(call_user(spec.load, folder, field=f"{field}.load"), spec, name, f"{field} ({spec.load})")
    if spec.file is None:
        raise UsageError(f"{field}: wanted load (module:callable) or file (csv or parquet)")
    return _from_table(read_table(folder / spec.file, field), spec, name, f"{field} ({spec.file})")


def _from_object(value: Any, spec: DataSpec, name: str, where: str) -> RawSplit:
    if isinstance(value, pd.DataFrame):
        return _from_table(value, spec, name, where)
    if name in UNLABELLED and (isinstance(value, np.ndarray) or hasattr(value, "detach")):
        return _from_arrays(value, None, None, spec, name, where)
    if isinstance(value, tuple) and len(value) in {2, 3}:
        return _from_arrays(value[0], value[1], value[2] if len(value) == 3 else None, spec, name, where)
    if hasattr(value, "__getitem__") and hasattr(value, "__len__") and not isinstance(value, tuple | list | str):
        return _from_dataset(value, spec, name, where)
    raise UsageError(
        f"{where}: found a {type(value).__name__}, wanted (X, y), (X, y, attributes), a DataFrame or a torch Dataset"
    )


def _from_dataset(dataset: Any, spec: DataSpec, name: str, where: str) -> RawSplit:
    if len(dataset) == 0:
        raise UsageError(f"{where}: the data set has no rows")
    pairs = [dataset[index] for index in range(len(dataset))]
    if not all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in pairs):
        raise UsageError(f"{where}: wanted items of the data set to be pairs (x, y)")
    features = np.stack([_array(x) for x, _ in pairs])
    return _from_arrays(features, np.array([np.asarray(_array(y)).item() for _, y in pairs]), None, spec, name, where)


def _from_table(table: pd.DataFrame, spec: DataSpec, name: str, where: str) -> RawSplit:
    check_columns(tuple(map(str, table.columns)), len(table), spec, name, where)
    special = {spec.label, spec.prediction, *score_columns(spec), *(() if spec.features else spec.sensitive)}
    columns = list(spec.features) if spec.features else [c for c in table.columns if c not in special]
    features = table[columns]
    are_numbers = bool(columns) and all(map(_is_number, features.dtypes))
    numeric = features.to_numpy(np.float64, na_value=np.nan) if are_numbers else None
    return RawSplit(
        name=name,
        where=where,
        features=numeric,
        labels=None if spec.label is None else table[spec.label].to_numpy(),
        feature_names=tuple(map(str, columns)),
        attributes=table[list(spec.sensitive)].reset_index(drop=True) if spec.sensitive else None,
    )


def score_columns(spec: DataSpec) -> tuple[str, ...]:
    """Names of the columns of scores; none where there are no scores."""
    return (spec.score,) if isinstance(spec.score, str) else (spec.score or ())


def check_columns(columns: tuple[str, ...], rows: int, spec: DataSpec, name: str, where: str) -> None:
    """Refuse a table without rows, without a label, or without a column that is named.

    Raises:
        UsageError: It is one; the message says what there is.
    """
    if rows == 0:
        raise UsageError(f"{where}: the table has no rows")
    if spec.label is None and name not in UNLABELLED:
        raise UsageError(f"{where}: wanted label: the column of true labels, one of {list(columns)}")
    named = [*([spec.label] if spec.label else []), *spec.sensitive, *(spec.features or ()), *score_columns(spec)]
    for column in [*named, *([spec.prediction] if spec.prediction else [])]:
        if column not in columns:
            raise UsageError(f"{where}: no column '{column}'{nearest(column, columns)}; columns: {', '.join(columns)}")


def _from_arrays(x: Any, y: Any, attributes: Any, spec: DataSpec, name: str, where: str) -> RawSplit:
    names: tuple[str, ...] = ()
    if isinstance(x, pd.DataFrame):
        names = tuple(map(str, x.columns))
    features, labels = _array(x), None if y is None else _array(y).reshape(-1)
    if features.ndim == 0:
        raise UsageError(f"{where}: X is a {type(x).__name__}, wanted an array or a tensor with one row a sample")
    if labels is not None and len(features) != len(labels):
        raise UsageError(f"{where}: X has {len(features)} rows, y has {len(labels)}")
    if len(features) == 0:
        raise UsageError(f"{where}: no rows")
    if attributes is not None:
        attributes = pd.DataFrame(attributes).reset_index(drop=True)
        if len(attributes) != len(features):
            raise UsageError(f"{where}: attributes have {len(attributes)} rows, X has {len(features)}")
        for column in spec.sensitive:
            if column not in attributes.columns:
                raise UsageError(f"{where}: no sensitive column '{column}'{nearest(column, map(str, attributes))}")
        if spec.sensitive:
            attributes = attributes[list(spec.sensitive)]
    return RawSplit(
        name=name, where=where, features=features, labels=labels, feature_names=names, attributes=attributes
    )


def _is_number(dtype: Any) -> bool:
    return pd.api.types.is_numeric_dtype(dtype)


def _array(value: Any) -> np.ndarray:
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    return np.asarray(value)


def refuse_other_columns(raws: Mapping[str, RawSplit]) -> None:
    """Refuse tables whose columns are not those of the test split: rows would be taken for what they are not.

    Raises:
        UsageError: Names or numbers of columns differ.
    """
    test = raws["test"]
    for raw in raws.values():
        if raw.features is None or test.features is None or not raw.features.ndim == test.features.ndim == 2:
            continue
        found, wanted = raw.features.shape[1], test.features.shape[1]
        if found != wanted:
            raise UsageError(f"{raw.where}: rows have {found} features, in {test.where} {wanted}; wanted the same")
        for ours, theirs in zip(raw.feature_names, test.feature_names, strict=False):
            if ours != theirs:
                raise UsageError(
                    f"{raw.where}: found feature '{ours}' where {test.where} has '{theirs}'; wanted the same features "
                    "in the same order"
                )


def check_finite(raw: RawSplit) -> None:
    """Refuse features with NaN or infinity.

    Raises:
        UsageError: Some are there; names the first row and feature.
    """
    if raw.features is None or not np.issubdtype(raw.features.dtype, np.floating):
        return
    bad = ~np.isfinite(raw.features.reshape(len(raw.features), -1))
    if bad.any():
        row, column = np.argwhere(bad)[0]
        name = f"'{raw.feature_names[column]}'" if raw.feature_names else f"number {column}"
        raise UsageError(
            f"{raw.where}: {int(bad.any(axis=1).sum())} of {len(bad)} rows have missing or infinite features "
            f"(first: row {row}, feature {name}); impute them the way the system does, or leave these rows out"
        )


def refuse_missing(values: np.ndarray | pd.Series, where: str, *, first: int = 0) -> None:
    """Refuse empty cells, since a missing label is no class of its own; `first` is the number of the first row.

    Raises:
        UsageError: Some are there; names the first row.
    """
    missing = np.asarray(pd.isna(values))
    if missing.any():
        row = first + int(np.flatnonzero(missing)[0])
        raise UsageError(f"{where}: {int(missing.sum())} are missing (first: row {row})")


def numbers(values: np.ndarray, where: str, *, wanted: str, first: int = 0) -> np.ndarray:
    """(n,) float64, all finite.

    Args:
        values: (n,) as the user has them.
        where: How messages call them.
        wanted: What they should be, in words.
        first: Number of their first row.

    Returns:
        The numbers.

    Raises:
        UsageError: One is no finite number; names the first row.
    """
    try:
        found: np.ndarray = values.astype(np.float64)
    except (TypeError, ValueError) as fault:
        raise UsageError(f"{where}: wanted {wanted}: {fault}") from fault
    if not np.isfinite(found).all():
        row = int(np.flatnonzero(~np.isfinite(found))[0])
        raise UsageError(f"{where}: row {first + row} is {found[row]}, wanted a finite number")
    return found


def encode_labels(
    labels: np.ndarray | pd.Series, classes: tuple[str, ...], where: str, *, first: int = 0
) -> np.ndarray:
    """(n,) int64 indices into `classes`; whole numbers written as floats count as integers.

    Args:
        labels: (n,) as the user has them, none missing.
        classes: Names in index order.
        where: How messages call them.
        first: Number of their first row.

    Returns:
        The indices.

    Raises:
        UsageError: A label is none of the classes; names the first row.
    """
    index = {name: position for position, name in enumerate(classes)}
    places, distinct = pd.factorize(labels)
    texts = label_texts(np.asarray(distinct))
    codes: np.ndarray = np.array([index.get(text, -1) for text in texts], dtype=np.int64)[places]
    if (codes < 0).any():
        row = int(np.flatnonzero(codes < 0)[0])
        raise UsageError(
            f"{where}: {int((codes < 0).sum())} labels are none of the classes {list(classes)} "
            f"(first: row {first + row}, '{texts[places[row]]}')"
        )
    return codes


def distinct_texts(labels: pd.Series) -> set[str]:
    """The labels that occur, as texts."""
    return set(label_texts(np.asarray(pd.unique(labels))))


def label_texts(labels: np.ndarray) -> list[str]:
    """Labels as text, so that 1, 1.0, np.int64(1) and "1" are one class."""
    return [
        str(int(value)) if isinstance(value, float | np.floating) and float(value).is_integer() else _plain(value)
        for value in labels.tolist()
    ]


def _plain(value: object) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)


def class_order(texts: set[str]) -> tuple[str, ...]:
    """Class names in order: by number where all are whole numbers, else by text."""
    if all(re.fullmatch(r"-?[0-9]+", text) for text in texts):
        return tuple(sorted(texts, key=lambda text: (int(text), text)))
    return tuple(sorted(texts))
