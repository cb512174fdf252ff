"""Markdown as far as statements need it: sections by their headings, and the text in them as plain blocks.

Written by hand, since every step must take linear time on text of strangers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

FENCES = ("```", "~~~")
LONGEST_TITLE = 200
MOST_SECTIONS = 5000  # headings after them are text

_IMAGE = re.compile(r"!\[[^\]\n]{0,300}\]\([^)\n]{0,1000}\)")
_TAG = re.compile(r"</?[A-Za-z][^<>\n]{0,300}>")
_BULLET = re.compile(r"(?:[-*+]|\d{1,3}[.)])\s+")
_LINK = re.compile(r"\[([^\]\n]{0,200})\]\([^)\n]{0,500}\)")
_NUMBERING = re.compile(r"^\d{1,3}(?:\.\d{1,3}){0,4}[.)]?\s+")


class Section(NamedTuple):
    """A heading and what follows it up to the next one.

    Attributes:
        level: 1 to 6; 0 for what comes before the first heading.
        title: The heading's text.
        lines: Lines below it.
    """

    level: int
    title: str
    lines: list[str]


def sections(text: str) -> list[Section]:
    """The sections of a document in order; headings are `# so`, or underlined by `===` or `---`."""
    found = [Section(0, "", [])]
    fence = ""
    for line in without_comments(text).split("\n"):
        stripped = line.strip()
        lines = found[-1].lines
        if fence:
            fence = "" if stripped.startswith(fence) else fence
            lines.append(line)
        elif stripped.startswith(FENCES):
            fence = stripped[:3]
            lines.append(line)
        elif len(found) > MOST_SECTIONS:
            lines.append(line)
        elif level := _heading_level(line):
            title = stripped[level:].strip().rstrip("#").strip()
            found.append(Section(level, title[:LONGEST_TITLE], []))
        elif _underlines(stripped, lines):
            title = lines.pop().strip()
            found.append(Section(1 if stripped[0] == "=" else 2, title[:LONGEST_TITLE], []))
        else:
            lines.append(line)
    return found


def without_comments(text: str) -> str:
    """Text without `<!-- ... -->`; an unfinished comment hides the rest, as on a web page."""
    kept, at = [], 0
    while (start := text.find("<!--", at)) >= 0:
        kept.append(text[at:start])
        end = text.find("-->", start + 4)
        at = len(text) if end < 0 else end + 3
    return "".join([*kept, text[at:]])


def _heading_level(line: str) -> int:
    """1 to 6 for a heading, else 0."""
    start = line[:12].lstrip(" ")
    level = len(start) - len(start.lstrip("#"))
    return level if 1 <= level <= 6 and start[level : level + 1] in {" ", "\t"} else 0


def _underlines(stripped: str, lines: Sequence[str]) -> bool:
    """Whether a line makes a heading of the one above, which stands alone."""
    if len(stripped) < 3 or stripped[0] not in "=-" or stripped.strip(stripped[0]):
        return False
    above = lines[-1].strip() if lines else ""
    alone = len(lines) < 2 or not lines[-2].strip()
    return bool(above) and alone and above[0] not in "-*+|>=<#" and "|" not in above


def name_of(title: str) -> str:
    """A heading as it is compared: without numbering, marks, links and `[optional]`, in small letters.

    >>> name_of("3.1 **Out-of-Scope Use** [optional]"), name_of("Training Data & Procedure:")
    ('out of scope use', 'training data and procedure')
    """
    text = _LINK.sub(r"\1", title[:LONGEST_TITLE]).casefold().replace("[optional]", "").replace("(optional)", "")
    text = _NUMBERING.sub("", text.strip(" *_`")).replace("&", " and ")
    return " ".join(re.sub(r"[^a-z0-9äöüß]+", " ", text).split())


def blocks(lines: Sequence[str]) -> list[str]:
    """Text as one line a paragraph, list item (`- so`) or table row (`- column: cell; column: cell`).

    Args:
        lines: Lines of a section.

    Returns:
        Blocks without images, HTML and bold marks; code stays as it is.
    """
    return [text for text in (_bare(block) for block in _joined(lines)) if text.removeprefix("- ").strip()]


def _bare(block: str) -> str:
    return _TAG.sub("", _IMAGE.sub("", block)).replace("**", "").rstrip()


def _joined(lines: Sequence[str]) -> Iterator[str]:
    paragraph: list[str] = []
    fence = ""
    at = 0
    while at < len(lines):
        line = lines[at].strip().lstrip("> ")
        at += 1
        starts = fence or line.startswith(FENCES) or not line or _BULLET.match(line) or _is_rule(line)
        is_table = not starts and "|" in line and at < len(lines) and _is_separator(lines[at])
        if (starts or is_table) and paragraph:
            yield " ".join(paragraph)
            paragraph = []
        if fence:
            if line.startswith(fence):
                fence = ""
            else:
                yield lines[at - 1].rstrip()
        elif line.startswith(FENCES):
            fence = line[:3]
        elif is_table:
            end = at + 1
            while end < len(lines) and "|" in lines[end]:
                end += 1
            yield from _table(line, lines[at + 1 : end])
            at = end
        elif bullet := _BULLET.match(line):
            paragraph = ["- " + line[bullet.end() :]]
        elif line and not _is_rule(line):
            paragraph.append(line)
    if paragraph:
        yield " ".join(paragraph)


def _is_rule(line: str) -> bool:
    return len(line) >= 3 and line[0] in "-*_=" and not line.strip(line[0] + " ")


def _is_separator(line: str) -> bool:
    return "-" in line and "|" in line and not line.strip().strip("|-: ")


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")]


def _table(head: str, rows: Sequence[str]) -> Iterator[str]:
    """Rows as list items that name their columns, so that a cell is understood wherever it ends up."""
    columns = _cells(head)
    for line in rows:
        pairs = zip(columns, _cells(line), strict=False)
        yield "- " + "; ".join(f"{column}: {cell}" if column else cell for column, cell in pairs if cell)
