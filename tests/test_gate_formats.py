"""The formats of the gate, each read by something that is not ours: hostile words must not leave their place."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from commands import Run
from jsonschema import Draft202012Validator, FormatChecker
from junitparser import Error, Failure, JUnitXml, Skipped
from lxml import etree
from markdown_it import MarkdownIt

import assessor.cli.gate as command
from assessor.gate import Finding, GateDecision, Kind
from assessor.gate_formats import FORMATS, github, markdown, written
from assessor.gate_formats.notices import LEVELS, GateReport, Group, Level, Notice, RuleText
from assessor.gate_places import Place, PolicyFile

Make = Callable[..., Any]
DATA = Path(__file__).parent / "data"
HOSTILE = [
    "a|b`c`<script>alert(1)</script>",
    "::error file=x::y%0A\r\n::set-output name=a::b",
    "[click](javascript:alert(1)) ![x](http://a) {0} @everyone #1",
    "]]> </testcase> &amp; \x1b[31m \x00 \ufffe \u202e **bold** _it_ ~~no~~ --> -- <!--",
    "# heading\n\n- list\n| a | b |\n|---|---|",
    "\\",
    "ünï 🦆, a:b",
]


def finding(number: int, text: str, kind: Kind = Kind.CHECK, **changes: Any) -> Finding:
    fields = {"id": f"trial.c{number}", "kind": kind, "status": "fail", "sentence": text, **changes}
    return Finding(**fields)


def report(*found: tuple[Group, Finding], file: str = "assessor.yaml", **changes: Any) -> GateReport:
    """A report of made-up findings."""
    groups = {group.value: tuple(item for where, item in found if where is group) for group in Group}
    groups["passed"] = tuple(item.id for item in groups["passed"])
    fields = {"exit_code": 1, "enforced_code": 1, "mode": "enforce", **groups, **changes}
    notices = [
        Notice(
            rule=f"check/{item.id}" if item.kind is Kind.CHECK else str(item.kind),
            group=group,
            level=LEVELS.get(group, Level.ERROR if item.stops else Level.WARNING),
            finding=item,
            place=Place(file=file, line=number),
            fingerprint=f"{number:064x}",
        )
        for number, (group, item) in enumerate(sorted(found, key=lambda pair: list(Group).index(pair[0])), start=1)
    ]
    return GateReport(
        decision=GateDecision(**fields),
        system="a system 1",
        folder="",
        policy=PolicyFile(file=file, sha256="0" * 64),
        baseline={},
        rules={item.rule: RuleText(title=item.finding.sentence or "-", help=item.finding.sentence) for item in notices},
        notices=tuple(notices),
    )


def every() -> GateReport:
    """A finding of every group, with every hostile text."""
    texts = iter(range(10_000))
    found = [(group, finding(next(texts), text, stops=group is Group.BLOCKING)) for group in Group for text in HOSTILE]
    found.append((Group.INCOMPLETE, finding(next(texts), "stops", stops=True)))
    return report(*found, file="a b/ü,:%/assessor.yaml")


# --- SARIF -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sarif_schema() -> Draft202012Validator:
    return Draft202012Validator(json.loads((DATA / "sarif-2.1.0.json").read_text()), format_checker=FormatChecker())


def levels_fit(log: dict[str, Any]) -> bool:
    """Section 3.27.10 of SARIF: a result that is no failure has no level. The schema cannot say so."""
    results = [result for run in log["runs"] for result in run["results"]]
    return all(result["kind"] == "fail" or result["level"] == "none" for result in results)


def test_sarif(sarif_schema: Draft202012Validator) -> None:
    made = every()
    log = json.loads(written(made, "sarif"))
    assert [fault.message for fault in sarif_schema.iter_errors(log)] == []
    assert levels_fit(log)
    (run,) = log["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert len({rule["id"] for rule in rules}) == len(rules)
    assert len(run["results"]) == len(made.notices)
    for result, item in zip(run["results"], made.notices, strict=True):
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert not re.search(r"(?<!\{)\{\d+\}(?!\})|\]\(", result["message"]["text"])  # neither argument nor link
        (place,) = result["locations"]
        assert unquote(place["physicalLocation"]["artifactLocation"]["uri"]) == "a b/ü,:%/assessor.yaml"
        assert (result["kind"] == "pass") == (item.group is Group.PASSED)
        assert bool(result.get("suppressions")) == (item.group is Group.WAIVED)
    prints = [tuple(result["partialFingerprints"].items()) for result in run["results"]]
    assert len(set(prints)) == len(prints)


def test_the_validators_of_sarif_can_refuse(sarif_schema: Draft202012Validator) -> None:
    log = json.loads(written(every(), "sarif"))
    log["runs"][0]["results"][0]["level"] = "critical"
    assert not sarif_schema.is_valid(log)
    log = json.loads(written(every(), "sarif"))
    log["runs"][0]["results"][-1]["level"] = "error"
    assert log["runs"][0]["results"][-1]["kind"] == "pass"
    assert sarif_schema.is_valid(log)
    assert not levels_fit(log)


# --- JUnit -----------------------------------------------------------------------------------------------------------


def test_junit(tmp_path: Path) -> None:
    made = every()
    path = tmp_path / "gate.xml"
    path.write_text(written(made, "junit"), "utf-8")
    suites = JUnitXml.fromfile(str(path))
    cases = [case for suite in suites for case in suite]
    assert len(cases) == len(made.notices) == suites.tests
    outcomes = [type(case.result[0]) if case.result else None for case in cases]
    wanted = {Group.BLOCKING: Failure, Group.PASSED: None}
    for case, outcome, item in zip(cases, outcomes, made.notices, strict=True):
        assert (case.name, case.classname) == (item.finding.id, "assessor.gate.check")
        if item.group is Group.INCOMPLETE:
            assert outcome is (Error if item.finding.stops else Skipped)
        else:
            assert outcome is wanted.get(item.group, Skipped)
    assert (suites.failures, suites.errors, suites.skipped) == tuple(
        outcomes.count(kind) for kind in (Failure, Error, Skipped)
    )
    for suite in suites:  # the counts that are stated, against those of the reader
        stated = (suite.tests, suite.failures, suite.errors, suite.skipped)
        suite.update_statistics()
        assert stated == (suite.tests, suite.failures, suite.errors, suite.skipped)
    said = " ".join(case.result[0].message for case in cases if case.result)
    assert "<script>alert(1)</script>" in said
    assert "\\x1b[31m" in said
    assert "]]> </testcase> &amp;" in said


@pytest.fixture(scope="module")
def junit_schema() -> etree.XMLSchema:
    """The schema by which Jenkins' xUnit plugin takes or refuses a file."""
    return etree.XMLSchema(etree.parse(DATA / "junit-10.xsd"))


