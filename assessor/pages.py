"""Pages of ours: HTML from a template, PDF/A from HTML, with a machine-readable record attached."""

from __future__ import annotations

import base64
import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property, partial
from importlib import import_module
from importlib.resources import files
from typing import Any, NamedTuple

from assessor.errors import MissingExtra, UsageError
from assessor.messages import _

FONTS = (
    ("IBM Plex Sans", "400", "normal", "IBMPlexSans-Regular.woff2"),
    ("IBM Plex Sans", "600", "normal", "IBMPlexSans-SemiBold.woff2"),
    ("IBM Plex Sans", "400", "italic", "IBMPlexSans-Italic.woff2"),
    ("IBM Plex Mono", "400", "normal", "IBMPlexMono-Regular.woff2"),
)
PANGO = (
    "making a PDF needs the Pango libraries, and one is missing here. On Debian and Ubuntu:\n"
    "apt-get install --no-install-recommends libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0\n"
    "(without them:  assessor report --format html)"
)


PDF_UA = b"""<rdf:Description rdf:about="" xmlns:pdfuaid="http://www.aiim.org/pdfua/ns/id/">
<pdfuaid:part>1</pdfuaid:part>
</rdf:Description>
<rdf:Description rdf:about="" xmlns:pdfaExtension="http://www.aiim.org/pdfa/ns/extension/"
 xmlns:pdfaSchema="http://www.aiim.org/pdfa/ns/schema#" xmlns:pdfaProperty="http://www.aiim.org/pdfa/ns/property#">
<pdfaExtension:schemas><rdf:Bag><rdf:li rdf:parseType="Resource">
<pdfaSchema:schema>PDF/UA identification</pdfaSchema:schema>
<pdfaSchema:namespaceURI>http://www.aiim.org/pdfua/ns/id/</pdfaSchema:namespaceURI>
<pdfaSchema:prefix>pdfuaid</pdfaSchema:prefix>
<pdfaSchema:property><rdf:Seq><rdf:li rdf:parseType="Resource">
<pdfaProperty:name>part</pdfaProperty:name>
<pdfaProperty:valueType>Integer</pdfaProperty:valueType>
<pdfaProperty:category>internal</pdfaProperty:category>
<pdfaProperty:description>Part of the PDF/UA standard that this document follows</pdfaProperty:description>
</rdf:li></rdf:Seq></pdfaSchema:property>
</rdf:li></rdf:Bag></pdfaExtension:schemas>
</rdf:Description>
"""


class Attached(NamedTuple):
    """A file inside a PDF: its name, its content, what it is, and when it was made (ISO 8601)."""

    name: str
    content: bytes
    description: str
    created: str


def page(template: str, context: Mapping[str, Any], *, digest: str, sources: Mapping[str, str] | None = None) -> str:
    """One HTML page that needs nothing else.

    Args:
        template: Name of the template.
        context: What it shows: plain data.
        digest: Printed at the foot of the first page.
        sources: Texts of templates that take the place of ours, by name.

    Returns:
        HTML.
    """
    from markupsafe import Markup

    style = (files("assessor.templates") / "report" / "report.css").read_text("utf-8")
    style = style.replace("@PAGE@", _("page")).replace("@OF@", _("of")).replace("@DIGEST@", digest)
    # our own file
    whole = Markup(_font_faces() + style)  # noqa: S704
    return _rendered(template, {**context, "style": whole}, sources or {})


def fragment(template: str, context: Mapping[str, Any]) -> str:
    """HTML to be shown inside another page, such as a notebook's.

    Args:
        template: Name of the template.
        context: What it shows: plain data.

    Returns:
        HTML, without a head and without scripts.
    """
    return _rendered(template, context, {})


