"""A matplotlib renderer for the report: few flat SVG elements, real text in the report's font.

matplotlib's own SVG nests groups, names every tick and measures text in whatever font the machine has. This one knows
the widths of the report's font, so that the picture is the same everywhere, and a page with many plots is set in half
the time.
"""

from __future__ import annotations

import base64
import io
import re
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

import numpy as np
from matplotlib.backend_bases import FigureCanvasBase, GraphicsContextBase, RendererBase
from matplotlib.colors import to_hex, to_rgba
from matplotlib.path import Path
from matplotlib.transforms import Affine2D, Transform

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties
    from matplotlib.text import Text

FONT = "IBM Plex Sans"
WIDTHS = (
    *(236, 284, 419, 713, 598, 927, 694, 242, 335, 335, 450, 600, 272, 399, 272, 383, 600, 600, 600, 600, 600, 600),
    *(600, 600, 600, 600, 292, 292, 600, 600, 600, 477, 891, 641, 653, 621, 671, 583, 559, 695, 707, 400, 510, 634),
    *(501, 812, 707, 708, 606, 708, 640, 581, 572, 678, 609, 891, 613, 593, 580, 317, 383, 317, 600, 565, 600, 534),
    *(580, 503, 580, 549, 324, 528, 568, 250, 250, 527, 272, 873, 568, 560, 580, 580, 367, 487, 351, 568, 492, 768),
    *(507, 499, 464, 343, 314, 343, 600),
)
"""Advance widths of the characters from space to ~ in thousandths of the font size; others are taken as OTHER."""
OTHER = 620
ASCENT, DESCENT = 0.78, 0.22  # of a line, in font sizes
EXPONENT, RAISED = 0.7, 0.42  # size and height of an exponent, in font sizes
LETTERS = {Path.MOVETO: "M", Path.LINETO: "L", Path.CURVE3: "Q", Path.CURVE4: "C"}


class SvgRenderer(RendererBase):
    """Draws on one page of `width` by `height` points; `svg` gives what was drawn."""

    def __init__(self, width: float, height: float) -> None:
        super().__init__()
        self.width, self.height = width, height
        self._flip = Affine2D().scale(1, -1).translate(0, height)
        self._drawn: list[str] = []
        self._clips: dict[tuple[float, ...], str] = {}

    @property
    def svg(self) -> str:
        """The page as an svg element."""
        width, height = _number(self.width), _number(self.height)
        clips = "".join(
            f'<clipPath id="{name}"><rect x="{box[0]}" y="{box[1]}" width="{box[2]}" height="{box[3]}"/></clipPath>'
            for box, name in self._clips.items()
        )
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}pt" height="{height}pt" '
            f'viewBox="0 0 {width} {height}" font-family="{FONT}">'
        )
        return "\n".join([head, *([f"<defs>{clips}</defs>"] if clips else []), *self._drawn, "</svg>\n"])

    def get_canvas_width_height(self) -> tuple[float, float]:
        """Size of the page in points."""
        return self.width, self.height

    def flipy(self) -> bool:
        """Texts are placed from the top, as in SVG."""
        return True

    def get_text_width_height_descent(
        self, s: str, prop: FontProperties, ismath: bool | str
    ) -> tuple[float, float, float]:
        """Room of one line of text in points."""
        size = float(prop.get_size_in_points())
        width = sum(_width(text) * (EXPONENT if raised else 1.0) for text, raised in _pieces(s, ismath))
        return size * width, size * (ASCENT + DESCENT), size * DESCENT

    def draw_path(
        self,
        gc: GraphicsContextBase,
        path: Path,
        transform: Transform,
        rgbFace: Any = None,
    ) -> None:
        """A line, an outline or an area."""
        simplify = bool(path.should_simplify) and rgbFace is None
        seen = path.cleaned(transform + self._flip, remove_nans=True, simplify=simplify, curves=True)
        vertices, codes = np.asarray(seen.vertices), np.asarray(seen.codes)
        words, style = _words(vertices, codes), _style(gc, rgbFace)
        if words and style:
            points = vertices[(codes != Path.STOP) & (codes != Path.CLOSEPOLY)]
            self._drawn.append(f'<path d="{words}"{style}{self._clip(gc, points)}/>')

    def draw_text(
        self,
        gc: GraphicsContextBase,
        x: float,
        y: float,
        s: str,
        prop: FontProperties,
        angle: float,
        ismath: bool | str = False,
        mtext: Text | None = None,
    ) -> None:
        """A line of text, which stays text."""
        size = float(prop.get_size_in_points())
        turned = f' transform="rotate({_number(-angle)} {_number(x)} {_number(y)})"' if angle else ""
        colour = f' fill="{to_hex(gc.get_rgb())}"'
        for text, raised in _pieces(s, ismath):
            own = size * EXPONENT if raised else size
            place = f'x="{_number(x)}" y="{_number(y - size * RAISED if raised else y)}"'
            self._drawn.append(f'<text {place} font-size="{_number(own)}"{colour}{turned}>{escape(text)}</text>')
            x += own * _width(text)

    def draw_image(
        self, gc: GraphicsContextBase, x: float, y: float, im: Any, transform: Transform | None = None
    ) -> None:
        """A picture made of points, embedded as PNG."""
        from PIL import Image

        height, width = im.shape[:2]
        stream = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(im[::-1])).save(stream, "png")
        place = f'x="{_number(x)}" y="{_number(self.height - y - height)}" width="{width}" height="{height}"'
        content = base64.b64encode(stream.getvalue()).decode()
        self._drawn.append(f'<image {place} href="data:image/png;base64,{content}"/>')

    def _clip(self, gc: GraphicsContextBase, vertices: np.ndarray[Any, Any]) -> str:
        """The attribute that cuts off what lies outside of the axes, where anything does."""
        box = gc.get_clip_rectangle()
        if box is None or not len(vertices):
            return ""
        low, high = vertices.min(axis=0), vertices.max(axis=0)
        left, top, right, bottom = box.x0, self.height - box.y1, box.x1, self.height - box.y0
        if min(low[0] - left, right - high[0], low[1] - top, bottom - high[1]) > -0.01:  # less is not seen
            return ""
        rectangle = tuple(round(float(value), 2) for value in (left, top, right - left, bottom - top))
        return f' clip-path="url(#{self._clips.setdefault(rectangle, f"clip{len(self._clips)}")})"'