def test_junit_by_the_schema_of_jenkins(junit_schema: etree.XMLSchema) -> None:
    empty = report(exit_code=0, enforced_code=0)
    kinds = report(*((Group.BLOCKING, finding(number, "x", kind)) for number, kind in enumerate(Kind)))
    for made in (every(), empty, kinds):
        tree = etree.fromstring(written(made, "junit").encode())
        assert junit_schema.validate(tree), junit_schema.error_log
        assert len(tree.findall("testsuite/testcase")) == len(made.notices)


@pytest.mark.parametrize(
    ("sound", "broken"),
    [
        ("<testsuite ", '<testsuite verdict="x" '),
        ("<testsuites ", '<testsuites skipped="1" '),
        (' classname="', ' class="'),
        ("<skipped ", "<waived "),
        (' tests="', ' number="'),
    ],
)
def test_the_schema_of_jenkins_can_refuse(junit_schema: etree.XMLSchema, sound: str, broken: str) -> None:
    text = written(report((Group.WAIVED, finding(1, "x"))), "junit")
    assert junit_schema.validate(etree.fromstring(text.encode()))
    assert sound in text
    assert not junit_schema.validate(etree.fromstring(text.replace(sound, broken).encode()))


# --- GitHub ----------------------------------------------------------------------------------------------------------

