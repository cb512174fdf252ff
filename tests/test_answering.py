"""Taking answers: all or nothing, with their evidence; a half-finished one survives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from assessor.answering import Interview, read_evidence, save_settings
from assessor.canonical import sha256_hex
from assessor.errors import UsageError
from assessor.model import Catalog, Verdict
from assessor.project import Project, evidence_ref

Make = Callable[..., Any]


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


def test_verdict_and_replies_are_saved(make_folder: Make, catalog: Catalog, tmp_path: Path) -> None:
    project, shown = make_folder(), tmp_path / "shown.txt"
    shown.write_bytes(b"shown")
    saved = save(project, catalog, "FN-P=1", "FN-P.level=hi", "FN-S=not applicable", evidence=[shown])
    assert saved == [("FN-P", "fulfilled"), ("FN-S", "not_applicable")]
    answers = project.answers(catalog)
    assert answers["FN-P"].replies == {"level": "high"}
    assert (answers["FN-P"].by, answers["FN-P"].because) == ("Ada", "it is so")
    assert answers["FN-P"].evidence == answers["FN-S"].evidence == (evidence_ref("shown.txt", b"shown"),)
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
    assert answer.evidence == (evidence_ref("old.txt", b"old"), evidence_ref("new.txt", b"new"))
    old.write_bytes(b"newer")
    save(project, catalog, "FN-S=fulfilled", because="now it is", evidence=[old])
    answer = project.answers(catalog)["FN-S"]
    assert (answer.value, answer.because) == (Verdict.FULFILLED, "now it is")
    assert answer.evidence == (evidence_ref("old.txt", b"newer"), evidence_ref("new.txt", b"new"))


@pytest.mark.parametrize(
    ("given", "named", "told"),
    [
        (["FN-P=fulfilled", "FN-X=partly"], {}, "--set: no requirement 'FN-X'; did you mean 'FN-S'?"),
        (
            ["FN-P=fulfilled", "FN-S=good"],
            {},
            "found 'good', wanted one of: fulfilled, partly, not_fulfilled, not_applicable",
        ),
        (
            ["FN-P=fulfilled", "FN-S.reason=x"],
            {},
            "--set FN-S: its verdict is missing, give  --set FN-S=fulfilled  (or partly, ...) too",
        ),
        (["FN-P=fulfilled"], {"because": None}, "--set FN-P: the reason is missing, give  --because TEXT"),
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
    ],
)
def test_what_is_refused_saves_nothing(
    make_folder: Make, catalog: Catalog, given: list[str], named: dict[str, Any], told: str
) -> None:
    assert refused(make_folder(), catalog, *given, **named) == told


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


def test_an_interview_survives_and_ends(make_folder: Make, catalog: Catalog) -> None:
    project, requirement = make_folder(), catalog.by_id["FN-S"]
    started = Interview(project, requirement, "Ada")
    assert started.replies == {}
    started.reply(requirement.questions[0], "acceptable")
    again = Interview(project, requirement, "Ada")
    assert again.replies == {"residual_risk": "acceptable"}
    again.reply(requirement.questions[1], "small")
    again.finish(Verdict.PARTLY, "it is so", [])
    answer = project.answers(catalog)["FN-S"]
    assert (answer.replies, answer.value) == ({"residual_risk": "acceptable", "reason": "small"}, Verdict.PARTLY)
    assert Interview(project, requirement, "Ada").replies == {}


def test_answering_again_keeps_replies_and_evidence(make_folder: Make, catalog: Catalog, tmp_path: Path) -> None:
    project, requirement, shown = make_folder(), catalog.by_id["FN-S"], tmp_path / "a.txt"
    shown.write_bytes(b"shown")
    save(project, catalog, "FN-S=partly", "FN-S.reason=first", evidence=[shown])
    interview = Interview(project, requirement, "Bob", project.answers(catalog)["FN-S"])
    interview.reply(requirement.questions[0], "negligible")
    interview.finish(Verdict.FULFILLED, "now", [])
    answer = project.answers(catalog)["FN-S"]
    assert answer.replies == {"reason": "first", "residual_risk": "negligible"}
    assert (answer.by, answer.evidence) == ("Bob", (evidence_ref("a.txt", b"shown"),))


@pytest.mark.parametrize("draft", ["{", "[]", "3", '{"q99": "of another catalog"}', "\udcff"])
def test_a_broken_draft_is_begun_anew(make_folder: Make, catalog: Catalog, draft: str) -> None:
    project, requirement = make_folder(), catalog.by_id["FN-S"]
    path = project.folder / ".assessor" / "draft-FN-S.json"
    path.write_bytes(draft.encode("utf-8", "surrogateescape"))
    assert Interview(project, requirement, "Ada").replies == {}
