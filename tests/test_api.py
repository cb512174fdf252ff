"""Assessing from Python: every form of model and data, and results that show themselves, are saved and go on."""

from __future__ import annotations

import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from ci_steps import REPOSITORY
from commands import Run
from sklearn.datasets import load_iris
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.utils import Bunch

import assessor
from assessor.assessment import measure as command_line
from assessor.contract import Task
from assessor.errors import UsageError
from assessor.project import Project
from assessor.subjects.objects import Given, subject_of

PERFORMANCE, GROUPS = "reliability.performance", "fairness.group_metrics"
N = 200


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """Rows of two groups, a feature that tells the label and one that does not."""
    draws = np.random.default_rng(0)
    label = draws.integers(0, 2, N)
    shift = draws.normal(size=(N, 2)) * 0.5 + np.column_stack([2.0 * label, np.zeros(N)])
    found = pd.DataFrame(shift, columns=["length", "noise"])
    return found.assign(group=np.where(draws.random(N) < 0.5, "a", "b"), label=label)


@pytest.fixture(scope="module")
def model(table: pd.DataFrame) -> LogisticRegression:
    return LogisticRegression().fit(table[["length", "noise"]], table["label"])


def accuracy(found: Any) -> float:
    """The judged number of the only check."""
    (one,) = found
    assert one.metric is not None, one
    return float(one.metric.value)


def forms(table: pd.DataFrame) -> dict[str, tuple[Any, dict[str, Any]]]:
    """The same rows in every form, with what is said beside them."""
    x, y = table[["length", "noise"]], table["label"]
    pairs = torch.utils.data.TensorDataset(torch.tensor(x.to_numpy()), torch.tensor(y.to_numpy()))
    return {
        "frames": ((x, y), {}),
        "arrays": ((x.to_numpy(), y.to_numpy()), {}),
        "tensors": ((torch.tensor(x.to_numpy()), torch.tensor(y.to_numpy())), {}),
        "attributes": ((x, y, table[["group"]]), {}),
        "table": (table, {"label": "label", "sensitive": "group"}),
        "dataset": (pairs, {}),
        "loader": (torch.utils.data.DataLoader(pairs, batch_size=7, shuffle=True), {}),
        "bunch": (Bunch(data=x.to_numpy(), target=y.to_numpy(), feature_names=["length", "noise"]), {}),
    }


@pytest.mark.parametrize("form", ["frames", "arrays", "tensors", "attributes", "table", "dataset", "loader", "bunch"])
def test_every_form_of_data_gives_the_same_number(table: pd.DataFrame, form: str) -> None:
    data, said = forms(table)[form]
    x, y = table[["length", "noise"]].to_numpy(), table["label"]
    estimator = LogisticRegression().fit(x, y)  # knows no names, so that none are asked for
    found = assessor.assess(estimator, data, checks=[PERFORMANCE], progress=False, **said)
    assert accuracy(found) == pytest.approx((estimator.predict(x) == y).mean())


def logits(table: pd.DataFrame) -> torch.nn.Linear:
    """A module that says the same as the estimator."""
    estimator = LogisticRegression().fit(table[["length", "noise"]].to_numpy(), table["label"])
    made = torch.nn.Linear(2, 1)
    with torch.no_grad():
        made.weight.copy_(torch.tensor(estimator.coef_))
        made.bias.copy_(torch.tensor(estimator.intercept_))
    return made


@pytest.mark.parametrize("form", ["module", "probabilities", "one column", "tensor"])
def test_every_form_of_model_gives_the_same_number(table: pd.DataFrame, form: str) -> None:
    x, y = table[["length", "noise"]].to_numpy(), table["label"].to_numpy()
    estimator, module = LogisticRegression().fit(x, y), logits(table)
    models: dict[str, Callable[..., Any]] = {
        "module": module.train(),
        "probabilities": estimator.predict_proba,
        "one column": lambda rows: estimator.predict_proba(rows)[:, 1],
        "tensor": lambda rows: torch.sigmoid(module(torch.tensor(rows, dtype=torch.float32))),
    }
    found = assessor.assess(models[form], (x, y), checks=[PERFORMANCE], device="cpu", progress=False)
    assert accuracy(found) == pytest.approx((estimator.predict(x) == y).mean())
    assert module.training, "what is measured is a copy"


