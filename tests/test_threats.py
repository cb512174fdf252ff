"""docs/threats.md names a test for every threat; and the attacks that no other test tries."""

from __future__ import annotations

import ast
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pypdf
import pytest
from commands import Run

from assessor import yamlfile
from assessor.assessment import Assessment
from assessor.errors import ConfigurationError, UsageError
from assessor.exports.oscal_catalog import catalog_to_oscal
from assessor.exports.oscal_reading import catalog_from_oscal
from assessor.model import Catalog
from assessor.project import Project, now
from assessor.report import report_html, report_pdf
from assessor.sheets import read_answers
from tests.fuzz.parsers import PARSERS, excel, outcome

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "threats.md").read_text("utf-8")
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")

# --- the page --------------------------------------------------------------------------------------------------------


def threats() -> Iterator[str]:
    """Rows of the page's tables, without their heads."""
    for line in PAGE.split("\n"):
        if line.startswith("| ") and not line.startswith(("| from |", "| who |")):
            yield line


def test_every_threat_names_a_test() -> None:
    assert len(list(threats())) >= 25
    assert [row for row in threats() if not NAMED.search(row.split("|")[-2])] == []


@pytest.mark.parametrize(("file", "name"), sorted(set(NAMED.findall(PAGE))))
def test_every_named_test_exists(file: str, name: str) -> None:
    tree = ast.parse((ROOT / file).read_text("utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_no_test_is_named_in_another_form() -> None:
    assert PAGE.count("::") == len(NAMED.findall(PAGE))


# --- attacks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['true']",
        "!!python/name:os.system",
        "!!python/module:os",
        "a: !!python/object/new:os.system [true]",
    ],
)
def test_yaml_makes_no_objects(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.system", lambda _command: pytest.fail("it was run"))
    try:
        found = yamlfile.parse(text, "a.yaml").data
    except ConfigurationError:
        return
    assert found in (["true"], {"a": [True]})  # the tag of a list says nothing


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_an_excel_file_has_no_entities(make_folder: Callable[..., Project], tmp_path: Path, encoding: str) -> None:
    (tmp_path / "secret").write_text("secret")
    secret = (tmp_path / "secret").as_uri()
    sheet = (
        f'<?xml version="1.0" encoding="{encoding}"?><!DOCTYPE l [<!ENTITY a SYSTEM "{secret}">]>'
        '<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData><row r="1">'
        '<c r="A1" t="inlineStr"><is><t>&a;</t></is></c></row></sheetData></worksheet>'
    )
    (tmp_path / "a.xlsx").write_bytes(excel({"xl/worksheets/sheet1.xml": sheet.encode(encoding)}))
    with pytest.raises(UsageError, match="found a document type in its XML"):
        read_answers(make_folder(), tmp_path / "a.xlsx", by="x")


@pytest.mark.parametrize("name", ["../secret.txt", "{tmp}/secret.txt", "link.txt", "a/../../secret.txt"])
def test_a_sheet_takes_no_evidence_from_outside_its_folder(
    make_folder: Callable[..., Project], tmp_path: Path, name: str
) -> None:
    project, sheets = make_folder(), tmp_path / "theirs"
    sheets.mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    (sheets / "link.txt").symlink_to(tmp_path / "secret.txt")
    (sheets / "own.txt").write_text("own")
    row = "id,part,reply,because,evidence\nRE-R-SC-ME-05,verdict,fulfilled,so,{}\n"
    (sheets / "a.csv").write_text(row.format(name.format(tmp=tmp_path)))
    with pytest.raises(UsageError, match="outside the folder of the sheet"):
        read_answers(project, sheets / "a.csv", by="x")
    (sheets / "a.csv").write_text(row.format("own.txt"))
    assert len(read_answers(project, sheets / "a.csv", by="x")) == 1


@pytest.mark.parametrize("name", ["../../stolen", "/tmp/stolen", "X-/../../stolen", "..", "a/b", "a\\b", "a\n"])
def test_a_catalog_writes_only_into_its_folder(tiny_catalog: Catalog, name: str) -> None:
    document: Any = catalog_to_oscal(tiny_catalog, now())
    assert catalog_from_oscal(document).requirements == tiny_catalog.requirements
    group = document["catalog"]["groups"][0]
    for place, prefix in ((group, "dimension-"), (group["groups"][0], "area-")):
        before, place["id"] = place["id"], prefix + name
        with pytest.raises(ConfigurationError):
            catalog_from_oscal(document)
        place["id"] = before


def test_no_reader_opens_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> None:
        raise AssertionError("a connection was opened")

    samples = {name: parser.sample() for name, parser in PARSERS.items()}
    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for name, sample in samples.items():
        outcome(PARSERS[name], sample)
        outcome(PARSERS[name], sample.replace(b"example.org", b"127.0.0.1:9"))
    with pytest.raises(AssertionError, match="a connection"):
        socket.create_connection(("127.0.0.1", 9))


@pytest.mark.slow
def test_messages_obey_no_text(tmp_path: Path, run: Run) -> None:
    hostile = "a\x1b[2J\x07\u202eb"
    (tmp_path / "assessor.yaml").write_text(f'format: 1\n"{hostile[0]}\\e[2J\\u202eb": 1\n')
    for arguments in (
        ["status", "--project", str(tmp_path)],
        ["verify", str(tmp_path / f"{hostile}.pdf")],
        ["compare", str(tmp_path / hostile), str(tmp_path / hostile)],
        ["catalog", "show", hostile],
        ["prefill", "--project", str(tmp_path), hostile],
    ):
        code, *told = run(*arguments)
        assert code in {2, 4}
        assert any(told)
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", "".join(told)), arguments


TEMPLATE = "{{ 7 * 7 }}{% raw %}${7*7}<%= 7*7 %>#{7*7}{{ cycler.__init__.__globals__ }}"


def test_an_answer_is_no_template(make_folder: Callable[..., Project]) -> None:
    project = make_folder(system={"name": TEMPLATE, "version": "1", "purpose": TEMPLATE})
    html = report_html(Assessment.read(project), {})
    assert "{{ 7 * 7 }}{% raw %}" in html
    assert "49" not in re.findall(r"<h1[^>]*>(.*?)</h1>", html, re.DOTALL)[0]


@pytest.mark.slow
def test_a_pdf_holds_no_script(make_folder: Callable[..., Project], tmp_path: Path) -> None:
    hostile = "<a href='javascript:app.alert(1)'>x</a>javascript:app.alert(1)/JavaScript /JS (app.alert(1)) /OpenAction"
    found = Assessment.read(make_folder(system={"name": hostile, "version": "1", "purpose": hostile}))
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "report.html.j2").write_text(
        "<html lang=en><title>x</title><body onload='alert(1)'><script>alert(1)</script>"
        "<form action='http://127.0.0.1:9'><input type=submit></form><a href='javascript:app.alert(1)'>x</a>"
        "<object data='x.js'></object></html>"
    )
    for number, templates in enumerate((None, tmp_path / "t")):
        path = tmp_path / f"{number}.pdf"
        path.write_bytes(report_pdf(found, {}, templates=templates) if templates else report_pdf(found, {}))
        reader = pypdf.PdfReader(path)
        assert {"/OpenAction", "/AA"} & set(reader.trailer["/Root"]) == set()
        kinds = {str(part.get("/S")) for part in _dictionaries(reader)}
        keys = {key for part in _dictionaries(reader) for key in part}
        assert not {"/JavaScript", "/Launch", "/SubmitForm", "/ImportData", "/GoToR", "/Rendition"} & kinds
        assert not {"/JS", "/JavaScript", "/AA", "/OpenAction"} & keys


def _dictionaries(reader: pypdf.PdfReader) -> Iterator[pypdf.generic.DictionaryObject]:
    """All dictionaries of a PDF, also those inside others."""
    todo: list[Any] = [reader.get_object(number) for number in range(1, reader.trailer["/Size"])]
    while todo:
        part = todo.pop()
        if isinstance(part, pypdf.generic.DictionaryObject):
            yield part
            todo += part.values()
        elif isinstance(part, pypdf.generic.ArrayObject):
            todo += part
