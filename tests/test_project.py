"""The assessment folder: what is written reads back, every change is in the ledger, and no kill leaves a half."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from drawn import ENDS, NUMBERS, TEXTS, replies_to
from hypothesis import given, settings
from hypothesis import strategies as st

from assessor import ledger, yamlfile
from assessor.canonical import canonical_json, sha256_hex
from assessor.errors import ConfigurationError, IntegrityError, UsageError
from assessor.model import (
    Answer,
    Answers,
    Assurance,
    Audit,
    Audits,
    AuditSummary,
    Catalog,
    Conclusion,
    Configuration,
    EvidenceRef,
    Known,
    ParamType,
    ParamValue,
    Question,
    Reply,
    Requirement,
)
from assessor.project import Project, evidence_ref

Make = Callable[..., Any]
AT = "2026-11-21T10:00:00Z"


def an_answer(**changes: Any) -> Answer:
    return Answer.model_validate({"value": "fulfilled", "because": "it is so", "by": "Ada", "at": AT, **changes})


def entries(project: Project) -> list[ledger.Entry]:
    return list(ledger.entries(project.ledger_bytes()))


# --- opening ---------------------------------------------------------------------------------------------------------


def test_create_records_its_files(make_folder: Make) -> None:
    project = make_folder()
    (entry,) = entries(project)
    assert (entry.actor, entry.action, entry.seq) == ("tester", "init", 0)
    for name, change in entry.files.items():
        assert change == ledger.Change(before=None, after=sha256_hex((project.folder / name).read_bytes()))


def test_an_assessment_is_never_overwritten(make_folder: Make) -> None:
    project = make_folder()
    before = project.ledger_bytes()
    with pytest.raises(UsageError, match=r"assessor\.yaml exists; an assessment is never overwritten"):
        make_folder()
    assert project.ledger_bytes() == before


def test_find_looks_upwards(make_folder: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    project = make_folder()
    below = project.folder / "deep" / "down"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert Project.find().folder == project.folder.resolve()
    assert Project.find(project.folder).folder == project.folder


def test_no_assessment_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"no assessor\.yaml in .* or above it; name the folder with --project"):
        Project.find()
    with pytest.raises(UsageError, match=r"no assessor\.yaml here; start an assessment with  assessor init"):
        Project.find(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_reading_writes_nothing(make_folder: Make, catalog: Catalog) -> None:
    project = make_folder()
    before = {path: path.stat().st_mtime_ns for path in project.folder.rglob("*")}
    again = Project(project.folder)
    again.configuration(), again.answers(catalog), again.runs(), again.ledger_bytes()
    assert {path: path.stat().st_mtime_ns for path in project.folder.rglob("*")} == before


def test_a_new_folder_of_ours_can_be_read(tmp_path: Path) -> None:
    from assessor.assessment import init_files

    project = Project.create(tmp_path / "a", init_files("my system"), actor="x", action="init")
    assert project.configuration().system.name == "my system"


# --- configuration ---------------------------------------------------------------------------------------------------


def test_an_empty_configuration(make_folder: Make) -> None:
    project = make_folder()
    (project.folder / "assessor.yaml").write_text("# nothing\n")
    with pytest.raises(ConfigurationError, match=r"assessor\.yaml:1 found an empty file"):
        project.configuration()


def test_unknown_check_ids(make_folder: Make) -> None:
    target = {"interval": [0, 1], "because": "x"}
    project = make_folder(targets={"trial.shar": target}, checks={"a.b": False, "trial.share": {}})
    with pytest.raises(ConfigurationError) as caught:
        project.check_ids_known(["trial.share"])
    told = str(caught.value).splitlines()
    assert [line.partition(" ")[2] for line in told] == [
        "targets.trial.shar: no check 'trial.shar'; did you mean 'trial.share'?; see  assessor check list",
        "checks.a.b: no check 'a.b'; see  assessor check list",
    ]
    lines = (project.folder / "assessor.yaml").read_text().splitlines()
    assert [lines[int(line.split(":")[1].split()[0]) - 1].strip() for line in told] == ["trial.shar:", "a.b: false"]


def test_parameters_of_a_check(make_folder: Make, make_check: Make) -> None:
    model = make_check().params
    project = make_folder(checks={"trial.share": {"half_width": 0.1}, "trial.wrong": {"halfwidth": 1}})
    assert project.check_params("trial.share", model) == model(half_width=0.1)
    assert project.check_params("trial.other", model) == model()
    with pytest.raises(ConfigurationError, match="halfwidth: unknown key 'halfwidth'; did you mean 'half_width'"):
        project.check_params("trial.wrong", model)


WORD = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(
    lambda text: text.strip() != ""
)
LETTERS = st.text("abcdefgh_", min_size=1, max_size=6).filter(lambda text: text[0] != "_")
CHECK_ID = st.builds("{}.{}".format, LETTERS, LETTERS)
NUMBER = st.floats(allow_nan=False, allow_infinity=False)
INTERVAL = st.one_of(
    st.tuples(NUMBER, st.none()),
    st.tuples(st.none(), NUMBER),
    st.tuples(NUMBER, NUMBER).map(lambda ends: tuple(sorted(ends))),
)
TARGET = st.fixed_dictionaries({"interval": INTERVAL, "because": WORD}, optional={"metric": WORD})
JSON_DATA = st.recursive(
    st.none() | st.booleans() | st.integers() | NUMBER | WORD,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(WORD, inner, max_size=2),
    max_leaves=4,
)
WAIVER = st.fixed_dictionaries({"id": CHECK_ID, "because": WORD, "by": WORD, "until": st.dates(date(2020, 1, 1))})
SPLIT = st.fixed_dictionaries(
    {},
    optional={
        "file": WORD,
        "label": WORD,
        "sensitive": st.lists(WORD, max_size=2),
        "score": WORD | st.lists(WORD, max_size=2),
    },
)
CONFIGURATIONS = st.fixed_dictionaries(
    {
        "format": st.just(1),
        "catalog": st.fixed_dictionaries({"version": WORD}),
        "system": st.dictionaries(LETTERS, JSON_DATA, max_size=2).flatmap(
            lambda more: st.fixed_dictionaries({"name": WORD, "version": WORD, "purpose": WORD | st.just("")}).map(
                lambda own: {**more, **own}
            )
        ),
    },
    optional={
        "targets": st.dictionaries(CHECK_ID, TARGET, max_size=2),
        "checks": st.dictionaries(CHECK_ID, st.just(False) | st.dictionaries(WORD, JSON_DATA, max_size=2), max_size=2),
        "policy": st.fixed_dictionaries(
            {"waivers": st.lists(WAIVER, max_size=2, unique_by=lambda waiver: waiver["id"])}
        ),
        "protection_needs": st.fixed_dictionaries(
            {},
            optional={
                "safety": st.fixed_dictionaries({"level": st.sampled_from(["low", "medium", "high"]), "because": WORD})
            },
        ),
        "target": st.fixed_dictionaries(
            {
                "task": st.just("binary"),
                "model": st.just({"load": "a:b"}),
                "data": st.fixed_dictionaries({"test": SPLIT}),
                "seed": st.integers(0, 2**53 - 1),
            }
        ),
    },
)


@pytest.fixture(scope="module")
def one_folder(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A folder that several examples write into."""
    folder = tmp_path_factory.mktemp("one")
    return Project.create(folder, {"assessor.yaml": b"format: 1\n"}, actor="t", action="init")


