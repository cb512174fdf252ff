"""Loading what is assessed: each kind as it should be, and each refusal in words."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from assessor.contract import Need, NotApplicable, Result, Subject, Task
from assessor.errors import UsageError
from assessor.model import TargetSpec
from assessor.registry import load_checks
from assessor.subjects import load_subject
from assessor.subjects.data import class_order, label_texts
from assessor.subjects.digests import RowsDigest
from assessor.subjects.loading import call_user
from assessor.subjects.sklearn_estimator import SklearnSubject
from assessor.subjects.torch_module import TorchSubject

DATA = """
import numpy as np
import pandas as pd
X = np.random.default_rng(0).normal(size=(12, 3)).astype("float32")
y = (X[:, 0] > 0).astype(int)
def test(): return X, y
def train(): return X[:6], y[:6]
"""
TORCH = (
    DATA
    + """
import torch
class Net(torch.nn.Module):
    def __init__(self, out=2):
        super().__init__()
        torch.manual_seed(0)
        self.linear = torch.nn.Linear(3, out)
    def forward(self, x): return self.linear(x)
def model(): return Net()
"""
)
SKLEARN = (
    DATA
    + """
from sklearn.linear_model import LogisticRegression
names = np.array(["no", "yes"])
def model(): return LogisticRegression().fit(X, names[y])
def test(): return X, names[y]
"""
)
ALL = frozenset({Need.TEST, Need.TRAIN, Need.PROBABILITIES, Need.SENSITIVE, Need.QUERY, Need.GRADIENTS, Need.RELOAD})


class Loader:
    """Loads a subject from a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, code: str = "", *, device: str | None = None, table: str = "", **changes: Any) -> Any:
        self.folder.mkdir(exist_ok=True)
        (self.folder / "system.py").write_text(code)
        (self.folder / "t.csv").write_text(table)
        given: dict[str, Any] = {
            "task": "binary",
            "model": {"load": "system:model"},
            "data": {"test": {"load": "system:test"}},
            "device": "cpu",
        }
        return load_subject(TargetSpec.model_validate({**given, **changes}), self.folder, device=device)

    def refusal(self, code: str = "", **given: Any) -> str:
        with pytest.raises(UsageError) as caught:
            self(code, **given)
        return str(caught.value)


@pytest.fixture
def load(tmp_path: Path) -> Loader:
    return Loader(tmp_path / "a")


# --- user code -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "changes", "told"),
    [
        (
            TORCH,
            {"model": {"load": "sistem:model"}},
            "target.model.load: cannot import sistem: ModuleNotFoundError: No module named 'sistem'",
        ),
        (TORCH, {"model": {"load": "system:modle"}}, "has no callable 'modle'; did you mean 'model'?"),
        (TORCH, {"model": {"load": "system:X"}}, "has no callable 'X'"),
        (TORCH, {"model": {"load": "sys:nothing"}}, "target.model.load: sys (built in) has no callable 'nothing'"),
        (
            TORCH + "def model(): raise KeyError('w')",
            {},
            "target.model.load: system:model raised KeyError: 'w' (system.py line",
        ),
        (
            TORCH + "def test(): raise SystemExit(0)",
            {},
            "target.data.test.load: system:test raised SystemExit: 0 (system.py line",
        ),
        (
            "raise RuntimeError('no')",
            {},
            "target.data.test.load: cannot import system: RuntimeError: no (system.py line 1)",
        ),
        (
            "x = (",
            {},
            "target.data.test.load: cannot import system: SyntaxError: '(' was never closed (system.py, line 1)",
        ),
        (
            TORCH + "def model(): return 3",
            {},
            "target.model.load: system:model gave a builtins.int, wanted a torch.nn.Module or a fitted scikit-learn "
            "estimator",
        ),
    ],
)
def test_user_code_that_does_not_work(load: Loader, code: str, changes: dict[str, Any], told: str) -> None:
    refusal = load.refusal(code, **changes)
    assert told in refusal
    assert refusal.endswith(told) or told.endswith("line") or "has no callable" in told


def test_two_folders_with_the_same_modules(tmp_path: Path) -> None:
    subjects = []
    for number, name in enumerate(("a", "b")):
        folder = tmp_path / name
        (folder / "package").mkdir(parents=True)
        (folder / "helper.py").write_text(f"SIGN = {1 - 2 * number}\n")
        (folder / "package" / "__init__.py").write_text("")
        (folder / "package" / "data.py").write_text(
            f"import numpy\ndef test(): return numpy.full((4, 3), {number}.0), [0, 1, 0, 1]\n"
        )
        code = (
            TORCH
            + "import helper\ndef model():\n    net = Net()\n    net.linear.bias.data *= helper.SIGN\n    return net\n"
        )
        subjects.append(Loader(folder)(code, data={"test": {"load": "package.data:test"}})[0])
    first, second = subjects
    assert type(first.module) is not type(second.module)
    assert (first.splits["test"].features[0, 0], second.splits["test"].features[0, 0]) == (0, 1)
    assert torch.equal(first.module.linear.bias, -second.module.linear.bias)
    assert not [path for path in sys.path if str(tmp_path) in path]


# --- data ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("def test(): return 3", "found a int, wanted (X, y), (X, y, attributes), a DataFrame or a torch Dataset"),
        ("def test(): return [X, y]", "found a list, wanted (X, y)"),
        ("def test(): return X, y[:5]", "X has 12 rows, y has 5"),
        ("def test(): return X[:0], y[:0]", "no rows"),
        ("def test(): return 3.0, y", "X is a float, wanted an array or a tensor with one row a sample"),
        ("def test(): return X, y, pd.DataFrame({'sex': [1]})", "attributes have 1 rows, X has 12"),
        ("def test(): return X, y + 5", "label: 12 labels are none of the classes ['0', '1'] (first: row 0, '6')"),
        ("def test(): return X, y - 1", "label: 5 labels are none of the classes ['0', '1'] (first: row 3, '-1')"),
        ("def test(): return X, np.where(y == 1, np.nan, 0.0)", "label: 7 are missing (first: row 0)"),
        ("X[2, 1] = np.nan", "1 of 12 rows have missing or infinite features (first: row 2, feature number 1); impute"),
        ("X[2, 1] = np.inf", "1 of 12 rows have missing or infinite features (first: row 2, feature number 1); impute"),
        ("def test(): return pd.DataFrame(X, columns=list('abc')), y\nX[4, 2] = np.nan", "(first: row 4, feature 'c')"),
        ("def test(): return pd.DataFrame({'a': [1.0]})", "wanted label: the column of true labels, one of ['a']"),
        ("class Set(list): pass\ndef test(): return Set()", "found a Set, wanted (X, y)"),
        (
            "class Set:\n    def __len__(self): return 2\n    def __getitem__(self, i): return X[i]\n"
            "def test(): return Set()",
            "wanted items of the data set to be pairs (x, y)",
        ),
        (
            "class Set:\n    def __len__(self): return 0\n    def __getitem__(self, i): 0\ndef test(): return Set()",
            "the data set has no rows",
        ),
    ],
)
def test_data_that_does_not_fit(load: Loader, code: str, told: str) -> None:
    refusal = load.refusal(TORCH + code)
    assert refusal.startswith("target.data.test (system:test)")
    assert told in refusal


