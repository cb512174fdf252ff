"""The catalog: complete, consistent, quick to read, and every fault in it told with its line."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest

from assessor.criteria import load_catalog
from assessor.errors import ConfigurationError, UsageError
from assessor.model import AreaKind, Aspect, Catalog, ProvenanceStatus, Requirements
from assessor.registry import load_checks

FOLDER = Path(__file__).parents[1] / "catalog"

# Number of requirements by area, from the outline of the published catalog (section 1.5).
COUNTS = {
    "PF-T": 5,
    **{"FN-P": 1, "FN-R-FN": 13, "FN-R-CD": 8, "FN-S": 1},
    **{"AC-P": 1, "AC-R-TD": 10, "AC-R-IE": 8, "AC-S": 1},
    **{"TR-P": 1, "TR-R-UA": 11, "TR-R-EX": 12, "TR-R-AU": 9, "TR-R-CD": 6, "TR-S": 1},
    **{"RE-P": 1, "RE-R-SC": 12, "RE-R-RO": 13, "RE-R-IM": 13, "RE-R-UE": 8, "RE-R-CD": 6, "RE-S": 1},
    **{"S-P": 1, "S-R-FS": 22, "S-R-IA": 20, "S-R-CD": 6, "S-S": 1},
    **{"DP-P": 1, "DP-R-PD": 19, "DP-R-BI": 19, "DP-R-CD": 7, "DP-S": 1},
    "AT": 1,
}


def test_counts(catalog: Catalog) -> None:
    assert len(catalog.requirements) == 240
    assert {area: len(found) for area, found in catalog.by_area.items()} == COUNTS
    assert sum(area.kind is AreaKind.RISK for _, area in catalog.areas()) == 19
    assert sum(head.is_dimension for head in catalog.head.dimensions) == 6
    aspects = [item.aspect for item in catalog.requirements]
    expected = {Aspect.CRITERION: 38, Aspect.RISK: 28, Aspect.OVERALL: 20, Aspect.PROTECTION: 6, Aspect.SUMMARY: 6}
    assert {aspect: aspects.count(aspect) for aspect in expected} == expected
    statuses = [item.provenance.status for item in catalog.requirements]
    assert [statuses.count(status) for status in ProvenanceStatus] == [222, 4, 10, 4]


def test_ids_say_area_aspect_and_dimension(catalog: Catalog) -> None:
    dimension_of = {area.id: head.id for head, area in catalog.areas()}
    for item in catalog.requirements:
        assert dimension_of[item.area] == item.dimension
        last = [part for part in item.id.split("-") if part.isupper() and part in set(Aspect)][-1]
        assert last == item.aspect


def test_every_reference_resolves(catalog: Catalog) -> None:
    for item in catalog.requirements:
        for reference in item.refers_to:
            assert reference in catalog.by_id
            assert catalog.by_id[reference].id != item.id


def test_every_dimension_is_summed_up_with_a_residual_risk(catalog: Catalog) -> None:
    for item in catalog.requirements:
        if item.aspect is Aspect.SUMMARY:
            question = item.question("residual_risk")
            assert question is not None
            assert question.options == ("negligible", "acceptable", "unacceptable")
        if item.aspect is Aspect.PROTECTION:
            question = item.question("level")
            assert question is not None
            assert question.options == (("medium", "high") if item.id == "RE-P" else ("low", "medium", "high"))


def test_checks_and_catalog_name_each_other(catalog: Catalog) -> None:
    checks = load_checks()
    bound: dict[str, set[str]] = {check: set() for check in checks}
    for item in catalog.requirements:
        for check in item.checks:
            assert check in checks, f"{item.id} names a check that is not installed"
            bound[check].add(item.id)
    assert bound == {name: set(check.info.requirements) for name, check in checks.items()}
    assert all(bound.values())


def test_selection(catalog: Catalog) -> None:
    assert catalog.select(None) == catalog.requirements
    assert [item.id for item in catalog.select("PF-T-FA-*")] == ["PF-T-FA-a"]
    assert len(catalog.select("RE-R-SC")) == 12
    assert len(catalog.select("RE")) == 54
    assert catalog.select("XX") == ()


def test_loading_is_quick() -> None:
    def seconds() -> float:
        start = time.process_time()
        load_catalog()
        return time.process_time() - start

    assert min(seconds() for _ in range(3)) < 0.3


def test_schema_is_the_generated_one() -> None:
    generated = json.dumps(Requirements.model_json_schema(by_alias=True), indent=2, ensure_ascii=False) + "\n"
    assert (FOLDER / "schema.json").read_text("utf-8") == generated


def test_digest_is_of_the_content(tmp_path: Path, catalog: Catalog) -> None:
    copy = tmp_path / "catalog"
    shutil.copytree(FOLDER, copy)
    assert load_catalog(copy).sha256 == catalog.sha256
    path = copy / "AT" / "AT.yaml"
    path.write_text(path.read_text("utf-8") + "# a remark\n", "utf-8")
    assert load_catalog(copy).sha256 != catalog.sha256


# --- faults ----------------------------------------------------------------------------------------------------------

HEAD = """schema: aic-catalog/1
id: small
version: 1.0.0
title: Small
source: {title: a, publisher: b, edition: c, url: d, note: e}
dimensions:
  - id: FN
    title: Fairness
    areas:
      - {id: FN-P, kind: protection, title: Need}
      - {id: FN-S, kind: summary, title: Summary}