# Written after "Workflow commands for GitHub Actions" and the runner's own ActionCommand: the command ends at the first
# space, properties at the next "::", each is name=value; they are unescaped in the reverse order of escaping.
COMMAND = re.compile(r"^::(?P<name>[a-z-]+)( (?P<properties>.*?))?::(?P<data>.*)$", re.DOTALL)


def unescaped(text: str, *, is_property: bool) -> str:
    for code, sign in (
        ("%0D", "\r"),
        ("%0A", "\n"),
        *((("%3A", ":"), ("%2C", ",")) if is_property else ()),
        ("%25", "%"),
    ):
        text = text.replace(code, sign)
    return text


def commands(text: str) -> list[tuple[str, dict[str, str], str]]:
    """Workflow commands of a log, as a runner reads it: line by line."""
    found = []
    for line in re.split(r"\r\n|\r|\n", text):
        if match := COMMAND.match(line):
            pairs = [pair.split("=", 1) for pair in (match["properties"] or "").split(",")]
            properties = {name: unescaped(value, is_property=True) for name, value in pairs}
            found.append((match["name"], properties, unescaped(match["data"], is_property=False)))
    return found


def test_github_annotations() -> None:
    made = every()
    found = commands(written(made, "github"))
    assert len(found) == len(made.shown) > 20
    order = {"error": 0, "warning": 1, "notice": 2}
    assert {name for name, _properties, _data in found} == set(order)
    for (name, properties, data), item in zip(found, made.shown, strict=True):
        assert properties.keys() == {"file", "line", "title"}
        assert (properties["file"], properties["line"]) == (item.place.file, str(item.place.line))
        assert data == f"fail: {item.finding.sentence}"
        assert name == github.COMMANDS[item.level]


def test_the_name_of_a_baseline_is_no_command() -> None:
    baseline = {"where": "main\n::error::x\r::add-mask::y", "integrity": "", "tests": "numbers tested: 1"}
    made = report((Group.BLOCKING, finding(1, "x"))).model_copy(update={"baseline": baseline})
    assert len(commands(written(made, "github"))) == 1
    assert "Baseline: main ::error::x ::add-mask::y; numbers tested: 1" in written(made, "github")


# The escapes that GitHub documents ("Workflow commands", and @actions/core), by hand and not by our table.
@pytest.mark.parametrize(
    ("text", "as_message", "as_property"),
    [
        ("100%", "100%25", "100%25"),
        ("%0A", "%250A", "%250A"),
        ("a\r\nb", "a%0D%0Ab", "a%0D%0Ab"),
        ("a: b, c", "a: b, c", "a%3A b%2C c"),
        ("::error::x", "::error::x", "%3A%3Aerror%3A%3Ax"),
    ],
)
def test_github_escapes_as_documented(text: str, as_message: str, as_property: str) -> None:
    (line, *_decision) = written(report((Group.BLOCKING, finding(1, text)), file=text), "github").splitlines()
    assert line == f"::error file={as_property},line=1,title=trial.c1%3A forbidden::fail: {as_message}"


def test_the_worst_of_many_annotations_come_first() -> None:
    """GitHub shows ten of a level a step."""
    many = [(Group.TOLERATED, finding(number, "mild")) for number in range(50)]
    found = commands(written(report(*many, (Group.BLOCKING, finding(99, "grave"))), "github"))
    assert found[0][::2] == ("error", "fail: grave")


# --- GitLab ----------------------------------------------------------------------------------------------------------

