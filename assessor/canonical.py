"""Canonical JSON (RFC 8785) and digests: the same content is the same bytes, everywhere."""

from __future__ import annotations

import hashlib
from typing import Any

import rfc8785
from pydantic import BaseModel


def canonical_json(value: Any) -> bytes:
    """Canonical JSON of plain data or of a model (by alias, without losing None)."""
    data = value.model_dump(mode="json", by_alias=True) if isinstance(value, BaseModel) else value
    return rfc8785.dumps(data)


def sha256_hex(content: bytes) -> str:
    """SHA-256 as 64 lower-case hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()