@given(CONFIGURATIONS)
@settings(max_examples=40, deadline=None)
def test_a_configuration_reads_back_equal(one_folder: Project, data: dict[str, Any]) -> None:
    configuration = Configuration.model_validate(data)
    text = yamlfile.dump(configuration.model_dump(mode="json"))
    (one_folder.folder / "assessor.yaml").write_bytes(text.encode())
    assert one_folder.configuration() == configuration


# --- answers ---------------------------------------------------------------------------------------------------------

TIMES = st.datetimes(
    datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.sampled_from([UTC, timezone(timedelta(hours=2))])
)


VERDICTS = st.sampled_from(["fulfilled", "partly", "not_fulfilled", "not_applicable"])
FILE_NAMES = WORD.filter(lambda name: name.isprintable() and not set("/\\") & set(name) and name not in {".", ".."})


def replies_of(draw: st.DrawFn, questions: tuple[Question, ...]) -> dict[str, Reply]:
    return {question.id: draw(replies_to(question)) for question in questions if draw(st.booleans())}


def params_of(draw: st.DrawFn, requirement: Requirement) -> dict[str, ParamValue]:
    forms = {ParamType.INTERVAL: ENDS, ParamType.NUMBER: NUMBERS, ParamType.TEXT: TEXTS}
    return {
        param.id: ParamValue(
            value=draw(st.sampled_from(param.options) if param.options else forms[param.type]), because=draw(TEXTS)
        )
        for param in requirement.params
    }


