"""All that the author of a check must read: what a check is given, and what it gives back.

A check is a module with `INFO`, `Params`, a pure `measure(subject, params, seed)` and `CHECK`.
It measures and never judges: the target comes from the user, the engine compares.
`checks/README.md` shows the seven steps.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Protocol, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, model_validator

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import torch
    from matplotlib.axes import Axes


class NotApplicable(Exception):  # noqa: N818 - not an error: an outcome with its reason
    """Raised by a check that cannot measure this subject; its message is the outcome's sentence."""


class Task(StrEnum):
    """What the assessed model does."""

    BINARY = "binary"
    MULTICLASS = "multiclass"
    REGRESSION = "regression"

    @property
    def is_classification(self) -> bool:
        """Whether the model chooses among classes."""
        return self is not Task.REGRESSION


class Need(StrEnum):
    """What a check needs of a subject; the engine refuses the check when it is not offered."""

    TEST = "test"
    TRAIN = "train"
    PROBABILITIES = "probabilities"
    SENSITIVE = "sensitive"
    QUERY = "query"
    GRADIENTS = "gradients"
    BASELINE = "baseline"
    DESIGN = "design"
    ARCHITECTURE = "architecture"
    REFIT = "refit"
    OOD = "ood"
    PRODUCTION = "production"
    FILES = "files"
    DEPENDENCIES = "dependencies"
    RELOAD = "reload"


class Better(StrEnum):
    """Which direction of a metric is the good one."""

    HIGHER = "higher"
    LOWER = "lower"
    NONE = "none"


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError(f"found {value}, wanted a finite number")
    return value


MAX_INTEGER = 2**53 - 1  # what JSON holds exactly everywhere (RFC 7493 section 2.2); canonical JSON refuses more

Number = Annotated[float, AfterValidator(_finite)]
Integer = Annotated[int, Field(ge=-MAX_INTEGER, le=MAX_INTEGER)]


def _rising(ends: tuple[float, float]) -> tuple[float, float]:
    if not ends[0] < ends[1]:
        raise ValueError(f"found {ends[0]:g} to {ends[1]:g}, wanted the least value, then the greatest")
    return ends


Bounds = Annotated[tuple[Number, Number], AfterValidator(_rising)]
Cell = str | bool | Integer | Number | None


class Frozen(BaseModel):
    """Base of every value that is written to disk: immutable, no unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Params(Frozen):
    """Base of a check's parameters: what the user may set, with defaults and bounds; all numbers are finite."""

    model_config = ConfigDict(allow_inf_nan=False)


class Metric(Frozen):
    """One number with its interval.

    Attributes:
        name: Field's standard name, snake_case; what a target refers to.
        value: Point estimate, in `unit`.
        low: Lower end of the interval at `confidence`; None when none can be given.
        high: Upper end of the interval.
        confidence: Coverage the interval aims at, for instance 0.95.
        unit: "1" for a pure number or share, else the unit in words.
        n: Number of samples behind the value.
        better: Which direction is good.
        method: How value and interval were got.
        primary: Whether a target without a named metric means this one.
    """

    name: str
    value: Number
    low: Number | None = None
    high: Number | None = None
    confidence: float | None = Field(default=None, gt=0, lt=1)
    unit: str = "1"
    n: int = Field(ge=0)
    better: Better
    method: str
    primary: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Metric:
        if (self.low is None) != (self.high is None):
            raise ValueError(f"{self.name}: an interval needs both ends")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"{self.name}: low {self.low} lies above high {self.high}")
        return self


class Series(Frozen):
    """Columns of equal length, made to be plotted: a curve, a distribution."""

    name: str
    title: str
    columns: Mapping[str, tuple[Number | None, ...]]

    @model_validator(mode="after")
    def _equal_lengths(self) -> Series:
        if len({len(column) for column in self.columns.values()}) > 1:
            raise ValueError(f"series {self.name}: columns differ in length")
        return self

    @property
    def arrays(self) -> Mapping[str, np.ndarray]:
        """The columns as float64, NaN where there is no value: what a plot takes."""
        import numpy as np

        return {name: np.array(column, dtype=np.float64) for name, column in self.columns.items()}


