"""Where data are, which columns mean what, what they must hold, and which rows are drawn."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator

from assessor.contract import MAX_INTEGER, Frozen, Number
from assessor.model.sources import Callable_, Variable
from assessor.model.words import Text

SOURCES = ("load", "file", "images", "dataset", "sql")
"""Fields that say where a split is; a split has one."""

Side = Annotated[int, Field(ge=1, le=4096)]
Scale = Annotated[Number, Field(gt=0)]
_WRITES_NOTHING = re.compile(r"\s*(select|with|values)\b", re.IGNORECASE)


class PixelsSpec(Frozen):
    """How images become numbers: RGB or grey, scaled to [0, 1], then (value - mean) / std by channel.

    Attributes:
        size: Height and width that images are resized to (bilinear); by default all must have one size.
        channels: 3 for RGB, 1 for grey.
        mean: Taken off each channel.
        std: What each channel is then divided by.
    """

    size: tuple[Side, Side] | None = None
    channels: Literal[1, 3] = 3
    mean: tuple[Number, ...] = ()
    std: tuple[Scale, ...] = ()

    @model_validator(mode="after")
    def _one_a_channel(self) -> PixelsSpec:
        for name, given in (("mean", self.mean), ("std", self.std)):
            if len(given) not in {0, self.channels}:
                raise ValueError(f"{name}: found {len(given)} numbers, wanted one a channel: {self.channels}")
        return self


class SqlSpec(Frozen):
    """A query of a database that SQLAlchemy reaches.

    Attributes:
        url_env: Name of the environment variable that holds the database's URL: secrets stay out of files.
        query: One SELECT with an ORDER BY over a unique key, so that the rows come in one order.
    """

    url_env: Variable
    query: Text

    @model_validator(mode="after")
    def _reads_in_order(self) -> SqlSpec:
        if not _WRITES_NOTHING.match(self.query):
            raise ValueError("query: wanted one SELECT; data are only read")
        if ";" in self.query.rstrip().removesuffix(";"):
            raise ValueError("query: found ';' inside, wanted one statement")
        if not re.search(r"\border\s+by\b[^()]*(\([^()]*\)[^()]*)*$", self.query, re.IGNORECASE):
            raise ValueError("query: wanted ORDER BY a unique key at the end, since the digest depends on the order")
        return self


class SampleSpec(Frozen):
    """A random sample of rows, each row having the same chance to be in it.

    Attributes:
        n: Rows to draw; all where there are no more.
        design: "simple", or "stratified": as many of each stratum as is its share of all rows, to the next row.
        by: Column of the strata.
        seed: Of the draw.
    """

    n: int = Field(ge=1, le=MAX_INTEGER)
    design: Literal["simple", "stratified", "cluster"] = "simple"
    by: str | None = None
    seed: int = Field(default=0, ge=0, le=MAX_INTEGER)

    @model_validator(mode="after")
    def _design(self) -> SampleSpec:
        if self.design == "cluster":
            raise ValueError(
                "design: found 'cluster', but checks take rows as independent, and their intervals would be too "
                "narrow; wanted simple or stratified"
            )
        if (self.by is not None) != (self.design == "stratified"):
            raise ValueError("by: wanted the column of the strata with design: stratified, and only there")
        return self


class ColumnSpec(Frozen):
    """What every value of a column must be.

    Attributes:
        type: Its kind; "number" takes integers too.
        min: Least number.
        max: Greatest number.
        allowed: All values that may occur, compared as texts.
        missing: "never" where no value may be missing.
    """

    type: Literal["integer", "number", "boolean", "text"] | None = None
    min: Number | None = None
    max: Number | None = None
    allowed: tuple[str | bool | int | Number, ...] | None = Field(default=None, min_length=1)
    missing: Literal["never", "allowed"] = "allowed"


class DataSpec(Frozen):
    """Where one split is, and which columns mean what.

    Attributes:
        load: `module:callable` giving (X, y), (X, y, attributes), a DataFrame or a torch Dataset.
        file: csv (.csv, .csv.gz), parquet, Arrow or Feather, or numpy (.npz, .npy), relative to the assessment folder.
        images: A folder of PNG or JPEG images with a folder for each class, or a csv with a column `path`, relative to
            the csv.
        dataset: A folder that Hugging Face's `save_to_disk` wrote.
        sql: A query of a database.
        pixels: How images become numbers.
        columns: Our name of a column to its name in the source.
        label: Column of true labels.
        features: Columns of features; default all others.
        sensitive: Columns of sensitive attributes.
        prediction: Column of predicted labels, for a table of predictions.
        score: Column of the positive class's probability, or one column a class in order.
        expect: What columns must hold; data that do not are refused.
        sample: Rows to draw; default all.
    """

    load: Callable_ | None = None
    file: str | None = None
    images: str | None = None
    dataset: str | None = None
    sql: SqlSpec | None = None
    pixels: PixelsSpec = PixelsSpec()
    columns: Mapping[str, str] = Field(default_factory=dict)
    label: str | None = None
    features: tuple[str, ...] | None = None
    sensitive: tuple[str, ...] = ()
    prediction: str | None = None
    score: str | tuple[str, ...] | None = None
    expect: Mapping[str, ColumnSpec] = Field(default_factory=dict)
    sample: SampleSpec | None = None

    @model_validator(mode="after")
    def _one(self) -> DataSpec:
        found = [name for name in SOURCES if getattr(self, name) is not None]
        if len(found) > 1:
            raise ValueError(f"found both {' and '.join(found)}, wanted one")
        if len(set(self.columns.values())) < len(self.columns):
            raise ValueError("columns: two names for one column")
        return self

    @property
    def named_paths(self) -> tuple[str, ...]:
        """Callables, files and folders that are read."""
        return tuple(name for name in (self.load, self.file, self.images, self.dataset) if name is not None)


class Data(Frozen):
    """The splits.

    Attributes:
        train: What the model was trained on.
        test: What it is judged on.
        design: Repeated inputs at known values of one parameter (an angle, a contrast, a dose), which is the label.
        ood: Inputs from outside the field of use; labels are not needed.
        production: Inputs met in use; labels are not needed.
    """

    train: DataSpec | None = None
    test: DataSpec
    design: DataSpec | None = None
    ood: DataSpec | None = None
    production: DataSpec | None = None
