"""Fitted estimators from files: skops by its list of types, pickles only where the user trusts them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from assessor.errors import UsageError
from assessor.subjects.extras import require
from assessor.subjects.loading import importable
from assessor.subjects.modules import Place


def from_skops(place: Place, *, trust: bool = False) -> Any:
    """An estimator of a skops file; types that nobody vouches for are not loaded.

    Args:
        place: Where it is.
        trust: Whether all types are vouched for.

    Returns:
        The estimator.

    Raises:
        UsageError: It cannot be read, or holds types that neither skops nor `trusted` knows.
    """
    path = place.file()
    require("skops", "skops", place.named)
    from skops.io import get_untrusted_types, load

    try:
        with importable(place.folder):
            unknown = sorted(set(get_untrusted_types(file=path)))
            strange = [] if trust else [name for name in unknown if name not in place.form.trusted]
            if strange:
                raise UsageError(
                    f"{place.named}: {place.form.path} holds types that nobody vouches for: {', '.join(strange)}; look "
                    f"at their code, then name them under {place.field}.trusted, or run with --trust"
                )
            return load(path, trusted=unknown)
    except UsageError:
        raise
    except Exception as fault:  # it imports what the file names, which may raise anything
        raise UsageError(
            f"{place.named}: {place.form.path}: cannot be read: {type(fault).__name__}: {fault}"
        ) from fault


def from_joblib(place: Place) -> Any:
    """What joblib.dump wrote; its code runs."""
    path = place.file()
    require("joblib", "sklearn", place.named)
    import joblib

    return _opened(place, lambda: joblib.load(path))


def from_pickle(place: Place) -> Any:
    """What pickle.dump wrote; its code runs."""
    path = place.file()
    import pickle

    def load() -> Any:
        with path.open("rb") as file:
            return pickle.load(file)  # noqa: S301 - the user said --trust

    return _opened(place, load)


def _opened(place: Place, load: Callable[[], Any]) -> Any:
    with importable(place.folder):
        try:
            return load()
        except (Exception, SystemExit) as fault:  # a pickle may raise anything
            told = f"{type(fault).__name__}: {fault}"
            raise UsageError(f"{place.named}: {place.form.path}: cannot be read: {told}") from fault


PICKLES: Mapping[str, Callable[[Place], Any]] = {"joblib": from_joblib, "pickle": from_pickle}
"""Loaders by format: loading runs code that the file names."""
