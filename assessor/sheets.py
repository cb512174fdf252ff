"""Answers through files: the open questions out to a CSV or Excel sheet, and answers in from YAML, CSV or Excel.

A sheet has one row for each verdict, question and target. Nothing is saved unless every row fits; then each requirement
is saved by itself, as if it had been typed.
"""

from __future__ import annotations

import csv
import io
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import ZipFile

from assessor import yamlfile
from assessor.answering import Draft, Saved, add_file, made_answer, read_evidence, save, stated_by_replies
from assessor.applicability import Scope
from assessor.assessment import Assessment
from assessor.criteria import followed_catalog
from assessor.errors import MissingExtra, UsageError, nearest
from assessor.evidence import find, is_here
from assessor.messages import _
from assessor.model import Answer, Answers, Catalog, Param, ParamValue, Question, Requirement, Role, Verdict
from assessor.project import Project, checked_answer
from assessor.questionnaire import STATED_BY_REPLIES, drafts
from assessor.replies import (
    ANSWERS,
    HINTS,
    checked_param,
    checked_reply,
    checked_verdict,
    editable,
    editable_param,
    label,
)

COLUMNS = ("id", "part", "question", "form", "reply", "because", "evidence")
WIDTHS = (18, 12, 60, 28, 60, 40, 24)
VERDICT = "verdict"
MAX_UNPACKED = 2**24  # bytes of an Excel file when unpacked
MAX_ELEMENTS = 300_000  # marks of XML in it, of beginnings and ends
MAX_ROWS = 100_000
MAX_COLUMNS = 50
MAX_FAULTS = 100  # that are told at once


class Row(NamedTuple):
    """One line of a sheet; `number` is its line in the file."""

    number: int
    id: str
    part: str
    reply: str
    because: str
    evidence: str


# --- out -------------------------------------------------------------------------------------------------------------


def write_sheet(path: Path, waiting: Sequence[Requirement], found: Assessment) -> None:
    """Write questions as a sheet to be filled.

    Args:
        path: Ends in .csv or .xlsx.
        waiting: The requirements.
        found: The assessment, for what is known already.

    Raises:
        UsageError: Another ending, or the file exists.
    """
    if path.exists():
        raise UsageError(_("{path} exists; name another file", path=path))
    rows = [row for requirement in waiting for row in _rows(requirement, found)]
    if path.suffix == ".csv":
        text = io.StringIO(newline="")
        csv.writer(text).writerows([COLUMNS, *((_harmless(cell) for cell in row.cells) for row in rows)])
        path.write_text(text.getvalue(), "utf-8-sig")
    elif path.suffix == ".xlsx":
        _write_excel(path, rows)
    else:
        raise UsageError(_("{path}: wanted a file name that ends in .csv or .xlsx", path=path))


class _Line(NamedTuple):
    cells: tuple[str, ...]
    choices: tuple[str, ...]


def _rows(requirement: Requirement, found: Assessment) -> Iterator[_Line]:
    known = found.answers.get(requirement.id)
    for question in found.scope.questions(requirement):
        text, note = next(_drafted(question, requirement, found), ("", ""))
        choices = tuple(label(question, choice) for choice in question.choices)
        form = " / ".join(choices) or _(HINTS.get(question.type, "text"))
        if question.columns:
            form = " | ".join(label(question, column) for column in question.columns)
        yield _Line((requirement.id, question.id, question.text, form, text, note, ""), choices)
    for param in requirement.params:
        kept = known.params.get(param.id) if known else None
        choices = tuple(label(param, choice) for choice in param.options)
        form = " / ".join(choices) or f"{_(param.type.value)} {param.unit or ''}".strip()
        text = editable_param(param, kept.value) if kept else ""
        yield _Line((requirement.id, param.id, param.label, form, text, kept.because if kept else "", ""), choices)
    if requirement.aspect not in STATED_BY_REPLIES:
        words = tuple(_(str(verdict).replace("_", " ")) for verdict in ANSWERS)
        text = _(str(known.value).replace("_", " ")) if known else ""
        because = known.because if known else ""
        part = _verdict_part(requirement)
        yield _Line((requirement.id, part, requirement.title, " / ".join(words), text, because, ""), words)


def _verdict_part(requirement: Requirement) -> str:
    """The part that stands for the verdict itself; in brackets where a question has that name."""
    return f"({VERDICT})" if requirement.question(VERDICT) or requirement.param(VERDICT) else VERDICT


