"""Model files: harmless ones give no alarm, the same with a payload always do, however they are packed."""

import bz2
import gzip
import io
import json
import lzma
import os
import pickle
import pydoc
import runpy
import struct
import tarfile
import zipfile
import zlib

import joblib
import numpy as np
import pytest
import torch
import torch.utils.collect_env
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestClassifier
from torch import nn

from assessor_checks.security._known_imports import Standing
from assessor_checks.security._model_files import look_at, look_into

CALLED = {
    "system": os.system,
    "collect_env": torch.utils.collect_env.run,
    "pipepager": pydoc.pipepager,
    "runpy": runpy.run_path,
}


class Call:
    """Pickles as a call of something; it is never unpickled here."""

    def __init__(self, called):
        self.called = called

    def __reduce__(self):
        return self.called, ("true",)


def written(write, *arguments, **how):
    file = io.BytesIO()
    write(*(file if one is ... else one for one in arguments), **how)
    return file.getvalue()


def zipped(members, method=zipfile.ZIP_DEFLATED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def tarred(members):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


PACKED = {
    **{f"pickle {protocol}": lambda value, p=protocol: pickle.dumps(value, protocol=p) for protocol in range(6)},
    "torch": lambda value: written(torch.save, value, ...),
    "torch, old": lambda value: written(torch.save, value, ..., _use_new_zipfile_serialization=False),
    "joblib": lambda value: written(joblib.dump, value, ...),
    **{
        f"joblib {kind}": lambda value, k=kind: written(joblib.dump, value, ..., compress=(k, 3))
        for kind in ("zlib", "gzip", "bz2", "xz", "lzma")
    },
    "array": lambda value: written(np.save, ..., np.array([value, None], dtype=object)),
    "arrays": lambda value: written(np.savez_compressed, ..., a=np.ones(3), b=np.array([value, 1], dtype=object)),
    "fields": lambda value: written(np.save, ..., np.array([(1, value)], dtype=[("x", "i4"), ("y", "O")])),
    "zip": lambda value: zipped({"a.txt": b"text", "model.bin": pickle.dumps(value)}),
    "zip in zip": lambda value: zipped({"a.zip": zipped({"b": pickle.dumps(value)})}),
    "tar": lambda value: tarred({"a/b": pickle.dumps(value)}),
    "tar, gzip": lambda value: gzip.compress(tarred({"pickle": pickle.dumps(value)})),
    "text, then zip": lambda value: b"text\n" * 9 + zipped({"data.pkl": pickle.dumps(value)}),
    "pickle, then zip": lambda value: pickle.dumps(1) + zipped({"data.pkl": pickle.dumps(value)}),
    "pickle in pickle": lambda value: pickle.dumps({"weights": pickle.dumps(value)}),
    "zip in pickle": lambda value: pickle.dumps({"weights": zipped({"a": pickle.dumps(value)})}),
    "pickle, gzip": lambda value: gzip.compress(pickle.dumps(1)[:-1]) + gzip.compress(b"." + pickle.dumps(value)),
    "pickle, xz": lambda value: lzma.compress(pickle.dumps(value)),
    "pickle, bzip2": lambda value: bz2.compress(pickle.dumps(value)),
    "pickle, zlib": lambda value: zlib.compress(pickle.dumps(value)),
    "pickle, cut off": lambda value: pickle.dumps([value, "x" * 50])[:-5],
    "pickle, then noise": lambda value: pickle.dumps(value) + bytes(range(256)),
}


def kinds(data, name="model"):
    return {one.standing for one in look_at(data, name).found}


@pytest.mark.parametrize("called", CALLED)
@pytest.mark.parametrize("how", PACKED)
def test_a_payload_is_found_and_its_clean_twin_raises_no_alarm(how, called):
    value = {"w": np.ones(30), "names": ["a", "b"] * 40}
    bad = look_at(PACKED[how]({**value, "extra": Call(CALLED[called])}), "model")
    assert [one for one in bad.found if one.standing is Standing.DANGEROUS]
    clean = look_at(PACKED[how](value), "model")
    assert not [one for one in clean.found if one.standing is Standing.DANGEROUS]
    if how != "pickle, cut off":
        assert clean.found == ()


def network():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(4, 8),
        nn.TransformerEncoderLayer(8, 2),
    )


def exported():
    program = torch.export.export(network()[:5].eval(), (torch.rand(2, 1, 3, 3),))
    return written(torch.export.save, program, ...)


def checkpoint():
    moments = {"step": torch.tensor(1.0), "exp_avg": torch.ones(4), "exp_avg_sq": torch.ones(4)}
    optimiser = {"state": {0: moments}, "param_groups": [{"lr": 0.001, "params": [0]}]}
    return {"model": network().state_dict(), "optimiser": optimiser, "epoch": 3}


