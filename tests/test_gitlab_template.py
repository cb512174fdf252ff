"""The GitLab template: its inputs filled in, its script run in a shell, its reports read."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ci_steps import FORGOTTEN, ROOT, Checkout, commit, git, shell, vendored
from junitparser import JUnitXml

TEMPLATE = ROOT / "templates" / "ci" / "gitlab.yml"
INPUT = re.compile(r"\$\[\[\s*inputs\.(\w+)\s*\]\]")
GIVEN = {
    "folder": "assessment",
    "checks": "reliability.performance",
    "policy": "assessment/policy.yaml",
    "baseline": "main",
    "install": "false",
}


def documents() -> tuple[dict[str, Any], str]:
    """The inputs, and the text of the job."""
    head, _, job = TEMPLATE.read_text("utf-8").partition("\n---\n")
    inputs: dict[str, Any] = yaml.safe_load(head)["spec"]["inputs"]
    return inputs, job


def included(**given: str) -> dict[str, Any]:
    """What GitLab makes of the template with some inputs."""
    inputs, job = documents()
    assert set(given) <= set(inputs)

    def value(found: re.Match[str]) -> str:
        default = inputs[found[1]]["default"]
        return given.get(found[1], str(default).lower() if isinstance(default, bool) else default)

    filled: dict[str, Any] = yaml.safe_load(INPUT.sub(value, job))
    return filled


def ran(checkout: Checkout, *, posix: bool = False, **given: str) -> tuple[int, str]:
    """Exit code of the job, and what it printed."""
    (job,) = included(**GIVEN | given).values()
    return shell("\n".join(job["script"]), checkout.folder, job["variables"], posix=posix)


def test_the_template_keeps_to_gitlabs_schema() -> None:
    schema = vendored("gitlab-ci.json")
    head, job = yaml.safe_load_all(TEMPLATE.read_text("utf-8"))
    for document in (head, job, included(), included(**GIVEN)):
        assert not [fault.message for fault in schema.iter_errors(document)]


def test_every_input_is_used_and_none_is_put_into_the_script() -> None:
    inputs, job = documents()
    assert set(INPUT.findall(job)) == set(inputs)
    (found,) = yaml.safe_load(job).values()
    assert not INPUT.search("\n".join(found["script"]))


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return Checkout(tmp_path_factory.mktemp("gitlab") / "repository")


@pytest.mark.slow
@pytest.mark.parametrize("posix", [False, True], ids=["bash", "sh"])
def test_wrong_use_ends_with_2(checkout: Checkout, posix: bool) -> None:
    assert ran(checkout, posix=posix, checks="none", policy="$(touch hacked) `touch hacked`; touch hacked")[0] == 2
    assert ran(checkout, posix=posix, checks="none", baseline="")[0] == 3
    assert not list(checkout.folder.rglob("hacked"))


@pytest.mark.slow  # measures in processes of its own
def test_red_on_a_regression_green_with_a_waiver_red_when_it_is_over(checkout: Checkout) -> None:
    code, printed = ran(checkout, baseline="")
    assert code == 0, printed
    commit(checkout.folder, "results")
    git(checkout.folder, "switch", "--quiet", "--create", "change")
    checkout.edit(*FORGOTTEN)
    code, printed = ran(checkout, posix=True)
    assert code == 1, printed
    assert "gate closed: 2 forbidden by the policy" in printed
    suites = JUnitXml.fromfile(str(checkout.folder / "assessor-gate.xml"))
    assert suites.failures == 2
    quality = json.loads((checkout.folder / "assessor-gate.json").read_text("utf-8"))
    assert {item["location"]["path"] for item in quality} == {"assessment/assessor.yaml"}

    code, printed = ran(checkout, mode="observe")
    assert (code, printed.splitlines()[-1][:22]) == (0, "The gate only observes")

    checkout.waive("2999-12-31")
    assert ran(checkout)[0] == 0
    checkout.waive("2020-12-31")
    code, printed = ran(checkout)
    assert code == 1, printed


def test_reports_are_kept_whatever_the_decision() -> None:
    (job,) = included().values()
    artifacts = job["artifacts"]
    assert artifacts["when"] == "always"
    written = re.findall(r"=(assessor-gate\.\w+)", "\n".join(job["script"]))
    assert set(artifacts["reports"].values()) <= set(written) == set(artifacts["paths"])
    assert Path(artifacts["reports"]["junit"]).suffix == ".xml"
