"""The digest of a split's rows, the same whatever the parts that they come in."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd

_BYTES = hashlib.sha256().digest_size


class RowsDigest:
    """SHA-256 over rows, added part by part in their order.

    Every column has a running digest of its own: of the bytes of numbers, or of one digest a value where values are
    texts, so that neither the parts nor how a file stores its texts make a difference. The whole is the digest of the
    columns' names, kinds and digests and of the number of rows.
    """

    def __init__(self) -> None:
        """Of no rows yet."""
        self._rows = 0
        self._columns: dict[str, tuple[str, hashlib._Hash]] = {}

    def add(self, features: np.ndarray | None, labels: np.ndarray, attributes: pd.DataFrame | None) -> None:
        """Add the next rows.

        Args:
            features: (n, ...) or None.
            labels: (n,) as encoded.
            attributes: (n, k) or None.
        """
        if features is not None:
            self._add("features", features)
        self._add("labels", labels)
        if attributes is not None:
            for name in attributes.columns:
                self._running(f"attribute {name}", "text").update(_digests(attributes[name]))
        self._rows += len(labels)

    def hexdigest(self) -> str:
        """Of all rows so far, 64 characters."""
        columns = [(name, kind, running.hexdigest()) for name, (kind, running) in self._columns.items()]
        return hashlib.sha256(repr((self._rows, columns)).encode()).hexdigest()

    def _add(self, name: str, values: np.ndarray) -> None:
        if values.dtype == object:
            self._running(name, f"text {values.shape[1:]}").update(_digests(values.reshape(-1)))
        else:
            kind = f"{values.dtype.str} {values.shape[1:]}"
            self._running(name, kind).update(np.ascontiguousarray(values).data.cast("B") if values.size else b"")

    def _running(self, name: str, kind: str) -> hashlib._Hash:
        return self._columns.setdefault(name, (kind, hashlib.sha256()))[1]


def _digests(values: np.ndarray | pd.Series) -> memoryview:
    """One digest a value, of its text; whole numbers written as floats count as integers, missing values are zeros."""
    codes, distinct = pd.factorize(values)
    found = np.zeros((len(distinct) + 1, _BYTES), dtype=np.uint8)
    for place, value in enumerate(distinct):
        whole = isinstance(value, float | np.floating) and float(value).is_integer()
        text = str(int(value)) if whole else str(value)
        found[place] = np.frombuffer(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest(), dtype=np.uint8)
    return found[codes].data.cast("B") if len(codes) else memoryview(b"")
