"""Conditions in the catalog: a small closed language, three-valued, that explains itself.

    condition   = conjunction { "or" conjunction }
    conjunction = negation { "and" negation }
    negation    = "not" negation | "(" condition ")" | comparison | "answered(" string ")"
    comparison  = value ("==" | "!=") value | value ["not"] "in" (list | reference)
    value       = reference | string | number
    reference   = "need" | "need." DIMENSION | "profile." FACT | "reply(" string ")"
    list        = "[" value { "," value } "]"

`need` is the protection need of the requirement's own dimension, `profile.X` a fact of the AI profile, `reply('ID.q1')`
the reply to a question, `answered('ID')` whether a requirement is answered. A reference nobody has filled is unknown,
and the logic is Kleene's: what is unknown neither includes nor excludes anything.

>>> condition = parse("need == 'high' or profile.learning != 'not at all'")
>>> evaluate(condition, {"need": "medium"}.get) is None
True
>>> evaluate(condition, {"need": "medium", "profile.learning": "not at all"}.get)
False
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple

Lookup = Callable[[str], object]

MAX_LENGTH, MAX_DEPTH = 1000, 30


class ExpressionError(ValueError):
    """A condition that cannot be read; the message says where and what was wanted."""


@dataclass(frozen=True)
class Reference:
    """Something that is looked up by its name, such as `need.FN` or `reply(FN-P.level)`."""

    name: str

    def __str__(self) -> str:
        kind, _, argument = self.name.removesuffix(")").partition("(")
        return f"{kind}({quoted(argument)})" if argument else self.name


@dataclass(frozen=True)
class Literal:
    """A word or number."""

    value: str | float

    def __str__(self) -> str:
        return quoted(self.value) if isinstance(self.value, str) else _plain_digits(self.value)


@dataclass(frozen=True)
class Listing:
    """Some words or numbers."""

    items: tuple[Literal, ...]

    def __str__(self) -> str:
        return f"[{', '.join(map(str, self.items))}]"


@dataclass(frozen=True)
class Comparison:
    """`left operator right`; operator is ==, !=, in or not in."""

    left: Reference | Literal
    operator: str
    right: Reference | Literal | Listing

    def __str__(self) -> str:
        return f"{self.left} {self.operator} {self.right}"


@dataclass(frozen=True)
class Answered:
    """Whether a requirement is answered."""

    requirement: str

    def __str__(self) -> str:
        return f"answered({quoted(self.requirement)})"


@dataclass(frozen=True)
class Not:
    """The opposite."""

    part: Expression

    def __str__(self) -> str:
        return f"not {_inside(self.part)}"


@dataclass(frozen=True)
class Every:
    """All parts hold."""

    parts: tuple[Expression, ...]

    def __str__(self) -> str:
        return " and ".join(map(_inside, self.parts))


@dataclass(frozen=True)
class Some:
    """One part holds."""

    parts: tuple[Expression, ...]

    def __str__(self) -> str:
        return " or ".join(map(_inside, self.parts))


Expression = Comparison | Answered | Not | Every | Some


def _inside(part: Expression) -> str:
    return f"({part})" if isinstance(part, Every | Some) else str(part)


def _plain_digits(value: float) -> str:
    """A number in full, without an exponent."""
    return f"{Decimal(repr(value)):f}".removesuffix(".0")


def quoted(word: str) -> str:
    """A word as it stands in a condition."""
    return f"'{word}'" if "'" not in word else f'"{word}"'


# --- reading ---------------------------------------------------------------------------------------------------------

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<string>'[^']*'|"[^"]*")
      | (?P<number>-?\d+(?:\.\d+)?)
      | (?P<symbol>==|!=|[()\[\],])
      | (?P<name>[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_-]*)*)
    )""",
    re.VERBOSE,
)
_WORDS = {"and", "or", "not", "in"}


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


