"""What was appended to a signed PDF: each later revision is judged by the objects that it changes.

A revision may bring a signature in a field that waited for it, a timestamp of the document, and
certificates with revocation lists (ISO 32000-2:2020, 12.8.4.3), with the few changes elsewhere
that these need. Anything else counts as a change of the document. Two tables are compared, where
each object lay before and where it lies now, so unchanged objects are not even read: a second for
hundreds of tagged pages, where a comparison of all objects takes half a minute.
"""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from xml.etree.ElementTree import canonicalize

from assessor.certificates import plain, read_revocation

if TYPE_CHECKING:
    from pyhanko.pdf_utils.reader import PdfFileReader

_END = re.compile(rb"startxref\s+\d+\s+%%EOF(?:\r\n|\r|\n)?")
_SPACE = b"\0\t\n\f\r "  # ISO 32000-2:2020, table 1
_OF_THE_FILE = {"/Size", "/Prev", "/ID", "/XRefStm"}  # of a trailer, table 15
_OF_A_STREAM = {"/Type", "/W", "/Index", "/Length", "/Filter", "/DecodeParms"}  # table 17
_WIDGET = {"/FT", "/T", "/Type", "/Subtype", "/F", "/Rect", "/P", "/TU", "/V", "/Lock"}
_MADE_BY = {  # what a tool may write of itself into the metadata
    "{http://ns.adobe.com/pdf/1.3/}Producer",
    "{http://ns.adobe.com/xap/1.0/}ModifyDate",
    "{http://ns.adobe.com/xap/1.0/}MetadataDate",
    "{adobe:ns:meta/}xmptk",
}
_OBJECT_END = re.compile(rb"\s*endobj\b")
_TABLE = re.compile(rb"\s*(xref\s[\d\s nf]*trailer\s*<<.*?>>\s*)?startxref\s+(?P<at>\d+)\s+%%EOF\s*", re.DOTALL)
_MOST_TOLD, _MOST_PAGES = 3, 5000
_NOTHING = 1  # permission of a certification (DocMDP), ISO 32000-2:2020, table 257


class Revision(NamedTuple):
    """One appended revision."""

    end: int
    """Where it ends, in bytes."""
    signatures: tuple[str, ...] = ()
    """Fields that were signed."""
    timestamps: tuple[str, ...] = ()
    """Fields of timestamps of the document."""
    revocation: bool = False
    """Whether certificates or revocation lists were added."""
    forbidden: tuple[str, ...] = ()
    """What else was changed, in words; empty if nothing."""


def appended(data: bytes, signed: Sequence[int], whole: PdfFileReader) -> list[Revision]:
    """What was appended after the first signature of a PDF, revision by revision.

    Args:
        data: The PDF.
        signed: Where the bytes that each signature covers end.
        whole: Reads all of `data`; to read a long file once more takes a second.

    Returns:
        The revisions in order, with a border at each of `signed`; bytes that are no revision are a forbidden one.
    """
    start = min(signed)
    ends = {*signed, len(data), *(match.end() for match in _END.finditer(data, start))}
    borders = sorted(end for end in ends if start <= end <= len(data))
    states = (_State.read(data[:end], whole if end == len(data) else None) for end in borders)
    return [_judged(before, after) for before, after in itertools.pairwise(states)]


class _State(NamedTuple):
    """A file as it was at some time: how to read it, and where each object lies."""

    data: bytes
    reader: Any
    table: dict[Any, Any]
    fault: str = ""
    """Why it cannot be read; empty if it can."""

    @classmethod
    def read(cls, data: bytes, reader: PdfFileReader | None) -> _State:
        try:
            found = _checked_reader(data, reader)
            return cls(data, found, _table(found))
        except Exception as error:  # noqa: BLE001 - pyHanko lets KeyError, RecursionError and more through
            return cls(data, None, {}, plain(error))