FRAME = TORCH + "def test(): return pd.DataFrame(dict(a=X[:, 0], b=X[:, 1], c=X[:, 2], sex='f', y=y))\n"


@pytest.mark.parametrize(
    ("test", "told"),
    [
        ({"label": "Y"}, "no column 'Y'; columns: a, b, c, sex, y"),
        ({"label": "y", "sensitive": ["sexx"]}, "no column 'sexx'; did you mean 'sex'?; columns: a, b, c, sex, y"),
        ({"label": "y", "features": ["a", "zz"]}, "no column 'zz'; columns: a, b, c, sex, y"),
        ({"label": "y"}, "wanted numeric features for a PyTorch module; name them under features:"),
        ({"label": "y", "features": ["a", "b"]}, "on rows of target.data.test (system:test) of shape (2,)"),
    ],
)
def test_columns_that_do_not_fit(load: Loader, test: dict[str, Any], told: str) -> None:
    assert told in load.refusal(FRAME, data={"test": {"load": "system:test", **test}})


def test_a_table_with_its_columns(load: Loader) -> None:
    subject, _, _ = load(FRAME, data={"test": {"load": "system:test", "label": "y", "sensitive": ["sex"]}})
    split = subject.splits["test"]
    assert split.feature_names == ("a", "b", "c")
    assert list(split.attributes["sex"]) == ["f"] * 12
    assert Need.SENSITIVE in subject.offers


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_files(load: Loader, kind: str) -> None:
    load.folder.mkdir()
    frame = pd.DataFrame({"a": [0.5, 1], "b": [1, 0], "c": [0, 0], "y": [True, False]})
    frame.to_csv(load.folder / "d.csv", index=False) if kind == "csv" else frame.to_parquet(load.folder / "d.parquet")
    split = load(TORCH, data={"test": {"file": f"d.{kind}", "label": "y"}})[0].splits["test"]
    assert split.features.tolist() == [[0.5, 1, 0], [1, 0, 0]]
    assert split.labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("none.csv", None, "no file "),
        ("d.csv", b"", "cannot read "),
        ("d.csv", b"a,y\n", "the table has no rows"),
        ("d.csv", b"a,y\n1,2,3,4\n5\n\xff", "cannot read "),
        ("d.parquet", b"no parquet", "cannot read "),
        ("d.txt", b"a", "found d.txt, wanted a .csv, .csv.gz, .parquet, .arrow, .feather, .npz or .npy file"),
    ],
)
def test_files_that_cannot_be_read(load: Loader, file: str, content: bytes | None, told: str) -> None:
    load.folder.mkdir()
    if content is not None:
        (load.folder / file).write_bytes(content)
    refusal = load.refusal(TORCH, data={"test": {"file": file, "label": "y"}})
    assert refusal.startswith("target.data.test")
    assert told in refusal


def test_missing_numbers_of_a_table_are_missing_features(load: Loader) -> None:
    code = (
        TORCH
        + "def test(): return pd.DataFrame({'a': pd.array([1, None], dtype='Int64'), 'b': 1, 'c': 2, 'y': [0, 1]})"
    )
    assert "feature 'a'" in load.refusal(code, data={"test": {"load": "system:test", "label": "y"}})


def test_no_data_named(load: Loader) -> None:
    assert (
        load.refusal(TORCH, data={"test": {}})
        == "target.data.test: wanted one of load, file, images, dataset, sql, which say where the data are"
    )


def test_labels_as_texts() -> None:
    assert (
        label_texts(np.array([1, 0]))
        == label_texts(np.array([1.0, 0.0]))
        == label_texts(np.array(["1", "0"]))
        == ["1", "0"]
    )
    assert label_texts(np.array([True, False])) == ["1", "0"]
    assert class_order({"10", "9", "-1"}) == ("-1", "9", "10")
    assert class_order({"b", "10", "9"}) == ("10", "9", "b")
    assert class_order({"²", "1"}) == ("1", "²")
    assert class_order({"--1", "1"}) == ("--1", "1")
    assert class_order({"07", "7"}) == ("07", "7")


def test_digests_tell_data_apart(load: Loader) -> None:
    def digest(code: str) -> str:
        return str(load(TORCH + code)[0].splits["test"].sha256)

    variants = [
        "",
        "X[0, 0] += 1e-6",
        "y[0] = 1 - y[0]",
        "X = X.astype('float64')",
        "X, y = X[::-1], y[::-1]",
        "def test(): return X, y, pd.DataFrame({'sex': ['f'] * 12})",
        "def test(): return X, y, pd.DataFrame({'sax': ['f'] * 12})",
    ]
    assert len({digest(code) for code in variants}) == len(variants)
    assert digest("") == digest("def test(): return X.tolist() and X, list(y)")


def test_a_module_saved_twice_in_a_second_is_read_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    path = tmp_path / "system.py"
    for number in range(3):
        path.write_text(f"def number(): return {number}")
        os.utime(path, ns=(10**18 + number, 10**18 + number))
        assert call_user("system:number", tmp_path, field="model") == number
    assert not list(tmp_path.glob("__pycache__/*"))


# --- PyTorch ---------------------------------------------------------------------------------------------------------


def test_a_module(load: Loader) -> None:
    subject, kind, digest = load(TORCH, data={"test": {"load": "system:test"}, "train": {"load": "system:train"}})
    assert (kind, digest) == ("torch", subject.sha256)
    assert isinstance(subject, TorchSubject)
    typed: Subject = subject
    assert (typed.device, typed.classes, typed.offers) == ("cpu", ("0", "1"), ALL - {Need.SENSITIVE})
    scores = subject.scores("test")
    assert (scores.shape, scores.dtype) == ((12, 2), np.float64)
    assert np.allclose(scores.sum(axis=1), 1, atol=1e-12)
    assert (subject.predictions("test") == scores.argmax(axis=1)).all()
    assert (subject.query(subject.splits["test"].features) == subject.predictions("test")).all()
    inputs, labels = subject.tensors("train")
    assert (inputs.shape, labels.dtype) == ((6, 3), torch.int64)
    assert not subject.module.training