"""
AREA = """area: {area}
requirements:
  - id: {area}
    aspect: {aspect}
    kinds: [Do]
    title: A title
    statement: A statement.
    questions:
      - {{id: q1, type: text, text: What?}}
    evidence:
      - {{type: document, what: A document}}
    refers_to: [{refers_to}]
    provenance: {{status: seen}}
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A catalog of two requirements."""
    (tmp_path / "FN").mkdir()
    (tmp_path / "catalog.yaml").write_text(HEAD)
    (tmp_path / "FN" / "FN-P.yaml").write_text(AREA.format(area="FN-P", aspect="P", refers_to=""))
    (tmp_path / "FN" / "FN-S.yaml").write_text(AREA.format(area="FN-S", aspect="S", refers_to="FN-P"))
    return tmp_path


def test_the_small_catalog_is_sound(small: Path) -> None:
    assert [item.id for item in load_catalog(small).requirements] == ["FN-P", "FN-S"]


S = "FN/FN-S.yaml"


@pytest.mark.parametrize(
    ("file", "old", "new", "told"),
    [
        (S, "aspect: S", "aspct: S", f"{S}:4 requirements[0].aspct: unknown key 'aspct'; did you mean 'aspect'?"),
        (S, "    title: A title\n", "", f"{S}:3 requirements[0]: wanted the key 'title', found none"),
        (S, "A title", "x" * 73, f"{S}:6 requirements[0].title: found '{'x' * 73}', wanted at most 72 characters"),
        (S, "[Do]", "[Xx]", f"{S}:5 requirements[0].kinds[0]: found 'Xx', wanted 'Do', 'Pr' or 'Te'"),
        (S, "aspect: S", "aspect: ME", f"{S}:3 requirements[0]: lifecycle goes with aspect ME, and only with it"),
        (
            S,
            "kinds: [Do]",
            "kinds: [Do]\n    conditional: [Te]",
            f"{S}:3 requirements[0]: conditional lists kinds that are not among kinds",
        ),
        (
            S,
            "{id: q1, type: text",
            "{id: q1, type: choice",
            f"{S}:9 requirements[0].questions[0]: options go with type choice, and only with it",
        ),
        (
            S,
            "What?}",
            "What?}\n      - {id: q1, type: text, text: And?}",
            f"{S}:3 requirements[0]: question ids repeat",
        ),
        (S, "- id: FN-S", "- id: FN-Q", f"{S}:3 requirements[0]: id: found 'FN-Q', wanted an id such as FN-R-FN-ME-05"),
        (S, "- id: FN-S", "- id: TR-S", f"{S}:3 id: found 'TR-S', wanted an id of area FN-S"),
        (S, "- id: FN-S", "- id: FN-P", f"{S}:3 FN-P: id 'FN-P' appears twice (first FN/FN-P.yaml:3 FN-P)"),
        (
            S,
            "    refers_to",
            "    aliases: [FN-P]\n    refers_to",
            f"{S}:3 FN-S: id 'FN-P' appears twice (first FN/FN-P.yaml:3 FN-P)",
        ),
        (S, "[FN-P]", "[FN-X]", f"{S}:3 FN-S refers_to: no requirement 'FN-X'; did you mean 'FN-S'?"),
        (S, "area: FN-S", "area: FN-P", f"{S}:1 area: found 'FN-P', wanted 'FN-S'"),
        (S, "area: FN-S", "area: FN-S\narea: FN-S", f"{S}:2 key 'area' appears twice (first in line 1); keep one"),
        (S, "[FN-P]", "[FN-P", f"{S}:13 not readable as YAML (column 15)"),
        (S, "{status: seen}", "{status: read}", f"{S}:13 requirements[0].provenance.status: found 'read', wanted"),
        ("catalog.yaml", "summary", "sumary", "catalog.yaml:11 dimensions[0].areas[1].kind: found 'sumary', wanted"),
        ("catalog.yaml", "1.0.0", "one", "catalog.yaml:3 version: found 'one', wanted text that matches"),
        (
            "catalog.yaml",
            "      - {id: FN-S, kind: summary, title: Summary}\n",
            "",
            f"{S}:1 found a file that catalog.yaml does not list under areas",
        ),
    ],
)
def test_faults_are_told_with_file_and_line(small: Path, file: str, old: str, new: str, told: str) -> None:
    path = small / file
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    with pytest.raises(ConfigurationError) as caught:
        load_catalog(small)
    assert [line for line in str(caught.value).splitlines() if line.startswith(told)], str(caught.value)


def test_faults_of_all_files_are_told_at_once(small: Path) -> None:
    (small / "FN" / "FN-P.yaml").write_text("area: 1\n")
    (small / "FN" / "FN-S.yaml").unlink()
    (small / "FN" / "FN-X.yaml").write_text("")
    with pytest.raises(ConfigurationError) as caught:
        load_catalog(small)
    told = str(caught.value)
    for part in (
        "FN/FN-P.yaml:1 area: found 1",
        "FN-S.yaml: cannot read it: No such file",
        "FN/FN-X.yaml:1 found a file",
    ):
        assert part in told


def test_a_folder_without_a_catalog(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no catalog\.yaml here; wanted the folder of a catalog"):
        load_catalog(tmp_path)
