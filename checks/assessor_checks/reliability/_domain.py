"""The application domain as users declare it, or as training data have it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pydantic import Field, model_validator

from assessor.contract import Frozen, NotApplicable

if TYPE_CHECKING:
    import pandas as pd

    from assessor_checks.reliability._coverage import Feature


class Range(Frozen):
    """A number between two ends."""

    low: float = Field(description="Least value in the domain.")
    high: float = Field(description="Greatest value in the domain.")
    bins: int | None = Field(default=None, ge=1, le=100, description="Equally wide cells; as many as bins without.")

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if not self.low < self.high:
            raise ValueError(f"found {self.low} to {self.high}, wanted the lesser end first")
        return self


class Values(Frozen):
    """A feature with named values."""

    values: tuple[str | float, ...] = Field(min_length=1, description="All values in the domain.")


def features_of(
    domain: Mapping[str, Range | Values] | None,
    columns: tuple[str, ...] | None,
    bins: int,
    table: pd.DataFrame,
    train: pd.DataFrame | None,
) -> tuple[list[Feature], list[str]]:
    """The domain by feature: as declared, or as it is in the training data.

    Args:
        domain: As declared, by column.
        columns: Columns that count, or all.
        bins: Cells of a number.
        table: The rows that are to cover the domain.
        train: The training rows, or None.

    Returns:
        Features and remarks.

    Raises:
        NotApplicable: A column is unknown or holds no numbers, or there is no domain.
    """
    from assessor_checks.reliability import _columns, _coverage

    _columns.refuse_unknown("columns", columns or (), table)
    if domain is None:
        if train is None:
            raise NotApplicable(
                "no domain was declared, and there are no training data to take it from; set domain, such as "
                "{age: {low: 18, high: 90}, site: {values: [A, B]}}"
            )
        shared = [str(name) for name in table.columns if name in train.columns]
        wanted = shared if columns is None else [name for name in columns if name in shared]
        learned = {name: _coverage.learned(name, train[name], bins) for name in wanted}
        remarks = ["No domain was declared: the values in the training data stand for it."]
        left = [name for name, feature in learned.items() if feature is None]
        if left:
            remarks.append(f"Left out, since they have one value or too many: {', '.join(left)}.")
        return [feature for feature in learned.values() if feature is not None], remarks
    _columns.refuse_unknown("domain", domain, table)
    kept = [name for name in domain if columns is None or name in columns]
    features = [_declared(name, domain[name], table[name], bins) for name in kept]
    others = [str(name) for name in table.columns if name not in kept]
    remarks = [f"Columns without a declared domain do not count: {', '.join(others)}."] if others else []
    return features, remarks


def _declared(name: str, domain: Range | Values, column: pd.Series, bins: int) -> Feature:
    import pandas as pd

    from assessor_checks.reliability import _coverage

    if isinstance(domain, Values):
        return _coverage.of_values(name, domain.values)
    if not pd.api.types.is_numeric_dtype(column.dropna().infer_objects().dtype):
        raise NotApplicable(f"domain: column '{name}' holds no numbers, so give its values instead of a range")
    return _coverage.in_range(name, domain.low, domain.high, domain.bins or bins)


def ruled_out(combination: Mapping[str, str | float], features: Sequence[Feature]) -> dict[int, int]:
    """Cells of an impossible combination by the number of the feature.

    Args:
        combination: Values or names of cells by column.
        features: The domain.

    Returns:
        Number of the cell by number of the feature.

    Raises:
        NotApplicable: A column does not count, or a value lies in no cell.
    """
    import pandas as pd

    from assessor_checks.reliability import _coverage

    names, found = [feature.name for feature in features], {}
    for name, value in combination.items():
        if name not in names:
            raise NotApplicable(f"impossible: '{name}' is none of the columns that count: {', '.join(names)}")
        feature = features[names.index(name)]
        cell = feature.cells.index(value) if value in feature.cells else int(feature.codes(pd.Series([value]))[0])
        if cell == _coverage.OUTSIDE:
            shown = f"{value:g}" if isinstance(value, float) else value
            raise NotApplicable(f"impossible: {name} = {shown} lies in no cell of {name}: {', '.join(feature.cells)}")
        found[names.index(name)] = cell
    return found
