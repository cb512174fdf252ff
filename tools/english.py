"""English texts in our own sources, as message templates: `f"no file {path}"` becomes `no file {path}`.

Python is read as a syntax tree and never run; templates of reports are read with Jinja's own parser.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path

from jinja2 import Environment, nodes

MARKED = {"_": 1, "plural": 2}  # our two ways to say that a text is shown, and how many texts each takes
_SILENT_CALLS = """
getattr hasattr setattr get pop compile match fullmatch search sub split rsplit partition rpartition replace startswith
endswith removeprefix removesuffix encode decode strftime strptime joinpath glob rglob filterwarnings getLogger TypeVar
StringConstraints ConfigDict cast find_spec import_module Option Argument Typer isinstance
"""
_SILENT_KEYWORDS = "id version source remedy_code pattern requirements metavar envvar loc color cmap style"
SILENT_CALLS, SILENT_KEYWORDS = frozenset(_SILENT_CALLS.split()), frozenset(_SILENT_KEYWORDS.split())
"""Calls and arguments whose texts are names, patterns, or help that is read elsewhere."""
MOST_VARIANTS = 16
_PLACE = re.compile(r"\{\w+\}")
_WORDS = re.compile(r"(?<![\w.@])[A-Za-z][a-z]+(?![\w.=(@])")
_CODE = re.compile(r"\| None|\(\?|\[\^|</|<\w+ |%[YmdHMS]|://|\\[ds]|\{\{|^--|[a-z]:[a-z_]+;")


def is_prose(text: str) -> bool:
    """Whether people are to read a text: it has two words, not glued together, and does not look like code."""
    plain = _PLACE.sub("0 ", text)
    return len(_WORDS.findall(plain)) > 1 and " " in text.strip() and not _CODE.search(text)


class PythonTexts(ast.NodeVisitor):
    """Texts of one module: the marked ones, messages of exceptions, and where `generous` all other prose."""

    def __init__(self, *, generous: bool) -> None:
        """Start empty.

        Args:
            generous: Whether to take prose that is not marked.
        """
        self.found: list[str] = []
        self._generous = generous

    def visit(self, node: ast.AST) -> None:
        """Look at one node and what is below it."""
        if isinstance(node, ast.Constant | ast.JoinedStr | ast.BinOp):
            self._text(node)
        elif isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            self._message(node.exc)
        elif isinstance(node, ast.Call):
            self._call(node)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            return  # a docstring
        elif isinstance(node, ast.Compare):
            for part in (node.left, *node.comparators):
                if not isinstance(part, ast.Constant):
                    self.visit(part)
        elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            self.visit(node.value)
        elif isinstance(node, ast.AnnAssign | ast.arg | ast.FunctionDef | ast.AsyncFunctionDef):
            self._without_annotations(node)
        else:
            self.generic_visit(node)

    def _without_annotations(self, node: ast.AST) -> None:
        for name, value in ast.iter_fields(node):
            if name not in {"annotation", "returns"}:
                for child in value if isinstance(value, list) else [value]:
                    if isinstance(child, ast.AST):
                        self.visit(child)

    def _text(self, node: ast.expr) -> None:
        found = variants(node)
        if self._generous:
            self.found += [text for text in found if is_prose(text)]
        if not found or not isinstance(node, ast.Constant):
            for child in ast.iter_child_nodes(node):
                self._inside(child)

    def _inside(self, node: ast.AST) -> None:
        """What is put into a text may hold further texts, but its own pieces are none."""
        if isinstance(node, ast.Constant):
            return
        if isinstance(node, ast.JoinedStr | ast.BinOp | ast.FormattedValue):
            for child in ast.iter_child_nodes(node):
                self._inside(child)
        elif isinstance(node, ast.IfExp):
            self._inside(node.test)
            for branch in (node.body, node.orelse):
                self._inside(branch) if variants(branch) else self.visit(branch)
        else:
            self.visit(node)

    def _message(self, call: ast.Call) -> None:
        """The message of an exception: whatever it says, people see it."""
        for argument in call.args[:1]:
            said = variants(argument)
            self.found += [text for text in said if re.search("[A-Za-z]{2}", _PLACE.sub("", text))]
            self._inside(argument) if said else self.visit(argument)
        for part in (*call.args[1:], *call.keywords):
            self.visit(part)

    def _call(self, node: ast.Call) -> None:
        name = called(node)
        marked = MARKED.get(name, 0)
        for argument in node.args[:marked]:
            self.found += variants(argument)
        silent = name in SILENT_CALLS
        for argument in node.args[marked:]:
            if not (silent and isinstance(argument, ast.Constant)):
                self.visit(argument)
        for keyword in node.keywords:
            if keyword.arg not in SILENT_KEYWORDS and not (silent and isinstance(keyword.value, ast.Constant)):
                self.visit(keyword.value)
        if name != "split" or not isinstance(node.func.value, ast.Constant):  # a list of names, written as one text
            self.visit(node.func)
        if isinstance(node.func, ast.Attribute) and node.func.attr == "__init__":
            self._message(node)


def called(node: ast.Call) -> str:
    """Last name of what is called."""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


# --- one expression --------------------------------------------------------------------------------------------------


def variants(node: ast.expr) -> list[str]:
    """The templates an expression can make; none where it makes no text.

    A choice among texts inside gives a template each, equal conditions decided alike.

    >>> variants(ast.parse("f'{path} is ' + ('gone' if x else 'there') + nearest(a, b)", mode="eval").body)
    ['{path} is gone', '{path} is there']
    """
    tests = sorted({ast.unparse(part.test) for part in _choices(node)})
    found: dict[str, None] = {}
    for decisions in list(product((True, False), repeat=len(tests)))[:MOST_VARIANTS]:
        pieces = _pieces(node, dict(zip(tests, decisions, strict=True)))
        if pieces is not None and any(isinstance(piece, str) and piece.strip() for piece in pieces):
            found[_joined(pieces)] = None
    return list(found)


class _Place(ast.expr):
    """Something put into a text."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name