def test_a_regression_and_more_classes_are_told_by_the_model() -> None:
    x, y = load_iris(return_X_y=True)
    assert subject_of(Given(LogisticRegression(max_iter=500).fit(x, y), (x, y)))[0].task is Task.MULTICLASS
    line = LinearRegression().fit(x, x[:, 0])
    assert subject_of(Given(line, (x, x[:, 0])))[0].task is Task.REGRESSION
    called, kind, digest = subject_of(Given(line.predict, (x, x[:, 0])))
    assert (called.task, kind, digest) == (Task.REGRESSION, "callable", None)


@pytest.mark.parametrize("way", ["name in X", "series", "array", "frame"])
def test_sensitive_attributes_in_every_form(table: pd.DataFrame, model: LogisticRegression, way: str) -> None:
    x, y = table[["length", "noise"]], table["label"]
    given: dict[str, tuple[Any, Any]] = {
        "name in X": (table[["length", "noise", "group"]], "group"),
        "series": (x, table["group"]),
        "array": (x, table["group"].to_numpy()),
        "frame": (x, table[["group"]]),
    }
    features, sensitive = given[way]
    subject, _, _ = subject_of(Given(model, (features, y), sensitive=sensitive))
    attributes = subject.splits["test"].attributes
    assert attributes is not None
    assert attributes.iloc[:, 0].tolist() == table["group"].tolist()


FAULTS = {
    "model: found a int": {"model": 3},
    "data (given": {"data": 3},
    "data: X has 200 rows, y has 3": {"data": ("x", [0, 1, 1])},
    "wanted label: the column of true labels": {"data": "table"},
    "sensitive: found names, but data has no columns": {"data": "arrays", "sensitive": "group"},
    "sensitive: found 3 rows, data has 200": {"sensitive": np.zeros(3)},
    "sensitive: found a list": {"sensitive": [1, 2]},
    "task: found 'guess'": {"task": "guess"},
    "device: String should match": {"device": "abacus"},
    "no check 'reliability.performanc'; did you mean 'reliability.performance'?": {
        "checks": ["reliability.performanc"]
    },
    "checks: found none": {"checks": []},
    "targets: 'reliability.performanc' is none of the checks that are run; did you mean": {
        "targets": {"reliability.performanc": (0, 1)}
    },
    "targets: reliability.performance: Value error, interval: found both ends open": {
        "targets": {PERFORMANCE: (None, None)}
    },
    "reliability.performance: confidance: Extra inputs are not permitted": {
        "checks": {PERFORMANCE: {"confidance": 0.9}}
    },
    "classes: found ['x', 'y'], wanted the estimator's: ['0', '1']": {"classes": ["x", "y"]},
}


@pytest.mark.parametrize("message", FAULTS)
def test_wrong_use_is_told_in_the_words_of_the_call(
    table: pd.DataFrame, model: LogisticRegression, message: str
) -> None:
    x, y = table[["length", "noise"]], table["label"]
    known = {"table": table, "arrays": (x.to_numpy(), y.to_numpy())}
    given: dict[str, Any] = {"model": model, "data": (x, y), "checks": [PERFORMANCE], **FAULTS[message]}
    if isinstance(given["data"], str):
        given["data"] = known[given["data"]]
    elif isinstance(given["data"], tuple) and isinstance(given["data"][0], str):
        given["data"] = (x, given["data"][1])
    with pytest.raises(UsageError) as fault:
        assessor.assess(**given, progress=False)
    assert message.removesuffix(" (given") in str(fault.value)
    assert "target." not in str(fault.value)


# --- results ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found(table: pd.DataFrame, model: LogisticRegression) -> Any:
    """Two targets met, one check without a target, one that does not apply."""
    return assessor.assess(
        model,
        (table[["length", "noise"]], table["label"]),
        sensitive=table["group"],
        checks={PERFORMANCE: {}, GROUPS: {}, "uncertainty.calibration": {}, "robustness.pgd_accuracy": {}},
        targets={PERFORMANCE: (0.8, None), GROUPS: {"interval": (None, 0.5), "because": "<b>law</b>"}},
        progress=False,
    )