@st.composite
def answers_of_an_area(draw: st.DrawFn, requirements: tuple[Requirement, ...]) -> dict[str, Answer]:
    found = {}
    for position in draw(st.lists(st.integers(0, len(requirements) - 1), unique=True, max_size=4)):
        item = requirements[position]
        replies = replies_of(draw, item.for_developer)
        found[item.id] = Answer(
            value=draw(VERDICTS),
            because=draw(TEXTS),
            replies=replies,
            origins={name: draw(TEXTS) for name in replies if draw(st.booleans())},
            params=params_of(draw, item),
            same_as=draw(st.sampled_from([None, "FN-P"])),
            by=draw(TEXTS),
            at=draw(TIMES),
            evidence=tuple(
                EvidenceRef(name=name, sha256="a" * 64, document=draw(st.sampled_from([None, "datasheet"])))
                for name in draw(st.lists(FILE_NAMES, max_size=2))
            ),
        )
    return found


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_answers_read_back_equal(one_folder: Project, catalog: Catalog, data: st.DataObject) -> None:
    wanted = data.draw(answers_of_an_area(catalog.by_area["FN-R-CD"]))
    text = "# by hand\n"
    for name, answer in wanted.items():
        plain = Answers({name: answer}).model_dump(mode="json", exclude_defaults=True)[name]
        text = yamlfile.set_key(text, name, plain, "f")
    path = one_folder.folder / "answers" / "FN-R-CD.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text.encode())
    try:
        assert one_folder.answers(catalog) == wanted
    finally:
        path.unlink()


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_audits_read_back_equal(one_folder: Project, catalog: Catalog, data: st.DataObject) -> None:
    requirements = catalog.by_area["FN-R-CD"]
    wanted = {}
    for position in data.draw(st.lists(st.integers(0, len(requirements) - 1), unique=True, max_size=4)):
        item = requirements[position]
        letters = [objective.id for objective in item.objectives]
        wanted[item.id] = Audit(
            value=data.draw(VERDICTS),
            because=data.draw(TEXTS),
            assurance=data.draw(st.sampled_from(Assurance)),
            deviation=data.draw(TEXTS),
            objectives=tuple(data.draw(st.lists(st.sampled_from(letters), unique=True))),
            replies={"probe": data.draw(TEXTS)} if data.draw(st.booleans()) else {},
            comment=data.draw(st.just("") | TEXTS),
            answer_at=data.draw(st.none() | TIMES),
            by=data.draw(TEXTS),
            at=data.draw(TIMES),
        )
    plain = Audits(wanted).model_dump(mode="json", exclude_defaults=True)
    path = one_folder.folder / "audit" / "FN-R-CD.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(yamlfile.dump(plain).encode())
    try:
        assert one_folder.audits(catalog) == wanted
    finally:
        path.unlink()


def test_save_answer(make_folder: Make, catalog: Catalog) -> None:
    project = make_folder()
    answer = an_answer(evidence=[evidence_ref("a.txt", b"shown")], replies={"material": "high"})
    project.save_answer("FN-P", "FN-P", answer, evidence={"a.txt": b"shown"})
    assert project.answers(catalog) == {"FN-P": answer}
    entry = entries(project)[-1]
    stored = f"evidence/{sha256_hex(b'shown')}/a.txt"
    assert (entry.actor, entry.action, entry.because) == ("Ada", "answer FN-P", "it is so")
    assert set(entry.files) == {"answers/FN-P.yaml", "evidence.yaml", stored}
    assert (project.folder / stored).read_bytes() == b"shown"


