"""YAML that people edit: every fault with its line, and nothing lost on the way back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from assessor.errors import ConfigurationError, UsageError
from assessor.model import Answers, Configuration
from assessor.yamlfile import MAX_DEPTH, decoded, dump, parse, read, set_entry, set_key, validate

START = "format: 1\ncatalog: {version: 1.0.0}\nsystem: {name: a, version: '1'}\n"


def fault_of(text: str | bytes, model: type[BaseModel] = Configuration) -> str:
    with pytest.raises(ConfigurationError) as caught:
        validate(parse(text, "f.yaml"), model)
    return str(caught.value)


def test_lines_of_keys_and_items() -> None:
    document = parse("a:\n  - x\n  - b: 1\n\n# a remark\nc: |\n  text\nd: 2\n", "f.yaml")
    assert document.data == {"a": ["x", {"b": 1}], "c": "text\n", "d": 2}
    lines = {("a",): 1, ("a", 0): 2, ("a", 1): 3, ("a", 1, "b"): 3, ("c",): 6, ("d",): 8}
    assert document.lines == {(): 1, **lines}


def test_empty_text_is_no_data() -> None:
    assert parse("# only a remark\n", "f.yaml").data is None


def test_byte_order_mark_and_windows_line_ends() -> None:
    assert parse(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n", "f.yaml").data == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 1\nb: 'x\n", "f.yaml:3 not readable as YAML (column 1): found unexpected end of stream"),
        ("a: 1\n b: 2\n", "f.yaml:2 not readable as YAML (column 3): mapping values are not allowed"),
        ("a: 1\nb: @x\n", "f.yaml:2 not readable as YAML (column 4): found character that cannot start any token"),
        ("a: 1\n---\nb: 2\n", "f.yaml:2 not readable as YAML"),
        ("é: 1\nb: \x01\n", "f.yaml:2 found the character U+0001, which YAML does not allow"),
        (b"a: 1\nb: \xff\n", "f.yaml:2 found a byte that is not UTF-8, wanted UTF-8 text"),
        ("a: 1\nb: 2\na: 3\n", "f.yaml:3 key 'a' appears twice (first in line 1); keep one"),
        ("a:\n  b: 1\n  b: 1\n", "f.yaml:3 key 'b' appears twice (first in line 2); keep one"),
        ("a: &x [1]\nb: *x\n", "f.yaml:2 found the alias *x, wanted the text itself"),
        ("a: &x text\nb: *x\n", "f.yaml:2 found the alias *x, wanted the text itself"),
        ("a: 1\nb: 2026-13-45\n", "f.yaml:2 found '2026-13-45', which is no timestamp"),
        ("a: !!python/name:os.system x\n", "f.yaml:1 found 'x', which is no python/name:os.system"),
        ("<<: {a: 1}\n", "f.yaml:1 found '<<', which is no merge"),
        ("? [a]\n: 1\n", "f.yaml:1 found a key that is no plain text"),
        ("a: 1\n" + "b: " + "[" * 200_000, f"f.yaml:2 found more than {MAX_DEPTH} levels of nesting"),
    ],
)
def test_text_that_is_refused(text: str | bytes, told: str) -> None:
    assert fault_of(text).startswith(told)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (START + "polcy: {}\n", "f.yaml:4 polcy: unknown key 'polcy'; did you mean 'policy'?"),
        (
            START + "policy:\n  zzz: 1\n",
            "f.yaml:5 policy.zzz: unknown key 'zzz'; known here: mode, fail_on, incomplete, answers, contradictions, "
            "deviations, dimensions, needs, baseline, waivers",
        ),
        (
            START + "targets:\n  a.b: {interval: [0, 1], becaus: x}\n",
            "f.yaml:5 targets.a.b.becaus: unknown key 'becaus'; did you mean 'because'?",
        ),
        (
            START + "targets:\n  a.b:\n    interval: [0, x]\n    because: r\n",
            "f.yaml:6 targets.a.b.interval[1]: found 'x', wanted a valid number, unable to parse string as a number",
        ),
        (
            START + "policy:\n  waivers:\n  - {id: a.b, because: x, by: y, until: 2027-03-01}\n  - {id: a.b}\n",
            "f.yaml:7 policy.waivers[1]: wanted the key 'because', found none",
        ),
        (START + "targets: 3\n", "f.yaml:4 targets: found 3, wanted a valid dictionary"),
        (START + "policy:\n  fail_on: fail\n", "f.yaml:5 policy.fail_on: found 'fail', wanted a valid tuple"),
        (
            "format: 1\ncatalog: {version: 1.0.0}\nsystem: {version: '1'}\n",
            "f.yaml:3 system: wanted the key 'name', found none",
        ),
        (
            START + "protection_needs:\n  reliability: {level: low, because: x}\n",
            "f.yaml:4 protection_needs: reliability.level: found 'low', wanted medium or high: the catalog never skips "
            "reliability",
        ),
        (
            START + "target:\n  task: binry\n  model: {load: 'a:b'}\n  data: {test: {}}\n",
            "f.yaml:5 target.task: found 'binry', wanted 'binary', 'multiclass' or 'regression'",
        ),
        ("format: 2\n" + START[10:], "f.yaml:1 format: found 2, wanted 1"),
        ("", "f.yaml:1 found nothing, wanted a valid dictionary or instance of Configuration"),
    ],
)
def test_data_that_does_not_fit(text: str, told: str) -> None:
    assert told in fault_of(text, Configuration).splitlines()


def test_values_of_an_enum_are_told_as_they_are_written() -> None:
    told = fault_of("RE-S: {value: good, because: x, by: y, at: 2026-11-21T10:00:00Z}\n", Answers)
    assert told == (
        "f.yaml:1 RE-S.value: found 'good', wanted 'fulfilled', 'partly', 'not_fulfilled' or 'not_applicable'"
    )


def test_all_faults_are_told_at_once() -> None:
    assert len(fault_of("format: 3\ncatalog: {version: 1}\nsystem: {name: ''}\n", Configuration).splitlines()) == 4


def test_a_section_keeps_its_lines() -> None:
    document = parse("a: 1\nchecks:\n  x.y:\n    eps: wide\n    epz: 1\n", "f.yaml")

    class Params(BaseModel):
        model_config = ConfigDict(extra="forbid")
        eps: float = 0.1

    with pytest.raises(ConfigurationError) as caught:
        validate(document.section("checks", "x.y"), Params)
    assert str(caught.value).splitlines() == [
        "f.yaml:4 checks.x.y.eps: found 'wide', wanted a valid number, unable to parse string as a number",
        "f.yaml:5 checks.x.y.epz: unknown key 'epz'; did you mean 'eps'?",
    ]


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.yaml: cannot read it: No such file"):
        read(tmp_path / "none.yaml")


def test_a_file_is_called_by_its_path_unless_it_has_a_name(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: 1\n")
    assert read(tmp_path / "a.yaml").name == str(tmp_path / "a.yaml")
    assert read(tmp_path / "a.yaml", "a.yaml").name == "a.yaml"


# --- writing ---------------------------------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
ODD = st.sampled_from(
    ["yes", "null", "~", "1e3", "0x1", "2026-01-01", "<<", "=", " x", "x ", "a\n b\n", "\n\nx", "- a", "#", ":"]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT | ODD
DATA = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT | ODD, inner, max_size=3), max_leaves=8
)


@given(DATA)
@example({"a": "x\n\n  y\n\n"})
@example("\n x")
@example({"k" * 200: ["\x85", "\u2028", "\ufeff", "\x7f", "\t"]})
@settings(max_examples=150, deadline=None)
def test_what_is_dumped_reads_back_equal(data: Any) -> None:
    assert parse(dump(data), "f.yaml").data == data


@given(st.dictionaries(TEXT | ODD, DATA, min_size=1, max_size=4), DATA, st.data())
@settings(max_examples=100, deadline=None)
def test_setting_a_key_changes_nothing_else(data: dict[str, Any], value: Any, draw: Any) -> None:
    key = draw.draw(st.sampled_from([*data, "a new key"]))
    blocks = {name: f"# before\n{dump({name: inner})}" for name, inner in data.items()}
    text = "".join(blocks.values()) + "# the end\n"
    changed = set_key(text, key, value, "f.yaml")
    assert parse(changed, "f.yaml").data == {**data, key: value}
    new = dump({key: value})
    expected = "".join(f"# before\n{new}" if name == key else block for name, block in blocks.items()) + "# the end\n"
    if "+\n" not in text:  # blank lines that end a kept text go with it
        assert changed == (expected if key in data else expected + new)


def test_other_blocks_stay_byte_for_byte() -> None:
    text = (
        "# head\r\nA:   {x: 1}   # why\r\n\r\n# of B\r\nB:\r\n  x: |\r\n    # no remark\r\n\r\n# of C\r\nC: 'q'  # end"
    )
    assert set_key(text, "B", {"y": 2}, "f") == (
        "# head\r\nA:   {x: 1}   # why\r\n\r\n# of B\r\nB:\n  y: 2\n\r\n# of C\r\nC: 'q'  # end"
    )
    assert set_key(text, "C", 1, "f").endswith("# of C\r\nC: 1\n")
    assert set_key(text, "D", 1, "f") == text + "\nD: 1\n"


@pytest.mark.parametrize(
    ("text", "changed"), [("", "a: 1\n"), ("# x", "# x\na: 1\n"), ("---\nb: 2", "---\nb: 2\na: 1\n")]
)
def test_the_first_key(text: str, changed: str) -> None:
    assert set_key(text, "a", 1, "f") == changed


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("- a\n", "f:1 found no block mapping, wanted `key: value` lines"),
        ("{b: 1}\n", "f:1 found no block mapping, wanted `key: value` lines"),
        ("b: 1\nb: 2\n", "f:2 key 'b' appears twice (first in line 1); keep one"),
        ("b: 1\n...\n", "f:3 not readable as YAML"),
    ],
)
def test_a_file_that_cannot_take_a_key_is_refused(text: str, told: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        set_key(text, "a", 1, "f")
    assert str(caught.value).startswith(told)


# --- one entry of a section ------------------------------------------------------------------------------------------

KEYS = st.sampled_from(["a", "b", "c d", "x.y", "yes", "1", "#", "-"])
SECTIONS = st.dictionaries(st.sampled_from(["first", "second", "third"]), st.dictionaries(KEYS, DATA, max_size=3))
REMARK = st.sampled_from(["", "# a remark\n", "\n", "  # far in\n", "# one\n\n# two\n"])


@st.composite
def commented(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """A file of sections in block style with remarks between entries, and what it holds."""
    data = draw(SECTIONS)
    margin = " " * draw(st.sampled_from([2, 4]))
    lines = [draw(REMARK)]
    for section, entries in data.items():
        head = draw(st.sampled_from(["", "  # why"]))
        lines.append(f"{section}:{head}\n" if entries else f"{section}: {{}}{head}\n")
        for key, value in entries.items():
            lines.append(draw(st.sampled_from(["", f"{margin}# of this entry\n", "\n"])))
            lines += [margin + line if line.strip() else line for line in dump({key: value}).splitlines(keepends=True)]
        lines.append(draw(REMARK))
    return "".join(lines), data


@given(commented(), st.sampled_from(["first", "second", "new"]), KEYS, DATA)
@example(("", {}), "new", "a", 1)
@example(("# only a remark", {}), "new", "a", None)
@example(("first:\n  # commented out: 1\nsecond:\n  a: 1", {"first": None, "second": {"a": 1}}), "first", "a", "x")
@settings(max_examples=200, deadline=None)
def test_setting_an_entry_changes_nothing_else(
    file: tuple[str, dict[str, Any]], section: str, key: str, value: Any
) -> None:
    text, data = file
    assume_readable(text, data)
    changed = set_entry(text, section, key, value, "f.yaml")
    entries = data.get(section) or {}
    assert parse(changed, "f.yaml").data == {**data, section: {**entries, key: value}}
    assert [line for line in remarks(text) if line not in remarks(changed)] == []
    again = set_entry(changed, section, key, value, "f.yaml")
    assert again == changed


def assume_readable(text: str, data: dict[str, Any]) -> None:
    """Leave out files that are not what they were meant to be, such as with a remark inside a block of text."""
    assume((parse(text, "f.yaml").data or {}) == data)


def remarks(text: str) -> list[str]:
    """Lines that are nothing but a remark of ours."""
    return [
        line for line in text.splitlines() if line.strip() in {"# a remark", "# of this entry", "# far in", "# one"}
    ]


TARGETS = """# by hand
policy: {}  # none yet

