"""Frozen weaknesses measured again: groups of test rows by conditions on columns, and inputs kept in files.

A file of frozen inputs is anybody's: it is read only where it has the digest that the parameters name, as plain arrays
and no objects, and within bounds of size.
"""

from __future__ import annotations

import hashlib
import io
import math
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from assessor.contract import Condition, NotApplicable, Subject
from assessor_checks._groups import group_values
from assessor_checks._intervals import CONFIDENCE, Estimate, bootstrap_mean, clopper_pearson, wilson
from assessor_checks.reliability._columns import refuse_unknown

MOST_BYTES = 2**28
MEMBERS = ("features.npy", "labels.npy")
UNREADABLE = (zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError, RuntimeError, EOFError, OSError)


class Inputs(NamedTuple):
    """Frozen inputs.

    Attributes:
        features: (k, ...) as the model takes them.
        labels: (k,) class names or values.
    """

    features: np.ndarray
    labels: np.ndarray


class Measured(NamedTuple):
    """One case measured.

    Attributes:
        value: Error, or absolute difference of a rate.
        low: Lower end of its interval, for all cases together.
        high: Upper end, by itself.
        n: Rows of the case.
        method: How it was got.
    """

    value: float
    low: float
    high: float
    n: int
    method: str


def read_inputs(folder: Path, sha256: str) -> Inputs:
    """Frozen inputs of a folder by their digest.

    Args:
        folder: The assessment folder.
        sha256: Digest of the file, which names it.

    Returns:
        The inputs.

    Raises:
        ValueError: The file is missing, has another digest, or holds anything but two plain arrays of one length.
    """
    path = folder / "frozen" / f"{sha256}.npz"
    size = path.stat().st_size if path.is_file() else -1
    if not 0 <= size <= MOST_BYTES:
        raise ValueError(f"frozen/{path.name} is {'missing' if size < 0 else f'{size} bytes, too large'}")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError(f"frozen/{path.name} was changed: its content has another digest")
    return unpacked(content)