def _rendered(template: str, context: Mapping[str, Any], sources: Mapping[str, str]) -> str:
    from jinja2 import ChoiceLoader, DictLoader, FileSystemLoader, StrictUndefined, TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    ours = FileSystemLoader(str(files("assessor.templates") / "report"))
    environment = ImmutableSandboxedEnvironment(
        loader=ChoiceLoader([DictLoader(sources), ours]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["_"] = _
    try:
        return environment.get_template(template).render(**context)
    except TemplateError as fault:
        where = f"{getattr(fault, 'name', None) or 'template'}:{getattr(fault, 'lineno', '?')}"
        raise UsageError(f"report template {where}: {fault}") from fault


def pdf(html: str, attached: Attached, pictures: Mapping[str, Callable[[], bytes]] | None = None) -> bytes:
    """HTML as PDF/A-3a and PDF/UA-1 with a file attached; the same bytes for the same input.

    Args:
        html: The page; it may fetch nothing.
        attached: The file.
        pictures: SVG of the pictures that it shows by these addresses; asked for only when the rest has been read.

    Returns:
        The PDF.

    Raises:
        UsageError: The page asks for something outside, or a system library is missing.
        MissingExtra: WeasyPrint is not installed.
    """
    try:
        import weasyprint
        from weasyprint.urls import FatalURLFetchingError, URLFetcher, URLFetcherResponse
    except ModuleNotFoundError as fault:
        raise MissingExtra("making a PDF", "report") from fault
    except OSError as fault:
        raise UsageError(PANGO) from fault

    created = datetime.fromisoformat(attached.created)
    attachment = weasyprint.Attachment(
        string=attached.content,
        name=attached.name,
        description=attached.description,
        relationship="Data",
        created=created,
        modified=created,
    )
    asked: list[str] = []
    plots = pictures or {}
    ours: dict[str, Callable[[], bytes]] = {f"font:{name}": partial(_font, name) for *_how, name in FONTS}
    ours.update(plots)
    html = html.replace(_font_faces(), _font_faces(inside=False))  # as text, they would take half a second to read

    class Refusing(URLFetcher):  # type: ignore[misc]  # a refused picture in an SVG would silently be left out
        def fetch(self, url: str, headers: Any = None) -> Any:
            if url in ours:
                return URLFetcherResponse(url, ours[url](), {"Content-Type": "image/svg+xml"} if url in plots else {})
            if not url.startswith("data:"):
                asked.append(url)
            return super().fetch(url, headers)

    fetcher = Refusing(allowed_protocols={"data"}, fail_on_errors=True)
    try:
        with _no_garbage_collection(), _page_references_once():
            document = weasyprint.HTML(string=html, url_fetcher=fetcher)
            written: bytes | None = document.write_pdf(
                pdf_variant="pdf/a-3a",
                attachments=[attachment],
                pdf_tags=True,
                finisher=_accessible,
            )
    except FatalURLFetchingError as fault:  # a BaseException of WeasyPrint's own
        raise UsageError(f"the template asks for something outside the report: {fault}") from fault
    if asked:
        raise UsageError(f"the template asks for something outside the report: {asked[0]}")
    assert written is not None  # only when written to a target of ours
    return written


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Look for no unreachable objects: the boxes of a long page are many, and stay to the end.

    Measured on 79 pages: an eighth of the time, for 10 MB.
    """
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()  # and back, among the old ones: those that are left are looked for when it is their turn
        gc.unfreeze()
        if before:
            gc.enable()


@contextmanager
def _page_references_once() -> Iterator[None]:
    """Let pydyf write the references of its pages once, and not for each of many thousand tags: 4 % of 110 pages."""
    pydyf: Any = import_module("pydyf")
    written: dict[tuple[int, int], tuple[bytes, ...]] = {}
    usual = pydyf.PDF.page_references

    def once(document: Any) -> tuple[bytes, ...]:
        key = id(document), len(document.pages["Kids"])
        if key not in written:
            written[key] = usual.fget(document)
        return written[key]

    pydyf.PDF.page_references = property(once)
    try:
        yield
    finally:
        pydyf.PDF.page_references = usual


def _accessible(document: object, pdf: Any) -> None:
    """Claim PDF/UA-1 beside PDF/A-3a, which WeasyPrint cannot, and take out of reading aloud what has no text.

    ISO 14289-1:2014, clause 5, and for the description of its name ISO 19005-3:2012, 6.6.2.3.3. A figure without a
    title repeats the word beside it: it becomes a span that is read as nothing.
    """
    pydyf: Any = import_module("pydyf")

    class Packed(pydyf.Stream):  # type: ignore[misc]
        """Packed once; pydyf asks for the data twice."""

        data = cached_property(pydyf.Stream.data.fget)

    for index, item in enumerate(pdf.objects):
        if isinstance(item, pydyf.Stream) and item.extra.get("Type") == "/Metadata":
            content = b"".join(part if isinstance(part, bytes) else part.data for part in item.stream)
            item.stream = [content.replace(b"</rdf:RDF>", PDF_UA + b"</rdf:RDF>")]
        elif isinstance(item, pydyf.Dictionary) and item.get("S") == "/Figure" and "Alt" not in item:
            item["S"] = "/Span"
            item["ActualText"] = pydyf.String("")
            del item["A"]
        if isinstance(item, pydyf.Stream):
            pdf.objects[index] = packed = Packed()
            packed.__dict__.update(item.__dict__)


def _font_faces(*, inside: bool = True) -> str:
    """Style that names our fonts, with their content or with `font:NAME` in its place."""

    def address(name: str) -> str:
        return f"data:font/woff2;base64,{base64.b64encode(_font(name)).decode()}" if inside else f"font:{name}"

    return "".join(
        f"@font-face{{font-family:'{family}';font-weight:{weight};font-style:{style};src:url({address(name)})}}\n"
        for family, weight, style, name in FONTS
    )


def _font(name: str) -> bytes:
    return (files("assessor.templates") / "fonts" / name).read_bytes()