@pytest.mark.parametrize("shape", ["(x[:, 0])", "(x[:, :1])"])
def test_a_single_logit(load: Loader, shape: str) -> None:
    subject, _, _ = load(
        TORCH + f"class One(Net):\n    def forward(self, x): return 5 * {shape}\ndef model(): return One()"
    )
    z = 5 * torch.from_numpy(subject.splits["test"].features[:, 0]).double()
    assert np.allclose(subject.scores("test")[:, 1], torch.sigmoid(z), atol=1e-6)
    assert torch.equal(subject.logits(subject.tensors("test")[0])[:, 0], torch.zeros(12))


def test_probabilities_when_said_so(load: Loader) -> None:
    code = (
        TORCH
        + "class Soft(Net):\n    def forward(self, x): return self.linear(x).softmax(-1)\ndef model(): return Soft()"
    )
    assert load.refusal(code).startswith(
        "target.model: the outputs look like probabilities, and logits are taken by default"
    )
    model = {"load": "system:model", "outputs": "probabilities"}
    plain, said = load(TORCH)[0], load(code, model=model)[0]
    assert np.allclose(plain.scores("test"), said.scores("test"), atol=1e-6)
    assert (
        load.refusal(TORCH, model=model)
        == "target.model.outputs: found 'probabilities', but the model's outputs are none"
    )


def test_probabilities_of_the_first_rows_only(load: Loader) -> None:
    code = (
        TORCH
        + "X = np.concatenate([X] * 30)\ny = np.concatenate([y] * 30)\n"
        + "class Half(Net):\n    def forward(self, x):\n"
        + "        return self.linear(x).softmax(-1) * (1 if len(x) == 256 else 0.5)\n"
        + "def model(): return Half()"
    )
    subject = load(code, model={"load": "system:model", "outputs": "probabilities"})[0]
    with pytest.raises(ValueError, match=r"outputs for 360 of 360 rows are no probabilities \(first: row 0\)"):
        subject.scores("test")


def test_a_device_that_is_full_is_probed_with_fewer_rows(load: Loader) -> None:
    code = (
        TORCH
        + "class Big(Net):\n    def forward(self, x):\n        if len(x) > {}: raise torch.OutOfMemoryError('full')\n"
        + "        return self.linear(x)\ndef model(): return Big()"
    )
    assert np.allclose(load(code.format(3))[0].scores("test"), load(TORCH)[0].scores("test"))
    assert "the model raised OutOfMemoryError on rows of" in load.refusal(code.format(0))


def test_regression(load: Loader) -> None:
    code = TORCH + "def model(): return Net(1)\ny = X[:, 0].copy()"
    subject, _, _ = load(code, task="regression")
    assert (subject.classes, subject.scores("test").shape, subject.scores("test").dtype) == ((), (12,), np.float64)
    assert (subject.predictions("test") == subject.scores("test")).all()
    assert subject.offers == ALL - {Need.SENSITIVE, Need.TRAIN, Need.PROBABILITIES}
    assert "label: row 0 is inf, wanted a finite number" in load.refusal(code + "\ny[0] = np.inf", task="regression")
    words = code + "\ndef test(): return X, ['a'] * 12"
    assert "label: wanted numbers for a regression" in load.refusal(words, task="regression")


@pytest.mark.parametrize(
    ("out", "task", "told"),
    [
        ("x", "binary", "target.task: a binary task does not go with outputs of shape (12, 3)"),
        ("x[:, :1]", "multiclass", "target.task: a multiclass task does not go with outputs of shape (12, 1)"),
        ("x[:, :, None]", "multiclass", "target.task: a multiclass task does not go with outputs of shape (12, 3, 1)"),
        ("x", "regression", "target.task: a regression wants outputs (n,) or (n, 1), found (12, 3)"),
        ("x.mean()", "binary", "target.model.load: 12 rows gave outputs of shape (), wanted one a row"),
        ("x[:5]", "multiclass", "target.model.load: 12 rows gave outputs of shape (5, 3), wanted one a row"),
        ("(x, x)", "binary", "target.model.load: the model gave a tuple, wanted a tensor"),
        (
            "x @ x",
            "binary",
            "target.model.load: the model raised RuntimeError on rows of target.data.test (system:test) of shape (3,)",
        ),
    ],
)
def test_outputs_that_do_not_fit(load: Loader, out: str, task: str, told: str) -> None:
    code = TORCH + f"class Odd(Net):\n    def forward(self, x): return {out}\ndef model(): return Odd()"
    assert load.refusal(code, task=task).startswith(told)


def test_class_names(load: Loader) -> None:
    assert load(TORCH + "y = np.array(['no', 'yes'])[y]", classes=["no", "yes"])[0].classes == ("no", "yes")
    assert load.refusal(TORCH, classes=["a", "b", "c"]) == "target.classes: found 3 names, the model has 2 classes"


def test_nan_outputs_are_never_a_prediction(load: Loader) -> None:
    code = TORCH + "class Nan(Net):\n    def forward(self, x): return self.linear(x).log()\ndef model(): return Nan()"
    subject, _, _ = load(code)
    with pytest.raises(ValueError, match=r"the model gives NaN for \d+ of 12 rows"):
        subject.predictions("test")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_cuda_without_cuda(load: Loader, device: str) -> None:
    told = f"device: found '{device}', but PyTorch sees no CUDA device here; use --device cpu or auto"
    assert load.refusal(TORCH, device=device) == told
    assert load(TORCH, device="auto")[0].device == "cpu"


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda(load: Loader) -> None:
    on_cpu, on_gpu = load(TORCH)[0], load(TORCH, device="cuda:0")[0]
    assert np.allclose(on_cpu.scores("test"), on_gpu.scores("test"), atol=1e-5)
    assert on_cpu.sha256 == on_gpu.sha256
    count = torch.cuda.device_count()
    assert load.refusal(TORCH, device=f"cuda:{count}").startswith(
        f"device: found 'cuda:{count}', but PyTorch sees {count}"
    )


# --- what a module is compared with, followed by, built from ---------------------------------------------------------

BASELINE = {"baseline": {"load": "system:old"}}
OLD = TORCH + "def old():\n    net = Net()\n    net.linear.bias.data += 1\n    return net\n"


