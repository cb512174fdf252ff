"""OSCAL: NIST's models accept our documents, nothing is lost on the way back, and nothing open is ever satisfied."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from commands import Run
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from trestle.core.profile_resolver import ProfileResolver
from trestle.core.validator_factory import validator_factory
from trestle.oscal.assessment_plan import AssessmentPlan
from trestle.oscal.assessment_results import AssessmentResults
from trestle.oscal.catalog import Catalog as OscalCatalog
from trestle.oscal.profile import Profile

from assessor import yamlfile
from assessor.assessment import Assessment
from assessor.canonical import sha256_hex
from assessor.criteria import load_catalog
from assessor.errors import ConfigurationError
from assessor.exports.oscal import export_of, oscal_documents, oscal_json
from assessor.exports.oscal_catalog import catalog_to_oscal
from assessor.exports.oscal_reading import catalog_from_oscal, to_yaml
from assessor.exports.oscal_results import NOT_SATISFIED, SATISFIED, objective_status, results_to_oscal
from assessor.exports.oscal_scope import Export
from assessor.exports.oscal_words import NS, OSCAL_VERSION, line, prop, uid
from assessor.messages import speaking
from assessor.model import (
    Answer,
    Assurance,
    Audit,
    AuditSummary,
    Catalog,
    CheckRun,
    Configuration,
    EvidenceState,
    Requirement,
    RequirementState,
    Status,
    Verdict,
)
from assessor.project import Project, evidence_ref

Make = Callable[..., Any]
AT = datetime(2026, 11, 21, 10, tzinfo=UTC)
MODELS = {
    "catalog.json": OscalCatalog,
    "profile.json": Profile,
    "assessment-plan.json": AssessmentPlan,
    "assessment-results.json": AssessmentResults,
}


def answer(value: str = "fulfilled", **more: Any) -> Answer:
    return Answer.model_validate({"value": value, "because": "so it is", "by": "Ada Lovelace", "at": AT, **more})


def audit(value: str = "fulfilled", **more: Any) -> Audit:
    deviation = "something is missing" if value in {"partly", "not_fulfilled"} else ""
    said = {"value": value, "because": "seen", "assurance": "document_reviewed", "deviation": deviation}
    return Audit.model_validate({**said, "by": "Grace Hopper", "at": AT, **more})


@pytest.fixture(scope="module")
def assessed(tmp_path_factory: pytest.TempPathFactory, catalog: Catalog, make_run: Make) -> Project:
    """An assessment with something of everything."""
    need = {"because": "it matters\n\nmuch"}
    configuration = {
        "format": 1,
        "catalog": {"id": catalog.head.id, "version": catalog.head.version},
        "system": {"name": "Triage", "version": "1.2", "purpose": "sorts letters", "provider": "Letters Ltd"},
        "protection_needs": {
            "fairness": {"level": "high", **need},
            "reliability": {"level": "medium", **need},
            "safety": {"level": "low", "because": "nothing moves"},
        },
        "targets": {
            "fairness.group_metrics": {"metric": "gap", "interval": [0, 0.1], "because": "one in ten"},
            "trial.free": {"interval": [None, 3], "because": "no param names it"},
        },
    }
    folder = tmp_path_factory.mktemp("oscal") / "assessment"
    files = {"assessor.yaml": yamlfile.dump(configuration).encode()}
    project = Project.create(folder, files, actor="tester", action="init")
    shown = evidence_ref("data sheet.md", b"shown", "datasheet", date(2026, 11, 1))
    said: dict[str, Answer] = {
        "PF-T-FA-01": answer(replies={"q1": "It sorts.\nLetters.", "effect": "it informs them"}),
        "FN-P": answer(replies={"material": "high"}),
        "FN-R-FN-RI-01": answer(evidence=[shown], origins={"q2": "card.md"}, replies={"q2": "with two experts"}),
        "FN-R-FN-CR-01": answer(
            "partly",
            params={
                "definition": {"value": "equalized odds", "because": "misses and alarms both harm"},
                "difference": {"value": [0, 0.2], "because": "an older target; assessor.yaml goes before it"},
            },
        ),
        "FN-R-FN-ME-05": answer(),
        "FN-R-FN-ME-06": answer("not_applicable", because="no such\nstep"),
        "FN-R-FN-OA": answer("not_fulfilled"),
        "FN-S": answer(replies={"residual_risk": "acceptable"}),
        "RE-S": answer(replies={"residual_risk": "negligible"}),
        "RE-R-SC-ME-01": answer(same_as="FN-R-FN-RI-01"),
    }
    for name, entry in said.items():
        area = catalog.by_id[name].area
        project.save_answer(name, area, entry, evidence={"data sheet.md": b"shown"} if entry.evidence else {})
    for name, verdict in {
        "PF-T-FA-01": audit(assurance="re_performed"),
        "FN-R-FN-RI-01": audit(
            "partly", objectives=["b"], comment="one\ntwo", answer_at=datetime(2026, 1, 1, tzinfo=UTC)
        ),
    }.items():
        project.save_audit(name, catalog.by_id[name].area, verdict)
    second = {"by": "Katherine Johnson", "at": AT}
    rating = {"residual_risk": "unacceptable", "because": "a contradiction", "by": "Grace Hopper", "at": AT}
    trade = {"between": ["FN", "RE"], "what": "gives", "because": "law", "accepted_by": "Boss", "at": AT}
    end = {"trustworthy": "with conditions", "because": "see\nabove", "conditions": "mend it", "by": "G", "at": AT}
    summary = {"dimensions": {"FN": {**rating, "second": second}}, "trade_offs": {"T1": trade}, "conclusion": end}
    project.save_summary(AuditSummary.model_validate(summary), actor="G", action="conclude", because="x")
    for check, status, bound in (
        ("fairness.group_metrics", "fail", ("FN-R-FN-ME-05",)),
        ("reliability.performance", "pass", ("RE-R-SC-ME-05",)),
        ("trial.error", "error", ("RE-R-SC-ME-01",)),
        ("trial.measured", "measured", ()),
    ):
        project.save_run(make_run(check=check, status=status, requirements=bound), actor="tester")
    return project


@pytest.fixture(scope="module")
def documents(assessed: Project) -> Mapping[str, Any]:
    """The four documents as they read back from JSON."""
    return {name: json.loads(oscal_json(item)) for name, item in oscal_documents(export_of(assessed)).items()}


@pytest.fixture(scope="module")
def result(documents: Mapping[str, Any]) -> Mapping[str, Any]:
    """The one result of the results."""
    (found,) = documents["assessment-results.json"]["assessment-results"]["results"]
    return dict(found)


def ours(node: Mapping[str, Any], name: str) -> list[str]:
    return [item["value"] for item in node.get("props", ()) if item["name"] == name and item.get("ns") == NS]


def everything(node: Any, key: str) -> Iterator[Any]:
    """Values of a key at any depth."""
    if isinstance(node, dict):
        if key in node:
            yield node[key]
        for value in node.values():
            yield from everything(value, key)
    elif isinstance(node, list):
        for value in node:
            yield from everything(value, key)


# --- NIST's models ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_trestle_reads_the_document_and_finds_nothing_wrong(
    name: str, documents: Mapping[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(oscal_json(documents[name]))
    model = MODELS[name].oscal_read(path)
    assert model is not None
    assert all(validator.model_is_valid(model, True, None) for validator in validator_factory.get_all())


@pytest.mark.slow
def test_the_german_catalog_and_the_packs_are_valid_too() -> None:
    for catalog in (load_catalog(language="de"), load_catalog(packs=["X-ENV"])):
        OscalCatalog.model_validate(catalog_to_oscal(catalog, AT)["catalog"])


def test_an_assessment_in_german_is_valid_and_has_the_same_findings(
    assessed: Project, result: Mapping[str, Any]
) -> None:
    with speaking("de"):
        german = oscal_documents(export_of(assessed))
    for name, document in german.items():
        (root,) = document
        MODELS[name].model_validate(document[root])
    (told,) = german["assessment-results.json"]["assessment-results"]["results"]
    assert states(told) == states(result)
    assert told["findings"][0]["title"] != result["findings"][0]["title"]
    assert [item["uuid"] for item in told["findings"]] == [item["uuid"] for item in result["findings"]]


@pytest.mark.slow
def test_trestle_resolves_the_profile_to_the_applicable_requirements(
    assessed: Project, documents: Mapping[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".trestle").mkdir()
    for name in ("catalog.json", "profile.json"):
        (tmp_path / name).write_bytes(oscal_json(documents[name]))
    monkeypatch.chdir(tmp_path)
    resolved = ProfileResolver.get_resolved_profile_catalog(tmp_path, tmp_path / "profile.json")
    found = json.loads(resolved.oscal_serialize_json())["catalog"]
    controls = [control["id"] for part in everything(found, "controls") for control in part]
    assert sorted(controls) == sorted(item.id for item in export_of(assessed).applicable)
    values = {
        param["id"]: param["values"] for part in everything(found, "params") for param in part if "values" in param
    }
    assert values["FN-R-FN-CR-01.param.difference"] == ["[0.0, 0.1]"]


def test_ids_are_unique_and_every_reference_inside_leads_somewhere(documents: Mapping[str, Any]) -> None:
    catalog = documents["catalog.json"]["catalog"]
    ids = list(everything(catalog["groups"], "id"))
    assert len(ids) == len(set(ids))
    known = {*ids, *everything(catalog["back-matter"], "uuid")}
    assert {href[1:] for href in everything(catalog, "href") if href.startswith("#")} <= known
    for name in ("assessment-plan.json", "assessment-results.json"):
        uuids = list(everything(documents[name], "uuid"))
        assert len(uuids) == len(set(uuids))
        for key in ("actor-uuid", "subject-uuid", "observation-uuid", "risk-uuid", "component-uuid"):
            assert set(everything(documents[name], key)) <= set(uuids)
        assert {href[1:] for href in everything(documents[name], "href") if href.startswith("#")} <= set(uuids)
        for parties in everything(documents[name], "party-uuids"):
            assert set(parties) <= set(uuids)
    assert set(everything(documents, "oscal-version")) == {OSCAL_VERSION}


def test_findings_speak_of_objectives_that_the_catalog_has(
    documents: Mapping[str, Any], result: Mapping[str, Any]
) -> None:
    ids = set(everything(documents["catalog.json"], "id"))
    targets = [finding["target"]["target-id"] for finding in result["findings"]]
    assert set(targets) <= ids
    assert len(targets) == len(set(targets))
    assert {finding["target"]["type"] for finding in result["findings"]} == {"objective-id"}


# --- loss-less -------------------------------------------------------------------------------------------------------


def through_json(catalog: Catalog) -> Catalog:
    document = json.loads(oscal_json(catalog_to_oscal(catalog, AT)))
    return catalog_from_oscal(document)


def same(found: Catalog, wanted: Catalog) -> bool:
    return (found.head, found.requirements, found.language) == (wanted.head, wanted.requirements, wanted.language)


@pytest.mark.slow
@pytest.mark.parametrize("packs", [(), ("X-ENV",)])
def test_yaml_to_oscal_to_yaml_is_equal(packs: tuple[str, ...], tmp_path: Path) -> None:
    catalog = load_catalog(packs=packs)
    back = through_json(catalog)
    assert same(back, catalog)
    for name, content in to_yaml(back).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    assert same(load_catalog(tmp_path, packs=packs), catalog)


WHOLE_REQUIREMENT: dict[str, Any] = {
    "id": "FN-R-FN-CR-02",
    "aliases": ["FN-R-FN-CR-*", "FN R FN CR 2"],
    "state": "withdrawn",
    "replaced_by": ["FN-R-FN-ME-02", "FN-R-FN-OA"],
    "aspect": "CR",
    "kinds": ["Do", "Te", "Pr"],
    "conditional": ["Te"],
    "title": "A title",
    "statement": "One.\n\nTwo.",
    "guidance": {"do": "see remarks", "example": "e", "mistakes": ["m1", "m2"]},
    "objectives": [{"id": "a", "text": "ta"}, {"id": "b", "text": "tb"}],
    "applicability": "need == 'high'",
    "params": [
        {"id": "p1", "type": "choice", "label": "L", "options": ["x y", "z"], "labels": {"z": "zett"}},
        {"id": "p2", "type": "interval", "label": "M", "unit": "days", "check": "a.b"},
    ],
    "questions": [
        {
            "id": "q1",
            "type": "choice",
            "text": "Which?",
            "options": ["one", "two\nthree"],
            "labels": {"one": "eins"},
            "role": "auditor",
            "show_if": "need != 'low'\nand need.RE == 'high'",
            "fact": "f",
            "label": "see remarks",
            "objectives": ["b", "a"],
            "prefill": ["known:purpose", "result:a.b"],
        },
        {"id": "q2", "type": "table", "text": "Rows?", "columns": ["c 1", "c2"]},
        {"id": "q3", "type": "number", "text": "How many?", "unit": "1/s"},
    ],
    "evidence": [
        {"type": "test_report", "what": "t", "document": "test_report", "max_age_days": 30},
        {"type": "document", "what": "d"},
        {"type": "test_report", "what": "u"},
    ],
    "refers_to": ["FN-R-FN-RI-01", "FN-P"],
    "no_check_because": "nobody\ncan",
    "provenance": {"status": "own", "sources": ["A book, p. 3", "B\nC"]},
}


def with_requirement(catalog: Catalog, data: Mapping[str, Any]) -> Catalog:
    item = Requirement.model_validate(data)
    return Catalog(
        head=catalog.head,
        requirements=tuple(item if other.id == item.id else other for other in catalog.requirements),
        sha256=catalog.sha256,
    )


def test_every_field_of_a_requirement_comes_back(tiny_catalog: Catalog) -> None:
    measure = {**WHOLE_REQUIREMENT, "id": "FN-R-FN-ME-01", "aspect": "ME", "lifecycle": "data", "params": []}
    measure |= {"no_check_because": None, "checks": ["a.b", "c.d"], "kinds": ["Te"], "conditional": []}
    unset = set(Requirement.model_fields)
    for data in (WHOLE_REQUIREMENT, measure):
        item = Requirement.model_validate(data)
        unset &= {name for name, field in Requirement.model_fields.items() if getattr(item, name) == field.default}
        wanted = with_requirement(tiny_catalog, data)
        assert item in wanted.requirements
        assert same(through_json(wanted), wanted)
    assert not unset, "a new field of the model is not tried here"


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30).filter(
    lambda text: text.strip() != ""
)


@pytest.mark.slow
@given(st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_comes_back(tiny_catalog: Catalog, data: st.DataObject) -> None:
    def text() -> str:
        return data.draw(TEXT)

    changed = {
        **WHOLE_REQUIREMENT,
        "aliases": [text()],
        "title": text(),
        "statement": text(),
        "guidance": {"do": text(), "example": text(), "mistakes": [text()]},
        "objectives": [{"id": "a", "text": text()}, {"id": "b", "text": text()}],
        "params": [{"id": "p", "type": "choice", "label": text(), "options": [text()]}],
        "questions": [
            {"id": "q", "type": "several", "text": text(), "options": [text().replace(",", "").replace(";", "") or "x"]}
        ],
        "evidence": [{"type": "record", "what": text()}],
        "no_check_because": text(),
    }
    try:
        wanted = with_requirement(tiny_catalog, changed)
    except ValueError:  # the model refuses such a text
        assume(False)
    assert same(through_json(wanted), wanted)
    OscalCatalog.model_validate(catalog_to_oscal(wanted, AT)["catalog"])


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({}, "not readable as an OSCAL catalog of ours"),
        ({"catalog": {"metadata": {}}}, "found a catalog in the language None, wanted it in en"),
        ({"catalog": {"metadata": {"props": [prop("language", "en")]}}}, "not readable as an OSCAL catalog of ours"),
    ],
)
def test_documents_of_others_are_refused(document: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        catalog_from_oscal(document)


def test_translations_are_not_read_back() -> None:
    with pytest.raises(ConfigurationError, match="language de"):
        catalog_from_oscal(catalog_to_oscal(load_catalog(language="de"), AT))


def test_a_fault_inside_names_the_field(tiny_catalog: Catalog) -> None:
    document = catalog_to_oscal(tiny_catalog, AT)
    control = document["catalog"]["groups"][0]["groups"][0]["controls"][0]
    control["title"] = "x" * 200
    with pytest.raises(ConfigurationError, match=r"^c\.json: title: String should have at most 88"):
        catalog_from_oscal(document, "c.json")


# --- identifiers -----------------------------------------------------------------------------------------------------


def test_two_exports_of_one_state_are_the_same_bytes(assessed: Project, documents: Mapping[str, Any]) -> None:
    again = oscal_documents(export_of(Project(assessed.folder)))
    assert {name: oscal_json(item) for name, item in again.items()} == {
        name: oscal_json(item) for name, item in documents.items()
    }


def test_identifiers_do_not_depend_on_the_place_or_the_time(assessed: Project, catalog: Catalog) -> None:
    here, there = (list(everything(oscal_documents(export_of(assessed, base)), "uuid")) for base in ("..", "../a/b"))
    assert here == there
    early, late = (catalog_to_oscal(catalog, datetime(year, 1, 1, tzinfo=UTC)) for year in (2020, 2030))
    assert list(everything(early, "uuid")) == list(everything(late, "uuid"))
    assert uid("a") == "2fe0296d-7ec4-580d-9e81-6042b5567cee"


def test_a_change_keeps_the_identifiers_of_what_it_does_not_touch(
    assessed: Project, catalog: Catalog, tmp_path: Path
) -> None:
    import shutil

    shutil.copytree(assessed.folder, tmp_path / "copy")
    project = Project(tmp_path / "copy")
    before = results_to_oscal(export_of(project))["assessment-results"]
    project.save_answer("FN-R-FN-OA", "FN-R-FN", answer("fulfilled"), evidence={})
    after = results_to_oscal(export_of(project))["assessment-results"]
    assert before["uuid"] != after["uuid"]
    for part in ("findings", "observations", "risks"):
        assert [item["uuid"] for item in before["results"][0][part]] == [
            item["uuid"] for item in after["results"][0][part]
        ]


# --- what results say ------------------------------------------------------------------------------------------------


def states(result: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    return {
        finding["target"]["target-id"]: (finding["target"]["status"]["state"], finding["target"]["status"]["reason"])
        for finding in result["findings"]
    }


def test_the_verdict_map(result: Mapping[str, Any]) -> None:
    found = states(result)
    assert found["PF-T-FA-01.a"] == (SATISFIED, "pass")
    assert found["FN-R-FN-CR-01.a"] == (NOT_SATISFIED, "other")  # partly
    assert found["FN-R-FN-OA.a"] == (NOT_SATISFIED, "fail")
    assert found["FN-R-FN-ME-05.a"] == (NOT_SATISFIED, "other")  # fulfilled, but measured otherwise
    assert found["FN-R-FN-RI-01.a"] == found["FN-R-FN-RI-01.b"] == (NOT_SATISFIED, "other")  # the auditor: partly
    assert not any(name.startswith(("FN-R-FN-ME-06", "RE-R-SC-CR-01", "S-R")) for name in found)


def test_a_contradiction_is_told_in_the_finding(result: Mapping[str, Any]) -> None:
    (finding, *_rest) = (item for item in result["findings"] if item["target"]["target-id"] == "FN-R-FN-ME-05.a")
    assert "fairness.group_metrics measured" in finding["target"]["status"]["remarks"]
    assert ours(finding, "verdict") == ours(finding, "self-verdict") == ["fulfilled"]
    assert ours(finding, "auditor-verdict") == ["not_assessed"]
    assert ours(finding, "contradiction") == ["fairness.group_metrics"]


def test_both_slots_and_the_named_objective(result: Mapping[str, Any]) -> None:
    found = {item["target"]["target-id"]: item for item in result["findings"]}
    finding = found["FN-R-FN-RI-01.b"]
    assert ours(finding, "self-verdict") == ["fulfilled"]
    assert ours(finding, "auditor-verdict") == ours(finding, "verdict") == ["partly"]
    assert ours(finding, "assurance") == ["document_reviewed"]
    assert ours(finding, "named-by-auditor") == ours(finding, "outdated") == ["yes"]
    assert ours(found["FN-R-FN-RI-01.a"], "named-by-auditor") == []
    assert len(finding["related-observations"]) == 2


def test_what_is_out_and_what_is_open(assessed: Project, result: Mapping[str, Any]) -> None:
    reviewed = result["reviewed-controls"]
    (selection,) = reviewed["control-selections"]
    included = {item["control-id"] for item in selection["include-controls"]}
    excluded = {item["control-id"] for item in selection["exclude-controls"]}
    still_open = set(ours(reviewed, "not-assessed"))
    assert not included & excluded
    assert not included & still_open
    assert not excluded & still_open
    assert included | excluded | still_open == {item.id for item in Assessment.read(assessed).catalog.requirements}
    reasons = {item["value"]: (item["class"], item.get("remarks")) for item in reviewed["props"] if "class" in item}
    assert reasons.keys() == excluded
    assert reasons["FN-R-FN-ME-06"] == ("stated", "no such\nstep")
    assert reasons["S-R-FS-RI-01"] == ("tailoring", "the protection need is low: nothing moves")
    assert all(because for _kind, because in reasons.values())
    assert result["description"].startswith(f"{len(included)} requirements were assessed, {len(still_open)} are open")


def test_a_measurement_carries_every_number(assessed: Project, result: Mapping[str, Any], make_run: Make) -> None:
    found = next(item for item in result["observations"] if ours(item, "check") == ["fairness.group_metrics"])
    assert found["methods"] == ["TEST"]
    assert found["description"] == "a sentence"
    assert [ours(found, name) for name in ("value", "low", "high", "n", "method")] == [
        ["0.5"], ["0.4"], ["0.6"], ["20"], ["made up"],
    ]  # fmt: skip
    assert {item["group"] for item in found["props"] if item["name"] == "value"} == {"share"}
    (actor,) = found["origins"][0]["actors"]
    assert actor["type"] == "tool"
    components = result["local-definitions"]["assessment-assets"]["components"]
    assert actor["actor-uuid"] in {item["uuid"] for item in components if ours(item, "check") == ours(found, "check")}


def test_evidence_is_named_with_its_digest(documents: Mapping[str, Any], assessed: Project) -> None:
    resources = documents["assessment-results.json"]["assessment-results"]["back-matter"]["resources"]
    files = {item["title"]: item["rlinks"][0] for item in resources}
    digest = sha256_hex(b"shown")
    assert files["data sheet.md"] == {
        "href": f"../evidence/{digest}/data%20sheet.md",
        "hashes": [{"algorithm": "SHA-256", "value": digest}],
    }
    assert len(files) == 5
    for link in files.values():
        path = assessed.folder / "oscal" / link["href"].replace("%20", " ")
        assert sha256_hex(path.resolve().read_bytes()) == link["hashes"][0]["value"]


def test_an_answer_expires_with_its_evidence(result: Mapping[str, Any], catalog: Catalog) -> None:
    found = {ours(item, "requirement")[0]: item for item in result["observations"] if ours(item, "self-verdict")}
    assert "expires" not in found["PF-T-FA-01"]
    assert found["PF-T-FA-01"]["methods"] == ["EXAMINE"]
    shared = found["RE-R-SC-ME-01"]["relevant-evidence"]
    assert [item["description"] for item in shared] == ["data sheet.md"]
    limits = [item.max_age_days for item in catalog.by_id["FN-R-FN-RI-01"].evidence if item.document == "datasheet"]
    assert ("expires" in found["FN-R-FN-RI-01"]) == bool(limits)


def test_risks(result: Mapping[str, Any]) -> None:
    found = {item["title"]: item for item in result["risks"]}
    assert set(found) == {"Residual risk: Fairness", "Residual risk: Reliability", "Trade-off T1: FN gives for RE"}
    fairness = found["Residual risk: Fairness"]
    facets = {item["name"]: item["value"] for item in fairness["characterizations"][0]["facets"]}
    assert facets == {
        "residual-risk": "unacceptable",
        "protection-need": "high",
        "best-that-findings-allow": "unacceptable",
    }
    assert fairness["status"] == "deviation-approved"  # unacceptable, and a trade-off accepts it
    assert ours(fairness, "second") == ["Katherine Johnson"]
    assert found["Residual risk: Reliability"]["status"] == "open"  # the developer's own word, better than allowed
    (attestation,) = result["attestations"]
    assert ours(attestation["parts"][0], "trustworthy") == ["with conditions"]


def test_the_profile_tells_the_tailoring(documents: Mapping[str, Any]) -> None:
    profile = documents["profile.json"]["profile"]
    properties = profile["metadata"]["props"]
    needs = {item["class"]: item["value"] for item in properties if item["name"] == "protection-need"}
    assert needs == {"FN": "high", "RE": "medium", "S": "low"}
    reasons = {item["value"]: item["remarks"] for item in properties if item["name"] == "excluded"}
    (source,) = profile["imports"]
    assert reasons.keys() == set(source["exclude-controls"][0]["with-ids"])
    assert reasons["S-S"] == "the protection need is low: nothing moves"
    assert not reasons.keys() & set(source["include-controls"][0]["with-ids"])
    undecided = {item["value"]: item["remarks"] for item in properties if item["name"] == "undecided"}
    assert undecided["AC-S"] == "protection need AC: not known yet"
    assert undecided.keys() <= set(source["include-controls"][0]["with-ids"])
    (free,) = (item for item in properties if item["name"] == "target")
    assert (free["class"], free["value"], free["remarks"]) == ("trial.free", "[null, 3.0]", "no param names it")
    targets = {item["param-id"]: item for item in profile["modify"]["set-parameters"]}
    assert targets["FN-R-FN-CR-01.param.difference"]["guidelines"] == [{"prose": "one in ten"}]
    assert targets["FN-R-FN-CR-01.param.definition"]["values"] == ["equalized odds"]


# --- never satisfied -------------------------------------------------------------------------------------------------

VERDICTS = st.sampled_from(list(Verdict))


@given(VERDICTS, VERDICTS, VERDICTS, st.booleans(), st.booleans(), st.booleans())
def test_satisfied_is_only_what_is_fulfilled_and_not_contradicted(
    standing: Verdict, said: Verdict, found: Verdict, applies: bool, contradicted: bool, unmet: bool
) -> None:
    state = RequirementState(
        id="FN-P",
        applies=applies,
        because="",
        self_verdict=said,
        auditor_verdict=found,
        standing=standing,
        assurance=Assurance.SELF_DECLARED,
        outdated=False,
        checks={"a.b": Status.FAIL} if contradicted else {},
        contradictions=("a.b",) if contradicted else (),
        evidence=EvidenceState(attached=0, aged=(), expected=False),
    )
    status = objective_status(state, unmet=unmet)
    good = standing is Verdict.FULFILLED and applies and not contradicted and not unmet
    assert (status == (SATISFIED, "pass")) == good
    if contradicted:
        assert status == (NOT_SATISFIED, "other")
    elif not applies or standing in {Verdict.NOT_ASSESSED, Verdict.NOT_APPLICABLE}:
        assert status is None


STATED = st.sampled_from(["fulfilled", "partly", "not_fulfilled", "not_applicable"])


@given(st.data())
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_assessment_satisfies_what_is_open_or_contradicted(
    tiny_catalog: Catalog, make_run: Make, data: st.DataObject
) -> None:
    ids = [item.id for item in tiny_catalog.requirements]
    configuration = Configuration.model_validate(
        {
            "format": 1,
            "catalog": {"id": "tiny", "version": "1.0.0"},
            "system": {"name": "s", "version": "1"},
            "protection_needs": data.draw(
                st.sampled_from([{}, *({"fairness": {"level": word, "because": "b"}} for word in ("low", "high"))])
            ),
        }
    )
    answers = {name: answer(data.draw(STATED)) for name in ids if data.draw(st.booleans())}
    audits = {
        name: audit(data.draw(STATED), objectives=data.draw(st.sampled_from([(), ("a",)])))
        for name in ids
        if data.draw(st.booleans())
    }
    statuses = st.sampled_from(["pass", "fail", "error", "inconclusive"])
    runs: dict[str, CheckRun] = {
        f"trial.c{index}": make_run(check=f"trial.c{index}", status=data.draw(statuses), requirements=(name,))
        for index, name in enumerate(ids)
        if data.draw(st.booleans())
    }
    found = Assessment(
        configuration=configuration,
        catalog=tiny_catalog,
        answers=answers,
        audits=audits,
        summary=AuditSummary(),
        known={},
        runs=runs,
        run_ids=dict.fromkeys(runs, "r"),
        ledger_head="0",
        ledger_size=0,
        ledger_root="0",
        today=date(2026, 11, 21),
    )
    export = Export(found, "p", "..", AT)
    document = results_to_oscal(export)["assessment-results"]
    AssessmentResults.model_validate(document)
    (told,) = document["results"]
    satisfied = {
        name.rpartition(".")[0]
        for name, (state, _reason) in states({"findings": told.get("findings", [])}).items()
        if state == SATISFIED
    }
    contradicted = {item.requirement for item in found.contradictions}
    assert not satisfied & contradicted
    assert all(export.states[name].standing is Verdict.FULFILLED for name in satisfied)
    assert not satisfied & set(export.scope.open)
    assert not satisfied & export.scope.excluded.keys()
    failed = {name for run in runs.values() if run.outcome.status is Status.FAIL for name in run.requirements}
    assert not satisfied & failed


def test_an_assessment_in_which_nothing_is_assessed(make_folder: Make) -> None:
    for name, document in oscal_documents(export_of(make_folder())).items():
        (root,) = document
        MODELS[name].model_validate(document[root])
    (told,) = document["assessment-results"]["results"]
    assert "findings" not in told
    assert told["reviewed-controls"]["control-selections"][0]["include-all"] == {}


# --- words -----------------------------------------------------------------------------------------------------------


@given(st.text(max_size=20))
def test_a_title_is_one_line(text: str) -> None:
    assert "\n" not in line(text)


def test_a_long_text_stands_in_the_remarks() -> None:
    assert prop("a", "one\ntwo") == {"name": "a", "ns": NS, "value": "see remarks", "remarks": "one\ntwo"}
    assert prop("a", 0.5, class_="c", group="g") == {"name": "a", "ns": NS, "value": "0.5", "class": "c", "group": "g"}


# --- commands --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_export_writes_the_four_documents(
    assessed: Project, documents: Mapping[str, Any], run: Run, tmp_path: Path
) -> None:
    code, out, _err = run("export", "--project", assessed.folder)
    assert code == 0
    folder = assessed.folder / "oscal"
    assert out.split() == [str(folder / name) for name in MODELS]
    assert sorted(path.name for path in folder.iterdir()) == sorted(MODELS)
    for name, document in documents.items():
        assert (folder / name).read_bytes() == oscal_json(document)
    code, out, _err = run("export", "--project", assessed.folder, "--output", tmp_path / "x" / "y", "--json")
    assert [item["id"] for item in json.loads(out)] == [Path(name).stem for name in MODELS]
    plan = json.loads((tmp_path / "x" / "y" / "assessment-plan.json").read_bytes())["assessment-plan"]
    href = plan["back-matter"]["resources"][0]["rlinks"][0]["href"]
    assert (tmp_path / "x" / "y" / href).resolve() == (assessed.folder / "assessor.yaml").resolve()


def test_a_broken_ledger_is_not_exported(make_folder: Make, run: Run) -> None:
    project = make_folder()
    path = project.folder / "ledger.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"actor":"tester"', b'"actor":"nobody"'))
    code, _out, err = run("export", "--project", project.folder)
    assert code == 4
    assert "this line was changed" in err
    assert not (project.folder / "oscal").exists()


@pytest.mark.slow
def test_the_catalog_goes_out_and_comes_back(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    assert run("catalog", "export", "--format", "oscal", "--output", path)[0] == 0
    code, out, _err = run("catalog", "import", path, tmp_path / "back")
    assert (code, out) == (0, f"240 requirements in {tmp_path / 'back'}\n")
    assert same(load_catalog(tmp_path / "back"), load_catalog())
    code, _out, err = run("catalog", "import", path, tmp_path / "back")
    assert code == 2
    assert "wanted a new or empty folder" in err
    document = json.loads(path.read_bytes())
    controls = document["catalog"]["groups"][1]["groups"][1]["controls"]
    controls.append(controls[0])
    path.write_text(json.dumps(document))
    code, _out, err = run("catalog", "import", path, tmp_path / "twice")
    assert code == 2
    assert "id 'FN-R-FN-RI-01' appears twice" in err
    path.write_text("no json")
    code, _out, err = run("catalog", "import", path, tmp_path / "other")
    assert code == 2
    assert "cannot read it as JSON" in err
