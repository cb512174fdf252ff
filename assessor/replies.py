"""Replies: typed text to the value that is kept, a stored value to its faults, a kept value to what is shown. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime

from assessor.errors import UsageError
from assessor.messages import _, day, number
from assessor.model import Bounds, Param, ParamType, Question, QuestionType, Reply, Verdict

ANSWERS = (Verdict.FULFILLED, Verdict.PARTLY, Verdict.NOT_FULFILLED, Verdict.NOT_APPLICABLE)

HINTS: Mapping[QuestionType, str] = {
    QuestionType.SEVERAL: "one or more, with commas",
    QuestionType.NUMBER: "a number",
    QuestionType.INTERVAL: "an interval such as 0..0.1, or ..0.1, or 0.8..",
    QuestionType.TABLE: "one row a line, cells divided by |; an empty line ends",
    QuestionType.FILE: "path of a file; it is attached as evidence",
    QuestionType.PERSON: "name and role",
    QuestionType.DATE: "a day such as 2026-11-21",
}


def checked_reply(question: Question, text: str) -> Reply:
    """The reply as it is kept.

    Args:
        question: What was asked.
        text: What was typed; a choice may be given by its number, its start or its translation.

    Returns:
        The value; a choice in its stored wording.

    Raises:
        UsageError: It does not fit the question.
    """
    typed = text.strip()
    if not typed:
        raise UsageError(_("found an empty reply, wanted some text"))
    match question.type:
        case QuestionType.CHOICE | QuestionType.YES_NO:
            return chosen(typed, question.choices, question.labels)
        case QuestionType.SEVERAL:
            parts = [part for part in re.split(r"[,;]", typed) if part.strip()]
            found = tuple(dict.fromkeys(chosen(part, question.choices, question.labels) for part in parts))
            if fault := _several_fault(question, found):
                raise UsageError(fault)
            return found
        case QuestionType.NUMBER:
            return typed_number(typed)
        case QuestionType.INTERVAL:
            return typed_interval(typed)
        case QuestionType.TABLE:
            return _table(question, typed)
        case QuestionType.DATE:
            return _date(typed).isoformat()
        case _:
            return typed


def label(question: Question | Param, word: str) -> str:
    """A stored option or column as it is shown."""
    return question.labels.get(word) or (_(word) if word in {"yes", "no", "none"} else word)


def chosen(typed: str, choices: Sequence[str], labels: Mapping[str, str]) -> str:
    """One of the choices, by number, word, its start, or its translation.

    Args:
        typed: What was typed.
        choices: The stored words.
        labels: How they are shown.

    Returns:
        The stored word.

    Raises:
        UsageError: It is none, or the start of several.
    """
    text = typed.strip().casefold()
    shown = {
        choice: {word.casefold() for word in (choice, labels.get(choice, choice), _(choice))} for choice in choices
    }
    exact = [choice for choice, words in shown.items() if text in words]
    numbered = [choice for number, choice in enumerate(choices, start=1) if text == str(number)]
    begun = [choice for choice, words in shown.items() if any(word.startswith(text) for word in words)]
    for found in (exact, numbered, begun):
        if text and len(found) == 1:
            return found[0]
    wanted = ", ".join(labels.get(choice, _(choice)) for choice in choices)
    raise UsageError(_("found '{text}', wanted one of: {wanted}", text=typed.strip(), wanted=wanted))


def typed_number(typed: str) -> float:
    """A number, with a decimal point or comma.

    Args:
        typed: What was typed.

    Returns:
        The number.

    Raises:
        UsageError: It is none, or not finite.
    """
    text = typed.strip().replace(",", ".")
    is_number = re.fullmatch(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?", text)
    if not is_number or not math.isfinite(float(text)):
        raise UsageError(_("found '{text}', wanted a number", text=typed.strip()))
    return float(text)


def typed_interval(typed: str) -> Bounds:
    """Two ends, written `0..0.1`, `[0, 0.1]`, `0 to 0.1`; one may be left open.

    Args:
        typed: What was typed.

    Returns:
        Lower and upper end.

    Raises:
        UsageError: It is no interval.
    """
    text = typed.strip().strip("[]")
    parts = re.split(r"\.\.+|…| to | bis |;|, ", f" {text} ", maxsplit=1)
    if len(parts) != 2 or not any(part.strip() for part in parts):
        raise UsageError(_("found '{text}', wanted an interval such as 0..0.1, or ..0.1, or 0.8..", text=typed.strip()))
    low, high = (typed_number(part) if part.strip() else None for part in parts)
    if low is not None and high is not None and low > high:
        raise UsageError(_("found '{text}', wanted the lower end first", text=typed.strip()))
    return low, high


def _table(question: Question, typed: str) -> tuple[Mapping[str, str], ...]:
    rows = []
    for line in typed.splitlines():
        cells = _typed_cells(line)
        if not any(cells):
            continue
        if len(cells) > len(question.columns):
            raise UsageError(
                _(
                    "found {n} cells in '{line}', wanted at most {total}: {columns}",
                    n=len(cells),
                    line=line.strip(),
                    total=len(question.columns),
                    columns=" | ".join(label(question, column) for column in question.columns),
                )
            )
        rows.append(dict(zip(question.columns, [*cells, *[""] * len(question.columns)], strict=False)))
    if not rows:
        raise UsageError(_("found an empty reply, wanted some text"))
    return tuple(rows)


def _typed_cells(line: str) -> list[str]:
    """Cells of one row, with or without a bar at its ends; a backslash keeps a bar within its cell."""
    inner = line.strip().removeprefix("|")
    inner = inner if inner.endswith("\\|") else inner.removesuffix("|")
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", inner)]


def _editable_cells(row: list[str]) -> str:
    """One row as `_typed_cells` reads it, on one line."""
    cells = [" ".join(cell.splitlines()).replace("|", "\\|") for cell in row]
    line = " | ".join(cells)
    return line if cells[0] else f"|{line}"


def _date(typed: str) -> date:
    for form in ("%Y-%m-%d", "%d.%m.%Y"):
        try:
            return datetime.strptime(typed, form).date()
        except ValueError:
            continue
    raise UsageError(_("found '{text}', wanted a day such as 2026-11-21", text=typed))


def checked_verdict(reply: str) -> Verdict:
    """The verdict that was typed, by word, its start, its translation or its number.

    Args:
        reply: What was typed.

    Returns:
        The verdict.

    Raises:
        UsageError: It is none.
    """
    words = [str(verdict).replace("_", " ") for verdict in ANSWERS]
    found = chosen(reply.replace("_", " "), words, {})
    return ANSWERS[words.index(found)]


NO_TARGET = "-"


def checked_param(param: Param, text: str) -> str | float | Bounds | None:
    """The value of a criterion's param as it is kept.

    Args:
        param: What is set.
        text: What was typed; `-` for no target.

    Returns:
        The value, None for no target.

    Raises:
        UsageError: It does not fit.
    """
    typed = text.strip()
    if not typed:
        raise UsageError(_("found an empty reply, wanted some text"))
    if typed == NO_TARGET:
        return None
    match param.type:
        case ParamType.INTERVAL:
            return typed_interval(typed)
        case ParamType.NUMBER:
            return typed_number(typed)
        case ParamType.CHOICE:
            return chosen(typed, param.options, param.labels)
        case ParamType.TEXT:
            return typed


def param_fault(param: Param, value: object) -> str:
    """What is wrong with a stored value of a param, or an empty text."""
    if value is None:
        return ""
    match param.type:
        case ParamType.INTERVAL:
            return _bounds_fault(value)
        case ParamType.NUMBER:
            return "" if isinstance(value, float) else _("found '{text}', wanted a number", text=value)
        case ParamType.CHOICE:
            if value in param.options:
                return ""
            return _("found '{text}', wanted one of: {wanted}", text=value, wanted=", ".join(param.options))
        case ParamType.TEXT:
            return "" if isinstance(value, str) else _("found '{text}', wanted some text", text=value)


def reply_fault(question: Question, reply: Reply) -> str:
    """What is wrong with a stored reply, or an empty text."""
    match question.type:
        case QuestionType.CHOICE | QuestionType.YES_NO:
            return "" if reply in question.choices else _wanted(reply, question)
        case QuestionType.SEVERAL:
            words = (reply,) if isinstance(reply, str) else reply
            fits = isinstance(words, tuple) and all(word in question.choices for word in words)
            return _several_fault(question, words) if fits and isinstance(words, tuple) else _wanted(reply, question)
        case QuestionType.NUMBER:
            return "" if isinstance(reply, float) else _("found '{text}', wanted a number", text=reply)
        case QuestionType.INTERVAL:
            return _bounds_fault(reply)
        case QuestionType.TABLE:
            return _table_fault(question, reply)
        case QuestionType.DATE:
            try:
                _date(str(reply))
            except UsageError as fault:
                return str(fault)
            return ""
        case _:
            return "" if isinstance(reply, str) else _("found '{text}', wanted some text", text=reply)


def _several_fault(question: Question, words: Sequence[object]) -> str:
    if not words:
        return _("found an empty reply, wanted some text")
    if "none" in words and len(set(words)) > 1:
        return _("found '{none}' among others, wanted it alone", none=label(question, "none"))
    return ""


def _bounds_fault(value: object) -> str:
    ends = value if isinstance(value, tuple) else ()
    numbers = [end for end in ends if isinstance(end, float)]
    if len(ends) != 2 or not numbers or not all(isinstance(end, float | None) for end in ends):
        return _("found '{text}', wanted two numbers", text=value)
    return _("found '{text}', wanted the lower end first", text=value) if numbers[0] > numbers[-1] else ""


def _wanted(reply: Reply, question: Question) -> str:
    return _("found '{text}', wanted one of: {wanted}", text=reply, wanted=", ".join(question.choices))


def _table_fault(question: Question, reply: Reply) -> str:
    if not isinstance(reply, tuple) or not all(isinstance(row, Mapping) for row in reply):
        return _("found '{text}', wanted a list of rows", text=reply)
    stray = {column for row in reply if isinstance(row, Mapping) for column in row} - set(question.columns)
    if stray:
        return _("found the column '{text}', wanted: {wanted}", text=min(stray), wanted=", ".join(question.columns))
    return ""


def normalised(question: Question, reply: Reply) -> Reply:
    """A stored reply in its one form: `several` as a tuple of different words, a day as 2026-11-21."""
    if question.type is QuestionType.SEVERAL:
        words = reply if isinstance(reply, tuple) else (reply,)
        return tuple(dict.fromkeys(str(word) for word in words))
    return _date(str(reply)).isoformat() if question.type is QuestionType.DATE else reply


def shown_reply(question: Question, reply: Reply) -> str:
    """A reply in one text, as it is shown; a table as lines."""
    match question.type:
        case QuestionType.CHOICE | QuestionType.YES_NO:
            return label(question, str(reply))
        case QuestionType.SEVERAL:
            return ", ".join(label(question, str(word)) for word in (reply if isinstance(reply, tuple) else (reply,)))
        case QuestionType.NUMBER if isinstance(reply, float):
            return _with_unit(number(reply, 6), question.unit)
        case QuestionType.INTERVAL if isinstance(reply, tuple) and len(reply) == 2:
            return _with_unit(shown_bounds(reply[0], reply[1]), question.unit)
        case QuestionType.TABLE if isinstance(reply, tuple):
            return "\n".join(" | ".join(cells(question, row)) for row in reply if isinstance(row, Mapping))
        case QuestionType.DATE:
            return day(_date(str(reply)))
        case _:
            return str(reply)


def cells(question: Question, row: Mapping[str, str]) -> list[str]:
    """The cells of a table's row in the order of its columns."""
    return [str(row.get(column, "")) for column in question.columns]


