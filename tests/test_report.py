"""The report: what stands on which page, what is inside the file, what a hostile text can do."""

import base64
import dataclasses
import json
import re
from pathlib import Path

import pypdf
import pytest
from matplotlib.axes import Axes

from assessor.assessment import Assessment
from assessor.canonical import canonical_json, sha256_hex
from assessor.charts import plot_svg, plots_svg, target_line
from assessor.contract import Better, Check, CheckInfo, Metric, Need, Params, Result, Subject, Table, Task
from assessor.engine import Job, run_job, subject_record
from assessor.errors import UsageError
from assessor.messages import speaking
from assessor.model import Answer, JudgedTarget, Outcome, Status, SubjectRecord
from assessor.pdf_content import attachments
from assessor.project import Project, now
from assessor.report import report_html, report_json, report_pdf
from assessor.report_argument import deviations, heat_map
from assessor.subjects import load_subject

EVIL = "<script>alert(1)</script><img src=file:///etc/passwd>"

CONFIGURATION = f"""\
format: 1
catalog: {{version: 1.1.0}}
system: {{name: "Triage", version: "1.2", purpose: "{EVIL}", provider: "ACME"}}
protection_needs:
  reliability: {{level: high, because: people wait}}
  safety: {{level: low, because: no actuator}}
target: {{task: binary, model: {{predictions: p.csv}}, data: {{test: {{label: y, prediction: p}}}}}}
targets: {{test.accuracy: {{interval: [0.9, null], because: the clerks reach 0.9}}}}
"""


def measure(subject: Subject, params: Params, seed: int) -> Result:
    metric = Metric(
        name="accuracy", value=0.5, low=0.4, high=0.6, confidence=0.95, n=4, better=Better.HIGHER, method="by hand",
        primary=True,
    )  # fmt: skip
    table = Table(name="t", title="By letter", columns=("letter", "share"), rows=(("a", 0.25), ("b", None)))
    return Result(metrics=(metric,), tables=(table,), remarks=(EVIL,))


def plot(result: Result, axes: Axes) -> None:
    axes.plot([0, 1], [0, 1], color="black")
    axes.set_xlabel("κ & <share>")


INFO = CheckInfo(
    id="test.accuracy", version="1", title="Accuracy by hand", measures="Something.", unit="1",
    needs=frozenset({Need.TEST}), tasks=frozenset(Task), limits=("Four letters are few.",), remedy="Sort better.",
    source="nobody", requirements=("RE-R-SC-ME-05", "S-R-FS-ME-01", "TR-R-AU-ME-05"),
)  # fmt: skip
CHECK = Check(INFO, Params, measure, plot)


@pytest.fixture(scope="module")
def assessment(tmp_path_factory: pytest.TempPathFactory) -> Assessment:
    folder = tmp_path_factory.mktemp("report")
    (folder / "p.csv").write_text("y,p\n0,0\n1,1\n0,1\n1,0\n")
    project = Project.create(folder, {"assessor.yaml": CONFIGURATION.encode()}, actor="t", action="init")
    configuration = project.configuration()
    assert configuration.target is not None
    subject, kind, digest = load_subject(configuration.target, folder)
    target = JudgedTarget(**configuration.targets["test.accuracy"].model_dump(), source="assessor.yaml:8")
    job = Job(CHECK, Params(), target, 0, INFO.requirements)
    project.save_run(run_job(job, subject, subject_record(subject, kind, digest)))
    answer = Answer(value="fulfilled", because=EVIL, replies={"q3": "tested on letters"}, by="Ada", at=now())
    project.save_answer("RE-R-SC-ME-05", "RE-R-SC", answer, evidence={})
    return Assessment.read(project)


@pytest.fixture(scope="module")
def html(assessment: Assessment) -> str:
    return report_html(assessment, {CHECK.id: CHECK})


@pytest.fixture(scope="module")
def pdf(assessment: Assessment) -> bytes:
    return report_pdf(assessment, {CHECK.id: CHECK})


