"""Samples: every row has the same chance, means are unbiased, intervals cover, the result says what was drawn."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from commands import Run
from pydantic import ValidationError

from assessor.contract import Sample
from assessor.errors import UsageError
from assessor.model import DataSpec, SampleSpec
from assessor.project import Project
from assessor.subjects.sampling import drawn_rows, numbered
from assessor.subjects.splits import load_split
from assessor_checks._intervals import clopper_pearson

N, DRAWS = 3_000, 600


def population() -> tuple[np.ndarray, np.ndarray]:
    """(N,) strata of very different sizes, and whether a row is right, which depends on the stratum."""
    rng = np.random.default_rng(0)
    strata = rng.choice(3, N, p=[0.9, 0.08, 0.02])
    return strata, rng.random(N) < np.array([0.9, 0.5, 0.1])[strata]


@pytest.mark.parametrize("design", ["simple", "stratified"])
def test_samples_are_unbiased_and_intervals_cover(design: str) -> None:
    """Over 600 samples of 200 rows; the standard error of the mean is 0.001, that of the coverage 0.009."""
    strata, right = population()
    found, covered, times = [], 0, np.zeros(N)
    for seed in range(DRAWS):
        by = "y" if design == "stratified" else None
        spec = SampleSpec(n=200, design="stratified" if by else "simple", by=by, seed=seed)
        rows = drawn_rows(spec, N, strata if by else None)
        assert (np.diff(rows) > 0).all()
        assert len(rows) == 200
        times[rows] += 1
        interval = clopper_pearson(int(right[rows].sum()), 200)
        found.append(right[rows].mean())
        covered += interval.low <= right.mean() <= interval.high
    assert abs(np.mean(found) - right.mean()) < 0.004
    assert covered / DRAWS > 0.95
    chance = times / DRAWS  # standard error 0.01 a row, and 0.0013 or less for a stratum
    assert abs(chance - 200 / N).max() < 0.06
    for stratum in range(3):
        assert chance[strata == stratum].mean() == pytest.approx(200 / N, abs=0.006)


def test_strata_are_there_in_proportion_and_vary_less() -> None:
    """What a stratum tells no longer varies: all of it, where rows of a stratum are alike."""
    strata, _ = population()
    spread = {}
    for by in (None, "y"):
        means = []
        for seed in range(100):
            spec = SampleSpec(n=200, design="stratified" if by else "simple", by=by, seed=seed)
            rows = drawn_rows(spec, N, strata if by else None)
            means.append((strata[rows] == 0).mean())
            if by:
                wanted = np.bincount(strata) * 200 / N
                assert (np.abs(np.bincount(strata[rows], minlength=3) - wanted) < 1).all()
        spread[by] = np.std(means)
    assert spread["y"] < 0.2 * spread[None]


def test_strata_are_numbered_by_their_texts_whatever_the_parts() -> None:
    values = pd.Series(["b", None, "a", "b", "c", None])
    whole, count = numbered(iter([values]))
    parts, _ = numbered(iter([values[:2], values[2:3], values[3:]]))
    assert whole.tolist() == parts.tolist() == [2, 0, 1, 2, 3, 0]
    assert count == 4
    assert numbered(iter([pd.Series([10, 9]), pd.Series([9.0, 2.5])]))[0].tolist() == [0, 2, 2, 1]


def table(rows: int = 100) -> pd.DataFrame:
    return pd.DataFrame({"id": np.arange(rows, dtype=float), "y": np.arange(rows) % 4 // 3})


@pytest.mark.parametrize("spec", [{"n": 30}, {"n": 30, "design": "stratified", "by": "y", "seed": 5}])
def test_the_same_rows_whatever_the_format_and_the_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: dict[str, Any]
) -> None:
    frame = table()
    frame.to_csv(tmp_path / "d.csv", index=False)
    frame.to_parquet(tmp_path / "d.parquet")
    np.savez(tmp_path / "d.npz", X=frame[["id"]].to_numpy(), y=frame["y"].to_numpy())
    (tmp_path / "system.py").write_text(
        "import pandas as pd\ndef test(): return pd.read_csv(__file__[:-9] + 'd.csv')\n"
    )
    found = []
    for part in (7, 2**18):
        monkeypatch.setattr("assessor.subjects.tables.PART", part)
        for source in ({"file": "d.csv"}, {"file": "d.parquet"}, {"file": "d.npz"}, {"load": "system:test"}):
            given = DataSpec.model_validate({**source, "label": "y", "sample": spec})
            raw = load_split(given, "test", tmp_path)
            found.append((raw.encode(("0", "1")).sha256, raw.sample))
            assert raw.features is not None
            assert raw.labels is not None
            assert (raw.labels == raw.features[:, 0] % 4 // 3).all()
    assert len(set(found)) == 1
    drawn = found[0][1]
    assert drawn is not None
    assert (drawn.of, drawn.strata) == (100, 2 if "by" in spec else 0)


def test_images_that_are_not_drawn_are_not_read(tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "d" / "a").mkdir(parents=True)
    for place in range(20):
        (tmp_path / "d" / "a" / f"{place:02}.png").write_bytes(b"no image")
    spec = SampleSpec(n=3, seed=1)
    for row in drawn_rows(spec, 20, None):
        Image.new("RGB", (2, 2)).save(tmp_path / "d" / "a" / f"{row:02}.png")
    features = load_split(DataSpec(images="d", sample=spec), "test", tmp_path).features
    assert features is not None
    assert len(features) == 3


def test_designs_that_intervals_do_not_go_with_are_refused() -> None:
    with pytest.raises(ValidationError, match="checks take rows as independent"):
        SampleSpec(n=10, design="cluster", by="hospital")
    for given in ({"design": "stratified"}, {"by": "y"}):
        with pytest.raises(ValidationError, match="wanted the column of the strata with design: stratified"):
            SampleSpec(n=10, **given)  # type: ignore[arg-type]


def test_a_column_of_strata_that_is_not_there(tmp_path: Path) -> None:
    table().to_csv(tmp_path / "d.csv", index=False)
    np.savez(tmp_path / "d.npz", X=np.zeros((9, 1)), y=np.zeros(9))
    wanted = SampleSpec(n=5, design="stratified", by="yy")
    for file, told in (("d.csv", "sample.by: no column 'yy'"), ("d.npz", "sample.by: found 'yy', wanted one of y")):
        with pytest.raises(UsageError, match=told):
            load_split(DataSpec(file=file, label="y", sample=wanted), "test", tmp_path)


def test_the_result_says_what_was_drawn(make_folder: Callable[..., Project], run: Run) -> None:
    """Through the command line; all rows where there are no more than wanted."""
    test = {"label": "y", "prediction": "p", "sensitive": ["sex"]}
    found = {}
    for n in (10, 20):
        given = {
            "task": "binary",
            "model": {"predictions": "p.csv"},
            "data": {"test": {**test, "sample": {"n": n, "design": "stratified", "by": "sex", "seed": 3}}},
        }
        folder = make_folder(f"a{n}", target=given).folder
        done = run("check", "run", "reliability.performance", "--fresh", "--json", "--project", folder)
        found[n] = json.loads(done.out)[0]
    drawn = {"of": 20, "design": "stratified", "by": "sex", "strata": 2, "seed": 3}
    assert found[10]["subject"]["data"]["test"]["sample"] == drawn
    assert found[10]["metrics"][0]["n"] == found[10]["subject"]["data"]["test"]["n"] == 10
    told = "The test split is a sample: 10 of 20 rows, drawn in proportion from 2 strata by 'sex'."
    assert told in found[10]["remarks"]
    assert found[20]["subject"]["data"]["test"]["sample"] is None
    assert found[20]["metrics"][0]["n"] == 20
    assert not [text for text in found[20]["remarks"] if "sample" in text]
    assert Sample(of=2000, design="simple").told(1000) == "1,000 of 2,000 rows, drawn at random"