class SvgCanvas(FigureCanvasBase):
    """The canvas of a figure that `figure_svg` draws: its layout is measured by the renderer that draws it."""

    def __init__(self, figure: Figure) -> None:
        super().__init__(figure)
        self.renderer = self.fresh()

    def fresh(self) -> SvgRenderer:
        """A renderer for an empty page of the figure's size now: a plot may have changed it."""
        width, height = self.figure.get_size_inches() * self.figure.dpi
        self.renderer = SvgRenderer(float(width), float(height))
        return self.renderer

    def get_renderer(self) -> SvgRenderer:
        """What measures texts."""
        return self.renderer


def figure_svg(figure: Figure) -> str:
    """A figure whose canvas is an `SvgCanvas` and whose dpi is 72, as an svg element."""
    assert isinstance(figure.canvas, SvgCanvas)
    renderer = figure.canvas.fresh()
    figure.draw(renderer)
    return renderer.svg


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _width(text: str) -> float:
    """Width in font sizes."""
    return sum(WIDTHS[ord(char) - 32] if " " <= char <= "~" else OTHER for char in text) / 1000


def _pieces(text: str, ismath: bool | str) -> list[tuple[str, bool]]:
    r"""Parts of a line and whether each is an exponent: of formulas, matplotlib's ticks such as `$10^{-2}$`."""
    if not ismath:
        return [(text, False)]
    plain = re.sub(r"\$|\\math\w+|(?<!\^)\{(?!-?\d+\})", "", text).replace(r"\times", "×")
    parts = re.split(r"\^\{([^}]*)\}", plain)
    found = [(part.strip("{}").replace("-", "−"), place % 2 == 1) for place, part in enumerate(parts)]
    return [(part, raised) for part, raised in found if part]


def _words(vertices: np.ndarray[Any, Any], codes: np.ndarray[Any, Any]) -> str:
    """The `d` of a path."""
    points = [f"{_number(x)} {_number(y)}" for x, y in vertices.tolist()]
    words = []
    last = None
    for point, code in zip(points, codes.tolist(), strict=True):
        if code == Path.STOP:
            break
        if code == Path.CLOSEPOLY:
            words.append("Z")
        elif code == last and code != Path.MOVETO:
            words.append(f" {point}")  # the letter holds on
        else:
            words.append(f"{LETTERS[code]}{point}")
        last = code
    return "".join(words)


def _style(gc: GraphicsContextBase, face: Any) -> str:
    """Attributes of fill and stroke; nothing for what cannot be seen."""
    width, line = gc.get_linewidth(), to_rgba(gc.get_rgb())
    area = (0.0, 0.0, 0.0, 0.0) if face is None else to_rgba(face)
    if gc.get_forced_alpha():
        line, area = (*line[:3], gc.get_alpha()), (*area[:3], gc.get_alpha() if area[3] else 0.0)
    if not area[3] and not (width and line[3]):
        return ""
    words = [_paint("fill", area)]
    if width and line[3]:
        words.append(f'{_paint("stroke", line)} stroke-width="{_number(width)}"')
        offset, dashes = gc.get_dashes()
        if dashes is not None:
            words.append(f' stroke-dasharray="{" ".join(map(_number, np.asarray(dashes, float).tolist()))}"')
            if offset:
                words.append(f' stroke-dashoffset="{_number(float(offset))}"')
        cap = gc.get_capstyle()
        if cap != "butt":
            words.append(f' stroke-linecap="{ {"projecting": "square"}.get(cap, cap) }"')
    return "".join(words)


def _paint(what: str, colour: tuple[float, float, float, float]) -> str:
    if not colour[3]:
        return f' {what}="none"'
    opacity = f' {what}-opacity="{_number(colour[3])}"' if colour[3] < 1 else ""
    return f' {what}="{to_hex(colour)}"{opacity}'
