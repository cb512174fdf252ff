"""Taking answers: all or nothing, with their evidence and what they decide; a half-finished one survives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from drawn import replies_to
from hypothesis import given, settings
from hypothesis import strategies as st

from assessor.answering import Interview, add_file, read_evidence, save_settings, unasked
from assessor.applicability import Scope
from assessor.canonical import sha256_hex
from assessor.errors import UsageError
from assessor.model import Answer, Catalog, EvidenceRef, Level, Param, Question, Reply, Verdict
from assessor.project import Project

Make = Callable[..., Any]
SCENARIOS = ("material", "bodily", "immaterial", "indirect")
CR = "FN-R-FN-CR-01"  # has a param of its own and one that is the target of a check
DATA = ("personal_data", "licensed", "confidential")


def save(project: Project, catalog: Catalog, *given: str, **named: Any) -> list[tuple[str, str]]:
    arguments = {"because": "it is so", "by": "Ada", "evidence": (), **named}
    return [tuple(saved) for saved in save_settings(project, catalog, given, **arguments)]  # type: ignore[misc]


def refused(project: Project, catalog: Catalog, *given: str, **named: Any) -> str:
    """What is told, after seeing that nothing was saved."""
    before = project.ledger_bytes()
    with pytest.raises(UsageError) as caught:
        save(project, catalog, *given, **named)
    assert project.ledger_bytes() == before
    return str(caught.value)


def refs(answer: Answer) -> list[tuple[str, str]]:
    return [(item.name, item.sha256) for item in answer.evidence]


def need(project: Project, dimension: str) -> tuple[Level, str] | None:
    found = project.configuration().protection_needs.of(dimension)
    return None if found is None else (found.level, found.because)


# --- scripts ---------------------------------------------------------------------------------------------------------


def test_verdict_and_replies_are_saved(make_folder: Make, catalog: Catalog, tmp_path: Path) -> None:
    project, shown = make_folder(), tmp_path / "shown.txt"
    shown.write_bytes(b"shown")
    saved = save(project, catalog, "FN-P=1", "FN-P.bodily=hi", "FN-S=not applicable", evidence=[shown])
    assert saved == [("FN-P", "fulfilled"), ("FN-S", "not_applicable")]
    answers = project.answers(catalog)
    assert answers["FN-P"].replies == {"bodily": "high"}
    assert (answers["FN-P"].by, answers["FN-P"].because) == ("Ada", "it is so")
    assert refs(answers["FN-P"]) == refs(answers["FN-S"]) == [("shown.txt", sha256_hex(b"shown"))]
    assert (project.folder / "evidence" / sha256_hex(b"shown") / "shown.txt").read_bytes() == b"shown"


def test_a_reply_joins_what_is_there(make_folder: Make, catalog: Catalog, tmp_path: Path) -> None:
    project, old, new = make_folder(), tmp_path / "old.txt", tmp_path / "new.txt"
    old.write_bytes(b"old")
    new.write_bytes(b"new")
    save(project, catalog, "FN-S=partly", "FN-S.reason=first", because="why", evidence=[old])
    assert save(project, catalog, "FN-S.residual_risk=2", because=None, evidence=[new]) == [("FN-S", "partly")]
    answer = project.answers(catalog)["FN-S"]
    assert answer.replies == {"reason": "first", "residual_risk": "acceptable"}
    assert answer.because == "why"
    assert refs(answer) == [("old.txt", sha256_hex(b"old")), ("new.txt", sha256_hex(b"new"))]
    old.write_bytes(b"newer")
    save(project, catalog, "FN-S=fulfilled", because="now it is", evidence=[old])
    answer = project.answers(catalog)["FN-S"]
    assert (answer.value, answer.because) == (Verdict.FULFILLED, "now it is")
    assert refs(answer) == [("old.txt", sha256_hex(b"newer")), ("new.txt", sha256_hex(b"new"))]


def test_evidence_is_a_document_of_the_catalog_if_it_is_said_so(
    make_folder: Make, catalog: Catalog, tmp_path: Path
) -> None:
    project, shown = make_folder(), tmp_path / "shown.txt"
    shown.write_bytes(b"shown")
    save(project, catalog, "FN-S=partly", evidence=[shown], document="summary")
    (item,) = project.answers(catalog)["FN-S"].evidence
    assert item.document == "summary"
    assert item.collected is not None


@pytest.mark.parametrize(
    ("given", "named", "told"),
    [
        (["FN-P=fulfilled", "FN-X=partly"], {}, "--set: no requirement 'FN-X'; did you mean 'FN-S'?"),
        (
            ["FN-P=fulfilled", "FN-S=good"],
            {},
            "found 'good', wanted one of: fulfilled, partly, not fulfilled, not applicable",
        ),
        (
            ["FN-P=fulfilled", "FN-S.reason=x"],
            {},
            "--set FN-S: its verdict is missing, give  --set FN-S=fulfilled  (or partly, ...) too",
        ),
        (["FN-S=fulfilled"], {"because": None}, "--set FN-S: the reason is missing, give  --because TEXT"),
        (["FN-P=fulfilled"], {"because": " "}, "because: found ' ': String should have at least 1 character"),
        (["FN-P=fulfilled"], {"by": ""}, "by: found '': String should have at least 1 character"),
        (
            ["FN-P=fulfilled"],
            {"because": "\udcff"},
            "because: found '\\udcff': Input should be a valid string, unable to parse raw data as a unicode string",
        ),
        (
            ["FN-P=fulfilled"],
            {"evidence": [Path("none.txt")]},
            "--evidence none.txt: cannot read it: No such file or directory",
        ),
        (["FN-P=fulfilled", "FN-P.reason= "], {}, "found an empty reply, wanted some text"),
        (["FN-P=fulfilled", "FN-P.probe=x"], {}, "--set: FN-P has no question 'probe'; known: "),
        (
            ["FN-P=fulfilled"],
            {"document": "sumary"},
            "--document: found 'sumary', wanted one of: ai_profile, architecture, ",
        ),
        (["FN-P=fulfilled"], {"same_as": "FN-Q"}, "--same-as: no answered requirement 'FN-Q'"),
        (["FN-P=fulfilled"], {"same_as": "FN-S"}, "--same-as: no answered requirement 'FN-S'"),
        ([f"{CR}=partly", f"{CR}.difference=0..0.1"], {"because": None}, f"--set {CR}: the reason is missing, give"),
        ([f"{CR}=partly", f"{CR}.difference=1..0"], {}, "found '1..0', wanted the lower end first"),
    ],
)
def test_what_is_refused_saves_nothing(
    make_folder: Make, catalog: Catalog, given: list[str], named: dict[str, Any], told: str
) -> None:
    assert refused(make_folder(), catalog, *given, **named).startswith(told)


def test_a_fault_in_the_last_setting_saves_nothing(make_folder: Make, catalog: Catalog) -> None:
    told = refused(make_folder(), catalog, "FN-P=partly", "FN-S=partly", "FN-S.reason=\udcff")
    assert told.startswith("replies: found '\\udcff'")


def test_two_files_of_one_name(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    paths = [tmp_path / "a.txt", tmp_path / "deep" / "a.txt"]
    for path in paths:
        path.write_text(str(path))
    with pytest.raises(UsageError, match=r"found two files called a\.txt, wanted names that differ"):
        read_evidence(paths)
    files = {"a.txt": b"one"}
    add_file(files, "a.txt", b"one")
    with pytest.raises(UsageError, match=r"found two files called a\.txt, wanted names that differ"):
        add_file(files, "a.txt", b"other")
    assert files == {"a.txt": b"one"}


def test_the_same_as_another_one(make_folder: Make, catalog: Catalog) -> None:
    project = make_folder()
    save(project, catalog, "FN-S=partly")
    save(project, catalog, "AC-S=partly", same_as="FN-S")
    assert project.answers(catalog)["AC-S"].same_as == "FN-S"
    save(project, catalog, "AC-S.reason=small", because=None)
    assert project.answers(catalog)["AC-S"].same_as == "FN-S"
    told = refused(project, catalog, "FN-S=partly", same_as="FN-S")
    assert told == "--same-as: found FN-S itself, wanted another requirement"


# --- what an answer decides in assessor.yaml -------------------------------------------------------------------------


def damages(dimension: str, **levels: str) -> list[str]:
    return [f"{dimension}-P.{name}={levels.get(name, 'low')}" for name in SCENARIOS]


def test_an_analysis_decides_its_protection_need(make_folder: Make, catalog: Catalog) -> None:
    project = make_folder()
    (project.folder / "assessor.yaml").write_text((project.folder / "assessor.yaml").read_text() + "# kept\n")
    save(project, catalog, *damages("FN", bodily="medium"), "FN-P.reason=wrong refusals", because=None)
    assert project.answers(catalog)["FN-P"].value == "fulfilled"
    assert need(project, "FN") == (Level.MEDIUM, "wrong refusals (highest damage: bodily)")
    save(project, catalog, *damages("RE"))
    save(project, catalog, "FN-P.material=high", because=None)
    assert need(project, "FN") == (Level.HIGH, "wrong refusals (highest damage: material)")
    assert need(project, "RE") == (Level.MEDIUM, "it is so (reliability is never below medium)")
    assert (project.folder / "assessor.yaml").read_text().count("# kept\n") == 1


def test_half_an_analysis_decides_nothing(make_folder: Make, catalog: Catalog) -> None:
    project = make_folder()
    save(project, catalog, "FN-P.material=high")
    assert need(project, "FN") is None


def test_data_protection_follows_the_profile(make_folder: Make, catalog: Catalog) -> None:
    project = make_folder()
    save(project, catalog, "DP-P.disclosure=limited", "DP-P.reason=names")
    assert need(project, "DP") is None
    profile = [f"PF-T-FA-a.{name}={word}" for name, word in zip(DATA, ("not sensitive", "no", "no"), strict=True)]
    save(project, catalog, *profile)
    assert need(project, "DP") == (Level.MEDIUM, "names (personal data)")
    save(project, catalog, "PF-T-FA-a.personal_data=sensitive")
    assert need(project, "DP") == (Level.HIGH, "names (sensitive personal data)")
    save(project, catalog, "PF-T-FA-a.personal_data=none")
    assert need(project, "DP") == (Level.HIGH, "names (sensitive personal data)")  # a profile alone lowers no need
    save(project, catalog, "DP-P.reason=none left")
    assert need(project, "DP") == (
        Level.LOW,
        "none left (no personal or licensed data, and disclosure does negligible harm)",
    )


def test_a_target_of_a_check_is_kept_in_one_place(make_folder: Make, catalog: Catalog) -> None:
    before = {"metric": "equalized_odds_difference", "interval": [0, 0.2], "because": "old"}
    other = {"interval": [0.5, None], "because": "kept"}
    project = make_folder(targets={"fairness.group_metrics": before, "reliability.performance": other})
    options = (f"{CR}.definition=1", f"{CR}.difference=0..0,1")
    save(project, catalog, f"{CR}=partly", *options, because="the law says so")
    targets = project.configuration().targets
    assert targets["fairness.group_metrics"].model_dump() == {
        "metric": "equalized_odds_difference",
        "interval": (0.0, 0.1),
        "because": "the law says so",
    }
    assert targets["reliability.performance"].because == "kept"
    assert list(project.answers(catalog)[CR].params) == ["definition"]
    path = project.folder / "assessor.yaml"
    path.write_text(path.read_text().replace("- 0.1", "- 0.05"))
    save(project, catalog, f"{CR}=fulfilled", because="now it is")
    assert project.configuration().targets["fairness.group_metrics"].interval == (0.0, 0.05)


def test_the_reason_of_a_target_is_not_the_reason_of_the_answer(make_folder: Make, catalog: Catalog) -> None:
    project = make_folder()
    save(project, catalog, "FN-R-CD-CR-02=partly", because="half of it")
    save(project, catalog, "FN-R-CD-CR-02.days=30", because="monthly data")
    answer = project.answers(catalog)["FN-R-CD-CR-02"]
    assert (answer.because, answer.params["days"].because, answer.params["days"].value) == (
        "half of it",
        "monthly data",
        30.0,
    )


# --- interviews ------------------------------------------------------------------------------------------------------


def test_an_interview_survives_and_ends(make_folder: Make, catalog: Catalog) -> None:
    project, requirement = make_folder(), catalog.by_id["FN-S"]
    started = Interview(project, requirement, "Ada")
    assert started.replies == {}
    started.reply(requirement.questions[0], "acceptable", "said in FN-P")
    again = Interview(project, requirement, "Ada")
    assert again.replies == {"residual_risk": "acceptable"}
    again.reply(requirement.questions[1], "small")
    again.finish(Verdict.PARTLY, "it is so", [])
    answer = project.answers(catalog)["FN-S"]
    assert (answer.replies, answer.value) == ({"residual_risk": "acceptable", "reason": "small"}, Verdict.PARTLY)
    assert answer.origins == {"residual_risk": "said in FN-P"}
    assert Interview(project, requirement, "Ada").replies == {}


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_every_reply_and_target_survives_a_kill(one_folder: Project, catalog: Catalog, data: st.DataObject) -> None:
    requirement = catalog.requirements[data.draw(st.integers(0, len(catalog.requirements) - 1))]
    interview = Interview(one_folder, requirement, "Ada")
    for question in requirement.for_developer:
        interview.reply(question, data.draw(replies_to(question)))
    for param in requirement.params:
        interview.set_param(param, a_value(param), "so")
    again = Interview(one_folder, requirement, "Bob")
    assert again.replies == interview.replies
    assert again.draft.params == interview.draft.params


def a_value(param: Param) -> object:
    return {"interval": (None, 0.1), "number": 3.0, "text": "any"}.get(param.type) or param.options[0]


@pytest.fixture(scope="module")
def one_folder(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A folder that several examples write into."""
    folder = tmp_path_factory.mktemp("one")
    return Project.create(folder, {"assessor.yaml": b"format: 1\n"}, actor="t", action="init")


