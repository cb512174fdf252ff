"""Pages from templates of strangers, made in a process of its own with limits on memory, time and files.

The child gets an order as JSON on standard input and gives bytes on standard output. Files that it writes stay small,
what it holds is bounded, and it is killed when its time is up.
"""

from __future__ import annotations

import base64
import json
import resource
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from assessor import pages
from assessor.errors import AssessorError, UsageError
from assessor.messages import language, speaking
from assessor.pages import Attached

PAGE_SECONDS, PDF_SECONDS = 60, 600
MEMORY = 3 * 2**30  # bytes of address space
FILE = 2**24  # bytes of a file: fonts go through temporary ones
FAULT, TOO_MUCH = 2, 3  # exit codes of the child


def page(template: str, context: Mapping[str, Any], *, digest: str, templates: Path) -> str:
    """As `pages.page`, with templates from a folder.

    Args:
        template: Name of the template.
        context: What it shows: plain data.
        digest: Printed at the foot of the first page.
        templates: The folder; links out of it are not followed.

    Returns:
        HTML.

    Raises:
        UsageError: A template has a fault, or wants more memory or time than it may have.
    """
    order = {"template": template, "context": context, "digest": digest, "sources": _sources(templates)}
    return _ordered("page", order, seconds=PAGE_SECONDS).decode()


def pdf(html: str, attached: Attached) -> bytes:
    """As `pages.pdf`, for a page that a template of a stranger made.

    Raises:
        UsageError: The page asks for something outside, or its layout takes more memory or time than it may.
    """
    content = base64.b64encode(attached.content).decode()
    order = {"html": html, "attached": {**attached._asdict(), "content": content}}
    return _ordered("pdf", order, seconds=PDF_SECONDS)


def _sources(folder: Path) -> dict[str, str]:
    """The texts of a folder of templates by name."""
    found = {}
    for path in sorted(folder.rglob("*.j2")):
        if path.is_file() and path.resolve().is_relative_to(folder.resolve()):
            try:
                found[path.relative_to(folder).as_posix()] = path.read_text("utf-8")
            except (OSError, UnicodeDecodeError) as fault:
                raise UsageError(f"report template {path}: cannot read it: {fault}") from fault
    if not found:
        raise UsageError(f"--template: found no template (*.j2) in {folder}")
    return found


def _ordered(what: str, order: Mapping[str, Any], *, seconds: int) -> bytes:
    command = [sys.executable, "-I", "-m", "assessor.confined", what]
    content = json.dumps({**order, "language": language()}).encode()
    try:
        done = subprocess.run(  # noqa: S603 - our own module
            command, input=content, capture_output=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired as fault:
        raise UsageError(f"the template takes longer than {seconds} seconds") from fault
    if done.returncode == 0:
        return done.stdout
    if done.returncode == FAULT:
        raise UsageError(done.stderr.decode("utf-8", "replace").strip())
    raise UsageError(f"the template needs more than {MEMORY // 2**30} GiB of memory, or broke off")


def main() -> None:
    """What the child does."""
    for limit, value in ((resource.RLIMIT_AS, MEMORY), (resource.RLIMIT_FSIZE, FILE), (resource.RLIMIT_CORE, 0)):
        resource.setrlimit(limit, (value, value))
    try:
        sys.stdout.buffer.write(_done(sys.argv[1], json.load(sys.stdin)))
    except AssessorError as fault:
        sys.stderr.write(str(fault))
        sys.exit(FAULT)
    except (MemoryError, OverflowError, RecursionError):
        sys.exit(TOO_MUCH)


def _done(what: str, order: dict[str, Any]) -> bytes:
    with speaking(order.pop("language")):
        if what == "page":
            return pages.page(**order).encode()
        attached = order["attached"]
        content = base64.b64decode(attached.pop("content"))
        return pages.pdf(order["html"], Attached(content=content, **attached))


if __name__ == "__main__":
    main()