class Table(Frozen):
    """A small table of findings, one tuple a row."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


class Document(Frozen):
    """What a measurement found, in the words of another standard: stored with the result, written by export.

    Attributes:
        name: File name to write it under.
        standard: Which standard, as `assessor export --format` calls it.
        content: JSON of that standard.
    """

    name: str
    standard: str
    content: Mapping[str, JsonValue]


MOST_OUTCOMES = 1_000_000


class Outcomes(Frozen):
    """What a metric is the mean of, row by row, 1 or 0: a later result on the same rows is compared row by row.

    Attributes:
        metric: Name of the metric.
        rows: Digest of the rows, in order: of their split and of which were taken from it.
        n: How many rows.
        bits: Base64 of the outcomes, eight a byte, the first row in the highest bit.
    """

    metric: str
    rows: str = Field(pattern="^[0-9a-f]{64}$")
    n: int = Field(ge=1, le=MOST_OUTCOMES)
    bits: str

    @model_validator(mode="after")
    def _whole(self) -> Outcomes:
        try:
            found = base64.b64decode(self.bits, validate=True)
        except ValueError as fault:
            raise ValueError(f"outcomes of {self.metric}: not Base64: {fault}") from fault
        if len(found) != (self.n + 7) // 8 or int.from_bytes(found) & ((1 << -self.n % 8) - 1):
            raise ValueError(f"outcomes of {self.metric}: found {len(found)} bytes, wanted those of {self.n} rows")
        return self

    @property
    def number(self) -> int:
        """The bits as one number, the last row's followed by zeros up to a whole byte."""
        return int.from_bytes(base64.b64decode(self.bits))

    @staticmethod
    def of(metric: str, hits: np.ndarray, split: Split, rows: np.ndarray | None = None) -> tuple[Outcomes, ...]:
        """The outcomes of some rows, as `Result` takes them; none, with a remark, where there are too many.

        Args:
            metric: Name of the metric that is their mean.
            hits: (n,) bool.
            split: Where the rows are from.
            rows: (n,) their positions there; None for all.

        Returns:
            One, or none.
        """
        import numpy as np

        if len(hits) > MOST_OUTCOMES:
            remark(f"Outcomes of single rows are not kept: there are more than {MOST_OUTCOMES:,} rows.")
            return ()
        taken = b"" if rows is None else np.asarray(rows, dtype="<i8").tobytes()
        digest = hashlib.sha256(split.rows_sha256.encode() + taken).hexdigest()
        bits = base64.b64encode(np.packbits(np.asarray(hits, dtype=bool)).tobytes()).decode()
        return (Outcomes(metric=metric, rows=digest, n=len(hits), bits=bits),)


def refuse_other_outcomes(metrics: Sequence[Metric], outcomes: Sequence[Outcomes]) -> None:
    """Refuse outcomes whose mean is not the metric that they name.

    Raises:
        ValueError: That is so.
    """
    by_name = {metric.name: metric for metric in metrics}
    for item in outcomes:
        metric, share = by_name.get(item.metric), item.number.bit_count() / item.n
        if metric is None or metric.n != item.n or not math.isclose(metric.value, share, abs_tol=1e-9):
            raise ValueError(f"outcomes of {item.metric}: their mean is {share:g} of {item.n} rows, not that metric")


