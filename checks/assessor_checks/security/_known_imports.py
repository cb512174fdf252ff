"""What a pickle may import: names that model files need and that are harmless, names known to be used in attacks.

Loading a pickle imports what it names and calls it. Only a list of allowed names can be trusted: of everything that is
on neither list one can say no more than that nobody here has looked at it. A name is allowed if calling it, or setting
its state, with arguments of the file's choosing runs no code of the file's choosing.
"""

from __future__ import annotations

import re
from enum import StrEnum


class Standing(StrEnum):
    """What is known of an import, or of another part of a file."""

    KNOWN = "known"
    UNKNOWN = "unknown"
    DANGEROUS = "dangerous"
    UNREADABLE = "unreadable"


def standing(module: str, name: str) -> Standing:
    """What is known of `module.name`, as a pickle names it.

    Args:
        module: Module; names of Python 2 are understood as the unpickler understands them.
        name: Attribute, perhaps with dots, which the unpickler follows since protocol 4.

    Returns:
        Known as harmless; dangerous; or neither.

    >>> [standing(*pair).value for pair in (("collections", "OrderedDict"), ("posix", "system"), ("mine", "Net"))]
    ['known', 'dangerous', 'unknown']
    """
    names = {(module, name), _renamed(module, name)}
    if names & _ALLOWED or any(_is_allowed_class(*pair) for pair in names):
        return Standing.KNOWN
    return Standing.DANGEROUS if any(_is_dangerous(*pair) for pair in names) else Standing.UNKNOWN


def _renamed(module: str, name: str) -> tuple[str, str]:
    """As an unpickler of Python 3 reads what Python 2 wrote."""
    import _compat_pickle

    module, name = _compat_pickle.NAME_MAPPING.get((module, name), (module, name))
    return _compat_pickle.IMPORT_MAPPING.get(module, module), name


def _is_allowed_class(module: str, name: str) -> bool:
    if any(module == prefix or module.startswith(f"{prefix}.") for prefix in _NOT_THERE):
        return False
    return any(
        (module == prefix or module.startswith(f"{prefix}.")) and pattern.fullmatch(name)
        for prefix, pattern in _CLASSES.items()
    )


def _is_dangerous(module: str, name: str) -> bool:
    """By the module, a package it lies in, the name, or a module that the name leads through."""
    packages = module.split(".")
    above = {".".join(packages[:end]) for end in range(1, len(packages) + 1)}
    parts = name.split(".")
    return bool(
        above & _MODULES
        or (set(packages) | set(parts)) & _ANYWHERE
        or parts[-1] in _NAMES
        or any((one, parts[0]) in _FUNCTIONS or (one, name) in _FUNCTIONS for one in above)
    )


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _pairs(table: dict[str, str]) -> frozenset[tuple[str, str]]:
    return frozenset((module, name) for module, names in table.items() for name in names.split())


# --- allowed ---------------------------------------------------------------------------------------------------------

_TENSOR_KINDS = "BFloat16 Bool Byte Char ComplexDouble ComplexFloat Double Float Half Int Long Short"
_QUANTISED_KINDS = "QInt32 QInt8 QUInt2x4 QUInt4x2 QUInt8"
_STORAGES = " ".join(f"{kind}Storage" for kind in f"{_TENSOR_KINDS} {_QUANTISED_KINDS}".split())
_TENSORS = " ".join(f"{kind}Tensor" for kind in _TENSOR_KINDS.split())
_DTYPES = (
    "bfloat16 bool complex128 complex32 complex64 float16 float32 float64 half float double int16 int32 int64 int8 "
    "uint8 uint16 uint32 uint64 float4_e2m1fn_x2 float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz "
    "float8_e8m0fnu qint32 qint8 quint2x4 quint4x2 quint8 bits16 bits1x8 bits2x4 bits4x2 bits8 "
    + " ".join(f"int{bits} uint{bits}" for bits in range(1, 8))
)
_QSCHEMES = (
    "per_channel_affine per_channel_affine_float_qparams per_channel_symmetric per_tensor_affine per_tensor_symmetric"
)
_ACTIVATIONS = (
    "relu relu6 gelu silu elu selu celu leaky_relu tanh sigmoid softmax log_softmax softplus softsign mish hardtanh "
    "hardswish hardsigmoid logsigmoid glu tanhshrink softmin"
)
_REBUILDERS = (
    "_rebuild_tensor _rebuild_tensor_v2 _rebuild_tensor_v3 _rebuild_parameter _rebuild_parameter_with_state "
    "_rebuild_qtensor _rebuild_sparse_tensor _rebuild_sparse_csr_tensor _rebuild_meta_tensor_no_storage "
    "_rebuild_nested_tensor _rebuild_wrapper_subclass _rebuild_device_tensor_from_numpy "
    "_rebuild_device_tensor_from_cpu_tensor"
)
_SCALARS = (
    "bool_ int8 int16 int32 int64 intp uint8 uint16 uint32 uint64 float16 float32 float64 longdouble complex64 "
    "complex128 str_ bytes_ datetime64 timedelta64 ndarray dtype matrix recarray record void"
)
_UFUNCS = (
    "log log1p log2 log10 exp expm1 exp2 sqrt cbrt square abs absolute sign sin cos tan arcsin arccos arctan sinh cosh "
    "tanh arcsinh arccosh arctanh floor ceil rint reciprocal negative maximum minimum add subtract multiply divide"
)
_KINDS = ("bsr", "coo", "csc", "csr", "dia", "dok", "lil")
_SPARSE = " ".join(f"{kind}_{form}" for kind in _KINDS for form in ("matrix", "array"))
_BUILTINS = (
    "set frozenset list dict tuple int float bool complex str bytes bytearray slice range object NoneType Ellipsis "
    "long unicode xrange"
)