def _judged(before: _State, after: _State) -> Revision:
    fault = before.fault or after.fault
    if not fault:
        try:
            return _Comparison(before, after).revision()
        except Exception as error:  # noqa: BLE001 - as above
            fault = plain(error)
    return Revision(len(after.data), forbidden=(f"something that cannot be read: {fault}",))


def _checked_reader(data: bytes, reader: PdfFileReader | None) -> PdfFileReader:
    from pyhanko.pdf_utils.reader import PdfFileReader

    reader = reader or PdfFileReader(io.BytesIO(data))
    if reader.encrypted:
        raise ValueError("the file is encrypted")
    if reader.xrefs.hybrid_xrefs_present:
        raise ValueError("the file has two tables of its objects")
    return reader


def _table(reader: PdfFileReader) -> dict[Any, Any]:
    """Where each object lies; later revisions go before earlier ones."""
    found: dict[Any, Any] = {}
    for revision in range(reader.total_revisions):
        data = reader.xrefs.get_xref_data(revision)
        found |= {(number, generation): place for number, (generation, place) in data.standard_xrefs.items()}
        found |= {(number, 0): place for number, place in data.xrefs_in_objstm.items()}
        for number, generation in data.freed.items():  # the next one that the number may have
            found.pop((number, generation - 1), None)
    return found


def _bytes(value: Any) -> bytes:
    """An object as it is written."""
    stream = io.BytesIO()
    value.write_to_stream(stream, None)
    return stream.getvalue()


def got(of: Any, name: str, default: Any = None) -> Any:
    """What a dictionary holds, references followed; its own `get` does not follow them."""
    return of[name] if name in of else default  # noqa: SIM401


def _key(value: Any) -> tuple[int, int] | None:
    """Which object a reference means; None if it is no reference."""
    from pyhanko.pdf_utils.generic import IndirectObject

    return (value.idnum, value.generation) if isinstance(value, IndirectObject) else None


def _said(metadata: bytes) -> str:
    """What metadata (XMP) say, but for who wrote them last; tools declare the same namespaces here and there anew."""
    return canonicalize(metadata, with_comments=True, exclude_attrs=_MADE_BY, exclude_tags=_MADE_BY)


def _identifier(trailer: Any) -> bytes | None:
    """The first half of a file's identifier, which never changes."""
    found: bytes | None = trailer["/ID"][0].original_bytes if "/ID" in trailer else None
    return found


def _differing(old: Any, new: Any, free: Iterable[str] = ()) -> set[str]:
    """Names whose values differ."""
    names = {*old, *new} - set(free)
    return {
        str(name)
        for name in names
        if name not in old or name not in new or _bytes(old.raw_get(name)) != _bytes(new.raw_get(name))
    }


