"""Planted into files: code that runs when a model is loaded, code nobody knows, torn files; loose lists of packages."""

from __future__ import annotations

import bz2
import gzip
import importlib
import io
import lzma
import pickle
import pickletools
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
from _frame import Defect
from sklearn.ensemble import RandomForestClassifier
from torch import nn

from assessor.contract import Origin, Task
from assessor.subjects.files import FilesSubject

FOLDER = tempfile.TemporaryDirectory(prefix="planted")  # emptied when the study ends

# --- model files -----------------------------------------------------------------------------------------------------

CALLED = (  # of advisories for scanners, and of the usual examples
    "os.system",
    "subprocess.Popen",
    "builtins.eval",
    "builtins.exec",
    "runpy.run_path",
    "pydoc.pipepager",
    "importlib.import_module",
    "pkgutil.resolve_name",
    "timeit.timeit",
    "pickle.loads",
    "shutil.rmtree",
    "webbrowser.open",
    "socket.create_connection",
    "operator.attrgetter",
    "torch.utils.collect_env.run",
    "torch.hub.load",
    "numpy.load",
    "pandas.eval",
)


class Call:
    """Pickles as a call of something; it is never unpickled here."""

    def __init__(self, called: Any) -> None:
        """Keep what is to be called."""
        self.called = called

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return self.called, ("true",)


class Own:
    """Something of somebody's own, whose code is in no list."""


def found(name: str) -> Any:
    """The function of that name."""
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def saved(value: Any, **how: Any) -> bytes:
    """By torch."""
    file = io.BytesIO()
    torch.save(value, file, **how)
    return file.getvalue()


def dumped(value: Any, **how: Any) -> bytes:
    """By joblib."""
    file = io.BytesIO()
    joblib.dump(value, file, **how)
    return file.getvalue()


def arrays(value: Any) -> bytes:
    """By numpy, as an array of objects among others."""
    file = io.BytesIO()
    np.savez_compressed(file, weights=np.ones(9), more=np.array([value, None], dtype=object))
    return file.getvalue()


def zipped(members: dict[str, bytes]) -> bytes:
    """As a zip archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def tarred(data: bytes) -> bytes:
    """As a tar archive."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        info = tarfile.TarInfo("model/weights")
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def memoised(value: Any) -> bytes:
    """With every name put away first and taken out again where it is needed."""
    plain, made, last = pickle.dumps(value, protocol=2), b"", 0
    found = [(argument, at) for code, argument, at in pickletools.genops(plain) if code.name == "GLOBAL"]
    for number, (names, at) in enumerate(found):
        places = [(1_000_000 + 2 * number + part).to_bytes(4, "little") for part in range(2)]
        made += plain[last:at]
        for name, place in zip(names.split(" "), places, strict=True):
            made += b"X" + len(name).to_bytes(4, "little") + name.encode() + b"r" + place + b"0"
        made += b"j" + places[0] + b"j" + places[1] + b"\x93"
        last = at + len(names) + 2
    return made + plain[last:]


def unchecked(value: Any) -> bytes:
    """A zip archive with another checksum and marked as encrypted, which some readers do not mind."""
    archive = zipped({"archive/data.pkl": pickle.dumps(value)})
    at = archive.index(b"PK\x01\x02")
    return archive[: at + 8] + b"\x01\x00" + archive[at + 10 : at + 16] + b"\xde\xad\xbe\xef" + archive[at + 20 :]


def cut(value: Any) -> bytes:
    """A pickle that ends before its last opcode; what comes before runs all the same."""
    return pickle.dumps([value, "padding" * 9])[:-4]


WHOLE: tuple[Callable[[Any], bytes], ...] = (
    *(partial(pickle.dumps, protocol=protocol) for protocol in range(6)),
    saved,
    partial(saved, _use_new_zipfile_serialization=False),
    dumped,
    *(partial(dumped, compress=(kind, 3)) for kind in ("zlib", "gzip", "bz2", "xz", "lzma")),
    arrays,
    memoised,
    lambda value: zipped({"readme.txt": b"text", "weights.bin": pickle.dumps(value)}),
    lambda value: zipped({"inner.zip": zipped({"a": pickle.dumps(value)})}),
    lambda value: tarred(pickle.dumps(value)),
    lambda value: gzip.compress(tarred(pickle.dumps(value))),
    lambda value: lzma.compress(pickle.dumps(value)),
    lambda value: bz2.compress(saved(value)),
    lambda value: zlib.compress(pickle.dumps(value)),
    lambda value: b"some text\n" * 9 + zipped({"data.pkl": pickle.dumps(value)}),
    lambda value: pickle.dumps([0.5]) + zipped({"data.pkl": pickle.dumps(value)}),
    lambda value: pickle.dumps({"weights": pickle.dumps(value)}),
    lambda value: pickle.dumps([1, 2]) + pickle.dumps(value),
    lambda value: zipped({"m/data.pkl": pickle.dumps({}), "m/version": b"3", "m/data/0": pickle.dumps(value)}),
)
WAYS = (*WHOLE, unchecked, cut)


