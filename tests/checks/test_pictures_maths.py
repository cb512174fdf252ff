"""Operations on pictures against scipy, Pillow and slow ways of doing the same."""

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from assessor_checks.robustness import _pictures as pictures


def natural(height, width, channels=3, n=2, seed=0):
    """Smooth pictures with some detail, whole levels of 255."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((2, n, channels, height, width))
    x = ndimage.gaussian_filter(noise[0], (0, 0, 3, 3)) + 0.3 * ndimage.gaussian_filter(noise[1], (0, 0, 0.7, 0.7))
    x -= x.min()
    return np.round(255 * x / x.max()) / 255


def tensor(x):
    return torch.from_numpy(np.ascontiguousarray(x))


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("sigma", [0.4, 0.9, 3.0, 60.0])
def test_blur_is_that_of_scipy(sigma, mirror):
    x = natural(21, 16)
    wanted = ndimage.gaussian_filter(x, (0, 0, sigma, sigma), mode="reflect" if mirror else "nearest")
    np.testing.assert_allclose(pictures.blurred(tensor(x), sigma, mirror=mirror), wanted, atol=1e-12)
    assert pictures.blurred(tensor(x), 0.0) is not None
    np.testing.assert_array_equal(pictures.blurred(tensor(x), 0.0), x)


@pytest.mark.parametrize(("beyond", "mode"), [("edge", "nearest"), ("mirror", "reflect"), ("mirror_101", "mirror")])
def test_looked_up_is_scipys_map_coordinates(beyond, mode):
    x = natural(12, 9)
    field = 5 * np.random.default_rng(0).standard_normal((2, 2, 12, 9))
    rows, columns = pictures.places(tensor(x))
    found = pictures.looked_up(tensor(x), rows + tensor(field[0]), columns + tensor(field[1]), beyond=beyond)
    for i in range(2):
        where = [np.arange(12)[:, None] + field[0, i], np.arange(9)[None] + field[1, i]]
        for channel in range(3):
            wanted = ndimage.map_coordinates(x[i, channel], where, order=1, mode=mode)
            np.testing.assert_allclose(found[i, channel], wanted, atol=1e-10)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_swaps_in_waves_are_swaps_one_after_the_other(reach, seed):
    rng = np.random.default_rng(seed)
    x = rng.random((2, 2, 13, 11))
    moves = rng.integers(-reach, reach, (2, 2, 13 - 2 * reach, 11 - 2 * reach))
    wanted = x.copy()
    for i in range(2):
        for row in range(13 - reach, reach, -1):
            for column in range(11 - reach, reach, -1):
                down, right = moves[i, :, row - reach - 1, column - reach - 1]
                mine = wanted[i, :, row, column].copy()
                wanted[i, :, row, column] = wanted[i, :, row + down, column + right]
                wanted[i, :, row + down, column + right] = mine
    np.testing.assert_array_equal(pictures.swapped(tensor(x), tensor(moves), reach), wanted)


@pytest.mark.parametrize(("height", "width"), [(40, 33), (32, 32), (28, 28), (9, 8)])
def test_coarse_is_pillows_box_filter_twice(height, width):
    x = natural(height, width)
    for share in (0.95, 0.6, 0.25):
        small = (max(1, int(width * share)), max(1, int(height * share)))
        found = pictures.coarse(tensor(x), share).numpy()
        for i in range(2):
            image = Image.fromarray((255 * x[i].transpose(1, 2, 0)).round().astype(np.uint8))
            wanted = np.asarray(image.resize(small, Image.BOX).resize((width, height), Image.BOX)).transpose(2, 0, 1)
            assert np.abs(255 * found[i] - wanted).max() <= 1.001  # Pillow rounds twice


@pytest.mark.parametrize(("height", "width"), [(40, 33), (64, 48), (28, 28), (8, 8)])
@pytest.mark.parametrize("quality", [80, 25, 10])
def test_jpeg_is_nearly_pillows(height, width, quality):
    """Coefficients near a half may be rounded the other way by libjpeg's whole-number transform: a few blocks."""
    for channels in (3, 1):
        x = natural(height, width, channels)
        found = pictures.jpeg(tensor(x), quality).numpy()
        for i in range(2):
            plane = (255 * x[i]).round().astype(np.uint8)
            image = Image.fromarray(plane[0] if channels == 1 else plane.transpose(1, 2, 0))
            file = io.BytesIO()
            image.save(file, "JPEG", quality=quality)
            back = np.asarray(Image.open(file)) / 255
            wanted = back[None] if channels == 1 else back.transpose(2, 0, 1)
            assert np.abs(found[i] - wanted).mean() < 0.25 * np.abs(x[i] - wanted).mean()
            assert np.median(np.abs(found[i] - wanted)) <= 1.001 / 255


