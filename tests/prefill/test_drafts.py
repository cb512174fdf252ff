"""What was found becomes a draft only where it is a reply of the question's type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assessor.applicability import Scope
from assessor.model import Answer, Catalog, CheckRun, Configuration, Known, Question, QuestionType, Reply
from assessor.questionnaire import Draft, drafts
from assessor.replies import checked_reply, editable, reply_fault

COLUMNS = ("what", "how", "who")
Make = Callable[..., Any]


def question(kind: QuestionType, *prefill: str) -> Question:
    options = ("resampling", "reweighing", "none") if kind in {QuestionType.CHOICE, QuestionType.SEVERAL} else ()
    columns = COLUMNS if kind is QuestionType.TABLE else ()
    return Question(
        id="q", type=kind, text="?", options=options, columns=columns, prefill=prefill or ("known:purpose",)
    )


@pytest.fixture
def offered(catalog: Catalog, configure: Make) -> Callable[..., list[Draft]]:
    """Drafts of a question for statements found in a file, answers and results."""

    def offer(
        asked: Question, *texts: str, answers: dict[str, Answer] | None = None, runs: dict[str, CheckRun] | None = None
    ) -> list[Draft]:
        configuration: Configuration = configure()
        known = {"purpose": [Known(value=text, origin="card") for text in texts]}
        return list(drafts(asked, Scope(catalog, configuration, answers or {}), runs or {}, known))

    return offer


def rows(*cells: tuple[str, ...]) -> tuple[dict[str, str], ...]:
    return tuple(dict(zip(COLUMNS, (*row, "", "", ""), strict=False)) for row in cells)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (QuestionType.TEXT, "- a\n- b", "- a\n- b"),
        (QuestionType.YES_NO, "yes", "yes"),
        (QuestionType.YES_NO, "no", "no"),
        (QuestionType.CHOICE, "resampling", "resampling"),
        (QuestionType.CHOICE, "resampl", None),
        (QuestionType.CHOICE, "1", None),
        (QuestionType.SEVERAL, "reweighing", ("reweighing",)),
        (QuestionType.SEVERAL, "reweighing, resampling", ("reweighing", "resampling")),
        (QuestionType.SEVERAL, "reweighing, none", None),
        (QuestionType.SEVERAL, "reweighing and resampling", None),
        (QuestionType.SEVERAL, "2", None),
        (QuestionType.TABLE, "a sentence\non two lines", rows(("a sentence on two lines",))),
        (QuestionType.TABLE, "p(y|x) is learned", rows(("p(y/x) is learned",))),
        (QuestionType.TABLE, "- a\n- b | c", rows(("a",), ("b / c",))),
        (QuestionType.TABLE, "a | b\nc | d | e", rows(("a", "b"), ("c", "d", "e"))),
        (QuestionType.TABLE, "a | b | c | d", None),
        (QuestionType.NUMBER, "7", None),
        (QuestionType.INTERVAL, "0..1", None),
        (QuestionType.DATE, "2026-11-21", None),
        (QuestionType.FILE, "README.md", None),
        (QuestionType.PERSON, "someone", None),
    ],
)
def test_a_statement_fits_or_is_not_offered(
    offered: Callable[..., list[Draft]], kind: QuestionType, text: str, value: Reply | None
) -> None:
    assert offered(question(kind), text) == ([] if value is None else [Draft(value, "card")])


def test_any_statement_makes_a_yes_that_names_it(offered: Callable[..., list[Draft]]) -> None:
    assert offered(question(QuestionType.YES_NO), "made from\nan encoder", "x" * 200) == [
        Draft("yes", "card: made from an encoder"),
        Draft("yes", f"card: {'x' * 98} …"),
    ]


def test_a_result_is_one_row(offered: Callable[..., list[Draft]], make_run: Make) -> None:
    asked = question(QuestionType.TABLE, "result:trial.share")
    found = offered(asked, runs={"trial.share": make_run(sentence="half are right")})
    assert [(draft.value[0]["what"], draft.value[0]["how"]) for draft in found] == [  # type: ignore[index, call-overload]
        ("half are right. share 0.5 [0.4, 0.6]", "")
    ]


def answered(requirement: str, **replies: Any) -> dict[str, Answer]:
    fields = {"value": "partly", "because": "x", "by": "y", "at": "2026-11-21T10:00:00Z", "replies": replies}
    return {requirement: Answer.model_validate(fields)}


def test_rows_of_another_table_keep_the_columns_of_the_same_name(
    offered: Callable[..., list[Draft]], catalog: Catalog
) -> None:
    asked = catalog.by_id["RE-R-RO-CR-01"].question("q1")
    source = catalog.by_id["RE-R-RO-RI-01"].question("q1")
    assert asked is not None
    assert source is not None
    said = [dict.fromkeys(source.columns, "x") | {"disturbance": "blur"}]
    found = offered(asked, answers=answered("RE-R-RO-RI-01", q1=said))
    assert found == [Draft(({**dict.fromkeys(asked.columns, ""), "disturbance": "blur"},), "said in RE-R-RO-RI-01")]


def test_what_stood_first_stands_first(offered: Callable[..., list[Draft]], catalog: Catalog) -> None:
    source = catalog.by_id["RE-R-RO-RI-01"].question("q1")
    assert source is not None
    said = answered(
        "RE-R-RO-RI-01", q1=[{source.columns[0]: "blur", source.columns[1]: "rain"}, {source.columns[1]: "x"}]
    )
    prefill = "answer:RE-R-RO-RI-01.q1"
    table, text = question(QuestionType.TABLE, prefill), question(QuestionType.TEXT, prefill)
    assert [draft.value for draft in offered(table, answers=said)] == [rows(("blur",))]
    assert [draft.value for draft in offered(text, answers=said)] == ["blur | rain |  |  | \n | x |  |  | "]
    assert offered(question(QuestionType.YES_NO, prefill), answers=said) == []


def test_a_reply_that_is_no_option_here_is_not_offered(offered: Callable[..., list[Draft]]) -> None:
    said = answered("DP-R-PD-RI-04", q1=["the output itself"])
    assert offered(question(QuestionType.SEVERAL, "answer:DP-R-PD-RI-04.q1"), answers=said) == []


@given(
    st.sampled_from(list(QuestionType)),
    st.text(min_size=1).filter(str.strip) | st.sampled_from(["a | b", "- a\n- b", "||", " | "]),
)
def test_every_draft_is_a_reply_that_can_be_confirmed(kind: QuestionType, text: str) -> None:
    asked = question(kind)
    for draft in drafts(asked, NOWHERE, {}, {"purpose": [Known(value=text, origin="card")]}):
        assert reply_fault(asked, draft.value) == ""
        checked_reply(asked, editable(asked, draft.value))


NOWHERE: Scope = Scope(None, None, {})  # type: ignore[arg-type] - drafts of statements look at no answer