@lru_cache(maxsize=1024)
def parse(text: str) -> Expression:
    """Read a condition.

    Args:
        text: As it stands in the catalog.

    Returns:
        Its parts.

    Raises:
        ExpressionError: It cannot be read; the message names the column.
    """
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"found {len(text)} characters, wanted at most {MAX_LENGTH}")
    reader = _Reader(text, _tokens(text))
    found = reader.condition(0)
    reader.end()
    return found


def _tokens(text: str) -> list[_Token]:
    tokens, at = [], 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            column = at + len(text[at:]) - len(text[at:].lstrip())
            raise ExpressionError(f"column {column + 1}: found '{text[column]}', wanted a name, a word in quotes or ==")
        tokens.append(_Token(match.lastgroup, match[match.lastgroup], match.start(match.lastgroup)))
        at = match.end()
    return tokens


class _Reader:
    """One pass over the tokens, from the loosest binding to the tightest."""

    def __init__(self, text: str, tokens: Sequence[_Token]) -> None:
        self._text = text
        self._tokens = tokens
        self._next = 0

    def condition(self, depth: int) -> Expression:
        if depth > MAX_DEPTH:
            raise ExpressionError(f"found more than {MAX_DEPTH} levels of nesting")
        parts = [self._conjunction(depth)]
        while self._taken("or"):
            parts.append(self._conjunction(depth))
        return parts[0] if len(parts) == 1 else Some(tuple(parts))

    def _conjunction(self, depth: int) -> Expression:
        parts = [self._negation(depth)]
        while self._taken("and"):
            parts.append(self._negation(depth))
        return parts[0] if len(parts) == 1 else Every(tuple(parts))

    def _negation(self, depth: int) -> Expression:
        if depth > MAX_DEPTH:
            raise ExpressionError(f"found more than {MAX_DEPTH} levels of nesting")
        if self._taken("not"):
            return Not(self._negation(depth + 1))
        if self._taken("("):
            inner = self.condition(depth + 1)
            self._wanted(")")
            return inner
        if self._peek() == "answered":
            self._next += 1
            return Answered(self._argument())
        return self._comparison()

    def _comparison(self) -> Comparison:
        left = self._value()
        if self._taken("=="):
            return Comparison(left, "==", self._value())
        if self._taken("!="):
            return Comparison(left, "!=", self._value())
        operator = "not in" if self._taken("not") else "in"
        if not self._taken("in"):
            raise self._fault("==, != or in")
        return Comparison(left, operator, self._listing() if self._peek() == "[" else self._reference())

    def _listing(self) -> Listing:
        self._wanted("[")
        items = [self._literal()]
        while self._taken(","):
            items.append(self._literal())
        self._wanted("]")
        return Listing(tuple(items))

    def _value(self) -> Reference | Literal:
        token = self._token()
        return self._literal() if token is not None and token.kind in {"string", "number"} else self._reference()

    def _literal(self) -> Literal:
        token = self._token()
        if token is None or token.kind not in {"string", "number"}:
            raise self._fault("a word in quotes or a number")
        value = token.text[1:-1] if token.kind == "string" else float(token.text)
        if value in {float("inf"), float("-inf")}:
            raise self._fault("a number of ordinary size")
        self._next += 1
        return Literal(value)

    def _reference(self) -> Reference:
        token = self._token()
        if token is None or token.kind != "name" or token.text in _WORDS:
            raise self._fault("need, profile.FACT, reply('ID.q1') or a word in quotes")
        kind, _, rest = token.text.partition(".")
        if token.text == "reply":
            self._next += 1
            return Reference(f"reply({self._argument()})")
        if token.text == "need" or (kind in {"need", "profile"} and rest and "." not in rest):
            self._next += 1
            return Reference(token.text)
        raise self._fault("need, need.FN, profile.FACT or reply('ID.q1')")

    def _argument(self) -> str:
        self._wanted("(")
        token = self._token()
        if token is None or token.kind != "string" or len(token.text) == 2:
            raise self._fault("an id in quotes")
        self._next += 1
        self._wanted(")")
        return token.text[1:-1]

    def _token(self) -> _Token | None:
        return self._tokens[self._next] if self._next < len(self._tokens) else None

    def _peek(self) -> str | None:
        token = self._token()
        return token.text if token is not None and token.kind in {"name", "symbol"} else None

    def _taken(self, text: str) -> bool:
        if self._peek() != text:
            return False
        self._next += 1
        return True

    def _wanted(self, text: str) -> None:
        if not self._taken(text):
            raise self._fault(f"'{text}'")

    def end(self) -> None:
        if self._token() is not None:
            raise self._fault("the end, and, or or")

    def _fault(self, wanted: str) -> ExpressionError:
        token = self._token()
        if token is None:
            return ExpressionError(f"column {len(self._text) + 1}: found the end, wanted {wanted}")
        return ExpressionError(f"column {token.at + 1}: found '{token.text}', wanted {wanted}")


