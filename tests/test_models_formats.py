"""Model files that are not what they are called, do not fit, or are odd: refused in words, or read as they are."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from models import CODE, COLUMNS, DATA, Made, make_models, module, onnx_mlp
from pydantic import ValidationError

from assessor.contract import Need, NotApplicable, collecting
from assessor.errors import UsageError
from assessor.model import FORMS, ModelSpec, TargetSpec
from assessor.subjects import load_subject


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_models(tmp_path_factory.mktemp("models"))


def loaded(folder: Path, model: dict[str, Any], *, trust: bool = False, **changes: Any) -> Any:
    target = {"task": "multiclass", "model": model, "data": {"test": DATA["test"]}, "device": "cpu", **changes}
    return load_subject(TargetSpec.model_validate(target), folder, trust=trust)[0]


def refusal(folder: Path, model: dict[str, Any], **changes: Any) -> str:
    with pytest.raises(UsageError) as caught:
        loaded(folder, model, **changes)
    return str(caught.value)


@pytest.fixture
def folder(made: Made, tmp_path: Path) -> Path:
    """A folder with the table and the code alone."""
    for name in ("t.csv", "system.py"):
        (tmp_path / name).write_bytes((made.folder / name).read_bytes())
    return tmp_path


# --- the wrong format ------------------------------------------------------------------------------------------------

PICKLE = "found a pickle (protocol 4), wanted"
SAVE = "save it with skops.io.dump(estimator, 'model.skops')"
TRUST = "or, if you trust whoever made it, name it under pickle: and run with --trust"


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ({"sklearn": "m.pkl"}, f"target.model.sklearn: m.pkl: {PICKLE} a skops file (zip with schema.json); {SAVE}, "
                               f"{TRUST}"),
        ({"onnx": "m.pkl"}, f"{PICKLE} an ONNX model; write it with torch.onnx.export or skl2onnx, {TRUST}"),
        ({"onnx": "m.skops"}, "found a skops file, wanted an ONNX model"),
        ({"sklearn": "m.ts"}, "found a TorchScript module, wanted a skops file (zip with schema.json); "
                              f"{SAVE}, or name it under torchscript:"),
        ({"torchscript": "m.pt"}, "found a file of torch.save, wanted a TorchScript module"),
        ({"torchscript": "m.pt2"}, "found a program of torch.export, wanted a TorchScript module"),
        ({"torch_export": "m.ts"}, "found a TorchScript module, wanted a program of torch.export"),
        ({"state_dict": "m.ts", "build": "system:build"}, "found a TorchScript module, wanted a state dict of PyTorch"),
        ({"state_dict": "m.safetensors", "build": "system:build"}, "found a safetensors file, wanted a state dict"),
        ({"safetensors": "m.pt", "build": "system:build"}, "found a file of torch.save, wanted a safetensors file"),
        ({"xgboost": "m.txt"}, "found a model of LightGBM (text), wanted a model of XGBoost (json or ubj)"),
        ({"lightgbm": "m.ubj"}, "found a model of XGBoost (json or ubj), wanted a model of LightGBM (text)"),
        ({"lightgbm": "m.onnx"}, "found an ONNX model, wanted a model of LightGBM (text)"),
        ({"onnx": "t.csv"}, "found text that begins with 'a,b,c,d,y"),
        ({"onnx": "no.onnx"}, "target.model.onnx: no file no.onnx in"),
        ({"onnx": "empty"}, "found an empty file, wanted an ONNX model"),
        ({"onnx": "odd"}, "found a file of an unknown format (it begins with 00 ff 00 ff 00 ff 00 ff)"),
        ({"onnx": "keras"}, "found an HDF5 file (Keras), wanted an ONNX model"),
        ({"onnx": "cut.zip"}, "found a broken zip archive, wanted an ONNX model"),
        ({"sklearn": "m.joblib"}, "found a zlib file, wanted a skops file"),
    ],
)  # fmt: skip
def test_a_file_of_another_format(made: Made, model: dict[str, Any], told: str) -> None:
    odd = {"empty": b"", "odd": b"\0\xff" * 40, "keras": b"\x89HDF\r\n", "cut.zip": b"PK\3\4..."}
    for name, content in odd.items():
        (made.folder / name).write_bytes(content)
    with zipfile.ZipFile(made.folder / "m.pt2", "w") as archive:
        archive.writestr("m/archive_format", "pt2")
    assert told in refusal(made.folder, model)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["sklearn", "onnx", "xgboost", "lightgbm", "torchscript"])
def test_a_cut_file(made: Made, folder: Path, form: str) -> None:
    name = {"sklearn": "m.skops", "onnx": "m.onnx", "xgboost": "m.ubj", "lightgbm": "m.txt", "torchscript": "m.ts"}[
        form
    ]
    content = (made.folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    told = refusal(folder, {form: name})
    assert told.startswith(f"target.model.{form}: {name}: ")
    assert "cannot be" in told or "found a broken zip archive" in told


def test_exactly_one_format_is_named() -> None:
    with pytest.raises(ValidationError, match="found none, wanted exactly one of load, safetensors"):
        ModelSpec()
    with pytest.raises(ValidationError, match="found sklearn and onnx, wanted exactly one of"):
        ModelSpec(sklearn="a", onnx="b")
    with pytest.raises(ValidationError, match="safetensors: wanted build beside it"):
        ModelSpec(safetensors="a")
    assert set(FORMS) <= set(ModelSpec.model_fields)


# --- weights ---------------------------------------------------------------------------------------------------------


class Evil:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> Any:
        return (Path.write_text, (Path("ran"), "x"))


def test_weights_that_do_not_fit(folder: Path) -> None:
    state = module().state_dict()
    other = {**{name: value for name, value in state.items() if "0" not in name}, "more.weight": torch.zeros(1)}
    other["layers.2.bias"] = torch.zeros(5)
    torch.save(other, folder / "m.pt")
    assert refusal(folder, {"state_dict": "m.pt", "build": "system:build"}) == (
        "target.model.state_dict: m.pt does not fit the module that system:build gives: it lacks layers.0.bias, "
        "layers.0.weight; it has more.weight, which the module lacks; layers.2.bias has the shape (5,), wanted (3,)"
    )


@pytest.mark.parametrize("content", [{"a": Evil()}, Evil(), [torch.zeros(2)], {"model": {"a": torch.zeros(2)}}])
def test_a_state_dict_with_more_than_tensors(folder: Path, content: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    torch.save(content, folder / "m.pt")
    told = refusal(folder, {"state_dict": "m.pt", "build": "system:build"})
    assert "than tensors" in told
    assert "torch.save(model.state_dict(), file)" in told
    assert not (folder / "ran").exists()


def test_weights_of_what_is_no_module(made: Made) -> None:
    (made.folder / "odd_code.py").write_text(CODE + "def build(): return 3")
    told = refusal(made.folder, {"state_dict": "m.pt", "build": "odd_code:build"})
    assert told == "target.model.build: gave a int, wanted a torch.nn.Module"


@pytest.mark.slow  # torch.export
def test_a_program_of_a_fixed_number_of_rows(folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(module(), (torch.zeros(3, 4),)), folder / "m.pt2")
    told = refusal(folder, {"torch_export": "m.pt2"})
    assert "the model raised an error on rows of target.data.test (t.csv) of shape (4,)" in told
    assert told.endswith("a program must take any number of rows: export it with dynamic_shapes for the first axis")


# --- estimators ------------------------------------------------------------------------------------------------------


def test_types_that_nobody_vouches_for(made: Made, folder: Path) -> None:
    import skops.io
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    (folder / "own_steps.py").write_text("def doubled(x): return 2 * x\n")
    from assessor.subjects import importable

    with importable(folder):
        import own_steps  # type: ignore[import-not-found]
        from sklearn.linear_model import LogisticRegression

        pipe = make_pipeline(FunctionTransformer(own_steps.doubled), LogisticRegression()).fit(made.rows, made.labels)
        skops.io.dump(pipe, folder / "m.skops")
        wanted = pipe.predict_proba(made.rows)
    assert refusal(folder, {"sklearn": "m.skops"}) == (
        "target.model.sklearn: m.skops holds types that nobody vouches for: own_steps.doubled; look at their code, "
        "then name them under target.model.trusted, or run with --trust"
    )
    for subject in (
        loaded(folder, {"sklearn": "m.skops", "trusted": ["own_steps.doubled"]}),
        loaded(folder, {"sklearn": "m.skops"}, trust=True),
    ):
        assert np.allclose(subject.scores("test"), wanted)


def test_a_pickle_of_something_else(folder: Path) -> None:
    (folder / "m.pkl").write_bytes(pickle.dumps([1, 2]))
    assert refusal(folder, {"pickle": "m.pkl"}, trust=True) == (
        "target.model.pickle: m.pkl gave a builtins.list, wanted a torch.nn.Module or a fitted scikit-learn estimator"
    )
    (folder / "m.pkl").write_bytes(b"\x80\x04cno_such_module\nthing\n.")
    assert "m.pkl: cannot be read: ModuleNotFoundError" in refusal(folder, {"pickle": "m.pkl"}, trust=True)


# --- trees -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow  # a child for every task
@pytest.mark.parametrize("form", ["xgboost", "lightgbm"])
def test_trees_for_two_classes_and_for_values(made: Made, folder: Path, form: str) -> None:
    import lightgbm
    import xgboost

    rows, values = made.rows.copy(), made.rows[:, 0] * 2
    rows[3, 1] = np.nan
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    for task, y in (("binary", (made.labels > 0).astype(int)), ("regression", values)):
        table.assign(y=y).to_csv(folder / "t.csv", index=False)
        if form == "xgboost":
            objective = {"binary": "binary:logistic", "regression": "reg:squarederror"}[task]
            booster = xgboost.train({"objective": objective, "nthread": 1}, xgboost.DMatrix(rows, y), 3)
            booster.save_model(folder / "m.json")
            said, name = booster.predict(xgboost.DMatrix(rows)), "m.json"
        else:
            settings = {"objective": task, "verbosity": -1, "num_threads": 1, "min_data_in_leaf": 5}
            made_trees = lightgbm.train(settings, lightgbm.Dataset(rows, y), 3)
            made_trees.save_model(folder / "m.txt")
            said, name = made_trees.predict(rows), "m.txt"
        subject = loaded(folder, {form: name}, task=task)
        found = subject.scores("test")
        assert np.array_equal(found[:, 1] if task == "binary" else found, np.asarray(said, np.float64))
        assert (Need.PROBABILITIES in subject.offers) is (task == "binary")
        other = "regression" if task == "binary" else "binary"
        assert refusal(folder, {form: name}, task=other).startswith(f"target.task: found {other}, but the model")


@pytest.mark.slow
def test_trees_that_give_classes_only(made: Made, folder: Path) -> None:
    import xgboost

    settings = {"objective": "multi:softmax", "num_class": 3, "nthread": 1}
    booster = xgboost.train(settings, xgboost.DMatrix(made.rows, made.labels), 3)
    booster.save_model(folder / "m.ubj")
    assert "gives classes only; name them all, in their order" in refusal(folder, {"xgboost": "m.ubj"})
    subject = loaded(folder, {"xgboost": "m.ubj"}, classes=["0", "1", "2"])
    assert np.array_equal(subject.predictions("test"), booster.predict(xgboost.DMatrix(made.rows)))
    assert Need.PROBABILITIES not in subject.offers
    with pytest.raises(NotApplicable, match="gives classes and no scores"):
        subject.scores("test")


# --- ONNX ------------------------------------------------------------------------------------------------------------


def test_a_fixed_number_of_rows_is_filled_up(made: Made, folder: Path) -> None:
    (folder / "m.onnx").write_bytes(onnx_mlp(module(), "Celu", rows=7))
    (folder / "free.onnx").write_bytes(onnx_mlp(module(), "Celu"))
    fixed, free = (loaded(folder, {"onnx": name}) for name in ("m.onnx", "free.onnx"))
    assert np.allclose(fixed.scores("test"), free.scores("test"), atol=1e-6)


def test_why_there_are_no_gradients_is_remarked(made: Made) -> None:
    subject = loaded(made.folder, {"onnx": "celu.onnx"})
    with collecting() as remarks:
        subject.predictions("test")
    assert remarks == ["The ONNX model gives no gradients here: it has operators that are not known here: Celu."]
    with pytest.raises(NotApplicable, match="can only be asked for outputs"):
        _ = subject.module


def test_an_output_must_be_named_where_there_are_several(folder: Path) -> None:
    import onnx

    model = onnx.load_from_string(onnx_mlp(module(), "Relu"))
    model.graph.output.append(onnx.helper.make_tensor_value_info("r", onnx.TensorProto.FLOAT, ["n", 8]))
    onnx.save(model, folder / "m.onnx")
    assert "the model has the outputs ['y', 'r']; name the one with the scores" in refusal(folder, {"onnx": "m.onnx"})
    assert loaded(folder, {"onnx": "m.onnx", "output": "y"}).scores("test").shape == (60, 3)
    assert "classes" in refusal(folder, {"onnx": "m.onnx", "output": "r"}, classes=["a", "b", "c"])


@pytest.mark.slow
def test_outputs_that_look_like_probabilities(folder: Path) -> None:
    import onnx

    for between in ("Relu", "Celu"):  # as a module, and asked in a child
        model = onnx.load_from_string(onnx_mlp(module(), between))
        model.graph.node.append(onnx.helper.make_node("Softmax", ["y"], ["p"], axis=1))
        model.graph.output[0].name = "p"
        onnx.save(model, folder / "m.onnx")
        assert "the outputs look like probabilities" in refusal(folder, {"onnx": "m.onnx"})
        found = loaded(folder, {"onnx": "m.onnx", "outputs": "probabilities"}).scores("test")
        assert found.sum(axis=1) == pytest.approx(1)
        (folder / "m.onnx").write_bytes(onnx_mlp(module(), between))
        assert "'probabilities'" in (told := refusal(folder, {"onnx": "m.onnx", "outputs": "probabilities"})) or (
            "no probabilities" in told
        )


def _onnx_of(nodes: list[Any], weights: dict[str, np.ndarray], shape: tuple[int, ...]) -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *shape])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        initializer=[numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    content: bytes = model.SerializeToString()
    return content


IMAGE = (2, 6, 6)
ONE = np.array([1], np.int64)
GRAPHS: dict[str, tuple[list[tuple[str, list[str], list[str], dict[str, Any]]], dict[str, np.ndarray]]] = {
    "Conv": ([("Conv", ["x", "w", "b"], ["y"], {"pads": [1, 0, 2, 1], "strides": [2, 1], "dilations": [1, 2]})],
             {"w": np.random.default_rng(0).normal(size=(3, 2, 3, 2)).astype("f4"), "b": np.ones(3, "f4")}),
    "MaxPool": ([("MaxPool", ["x"], ["y"], {"kernel_shape": [3, 2], "pads": [1, 0, 1, 1], "strides": [2, 2]})], {}),
    "AveragePool": ([("AveragePool", ["x"], ["y"], {"kernel_shape": [2, 2], "strides": [2, 1]})], {}),
    "GlobalAveragePool": ([("GlobalAveragePool", ["x"], ["y"], {})], {}),
    "GlobalMaxPool": ([("GlobalMaxPool", ["x"], ["y"], {})], {}),
    "BatchNormalization": ([("BatchNormalization", ["x", "s", "b", "m", "v"], ["y"], {"epsilon": 0.01})],
                           {name: np.array([1.5, 0.5], "f4") for name in "sbmv"}),
    "LayerNormalization": ([("LayerNormalization", ["x", "s", "b"], ["y"], {"axis": -1})],
                           {"s": np.full(6, 2, "f4"), "b": np.ones(6, "f4")}),
    "Flatten": ([("Flatten", ["x"], ["y"], {})], {}),
    "Reshape": ([("Reshape", ["x", "s"], ["y"], {})], {"s": np.array([0, -1, 4], np.int64)}),
    "Shape": ([("Shape", ["x"], ["s"], {"start": 0, "end": 1}), ("Concat", ["s", "o"], ["t"], {"axis": 0}),
               ("Reshape", ["x", "t"], ["y"], {})], {"o": np.array([-1], np.int64)}),
    "Transpose": ([("Transpose", ["x"], ["y"], {"perm": [0, 2, 3, 1]})], {}),
    "Unsqueeze": ([("Unsqueeze", ["x", "o"], ["u"], {}), ("Squeeze", ["u", "o"], ["y"], {})], {"o": ONE}),
    "ReduceMean": ([("ReduceMean", ["x", "o"], ["y"], {"keepdims": 0})], {"o": np.array([2, 3], np.int64)}),
    "ReduceSum": ([("ReduceSum", ["x", "o"], ["y"], {})], {"o": ONE}),
    "Gather": ([("Gather", ["x", "i"], ["y"], {"axis": 2})], {"i": np.array([[0, -1], [3, 2]], np.int64)}),
    "Clip": ([("Clip", ["x", "", "h"], ["y"], {})], {"h": np.array(0.25, "f4")}),
    "Gemm": ([("Flatten", ["x"], ["f"], {}), ("Gemm", ["f", "w", "b"], ["y"], {"alpha": 0.5, "beta": 2.0})],
             {"w": np.random.default_rng(1).normal(size=(72, 3)).astype("f4"), "b": np.ones(3, "f4")}),
    "Max": ([("Max", ["x", "a", "b"], ["y"], {})], {"a": np.array(0.1, "f4"), "b": np.array(-0.1, "f4")}),
    **{name: ([(name, ["x"], ["y"], {})], {}) for name in
       ("Abs", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "LogSoftmax", "Neg",
        "Relu", "Sigmoid", "Softmax", "Softplus", "Tanh", "Reciprocal")},
    **{name: ([(name, ["x", "c"], ["y"], {})], {"c": np.array([0.5, 2, 1, 3, 4, 5], "f4")}) for name in
       ("Add", "Sub", "Mul", "Div")},
    "Pow": ([("Abs", ["x"], ["a"], {}), ("Pow", ["a", "c"], ["y"], {})], {"c": np.array(1.5, "f4")}),
    "Sqrt": ([("Abs", ["x"], ["a"], {}), ("Sqrt", ["a"], ["y"], {})], {}),
    "Log": ([("Abs", ["x"], ["a"], {}), ("Log", ["a"], ["y"], {})], {}),
    "Cast": ([("Cast", ["x"], ["i"], {"to": 7}), ("Cast", ["i"], ["y"], {"to": 1})], {}),
    "MatMul": ([("MatMul", ["x", "w"], ["y"], {})], {"w": np.random.default_rng(2).normal(size=(6, 5)).astype("f4")}),
    "Dropout": ([("Dropout", ["x"], ["y"], {})], {}),
}  # fmt: skip


@pytest.mark.parametrize("name", GRAPHS)
def test_operators_are_those_of_onnxruntime(name: str) -> None:
    import onnx
    import onnxruntime

    from assessor.subjects.onnx_graph import Graph

    nodes, weights = GRAPHS[name]
    made = [onnx.helper.make_node(kind, list(takes), list(gives), **more) for kind, takes, gives, more in nodes]
    content = _onnx_of(made, weights, IMAGE)
    rows = np.random.default_rng(3).normal(size=(5, *IMAGE)).astype("f4")
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    wanted = session.run(None, {"x": rows})[0]
    found = Graph(onnx.load_from_string(content), None)(torch.from_numpy(rows)).detach().numpy()
    assert found.shape == wanted.shape
    assert np.allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_all_operators_are_compared() -> None:
    from assessor.subjects.onnx_graph import OPERATORS

    tried = {kind for nodes, _weights in GRAPHS.values() for kind, *_rest in nodes}
    assert set(OPERATORS) - tried == {"Constant"}


def test_a_wrong_conversion_is_noticed(made: Made) -> None:
    from assessor.subjects.onnx_module import converted

    rows = made.rows[:10]
    for off, told in ((1.0, "differ from onnxruntime's by"), (np.nan, "not finite")):
        found = converted(made.folder / "m.onnx", None, rows, lambda x, off=off: np.full((len(x), 3), off))
        assert told in str(found)
    assert "of shape (10, 3), onnxruntime of (10, 2)" in str(
        converted(made.folder / "m.onnx", None, rows, lambda x: np.zeros((len(x), 2)))
    )
