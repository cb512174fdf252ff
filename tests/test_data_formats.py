"""Every format of data through the command line: the same rows, the same numbers, the same digest."""

from __future__ import annotations

import gzip
import io
import json
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from commands import Run
from PIL import Image

from assessor.model import Data, DataSpec
from assessor.project import Project

ROWS = 60


def frame() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    score = rng.random(ROWS)
    return pd.DataFrame(
        {
            "a": rng.normal(size=ROWS).round(6),
            "b": rng.integers(0, 9, ROWS),
            "y": np.where(rng.random(ROWS) < score, "yes", "no"),
            "p": np.where(score > 0.5, "yes", "no"),
            "s": score.round(6),
            "sex": np.where(rng.random(ROWS) < 0.5, "f", "ü"),
        }
    )


def to_sqlite(table: pd.DataFrame, path: Path) -> None:
    with sqlite3.connect(path) as connection:
        table.to_sql("t", connection, index_label="id")
    connection.close()


def to_arrow(table: pd.DataFrame, path: Path) -> None:
    import pyarrow as pa

    whole = pa.Table.from_pandas(table, preserve_index=False)
    with pa.ipc.new_file(path, whole.schema) as writer:
        for start in range(0, len(table), 7):
            writer.write_table(whole.slice(start, 7))


