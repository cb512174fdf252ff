"""UBJSON: what XGBoost writes is read to its end, and nothing else is taken for it."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from assessor_checks.security._known_imports import Standing
from assessor_checks.security._model_files import look_at, look_into
from assessor_checks.security._model_formats import FormatError
from assessor_checks.security._ubjson import ubjson


def text(value: str) -> bytes:
    return b"L" + struct.pack(">q", len(value)) + value.encode()


GOOD = b"{" + text("a") + b"[$d#L" + struct.pack(">qff", 2, 1, 2) + text("b") + b"[TFZi\x05S" + text("x") + b"]}"


def test_a_model_of_xgboost(tmp_path: Path) -> None:
    import xgboost

    rows = np.random.default_rng(0).normal(size=(40, 3))
    booster = xgboost.train({"nthread": 1}, xgboost.DMatrix(rows, rows[:, 0]), 3)
    booster.save_model(tmp_path / "m.ubj")
    look = look_into(tmp_path / "m.ubj")
    assert (look.format, look.found) == ("UBJSON", ())
    content = (tmp_path / "m.ubj").read_bytes()
    for spoiled in (content[:-1], content + b"x", content[: len(content) // 2]):
        assert [one.standing for one in look_at(spoiled, "m.ubj").found] == [Standing.UNREADABLE]


def test_well_formed() -> None:
    assert ubjson(GOOD) == []
    assert look_at(GOOD, "m.ubj").found == ()


@pytest.mark.parametrize("end", range(len(GOOD)))
def test_cut_anywhere(end: int) -> None:
    with pytest.raises(FormatError):
        ubjson(GOOD[:end])


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"{" + text("a") + b"Q}", "unknown type 0x51"),
        (b"{" + text("a") + b"[$d]}", "typed list without a count"),
        (b"{" + text("a") + b"[}}", "closes what is not open"),
        (b"{i\xff", "length below 0"),
        (b"{" + text("a") + b"[" * 100 + b"]" * 100 + b"}", "deeper than 64"),
        (b"{" + text("a") + b"[$T#L" + struct.pack(">q", 1 << 62) + b"]}", "closes what is not open"),
        (b"{x", "no length"),
    ],
)
def test_malformed(content: bytes, told: str) -> None:
    with pytest.raises(FormatError, match=told):
        ubjson(content)
