"""The 15 common corruptions of pictures by Hendrycks and Dietterich 2019 (arXiv 1903.12261), on any device.

Levels are those of the authors' code for ImageNet-C (224 pixels), Tiny ImageNet-C (64) and CIFAR-10-C (32). A picture
of another size takes those of the nearest (by ratio), and all that is a length goes with its shorter side; swaps over
less than a pixel become rarer instead. Other than in the authors' code: steps between pixels are bilinear instead of
whole; defocus has no smallest disc; glass blur swaps pixels (there, views make it copy them); frost is computed, since
their photographs are not shipped; and only JPEG rounds to 255 levels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from assessor_checks.robustness import _pictures as pictures

SEVERITIES = 5
LEAST = 8  # pixels a side; below, most of the corruptions have no meaning
_Level = float | tuple[float, ...]
_Levels = tuple[_Level, _Level, _Level, _Level, _Level]
_CORNERS = ((1.0, 1.0), (1.0, -1.0), (-1.0, -1.0))  # three corners of a square around the middle, as column and row

LEVELS: Mapping[int, Mapping[str, _Levels]] = {
    224: {
        "gaussian_noise": (0.08, 0.12, 0.18, 0.26, 0.38),
        "shot_noise": (60, 25, 12, 5, 3),
        "impulse_noise": (0.03, 0.06, 0.09, 0.17, 0.27),
        "defocus_blur": (3, 4, 6, 8, 10),
        "glass_blur": ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
        "motion_blur": ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
        "zoom_blur": ((0.10, 0.01), (0.15, 0.01), (0.20, 0.02), (0.24, 0.02), (0.30, 0.03)),
        "snow": (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
        "frost": ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
        "fog": ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
        "brightness": (0.1, 0.2, 0.3, 0.4, 0.5),
        "contrast": (0.4, 0.3, 0.2, 0.1, 0.05),
        "elastic_transform": (
            (488, 170.8, 24.4),
            (488, 19.52, 48.8),
            (12.2, 2.44, 4.88),
            (17.08, 2.44, 4.88),
            (29.28, 2.44, 4.88),
        ),
        "pixelate": (0.6, 0.5, 0.4, 0.3, 0.25),
        "jpeg_compression": (25, 18, 15, 10, 7),
    },
    64: {
        "gaussian_noise": (0.04, 0.08, 0.12, 0.15, 0.18),
        "shot_noise": (250, 100, 50, 30, 15),
        "impulse_noise": (0.01, 0.02, 0.05, 0.08, 0.14),
        "defocus_blur": (0.5, 1, 1.5, 2.5, 3),
        "glass_blur": ((0.1, 1, 1), (0.5, 1, 1), (0.6, 1, 2), (0.7, 2, 1), (0.9, 2, 2)),
        "motion_blur": ((10, 1), (10, 1.5), (10, 2), (10, 2.5), (12, 3)),
        "zoom_blur": ((0.05, 0.01), (0.10, 0.01), (0.15, 0.01), (0.20, 0.01), (0.25, 0.01)),
        "snow": (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.8),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.8),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.7),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.65),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.6),
        ),
        "frost": ((1, 0.3), (0.9, 0.4), (0.8, 0.45), (0.75, 0.5), (0.7, 0.55)),
        "fog": ((0.4, 3), (0.7, 3), (1, 2.5), (1.5, 2), (2, 1.75)),
        "brightness": (0.1, 0.2, 0.3, 0.4, 0.5),
        "contrast": (0.4, 0.3, 0.2, 0.1, 0.05),
        "elastic_transform": (
            (0, 0, 5.12),
            (3.2, 19.2, 3.84),
            (6.4, 5.12, 3.84),
            (6.4, 1.92, 1.92),
            (10.24, 1.92, 1.28),
        ),
        "pixelate": (0.9, 0.8, 0.7, 0.6, 0.5),
        "jpeg_compression": (65, 58, 50, 40, 25),
    },
    32: {
        "gaussian_noise": (0.04, 0.06, 0.08, 0.09, 0.10),
        "shot_noise": (500, 250, 100, 75, 50),
        "impulse_noise": (0.01, 0.02, 0.03, 0.05, 0.07),
        "defocus_blur": (0.3, 0.4, 0.5, 1, 1.5),
        "glass_blur": ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
        "motion_blur": ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
        "zoom_blur": ((0.05, 0.01), (0.10, 0.01), (0.15, 0.01), (0.20, 0.01), (0.25, 0.01)),
        "snow": (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
        "frost": ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
        "fog": ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
        "brightness": (0.05, 0.1, 0.15, 0.2, 0.3),
        "contrast": (0.75, 0.5, 0.4, 0.3, 0.15),
        "elastic_transform": (
            (0, 0, 2.56),
            (1.6, 6.4, 2.24),
            (2.56, 1.92, 1.92),
            (3.2, 1.28, 1.6),
            (3.2, 0.96, 0.96),
        ),
        "pixelate": (0.95, 0.9, 0.85, 0.75, 0.65),
        "jpeg_compression": (80, 65, 58, 50, 40),
    },
}


def reference(height: int, width: int) -> int:
    """Size of the pictures whose published levels are taken for pictures of this size.

    >>> reference(8, 8), reference(28, 28), reference(96, 96), reference(480, 640)
    (32, 32, 64, 224)
    """
    side = min(height, width)
    return min(LEVELS, key=lambda size: abs(math.log(side / size)))


def corrupted(x: torch.Tensor, name: str, severity: int, seed: Sequence[int]) -> torch.Tensor:
    """Pictures with one corruption.

    Args:
        x: (n, C, H, W) in [0, 1], sides of at least `LEAST` pixels.
        name: One of `CORRUPTIONS`.
        severity: From 1 to 5.
        seed: Whole numbers that fix all that is random; the same on the same kind of device gives the same pictures.

    Returns:
        (n, C, H, W) in [0, 1].
    """
    size = reference(*x.shape[-2:])
    level = LEVELS[size][name][severity - 1]
    values = level if isinstance(level, tuple) else (level,)
    state = int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0] >> np.uint64(1))
    generator = torch.Generator(x.device).manual_seed(state)
    return CORRUPTIONS[name](x, values, min(x.shape[-2:]) / size, generator).clamp(0, 1)


def _gaussian_noise(x: torch.Tensor, level: Sequence[float], scale: float, generator: torch.Generator) -> torch.Tensor:
    return x + level[0] * _normal(x.shape, x, generator)


def _shot_noise(x: torch.Tensor, level: Sequence[float], scale: float, generator: torch.Generator) -> torch.Tensor:
    return torch.poisson(x * level[0], generator=generator) / level[0]


def _impulse_noise(x: torch.Tensor, level: Sequence[float], scale: float, generator: torch.Generator) -> torch.Tensor:
    draw = _uniform(x.shape, x, generator)
    return torch.where(draw < level[0] / 2, 0.0, torch.where(draw < level[0], 1.0, x))


def _defocus_blur(x: torch.Tensor, level: Sequence[float], scale: float, generator: torch.Generator) -> torch.Tensor:
    return pictures.defocused(x, level[0] * scale)


def _glass_blur(x: torch.Tensor, level: Sequence[float], scale: float, generator: torch.Generator) -> torch.Tensor:
    sigma, length, rounds = level[0] * scale, level[1] * scale, int(level[2])
    reach, often = max(1, round(length)), min(1.0, length)  # less than a pixel: as rarely as it is short
    x = pictures.blurred(x, sigma)
    shape = (len(x), 2, x.shape[2] - 2 * reach, x.shape[3] - 2 * reach)
    for _ in range(rounds):
        moves = torch.randint(-reach, reach, shape, generator=generator, device=x.device, dtype=torch.int16)
        swaps = _uniform((len(x), 1, *shape[2:]), x, generator) < often
        x = pictures.swapped(x, moves.int() * swaps, reach)
    return pictures.blurred(x, sigma)


def _motion_blur(x: torch.Tensor, level: Sequence[float], scale: float, generator: torch.Generator) -> torch.Tensor:
    angle = (_uniform((len(x),), x, generator) - 0.5) * (math.pi / 2)
    return pictures.motion_blurred(x, angle, radius=level[0], sigma=level[1], scale=scale)


def _zoom_blur(x: torch.Tensor, level: Sequence[float], scale: float, generator: torch.Generator) -> torch.Tensor:
    most, step = level
    factors = [1 + step * index for index in range(round(most / step) + 1)]
    total = x.clone()
    for factor in factors:
        total += pictures.zoomed(x, factor)
    return total / (len(factors) + 1)


def _snow(x: torch.Tensor, level: Sequence[float], scale: float, generator: torch.Generator) -> torch.Tensor:
    mean, spread, zoom, least, radius, sigma, share = level
    layer = mean + spread * _normal((len(x), 1, *x.shape[2:]), x, generator)
    layer = pictures.zoomed(layer, max(1.0, zoom * scale))
    layer = torch.where(layer < least, 0.0, layer).clamp(0, 1)
    angle = -(0.25 + 0.5 * _uniform((len(x),), x, generator)) * math.pi
    layer = pictures.motion_blurred(layer, angle, radius=radius, sigma=sigma, scale=scale)
    white = share * x + (1 - share) * torch.maximum(x, pictures.grey(x) * 1.5 + 0.5)
    return white + layer + layer.flip(2, 3)


def _frost(x: torch.Tensor, level: Sequence[float], scale: float, generator: torch.Generator) -> torch.Tensor:
    """Veins of ice on grainy rime: bright ridges of three clouds, in place of a photograph of frost."""
    ridges = [1 - (2 * pictures.clouds(x, decay, generator) - 1).abs() for decay in (1.7, 1.7, 1.2)]
    return level[0] * x + level[1] * (0.6 * torch.maximum(ridges[0], ridges[1]) ** 4 + 0.4 * ridges[2])


def _fog(x: torch.Tensor, level: Sequence[float], scale: float, generator: torch.Generator) -> torch.Tensor:
    most = x.amax(dim=(1, 2, 3), keepdim=True)
    return (x + level[0] * pictures.clouds(x, level[1], generator)) * most / (most + level[0])


def _brightness(x: torch.Tensor, level: Sequence[float], scale: float, generator: torch.Generator) -> torch.Tensor:
    """The value of hue, saturation and value raised; it is the greatest channel, and the others keep their ratio."""
    value = x.amax(dim=1, keepdim=True)
    raised = (value + level[0]).clamp(0, 1)
    return torch.where(value > 0, x * (raised / value.clamp_min(torch.finfo(x.dtype).tiny)), raised)


def _contrast(x: torch.Tensor, level: Sequence[float], scale: float, generator: torch.Generator) -> torch.Tensor:
    mean = x.mean(dim=(2, 3), keepdim=True)
    return mean + level[0] * (x - mean)


def _elastic_transform(
    x: torch.Tensor, level: Sequence[float], scale: float, generator: torch.Generator
) -> torch.Tensor:
    """A random affine map of three corners, then a smooth random displacement of every pixel."""
    strength, sigma, corner = (one * scale for one in level)
    height, width = x.shape[2:]
    centre = torch.tensor([width // 2, height // 2], dtype=torch.float64)
    before = centre + torch.tensor(_CORNERS, dtype=torch.float64) * (min(height, width) // 3)
    moved = before.to(x) + corner * (2 * _uniform((len(x), 3, 2), x, generator) - 1)
    ones = torch.ones_like(moved[..., :1])
    back = torch.linalg.solve(torch.cat([moved, ones], dim=2), before.to(x).expand_as(moved))  # (n, 3, 2)
    rows, columns = pictures.places(x)
    source = [back[:, 0, i, None, None] * columns + back[:, 1, i, None, None] * rows + back[:, 2, i, None, None]
              for i in (1, 0)]  # fmt: skip
    x = pictures.looked_up(x, *source, beyond="mirror_101")
    if strength == 0:
        return x
    noise = 2 * _uniform((len(x), 2, height, width), x, generator) - 1
    field = strength * pictures.blurred(noise, sigma, truncate=3.0, mirror=True)
    return pictures.looked_up(x, rows + field[:, 0], columns + field[:, 1], beyond="mirror")


def _pixelate(x: torch.Tensor, level: Sequence[float], scale: float, generator: torch.Generator) -> torch.Tensor:
    return pictures.coarse(x, level[0])


def _jpeg_compression(
    x: torch.Tensor, level: Sequence[float], scale: float, generator: torch.Generator
) -> torch.Tensor:
    return pictures.jpeg(x, int(level[0]))


def _normal(shape: Sequence[int], like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return torch.randn(tuple(shape), generator=generator, device=like.device, dtype=like.dtype)


def _uniform(shape: Sequence[int], like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return torch.rand(tuple(shape), generator=generator, device=like.device, dtype=like.dtype)


CORRUPTIONS: Mapping[str, Callable[[torch.Tensor, Sequence[float], float, torch.Generator], torch.Tensor]] = {
    "gaussian_noise": _gaussian_noise,
    "shot_noise": _shot_noise,
    "impulse_noise": _impulse_noise,
    "defocus_blur": _defocus_blur,
    "glass_blur": _glass_blur,
    "motion_blur": _motion_blur,
    "zoom_blur": _zoom_blur,
    "snow": _snow,
    "frost": _frost,
    "fog": _fog,
    "brightness": _brightness,
    "contrast": _contrast,
    "elastic_transform": _elastic_transform,
    "pixelate": _pixelate,
    "jpeg_compression": _jpeg_compression,
}