def to_dataset(table: Any, folder: Path, *, shards: int = 2) -> None:
    """As `datasets.Dataset.save_to_disk` writes it (checked against datasets 5.2.0)."""
    import pyarrow as pa

    whole = pa.Table.from_pandas(table, preserve_index=False) if isinstance(table, pd.DataFrame) else table
    folder.mkdir()
    names = [f"data-{one:05}-of-{shards:05}.arrow" for one in range(shards)]
    size = -(-len(whole) // shards)
    for place, name in enumerate(names):
        with pa.ipc.new_stream(folder / name, whole.schema) as writer:
            writer.write_table(whole.slice(place * size, size))
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    (folder / "dataset_info.json").write_text("{}")


def to_npz(table: pd.DataFrame, path: Path) -> None:
    np.savez_compressed(path, **{name: np.array(table[name].tolist()) for name in table})


WRITERS: dict[str, tuple[dict[str, Any], Callable[[pd.DataFrame, Path], object]]] = {
    "csv": ({"file": "d.csv"}, lambda table, path: table.to_csv(path / "d.csv", index=False)),
    "gz": ({"file": "d.csv.gz"}, lambda table, path: table.to_csv(path / "d.csv.gz", index=False)),
    "parquet": ({"file": "d.parquet"}, lambda table, path: table.to_parquet(path / "d.parquet", row_group_size=11)),
    "arrow": ({"file": "d.arrow"}, lambda table, path: to_arrow(table, path / "d.arrow")),
    "feather": ({"file": "d.feather"}, lambda table, path: table.to_feather(path / "d.feather", compression="lz4")),
    "dataset": ({"dataset": "d"}, lambda table, path: to_dataset(table, path / "d")),
    "npz": ({"file": "d.npz"}, lambda table, path: to_npz(table, path / "d.npz")),
    "sql": (
        {"sql": {"url_env": "DATA_URL", "query": "SELECT a, b, y, p, s, sex FROM t ORDER BY id"}},
        lambda table, path: to_sqlite(table, path / "d.sqlite"),
    ),
}
MODEL = """
import numpy as np
from sklearn.linear_model import LogisticRegression
def model():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(50, 2))
    return LogisticRegression().fit(X, np.where(X[:, 0] + X[:, 1] > 0, "yes", "no"))
"""
COLUMNS = {"label": "y", "features": ["a", "b"], "sensitive": ["sex"]}
Measure = Callable[..., dict[str, Any]]


@pytest.fixture
def measure(make_folder: Callable[..., Project], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Measure:
    """Measures reliability.performance on some data through the command line; gives what it says as JSON."""
    places = iter(range(100))

    def call(
        test: dict[str, Any],
        write: Callable[[Path], object] = lambda _: None,
        *,
        model: dict[str, Any],
        code: str = MODEL,
        refused: bool = False,
        **target: Any,
    ) -> Any:
        given = {"task": "binary", "model": model, "data": {"test": test}, "device": "cpu", **target}
        folder = make_folder(f"a{next(places)}", target=given).folder
        (folder / "system.py").write_text(code)
        write(folder)
        monkeypatch.setenv("DATA_URL", f"sqlite:///{folder}/d.sqlite")
        done = run("check", "run", "reliability.performance", "--fresh", "--json", "--project", folder)
        if refused:
            assert done.code == 2, done
            return done.err
        assert done.code in {0, 1}, done
        return json.loads(done.out)[0]

    return call


@pytest.mark.slow
@pytest.mark.parametrize("way", ["model", "table"])
def test_every_format_gives_the_same_numbers_and_the_same_digest(
    measure: Measure, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """In parts and whole, with a model and as a table of predictions."""
    table, found = frame(), {}
    model = {"load": "system:model"} if way == "model" else {"predictions": "none.csv"}
    columns = COLUMNS if way == "model" else {"label": "y", "prediction": "p", "score": "s", "sensitive": ["sex"]}
    for part in (7, 2**18):
        monkeypatch.setattr("assessor.subjects.tables.PART", part)
        for kind, (source, write) in WRITERS.items():
            run = measure({**source, **columns}, lambda path, write=write: write(table, path), model=model)
            found[kind, part] = (run["subject"]["data"]["test"], run["metrics"])
    assert len(found) == 2 * len(WRITERS)
    assert all(one == found["csv", 7] for one in found.values()), found
    assert found["csv", 7][0]["n"] == ROWS


@pytest.mark.slow
def test_missing_values_are_the_same_whatever_the_format(measure: Measure, monkeypatch: pytest.MonkeyPatch) -> None:
    """An attribute that is missing at first only, so that parts differ in type."""
    table = frame()
    table["sex"] = [None] * 20 + ["f", None] * 20
    table["age"] = pd.array([None] * 20 + [30, 41] * 20, dtype="Int64")
    table["smokes"] = pd.array([True, None] + [False] * 58, dtype="boolean")
    columns = {"label": "y", "prediction": "p", "sensitive": ["sex", "age", "smokes"]}
    digests = set()
    for part in (9, 2**18):
        monkeypatch.setattr("assessor.subjects.tables.PART", part)
        for kind in ("csv", "parquet", "arrow", "dataset"):
            source, write = WRITERS[kind]
            done = measure({**source, **columns}, lambda path, w=write: w(table, path), model={"predictions": "none"})
            digests.add(done["subject"]["data"]["test"]["sha256"])
    assert len(digests) == 1


def test_features_in_one_array(measure: Measure) -> None:
    """X and y of a .npz, in any order of memory and dtype of the same numbers, are the csv's columns."""
    table, (source, write) = frame(), WRITERS["csv"]
    csv = measure({**source, **COLUMNS}, lambda path: write(table, path), model={"load": "system:model"})
    features, labels = table[["a", "b"]].to_numpy(np.float64), np.array(table["y"].tolist())
    attributes = {"sex": np.array(table["sex"].tolist())}
    for rows in (np.ascontiguousarray(features), np.asfortranarray(features)):
        run = measure(
            {"file": "d.npz", "sensitive": ["sex"]},
            lambda path, rows=rows: np.savez(path / "d.npz", X=rows, y=labels, **attributes),
            model={"load": "system:model"},
        )
        assert run["metrics"] == csv["metrics"]
        assert run["subject"]["data"] == csv["subject"]["data"]


@pytest.mark.slow
def test_large_arrays_and_tables_stay_in_a_file(measure: Measure, monkeypatch: pytest.MonkeyPatch) -> None:
    """With no memory for features at all, nothing changes."""
    table, found = frame(), []
    labels = np.array(table["y"].tolist())
    for held in (0, 2**26):
        for module in ("spool", "arrays"):
            monkeypatch.setattr(f"assessor.subjects.{module}.HELD", held)
        for order in ("C", "F"):
            rows = np.array(table[["a", "b"]].to_numpy(np.float64), order=order)
            found.append(
                measure(
                    {"file": "d.npz"},
                    lambda path, rows=rows: np.savez_compressed(path / "d.npz", X=rows, y=labels),
                    model={"load": "system:model"},
                )
            )
        source, write = WRITERS["parquet"]
        found.append(
            measure(
                {**source, "label": "y", "features": ["a", "b"]},
                lambda path, write=write: write(table, path),
                model={"load": "system:model"},
            )
        )
    assert len({json.dumps([one["metrics"], one["subject"]["data"]]) for one in found}) == 1


def test_columns_by_other_names(measure: Measure) -> None:
    table, (source, write) = frame(), WRITERS["csv"]
    plain = measure({**source, **COLUMNS}, lambda path: write(table, path), model={"load": "system:model"})
    other = table.rename(columns={"y": "OUTCOME", "sex": "GENDER"})
    found = measure(
        {**source, **COLUMNS, "columns": {"y": "OUTCOME", "sex": "GENDER"}},
        lambda path: write(other, path),
        model={"load": "system:model"},
    )
    assert found["subject"]["data"] == plain["subject"]["data"]
    told = measure(
        {**source, **COLUMNS, "columns": {"y": "OUTCOM"}},
        lambda path: write(other, path),
        model={"load": "system:model"},
        refused=True,
    )
    assert "columns: no column 'OUTCOM'; did you mean 'OUTCOME'?" in told


# --- images and arrays -----------------------------------------------------------------------------------------------

NET = """
import torch
class Net(torch.nn.Module):
    def forward(self, x):
        bright = x.mean(dim=(1, 2, 3))
        return torch.stack([0.5 - bright, bright - 0.5], dim=1)
def model(): return Net()
"""


def picture(brightness: int, *, size: tuple[int, int] = (6, 5), kind: str = "PNG", mode: str = "RGB") -> bytes:
    stream = io.BytesIO()
    Image.new(mode, size, brightness if mode == "L" else (brightness,) * 3).save(stream, kind)
    return stream.getvalue()


def folders(path: Path) -> None:
    for name, brightness in (("dark", 10), ("light", 240)):
        (path / "d" / name).mkdir(parents=True)
        for place in range(4):
            suffix, kind = (("png", "PNG"), ("JPG", "JPEG"))[place % 2]
            (path / "d" / name / f"{place}.{suffix}").write_bytes(picture(brightness + place, kind=kind))
        (path / "d" / name / "notes.txt").write_text("no image")


IMAGES: dict[str, Any] = {"model": {"load": "system:model"}, "code": NET, "classes": ["dark", "light"]}


def test_a_folder_of_images_is_the_csv_of_its_paths_and_the_data_set_of_its_bytes(measure: Measure) -> None:
    def csv(path: Path) -> None:
        folders(path)
        names = sorted(one.relative_to(path / "d").as_posix() for one in (path / "d").glob("*/*.[pJ]*"))
        rows = "".join(f"{name},{name.split('/')[0]}\n" for name in names)
        (path / "d" / "index.csv").write_text(f"path,label\n{rows}")

    def dataset(path: Path) -> None:
        import pyarrow as pa

        folders(path)
        files = sorted((path / "d").glob("*/*.[pJ]*"))
        kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
        images = pa.array([{"bytes": one.read_bytes(), "path": None} for one in files], kind)
        to_dataset(pa.table({"image": images, "class": [one.parent.name for one in files]}), path / "hf")

    found = [
        measure({"images": "d"}, folders, **IMAGES),
        measure({"images": "d/index.csv"}, csv, **IMAGES),
        measure({"dataset": "hf", "label": "class"}, dataset, **IMAGES),
    ]
    assert found[0]["metrics"][0]["value"] == 1
    assert all(one["subject"]["data"] == found[0]["subject"]["data"] for one in found)
    assert found[0]["subject"]["data"]["test"]["n"] == 8


def test_pixels_are_what_the_model_was_trained_on(tmp_path: Path) -> None:
    from assessor.model import PixelsSpec
    from assessor.subjects.images import pixels

    colour = Image.new("RGB", (4, 2), (255, 0, 51))
    stream = io.BytesIO()
    colour.save(stream, "PNG")
    rows = pixels([stream.getvalue()], PixelsSpec(), "w", first=0)
    assert (rows.shape, rows.dtype) == ((1, 3, 2, 4), np.float32)
    assert rows[0, :, 0, 0].tolist() == pytest.approx([1, 0, 0.2])
    spec = PixelsSpec(size=(3, 3), mean=(0.5, 0.0, 0.1), std=(0.5, 1.0, 2.0))
    scaled = pixels([stream.getvalue()], spec, "w", first=0)
    assert scaled.shape == (1, 3, 3, 3)
    assert scaled[0, :, 1, 1].tolist() == pytest.approx([1, 0, 0.05])
    grey = pixels([picture(51, mode="L")], PixelsSpec(channels=1), "w", first=0)
    assert grey.shape == (1, 1, 5, 6)
    assert grey.max() == pytest.approx(0.2)


def test_lists_of_numbers_in_a_column_are_arrays(measure: Measure) -> None:
    import pyarrow as pa

    rows = np.random.default_rng(0).random((10, 3, 2, 2)).astype(np.float32)
    labels = np.where(rows.mean(axis=(1, 2, 3)) > 0.5, "light", "dark")

    def dataset(path: Path) -> None:
        to_dataset(pa.table({"x": rows.tolist(), "y": labels.tolist()}), path / "hf")

    lists = measure({"dataset": "hf", "label": "y", "features": ["x"]}, dataset, **IMAGES)
    arrays = measure(
        {"file": "d.npz"}, lambda path: np.savez(path / "d.npz", X=rows.astype(np.float64), y=labels), **IMAGES
    )
    assert lists["subject"]["data"] == arrays["subject"]["data"]
    assert lists["metrics"] == arrays["metrics"]


# --- torch data sets -------------------------------------------------------------------------------------------------

SETS = (
    MODEL
    + """
import torch
X = torch.randn(600, 2, generator=torch.Generator().manual_seed(0)).double()
y = ["yes" if row.sum() > 0 else "no" for row in X]
y = [int(row.sum() > 0) for row in X]
class Rows(torch.utils.data.Dataset):
    def __len__(self): return len(X)
    def __getitem__(self, place): return X[place], y[place]
class Stream(torch.utils.data.IterableDataset):
    def __iter__(self): return iter(zip(X, y))
class Line(torch.nn.Module):
    def forward(self, x): return x.sum(dim=1)
def model(): return Line()
def rows(): return Rows()
def stream(): return Stream()
def arrays(): return X, y
"""
)


def test_torch_data_sets_are_read_once_in_order(measure: Measure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assessor.subjects.spool.HELD", 1000)
    found = [
        measure({"load": f"system:{name}"}, model={"load": "system:model"}, code=SETS)
        for name in ("arrays", "rows", "stream")
    ]
    assert all(one["subject"]["data"] == found[0]["subject"]["data"] for one in found)
    assert all(one["metrics"] == found[0]["metrics"] for one in found)


# --- csv -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [
        ["1", "2", "x", "4"],
        ["1", "2", "", "4"],
        ["1", "2.5", "3", "4"],
        ["", "", "True", "False"],
        ["True", "False", "1", "0"],
        ["", "", "", ""],
        ["01", "2", "3", "4"],
        ["18446744073709551615", "1", "2", "3"],
    ],
)
def test_the_type_of_a_column_of_csv_is_that_of_all_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: list[str]
) -> None:
    from assessor.subjects.digests import RowsDigest
    from assessor.subjects.readers import table_of_file

    path, digests = tmp_path / "t.csv", set()
    path.write_text("v,w\n" + "".join(f"{value},1\n" for value in values))
    for part in (1, 2, 3, 100):
        monkeypatch.setattr("assessor.subjects.tables.PART", part)
        found, table = RowsDigest(), table_of_file(path, "f", "w")
        assert (table.columns, table.rows) == (("v", "w"), 4)
        for rows in table.parts(["v"]):
            found.add(None, np.zeros(len(rows)), rows)
        digests.add(found.hexdigest())
        assert len(table.whole(["w", "v"])) == 4
    assert len(digests) == 1


def test_a_csv_in_many_parts_is_never_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from assessor.subjects.readers import table_of_file

    monkeypatch.setattr("assessor.subjects.tables.PART", 10)
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\n" + b"".join(b"%d,x\n" % place for place in range(95))))
    parts = list(table_of_file(path, "f", "w").parts(["a"]))
    assert [len(part) for part in parts] == [10] * 9 + [5]
    assert pd.concat(parts)["a"].tolist() == list(range(95))


# --- docs/data.md ----------------------------------------------------------------------------------------------------


def test_the_page_shows_what_can_be_written() -> None:
    page = (Path(__file__).parents[1] / "docs" / "data.md").read_text("utf-8")
    sources = [text for row in page.split("\n") if row.startswith("|") for text in re.findall(r"`(\w+: [^`]+)`", row)]
    kinds = {next(iter(DataSpec.model_validate(yaml.safe_load(text)).model_fields_set)) for text in sources}
    assert kinds == {"file", "images", "dataset", "sql", "load"}
    blocks = [yaml.safe_load(block) for block in re.findall(r"\n\n((?:    .*\n)+)", page)]
    assert [next(iter(block)) for block in blocks] == ["target", "images"]
    Data.model_validate(blocks[0]["target"]["data"])
    DataSpec.model_validate(blocks[1])