def test_a_reply_typed_anew_loses_its_origin(make_folder: Make, catalog: Catalog) -> None:
    project, requirement = make_folder(), catalog.by_id["FN-S"]
    interview = Interview(project, requirement, "Ada")
    interview.reply(requirement.questions[1], "drafted", "README.md")
    interview.reply(requirement.questions[1], "typed")
    interview.finish(Verdict.PARTLY, "it is so")
    assert project.answers(catalog)["FN-S"].origins == {}


def test_answering_again_keeps_replies_and_evidence(make_folder: Make, catalog: Catalog, tmp_path: Path) -> None:
    project, requirement, shown = make_folder(), catalog.by_id["FN-S"], tmp_path / "a.txt"
    shown.write_bytes(b"shown")
    save(project, catalog, "FN-S=partly", "FN-S.reason=first", evidence=[shown])
    interview = Interview(project, requirement, "Bob", project.answers(catalog)["FN-S"])
    interview.reply(requirement.questions[0], "negligible")
    interview.finish(Verdict.FULFILLED, "now", [])
    answer = project.answers(catalog)["FN-S"]
    assert answer.replies == {"reason": "first", "residual_risk": "negligible"}
    assert (answer.by, refs(answer)) == ("Bob", [("a.txt", sha256_hex(b"shown"))])