# --- deciding --------------------------------------------------------------------------------------------------------


def evaluate(expression: Expression, lookup: Lookup) -> bool | None:
    """Whether a condition holds.

    Args:
        expression: The condition.
        lookup: Value of a reference by its name (`need`, `need.FN`, `profile.X`, `reply(ID.q)`, `answered(ID)`), None
            where nobody has filled it.

    Returns:
        True, False, or None where that depends on something unknown.
    """
    match expression:
        case Not(part):
            found = evaluate(part, lookup)
            return None if found is None else not found
        case Every(parts):
            return _every([evaluate(part, lookup) for part in parts])
        case Some(parts):
            opposite = _every([_opposite(evaluate(part, lookup)) for part in parts])
            return _opposite(opposite)
        case Answered(requirement):
            said = lookup(f"answered({requirement})")
            return None if said is None else bool(said)
        case Comparison():
            return _compared(expression, lookup)


def _every(found: list[bool | None]) -> bool | None:
    if False in found:
        return False
    return None if None in found else True


def _opposite(found: bool | None) -> bool | None:
    return None if found is None else not found


def _compared(comparison: Comparison, lookup: Lookup) -> bool | None:
    left, right = _looked_up(comparison.left, lookup), _looked_up(comparison.right, lookup)
    if left is None or right is None:
        return None
    if comparison.operator in {"==", "!="}:
        return (left == right) == (comparison.operator == "==")
    within = left in right if isinstance(right, tuple) else left == right
    return within == (comparison.operator == "in")


def _looked_up(part: Reference | Literal | Listing, lookup: Lookup) -> object:
    match part:
        case Reference(name):
            found = lookup(name)
            return float(found) if isinstance(found, int) and not isinstance(found, bool) else found
        case Literal(value):
            return value
        case Listing(items):
            return tuple(item.value for item in items)


def comparisons(expression: Expression) -> Iterator[Comparison | Answered]:
    """Every comparison in a condition, from left to right."""
    match expression:
        case Not(part):
            yield from comparisons(part)
        case Every(parts) | Some(parts):
            for part in parts:
                yield from comparisons(part)
        case _:
            yield expression


def references(expression: Expression) -> tuple[str, ...]:
    """Names of everything a condition looks up, in order, each once."""
    found: dict[str, None] = {}
    for item in comparisons(expression):
        if isinstance(item, Answered):
            found[f"answered({item.requirement})"] = None
        else:
            found |= {side.name: None for side in (item.left, item.right) if isinstance(side, Reference)}
    return tuple(found)


def decisive(expression: Expression, lookup: Lookup) -> tuple[str, ...]:
    """Names of the references that made a condition come out as it does, in order, each once.

    Of a conjunction that fails, only what failed; of a disjunction that holds, only what held; for an unknown outcome,
    what is not known.
    """
    outcome = evaluate(expression, lookup)
    match expression:
        case Not(part):
            return decisive(part, lookup)
        case Every(parts) | Some(parts):
            same = [part for part in parts if evaluate(part, lookup) == outcome]
            return tuple(dict.fromkeys(name for part in same for name in decisive(part, lookup)))
        case _:
            names = references(expression)
            return tuple(name for name in names if lookup(name) is None) if outcome is None else names
