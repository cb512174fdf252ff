"""What a report in PDF holds: attached files, and the text of a page.

It says nothing on whether that was signed; `pdf_signatures` does.
"""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from assessor.certificates import LIBRARIES, plain
from assessor.errors import IntegrityError
from assessor.signers import quiet, require_libraries

if TYPE_CHECKING:
    from pypdf import PdfReader
    from pypdf.generic import IndirectObject, PdfObject


def attachments(data: bytes) -> dict[str, bytes]:
    """Files embedded in a PDF, by name.

    Args:
        data: The PDF, best a `signed_revision`.

    Returns:
        Content by name; empty if there are none.

    Raises:
        IntegrityError: The file is damaged, or two different files have one name.
    """
    require_libraries()
    with quiet(*LIBRARIES):
        try:
            found = {str(name): list(contents) for name, contents in _reader(data).attachments.items()}
        except Exception as error:  # pypdf lets AttributeError, zlib.error and others through on a broken file
            raise IntegrityError(f"the PDF is damaged, its attachments cannot be read: {plain(error)}") from error
    for name, contents in found.items():
        if len(set(contents)) != 1:
            raise IntegrityError(f"the PDF holds {len(set(contents))} different attachments named {name!r}")
    return {name: contents[0] for name, contents in found.items()}


def page_text(data: bytes, page_numbers: Iterable[int]) -> str:
    """Text of some pages without any whitespace, so that a digest that was wrapped can be found.

    Args:
        data: The PDF, best a `signed_revision`.
        page_numbers: Counted from 1.

    Returns:
        The text of those pages in the order given; ligatures are taken apart.

    Raises:
        IntegrityError: The file is damaged or has no such page.
    """
    require_libraries()
    with quiet(*LIBRARIES):
        try:
            pages = _reader(data).pages
            wanted = list(page_numbers)
            if any(not 1 <= number <= len(pages) for number in wanted):
                raise IntegrityError(f"the PDF has {len(pages)} page(s), wanted {wanted}")
            text = "".join(pages[number - 1].extract_text() for number in wanted)
        except IntegrityError:
            raise
        except Exception as error:  # as in attachments
            raise IntegrityError(f"the PDF is damaged, its text cannot be read: {plain(error)}") from error
    return "".join(unicodedata.normalize("NFKC", text).split())


@lru_cache(maxsize=1)
def _reader(data: bytes) -> PdfReader:
    """A PDF, opened once, of which nothing is parsed but what is asked for.

    PyPDF parses all objects of a stream when it wants one: 28 000 of a tagged report, two seconds. What is odd in a
    stream is left to it.
    """
    from pypdf import PdfReader
    from pypdf.generic import IndirectObject, read_object

    opened: dict[int, tuple[io.BytesIO, int, list[bytes]]] = {}

    class Reader(PdfReader):
        def _get_object_from_stream(self, indirect_reference: IndirectObject) -> PdfObject:
            number = indirect_reference.idnum
            holder, place = self.xref_objStm[number]
            if holder not in opened:
                stream: Any = IndirectObject(holder, 0, self).get_object()
                content, first = stream.get_data(), int(stream["/First"])
                opened[holder] = io.BytesIO(content), first, content[:first].split()
            file, first, table = opened[holder]
            pair = [int(one) for one in table[2 * place : 2 * place + 2]]
            if pair[:1] != [number]:
                return super()._get_object_from_stream(indirect_reference)
            file.seek(first + pair[1])
            return read_object(file, self)

    return Reader(io.BytesIO(data))
