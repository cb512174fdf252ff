"""auditability.provenance: a system of which all is fixed, and what is told of each part that is not."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from assessor.contract import Need, NotApplicable, Origin, Split, Task
from assessor.subjects.predictions import PredictionsSubject
from assessor.subjects.sklearn_estimator import SklearnSubject
from assessor_checks.auditability.provenance import CHECK, ProvenanceParams

REVISION, DIGEST = "a" * 40, "b" * 64


def split(name, sha256=DIGEST):
    return Split(name=name, labels=np.array([0, 1]), sha256=sha256, features=np.array([[0.0], [1.0]]))


def origin(tmp_path, **changes):
    fields = {
        "files": {"model.pkl": tmp_path / "model.pkl"},
        "dependencies": {"requirements.txt": "numpy==1.26.4\n"},
        "revision": REVISION,
        "modified": False,
    }
    return Origin(**{**fields, **changes})


def fitted(tmp_path, splits=("train", "test"), **changes):
    model = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
    return SklearnSubject(
        model, Task.BINARY, ("0", "1"), {name: split(name) for name in splits}, origin=origin(tmp_path, **changes)
    )


def measure(subject, **params):
    return CHECK.measure(subject, ProvenanceParams(**params), 0)


def parts(result):
    return {row[0]: row[1] for row in result.tables[0].rows}


def test_all_is_fixed(tmp_path):
    subject = fitted(tmp_path)
    result = measure(subject)
    assert [(one.name, one.value, one.low, one.high, one.n) for one in result.metrics] == [
        ("fixed_share", 1, 1, 1, 8),
        ("loose_parts", 0, 0, 0, 8),
    ]
    assert result.remarks == ()
    assert result.tables[0].rows == (
        ("model", True, f"sha256 {subject.sha256[:16]}...", None),
        ("model files", True, "model.pkl", None),
        ("test data", True, f"sha256 {DIGEST[:16]}...", None),
        ("training data", True, f"sha256 {DIGEST[:16]}...", None),
        ("code", True, f"git {REVISION}", None),
        ("uncommitted changes", True, "none", None),
        ("packages", True, "1 exact versions in requirements.txt", None),
        ("way of training", True, "it can be trained again", None),
    )


@pytest.mark.parametrize(
    ("changes", "part", "lacking"),
    [
        ({"files": {}}, "model files", "the files that hold the model (target.model.files)"),
        ({"modified": True}, "uncommitted changes", "a commit: files that git knows were changed since"),
        ({"dependencies": {}}, "packages", "a list of packages (target.dependencies)"),
        ({"dependencies": {"r.txt": "numpy\nscipy==1\n"}}, "packages", "exact versions of numpy"),
        ({"dependencies": {"r.txt": "scipy==1\n???\n"}}, "packages", "lines that can be understood"),
        (
            {"dependencies": {"r.txt": "".join(f"p{i}\n" for i in range(9))}},
            "packages",
            "exact versions of p0, p1, p2, p3, p4 and 4 more",
        ),
    ],
)
def test_one_part_is_loose(tmp_path, changes, part, lacking):
    result = measure(fitted(tmp_path, **changes))
    assert result.metric("loose_parts").value == 1
    assert result.metric("fixed_share").value == pytest.approx(7 / 8)
    assert result.remarks == (f"Parts that may change unseen: {part}.",)
    (row,) = (row for row in result.tables[0].rows if not row[1])
    assert row == (part, False, None, lacking)


def test_without_a_repository(tmp_path):
    result = measure(fitted(tmp_path, revision=None, modified=None))
    assert [name for name, fixed in parts(result).items() if not fixed] == ["code", "uncommitted changes"]


def test_a_table_of_predictions_has_little(tmp_path):
    subject = PredictionsSubject(Task.BINARY, ("0", "1"), {"test": split("test", "0")}, {"test": np.array([0, 1])}, {})
    result = measure(subject)
    assert result.metric("fixed_share").value == 0
    assert result.metric("loose_parts").value == 8
    assert result.tables[0].rows[0] == ("model", False, None, "the model itself; a table of predictions is none")


def test_parts_that_a_system_does_not_have(tmp_path):
    subject = fitted(tmp_path, dependencies={})
    result = measure(subject, leave_out=("packages",))
    assert result.metric("fixed_share").value == 1
    assert result.remarks == ("Left out as the parameters say: packages.",)
    with pytest.raises(ValueError, match="leave_out"):
        ProvenanceParams(leave_out=("test data",))
    everything = ("model", "model files", "training data", "code", "uncommitted changes", "packages", "way of training")
    assert measure(subject, leave_out=everything).metric("fixed_share").n == 1  # the test data


def test_more_splits_and_another_model(tmp_path):
    class Compared(SklearnSubject):
        offers = frozenset({Need.TEST, Need.BASELINE})
        baseline = fitted(tmp_path)

    model = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
    splits = {name: split(name) for name in ("test", "ood", "production")}
    found = parts(measure(Compared(model, Task.BINARY, ("0", "1"), splits, origin=origin(tmp_path))))
    assert found["model to compare with"]
    assert found["ood data"]
    assert not found["training data"]


def test_needs_and_bytes(tmp_path):
    assert CHECK.info.needs == {Need.TEST}
    subject = fitted(tmp_path)
    assert measure(subject).model_dump_json() == measure(subject).model_dump_json()
    nothing = PredictionsSubject(Task.BINARY, ("0", "1"), {}, {}, {})
    everything = ("model", "model files", "training data", "code", "uncommitted changes", "packages", "way of training")
    with pytest.raises(NotApplicable, match="every part is left out"):
        measure(nothing, leave_out=everything)
