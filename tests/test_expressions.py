"""Conditions: what is read, what is refused and where, and a logic that never guesses."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from assessor.expressions import (
    MAX_DEPTH,
    MAX_LENGTH,
    Answered,
    Comparison,
    Every,
    Expression,
    ExpressionError,
    Listing,
    Literal,
    Not,
    Reference,
    Some,
    comparisons,
    decisive,
    evaluate,
    parse,
    references,
)

NEED, FACT = Reference("need"), Reference("profile.learning")
HIGH = Comparison(NEED, "==", Literal("high"))
LEARNS = Comparison(FACT, "!=", Literal("not at all"))


# --- reading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("need == 'high'", HIGH),
        ('  need=="high"\n', HIGH),
        ("need.FN != 'low'", Comparison(Reference("need.FN"), "!=", Literal("low"))),
        ("need.X-GEN == 'low'", Comparison(Reference("need.X-GEN"), "==", Literal("low"))),
        ("'a' in profile.kinds", Comparison(Literal("a"), "in", Reference("profile.kinds"))),
        ("need not in ['a', 2, -0.5]", Comparison(NEED, "not in", Listing((*map(Literal, ("a", 2.0, -0.5)),)))),
        ("reply('FN-P.level') == 3", Comparison(Reference("reply(FN-P.level)"), "==", Literal(3.0))),
        ("answered('FN-R-FN-OA')", Answered("FN-R-FN-OA")),
        ("not answered('A')", Not(Answered("A"))),
        ("not not need == 'high'", Not(Not(HIGH))),
        ("not need in ['a']", Not(Comparison(NEED, "in", Listing((Literal("a"),))))),
        ("need == 'high' or profile.learning != 'not at all' and need == 'high'", Some((HIGH, Every((LEARNS, HIGH))))),
        ("(need == 'high' or need == 'high') and need == 'high'", Every((Some((HIGH, HIGH)), HIGH))),
        ("not need == 'high' and need == 'high'", Every((Not(HIGH), HIGH))),
        ("((need == 'high'))", HIGH),
        ("'or' == 'and'", Comparison(Literal("or"), "==", Literal("and"))),
        ("'it''s' == 1", None),
        ('need == "it\'s"', Comparison(NEED, "==", Literal("it's"))),
    ],
)
def test_what_is_read(text: str, tree: Expression | None) -> None:
    if tree is None:
        with pytest.raises(ExpressionError):
            parse(text)
        return
    assert parse(text) == tree
    assert parse(str(tree)) == tree


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "column 1: found the end, wanted need, profile.FACT, reply('ID.q1') or a word in quotes"),
        ("need", "column 5: found the end, wanted ==, != or in"),
        ("need = 'high'", "column 6: found '=', wanted a name, a word in quotes or =="),
        ("need == 'high", "column 9: found ''', wanted a name, a word in quotes or =="),
        ("need == high", "column 9: found 'high', wanted need, need.FN, profile.FACT or reply('ID.q1')"),
        ("level == 'high'", "column 1: found 'level', wanted need, need.FN, profile.FACT or reply('ID.q1')"),
        ("profile == 'x'", "column 1: found 'profile', wanted need, need.FN, profile.FACT or reply('ID.q1')"),
        ("profile.a.b == 'x'", "column 1: found 'profile.a.b', wanted need, need.FN, profile.FACT or reply('ID.q1')"),
        ("need == 'a' need", "column 13: found 'need', wanted the end, and, or or"),
        ("need == 'a' and", "column 16: found the end, wanted need, profile.FACT, reply('ID.q1') or a word in quotes"),
        ("need == 'a' or or", "column 16: found 'or', wanted need, profile.FACT, reply('ID.q1') or a word in quotes"),
        ("(need == 'a'", "column 13: found the end, wanted ')'"),
        ("need in 'a'", "column 9: found ''a'', wanted need, profile.FACT, reply('ID.q1') or a word in quotes"),
        ("need in []", "column 10: found ']', wanted a word in quotes or a number"),
        ("need in ['a' 'b']", "column 14: found ''b'', wanted ']'"),
        ("need not 'a'", "column 10: found ''a'', wanted ==, != or in"),
        ("reply(FN) == 'a'", "column 7: found 'FN', wanted an id in quotes"),
        ("reply(5) == 'a'", "column 7: found '5', wanted an id in quotes"),
        ("answered('')", "column 10: found '''', wanted an id in quotes"),
        ("answered 'A'", "column 10: found ''A'', wanted '('"),
        (f"need == {'9' * 400}", f"column 9: found '{'9' * 400}', wanted a number of ordinary size"),
        ("x" * (MAX_LENGTH + 1), f"found {MAX_LENGTH + 1} characters, wanted at most {MAX_LENGTH}"),
        ("not " * (MAX_DEPTH + 1) + "need == 'a'", f"found more than {MAX_DEPTH} levels of nesting"),
        ("(" * (MAX_DEPTH + 1) + "need == 'a'", f"found more than {MAX_DEPTH} levels of nesting"),
    ],
)
def test_what_is_refused_and_where(text: str, told: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse(text)
    assert str(caught.value) == told


NAMES = st.sampled_from(["need", "need.FN", "profile.a", "profile.b", "reply(FN-P.q1)", "reply(A-*.q2)"])
WORDS = st.sampled_from(["a", "b", "high", "it's", 'say "so"', "and", "", "(", "ä\n"])
NUMBERS = st.integers(-(10**9), 10**9).map(float) | st.floats(-1e9, 1e9, allow_nan=False)
LITERALS = (WORDS | NUMBERS).map(Literal)
SIDES = NAMES.map(Reference) | LITERALS
LISTS = st.lists(LITERALS, min_size=1, max_size=3).map(lambda items: Listing(tuple(items))) | NAMES.map(Reference)
ATOMS: st.SearchStrategy[Expression] = (
    st.builds(Comparison, SIDES, st.sampled_from(["==", "!="]), SIDES)
    | st.builds(Comparison, SIDES, st.sampled_from(["in", "not in"]), LISTS)
    | st.sampled_from(["A", "FN-R-FN-ME-05"]).map(Answered)
)


def _larger(parts: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    several = st.lists(parts, min_size=2, max_size=3).map(tuple)
    return parts.map(Not) | several.map(Every) | several.map(Some)


TREES = st.recursive(ATOMS, _larger, max_leaves=6)
LOOKED_UP = st.none() | st.sampled_from(["a", "b", "high", 3.0, ("a", "b"), ()])
KNOWLEDGE = st.fixed_dictionaries(
    {
        **dict.fromkeys(["need", "need.FN", "profile.a", "profile.b", "reply(FN-P.q1)", "reply(A-*.q2)"], LOOKED_UP),
        **dict.fromkeys(["answered(A)", "answered(FN-R-FN-ME-05)"], st.none() | st.booleans()),
    }
)


@given(TREES.filter(lambda tree: len(str(tree)) <= MAX_LENGTH))
@example(Comparison(NEED, "==", Literal(1234567.0)))
@example(Comparison(NEED, "==", Literal(1e-7)))
@settings(max_examples=150, deadline=None)
def test_what_is_written_reads_back_equal(tree: Expression) -> None:
    assert parse(str(tree)) == tree


PIECES = ["need", "profile.x", "reply", "answered", "(", ")", "'a'", '"', "'", "==", "!=", "in", "not", "and", "or"]
PIECES += ["[", "]", ",", "1", "-2.5", ".", "=", " ", "\x1c", "٣", "🙂"]


@given(st.text(max_size=40) | st.lists(st.sampled_from(PIECES), max_size=25).map(" ".join))
@settings(max_examples=200, deadline=None)
def test_any_text_is_read_or_refused_in_words(text: str) -> None:
    try:
        tree = parse(text)
    except ExpressionError:
        return
    assert parse(str(tree)) == tree


# --- deciding --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "known", "outcome"),
    [
        ("need == 'high'", {"need": "high"}, True),
        ("need == 'high'", {"need": "low"}, False),
        ("need == 'high'", {}, None),
        ("need != 'high'", {}, None),
        ("not need == 'high'", {}, None),
        ("need in ['low', 'high']", {"need": "low"}, True),
        ("need not in ['low', 'high']", {"need": "low"}, False),
        ("'a' in profile.x", {"profile.x": ("a", "b")}, True),
        ("'c' in profile.x", {"profile.x": ("a", "b")}, False),
        ("'c' not in profile.x", {"profile.x": ()}, True),
        ("'a' in profile.x", {"profile.x": "a"}, True),
        ("'a' in profile.x", {}, None),
        ("profile.x == profile.y", {"profile.x": "a", "profile.y": "a"}, True),
        ("profile.x == profile.y", {"profile.x": "a"}, None),
        ("reply('A.q') == 3", {"reply(A.q)": 3}, True),
        ("reply('A.q') == 3", {"reply(A.q)": "3"}, False),
        ("answered('A')", {"answered(A)": True}, True),
        ("answered('A')", {"answered(A)": False}, False),
        ("answered('A')", {}, None),
        ("need == 'high' and profile.x == 'a'", {"need": "low"}, False),
        ("need == 'high' and profile.x == 'a'", {"need": "high"}, None),
        ("need == 'high' or profile.x == 'a'", {"need": "high"}, True),
        ("need == 'high' or profile.x == 'a'", {"need": "low"}, None),
        ("not (need == 'high' or profile.x == 'a')", {"need": "high"}, False),
    ],
)
def test_outcomes(text: str, known: dict[str, Any], outcome: bool | None) -> None:
    assert evaluate(parse(text), known.get) is outcome


def test_the_tables_of_kleene() -> None:
    said = {True: "1 == 1", False: "1 == 2", None: "need == 'a'"}
    order = [False, None, True]
    for left, first in said.items():
        assert evaluate(parse(f"not {first}"), {}.get) is order[2 - order.index(left)]
        for right, second in said.items():
            lowest, highest = sorted([left, right], key=order.index)
            assert evaluate(parse(f"{first} and {second}"), {}.get) is lowest
            assert evaluate(parse(f"{first} or {second}"), {}.get) is highest


@given(TREES, KNOWLEDGE, KNOWLEDGE)
@settings(max_examples=200, deadline=None)
def test_learning_more_never_changes_what_is_decided(
    tree: Expression, known: dict[str, Any], more: dict[str, Any]
) -> None:
    before = evaluate(tree, known.get)
    after = evaluate(tree, {name: more[name] if value is None else value for name, value in known.items()}.get)
    assert before is None or after is before


@given(TREES, KNOWLEDGE)
@settings(max_examples=200, deadline=None)
def test_what_decides_is_enough_to_decide(tree: Expression, known: dict[str, Any]) -> None:
    names = decisive(tree, known.get)
    outcome = evaluate(tree, known.get)
    assert len(set(names)) == len(names)
    assert set(names) <= set(references(tree))
    alone = {name: known[name] for name in names}
    assert evaluate(tree, alone.get) is outcome
    if outcome is None:
        assert names
        assert all(known[name] is None for name in names)


@pytest.mark.parametrize(
    ("text", "known", "names"),
    [
        ("need == 'high' or profile.x == 'a'", {"need": "high", "profile.x": "a"}, ("need", "profile.x")),
        ("need == 'high' or profile.x == 'a'", {"need": "low", "profile.x": "a"}, ("profile.x",)),
        ("need == 'high' and profile.x == 'a'", {"need": "low", "profile.x": "a"}, ("need",)),
        ("not (need == 'high' and profile.x == 'a')", {"need": "low", "profile.x": "a"}, ("need",)),
        ("need == 'high' or profile.x == 'a'", {"need": "low"}, ("profile.x",)),
        ("profile.x == profile.y", {"profile.x": "a"}, ("profile.y",)),
        ("need == 'a' or need == 'b'", {}, ("need",)),
        ("1 == 1 or need == 'high'", {"need": "low"}, ()),
    ],
)
def test_what_decided(text: str, known: dict[str, Any], names: tuple[str, ...]) -> None:
    assert decisive(parse(text), known.get) == names


def test_references_and_comparisons_in_order() -> None:
    tree = parse("profile.b == 'x' and (not answered('A') or need in profile.c) and profile.b != need")
    assert references(tree) == ("profile.b", "answered(A)", "need", "profile.c")
    assert [str(item) for item in comparisons(tree)] == [
        "profile.b == 'x'",
        "answered('A')",
        "need in profile.c",
        "profile.b != need",
    ]