def test_results(found: Any) -> None:
    assert found.passed
    assert dict(found.counts) == {"pass": 2, "measured": 1, "not_applicable": 1}
    one = found[PERFORMANCE]
    assert (one.passed, one.status, one.id) == (True, "pass", PERFORMANCE)
    assert one.sentence.endswith("lies inside the target of at least 0.8")
    assert one.metrics["accuracy"] == one.metric
    assert next(iter(one.table("classes").columns)) == "class"
    assert found["robustness.pgd_accuracy"].metric is None
    with pytest.raises(KeyError, match=r"did you mean 'fairness\.group_metrics'"):
        found["fairness.group_metric"]
    with pytest.raises(UsageError, match="no table 'class'; did you mean"):
        one.table("class")


def test_nothing_judged_is_no_pass(table: pd.DataFrame, model: LogisticRegression) -> None:
    data = (table[["length", "noise"]], table["label"])
    assert not assessor.assess(model, data, checks=[PERFORMANCE], progress=False).passed
    assert not assessor.measure(PERFORMANCE, model, data).passed
    across = assessor.measure(PERFORMANCE, model, data, target=(0.975, None))
    assert (across.status, across.passed) == ("inconclusive", False)


def test_a_crash_is_no_pass(table: pd.DataFrame, model: LogisticRegression) -> None:
    def breaks(rows: np.ndarray) -> np.ndarray:
        if len(rows) < N:  # determinism asks in smaller parts
            raise RuntimeError("gone")
        return np.asarray(model.predict_proba(pd.DataFrame(rows, columns=["length", "noise"])))

    data = (table[["length", "noise"]], table["label"])
    with_crash = assessor.assess(
        breaks,
        data,
        checks=[PERFORMANCE, "reliability.determinism"],
        targets={PERFORMANCE: (0.5, None)},
        progress=False,
    )
    assert dict(with_crash.counts) == {"error": 1, "pass": 1}
    assert not with_crash.passed


def test_the_same_seed_gives_the_same_bytes(found: Any, table: pd.DataFrame, model: LogisticRegression) -> None:
    again = assessor.measure(
        GROUPS,
        model,
        (table[["length", "noise"]], table["label"]),
        sensitive=table["group"],
        target={"interval": (None, 0.5), "because": "<b>law</b>"},
    )
    differing = {"started", "seconds", "peak_memory_bytes"}
    assert again.run.model_dump(exclude=differing) == found[GROUPS].run.model_dump(exclude=differing)


def test_parameters_of_a_check(table: pd.DataFrame, model: LogisticRegression) -> None:
    data = (table[["length", "noise"]], table["label"])
    few = assessor.measure("uncertainty.calibration", model, data, bins=3)
    assert few.run.params["bins"] == 3
    with pytest.raises(UsageError, match=r"no check 'uncertainty'"):
        assessor.measure("uncertainty", model, data)


def test_text_and_table(found: Any) -> None:
    lines = repr(found).splitlines()
    assert lines[0].startswith("reliability.performance  pass")
    assert lines[-1] == "2 pass, 1 measured, 1 not_applicable"
    assert repr(found[PERFORMANCE]).startswith("reliability.performance: pass: accuracy")
    frame = found.to_frame()
    judged = frame[frame.judged]
    assert sorted(judged.check) == [GROUPS, PERFORMANCE]
    assert frame[frame.check == "robustness.pgd_accuracy"].status.tolist() == ["not_applicable"]
    assert found[PERFORMANCE].to_frame().check.unique().tolist() == [PERFORMANCE]


def test_plot(found: Any) -> None:
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    assert found.plot(PERFORMANCE, axes) is axes
    assert axes.has_data()
    with pytest.raises(UsageError, match="nothing to draw"):
        found.plot("robustness.pgd_accuracy", axes)


def test_html_needs_nothing_else_and_runs_nothing(found: Any) -> None:
    html = found._repr_html_()
    assert not re.search(r"<script|javascript:|\son\w+=|<link|@import|url\(|<iframe|<html|<body|https?://", html, re.I)
    styles = re.search(r"<style>(.*?)</style>", html, re.S)
    assert styles is not None
    assert all(
        part.strip().startswith(".assessor-results") for part in re.split(r"[{][^}]*[}]|,", styles[1]) if part.strip()
    )
    assert "&lt;b&gt;law&lt;/b&gt;" in html
    assert "<b>law</b>" not in html
    assert html.count("data:image/svg+xml;base64,") == 3
    assert len(html) < 200_000
    assert "<details open>" in found[PERFORMANCE]._repr_html_()