# The documented shape ("Code Quality report format"): these members, no byte order mark, unique fingerprints. GitLab's
# own schema (app/validators/json_schemas/codeclimate.json in its sources) asks for less: description, fingerprint,
# severity and location, the first three texts, lines.begin an integer. It is not used here since no package ships it:
# check-jsonschema has GitLab's schema of CI files only, npm's codeclimate-types has types of TypeScript only.
GITLAB = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["description", "check_name", "fingerprint", "severity", "location"],
        "properties": {
            "description": {"type": "string", "minLength": 1},
            "check_name": {"type": "string", "minLength": 1},
            "fingerprint": {"type": "string", "pattern": "^[0-9a-f]{32,64}$"},
            "severity": {"enum": ["info", "minor", "major", "critical", "blocker"]},
            "location": {
                "type": "object",
                "required": ["path", "lines"],
                "properties": {
                    "path": {"type": "string", "pattern": "^[^/]"},
                    "lines": {"type": "object", "required": ["begin"], "properties": {"begin": {"type": "integer"}}},
                },
            },
        },
    },
}


def test_gitlab() -> None:
    made = every()
    found = json.loads(written(made, "gitlab"))
    Draft202012Validator(GITLAB).validate(found)
    assert len({item["fingerprint"] for item in found}) == len(found) == len(made.shown)
    assert {item["severity"] for item in found} == {"critical", "major", "minor", "info"}
    assert not Draft202012Validator(GITLAB).is_valid([{**found[0], "severity": "error"}])


# --- Markdown --------------------------------------------------------------------------------------------------------


def cells(text: str) -> list[list[str]]:
    """Text of the cells of the only table, by a reader of CommonMark with GitHub's tables."""
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(text)
    assert [token.type for token in tokens].count("table_open") == (1 if "|---" in text else 0)
    rows: list[list[str]] = []
    for token, before in zip(tokens[1:], tokens, strict=False):
        if token.type == "tr_open":
            rows.append([])
        if token.type == "inline" and before.type in {"td_open", "th_open"}:
            assert token.children is not None
            assert {child.type for child in token.children} <= {"text", "text_special"}, token.content
            rows[-1].append("".join(child.content for child in token.children))
    return rows


def test_markdown() -> None:
    made = every()
    text = written(made, "markdown")
    assert text.startswith("<!-- assessor-gate e3b0c44298fc -->\n")
    head, *rows = cells(text)
    assert head == ["", "what", "outcome", "why", "where"]
    assert len(rows) == len(made.shown)
    for row, item in zip(rows, made.shown, strict=True):
        assert row[1:3] == [item.finding.id, "fail"]
        assert row[3].replace("\u200b", "") == " ".join(item.finding.sentence.split()).replace("\x00", "\ufffd")
        assert not re.search(r"[@#]\w", row[3])  # nobody is mentioned, no issue is linked
        assert row[4].replace("\u200b", "") == f"{item.place.file}:{item.place.line}"
    html = [token for token in MarkdownIt("gfm-like", {"linkify": False}).parse(text) if token.type == "html_block"]
    assert [token.content.strip() for token in html] == ["<!-- assessor-gate e3b0c44298fc -->"]


@pytest.mark.slow
def test_markdown_of_too_much_keeps_the_worst() -> None:
    many = [(Group.TOLERATED, finding(number, "x" * 100)) for number in range(2000)]
    made = report((Group.BLOCKING, finding(5000, "the worst")), *many)
    text = markdown.written(made)
    assert len(text.encode()) <= markdown.COMMENT_BYTES
    rows = cells(text)[1:]
    assert rows[0][3] == "the worst"
    assert f"{2001 - len(rows)} more findings are left out here." in text


@pytest.mark.slow
@pytest.mark.parametrize("sign", ["x", "|", "ü", "🦆", "@"])
def test_markdown_of_endless_texts_is_short_enough_for_a_comment(sign: str) -> None:
    """GitHub takes 65 536 characters a comment, and refuses the whole of a longer one."""
    endless = sign * 200_000
    many = [(Group.NOT_JUDGED, finding(number, "", status="measured")) for number in range(5000)]
    made = report((Group.BLOCKING, finding(9000, endless)), (Group.WAIVED, finding(9001, endless)), *many)
    baseline = {"where": endless, "integrity": "", "tests": ""}
    text = written(made.model_copy(update={"system": endless, "baseline": baseline}), "markdown")
    assert len(text) <= len(text.encode()) <= 65_536
    rows = cells(text)[1:]
    assert [row[1] for row in rows] == ["trial.c9000", "trial.c9001"]
    assert all(row[3].endswith("…") for row in rows)
    assert "`trial.c0`, `trial.c1`" in text
    assert "`trial.c199`, …" in text