def test_jpeg_of_a_flat_picture_is_that_picture():
    flat = torch.full((1, 3, 16, 16), 128 / 255)
    np.testing.assert_allclose(pictures.jpeg(flat, 50), flat, atol=1e-6)


def test_defocus_keeps_the_mean_and_blurs_as_wide_as_its_disc():
    x = torch.zeros(1, 1, 41, 41, dtype=torch.float64)
    x[0, 0, 20, 20] = 1
    for radius in (0.3, 1.0, 2.5, 6.0):
        spot = pictures.defocused(x, radius)[0, 0]
        assert float(spot.sum()) == pytest.approx(1)
        places = torch.arange(41, dtype=torch.float64) - 20
        spread = float((spot.sum(dim=1) * places**2).sum())
        # A disc has variance r^2 / 4 along an axis; bilinear steps add at most 1/4 and nothing to a shift of 0.
        assert radius**2 / 4 - 1e-3 <= spread <= radius**2 / 4 + 0.25
    spreads = [float((pictures.defocused(x, r)[0, 0] ** 2).sum()) for r in (0.1, 0.3, 0.5, 0.75, 1.0, 1.5)]
    assert spreads == sorted(spreads, reverse=True)  # the more out of focus, the more spread out, also below a pixel
    assert pictures.defocused(x, 0.0) is x


def test_motion_blur_is_half_a_gaussian_in_one_direction():
    x = torch.zeros(2, 1, 31, 31, dtype=torch.float64)
    x[:, 0, 15, 15] = 1
    angle = torch.tensor([0.0, torch.pi / 2], dtype=torch.float64)
    along, down = pictures.motion_blurred(x, angle, radius=5, sigma=2)[:, 0]
    weights = np.exp(-0.5 * (np.arange(11) / 2) ** 2)
    weights[weights < 1e-4] = 0
    weights /= weights.sum()
    np.testing.assert_allclose(along[15, 5:16].flip(0), weights, atol=1e-6)
    np.testing.assert_allclose(down[5:16, 15].flip(0), weights, atol=1e-6)
    twice = pictures.motion_blurred(x, angle, radius=5, sigma=2, scale=2.0)[0, 0, 15]
    assert bool((twice[5:16] > 0).all())  # steps of two pixels leave no gaps


def test_zoom_enlarges_around_the_middle():
    x = natural(15, 15)
    found = pictures.zoomed(tensor(x), 1.25).numpy()
    matrix, middle = np.eye(2) / 1.25, np.array([7.0, 7.0])
    wanted = ndimage.affine_transform(x[0, 0], matrix, middle - matrix @ middle, order=1, mode="nearest")
    np.testing.assert_allclose(found[0, 0], wanted, atol=1e-10)
    np.testing.assert_allclose(pictures.zoomed(tensor(x), 1.0), x, atol=1e-12)


def test_clouds_fill_the_range_and_smoother_ones_differ_less_between_neighbours():
    like = torch.zeros(20, 3, 30, 40)
    roughness = []
    for decay in (1.5, 3.0):
        found = pictures.clouds(like, decay, torch.Generator().manual_seed(0))
        assert found.shape == (20, 1, 30, 40)
        assert 0 <= float(found.min()) < float(found.max()) <= 1
        roughness.append(float((found[..., 1:] - found[..., :-1]).abs().mean()))
    assert roughness[0] > 2 * roughness[1]
    again = pictures.clouds(like, 3.0, torch.Generator().manual_seed(0))
    assert torch.equal(found, again)


def test_grey_weighs_three_channels_and_averages_others():
    x = tensor(natural(8, 8))
    np.testing.assert_allclose(pictures.grey(x)[:, 0], 0.299 * x[:, 0] + 0.587 * x[:, 1] + 0.114 * x[:, 2])
    np.testing.assert_allclose(pictures.grey(x[:, :2])[:, 0], x[:, :2].mean(dim=1))