def shown_param(param: Param, value: object) -> str:
    """A param's value as it is shown."""
    if value is None:
        return _("no target set")
    if isinstance(value, tuple) and len(value) == 2:
        return _with_unit(shown_bounds(value[0], value[1]), param.unit)
    if isinstance(value, float):
        return _with_unit(number(value, 6), param.unit)
    return label(param, str(value))


def shown_bounds(low: object, high: object) -> str:
    """An interval in words."""
    ends = [number(end, 6) if isinstance(end, float | int) else None for end in (low, high)]
    if ends[0] is None:
        return _("at most {high}", high=ends[1])
    if ends[1] is None:
        return _("at least {low}", low=ends[0])
    return _("{low} to {high}", low=ends[0], high=ends[1])


def _with_unit(text: str, unit: str | None) -> str:
    return text if unit in {None, "1"} else f"{text} {unit}"


def editable(question: Question, reply: Reply) -> str:
    """A reply as it could be typed again."""
    if question.type is QuestionType.INTERVAL and isinstance(reply, tuple):
        return _editable_bounds(reply)
    if question.type is QuestionType.TABLE and isinstance(reply, tuple):
        return "\n".join(_editable_cells(cells(question, row)) for row in reply if isinstance(row, Mapping))
    return _editable_number(reply) if isinstance(reply, float) else shown_reply(question, reply)


def editable_param(param: Param, value: object) -> str:
    """A param's value as it could be typed again."""
    if value is None:
        return NO_TARGET
    if isinstance(value, tuple):
        return _editable_bounds(value)
    return _editable_number(value) if isinstance(value, float) else label(param, str(value))


def _editable_number(value: float) -> str:
    """With all its digits: what is typed again is the same number."""
    return repr(value).removesuffix(".0")


def _editable_bounds(ends: Sequence[object]) -> str:
    return "..".join(_editable_number(end) if isinstance(end, float) else "" for end in ends)
