"""Tables and Markdown: what spreadsheets, scripts and readers get."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import Run
from hypothesis import given
from hypothesis import strategies as st

from assessor.assessment import Assessment
from assessor.contract import Document
from assessor.criteria import load_catalog
from assessor.exports.markdown import catalog_markdown
from assessor.exports.tables import Table, applicability_table, assessment_table, catalog_table, harmless
from assessor.messages import speaking
from assessor.model import Answer, Catalog, CheckRun, Requirements
from assessor.project import Project, evidence_ref

Make = Callable[..., Any]
AT = "2026-11-21T10:00:00Z"


@pytest.fixture
def assessed(make_folder: Make, make_run: Make) -> Project:
    """Fairness needed, safety not; one answer that a measurement contradicts."""
    needs = {
        "fairness": {"level": "high", "because": "people"},
        "safety": {"level": "low", "because": "=nothing moves"},
    }
    project: Project = make_folder(protection_needs=needs)
    said = {"value": "fulfilled", "because": "x", "by": "Ada", "at": AT}
    evidence = evidence_ref("=sheet.md", b"shown")
    answer = Answer.model_validate({**said, "evidence": [evidence]})
    project.save_answer("FN-R-FN-ME-05", "FN-R-FN", answer, evidence={"=sheet.md": b"shown"})
    project.save_run(make_run(check="trial.share", status="fail", requirements=("FN-R-FN-ME-05",)))
    return project


def rows(table: Table) -> dict[str, dict[str, str]]:
    return {record["id"]: record for record in table.records()}


# --- cells -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\t", "\r", "\n=", " =", "\u00a0@", "\uff1d"])
def test_no_cell_is_a_formula(sign: str) -> None:
    assert harmless(f"{sign}cmd|' /C calc'!A0").startswith("'")


@given(st.lists(st.tuples(st.text(), st.text()), max_size=5))
def test_any_text_survives_csv(cells: list[tuple[str, str]]) -> None:
    found = list(csv.reader(io.StringIO(Table(("a", "b"), cells).as_csv(), newline="")))
    assert found[0] == ["a", "b"]
    assert [tuple(row) for row in found[1:]] == [tuple(map(harmless, row)) for row in cells]
    assert not any(cell.startswith(("=", "+", "-", "@")) for row in found for cell in row)


# --- the assessment --------------------------------------------------------------------------------------------------


def test_one_row_a_requirement(assessed: Project) -> None:
    found = Assessment.read(assessed)
    table = rows(assessment_table(found))
    assert list(table) == [item.id for item in found.catalog.requirements]
    assert table["FN-R-FN-ME-05"] == {
        "id": "FN-R-FN-ME-05",
        "title": found.catalog.by_id["FN-R-FN-ME-05"].title,
        "applies": "yes",
        "because": "protection need FN: high",
        "self": "fulfilled",
        "auditor": "not_assessed",
        "assurance": "self_declared",
        "checks": "trial.share: fail",
        "evidence": "=sheet.md",
        "contradictions": "trial.share",
    }
    assert (table["S-R-FS-CR-01"]["applies"], table["S-R-FS-CR-01"]["self"]) == ("no", "not_assessed")


def test_the_statement_of_applicability_has_a_reason_for_everything(assessed: Project) -> None:
    found = Assessment.read(assessed)
    table = {name: (row["applies"], row["because"]) for name, row in rows(applicability_table(found)).items()}
    assert len(table) == len(found.catalog.requirements)
    assert {word for word, _because in table.values()} == {"yes", "no", "not known"}
    assert all(because for _word, because in table.values())
    assert table["S-S"] == ("no", "the protection need is low: =nothing moves")
    assert table["S-P"] == table["AT"] == table["PF-T-FA-01"] == ("yes", "asked of every system")
    assert table["FN-S"] == ("yes", "protection need FN: high")
    assert table["RE-S"] == ("yes", "asked of every system")  # reliability is never low
    assert table["AC-S"] == ("not known", "protection need AC: not known yet")
    for name, (word, _because) in table.items():
        assert (word == "no") == (not found.scope.of(found.catalog.by_id[name]).applies), "what is not known is asked"


def test_the_words_of_tables_are_the_same_in_german(assessed: Project) -> None:
    with speaking("de"):
        german = Assessment.read(assessed)
        table = rows(assessment_table(german))
    assert table["FN-R-FN-ME-05"]["self"] == "fulfilled"
    assert table["FN-R-FN-ME-05"]["title"] != load_catalog().by_id["FN-R-FN-ME-05"].title


def test_export_csv(assessed: Project, run: Run, tmp_path: Path) -> None:
    for format_, make in (("csv", assessment_table), ("applicability", applicability_table)):
        wanted = make(Assessment.read(assessed))
        code, out, _err = run("export", "--project", assessed.folder, "--format", format_)
        assert (code, out) == (0, wanted.as_csv())
        code, out, _err = run("export", "--project", assessed.folder, "--format", format_, "--json")
        assert json.loads(out) == wanted.records()
        path = tmp_path / "deep" / f"{format_}.csv"
        code, out, _err = run("export", "--project", assessed.folder, "--format", format_, "--output", path)
        assert (code, out) == (0, f"{path}\n")
        assert path.read_bytes() == wanted.as_csv().encode("utf-8-sig")


def test_unknown_formats(assessed: Project, run: Run) -> None:
    code, _out, err = run("export", "--project", assessed.folder, "--format", "xml")
    assert (code, err) == (2, "assessor: --format: found 'xml', wanted one of oscal, csv, applicability, cyclonedx\n")
    code, _out, err = run("catalog", "export", "--format", "xml")
    assert code == 2
    assert "wanted one of json, csv, markdown, oscal, schema, result-schema" in err


# --- the catalog -----------------------------------------------------------------------------------------------------


def test_catalog_table(catalog: Catalog) -> None:
    table = rows(catalog_table(catalog))
    assert list(table) == [item.id for item in catalog.requirements]
    row, item = table["FN-R-FN-CR-01"], catalog.by_id["FN-R-FN-CR-01"]
    assert (row["dimension"], row["area"], row["aspect"]) == ("Fairness", "Fairness", "CR")
    assert row["objectives"].splitlines()[0] == f"a: {item.objectives[0].text}"
    assert row["refers_to"] == ", ".join(item.refers_to)


def test_catalog_markdown_has_every_text(catalog: Catalog) -> None:
    text = catalog_markdown(catalog)
    bare = text.replace("\\", "")
    for item in catalog.requirements:
        assert f"#### {item.id} " in text
        for part in (item.title, item.statement, item.guidance.do, *(question.text for question in item.questions)):
            assert " ".join(part.split()) in bare
    assert text.count("\n## ") == len(catalog.head.dimensions)
    assert not any(line != line.rstrip() for line in text.splitlines())


def test_nothing_in_a_text_is_markup(tiny_catalog: Catalog) -> None:
    item = tiny_catalog.requirements[0]
    changed = item.model_copy(update={"statement": "1. *a* _b_ <c> [d](e)\n# f", "title": "x | y"})
    catalog = Catalog(head=tiny_catalog.head, requirements=(changed, *tiny_catalog.requirements[1:]), sha256="0" * 64)
    text = catalog_markdown(catalog)
    assert r"1\. \*a\* \_b\_ \<c\> \[d\](e) # f" in text
    assert rf"#### {item.id} x \| y" in text


@pytest.mark.slow
def test_catalog_export_in_every_format(run: Run, tmp_path: Path) -> None:
    code, out, _err = run("catalog", "export")
    assert (code, len(json.loads(out)["requirements"])) == (0, 240)
    code, out, _err = run("catalog", "export", "--format", "oscal", "--pack", "X-ENV")
    assert [group["id"] for group in json.loads(out)["catalog"]["groups"]][-2:] == ["dimension-X-ENV", "dimension-AT"]
    code, out, _err = run("catalog", "export", "--format", "markdown", "--lang", "de")
    assert out.startswith("# KI-")
    code, out, _err = run("catalog", "export", "--format", "schema")
    assert json.loads(out) == Requirements.model_json_schema(by_alias=True)
    code, out, _err = run("catalog", "export", "--format", "result-schema")
    assert json.loads(out) == CheckRun.model_json_schema(by_alias=True)
    path = tmp_path / "catalog.csv"
    code, out, _err = run("catalog", "export", "--format", "csv", "--output", path)
    assert (code, out) == (0, f"{path}\n")
    assert len(list(csv.reader(io.StringIO(path.read_text("utf-8-sig"), newline="")))) == 241


def test_export_of_a_document_that_a_measurement_holds(
    run: Run, assessed: Project, make_run: Make, tmp_path: Path
) -> None:
    given = ("export", "--project", assessed.folder, "--format", "cyclonedx")
    code, out, err = run(*given)
    assert (code, out) == (2, "")
    assert "assessor check run security.dependencies" in err.replace("\n", " ")
    bill = {"bomFormat": "CycloneDX", "components": [{"name": "ä"}]}
    held = Document(name="bom.cdx.json", standard="cyclonedx", content=bill)
    assessed.save_run(make_run(check="security.dependencies", documents=(held,)))
    code, out, _err = run(*given)
    assert (code, json.loads(out)) == (0, bill)
    code, out, _err = run(*given, "--output", tmp_path / "bom.cdx.json")
    assert json.loads((tmp_path / "bom.cdx.json").read_text("utf-8")) == bill