def test_a_baseline(load: Loader) -> None:
    subject, _, digest = load(
        OLD, data={"test": {"load": "system:test"}, "train": {"load": "system:train"}}, **BASELINE
    )
    typed: Subject = subject
    assert typed.offers == (ALL | {Need.BASELINE}) - {Need.SENSITIVE}
    baseline = typed.baseline
    assert (baseline.task, baseline.classes, baseline.device) == (typed.task, typed.classes, typed.device)
    assert baseline.splits is typed.splits
    assert torch.equal(baseline.module.linear.bias, typed.module.linear.bias + 1)
    assert not baseline.module.training
    assert baseline.sha256 != subject.sha256 == digest
    assert Need.BASELINE not in baseline.offers
    with pytest.raises(NotApplicable, match=r"no model to compare with was named \(target\.baseline\)"):
        _ = baseline.baseline
    assert load(TORCH)[2] == digest


def test_a_baseline_of_another_form_and_dtype(load: Loader) -> None:
    code = TORCH + "def old(): return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3, 1)).double()\n"
    baseline = load(code, **BASELINE)[0].baseline
    assert baseline.tensors("test")[0].dtype == torch.float64
    assert baseline.scores("test").shape == (12, 2)


@pytest.mark.parametrize(
    ("code", "changes", "told"),
    [
        ("def old(): return 3", {}, "target.baseline: gave a int, wanted a torch.nn.Module"),
        ("", {}, "target.baseline.load: system (/"),
        ("def old(): raise KeyError('w')", {}, "target.baseline.load: system:old raised KeyError: 'w' (system.py line"),
        ("def old(): return Net(3)", {"task": "multiclass"}, "target.baseline: found 3 classes, the model has 2"),
        ("def old(): return Net(3)", {"classes": ["a", "b"]}, "target.baseline: found 3 classes, the model has 2"),
        (
            "def old(): return torch.nn.Linear(4, 2)",
            {},
            "target.baseline.load: the model raised RuntimeError on rows of target.data.test (system:test) of shape",
        ),
        (
            "class Odd(Net):\n    def forward(self, x): return x[:, :2, None]\ndef old(): return Odd()",
            {},
            "target.baseline.load: outputs of shape (12, 2, 1) do not go with the model's of shape (12, 2)",
        ),
        (
            "def model(): return Net(1)\ndef old(): return Net(2)",
            {"task": "regression"},
            "target.baseline.load: outputs of shape (12, 2) do not go with the model's of shape (12, 1)",
        ),
        (
            "def old(): return torch.nn.Sequential(Net(), torch.nn.Softmax(1))",
            {},
            "target.baseline.load: the model gives logits, and these outputs look like probabilities",
        ),
        (
            "def model(): return torch.nn.Sequential(Net(), torch.nn.Softmax(1))\ndef old(): return Net()",
            {"model": {"load": "system:model", "outputs": "probabilities"}},
            "target.baseline.load: the model gives probabilities, and these outputs are none",
        ),
    ],
)
def test_baselines_that_do_not_fit(load: Loader, code: str, changes: dict[str, Any], told: str) -> None:
    if "classes" in changes:
        code = "y = np.array(['a', 'b'])[y]\n" + code
    assert load.refusal(TORCH + code, **BASELINE, **changes).startswith(told)


DESIGN = TORCH + "def design(): return np.repeat(X, 2, axis=0), np.repeat(np.linspace(0, 0.5, 12), 2)\n"
DATA_DESIGN = {"data": {"test": {"load": "system:test"}, "design": {"load": "system:design"}}}


def test_a_design_keeps_its_values_whatever_the_task(load: Loader) -> None:
    subject, _, _ = load(DESIGN, **DATA_DESIGN)
    split = subject.splits["design"]
    assert (split.name, split.n, split.labels.dtype) == ("design", 24, np.float64)
    assert split.labels.tolist() == np.repeat(np.linspace(0, 0.5, 12), 2).tolist()
    assert subject.splits["test"].labels.dtype == np.int64
    assert Need.DESIGN in subject.offers
    assert subject.tensors("design")[0].shape == (24, 3)
    assert subject.scores("design").shape == (24, 2)
    whole = load(DESIGN + "def design(): return X, np.arange(12)\n", **DATA_DESIGN)[0]
    assert whole.splits["design"].labels.dtype == np.float64
    estimator, _, _ = load(SKLEARN + "def design(): return X, X[:, 0]\n", **DATA_DESIGN)
    assert Need.DESIGN in estimator.offers
    assert estimator.splits["design"].labels.dtype == np.float64


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (
            "def design(): return X, ['a'] * 12",
            " label: wanted numbers, the values of the parameter: could not convert",
        ),
        ("def design(): return X, np.where(y == 1, np.inf, 0.0)", " label: row 0 is inf, wanted a finite number"),
        ("def design(): return X, np.where(y == 1, np.nan, 0.0)", " label: 7 are missing (first: row 0)"),
        ("def design(): return X * np.nan, X[:, 0]", ": 12 of 12 rows have missing or infinite features"),
    ],
)
def test_designs_that_do_not_fit(load: Loader, code: str, told: str) -> None:
    assert load.refusal(TORCH + code, **DATA_DESIGN).startswith("target.data.design (system:design)" + told)


# --- rows without labels, training anew, origin -----------------------------------------------------------------------


def test_splits_without_labels(load: Loader) -> None:
    more = "def outside(): return X + 9\ndef met(): return torch.tensor(X), y\n"
    data = {"test": {"load": "system:test"}, "ood": {"load": "system:outside"}, "production": {"load": "system:met"}}
    subject, _, _ = load(TORCH + more, data=data)
    assert {Need.OOD, Need.PRODUCTION} <= subject.offers
    assert np.isnan(subject.splits["ood"].labels).all()
    assert (subject.splits["production"].labels == subject.splits["test"].labels).all()
    assert subject.scores("ood").shape == (12, 2)
    table = {"test": {"load": "system:test"}, "ood": {"file": "t.csv", "features": ["a", "b", "c"]}}
    other, _, _ = load(TORCH, table="a,b,c,d\n1,2,3,x\n4,5,6,y\n", data=table)
    assert other.splits["ood"].features.tolist() == [[1, 2, 3], [4, 5, 6]]


def test_a_test_split_needs_labels(load: Loader) -> None:
    assert "wanted items of the data set to be pairs (x, y)" in load.refusal(TORCH + "def test(): return X")


