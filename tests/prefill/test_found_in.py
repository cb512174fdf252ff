"""Files and folders are recognised by their content, looked for, and refused in words."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assessor.errors import UsageError
from assessor.model import Catalog
from assessor.prefill import KEYS, LARGEST, found_in, sources_near

CARD = "---\nlicense: mit\n---\n# Uses\n\nSorting letters.\n"
BOM = {"bomFormat": "CycloneDX", "specVersion": "1.6", "components": [{"type": "library", "name": "torch"}]}
SPDX = {
    "@context": "https://spdx.org/rdf/3.0.1/spdx-context.jsonld",
    "@graph": [{"type": "ai_AIPackage", "name": "router", "ai_limitation": "Handwriting."}],
}
WANTED = (
    "wanted a model card (Markdown), CycloneDX 1.5 to 1.7 or SPDX 3.0 as JSON, a requirements or lock file, or the "
    "folder of a git repository"
)


def write(folder: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def refused(path: Path, base: Path | None = None) -> str:
    with pytest.raises(UsageError) as caught:
        found_in([path], base)
    return str(caught.value)


def test_the_catalog_asks_for_nothing_that_is_never_found(catalog: Catalog) -> None:
    asked = {source for item in catalog.requirements for question in item.questions for source in question.prefill}
    assert {source.removeprefix("known:") for source in asked if source.startswith("known:")} <= set(KEYS)


def test_content_decides_not_the_name(tmp_path: Path) -> None:
    write(tmp_path, {"a": CARD, "b.txt": json.dumps(BOM), "c.json": json.dumps(SPDX), "requirements.txt": "numpy==2.1"})
    found = found_in([tmp_path / name for name in ("a", "b.txt", "c.json", "requirements.txt")], tmp_path)
    assert {key: [(item.value, item.origin) for item in items] for key, items in found.items()} == {
        "purpose": [("Sorting letters.", "model card a, section Uses")],
        "limitations": [("Handwriting.", "SPDX document c.json, model router")],
        "licence": [("mit", "model card a, front matter, license")],
        "dependencies": [
            ("1 library: torch", "bill of materials b.txt"),
            ("1 package in an exact version: numpy 2.1", "file requirements.txt"),
        ],
    }


def test_the_first_file_speaks_first(tmp_path: Path) -> None:
    write(tmp_path, {"1.md": "# Uses\n\none\n", "2.md": "# Uses\n\ntwo\n"})
    found = found_in([tmp_path / "2.md", tmp_path / "1.md"], tmp_path)
    assert [item.value for item in found["purpose"]] == ["two", "one"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (json.dumps({"a": 1, "b": 2}), f"x: found JSON with the keys a, b, {WANTED}"),
        ("{}", f"x: found an empty JSON object, {WANTED}"),
        ('<?xml version="1.0"?><bom/>', f"x: found XML, {WANTED}"),
        (b"\x80PK\x00\x01", f"x: found a binary file, {WANTED}"),
        ('{"bomFormat": "CycloneDX", "specVersion": "1.4"}', "x: found CycloneDX 1.4, wanted 1.5, 1.6, 1.7"),
        ('{"spdxVersion": "SPDX-2.3"}', "x: found SPDX 2.3, wanted SPDX 3.0 as JSON-LD"),
        ("", "x: found Markdown without front matter or a section of a model card, such as Training Data"),
    ],
)
def test_what_is_nothing_of_that_is_refused(tmp_path: Path, content: str | bytes, told: str) -> None:
    write(tmp_path, {"x": content})
    assert refused(tmp_path / "x", tmp_path) == told


def test_too_large_files_are_refused(tmp_path: Path) -> None:
    with (tmp_path / "x").open("wb") as stream:
        stream.truncate(LARGEST + 1)
    assert refused(tmp_path / "x", tmp_path) == "x: found more than 20 MB, wanted at most that"


def test_missing_files_devices_and_bare_folders_are_refused(tmp_path: Path) -> None:
    assert refused(tmp_path / "none", tmp_path) == "none: no such file or folder"
    assert refused(Path("/dev/zero")) == "/dev/zero: no such file or folder"
    assert refused(tmp_path) == (
        f"{tmp_path}: found a folder without git commits or files that list packages, {WANTED}"
    )
    assert "cannot read it: File name too long" in refused(tmp_path / ("x" * 300), tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_files_are_told(tmp_path: Path) -> None:
    write(tmp_path, {"x": "a"})
    (tmp_path / "x").chmod(0)
    assert refused(tmp_path / "x", tmp_path) == "x: cannot read it: Permission denied"


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch")


HEADS = [
    b"",
    b"{",
    b"---\n",
    b"# Uses\n",
    b'{"bomFormat": "CycloneDX", "specVersion": "1.6", ',
    b"[",
    b"<",
    b"\xef\xbb\xbf",
]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(HEADS), st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_file_is_read_or_refused(scratch: Path, head: bytes, rest: bytes) -> None:
    (scratch / "x").write_bytes(head + rest)
    with contextlib.suppress(UsageError):
        assert set(found_in([scratch / "x"])) <= set(KEYS)


def names(paths: list[Path], base: Path) -> list[str]:
    return [path.relative_to(base.resolve()).as_posix() for path in paths]


def test_sources_of_a_folder_without_git(tmp_path: Path) -> None:
    files = ["README.md", "bom.json", "b.cdx.json", "model.spdx.json", "uv.lock", "MODEL_CARD.md"]
    write(tmp_path, dict.fromkeys(files, CARD) | {"other.md": CARD, "package.json": "{}"})
    assert names(sources_near(tmp_path), tmp_path) == [
        *("MODEL_CARD.md", "README.md"),
        *("bom.json", "b.cdx.json", "model.spdx.json", "uv.lock"),
    ]


def test_sources_of_an_assessment_inside_a_repository(tmp_path: Path) -> None:
    readme = "# A program\n"
    write(
        tmp_path,
        {"README.md": CARD, "uv.lock": "", "a/README.md": readme, "a/requirements.txt": "", "a/x.cdx.json": "{}"},
    )
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    assert names(sources_near(tmp_path / "a"), tmp_path) == [
        "README.md",
        "a/x.cdx.json",
        "a/requirements.txt",
        "uv.lock",
    ]
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    subprocess.run(["git", *identity, "commit", "-q", "--allow-empty", "-m", "one"], check=True, cwd=tmp_path)
    assert names(sources_near(tmp_path / "a"), tmp_path) == ["README.md", "a/x.cdx.json", ".", "a/requirements.txt"]


def test_nothing_is_near_an_empty_folder(tmp_path: Path) -> None:
    assert sources_near(tmp_path) == []
