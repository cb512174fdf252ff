"""Folders of PNG and JPEG images as tables, and images as numbers."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from assessor.errors import UsageError
from assessor.model import PixelsSpec
from assessor.subjects.extras import require
from assessor.subjects.readers import table_of_file
from assessor.subjects.tables import Table, table_of_frame, together

IMAGE, PATH, LABEL = "image", "path", "label"
SUFFIXES = {".png", ".jpg", ".jpeg"}
MOST = 2**25  # pixels of one image before it is resized
FEW = 32  # images in memory at once
FILE = 2**28  # bytes of one image's file


def image_index(path: Path, field: str, where: str) -> Table:
    """The images of a folder with a folder for each class, or of a csv with a column `path`; without the images.

    Args:
        path: The folder, or the csv.
        field: The configuration field that names it.
        where: How messages call the table.

    Returns:
        Columns path, relative to the folder or to that of the csv, and label, or those of the csv.

    Raises:
        UsageError: There is no such folder or csv, or there are no images.
    """
    require("PIL", "images", field)
    if path.is_file():
        table = table_of_file(path, field, where, texts=[PATH])
        if PATH not in table.columns or IMAGE in table.columns:
            raise UsageError(f"{where}: wanted a column '{PATH}' and none called '{IMAGE}'")
        return replace(table, label=LABEL if LABEL in table.columns else None)
    if not path.is_dir():
        raise UsageError(f"{field}: no folder and no csv {path}")
    names = sorted(one.relative_to(path).as_posix() for one in path.glob("*/*") if one.suffix.lower() in SUFFIXES)
    if not names:
        raise UsageError(f"{where}: no PNG or JPEG images in the folders of {path}; wanted one folder a class")
    frame = pd.DataFrame({PATH: names, LABEL: [name.partition("/")[0] for name in names]})
    return replace(table_of_frame(frame, where), label=LABEL)


def with_images(table: Table, folder: Path) -> Table:
    """The table with a column `image`, read where it is asked for.

    Args:
        table: With a column `path`.
        folder: What the paths are relative to.

    Returns:
        The table; its features are the images.
    """

    def parts(names: Sequence[str]) -> Iterator[pd.DataFrame]:
        if IMAGE not in names:
            yield from table.parts(names)
            return
        for part in table.parts(list(dict.fromkeys([PATH, *(name for name in names if name != IMAGE)]))):
            for start in range(0, len(part), FEW):
                some = part.iloc[start : start + FEW].reset_index(drop=True)
                found = pd.Series([_content(folder, str(name), table.where) for name in some[PATH]], dtype=object)
                yield some.assign(**{IMAGE: found})[list(names)]

    return replace(table, columns=(IMAGE, *table.columns), features=(IMAGE,), parts=parts, whole=together(parts))


def _content(folder: Path, name: str, where: str) -> bytes:
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise UsageError(f"{where}: '{name}' lies outside {folder}, and only images inside are read")
    if not path.is_file():
        raise UsageError(f"{where}: no image {path}")
    if path.stat().st_size > FILE:
        raise UsageError(f"{where}: {path} has more than {FILE // 2**20} MiB")
    return path.read_bytes()


def are_images(values: pd.Series) -> bool:
    """Whether the values are image files: their bytes, or as Hugging Face's datasets store them."""
    first = values.iloc[0] if len(values) else None
    return isinstance(first, bytes) or (isinstance(first, Mapping) and "bytes" in first)


def pixels(values: Sequence[Any], spec: PixelsSpec, where: str, *, first: int) -> np.ndarray:
    """Images as numbers.

    Args:
        values: Files' bytes, or mappings that hold them.
        spec: Size, channels and scale.
        where: How messages call the table.
        first: Number of the first row.

    Returns:
        (n, channels, height, width) float32, in [0, 1] before mean and std are applied.

    Raises:
        UsageError: One is no PNG or JPEG, too large, or of another size.
    """
    require("PIL", "images", where)
    found = [_pixels(value, spec, f"{where}: row {first + place}") for place, value in enumerate(values)]
    for place, one in enumerate(found):
        if one.shape != found[0].shape:
            raise UsageError(
                f"{where}: row {first + place} is {one.shape[1]} x {one.shape[2]} pixels, row {first} "
                f"{found[0].shape[1]} x {found[0].shape[2]}; name one size under pixels: size: [height, width]"
            )
    rows = np.stack(found)
    scale = [
        np.array(given or default, np.float32)[:, None, None]
        for given, default in ((spec.mean, [0.0]), (spec.std, [1.0]))
    ]
    return (rows - scale[0]) / scale[1]


def _pixels(value: Any, spec: PixelsSpec, where: str) -> np.ndarray:
    from PIL import Image, ImageFile

    content = value.get("bytes") if isinstance(value, Mapping) else value
    if not isinstance(content, bytes):
        raise UsageError(f"{where}: no image inside the data set; save it with the images embedded")
    tolerant, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False  # libraries switch it on
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as image:
                if image.width * image.height > MOST:
                    raise UsageError(f"{where}: {image.width} x {image.height} pixels, wanted at most {MOST}")
                plain = image.convert("RGB" if spec.channels == 3 else "L")
            if spec.size is not None:
                plain = plain.resize((spec.size[1], spec.size[0]), Image.Resampling.BILINEAR)
            found = np.asarray(plain, np.float32) / np.float32(255)
    except UsageError:
        raise
    except Exception as fault:  # Pillow raises many kinds on spoiled files
        raise UsageError(f"{where}: no PNG or JPEG image that can be read: {type(fault).__name__}: {fault}") from fault
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = tolerant
    return found[None] if found.ndim == 2 else np.ascontiguousarray(found.transpose(2, 0, 1))
