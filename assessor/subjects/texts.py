"""Texts as inputs: a column of them, and prompts around them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from assessor.errors import UsageError
from assessor.model import DataSpec, TargetSpec
from assessor.subjects.data import RawSplit
from assessor.subjects.loading import call_user


def with_texts(raws: Mapping[str, RawSplit], specs: Mapping[str, DataSpec | None], folder: Path) -> dict[str, RawSplit]:
    """Splits whose features are texts, (n,) objects.

    Args:
        raws: Data by split, as loaded.
        specs: `target.data` by split.
        folder: The assessment folder.

    Returns:
        The splits.

    Raises:
        UsageError: There is not exactly one column of texts.
    """
    return {
        name: replace(raw, features=_texts(raw, specs[name], folder), feature_names=()) for name, raw in raws.items()
    }


def _texts(raw: RawSplit, spec: DataSpec | None, folder: Path) -> np.ndarray:
    assert spec is not None
    found = raw.features if raw.features is not None else _column(raw, spec, folder)
    found = found.reshape(len(found), -1)
    if found.shape[1] != 1:
        raise UsageError(
            f"{raw.where}: wanted one text a row, found {found.shape[1]} values; name the column under features:"
        )
    texts = found[:, 0].astype(object)
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise UsageError(f"{raw.where}: row {row} has {text!r}, wanted a text")
    return texts


def _column(raw: RawSplit, spec: DataSpec, folder: Path) -> np.ndarray:
    """The named column of a table, which is no table of numbers."""
    columns, field = list(raw.feature_names), f"target.data.{raw.name}"
    if spec.file is not None:
        from assessor.subjects.readers import table_of_file

        table = table_of_file(folder / spec.file, field, raw.where).whole(columns)
    else:
        assert spec.load is not None
        loaded = call_user(spec.load, folder, field=f"{field}.load")
        assert isinstance(loaded, pd.DataFrame)
        table = loaded[columns]
    found: np.ndarray = table.to_numpy(dtype=object)
    return found


def prompted(spec: TargetSpec) -> tuple[str, tuple[str, ...]]:
    """Prompt and words of a language model that is asked to choose among classes.

    Raises:
        UsageError: One is missing, or does not go with the classes.
    """
    model = spec.model
    if not spec.task.is_classification:
        raise UsageError("target.task: a language model chooses among classes here: wanted binary or multiclass")
    if model.prompt is None or len(model.words) < 2:
        raise UsageError(
            "target.model: a language model wants prompt: (a text with {text} in it) and words: (what it answers for "
            "each class)"
        )
    if spec.classes is None or len(spec.classes) != len(model.words):
        found = "none" if spec.classes is None else len(spec.classes)
        raise UsageError(f"target.classes: found {found}, wanted one name for each of the {len(model.words)} words")
    return model.prompt, model.words
