"""Tab completion: what it offers, and that it works in a real bash."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

BIN = Path(sys.executable).parent
BASH = shutil.which("bash")


def offered(*words: str) -> list[str]:
    """What completion offers for the last word."""
    done = subprocess.run(
        [BIN / "assessor"],
        env={
            **os.environ,
            "_ASSESSOR_COMPLETE": "complete_bash",
            "COMP_WORDS": " ".join(("assessor", *words)),
            "COMP_CWORD": str(len(words)),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "some"),
    [
        (("check", "run", "fairness.g"), ["fairness.group_metrics"]),
        (("answer", "TR-R-CD-O"), ["TR-R-CD-OA"]),
        (("gate", "--format", "s"), ["sarif"]),
        (("gate", "--format", "git"), ["github", "gitlab"]),
        (("report", "--format", "h"), ["html"]),
        (("export", "--format", "osc"), ["oscal"]),
        (("catalog", "export", "--format", "o"), ["oscal"]),
        (("led",), ["ledger"]),
    ],
)
def test_what_is_offered(words: tuple[str, ...], some: list[str]) -> None:
    found = offered(*words)
    assert set(some) <= set(found), found
    assert all(name.lower().startswith(words[-1].lower()) for name in found)


@pytest.fixture
def bash(tmp_path: Path) -> Iterator[pexpect.spawn[str]]:
    """A bash of somebody new, in whose home nothing is."""
    environment = {"HOME": str(tmp_path), "PATH": f"{BIN}:/usr/bin:/bin", "TERM": "dumb", "LANG": "C.UTF-8"}
    process = pexpect.spawn(
        str(BASH), ["-i"], cwd=str(tmp_path), env=environment, encoding="utf-8", timeout=60, dimensions=(40, 160)
    )
    process.sendline("PS1='rea''dy> '; bind 'set enable-bracketed-paste off'")
    process.expect_exact("ready> ")
    yield process
    process.close(force=True)


@pytest.mark.skipif(BASH is None, reason="wants bash")
@pytest.mark.slow
def test_installed_in_a_real_bash(bash: pexpect.spawn[str], tmp_path: Path) -> None:
    bash.sendline("assessor --install-completion")
    bash.expect("bash completion installed")
    bash.expect_exact("ready> ")
    assert list(tmp_path.rglob("*assessor*"))
    bash.sendline("source ~/.bashrc")
    bash.expect_exact("ready> ")
    for typed, completed in (
        ("assessor check show fairness.gr", "fairness.group_metrics"),
        ("assessor gate --format sa", "sarif"),
        ("assessor catalog show TR-R-CD-O", "TR-R-CD-OA"),
    ):
        bash.send(typed + "\t")
        bash.expect(re.escape(typed.rpartition(" ")[0]) + r" \S*?" + re.escape(completed))
        bash.sendcontrol("u")
        bash.sendline("")
        bash.expect_exact("ready> ")
