"""What the program says, in the reader's language. English is the source; `locale/<language>.po` holds the others.

`_("{n} files", n=3)` is for text that is put together now. `retold` is for sentences that were stored in English, such
as those in results: they are recognised by their templates and said again, so a result reads the same in any language
and its bytes never change.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import date, datetime
from functools import cache
from importlib.resources import files

from assessor.retelling import Retelling

SOURCE = "en"
LANGUAGES = (SOURCE, "de")

_language: ContextVar[str] = ContextVar("language", default=SOURCE)


def language() -> str:
    """The language in use."""
    return _language.get()


def use(wanted: str) -> None:
    """Speak a language from now on.

    Args:
        wanted: One of `LANGUAGES`.

    Raises:
        ValueError: It is none of them.
    """
    if wanted not in LANGUAGES:
        raise ValueError(f"found '{wanted}', wanted one of {', '.join(LANGUAGES)}")
    _language.set(wanted)


@contextmanager
def speaking(wanted: str) -> Iterator[None]:
    """Speak a language for a while.

    Args:
        wanted: One of `LANGUAGES`.

    Yields:
        Nothing.
    """
    before = language()
    use(wanted)
    try:
        yield
    finally:
        use(before)


def _(text: str, /, **values: object) -> str:
    """A text in the language in use, its `{name}` places filled.

    >>> _("{n} of {total}", n=1, total=3)
    '1 of 3'
    """
    known = _messages(language()).get(text, text)
    return known.format_map(values) if values else known


def plural(one: str, many: str, n: int, /, **values: object) -> str:
    """The text for one or for many, `{n}` filled with the number.

    >>> plural("{n} file", "{n} files", 1), plural("{n} file", "{n} files", 2)
    ('1 file', '2 files')
    """
    return _(one if n == 1 else many, n=n, **values)


def number(value: float, digits: int = 3) -> str:
    """A number of some significant digits, with the language's decimal mark.

    >>> number(0.12345), number(1234.5678)
    ('0.123', '1235')
    """
    text = f"{value:.{digits}g}" if abs(value) < 10**digits else f"{value:.0f}"
    return localised_digits(text)


def localised_digits(text: str) -> str:
    """Numerals with the decimal mark of the language in use."""
    return text if language() == SOURCE else re.sub(r"(?<=\d)\.(?=\d)", ",", text)


def day(value: date | datetime) -> str:
    """A day as the language writes it: 2026-11-21, or 21.11.2026 in German."""
    return f"{value.day:02}.{value.month:02}.{value.year:04}" if language() == "de" else value.isoformat()[:10]


@cache
def _messages(wanted: str) -> Mapping[str, str]:
    """Translations by English text."""
    if wanted == SOURCE:
        return {}
    from babel.messages.pofile import read_po

    with (files("assessor") / "locale" / f"{wanted}.po").open("rb") as stream:
        found = read_po(stream)
    return {str(item.id): str(item.string) for item in found if item.id and item.string and not item.fuzzy}


# --- texts that were stored in English -------------------------------------------------------------------------------


@cache
def _retelling(wanted: str) -> Retelling:
    return Retelling(_messages(wanted), decimal_mark="," if wanted == "de" else ".")


def retold(text: str) -> str:
    """A text stored in English, in the language in use; a line stays as it is where nobody translated it."""
    wanted = language()
    if wanted == SOURCE:
        return text
    whole = _messages(wanted).get(text)
    return "\n".join(_retelling(wanted).said(line) or line for line in text.split("\n")) if whole is None else whole


def is_retold(text: str) -> bool:
    """Whether `retold` knows the text; where not, it has to be marked as English."""
    wanted = language()
    if wanted == SOURCE or text in _messages(wanted):
        return True
    return all(_retelling(wanted).said(line) is not None for line in text.split("\n") if line.strip())
