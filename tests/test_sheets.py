"""Sheets: out, filled and in again; nothing is changed on the way, and nothing is saved when one row is wrong."""

from __future__ import annotations

import csv
import io
import shutil
import zipfile
from collections.abc import Callable, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from drawn import PRINTED, replies_to
from hypothesis import example, given, settings
from hypothesis import strategies as st

from assessor.answering import Interview, save_settings
from assessor.assessment import Assessment
from assessor.canonical import sha256_hex
from assessor.errors import UsageError
from assessor.evidence import Details, add
from assessor.messages import speaking
from assessor.model import Answer, Catalog, Known, Requirement, Verdict
from assessor.project import Project
from assessor.sheets import COLUMNS, _csv_rows, _excel_rows, _harmless, read_answers, write_sheet

Make = Callable[..., Any]
BOTH = pytest.mark.parametrize("ending", [".csv", ".xlsx"])
Rows = list[dict[str, str]]


def written(project: Project, path: Path, *ids: str) -> Rows:
    """The rows of a sheet over some requirements, as a spreadsheet shows them."""
    found = Assessment.read(project)
    write_sheet(path, [found.catalog.by_id[name] for name in ids], found)
    return shown(path)


def shown(path: Path) -> Rows:
    if path.suffix == ".csv":
        return list(csv.DictReader(io.StringIO(path.read_text("utf-8-sig"), newline="")))
    lines = openpyxl.load_workbook(path).worksheets[0].iter_rows(values_only=True)
    return [{name: cell or "" for name, cell in zip(COLUMNS, line, strict=True)} for line in list(lines)[1:]]


def filled(path: Path, rows: Sequence[dict[str, Any]], columns: Sequence[str] = COLUMNS) -> Path:
    """The sheet with other rows."""
    if path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, columns)
            writer.writeheader()
            writer.writerows(rows)
    else:
        book = openpyxl.Workbook()
        book.active.append(list(columns))
        for row in rows:
            book.active.append([row.get(name) for name in columns])
        book.save(path)
    return path


def row(name: str, part: str, reply: object, because: str = "", evidence: str = "") -> dict[str, Any]:
    return {"id": name, "part": part, "reply": reply, "because": because, "evidence": evidence}


def read(project: Project, path: Path) -> list[tuple[str, str]]:
    return [tuple(saved) for saved in read_answers(project, path, by="Ada")]  # type: ignore[misc]


def refused(project: Project, path: Path) -> list[str]:
    """What is told, after seeing that nothing was saved."""
    before = project.ledger_bytes()
    with pytest.raises(UsageError) as caught:
        read(project, path)
    assert project.ledger_bytes() == before
    return [line.removeprefix(f"{path}:") for line in str(caught.value).splitlines()]


def plain(answer: Answer) -> dict[str, Any]:
    return answer.model_dump(exclude={"at", "by"})


# --- out -------------------------------------------------------------------------------------------------------------


@BOTH
def test_a_row_for_each_question_target_and_verdict(make_folder: Make, tmp_path: Path, ending: str) -> None:
    project = make_folder()
    rows = written(project, tmp_path / f"open{ending}", "FN-R-CD-CR-02", "FN-P")
    scope, wanted = Assessment.read(project).scope, []
    for name, more in (("FN-R-CD-CR-02", ["days", "verdict"]), ("FN-P", [])):
        asked = [question.id for question in scope.questions(scope.catalog.by_id[name])]
        wanted += [(name, part) for part in [*asked, *more]]
    assert list(rows[0]) == list(COLUMNS)
    assert [(line["id"], line["part"]) for line in rows] == wanted
    forms = {line["part"]: line["form"] for line in rows}
    assert (forms["days"], forms["bodily"]) == ("number days", "low / medium / high")
    assert forms["verdict"] == "fulfilled / partly / not fulfilled / not applicable"
    assert {line["reply"] for line in rows} == {""}


def test_a_sheet_never_replaces_a_file(make_folder: Make, tmp_path: Path) -> None:
    project, path = make_folder(), tmp_path / "open.csv"
    written(project, path, "FN-P")
    with pytest.raises(UsageError, match=r"open\.csv exists; name another file"):
        written(project, path, "FN-P")
    with pytest.raises(UsageError, match=r"wanted a file name that ends in \.csv or \.xlsx"):
        written(project, tmp_path / "open.ods", "FN-P")


