"""Git and lists of packages."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assessor.errors import UsageError
from assessor.prefill.repository import (
    dependency_files,
    found_in_dependencies,
    found_in_git,
    git_root,
    is_dependency_file,
)

DAY = "2026-11-20T10:00:00+00:00"
GIT = {
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_AUTHOR_DATE": DAY,
    "GIT_COMMITTER_DATE": DAY,
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_COMMITTER_NAME": "A",
    "GIT_COMMITTER_EMAIL": "a@example.org",
}


def git(folder: Path, *arguments: str, **environment: str) -> str:
    done = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, **GIT, **environment},
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Two commits of two people, the first with a tag."""
    folder = tmp_path / "router"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "train.py").write_text("seed = 1\n")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "Train the router")
    git(folder, "tag", "v1.0-rc1")
    git(folder, "commit", "-q", "--allow-empty", "-m", "Fix *bold* | typos", GIT_AUTHOR_EMAIL="b@example.org")
    return folder


def test_revision_release_and_history(repository: Path) -> None:
    found = found_in_git(repository, "router")
    assert {key: [item.value for item in items] for key, items in found.items()} == {
        "source_revision": [f"git commit {git(repository, 'rev-parse', 'HEAD')} of 2026-11-20, no uncommitted changes"],
        "release": ["tag v1.0-rc1 of 2026-11-20, 1 commit before the current revision"],
        "change_history": ["- 2 commits, 2 committers\n- 2026-11-20 Fix *bold* | typos\n- 2026-11-20 Train the router"],
    }
    assert found["release"][0].origin == "git repository router"
    assert "example.org" not in str(found)


def test_uncommitted_changes_are_told(repository: Path) -> None:
    (repository / "train.py").write_text("seed = 2\n")
    assert found_in_git(repository, "r")["source_revision"][0].value.endswith("of 2026-11-20, with uncommitted changes")


def test_a_folder_inside_belongs_to_its_repository(repository: Path) -> None:
    inside = repository / "assessment"
    inside.mkdir()
    assert git_root(inside) == repository.resolve()
    assert found_in_git(inside, "r") == found_in_git(repository, "r")


def test_a_tag_on_the_current_revision_has_no_distance(repository: Path) -> None:
    git(repository, "tag", "v1.0")
    assert found_in_git(repository, "r")["release"][0].value == "tag v1.0 of 2026-11-20"


def test_without_commits_or_repository_there_is_nothing(tmp_path: Path) -> None:
    assert found_in_git(tmp_path, "r") == {}
    assert git_root(tmp_path) is None
    git(tmp_path, "init", "-q")
    assert found_in_git(tmp_path, "r") == {}


def test_without_git_there_is_nothing(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_root(repository) is None
    assert found_in_git(repository, "r") == {}


def test_variables_of_a_hook_do_not_lead_elsewhere(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_DIR", "/nowhere/.git")
    assert git_root(repository) == repository.resolve()


def test_programs_named_by_the_repository_are_not_started(repository: Path, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    script = tmp_path / "monitor.sh"
    script.write_text(f"#!/bin/sh\ntouch {trap}\n")
    script.chmod(0o755)
    git(repository, "config", "core.fsmonitor", str(script))
    git(repository, "config", "log.showSignature", "true")
    git(repository, "config", "gpg.program", str(script))
    assert found_in_git(repository, "r")
    assert not trap.exists()


def test_a_shallow_clone_does_not_count_what_it_lacks(repository: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{repository}", "clone")
    history = found_in_git(tmp_path / "clone", "r")["change_history"][0].value
    assert history == "- 2026-11-20 Fix *bold* | typos"


REQUIREMENTS = """\
# pinned by hand
-r base.txt
--index-url https://example.org
torch==2.6.0 ; python_version >= "3.11"
numpy == 1.26.4  # why
Pillow[extra]===10.0 \\
    --hash=sha256:abcd
pandas>=2,<3
scipy==1.*
git+https://example.org/x.git
./local
tool @ https://example.org/tool.whl
torch==2.6.0
"""
LOCK = '[[package]]\nname = "torch"\nversion = "2.6.0"\n\n[[package]]\nname = "numpy"\nversion = "1.26.4"\n'
PYPROJECT = """\
[project]
dependencies = ["torch>=2", "numpy==1.26.4"]
[tool.poetry.dependencies]
python = "^3.11"
scipy = "*"
"""
PIPFILE = '{"default": {"torch": {"version": "==2.6.0"}, "own": {"path": "."}}, "develop": {}}'


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "requirements.txt",
            REQUIREMENTS,
            "3 packages in exact versions: torch 2.6.0, numpy 1.26.4, Pillow 10.0; "
            "3 packages without one: pandas, scipy, tool",
        ),
        ("uv.lock", LOCK, "2 packages in exact versions: torch 2.6.0, numpy 1.26.4"),
        ("pylock.toml", LOCK.replace("package", "packages"), "2 packages in exact versions: torch 2.6.0, numpy 1.26.4"),
        (
            "pyproject.toml",
            PYPROJECT,
            "1 package in an exact version: numpy 1.26.4; 2 packages without one: torch, scipy",
        ),
        ("Pipfile.lock", PIPFILE, "1 package in an exact version: torch 2.6.0; 1 package without one: own"),
    ],
)
def test_packages(name: str, content: str, said: str) -> None:
    found = found_in_dependencies(content.encode(), f"app/{name}")
    assert [(item.value, item.origin) for item in found["dependencies"]] == [(said, f"file app/{name}")]


@pytest.mark.parametrize("name", ["requirements.txt", "uv.lock", "pyproject.toml"])
def test_a_file_without_packages_says_nothing(name: str) -> None:
    assert found_in_dependencies(b"", name) == {}


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("uv.lock", b"a = [", "uv.lock: not readable as TOML: Invalid value"),
        ("uv.lock", b"a = " + b"[" * 100_000, "uv.lock: not readable as TOML"),
        ("pyproject.toml", b"\xff", "pyproject.toml:1 found a byte that is not UTF-8"),
        ("Pipfile.lock", b"[]", "Pipfile.lock: found JSON that is no object"),
    ],
)
def test_broken_files_are_refused(name: str, content: bytes, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        found_in_dependencies(content, name)
    assert told in str(caught.value)


@given(
    st.sampled_from(["requirements.txt", "uv.lock", "pyproject.toml", "Pipfile.lock"]),
    st.binary() | st.text().map(str.encode),
)
def test_any_bytes_are_read_or_refused(name: str, content: bytes) -> None:
    with contextlib.suppress(UsageError):
        assert set(found_in_dependencies(content, name)) <= {"dependencies"}


def test_files_that_list_packages_are_known_by_name(tmp_path: Path) -> None:
    for name in ("requirements-dev.txt", "constraints.txt", "uv.lock", "notes.txt", "pylock.dev.toml", "package.json"):
        (tmp_path / name).touch()
    (tmp_path / "pyproject.toml").mkdir()
    assert [path.name for path in dependency_files(tmp_path)] == [
        "constraints.txt",
        "pylock.dev.toml",
        "requirements-dev.txt",
        "uv.lock",
    ]
    assert is_dependency_file("requirements.txt")
    assert not is_dependency_file("requirements.in")
