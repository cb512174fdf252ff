"""What pickles import: against the standard library's own unpickler, which records names and imports nothing."""

import collections
import io
import os
import pickle
import pydoc
import runpy
import struct

import joblib
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestClassifier

from assessor_checks.security._known_imports import Standing, standing
from assessor_checks.security._pickle_values import COMPUTED, Import
from assessor_checks.security._pickles import follow


class Call:
    """Pickles as a call of something; it is never unpickled here."""

    def __init__(self, called, *arguments):
        self.called, self.arguments = called, arguments

    def __reduce__(self):
        return self.called, self.arguments


class Stub:
    """Stands for whatever a recorded pickle names."""

    def __new__(cls, *_, **__):
        return object.__new__(cls)

    def __init__(self, *_, **__):
        pass

    def __call__(self, *_, **__):
        return Stub()

    def __setstate__(self, _):
        pass

    append = extend = add = __call__

    def __setitem__(self, *_):
        pass


class Recorder(pickle._Unpickler):
    """The unpickler of the standard library, with imports noted and not made."""

    def __init__(self, data):
        super().__init__(io.BytesIO(data))
        self.seen = []

    def find_class(self, module, name):
        self.seen.append(Import(module, name))
        return Stub

    def persistent_load(self, _):
        return Stub()


def recorded(data):
    """Imports that the unpickler makes before it ends or fails."""
    recorder = Recorder(data)
    try:
        recorder.load()
    except Exception:  # noqa: BLE001 - whatever a spoiled pickle raises
        return recorder.seen, False
    return recorder.seen, True


# --- the same as an unpickler -----------------------------------------------------------------------------------------

NAMES = ["os", "system", "builtins", "eval", "torch", "a.b"]
short = st.sampled_from(NAMES).map(lambda name: b"\x8c" + bytes([len(name)]) + name.encode())
index = st.integers(0, 6).map(lambda number: bytes([number]))
operations = st.one_of(
    short,
    st.sampled_from(NAMES).map(lambda name: b"V" + name.encode() + b"\n"),
    st.sampled_from(NAMES).map(lambda name: b"S'" + name.encode() + b"'\n"),
    st.sampled_from(NAMES).map(lambda name: b"T" + struct.pack("<i", len(name)) + name.encode()),
    st.tuples(st.sampled_from([b"c", b"i"]), st.sampled_from(NAMES), st.sampled_from(NAMES)).map(
        lambda one: one[0] + one[1].encode() + b"\n" + one[2].encode() + b"\n"
    ),
    index.map(lambda number: b"q" + number),
    index.map(lambda number: b"h" + number),
    st.integers(0, 6).map(lambda number: b"p%d\n" % number),
    st.integers(0, 6).map(lambda number: b"g%d\n" % number),
    st.sampled_from([bytes([code]) for code in b"(012NaesubdtlR}]).\x94\x93\x85\x86\x87\x88\x89\x8f\x90\x91\x81\x92o"]),
    st.just(b"\x93"),
    st.integers(0, 255).map(lambda number: b"K" + bytes([number])),
    st.just(b"\x80\x04"),
    st.just(b"\x95" + struct.pack("<Q", 4)),
)


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(st.lists(operations, max_size=30).map(b"".join))
@example(b"\x8c\x02os\x94\x8c\x06system\x9400h\x00h\x01\x93.")
def test_every_import_of_an_unpickler_is_found_in_any_order_of_opcodes(data):
    seen, loaded = recorded(data)
    found = follow(data)
    assert set(seen) <= set(found.imports)
    if loaded:
        assert found.pickles >= 1


SEEDS = [
    pickle.dumps([collections.OrderedDict(a=1), Call(os.getcwd), {1, 2}, b"x" * 300, "y" * 300], protocol=protocol)
    for protocol in range(6)
]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(SEEDS), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4))
def test_every_import_of_an_unpickler_is_found_in_spoiled_pickles(data, changes):
    spoiled = bytearray(data)
    for position, byte in changes:
        if byte != 0x96:  # an array of any size would be made
            spoiled[position % len(spoiled)] = byte
    seen, _ = recorded(bytes(spoiled))
    assert set(seen) <= set(follow(bytes(spoiled)).imports)


def test_escapes_that_are_none_stay_without_a_warning():
    assert follow(b"S'\\\xbb'\n.").imports == follow(b"S'a'\n.").imports