TRAIN = {"test": {"load": "system:test"}, "train": {"load": "system:train"}}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sklearn", "torch"])
def test_training_anew(load: Loader, kind: str) -> None:
    fit = """
def fit(X, y, seed):
    torch.manual_seed(seed)
    net = torch.nn.Linear(3, 2)
    optimiser = torch.optim.Adam(net.parameters(), lr=0.1)
    for _ in range(100):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(net(torch.tensor(X)), torch.tensor(y)).backward()
        optimiser.step()
    return net
"""
    code = (
        TORCH + fit + "def train(): return X, y\n" if kind == "torch" else SKLEARN + "def train(): return X, names[y]\n"
    )
    model = {"load": "system:model", "train": "system:fit"} if kind == "torch" else {"load": "system:model"}
    typed: Subject = load(code, data=TRAIN, model=model)[0]
    assert Need.REFIT in typed.offers
    split, rows = typed.splits["train"], np.arange(2, 12)
    assert split.features is not None
    scores = typed.refit(rows, 3)
    found = scores(split.features)
    assert found.shape == (12, 2)
    assert found.sum(axis=1) == pytest.approx(1, abs=1e-6)
    assert (found.argmax(axis=1) == split.labels)[rows].mean() > 0.8
    assert (typed.refit(rows, 3)(split.features) == found).all()
    flipped = typed.refit(rows, 3, labels=1 - split.labels[rows])(split.features)
    assert (flipped.argmax(axis=1) != split.labels)[rows].mean() > 0.8
    assert typed.query_scores(split.features) == pytest.approx(typed.scores("train"))


def test_a_fit_that_lacks_a_class_gives_it_nothing(load: Loader) -> None:
    code = (
        SKLEARN
        + """
from sklearn.tree import DecisionTreeClassifier
y[:4] = [0, 0, 1, 1]
def model(): return DecisionTreeClassifier(random_state=0).fit(X, names[y])
def train(): return X, names[y]
"""
    )
    subject, _, _ = load(code, data=TRAIN)
    assert subject.refit(np.array([2, 3]), 0)(subject.splits["train"].features)[:, 0].tolist() == [0.0] * 12


def test_what_cannot_be_trained_anew(load: Loader) -> None:
    assert Need.REFIT not in load(TORCH, data=TRAIN)[0].offers
    with pytest.raises(NotApplicable, match="nobody said how the model is trained anew"):
        load(TORCH, data=TRAIN)[0].refit(np.arange(3), 0)
    module = {"load": "system:model", "train": "system:fit"}
    with pytest.raises(TypeError, match=r"target.model.train gave a int, wanted a torch.nn.Module"):
        load(TORCH + "def fit(X, y, seed): return 3", data=TRAIN, model=module)[0].refit(np.arange(3), 0)
    assert "has no callable 'fit'" in load.refusal(TORCH, data=TRAIN, model=module)
    assert "a scikit-learn estimator is fitted again by itself" in load.refusal(
        SKLEARN + "def fit(): pass", model=module
    )
    svm = SKLEARN + "from sklearn.svm import LinearSVC\ndef model(): return LinearSVC().fit(X, names[y])\n"
    assert Need.REFIT not in load(svm, data={**TRAIN, "train": {"load": "system:test"}})[0].offers


def test_where_a_subject_comes_from(load: Loader) -> None:
    load.folder.mkdir()
    (load.folder / "requirements.txt").write_text("numpy==2.4.6\n")
    (load.folder / "weights.bin").write_bytes(b"abc")
    git = ["git", "-C", str(load.folder), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    model = {"load": "system:model", "files": ["weights.bin"]}
    outside = load(TORCH, model=model, dependencies=["requirements.txt"])[0]
    assert {Need.FILES, Need.DEPENDENCIES, Need.RELOAD} <= outside.offers
    assert outside.origin.files == {"weights.bin": load.folder / "weights.bin"}
    assert outside.origin.dependencies == {"requirements.txt": "numpy==2.4.6\n"}
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *arguments], check=True)
    inside = load(TORCH)[0]
    assert len(inside.origin.revision) == 40
    assert inside.origin.modified is False
    (load.folder / "weights.bin").write_bytes(b"abd")
    assert load(TORCH)[0].origin.modified is True
    again = outside.origin.reload()
    assert again is not outside
    assert again.sha256 == outside.sha256
    assert "target.model.files: no file nowhere.pt" in load.refusal(TORCH, model={**model, "files": ["nowhere.pt"]})
    assert "target.dependencies: cannot read" in load.refusal(TORCH, dependencies=["weights.txt"])


def test_a_table_of_predictions_has_no_splits_without_model(load: Loader) -> None:
    told = load.refusal(
        table=TABLE,
        **{**columns(prediction="p"), "data": {**columns(prediction="p")["data"], "ood": {"file": "t.csv"}}},
    )
    assert told.startswith("target.data.ood: wants the model itself")


BUILD = {"model": {"load": "system:model", "build": "system:new"}}
NEW = TORCH + "class Free(torch.nn.Sequential):\n    pass\ndef new(): return Free(torch.nn.Linear(3, 2)).eval()\n"


def test_a_new_module_is_untrained_and_drawn_from_the_global_generator(load: Loader) -> None:
    subject, _, digest = load(NEW, **BUILD)
    typed: Subject = subject
    assert Need.ARCHITECTURE in typed.offers
    made = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        made.append(typed.new_module())
    assert all(module.training for module in made)
    weights = [module[0].weight for module in made]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    with torch.no_grad():
        weights[0].zero_()
    assert weights[1].any()
    assert subject.sha256 == digest == load(TORCH)[2]
    double = load(NEW + "def model(): return Net().double()\n", **BUILD)[0]
    assert double.new_module()[0].weight.dtype == torch.float64


def test_a_new_module_is_never_the_assessed_one(load: Loader) -> None:
    kept = "net = Net()\ndef model(): return net\n"
    for new in ("def new(): return net", "def new(): return torch.nn.Sequential(net)"):
        subject = load(TORCH + kept + new, **BUILD)[0]
        with pytest.raises(
            NotApplicable, match=r"target\.model\.build gives the assessed model itself, wanted a new one"
        ):
            subject.new_module()
        assert not subject.module.training


def test_what_cannot_be_built_says_so(load: Loader) -> None:
    with pytest.raises(NotApplicable, match=r"nobody said how an untrained model is built \(target\.model\.build\)"):
        load(TORCH)[0].new_module()
    with pytest.raises(UsageError, match=r"target\.model\.build: gave a int, wanted a torch\.nn\.Module"):
        load(TORCH + "def new(): return 3", **BUILD)[0].new_module()
    with pytest.raises(UsageError, match=r"target\.model\.build: system .* has no callable 'new'"):
        load(TORCH, **BUILD)[0].new_module()


