"""Sentences stored in one language, said again in another: recognised by their templates, part by part. Pure.

`no file {path}` recognises `no file a.csv`. What fills a place is said again too where it is a text that is known.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from itertools import islice
from typing import NamedTuple

PLACE = re.compile(r"\{(\w+)\}")
_CUT = re.compile(r"(?<=[.!?:]) (?=\S)|; |, | (?:and|or) ")  # between sentences, and between the items of a list
_STOP = re.compile(r"(?<=[.!?]) (?=\S)")
_PLACE = re.compile(r" \(\S+:\d+\)$")  # a file with its line, after a sentence
_LEAD = re.compile(r"\S*[./:_#\[\d]\S*")  # a file with its line, a field, an exception: names before a sentence
_NAME, _QUOTED = re.compile(r"\S*|'[^']*'"), re.compile(r"'[^']*'")
_NUMERAL = re.compile(r"[-+]?\d+(\.\d+)?(e[-+]?\d+)? ?(?P<percent>%?)")
_OUR_WORDS = re.compile(
    r"(kind|role|rows|task|unit|verb)\d*"
)  # places that hold a single word of ours; others hold names
_WEAK = 6  # letters: with fewer of its own a template takes no value that may be a sentence
_MOST_CUTS = 40
_MOST_KEPT = 20_000
_MOST_STEPS = 1500  # of recognising one text; ours take a tenth
_LONGEST = 3000  # characters of a text


class _Template(NamedTuple):
    text: str
    translation: str
    literal: str
    letters: int


class Retelling:
    """One language's translations, for texts that were put together from the English ones."""

    def __init__(self, messages: Mapping[str, str], *, decimal_mark: str = ".") -> None:
        """Start.

        Args:
            messages: Translations by English text, both with the same `{places}`.
            decimal_mark: Of numbers that fill a place.
        """
        self._messages = messages
        self._mark = decimal_mark
        self._patterns: dict[str, re.Pattern[str]] = {}
        self._known: dict[str, str | None] = {}
        self._steps = 0

    def said(self, text: str) -> str | None:
        """A text of one line said again, or None where a part of it is not known.

        >>> german = Retelling({"no file {path}": "keine Datei {path}", "; did you mean '{word}'?": "; etwa „{word}“?"})
        >>> german.said("no file a.csv; did you mean 'b.csv'?")
        'keine Datei a.csv; etwa „b.csv“?'
        """
        if len(self._known) > _MOST_KEPT:
            self._known.clear()
        self._steps = 0
        try:
            self._known[text] = self._said(text) if len(text) <= _LONGEST else None
        except RecursionError:  # more parts than any of our texts has
            self._known[text] = None
        return self._known[text]

    def _said(self, text: str) -> str | None:
        """As `said`, for a part of a text; one that was given up for its length is tried again elsewhere."""
        if text in self._known:
            return self._known[text]
        found = (
            self._with_tail(text)
            or self._whole(text, clean=True)
            or self._in_parts(text, clean=True)
            or self._after_lead(text)
            or self._before_place(text)
            or self._in_parts(text, clean=False)
            or self._whole(text)
        )
        if self._steps <= _MOST_STEPS:
            self._known[text] = found
        return found

    @cached_property
    def _templates(self) -> tuple[_Template, ...]:
        """Translations with places, the most particular first."""
        found = []
        for text, translation in self._messages.items():
            pieces = PLACE.sub("\0", text).split("\0")
            if len(pieces) > 1:
                letters = sum(character.isalpha() for piece in pieces for character in piece)
                found.append(_Template(text, translation, max(pieces, key=len), letters))
        return tuple(sorted(found, key=lambda template: (-len(PLACE.sub("", template.text)), template.text)))

    def _match(self, template: _Template, text: str) -> re.Match[str] | None:
        if template.literal not in text:
            return None
        if template.text not in self._patterns:
            self._patterns[template.text] = _pattern(template.text)
        return self._patterns[template.text].fullmatch(text)

    def _whole(self, text: str, *, clean: bool = False) -> str | None:
        """One known text, or one template with its places filled; `clean` by nothing that may be a sentence."""
        self._steps += 1
        if self._steps > _MOST_STEPS:
            return None
        if text in self._messages:
            return self._messages[text]
        if _QUOTED.fullmatch(text):
            return text
        for template in self._templates:
            match = self._match(template, text)
            if match is None:
                continue
            values = {name: self._value(name, value) for name, value in match.groupdict().items()}
            plain = all(said is not None or _NAME.fullmatch(match[name]) for name, said in values.items())
            if plain or (template.letters >= _WEAK and not clean):
                filled = {name: match[name] if said is None else said for name, said in values.items()}
                return template.translation.format_map(filled)
        return None

    def _value(self, name: str, value: str) -> str | None:
        """What fills a place, said again: a number, or words of ours; None for anything else."""
        numeral = _NUMERAL.fullmatch(value)
        if numeral is None:
            return self._said(value) if " " in value or _OUR_WORDS.fullmatch(name) else None
        shown = value.replace(".", self._mark)
        return f"{shown[:-1].rstrip()}\u00a0%" if numeral["percent"] else shown

    def _with_tail(self, text: str) -> str | None:
        """A text to which a remark such as `; did you mean 'x'?` was added."""
        at = text.rfind("; ")
        tail = self._whole(text[at:]) if at > 0 else None
        head = self._said(text[:at]) if tail is not None else None
        return None if head is None or tail is None else head + tail

    def _in_parts(self, text: str, *, clean: bool) -> str | None:
        """Several sentences, or where `clean` a list too: the first that is known, and then the rest."""
        for cut in islice((_CUT if clean else _STOP).finditer(text), _MOST_CUTS):
            head = self._sentence(text[: cut.start()], clean=clean)
            rest = self._said(text[cut.end() :]) if head is not None else None
            if head is not None and rest is not None:
                word = cut[0].strip(" ;,")
                return head + (cut[0].replace(word, self._messages.get(word, word)) if word else cut[0]) + rest
        return None

    def _sentence(self, text: str, *, clean: bool) -> str | None:
        """A known text, with the full stop that joining it to others may have given it."""
        whole = self._whole(text, clean=clean)
        if whole is None and text.endswith("."):
            bare = self._whole(text[:-1], clean=clean)
            return None if bare is None else f"{bare}."
        return whole

    def _after_lead(self, text: str) -> str | None:
        """A known text after the file, line and field that it is about, or after the exception that said it."""
        lead, separator, rest = text.partition(" ")
        if not separator or not _LEAD.fullmatch(lead):
            return None
        known = self._said(rest)
        return None if known is None else f"{lead} {known}"

    def _before_place(self, text: str) -> str | None:
        """A known text before the file and line where it was raised."""
        if (place := _PLACE.search(text)) is None:
            return None
        known = self._said(text[: place.start()])
        return None if known is None else known + place[0]


def _pattern(text: str) -> re.Pattern[str]:
    """What a template recognises; a place that comes twice has one value."""
    parts, seen, at = [], set(), 0
    for place in PLACE.finditer(text):
        parts.append(re.escape(text[at : place.start()]))
        name = place[1]
        parts.append(f"(?P={name})" if name in seen else f"(?P<{name}>.*?)")
        seen.add(name)
        at = place.end()
    return re.compile("".join([*parts, re.escape(text[at:])]))