def _drafted(question: Question, requirement: Requirement, found: Assessment) -> Iterator[tuple[str, str]]:
    """What is known already as it could be typed, and where it comes from: said before, else first drafts."""
    value = found.scope.replies(requirement.id).get(question.id)
    known = found.answers.get(requirement.id)
    if value is not None:
        yield editable(question, value), known.origins.get(question.id, "") if known else ""
    for draft in drafts(question, found.scope, found.runs, found.known):
        yield editable(question, draft.value), draft.origin


def _one_line(text: str) -> str:
    return " ".join(text.split())


_FORMULA = re.compile(r"'*[=+\-@\t\r＝＋－＠]")
_GUARDED = re.compile(r"'+[=+\-@\t\r＝＋－＠]")


def _harmless(cell: str) -> str:
    """Text that no spreadsheet takes for a formula; one quote more, which reading takes off again."""
    return f"'{cell}" if _FORMULA.match(cell) else cell


def _write_excel(path: Path, rows: Sequence[_Line]) -> None:
    openpyxl = _openpyxl()
    from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE
    from openpyxl.styles import Alignment, Font, PatternFill
    from openpyxl.worksheet.datavalidation import DataValidation

    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = "assessor"
    sheet.append(list(COLUMNS))
    for index, width in enumerate(WIDTHS):
        cell = sheet.cell(1, index + 1)
        cell.font = Font(bold=True)
        sheet.column_dimensions[cell.column_letter].width = width
    sheet.freeze_panes = "A2"
    to_fill = PatternFill("solid", fgColor="FFF7DC")
    lists: dict[tuple[str, ...], Any] = {}
    for number, row in enumerate(rows, start=2):
        for column, text in enumerate(row.cells, start=1):
            cell = sheet.cell(number, column)
            cell.value = ILLEGAL_CHARACTERS_RE.sub("", text)
            cell.data_type = "s"
            cell.alignment = Alignment(wrap_text=True, vertical="top")
            if COLUMNS[column - 1] in {"reply", "because", "evidence"}:
                cell.fill = to_fill
        formula = f'"{",".join(row.choices)}"'
        if row.choices and len(formula) <= 255 and not any({",", '"'} & set(choice) for choice in row.choices):
            rule = lists.get(row.choices)
            if rule is None:
                rule = lists[row.choices] = DataValidation(type="list", formula1=formula, allow_blank=True)
                rule.showErrorMessage = False
                sheet.add_data_validation(rule)
            rule.add(sheet.cell(number, COLUMNS.index("reply") + 1))
    book.save(path)


def _openpyxl() -> Any:
    try:
        import openpyxl
    except ImportError as fault:
        raise MissingExtra(".xlsx", "sheets") from fault
    return openpyxl


# --- in --------------------------------------------------------------------------------------------------------------


def read_answers(project: Project, path: Path, *, by: str) -> list[Saved]:
    """Save the answers of a file.

    Args:
        project: The folder.
        path: .yaml in the form of answers/, or a sheet (.csv, .xlsx) with at least the columns id, part and reply.
        by: Who answers.

    Returns:
        What was saved.

    Raises:
        UsageError: Something does not fit, one fault a line; then nothing is saved.
    """
    if path.suffix in {".yaml", ".yml"}:
        plan = _from_yaml(path, project, followed_catalog(project.configuration()))
    elif path.suffix == ".csv":
        plan = _from_rows(_csv_rows(path), project, path, by)
    elif path.suffix == ".xlsx":
        plan = _from_rows(_excel_rows(path), project, path, by)
    else:
        raise UsageError(_("{path}: wanted a file name that ends in .yaml, .csv or .xlsx", path=path))
    for requirement, answer, files in plan:
        save(project, requirement, answer, files)
    return [Saved(requirement.id, str(answer.value)) for requirement, answer, _files in plan]


_Plan = list[tuple[Requirement, Answer, Mapping[str, bytes]]]


def _from_yaml(path: Path, project: Project, catalog: Catalog) -> _Plan:
    document, register = yamlfile.read(path, path.name), project.evidence(catalog)
    plan: _Plan = []
    for name, answer in yamlfile.validate(document, Answers).root.items():
        requirement = catalog.by_id.get(name)
        where = f"{path.name}:{document.lines[(name,)]} {name}"
        if requirement is None:
            raise UsageError(
                _("{where}: no requirement '{name}'", where=where, name=name) + nearest(name, catalog.by_id)
            )
        for item in answer.evidence:
            if not is_here(project, register, item):
                raise UsageError(f"{where} evidence: {_not_here(item.name)}")
        plan.append((requirement, checked_answer(requirement, answer, catalog, where), {}))
    return plan


