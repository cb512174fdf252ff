"""Splits as assessor.yaml names them: from files, folders, queries and what a user's callable gives, in one shape."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from assessor.errors import UsageError, nearest
from assessor.model import SOURCES, DataSpec, PixelsSpec
from assessor.subjects.arrays import FEATURES, LABELS, is_arrays, read_arrays, table_of_arrays
from assessor.subjects.data import RawSplit
from assessor.subjects.expectations import refuse_unexpected
from assessor.subjects.images import FEW, are_images, image_index, pixels, with_images
from assessor.subjects.loading import call_user
from assessor.subjects.readers import table_of_dataset, table_of_file
from assessor.subjects.sampling import drawn_rows, numbered, sample_of, sampled
from assessor.subjects.spool import Spool, taken
from assessor.subjects.sql import table_of_query
from assessor.subjects.tables import Table, joined, renamed, rows_a_part, table_of_frame

UNLABELLED = ("ood", "production")
"""Splits that need no labels."""
_ITEMS = 256  # of a data set that are stacked at once


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
        return split_of(call_user(spec.load, folder, field=f"{field}.load"), spec, name, f"{field} ({spec.load})")
    if spec.file is not None and is_arrays(folder / spec.file):
        where = f"{field} ({spec.file})"
        arrays = read_arrays(folder / spec.file, field, where)
        if FEATURES in arrays:
            return _from_named_arrays(arrays, spec, name, where)
        return _from_table(ready(table_of_arrays(arrays, where), spec), spec, name)
    return _from_table(named_table(spec, field, folder), spec, name)


def named_table(spec: DataSpec, field: str, folder: Path) -> Table:
    """The table of a file, a folder or a query, with our names of columns, looked through and sampled.

    Args:
        spec: Names one, not a callable.
        field: Such as "target.data.test".
        folder: The assessment folder.

    Returns:
        The table.

    Raises:
        UsageError: It cannot be read, or does not hold what it must.
    """
    if spec.images is not None:
        path = folder / spec.images
        index = ready(image_index(path, field, f"{field} ({spec.images})"), spec)
        return with_images(index, path if path.is_dir() else path.parent)
    if spec.dataset is not None:
        return ready(table_of_dataset(folder / spec.dataset, field, f"{field} ({spec.dataset})"), spec)
    if spec.sql is not None:
        return ready(table_of_query(spec.sql, f"{field}.sql", f"{field} (sql)"), spec)
    if spec.file is None:
        raise UsageError(f"{field}: wanted one of {', '.join(SOURCES)}, which say where the data are")
    path, where = folder / spec.file, f"{field} ({spec.file})"
    if is_arrays(path):
        return ready(table_of_arrays(read_arrays(path, field, where), where), spec)
    texts = [spec.columns.get(name, name) for name, wanted in spec.expect.items() if wanted.type == "text"]
    return ready(table_of_file(path, field, where, texts=texts), spec)


def ready(table: Table, spec: DataSpec) -> Table:
    """A table with our names of columns, looked through and sampled.

    Raises:
        UsageError: It does not hold what it must.
    """
    table = renamed(table, spec.columns)
    refuse_unexpected(table, spec.expect)
    return sampled(table, spec.sample)


def split_of(value: Any, spec: DataSpec, name: str, where: str) -> RawSplit:
    """A split from what a user's callable or a notebook gives.

    Args:
        value: (X, y), (X, y, attributes), a DataFrame or a torch Dataset; X alone for splits without labels.
        spec: Which columns mean what.
        name: Of the split.
        where: How messages call it.

    Returns:
        The split, checked for shape, length and emptiness.

    Raises:
        UsageError: It is none of these, or does not fit.
    """
    if isinstance(value, pd.DataFrame):
        return _from_table(ready(table_of_frame(value, where), spec), spec, name)
    if name in UNLABELLED and (isinstance(value, np.ndarray) or hasattr(value, "detach")):
        return _from_arrays(value, None, None, spec, name, where)
    if isinstance(value, tuple) and len(value) in {2, 3}:
        return _from_arrays(value[0], value[1], value[2] if len(value) == 3 else None, spec, name, where)
    if hasattr(value, "__getitem__") and not isinstance(value, tuple | list | str | dict):
        if hasattr(value, "__len__"):
            return _from_items((value[index] for index in range(len(value))), spec, name, where)
        if hasattr(value, "__iter__"):
            return _from_items(iter(value), spec, name, where)
    raise UsageError(
        f"{where}: found a {type(value).__name__}, wanted (X, y), (X, y, attributes), a DataFrame or a torch Dataset"
    )


def _from_items(items: Iterator[Any], spec: DataSpec, name: str, where: str) -> RawSplit:
    """The items of a torch Dataset, read once, in order."""
    spool, labels = Spool(where), []
    while pairs := list(islice(items, _ITEMS)):
        if not all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in pairs):
            raise UsageError(f"{where}: wanted items of the data set to be pairs (x, y)")
        spool.add(np.stack([_array(x) for x, _ in pairs]))
        labels.append(np.array([np.asarray(_array(y)).item() for _, y in pairs]))
    if not labels:
        raise UsageError(f"{where}: the data set has no rows")
    return _from_arrays(spool.array(), np.concatenate(labels), None, spec, name, where)


def _from_named_arrays(arrays: Mapping[str, np.ndarray], spec: DataSpec, name: str, where: str) -> RawSplit:
    label = spec.label or LABELS
    for column in [*([label] if name not in UNLABELLED or spec.label else []), *spec.sensitive]:
        if column not in arrays:
            raise UsageError(f"{where}: no array '{column}'{nearest(column, arrays)}; arrays: {', '.join(arrays)}")
    attributes = pd.DataFrame({column: arrays[column] for column in spec.sensitive}) if spec.sensitive else None
    return _from_arrays(arrays[FEATURES], arrays.get(label), attributes, spec, name, where)


def _from_table(table: Table, spec: DataSpec, name: str) -> RawSplit:
    spec = spec.model_copy(update={"label": spec.label or table.label})
    check_columns(table.columns, table.rows, spec, name, table.where)
    special = {spec.label, spec.prediction, *score_columns(spec), *(() if spec.features else spec.sensitive)}
    columns = list(spec.features or table.features or [name for name in table.columns if name not in special])
    label = [spec.label] if spec.label is not None else []
    spool = Spool(table.where) if columns else None
    labels, attributes, first = [], [], 0
    for part in table.parts(list(dict.fromkeys([*columns, *label, *spec.sensitive]))):
        if spool is not None and not _added(spool, part[columns], spec.pixels, table.where, first):
            spool = None
        labels += [_shared(part[column]) for column in label]
        attributes.append(part[list(spec.sensitive)])
        first += len(part)
    return RawSplit(
        name=name,
        where=table.where,
        features=None if spool is None else spool.array(),
        labels=np.concatenate(labels) if labels else None,
        feature_names=tuple(columns),
        attributes=joined(attributes) if spec.sensitive else None,
        sample=table.sample,
    )


def _added(spool: Spool, part: pd.DataFrame, how: PixelsSpec, where: str, first: int) -> bool:
    """Whether these rows are numbers, and so could be added: columns of them, or one of images or arrays."""
    if part.shape[1] == 1 and part.dtypes.iloc[0] == np.dtype(object) and not part.iloc[:, 0].isna().all():
        values = part.iloc[:, 0]
        if are_images(values):
            for start in range(0, len(values), FEW):
                spool.add(pixels(values.iloc[start : start + FEW].tolist(), how, where, first=first + start))
            return True
        try:
            rows = np.stack([_nested(value) for value in values])
        except ValueError as fault:
            raise UsageError(f"{where}: column '{part.columns[0]}': rows differ in shape: {fault}") from fault
        if rows.dtype.kind in "biuf":
            spool.add(rows)
        return rows.dtype.kind in "biuf"
    if not all(_is_number(part[name].dtype) or part[name].isna().all() for name in part):
        return False
    spool.add(part.to_numpy(np.float64, na_value=np.nan))
    return True


def _nested(value: Any) -> np.ndarray:
    """Lists of lists as one array."""
    found = np.asarray(value)
    return np.stack([_nested(one) for one in found]) if found.dtype == object and found.ndim else found


def _shared(column: pd.Series) -> np.ndarray:
    """(n,) values; texts that are equal are one object, so that a row costs 8 bytes."""
    values = column.to_numpy()
    if values.dtype != object:
        return values
    places, distinct = pd.factorize(values, use_na_sentinel=False)
    found: np.ndarray = np.asarray(distinct, dtype=object)[places]
    return found


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
    if spec.columns or spec.expect:
        raise UsageError(f"{where}: found arrays; columns: and expect: are for tables, leave them out")
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
    return _drawn(
        RawSplit(name=name, where=where, features=features, labels=labels, feature_names=names, attributes=attributes),
        spec,
    )


def _drawn(raw: RawSplit, spec: DataSpec) -> RawSplit:
    """Some rows of arrays."""
    features, wanted = raw.features, spec.sample
    assert features is not None
    if wanted is None or wanted.n >= len(features):
        return raw
    strata, count = None, 0
    if wanted.by is not None:
        known = {} if raw.labels is None else {spec.label or "label": pd.Series(raw.labels)}
        known |= {} if raw.attributes is None else {str(name): raw.attributes[name] for name in raw.attributes}
        if wanted.by not in known:
            raise UsageError(f"{raw.where}: sample.by: found '{wanted.by}', wanted one of {', '.join(known)}")
        strata, count = numbered(iter([known[wanted.by]]))
    rows, spool = drawn_rows(wanted, len(features), strata), Spool(raw.where)
    size = rows_a_part(features[:1].nbytes)
    for start in range(0, len(rows), size):
        spool.add(taken(features, rows[start : start + size]))
    return replace(
        raw,
        features=spool.array(),
        labels=None if raw.labels is None else raw.labels[rows],
        attributes=None if raw.attributes is None else raw.attributes.iloc[rows].reset_index(drop=True),
        sample=sample_of(wanted, len(features), count),
    )


def _is_number(dtype: Any) -> bool:
    return pd.api.types.is_numeric_dtype(dtype)


def _array(value: Any) -> np.ndarray:
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    return value if isinstance(value, np.memmap) else np.asarray(value)
