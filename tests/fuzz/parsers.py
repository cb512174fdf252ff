"""Every reader of bytes that strangers wrote, each with a sound sample that the fuzz tests spoil."""

from __future__ import annotations

import io
import json
import pickle
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import openpyxl
from conftest import CONFIGURATION, PACK, TABLE, TINY, write_tiny

from assessor import expressions, ledger, sheets, yamlfile
from assessor.assessment import Assessment, measure
from assessor.canonical import canonical_json
from assessor.claims import read_claims
from assessor.comparison import compare
from assessor.criteria import load_catalog
from assessor.errors import AssessorError
from assessor.evidence import check as look_again
from assessor.evidence_formats import imported
from assessor.evidence_formats import read as read_evidence
from assessor.exports.oscal_catalog import catalog_to_oscal
from assessor.exports.oscal_reading import read_oscal, to_yaml
from assessor.messages import retold, speaking
from assessor.model import Answers, Catalog, Configuration, Imported
from assessor.prefill import found_in
from assessor.project import Project, now
from assessor.rerun import AS_REPORTED, target_of
from assessor_checks._lock_files import read as read_lock_file
from assessor_checks._requirements import overall
from assessor_checks.security._bill_of_materials import cyclonedx
from assessor_checks.security._model_files import look_at
from assessor_checks.security._pickles import follow

TOLD = (AssessorError, expressions.ExpressionError)
"""How a reader may refuse: in words, with exit code 2 or 4."""

SAMPLES = Path(__file__).parents[1] / "data"


class Parser(NamedTuple):
    """A reader and a sample that it reads."""

    read: Callable[[bytes], object]
    sample: Callable[[], bytes]


@cache
def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="fuzz"))


@cache
def _catalog() -> Catalog:
    return load_catalog()


@cache
def _project() -> Project:
    """A small assessment with one measurement."""
    files = {"assessor.yaml": yamlfile.dump(CONFIGURATION).encode(), "p.csv": TABLE.encode()}
    project = Project.create(_folder() / "assessment", files, actor="tester", action="init")
    measure(project, ["reliability.performance"])
    return project


def _file(name: str, read: Callable[[Path], object]) -> Callable[[bytes], object]:
    """A reader of files as a reader of bytes."""

    def reading(content: bytes) -> object:
        path = _folder() / name
        path.write_bytes(content)
        return read(path)

    return reading


def _lock_file(name: str) -> Callable[[bytes], object]:
    def reading(content: bytes) -> object:
        listed = read_lock_file(name, content.decode("utf-8", "replace"))
        return None if listed is None else json.dumps(cyclonedx(overall([listed]))).encode()

    return reading


def _pack(content: bytes) -> object:
    folder = write_tiny(_folder() / "catalog")
    (folder / "packs/X-TRY/X-TRY-R-ME.yaml").write_bytes(content)
    return load_catalog(folder, packs=["X-TRY"])


def _claims(path: Path) -> object:
    """A stranger's report, as `compare` and `rerun` take it."""
    claims = read_claims(path)
    return compare(claims, claims), target_of(claims, _project().folder, AS_REPORTED)


def _result(content: bytes) -> object:
    project = _project()
    (run_id,) = project.run_ids().values()
    path = project.folder / "results" / "reliability.performance" / f"{run_id}.json"
    before = path.read_bytes()
    path.write_bytes(content)
    try:
        return Assessment.read(project)
    finally:
        path.write_bytes(before)


def _evidence(content: bytes, name: str) -> object:
    """Another tool's result, as the register keeps it."""
    found = read_evidence(content, name)
    return Imported.model_validate(imported(content, found).model_dump()) if found else name


def _register(content: bytes) -> object:
    project = _project()
    path = project.folder / "evidence.yaml"
    path.write_bytes(content)
    try:
        return list(look_again(project, _catalog(), date(2026, 11, 22)))
    finally:
        path.unlink()


def _retelling(content: bytes) -> object:
    with speaking("de"):
        return retold(content.decode("utf-8", "replace"))


def _csv() -> bytes:
    path = _folder() / "sheet.csv"
    path.unlink(missing_ok=True)
    found = Assessment.read(_project())
    sheets.write_sheet(path, [found.catalog.by_id["RE-R-SC-CR-01"], found.catalog.by_id["FN-P"]], found)
    return path.read_bytes()