class Result(Frozen):
    """What `measure` returns: numbers and what must be said beside them, no verdict.

    Attributes:
        metrics: At least one; at most one is primary.
        series: Data of the plot.
        tables: Findings by group, class or layer.
        remarks: Facts of this run a reader must know (groups too small, columns held fixed).
        documents: The findings in other standards' words, for other tools.
        outcomes: Row by row, of metrics that are shares of rows; see `Outcomes.of`.
        doubt: Why these numbers must not be judged, or None; turns any verdict inconclusive.
        danger: Why the model should not be loaded, or None; only from checks of its files, which run before that.
    """

    metrics: tuple[Metric, ...] = Field(min_length=1)
    series: tuple[Series, ...] = ()
    tables: tuple[Table, ...] = ()
    remarks: tuple[str, ...] = ()
    documents: tuple[Document, ...] = ()
    outcomes: tuple[Outcomes, ...] = ()
    doubt: str | None = None
    danger: str | None = None

    @model_validator(mode="after")
    def _names(self) -> Result:
        names = [metric.name for metric in self.metrics]
        if len(set(names)) < len(names):
            raise ValueError(f"metric names repeat: {names}")
        if sum(metric.primary for metric in self.metrics) > 1:
            raise ValueError("more than one primary metric")
        refuse_other_outcomes(self.metrics, self.outcomes)
        return self

    def metric(self, name: str) -> Metric:
        """The metric of that name.

        Raises:
            KeyError: No metric has this name.
        """
        for metric in self.metrics:
            if metric.name == name:
                return metric
        raise KeyError(name)


class Sample(Frozen):
    """How the rows of a split were drawn from more, each with the same probability.

    Attributes:
        of: Rows there were.
        design: "simple", or "stratified" with numbers of rows in proportion to the strata.
        by: Column of the strata.
        strata: How many there are.
        seed: Of the draw.
    """

    of: int
    design: str
    by: str | None = None
    strata: int = 0
    seed: int = 0

    def told(self, n: int) -> str:
        """In words, for a sample of n rows.

        >>> Sample(of=1_203_441, design="stratified", by="label", strata=2).told(5_000)
        "5,000 of 1,203,441 rows, drawn in proportion from 2 strata by 'label'"
        """
        drawn = f"drawn in proportion from {self.strata} strata by '{self.by}'" if self.by else "drawn at random"
        return f"{n:,} of {self.of:,} rows, {drawn}"


@dataclass(frozen=True, eq=False)
class Split:
    """One part of the data, rows in the order they were loaded.

    Attributes:
        name: "train", "test", "design", "ood" or "production".
        labels: (n,) int64 index into `Subject.classes`, or float64 for regression. For "design" always float64, the
            value of the design parameter at which the row was taken; for "ood" and "production" float64 NaN where no
            labels are known.
        sha256: Digest of features, labels and attributes.
        features: (n, ...) as the model takes them; None for a table of predictions.
        feature_names: Column names of a table of features, else empty.
        attributes: (n, k) sensitive attributes, one column each; None when none were named.
        sample: How its rows were drawn from more; None where they are all.
    """

    name: str
    labels: np.ndarray
    sha256: str
    features: np.ndarray | None = None
    feature_names: tuple[str, ...] = ()
    attributes: pd.DataFrame | None = None
    sample: Sample | None = None

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.labels)

    @property
    def rows_sha256(self) -> str:
        """Digest of the rows alone: without what a model said of them, where that is in `sha256`."""
        return self.sha256

    @property
    def sensitive(self) -> tuple[str, ...]:
        """Names of the sensitive attributes; none where none were named."""
        return () if self.attributes is None else tuple(map(str, self.attributes.columns))


class Part(NamedTuple):
    """Some rows of a split with what the model says of them.

    Attributes:
        labels: (n,) as `Split.labels` has them.
        predictions: (n,) as `Subject.predictions` gives them.
        attributes: (n, k) sensitive attributes; None when none were named.
    """

    labels: np.ndarray
    predictions: np.ndarray
    attributes: pd.DataFrame | None


class Inputs(Protocol):
    """Inputs of a module, row by row: a tensor, or rows that stay in a file until they are looked at."""

    def __len__(self) -> int:
        """Number of rows."""
        ...

    def __getitem__(self, rows: Any, /) -> torch.Tensor:
        """A slice of the rows, or those at some positions (k,), as a tensor (k, ...)."""
        ...


