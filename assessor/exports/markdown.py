"""The catalog as one Markdown document, to be read from front to back."""

from __future__ import annotations

import re
from collections.abc import Iterator

from assessor.messages import _
from assessor.model import Catalog, Param, Question, Requirement, State
from assessor.replies import label


def catalog_markdown(catalog: Catalog) -> str:
    """The catalog in its order: a chapter a dimension, a section an area, each requirement whole.

    Args:
        catalog: In any language.

    Returns:
        CommonMark, ending in a line feed.
    """
    head = catalog.head
    lines = [f"# {_plain(head.title)} {head.version}", "", _plain(head.source.note), ""]
    lines += [f"{_plain(head.source.publisher)}: {_plain(head.source.title)}, {_plain(head.source.edition)}.", ""]
    lines += [f"<{head.source.url}>", ""]
    for dimension in head.dimensions:
        lines += [f"## {dimension.id} {_plain(dimension.title)}", ""]
        for area in dimension.areas:
            lines += [f"### {area.id} {_plain(area.title)}", ""]
            for item in catalog.requirements:
                if item.area == area.id:
                    lines += _requirement(item)
    return "\n".join(lines).rstrip("\n") + "\n"


def _requirement(item: Requirement) -> Iterator[str]:
    yield from (f"#### {item.id} {_plain(item.title)}", "")
    if item.state is State.WITHDRAWN:
        moved = ", ".join(item.replaced_by)
        yield from (_("Withdrawn; replaced by {ids}.", ids=moved) if moved else _("Withdrawn."), "")
    yield from (_plain(item.statement), "")
    yield from (f"**{_('What to do')}** {_plain(item.guidance.do)}", "")
    yield from (f"**{_('Example')}** {_plain(item.guidance.example)}", "")
    yield from _items(_("Mistakes"), [_plain(text) for text in item.guidance.mistakes])
    yield from _items(_("What is established"), [f"{part.id}: {_plain(part.text)}" for part in item.objectives])
    yield from _items(_("Questions"), [_question(question) for question in item.for_developer])
    yield from _items(_("Questions to the auditor"), [_question(question) for question in item.for_auditor])
    yield from _items(_("Targets"), [_param(param) for param in item.params])
    yield from _items(_("Evidence"), [_plain(expected.what) for expected in item.evidence])
    yield from _items(_("Automated checks"), [f"`{check}`" for check in item.checks])
    facts = [
        (_("asked when"), f"`{item.applicability}`" if item.applicability else ""),
        (_("demands"), ", ".join(item.kinds)),
        (_("builds on"), ", ".join(_plain(name) for name in item.refers_to)),
        (_("no automated check"), _plain(item.no_check_because or "")),
        (_("source item"), item.provenance.status),
    ]
    yield from ("; ".join(f"{name}: {text}" for name, text in facts if text), "")


def _items(title: str, texts: list[str]) -> Iterator[str]:
    if texts:
        yield from (f"**{title}**", "", *(f"- {text}" for text in texts), "")


def _question(question: Question) -> str:
    words = question.choices or question.columns
    mark = " | " if question.columns else " / "
    shown = f" ({mark.join(_plain(label(question, word)) for word in words)})" if words else ""
    condition = f" [{_('asked when')} `{question.show_if}`]" if question.show_if else ""
    return f"{question.id}: {_plain(question.text)}{shown}{condition}"


def _param(param: Param) -> str:
    words = f" ({' / '.join(_plain(label(param, word)) for word in param.options)})" if param.options else ""
    unit = f" [{_plain(param.unit)}]" if param.unit and param.unit != "1" else ""
    return f"{param.id}: {_plain(param.label)}{words}{unit}"


def _plain(text: str) -> str:
    """Text in one line in which nothing is markup."""
    escaped = re.sub(r"([\\`*_<>\[\]|])", r"\\\1", " ".join(text.split()))
    return re.sub(r"^(#|[-+]|\d+[.)])(?=\s)", lambda found: f"{found[1][:-1]}\\{found[1][-1]}", escaped)