_ALLOWED = _pairs(
    {
        "builtins": _BUILTINS,
        "__builtin__": _BUILTINS,
        "collections": "OrderedDict defaultdict Counter deque",
        "copyreg": "_reconstructor __newobj__ __newobj_ex__",
        "copy_reg": "_reconstructor __newobj__",
        "_codecs": "encode",
        "datetime": "datetime date time timedelta timezone",
        "decimal": "Decimal",
        "fractions": "Fraction",
        "io": "BytesIO StringIO",
        "_io": "BytesIO StringIO",
        "re": "_compile compile",
        "logging": "getLogger",
        "uuid": "UUID",
        "pathlib": "Path PosixPath WindowsPath PurePath PurePosixPath PureWindowsPath",
        "pathlib._local": "Path PosixPath WindowsPath PurePath PurePosixPath PureWindowsPath",
        "numpy": f"{_SCALARS} {_UFUNCS}",
        "numpy.core.multiarray": "_reconstruct scalar",
        "numpy._core.multiarray": "_reconstruct scalar",
        "numpy.core.numeric": "_frombuffer",
        "numpy._core.numeric": "_frombuffer",
        "numpy.core._multiarray_umath": _UFUNCS,
        "numpy._core._multiarray_umath": _UFUNCS,
        "numpy.ma.core": "_mareconstruct MaskedArray MaskedConstant",
        "numpy.random._pickle": "__randomstate_ctor __generator_ctor __bit_generator_ctor",
        "numpy.random.mtrand": "RandomState",
        "numpy.random._generator": "Generator",
        "numpy.random._mt19937": "MT19937",
        "numpy.random._pcg64": "PCG64 PCG64DXSM",
        "numpy.random._philox": "Philox",
        "numpy.random._sfc64": "SFC64",
        "numpy.random.bit_generator": "SeedSequence __pyx_unpickle_SeedSequence",
        **{f"scipy.sparse.{kind}": _SPARSE for kind in _KINDS},
        **{f"scipy.sparse._{kind}": _SPARSE for kind in _KINDS},
        "pandas.core.frame": "DataFrame",
        "pandas": "DataFrame Series Index RangeIndex",
        "pandas.core.series": "Series",
        "pandas.core.indexes.base": "Index _new_Index",
        "pandas.core.indexes.range": "RangeIndex",
        "pandas.core.internals.managers": "BlockManager SingleBlockManager",
        "pandas.core.internals.blocks": "new_block",
        "pandas._libs.internals": "_unpickle_block BlockPlacement",
        "pandas.core.dtypes.dtypes": "CategoricalDtype",
        "pandas.core.arrays.categorical": "Categorical",
        "joblib.numpy_pickle": "NumpyArrayWrapper",
        "sklearn.externals.joblib.numpy_pickle": "NumpyArrayWrapper",
        "sklearn.utils._bunch": "Bunch",
        "sklearn.utils": "Bunch",
        "sklearn.utils._metadata_requests": "MetadataRequest MethodMetadataRequest",
        "torch": f"Size Tensor device Generator strided {_STORAGES} {_TENSORS} {_DTYPES} {_QSCHEMES} {_ACTIVATIONS}",
        "torch.cuda": f"{_STORAGES} {_TENSORS}",
        "torch.sparse": _TENSORS,
        "torch.cuda.sparse": _TENSORS,
        "torch.storage": "TypedStorage UntypedStorage _TypedStorage",
        "torch._tensor": "Tensor _rebuild_from_type_v2",
        "torch._utils": _REBUILDERS,
        "torch.nn.parameter": "Parameter Buffer UninitializedParameter UninitializedBuffer",
        "torch.serialization": "_get_layout",
        "torch.nn.functional": _ACTIVATIONS,
        "torch._C._nn": _ACTIVATIONS,
        "torch._C._VariableFunctions": _ACTIVATIONS,
        "torch.jit._pickle": "build_intlist build_doublelist build_boollist build_tensorlist restore_type_tag",
    }
)
_CLASS = re.compile(r"_?[A-Z]\w*")
_COMPILED = re.compile(r"_?[A-Z]\w*|newObj|__pyx_unpickle_[A-Za-z_]\w*")
_CLASSES = {
    "torch.nn.modules": _CLASS,
    "torch.optim": _CLASS,
    "sklearn": _COMPILED,
    "numpy.dtypes": _CLASS,
    "__torch__": re.compile(r"\w+"),  # classes whose code lies in the same TorchScript archive
}
_NOT_THERE = ("sklearn.datasets", "sklearn.externals", "sklearn.utils", "sklearn.tests", "sklearn.conftest")

