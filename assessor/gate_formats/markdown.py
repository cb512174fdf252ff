"""Markdown: a comment on a merge request, or the summary of a step."""

from __future__ import annotations

import re

from assessor.canonical import sha256_hex
from assessor.gate_formats.notices import GateReport, Group, Notice
from assessor.gate_formats.text import closing
from assessor.messages import _

COMMENT_BYTES = 60_000  # GitHub takes 65 536 characters a comment
MOST_SIGNS = 1_000  # of one text in it
MOST_IDS = 200  # in one line
SPECIAL = re.compile(r"([!#$&()*+:<>@\[\\\]^_`{|}~-])")  # what has a meaning in Markdown, HTML or GitHub's own dialect
SIGNS = {Group.BLOCKING: "✖", Group.INCOMPLETE: "?", Group.STALE: "!", Group.WAIVED: "–", Group.TOLERATED: "▲"}


def marker(report: GateReport) -> str:
    """A comment that nobody sees, by which an action finds its own comment again; one an assessment folder."""
    return f"<!-- assessor-gate {sha256_hex(report.folder.encode())[:12]} -->"


def written(report: GateReport, limit: int = COMMENT_BYTES) -> str:
    """As Markdown of at most so many bytes; of too many findings the worst ones."""
    head = [marker(report), "", *(f"**{_plain(line)}**  " for line in closing(report)), ""]
    passed, unjudged = (_ids(report, group) for group in (Group.PASSED, Group.NOT_JUDGED))
    tail = [
        *([_("Passed: {names}", names=passed), ""] if passed else []),
        *([_("Not judged: {names}", names=unjudged), ""] if unjudged else []),
        _("System {system}; policy {file}, SHA-256 {digest}", system=_plain(report.system),
          file=_plain(report.policy.file), digest=f"`{report.policy.sha256[:12]}`"),
    ]  # fmt: skip
    columns = ("", _("what"), _("outcome"), _("why"), _("where"))
    table = [f"| {' | '.join(columns)} |", "|---|---|---|---|---|"] if report.shown else []
    rows = [_row(item) for item in report.shown]
    room = limit - sum(len(line.encode()) + 1 for line in (*head, *table, *tail)) - 200
    kept = _fitting(rows, room)
    more = [_("{n} more findings are left out here.", n=len(rows) - kept), ""] if kept < len(rows) else []
    return "\n".join([*head, *table, *rows[:kept], "", *more, *tail]) + "\n"


def _ids(report: GateReport, group: Group) -> str:
    """What is in a group, by id: as many as a person would read."""
    ids = [f"`{item.finding.id}`" for item in report.notices if item.group is group]
    return ", ".join([*ids[:MOST_IDS], *(["…"] if len(ids) > MOST_IDS else [])])


def _fitting(rows: list[str], room: int) -> int:
    """How many rows fit into so many bytes."""
    for number, row in enumerate(rows):
        room -= len(row.encode()) + 1
        if room < 0:
            return number
    return len(rows)


def _row(item: Notice) -> str:
    finding = item.finding
    cells = (
        f"{SIGNS[item.group]} {_plain(item.group.told)}",
        _plain(finding.id),
        _plain(finding.status),
        _plain(finding.sentence),
        _plain(f"{item.place.file}:{item.place.line}"),
    )
    return f"| {' | '.join(cells)} |"


def _plain(text: str) -> str:
    r"""Text of others in one line, cut where it is too long, in which nothing is Markdown or HTML, nobody is mentioned.

    >>> print(_plain("a|b <i>"))
    a\|b \<i\>
    """
    line = " ".join(text.split())
    line = line if len(line) <= MOST_SIGNS else f"{line[: MOST_SIGNS - 1]}…"
    line = line.replace("@", "@\u200b").replace("#", "#\u200b")
    return SPECIAL.sub(r"\\\1", line)
