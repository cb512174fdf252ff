"""Pictures of the report: an interval against its target as geometry for a template, a check's plot as SVG."""

from __future__ import annotations

import base64
import math
import multiprocessing
import os
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from html import escape
from typing import TYPE_CHECKING, Any

from assessor.contract import Check, Metric, Result
from assessor.messages import SOURCE, _, language, localised_digits, retold
from assessor.model import Interval
from assessor.verdicts import shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDE, NARROW, MARGIN = 460.0, 180.0, 14.0  # of the drawing, in points: a card and a table cell
LABEL = 34.0  # least distance of two labels
PATIENCE = 60.0  # seconds for a plot, before it is drawn here
LINE = 32  # characters of an axis label that fit its height


def target_line(metric: Metric, interval: Interval | None, *, width: float = WIDE) -> dict[str, Any]:
    """Geometry of one line: target as a band, interval as a bar, value as a dot.

    Args:
        metric: What was measured.
        interval: The target, or None.
        width: Width of the drawing in points.

    Returns:
        Plain data: `width`, `value`, `low`, `high` and `band` (x positions, None where there is none), `ticks`.
    """
    ends = [end for end in (interval or (None, None)) if end is not None]
    points = [metric.value, *(end for end in (metric.low, metric.high) if end is not None), *ends]
    low, high = _axis(points, metric)

    def x(value: float) -> float:
        share = (min(max(value, low), high) - low) / (high - low)
        return round(MARGIN + share * (width - 2 * MARGIN), 2)

    band = None
    if interval is not None:
        left = MARGIN if interval[0] is None else x(interval[0])
        right = width - MARGIN if interval[1] is None else x(interval[1])
        band = {"x": left, "width": round(right - left, 2)}
    return {
        "width": width,
        "left": MARGIN,
        "right": width - MARGIN,
        "value": x(metric.value),
        "low": None if metric.low is None else x(metric.low),
        "high": None if metric.high is None else x(metric.high),
        "band": band,
        "ticks": _ticks(ends, low, high, x),
    }


def _axis(points: Sequence[float], metric: Metric) -> tuple[float, float]:
    """Range of the axis: a share keeps to 0 and 1 where that is near, all else gets some room."""
    low, high = min(points), max(points)
    room = (high - low) * 0.15 or abs(high) * 0.15 or 1.0
    start, end = low - room, high + room
    if metric.unit == "1" and low >= 0 and high <= 1:
        start, end = max(start, 0.0), min(end, 1.0)
    elif low >= 0:
        start = max(start, 0.0)
    return start, end


def _ticks(ends: Sequence[float], low: float, high: float, x: Any) -> list[dict[str, Any]]:
    """Labels at the target's ends and at round numbers between, where they do not overlap."""
    placed: list[dict[str, Any]] = []
    for value in (*ends, *_round_numbers(low, high)):
        position = x(value)
        if all(abs(position - other["x"]) > LABEL for other in placed):
            placed.append({"x": position, "label": shown(value)})
    return sorted(placed, key=lambda tick: float(tick["x"]))


def _round_numbers(low: float, high: float) -> list[float]:
    """About four multiples of 1, 2 or 5 times a power of ten."""
    raw = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


@contextmanager
def drawing(wanted: Mapping[str, tuple[Check, Result]]) -> Iterator[dict[str, Callable[[], str | None]]]:
    """The plots of several checks, drawn meanwhile by other processes where that is safe and worth it.

    Args:
        wanted: Check and what it measured, by name.

    Yields:
        For each check that draws, what waits for its svg element: None where it cannot draw what an older one measured.
    """
    drawn = [name for name, (check, _result) in wanted.items() if check.plot is not None]
    workers = min(len(os.sched_getaffinity(0)), len(drawn) // 8) if sys.platform == "linux" else 1
    if workers < 2:
        yield {name: partial(_plot_or_none, *wanted[name]) for name in drawn}
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the libraries' threads are idle, and none holds a lock
        pool = multiprocessing.get_context("fork").Pool(workers, _take, (wanted,))
    with pool:
        asked = {name: pool.apply_async(_plot_of, (name,)) for name in drawn}

        def waited(name: str) -> str | None:
            try:
                return asked[name].get(PATIENCE)
            except multiprocessing.TimeoutError:  # whoever drew it was killed
                return _plot_or_none(*wanted[name])

        yield {name: partial(waited, name) for name in drawn}


def plots_svg(wanted: Mapping[str, tuple[Check, Result]]) -> dict[str, str | None]:
    """The plots of several checks as svg elements by name; see `drawing`."""
    with drawing(wanted) as plots:
        return {name: svg() for name, svg in plots.items()}


def picture(svg: str | None) -> bytes:
    """A plot as the content of a picture; in place of one that was lost, a sentence that says so."""
    if svg is None:
        text = _("The installed check could not draw its plot of this result.")
        svg = (
            '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 385 20">'
            f'<text y="13" font-family="IBM Plex Sans" font-size="8">{escape(text)}</text></svg>'
        )
    return svg.encode()


def data_uri(svg: str | None) -> str:
    """A plot as the address of a picture, which can run nothing."""
    return f"data:image/svg+xml;base64,{base64.b64encode(picture(svg)).decode()}"


_taken: dict[str, tuple[Check, Result]] = {}  # in a process that draws


def _take(wanted: Mapping[str, tuple[Check, Result]]) -> None:
    _taken.update(wanted)


def _plot_of(name: str) -> str | None:
    return _plot_or_none(*_taken[name])


def _plot_or_none(check: Check, result: Result) -> str | None:
    try:
        return plot_svg(check, result)
    except Exception:  # noqa: BLE001 - a check's own code, perhaps newer than the result; its numbers are shown
        return None


def plot_svg(check: Check, result: Result) -> str | None:
    """The check's plot as SVG with real text, the same bytes for the same result and language.

    Args:
        check: The check, or rather its `plot`.
        result: What it measured.

    Returns:
        An svg element, or None when the check draws nothing.
    """
    if check.plot is None:
        return None
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    from assessor.svg_renderer import SvgCanvas, figure_svg

    settings: dict[Any, Any] = {
        "font.size": 8,
        "axes.linewidth": 0.6,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "lines.linewidth": 1.1,
        "legend.frameon": False,
        "image.cmap": "Greys",
    }
    with rc_context(settings):
        figure = Figure(figsize=(5.35, 2.2), dpi=72, layout="constrained")
        SvgCanvas(figure)
        figure.patch.set_visible(False)
        axes = figure.add_subplot()
        axes.patch.set_visible(False)
        check.plot(result, axes)
        if language() != SOURCE:
            _translate(axes)
        axes.set_ylabel(textwrap.fill(axes.get_ylabel(), LINE))
        return figure_svg(figure)


def _translate(axes: Axes) -> None:
    """Title, labels, legend and notes in the language in use, and its decimal mark; names of classes and groups stay.

    Args:
        axes: What the check drew, with English texts.
    """
    from matplotlib.ticker import ScalarFormatter

    class Localised(ScalarFormatter):
        def __call__(self, x: float, pos: int | None = None) -> str:
            return localised_digits(super().__call__(x, pos))

    legend = axes.get_legend()
    for text in (axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts, *(legend.get_texts() if legend else ())):
        text.set_text(retold(text.get_text()))
    for axis in (axes.xaxis, axes.yaxis):
        if type(axis.get_major_formatter()) is ScalarFormatter:
            axis.set_major_formatter(Localised())