def test_saving_keeps_what_people_wrote(make_folder: Make, catalog: Catalog) -> None:
    project = make_folder()
    path = project.folder / "answers" / "TR-R-AU.yaml"
    path.parent.mkdir()
    other = "TR-R-AU-OA:  # ours\r\n  {value: partly, because: x, by: y, at: 2026-11-21T10:00:00Z}\r\n"
    path.write_bytes(("\ufeff# remarks\r\n" + other).encode())
    project.save_answer("TR-R-AU-CR-01", "TR-R-AU", an_answer(), evidence={})
    assert path.read_bytes().startswith(("# remarks\r\n" + other).encode())
    assert list(project.answers(catalog)) == ["TR-R-AU-CR-01", "TR-R-AU-OA"]


@pytest.mark.parametrize(
    ("file", "text", "told"),
    [
        ("FN-P", "FN-Q: {A}", "answers/FN-P.yaml:1 FN-Q: no requirement 'FN-Q'; did you mean 'FN-S'?"),
        ("FN-P", "FN-S: {A}", "answers/FN-P.yaml:1 FN-S: belongs into answers/FN-S.yaml"),
        (
            "FN-P",
            "# x\nFN-P: {A, replies: {q9: x}}",
            "answers/FN-P.yaml:2 FN-P replies: no question 'q9'; known: material, ",
        ),
        ("FN-P", "FN-P: {A}\nFN-P: {A}", "answers/FN-P.yaml:2 key 'FN-P' appears twice (first in line 1); keep one"),
        ("FN-P", "FN-P: {A, evidenc: []}", "answers/FN-P.yaml:1 FN-P.evidenc: unknown key 'evidenc'; did you mean"),
        (
            "FN-P",
            "FN-P: {A, evidence: [{name: a/b, sha256: x}]}",
            "answers/FN-P.yaml:1 FN-P.evidence[0].name: found 'a/b'",
        ),
        (
            "FN-P",
            "FN-P: {value: partly, because: x, by: y, at: 2026-11-21T10:00:00}",
            "answers/FN-P.yaml:1 FN-P.at: found '2026-11-21 10:00:00', wanted a time with its zone",
        ),
        ("FN-P", "FN-P: {A, replies: {probe: x}}", "answers/FN-P.yaml:1 FN-P replies: no question 'probe'; known: mat"),
        (
            "FN-P",
            "FN-P: {A, replies: {bodily: bad}}",
            "answers/FN-P.yaml:1 FN-P replies.bodily: found 'bad', wanted one of: low, medium, high",
        ),
        (
            "FN-R-CD",
            "FN-R-CD-CR-02: {A, params: {dys: {value: 3, because: x}}}",
            "answers/FN-R-CD.yaml:1 FN-R-CD-CR-02 params: no param 'dys'; known: days",
        ),
        (
            "FN-R-CD",
            "FN-R-CD-CR-02: {A, params: {days: {value: often, because: x}}}",
            "answers/FN-R-CD.yaml:1 FN-R-CD-CR-02 params.days: found 'often', wanted a number",
        ),
        (
            "FN-R-CD",
            "FN-R-CD-CR-02: {A, params: {days: {value: 3}}}",
            "answers/FN-R-CD.yaml:1 FN-R-CD-CR-02.params.days: wanted the key 'because', found none",
        ),
        (
            "FN-P",
            "FN-P: {A, same_as: FN-Q}",
            "answers/FN-P.yaml:1 FN-P same_as: no requirement 'FN-Q'; did you mean 'FN-S'?",
        ),
        (
            "FN-P",
            "FN-P: {A, same_as: FN-P}",
            "answers/FN-P.yaml:1 FN-P same_as: found the requirement itself, wanted another one",
        ),
        ("PF-T", "PF-T-FA-*: {A}", "answers/PF-T.yaml:1 PF-T-FA-*: this requirement is called 'PF-T-FA-a' here"),
        ("FN-P", "FN-P: {A", "answers/FN-P.yaml:2 not readable as YAML"),
    ],
)
def test_answers_that_do_not_fit(make_folder: Make, catalog: Catalog, file: str, text: str, told: str) -> None:
    project = make_folder()
    (project.folder / "answers").mkdir()
    filled = text.replace("{A", "{value: partly, because: x, by: y, at: 2026-11-21T10:00:00Z") + "\n"
    if "PF-T-FA" in text:
        filled = "PF-T-FA-*: {value: partly, because: x, by: y, at: 2026-11-21T10:00:00Z}\n"
    (project.folder / "answers" / f"{file}.yaml").write_text(filled)
    with pytest.raises(ConfigurationError) as caught:
        project.answers(catalog)
    assert str(caught.value).startswith(told)


