"""Results of AI Verify's tests, after `aiverify.testresult.schema.json`: 1.x in snake case, 2.x in camel case."""

from __future__ import annotations

from itertools import islice
from pathlib import PurePosixPath

from assessor.evidence_formats.reading import MOST, Document, Format, Reading, day_of, leaves
from assessor.model import EvidenceType
from assessor.prefill.statements import listed, member, scalar


def _recognises(document: Document) -> bool:
    dated = {"startTime", "testArguments"} <= document.keys() or {"start_time", "test_arguments"} <= document.keys()
    return dated and {"gid", "cid", "output"} <= document.keys()


def _read(document: Document, name: str) -> Reading:
    arguments = document.get("testArguments") or document.get("test_arguments")
    files = (scalar(member(arguments, key)) for key in ("modelFile", "testDataset"))
    return Reading(
        format="AI Verify test result",
        type=EvidenceType.TEST_REPORT,
        tool=f"AI Verify {scalar(document.get('cid'))}".strip(),
        version=scalar(document.get("version")),
        made=day_of(document.get("startTime") or document.get("start_time")),
        subject=listed(list(dict.fromkeys(PurePosixPath(file).name for file in files if file))),
        findings=tuple(islice(leaves(document.get("output")), MOST)),
    )


FORMAT = Format(_recognises, _read)