def test_evidence_is_attached_shared_and_never_mixed_up(make_folder: Make, catalog: Catalog, tmp_path: Path) -> None:
    project, requirement, shown = make_folder(), catalog.by_id["FN-S"], tmp_path / "a.txt"
    shown.write_bytes(b"shown")
    shared = EvidenceRef(name="b.txt", sha256="b" * 64, document="summary")
    interview = Interview(project, requirement, "Ada")
    assert interview.attach(shown, "summary") == "a.txt"
    interview.share(shared)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.txt").write_bytes(b"other")
    with pytest.raises(UsageError, match=r"found two files called a\.txt"):
        interview.attach(tmp_path / "deep" / "a.txt")
    with pytest.raises(UsageError, match=r"found two files called a\.txt"):
        interview.finish(Verdict.PARTLY, "x", [tmp_path / "deep" / "a.txt"])
    interview.finish(Verdict.PARTLY, "x")
    found = {item.name: item.document for item in project.answers(catalog)["FN-S"].evidence}
    assert found == {"b.txt": "summary", "a.txt": "summary"}


BROKEN = [
    "{",
    "[]",
    "3",
    '{"q99": "of another catalog"}',
    "\udcff",
    '{"replies": {"residual_risk": "small"}, "params": {}, "origins": {}}',
    '{"replies": {"reason": [1, 2]}, "params": {}, "origins": {}}',
    '{"replies": {"reason": {"a": 1}}}',
]


