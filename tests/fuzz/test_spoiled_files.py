"""No reader of strangers' bytes breaks: spoiled and strangely filled files are read, or refused in words.

`make test` takes the same examples each time, `make fuzz` new ones.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.parsers import PARSERS, TOLD, outcome

EXAMPLES = 40 if settings.default.derandomize else 500  # of each reader: the same ones, or with `make fuzz` new ones
STRUCTURED = [name for name in PARSERS if name.startswith(("configuration", "answers", "oscal", "claims", "result"))]
STRUCTURED += ["pack", "ledger", "Pipfile.lock", "environment.yml", "conda-lock.yml", "prefill bom.json"]
STRUCTURED += [name for name in PARSERS if name.startswith("evidence") and name.endswith((".json", ".yaml"))]
STRUCTURED = [name for name in (*STRUCTURED, "prefill spdx.json") if not name.endswith((".csv", ".xlsx", ".pdf"))]
WORDS = [
    *(
        b"{",
        b"}",
        b"[",
        b"]",
        b"(",
        b")",
        b"<",
        b'"',
        b"'",
        b":",
        b",",
        b"#",
        b"-",
        b"---\n",
        b"\n",
        b"\r",
        b"\t",
        b"\\",
    ),
    *(b"\0", b"\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xe2\x80\xae", b"\x1b[2J", b"&a ", b"*a", b"!!int ", b"<<: "),
    *(b"null", b"NaN", b"-1e999", b"9" * 400, b"9" * 5000, b"1:59:59", b"2001-99-99", b"../../etc/passwd", b"file:///"),
    *(b"\\ud800", b"[" * 200, b'{"a":' * 200, b"- " * 200, b"not " * 99, b"; ", b"$ref", b"{{ a }}", b"=cmd|'/C x'!A0"),
]


@st.composite
def spoiled(draw: st.DrawFn, sample: bytes) -> bytes:
    """A sample with up to four changes: bytes flipped, taken out, repeated, put in, cut off."""
    content = sample
    for _ in range(draw(st.integers(1, 4))):
        start, length = draw(st.integers(0, len(content))), draw(st.integers(1, 40))
        before, piece, after = content[:start], content[start : start + length], content[start + length :]
        match draw(st.sampled_from(["flip", "remove", "repeat", "insert", "replace", "cut"])):
            case "flip":
                mask = draw(st.integers(1, 255))
                content = before + bytes([piece[0] ^ mask] if piece else []) + piece[1:] + after
            case "remove":
                content = before + after
            case "repeat":
                content = before + piece * draw(st.sampled_from([2, 3, 100])) + after
            case "insert":
                content = before + draw(st.sampled_from(WORDS)) + piece + after
            case "replace":
                content = before + draw(st.sampled_from(WORDS)) + after
            case "cut":
                content = before
    return content


STRANGE: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        -1,
        2**53,
        10**30,
        1e308,
        float("nan"),
        float("inf"),
        "",
        " ",
        "a",
        "\0",
        "\ud800",
        "\u202e",
    ),
    *("../../x", "/etc/passwd", "x" * 5000, "high", "2001-99-99", [], {}, [None], [[]], {"": None}, {"a": {"b": []}}),
    *(["a", "a"], [1, "a", None], {"id": "a", "value": 1}, [{}], "{{ a }}", "[31m\x1b[0m"),
]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of all members of plain data."""
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, member in members:
        yield (*path, key)
        yield from places(member, (*path, key))


@st.composite
def strangely_filled(draw: st.DrawFn, sample: bytes) -> bytes:
    """A sample of plain data in which up to three members were taken out, doubled or filled with something strange."""
    data = json.loads(sample) if sample.startswith(b"{") else yaml.load(sample, Loader=yaml.CBaseLoader)
    for _ in range(draw(st.integers(1, 3))):
        found = list(places(data)) or [()]
        path = found[draw(st.integers(0, 10_000)) % len(found)]
        if not path:
            break
        inner = data
        for key in path[:-1]:
            inner = inner[key]
        match draw(st.sampled_from(["fill", "fill", "remove", "rename", "wrap"])):
            case "fill":
                inner[path[-1]] = deepcopy(draw(st.sampled_from(STRANGE)))
            case "remove":
                del inner[path[-1]]
            case "rename":
                if isinstance(inner, dict):
                    name = draw(st.sampled_from(["", "a", "id", "../x", "\ud800", "x" * 300]))
                    inner[name] = inner.pop(path[-1])
            case "wrap":
                inner[path[-1]] = [inner[path[-1]]]
    return json.dumps(data).encode()


@pytest.mark.slow
@pytest.mark.parametrize("name", PARSERS)
def test_the_sample_is_read(name: str) -> None:
    if name == "claims.pdf":
        return
    assert not isinstance(found := outcome(PARSERS[name], PARSERS[name].sample()), TOLD), found


@pytest.mark.parametrize("name", PARSERS)
def test_a_spoiled_file_is_read_or_refused_in_words(name: str) -> None:
    parser = PARSERS[name]

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(spoiled(parser.sample()))
    def holds(content: bytes) -> None:
        outcome(parser, content)

    holds()


@pytest.mark.slow
@pytest.mark.parametrize("name", STRUCTURED)
def test_a_strangely_filled_file_is_read_or_refused_in_words(name: str) -> None:
    parser = PARSERS[name]

    @settings(max_examples=2 * EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(strangely_filled(parser.sample()))
    def holds(content: bytes) -> None:
        outcome(parser, content + b"\n")

    holds()
