"""Replies of every type: typed, kept, checked where they are stored, and ready to be typed again."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from drawn import NUMBERS, replies_to
from hypothesis import example, given, settings
from hypothesis import strategies as st

from assessor.errors import UsageError
from assessor.messages import speaking
from assessor.model import Answer, Catalog, Param, ParamType, Question, QuestionType, Reply, Verdict
from assessor.replies import (
    ANSWERS,
    cells,
    checked_param,
    checked_reply,
    checked_verdict,
    chosen,
    editable,
    editable_param,
    label,
    normalised,
    param_fault,
    reply_fault,
    shown_param,
    shown_reply,
)


def a_question(kind: str, **fields: Any) -> Question:
    return Question(id="q", type=QuestionType(kind), text="What?", **fields)


def a_param(kind: str, **fields: Any) -> Param:
    return Param(id="p", type=ParamType(kind), label="What?", **fields)


YES_NO = a_question("yes_no")
CHOICE = a_question("choice", options=("low", "medium", "long, and more", "2"))
SEVERAL = a_question("several", options=("none", "faces", "face shapes", "voices"))
TABLE = a_question("table", columns=("who", "what", "when"))
NUMBER, INTERVAL = a_question("number", unit="days"), a_question("interval", unit="1")
TEXT, FILE, PERSON, DATE = (a_question(kind) for kind in ("text", "file", "person", "date"))
GERMAN = a_question("choice", options=("low", "high"), labels={"low": "gering", "high": "hoch"})


def rows(*filled: tuple[str, str, str]) -> tuple[dict[str, str], ...]:
    return tuple(dict(zip(TABLE.columns, row, strict=True)) for row in filled)


# --- typed -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "typed", "kept"),
    [
        (TEXT, "  some text \n", "some text"),
        (TEXT, "two\nlines", "two\nlines"),
        (FILE, " a/b.pdf", "a/b.pdf"),
        (PERSON, "Ms Brandt, head of HR ", "Ms Brandt, head of HR"),
        (YES_NO, "yes", "yes"),
        (YES_NO, "N", "no"),
        (YES_NO, "1", "yes"),
        (CHOICE, "1", "low"),
        (CHOICE, "MED", "medium"),
        (CHOICE, "long, and more", "long, and more"),
        (CHOICE, "2", "2"),  # a word goes before a number
        (CHOICE, "3", "long, and more"),
        (GERMAN, "hoch", "high"),
        (GERMAN, "GER", "low"),
        (GERMAN, "low", "low"),
        (SEVERAL, "faces", ("faces",)),
        (SEVERAL, "faces, voices", ("faces", "voices")),
        (SEVERAL, "2;4; 2", ("faces", "voices")),
        (SEVERAL, "voices,\nface shapes,", ("voices", "face shapes")),
        (SEVERAL, "none", ("none",)),
        (NUMBER, "12", 12.0),
        (NUMBER, " -0,5 ", -0.5),
        (NUMBER, "+.5", 0.5),
        (NUMBER, "1e-3", 0.001),
        (NUMBER, "3.", 3.0),
        (INTERVAL, "0..0.1", (0.0, 0.1)),
        (INTERVAL, "0…0,1", (0.0, 0.1)),
        (INTERVAL, "[0, 0.1]", (0.0, 0.1)),
        (INTERVAL, "0,5, 0,9", (0.5, 0.9)),
        (INTERVAL, "0 to 0.1", (0.0, 0.1)),
        (INTERVAL, "0 bis 0,1", (0.0, 0.1)),
        (INTERVAL, "-2; -1", (-2.0, -1.0)),
        (INTERVAL, "..0.1", (None, 0.1)),
        (INTERVAL, "0.8..", (0.8, None)),
        (INTERVAL, "5..5", (5.0, 5.0)),
        (DATE, "2026-11-21", "2026-11-21"),
        (DATE, " 1.2.2026 ", "2026-02-01"),
        (TABLE, "Ada | reads | daily", rows(("Ada", "reads", "daily"))),
        (TABLE, "| Ada | reads |", rows(("Ada", "reads", ""))),
        (TABLE, "Ada\n\n |  |\nBob | | weekly", rows(("Ada", "", ""), ("Bob", "", "weekly"))),
        (TABLE, "| | reads | daily |", rows(("", "reads", "daily"))),
        (TABLE, r"a\|b | c\|", rows(("a|b", "c|", ""))),
    ],
)
def test_typed_replies(question: Question, typed: str, kept: Reply) -> None:
    found = checked_reply(question, typed)
    assert found == kept
    assert type(found) is type(kept)
    assert reply_fault(question, found) == ""
    assert normalised(question, found) == found


@pytest.mark.parametrize(
    ("question", "typed", "told"),
    [
        (TEXT, "  ", "found an empty reply, wanted some text"),
        (YES_NO, "", "found an empty reply, wanted some text"),
        (YES_NO, "perhaps", "found 'perhaps', wanted one of: yes, no"),
        (CHOICE, "lo", "found 'lo', wanted one of: low, medium, long, and more, 2"),
        (CHOICE, " 5 ", "found '5', wanted one of: low, medium, long, and more, 2"),
        (CHOICE, "0", "found '0', wanted one of: low, medium, long, and more, 2"),
        (CHOICE, "²", "found '²', wanted one of: low, medium, long, and more, 2"),
        (CHOICE, "9" * 5000, f"found '{'9' * 5000}', wanted one of: low, medium, long, and more, 2"),
        (GERMAN, "mittel", "found 'mittel', wanted one of: gering, hoch"),
        (SEVERAL, "faces, hands", "found 'hands', wanted one of: none, faces, face shapes, voices"),
        (SEVERAL, "none, faces", "found 'none' among others, wanted it alone"),
        (SEVERAL, ",;", "found an empty reply, wanted some text"),
        (NUMBER, "twelve", "found 'twelve', wanted a number"),
        (NUMBER, "1.234,5", "found '1.234,5', wanted a number"),
        (NUMBER, "1e999", "found '1e999', wanted a number"),
        (NUMBER, "nan", "found 'nan', wanted a number"),
        (NUMBER, "12 days", "found '12 days', wanted a number"),
        (INTERVAL, "0.1", "found '0.1', wanted an interval such as 0..0.1, or ..0.1, or 0.8.."),
        (INTERVAL, "..", "found '..', wanted an interval such as 0..0.1, or ..0.1, or 0.8.."),
        (INTERVAL, "1..0", "found '1..0', wanted the lower end first"),
        (INTERVAL, "0..inf", "found 'inf', wanted a number"),
        (INTERVAL, "1..2..3", "found '2..3', wanted a number"),
        (DATE, "21/11/2026", "found '21/11/2026', wanted a day such as 2026-11-21"),
        (DATE, "2026-02-30", "found '2026-02-30', wanted a day such as 2026-11-21"),
        (TABLE, "a | b | c | d", "found 4 cells in 'a | b | c | d', wanted at most 3: who | what | when"),
        (TABLE, "| |\n|", "found an empty reply, wanted some text"),
    ],
)
def test_what_does_not_fit_is_refused(question: Question, typed: str, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        checked_reply(question, typed)
    assert str(caught.value) == told


EVERY = (YES_NO, CHOICE, SEVERAL, TABLE, NUMBER, INTERVAL, TEXT, FILE, PERSON, DATE, GERMAN)


@given(
    st.sampled_from(EVERY),
    st.text(max_size=12) | st.lists(st.sampled_from([*"0123.,;|-e[]\\ \n", "yes", "faces", "2026"])).map("".join),
)
@example(CHOICE, "")
@settings(max_examples=300, deadline=None)
def test_any_text_is_a_sound_reply_or_refused(question: Question, typed: str) -> None:
    try:
        kept = checked_reply(question, typed)
    except UsageError:
        return
    assert reply_fault(question, kept) == ""
    assert checked_reply(question, editable(question, kept)) == kept


def test_every_choice_of_the_catalog_stands_for_itself(catalog: Catalog) -> None:
    for item in catalog.requirements:
        for question in item.questions:
            for number, choice in enumerate(question.choices, start=1):
                assert chosen(choice, question.choices, question.labels) == choice
                assert chosen(str(number), question.choices, question.labels) == choice


# --- stored ----------------------------------------------------------------------------------------------------------


@st.composite
def stored(draw: st.DrawFn) -> tuple[Question, Reply]:
    question = draw(st.sampled_from(EVERY))
    return question, draw(replies_to(question))


@pytest.mark.slow
@given(stored(), st.sampled_from(["en", "de"]))
@example((NUMBER, 1234567.125), "en")
@example((INTERVAL, (1e-7, 1e22)), "de")
@example((TABLE, rows(("", "a|", "\\"), ("x", "", ""))), "en")
@example((DATE, "0099-01-02"), "de")
@settings(max_examples=300, deadline=None)
def test_typed_kept_and_typed_again(one: tuple[Question, Reply], language: str) -> None:
    question, reply = one
    assert reply_fault(question, reply) == ""
    kept = Answer.model_validate(
        {"value": "partly", "because": "x", "by": "y", "at": "2026-11-21T10:00:00Z", "replies": {"q": reply}}
    )
    again = Answer.model_validate_json(kept.model_dump_json()).replies["q"]
    assert normalised(question, again) == reply
    assert reply_fault(question, again) == ""
    with speaking(language):
        assert checked_reply(question, editable(question, reply)) == reply
        assert shown_reply(question, reply)


@pytest.mark.parametrize(
    ("question", "reply", "told"),
    [
        (YES_NO, "maybe", "found 'maybe', wanted one of: yes, no"),
        (CHOICE, 2.0, "found '2.0', wanted one of: low, medium, long, and more, 2"),
        (SEVERAL, ("faces", "hands"), "found '('faces', 'hands')', wanted one of: none, faces, face shapes, voices"),
        (SEVERAL, ("none", "faces"), "found 'none' among others, wanted it alone"),
        (SEVERAL, (), "found an empty reply, wanted some text"),
        (SEVERAL, 3.0, "found '3.0', wanted one of: none, faces, face shapes, voices"),
        (NUMBER, "12", "found '12', wanted a number"),
        (INTERVAL, (None, None), "found '(None, None)', wanted two numbers"),
        (INTERVAL, (1.0, 0.0), "found '(1.0, 0.0)', wanted the lower end first"),
        (INTERVAL, ("a", "b"), "found '('a', 'b')', wanted two numbers"),
        (INTERVAL, 1.0, "found '1.0', wanted two numbers"),
        (TABLE, ({"who": "Ada", "whom": "Bob"},), "found the column 'whom', wanted: who, what, when"),
        (TABLE, "Ada", "found 'Ada', wanted a list of rows"),
        (TABLE, ("Ada",), "found '('Ada',)', wanted a list of rows"),
        (DATE, "tomorrow", "found 'tomorrow', wanted a day such as 2026-11-21"),
        (DATE, 2026.0, "found '2026.0', wanted a day such as 2026-11-21"),
        (TEXT, 3.0, "found '3.0', wanted some text"),
        (FILE, ("a", "b"), "found '('a', 'b')', wanted some text"),
    ],
)
def test_faults_of_stored_replies(question: Question, reply: Reply, told: str) -> None:
    assert reply_fault(question, reply) == told


@pytest.mark.parametrize(
    ("question", "reply", "kept"),
    [
        (SEVERAL, "faces", ("faces",)),
        (SEVERAL, ("faces", "faces"), ("faces",)),
        (DATE, "21.11.2026", "2026-11-21"),
        (TEXT, "x", "x"),
    ],
)
def test_the_one_form(question: Question, reply: Reply, kept: Reply) -> None:
    assert reply_fault(question, reply) == ""
    assert normalised(question, reply) == kept


def test_an_empty_cell_of_a_file_stays_empty() -> None:
    data = {"value": "partly", "because": "x", "by": "y", "at": "2026-11-21T10:00:00Z"}
    kept = Answer.model_validate({**data, "replies": {"q": [{"who": None, "what": 3, "when": date(2026, 11, 21)}]}})
    assert kept.replies["q"] == ({"who": "", "what": "3", "when": "2026-11-21"},)


# --- shown -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "reply", "english", "german"),
    [
        (NUMBER, 1234.5, "1234.5 days", "1234,5 days"),
        (INTERVAL, (0.0, 0.25), "0 to 0.25", None),
        (INTERVAL, (None, 0.1), "at most 0.1", None),
        (INTERVAL, (0.8, None), "at least 0.8", None),
        (DATE, "2026-11-21", "2026-11-21", "21.11.2026"),
        (SEVERAL, ("faces", "voices"), "faces, voices", "faces, voices"),
        (GERMAN, "high", "hoch", "hoch"),
        (TABLE, rows(("Ada", "", "daily"), ("Bob", "a|b", "")), "Ada |  | daily\nBob | a|b | ", None),
        (TEXT, "a 0.5 b", "a 0.5 b", "a 0.5 b"),
    ],
)
def test_shown_replies(question: Question, reply: Reply, english: str, german: str | None) -> None:
    assert shown_reply(question, reply) == english
    if german is not None:
        with speaking("de"):
            assert shown_reply(question, reply) == german


def test_labels_and_cells() -> None:
    assert label(GERMAN, "low") == "gering"
    assert label(YES_NO, "yes") == "yes"
    assert label(CHOICE, "low") == "low"
    assert cells(TABLE, {"when": "now", "who": "Ada"}) == ["Ada", "", "now"]


# --- verdicts and params ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("fulfilled", Verdict.FULFILLED),
        (" Not applicable ", Verdict.NOT_APPLICABLE),
        ("not_f", Verdict.NOT_FULFILLED),
        ("p", Verdict.PARTLY),
        ("3", Verdict.NOT_FULFILLED),
        *[(str(verdict), verdict) for verdict in ANSWERS],
    ],
)
def test_verdicts(reply: str, verdict: Verdict) -> None:
    assert checked_verdict(reply) is verdict


@pytest.mark.parametrize("reply", ["", "not", "5", "³", "not_assessed", "good"])
def test_no_verdict(reply: str) -> None:
    with pytest.raises(UsageError) as caught:
        checked_verdict(reply)
    found = reply.replace("_", " ")
    assert str(caught.value) == f"found '{found}', wanted one of: fulfilled, partly, not fulfilled, not applicable"


SHARE, DAYS = a_param("interval", unit="1"), a_param("number", unit="days")
METRIC, FREE = a_param("choice", options=("odds", "parity"), labels={"odds": "Chancen"}), a_param("text")


@pytest.mark.parametrize(
    ("param", "typed", "kept", "shown"),
    [
        (SHARE, "0..0,1", (0.0, 0.1), "0 to 0.1"),
        (DAYS, "30", 30.0, "30 days"),
        (METRIC, "cha", "odds", "Chancen"),
        (METRIC, "2", "parity", "parity"),
        (FREE, " any ", "any", "any"),
    ],
)
def test_params(param: Param, typed: str, kept: object, shown: str) -> None:
    assert checked_param(param, typed) == kept
    assert param_fault(param, kept) == ""
    assert shown_param(param, kept) == shown
    assert checked_param(param, editable_param(param, kept)) == kept


@given(NUMBERS, st.none() | NUMBERS)
@settings(max_examples=60, deadline=None)
def test_params_are_typed_again_with_all_digits(low: float, high: float | None) -> None:
    ends = (low, None if high is None else max(low, high))
    assert checked_param(SHARE, editable_param(SHARE, ends)) == ends
    assert checked_param(DAYS, editable_param(DAYS, low)) == low


@pytest.mark.parametrize(
    ("param", "typed", "told"),
    [
        (SHARE, "0.1", "found '0.1', wanted an interval such as 0..0.1, or ..0.1, or 0.8.."),
        (DAYS, "30 days", "found '30 days', wanted a number"),
        (METRIC, "x", "found 'x', wanted one of: Chancen, parity"),
        (FREE, " ", "found an empty reply, wanted some text"),
    ],
)
def test_params_that_do_not_fit(param: Param, typed: str, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        checked_param(param, typed)
    assert str(caught.value) == told


@pytest.mark.parametrize(
    ("param", "value", "told"),
    [
        (SHARE, 0.1, "found '0.1', wanted two numbers"),
        (SHARE, (1.0, 0.0), "found '(1.0, 0.0)', wanted the lower end first"),
        (DAYS, "often", "found 'often', wanted a number"),
        (METRIC, "x", "found 'x', wanted one of: odds, parity"),
        (FREE, 3.0, "found '3.0', wanted some text"),
    ],
)
def test_faults_of_stored_params(param: Param, value: object, told: str) -> None:
    assert param_fault(param, value) == told
