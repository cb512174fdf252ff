"""JUnit XML, as pytest, Gradle and most others write it: https://github.com/testmoapp/junitxml.

Read in one pass without building a tree. A document type declaration, which is where entities and their bombs are
declared, is refused before anything in it is looked at; so is nesting that no test report has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import date
from xml.parsers import expat

from assessor.errors import UsageError
from assessor.evidence_formats.reading import MOST, Reading, Row, day_of
from assessor.messages import _
from assessor.model import EvidenceType
from assessor.prefill.statements import listed

ROOTS = frozenset({"testsuites", "testsuite"})
OUTCOMES: Mapping[str, str] = {"failure": "failed", "error": "error", "skipped": "skipped"}
DEEPEST, MOST_ELEMENTS = 40, 200_000


class _OtherRoot(Exception):  # noqa: N818 - no error: it is another kind of XML
    """The document is no test report."""


def read(content: bytes, name: str) -> Reading | None:
    """What a test report says.

    Args:
        content: The file.
        name: How messages call it.

    Returns:
        Its suites and the tests that did not pass; None for XML with another root.

    Raises:
        UsageError: It begins as a test report and is no XML, declares a document type, or is nested too deeply.
    """
    report = _Report(name)
    try:
        report.parse(content)
    except (_OtherRoot, LookupError, ValueError):  # the last two of an encoding that expat does not know
        return None
    except expat.ExpatError as fault:
        if not report.is_junit:
            return None
        told = expat.ErrorString(fault.code)
        raise UsageError(
            _("{name}:{line} not readable as XML: {fault}", name=name, line=fault.lineno, fault=told)
        ) from fault
    return Reading(
        format="JUnit XML",
        type=EvidenceType.TEST_REPORT,
        made=report.made,
        subject=listed(list(dict.fromkeys(report.names))),
        findings=(*report.suites(), *report.rows),
    )


class _Report:
    """The report as far as it was read."""

    def __init__(self, name: str) -> None:
        self.is_junit = False
        self.made: date | None = None
        self.names: list[str] = []
        self.rows: list[Row] = []
        self._name = name
        self._depth = self._elements = 0
        self._counts: dict[str, Counter[str]] = {}
        self._suites: list[str] = []
        self._case: Row | None = None

    def parse(self, content: bytes) -> None:
        parser = expat.ParserCreate()
        parser.StartDoctypeDeclHandler = self._refuse_declaration
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.Parse(content, True)

    def suites(self) -> list[Row]:
        """A line a suite: how many tests it ran, and how many did not pass."""
        return [_suite(name, counts) for name, counts in self._counts.items()]

    def _refuse_declaration(self, root: str, *_rest: object) -> None:
        if root not in ROOTS:
            raise _OtherRoot
        raise UsageError(
            _(
                "{name}: found a document type declaration, which test reports have no use for; wanted JUnit XML "
                "without one",
                name=self._name,
            )
        )

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth == 1 and tag not in ROOTS:
            raise _OtherRoot
        self.is_junit = True
        self._elements += 1
        if self._depth > DEEPEST:
            raise UsageError(_("{name}: found XML nested too deeply", name=self._name))
        if self._elements > MOST_ELEMENTS:
            raise UsageError(_("{name}: found more than {n} elements", name=self._name, n=MOST_ELEMENTS))
        if tag in ROOTS:
            self._begin_suite(tag, attributes)
        elif tag == "testcase":
            title = ".".join(text for key in ("classname", "name") if (text := attributes.get(key)))
            self._case = Row(title, "", "passed")
        elif tag in OUTCOMES and self._case is not None and self._case.outcome == "passed":
            told = attributes.get("message") or attributes.get("type") or ""
            self._case = Row(self._case.name, told, OUTCOMES[tag])

    def _begin_suite(self, tag: str, attributes: dict[str, str]) -> None:
        self.made = self.made or day_of(attributes.get("timestamp"))
        name = attributes.get("name", "")
        if name and len(self.names) < MOST:
            self.names.append(name)
        if tag == "testsuite":
            self._suites.append(name or "testsuite")

    def _end(self, tag: str) -> None:
        self._depth -= 1
        if tag == "testsuite":
            self._suites.pop()
        elif tag == "testcase" and self._case is not None:
            suite = self._suites[-1] if self._suites else "testsuites"
            self._counts.setdefault(suite, Counter())[self._case.outcome] += 1
            if self._case.outcome != "passed" and len(self.rows) < MOST:
                self.rows.append(self._case)
            self._case = None


def _suite(name: str, counts: Counter[str]) -> Row:
    others = [f"{n} {kind}" for kind, n in counts.items() if kind != "passed"]
    outcome = "failed" if counts["failed"] or counts["error"] else "passed"
    return Row(name, ", ".join([f"{counts.total()} tests", *others]), outcome)