def excel(parts: Mapping[str, bytes | str] | None = None) -> bytes:
    """A small Excel file, with some of its parts replaced."""
    parts = parts or {}
    book, plain, made = openpyxl.Workbook(), io.BytesIO(), io.BytesIO()
    for row in (["id", "part", "reply", "because"], ["RE-R-SC-ME-05", "verdict", "fulfilled", "b"]):
        book.active.append(row)
    book.save(plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            if name not in parts:
                target.writestr(name, source.read(name))
        for name, content in parts.items():
            target.writestr(name, content)
    return made.getvalue()


def zipped(parts: Mapping[str, bytes]) -> bytes:
    """A zip archive."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return made.getvalue()


def _npy() -> bytes:
    made = io.BytesIO()
    np.save(made, np.arange(3.0))
    return made.getvalue()


def _safetensors() -> bytes:
    header = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(8)


REGISTER = b"""%b:
  name: notes.md
  media_type: text/markdown
  size: 21
  type: record
  classification: confidential
  requirements: [FN-S, RE-S]
  by: Ada
  at: '2026-11-22T10:00:00Z'
  expires: '2027-01-31'
  uri: s3://bucket/notes.md
  withheld: names of patients
  provenance: {format: JUnit XML, source: %b, findings: [{name: a, value: b, outcome: failed}], total: 1}
""" % (b"a" * 64, b"a" * 64)
REQUIREMENTS = b"""-r other.txt
--index-url https://u:p@example.org/simple
numpy==1.26.4 --hash=sha256:aa \\
    --hash=sha256:bb
torch[cuda]>=2,<3; sys_platform == "linux" and (os_name != "nt")
bee @ git+https://example.org/bee.git@0123456789012345678901234567890123456789
https://example.org/x-1.0.tar.gz
"""
PYPROJECT = b"""[project]
name = "own"
dependencies = ["numpy>=1.26", "own[extra]", "torch==2.1.0; sys_platform == 'linux'"]
[project.optional-dependencies]
extra = ["scipy~=1.10"]
[tool.poetry.dependencies]
mine = {git = "https://example.org/m.git", rev = "0123"}
many = [{version = "==1.0"}, {version = "^2"}]
"""
POETRY = b"""[[package]]
name = "numpy"
version = "1.26.4"
files = [{file = "n.whl", hash = "sha256:aa"}]
[package.source]
type = "git"
url = "https://example.org/m.git"
resolved_reference = "0123"
"""
PIPFILE = json.dumps({"default": {"numpy": {"version": "==1.26.4", "hashes": ["sha256:aa"]}}, "_meta": {}}).encode()
CONDA = b"dependencies:\n  - numpy=1.26.4=py311_0\n  - pip\n  - pip:\n      - rich==13\n      - -r more.txt\n"
CONDA_LOCK = b"package:\n  - {name: numpy, version: 1.26.4, manager: conda, hash: {sha256: aa}}\n  - {name: rich}\n"
EXPLICIT = b"@EXPLICIT\nhttps://c.org/linux-64/numpy-1.26.4-py311_0.conda#0123456789abcdef0123456789abcdef\n"

PARSERS: dict[str, Parser] = {
    "yaml": Parser(lambda content: yamlfile.parse(content, "a.yaml"), PACK.encode),
    "configuration": Parser(
        lambda content: yamlfile.validate(yamlfile.parse(content, "assessor.yaml"), Configuration),
        (SAMPLES / "assessment-1.0.0/assessor.yaml").read_bytes,
    ),
    "answers": Parser(
        lambda content: yamlfile.validate(yamlfile.parse(content, "answers.yaml"), Answers),
        (SAMPLES / "assessment-1.0.0/answers/FN-P.yaml").read_bytes,
    ),
    "answers.yaml": Parser(
        _file("in.yaml", lambda path: sheets.read_answers(_project(), path, by="x")),
        lambda: b"RE-R-SC-ME-05:\n  {value: fulfilled, because: x, by: a, at: '2026-03-01T10:00:00Z', replies: {}}\n",
    ),
    "answers.csv": Parser(_file("in.csv", lambda path: sheets.read_answers(_project(), path, by="x")), _csv),
    "answers.xlsx": Parser(_file("in.xlsx", lambda path: sheets.read_answers(_project(), path, by="x")), excel),
    "pack": Parser(_pack, TINY["packs/X-TRY/X-TRY-R-ME.yaml"].encode),
    "expression": Parser(
        lambda content: expressions.parse(content.decode("utf-8", "replace")),
        lambda: (
            b"not (need.FN == 'high' or 'image' in profile.uses) and reply('A.q1') not in ['x', 2] or answered('B')"
        ),
    ),
    "oscal": Parser(
        _file("oscal.json", lambda path: to_yaml(read_oscal(path))),
        lambda: json.dumps(catalog_to_oscal(load_catalog(write_tiny(_folder() / "catalog")), now())).encode(),
    ),
    "ledger": Parser(
        ledger.history,
        lambda: b"".join((_project().folder / "ledger.jsonl").read_bytes().splitlines(keepends=True)[:1]),
    ),
    "result": Parser(_result, lambda: canonical_json(_project().runs()["reliability.performance"])),
    "claims": Parser(_file("record.json", _claims), lambda: canonical_json(Assessment.read(_project()).record())),
    "claims.pdf": Parser(_file("report.pdf", read_claims), lambda: b"%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj\n%%EOF"),
    "retelling": Parser(_retelling, lambda: b"accuracy 0.82 [0.7, 0.9] lies across the target of 0.8 to 1: 9 samples."),
    "requirements.txt": Parser(_lock_file("requirements.txt"), lambda: REQUIREMENTS),
    "explicit.txt": Parser(_lock_file("explicit.txt"), lambda: EXPLICIT),
    "pyproject.toml": Parser(_lock_file("pyproject.toml"), lambda: PYPROJECT),
    "poetry.lock": Parser(_lock_file("poetry.lock"), lambda: POETRY),
    "uv.lock": Parser(_lock_file("uv.lock"), lambda: POETRY),
    "pdm.lock": Parser(_lock_file("pdm.lock"), lambda: POETRY),
    "pylock.toml": Parser(_lock_file("pylock.toml"), lambda: POETRY.replace(b"[package", b"[packages")),
    "Pipfile.lock": Parser(_lock_file("Pipfile.lock"), lambda: PIPFILE),
    "environment.yml": Parser(_lock_file("environment.yml"), lambda: CONDA),
    "conda-lock.yml": Parser(_lock_file("conda-lock.yml"), lambda: CONDA_LOCK),
    **{
        f"prefill {name}": Parser(_file(name, lambda path: found_in([path])), lambda sample=sample: sample)
        for name, sample in {
            "card.md": (SAMPLES / "evidence/model_card.md").read_bytes(),
            "bom.json": (SAMPLES / "evidence/ml_bom.cdx.json").read_bytes(),
            "spdx.json": (SAMPLES / "evidence/ai.spdx3.json").read_bytes(),
            "requirements.txt": REQUIREMENTS,
            "poetry.lock": POETRY,
            "pyproject.toml": PYPROJECT,
            "Pipfile.lock": PIPFILE,
        }.items()
    },
    "evidence.yaml": Parser(_register, lambda: REGISTER),
    **{
        f"evidence {path.name}": Parser(lambda content, name=path.name: _evidence(content, name), path.read_bytes)
        for path in sorted((SAMPLES / "evidence").iterdir())
    },
    "pickle": Parser(follow, lambda: pickle.dumps({"a": [np.float64(1), range(3)], "b": b"\x80\x04N."}, protocol=4)),
    "pickle of protocol 0": Parser(follow, lambda: pickle.dumps({"a": [complex(1, 2), "\u20ac"]}, protocol=0)),
    **{
        f"model {name}": Parser(lambda content, name=name: look_at(content, name), sample)
        for name, sample in {
            "model.pt": lambda: zipped({"a/data.pkl": pickle.dumps([1, {}], protocol=2), "a/data/0": bytes(16)}),
            "model.npy": _npy,
            "model.safetensors": _safetensors,
            "model.onnx": lambda: b"\x08\x07\x3a\x0c\x0a\x0a\x22\x04Gemm\x3a\x02ai",
            "model.gguf": lambda: b"GGUF\x03\0\0\0" + bytes(8) + b"\1" + bytes(7) + b"\1" + bytes(7) + b"a\4\0\0\0abcd",
            "model.h5": lambda: b'\x89HDF\r\n\x1a\n{"class_name": "Dense", "config": {"name": "a"}}' + bytes(9),
            "model.json": lambda: b'[{"class_name": "Dense", "module": "keras.layers", "config": {"a": [1, null]}}]',
        }.items()
    },
}


def outcome(parser: Parser, content: bytes) -> Any:
    """What a reader makes of bytes: a value, or the words in which it refuses; anything else is a fault of ours."""
    try:
        return parser.read(content)
    except TOLD as told:
        return told
