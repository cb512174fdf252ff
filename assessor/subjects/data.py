"""The user's data in one shape: features, labels, sensitive attributes, digest."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from assessor.contract import Need, Origin, Sample, Split
from assessor.errors import UsageError
from assessor.subjects.digests import RowsDigest
from assessor.subjects.spool import in_slices


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
        sample: How the rows were drawn from more, or None.
    """

    name: str
    where: str
    features: np.ndarray | None
    labels: np.ndarray | None
    feature_names: tuple[str, ...] = ()
    attributes: pd.DataFrame | None = None
    sample: Sample | None = None

    def encode(self, classes: tuple[str, ...] | None) -> Split:
        """Labels as indices into `classes`, or as float64 for None (regression, and any design); NaN where unknown.

        Raises:
            UsageError: A label is missing, no class, or no finite number.
        """
        labels = self._encoded(classes)
        return Split(
            name=self.name,
            labels=labels,
            sha256=self._digest(labels),
            features=self.features,
            feature_names=self.feature_names,
            attributes=self.attributes,
            sample=self.sample,
        )

    def _digest(self, labels: np.ndarray) -> str:
        found, features, attributes = RowsDigest(), self.features, self.attributes
        for rows in in_slices(labels if features is None else features):
            found.add(
                None if features is None else features[rows],
                labels[rows],
                None if attributes is None else attributes.iloc[rows],
            )
        return found.hexdigest()

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
    count, first = 0, None
    for rows in in_slices(raw.features):
        some = raw.features[rows]
        bad = ~np.isfinite(some.reshape(len(some), -1))
        if bad.any():
            row, column = np.argwhere(bad)[0]
            first = (rows.start + row, column) if first is None else first
            count += int(bad.any(axis=1).sum())
    if first is not None:
        row, column = first
        name = f"'{raw.feature_names[column]}'" if len(raw.feature_names) > column else f"number {column}"
        raise UsageError(
            f"{raw.where}: {count} of {len(raw.features)} rows have missing or infinite features "
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