def test_choices_of_an_excel_sheet_are_offered(make_folder: Make, tmp_path: Path) -> None:
    rows = written(make_folder(), tmp_path / "open.xlsx", "FN-P", "FN-S", "AT")
    rules = openpyxl.load_workbook(tmp_path / "open.xlsx").worksheets[0].data_validations.dataValidation
    offered = {
        (line["id"], line["part"]): rule.formula1
        for number, line in enumerate(rows, start=2)
        for rule in rules
        if f"E{number}" in rule.sqref
    }
    assert offered["FN-P", "bodily"] == '"low,medium,high"'
    assert offered["FN-S", "verdict"] == '"fulfilled,partly,not fulfilled,not applicable"'
    assert ("FN-P", "reason") not in offered
    assert ("AT", "verdict") not in offered  # its choices hold a comma


FORMULA = '=HYPERLINK("http://x", "y") it\'s'


@BOTH
@pytest.mark.parametrize("text", [FORMULA, "+1", "-1 or less", "@SUM(A1)", "＝1", "'=1", "''-x", "'quoted'", "a\n=b"])
def test_no_cell_is_a_formula_and_every_text_comes_back(
    make_folder: Make, catalog: Catalog, tmp_path: Path, ending: str, text: str
) -> None:
    project, path = make_folder(), tmp_path / f"open{ending}"
    save_settings(project, catalog, ["FN-S=partly", f"FN-S.reason={text}"], because=text, by="Ada", evidence=())
    before = project.answers(catalog)["FN-S"]
    lines = written(project, path, "FN-S")
    if ending == ".csv":
        assert not [cell for line in lines for cell in line.values() if cell[:1] in set("=+-@\t\r＝＋－＠")]
    else:
        cells = [cell for line in openpyxl.load_workbook(path).worksheets[0].iter_rows() for cell in line]
        assert {cell.data_type for cell in cells if cell.value is not None} == {"s"}
    read(project, path)
    assert plain(project.answers(catalog)["FN-S"]) == plain(before)


@given(st.text(st.sampled_from("'=+-@ab1＝")))
@settings(max_examples=100, deadline=None)
def test_harmless_text_is_told_from_text_that_was_made_so(text: str) -> None:
    cell = _harmless(text)
    assert cell[:1] not in set("=+-@＝＋－＠") or not cell
    stream = io.StringIO(newline="")
    csv.writer(stream).writerows([["id"], [cell]])
    path = Path("/dev/shm/assessor-test.csv") if Path("/dev/shm").is_dir() else Path("assessor-test.csv")
    try:
        path.write_text(stream.getvalue(), "utf-8")
        assert list(_csv_rows(path))[1:] == [(2, [text])]
    finally:
        path.unlink()


def test_characters_that_excel_cannot_hold_are_left_out(make_folder: Make, catalog: Catalog, tmp_path: Path) -> None:
    project = make_folder()
    save_settings(project, catalog, ["FN-S=partly", "FN-S.reason=a\x07b"], because="x", by="Ada", evidence=())
    rows = written(project, tmp_path / "open.xlsx", "FN-S")
    assert [line["reply"] for line in rows if line["part"] == "reason"] == ["ab"]


@BOTH
def test_drafts_stand_in_the_sheet_with_their_origin(
    make_folder: Make, catalog: Catalog, tmp_path: Path, ending: str
) -> None:
    project, path = make_folder(), tmp_path / f"open{ending}"
    project.save_known({"purpose": (Known(value="Sorts claims", origin="README.md, line 3"),)}, actor="x", because="y")
    rows = written(project, path, "PF-T-FA-01")
    assert rows[0]["reply"] == "Sorts claims"
    assert rows[0]["because"] == "README.md, line 3"
    assert read(project, path) == []  # a draft alone answers nothing
    done = [
        {**line, "reply": {"effect": "nothing", "generative": "no"}.get(line["part"], line["reply"])} for line in rows
    ]
    done[1]["reply"] = "in | form | clerk"
    filled(path, done)
    assert read(project, path) == [("PF-T-FA-01", "fulfilled")]
    assert project.answers(catalog)["PF-T-FA-01"].origins == {"q1": "README.md, line 3"}
    done[0]["reply"] = "Something else"
    read(project, filled(path, done))
    assert project.answers(catalog)["PF-T-FA-01"].origins == {}
    done[0]["because"] = "manual, page 5"
    read(project, filled(path, done))
    assert project.answers(catalog)["PF-T-FA-01"].origins == {"q1": "manual, page 5"}


