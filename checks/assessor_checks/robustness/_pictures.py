"""What is done to pictures: blurring, moving, shuffling, shrinking, compressing, and clouds to lay over them.

Pictures are (n, C, H, W) tensors of floats in [0, 1] on any device, height and width at least 4. All functions treat
the n pictures by themselves, wait for no device and draw only from the generator they are given.
"""

from __future__ import annotations

import math

import numpy as np
import torch

_ROUGHNESS = 100.0  # of the cloud at its largest scale; only ratios matter, since clouds are stretched to [0, 1]
_GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601, as JPEG and OpenCV take grey from red, green and blue
_LUMINANCE = """
    16 11 10 16 24 40 51 61  12 12 14 19 26 58 60 55  14 13 16 24 40 57 69 56  14 17 22 29 51 87 80 62
    18 22 37 56 68 109 103 77  24 35 55 64 81 104 113 92  49 64 78 87 103 121 120 101  72 92 95 98 112 100 103 99
"""  # ITU-T T.81, table K.1
_CHROMINANCE = (
    "17 18 24 47 99 99 99 99 18 21 26 66 99 99 99 99 24 26 56 99 99 99 99 99 47 66 99 99 99 99 99 99" + " 99" * 32
)  # table K.2


def across(x: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Rows and columns of every picture mixed by matrices: (n, C, H, W) to (n, C, len(rows), len(columns))."""
    return rows.to(x) @ x @ columns.to(x).T


def gaussian(size: int, sigma: float, *, truncate: float = 4.0, mirror: bool = False) -> torch.Tensor:
    """Matrix (size, size) of a Gaussian blur along one axis, as `scipy.ndimage.gaussian_filter1d`.

    Args:
        size: Pixels along the axis.
        sigma: Standard deviation in pixels; 0 gives the identity.
        truncate: Standard deviations at which the Gaussian is cut off.
        mirror: Beyond the edge the picture is mirrored (mode "reflect") instead of going on as at its edge ("nearest").

    Returns:
        Rows sum to 1.
    """
    reach = int(truncate * sigma + 0.5)
    offsets = torch.arange(-reach, reach + 1)
    weights = torch.exp(-0.5 * (offsets.double() / max(sigma, 1e-9)) ** 2)
    places = torch.arange(size)[:, None] + offsets
    if mirror:
        places = places.remainder(2 * size)
        places = torch.minimum(places, 2 * size - 1 - places)
    matrix = torch.zeros(size, size, dtype=torch.float64)
    return matrix.scatter_add_(1, places.clamp(0, size - 1), (weights / weights.sum()).expand(size, -1))


def blurred(x: torch.Tensor, sigma: float, *, truncate: float = 4.0, mirror: bool = False) -> torch.Tensor:
    """Gaussian blur of `sigma` pixels along both axes."""
    if sigma <= 0:
        return x
    rows, columns = (gaussian(size, sigma, truncate=truncate, mirror=mirror) for size in x.shape[-2:])
    return across(x, rows, columns)


def looked_up(x: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, *, beyond: str = "edge") -> torch.Tensor:
    """Pictures whose pixels are taken from other places, bilinearly.

    Args:
        x: (n, C, H, W).
        rows: Broadcastable to (n, H, W), where each pixel comes from, in pixels from 0.
        columns: The same for columns.
        beyond: What lies outside: "edge" repeats it, "mirror" mirrors on it (dcba|abcd), "mirror_101" on the edge
            pixel (dcb|abcd).

    Returns:
        (n, C, H, W).
    """
    height, width = x.shape[-2:]
    centres = beyond != "mirror"
    grid = []
    for places, size in ((columns, width), (rows, height)):
        scaled = 2 * places / (size - 1) - 1 if centres else (2 * places + 1) / size - 1
        grid.append(scaled.expand(len(x), height, width))
    mode = "border" if beyond == "edge" else "reflection"
    where = torch.stack(grid, dim=-1).to(x.dtype)
    return torch.nn.functional.grid_sample(x, where, mode="bilinear", padding_mode=mode, align_corners=centres)


def places(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows (1, H, 1) and columns (1, 1, W) of the pixels of `x`."""
    height, width = x.shape[-2:]
    return (
        torch.arange(height, device=x.device, dtype=x.dtype)[None, :, None],
        torch.arange(width, device=x.device, dtype=x.dtype)[None, None, :],
    )


def defocused(x: torch.Tensor, radius: float) -> torch.Tensor:
    """Mean over all shifts by up to `radius` pixels: what a lens out of focus shows.

    The weights are those of bilinear shifts, averaged over the disc, so that a radius of less than a pixel blurs
    less than one of a pixel, and not the same or nothing.
    """
    reach = math.ceil(radius)
    if reach == 0:
        return x
    steps = (torch.arange(64, dtype=torch.float64) + 0.5) / 32 - 1
    down, right = (radius * side.reshape(-1) for side in torch.meshgrid(steps, steps, indexing="ij"))
    inside = down**2 + right**2 <= radius**2
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float64)
    near = [(1 - (side[inside][:, None] - offsets).abs()).clamp_min(0) for side in (down, right)]
    kernel = (near[0].T @ near[1] / inside.sum()).to(x)
    count, channels, height, width = x.shape
    around = [_mirrored_101(size, reach).to(x.device) for size in (height, width)]
    padded = x[:, :, around[0]][..., around[1]].reshape(count * channels, 1, height + 2 * reach, width + 2 * reach)
    return torch.nn.functional.conv2d(padded, kernel[None, None]).reshape(x.shape)


