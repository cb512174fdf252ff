"""JSON of strangers: an object, or a message that says what is wrong."""

from __future__ import annotations

import json

from assessor import yamlfile
from assessor.errors import UsageError
from assessor.messages import _


def json_object(content: bytes, name: str) -> dict[str, object]:
    """A file's content as a JSON object.

    Args:
        content: The file.
        name: How messages call it.

    Returns:
        The object.

    Raises:
        UsageError: It is no JSON, nested too deeply, or something else than an object.
    """
    text = yamlfile.decoded(content, name)
    try:
        found = json.loads(text)
    except json.JSONDecodeError as fault:
        raise UsageError(
            _("{name}:{line} not readable as JSON: {fault}", name=name, line=fault.lineno, fault=fault.msg)
        ) from fault
    except ValueError as fault:
        raise UsageError(_("{name}: not readable as JSON: {fault}", name=name, fault=fault)) from fault
    except RecursionError as fault:
        raise UsageError(_("{name}: found JSON nested too deeply", name=name)) from fault
    if not isinstance(found, dict):
        raise UsageError(_("{name}: found JSON that is no object", name=name))
    return found
