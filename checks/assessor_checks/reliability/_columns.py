"""What is known of each row of a split, as one table: its features, where these are columns, and its attributes."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

import pandas as pd

from assessor.contract import NotApplicable, Split


def table_of(split: Split) -> pd.DataFrame | None:
    """Features and attributes side by side, an attribute before a feature of the same name.

    Args:
        split: Its features count where they are (n, d).

    Returns:
        (n, k) named columns, unnamed features as "#3"; None where there are none.
    """
    parts = []
    if split.attributes is not None:
        parts.append(split.attributes.rename(columns=str).reset_index(drop=True))
    if split.features is not None and split.features.ndim == 2:
        names = split.feature_names or tuple(f"#{place}" for place in range(split.features.shape[1]))
        parts.append(pd.DataFrame(split.features, columns=list(names)))
    if not parts:
        return None
    table = pd.concat(parts, axis=1)
    return table.loc[:, ~table.columns.duplicated()]


def refuse_unknown(field: str, wanted: Iterable[str], table: pd.DataFrame) -> None:
    """Refuse names that are no columns.

    Args:
        field: Name of the parameter, for the message.
        wanted: Names.
        table: The columns there are.

    Raises:
        NotApplicable: A name is none of them; the message gives the nearest.
    """
    known = [str(name) for name in table.columns]
    for name in wanted:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            if near:
                raise NotApplicable(f"{field}: no column '{name}'; did you mean '{near[0]}'?")
            raise NotApplicable(f"{field}: no column '{name}'; found {', '.join(known)}")