def test_markdown_of_nothing_to_tell_has_no_table() -> None:
    assert cells(written(report((Group.PASSED, finding(1, "fine")), exit_code=0, enforced_code=0), "markdown")) == []


# --- text and JSON ---------------------------------------------------------------------------------------------------


def test_text_and_json() -> None:
    made = report(
        (Group.BLOCKING, finding(1, "lies outside")),
        (Group.WAIVED, finding(2, "known", days_left=3)),
        (Group.PASSED, finding(3, "fine", status="pass")),
        (Group.NOT_JUDGED, finding(4, "no target", status="measured")),
        (Group.NOT_JUDGED, finding(5, "no target", status="measured")),
        exit_code=0,
        mode="observe",
    )
    assert written(made, "text").splitlines() == [
        "forbidden   trial.c1  fail  lies outside",
        "waived      trial.c2  fail  known (3 days left)",
        "not judged  trial.c4, trial.c5",
        "passed      trial.c3",
        "1 forbidden, 1 waived, 1 passed, 2 not judged",
        "gate closed: 1 forbidden by the policy, 1 waived",
        "THE GATE ONLY OBSERVES (policy mode: observe); enforced, it would end with 1",
    ]
    data = json.loads(written(made, "json"))
    assert (data["exit_code"], data["enforced_code"], data["counts"]["waived"]) == (0, 1, 1)
    assert data["policy"] == {"file": "assessor.yaml", "sha256": "0" * 64}
    assert [item["group"] for item in data["findings"]] == [
        "blocking",
        "waived",
        "not_judged",
        "not_judged",
        "passed",
    ]


# --- the command -----------------------------------------------------------------------------------------------------


TARGETS = {"reliability.performance": {"interval": [0.99, None], "because": "a trial"}}


@pytest.fixture
def measured(make_folder: Make, run: Run) -> Path:
    """A folder in which one check fails its target."""
    folder: Path = make_folder(targets=TARGETS, policy={"waivers": []}).folder
    run("check", "run", "reliability.performance", "--project", folder)
    return folder


def test_several_formats_at_once(
    measured: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sarif_schema: Draft202012Validator
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    (tmp_path / "summary.md").write_text("before\n")
    files = {name: tmp_path / f"gate.{name}" for name in FORMATS}
    pairs = [word for name, path in files.items() for word in ("--format", f"{name}={path}")]
    done = run("gate", "--project", measured, *pairs)
    assert done.code == 1
    assert "gate closed: 1 forbidden by the policy" in done.out
    sarif_schema.validate(json.loads(files["sarif"].read_text()))
    (result,) = json.loads(files["sarif"].read_text())["runs"][0]["results"]
    place = result["locations"][0]["physicalLocation"]
    lines = (measured / "assessor.yaml").read_text().splitlines()
    assert place["artifactLocation"]["uri"] == "assessor.yaml"
    assert lines[place["region"]["startLine"] - 1].strip() == "reliability.performance:"
    assert JUnitXml.fromfile(str(files["junit"])).failures == 1
    assert [name for name, _properties, _data in commands(files["github"].read_text())] == ["error"]
    summary = (tmp_path / "summary.md").read_text()
    assert summary == "before\n" + files["markdown"].read_text()
    again = run("gate", "--project", measured, "--format", "sarif")
    assert again.out == files["sarif"].read_text()


@pytest.mark.parametrize(("there", "added"), [(0, True), (900_000, True), (985_000, False), (1_048_576, False)])
def test_the_summary_of_a_step_never_grows_beyond_what_github_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], there: int, added: bool
) -> None:
    """1 MiB a step, whoever wrote it; of a longer one GitHub shows nothing."""
    path = tmp_path / "summary.md"
    path.write_bytes(b"x" * there)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path))
    many = [(Group.TOLERATED, finding(number, "y" * 900)) for number in range(2000)]
    command._summarise(report((Group.BLOCKING, finding(5000, "the worst")), *many))
    text = path.read_text()
    assert there < len(text.encode()) <= 1024**2 if added else len(text) == there
    assert ("the worst" in text) == ("more findings are left out here" in text) == added
    assert ("the summary is full; nothing was added" in capsys.readouterr().err) == (not added)