# --- dangerous -------------------------------------------------------------------------------------------------------

_MODULES = _words(  # all that is in them or below: they run programs or code, open files or connections, load more code
    "os posix nt posixpath ntpath sys subprocess commands popen2 _posixsubprocess multiprocessing _multiprocessing "
    "signal threading _thread pty tty fcntl resource shutil tempfile fileinput io _io zipfile tarfile mmap sqlite3 "
    "_sqlite3 dbm shelve socket _socket ssl _ssl socketserver asyncio http httplib urllib urllib2 urllib3 requests "
    "httpx aiohttp ftplib smtplib telnetlib nntplib poplib imaplib xmlrpc webbrowser antigravity wsgiref paramiko "
    "builtins __builtin__ importlib _frozen_importlib _frozen_importlib_external imp pkgutil zipimport runpy site "
    "sysconfig ensurepip venv pip setuptools distutils pkg_resources code codeop pdb bdb cProfile profile trace "
    "timeit doctest unittest test pydoc idlelib lib2to3 turtledemo tkinter _tkinter cgitb ctypes _ctypes cffi "
    "_cffi_backend pickle _pickle cPickle marshal dill cloudpickle linecache _pyrepl _osx_support _aix_support "
    "platform pyclbr modulefinder compileall py_compile faulthandler atexit logging.config logging.handlers IPython "
    "numpy.f2py numpy.distutils numpy.testing numpy.ctypeslib numpy.lib.npyio numpy.lib._npyio_impl "
    "numpy.lib._datasource numpy.core.memmap numpy._core.memmap pandas.io pandas.core.computation "
    "pandas.compat.pickle_compat joblib.externals sklearn.externals sklearn.datasets torch.hub torch.package "
    "torch.fx.graph_module torch.fx.experimental torch._dynamo torch._inductor torch.jit.unsupported_tensor_ops "
    "torch.utils.collect_env torch.utils.bottleneck torch.utils.cpp_extension torch.utils._cpp_extension_versioner "
    "torch.utils._config_module torch.utils.model_zoo torch.utils.data.datapipes torch.utils.hipify "
    "torch.distributed.rpc torch.distributed.run torch.distributed.launch torch.distributed.launcher "
    "torch.distributed.elastic torch.multiprocessing torch.testing torch.ops torch.classes torch._ops "
    "torch._classes tensorflow.python.lib.io tensorflow.python.ops.script_ops keras.utils.file_utils "
    "keras.src.utils.file_utils"
)
_ANYWHERE = _words(  # wherever they are met, as a package or on the way to an attribute
    "os posix nt sys subprocess builtins __builtin__ importlib ctypes socket shutil runpy pty pickle marshal "
    "__globals__ __builtins__ __import__ __subclasses__ __code__ __dict__ __class__ __mro__ __getattribute__"
)
_NAMES = _words(  # whatever module they are taken from
    "system popen spawn spawnl spawnv execv execve fork eval exec execfile compile getattr setattr delattr apply "
    "__import__ import_module resolve_name load_module exec_module load_source run_code _run_code run_path "
    "run_module runcode runcommand runctx runstring check_output check_call getoutput getstatusoutput Popen "
    "attrgetter methodcaller breakpoint globals locals vars open load_library LoadLibrary CDLL read_pickle"
)
_FUNCTIONS = _pairs(
    {
        "operator": "attrgetter methodcaller call",
        "_operator": "attrgetter methodcaller call",
        "codecs": "open StreamReaderWriter",
        "_codecs": "register register_error lookup",
        "copyreg": "pickle add_extension constructor",
        "typing": "get_type_hints",
        "uuid": "_get_command_stdout _popen",
        "pathlib": "Path.write_text Path.write_bytes Path.unlink Path.open Path.touch Path.rename",
        "types": "FunctionType CodeType LambdaType ModuleType",
        "gc": "get_objects get_referrers",
        "logging": "FileHandler",
        "numpy": "load fromfile save savez savetxt loadtxt genfromtxt memmap DataSource",
        "numpy.core": "_ufunc_reconstruct",
        "numpy._core": "_ufunc_reconstruct",
        "numpy.core.records": "fromfile",
        "pandas": "eval read_pickle read_csv read_hdf read_sql read_html",
        "pandas.core.frame": "DataFrame.eval DataFrame.query DataFrame.to_pickle",
        "joblib": "load dump",
        "joblib.numpy_pickle": "load dump NumpyUnpickler",
        "torch": "load save compile",
        "torch.serialization": "load save _load _legacy_load",
        "torch._utils": "_import_dotted_name",
        "tensorflow": "load_op_library py_function numpy_function",
        "keras.layers": "Lambda",
        "keras.models": "load_model",
        "yaml": "load unsafe_load full_load",
        "site": "main",
        "cloudpickle.cloudpickle": "_make_function _builtin_type _make_skeleton_class",
    }
)
