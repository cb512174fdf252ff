"""Results of other tools: known by their marks, told in their own words, and nothing in them can hurt."""

from __future__ import annotations

import io
import json
import struct
import sys
import time
import zipfile
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assessor.errors import UsageError
from assessor.evidence_formats import LARGEST, MOST_FINDINGS, Reading, imported, read
from assessor.evidence_formats.reading import LONGEST_VALUE, Row
from assessor.model import EvidenceType, Imported

DATA = Path(__file__).parent / "data" / "evidence"
M = 1_000_000


def kept(name: str) -> Imported:
    content = (DATA / name).read_bytes()
    found = read(content, name)
    assert found is not None
    return imported(content, found)


def lines(found: Imported) -> list[tuple[str, str, str]]:
    return [(item.name, item.value, item.outcome) for item in found.findings]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ai.spdx3.json", ("SPDX 3.0.1", "spdx-writer 1.2", "", date(2026, 8, 15), "letter-sorter 3")),
        (
            "aiverify_1.json",
            (
                "AI Verify test result",
                "AI Verify fairness_metrics_toolbox_for_classification",
                "0.9.0",
                date(2023, 6, 12),
                "credit.sav",
            ),
        ),
        (
            "aiverify_2.json",
            (
                "AI Verify test result",
                "AI Verify aiverify_robustness_toolbox",
                "2.2.1",
                date(2026, 10, 5),
                "random_forest.sav, breast_cancer_test.sav",
            ),
        ),
        ("deepchecks_check.json", ("Deepchecks result", "Deepchecks", "", None, "Train Test Performance")),
        ("deepchecks_suite.json", ("Deepchecks result", "Deepchecks", "", None, "Small suite")),
        ("evidently_04_report.json", ("Evidently result", "Evidently", "0.7.23", date(2026, 11, 22), "")),
        ("evidently_04_tests.json", ("Evidently result", "Evidently", "0.7.23", date(2026, 11, 22), "")),
        ("evidently_07.json", ("Evidently result", "Evidently", "", None, "")),
        ("evidently_07_snapshot.json", ("Evidently snapshot", "Evidently", "", date(2026, 11, 22), "")),
        ("giskard3_scenario.json", ("Giskard result", "Giskard", "", None, "")),
        ("giskard3_suite.json", ("Giskard result", "Giskard", "", None, "")),
        ("giskard_scan.json", ("Giskard result", "Giskard", "", None, "")),
        ("giskard_suite.json", ("Giskard result", "Giskard", "", None, "")),
        (
            "inspect.eval",
            ("Inspect eval log", "Inspect", "0.3.285", date(2026, 11, 22), "mockllm/model, triage_letters"),
        ),
        (
            "inspect.json",
            ("Inspect eval log", "Inspect", "0.3.134", date(2026, 9, 30), "openai/gpt-4o-mini, triage_letters"),
        ),
        ("junit.xml", ("JUnit XML", "", "", date(2026, 11, 2), "pytest tests, pytest")),
        (
            "ml_bom.cdx.json",
            ("CycloneDX 1.6", "cyclonedx-py", "7.1.0", date(2026, 10, 20), "triage 1.4, letter-sorter 3"),
        ),
        ("model_card.md", ("model card", "", "", None, "Letter sorter")),
    ],
)
def test_each_format_is_recognised_and_says_where_it_comes_from(name: str, said: tuple[Any, ...]) -> None:
    found = kept(name)
    assert (found.format, found.tool, found.version, found.made, found.subject) == said
    assert found.findings
    assert found.total >= len(found.findings)