def test_only_modules_are_compared_and_built(load: Loader) -> None:
    compared = "target.baseline: only PyTorch modules are compared, and target.model is none; leave it out"
    built = "target.model.build: only PyTorch modules are built, and target.model is none; leave it out"
    old = "def old(): return LogisticRegression()\n"
    assert load.refusal(SKLEARN + old, **BASELINE) == compared
    assert load.refusal(SKLEARN + old, **BUILD) == built
    assert load.refusal(table=TABLE, **columns(prediction="p"), **BASELINE) == compared
    given = {**columns(prediction="p"), "model": {"predictions": "t.csv", "build": "system:new"}}
    assert load.refusal(table=TABLE, **given) == built
    subject, _, _ = load(SKLEARN)
    table, _, _ = load(table=TABLE, **columns(prediction="p"))
    for found, told in ((subject, "scikit-learn"), (table, "only a table of predictions is at hand, not the model")):
        with pytest.raises(NotApplicable, match=told):
            _ = found.baseline
        with pytest.raises(NotApplicable, match=told):
            found.new_module()


def test_a_table_of_predictions_has_no_design(load: Loader) -> None:
    given = columns(prediction="p")
    given["data"]["design"] = {"file": "t.csv", "label": "y"}
    assert load.refusal(table=TABLE, **given) == (
        "target.data.design: wants the model itself, and a table of predictions is given; leave it out"
    )


def test_the_digest_is_of_every_weight_and_buffer(load: Loader) -> None:
    assert load(TORCH)[2] == load(TORCH)[2]
    nudge = TORCH + "def model():\n    net = Net()\n    net.linear.bias.data[1] += 1e-6\n    return net"
    buffer = TORCH + "def model():\n    net = Net()\n    net.register_buffer('mean', torch.zeros(1))\n    return net"
    other = TORCH + "def model(): return Net().double()"
    assert len({load(code)[2] for code in (TORCH, nudge, buffer, other)}) == 4


def test_the_digest_is_of_how_the_outputs_are_taken(load: Loader) -> None:
    code = TORCH + "def model(): return torch.nn.Sequential(Net(), torch.nn.Softmax(1))\n"
    models = [{"load": "system:model", "outputs": outputs} for outputs in ("logits", "probabilities")]
    assert len({load(code, model=model)[2] for model in models}) == 2


# --- scikit-learn ----------------------------------------------------------------------------------------------------


def test_an_estimator_with_text_labels(load: Loader) -> None:
    subject, kind, digest = load(SKLEARN)
    assert (kind, digest, subject.classes) == ("sklearn", subject.sha256, ("no", "yes"))
    assert isinstance(subject, SklearnSubject)
    typed: Subject = subject
    assert typed.offers == {Need.TEST, Need.QUERY, Need.PROBABILITIES, Need.RELOAD}
    assert subject.predictions("test").dtype == subject.splits["test"].labels.dtype == np.int64
    assert (subject.predictions("test") == subject.scores("test").argmax(axis=1)).all()
    for refused in (lambda: subject.module, lambda: subject.tensors("test"), lambda: subject.logits(None)):
        with pytest.raises(NotApplicable, match="scikit-learn"):
            refused()


def test_an_estimator_without_probabilities(load: Loader) -> None:
    subject, _, _ = load(
        SKLEARN + "from sklearn.svm import LinearSVC\ndef model(): return LinearSVC().fit(X, names[y])"
    )
    assert subject.offers == {Need.TEST, Need.QUERY, Need.RELOAD}
    with pytest.raises(NotApplicable, match="LinearSVC gives no probabilities"):
        subject.scores("test")


@pytest.mark.parametrize(
    ("code", "changes", "told"),
    [
        (
            "def model(): return LogisticRegression()",
            {},
            "target.model.load: LogisticRegression knows no classes, so it is not fitted or no classifier (binary)",
        ),
        (
            "from sklearn.linear_model import Ridge\ndef model(): return Ridge().fit(X, y)",
            {},
            "target.model.load: Ridge knows no classes",
        ),
        (
            "from sklearn.linear_model import Ridge\ndef model(): return Ridge()\ndef test(): return X, y",
            {"task": "regression"},
            "target.model.load: predict raised NotFittedError",
        ),
        ("def test(): return X[:, :2], names[y]", {}, "target.model.load: predict raised ValueError: X has 2 features"),
        (
            "def test(): return X, y",
            {},
            "target.data.test (system:test) label: 12 labels are none of the classes ['no', 'yes'] (first: row 0, '1')",
        ),
        (
            "y = np.arange(12) % 3\nnames = np.array(list('abc'))",
            {},
            "target.task: found binary, but the estimator knows 3 classes",
        ),
        ("", {"classes": ["yes", "no"]}, "target.classes: found ['yes', 'no'], wanted the estimator's: ['no', 'yes']"),
    ],
)
def test_estimators_that_do_not_fit(load: Loader, code: str, changes: dict[str, Any], told: str) -> None:
    assert load.refusal(SKLEARN + code, **changes).startswith(told)


def test_an_estimator_that_knows_column_names_sees_them(load: Loader) -> None:
    named = SKLEARN + (
        "def model(): return LogisticRegression().fit(pd.DataFrame(X, columns=list('abc')), names[y])\n"
        "def test(): return pd.DataFrame(X, columns=list('{}')), names[y]\n"
    )
    subject, _, _ = load(named.format("abc"))
    assert (subject.predictions("test") == subject.splits["test"].labels).mean() > 0.5
    assert "predict raised ValueError: The feature names should match" in load.refusal(named.format("bac"))


def test_a_regressor(load: Loader) -> None:
    code = DATA + "from sklearn.linear_model import Ridge\ndef model(): return Ridge().fit(X, y)"
    subject, _, _ = load(code, task="regression")
    assert (subject.classes, subject.predictions("test").dtype) == ((), np.float64)
    assert subject.scores("test") is subject.predictions("test")


def fitted(estimator: str, *imports: str) -> str:
    return "".join(f"from {line}\n" for line in imports) + f"def model(): return {estimator}.fit(X, names[y])\n"


PIPELINE = "make_pipeline(F(own), F(partial(np.clip, a_min=-1, a_max=1)), LogisticRegression())"
ESTIMATORS = {
    "own": "from sklearn.linear_model import LogisticRegression\nclass E(LogisticRegression): pass\n" + fitted("E()"),
    "forest": fitted("E(3, random_state=0)", "sklearn.ensemble import RandomForestClassifier as E"),
    "boosting": fitted("E(max_iter=2, random_state=0)", "sklearn.ensemble import HistGradientBoostingClassifier as E"),
    "neighbours": fitted("E(2, algorithm='kd_tree')", "sklearn.neighbors import KNeighborsClassifier as E"),
    "pipeline": "def own(x): return 2 * x\n"
    + fitted(
        PIPELINE,
        "functools import partial",
        "sklearn.pipeline import make_pipeline",
        "sklearn.preprocessing import FunctionTransformer as F",
    ),
}