def written(contents: dict[str, bytes]) -> FilesSubject:
    """A subject of new files with these contents."""
    folder = Path(tempfile.mkdtemp(dir=FOLDER.name))
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    return FilesSubject(Task.BINARY, Origin(files={name: folder / name for name in contents}))


def weights(rng: np.random.Generator) -> dict[str, Any]:
    """Harmless contents: numbers, names, a forest."""
    forest = RandomForestClassifier(2, max_depth=3, random_state=0).fit(rng.standard_normal((20, 3)), np.arange(20) % 2)
    return {"w": rng.standard_normal((5, 4)), "names": ["a"] * 20, "forest": forest}


def hidden(strength: float, seed: int) -> FilesSubject:
    """A file in a way and with a function drawn by the seed, and a harmless one beside it."""
    rng = np.random.default_rng(seed)
    value = weights(rng)
    for number in range(int(strength)):
        value[f"extra {number}"] = Call(found(CALLED[int(rng.integers(len(CALLED)))]))
    way = WAYS[seed % len(WAYS)]
    other = saved({"net": nn.Linear(3, 2).state_dict(), **weights(rng)})
    return written({"weights.bin": way(value), "other.pt": other})


def own_code(strength: float, seed: int) -> FilesSubject:
    """A file with so many different classes of somebody's own."""
    rng = np.random.default_rng(seed)
    value = weights(rng)
    kinds = [type(f"Own{number}", (Own,), {"__module__": __name__}) for number in range(int(strength))]
    globals().update({kind.__name__: kind for kind in kinds})  # pickle looks them up
    return written({"model.bin": WAYS[seed % len(WAYS)]({**value, "own": [kind() for kind in kinds]})})


def torn(strength: float, seed: int) -> FilesSubject:
    """A file whose end is missing."""
    rng = np.random.default_rng(seed)
    data = WHOLE[seed % len(WHOLE)](weights(rng))
    return written({"model.bin": data[: max(1, round(len(data) * (1 - strength)))]})


# --- packages --------------------------------------------------------------------------------------------------------

PACKAGES = 40
LOOSE = (
    "{name}",
    "{name}>=1.0",
    "{name}~=1.2",
    "{name}==1.*",
    "{name}!=2",
    "{name} @ git+https://example.org/a.git@main",
)


def listed(strength: float, seed: int, *, hashes: bool = False, elsewhere: bool = False) -> FilesSubject:
    """A requirements file of exact versions with hashes, a share of which is spoiled."""
    rng = np.random.default_rng(seed)
    spoiled = set(rng.permutation(PACKAGES)[: round(strength * PACKAGES)].tolist())
    lines = []
    for number in range(PACKAGES):
        name, version = f"package{number}", f"{rng.integers(9)}.{rng.integers(20)}.{rng.integers(9)}"
        digest = f" --hash=sha256:{rng.bytes(32).hex()}"
        if number not in spoiled:
            lines.append(f"{name}=={version}{digest}")
        elif hashes:
            lines.append(f"{name}=={version}" + (" --hash=md5:" + "0" * 32) * int(rng.integers(2)))
        elif elsewhere:
            lines.append(f"{name} @ https://example.org/{name}-{version}.tar.gz#sha256={rng.bytes(32).hex()}")
        else:
            lines.append(LOOSE[int(rng.integers(len(LOOSE)))].format(name=name))
    return FilesSubject(Task.BINARY, Origin(dependencies={"requirements.txt": "\n".join(lines)}))


SHARES = (0.0, 0.025, 0.1, 0.3)
DEFECTS = (
    Defect(
        check="security.model_file",
        name=f"code that runs on loading, hidden in one of {len(WAYS)} ways",
        unit="payloads",
        strengths=(0, 1, 2),
        make=hidden,
        target={"metric": "dangerous_imports", "at_most": 0},
        named=1,
        repeats=3 * len(WAYS),
    ),
    Defect(
        check="security.model_file",
        name="classes whose code is on no list",
        unit="classes",
        strengths=(0, 1, 3),
        make=own_code,
        target={"metric": "unknown_imports", "at_most": 0},
        named=1,
        repeats=2 * len(WAYS),
    ),
    Defect(
        check="security.model_file",
        name="a file whose end is missing",
        unit="share of bytes",
        strengths=(0, 0.01, 0.1, 0.5),
        make=torn,
        target={"metric": "unreadable_parts", "at_most": 0},
        named=0.1,
        repeats=2 * len(WHOLE),
    ),
    Defect(
        check="security.dependencies",
        name="packages without an exact version",
        unit="share of packages",
        strengths=SHARES,
        make=listed,
        target={"metric": "pinned_share", "at_least": 1},
        named=0.025,
    ),
    Defect(
        check="security.dependencies",
        name="packages without a strong hash",
        unit="share of packages",
        strengths=SHARES,
        make=partial(listed, hashes=True),
        target={"metric": "hashed_share", "at_least": 1},
        named=0.025,
    ),
    Defect(
        check="security.dependencies",
        name="packages from an address of their own",
        unit="share of packages",
        strengths=SHARES,
        make=partial(listed, elsewhere=True),
        target={"metric": "packages_from_elsewhere", "at_most": 0},
        named=0.025,
    ),
)