def _choices(node: ast.expr) -> Iterator[ast.IfExp]:
    if isinstance(node, ast.IfExp):
        yield node
        yield from _choices(node.body)
        yield from _choices(node.orelse)
    elif isinstance(node, ast.JoinedStr):
        for value in node.values:
            yield from _choices(value)
    elif isinstance(node, ast.FormattedValue):
        yield from _choices(node.value)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        yield from _choices(node.left)
        yield from _choices(node.right)


def _pieces(node: ast.expr, decisions: Mapping[str, bool]) -> list[str | _Place] | None:
    """Literal parts and places of a text; None where the expression is no text we can see."""
    match node:
        case ast.Constant(value=str() as text):
            return [text]
        case ast.JoinedStr(values=values):
            return [piece for value in values for piece in _pieces(value, decisions) or []]
        case ast.FormattedValue(value=value):
            inner = _pieces(value, decisions)
            return inner if inner is not None else [_Place(place_name(value))]
        case ast.IfExp():
            chosen = node.body if decisions[ast.unparse(node.test)] else node.orelse
            return _pieces(chosen, decisions)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            sides = [_pieces(left, decisions), _pieces(right, decisions)]
            if sides == [None, None]:
                return None
            places = [_Place(place_name(left)), _Place(place_name(right))]
            return [piece for side, place in zip(sides, places, strict=True) for piece in (side or [place])]
        case _:
            return None


def _joined(pieces: Sequence[str | _Place]) -> str:
    """The template, its places named apart; a place for a near miss at the end is left to `retold`."""
    kept = [piece for piece in pieces if piece]
    while kept and isinstance(kept[-1], _Place) and kept[-1].name == "nearest":
        kept.pop()
    has_places = any(isinstance(piece, _Place) for piece in kept)
    text, counts = "", Counter[str]()
    for piece in kept:
        if isinstance(piece, str):
            text += piece.replace("{", "{{").replace("}", "}}") if has_places else piece
        else:
            name = "text" if piece.name == "nearest" else piece.name
            counts[name] += 1
            text += f"{{{name}{counts[name] if counts[name] > 1 else ''}}}"
    return text


def place_name(node: ast.expr) -> str:
    """How a template calls the value of an expression: by its last name, or `text` for anything made up.

    >>> [place_name(ast.parse(x, mode="eval").body) for x in ("a.b.c", "len(x)", "fault['loc'][0]", "f(x)")]
    ['c', 'n', 'loc', 'text']
    """
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name.strip("_").lower() or "text"
        case ast.Subscript(slice=ast.Constant(value=str() as name)) if name.isidentifier():
            return name
        case ast.Subscript(value=value):
            return place_name(value)
        case ast.Call() if called(node) in {"len", "sum"}:
            return "n"
        case ast.Call() if called(node) == "nearest":
            return "nearest"
        case ast.Call(args=[argument]) if called(node) in {"str", "int", "repr", "plain", "list", "sorted"}:
            return place_name(argument)
        case ast.BinOp(left=left):
            return place_name(left)
        case _:
            return "text"


# --- files -----------------------------------------------------------------------------------------------------------


def python_texts(path: Path, *, generous: bool) -> list[str]:
    """Texts of a module, in order, perhaps repeated.

    Args:
        path: The module.
        generous: Whether to take prose that is not marked.

    Returns:
        Templates.
    """
    reader = PythonTexts(generous=generous)
    reader.visit(ast.parse(path.read_text("utf-8")))
    return reader.found


def template_texts(path: Path) -> list[str]:
    """Texts that a Jinja template marks with `_`."""
    tree = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).parse(path.read_text("utf-8"))
    calls = [call for call in tree.find_all(nodes.Call) if isinstance(call.node, nodes.Name) and call.node.name == "_"]
    return [str(call.args[0].as_const()) for call in calls if isinstance(call.args[0], nodes.Const)]