@pytest.fixture(scope="module")
def pages(pdf: bytes, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    path = tmp_path_factory.mktemp("pdf") / "r.pdf"
    path.write_bytes(pdf)
    return [" ".join(page.extract_text().split()) for page in pypdf.PdfReader(path).pages]


def test_page_one_says_the_worst_first(pages: list[str]) -> None:
    first = pages[0]
    assert "Triage 1.2" in first
    contradiction = first.index("Ada answered RE-R-SC-ME-05 “fulfilled”, but test.accuracy measured")
    failure = first.index("Accuracy by hand: accuracy 0.5 [0.4, 0.6] lies outside the target of at least 0.9")
    table = first.index("Residual risk")
    assert contradiction < failure < table
    assert "unacceptable" in first
    assert "not assessed: need low" in first


def test_every_page_is_numbered_and_the_contents_lead_there(pages: list[str]) -> None:
    for number, text in enumerate(pages, start=1):
        assert f"page {number} of {len(pages)}" in text
    glance = next(
        number
        for number, text in enumerate(pages, start=1)
        if "requirements that concern this system, as developer" in text
    )
    contents = next(text for text in pages if "Result on one page" in text)
    assert contents.split()[3] == str(glance)  # page numbers float right and are extracted first, in order


def test_measurement_stands_with_target_limits_and_provenance(pages: list[str]) -> None:
    text = " ".join(pages)
    for words in (
        "the clerks reach 0.9", "set in assessor.yaml:8", "What this does not show", "Four letters are few.",
        "By letter", "0.25", "–", "Sort better.", "tested on letters", "Safety and security",
    ):  # fmt: skip
        assert words in text
    card = next(page for page in pages if "By letter" in page)
    assert "Accuracy by hand" in card


def test_results_are_inside_and_their_digest_is_on_page_one(
    assessment: Assessment, pdf: bytes, pages: list[str]
) -> None:
    content = attachments(pdf)["assessment.json"]
    record = json.loads(content)
    assert canonical_json(record) == content
    assert sha256_hex(content) in pages[0].replace(" ", "")
    assert record["results"]["test.accuracy"]["result"]["outcome"]["status"] == "fail"
    assert {**json.loads(report_json(assessment)), "created": ""} == {**record, "created": ""}


def test_pdf_is_archivable(pdf: bytes, tmp_path: Path) -> None:
    """Stands in for veraPDF: the claim, tags, embedded fonts, an attachment with its relationship, no script."""
    path = tmp_path / "r.pdf"
    path.write_bytes(pdf)
    reader = pypdf.PdfReader(path)
    metadata = reader.trailer["/Root"]["/Metadata"].get_data()
    assert b"pdfaid:part" in metadata
    assert reader.trailer["/Root"]["/MarkInfo"]["/Marked"]
    fonts = {
        font["/BaseFont"]: font["/DescendantFonts"][0]["/FontDescriptor"].get_object()
        for page in reader.pages
        for font in (item.get_object() for item in page["/Resources"].get("/Font", {}).values())
    }
    assert len(fonts) >= 3
    assert all("IBM-Plex" in name for name in fonts)
    assert all("/FontFile2" in found or "/FontFile3" in found for found in fonts.values())
    assert reader.trailer["/Root"]["/AF"][0].get_object()["/AFRelationship"] == "/Data"
    assert "/JavaScript" not in pdf.decode("latin-1")


def test_hostile_text_stays_text(html: str) -> None:
    assert "<script>" not in html
    assert "<img src=file" not in html
    assert "&lt;script&gt;" in html


@pytest.mark.slow
def test_template_may_be_replaced_but_fetches_nothing(assessment: Assessment, tmp_path: Path) -> None:
    (tmp_path / "report.html.j2").write_text("<p>{{ system.name }}</p><img src='file:///etc/passwd'>")
    assert report_html(assessment, {}, templates=tmp_path).startswith("<p>Triage</p>")
    with pytest.raises(UsageError, match="outside the report"):
        report_pdf(assessment, {}, templates=tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{{ nothing }}", "'nothing' is undefined"),
        ("{% if %}", "report.html.j2:1"),
        ("{{ [].__class__.__mro__ }}", "unsafe"),
        ("{{ cycler.__init__.__globals__.os.getcwd() }}", "unsafe"),
        ("{% include '../secret.j2' %}", "secret.j2"),
        ("{% include '/etc/passwd' %}", "/etc/passwd"),
        ("{% include 'link.j2' %}", "link.j2"),
        ("{{ 'A' * 9000000000 }}", "GiB of memory"),
        ("{% set a = 'A' * 99999999 %}{{ a }}{{ a * 99 }}", "GiB of memory"),
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "longer than 3 seconds"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "report template|broke off"),
    ],
)
def test_faulty_and_hostile_templates_are_told(
    assessment: Assessment, tmp_path: Path, text: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assessor.confined.PAGE_SECONDS", 3 if "range" in text else 60)
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (tmp_path / "secret.j2").write_text("secret")
    (theirs / "link.j2").symlink_to(tmp_path / "secret.j2")
    (theirs / "report.html.j2").write_text(text)
    with pytest.raises(UsageError, match=words):
        report_html(assessment, {}, templates=theirs)


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        "<img src='file:///etc/passwd'>",
        "<img src='http://127.0.0.1:9/x.png'>",
        "<link rel=attachment href='file:///etc/passwd'>",
        "<style>@import url(http://127.0.0.1:9/x.css);</style>",
        "<style>@font-face{font-family:x;src:url(file:///etc/passwd)} p{font-family:x}</style><p>x</p>",
        "<p style='background:url(http://127.0.0.1:9/x.png)'>x</p>",
        "<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd' width='9' height='9'/></svg>",
    ],
)
def test_a_page_reaches_nothing_outside(assessment: Assessment, tmp_path: Path, text: str) -> None:
    (tmp_path / "report.html.j2").write_text(f"<html lang=en><title>x</title>{text}</html>")
    with pytest.raises(UsageError, match="outside the report"):
        report_pdf(assessment, {}, templates=tmp_path)