def _mirrored_101(size: int, reach: int) -> torch.Tensor:
    found = torch.arange(-reach, size + reach).remainder(2 * size - 2)
    return torch.minimum(found, 2 * size - 2 - found)


def motion_blurred(
    x: torch.Tensor, angle: torch.Tensor, *, radius: float, sigma: float, scale: float = 1.0
) -> torch.Tensor:
    """Trail of half a Gaussian in one direction, as ImageMagick's motion blur, with bilinear instead of whole steps.

    Args:
        x: (n, C, H, W).
        angle: (n,) direction of the trail, in radians from the rows' direction.
        radius: Half the length of the trail, in steps; it has 2 ceil(radius) + 1 of them.
        sigma: Standard deviation of the trail's weights, in steps.
        scale: Length of a step in pixels.

    Returns:
        (n, C, H, W).
    """
    fine = max(1, math.ceil(scale))  # between steps longer than a pixel there would be gaps
    rows, columns = places(x)
    down, right = (torch.sin(angle)[:, None, None] * scale, torch.cos(angle)[:, None, None] * scale)
    total, weights = torch.zeros_like(x), 0.0
    for step in range(2 * math.ceil(radius) * fine + 1):
        weight = math.exp(-0.5 * (step / fine / sigma) ** 2)
        if weight < 1e-4:  # of the first: all that is left out is less than half a grey level of 255
            break
        total += weight * looked_up(x, rows + down * (step / fine), columns + right * (step / fine))
        weights += weight
    return total / weights


def zoomed(x: torch.Tensor, factor: float) -> torch.Tensor:
    """The middle of the picture, enlarged to its size."""
    rows, columns = places(x)
    middle = [(size - 1) / 2 for size in x.shape[-2:]]
    return looked_up(x, middle[0] + (rows - middle[0]) / factor, middle[1] + (columns - middle[1]) / factor)


def clouds(x: torch.Tensor, decay: float, generator: torch.Generator) -> torch.Tensor:
    """Random height maps (n, 1, H, W) by the diamond-square algorithm, each stretched to [0, 1] before it is cut out.

    Args:
        x: Pictures whose number, size, device and dtype are wanted.
        decay: Factor by which the noise falls with each halving of the scale; more is smoother.
        generator: Of the noise.

    Returns:
        Values in [0, 1].
    """
    height, width = x.shape[-2:]
    size = 2 ** math.ceil(math.log2(max(height, width)))
    found = torch.zeros(len(x), size, size, device=x.device, dtype=x.dtype)
    step, rough = size, _ROUGHNESS

    def mean_and_noise(total: torch.Tensor) -> torch.Tensor:
        noise = torch.rand(total.shape, generator=generator, device=x.device, dtype=x.dtype)
        return total / 4 + rough**2 * (2 * noise - 1)

    while step >= 2:
        half = step // 2
        corners = found[:, ::step, ::step]
        squares = corners + corners.roll(-1, 1)
        found[:, half::step, half::step] = mean_and_noise(squares + squares.roll(-1, 2))
        middles = found[:, half::step, half::step]
        found[:, ::step, half::step] = mean_and_noise(middles + middles.roll(1, 1) + corners + corners.roll(-1, 2))
        found[:, half::step, ::step] = mean_and_noise(middles + middles.roll(1, 2) + corners + corners.roll(-1, 1))
        step, rough = half, rough / decay
    found -= found.amin(dim=(1, 2), keepdim=True)
    found /= found.amax(dim=(1, 2), keepdim=True)
    return found[:, None, :height, :width]


