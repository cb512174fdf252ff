"""The gate's decision in the formats that CI systems read. All are views: the decision itself is made before."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from assessor.errors import UsageError, nearest
from assessor.gate_formats import github, gitlab, junit, markdown, plain_json, sarif, text
from assessor.gate_formats.notices import GateReport

__all__ = ["FORMATS", "GateReport", "written"]

FORMATS: Mapping[str, Callable[[GateReport], str]] = {
    "text": text.written,
    "json": plain_json.written,
    "sarif": sarif.written,
    "junit": junit.written,
    "github": github.written,
    "gitlab": gitlab.written,
    "markdown": markdown.written,
}


def written(report: GateReport, format_: str) -> str:
    """The decision in one format.

    Args:
        report: The decision.
        format_: Name of the format.

    Returns:
        The whole document.

    Raises:
        UsageError: There is no such format.
    """
    if format_ not in FORMATS:
        hint = nearest(format_, FORMATS) or f"; wanted one of {', '.join(FORMATS)}"
        raise UsageError(f"--format: no format '{format_}'{hint}")
    return FORMATS[format_](report)