def test_a_folder_without_templates(assessment: Assessment, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="found no template"):
        report_html(assessment, {}, templates=tmp_path)


def test_a_part_alone_may_be_replaced_in_any_language(assessment: Assessment, tmp_path: Path) -> None:
    (tmp_path / "card.html.j2").write_text("{% macro card(item, level=4) %}<p>{{ _('page') }}</p>{% endmacro %}")
    with speaking("de"):
        assert "<p>Seite</p>" in report_html(assessment, {}, templates=tmp_path)


def test_a_result_whose_check_is_gone_is_shown_without_plot(assessment: Assessment) -> None:
    html = report_html(assessment, {})
    assert "accuracy 0.5 [0.4, 0.6] lies outside the target of at least 0.9" in html
    assert "κ &amp; &lt;share&gt;" not in html


def shown(assessment: Assessment, checks: dict[str, Check], **changes: object) -> str:
    """The report with its only result changed."""
    (run,) = assessment.runs.values()
    changed = dataclasses.replace(assessment, runs={run.check: run.model_copy(update=changes)})
    return report_html(changed, checks)


def test_a_plot_that_cannot_be_drawn_costs_the_plot_only(assessment: Assessment) -> None:
    def fails(result: Result, axes: Axes) -> None:
        raise KeyError("a column that the older check did not have")

    html = shown(assessment, {CHECK.id: Check(INFO, Params, measure, fails)})
    (picture,) = re.findall(r'<img src="data:image/svg\+xml;base64,([^"]*)"', html)
    assert b"could not draw its plot" in base64.b64decode(picture)
    assert "By letter" in html


def test_long_tables_show_their_first_rows_and_wide_ones_their_title(assessment: Assessment) -> None:
    rows = tuple((f"letter{n}", n) for n in range(11))
    tables = (
        Table(name="short", title="Short", columns=("letter", "n"), rows=rows[:10]),
        Table(name="wide", title="Wide", columns=tuple(f"wide{n}" for n in range(30)), rows=(tuple(range(30)),)),
    )
    html = shown(assessment, {}, tables=tables)
    assert "letter9" in html
    assert "Wide (more rows in the attached results: 1)" in html
    assert "wide29" not in html
    html = shown(assessment, {}, tables=(Table(name="long", title="Long", columns=("letter", "n"), rows=rows),))
    assert "Long (more rows in the attached results: 3)" in html
    assert "letter7" in html
    assert "letter8" not in html


def test_what_is_not_applicable_takes_little_room(assessment: Assessment) -> None:
    outcome = Outcome(status=Status.NOT_APPLICABLE, sentence="needs a train split")
    html = shown(assessment, {CHECK.id: CHECK}, outcome=outcome, metrics=(), tables=(), remarks=())
    assert "needs a train split" in html
    assert "Four letters are few." not in html


def test_a_check_of_files_is_about_the_model_that_has_them(assessment: Assessment) -> None:
    (run,) = assessment.runs.values()
    owner = run.model_copy(update={"subject": run.subject.model_copy(update={"files": {"m.pt": "a" * 64}})})
    record = SubjectRecord(kind="files", model_sha256=None, files={"m.pt": "a" * 64}, data={})
    other = record.model_copy(update={"files": {"m.pt": "b" * 64}})
    changed = "the results are not all about the same thing"
    for subject, told in ((record, False), (other, True)):
        scan = run.model_copy(update={"check": "security.model_file", "subject": subject})
        ids = {**assessment.run_ids, scan.check: "1"}
        both = dataclasses.replace(assessment, runs={run.check: owner, scan.check: scan}, run_ids=ids)
        html = report_html(both, {})
        assert (changed in html) == told
        assert f'm.pt, <span class="mono">{"a" * 64}</span>' in html