AUDITED = "assurance: re_performed, because: x, by: y, at: 2026-11-21T10:00:00Z"


@pytest.mark.parametrize(
    ("file", "text", "told"),
    [
        ("FN-P", "FN-S: {value: fulfilled, A}", "audit/FN-P.yaml:1 FN-S: belongs into audit/FN-S.yaml"),
        ("FN-P", "FN-Q: {value: fulfilled, A}", "audit/FN-P.yaml:1 FN-Q: no requirement 'FN-Q'; did you mean"),
        (
            "FN-P",
            "FN-P: {value: partly, A}",
            "audit/FN-P.yaml:1 FN-P: deviation: is missing; a verdict 'partly' says what falls short",
        ),
        (
            "FN-P",
            "FN-P: {value: fulfilled, A, objectives: [z]}",
            "audit/FN-P.yaml:1 FN-P objectives: no objective 'z'",
        ),
        (
            "FN-P",
            "FN-P: {value: fulfilled, A, replies: {bodily: low}}",
            "audit/FN-P.yaml:1 FN-P replies: no question 'bodily'; known: probe",
        ),
        (
            "FN-P",
            "FN-P: {value: fulfilled, assurance: sure, because: x, by: y, at: 2026-11-21T10:00:00Z}",
            "audit/FN-P.yaml:1 FN-P.assurance: found 'sure', wanted 'self_declared', 'document_reviewed' or",
        ),
    ],
)
def test_audits_that_do_not_fit(make_folder: Make, catalog: Catalog, file: str, text: str, told: str) -> None:
    project = make_folder()
    (project.folder / "audit").mkdir()
    (project.folder / "audit" / f"{file}.yaml").write_text(
        text.replace("A}", AUDITED + "}").replace("A,", AUDITED + ",")
    )
    with pytest.raises(ConfigurationError) as caught:
        project.audits(catalog)
    assert str(caught.value).startswith(told)


def test_audits_and_answers_have_files_of_their_own(make_folder: Make, catalog: Catalog) -> None:
    project = make_folder()
    assert (project.audits(catalog), project.audit_summary(), project.known()) == ({}, AuditSummary(), {})
    audit = Audit.model_validate(
        {"value": "fulfilled", "because": "seen", "by": "Bob", "at": AT, "assurance": "re_performed"}
    )
    project.save_answer("FN-P", "FN-P", an_answer(), evidence={})
    project.save_audit("FN-P", "FN-P", audit)
    assert project.answers(catalog) == {"FN-P": an_answer()}
    assert project.audits(catalog) == {"FN-P": audit}
    entry = entries(project)[-1]
    assert (entry.actor, entry.action, entry.because, set(entry.files)) == (
        "Bob",
        "audit FN-P",
        "seen",
        {"audit/FN-P.yaml"},
    )


def test_the_summary_of_an_audit_keeps_what_people_wrote(make_folder: Make) -> None:
    project = make_folder()
    (project.folder / "audit").mkdir()
    rating = {"residual_risk": "acceptable", "because": "small", "by": "Bob", "at": AT}
    path = project.folder / "audit" / "summary.yaml"
    path.write_text("# of the audit\n" + yamlfile.dump({"dimensions": {"FN": rating}}) + "# end\n")
    conclusion = {"trustworthy": "no", "because": "open gaps", "by": "Bob", "at": AT}
    changed = project.audit_summary().model_copy(update={"conclusion": Conclusion.model_validate(conclusion)})
    before = path.read_text()
    project.save_summary(changed, actor="Bob", action="conclude", because="open gaps")
    assert path.read_text().startswith(before)
    assert project.audit_summary() == changed
    path.write_text("dimensions: {FN: {residual_risk: small}}\n")
    with pytest.raises(ConfigurationError, match=r"audit/summary\.yaml:1 dimensions\.FN\.residual_risk: found 'small'"):
        project.audit_summary()


def test_what_was_found_in_files_is_kept_by_key(make_folder: Make) -> None:
    project = make_folder()
    known = {"purpose": (Known(value="sorts claims", origin="README.md"),)}
    project.save_known(known, actor="Ada", because="README.md")
    assert project.known() == known
    project.save_known({}, actor="Ada", because="gone")
    assert project.known() == {}