def test_numbers_that_begin_like_a_packed_stream_by_chance():
    weights = torch.tensor(np.frombuffer(b"x\x9c" + bytes(range(2, 200, 3)) + b"\xff" * 60, np.uint8).copy())
    assert look_at(written(torch.save, {"w": weights}, ...), "model").found == ()
    packed = np.frombuffer(zlib.compress(pickle.dumps(Call(os.system))), np.uint8)
    look = look_at(written(torch.save, {"w": torch.tensor(packed.copy())}, ...), "model")
    assert [found.standing for found in look.found] == [Standing.DANGEROUS]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit.:DeprecationWarning")
@pytest.mark.parametrize(
    ("make", "known"),
    [
        (lambda: written(torch.save, network().state_dict(), ...), True),
        (lambda: written(torch.save, network(), ...), True),
        (lambda: written(torch.save, network(), ..., _use_new_zipfile_serialization=False), True),
        (lambda: written(torch.save, checkpoint(), ...), True),
        (lambda: written(torch.jit.save, torch.jit.trace(network()[:1], torch.rand(2, 1, 3, 3)), ...), True),
        (lambda: pickle.dumps(RandomForestClassifier(5).fit(np.eye(4), [0, 1, 0, 1])), True),
        (lambda: written(joblib.dump, RandomForestClassifier(5).fit(np.eye(4), [0, 1, 0, 1]), ..., compress=3), True),
        (lambda: written(np.save, ..., np.zeros(3, dtype=[("O", "f8"), ("x", "i4")])), False),
        (lambda: written(np.savez, ..., a=np.ones(3)), False),
    ],
)
def test_harmless_files_give_no_finding(make, known):
    look = look_at(make(), "model")
    assert look.found == ()
    assert bool(look.known) == known


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_an_exported_program_holds_pickles():
    look = look_at(exported(), "model.pt2")
    assert look.found == ()
    assert look.pickles


def test_numbers_never_look_like_code():
    rng = np.random.default_rng(0)
    for seed in range(40):
        weights = [torch.from_numpy(rng.standard_normal(50).astype(np.float32)) for _ in range(10)]
        look = look_at(written(torch.save, weights, ..., _use_new_zipfile_serialization=seed % 2 == 0), "model")
        assert look.found == ()


# --- what hides archives ----------------------------------------------------------------------------------------------

EVIL = pickle.dumps(Call(os.system))


def field(data, signature, offset, value):
    """The archive with a two-byte field of the first record of a kind changed."""
    at = data.index(signature) + offset
    return data[:at] + struct.pack("<H", value) + data[at + 2 :]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: field(data, b"PK\x01\x02", 16, 0xBEEF),  # another checksum
        lambda data: field(data, b"PK\x01\x02", 8, 1),  # marked as encrypted
        lambda data: field(data, b"PK\x03\x04", 6, 1),
        lambda data: field(data, b"PK\x01\x02", 8, 0x40),
        lambda data: data.replace(b"data.pkl", b"data.xyz", 1),  # another name before the contents
        lambda data: data[: data.index(b"PK\x01\x02")],  # no directory
        lambda data: b"junk" + data,
    ],
)
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_spoiled_archive_is_read_all_the_same(spoil, method):
    data = spoil(zipped({"archive/data.pkl": EVIL}, method))
    assert Standing.DANGEROUS in kinds(data, "model.zip")


def test_a_payload_among_the_numbers_of_torch():
    data = zipped({"m/data.pkl": pickle.dumps({}), "m/version": b"3", "m/data/0": EVIL}, zipfile.ZIP_STORED)
    assert kinds(data) == {Standing.DANGEROUS}


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"7z\xbc\xaf\x27\x1c" + EVIL, "it is packed as 7z, which is not unpacked here"),
        (b"\x04\x22\x4d\x18" + EVIL, "it is packed as lz4, which is not unpacked here"),
        (gzip.compress(EVIL, mtime=0)[:-20], "it cannot be unpacked: it ends in the middle"),
        (b"\x00\x01\x02" * 40, "its format is not known"),
        (b"\x93NUMPY\x01\x00\xff\xff{}", "numpy array: its header is longer than any header of an array is"),
        (b"PK\x03\x04", "zip archive: it has no members"),
        (
            zipped({"a": EVIL * 9}, zipfile.ZIP_BZIP2),
            "zip archive: it is packed by method 12, which is not unpacked here",
        ),
        (b"\x80\x04\x95", "pickle: it ends in the middle of an argument"),
    ],
)
def test_what_cannot_be_read_is_said(data, why):
    found = look_at(data, "model").found
    assert why in [one.what for one in found if one.standing is Standing.UNREADABLE]


def test_a_file_named_as_a_pickle_is_read_as_one():
    text = b"cmine\nevil\n(tR and so on"
    assert kinds(text, "notes.txt") == set()
    assert kinds(text, "model.pkl") == {Standing.UNKNOWN, Standing.UNREADABLE}