def test_one_format_to_a_file(measured: Path, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "out"
    assert run("gate", "--project", measured, "--output", path).code == 1
    assert json.loads(path.read_text())["exit_code"] == 1
    assert run("gate", "--project", measured, "--format", "gitlab", "--output", path).code == 1
    assert json.loads(path.read_text())[0]["severity"] == "critical"
    assert json.loads(run("gate", "--project", measured, "--json").out)["exit_code"] == 1
    for words, told in (
        (("--format", "sarfi"), "did you mean 'sarif'"),
        (("--format", "sarif", "--format", "junit"), "wanted one"),
        (("--format", f"sarif={tmp_path}/none/x"), "cannot write"),
    ):
        done = run("gate", "--project", measured, *words)
        assert done.code == 2
        assert told in done.err


@pytest.mark.slow
def test_a_policy_of_its_own(measured: Path, run: Run, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("mode: observe\nfail_on: [fail]\n")
    done = run("gate", "--project", measured, "--policy", policy, "--format", "json")
    data = json.loads(done.out)
    assert (done.code, data["enforced_code"], data["mode"]) == (0, 1, "observe")
    assert len(data["policy"]["sha256"]) == 64
    assert "THE GATE ONLY OBSERVES" in run("gate", "--project", measured, "--policy", policy).out
    waiver = "{id: reliability.performance, because: known, by: Ada, until: 2999-01-01}"
    policy.write_text(f"waivers:\n- {waiver}\n")
    done = run("gate", "--project", measured, "--policy", policy, "--format", "json")
    (found,) = json.loads(done.out)["findings"]
    assert (done.code, found["group"], found["place"]["line"]) == (0, "waived", 2)
    for text, told in (
        ("", "found an empty file"),
        ("mode: off\n", "policy.yaml:1 mode"),
        ("waivers:\n- {id: reliability.performanc, because: x, by: y, until: 2999-01-01}\n", "did you mean"),
        ("baseline: {tolerance: {reliability.performanc: 1}}\n", "did you mean 'reliability.performance'"),
    ):
        policy.write_text(text)
        done = run("gate", "--project", measured, "--policy", policy)
        assert done.code == 2
        assert told in done.err


def test_the_policy_of_the_documentation_is_one(measured: Path, run: Run, tmp_path: Path) -> None:
    (example,) = re.findall(
        r"```yaml\n(.*?)```", (Path(__file__).parents[1] / "docs" / "gate.md").read_text(), re.DOTALL
    )
    policy = tmp_path / "policy.yaml"
    policy.write_text(example)
    done = run("gate", "--project", measured, "--policy", policy, "--format", "json")
    assert (done.code, json.loads(done.out)["policy"]["file"]) == (1, policy.as_posix())


def test_fingerprints_outlive_numbers_and_lines(measured: Path, run: Run) -> None:
    def fingerprint() -> list[str]:
        data = json.loads(run("gate", "--project", measured, "--format", "json").out)
        return [item["fingerprint"] for item in data["findings"]]

    before = fingerprint()
    path = measured / "assessor.yaml"
    path.write_text("# a line more\n" + path.read_text().replace("0.99", "0.98"))
    run("check", "run", "reliability.performance", "--project", measured)
    assert fingerprint() == before
