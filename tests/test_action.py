"""The GitHub Action: its steps run in a shell over a repository that uses it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from ci_steps import FORGOTTEN, REPOSITORY, ROOT, Checkout, Ran, commit, filled, git, inputs_of, run_action, vendored

ACTION = yaml.safe_load((ROOT / "action.yml").read_text("utf-8"))
WORKFLOW = REPOSITORY / ".github" / "workflows" / "assess.yml"


def test_the_action_keeps_to_githubs_schema() -> None:
    assert not [fault.message for fault in vendored("github-actions.json").iter_errors(ACTION)]


@pytest.mark.parametrize("path", [WORKFLOW, ROOT / "templates" / "ci" / "github.yml"], ids=["repository", "template"])
def test_workflows_keep_to_githubs_schema_and_name_known_inputs(path: Path) -> None:
    loaded = yaml.load(path.read_text("utf-8"), yaml.BaseLoader)  # `on` stays a word
    for job in loaded["jobs"].values():
        job["timeout-minutes"] = int(job["timeout-minutes"])
    assert not [fault.message for fault in vendored("github-workflows.json").iter_errors(loaded)]
    assert set(inputs_of(path)) <= set(ACTION["inputs"])


def test_nothing_is_put_into_a_script_by_an_expression() -> None:
    scripts = [step["run"] for step in ACTION["runs"]["steps"] if "run" in step]
    assert len(scripts) == 3
    assert not [script for script in scripts if "${{" in script]


def test_other_actions_are_pinned_by_commit() -> None:
    used = [step["uses"] for step in ACTION["runs"]["steps"] if "uses" in step]
    assert used
    assert all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", name) for name in used)


def test_the_evaluator_of_expressions() -> None:
    assert filled("a ${{ inputs.x }} b", {"inputs.x": "1"}) == "a 1 b"
    assert filled("${{ inputs.x == 'true' }}${{ inputs.x != '' }}", {"inputs.x": "true"}) == "truetrue"
    assert filled("${{ steps.gate.outputs.decision || 'failed' }}", {}) == "failed"


class Acting(Checkout):
    """A repository, and the action that its workflow calls."""

    runs = 0

    def act(self, **given: str) -> Ran:
        self.runs += 1
        named = {name.replace("_", "-"): value for name, value in given.items()}
        return run_action(self.folder, self.folder.parent / f"runner-{self.runs}", inputs_of(WORKFLOW) | named)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Acting:
    return Acting(tmp_path_factory.mktemp("action") / "repository")


@pytest.mark.slow
def test_wrong_use_and_hostile_inputs_end_with_2(checkout: Acting, tmp_path: Path) -> None:
    found = checkout.act(mode="obey", checks="none")
    assert (found.code, found.outputs["decision"]) == (2, "failed")
    hostile = "x.md\ndecision=open"
    found = checkout.act(checks="none", baseline="", comment=hostile)
    assert (found.code, found.outputs["decision"]) == (2, "failed")
    found = checkout.act(checks="none", baseline="", policy="$(touch hacked); touch hacked")
    assert found.code == 2
    assert not list(checkout.folder.rglob("hacked"))


@pytest.mark.slow
def test_nothing_measured_is_undecided(checkout: Acting) -> None:
    found = checkout.act(checks="none", baseline="")
    assert (found.code, found.outputs["decision"]) == (3, "undecided")
    assert found.printed.startswith("::error ")
    assert checkout.act(checks="none", baseline="", mode="observe").code == 3


@pytest.mark.slow  # each measures in a process of its own
def test_red_on_a_regression_green_with_a_waiver_red_when_it_is_over(checkout: Acting) -> None:
    first = checkout.act(baseline="")
    assert (first.code, first.outputs["decision"]) == (0, "open"), first.printed
    commit(checkout.folder, "results")

    git(checkout.folder, "switch", "--quiet", "--create", "change")
    checkout.edit(*FORGOTTEN)
    red = checkout.act()
    assert (red.code, red.outputs["decision"]) == (1, "closed"), red.printed
    errors = [line for line in red.printed.splitlines() if line.startswith("::error ")]
    assert len(errors) == 2, red.printed  # outside its target, and worse than on main
    assert all(line.startswith("::error file=assessment/assessor.yaml,line=11,") for line in errors), errors
    assert "reliability.performance" in red.summary
    assert Path(red.outputs["report"]).read_text("utf-8").startswith("<!-- assessor-gate ")
    (log,) = json.loads(Path(red.outputs["sarif-file"]).read_text("utf-8"))["runs"]
    assert {item["ruleId"] for item in log["results"] if item["level"] == "error"} == {
        "check/reliability.performance",
        "regression/reliability.performance",
    }

    watched = checkout.act(mode="observe")
    assert (watched.code, watched.outputs["decision"]) == (0, "closed")
    assert "::warning::The gate only observes" in watched.printed

    checkout.waive("2999-12-31")
    green = checkout.act()
    assert (green.code, green.outputs["decision"]) == (0, "open"), green.printed
    assert "::notice file=assessment/policy.yaml,line=4," in green.printed

    checkout.waive("2020-12-31")
    over = checkout.act()
    assert (over.code, over.outputs["decision"]) == (1, "closed"), over.printed
    assert "::error file=assessment/policy.yaml,line=4," in over.printed


@pytest.mark.slow
def test_a_model_that_cannot_be_loaded_is_no_decision(checkout: Acting) -> None:
    git(checkout.folder, "checkout", "--quiet", "--force", "main")
    git(checkout.folder, "clean", "--quiet", "-fd")
    checkout.edit("return LogisticRegression().fit(prepared(x), kinds)", "raise SystemExit(0)")
    gone = checkout.act(baseline="")
    assert (gone.code, gone.outputs["decision"]) == (2, "failed"), gone.printed
    assert "system:model raised" in gone.printed