@given(st.binary(max_size=200))
def test_no_bytes_are_too_odd(data):
    follow(data)


@pytest.mark.parametrize("protocol", range(6))
def test_whole_pickles_give_the_same_imports(protocol):
    forest = RandomForestClassifier(3, random_state=0).fit(np.eye(6), [0, 1] * 3)
    values = [forest, np.arange(3.0), np.array(["a", None], dtype=object), np.float64(1), range(3), complex(1, 2)]
    data = pickle.dumps(values, protocol=protocol)
    seen, loaded = recorded(data)
    found = follow(data)
    assert loaded
    assert set(found.imports) == set(seen)
    assert (found.pickles, found.end, found.faults) == (1, len(data), [])


# --- arrays of joblib's -----------------------------------------------------------------------------------------------


def dumped(value, **how):
    file = io.BytesIO()
    joblib.dump(value, file, **how)
    return file.getvalue()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(
    "array",
    [
        np.arange(1000.0),
        np.zeros((3, 0, 2)),
        np.array(7, dtype=np.int8),
        np.array(["ab", "c"]),
        np.array([b"ab"]),
        np.array([True, False]),
        np.array(["2020-01-01"], dtype="M8[D]"),
        np.zeros(4, dtype=[("a", "f8"), ("b", "i4", (2,))]),
        np.array([collections.OrderedDict(), 1], dtype=object),
        np.array([(1, None)], dtype=[("a", "i4"), ("b", "O")]),
        np.asfortranarray(np.ones((3, 4))),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_arrays_between_the_opcodes_are_stepped_over(array, protocol):
    data = dumped([array, Call(os.system, "true")], protocol=protocol)
    found = follow(data)
    assert (found.pickles, found.end, found.faults) == (1, len(data), [])
    assert Import("posix", "system") in found.imports
    assert not found.otherwise


def test_opcodes_that_pose_as_an_array_are_read_as_both():
    data = dumped(np.arange(100, dtype=np.uint8))
    where = data.rindex(b"b", 0, data.index(bytes(range(100)))) + 1  # behind the BUILD before the array
    payload = b"cos\nsystem\n(S'true'\ntR."  # its first byte is the number of bytes between BUILD and array
    hidden = data[:where] + payload.ljust(1 + ord("c") + 100, b"x") + b"."
    found = follow(hidden)
    assert found.pickles == 1  # as joblib reads it
    assert Import("os", "system") not in found.imports
    assert Import("os", "system") in found.otherwise  # as pickle does
    assert recorded(hidden)[0][-1] == Import("os", "system")


def test_an_array_of_unknown_size_ends_it():
    data = dumped(np.arange(5.0)).replace(b"f8", b"Q?")
    found = follow(data)
    assert found.pickles == 0
    assert "an array inside has no readable size" in found.faults


# --- tricks ---------------------------------------------------------------------------------------------------------


def imports(data):
    return {str(one) for one in follow(data).imports}


def test_names_put_away_and_taken_out_again():
    data = b"Vos\np2\n0Vsystem\np3\n0Vtorch\np0\n0VLongStorage\np1\n0g2\ng3\n\x93(Vtrue\ntR."
    assert imports(data) == {"os.system"}


def test_a_name_made_while_loading_is_told_as_such():
    data = b"\x80\x04cbuiltins\nstr.lower\n\x8c\x02OS\x85R\x8c\x06system\x93\x8c\x04true\x85R."
    found = follow(data)
    (computed,) = (one for one in found.imports if one.is_computed)
    assert computed == Import(COMPUTED, "system")
    assert not found.faults


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (b"(S'x'\ni__builtin__\nexec\n.", "__builtin__.exec"),  # INST
        (b"(cos\nsystem\nS'x'\no.", "os.system"),  # OBJ
        (b"S'\\x6f\\x73'\nS'sys\\164em'\n\x93(tR.", "os.system"),  # escapes
        (b"V\\u006fs\nVsystem\n\x93(tR.", "os.system"),
        (b"\x82\x07.", "copyreg extension.7"),
        (b"cos\nsystem\n(S'true'\ntR", "os.system"),  # cut off: it runs all the same
        (b"cos\nsystem\n(S'true'\ntRI0x1z\n.", "os.system"),  # pickletools cannot decode it
        (b"cos\nsystem\n0.", "os.system"),  # thrown away at once
        (pickle.dumps([1]) + pickle.dumps(Call(os.system, "true")), "posix.system"),  # the second of two
        (pickle.dumps([1]) + b"cos\nsystem\n(S'true'\ntR.", "os.system"),
    ],
)
def test_an_import_is_found(data, wanted):
    assert wanted in imports(data)


