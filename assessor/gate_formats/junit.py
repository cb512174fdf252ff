"""JUnit XML, as Jenkins, GitLab and others read it: a test case a finding, a test suite a kind."""

from __future__ import annotations

import re
from xml.etree import ElementTree as Xml

from assessor.gate import Kind
from assessor.gate_formats.notices import GateReport, Group, Notice

FORBIDDEN_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
OUTCOMES = {Group.BLOCKING: "failure", Group.INCOMPLETE: "error"}


def written(report: GateReport) -> str:
    """As one document."""
    totals = _totals(report.notices)
    totals.pop("skipped")  # Jenkins' schema has no such attribute here, only in the suites
    suites = Xml.Element("testsuites", {"name": "assessor gate", **totals})
    for kind in Kind:
        members = tuple(item for item in report.notices if item.finding.kind is kind)
        if members:
            suite = Xml.SubElement(suites, "testsuite", {"name": f"assessor.gate.{kind}", **_totals(members)})
            for item in members:
                _case(suite, item)
    Xml.indent(suites)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + Xml.tostring(suites, encoding="unicode") + "\n"


def _outcome(item: Notice) -> str:
    """Element that tells how a case ended; empty where it passed."""
    if item.group is Group.INCOMPLETE and not item.finding.stops:
        return "skipped"
    return "" if item.group is Group.PASSED else OUTCOMES.get(item.group, "skipped")


def _totals(items: tuple[Notice, ...]) -> dict[str, str]:
    found = [_outcome(item) for item in items]
    counted = {"failures": "failure", "errors": "error", "skipped": "skipped"}
    return {"tests": str(len(found)), **{name: str(found.count(word)) for name, word in counted.items()}}


def _case(suite: Xml.Element, item: Notice) -> None:
    finding = item.finding
    name = f"{finding.id} ({finding.against})" if finding.against else finding.id
    case = Xml.SubElement(suite, "testcase", name=_clean(name), classname=f"assessor.gate.{finding.kind}", time="0")
    outcome, said = _outcome(item), _clean(f"{item.group.told}: {finding.status}: {finding.sentence}")
    if outcome == "skipped":
        Xml.SubElement(case, outcome, message=said)
    elif outcome:
        told = Xml.SubElement(case, outcome, message=said, type=finding.status)
        told.text = _clean(f"{item.place.file}:{item.place.line} {finding.sentence}")


def _clean(text: str) -> str:
    r"""Text with what XML 1.0 cannot hold written out.

    >>> print(_clean("a\x1bb"))
    a\x1bb
    """
    return FORBIDDEN_IN_XML.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
