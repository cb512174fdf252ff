"""Files of up to 1 MB that are made to take much memory or time, each read in a process of its own with bounds.

    python -m tests.fuzz.large

prints one JSON line a file: its name, seconds of computing, megabytes, and what came of it.
"""

from __future__ import annotations

import bz2
import json
import os
import pickle
import resource
import signal
import sys
import time
import zlib
from collections.abc import Callable

from tests.fuzz.parsers import PARSERS, excel, outcome, zipped

SIZE = 2**20
PATIENCE = 60  # seconds after which a process is ended


def filled(unit: str | bytes, size: int = SIZE) -> bytes:
    """A unit again and again; with `%d` in it, numbered."""
    text = unit.encode() if isinstance(unit, str) else unit
    if b"%d" in text:
        return b"".join(text % number for number in range(size // (len(text) + 4)))
    return text * (size // len(text))


SHEET = '<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>'
ENTITIES = '<!DOCTYPE l [<!ENTITY a "aaaaaaaaaa">' + "".join(
    f'<!ENTITY {chr(98 + i)} "{f"&{chr(97 + i)};" * 10}">' for i in range(9)
)
LAUGHS = b"a: &a [x, x]\n" + b"".join(b"%c: &%c [%b]\n" % (98 + i, 98 + i, b"*%c," % (97 + i) * 9) for i in range(12))


def sheet(content: str) -> Callable[[], bytes]:
    """An Excel file with such rows."""
    return lambda: excel({"xl/worksheets/sheet1.xml": SHEET + content + "</sheetData></worksheet>"})


def bomb(size: int) -> bytes:
    """Zeros, compressed."""
    return zlib.compress(bytes(size))


LARGE: dict[tuple[str, str], Callable[[], bytes]] = {
    **{
        (reader, what): content
        for reader in ("yaml", "configuration", "environment.yml", "conda-lock.yml")
        for what, content in {
            "aliases of aliases": lambda: LAUGHS + b"dependencies: [*m]\npackage: [*m]\n",
            "deep lists": lambda: b"dependencies: " + b"[" * 300_000,
            "lists in lists": lambda: filled("- " * 90 + "\n"),
            "keys": lambda: filled("k%d: 1\n"),
            "a number to base 60": lambda: b"a: 1" + filled(":59"),
            "a day that is none": lambda: b"dependencies: [2001-99-99]\npackage: [2001-99-99]\n",
        }.items()
    },
    ("answers", "keys"): lambda: filled("k%d: 1\n"),
    ("answers.csv", "unknown ids"): lambda: b"id,part,reply\n" + filled("RE-R-SC-XX-%d,q1,a\n"),
    ("answers.csv", "columns"): lambda: b"id,part,reply" + filled(",a"),
    ("answers.xlsx", "entities"): lambda: excel(
        {"xl/worksheets/sheet1.xml": f'{ENTITIES}]>{SHEET}<row r="1"><c t="inlineStr"><is><t>&j;</t></is></c></row>'}
    ),
    ("answers.xlsx", "entities in UTF-16"): lambda: excel(
        {"xl/worksheets/sheet1.xml": f"{ENTITIES}]>{SHEET}<row><c><v>&j;</v></c></row>".encode("utf-16")}
    ),
    ("answers.xlsx", "columns far away"): sheet(
        "".join(f'<row r="{i}"><c r="XFD{i}"/></row>' for i in range(1, 20_000))
    ),
    ("answers.xlsx", "a row far away"): sheet('<row r="1048576"><c r="A1048576"/></row>'),
    ("answers.xlsx", "cells"): sheet('<row r="1">' + '<c r="A1"/>' * 1_000_000 + "</row>"),
    ("answers.xlsx", "deep"): sheet("<a>" * 200_000),
    ("answers.xlsx", "zeros"): lambda: excel({"xl/worksheets/sheet1.xml": bytes(2**28)}),
    ("prefill card.md", "headings"): lambda: b"# Training Data\n" + filled("# a\n"),
    ("prefill card.md", "a wide table"): lambda: (
        b"# Data\n\n" + filled("|a", SIZE // 2) + b"\n|-|\n" + filled("|a", SIZE // 2)
    ),
    ("prefill card.md", "unclosed marks"): lambda: b"# Training Data\n\n" + filled("![<a["),
    ("prefill card.md", "a number to base 60"): lambda: b"---\nlicense: 1" + filled(":59", 400_000) + b"\n---\n",
    ("prefill bom.json", "deep"): lambda: filled('{"a":'),
    ("prefill bom.json", "models"): lambda: (
        b'{"bomFormat": "CycloneDX", "specVersion": "1.6", "components": ['
        + filled('{"type":"machine-learning-model","name":"m%d"},')
        + b"{}]}"
    ),
    ("prefill spdx.json", "relationships"): lambda: (
        b'{"@context": "https://spdx.org/rdf/3.0.1/x", "@graph": ['
        + filled('{"type":"Relationship","from":"a","to":["b%d"],"relationshipType":"x"},')
        + b"{}]}"
    ),
    ("evidence inspect.eval", "zeros"): lambda: zipped({"header.json": bytes(2**28)}),
    ("evidence inspect.eval", "parts"): lambda: zipped({f"samples/{i}.json": b"" for i in range(9000)}),
    ("evidence inspect.eval", "deep"): lambda: zipped({"header.json": filled("[", 9_000_000)}),
    ("evidence evidently_07_snapshot.json", "results"): lambda: (
        b'{"timestamp":0,"tests_widgets":0,"top_level_metrics":["a"'
        + filled(',"a"', SIZE // 2)
        + b'],"metric_results":{"a":{"tests":['
        + filled("{},", SIZE // 2)
        + b"{}]}}}"
    ),
    ("evidence giskard3_suite.json", "deep"): lambda: b'{"results":' + filled("["),
    ("evidence junit.xml", "tests"): lambda: b"<testsuite>" + filled("<testcase/>") + b"</testsuite>",
    ("evidence.yaml", "keys"): lambda: filled("k%d: 1\n"),
    **{
        (reader, what): content
        for reader in ("poetry.lock", "pyproject.toml", "prefill poetry.lock")
        for what, content in {
            "a key of many parts": lambda: b"a" + filled(".a") + b"=1",
            "a header of many parts": lambda: b"[a" + filled(".a") + b"]",
            "tables": lambda: filled("[a%d.b.c.d]\n"),
            "deep": lambda: b"a=" + filled("["),
            "packages": lambda: filled('[[package]]\nname="a"\nversion="%d"\n', SIZE // 2),
        }.items()
    },
    ("requirements.txt", "packages"): lambda: filled("a%d\n"),
    ("requirements.txt", "versions of one"): lambda: filled("a==%d\n"),
    ("requirements.txt", "brackets"): lambda: b"a; " + filled("("),
    ("requirements.txt", "bounds of one"): lambda: b"a" + filled(">=1,"),
    ("requirements.txt", "an address"): lambda: b"https://" + filled("a-1.1@://"),
    ("Pipfile.lock", "packages"): lambda: b'{"default":{' + filled('"a%d":{},', SIZE // 2) + b'"b":{"hashes":3}}}',
    ("oscal", "deep"): lambda: filled('{"catalog":'),
    ("claims", "deep"): lambda: filled("["),
    ("claims", "a long number"): lambda: b'{"format":' + filled("9") + b"}",
    ("ledger", "deep"): lambda: filled("[") + b"\n",
    ("ledger", "lines"): lambda: filled("{}\n"),
    ("expression", "long"): lambda: filled("not "),
    ("retelling", "sentences"): lambda: filled("accuracy 0.82 lies across the target of 0.8 to 1: 9 samples. ", 5000),
    ("retelling", "items"): lambda: filled("training data, and; ", 20_000),
    **{
        ("pickle", what): lambda unit=unit: b"\x80\x04" + filled(unit) + b"."
        for what, unit in {"tuples": b"\x85", "doubled": b"22\x86", "marks": b"(", "names": b"ca%d\nb\n"}.items()
    },
    ("pickle", "a length of 2^62"): lambda: b"\x80\x04\x8e" + (2**62).to_bytes(8, "little") + b"x",
    ("model model.pt", "zeros"): lambda: zipped({f"m{number}": bytes(2**24) for number in range(64)}),
    ("model model.pt", "a bomb in a bomb"): lambda: zlib.compress(bomb(2**30)),
    ("model model.pt", "bz2"): lambda: bz2.compress(bytes(2**28)),
    ("model model.npy", "a header"): lambda: b"\x93NUMPY\x02\0" + (60_000).to_bytes(4, "little") + b"(" * 60_000,
    ("model model.h5", "configurations"): lambda: b"\x89HDF\r\n\x1a\n" + b'{"name":' * 600 + b"[" + filled("[],"),
    ("model model.json", "deep"): lambda: filled("["),
    ("model model.onnx", "parts"): lambda: filled(b"\x3a\x00"),
}


def bounded(name: str, content: bytes) -> dict[str, object]:
    """Read in a process of its own: what it takes beyond what this one has, and what came of it."""
    reading, writing = os.pipe()
    if not (child := os.fork()):
        signal.alarm(PATIENCE)
        resource.setrlimit(resource.RLIMIT_AS, (8 * 2**30, 8 * 2**30))
        before, start = _memory(), time.process_time()
        try:
            found = type(outcome(PARSERS[name], content)).__name__
        except BaseException as fault:  # noqa: BLE001 - that is what is looked for
            found = f"fault: {type(fault).__name__}: {fault}"[:200]
        seconds = time.process_time() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
        os.write(writing, json.dumps({"seconds": seconds, "megabytes": peak / 1e6, "found": found}).encode())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    return json.loads(told) if told else {"seconds": PATIENCE, "megabytes": 0, "found": "fault: it was killed"}


def _memory() -> int:
    """Bytes of memory that this process holds now."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def pace() -> float:
    """Seconds that a fixed piece of computing takes now, on a machine that others use too."""
    start = time.process_time()
    for number in range(40):
        pickle.loads(pickle.dumps([str(number)] * 20_000, protocol=0))
    return time.process_time() - start


def main() -> None:
    """Read all, or those whose reader is named."""
    for parser in PARSERS.values():
        outcome(parser, parser.sample())
    for (name, what), make in LARGE.items():
        if not sys.argv[1:] or name in sys.argv[1:]:
            content = make()
            told = {"name": name, "what": what, "size": len(content), "pace": pace(), **bounded(name, content)}
            print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