# --- out and in ------------------------------------------------------------------------------------------------------


def answered(project: Project, catalog: Catalog, requirement: Requirement, draw: Callable[[Any], Any]) -> Answer:
    """An answer that replies to everything, given at a terminal."""
    interview = Interview(project, requirement, "Ada")
    for question in requirement.for_developer:
        interview.reply(question, draw(replies_to(question, PRINTED)), draw(st.sampled_from(["", "README.md"])))
    values = {"interval": (None, 0.123456789), "number": 1234567.0, "text": "any"}
    for param in requirement.params:
        if not param.check:
            interview.set_param(param, values.get(param.type) or param.options[0], "so")
    interview.finish(draw(st.sampled_from([Verdict.PARTLY, Verdict.NOT_APPLICABLE])), "for a reason")
    return project.answers(catalog)[requirement.id]


@pytest.fixture(scope="module")
def one_folder(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A folder that several examples write into."""
    data = b"format: 1\ncatalog: {version: 1.1.0}\nsystem: {name: a, version: '1'}\n"
    return Project.create(tmp_path_factory.mktemp("one"), {"assessor.yaml": data}, actor="t", action="init")


@pytest.mark.slow
@given(st.data(), st.sampled_from([".csv", ".xlsx"]), st.sampled_from(["en", "de"]))
@settings(max_examples=25, deadline=None)
def test_an_unchanged_sheet_changes_no_answer(
    one_folder: Project, catalog: Catalog, data: st.DataObject, ending: str, language: str
) -> None:
    ids = ["FN-R-CD-CR-01", "FN-R-CD-CR-02", "FN-R-FN-CR-01", "FN-S", "FN-R-FN-ME-02", "AT"]
    requirement = catalog.by_id[data.draw(st.sampled_from(ids))]
    shutil.rmtree(one_folder.folder / "answers", ignore_errors=True)
    before = answered(one_folder, catalog, requirement, data.draw)
    path = one_folder.folder / f"sheet{ending}"
    path.unlink(missing_ok=True)
    with speaking(language):
        written(one_folder, path, requirement.id)
        read(one_folder, path)
    put = {question.id for question in Assessment.read(one_folder).scope.questions(requirement)}
    after = one_folder.answers(catalog)[requirement.id]
    assert plain(after) == plain(before)
    assert put <= set(after.replies)


@BOTH
def test_a_filled_sheet_is_saved_requirement_by_requirement(
    make_folder: Make, catalog: Catalog, tmp_path: Path, ending: str
) -> None:
    project = make_folder()
    (tmp_path / "a.txt").write_bytes(b"a")
    (tmp_path / "b.txt").write_bytes(b"b")
    rows = [
        *[row("FN-P", name, "low") for name in ("material", "bodily", "immaterial")],
        row("FN-S", "verdict", "Partly", "half of it"),
        row("FN-P", "indirect", "medium"),
        row("FN-P", "reason", "worst case"),
        row("FN-S", "residual_risk", "2"),
        row("FN-R-CD-CR-02", "verdict", "not_fulfilled", "not yet", "a.txt; b.txt;"),
        row("FN-R-CD-CR-02", "days", "30", "monthly"),
        row("FN-R-CD-CR-02", "q1", "before every training, after an alarm"),
        row("AC-S", "verdict", ""),
        row("", "", ""),
    ]
    saved = read(project, filled(tmp_path / f"in{ending}", rows))
    assert saved == [("FN-P", "fulfilled"), ("FN-S", "partly"), ("FN-R-CD-CR-02", "not_fulfilled")]
    answers = project.answers(catalog)
    assert answers["FN-P"].because == "worst case"
    assert project.configuration().protection_needs.of("FN").level == "medium"
    assert (answers["FN-S"].because, answers["FN-S"].replies) == ("half of it", {"residual_risk": "acceptable"})
    criterion = answers["FN-R-CD-CR-02"]
    assert criterion.replies == {"q1": ("before every training", "after an alarm")}
    assert criterion.params["days"].model_dump() == {"value": 30.0, "because": "monthly"}
    assert [(item.name, item.sha256) for item in criterion.evidence] == [
        ("a.txt", sha256_hex(b"a")),
        ("b.txt", sha256_hex(b"b")),
    ]
    actions = [line for line in project.ledger_bytes().decode().splitlines() if '"answer ' in line]
    assert len(actions) == 3


def test_days_numbers_and_truth_as_excel_keeps_them(make_folder: Make, catalog: Catalog, tmp_path: Path) -> None:
    project = make_folder()
    names = [(item.id, question) for item in catalog.requirements for question in item.for_developer]
    (dated, day), (sure, truth), (counted, number) = (
        next((name, question) for name, question in names if question.type == form)
        for form in ("date", "yes_no", "number")
    )
    rows = [
        row(dated, day.id, datetime(2026, 11, 21)),
        row(sure, truth.id, True),
        row(counted, number.id, 12),
        *[row(name, "verdict", "partly", "x") for name in {dated, sure, counted}],
    ]
    read(project, filled(tmp_path / "in.xlsx", rows))
    answers = project.answers(catalog)
    assert answers[dated].replies[day.id] == "2026-11-21"
    assert answers[sure].replies[truth.id] == "yes"
    assert answers[counted].replies[number.id] == 12.0
    read(project, filled(tmp_path / "in.xlsx", [row(dated, day.id, date(2026, 1, 2))]))
    assert project.answers(catalog)[dated].replies[day.id] == "2026-01-02"


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_the_delimiter_is_found(make_folder: Make, catalog: Catalog, tmp_path: Path, delimiter: str) -> None:
    project, path = make_folder(), tmp_path / "in.csv"
    cells = [
        ["ID", "Part", "Reply", "Because"],
        ["FN-S", "verdict", "partly", "a, b; c"],
        ["FN-S", "reason", "x;y,z", ""],
    ]
    stream = io.StringIO(newline="")
    csv.writer(stream, delimiter=delimiter).writerows(cells)
    path.write_bytes(b"\xef\xbb\xbf" + stream.getvalue().encode())
    assert read(project, path) == [("FN-S", "partly")]
    answer = project.answers(catalog)["FN-S"]
    assert (answer.because, answer.replies) == ("a, b; c", {"reason": "x;y,z"})


def test_a_profile_is_answered_when_all_that_is_asked_is(make_folder: Make, catalog: Catalog, tmp_path: Path) -> None:
    project, path = make_folder(), tmp_path / "in.csv"
    rows = [
        row("PF-T-ST-02", "q1", "trees"),
        row("PF-T-ST-02", "learning", "not at all"),
        row("PF-T-ST-02", "interpretable", "yes"),
        row("PF-T-ST-02", "explanations", "nobody"),
    ]
    assert read(project, filled(path, rows[:-1])) == []
    assert read(project, filled(path, rows)) == [("PF-T-ST-02", "fulfilled")]  # release is not asked
    assert project.answers(catalog)["PF-T-ST-02"].because == "The replies say it."
    assert Assessment.read(project).scope.facts["learning_in_operation"] == "not at all"


def test_replies_without_a_verdict_answer_nothing(make_folder: Make, tmp_path: Path) -> None:
    project, path = make_folder(), tmp_path / "in.csv"
    before = project.ledger_bytes()
    assert read(project, filled(path, [row("FN-S", "reason", "x")])) == []
    assert project.ledger_bytes() == before


def test_a_question_called_verdict_is_not_the_verdict(make_folder: Make, catalog: Catalog, tmp_path: Path) -> None:
    project = make_folder()
    parts = [line["part"] for line in written(project, tmp_path / "open.csv", "AT")]
    assert parts[-1] == "(verdict)"
    assert parts.count("verdict") == 1
    path = filled(tmp_path / "in.csv", [row("AT", "verdict", "no"), row("AT", "(verdict)", "partly", "x")])
    assert read(project, path) == [("AT", "partly")]
    assert project.answers(catalog)["AT"].replies == {"verdict": "no"}


def test_another_verdict_needs_another_reason(make_folder: Make, catalog: Catalog, tmp_path: Path) -> None:
    project, path = make_folder(), tmp_path / "in.csv"
    read(project, filled(path, [row("FN-S", "verdict", "fulfilled", "all is well")]))
    assert refused(project, filled(path, [row("FN-S", "verdict", "partly")])) == ["2 FN-S: a verdict needs its reason"]
    read(project, filled(path, [row("FN-S", "verdict", "fulfilled")]))
    assert project.answers(catalog)["FN-S"].because == "all is well"
    read(project, filled(path, [row("FN-S", "verdict", "partly"), row("FN-S", "reason", "a gap")]))
    assert project.answers(catalog)["FN-S"].because == "The replies say it."


def test_evidence_of_a_row_without_a_reply(make_folder: Make, catalog: Catalog, tmp_path: Path) -> None:
    project, path = make_folder(), tmp_path / "in.csv"
    (tmp_path / "a.txt").write_bytes(b"a")
    read(project, filled(path, [row("FN-S", "verdict", "partly", "x"), row("FN-S", "reason", "", "", "a.txt")]))
    assert [item.name for item in project.answers(catalog)["FN-S"].evidence] == ["a.txt"]


# --- faults ----------------------------------------------------------------------------------------------------------


@BOTH
def test_every_fault_is_told_with_its_row(make_folder: Make, tmp_path: Path, ending: str) -> None:
    rows = [
        row("FN-S", "verdict", "partly", "fine"),
        row("FN-X", "verdict", "partly", "x"),
        row("FN-S", "residual_risk", "small"),
        row("FN-S", "risk", "small"),
        row("FN-S", "probe", "it is the auditor's"),
        row("FN-R-CD-CR-02", "days", "30"),
        row("FN-R-CD-CR-02", "verdict", "good"),
        row("FN-P", "material", "low", "", "none.txt"),
        row("", "reason", "whose?"),
    ]
    told = refused(make_folder(), filled(tmp_path / f"in{ending}", rows))
    assert told == [
        "3 id: no requirement 'FN-X'; did you mean 'FN-S'?",
        "10 id: found a reply without the id of its requirement",
        "4 FN-S.residual_risk: found 'small', wanted one of: negligible, acceptable, unacceptable",
        "5 FN-S.risk: no part 'risk'; known: residual_risk, reason, side_effects, verdict",
        "6 FN-S.probe: no part 'probe'; known: residual_risk, reason, side_effects, verdict",
        "7 FN-R-CD-CR-02.days: a target needs its reason in the column because",
        "8 FN-R-CD-CR-02.verdict: found 'good', wanted one of: fulfilled, partly, not fulfilled, not applicable",
        "9 FN-P.material: 'none.txt' is not beside the sheet: no evidence 'none.txt' in evidence.yaml",
    ]


def test_rows_are_told_by_their_first_line(make_folder: Make, tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text('id,part,reply\nFN-S,reason,"two\nlines"\nFN-S,verdict,good\n')
    assert refused(make_folder(), path) == [
        "4 FN-S.verdict: found 'good', wanted one of: fulfilled, partly, not fulfilled, not applicable"
    ]


def test_two_files_of_one_name_in_a_sheet(make_folder: Make, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "a.txt").write_bytes(b"a")
    (tmp_path / "deep" / "a.txt").write_bytes(b"b")
    rows = [row("FN-S", "verdict", "partly", "x", "a.txt"), row("FN-S", "reason", "x", "", "deep/a.txt")]
    told = refused(make_folder(), filled(tmp_path / "in.csv", rows))
    assert told == ["3 FN-S.reason: found two files called a.txt, wanted names that differ"]


@BOTH
def test_a_sheet_without_its_columns(make_folder: Make, tmp_path: Path, ending: str) -> None:
    path = filled(tmp_path / f"in{ending}", [], columns=("id", "question"))
    assert refused(make_folder(), path) == [
        "1 found no column part, reply; wanted: id, part, question, form, reply, because, evidence"
    ]
    filled(path, [], columns=())
    assert refused(make_folder("other"), path)[0].startswith("1 found no column id, part, reply")


@pytest.mark.parametrize("content", [b"\xff\xfe", b"id,part,reply\nFN-S,reason,\xe4"])
def test_text_that_is_not_utf_8(make_folder: Make, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "in.csv").write_bytes(content)
    assert "cannot read it as UTF-8 text" in refused(make_folder(), tmp_path / "in.csv")[0]


def test_a_cell_longer_than_any_reply(make_folder: Make, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text(f"id,part,reply\nFN-S,reason,{'x' * 200_000}\n")
    assert refused(make_folder(), tmp_path / "in.csv")[0].startswith("2 cannot read this row: field larger")


def test_a_broken_excel_file(make_folder: Make, tmp_path: Path) -> None:
    project, path = make_folder(), tmp_path / "in.xlsx"
    filled(path, [row("FN-S", "verdict", "partly", "x")])
    whole = path.read_bytes()
    for broken in (b"", b"no archive", whole[: len(whole) // 2]):
        path.write_bytes(broken)
        assert "cannot read it as an Excel file" in refused(project, path)[0]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"sheetId=", b"shetId="),
        (b"</workbook>", b""),
        (b'visibility="visible"', b'activeTab="x"'),
    ],
)
def test_an_excel_file_that_says_nonsense(make_folder: Make, tmp_path: Path, old: bytes, new: bytes) -> None:
    project, path = make_folder(), tmp_path / "in.xlsx"
    with zipfile.ZipFile(filled(path, [])) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    assert old in parts["xl/workbook.xml"]
    parts["xl/workbook.xml"] = parts["xl/workbook.xml"].replace(old, new)
    with zipfile.ZipFile(path, "w") as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
    assert "cannot read it as an Excel file" in refused(project, path)[0]


@given(st.integers(0, 4000), st.integers(0, 255))
@example(0, 0)
@settings(max_examples=40, deadline=None)
def test_a_damaged_excel_file_is_read_or_refused(one_folder: Project, at: int, value: int) -> None:
    path = one_folder.folder / "damaged.xlsx"
    content = bytearray(filled(path, [row("AC-S", "reason", "x")]).read_bytes())
    content[at % len(content)] = value
    path.write_bytes(content)
    try:
        assert read(one_folder, path) == []
    except UsageError:
        pass
    finally:
        path.unlink()


def test_files_of_another_kind(make_folder: Make, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"wanted a file name that ends in \.yaml, \.csv or \.xlsx"):
        read(make_folder(), tmp_path / "in.ods")
    assert "cannot read it" in refused(make_folder("other"), tmp_path / "none.csv")[0]
    assert "cannot read it as an Excel file" in refused(make_folder("third"), tmp_path / "none.xlsx")[0]


# --- YAML ------------------------------------------------------------------------------------------------------------

SAID = "{value: partly, because: x, by: Bob, at: 2026-11-21T10:00:00Z"


def test_answers_from_yaml(make_folder: Make, catalog: Catalog, tmp_path: Path) -> None:
    project, path = make_folder(), tmp_path / "in.yaml"
    path.write_text(
        f"FN-P: {SAID}, replies: {{material: low, bodily: low, immaterial: low, indirect: high}}}}\n"
        f"FN-R-FN-CR-01: {SAID}, params: {{difference: {{value: [0, 0.1], because: law}}}}}}\n"
    )
    assert read(project, path) == [("FN-P", "partly"), ("FN-R-FN-CR-01", "partly")]
    assert project.answers(catalog)["FN-P"].by == "Bob"
    assert project.configuration().protection_needs.of("FN").level == "high"
    assert project.configuration().targets["fairness.group_metrics"].because == "law"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"FN-S: {SAID}}}\nFN-X: {SAID}}}\n", "in.yaml:2 FN-X: no requirement 'FN-X'; did you mean 'FN-S'?"),
        (f"FN-S: {SAID}, replies: {{risk: x}}}}\n", "in.yaml:1 FN-S replies: no question 'risk'; known: residual_risk"),
        (
            f"FN-S: {SAID}, params: {{x: {{value: 1, because: x}}}}}}\n",
            "in.yaml:1 FN-S params: no param 'x'; known: none",
        ),
        (f"FN-S: {SAID}, same_as: FN-X}}\n", "in.yaml:1 FN-S same_as: no requirement 'FN-X'; did you mean 'FN-S'?"),
        (
            f"FN-S: {SAID}, evidence: [{{name: a.txt, sha256: {'a' * 64}}}]}}\n",
            "in.yaml:1 FN-S evidence: no file a.txt of this digest in the assessment",
        ),
        ("FN-S: {value: good}\n", "in.yaml:1 FN-S.value: found 'good', wanted"),
        ("- a\n", "in.yaml:1 found a list, wanted"),
    ],
)
def test_answers_from_yaml_that_do_not_fit(make_folder: Make, tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "in.yaml").write_text(text)
    assert refused(make_folder(), tmp_path / "in.yaml")[0].startswith(told)


# --- evidence that is registered --------------------------------------------------------------------------------------


@pytest.fixture
def registered(make_folder: Make, catalog: Catalog, tmp_path: Path) -> Project:
    """An assessment with evidence that is withheld, kept elsewhere, plain and gone; none of it lies beside a sheet."""
    project: Project = make_folder()
    for name, details in {
        "withheld.txt": Details(withheld="names", document="datasheet", collected=date(2026, 1, 2)),
        "elsewhere.txt": Details(uri="s3://bucket/elsewhere.txt"),
        "plain.txt": Details(),
        "gone.txt": Details(),
        "changed.txt": Details(),
    }.items():
        path = tmp_path / "from" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
        add(project, catalog, [path], requirements=["FN-S"], details=details, by="Ada")
    for name in ("withheld.txt", "gone.txt"):
        content(project, name).unlink()
    content(project, "changed.txt").write_text("other")
    return project


def digest(name: str) -> str:
    return sha256_hex(name.encode())


def content(project: Project, name: str) -> Path:
    return project.folder / "evidence" / digest(name) / name


@BOTH
def test_a_sheet_names_registered_evidence(registered: Project, catalog: Catalog, tmp_path: Path, ending: str) -> None:
    named = f"withheld.txt; elsewhere.txt;{digest('plain.txt')[:8]}"
    read(registered, filled(tmp_path / f"in{ending}", [row("RE-S", "verdict", "partly", "x", named)]))
    evidence = registered.answers(catalog)["RE-S"].evidence
    assert [(item.name, item.sha256) for item in evidence] == [
        (name, digest(name)) for name in ("withheld.txt", "elsewhere.txt", "plain.txt")
    ]
    assert (evidence[0].document, evidence[0].collected) == ("datasheet", date(2026, 1, 2))
    assert not content(registered, "withheld.txt").exists()
    assert not content(registered, "elsewhere.txt").exists()
    assert registered.evidence(catalog)[digest("withheld.txt")].withheld == "names"


@BOTH
def test_a_sheet_names_no_evidence_that_is_gone_or_was_changed(
    registered: Project, tmp_path: Path, ending: str
) -> None:
    rows = [
        row("RE-S", "verdict", "partly", "x", "gone.txt"),
        row("FN-S", "verdict", "partly", "x", "changed.txt"),
        row("TR-S", "verdict", "partly", "x", "withhold.txt"),
    ]
    assert refused(registered, filled(tmp_path / f"in{ending}", rows)) == [
        "2 RE-S.verdict: no file gone.txt of this digest in the assessment",
        "3 FN-S.verdict: no file changed.txt of this digest in the assessment",
        "4 TR-S.verdict: 'withhold.txt' is not beside the sheet: no evidence 'withhold.txt' in evidence.yaml; did you "
        "mean 'withheld.txt'?",
    ]


def test_content_beside_a_sheet_is_not_copied_where_it_is_kept_elsewhere(
    registered: Project, catalog: Catalog, tmp_path: Path
) -> None:
    (tmp_path / "copy.txt").write_text("elsewhere.txt")
    read(registered, filled(tmp_path / "in.csv", [row("RE-S", "verdict", "partly", "x", "copy.txt")]))
    (item,) = registered.answers(catalog)["RE-S"].evidence
    assert (item.name, item.sha256) == ("elsewhere.txt", digest("elsewhere.txt"))
    assert not content(registered, "elsewhere.txt").exists()
    assert registered.evidence(catalog)[digest("elsewhere.txt")].uri == "s3://bucket/elsewhere.txt"


def test_answers_from_yaml_name_registered_evidence(registered: Project, catalog: Catalog, tmp_path: Path) -> None:
    def given(name: str, called: str = "") -> Path:
        text = f"RE-S: {SAID}, evidence: [{{name: {called or name}, sha256: {digest(name)}}}]}}\n"
        (tmp_path / "in.yaml").write_text(text)
        return tmp_path / "in.yaml"

    for name in ("withheld.txt", "elsewhere.txt", "plain.txt"):
        read(registered, given(name, called="theirs.txt"))
        (item,) = registered.answers(catalog)["RE-S"].evidence
        assert item.name == name
    for name in ("gone.txt", "changed.txt"):
        told = f"in.yaml:1 RE-S evidence: no file {name} of this digest in the assessment"
        assert refused(registered, given(name)) == [told]


@pytest.mark.slow
def test_an_excel_file_that_unpacks_to_more_than_a_sheet_is_refused(tmp_path: Path) -> None:
    with (
        zipfile.ZipFile(tmp_path / "bomb.xlsx", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("xl/worksheets/sheet1.xml", "w", force_zip64=True) as part,
    ):
        for _ in range(200):
            part.write(b"A" * 2**20)
    with pytest.raises(UsageError, match="unpacks to 209715200 bytes"):
        _excel_rows(tmp_path / "bomb.xlsx")
