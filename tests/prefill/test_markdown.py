"""Sections and blocks of Markdown."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assessor.prefill.markdown import blocks, name_of, sections, without_comments

MARKS = [
    "# ",
    "## ",
    "\n",
    "\n\n",
    "---",
    "===",
    "- ",
    "1. ",
    "|",
    "|-|-|\n",
    "```",
    "<!--",
    "-->",
    "**",
    "![",
    "](",
    "<b>",
]


def test_headings_of_both_kinds_and_none_in_code() -> None:
    text = "intro\n\n# One #\na\n```\n# no heading\n```\n\nTwo\n---\nb\n\n   ### Three\n#also none\n"
    assert [(section.level, section.title) for section in sections(text)] == [
        (0, ""),
        (1, "One"),
        (2, "Two"),
        (3, "Three"),
    ]
    assert sections(text)[1].lines == ["a", "```", "# no heading", "```", ""]


def test_a_rule_below_a_list_or_a_paragraph_of_two_lines_makes_no_heading() -> None:
    assert [section.level for section in sections("- a\n---\n\none\ntwo\n---\n\n| a |\n---\n")] == [0]


def test_comments_go_and_an_open_one_hides_the_rest() -> None:
    assert without_comments("a<!-- b -->c<!-- d\n e") == "ac"
    assert without_comments("a-->b") == "a-->b"


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("Bias, Risks, and Limitations", "bias risks and limitations"),
        ("Testing Data, Factors & Metrics", "testing data factors and metrics"),
        ("Model Examination [optional]", "model examination"),
        ("2. **Training Data**:", "training data"),
        ("⚠️ Limitations", "limitations"),
        ("[Uses](#uses)", "uses"),
        ("Out-of-scope use", "out of scope use"),
        ("🤗", ""),
    ],
)
def test_headings_are_compared_by_their_words(title: str, name: str) -> None:
    assert name_of(title) == name


def test_blocks_are_paragraphs_items_and_rows() -> None:
    text = """\
A paragraph in
two lines with <b>marks</b> and an ![image](x.png).

> quoted
* item one
  goes on
1) item two
***
| Group | F1 |
|:--|--:|
| women | 0.9 |
| men |  |

```
code  stays
```
"""
    assert blocks(text.split("\n")) == [
        "A paragraph in two lines with marks and an .",
        "quoted",
        "- item one goes on",
        "- item two",
        "- Group: women; F1: 0.9",
        "- Group: men",
        "code  stays",
    ]


@given(st.lists(st.sampled_from([*MARKS, "a", "é ", "\r", "\x00"]) | st.text(max_size=4), max_size=40).map("".join))
def test_any_text_has_sections_and_blocks(text: str) -> None:
    found = sections(text)
    assert found[0].level == 0
    assert all(1 <= section.level <= 6 for section in found[1:])
    for section in found:
        assert all(block.strip() for block in blocks(section.lines))


@pytest.mark.parametrize(
    "unit", [*MARKS, "<!--", "![", "[", "<a", "[a](", "a\n===\n", "- a\n b\n", "a|b\n-|-\n", " ", "\t"]
)
def test_long_hostile_text_takes_linear_time(unit: str) -> None:
    text = "# Uses\n" + unit * (200_000 // len(unit))
    started = time.monotonic()
    for section in sections(text):
        blocks(section.lines)
    assert time.monotonic() - started < 20  # a tenth of a second usually; hours where a step is quadratic
