"""Which format a model file has by its first bytes: only to refuse in words what is not the format that was named."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import NamedTuple

from assessor.errors import UsageError
from assessor.model import ModelForm

HEAD = 64  # bytes that tell a format


class Format(NamedTuple):
    """A format that assessor.yaml can name: what it is in words, and how such a file is made."""

    words: str
    made: str


FORMATS = {
    "safetensors": Format("a safetensors file", "save it with safetensors.torch.save_file(model.state_dict(), file)"),
    "state_dict": Format("a state dict of PyTorch", "save it with torch.save(model.state_dict(), file)"),
    "torch_export": Format("a program of torch.export", "save it with torch.export.save(program, 'model.pt2')"),
    "torchscript": Format("a TorchScript module", "save it with torch.jit.save(module, file)"),
    "sklearn": Format("a skops file (zip with schema.json)", "save it with skops.io.dump(estimator, 'model.skops')"),
    "joblib": Format("a file of joblib", "save it with joblib.dump(estimator, file)"),
    "pickle": Format("a pickle", "save it with pickle.dump(model, file)"),
    "xgboost": Format("a model of XGBoost (json or ubj)", "save it with booster.save_model('model.ubj')"),
    "lightgbm": Format("a model of LightGBM (text)", "save it with booster.save_model('model.txt')"),
    "onnx": Format("an ONNX model", "write it with torch.onnx.export or skl2onnx"),
}
OTHERS = {b"\x89HDF": "an HDF5 file (Keras)", b"GGUF": "a GGUF file", b"PAR1": "a parquet table", b"PK": "a zip file",
          b"\x1f\x8b": "a gzip file", b"\x28\xb5\x2f\xfd": "a zstd file", b"BZh": "a bzip2 file"}  # fmt: skip
ALSO = {"joblib": ("pickle",), "torchscript": (), "state_dict": ("pickle",)}
"""Formats whose files begin alike: joblib writes pickles, and so did torch.save before version 1.6."""


def model_file(form: ModelForm, folder: Path, *, field: str) -> Path:
    """The model's file, which has the format that names it.

    Args:
        form: `target.model` or `target.baseline`.
        folder: Where relative paths are looked up.
        field: "target.model" or "target.baseline".

    Returns:
        The file.

    Raises:
        UsageError: There is none, or it has another format; the message says which, and what to do.
    """
    wanted, name = form.form, str(form.path)
    path = folder / name
    if not path.is_file():
        raise UsageError(f"{field}.{wanted}: no file {name} in {folder}")
    found, words = format_of(path)
    if found == wanted or found in ALSO.get(wanted, ()) or (wanted == "joblib" and _packed(words)):
        return path
    remedy = FORMATS[wanted].made
    if found in {"pickle", "joblib"}:
        remedy += f", or, if you trust whoever made it, name it under {found}: and run with --trust"
    elif found is not None:
        remedy += f", or name it under {found}:"
    raise UsageError(f"{field}.{wanted}: {name}: found {words}, wanted {FORMATS[wanted].words}; {remedy}")


def _packed(words: str) -> bool:
    """Joblib compresses what it writes, in any of these."""
    return words.startswith(("a gzip", "a zlib", "a bzip2", "an xz"))


def format_of(path: Path) -> tuple[str | None, str]:
    """The field of assessor.yaml that a file goes under, or None; and what it is, in words."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    if not head:
        return None, "an empty file"
    if head[:4] == b"PK\x03\x04":
        return _in_zip(path)
    if head[0] == 0x80 and len(head) > 1 and 2 <= head[1] <= 5:
        return "pickle", f"a pickle (protocol {head[1]})"
    if head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") < 1 << 40:
        return "safetensors", FORMATS["safetensors"].words
    if head[:1] == b"{" and b"learner" in head:
        return "xgboost", FORMATS["xgboost"].words
    if head.split(b"\n")[0].strip() == b"tree":
        return "lightgbm", FORMATS["lightgbm"].words
    if head[0] == 0x08 and len(head) > 2 and head[1] < 0x40 and head[2] & 7 in {0, 2}:
        return "onnx", FORMATS["onnx"].words
    for magic, words in OTHERS.items():
        if head.startswith(magic):
            return None, words
    if head[0] == 0x78 and (head[0] * 256 + head[1]) % 31 == 0:
        return None, "a zlib file"
    if head.startswith(b"\xfd7zXZ"):
        return None, "an xz file"
    if all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head):
        return None, f"text that begins with '{head[:20].decode().strip()}'"
    return None, f"a file of an unknown format (it begins with {head[:8].hex(' ')})"


def _in_zip(path: Path) -> tuple[str | None, str]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return None, "a broken zip archive"
    inner = {name.partition("/")[2] for name in names}
    if "schema.json" in names:
        return "sklearn", "a skops file"
    if "archive_format" in inner or "serialized_exported_program.json" in names:
        return "torch_export", FORMATS["torch_export"].words
    if "constants.pkl" in inner and any(name.startswith("code/") for name in inner):
        return "torchscript", FORMATS["torchscript"].words
    if "data.pkl" in inner:
        return "state_dict", "a file of torch.save"
    return None, OTHERS[b"PK"]