def unpacked(content: bytes) -> Inputs:
    """The two arrays of an npz file of a stranger.

    Raises:
        ValueError: It holds anything else, or more than its bound.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            if tuple(member.filename for member in members) != MEMBERS:
                raise ValueError(f"found {[member.filename for member in members]}, wanted {list(MEMBERS)}")
            if sum(member.file_size for member in members) > MOST_BYTES:
                raise ValueError("unpacks to more than any set of frozen inputs has")
            features, labels = (_array(archive.read(name)) for name in MEMBERS)
    except UNREADABLE as fault:
        raise ValueError(f"is no file of frozen inputs: {fault}") from fault
    if labels.ndim != 1 or features.ndim < 2 or len(features) != len(labels) or not len(labels):
        raise ValueError(f"found arrays of shape {features.shape} and {labels.shape}, wanted (k, ...) and (k,)")
    return Inputs(features, labels)


def _array(content: bytes) -> np.ndarray:
    """One plain array whose header tells the very number of bytes that follow: nothing larger is ever allocated."""
    stream = io.BytesIO(content)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(stream)
    if version not in readers:
        raise ValueError(f"an array of version {version}")
    shape, _fortran, dtype = readers[version](stream)
    if dtype.hasobject or dtype.kind not in "fiubU":
        raise ValueError(f"an array of {dtype}, wanted numbers or text")
    if math.prod(shape) * dtype.itemsize != len(content) - stream.tell():
        raise ValueError(f"an array of shape {shape} in {len(content)} bytes")
    found: np.ndarray = np.load(io.BytesIO(content), allow_pickle=False)
    return found


def rows_where(where: tuple[Condition, ...], table: pd.DataFrame) -> np.ndarray:
    """(n,) bool, rows that meet all conditions.

    Raises:
        NotApplicable: A column is not there or no quantity.
    """
    refuse_unknown("where", [condition.column for condition in where], table)
    met = np.ones(len(table), dtype=bool)
    for condition in where:
        met &= _meets(condition, table[condition.column])
    return met


def _meets(condition: Condition, column: pd.Series) -> np.ndarray:
    if condition.missing:
        return np.asarray(column.isna().to_numpy(), dtype=bool)
    if condition.equals is not None:
        codes, names = group_values(column)
        if condition.equals not in names:
            return np.zeros(len(column), dtype=bool)
        return np.asarray(codes == names.index(condition.equals), dtype=bool)
    try:
        values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError) as fault:
        raise NotApplicable(f"where: column '{condition.column}' holds no numbers") from fault
    low = -np.inf if condition.above is None else condition.above
    high = np.inf if condition.at_most is None else condition.at_most
    return np.asarray((values > low) & (values <= high), dtype=bool)


def of_group(errors: np.ndarray, met: np.ndarray, seed: int, cases: int, *, shares: bool) -> Measured:
    """Mean error of a group of test rows.

    Args:
        errors: (n,) error of every test row, 0 or 1 or absolute.
        met: (n,) bool, rows of the group.
        seed: Of a bootstrap.
        cases: Number of cases that the lower ends hold for together.
        shares: Whether errors are 0 or 1.

    Returns:
        Value and interval.

    Raises:
        NotApplicable: The group has too few rows for an interval.
    """
    inside = errors[met]
    if len(inside) < (1 if shares else 2):
        raise NotApplicable(f"only {len(inside)} test rows are in this group, too few to measure it")

    def estimate(confidence: float) -> Estimate:
        if shares:
            return clopper_pearson(int(inside.sum()), len(inside), confidence)
        return bootstrap_mean(inside, seed, confidence=confidence)

    ends = "95 % Clopper-Pearson" if shares else "95 % BCa bootstrap"
    return _joint(estimate, cases, len(inside), f"mean error of the test rows of the group; {ends}")


def of_rate(hits: np.ndarray, counted: np.ndarray, met: np.ndarray, cases: int, rate: str) -> Measured:
    """Absolute difference of a rate between a group and all other rows (Newcombe 1998, method 10).

    Args:
        hits: (n,) bool.
        counted: (n,) bool, rows that the rate is about.
        met: (n,) bool, rows of the group.
        cases: Number of cases that the lower ends hold for together.
        rate: Its name.

    Returns:
        Value and interval.

    Raises:
        NotApplicable: No rows inside or outside.
    """
    sides = [(int(hits[counted & side].sum()), int((counted & side).sum())) for side in (met, ~met)]
    if min(n for _hits, n in sides) == 0:
        raise NotApplicable(f"no test row behind {rate} in this group or outside it")

    def estimate(confidence: float) -> Estimate:
        one, two = (wilson(hit, n, confidence) for hit, n in sides)
        gap = one.value - two.value
        low = gap - math.hypot(one.value - one.low, two.high - two.value)
        high = gap + math.hypot(one.high - one.value, two.value - two.low)
        return Estimate(abs(gap), max(0.0, low, -high), min(1.0, max(abs(low), abs(high))))

    method = f"|{rate} of the group - of all other test rows|; 95 % Newcombe limits"
    return _joint(estimate, cases, sides[0][1], method)


def _joint(estimate: Callable[[float], Estimate], cases: int, n: int, method: str) -> Measured:
    """Value and upper end at 95 %, the lower end for all cases together (Bonferroni)."""
    alone, together = estimate(CONFIDENCE), estimate(1 - (1 - CONFIDENCE) / cases)
    return Measured(alone.value, together.low, alone.high, n, method)


def of_inputs(errors: np.ndarray) -> Measured:
    """Mean error on frozen inputs: a fact about these very inputs, which are a sample of nothing."""
    value = float(errors.mean())
    method = "mean error on these very inputs; they were picked for being wrong, so nothing is sampled"
    return Measured(value, value, value, len(errors), method)


def answers_for(subject: Subject, inputs: Inputs) -> np.ndarray:
    """(k,) errors of a model on frozen inputs: 0 or 1, or absolute.

    Raises:
        NotApplicable: The inputs do not fit the model.
    """
    like = subject.splits["test"].features
    if like is None or inputs.features.shape[1:] != like.shape[1:]:
        shape = None if like is None else like.shape[1:]
        raise NotApplicable(f"frozen inputs have shape {inputs.features.shape[1:]}, and the model takes {shape}")
    answers = subject.query(inputs.features)
    if not subject.task.is_classification:
        return np.asarray(np.abs(answers - inputs.labels.astype(np.float64)))
    if unknown := sorted(set(inputs.labels.tolist()) - set(subject.classes)):
        raise NotApplicable(f"frozen inputs belong to a class '{unknown[0]}' that the model does not have")
    right = np.array([subject.classes.index(name) for name in inputs.labels.tolist()])
    return np.asarray(answers != right, dtype=np.float64)