def _csv_rows(path: Path) -> Iterator[tuple[int, Sequence[object]]]:
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as fault:
        raise UsageError(_("{path}: cannot read it as UTF-8 text: {fault}", path=path, fault=fault)) from fault
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    line = 1
    try:
        for cells in reader:
            yield line, [cell[1:] if _GUARDED.match(cell) else cell for cell in cells]
            line = reader.line_num + 1
    except csv.Error as fault:
        raise UsageError(_("{path}:{line} cannot read this row: {fault}", path=path, line=line, fault=fault)) from fault


def _excel_rows(path: Path) -> list[tuple[int, Sequence[object]]]:
    openpyxl = _openpyxl()
    from zipfile import BadZipFile

    from openpyxl.utils.exceptions import InvalidFileException

    broken = (
        *(OSError, EOFError, BadZipFile, zlib.error, InvalidFileException),  # no archive of its kind
        *(AttributeError, LookupError, RuntimeError, SyntaxError, TypeError, ValueError),  # XML that says nonsense
    )
    try:
        _refuse_bombs(path)
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        try:
            rows = book.worksheets[0].iter_rows(values_only=True, max_row=MAX_ROWS, max_col=MAX_COLUMNS)
            return list(enumerate(rows, start=1))
        finally:
            book.close()
    except broken as fault:
        raise UsageError(_("{path}: cannot read it as an Excel file: {fault}", path=path, fault=fault)) from fault


def _refuse_bombs(path: Path) -> None:
    """Refuse what takes memory and time to read: parts that unpack too far, too many cells, entities of XML."""
    with ZipFile(path) as archive:  # which reads no more of a part than its directory says
        size = sum(part.file_size for part in archive.infolist())
        if size > MAX_UNPACKED:
            raise UsageError(_("{path}: unpacks to {size} bytes, more than a sheet of ours has", path=path, size=size))
        parts = [archive.read(part).replace(b"\0", b"") for part in archive.infolist()]  # UTF-16 as UTF-8
    if any(b"<!DOCTYPE" in part for part in parts):
        raise UsageError(_("{path}: found a document type in its XML, which no sheet has", path=path))
    if sum(part.count(b"<") for part in parts) > MAX_ELEMENTS:
        raise UsageError(_("{path}: found more than {n} elements of XML in it", path=path, n=MAX_ELEMENTS))


def _text(cell: object) -> str:
    """A cell as it would be typed: spreadsheets hold days, numbers and truth values as such."""
    match cell:
        case None:
            return ""
        case bool():
            return "yes" if cell else "no"
        case datetime():
            return cell.isoformat().removesuffix("T00:00:00")
        case date():
            return cell.isoformat()
        case _:
            return str(cell).strip()


def _sheet(lines: Iterable[tuple[int, Sequence[object]]], path: Path) -> list[Row]:
    """The filled rows of a sheet, by the names in its first line."""
    iterator = iter(lines)
    heads = [_text(cell).casefold() for cell in next(iterator, (1, ()))[1]]
    missing = [name for name in ("id", "part", "reply") if name not in heads]
    if missing:
        raise UsageError(
            _(
                "{path}:1 found no column {missing}; wanted: {wanted}",
                path=path,
                missing=", ".join(missing),
                wanted=", ".join(COLUMNS),
            )
        )
    rows = []
    for number, cells in iterator:
        values = {head: _text(cell) for head, cell in zip(heads, cells, strict=False)}
        row = Row(number, *(values.get(name, "") for name in ("id", "part", "reply", "because", "evidence")))
        if row.reply or row.evidence:
            rows.append(row)
    return rows


@dataclass
class _Filled:
    """What a sheet says of one requirement."""

    requirement: Requirement
    line: int
    draft: Draft
    verdict: Verdict | None
    because: str


def _from_rows(lines: Iterable[tuple[int, Sequence[object]]], project: Project, path: Path, by: str) -> _Plan:
    found = Assessment.read(project)
    by_id = found.catalog.by_id
    faults: list[str] = []
    by_requirement: dict[str, list[Row]] = {}
    for row in _sheet(lines, path):
        if row.id in by_id:
            by_requirement.setdefault(by_id[row.id].id, []).append(row)
        elif row.id:
            hint = nearest(row.id, by_id) if len(faults) < MAX_FAULTS else ""
            faults.append(f"{path}:{row.number} id: {_('no requirement')} '{row.id}'{hint}")
        else:
            faults.append(f"{path}:{row.number} id: {_('found a reply without the id of its requirement')}")
    filled = [_read_rows(by_id[name], rows, project, found, path, faults) for name, rows in by_requirement.items()]
    replies = {item.requirement.id: item.draft.replies for item in filled}
    scope = Scope(found.catalog, found.configuration, found.answers, replies)
    plan = [entry for item in filled if (entry := _finished(item, scope, path, by, faults))]
    if len(faults) > MAX_FAULTS:
        faults[MAX_FAULTS:] = [_("{path}: {n} more faults", path=path, n=len(faults) - MAX_FAULTS)]
    if faults:
        raise UsageError("\n".join(faults))
    return plan