def test_every_sample_is_tested() -> None:
    (mark,) = test_each_format_is_recognised_and_says_where_it_comes_from.pytestmark
    assert {name for name, _said in mark.args[1]} == {path.name for path in DATA.iterdir()}


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("ai.spdx3.json", ("accuracy, overall", "0.91", "")),
        ("aiverify_1.json", ("results.0.False Negative Rate Parity", "-0.0521", "")),
        ("aiverify_2.json", ("results.adversarial", "0.921053", "")),
        (
            "deepchecks_suite.json",
            ("Date Train Test Leakage Overlap", "Dataset does not contain a datetime", "not run"),
        ),
        ("evidently_04_report.json", ("DatasetDriftMetric.dataset_drift", "yes", "")),
        ("evidently_07.json", ("RowCount()", "200", "")),
        ("giskard_suite.json", ("Precision on data slice “`b` >= 1.186”", "0.71875", "Failed")),
        ("evidently_07_snapshot.json", ("Value drift for age", "4.80753e-06", "")),
        ("evidently_07_snapshot.json", ("Unique Value Count: sex.shares.f", "0.44", "")),
        ("giskard3_scenario.json", ("letters about pain", "checks: 1", "pass")),
        (
            "giskard3_suite.json",
            ("letters about bills: names billing", "The answer does not contain the keyword 'billing'", "fail"),
        ),
        ("inspect.eval", ("includes accuracy", "0.75", "")),
        ("inspect.eval", ("samples", "4 / 4", "success")),
        ("inspect.json", ("match accuracy", "0.856784", "")),
        ("inspect.json", ("samples", "398 / 400", "success")),
        ("junit.xml", ("pytest", "5 tests, 1 failed, 1 error, 1 skipped", "failed")),
        ("junit.xml", ("tests.test_loading.test_broken", 'failed on setup with "no file"', "error")),
        ("ml_bom.cdx.json", ("accuracy, adults", "0.91 [0.89, 0.93]", "")),
        ("model_card.md", ("Accuracy, letters, split test", "0.91", "")),
        ("model_card.md", ("licence", "apache-2.0", "")),
    ],
)
def test_findings_are_told_in_the_words_of_the_file(name: str, line: tuple[str, str, str]) -> None:
    assert line in lines(kept(name))


def test_what_failed_stands_in_front() -> None:
    assert [outcome for _name, _value, outcome in lines(kept("deepchecks_suite.json"))][:2] == ["FAIL", "not run"]
    assert lines(kept("evidently_04_tests.json"))[0][2] == "FAIL"
    assert [outcome for *_rest, outcome in lines(kept("evidently_07_snapshot.json"))][:3] == ["FAIL", "FAIL", "SUCCESS"]
    assert lines(kept("giskard3_suite.json"))[0] == ("letters about bills", "checks: 2", "fail")
    assert {outcome for *_rest, outcome in lines(kept("giskard_scan.json"))[:7]} == {"major", "medium"}


def test_results_are_test_reports_and_cards_are_documents() -> None:
    types = {path.name: found.type for path in DATA.iterdir() if (found := read(path.read_bytes(), path.name))}
    documents = {name for name, kind in types.items() if kind is EvidenceType.DOCUMENT}
    assert documents == {"ai.spdx3.json", "ml_bom.cdx.json", "model_card.md"}
    assert set(types.values()) == {EvidenceType.DOCUMENT, EvidenceType.TEST_REPORT}