def test_a_bomb_is_unpacked_no_further_than_allowed():
    bomb = zlib.compress(zlib.compress(bytes(1 << 27)))
    look = look_at(bomb, "model", most=1 << 20)
    assert "it is larger than what is unpacked here" in [one.what for one in look.found]
    nested = EVIL
    for _ in range(20):
        nested = zipped({"a": nested})
    assert kinds(nested) == {Standing.UNREADABLE}


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300), st.sampled_from(["", "x.pkl", "x.onnx", "x.pb", "x.npy"]))
def test_no_file_is_too_odd(data, name):
    assert look_at(data, name).parts >= 1


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(sorted(PACKED)), st.integers(0, 10_000), st.binary(min_size=1, max_size=4))
def test_no_spoiled_file_is_too_odd(how, position, change):
    data = bytearray(PACKED[how]({"w": np.ones(3)}))
    position %= len(data)
    data[position : position + len(change)] = change
    look_at(bytes(data), "model")


# --- other formats ----------------------------------------------------------------------------------------------------


def varint(number):
    out = b""
    while number >= 0x80:
        out, number = out + bytes([number & 0x7F | 0x80]), number >> 7
    return out + bytes([number])


def message(*parts):
    """A protobuf message of (number, text or bytes)."""
    raws = [(number, value.encode() if isinstance(value, str) else value) for number, value in parts]
    return b"".join(varint(number << 3 | 2) + varint(len(raw)) + raw for number, raw in raws)


def onnx_model(location="weights.bin", domain="", operator="Gemm", functions=()):
    tensor = message((13, message((1, "location"), (2, location))), (8, "w"))
    node = message((1, "x"), (2, "y"), (4, operator), (7, domain))
    inner = message((1, node))  # a graph inside an attribute of a node
    loop = message((4, "Loop"), (5, message((1, "body"), (6, inner))))
    graph = message((1, message((4, "Relu"))), (1, loop), (5, tensor), (2, "graph"))
    own = [(25, message((1, name), (10, domain))) for name in functions]
    return b"\x08\x09" + message((2, "pytorch"), (7, graph), (8, b"\x10\x11"), *own)


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, set()),
        ({"location": "../../etc/passwd"}, {Standing.DANGEROUS}),
        ({"location": "/etc/passwd"}, {Standing.DANGEROUS}),
        ({"location": "C:\\x"}, {Standing.DANGEROUS}),
        ({"location": "a\\..\\..\\x"}, {Standing.DANGEROUS}),
        ({"domain": "evil", "operator": "Run"}, {Standing.UNKNOWN}),
        ({"domain": "mine", "operator": "Gelu", "functions": ("Gelu",)}, set()),
        ({"domain": "ai.onnx.contrib", "operator": "PyOp"}, {Standing.DANGEROUS}),
    ],
)
def test_onnx(changes, wanted):
    assert kinds(onnx_model(**changes), "m.onnx") == kinds(onnx_model(**changes), "m.bin") == wanted


def test_torn_onnx():
    assert kinds(onnx_model()[:-3], "m.onnx") == {Standing.UNREADABLE}


def tensors(header, data):
    text = json.dumps(header).encode() if isinstance(header, dict) else header
    return struct.pack("<Q", len(text)) + text + data


def entry(dtype="F32", shape=(2, 2), begin=0, end=16):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    ("data", "good"),
    [
        (tensors({"a": entry(), "__metadata__": {"x": "y"}}, bytes(16)), True),
        (tensors({"a": entry(), "b": entry("I8", (3,), 16, 19)}, bytes(19)), True),
        (tensors({}, b""), True),
        (tensors({"a": entry(end=12)}, bytes(12)), False),  # not its shape's size
        (tensors({"a": entry(), "b": entry()}, bytes(16)), False),  # overlap
        (tensors({"a": entry(begin=4, end=20)}, bytes(20)), False),  # a hole
        (tensors({"a": entry()}, bytes(20)), False),  # more than is told
        (tensors({"a": entry()}, bytes(8)), False),
        (tensors(b'{"a": 1, "a": 2}', b""), False),
        (struct.pack("<Q", 5000) + b"{}", False),
        (tensors({"a": {"shape": [1]}}, b""), False),
    ],
)
def test_safetensors(data, good):
    assert kinds(data) == (set() if good else {Standing.UNREADABLE})


