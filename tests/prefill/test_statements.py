"""Statements: cleaned, bounded, never empty, written to YAML and read back the same."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from assessor import yamlfile
from assessor.model import Known, KnownFacts
from assessor.prefill.statements import (
    KEYS,
    LONGEST,
    MOST_STATEMENTS,
    Statements,
    bullets,
    clean,
    labelled,
    listed,
    mappings,
    member,
    merged,
    row,
    says_nothing,
    scalar,
    scalars,
    short,
)


def test_empty_and_placeholder_statements_are_not_taken() -> None:
    found = Statements("file")
    for text in ("", " \n", "[More Information Needed]", "TODO", "N/A", "*none*", "…", "\x00"):
        found.add("purpose", text)
    assert found.facts == {}


def test_a_statement_keeps_its_origin_and_is_taken_once() -> None:
    found = Statements("model card x")
    found.add("purpose", "sorts  letters\r\n\n", "section Uses")
    found.add("purpose", "sorts  letters")
    found.add("context", "an office")
    assert found.facts == {
        "purpose": [Known(value="sorts  letters", origin="model card x, section Uses")],
        "context": [Known(value="an office", origin="model card x")],
    }


def test_statements_of_a_key_are_limited() -> None:
    found = Statements("file")
    for number in range(MOST_STATEMENTS + 5):
        found.add("purpose", str(number))
    assert [item.value for item in found.facts["purpose"]] == [str(number) for number in range(MOST_STATEMENTS)]


def test_sources_are_merged_in_order_without_repetition() -> None:
    one, two = Known(value="a", origin="1"), Known(value="b", origin="2")
    again = Known(value="a", origin="2")
    found = merged([{"context": [one]}, {"purpose": [one], "context": [again, two]}])
    assert list(found.items()) == [("purpose", [one]), ("context", [one, two])]


def test_values_of_unknown_form() -> None:
    assert [scalar(value) for value in (True, 0.5, 3, "x", None, [], {}, "tbd", 16**5000)] == [
        "yes",
        "0.5",
        "3",
        "x",
        *[""] * 5,
    ]
    assert scalars(["a", None, {"b": 1}, 2]) == ["a", "2"]
    assert mappings([{"a": 1}, 2]) == [{"a": 1}]
    assert mappings({"a": 1}) == [{"a": 1}]
    assert mappings("a") == []
    assert member({"a": {"b": 1}}, "a", "b") == 1
    assert member({"a": [1]}, "a", "b") is None


def test_forms() -> None:
    assert bullets(["a\nb", " ", "c"]) == "- a b\n- c"
    assert row("a|b", "", "c\nd", "") == "a/b |  | c d"
    assert labelled({"x": "1", "y": "", "z": "2"}) == "x: 1; z: 2"
    assert listed([str(number) for number in range(62)]).endswith("58, 59 and 2 more")


@given(st.text())
def test_cleaned_text_is_safe_to_show_and_stays_clean(text: str) -> None:
    found = clean(text)
    assert len(found) <= LONGEST
    assert clean(found) == found
    assert not set(found) & set("\x1b\x07\r\u202e\ufeff\x85\u2028")
    found.encode()  # no half of a surrogate pair


@given(st.text(min_size=30), st.integers(10, 40))
def test_short_text_is_one_line(text: str, longest: int) -> None:
    found = short(text, longest)
    assert "\n" not in found
    assert len(found) <= longest


@given(st.dictionaries(st.sampled_from(KEYS), st.lists(st.text(), max_size=4)))
def test_statements_survive_their_file(texts: dict[str, list[str]]) -> None:
    found = Statements("file")
    for key, values in texts.items():
        for value in values:
            found.add(key, value, value)
    data = {key: [item.model_dump(mode="json") for item in items] for key, items in found.facts.items()}
    read = yamlfile.validate(yamlfile.parse(yamlfile.dump(data).encode(), "prefill.yaml"), KnownFacts)
    assert {key: list(items) for key, items in read.root.items()} == found.facts


@given(st.text())
def test_saying_nothing_is_decided_for_any_text(text: str) -> None:
    assert says_nothing(text) in {True, False}
