"""What property tests draw: replies that fit a question."""

from __future__ import annotations

from datetime import date

from hypothesis import strategies as st

from assessor.model import Question, QuestionType, Reply

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).map(str.strip).filter(bool)
PRINTED = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12).map(str.strip).filter(bool)
CELLS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=8).map(str.strip)
ENDS = st.one_of(
    st.tuples(NUMBERS, st.none()),
    st.tuples(st.none(), NUMBERS),
    st.tuples(NUMBERS, NUMBERS).map(lambda ends: (min(ends), max(ends))),
)


def replies_to(question: Question, texts: st.SearchStrategy[str] = TEXTS) -> st.SearchStrategy[Reply]:
    """Replies of the question's type in the form they are kept in."""
    match question.type:
        case QuestionType.CHOICE | QuestionType.YES_NO:
            return st.sampled_from(question.choices)
        case QuestionType.SEVERAL:
            words = [word for word in question.choices if word != "none"]
            several = st.lists(st.sampled_from(words), min_size=1, unique=True).map(tuple)
            return several | st.just(("none",)) if "none" in question.choices else several
        case QuestionType.NUMBER:
            return NUMBERS
        case QuestionType.INTERVAL:
            return ENDS
        case QuestionType.TABLE:
            rows = st.tuples(*[CELLS] * len(question.columns)).filter(any)
            named = rows.map(lambda row: dict(zip(question.columns, row, strict=True)))
            return st.lists(named, min_size=1, max_size=3).map(tuple)
        case QuestionType.DATE:
            return st.dates().map(date.isoformat)
        case _:
            return texts
