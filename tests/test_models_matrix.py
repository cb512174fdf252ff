"""Every model format through the engine: a representative check, and one that needs gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models import COLUMNS, DATA, TABLE, Case, Made, exported, make_models

from assessor import yamlfile
from assessor.assessment import measure
from assessor.errors import UsageError
from assessor.model import CheckRun, Status
from assessor.model.sources import FILE_FORMATS
from assessor.project import Project

pytestmark = pytest.mark.slow

NAMES = ("load", "safetensors", "state_dict", "torchscript", "torchscript, trusted", "torch_export",
         "torch_export, trusted", "onnx", "onnx, unknown operator", "sklearn", "joblib", "pickle", "xgboost json",
         "xgboost ubj", "lightgbm")  # fmt: skip
CHILDREN = {"network", "files", "calls", "limits"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def all_made(made: Made) -> Made:
    return exported(made)


def project(made: Made, case: Case, folder: Path, **changes: Any) -> Project:
    """An assessment whose files are those of all models."""
    target = {"task": "multiclass", "model": dict(case.model), "data": DATA, "device": "cpu", **changes}
    configuration = {
        "format": 1,
        "catalog": {"id": "ai-assessment-catalog", "version": "1.1.0"},
        "system": {"name": "models", "version": "1"},
        "target": target,
    }
    found = Project.create(
        folder, {"assessor.yaml": yamlfile.dump(configuration).encode()}, actor="tester", action="init"
    )
    for path in made.folder.iterdir():
        if path.is_file() and path.name != "assessor.yaml":
            (folder / path.name).write_bytes(path.read_bytes())
    return found


def value(run: CheckRun, name: str) -> float:
    assert run.result is not None, run.outcome.sentence
    return run.result.metric(name).value


@pytest.mark.slow
def test_every_format_is_in_the_matrix(all_made: Made) -> None:
    assert set(all_made.cases) == set(NAMES)
    assert {next(iter(case.model)) for case in all_made.cases.values()} == {"load", *FILE_FORMATS}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if "export" in name else ()) for name in NAMES]
)
def test_a_format_through_the_engine(request: pytest.FixtureRequest, name: str, tmp_path: Path) -> None:
    made: Made = request.getfixturevalue("all_made" if "export" in name else "made")
    case = made.cases[name]
    ids = ["reliability.performance", "generalization.sharpness", "uncertainty.calibration"]
    if case.confined:
        ids.append("robustness.decision_attack")  # asks for many new rows
    here = project(made, case, tmp_path / "a")
    runs = {run.check: run for run in measure(here, ids, trust=case.trust)}
    right = case.scores.argmax(axis=1) == made.labels
    assert 0 < right.mean() < 1
    assert value(runs["reliability.performance"], "accuracy") == right.mean()
    assert value(runs["uncertainty.calibration"], "brier") == pytest.approx(
        ((case.scores - np.eye(3)[made.labels]) ** 2).sum(axis=1).mean(), rel=1e-6
    )
    gradients = runs["generalization.sharpness"]
    if case.gradients:
        assert gradients.outcome.status is Status.MEASURED, gradients.outcome.sentence
    else:
        assert gradients.outcome.status is Status.NOT_APPLICABLE
        assert gradients.outcome.sentence.startswith("needs a PyTorch module, for its gradients")
    subject = runs["reliability.performance"].subject
    assert subject.trusted is case.trust
    assert (set(subject.confinement) == CHILDREN) is case.confined
    file = next((text for key, text in case.model.items() if key not in {"load", "build"}), None)
    assert list(subject.files) == ([file] if file else [])
    if case.confined:
        assert runs["robustness.decision_attack"].outcome.status is Status.MEASURED
    looked = here.runs().get("security.model_file")
    assert (looked is not None) is bool(file)
    if looked is not None:
        assert not looked.danger


@pytest.mark.parametrize("name", ["joblib", "pickle"])
def test_a_pickle_is_not_loaded_without_trust(made: Made, name: str, tmp_path: Path) -> None:
    here = project(made, made.cases[name], tmp_path / "a")
    with pytest.raises(UsageError, match="is loaded by running the code that it names; save the estimator with skops"):
        measure(here, ["reliability.performance"])


def test_a_dangerous_pickle_is_not_loaded_and_trust_is_recorded(made: Made, tmp_path: Path) -> None:
    here = project(made, made.cases["pickle"], tmp_path / "a")
    sign = tmp_path / "ran"
    payload = f"cposix\nsystem\n(S'touch {sign}'\ntR0".encode()
    (here.folder / "m.pkl").write_bytes(b"\x80\x02" + payload + made.folder.joinpath("m.pkl").read_bytes()[2:])
    with pytest.raises(UsageError, match=r"posix\.system"):
        measure(here, ["reliability.performance"])
    assert not sign.exists()
    (run,) = measure(here, ["reliability.performance"], trust=True)
    assert sign.exists()
    assert run.subject.trusted


def test_a_baseline_in_another_format(made: Made, tmp_path: Path) -> None:
    case = made.cases["load"]
    for number, (baseline, trust) in enumerate(
        [
            ({"safetensors": "m.safetensors", "build": "system:build"}, False),
            ({"state_dict": "m.pt", "build": "system:build"}, False),
            ({"torchscript": "m.ts"}, True),
        ]
    ):
        here = project(made, case, tmp_path / str(number), baseline=baseline)
        (run,) = measure(here, ["reliability.performance"], trust=trust)
        assert run.subject.baseline_sha256 is not None
        assert len(run.subject.files) == 1
    here = project(made, case, tmp_path / "not", baseline={"torchscript": "m.ts"})
    with pytest.raises(UsageError, match=r"target\.baseline\.torchscript: only PyTorch modules in this process .* --t"):
        measure(here, ["reliability.performance"])


def test_columns_in_another_order_are_refused(made: Made, tmp_path: Path) -> None:
    data = {"test": {**TABLE, "features": list(reversed(COLUMNS))}}
    here = project(made, made.cases["xgboost ubj"], tmp_path / "a", data=data)
    with pytest.raises(UsageError, match="found feature 'd' where the model has 'a'; wanted the model's features"):
        measure(here, ["reliability.performance"])
