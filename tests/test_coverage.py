"""Coverage of clauses: nothing unanswered, unmet or contradicted covers one, and every mapping file is whole."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from commands import Run
from hypothesis import given
from hypothesis import strategies as st

from assessor.applicability import Scope
from assessor.cli.catalog import complete_framework
from assessor.coverage import ClauseCoverage, ClauseState, Standing, coverage
from assessor.criteria import load_catalog, load_frameworks
from assessor.judgement import Facts, judge_assessment
from assessor.model import (
    Answer,
    AreaKind,
    Assurance,
    Catalog,
    CheckRun,
    Confidence,
    EvidenceState,
    Framework,
    Relationship,
    RequirementState,
    Status,
    Verdict,
)
from assessor.project import Project

WHOLE, PART = "superset-of", "intersects-with"
A, B, C = "RE-R-SC-CR-01", "RE-R-SC-CR-02", "RE-R-SC-CR-03"
AREA = "RE-R-UE"
RANK = [ClauseState.OPEN, ClauseState.PARTLY, ClauseState.COVERED]


def framework(*maps: tuple[str, tuple[str, ...]]) -> Framework:
    """A framework of one clause, with mappings given as (relationship, requirements)."""
    items = [{"requirements": names, "relationship": word, "confidence": "high"} for word, names in maps]
    clause = {
        "id": "1",
        "title": "A clause",
        **({"maps": items} if items else {"open_because": "Nothing speaks to it"}),
    }
    head = {"schema": "aic-mapping/1", "id": "trial", **dict.fromkeys(("title", "publisher", "edition"), "x")}
    return Framework.model_validate({**head, "url": "x", "status": "x", "clauses": [clause]})


def state(
    name: str, verdict: str | Verdict, *, applies: bool = True, failing: tuple[str, ...] = ()
) -> RequirementState:
    """A judged requirement; `failing` checks contradict it."""
    said = Verdict(verdict)
    return RequirementState(
        id=name,
        applies=applies,
        because="" if applies else "the protection need is low",
        self_verdict=said,
        auditor_verdict=Verdict.NOT_ASSESSED,
        standing=said,
        assurance=Assurance.SELF_DECLARED,
        outdated=False,
        checks=dict.fromkeys(failing, Status.FAIL),
        contradictions=failing,
        evidence=EvidenceState(attached=0, aged=(), expected=False),
    )


def judged(catalog: Catalog, item: Framework, *states: RequirementState) -> ClauseCoverage:
    (found,) = coverage(item, catalog, states).clauses
    return found


# --- one clause ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verdicts", "whole", "part"),
    [
        (("fulfilled", "fulfilled"), "covered", "partly"),
        (("fulfilled", "not_applicable"), "covered", "partly"),
        (("not_applicable", "not_applicable"), "partly", "partly"),
        (("fulfilled", "partly"), "partly", "partly"),
        (("fulfilled", "not_assessed"), "partly", "partly"),
        (("fulfilled", "not_fulfilled"), "partly", "partly"),
        (("partly", "not_assessed"), "partly", "partly"),
        (("not_fulfilled", "not_assessed"), "open", "open"),
        (("not_assessed", "not_assessed"), "open", "open"),
    ],
)
def test_only_a_whole_mapping_with_everything_settled_covers(
    catalog: Catalog, verdicts: tuple[str, str], whole: str, part: str
) -> None:
    states = [state(name, verdict) for name, verdict in zip((A, B), verdicts, strict=True)]
    assert judged(catalog, framework((WHOLE, (A, B))), *states).state == whole
    assert judged(catalog, framework((PART, (A, B))), *states).state == part


def test_a_contradicted_requirement_never_counts(catalog: Catalog) -> None:
    found = judged(catalog, framework((WHOLE, (A,))), state(A, "fulfilled", failing=("trial.share",)))
    assert (found.state, found.missing) == ("open", (A,))
    (item,) = found.requirements
    assert (item.standing, item.because) == (Standing.CONTRADICTED, "contradicted by trial.share")


def test_what_does_not_concern_the_system_is_settled_but_says_nothing(catalog: Catalog) -> None:
    left_out = state(B, "not_assessed", applies=False)
    alone = judged(catalog, framework((WHOLE, (B,))), left_out)
    assert (alone.state, alone.missing) == ("open", ())
    assert alone.requirements[0].because == "the protection need is low"
    assert judged(catalog, framework((WHOLE, (A, B))), state(A, "fulfilled"), left_out).state == "covered"


def test_one_whole_mapping_is_enough_and_missing_is_told_of_all(catalog: Catalog) -> None:
    item = framework((WHOLE, (A,)), (PART, (B, A)))
    found = judged(catalog, item, state(A, "fulfilled"))
    assert (found.state, found.missing) == ("covered", (B,))
    assert [one.id for one in found.requirements] == [A, B]


def test_areas_are_told_requirement_by_requirement(catalog: Catalog) -> None:
    names = tuple(item.id for item in catalog.by_area[AREA])
    found = judged(catalog, framework((PART, (AREA,))), state(names[0], "fulfilled"))
    assert tuple(one.id for one in found.requirements) == names
    assert found.missing == names[1:]


def test_a_requirement_that_is_not_part_of_the_assessment_is_missing(catalog: Catalog) -> None:
    found = judged(catalog, framework((PART, (A,))))
    assert (found.state, found.missing) == ("open", (A,))
    assert found.requirements[0].because == "RE is not switched on in this assessment"


def test_nothing_mapped_is_not_in_the_catalog_with_or_without_an_assessment(catalog: Catalog) -> None:
    for states in (None, []):
        found = coverage(framework(), catalog, states)
        assert found.counts == {ClauseState.NOT_IN_CATALOG: 1}
        assert found.unsettled == found.clauses


@pytest.mark.parametrize("word", list(Relationship))
def test_without_an_assessment_it_says_what_the_catalog_could_cover(catalog: Catalog, word: Relationship) -> None:
    found = coverage(framework((word, (A, B))), catalog)
    (clause,) = found.clauses
    reach = ClauseState.COVERED if word.is_whole else ClauseState.PARTLY
    assert (found.assessed, clause.state, clause.reach, clause.shown) == (False, None, reach, reach)
    assert (found.counts, found.mapped, found.settled, found.unsettled) == ({reach: 1}, 2, 0, ())


Maps = st.lists(
    st.tuples(st.sampled_from([WHOLE, PART]), st.lists(st.sampled_from([A, B, C]), min_size=1, max_size=3).map(tuple)),
    max_size=3,
)
Verdicts = st.fixed_dictionaries({name: st.sampled_from(list(Verdict)) for name in (A, B, C)})


@pytest.mark.slow
@given(
    maps=Maps.filter(bool), verdicts=Verdicts, name=st.sampled_from([A, B, C]), better=st.sampled_from(list(Verdict))
)
def test_another_answer_never_lowers(
    catalog: Catalog, maps: list[tuple[str, tuple[str, ...]]], verdicts: dict[str, Verdict], name: str, better: Verdict
) -> None:
    before = {**verdicts, name: Verdict.NOT_ASSESSED}
    found = [
        judged(catalog, framework(*maps), *(state(one, verdict) for one, verdict in said.items())).shown
        for said in (before, {**before, name: better})
    ]
    assert RANK.index(found[0]) <= RANK.index(found[1])


@given(maps=Maps.filter(bool), verdicts=Verdicts, unmet=st.booleans())
def test_an_unmet_or_contradicted_requirement_never_covers(
    catalog: Catalog, maps: list[tuple[str, tuple[str, ...]]], verdicts: dict[str, Verdict], unmet: bool
) -> None:
    failing = () if unmet else ("trial.share",)
    bad = state(A, Verdict.NOT_FULFILLED if unmet else Verdict.FULFILLED, failing=failing)
    with_a = [(word, (*names, A)) for word, names in maps]
    found = judged(catalog, framework(*with_a), bad, *(state(name, verdicts[name]) for name in (B, C)))
    assert found.state is not ClauseState.COVERED


def test_with_answers_of_an_assessment(
    catalog: Catalog, configure: Callable[..., Any], make_run: Callable[..., CheckRun]
) -> None:
    said = {"by": "Ada", "at": "2026-11-21T10:00:00Z", "because": "x"}
    answers = {name: Answer.model_validate({"value": "fulfilled", **said}) for name in (A, "FN-R-FN-ME-05")}
    run = make_run(status="fail", requirements=("FN-R-FN-ME-05",))
    low = {"safety": {"level": "low", "because": "nothing can happen"}}
    facts = Facts(Scope(catalog, configure(protection_needs=low), answers), {run.check: run})
    states = [one for head in judge_assessment(facts) for area in head.areas for one in area.requirements]
    found = judged(catalog, framework((WHOLE, (A,)), (PART, ("FN-R-FN-ME-05", "S-R-FS-OA", B))), *states)
    assert found.state == "covered"
    assert [one.standing for one in found.requirements] == ["fulfilled", "contradicted", "left_out", "not_assessed"]
    assert found.missing == ("FN-R-FN-ME-05", B)


# --- the files -------------------------------------------------------------------------------------------------------

# Lengths of the published lists; the AI Act's is what a system or its documents can speak to.
COUNTS = {
    "ai-verify": 12,
    "altai": 7,
    "bsi-aic4": 47,
    "eu-ai-act": 146,
    "iso-iec-42001": 38,
    "mission-ki": 12,
    "nist-ai-rmf-1.0": 72,
}


@pytest.fixture(scope="module")
def everything() -> Catalog:
    """The catalog with all packs."""
    return load_catalog(packs=load_catalog().head.packs)


@pytest.fixture(scope="module")
def frameworks(everything: Catalog) -> dict[str, Framework]:
    return {item.id: item for item in load_frameworks(everything)}


def numbered(counts: dict[str, Iterable[int]]) -> list[str]:
    """`{"A.2": 2..4}` as A.2.2, A.2.3, A.2.4."""
    return [f"{group}.{n}" for group, numbers in counts.items() for n in numbers]


def test_every_list_is_complete(frameworks: dict[str, Framework]) -> None:
    assert {name: len(item.clauses) for name, item in frameworks.items()} == COUNTS
    ids = {name: [clause.id for clause in item.clauses] for name, item in frameworks.items()}
    sizes = {"A.2": 4, "A.3": 3, "A.4": 6, "A.5": 5, "A.6.1": 3, "A.6.2": 8, "A.7": 6, "A.8": 5, "A.9": 4, "A.10": 4}
    assert ids["iso-iec-42001"] == numbered({group: range(2, last + 1) for group, last in sizes.items()})
    subcategories = {
        **{"GOVERN 1": 7, "GOVERN 2": 3, "GOVERN 3": 2, "GOVERN 4": 3, "GOVERN 5": 2, "GOVERN 6": 2},
        **{"MAP 1": 6, "MAP 2": 3, "MAP 3": 5, "MAP 4": 2, "MAP 5": 2},
        **{"MEASURE 1": 3, "MEASURE 2": 13, "MEASURE 3": 3, "MEASURE 4": 3},
        **{"MANAGE 1": 4, "MANAGE 2": 4, "MANAGE 3": 2, "MANAGE 4": 3},
    }
    assert ids["nist-ai-rmf-1.0"] == numbered({group: range(1, last + 1) for group, last in subcategories.items()})
    assert ids["altai"] == [str(n) for n in range(1, 8)]
    assert ids["ai-verify"] == [str(n) for n in range(1, 13)]
    assert ids["mission-ki"] == ["DA1", "DA2", "DA3", "ND1", "TR1", "TR2", "MA1", "MA2", "CY1", "CY2", "VE1", "VE2"]
    articles = {re.split(r"[(.]", name)[0] for name in ids["eu-ai-act"]}
    wanted = "4 5 6 9 10 11 12 13 14 15 17 18 19 25 26 27 43 50 53 55 72 73 78 86"
    assert articles == {*wanted.split(), "Annex I", "Annex IV"}
    assert {re.split(r"[(]", name)[0] for name in ids["eu-ai-act"]} >= {f"Annex IV.{n}" for n in range(1, 10)}


def test_relationships_are_honest(frameworks: dict[str, Framework]) -> None:
    for name, item in frameworks.items():
        for clause in item.clauses:
            where = f"{name} {clause.id}"
            words = {part.relationship for part in clause.maps}
            assert words <= {Relationship.INTERSECTS_WITH, Relationship.SUPERSET_OF}, where
            if Relationship.SUPERSET_OF in words:
                assert len(clause.maps) == 1, f"{where}: a whole mapping stands alone"
                assert clause.maps[0].note, f"{where}: a whole mapping says why"
            for part in clause.maps:
                assert len(set(part.requirements)) == len(part.requirements), where
    whole = [
        f"{name} {clause.id}"
        for name, item in frameworks.items()
        for clause in item.clauses
        if any(part.relationship.is_whole for part in clause.maps)
    ]
    assert whole == [
        "eu-ai-act 14(4)(e)",
        "eu-ai-act Annex IV.4",
        "nist-ai-rmf-1.0 MAP 2.1",
        "nist-ai-rmf-1.0 MEASURE 2.12",
    ]


def test_every_framework_says_who_mapped_it_and_from_when_it_applies(frameworks: dict[str, Framework]) -> None:
    for item in frameworks.values():
        assert "project's own, made without expert" in item.status
        assert item.url.startswith("https://")
        assert all(len(clause.title) <= 64 for clause in item.clauses)
    dates = {(one.applies_from, one.confidence) for one in frameworks["eu-ai-act"].dates}
    law = {date(2025, 2, 2), date(2025, 8, 2), date(2026, 8, 2), date(2027, 8, 2)}
    reported = {date(2026, 12, 2), date(2027, 12, 2), date(2028, 8, 2)}
    assert dates == {(day, Confidence.HIGH) for day in law} | {(day, Confidence.LOW) for day in reported}


def test_every_risk_area_speaks_to_the_law_and_to_nist(everything: Catalog, frameworks: dict[str, Framework]) -> None:
    areas = {area.id for _, area in everything.areas() if area.kind is AreaKind.RISK}
    for name in ("eu-ai-act", "nist-ai-rmf-1.0"):
        found = coverage(frameworks[name], everything)
        spoken = {everything.by_id[one.id].area for clause in found.clauses for one in clause.requirements}
        assert not areas - spoken, f"{name} has nothing for {areas - spoken}"


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def run(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `catalog coverage` where no assessment is near."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: run("catalog", "coverage", *arguments)


@pytest.fixture
def assessment(make_folder: Callable[..., Project]) -> Project:
    """A folder in which the metrics are chosen and one measure is met in part."""
    project = make_folder()
    (project.folder / "answers").mkdir()
    values = {
        A: "fulfilled",
        "RE-R-RO-CR-02": "fulfilled",
        "RE-R-UE-CR-01": "not_applicable",
        "RE-R-SC-ME-01": "partly",
    }
    for name, value in {**values, "FN-R-FN-CR-01": "fulfilled"}.items():
        said = f"{name}: {{value: {value}, because: x, by: Ada, at: '2026-11-21T10:00:00Z'}}\n"
        area = name.rsplit("-", 2)[0]
        with (project.folder / "answers" / f"{area}.yaml").open("a") as stream:
            stream.write(said)
    return project


@pytest.mark.slow
def test_the_list_names_every_framework(run: Run) -> None:
    code, text, _ = run()
    assert code == 0
    assert all(name in text for name in COUNTS)
    listed = json.loads(run("--json")[1])
    assert [item["id"] for item in listed] == sorted(COUNTS)


def test_without_an_assessment_the_table_says_what_could_be_covered(run: Run) -> None:
    code, text, _ = run("eu-ai-act")
    assert code == 0
    assert "No assessment here" in text
    assert re.search(r"14\(4\)\(e\) +● +Overseers can stop", text)
    assert "whole: AC-R-TD-ME-06 ME-07, S-R-FS-CR-06 ME-10 ME-12" in text
    assert "2027-12-02  High-risk systems of Annex III" in text
    assert "146 clauses: 2 could be covered, 123 could be covered in part, 21 not in the catalog" in text
    assert "no legal advice" in text


@pytest.mark.slow
def test_with_an_assessment_it_counts_what_is_fulfilled(run: Run, assessment: Project) -> None:
    code, text, fault = run("eu-ai-act", "--project", assessment.folder)
    assert code == 0, fault
    assert "covered, 3 of 4 fulfilled, 1 not applicable: RE-R-SC-CR-01" in text
    found = json.loads(run("eu-ai-act", "--project", assessment.folder, "--json")[1])
    states = {item["clause"]["id"]: item["state"] for item in found["clauses"]}
    assert (states["Annex IV.4"], states["10(3)"], states["4"], states["9(3)"]) == (
        *("covered", "partly", "open", "not in the catalog"),
    )
    assert sum(found["counts"].values()) == len(found["clauses"]) == COUNTS["eu-ai-act"]


@pytest.mark.slow
def test_open_leaves_out_what_is_settled(run: Run, assessment: Project) -> None:
    _, text, _ = run("eu-ai-act", "--open", "--project", assessment.folder)
    assert "Why the performance metrics are appropriate" not in text
    assert "RE-R-SC-CR-02 CR-03 ME-01" in text
    assert "X-GEN is not switched on in this assessment" in text
    assert "146 clauses: 1 covered" in text
    _, text, _ = run("mission-ki", "--open")
    assert "Nothing is missing." in text


@pytest.mark.slow
def test_faults_are_told(run: Run, tmp_path: Path) -> None:
    code, _, fault = run("eu-ai-at")
    assert code == 2
    assert "no framework 'eu-ai-at'; did you mean 'eu-ai-act'?" in fault
    code, _, fault = run("eu-ai-act", "--project", tmp_path)
    assert code == 2
    assert "no assessor.yaml" in fault


def test_framework_ids_are_completed() -> None:
    assert complete_framework("") == sorted(COUNTS)
    assert complete_framework("N") == ["nist-ai-rmf-1.0"]