def test_plot_is_the_same_bytes_and_keeps_its_text() -> None:
    result = measure(None, Params(), 0)  # type: ignore[arg-type]
    first, second = plot_svg(CHECK, result), plot_svg(CHECK, result)
    assert first is not None
    assert first == second
    assert "κ &amp; &lt;share&gt;" in first


def metric(value: float, low: float | None, high: float | None) -> Metric:
    return Metric(name="m", value=value, low=low, high=high, n=9, better=Better.HIGHER, method="m")


def test_target_line_places_things_in_order() -> None:
    line = target_line(metric(0.5, 0.4, 0.6), (0.7, None))
    assert line["left"] <= line["low"] < line["value"] < line["high"] < line["band"]["x"]
    assert line["band"]["x"] + line["band"]["width"] == pytest.approx(line["right"])
    assert [tick["label"] for tick in line["ticks"]] == ["0.4", "0.5", "0.6", "0.7"]


@pytest.mark.parametrize("value", [0.0, 1.0, -3.0, 1e9, 1e-9])
def test_target_line_of_a_point_stays_on_the_paper(value: float) -> None:
    line = target_line(metric(value, None, None), None)
    assert line["band"] is None
    assert line["left"] <= line["value"] <= line["right"]


def test_a_measurement_is_printed_once(html: str) -> None:
    # its check is evidence for requirements of two dimensions, and both lead to the one card
    assert html.count(f'id="check-{CHECK.id.replace(".", "-")}"') == 1


def test_the_map_counts_what_stands(assessment: Assessment) -> None:
    # one requirement answered "fulfilled" among the measures in the AI component; nothing else was said
    shown_map = heat_map(assessment)
    assert [row["id"] for row in shown_map["rows"]] == ["FN", "AC", "TR", "RE", "DP"]  # safety has a low need
    column = shown_map["columns"].index("AI component")
    (reliability,) = (row for row in shown_map["rows"] if row["id"] == "RE")
    cell = reliability["cells"][column]
    assert cell["fulfilled"] == 1
    assert cell["total"] > 10
    assert cell["shade"] == 3
    assert cell["mark"] == "not_assessed"
    concerned = sum(cell["total"] for row in shown_map["rows"] for cell in row["cells"] if cell)
    states = [state for dimension in assessment.states for area in dimension.areas for state in area.requirements]
    in_areas = [state for state in states if state.applies and "-R-" in state.id and not state.id.startswith("S-")]
    assert concerned == len(in_areas)


def test_deviations_name_area_and_failing_check(assessment: Assessment) -> None:
    by_area = {item["id"]: item for item in deviations(assessment)}
    assert by_area["RE-R-SC"]["failing"] == ["test.accuracy"]
    assert "RE-R-SC-ME-05" not in by_area["RE-R-SC"]["not_assessed"]
    assert by_area["FN-R-FN"]["failing"] == []
    assert "FN-R-FN-CR-01" in by_area["FN-R-FN"]["not_assessed"]


def test_an_area_argues_step_by_step(html: str) -> None:
    area = html[html.index('id="area-RE-R-SC"') :]
    steps = [area.index(text) for text in ("Measured", "Measures in the AI component", "RE-R-SC-ME-05", "Not answered")]
    assert steps == sorted(steps)
    assert html.index('id="area-RE-R-SC"') < html.index('id="measurements"') < html.index('id="check-test-accuracy"')


@pytest.mark.slow
def test_plots_are_the_same_from_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(result: Result, axes: Axes) -> None:
        raise KeyError("a column that the older check did not have")

    result = measure(None, Params(), 0)  # type: ignore[arg-type]
    wanted = {f"c{n}": (CHECK, result) for n in range(16)}
    wanted |= {"fails": (Check(INFO, Params, measure, fails), result), "none": (Check(INFO, Params, measure), result)}
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1})
    several = plots_svg(wanted)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0})
    assert several == plots_svg(wanted)
    assert several["fails"] is None
    assert "none" not in several
    assert several["c3"] == plot_svg(CHECK, result)