targets:  # set by people
    # of the first
    a.b: {interval: [0, 1], because: x}   # end

    # of the second
    c.d:
        interval: [0, 1]
        because: |
            two
            # no remark
            lines
    # left at the end

# of the system
system: {name: a}
"""


def test_an_entry_is_replaced_in_its_place() -> None:
    new = {"interval": [None, 2], "because": "y"}
    assert set_entry(TARGETS, "targets", "a.b", new, "f") == TARGETS.replace(
        "    a.b: {interval: [0, 1], because: x}   # end\n",
        "    a.b:\n      interval:\n      - null\n      - 2\n      because: y\n",
    )
    before, after = TARGETS.split("    c.d:")
    assert set_entry(TARGETS, "targets", "c.d", 1, "f") == before + "    c.d: 1\n" + after[after.index("    # left") :]


def test_an_entry_is_added_after_the_last_one() -> None:
    end = "            lines\n"
    assert set_entry(TARGETS, "targets", "e.f", 1, "f") == TARGETS.replace(end, end + "    e.f: 1\n")
    assert set_entry("a:\n  b: 1", "a", "c", 2, "f") == "a:\n  b: 1\n  c: 2\n"
    assert set_entry("a:\r\n  b: 1\r\n", "a", "c", 2, "f") == "a:\r\n  b: 1\r\n  c: 2\n"


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("", "targets:\n  a.b: 1\n"),
        ("x: 1\n", "x: 1\ntargets:\n  a.b: 1\n"),
        ("targets: {}  # none\nx: 1\n", "targets:\n  a.b: 1\nx: 1\n"),
        ("targets: {c.d: 2}\n", "targets:\n  c.d: 2\n  a.b: 1\n"),
        ("targets:\n  # c.d: 2\nx: 1\n", "targets:\n  a.b: 1\n  # c.d: 2\nx: 1\n"),
        ("targets: null\n", "targets:\n  a.b: 1\n"),
    ],
)
def test_a_section_is_made_where_there_is_none(text: str, changed: str) -> None:
    assert set_entry(text, "targets", "a.b", 1, "f") == changed


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("- a\n", "f:1 found no block mapping, wanted `key: value` lines"),
        ("{b: 1}\n", "f:1 found no block mapping, wanted `key: value` lines"),
        ("targets: &x {a: 1}\nb: *x\n", "f:2 found the alias *x, wanted the text itself"),
        ("targets:\n  a.b: 1\n  a.b: 2\n", "f:3 key 'a.b' appears twice (first in line 2); keep one"),
        ("targets:\n  1: x\n", "f:1 cannot put 'targets.1' into this file without changing something else"),
    ],
)
def test_a_file_that_cannot_take_an_entry_is_refused(text: str, told: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        set_entry(text, "targets", "1", 1, "f")
    assert str(caught.value) == told


def test_data_that_is_shared_is_written_out() -> None:
    shared = {"a": [1]}
    assert parse(dump({"x": shared, "y": shared, "z": [shared["a"]]}), "f").data == {
        "x": shared,
        "y": shared,
        "z": [[1]],
    }


def test_several_lines_are_written_as_a_block() -> None:
    assert dump({"because": "first\nsecond\n"}) == "because: |\n  first\n  second\n"


def test_decoded_drops_the_mark_and_keeps_line_ends() -> None:
    assert decoded(b"\xef\xbb\xbfa\r\n", "f") == "a\r\n"