Scores = Callable[["np.ndarray"], "np.ndarray"]
"""Features (n, ...) to (n, C) float64 class probabilities, or (n,) float64 predicted values for regression."""


@dataclass(frozen=True, eq=False)
class Origin:
    """Where a subject comes from.

    Attributes:
        files: Files that hold the model, by the name in assessor.yaml (target.model.files).
        dependencies: Contents of the files that list its packages, by name (target.dependencies).
        revision: Commit of the repository that the assessment folder is in; None without one.
        modified: Whether files that git knows there were changed since; None without a commit.
        reload: Loads model and data once more, from scratch.
        trusted: Whether it was loaded in a way that can run code of its files, because the user said --trust.
        folder: The assessment folder, for files that parameters name by their digest; None without one.
    """

    files: Mapping[str, Path] = field(default_factory=dict)
    dependencies: Mapping[str, str] = field(default_factory=dict)
    revision: str | None = None
    modified: bool | None = None
    reload: Callable[[], Subject] | None = None
    trusted: bool = False
    folder: Path | None = None


UNKNOWN = Origin()
"""Of a subject that was made in a notebook or a test."""


class Subject(Protocol):
    """What is assessed: a model with its data, or a table of its predictions.

    Models are in eval mode on `device`; every method is deterministic.
    """

    @property
    def task(self) -> Task:
        """What the model does."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in index order; empty for regression. A binary task's positive class is the last."""
        ...

    @property
    def device(self) -> str:
        """Torch's name of the device, for instance "cpu" or "cuda:0"."""
        ...

    @property
    def splits(self) -> Mapping[str, Split]:
        """The data by name: always "test", perhaps "train", "design", "ood" and "production".

        Design: repeated inputs at known parameters; ood: from outside the field of use; production: met in use.
        """
        ...

    @property
    def origin(self) -> Origin:
        """Where it comes from."""
        ...

    @property
    def offers(self) -> frozenset[Need]:
        """What checks may ask of this subject."""
        ...

    def scores(self, split: str) -> np.ndarray:
        """(n, C) float64 class probabilities, or (n,) float64 predicted values for regression.

        Raises:
            NotApplicable: Only hard predictions are known.
        """
        ...

    def predictions(self, split: str) -> np.ndarray:
        """(n,) int64 predicted class index, or float64 predicted value."""
        ...

    def parts(self, split: str) -> Iterator[Part]:
        """The rows of a split with their predictions, in order, in parts that fit into memory.

        For checks that add up over rows: a split that is too long to be held is read part by part, at every call anew.
        """
        ...

    def query(self, features: np.ndarray) -> np.ndarray:
        """Predictions, as `predictions` gives them, for new inputs (n, ...).

        Raises:
            NotApplicable: The model itself is not at hand.
        """
        ...

    def query_scores(self, features: np.ndarray) -> np.ndarray:
        """Scores, as `scores` gives them, for new inputs (n, ...); rows the model gives no finite output for are NaN.

        Raises:
            NotApplicable: The model itself is not at hand, or gives only hard predictions.
        """
        ...

    def refit(self, rows: np.ndarray, seed: int, labels: np.ndarray | None = None) -> Scores:
        """Train the same kind of model anew on some rows of the train split.

        Args:
            rows: (k,) positions in the train split.
            seed: Of all randomness of the training.
            labels: (k,) other labels for these rows, as `Split.labels` has them; None for their own.

        Returns:
            The new model's scores for new inputs.

        Raises:
            NotApplicable: Nobody said how it is trained.
        """
        ...

    @property
    def module(self) -> torch.nn.Module:
        """The PyTorch module itself.

        Raises:
            NotApplicable: The subject is not a PyTorch module.
        """
        ...

    def logits(self, inputs: torch.Tensor) -> torch.Tensor:
        """(n, C) logits of the module, differentiable in `inputs`; a single sigmoid output z gives (0, z).

        For regression the (n,) output. `inputs` are (n, ...) on `device`, in the module's dtype.

        Raises:
            NotApplicable: The subject is not a PyTorch module.
        """
        ...

    def tensors(self, split: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs (n, ...) in the module's dtype and labels (n,) of a split, on `device`.

        Raises:
            NotApplicable: The subject is not a PyTorch module.
        """
        ...

    def inputs(self, split: str) -> Inputs:
        """Inputs as `tensors` gives them, for what reads them batch by batch and never holds all.

        Raises:
            NotApplicable: The subject is not a PyTorch module.
        """
        ...

    @property
    def baseline(self) -> Subject:
        """The model to compare with, an earlier release for instance: a PyTorch module on the same task and data.

        Raises:
            NotApplicable: None was named.
        """
        ...

    def new_module(self) -> torch.nn.Module:
        """A new, untrained module of the subject's architecture, in train mode, on `device`, freshly initialised.

        Its parameters are drawn from torch's global generator: seed it first.

        Raises:
            NotApplicable: Nobody said how one is built.
        """
        ...


def whole_split(subject: Subject, name: str) -> Iterator[Part]:
    """A split that is held, as one part: what `Subject.parts` gives for it."""
    split = subject.splits[name]
    yield Part(split.labels, subject.predictions(name), split.attributes)


Pass = Literal["forward", "backward"]
"""What a batch of rows is put through: the model, or the model and back to the gradient in its inputs."""


@dataclass(frozen=True)
class Lent:
    """What an engine lends a running measurement.

    Attributes:
        progress: Told what is done, how many are done, of how many.
        find: A kept value by key, or None.
        keep: Keeps a value under a key for a later run.
        spread: Does independent work for several workers at a time; None where there is one.
        rows: How many rows the model takes at once on its GPU, or None where that is not known; None on the CPU.
        note: Told where other batches are taken than were asked for: why, and of how many rows; None for nobody.
    """

    progress: Callable[[str, int, int], None]
    find: Callable[[JsonValue], JsonValue]
    keep: Callable[[JsonValue, JsonValue], None]
    spread: Callable[[Callable[[Any], Any], Sequence[Any]], list[Any]] | None = None
    rows: Callable[[Pass], int | None] | None = None
    note: Callable[[str, int], None] | None = None


T = TypeVar("T")
R = TypeVar("R")

_lent: ContextVar[Lent | None] = ContextVar("lent", default=None)


@contextmanager
def lending(lent: Lent) -> Iterator[None]:
    """Lend a measurement a progress display and a store; engines call it, checks do not."""
    token = _lent.set(lent)
    try:
        yield
    finally:
        _lent.reset(token)


def progress(what: str, done: int, total: int) -> None:
    """Tell whoever watches how far a long measurement is; without an engine nobody does."""
    if lent := _lent.get():
        lent.progress(what, done, total)


def kept(key: JsonValue, compute: Callable[[], JsonValue]) -> JsonValue:
    """`compute()`, or what it gave under this key in an earlier run: a killed run goes on where it stopped.

    Keys count within one check, its code, model and data. Without an engine it always computes.

    Args:
        key: All that the value depends on besides code, model and data: seeds and parameters.
        compute: Gives plain data: numbers, texts, lists, mappings.

    Returns:
        The value.
    """
    lent = _lent.get()
    found = lent.find(key) if lent else None
    if found is None:
        found = compute()
        if lent:
            lent.keep(key, found)
    return found


def spread(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """`[work(item) for item in items]`, by several workers where an engine has them; in order, so that sums are equal.

    Args:
        work: A function of a module, or a partial of one, for it is sent as such; the subject may be among its
            arguments. It draws from no global generator, and nothing that it changes is seen here.
        items: What it is done for, one independent of the other; few that take long, for each is sent.

    Returns:
        What it gave.
    """
    lent = _lent.get()
    if lent is None or lent.spread is None or len(items) < 2:
        return [work(item) for item in items]
    return lent.spread(work, items)


_held: ContextVar[Callable[[], int] | None] = ContextVar("held", default=None)


@contextmanager
def metering(held: Callable[[], int]) -> Iterator[None]:
    """Lend a measurement what tells its memory; engines call it, checks do not."""
    token = _held.set(held)
    try:
        yield
    finally:
        _held.reset(token)


def memory_held() -> int | None:
    """Most bytes held since the measurement began, by all processes that the model is in; None without an engine.

    On a GPU what is allocated there; where the system cannot forget an earlier peak (other than Linux), the most ever.
    """
    held = _held.get()
    return None if held is None else held()


_remarks: ContextVar[list[str] | None] = ContextVar("remarks", default=None)


@contextmanager
def collecting() -> Iterator[list[str]]:
    """Collect what is remarked meanwhile; engines call it, checks do not."""
    remarks: list[str] = []
    token = _remarks.set(remarks)
    try:
        yield remarks
    finally:
        _remarks.reset(token)


def remark(text: str) -> None:
    """Say something of this run that a reader of its result must know, from deep inside a measurement."""
    found = _remarks.get()
    if found is not None and text not in found:
        found.append(text)


def batch_rows(size: int, n: int, work: Pass) -> int:
    """Rows a batch for n rows: `size`, or on a GPU what an engine found there by trial, which is remarked.

    Args:
        size: Rows a batch on the CPU, always.
        n: How many rows there are.
        work: What they are put through.

    Returns:
        Rows, at least 1.
    """
    lent = _lent.get()
    found = lent.rows(work) if lent and lent.rows and n > size else None
    if found is None:
        return size
    remark(f"The model was run on batches of {found} rows: as many as pay on this GPU, found by trial.")
    _note("batches by trial", found)
    return found


def in_batches(
    function: Callable[..., torch.Tensor], *tensors: Inputs, size: int, work: Pass | None = None
) -> torch.Tensor:
    """`function` on batches of rows, concatenated; where the device runs out of memory, on batches half as large.

    Args:
        function: Takes one batch of each tensor, gives one row a row.
        tensors: (n, ...) each, n at least 1.
        size: Rows a batch to begin with.
        work: What the function puts a batch through, so that a GPU may take more rows or fewer; None keeps to `size`.

    Returns:
        (n, ...) what the batches gave.

    Raises:
        OutOfMemoryError: A single row is too much for the device.
    """
    import torch

    n, start, parts = len(tensors[0]), 0, []
    wanted = size = batch_rows(size, n, work) if work else size
    while start < n:
        try:
            parts.append(function(*(tensor[start : start + size] for tensor in tensors)))
        except torch.OutOfMemoryError as full:
            size = halved(min(size, n - start), full)
        else:
            start += size
    if size < wanted:
        remark_batches(size)
    return torch.cat(parts)


def halved(rows: int, full: Exception) -> int:
    """How many rows to try next, half as many, where the device ran out of memory with these.

    Raises:
        OutOfMemoryError: `full`, when a single row is too much for the device.
    """
    import torch

    if rows == 1:
        raise full
    torch.cuda.empty_cache()
    return (rows + 1) // 2


def remark_batches(rows: int) -> None:
    """Say in the result that the model was run on smaller batches than it was meant to."""
    remark(f"The device ran out of memory; the model was run on batches of {rows} rows instead.")
    _note("batches halved", rows)


def _note(why: str, rows: int) -> None:
    if (lent := _lent.get()) and lent.note:
        lent.note(why, rows)


class CheckInfo(Frozen):
    """What a check is, in words; every field is shown to users.

    Attributes:
        id: "area.name": also its path, its test's name and its anchor in the documentation.
        version: Changes whenever the same input may give another number.
        title: Wording for a report, without a full stop.
        measures: What is measured, one to three sentences.
        unit: Unit of the primary metric.
        needs: What a subject must offer.
        tasks: Tasks it can measure.
        limits: What a good value does not show.
        remedy: What to do about a bad value.
        remedy_code: A few lines of Python that do it, or nothing.
        source: Paper with equation number, or standard.
        requirements: Catalog ids it is evidence for.
        instead: Checks that ask something alike of subjects that this one cannot measure.
        repeatable: Whether the same inputs give the same numbers; not where time is measured.
        mixed: Whether it may search in mixed precision (its parameter `precision`), because what it says of a row is
            decided in full precision; never where the numbers themselves would be others.
        spreads: Whether it hands parts of its work to other workers (`spread`).
    """

    id: str = Field(pattern=r"^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$")
    version: str
    title: str
    measures: str
    unit: str
    needs: frozenset[Need]
    tasks: frozenset[Task]
    limits: tuple[str, ...] = Field(min_length=1)
    remedy: str
    remedy_code: str = ""
    source: str
    requirements: tuple[str, ...]
    instead: tuple[str, ...] = ()
    repeatable: bool = True
    mixed: bool = False
    spreads: bool = False


class Condition(Frozen):
    """A condition on one column of a split: a range of numbers, one value, or that the value is missing.

    Attributes:
        column: A feature or an attribute; unnamed features are "#3", counted from 0.
        above: Numbers greater than this.
        at_most: Numbers of at most this.
        equals: The value as text.
        missing: Whether the value is missing.
    """

    column: str = Field(min_length=1)
    above: Number | None = None
    at_most: Number | None = None
    equals: str | None = None
    missing: bool = False

    @model_validator(mode="after")
    def _one_kind(self) -> Condition:
        kinds = [self.above is not None or self.at_most is not None, self.equals is not None, self.missing]
        if sum(kinds) != 1:
            raise ValueError("wanted one of above and at_most, equals, or missing")
        return self

    @property
    def told(self) -> str:
        """In words and signs.

        >>> Condition(column="age", above=40, at_most=60).told
        '40 < age <= 60'
        """
        if self.missing:
            return f"{self.column} is missing"
        if self.equals is not None:
            return f"{self.column} = {self.equals}"
        if self.above is None:
            return f"{self.column} <= {self.at_most:g}"
        return (
            f"{self.column} > {self.above:g}"
            if self.at_most is None
            else f"{self.above:g} < {self.column} <= {self.at_most:g}"
        )


@dataclass(frozen=True, eq=False)
class Weakness:
    """What a check found a model to be bad at, so that later models can be put to it.

    Attributes:
        told: What it is, in one sentence.
        where: Conditions that tell a group of test rows; else there are inputs.
        compared: Rate in which the group differs from all other rows; None where the group's error itself is meant.
        positive: Class that is the favourable decision, where the rate needs one.
        features: (k, ...) inputs that the model gets wrong, as it takes them.
        labels: (k,) what is right for them, as `Split.labels` has it.
    """

    told: str
    where: tuple[Condition, ...] = ()
    compared: str | None = None
    positive: str | None = None
    features: np.ndarray | None = None
    labels: np.ndarray | None = None


REGRESSION_CHECK = "reliability.frozen_weakness"
"""The check that measures what was frozen; its parameters hold the cases."""


@dataclass(frozen=True)
class Check:
    """A check as the engine sees it; what the entry point group `assessor.checks` offers.

    Attributes:
        info: What it is.
        params: Class of its parameters.
        measure: Pure: no files, no clock, no global seed, no threshold.
        plot: Draws the result on matplotlib axes, or None.
        weakness: Finds the worst of what `measure` found once more, to be frozen; pure as `measure`; or None.
        rows: How many rows `measure` asks the model for at most, a gradient counting three times; for plans; None, or
            gives None, where that is not known.
    """

    info: CheckInfo
    params: type[Params]
    measure: Callable[[Subject, Any, int], Result]
    plot: Callable[[Result, Axes], None] | None = field(default=None)
    weakness: Callable[[Subject, Any, int], Weakness] | None = field(default=None)
    rows: Callable[[Subject, Any], int | None] | None = field(default=None)

    @property
    def id(self) -> str:
        """The check's id."""
        return self.info.id

    def params_schema(self) -> dict[str, JsonValue]:
        """JSON Schema of the parameters."""
        return self.params.model_json_schema()