def test_hostile_names_stay_text(table: pd.DataFrame, model: LogisticRegression) -> None:
    groups = table["group"].map({"a": "<script>alert(1)</script>", "b": "</style><img src=x onerror=alert(1)>"})
    data = (table[["length", "noise"]], table["label"])
    html = assessor.measure(GROUPS, model, data, sensitive=groups.rename("<i>"))._repr_html_()
    assert "&lt;script&gt;" in html
    assert not re.search(r"<script|<img src=x|<i>", html)


@pytest.mark.slow
def test_saved_and_gone_on_with(found: Any, tmp_path: Path, run: Run) -> None:
    folder = found.save(tmp_path / "saved", name="Bean: sorter")
    assert run("gate", "--project", folder).code == 0
    assert "Bean: sorter" in run("status", "--project", folder).out
    assert run("report", "--project", folder, "--format", "html", "--output", tmp_path / "report.html").code == 0
    assert "inside the target of at least 0.8" in (tmp_path / "report.html").read_text("utf-8")
    assert run("verify", folder).code == 0
    with pytest.raises(UsageError, match="never overwritten"):
        found.save(folder)


def test_the_command_line_says_the_same(tmp_path: Path) -> None:
    folder = tmp_path / "assessment"
    shutil.copytree(REPOSITORY / "assessment", folder)
    (run,) = command_line(Project(folder), [PERFORMANCE])
    system: dict[str, Any] = runpy.run_path(str(folder / "system.py"))
    again = assessor.measure(
        PERFORMANCE, system["model"](), system["test"](), target={"metric": "accuracy", "interval": (0.85, None)}
    )
    assert again.run.metrics == run.metrics
    assert again.run.subject == run.subject
    assert again.sentence == run.outcome.sentence


def test_progress(capfd: pytest.CaptureFixture[str], table: pd.DataFrame, model: LogisticRegression) -> None:
    assessor.assess(model, (table[["length", "noise"]], table["label"]), checks=[PERFORMANCE])
    shown = capfd.readouterr()
    assert "[1/1] reliability.performance" in shown.err
    assert shown.out == ""


def test_importing_the_package_loads_nothing_heavy() -> None:
    script = "import sys, assessor; assert not {'numpy', 'pydantic', 'assessor.api'} & set(sys.modules), 'heavy'"
    subprocess.run([sys.executable, "-c", script], check=True)
    with pytest.raises(AttributeError, match="no attribute 'asses'"):
        getattr(assessor, "asses")  # noqa: B009 - the point is that there is none


# --- in a browser ----------------------------------------------------------------------------------------------------

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
INK = """
const panel = document.querySelector('.assessor-results');
return [...panel.querySelectorAll('*')].filter(e => !e.closest('svg') && e.childNodes.length
  && [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())).map(e => getComputedStyle(e).color)"""


@pytest.mark.slow
@pytest.mark.skipif(not BROWSER or not DRIVER, reason="wants a browser: Debian packages chromium and chromium-driver")
def test_readable_in_a_dark_notebook(found: Any, tmp_path: Path) -> None:
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    page = tmp_path / "notebook.html"
    dark = "body { background: #111; color: #eee } td, th, p, summary { color: #eee }"
    page.write_text(f"<!DOCTYPE html><style>{dark}</style><body>{found._repr_html_()}", "utf-8")
    options = ChromeOptions()
    options.binary_location = str(BROWSER)
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND"):
        options.add_argument(argument)
    driver = Chrome(options, Service(str(DRIVER)))
    try:
        driver.get(page.as_uri())
        inks = {tuple(map(int, re.findall(r"\d+", color)[:3])) for color in driver.execute_script(INK)}
        assert inks
        assert all(max(ink) < 0x70 for ink in inks), inks  # on white: contrast above 4.5
        assert len(driver.find_elements("css selector", "details")) == 4
    finally:
        driver.quit()