def test_settings_go_into_the_configuration_in_the_same_step(make_folder: Make) -> None:
    project = make_folder(protection_needs={"fairness": {"level": "low", "because": "x"}})
    path = project.folder / "assessor.yaml"
    path.write_text(path.read_text() + "# at the end\n")
    settings = [
        ("protection_needs", "fairness", {"level": "high", "because": "people"}),
        ("targets", "trial.share", {"interval": [0, None], "because": "so"}),
    ]
    project.save_answer("FN-P", "FN-P", an_answer(), evidence={}, settings=settings)
    found = project.configuration()
    assert found.protection_needs.of("FN").level == "high"
    assert found.targets["trial.share"].interval == (0, None)
    assert path.read_text().count("# at the end") == 1
    assert set(entries(project)[-1].files) == {"answers/FN-P.yaml", "assessor.yaml"}


def test_settings_that_do_not_fit_save_nothing(make_folder: Make) -> None:
    project = make_folder()
    before = project.ledger_bytes()
    for section, key, value in (
        ("protection_needs", "reliability", {"level": "low", "because": "x"}),
        ("targets", "trial.share", {"interval": [None, None], "because": "x"}),
    ):
        with pytest.raises(ConfigurationError):
            project.save_answer("FN-P", "FN-P", an_answer(), evidence={}, settings=[(section, key, value)])
    assert project.ledger_bytes() == before
    assert not (project.folder / "answers").exists()


# --- results ---------------------------------------------------------------------------------------------------------


def test_save_run_and_runs(make_folder: Make, make_run: Make) -> None:
    project = make_folder()
    first, second = make_run(), make_run(started=datetime(2026, 11, 22, tzinfo=UTC), key="f" * 64)
    other = make_run(check="trial.other", status="error")
    for run in (first, other, second):
        project.save_run(run, actor="Ada")
    assert project.runs() == {"trial.other": other, "trial.share": second}
    assert project.run_ids()["trial.share"] == "20261122T000000000000Z-ffffffff"
    assert [entry.action for entry in entries(project)][1:] == [
        f"check run {run.check}" for run in (first, other, second)
    ]
    assert project.run("trial.share", "20261121T100000000000Z-00000000") == first


def test_a_stored_result_has_the_digest_of_its_content(make_folder: Make, make_run: Make) -> None:
    project = make_folder()
    run_id = project.save_run(make_run())
    content = (project.folder / "results" / "trial.share" / f"{run_id}.json").read_bytes()
    assert canonical_json(project.runs()["trial.share"]) == content


def test_results_never_change(make_folder: Make, make_run: Make) -> None:
    project = make_folder()
    run_id = project.save_run(make_run())
    path = project.folder / "results" / "trial.share" / f"{run_id}.json"
    before = path.read_bytes()
    project.save_run(make_run(started=datetime(2026, 11, 22, tzinfo=UTC)))
    assert path.read_bytes() == before
    with pytest.raises(IntegrityError, match="exists; a result is never overwritten"):
        project.save_run(make_run(status="fail"))
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("content", "told"),
    [(None, "cannot be read"), ("{}", "not readable as a result"), ("x", "not readable as a result")],
)
def test_a_lost_or_broken_result(make_folder: Make, make_run: Make, content: str | None, told: str) -> None:
    project = make_folder()
    path = project.folder / "results" / "trial.share" / f"{project.save_run(make_run())}.json"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(IntegrityError, match=told):
        project.runs()


def test_a_broken_index(make_folder: Make) -> None:
    project = make_folder()
    (project.folder / "results").mkdir()
    (project.folder / "results" / "index.json").write_text("[]")
    with pytest.raises(IntegrityError, match=r"index\.json: not readable"):
        project.runs()


# --- changes ---------------------------------------------------------------------------------------------------------


def test_commit_records_before_and_after(make_folder: Make) -> None:
    project = make_folder()
    (project.folder / "p.csv").write_bytes(b"by hand")
    project.commit({"p.csv": b"x", "new/deep": b"x"}, actor="Ada", action="change", because="why")
    entry = entries(project)[-1]
    assert entry.files == {
        "p.csv": ledger.Change(before=sha256_hex(b"by hand"), after=sha256_hex(b"x")),
        "new/deep": ledger.Change(before=None, after=sha256_hex(b"x")),
    }
    assert (project.folder / "p.csv").read_bytes() == (project.folder / "new" / "deep").read_bytes() == b"x"


