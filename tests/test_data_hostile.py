"""Data that are broken, or meant to do harm: refused in words, with what was found and what to do."""

from __future__ import annotations

import gzip
import io
import json
import os
import sqlite3
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pydantic import ValidationError

from assessor.errors import MissingExtra, UsageError
from assessor.model import DataSpec, PixelsSpec
from assessor.subjects.splits import load_split


def refusal(spec: dict[str, Any], folder: Path) -> str:
    with pytest.raises(UsageError) as caught:
        load_split(DataSpec.model_validate(spec), "test", folder)
    assert str(caught.value).startswith("target.data.test")
    return str(caught.value)


def made_npy(shape: tuple[int, ...], content: bytes, dtype: str = "<f8") -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": dtype, "fortran_order": False, "shape": shape})
    return stream.getvalue() + content


def packed(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return stream.getvalue()


class Touch:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_pickled_objects_in_arrays_are_never_loaded(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", X=np.array([[Touch(tmp_path / "ran")]], dtype=object), y=np.zeros(1))
    told = refusal({"file": "d.npz"}, tmp_path)
    assert "array 'X.npy' holds object, wanted numbers or texts; Python objects are not read" in told
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"no zip", "cannot read "),
        (packed(), "no arrays"),
        (packed(X=b"\x93NUMPY\x01\x00\x05\x00hello"), "cannot read "),
        (packed(X=made_npy((2, 2), bytes(8))), "array 'X.npy' of shape (2, 2) and type float64 does not fit its"),
        (packed(X=made_npy((2**40, 2**10), bytes(8))), "does not fit its"),
        (packed(X=made_npy((-1, 2), bytes(8))), "does not fit its"),
        (packed(X=made_npy((), bytes(8))), "does not fit its"),
        (packed(X=made_npy((2, 1), bytes(16)), y=made_npy((3,), bytes(24))), "arrays differ in rows: X 2, y 3"),
        (packed(X=made_npy((2, 1), bytes(16))), "no array 'y'; arrays: X"),
        (packed(a=made_npy((2, 1), bytes(16))), "'a' has several numbers a row; call the features X"),
        (packed(X=made_npy((1, 1), bytes(16), "|V16")), "holds |V16, wanted numbers or texts"),
    ],
)
def test_spoiled_arrays(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "d.npz").write_bytes(content)
    assert told in refusal({"file": "d.npz"}, tmp_path)


def test_what_unpacks_to_more_than_the_disk_holds_is_refused_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assessor.subjects.arrays.HELD", 1000)
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 2**28 + 2**20})())
    np.savez_compressed(tmp_path / "d.npz", X=np.zeros((2**18, 1)), y=np.zeros(2**18))
    told = refusal({"file": "d.npz"}, tmp_path)
    assert "needs 2 MiB more in the folder of temporary files" in told
    assert "TMPDIR" in told


def test_a_csv_that_unpacks_too_far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assessor.subjects.readers.UNPACKED", 10_000)
    (tmp_path / "d.csv.gz").write_bytes(gzip.compress(b"a,y\n" + b"1,1\n" * 200_000))
    assert "it unpacks to more than 300 times its size" in refusal({"file": "d.csv.gz", "label": "y"}, tmp_path)
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(os.urandom(999))[:500])
    assert "cannot read" in refusal({"file": "cut.csv.gz", "label": "y"}, tmp_path)


def test_a_parquet_file_that_unpacks_too_far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = pd.DataFrame({"a": ["x" * 1000 + str(row) for row in range(5000)], "y": [0, 1] * 2500})
    table.to_parquet(tmp_path / "d.parquet", compression="zstd")
    assert len((tmp_path / "d.parquet").read_bytes()) * 20 < 5_000_000
    monkeypatch.setattr("assessor.subjects.readers.UNPACKED", 10_000)
    monkeypatch.setattr("assessor.subjects.readers.RATIO", 20)
    assert "it unpacks to more than" in refusal({"file": "d.parquet", "label": "y"}, tmp_path)
    monkeypatch.setattr("assessor.subjects.readers.UNPACKED", 2**30)
    found = load_split(DataSpec(file="d.parquet", label="y", features=[]), "test", tmp_path)
    assert found.labels is not None
    assert len(found.labels) == 5000