def _read_rows(
    requirement: Requirement, rows: Sequence[Row], project: Project, found: Assessment, path: Path, faults: list[str]
) -> _Filled:
    """The rows of one requirement over what is known of it; faults are added, with their line."""
    known = found.answers.get(requirement.id)
    draft = Draft(dict(known.replies), dict(known.origins), dict(known.params)) if known else Draft()
    filled = _Filled(
        requirement, rows[0].number, draft, Verdict(known.value) if known else None, known.because if known else ""
    )
    for row in rows:
        try:
            if row.reply and row.part == _verdict_part(requirement):
                verdict = checked_verdict(row.reply)
                filled.because = row.because or (filled.because if verdict is filled.verdict else "")
                filled.verdict = verdict
            elif row.reply:
                _set_part(requirement, row, draft, found)
            for name in filter(None, map(str.strip, row.evidence.split(";"))):
                _show(name, path, draft, project, found)
        except UsageError as fault:
            faults.append(f"{path}:{row.number} {requirement.id}.{row.part}: {fault}")
    return filled


def _show(name: str, path: Path, draft: Draft, project: Project, found: Assessment) -> None:
    """Evidence that a sheet names: a file beside it, else a piece of the register by name or digest."""
    file = _beside(path, name)
    if file.exists() or file.is_symlink():
        for known, content in read_evidence([file]).items():
            add_file(draft.files, known, content)
        return
    try:
        item = find(found.evidence, name)
    except UsageError as fault:
        raise UsageError(_("'{name}' is not beside the sheet: {fault}", name=name, fault=fault)) from fault
    reference = item.evidence.reference(item.sha256)
    if not is_here(project, found.evidence, reference):
        raise UsageError(_not_here(reference.name))
    draft.shared.append(reference)


def _not_here(name: str) -> str:
    return _("no file {name} of this digest in the assessment", name=name)


def _beside(path: Path, name: str) -> Path:
    """A file that a sheet names; only in the folder of the sheet, since others may have written it."""
    found, folder = path.parent / name, path.parent.resolve()
    if "\0" in name or not found.resolve().is_relative_to(folder):
        raise UsageError(
            _("'{name}' lies outside the folder of the sheet; name it with  assessor evidence add", name=name)
        )
    return found


def _finished(
    filled: _Filled, scope: Scope, path: Path, by: str, faults: list[str]
) -> tuple[Requirement, Answer, Mapping[str, bytes]] | None:
    """The answer; None as long as a verdict, or a reply that stands for it, is missing."""
    requirement, draft, verdict, because = filled.requirement, filled.draft, filled.verdict, filled.because
    if verdict is None and requirement.aspect in STATED_BY_REPLIES:
        complete = all(question.id in draft.replies for question in scope.questions(requirement))
        verdict = Verdict.FULFILLED if complete else None
        because = str(draft.replies.get("reason") or "")
    if verdict is None:
        return None
    if not because and draft.replies and verdict is not Verdict.NOT_APPLICABLE:
        because = stated_by_replies()
    if not because:
        faults.append(f"{path}:{filled.line} {requirement.id}: {_('a verdict needs its reason')}")
        return None
    return requirement, made_answer(verdict, because, by, draft, scope.answers.get(requirement.id), None), draft.files


def _set_part(requirement: Requirement, row: Row, draft: Draft, found: Assessment) -> None:
    part: Question | Param | None = requirement.question(row.part) or requirement.param(row.part)
    if isinstance(part, Question) and part.role is Role.DEVELOPER:
        notes = {note: _one_line(text) for text, note in _drafted(part, requirement, found)}
        draft.replies[part.id] = checked_reply(part, row.reply)
        draft.origins.pop(part.id, None)
        if row.because and notes.get(row.because, _one_line(row.reply)) == _one_line(row.reply):
            draft.origins[part.id] = row.because
    elif isinstance(part, Param):
        if not row.because:
            raise UsageError(_("a target needs its reason in the column because"))
        draft.params[part.id] = ParamValue(value=checked_param(part, row.reply), because=row.because)
    else:
        known = [item.id for item in requirement.for_developer] + [item.id for item in requirement.params]
        raise UsageError(
            _("no part '{part}'; known: {known}", part=row.part, known=", ".join([*known, _verdict_part(requirement)]))
        )