@pytest.mark.parametrize("draft", BROKEN)
def test_a_broken_draft_is_begun_anew(make_folder: Make, catalog: Catalog, draft: str) -> None:
    project, requirement = make_folder(), catalog.by_id["FN-S"]
    path = project.folder / ".assessor" / "draft-FN-S.json"
    path.write_bytes(draft.encode("utf-8", "surrogateescape"))
    assert Interview(project, requirement, "Ada").replies == {}


def test_a_target_of_another_form_is_not_taken_up_again(make_folder: Make, catalog: Catalog) -> None:
    project, requirement = make_folder(), catalog.by_id["FN-R-CD-CR-02"]
    path = project.folder / ".assessor" / "draft-FN-R-CD-CR-02.json"
    path.write_text('{"replies": {}, "params": {"days": {"value": "often", "because": "x"}}, "origins": {}}')
    assert Interview(project, requirement, "Ada").draft.params == {}


def test_replies_to_questions_that_are_not_put_any_more(catalog: Catalog, configure: Make) -> None:
    profile = catalog.by_id["PF-T-FA-a"]
    scope = Scope(catalog, configure(), {})

    def left(**replies: Reply) -> list[str]:
        return [question.id for question in unasked(profile, scope, replies)]

    assert left(personal_data="none", biometric="no") == ["biometric"]
    assert left(personal_data="sensitive", biometric="no") == []
    assert left(biometric="no") == []
    assert all(isinstance(question, Question) for question in profile.questions)


def test_a_reply_can_be_forgotten(make_folder: Make, catalog: Catalog) -> None:
    project, requirement = make_folder(), catalog.by_id["FN-S"]
    interview = Interview(project, requirement, "Ada")
    interview.reply(requirement.questions[1], "drafted", "README.md")
    interview.forget(requirement.questions[1])
    interview.forget(requirement.questions[1])
    again = Interview(project, requirement, "Ada")
    assert (again.replies, again.draft.origins) == ({}, {})
