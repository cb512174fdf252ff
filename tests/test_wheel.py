"""The wheel holds everything: built, installed into a fresh environment, used from a folder with its own `checks`."""

import json
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from assessor.registry import load_checks

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.slow


def run(*command: str, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel and its core requirements alone."""
    folder = tmp_path_factory.mktemp("wheel")
    constraints = str(ROOT / "constraints.txt")
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), str(ROOT), cwd=folder)
    (wheel,) = folder.glob("ai_assessor-*.whl")
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    run(str(python), "-m", "pip", "install", "-q", "-c", constraints, str(wheel), cwd=folder)
    return folder / "venv" / "bin"


def test_catalog_is_whole_beside_a_foreign_checks_package(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "checks").mkdir()
    (tmp_path / "checks" / "__init__.py").write_text("raise RuntimeError('the wrong package')")
    listed = json.loads(run(str(installed / "assessor"), "catalog", "list", "--json", cwd=tmp_path))
    assert len(listed) == 240


def test_packs_mappings_and_german_came_along(installed: Path, tmp_path: Path) -> None:
    found = json.loads(run(str(installed / "assessor"), "catalog", "validate", "--json", cwd=tmp_path))
    assert (found["in_packs"], found["languages"], found["frameworks"]) == (62, ["en", "de"], 7)
    assert "Beantwortet Anforderungen" in run(
        str(installed / "assessor"), "answer", "--help", "--lang", "de", cwd=tmp_path
    )


def test_all_checks_and_templates_came_along(installed: Path, tmp_path: Path) -> None:
    listed = json.loads(run(str(installed / "assessor"), "check", "list", "--json", cwd=tmp_path))
    assert len(listed) == len(load_checks())
    run(str(installed / "assessor"), "init", "new", cwd=tmp_path)
    html = run(
        str(installed / "assessor"), "report", "--project", "new", "--format", "html", "--output", "-", cwd=tmp_path
    )
    assert "Assessment report" in html


def test_a_missing_extra_is_told_with_its_name(installed: Path, tmp_path: Path) -> None:
    run(str(installed / "assessor"), "init", "new", cwd=tmp_path)
    command = [str(installed / "assessor"), "report", "--project", "new"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "ai-assessor[report]" in done.stderr