def swapped(x: torch.Tensor, moves: torch.Tensor, reach: int) -> torch.Tensor:
    """Pixels swapped with near ones, one after the other from the last row and column to the first.

    Swaps that cannot touch each other are made at once: pixels of row r + 1 stay 2 reach + 1 columns behind those of
    row r. The outcome is that of one swap after the other.

    Args:
        x: (n, C, H, W).
        moves: (n, 2, H - 2 reach, W - 2 reach) whole numbers from -reach to reach - 1: rows and columns to the
            partner of each pixel, which are those from reach + 1 to H - reach and to W - reach.
        reach: Largest move.

    Returns:
        (n, C, H, W).
    """
    count, _, height, width = x.shape
    tall, wide = moves.shape[-2:]
    back = np.add.outer((2 * reach + 1) * np.arange(tall)[::-1], np.arange(wide)[::-1]).ravel()  # the wave of a pixel
    in_order = np.argsort(back, kind="stable")
    ends = np.flatnonzero(np.diff(back[in_order])) + 1
    pixels = np.add.outer(np.arange(tall) + reach + 1, np.zeros(wide, int)) * width + np.arange(wide) + reach + 1
    waves = torch.from_numpy(in_order).to(x.device).tensor_split(torch.from_numpy(ends))
    own = torch.from_numpy(pixels.ravel()).to(x.device)
    partner = own + (moves[:, 0] * width + moves[:, 1]).reshape(count, -1).long()
    order = torch.arange(height * width, device=x.device).repeat(count, 1)
    for wave in waves:
        here, there = own[wave], partner[:, wave]
        mine, theirs = order[:, here], order.gather(1, there)
        order[:, here] = theirs
        order.scatter_(1, there, mine)
    flat = x.reshape(count, x.shape[1], -1)
    return flat.gather(2, order[:, None].expand_as(flat)).reshape(x.shape)


def coarse(x: torch.Tensor, share: float) -> torch.Tensor:
    """Shrunk to this share of its sides and enlarged again, both by Pillow's box filter."""
    smaller = [max(1, int(size * share)) for size in x.shape[-2:]]
    for sizes in (smaller, list(x.shape[-2:])):
        x = across(x, *(_box(before, after) for before, after in zip(x.shape[-2:], sizes, strict=True)))
    return x


def _box(before: int, after: int) -> torch.Tensor:
    """Matrix (after, before): the mean of the pixels whose middles lie under the new one, or the nearest."""
    ratio = before / after
    middle = (torch.arange(after, dtype=torch.float64) + 0.5) * ratio
    support = max(ratio, 1.0)
    distance = (torch.arange(before, dtype=torch.float64) + 0.5 - middle[:, None]) / support
    weights = ((distance > -0.5) & (distance <= 0.5)).double()
    return weights / weights.sum(dim=1, keepdim=True)


def grey(x: torch.Tensor) -> torch.Tensor:
    """(n, 1, H, W) grey of red, green and blue; of other numbers of channels their mean."""
    if x.shape[1] != 3:
        return x.mean(dim=1, keepdim=True)
    return (x * x.new_tensor(_GREY)[:, None, None]).sum(dim=1, keepdim=True)