class _Comparison:
    """Two states of a file, the second an update of the first."""

    def __init__(self, before: _State, after: _State) -> None:
        from pyhanko.sign.validation import read_certification_data

        self.start, self.data = len(before.data), after.data
        self.old, self.new = before.reader, after.reader
        self.table_old, self.table_new = before.table, after.table
        self.open = {key for key, place in self.table_new.items() if self._moved(key, place)}
        certification = read_certification_data(self.old)
        self.permitted = certification.permission.value if certification else None
        self.forbidden: list[str] = []
        self.signatures: list[str] = []
        self.timestamps: list[str] = []
        self.revocation = False

    def revision(self) -> Revision:
        """The verdict."""
        changed = set(self.open)
        if self.table_old.keys() - self.table_new.keys():
            self.forbidden.append("objects were taken away")
        self._trailer()
        self._catalog()
        self._metadata()
        widgets = self._form()
        self._pages(widgets)
        self._tables()
        self.forbidden += _in_few([self._told(key) for key in sorted(self.open)])
        self.forbidden += self._unaccounted(changed)
        if not (self.signatures or self.timestamps or self.revocation or self.forbidden):
            self.forbidden.append("something that is no signature was added")
        return Revision(
            len(self.data),
            tuple(self.signatures),
            tuple(self.timestamps),
            self.revocation,
            tuple(dict.fromkeys(self.forbidden)),
        )

    def _moved(self, key: tuple[int, int], place: Any) -> bool:
        """Whether an object lies elsewhere than before; if not, its bytes are the same."""
        if self.table_old.get(key) != place:
            return True
        holder = getattr(place, "obj_stream_id", None)
        return holder is not None and self.table_old.get((holder, 0)) != self.table_new.get((holder, 0))

    def _get(self, reader: PdfFileReader, key: tuple[int, int]) -> Any:
        from pyhanko.pdf_utils.generic import Reference

        return reader.get_object(Reference(*key, pdf=reader))  # type: ignore[no-untyped-call]

    def _permit(self, key: tuple[int, int] | None) -> None:
        if key is not None:
            self.open.discard(key)

    def _is_new(self, key: tuple[int, int] | None) -> bool:
        return key is not None and key in self.open and key not in self.table_old

    def _trailer(self) -> None:
        """No other catalog, no encryption, no other identifier."""
        old, new = self.old.trailer.flatten(), self.new.trailer.flatten()
        wrong = _differing(old, new, _OF_THE_FILE | _OF_A_STREAM)
        if wrong or _identifier(old) != _identifier(new):
            self.forbidden.append(f"the trailer was changed ({', '.join(sorted(wrong)) or '/ID'})")

    def _catalog(self) -> None:
        key = _key(self.new.trailer.raw_get("/Root"))
        old, new = self.old.root, self.new.root
        wrong = _differing(old, new, {"/AcroForm", "/DSS", "/Extensions"})
        if not _are_extensions(got(old, "/Extensions", {}), got(new, "/Extensions", {})):
            wrong.add("/Extensions")
        if wrong:
            self.forbidden.append(f"the catalog was changed ({', '.join(sorted(wrong))})")
        self._permit(key)
        self._store(old, new)

    def _store(self, old: Any, new: Any) -> None:
        """Certificates and revocation lists (the document security store)."""
        if "/DSS" not in new:
            if "/DSS" in old:
                self.forbidden.append("the revocation data was taken away")
            return
        store, before = new["/DSS"], len(self.open)
        self._permit(_key(new.raw_get("/DSS")))
        if set(store) - {"/Type", "/VRI", "/Certs", "/CRLs", "/OCSPs"}:
            self.forbidden.append("something that is no revocation data stands among it")
        self._blobs(store, {"/Certs", "/CRLs", "/OCSPs"})
        records = got(store, "/VRI", {})
        if "/VRI" in store:
            self._permit(_key(store.raw_get("/VRI")))
        for name in records:
            self._permit(_key(records.raw_get(name)))
            if set(records[name]) - {"/Type", "/Cert", "/CRL", "/OCSP", "/TU", "/TS"}:
                self.forbidden.append("something that is no revocation data stands among it")
            self._blobs(records[name], {"/Cert", "/CRL", "/OCSP"})
        self.revocation = len(self.open) < before or ("/DSS" not in old)

    def _blobs(self, store: Any, names: set[str]) -> None:
        for name in names & set(store):
            self._permit(_key(store.raw_get(name)))
            for place in range(len(store[name])):
                key, item = _key(store[name].raw_get(place)), store[name][place]
                if key is None or key not in self.open:
                    continue
                if not self._is_new(key) or set(item) - {"/Length", "/Filter", "/DecodeParms"} or not _is_proof(item):
                    self.forbidden.append("something that is no revocation data stands among it")
                self._permit(key)

    def _metadata(self) -> None:
        """Only the tool that wrote last and when."""
        key = _key(self.new.root.raw_get("/Metadata")) if "/Metadata" in self.new.root else None
        if key is not None and key in self.open and key in self.table_old:
            old, new = self._get(self.old, key), self._get(self.new, key)
            free = {"/Length", "/Filter", "/DecodeParms"}
            if _differing(old, new, free) or _said(old.data) != _said(new.data):
                self.forbidden.append("the metadata was changed")
            self._permit(key)
        key = _key(self.new.trailer.raw_get("/Info")) if "/Info" in self.new.trailer else None
        if key is not None and key in self.open and key in self.table_old:
            if _differing(self._get(self.old, key), self._get(self.new, key), {"/Producer", "/ModDate"}):
                self.forbidden.append("the document's information was changed")
            self._permit(key)

    def _form(self) -> list[tuple[int, int]]:
        """Signed fields, and new ones that are invisible; gives the new ones."""
        old, new = got(self.old.root, "/AcroForm", {}), got(self.new.root, "/AcroForm", {})
        if "/AcroForm" in self.new.root:
            self._permit(_key(self.new.root.raw_get("/AcroForm")))
        wrong = _differing(old, new, {"/Fields", "/SigFlags"})
        was, now = _fields(old), _fields(new)
        if wrong or list(now)[: len(was)] != list(was):
            self.forbidden.append("the form was changed")
        if "/Fields" in new:
            self._permit(_key(new.raw_get("/Fields")))
        added = [key for key in now if key not in was]
        for key in now:
            if key in self.open:
                self._field(key, is_new=key in added)
        return added

    def _field(self, key: tuple[int, int], *, is_new: bool) -> None:
        new = self._get(self.new, key)
        old = new if is_new else self._get(self.old, key)
        name = plain(got(new, "/T", "?"))
        value = _key(new.raw_get("/V")) if "/V" in new else None
        kind = got(new["/V"], "/Type") if self._is_new(value) else None
        waits = is_new or "/V" not in old
        fits = not _differing(old, new, {"/V"}) and got(new, "/FT") == "/Sig"
        if is_new and (set(new) - _WIDGET or any(float(edge) for edge in new["/Rect"])):
            fits = False
        if not (waits and fits and kind in {"/Sig", "/DocTimeStamp"}):
            self.forbidden.append(f"the field {name} was changed")
        elif kind == "/Sig" and self.permitted is not None and (is_new or self.permitted == _NOTHING):
            self.forbidden.append(f"the field {name} was signed, which the first signature does not permit")
        (self.timestamps if kind == "/DocTimeStamp" else self.signatures).append(name)
        self._permit(value)
        self._permit(key)

    def _pages(self, widgets: list[tuple[int, int]]) -> None:
        """A new field stands in the list of what lies upon a page."""
        for key in {_key(self._get(self.new, widget).raw_get("/P")) for widget in widgets}:
            if key is None or key not in self.table_old:
                continue
            old, new = self._get(self.old, key), self._get(self.new, key)
            if key in self.open and not _differing(old, new, {"/Annots"}):
                self._permit(key)
            was, now = _items(old), _items(new)
            if now[: len(was)] == was and set(now[len(was) :]) <= {
                f"{number} {generation} R".encode() for number, generation in widgets
            }:
                self._permit(_key(new.raw_get("/Annots")) if "/Annots" in new else None)
            else:
                self.forbidden.append("something was put upon a page")

    def _tables(self) -> None:
        """The table of this revision, and streams that hold several objects."""
        for key in sorted(self.open):
            if self._is_new(key) and _kind(self._get(self.new, key)) in {"/XRef", "/ObjStm"}:
                self._permit(key)

    def _told(self, key: tuple[int, int]) -> str:
        """What an object is that was changed, in words."""
        was = key in self.table_old
        reader = self.old if was else self.new
        number = _page_of(reader, key)
        if number:
            return f"page {number} was changed"
        what = _kind(self._get(reader, key))
        verb = "was changed" if was else "was added"
        return f"object {key[0]}{f' ({plain(what)})' if what else ''} {verb}"

    def _unaccounted(self, changed: set[tuple[int, int]]) -> list[str]:
        """Whether all appended bytes belong to these objects, and nothing is hidden between them."""
        from pyhanko.pdf_utils.generic import Reference, read_object

        at, stream = self.start, self.new.stream
        for place, key in sorted((self.table_new[key], key) for key in changed if _is_place(self.table_new[key])):
            if place < at or self.data[at:place].strip(_SPACE):
                return ["something was hidden between the objects"]
            head = re.compile(rb"%d\s+%d\s+obj\b\s*" % key).match(self.data, place)
            if not head:
                return ["an object is not where the table says"]
            stream.seek(head.end())
            read_object(stream, Reference(*key, pdf=self.new))
            mark = _OBJECT_END.match(self.data, stream.tell())
            if not mark:
                return ["an object is longer than it says"]
            at = mark.end()
        end = _TABLE.fullmatch(self.data, at)
        if not end:
            return ["something follows the last object"]
        table = int(end["at"])
        known = {self.table_new[key] for key in changed}
        found = table in known or (table >= self.start and self.data.startswith(b"xref", table))
        return [] if found else ["its table of objects is not where it says"]