def test_bytes_that_look_like_pickles_are_handed_on():
    inner = pickle.dumps(Call(os.system, "true"))
    for protocol in range(6):
        assert follow(pickle.dumps({"a": [inner]}, protocol=protocol)).nested == [inner]


def test_numbers_behind_a_pickle_are_no_imports():
    rng = np.random.default_rng(0)
    data = pickle.dumps([1, 2])
    for _ in range(300):
        found = follow(data + rng.bytes(200))
        assert not found.imports
        assert not found.faults
        assert found.pickles >= 1


@pytest.mark.slow
def test_no_bomb_takes_memory_or_time():
    deep = b"\x80\x04)" + b"\x86".join([b"22"] * 200) + b"."  # tuples of tuples, 2^200 of them
    follow(deep)
    follow(b"(" * 100_000)
    follow(b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"x")
    follow(b"\x80\x04\x8a\xff" + b"\xff" * 255 + b".")
    follow(b"p" + b"9" * 10_000 + b"\n.")
    assert follow(b"").pickles == 0


# --- lists of names --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "posix.system",
        "nt.system",
        "subprocess.Popen",
        "commands.getoutput",
        "builtins.eval",
        "__builtin__.eval",
        "builtins.getattr",
        "importlib.import_module",
        "runpy._run_code",
        "pydoc.pipepager",
        "pkgutil.resolve_name",
        "torch.utils.collect_env.run",
        "torch.load",
        "torch.serialization.load",
        "torch.hub.load",
        "torch._inductor.codecache.compile_file",
        "torch.jit.unsupported_tensor_ops.execWrapper",
        "numpy.testing._private.utils.runstring",
        "numpy.f2py.crackfortran.getlincoef",
        "numpy.load",
        "pandas.eval",
        "joblib.load",
        "operator.attrgetter",
        "operator.methodcaller",
        "webbrowser.open",
        "socket.create_connection",
        "urllib2.urlopen",
        "httplib.HTTPSConnection",
        "requests.api.get",
        "pickle.loads",
        "_pickle.loads",
        "cloudpickle.cloudpickle._make_function",
        "codecs.open",
        "types.FunctionType",
        "numpy._core._ufunc_reconstruct",
        "uuid._get_command_stdout",
        "idlelib.pyshell.ModifiedInterpreter.runcode",
        "shutil.rmtree",
        "ctypes.CDLL",
        "logging.config.dictConfig",
    ],
)
def test_known_as_dangerous(name):
    parts = name.split(".")
    assert any(
        standing(".".join(parts[:end]), ".".join(parts[end:])) is Standing.DANGEROUS for end in range(1, len(parts))
    )


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("sklearn.base", "os.system"),  # a dotted name leads from a harmless module to another
        ("torch.nn.modules.linear", "Linear.__init__.__globals__"),
        ("sklearn.utils", "os"),
        ("torch", "os.system"),
        ("six.moves.builtins", "eval"),
        ("collections", "OrderedDict.__class__"),
    ],
)
def test_ways_from_the_harmless_to_the_dangerous(module, name):
    assert standing(module, name) is Standing.DANGEROUS


@pytest.mark.parametrize(
    "pair", [("mine", "Net"), ("torch.nn.modules.linear", "Linear.forward"), ("sklearn.base", "clone")]
)
def test_the_rest_is_unknown(pair):
    assert standing(*pair) is Standing.UNKNOWN


def test_all_that_torch_allows_is_known():
    from torch._weights_only_unpickler import _get_allowed_globals

    names = [name.rsplit(".", 1) for name in _get_allowed_globals()]
    assert [pair for pair in names if standing(*pair) is not Standing.KNOWN] == []


def test_payloads_of_the_scanner_test():
    import torch.utils.collect_env

    for called in (os.system, torch.utils.collect_env.run, pydoc.pipepager, runpy.run_path):
        for protocol in range(6):
            (found,) = follow(pickle.dumps(Call(called, "true"), protocol=protocol)).imports
            assert standing(*found) is Standing.DANGEROUS
