"""What a CI system does with our files: expressions filled in, steps run in a shell of their own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from jsonschema import Draft7Validator

ROOT = Path(__file__).parents[1]
REPOSITORY = ROOT / "tests" / "data" / "repository"
EXPRESSION = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")
COMPARISON = re.compile(r"(\S+)\s*(==|!=|\|\|)\s*(\S+)")
WAIVER = """waivers:
- {{id: reliability.performance, covers: [fail, worse], because: mended next week, by: Ada, until: {until}}}
"""
FORGOTTEN = ("return prepared(x), kinds", "return x, kinds")
"""A regression: data are no longer prepared as in training."""
BIN = Path(sys.executable).parent


class Ran(NamedTuple):
    """How the steps ended: exit code of the last one, all that they printed, and the outputs."""

    code: int
    printed: str
    outputs: dict[str, str]
    summary: str


def vendored(name: str) -> Draft7Validator:
    """A JSON schema of another project as check-jsonschema brings it along."""
    import check_jsonschema

    path = Path(check_jsonschema.__file__).parent / "builtin_schemas" / "vendor" / name
    return Draft7Validator(json.loads(path.read_text("utf-8")))


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", *who, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout


def commit(folder: Path, message: str) -> None:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", message)


def filled(text: str, values: Mapping[str, str]) -> str:
    """GitHub's expressions, as far as action.yml has any: a name, or two of them compared."""

    def value(term: str) -> str:
        return term.strip("'") if term.startswith("'") else values.get(term, "")

    def evaluated(found: re.Match[str]) -> str:
        compared = COMPARISON.fullmatch(found[1])
        if compared is None:
            return value(found[1])
        left, sign, right = value(compared[1]), compared[2], value(compared[3])
        return left or right if sign == "||" else str((left == right) == (sign == "==")).lower()

    return EXPRESSION.sub(evaluated, text)


def shell(script: str, folder: Path, environment: Mapping[str, str], *, posix: bool = False) -> tuple[int, str]:
    """Run a script as CI systems do: bash, or the system's sh, ending with the first command that fails."""
    bash = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
    inherited = {name: os.environ[name] for name in ("HOME", "LANG", "OMP_NUM_THREADS") if name in os.environ}
    done = subprocess.run(
        ["sh", "-ec", script] if posix else bash,
        cwd=folder,
        env={**inherited, "PATH": f"{BIN}:/usr/bin:/bin", "OMP_WAIT_POLICY": "PASSIVE", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=300,
    )
    return done.returncode, done.stdout


def run_action(folder: Path, runner: Path, given: Mapping[str, str]) -> Ran:
    """The steps of action.yml over a checkout; steps that use another action are left out, as is what they set up."""
    action = yaml.safe_load((ROOT / "action.yml").read_text("utf-8"))
    runner.mkdir(parents=True, exist_ok=True)
    values = {f"inputs.{name}": str(item.get("default", "")) for name, item in action["inputs"].items()}
    assert {f"inputs.{name}" for name in given} <= set(values), "no such input"
    values |= {f"inputs.{name}": value for name, value in given.items()}
    values["github.action_path"] = str(ROOT)
    summary = runner / "summary.md"
    code, printed = 0, ""
    for number, step in enumerate(action["runs"]["steps"]):
        if code or "uses" in step or filled(step.get("if", "true"), values) != "true":
            continue
        output = runner / f"output-{number}"
        output.touch()
        environment = {name: filled(text, values) for name, text in step.get("env", {}).items()}
        environment |= {
            "GITHUB_OUTPUT": str(output),
            "GITHUB_STEP_SUMMARY": str(summary),
            "GITHUB_WORKSPACE": str(folder),
            "RUNNER_TEMP": str(runner),
        }
        code, said = shell(step["run"], folder, environment)
        printed += said
        lines = (line.partition("=") for line in output.read_text().splitlines())
        values |= {f"steps.{step.get('id')}.outputs.{name}": value for name, _, value in lines}
    outputs = {name: filled(item["value"], values) for name, item in action["outputs"].items()}
    return Ran(code, printed, outputs, summary.read_text() if summary.is_file() else "")


class Checkout:
    """A repository whose main branch is to hold results."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(REPOSITORY, folder)
        (folder / ".gitignore").write_text(".assessor/\n__pycache__/\nassessor-gate.*\n")
        git(folder, "init", "--quiet", "--initial-branch=main")
        commit(folder, "first")

    def edit(self, old: str, new: str) -> None:
        path = self.folder / "assessment" / "system.py"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    def waive(self, until: str) -> None:
        path = self.folder / "assessment" / "policy.yaml"
        path.write_text(path.read_text().partition("waivers:")[0] + WAIVER.format(until=until))


def inputs_of(workflow: Path) -> dict[str, Any]:
    """What a workflow gives our action."""
    jobs = yaml.safe_load(workflow.read_text("utf-8"))["jobs"]
    (found,) = [
        step["with"] for job in jobs.values() for step in job["steps"] if "/ai-assessor@" in step.get("uses", "")
    ]
    return dict(found)