def _are_extensions(old: Any, new: Any) -> bool:
    """Whether what was added to the names of extensions is what signatures need (ISO 32000-2:2020, 7.12)."""
    return _differing(old, new) <= {"/ESIC", "/ADBE"} - set(old)


def _is_place(place: Any) -> bool:
    return isinstance(place, int)


def _kind(value: Any) -> str:
    from pyhanko.pdf_utils.generic import DictionaryObject

    return str(got(value, "/Type", "")) if isinstance(value, DictionaryObject) else ""


def _is_proof(item: Any) -> bool:
    """Whether a stream holds one certificate, or what says which were revoked."""
    from asn1crypto.x509 import Certificate

    try:
        Certificate.load(item.data, strict=True).native  # noqa: B018 - parsed on first use only
    except (ValueError, TypeError, KeyError):
        try:
            read_revocation(item.data)
        except (ValueError, TypeError, KeyError, AttributeError):
            return False
    return True


def _fields(form: Any) -> list[tuple[int, int]]:
    """The fields of a form, each before those below it."""
    found: list[tuple[int, int]] = []
    waiting = [form] if form else []
    while waiting:
        node = waiting.pop(0)
        below = got(node, "/Fields" if node is form else "/Kids", ())
        for place in range(len(below)):
            key = _key(below.raw_get(place))
            if key is None or key in found:
                raise ValueError("a field that stands in the form itself, or twice")
            found.append(key)
            waiting.append(below[place])
    return found