def gguf(template="{{ messages }}", version=3, tensor_offset=0):
    def text(value):
        return struct.pack("<Q", len(value)) + value.encode()

    keys = text("tokenizer.chat_template") + struct.pack("<I", 8) + text(template)
    keys += text("a.list") + struct.pack("<IIQ", 9, 4, 2) + bytes(8) + text("a.names") + struct.pack("<IIQ", 9, 8, 1)
    keys += text("x")
    tensor = text("w") + struct.pack("<IQQIQ", 2, 2, 2, 0, tensor_offset)
    return b"GGUF" + struct.pack("<IQQ", version, 1, 3) + keys + tensor + bytes(64)


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (gguf(), set()),
        (gguf("{{ ''.__class__.__mro__ }}"), {Standing.DANGEROUS}),
        (gguf("{{ x | attr('a') }}"), {Standing.DANGEROUS}),
        (gguf(version=9), {Standing.UNREADABLE}),
        (gguf(tensor_offset=1 << 40), {Standing.UNREADABLE}),
        (gguf()[:60], {Standing.UNREADABLE}),
    ],
)
def test_gguf(data, wanted):
    assert kinds(data) == wanted


DENSE = {"module": "keras.layers", "class_name": "Dense", "config": {"units": 3}, "registered_name": None}


@pytest.mark.parametrize(
    ("layer", "wanted"),
    [
        (DENSE, set()),
        ({**DENSE, "class_name": "Lambda"}, {Standing.DANGEROUS}),
        ({"class_name": "__lambda__", "config": {"value": "4wEAAA"}}, {Standing.DANGEROUS}),
        ({"module": "subprocess", "class_name": "run", "config": {}}, {Standing.DANGEROUS}),
        ({"module": "builtins", "class_name": "function", "config": "eval"}, {Standing.DANGEROUS}),
        ({"module": "mine", "class_name": "Layer", "config": {}}, {Standing.UNKNOWN}),
    ],
)
def test_keras(layer, wanted):
    config = {"module": "keras", "class_name": "Sequential", "config": {"layers": [DENSE, layer]}}
    archive = zipped({"config.json": json.dumps(config), "metadata.json": "{}", "a.npy": PACKED["array"](1)})
    assert kinds(archive, "m.keras") == wanted
    old = b"\x89HDF\r\n\x1a\n" + bytes(100) + json.dumps(config).encode() + bytes(100)
    assert kinds(old, "m.h5") == wanted


def test_skops():
    schema = {"__class__": "LogisticRegression", "__module__": "sklearn.linear_model._logistic", "content": {}}
    assert kinds(zipped({"schema.json": json.dumps(schema)}), "m.skops") == set()
    schema["content"] = {"__class__": "system", "__module__": "os"}
    assert kinds(zipped({"schema.json": json.dumps(schema)}), "m.skops") == {Standing.DANGEROUS}


def test_tensorflow_and_torchscript():
    node = message((1, "read"), (2, "ReadFile"), (3, "name"))
    assert kinds(message((1, node)) + b"\xff\xfe\x00", "saved_model.pb") == {Standing.DANGEROUS}
    node = message((1, "read"), (2, "MatMul"), (3, "name"))
    assert kinds(message((1, node)) + b"\xff\xfe\x00", "saved_model.pb") == set()
    code = "def forward(self, x):\n  y = torch.from_file('/etc/passwd')\n  return ops.mine.op(y)\n"
    archive = zipped({"m/data.pkl": pickle.dumps({}), "m/version": "3", "m/code/__torch__.py": code})
    assert kinds(archive) == {Standing.DANGEROUS, Standing.UNKNOWN}


def test_native_code_and_links():
    assert kinds(b"\x7fELF" + bytes(60)) == {Standing.UNKNOWN}
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        info = tarfile.TarInfo("link")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(info)
    assert kinds(file.getvalue()) == {Standing.UNREADABLE}


def test_text_and_json_of_other_programs_are_harmless():
    assert look_at(b"tree\nversion=v4\nnum_class=1\n", "model.txt").format == "text"
    assert look_at(b'{"learner": {"trees": []}}', "model.json").format == "JSON"
    assert look_at(b'{"half": ', "model.json").format == "text"
    assert look_at(("x" + "ä" * 40_000).encode(), "model.txt").format == "text"


def test_large_json_is_read_only_where_it_may_name_a_class(monkeypatch):
    monkeypatch.setattr("assessor_checks.security._model_files.JSON", 10)
    assert look_at(b'{"trees": [1, 2, 3]}', "model.json").found == ()
    assert kinds(b'{"\\u0063lass_name": "Lambda"}', "model.json") == {Standing.UNREADABLE}
    monkeypatch.undo()
    assert kinds(b'{"\\u0063lass_name": "Lambda"}', "model.json") == {Standing.DANGEROUS}


def test_a_file_on_disk_is_not_read_whole(tmp_path):
    path = tmp_path / "weights.pt"
    torch.save({"w": torch.zeros(2_000_000)}, path)
    look = look_into(path)
    assert look.found == ()
    assert look.size == path.stat().st_size
    (tmp_path / "empty").touch()
    assert look_into(tmp_path / "empty").found[0].what == "it is empty"
