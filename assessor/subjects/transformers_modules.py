"""Hugging Face models as modules that take one tensor and give logits; a batch at a time, to bound memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.nn import functional

ROWS = 32  # texts or pictures a forward pass
MODES = {0: "nearest-exact", 2: "bilinear", 3: "bicubic"}
"""Pillow's numbers of ways to resample."""


class _Batched(torch.nn.Module):
    """Runs `outputs` on some rows after another."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """(n, C) logits."""
        return torch.cat([self.outputs(part) for part in rows.split(ROWS)])

    def outputs(self, rows: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError


class Texts(_Batched):
    """A classifier of texts; rows (n, L) are tokens' numbers plus 1, and 0 behind the end."""

    def outputs(self, rows: torch.Tensor) -> torch.Tensor:
        """Logits of some rows."""
        rows = _cut(rows)
        found: torch.Tensor = self.model(input_ids=(rows - 1).clamp_min(0), attention_mask=(rows > 0).long()).logits
        return found


class Choices(_Batched):
    """A language model that chooses a word; rows (n, C, 2, L) are tokens as above, and which are the word's.

    Outputs are exact log-likelihoods of each word after the prompt, so that a softmax over them gives the probability
    of each word given that it is one of them.
    """

    def outputs(self, rows: torch.Tensor) -> torch.Tensor:
        """(n, C) log-likelihoods."""
        n, count = rows.shape[:2]
        pairs = rows.reshape(n * count, 2, -1)
        tokens = _cut(pairs[:, 0])
        meant = pairs[:, 1, 1 : tokens.shape[1]]
        ids = (tokens - 1).clamp_min(0)
        logits = self.model(input_ids=ids, attention_mask=(tokens > 0).long()).logits
        told: torch.Tensor = logits[:, :-1].log_softmax(dim=-1).gather(-1, ids[:, 1:, None])[..., 0]
        return (told * meant).sum(dim=-1).reshape(n, count)


class Pictures(_Batched):
    """A classifier of pictures from 0 to 1 or uint8, prepared as the folder says: resized, cut, normalised."""

    def __init__(self, model: torch.nn.Module, preparation: Mapping[str, Any]) -> None:
        """Keep both.

        Args:
            model: Of transformers.
            preparation: Settings of preprocessor_config.json.
        """
        super().__init__(model)
        self._settings = preparation
        for name in ("image_mean", "image_std"):
            value = torch.tensor(preparation.get(name, [0.0 if name == "image_mean" else 1.0]))
            self.register_buffer(name, value.reshape(1, -1, 1, 1), persistent=False)

    def outputs(self, rows: torch.Tensor) -> torch.Tensor:
        """Logits of some pictures."""
        pixels = rows if rows.shape[1] in {1, 3} else rows.permute(0, 3, 1, 2)
        dtype = next(self.model.parameters()).dtype
        pixels = pixels.to(dtype) if rows.is_floating_point() else pixels.to(dtype) / 255
        prepared = self._cropped(self._resized(pixels))
        if self._settings.get("do_rescale", True):
            factor = self._settings.get("rescale_factor", 1 / 255)
            prepared = prepared if factor == 1 / 255 else prepared * (255 * factor)
        else:
            prepared = prepared * 255
        if self._settings.get("do_normalize", True):
            mean, std = self.get_buffer("image_mean").to(dtype), self.get_buffer("image_std").to(dtype)
            prepared = (prepared - mean) / std
        found: torch.Tensor = self.model(pixel_values=prepared).logits
        return found

    def _resized(self, pixels: torch.Tensor) -> torch.Tensor:
        if not self._settings.get("do_resize", True) or "size" not in self._settings:
            return pixels
        size = self._settings["size"]
        height, width = pixels.shape[-2:]
        if isinstance(size, Mapping) and "shortest_edge" in size:
            ratio = size["shortest_edge"] / min(height, width)
            wanted = (int(height * ratio), int(width * ratio))
        elif isinstance(size, Mapping):
            wanted = (int(size["height"]), int(size["width"]))
        else:
            wanted = (int(size), int(size))
        if wanted == (height, width):
            return pixels
        mode = MODES.get(self._settings.get("resample", 2), "bilinear")
        smooth = mode != "nearest-exact"
        return functional.interpolate(pixels, wanted, mode=mode, antialias=smooth)

    def _cropped(self, pixels: torch.Tensor) -> torch.Tensor:
        if not self._settings.get("do_center_crop", False):
            return pixels
        size = self._settings["crop_size"]
        wanted = (size["height"], size["width"]) if isinstance(size, Mapping) else (size, size)
        top, left = ((have - want) // 2 for have, want in zip(pixels.shape[-2:], wanted, strict=True))
        return pixels[..., max(0, top) : max(0, top) + wanted[0], max(0, left) : max(0, left) + wanted[1]]


def _cut(rows: torch.Tensor) -> torch.Tensor:
    """Without the columns that no row of these has a token in."""
    return rows[:, : int((rows > 0).sum(dim=1).max().clamp_min(1))]