def _items(page: Any) -> list[bytes]:
    """What lies upon a page, as it is written."""
    return [_bytes(page["/Annots"].raw_get(place)) for place in range(len(got(page, "/Annots", ())))]


def _page_of(reader: PdfFileReader, key: tuple[int, int]) -> int | None:
    """Number of the page that an object is, or is the content of."""
    number, waiting = 0, [reader.root.raw_get("/Pages")]
    while waiting and number < _MOST_PAGES:
        ref = waiting.pop(0)
        node: Any = ref.get_object()
        if "/Kids" in node:
            kids = node["/Kids"]
            waiting[:0] = [kids.raw_get(place) for place in range(len(kids))]
            continue
        number += 1
        if key in {_key(ref), *(_key(node.raw_get(name)) for name in node if name != "/Parent"), *_contents(node)}:
            return number
    return None


def _contents(page: Any) -> Iterator[tuple[int, int] | None]:
    from pyhanko.pdf_utils.generic import ArrayObject

    contents = got(page, "/Contents")
    if isinstance(contents, ArrayObject):
        yield from (_key(contents.raw_get(place)) for place in range(len(contents)))


def _in_few(sentences: list[str]) -> list[str]:
    """The first of many, pages before all else."""
    ordered = sorted(dict.fromkeys(sentences), key=lambda sentence: not sentence.startswith("page "))
    rest = len(ordered) - _MOST_TOLD
    return ordered if rest <= 0 else [*ordered[:_MOST_TOLD], f"{rest} more objects"]