def without(name: str, *path: str) -> bytes:
    """A sample without one of its marks."""
    document = json.loads((DATA / name).read_bytes())
    place = document
    for part in path[:-1]:
        place = place[part]
    del place[path[-1]]
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", without("aiverify_2.json", "gid")),
        ("a.json", without("aiverify_2.json", "testArguments")),
        ("a.json", without("inspect.json", "eval", "model")),
        ("a.json", without("evidently_07_snapshot.json", "top_level_metrics")),
        ("a.json", without("giskard3_suite.json", "failed_count")),
        ("a.json", without("giskard3_scenario.json", "steps")),
        ("a.json", without("deepchecks_suite.json", "type")),
        ("a.json", without("evidently_04_tests.json", "summary")),
        ("a.json", without("ml_bom.cdx.json", "bomFormat")),
        ("a.json", without("ai.spdx3.json", "@context")),
        ("a.json", b'{"metrics": [{"name": "accuracy", "value": 1}]}'),
        ("a.json", b'{"test": {"result": "Passed"}}'),
        ("a.json", b"{}"),
        ("a.json", b'{"type": ["SuiteResult"], "results": []}'),
        ("a.json", b'{"test": {"result": ["Passed"], "metric_value": 1}}'),
        ("a.xml", b"<html><testsuite/></html>"),
        ("a.xml", b"<!DOCTYPE html><html></html>"),
        ("a.xml", b"no XML at all"),
        ("a.xml", b"<?xml version='1.0' encoding='klingon'?><testsuite/>"),
        ("a.xml", b"<?xml version='1.0' encoding='big5'?><testsuite/>"),
        ("a.md", b"# Notes\n\nNothing of a card.\n"),
        ("a.txt", (DATA / "junit.xml").read_bytes()),
        ("a.json", b"[" * (LARGEST["json"] + 1)),
    ],
)
def test_what_has_not_all_the_marks_is_only_a_file(name: str, content: bytes) -> None:
    assert read(content, name) is None


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.json", b'{"gid"', "a.json:1 not readable as JSON"),
        ("a.json", b"[1]", "found JSON that is no object"),
        ("a.json", b"\xff\xfe", "not UTF-8"),
        ("a.json", b'{"bomFormat": "CycloneDX", "specVersion": "1.2"}', "found CycloneDX 1.2, wanted"),
        ("a.json", b'{"spdxVersion": "SPDX-2.3"}', "found SPDX 2.3, wanted SPDX 3.0"),
        ("a.xml", b"<testsuites>\n<testcase>", "a.xml:2 not readable as XML"),
        ("a.xml", b"<!DOCTYPE testsuites [<!ENTITY a 'b'>]><testsuites>&a;</testsuites>", "document type declaration"),
        ("a.xml", b"<!DOCTYPE testsuite SYSTEM 'file:///etc/passwd'><testsuite/>", "document type declaration"),
        ("a.xml", b"<testsuite>&undeclared;</testsuite>", "not readable as XML"),
        ("a.xml", b"<testsuite>" * 50 + b"</testsuite>" * 50, "found XML nested too deeply"),
        ("a.md", b"---\nlicense: x\na: [1\n---\n# x\n", "a.md:"),
    ],
)
def test_what_has_the_marks_and_cannot_be_read_is_refused(name: str, content: bytes, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        read(content, name)


# --- logs of Inspect in archives -------------------------------------------------------------------------------------

ZSTANDARD = 93
LOG = json.dumps({"version": 2, "status": "success", "eval": {"task": "t", "model": "m"}}).encode()


def archive(content: bytes = LOG, name: str = "header.json", method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """An archive with one part; by a method that Python does not know as if it were stored."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method if method == zipfile.ZIP_DEFLATED else zipfile.ZIP_STORED) as target:
        target.writestr(name, content)
    return told(made.getvalue(), method=method)


def told(content: bytes, method: int | None = None, size: int | None = None) -> bytes:
    """An archive of one part, whose directory tells something else of it."""
    place, made = content.index(b"PK\x01\x02"), bytearray(content)
    if method is not None:
        struct.pack_into("<H", made, place + 10, method)
    if size is not None:
        struct.pack_into("<I", made, place + 24, size)
    return bytes(made)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_logs_in_archives_are_read_however_they_are_packed(method: int) -> None:
    found = read(archive(method=method), "a.eval")
    assert found is not None
    assert (found.subject, found.findings[0].outcome) == ("m, t", "success")


def test_a_log_that_was_never_finished_says_so() -> None:
    begun = json.dumps({"version": 2, "eval": {"task": "t", "model": "m"}, "plan": {}}).encode()
    found = read(archive(begun, "_journal/start.json"), "a.eval")
    assert found is not None
    assert found.findings == (Row("samples", "", "started"),)


@pytest.mark.parametrize(
    "content", [b"", b"no archive", archive()[:-30], archive(name="other.json"), archive(b'{"version": 2}')]
)
def test_what_is_no_log_is_only_a_file(content: bytes) -> None:
    assert read(content, "a.eval") is None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (archive(b"{"), "a.eval/header.json:1 not readable as JSON"),
        (archive(method=14), "a.eval: found packing method 14, wanted deflate or Zstandard"),
        (archive(method=ZSTANDARD), "a.eval/header.json: cannot be unpacked: ZSTD"),
        (archive(b" " * 11 * M), "a.eval/header.json: found 11 MB when unpacked, wanted at most 10 MB"),
        (told(archive(b" " * 11 * M), size=9), "a.eval/header.json: does not have the checksum"),
        (told(archive(), method=zipfile.ZIP_STORED), "does not have the checksum"),
        (told(archive(b"x" * 99, method=zipfile.ZIP_STORED), method=8), "cannot be unpacked"),
        (archive().replace(b"PK\x03\x04", b"PK\xff\xff"), None),
        (b"PK\x01\x02" * 50_001, "a.eval: found more than 50000 parts in the archive"),
    ],
)
def test_archives_that_lie_or_swell_are_refused(content: bytes, words: str | None) -> None:
    if words is None:  # what stands in front of a part is not needed
        assert read(content, "a.eval")
        return
    with pytest.raises(UsageError, match=words):
        read(content, "a.eval")


def test_without_the_package_for_it_a_log_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"a\.eval is packed with Zstandard: .*ai-assessor\[parquet\]"):
        read((DATA / "inspect.eval").read_bytes(), "a.eval")


def test_a_snapshot_that_names_one_result_a_thousand_times_gives_it_once() -> None:
    document = json.loads((DATA / "evidently_07_snapshot.json").read_bytes())
    document["top_level_metrics"] *= 1000
    assert read(json.dumps(document).encode(), "a.json") == read(
        (DATA / "evidently_07_snapshot.json").read_bytes(), "a.json"
    )


# --- hostile files ---------------------------------------------------------------------------------------------------


def tried(content: bytes, name: str) -> Reading | None:
    """What was read; None too where it was refused, in words that name the file."""
    try:
        return read(content, name)
    except UsageError as fault:
        told = str(fault)
    assert told.startswith(name)
    return None


def bomb() -> bytes:
    """A billion laughs: gigabytes, if anybody looked."""
    entities = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 10))
    return f'<!DOCTYPE testsuites [<!ENTITY l0 "lol">{entities}]><testsuites>&l9;</testsuites>'.encode()


def parts(n: int) -> bytes:
    """An archive of many parts."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as target:
        for i in range(n):
            target.writestr(f"samples/{i}.json", b"")
        target.writestr("header.json", LOG)
    return made.getvalue()


def snapshot(n: int) -> bytes:
    """One of Evidently with many results."""
    results = {str(i): {"display_name": "a", "value": i, "tests": [{}]} for i in range(n)}
    marks = {"timestamp": "", "tests_widgets": [], "top_level_metrics": list(results)}
    return json.dumps({**marks, "metric_results": results}).encode()


def scenarios(n: int) -> bytes:
    """A suite of Giskard with many scenarios."""
    one = {"scenario_name": "a", "steps": [{"results": [{}]}], "duration_ms": 1, "status": "fail"}
    counts = dict.fromkeys(("duration_ms", "passed_count", "failed_count", "errored_count", "skipped_count"), 1)
    return json.dumps({"results": [one] * n, **counts}).encode()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("a.xml", bomb),
        ("a.xml", lambda: b"<testsuites>" + b"<testsuite>" * (4 * M // 11)),
        ("a.xml", lambda: b"<testsuites>" + b"<testcase/>" * (4 * M // 11) + b"</testsuites>"),
        ("a.xml", lambda: b"<testsuite " + b" ".join(b'a%d="1"' % i for i in range(300_000)) + b"></testsuite>"),
        ("a.json", lambda: b"[" * LARGEST["json"]),
        ("a.json", lambda: b'{"a":' * (LARGEST["json"] // 5)),
        ("a.json", lambda: b'{"a":' + b"9" * (9 * M) + b"}"),
        (
            "a.json",
            lambda: b'{"gid":"a","cid":"b","startTime":"x","testArguments":{},"output":[' + b"[0]," * (2 * M) + b"0]}",
        ),
        ("a.eval", lambda: archive(b'{"version": 2, "eval":' + b"[" * 9 * M)),
        ("a.eval", lambda: b"PK\x01\x02" * 12 * M),
        ("a.eval", lambda: parts(40_000)),
        ("a.json", lambda: snapshot(100_000)),
        ("a.json", lambda: scenarios(60_000)),
        ("a.md", lambda: b"---\nlicense: x\n---\n" + b"# a\n- b: c\n" * 45_000),
        ("a.md", lambda: b"---\nlicense: x\na: &a [b]\nc: *a\n---\n# a\n"),
    ],
)
def test_hostile_files_take_no_time(name: str, make: Callable[[], bytes]) -> None:
    content = make()
    before = time.process_time()
    found = tried(content, name)
    assert found is None or len(imported(content, found).findings) <= MOST_FINDINGS
    assert time.process_time() - before < 10  # about one, on a machine that does nothing else


def test_texts_of_others_are_cut_and_cannot_play_with_a_screen() -> None:
    rows = (Row("a\x1b[31m\u202eb\nc", "x" * 1000, "FAIL"), Row("", "nameless"), Row("good", "", "passed"))
    found = imported(b"", Reading("any", EvidenceType.RECORD, findings=rows))
    assert [item.name for item in found.findings] == ["a[31mb c", "good"]
    assert len(found.findings[0].value) <= LONGEST_VALUE


def test_only_the_first_findings_are_kept_and_all_are_counted() -> None:
    rows = tuple(Row(f"test {i}", "", "passed" if i else "failed") for i in reversed(range(50)))
    found = imported(b"", Reading("any", EvidenceType.RECORD, findings=rows))
    assert (len(found.findings), found.total, found.findings[0].outcome) == (MOST_FINDINGS, 50, "failed")


KEYS = st.sampled_from(
    [
        *(
            "gid",
            "cid",
            "output",
            "startTime",
            "testArguments",
            "modelFile",
            "version",
            "status",
            "eval",
            "task",
            "model",
        ),
        *("results", "scores", "metrics", "name", "value", "type", "check", "header", "conditions_results", "tests"),
        *(
            "summary",
            "all_passed",
            "metric",
            "result",
            "metric_name",
            "metric_value",
            "ADetector",
            "major",
            "bomFormat",
        ),
        *("specVersion", "components", "@context", "@graph", "spdxId", "modelCard", "metadata", "tools", "packages"),
        *("to", "from", "relationshipType", "ai_metric", "key", "timestamp", "description", "created", "error"),
        *("task", "model", "bomFormat"),
    ]
)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5),
    st.sampled_from(["SuiteResult", "CheckResult", "CheckFailure", "Passed", "CycloneDX", "1.6", "ai_AIPackage",
        "https://spdx.org/rdf/3.0.1/x", "machine-learning-model", "data", "CreationInfo", "Relationship"]),
)  # fmt: skip
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5), max_leaves=25
)


MARKED: list[dict[str, Any]] = [
    {"gid": 1, "cid": 2, "output": 3, "startTime": 4, "testArguments": 5},
    {"version": 2, "status": "success", "eval": {"task": "t", "model": "m"}},
    {"type": "SuiteResult", "results": []},
    {"type": "CheckResult", "check": {}},
    {"metrics": [{"metric_name": "m", "value": 1}]},
    {"tests": [{}], "summary": {"all_passed": False}},
    {
        "timestamp": "",
        "metric_results": {"a": {"tests": [{}], "value": 1}},
        "top_level_metrics": ["a"],
        "tests_widgets": 0,
    },
    {"scenario_name": 1, "steps": [{"results": [{"status": "fail"}]}], "duration_ms": 1, "status": []},
    {"results": [], **dict.fromkeys(("duration_ms", "passed_count", "failed_count", "errored_count", "skipped_count"))},
    {"bomFormat": "CycloneDX", "specVersion": "1.6"},
    {"@context": "https://spdx.org/rdf/3.0.1/x"},
    {},
]


@pytest.mark.slow
@given(st.sampled_from(MARKED), st.dictionaries(KEYS, VALUES, max_size=6))
@settings(max_examples=300, deadline=None)
def test_json_of_any_shape_is_read_or_refused_in_words(marks: dict[str, Any], more: dict[str, Any]) -> None:
    content = json.dumps({**more, **marks} if len(more) % 2 else {**marks, **more}).encode()
    found = tried(content, "a.json")
    if found is not None:
        Imported.model_validate(imported(content, found).model_dump())


@given(
    st.binary(max_size=60), st.sampled_from(["", "<testsuites>", "<testsuite name='", "---\nlicense: x\n---\n# a\n"])
)
@settings(max_examples=200, deadline=None)
def test_bytes_of_any_kind_are_read_or_refused_in_words(content: bytes, start: str) -> None:
    for name in ("a.xml", "a.md", "a.json", "a.eval"):
        tried(start.encode() + content, name)