def jpeg(x: torch.Tensor, quality: int) -> torch.Tensor:
    """Compressed as JPEG (ITU-T T.81, baseline) and back, as libjpeg does it, without the lossless coding.

    Three channels are taken as red, green and blue, their colour at half the resolution (4:2:0); any other number of
    channels as that many grey pictures.

    Args:
        x: (n, C, H, W).
        quality: From 1 to 100, libjpeg's.

    Returns:
        (n, C, H, W), multiples of 1/255.
    """
    levels = (255 * x).round()
    if x.shape[1] != 3:
        return _coded(levels, _quantisation(_LUMINANCE, quality)) / 255
    mix = _ycbcr(x)
    offset = x.new_tensor([0.0, 128.0, 128.0])[:, None, None]
    parts = (torch.einsum("ij,njhw->nihw", mix, levels) + offset).round()
    height, width = x.shape[-2:]
    colour = torch.nn.functional.avg_pool2d(_filled(parts[:, 1:], 2, 16), 2)
    bias = 0.25 + 0.25 * (torch.arange(colour.shape[-1], device=x.device) % 2)  # libjpeg rounds down and up in turn
    colour = _coded((colour + bias).floor(), _quantisation(_CHROMINANCE, quality))
    colour = colour[..., : (height + 1) // 2, : (width + 1) // 2]
    colour = across(colour, *(_twice(size) for size in colour.shape[-2:]))[..., :height, :width].round()
    whole = torch.cat([_coded(parts[:, :1], _quantisation(_LUMINANCE, quality)), colour], dim=1)
    back = torch.linalg.inv(mix.double()).to(mix)
    return torch.einsum("ij,njhw->nihw", back, whole - offset).round().clamp(0, 255) / 255


def _ycbcr(like: torch.Tensor) -> torch.Tensor:
    """Matrix (3, 3) from red, green, blue to luminance and two colour differences (JFIF 1.02)."""
    red, green, blue = _GREY
    blueness = [-red / 2 / (1 - blue), -green / 2 / (1 - blue), 0.5]
    redness = [0.5, -green / 2 / (1 - red), -blue / 2 / (1 - red)]
    return like.new_tensor([_GREY, blueness, redness])


def _quantisation(table: str, quality: int) -> torch.Tensor:
    """(8, 8) steps at a quality, by libjpeg's rule."""
    base = torch.tensor([int(one) for one in table.split()]).reshape(8, 8)
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    return ((base * percent + 50) // 100).clamp(1, 255)


def _coded(levels: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
    """Grey levels 0 to 255 after rounding the coefficients of blocks of 8 x 8 to multiples of `steps`."""
    count, channels, height, width = levels.shape
    padded = _filled(levels, 8, 8) - 128
    place = torch.arange(8, dtype=torch.float64)
    cosines = torch.cos((2 * place + 1) * place[:, None] * math.pi / 16) / 2
    cosines[0] /= math.sqrt(2)
    transform, quantum = cosines.to(levels), steps.to(levels)
    blocks = padded.reshape(count, channels, padded.shape[2] // 8, 8, padded.shape[3] // 8, 8).transpose(3, 4)
    ratio = transform @ blocks @ transform.T / quantum
    rounded = ratio.sign() * (ratio.abs() + 0.5 + 1e-4).floor()  # halves away from 0, as there; 1e-4 against rounding
    found = (transform.T @ (rounded * quantum) @ transform).transpose(3, 4).reshape(padded.shape) + 128
    return found[..., :height, :width].round().clamp(0, 255)


def _filled(levels: torch.Tensor, tall: int, wide: int) -> torch.Tensor:
    """Edges repeated until the height is a multiple of `tall` and the width one of `wide`."""
    height, width = levels.shape[-2:]
    return torch.nn.functional.pad(levels, (0, -width % wide, 0, -height % tall), mode="replicate")


def _twice(size: int) -> torch.Tensor:
    """Matrix (2 size, size) that doubles the resolution: three quarters of the nearer, one quarter of the next."""
    eye = torch.eye(size, dtype=torch.float64)
    before, after = torch.cat([eye[:1], eye[:-1]]), torch.cat([eye[1:], eye[-1:]])
    return torch.stack([0.75 * eye + 0.25 * before, 0.75 * eye + 0.25 * after], dim=1).reshape(2 * size, size)
