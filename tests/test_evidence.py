"""Evidence: a register people can edit, content that is copied once and never changes, and what is shown of both."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from commands import Run

from assessor import evidence_files, ledger, yamlfile
from assessor.assessment import Assessment
from assessor.canonical import sha256_hex
from assessor.cli.interview import _Steps
from assessor.errors import ConfigurationError, UsageError
from assessor.evidence import Details, add, check, find, release, serves, withhold
from assessor.judgement import attached_evidence
from assessor.model import Answer, Catalog, Classification, Evidence, EvidenceType, Requirement
from assessor.project import Project, evidence_item, evidence_ref, now
from assessor.questionnaire import offered_evidence
from assessor.report import report_html
from assessor.verify import verify

DATA = Path(__file__).parent / "data" / "evidence"
Make = Callable[..., Any]
TODAY = date(2026, 11, 22)
NOTES = b"tested on 400 letters"
DIGEST = sha256_hex(NOTES)


@pytest.fixture
def project(make_folder: Make) -> Project:
    made: Project = make_folder()
    return made


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    path = tmp_path / "notes.md"
    path.write_bytes(NOTES)
    return path


def put(project: Project, catalog: Catalog, *paths: Path, ids: tuple[str, ...] = ("FN-S",), **details: Any) -> Evidence:
    plain = details.pop("plain", False)
    said = Details(**details)
    return add(project, catalog, paths, requirements=ids, details=said, by="Ada", plain=plain)[-1].evidence


def standings(project: Project, catalog: Catalog, today: date = TODAY) -> list[tuple[str, str]]:
    return [(item.name, item.standing) for item in check(project, catalog, today)]


def stored(project: Project) -> list[str]:
    return sorted(path.relative_to(project.folder).as_posix() for path in project.folder.glob("evidence/*/*"))


# --- adding ----------------------------------------------------------------------------------------------------------


def test_one_file_serves_many_requirements_and_is_copied_once(project: Project, catalog: Catalog, notes: Path) -> None:
    first = put(
        project, catalog, notes, ids=("FN-S", "RE-S"), type=EvidenceType.RECORD, title="Notes", owner="Bo",
        expires=date(2027, 1, 31), collected=date(2026, 11, 1), classification=Classification.CONFIDENTIAL,
    )  # fmt: skip
    again = put(project, catalog, notes, ids=("TR-S", "FN-S"))
    assert again == first.model_copy(update={"requirements": ("FN-S", "RE-S", "TR-S")})
    assert project.evidence(catalog) == {DIGEST: again}
    assert stored(project) == [f"evidence/{DIGEST}/notes.md"]
    assert (project.folder / stored(project)[0]).read_bytes() == NOTES
    assert (first.size, first.media_type, first.by) == (len(NOTES), "text/markdown", "Ada")
    *_rest, before, last = ledger.entries(project.ledger_bytes())
    assert (before.action, before.because, before.actor) == ("evidence add notes.md", "for FN-S, RE-S", "Ada")
    assert set(before.files) == {"evidence.yaml", f"evidence/{DIGEST}/notes.md"}
    assert set(last.files) == {"evidence.yaml"}


def test_a_file_that_was_lost_comes_back_when_it_is_added_again(
    project: Project, catalog: Catalog, notes: Path
) -> None:
    put(project, catalog, notes)
    (project.folder / "evidence" / DIGEST / "notes.md").unlink()
    assert standings(project, catalog) == [("notes.md", "missing")]
    put(project, catalog, notes)
    assert standings(project, catalog) == [("notes.md", "intact")]


def test_the_register_is_edited_by_hand_and_keeps_what_people_wrote(
    project: Project, catalog: Catalog, notes: Path, tmp_path: Path
) -> None:
    put(project, catalog, notes)
    path = project.folder / "evidence.yaml"
    path.write_text("# ours\n" + path.read_text().replace("classification: internal", "classification: public  # sure"))
    other = tmp_path / "other.txt"
    other.write_text("more")
    put(project, catalog, other)
    assert path.read_text().startswith("# ours\n")
    assert "public  # sure" in path.read_text()
    assert project.evidence(catalog)[DIGEST].classification is Classification.PUBLIC


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("classification: internal", "classification: secret", "evidence.yaml:6 "),
        ("  - FN-S", "  - FN-X", r"evidence.yaml:9 .* requirements: no requirement 'FN-X'; did you mean"),
        ("name: notes.md", "name: ../../notes.md", "wanted the name of a file"),
        ("name: notes.md", "name: ..", "wanted the name of a file"),
        ("name: notes.md", f"name: {'ä' * 128}", "found a name of 256 bytes, wanted at most 255"),
        ("size:", "sizes:", "unknown key 'sizes'; did you mean 'size'"),
        (DIGEST, "abc", "evidence.yaml:1 "),
    ],
)
def test_faults_of_the_register_are_told_with_their_line(
    project: Project, catalog: Catalog, notes: Path, old: str, new: str, words: str
) -> None:
    put(project, catalog, notes)
    path = project.folder / "evidence.yaml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ConfigurationError, match=words):
        project.evidence(catalog)


def test_big_files_are_added_by_their_address(project: Project, catalog: Catalog, tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    with path.open("wb") as stream:
        stream.truncate(evidence_files.LARGEST + 1)
    with pytest.raises(UsageError, match=r"found 50 MB, wanted at most 50 MB.*--reference URI"):
        put(project, catalog, path)
    item = put(project, catalog, path, uri="s3://bucket/weights.bin")
    assert (item.uri, item.size, stored(project)) == ("s3://bucket/weights.bin", evidence_files.LARGEST + 1, [])
    assert standings(project, catalog) == [("weights.bin", "elsewhere")]
    small = tmp_path / "junit.xml"
    small.write_bytes((DATA / "junit.xml").read_bytes())
    found = put(project, catalog, small, uri="https://ci.example.org/1/junit.xml")
    assert found.provenance is not None
    assert stored(project) == []


@pytest.mark.parametrize("uri", ["no address", "ftp", "https://a b", "https://a\x1b[31m", "x" * 3000])
def test_an_address_must_be_one(project: Project, catalog: Catalog, notes: Path, uri: str) -> None:
    with pytest.raises(UsageError, match="uri"):
        put(project, catalog, notes, uri=uri)
    assert project.evidence(catalog) == {}


def named(folder: Path, name: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_bytes(NOTES)
    return path


def link(folder: Path) -> Path:
    path = folder / "link.md"
    path.symlink_to(named(folder, "there.md"))
    return path


def pipe(folder: Path) -> Path:
    path = folder / "pipe"
    os.mkfifo(path)
    return path


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (link, "found a link, wanted the file it leads to"),
        (pipe, "found a folder, device or pipe"),
        (lambda folder: Path("/dev/zero"), "found a folder, device or pipe"),
        (lambda folder: folder, "found a folder, device or pipe"),
        (lambda folder: folder / "none", "cannot read it: No such file"),
        (lambda folder: named(folder, ".hidden"), "begins with a dot"),
        (lambda folder: named(folder, "a\nb"), r"a\\nb: found a name with signs that cannot be seen"),
        (lambda folder: named(folder, "a\u202egnp.exe"), "signs that cannot be seen"),
        (lambda folder: named(folder, "a\x1b[31m"), "signs that cannot be seen"),
        (lambda folder: named(folder, "a\\b"), "stand for folders"),
        (lambda folder: named(folder, " a"), "signs that cannot be seen"),
        (lambda folder: named(folder, "ä" * 120), "more than 200 bytes"),
    ],
)
def test_what_is_no_plain_file_of_a_fit_name_is_refused(
    project: Project, catalog: Catalog, notes: Path, tmp_path: Path, make: Callable[[Path], Path], words: str
) -> None:
    before = project.ledger_bytes()
    (tmp_path / "in").mkdir()
    with pytest.raises(UsageError, match=words):
        put(project, catalog, notes, make(tmp_path / "in"))
    assert (project.ledger_bytes(), stored(project)) == (before, [])


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"ids": ("FN-X",)}, "--for: no requirement 'FN-X'; did you mean"),
        ({"document": "nothing"}, "--document: found 'nothing', wanted one of"),
    ],
)
def test_wrong_words_are_refused(project: Project, catalog: Catalog, notes: Path, fields: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        put(project, catalog, notes, **fields)
    with pytest.raises(UsageError, match="--reference: found 2 files"):
        put(project, catalog, notes, notes, uri="s3://a/b")


def test_a_zip_bomb_is_a_file_like_any_other(project: Project, catalog: Catalog, tmp_path: Path) -> None:
    import zipfile

    log, other = tmp_path / "log.eval", tmp_path / "other.zip"
    with zipfile.ZipFile(log, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.json", b"0" * 30_000_000)
    other.write_bytes(log.read_bytes())
    with pytest.raises(UsageError, match=r"found 30 MB when unpacked[\s\S]*add  --plain"):
        put(project, catalog, log)
    for path, plain in ((other, False), (log, True)):
        item = put(project, catalog, path, plain=plain)
        assert (item.size, item.provenance) == (path.stat().st_size, None)


def test_an_import_keeps_the_file_and_says_where_it_comes_from(
    project: Project, catalog: Catalog, tmp_path: Path
) -> None:
    path = tmp_path / "junit.xml"
    path.write_bytes((DATA / "junit.xml").read_bytes())
    item = put(project, catalog, path)
    assert item.provenance is not None
    assert (item.type, item.collected, item.provenance.format) == (
        EvidenceType.TEST_REPORT,
        date(2026, 11, 2),
        "JUnit XML",
    )
    assert item.provenance.source == sha256_hex(path.read_bytes())
    assert project.evidence(catalog)[item.provenance.source] == item
    assert put(project, catalog, path, type=EvidenceType.RECORD).type is EvidenceType.RECORD


def test_what_cannot_be_read_is_kept_only_when_asked_to(project: Project, catalog: Catalog, tmp_path: Path) -> None:
    path = tmp_path / "broken.json"
    path.write_text('{"gid"')
    with pytest.raises(UsageError, match=r"broken.json:1 not readable as JSON[\s\S]*add  --plain"):
        put(project, catalog, path)
    assert put(project, catalog, path, plain=True).provenance is None


# --- answers and the register ----------------------------------------------------------------------------------------


def answer(**fields: Any) -> Answer:
    return Answer.model_validate({"value": "fulfilled", "because": "so", "by": "Ada", "at": now(), **fields})


def test_evidence_of_an_answer_is_registered_under_one_name(project: Project, catalog: Catalog, notes: Path) -> None:
    said = answer(evidence=[evidence_ref("first.md", NOTES, "datasheet", date(2026, 1, 2))])
    project.save_answer("FN-S", "FN-S", said, evidence={"first.md": NOTES})
    item = project.evidence(catalog)[DIGEST]
    assert (item.name, item.document, item.collected, item.by) == ("first.md", "datasheet", date(2026, 1, 2), "Ada")
    project.save_answer("RE-S", "RE-S", answer(evidence=[evidence_ref("copy.md", NOTES)]), evidence={"copy.md": NOTES})
    assert put(project, catalog, notes, ids=("TR-S",)).name == "first.md"
    assert stored(project) == [f"evidence/{DIGEST}/first.md"]
    found = Assessment.read(project)
    assert serves(found.evidence, found.answers) == {DIGEST: ("TR-S", "FN-S", "RE-S")}
    assert standings(project, catalog) == [("first.md", "intact")]


def test_folders_without_a_register_go_on_working(project: Project, catalog: Catalog) -> None:
    said = answer(evidence=[evidence_ref("first.md", NOTES)])
    project.save_answer("FN-S", "FN-S", said, evidence={"first.md": NOTES})
    (project.folder / "evidence.yaml").unlink()
    found = Assessment.read(project)
    assert [item.name for item in attached_evidence("FN-S", found.scope)] == ["first.md"]
    assert standings(project, catalog) == [("first.md", "intact")]
    assert DIGEST in report_html(found, {})


def test_evidence_counts_for_a_requirement_before_and_after_it_is_answered(
    project: Project, catalog: Catalog, notes: Path
) -> None:
    put(project, catalog, notes, expires=date(2020, 1, 1))

    def state() -> Any:
        found = Assessment.read(project)
        areas = [area for head in found.states for area in head.areas]
        return next(one for area in areas for one in area.requirements if one.id == "FN-S").evidence

    assert (state().attached, state().expired, state().is_stale) == (1, ("notes.md",), True)
    project.save_answer("FN-S", "FN-S", answer(), evidence={})
    assert (state().attached, state().expected) == (1, False)


def test_one_content_under_two_names_is_one_piece(project: Project, catalog: Catalog, notes: Path) -> None:
    put(project, catalog, notes)
    entry = {"FN-S": {**answer().model_dump(mode="json"), "evidence": [{"name": "mine.md", "sha256": DIGEST}]}}
    (project.folder / "answers").mkdir()
    (project.folder / "answers" / "FN-S.yaml").write_text(yamlfile.dump(entry))
    assert len(attached_evidence("FN-S", Assessment.read(project).scope)) == 1


def test_a_registered_document_is_offered_where_it_is_expected(project: Project, catalog: Catalog, notes: Path) -> None:
    wanted = [item for item in catalog.requirements if any(one.document == "datasheet" for one in item.evidence)]
    put(project, catalog, notes, ids=(wanted[0].id,), document="datasheet")
    scope = Assessment.read(project).scope
    (offer,) = offered_evidence(wanted[1], scope)
    assert (offer.evidence.sha256, offer.given_for) == (DIGEST, wanted[0].id)
    assert offered_evidence(wanted[0], scope) == ()


@pytest.mark.parametrize("name", ["..", ".", "a/b", "../../b", "a\\b", "a\x1b[31m", ""])
def test_an_answer_names_files_and_no_places(project: Project, catalog: Catalog, name: str) -> None:
    entry = {"FN-S": {**answer().model_dump(mode="json"), "evidence": [{"name": name, "sha256": DIGEST}]}}
    (project.folder / "answers").mkdir()
    (project.folder / "answers" / "FN-S.yaml").write_text(yamlfile.dump(entry))
    with pytest.raises(ConfigurationError, match=r"answers/FN-S.yaml:\d+ .*wanted the name of a file"):
        project.answers(catalog)


# --- withholding -----------------------------------------------------------------------------------------------------


def test_withheld_content_may_be_missing_and_its_digest_stays(
    project: Project, catalog: Catalog, tmp_path: Path
) -> None:
    path = tmp_path / "junit.xml"
    path.write_bytes((DATA / "junit.xml").read_bytes())
    put(project, catalog, path, ids=("FN-S",))
    (project.folder / ".gitignore").write_text("mine\n")
    item = withhold(project, catalog, "junit.xml", because="names of patients", by="Ada")
    assert item.evidence.provenance is not None
    assert (item.evidence.provenance.findings, item.evidence.provenance.total) == ((), 4)
    assert (project.folder / ".gitignore").read_text() == f"mine\n/evidence/{item.sha256}/\n"
    copy = project.evidence_path(item.sha256, item.evidence)
    content = copy.read_bytes()
    copy.unlink()
    assert standings(project, catalog) == [("junit.xml", "withheld")]
    findings = [(finding.name, finding.status) for finding in verify(project.folder)]
    assert (f"evidence/{item.sha256}/junit.xml", "withheld") in findings
    assert "failed" not in {status for _name, status in findings}
    html = report_html(Assessment.read(project), {})
    assert "Withheld: names of patients" in html
    assert item.sha256 in html
    assert "test_broken" not in html
    with pytest.raises(UsageError, match="its content is not in this folder"):
        release(project, catalog, "junit.xml", by="Ada")
    copy.write_bytes(content)
    back = release(project, catalog, item.sha256[:8], by="Ada").evidence
    assert (back.withheld, back.provenance and len(back.provenance.findings)) == ("", 4)
    assert (project.folder / ".gitignore").read_text() == "mine\n"
    assert [entry.action for entry in ledger.entries(project.ledger_bytes())][-2:] == [
        "evidence withhold junit.xml",
        "evidence release junit.xml",
    ]


def test_what_is_withheld_from_the_start_tells_nothing(project: Project, catalog: Catalog, tmp_path: Path) -> None:
    path = tmp_path / "junit.xml"
    path.write_bytes((DATA / "junit.xml").read_bytes())
    item = put(project, catalog, path, withheld="secret")
    assert item.provenance is not None
    assert item.provenance.findings == ()
    put(project, catalog, path, ids=("RE-S",))
    assert "test_broken" not in (project.folder / "evidence.yaml").read_text()


def test_withheld_content_that_was_changed_is_broken_all_the_same(
    project: Project, catalog: Catalog, notes: Path
) -> None:
    put(project, catalog, notes, withheld="secret")
    (project.folder / stored(project)[0]).write_bytes(b"other")
    assert standings(project, catalog) == [("notes.md", "changed")]
    assert any(finding.status == "failed" for finding in verify(project.folder))


def test_evidence_is_found_by_name_or_digest() -> None:
    register = {
        "abcdef" + "0" * 58: evidence_item("a.md", 1, by="Ada", at=now()),
        "abcdef" + "1" * 58: evidence_item("a.md", 1, by="Ada", at=now()),
        "b" * 64: evidence_item("b.md", 1, by="Ada", at=now()),
    }
    assert find(register, "b.md").sha256 == find(register, "BBBBBB").sha256 == "b" * 64
    for which, words in {
        "a.md": "may be abcdef",
        "abcdef": "give the digest",
        "bbbb": "no evidence",
        "c.md": "no evi",
    }.items():
        with pytest.raises(UsageError, match=words):
            find(register, which)


# --- looking again ---------------------------------------------------------------------------------------------------


def test_check_tells_what_is_missing_changed_expired_and_orphaned(
    project: Project, catalog: Catalog, notes: Path, tmp_path: Path
) -> None:
    put(project, catalog, notes, expires=date(2026, 11, 21))
    put(project, catalog, named(tmp_path, "same.md"), ids=("RE-S",))  # the same content: no second piece
    other, third = tmp_path / "b.txt", tmp_path / "c.txt"
    other.write_text("b")
    third.write_text("c")
    put(project, catalog, other, third)
    (project.folder / "evidence" / sha256_hex(b"b") / "b.txt").write_text("changed")
    (project.folder / "evidence" / sha256_hex(b"c") / "c.txt").unlink()
    stray = project.folder / "evidence" / ("0" * 64) / "stray.txt"
    stray.parent.mkdir()
    stray.write_text("who put me here")
    assert standings(project, catalog) == [
        ("notes.md", "intact"),
        ("notes.md", "expired"),
        ("b.txt", "changed"),
        ("c.txt", "missing"),
        ("stray.txt", "orphaned"),
    ]
    assert ("notes.md", "expired") not in standings(project, catalog, date(2026, 11, 21))
    findings = {finding.name.rpartition("/")[2]: finding.status for finding in verify(project.folder)}
    assert findings["b.txt"] == findings["c.txt"] == "failed"
    assert findings["notes.md"] == findings["stray.txt"] == "unknown"


def test_a_register_that_lies_about_a_size_or_digest_is_found(project: Project, catalog: Catalog, notes: Path) -> None:
    put(project, catalog, notes)
    path = project.folder / "evidence.yaml"
    text = path.read_text()
    path.write_text(text.replace(f"size: {len(NOTES)}", "size: 3"))
    assert standings(project, catalog) == [("notes.md", "changed")]
    assert any(finding.status == "failed" for finding in verify(project.folder))
    path.write_text(text.replace(DIGEST, "f" * 64))
    assert standings(project, catalog) == [("notes.md", "missing"), ("notes.md", "orphaned")]


@pytest.mark.parametrize("put_there", [lambda path: path.symlink_to("/etc/passwd"), os.mkfifo, Path.mkdir])
def test_what_took_a_files_place_is_not_followed(
    project: Project, catalog: Catalog, notes: Path, put_there: Callable[[Path], None]
) -> None:
    put(project, catalog, notes)
    path = project.folder / stored(project)[0]
    path.unlink()
    put_there(path)
    assert standings(project, catalog) == [("notes.md", "changed")]


# --- what is shown ---------------------------------------------------------------------------------------------------


def test_the_report_shows_the_register_and_other_tools_findings(
    project: Project, catalog: Catalog, notes: Path, tmp_path: Path
) -> None:
    report = tmp_path / "deepchecks.json"
    report.write_bytes((DATA / "deepchecks_suite.json").read_bytes())
    put(
        project,
        catalog,
        notes,
        title="Test <notes>",
        owner="Bo",
        expires=date(2020, 1, 31),
        classification="restricted",
    )
    put(project, catalog, report, ids=("RE-S",))
    project.save_answer("FN-S", "FN-S", answer(), evidence={})
    found = Assessment.read(project)
    html = report_html(found, {})
    for words in ("Test &lt;notes&gt;", DIGEST, "Bo", "restricted", "notes.md (document)", "expired on 2020-01-31",
        "Found 0% duplicate data", "Deepchecks", "counts in no verdict", f'href="#evidence-{DIGEST}"'):  # fmt: skip
        assert words in html, words
    record = found.record()
    assert record["evidence"][DIGEST]["owner"] == "Bo"
    assert all(head["ceiling"] is None for head in record["judgement"] if head["id"] == "RE")


def test_the_commands(run: Run, project: Project, notes: Path) -> None:
    at = ("--project", project.folder)
    added = run(
        "evidence", "add", notes, "--for", "FN-S", "--for", "RE-S", "--expires", "2026-01-31", "--by", "Ada", *at
    )
    assert added.code == 0
    assert DIGEST in added.out
    (item,) = json.loads(run("evidence", "list", "--json", *at).out)
    assert (item["id"], item["requirements"], item["classification"]) == (DIGEST, ["FN-S", "RE-S"], "internal")
    assert "FN-S, RE-S" in run("evidence", "list", *at).out
    looked = run("evidence", "check", "--json", *at)
    assert (looked.code, [one["standing"] for one in json.loads(looked.out)["checks"]]) == (0, ["intact", "expired"])
    assert "expired  notes.md, evidence of FN-S, RE-S" in run("status", *at).out
    assert json.loads(run("status", "--json", *at).out)["evidence"] == {
        "registered": 1, "expired": [DIGEST], "withheld": [], "missing": [], "changed": []
    }  # fmt: skip
    shown = run("catalog", "show", "FN-S", *at).out
    assert f"evidence/{DIGEST}/notes.md (internal, expired on 2026-01-31)" in shown
    large = notes.with_name("log.json")
    large.write_bytes(b"[" * 11_000_000)
    assert "too large to be looked into" in run("evidence", "add", large, "--for", "FN-S", *at).out
    assert "recognised JUnit XML" in run("evidence", "add", DATA / "junit.xml", "--for", "FN-S", *at).out
    assert run("evidence", "withhold", "notes.md", "--because", "secret", *at).code == 0
    assert "withheld" in run("evidence", "check", *at).out
    assert run("evidence", "release", "notes.md", *at).code == 0
    (project.folder / stored(project)[0]).write_bytes(b"other")
    assert run("evidence", "check", *at).code == 4


@pytest.mark.slow
def test_status_and_report_tell_what_is_gone_or_changed(
    run: Run, project: Project, catalog: Catalog, notes: Path, tmp_path: Path
) -> None:
    at, other = ("--project", project.folder), named(tmp_path / "in", "other.md")
    other.write_text("other")
    put(project, catalog, notes, ids=("FN-S", "RE-S"))
    put(project, catalog, other)
    assert "evidence of FN-S" not in run("status", *at).out
    assert run("report", "--format", "html", *at).err.count("SHA-256") == 0
    (project.folder / "evidence" / DIGEST / "notes.md").unlink()
    changed = project.folder / "evidence" / sha256_hex(b"other") / "other.md"
    changed.write_text("changed")
    told = run("status", *at).out
    assert "missing  notes.md, evidence of FN-S, RE-S\n" in told
    assert "changed  other.md, evidence of FN-S\n" in told
    found = json.loads(run("status", "--json", *at).out)["evidence"]
    assert (found["missing"], found["changed"]) == ([DIGEST], [sha256_hex(b"other")])
    warned = run("report", "--format", "html", *at).err
    assert f"notes.md is gone: evidence/{DIGEST}/ does not hold it." in warned
    assert "other.md was changed: it does not have the SHA-256 it was added with." in warned


def test_the_questionnaire_shows_evidence_with_what_must_be_known_of_it(
    project: Project, catalog: Catalog, notes: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setattr("assessor.cli.ask.typed", lambda prompt: "-")
    wanted = [item for item in catalog.requirements if any(one.document == "datasheet" for one in item.evidence)]
    put(project, catalog, notes, ids=(wanted[0].id,), document="datasheet", withheld="names", expires=date(2020, 1, 31))

    def shown(requirement: Requirement) -> str:
        _Steps(project, requirement, Assessment.read(project), "Ada", ())._files()
        return capfd.readouterr().err

    known = "(internal, withheld: names, expired on 2020-01-31)"
    assert f"attached notes.md {known}" in shown(wanted[0])
    offered = shown(wanted[1])
    assert f"given for {wanted[0].id}) {known}" in offered
    assert "attached" not in offered


def test_what_is_no_result_of_a_known_tool_is_said_to_be_only_kept(run: Run, project: Project, tmp_path: Path) -> None:
    path = tmp_path / "any.json"
    path.write_text("{}")
    told = "kept as a file: no result of a tool that is known here was read from it"
    assert told in run("evidence", "add", path, "--for", "FN-S", "--project", project.folder).out
    assert told not in run("evidence", "add", DATA / "junit.xml", "--for", "FN-S", "--project", project.folder).out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--for", "FN-S", "--type", "rumour"], "--type: found 'rumour', wanted one of: document, process"),
        (["--for", "FN-S", "--classification", "top"], "--classification: found 'top', wanted one of: public"),
        (["--for", "FN-S", "--expires", "soon"], "soon"),
        ([], "--for"),
    ],
)
def test_wrong_options_are_told(run: Run, project: Project, notes: Path, arguments: list[str], words: str) -> None:
    done = run("evidence", "add", notes, *arguments, "--project", project.folder)
    assert done.code == 2
    assert words in done.err


@pytest.mark.slow
def test_the_register_reads_back_as_it_was_written(project: Project, catalog: Catalog, tmp_path: Path) -> None:
    for path in sorted(DATA.iterdir()):
        content = tmp_path / path.name
        content.write_bytes(path.read_bytes())
        item = put(project, catalog, content, title="Äpfel: 1\n# no comment", owner="  Bo  ")
        assert project.evidence(catalog)[sha256_hex(path.read_bytes())] == item
    assert len(yamlfile.read(project.folder / "evidence.yaml").data) == len(list(DATA.iterdir()))
    assert {standing for _name, standing in standings(project, catalog)} == {"intact"}