def test_a_path_outside_is_refused_and_changes_nothing(make_folder: Make) -> None:
    project = make_folder()
    before = project.ledger_bytes()
    with pytest.raises(IntegrityError, match="wanted a path inside the folder"):
        project.commit({"../stolen": b"x", "p.csv": b"x"}, actor="Eve", action="change")
    assert Project(project.folder).ledger_bytes() == before
    assert (project.folder / "p.csv").read_bytes() != b"x"
    assert not (project.folder.parent / "stolen").exists()


KILLING = Path(__file__).with_name("killing.py")


@pytest.mark.parametrize("what", ["create", "commit", "recover"])
def test_death_at_every_step(tmp_path: Path, what: str) -> None:
    """See killing.py."""
    done = subprocess.run(
        [sys.executable, str(KILLING), str(tmp_path), what], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "deaths" in done.stdout


WRITER = """
import sys
from pathlib import Path
from assessor.model import Answer
from assessor.project import Project
folder, name, ids = Path(sys.argv[1]), sys.argv[2], sys.argv[3].split(",")
project = Project(folder)
print("ready", flush=True)
for requirement in ids if name != "forever" else ids * 1000:
    answer = Answer.model_validate({"value": "partly", "because": "x", "by": name, "at": "2026-11-21T10:00:00Z"})
    project.save_answer(requirement, "S-R-FS", answer, evidence={"a.txt": (requirement + name).encode()})
"""


def writer(folder: Path, name: str, ids: list[str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(folder), name, ",".join(ids)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def sound(project: Project, catalog: Catalog) -> dict[str, Answer]:
    """The answers, after looking at every recorded file."""
    for name, digest in ledger.expected_files(project.ledger_bytes()).items():
        assert sha256_hex((project.folder / name).read_bytes()) == digest
    return project.answers(catalog)


def test_kills_at_any_moment(make_folder: Make, catalog: Catalog) -> None:
    project = make_folder()
    ids = [item.id for item in catalog.by_area["S-R-FS"]]
    for round_ in range(4):
        with writer(project.folder, "forever", ids) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(0.05 + 0.037 * round_)  # a kill has to fall somewhere; the deterministic test is the one above
            process.send_signal(signal.SIGKILL)
        lines = len(entries(project)) if project.ledger_bytes().endswith(b"\n") else 0
        found = sound(Project(project.folder), catalog)
        assert len(entries(project)) >= max(lines, round_)
        assert found or not lines
    project.save_answer("S-P", "S-P", an_answer(), evidence={})
    assert "S-P" in sound(project, catalog)


def test_two_writers_lose_nothing(make_folder: Make, catalog: Catalog) -> None:
    project = make_folder()
    ids = [item.id for item in catalog.by_area["S-R-FS"]][:20]
    with writer(project.folder, "one", ids) as one, writer(project.folder, "two", ids) as two:
        assert (one.communicate()[0], two.communicate()[0]) == ("ready\n", "ready\n")
    assert (one.returncode, two.returncode) == (0, 0)
    assert list(sound(project, catalog)) == ids
    changes = [(entry.actor, entry.action) for entry in entries(project)[1:]]
    assert sorted(changes) == sorted((name, f"answer {requirement}") for name in ("one", "two") for requirement in ids)


def test_temporary_files_are_gone(make_folder: Make) -> None:
    project = make_folder()
    project.commit({"a": b"1", "b": b"1"}, actor="x", action="y")
    assert list(project.folder.rglob("*.tmp")) == []
    assert list((project.folder / ".assessor" / "pending").iterdir()) == []


def test_an_unquoted_no_in_an_answers_file_is_the_reply_no(make_folder: Make, catalog: Catalog) -> None:
    project = make_folder()
    folder = project.folder
    (folder / "answers").mkdir(exist_ok=True)
    text = "PF-T-ST-03: {value: fulfilled, because: x, by: Ada, at: 2026-11-21T10:00:00Z, replies: {q1: no}}\n"
    (folder / "answers" / "PF-T.yaml").write_text(text)
    assert project.answers(catalog)["PF-T-ST-03"].replies == {"q1": "no"}