@pytest.mark.slow
def test_digests_are_equal_across_processes_and_folders(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from assessor.model import TargetSpec
from assessor.registry import load_checks
from assessor.subjects import load_subject
for folder in sorted(Path(sys.argv[1]).iterdir()):
    given = {"task": "binary", "model": {"load": "system:model"}, "data": {"test": {"load": "system:test"}}}
    spec = TargetSpec.model_validate(given)
    print(folder.name, load_subject(spec, folder)[2])
"""
    outputs = []
    for seed in ("1", "2"):
        for name, more in {"torch": TORCH, **{key: SKLEARN + value for key, value in ESTIMATORS.items()}}.items():
            (tmp_path / seed / name).mkdir(parents=True)
            (tmp_path / seed / name / "system.py").write_text(more)
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code, str(tmp_path / seed)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout.splitlines())
    assert outputs[0] == outputs[1]
    assert len(set(outputs[0])) == len(ESTIMATORS) + 1


def test_a_digest_leaves_out_what_lies_between_fields() -> None:
    """Trees of scikit-learn hold records with padding, whose bytes are whatever the memory held."""
    record = np.dtype({"names": ["a", "b"], "formats": ["u1", "f8"], "offsets": [0, 8], "itemsize": 16})

    class Tree:
        def __init__(self, fill: int, value: float) -> None:
            self.nodes = np.frombuffer(bytearray([fill]) * 16, record)
            self.nodes["a"], self.nodes["b"] = 1, value

    def digest(fill: int, value: float) -> str:
        return SklearnSubject(Tree(fill, value), Task.BINARY, ("0", "1"), {}).sha256

    assert digest(0, 0.5) == digest(255, 0.5) != digest(0, 0.6)


def test_an_estimators_digest_is_of_its_fit(load: Loader) -> None:
    whole = ESTIMATORS["pipeline"]
    variants = ["", "y[0] = 1 - y[0]", "def model(): return LogisticRegression(C=2).fit(X, names[y])", whole]
    variants += [whole.replace("a_max=1", "a_max=2"), whole.replace("own", "mine")]
    assert len({load(SKLEARN + code)[2] for code in variants}) == len(variants)


# --- tables of predictions -------------------------------------------------------------------------------------------

TABLE = "y,p,s,sex\n0,0,0.1,f\n1,0,0.4,m\n1,1,0.9,f\n"
PREDICTIONS = {"model": {"predictions": "t.csv"}}


def columns(**test: Any) -> dict[str, Any]:
    return {**PREDICTIONS, "data": {"test": {"label": "y", **test}}}


def test_a_table_of_predictions(load: Loader) -> None:
    subject, kind, digest = load(table=TABLE, **columns(prediction="p", score="s", sensitive=["sex"]))
    assert (kind, digest, subject.classes) == ("predictions", None, ("0", "1"))
    typed: Subject = subject
    assert typed.offers == {Need.TEST, Need.PROBABILITIES, Need.SENSITIVE}
    assert subject.predictions("test").tolist() == [0, 0, 1]
    assert subject.splits["test"].labels.tolist() == [0, 1, 1]
    assert np.allclose(subject.scores("test"), [[0.9, 0.1], [0.6, 0.4], [0.1, 0.9]])
    refusals = (
        lambda: subject.module,
        lambda: subject.query(np.zeros(1)),
        lambda: subject.tensors("test"),
        lambda: subject.logits(None),
    )
    for refused in refusals:
        with pytest.raises(NotApplicable, match="only a table of predictions is at hand, not the model"):
            refused()


def test_scores_decide_where_no_prediction_is_named(load: Loader) -> None:
    table = "y,a,b,c\nx,0.2,0.5,0.3\nz,0.1,0.1,0.8\nw,1,0,0\n"
    subject, _, _ = load(table=table, task="multiclass", **columns(score=["a", "b", "c"]))
    assert subject.classes == ("w", "x", "z")
    assert subject.predictions("test").tolist() == [1, 2, 0]


def test_predictions_alone_are_no_scores(load: Loader) -> None:
    subject, _, _ = load(table=TABLE, **columns(prediction="p"))
    assert subject.offers == {Need.TEST}
    with pytest.raises(NotApplicable, match="the table has predicted labels and no scores"):
        subject.scores("test")


def test_predicted_values(load: Loader) -> None:
    subject, _, _ = load(table="y,p\n0.5,1\n2,2.5\n", task="regression", **columns(prediction="p"))
    assert subject.scores("test").tolist() == subject.predictions("test").tolist() == [1, 2.5]


@pytest.mark.parametrize(
    ("table", "changes", "told"),
    [
        (TABLE, columns(prediction="q"), " (t.csv): no column 'q'; columns: y, p, s, sex"),
        (TABLE, columns(score="scor"), " (t.csv): no column 'scor'; columns: y, p, s, sex"),
        (TABLE, columns(), " (t.csv): wanted prediction: or score: the column of the model's outputs"),
        (TABLE, columns(score="sex"), " (t.csv) score: wanted numbers"),
        (TABLE, columns(score=["s", "s", "s"]), " (t.csv) score: found 3 columns, wanted one a class: ['0', '1']"),
        (
            TABLE.replace("0.4", "1.4"),
            columns(score="s"),
            " (t.csv) score: 1 rows are no probabilities (first: row 1); wanted",
        ),
        (TABLE.replace("0.4", ""), columns(score="s"), " (t.csv) s: 1 are missing (first: row 1)"),
        (TABLE, columns(score=["s", "s"]), " (t.csv) score: 3 rows are no probabilities (first: row 0); wanted"),
        (TABLE.replace("0,0,", ",0,"), columns(prediction="p"), " (t.csv) label: 1 are missing (first: row 0)"),
        (TABLE.replace("1,0,", "1,,"), columns(prediction="p"), " (t.csv) p: 1 are missing (first: row 1)"),
        ("y,p\n", columns(prediction="p"), " (t.csv): the table has no rows"),
        ("", columns(prediction="p"), ": cannot read "),
        (TABLE, {"model": {"predictions": "none.csv"}, "data": {"test": {"label": "y"}}}, ": no file "),
    ],
)
def test_tables_that_do_not_fit(load: Loader, table: str, changes: dict[str, Any], told: str) -> None:
    assert load.refusal(table=table, **changes).startswith("target.data.test" + told)


def test_a_binary_table_of_one_class(load: Loader) -> None:
    told = load.refusal(table="y,p\n1,1\n1,1\n", **columns(prediction="p"))
    assert told.startswith(
        "target.task: found binary, but the table has the classes ['1']; name both under target.classes"
    )
    assert load(table="y,p\n1,1\n1,1\n", **columns(prediction="p"), classes=["0", "1"])[0].classes == ("0", "1")


def test_training_data_is_never_the_test_table(load: Loader) -> None:
    given = columns(prediction="p")
    given["data"]["train"] = {"label": "y", "prediction": "p"}
    assert (
        load.refusal(table=TABLE, **given)
        == "target.data.train: wanted one of load, file, images, dataset, sql, which say where the data are"
    )
    given["data"]["train"]["file"] = "t.csv"
    assert Need.TRAIN in load(table=TABLE, **given)[0].offers


def test_arrays_are_no_table_of_predictions(load: Loader) -> None:
    given = {**PREDICTIONS, "data": {"test": {"load": "system:test", "prediction": "p"}}}
    assert load.refusal(DATA, **given).endswith(
        "found arrays, wanted a table (a file or a DataFrame) with the column 'p'"
    )


def test_the_digest_covers_the_outputs(load: Loader) -> None:
    def digest(table: str) -> str:
        return str(load(table=table, **columns(prediction="p", score="s"))[0].splits["test"].sha256)

    assert len({digest(table) for table in (TABLE, TABLE.replace("0.4", "0.41"), TABLE.replace("1,0,", "1,1,"))}) == 3


# --- tables in parts -------------------------------------------------------------------------------------------------


def stored(load: Loader, monkeypatch: pytest.MonkeyPatch, frame: pd.DataFrame, part: int, **test: Any) -> Any:
    """A subject of a parquet file that comes in parts of so many rows."""
    monkeypatch.setattr("assessor.subjects.tables.PART", part)
    load.folder.mkdir(exist_ok=True)
    frame.to_parquet(load.folder / "t.parquet", row_group_size=5)
    given = {"model": {"predictions": "t.parquet"}, "data": {"test": {"label": "y", **test}}}
    return load(**given)[0]


def outputs(rows: int = 23) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    score = rng.random(rows)
    return pd.DataFrame(
        {
            "y": np.where(rng.random(rows) < score, "yes", "no"),
            "p": np.where(score > 0.5, "yes", "no"),
            "s": score,
            "sex": [["f", "m", None, "ü"][place % 4] for place in range(rows)],
            "age": pd.array([[18, 30, None][place % 3 if place > 9 else 0] for place in range(rows)], dtype="Int64"),
        }
    )


NAMED: dict[str, Any] = {"prediction": "p", "score": "s", "sensitive": ["sex", "age"]}


def test_parts_make_no_difference(load: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = outputs()
    whole = load(table=frame.to_csv(index=False), **columns(**NAMED))[0]
    for size in (1, 4, 100):
        subject = stored(load, monkeypatch, frame, size, **NAMED)
        split = subject.splits["test"]
        assert split.sha256 == whole.splits["test"].sha256
        assert (split.n, split.sensitive, subject.classes, subject.offers) == (
            23,
            ("sex", "age"),
            ("no", "yes"),
            whole.offers,
        )
        parts = list(subject.parts("test"))
        assert [len(part.labels) for part in parts] == [size] * (23 // size) + ([23 % size] if 23 % size else [])
        assert (np.concatenate([part.labels for part in parts]) == split.labels).all()
        assert (np.concatenate([part.predictions for part in parts]) == subject.predictions("test")).all()
        assert (split.labels == whole.splits["test"].labels).all()
        assert (subject.scores("test") == whole.scores("test")).all()
        texts = [text for part in parts for text in part.attributes["sex"].astype(object)]
        assert [text for text in texts if isinstance(text, str)] == list(frame["sex"].dropna())
        assert split.attributes["sex"].isna().sum() == 6


def test_a_check_by_parts_never_holds_all_rows(load: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise AssertionError("all rows were read at once")

    whole = group_metrics(stored(load, monkeypatch, outputs(400), 1000, **NAMED))
    monkeypatch.setattr(pd, "read_parquet", refused)
    subject = stored(load, monkeypatch, outputs(400), 7, **NAMED)
    assert group_metrics(subject) == whole
    with pytest.raises(AssertionError, match="all rows were read at once"):
        _ = subject.splits["test"].labels


def group_metrics(subject: Subject) -> Result:
    check = load_checks()["fairness.group_metrics"]
    return check.measure(subject, check.params(), 0)


@pytest.mark.parametrize(
    ("column", "value", "told"),
    [
        ("y", None, "label: 1 are missing (first: row 20)"),
        ("p", None, "p: 1 are missing (first: row 20)"),
        ("p", "perhaps", "prediction: 1 labels are none of the classes ['no', 'yes'] (first: row 20, 'perhaps')"),
        ("s", 1.5, ", rows 20 to 22 score: 1 rows are no probabilities (first: row 20)"),
    ],
)
def test_a_fault_is_told_with_its_row_in_the_file(
    load: Loader, monkeypatch: pytest.MonkeyPatch, column: str, value: object, told: str
) -> None:
    frame = outputs()
    frame.loc[20, column] = value
    monkeypatch.setattr("assessor.subjects.tables.PART", 10)
    load.folder.mkdir()
    frame.to_parquet(load.folder / "t.parquet")
    given = {"model": {"predictions": "t.parquet"}, "data": {"test": {"label": "y", **NAMED}}}
    assert told in load.refusal(classes=["no", "yes"], **given)


def test_a_table_that_is_cut_off(load: Loader) -> None:
    load.folder.mkdir()
    path = load.folder / "t.parquet"
    outputs(5000).to_parquet(path, row_group_size=1000)
    content = bytearray(path.read_bytes())
    content[200:2000] = bytes(1800)
    path.write_bytes(content)
    told = load.refusal(model={"predictions": "t.parquet"}, data={"test": {"label": "y", **NAMED}})
    assert told.startswith("target.data.test: cannot read ")


def test_the_digest_of_rows_tells_values_from_their_neighbours() -> None:
    def digest(*columns: list[object], features: object = None) -> str:
        found = RowsDigest()
        frame = pd.DataFrame({str(place): column for place, column in enumerate(columns)})
        found.add(None if features is None else np.array(features), np.zeros(len(columns[0])), frame)
        return found.hexdigest()

    variants = [
        digest(["a", "bc"]),
        digest(["ab", "c"]),
        digest(["a", "bc"], ["a", "bc"]),
        digest(["a", None]),
        digest(["a", "None"]),
        digest(["a", ""]),
        digest(["a", "bc"], features=[[1], [2]]),
        digest(["a", "bc"], features=[["1"], ["2"]]),
        digest(["a", "bc"], features=[1, 2]),
        digest(["a", "bc", "bc"]),
    ]
    assert len(set(variants)) == len(variants)
    assert digest([1, 2]) == digest([1.0, 2.0]) == digest(["1", "2"])
