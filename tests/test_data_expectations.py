"""What columns must hold: faults are counted over all rows and told with the first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from commands import Run

from assessor.errors import UsageError
from assessor.model import DataSpec
from assessor.project import Project
from assessor.subjects.splits import load_split


def frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "age": [20.0, 30, None, 130, 45.5, -1, 50, 60],
            "name": ["a", "b", "c", "d", None, "f", "g", "h"],
            "code": ["01", "02", "03", "04", "05", "06", "07", "08"],
            "well": [True, False, True, True, False, True, False, True],
            "y": [0, 1, 0, 1, 0, 1, 0, 1],
        }
    )


def loaded(folder: Path, expect: dict[str, Any], kind: str, **more: Any) -> Any:
    table = frame()
    table.to_csv(folder / "d.csv", index=False) if kind == "csv" else table.to_parquet(folder / "d.parquet")
    spec = DataSpec.model_validate({"file": f"d.{kind}", "label": "y", "expect": expect, **more})
    return load_split(spec, "test", folder)


@pytest.mark.parametrize("part", [3, 2**18])
@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("expect", "told"),
    [
        ({"age": {"max": 120}}, "column 'age': 1 of 8 rows are greater than 120 (first: row 3, '130.0')"),
        ({"age": {"min": 25}}, "column 'age': 2 of 8 rows are less than 25 (first: row 0, '20.0')"),
        ({"age": {"missing": "never"}}, "column 'age': 1 of 8 rows are missing (first: row 2, 'nan')"),
        ({"age": {"type": "integer"}}, "column 'age': 1 of 8 rows are no whole number (first: row 4, '45.5')"),
        ({"name": {"type": "number"}}, "column 'name': 7 of 8 rows are no number (first: row 0, 'a')"),
        ({"y": {"type": "text"}, "age": {"type": "text"}}, None),
        ({"y": {"type": "boolean"}}, "column 'y': 8 of 8 rows are neither true nor false (first: row 0, '0')"),
        ({"name": {"allowed": list("abcdefg")}}, "1 of 8 rows are none of the values allowed (first: row 7, 'h')"),
        ({"ages": {"min": 0}}, "expect: no column 'ages'; did you mean 'age'?"),
        ({"age": {"min": 0}, "name": {"missing": "never"}}, "; column 'name': 1 of 8 rows are missing (first: row 4"),
        ({"age": {"type": "number"}, "y": {"type": "integer", "allowed": [0, 1]}, "well": {"type": "boolean"}}, None),
    ],
)
def test_what_breaks_an_expectation_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, part: int, expect: dict[str, Any], told: str | None
) -> None:
    monkeypatch.setattr("assessor.subjects.tables.PART", part)
    if told is None and not (kind == "parquet" and "text" in str(expect)):
        assert loaded(tmp_path, expect, kind).labels is not None
        return
    with pytest.raises(UsageError) as caught:
        loaded(tmp_path, expect, kind)
    assert (told or "column 'y': 8 of 8 rows are no text (first: row 0, '0')") in str(caught.value)
    assert str(caught.value).startswith(f"target.data.test (d.{kind}): ")


def test_a_column_of_csv_that_is_said_to_be_text_keeps_its_zeros(tmp_path: Path) -> None:
    plain = loaded(tmp_path, {}, "csv", sensitive=["code"]).attributes["code"]
    text = loaded(tmp_path, {"code": {"type": "text"}}, "csv", sensitive=["code"]).attributes["code"]
    other = loaded(tmp_path, {"c": {"type": "text"}}, "csv", sensitive=["c"], columns={"c": "code"}).attributes["c"]
    assert plain.tolist() == list(range(1, 9))
    assert text.tolist() == other.tolist() == frame()["code"].tolist()


def test_all_rows_are_looked_at_and_not_only_a_sample(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"1 of 8 rows are greater than 120 \(first: row 3"):
        loaded(tmp_path, {"age": {"max": 120}}, "csv", sample={"n": 1})


def test_through_the_command_line(make_folder: Callable[..., Project], run: Run) -> None:
    test = {"label": "y", "prediction": "p", "expect": {"s": {"type": "number", "min": 0, "max": 0.5}}}
    given = {"task": "binary", "model": {"predictions": "p.csv"}, "data": {"test": test}}
    done = run("check", "run", "reliability.performance", "--project", make_folder(target=given).folder)
    assert done.code == 2
    assert "target.data.test (p.csv): column 's': 10 of 20 rows are greater than 0.5 (first: row 1, '0.9')" in done.err
