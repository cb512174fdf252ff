"""The renderer of plots: what is drawn, where, and with which text."""

import re
from importlib.resources import files
from xml.etree import ElementTree

import numpy as np
import pytest
from fontTools.ttLib import TTFont
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from assessor.svg_renderer import WIDTHS, SvgCanvas, SvgRenderer, figure_svg

SVG = "{http://www.w3.org/2000/svg}"


def axes_of(width: float = 4.0, height: float = 2.0) -> Axes:
    figure = Figure(figsize=(width, height), dpi=72, layout="constrained")
    SvgCanvas(figure)
    return figure.add_subplot()


def drawn(axes: Axes) -> ElementTree.Element:
    assert isinstance(axes.figure, Figure)
    return ElementTree.fromstring(figure_svg(axes.figure))


def texts(root: ElementTree.Element) -> list[str]:
    return [element.text or "" for element in root.iter(f"{SVG}text")]


def test_widths_are_those_of_the_font_in_the_report() -> None:
    font = TTFont(files("assessor.templates") / "fonts" / "IBMPlexSans-Regular.woff2")
    glyphs, advances = font.getBestCmap(), font["hmtx"]
    assert font["head"].unitsPerEm == 1000
    assert tuple(advances[glyphs[code]][0] for code in range(32, 127)) == WIDTHS


def test_a_line_goes_through_its_points() -> None:
    axes = axes_of()
    axes.set(xlim=(0, 2), ylim=(0, 1))
    axes.plot([0, 1, 2], [0, 1, 0], color="#123456")
    root = drawn(axes)
    (line,) = [path for path in root.iter(f"{SVG}path") if path.get("stroke") == "#123456"]
    points = np.array(re.findall(r"[\d.]+", line.get("d") or ""), float).reshape(-1, 2)
    box = axes.get_window_extent()
    expected = [[box.x0, 144 - box.y0], [(box.x0 + box.x1) / 2, 144 - box.y1], [box.x1, 144 - box.y0]]
    np.testing.assert_allclose(points, expected, atol=0.01)
    assert line.get("clip-path") is None
    assert line.get("fill") == "none"


def test_what_leaves_the_axes_is_cut_off() -> None:
    axes = axes_of()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.plot([0, 1], [0, 3], color="#123456")
    root = drawn(axes)
    (line,) = [path for path in root.iter(f"{SVG}path") if path.get("stroke") == "#123456"]
    (clip,) = root.iter(f"{SVG}clipPath")
    assert line.get("clip-path") == f"url(#{clip.get('id')})"
    box = axes.get_window_extent()
    (rectangle,) = clip
    assert float(rectangle.get("y") or "") == pytest.approx(144 - box.y1, abs=0.01)
    assert float(rectangle.get("height") or "") == pytest.approx(box.height, abs=0.01)


def test_text_stays_text_and_hostile_text_harmless() -> None:
    axes = axes_of()
    axes.set_xlabel("</text><script>alert(1)</script> & κ")
    axes.set_title("plain $ign")
    found = texts(drawn(axes))
    assert "</text><script>alert(1)</script> & κ" in found
    assert "plain $ign" in found


def test_powers_of_ten_are_set_with_a_small_exponent() -> None:
    axes = axes_of()
    axes.set_yscale("log")
    axes.set_ylim(1e-3, 1)
    axes.plot([0, 1], [1e-3, 1])
    root = drawn(axes)
    sizes = {element.text: float(element.get("font-size") or 0) for element in root.iter(f"{SVG}text")}
    assert sizes["−3"] < sizes["10"]
    assert not [text for text in texts(root) if "$" in text or "math" in text or "{" in text]
    below, above = (next(e for e in root.iter(f"{SVG}text") if e.text == text) for text in ("10", "−3"))
    assert float(above.get("y") or 0) < float(below.get("y") or 0)


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        (r"$\mathdefault{10^{-2}}$", [("10", False), ("−2", True)]),
        (r"$\mathdefault{-10^{0}}$", [("−10", False), ("0", True)]),
        (r"$\mathdefault{9.9\times10^{-1}}$", [("9.9×10", False), ("−1", True)]),
        (r"$\mathdefault{0}$", [("0", False)]),
    ],
)
def test_ticks_that_are_formulas(formula: str, expected: list[tuple[str, bool]]) -> None:
    axes = axes_of()
    axes.set_xticks([0], [formula])
    found = {element.text: float(element.get("font-size") or 0) for element in drawn(axes).iter(f"{SVG}text")}
    plain = max(found.values())
    for text, raised in expected:
        assert (found[text] < plain) == raised


def test_areas_dashes_markers_and_pictures() -> None:
    axes = axes_of()
    axes.fill_between([0, 1], [0, 0], [1, 1], color="0.85", alpha=0.5)
    axes.plot([0, 1], [0, 1], "--", color="#111111")
    axes.plot([0.5], [0.5], "o", color="#222222")
    axes.imshow(np.eye(4), extent=(0, 1, 0, 1))
    root = drawn(axes)
    paths = list(root.iter(f"{SVG}path"))
    assert [path.get("fill-opacity") for path in paths if path.get("fill") == "#d9d9d9"] == ["0.5"]
    assert [path for path in paths if path.get("stroke") == "#111111" and path.get("stroke-dasharray")]
    assert any("C" in (path.get("d") or "") for path in paths if path.get("fill") == "#222222")
    (picture,) = root.iter(f"{SVG}image")
    assert (picture.get("href") or "").startswith("data:image/png;base64,iVBOR")


def test_a_plot_may_change_the_height_of_its_figure() -> None:
    axes = axes_of()
    assert isinstance(axes.figure, Figure)
    axes.figure.set_figheight(5)
    root = drawn(axes)
    assert root.get("viewBox") == "0 0 288 360"


def test_long_labels_are_given_their_room() -> None:
    axes = axes_of()
    axes.set_yticks([0, 1], ["a label of many characters", "b"])
    root = drawn(axes)
    (label,) = [element for element in root.iter(f"{SVG}text") if element.text == "a label of many characters"]
    width, _height, _descent = SvgRenderer(1, 1).get_text_width_height_descent(
        "a label of many characters", axes.yaxis.get_ticklabels()[0].get_fontproperties(), False
    )
    left = float(label.get("x") or -1)
    assert left >= 0
    assert left + width <= axes.get_window_extent().x0
