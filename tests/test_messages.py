"""What the program says in the reader's language, and what was stored in English, said again."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from importlib.resources import files

import pytest
from babel.messages.pofile import read_po
from hypothesis import given, settings
from hypothesis import strategies as st

from assessor.messages import (
    LANGUAGES,
    _,
    day,
    is_retold,
    language,
    localised_digits,
    number,
    plural,
    retold,
    speaking,
    use,
)

PLACE = re.compile(r"\{(\w+)\}")


@pytest.fixture(scope="module")
def german() -> dict[str, str]:
    """The German texts by the English ones."""
    with (files("assessor") / "locale" / "de.po").open("rb") as stream:
        return {str(item.id): str(item.string) for item in read_po(stream) if item.id and item.string}


# --- the language in use ---------------------------------------------------------------------------------------------


def test_a_language_is_spoken_for_a_while() -> None:
    assert language() == "en"
    with speaking("de"):
        assert language() == "de"
        with speaking("en"):
            assert language() == "en"
        assert language() == "de"
    assert language() == "en"


def test_the_language_before_comes_back_after_a_fault() -> None:
    with pytest.raises(RuntimeError), speaking("de"):
        raise RuntimeError
    assert language() == "en"


@pytest.mark.parametrize("wanted", ["fr", "", "DE"])
def test_a_language_there_is_not(wanted: str) -> None:
    with pytest.raises(ValueError, match=f"found '{wanted}', wanted one of en, de"):
        use(wanted)
    with pytest.raises(ValueError), speaking(wanted):
        pass
    assert language() == "en"


def test_each_thread_speaks_its_own() -> None:
    with speaking("de"), ThreadPoolExecutor(1) as other:
        assert other.submit(language).result() == "en"


# --- what is said now ------------------------------------------------------------------------------------------------


def test_places_are_filled() -> None:
    assert _("{n} of {total}", n=1, total=3) == "1 of 3"
    assert _("a {strange} text") == "a {strange} text"
    assert _("{text}", text="{not} a place") == "{not} a place"


def test_one_and_many() -> None:
    said = [plural("{n} file of {name}", "{n} files of {name}", n, name="Ada") for n in (0, 1, 2)]
    assert said == ["0 files of Ada", "1 file of Ada", "2 files of Ada"]


def test_known_texts_are_translated_and_others_stay(german: dict[str, str]) -> None:
    with speaking("de"):
        assert _("yes") == german["yes"] != "yes"
        assert _("a text that nobody wrote") == "a text that nobody wrote"
    assert _("yes") == "yes"


@pytest.mark.parametrize(
    ("value", "digits", "english", "other"),
    [
        (0.12345, 3, "0.123", "0,123"),
        (1234.5678, 3, "1235", "1235"),
        (-0.5, 3, "-0.5", "-0,5"),
        (0, 3, "0", "0"),
        (1e-7, 3, "1e-07", "1e-07"),
        (1.5e-7, 3, "1.5e-07", "1,5e-07"),
        (123456.7, 6, "123457", "123457"),
    ],
)
def test_numbers(value: float, digits: int, english: str, other: str) -> None:
    assert number(value, digits) == english
    with speaking("de"):
        assert number(value, digits) == other


def test_only_decimal_points_become_commas() -> None:
    with speaking("de"):
        assert localised_digits("1.5 of a.b. Then 2.") == "1,5 of a.b. Then 2."
    assert localised_digits("1.5") == "1.5"


@pytest.mark.parametrize(
    ("value", "english", "other"),
    [
        (date(2026, 11, 2), "2026-11-02", "02.11.2026"),
        (datetime(2026, 11, 21, 10, tzinfo=UTC), "2026-11-21", "21.11.2026"),
        (date(99, 1, 2), "0099-01-02", "02.01.0099"),
    ],
)
def test_days(value: date, english: str, other: str) -> None:
    assert day(value) == english
    with speaking("de"):
        assert day(value) == other


# --- what was stored in English --------------------------------------------------------------------------------------


def test_english_stays_as_it_is() -> None:
    for text in ("1 deviation", "anything at all", ""):
        assert retold(text) == text
        assert is_retold(text)


def test_every_text_is_recognised_with_its_places_filled(german: dict[str, str]) -> None:
    wrong = {}
    with speaking("de"):
        for english, other in german.items():
            values = {name: f"n{index}" for index, name in enumerate(dict.fromkeys(PLACE.findall(english)))}
            stored = english.format_map(values) if values else english
            wanted = other.format_map(values) if values else other
            if retold(stored) != wanted or not is_retold(stored):
                wrong[stored] = retold(stored)
    assert wrong == {}


@pytest.mark.parametrize("english", ["{n} deviations", "at most {high}"])
def test_numbers_in_places_get_their_comma(german: dict[str, str], english: str) -> None:
    (name,) = PLACE.findall(english)
    with speaking("de"):
        assert retold(english.format_map({name: "0.25"})) == german[english].format_map({name: "0,25"})


def test_a_sentence_nobody_translated_stays_and_is_marked() -> None:
    with speaking("de"):
        text = "Whatever somebody else measured, in 3.5 words"
        assert (retold(text), is_retold(text)) == (text, False)


@given(st.text(max_size=60), st.sampled_from(LANGUAGES))
@settings(max_examples=150, deadline=None)
def test_any_text_is_retold_or_left_alone(text: str, wanted: str) -> None:
    with speaking(wanted):
        said = retold(text)
        assert said == text or wanted != "en"
        assert is_retold(text) or said.count("\n") == text.count("\n")