def test_a_csv_that_is_one_line_or_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assessor.subjects.readers.LINE", 100_000)
    (tmp_path / "d.csv").write_bytes(b"a,y\n" + b"1" * 1_000_000)
    assert "a line is longer than 100000 bytes" in refusal({"file": "d.csv", "label": "y"}, tmp_path)
    pd.DataFrame({"a": [1], "y": [1]}).to_parquet(tmp_path / "b.csv")
    assert "found binary data, wanted text" in refusal({"file": "b.csv", "label": "y"}, tmp_path)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"FEA1....", "found Feather version 1; write it anew"),
        (b"PAR1....", "found no Arrow file"),
        (b"ARROW1\0\0", "cannot read"),
        (b"\xff\xff\xff\xff\xff\xff\xff\x7f", "cannot read"),
    ],
)
def test_spoiled_arrow_files(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "d.arrow").write_bytes(content)
    assert told in refusal({"file": "d.arrow", "label": "y"}, tmp_path)


def test_data_sets_name_no_files_outside(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    assert "no state.json" in refusal({"dataset": "d", "label": "y"}, tmp_path)
    folder.mkdir()
    (folder / "dataset.py").write_text("raise SystemExit(1)")
    for state, told in (
        ("{}", "cannot read"),
        ('{"_data_files": 3}', "cannot read"),
        ('{"_data_files": []}', "the table has no rows"),
        ('{"_data_files": [{"filename": "../x.arrow"}]}', "names '../x.arrow', wanted a file in that folder"),
        ('{"_data_files": [], "_indices_data_files": [{}]}', "its rows are chosen by an index"),
    ):
        (folder / "state.json").write_text(state)
        assert told in refusal({"dataset": "d", "label": "y"}, tmp_path)
    (tmp_path / "x.arrow").write_bytes(b"")
    (folder / "x.arrow").symlink_to(tmp_path / "x.arrow")
    (folder / "state.json").write_text('{"_data_files": [{"filename": "x.arrow"}]}')
    assert "names 'x.arrow', wanted a file in that folder" in refusal({"dataset": "d", "label": "y"}, tmp_path)
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": ["test"]}))
    (folder / "test").mkdir()
    assert "name the folder of one: test" in refusal({"dataset": "d", "label": "y"}, tmp_path)


# --- images ----------------------------------------------------------------------------------------------------------


def huge_png(width: int, height: int) -> bytes:
    """A small file that says it is huge."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


def test_images_that_are_none_or_too_much(tmp_path: Path) -> None:
    (tmp_path / "d" / "cat").mkdir(parents=True)
    path = tmp_path / "d" / "cat" / "a.png"
    stream = io.BytesIO()
    Image.new("RGB", (2, 2)).save(stream, "GIF")
    for content, told in (
        (b"no image", "row 0: no PNG or JPEG image that can be read"),
        (stream.getvalue(), "row 0: no PNG or JPEG image that can be read"),
        (huge_png(8000, 8000), "row 0: 8000 x 8000 pixels, wanted at most 33554432"),
        (huge_png(60_000, 60_000), "row 0: no PNG or JPEG image that can be read: DecompressionBombError"),
        (huge_png(50, 50), "row 0: no PNG or JPEG image that can be read"),
    ):
        path.write_bytes(content)
        assert told in refusal({"images": "d"}, tmp_path)


def test_images_of_several_sizes_want_one(tmp_path: Path) -> None:
    (tmp_path / "d" / "cat").mkdir(parents=True)
    for place, size in enumerate(((4, 5), (6, 5))):
        Image.new("RGB", size).save(tmp_path / "d" / "cat" / f"{place}.png")
    told = refusal({"images": "d"}, tmp_path)
    assert "row 1 is 5 x 6 pixels, row 0 5 x 4; name one size under pixels: size: [height, width]" in told
    resized = DataSpec(images="d", pixels=PixelsSpec(size=(3, 3)))
    features = load_split(resized, "test", tmp_path).features
    assert features is not None
    assert features.shape == (2, 3, 3, 3)


@pytest.mark.parametrize("name", ["../secret.png", "/etc/hostname", "link.png", "none.png"])
def test_a_csv_of_images_names_nothing_outside_its_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "d").mkdir()
    Image.new("RGB", (2, 2)).save(tmp_path / "secret.png")
    (tmp_path / "d" / "link.png").symlink_to(tmp_path / "secret.png")
    (tmp_path / "d" / "index.csv").write_text(f"path,label\n{name},x\n")
    told = refusal({"images": "d/index.csv"}, tmp_path)
    assert "only images inside are read" in told or "no image " in told


def test_folders_without_images(tmp_path: Path) -> None:
    assert "no folder and no csv" in refusal({"images": "d"}, tmp_path)
    (tmp_path / "d").mkdir()
    assert "wanted one folder a class" in refusal({"images": "d"}, tmp_path)
    (tmp_path / "i.csv").write_text("file,label\na,b\n")
    assert "wanted a column 'path'" in refusal({"images": "i.csv"}, tmp_path)


# --- SQL -------------------------------------------------------------------------------------------------------------

ORDERED = " ORDER BY id"


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "d.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, a REAL, y TEXT)")
        connection.executemany("INSERT INTO t VALUES (?, ?, ?)", [(place, place / 2, "no") for place in range(5)])
    connection.close()
    monkeypatch.setenv("DATA_URL", f"sqlite:///{path}")
    return path


def query(text: str) -> dict[str, Any]:
    return {"sql": {"url_env": "DATA_URL", "query": text}, "label": "y"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("DELETE FROM t", "wanted one SELECT"),
        ("SELECT 1; DELETE FROM t" + ORDERED, "found ';' inside"),
        ("SELECT a, y FROM t", "wanted ORDER BY a unique key"),
        ("SELECT a, y FROM (SELECT * FROM t ORDER BY id)", "wanted ORDER BY a unique key"),
    ],
)
def test_queries_that_are_refused_before_anything_is_asked(text: str, told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        DataSpec.model_validate(query(text))


def test_a_database_is_never_written_to(tmp_path: Path, database: Path) -> None:
    """Even where the database takes a statement that writes behind a SELECT."""
    before = database.read_bytes()
    assert (
        load_split(DataSpec.model_validate(query("SELECT a, y FROM t" + ORDERED)), "test", tmp_path).labels is not None
    )
    told = refusal(query("WITH x AS (SELECT 1 AS id) DELETE FROM t RETURNING a, y, id" + ORDERED), tmp_path)
    assert told.startswith("target.data.test.sql: OperationalError: ")
    told = refusal(query("WITH x AS (SELECT 1 AS id) INSERT INTO t SELECT 9, 1, 'no' FROM x" + ORDERED), tmp_path)
    assert "attempt to write a readonly database" in told
    assert database.read_bytes() == before


def test_secrets_of_a_database_stay_out_of_messages(
    tmp_path: Path, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = query("SELECT a, y FROM t" + ORDERED)
    for url in ("no url with pa55word", "postgresql://me:pa55word@localhost/none", "mssql://me:pa55word@localhost/x"):
        monkeypatch.setenv("DATA_URL", url)
        assert "pa55word" not in refusal(asked, tmp_path)
    monkeypatch.setenv("DATA_URL", "duckdb:///x")
    assert "duckdb cannot be made to read only" in refusal(asked, tmp_path)
    monkeypatch.delenv("DATA_URL")
    assert "the environment variable DATA_URL is not set" in refusal(asked, tmp_path)


def test_a_query_may_hold_colons_and_give_nothing(tmp_path: Path, database: Path) -> None:
    text = "SELECT a, ':y' AS y FROM t WHERE y <> ':none' AND id > 1" + ORDERED
    found = load_split(DataSpec.model_validate(query(text)), "test", tmp_path)
    assert found.labels is not None
    assert found.labels.tolist() == [":y"] * 3
    assert "the table has no rows" in refusal(query("SELECT a, y FROM t WHERE id > 9" + ORDERED), tmp_path)
    assert "no such column" in refusal(query("SELECT b, y FROM t" + ORDERED), tmp_path)


def test_a_missing_package_names_its_extra(tmp_path: Path, database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assessor.subjects.extras.find_spec", lambda _: None)
    (tmp_path / "d.arrow").write_bytes(b"")
    (tmp_path / "d.parquet").write_bytes(b"")
    wanted = {"images": {"images": "x"}, "sql": query("SELECT a, y FROM t" + ORDERED), "parquet": {"file": "d.arrow"}}
    for extra, spec in [*wanted.items(), ("parquet", {"file": "d.parquet"})]:
        with pytest.raises(MissingExtra, match=rf"pip install 'ai-assessor\[{extra}\]'"):
            load_split(DataSpec.model_validate(spec), "test", tmp_path)


def test_one_source_only() -> None:
    with pytest.raises(ValidationError, match="found both file and dataset, wanted one"):
        DataSpec(file="d.csv", dataset="d")


def test_items_of_another_shape(tmp_path: Path) -> None:
    (tmp_path / "system.py").write_text(
        "import numpy as np\n"
        "class Rows:\n"
        "    def __len__(self): return 300\n"
        "    def __getitem__(self, place): return np.zeros(2 + place // 256), 0\n"
        "def rows(): return Rows()\n"
    )
    told = refusal({"load": "system:rows"}, tmp_path)
    assert "row 256 and those after it are float64 (3,), those before float64 (2,)" in told
    (tmp_path / "system.py").write_text("import numpy as np\ndef rows(): return np.zeros((2, 1)), [0, 1]\n")
    assert "columns: and expect: are for tables" in refusal(
        {"load": "system:rows", "expect": {"a": {"min": 0}}}, tmp_path
    )


SPOILED = ("csv", "csv.gz", "parquet", "arrow", "feather", "npz", "png", "jpg")


def sound(kind: str, path: Path) -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"a": rng.normal(size=40), "t": list("abcd") * 10, "y": rng.integers(0, 2, 40)})
    if kind.startswith("csv"):
        table.to_csv(path, index=False)
    elif kind == "parquet":
        table.to_parquet(path)
    elif kind in {"arrow", "feather"}:
        table.to_feather(path, compression="uncompressed" if kind == "arrow" else "zstd")
    elif kind == "npz":
        np.savez_compressed(path, X=table[["a"]].to_numpy(), y=table["y"].to_numpy())
    else:
        Image.fromarray(rng.integers(0, 255, (9, 9, 3), dtype=np.uint8)).save(path)


@pytest.mark.parametrize("kind", SPOILED)
def test_spoiled_bytes_are_read_or_refused_in_words(tmp_path: Path, kind: str) -> None:
    """Bytes changed, cut off or put twice, anywhere: never another exception, and never a crash."""
    is_image = kind in {"png", "jpg"}
    folder = tmp_path / "d" / "c" if is_image else tmp_path
    folder.mkdir(parents=True, exist_ok=True)
    path, rng = folder / f"d.{kind}", np.random.default_rng(1)
    sound(kind, path)
    content = path.read_bytes()
    given = {"images": "d"} if is_image else {"file": path.name, "label": "y", "features": None, "sensitive": ["t"]}
    if kind == "npz":
        given.pop("sensitive")
    spec, read = DataSpec.model_validate(given), 0
    load_split(spec, "test", tmp_path)
    for _ in range(60):
        spoiled = bytearray(content)
        at = int(rng.integers(len(spoiled)))
        way = rng.integers(3)
        if way == 0:
            spoiled[at : at + int(rng.integers(1, 9))] = rng.bytes(int(rng.integers(1, 9)))
        elif way == 1:
            del spoiled[at:]
        else:
            spoiled[at:at] = spoiled[: int(rng.integers(1, 200))]
        path.write_bytes(spoiled)
        try:
            load_split(spec, "test", tmp_path)
            read += 1
        except UsageError as told:
            assert str(told).startswith("target.data.test")  # noqa: PT017
    assert read < 60
