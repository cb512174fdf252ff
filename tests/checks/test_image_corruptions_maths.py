"""The fifteen corruptions: their moments where these are known, their order, their invariants."""

import matplotlib.colors
import numpy as np
import pytest
import torch

from assessor_checks.robustness import _image_corruptions as images


def flat(value, side=224, n=4, channels=3):
    return torch.full((n, channels, side, side), value)


def photos(side=32, n=8, channels=3, seed=0):
    """Smooth blobs with edges, in [0, 1]."""
    rng = torch.Generator().manual_seed(seed)
    x = torch.rand((n, channels, side // 4, side // 4), generator=rng)
    return torch.nn.functional.interpolate(x, size=(side, side), mode="bilinear")


def test_every_size_and_corruption_has_five_levels():
    assert len(images.CORRUPTIONS) == 15
    for levels in images.LEVELS.values():
        assert levels.keys() == images.CORRUPTIONS.keys()
        assert {len(level) for level in levels.values()} == {5}


@pytest.mark.parametrize("severity", [1, 5])
def test_noise_has_the_published_moments(severity):
    at = severity - 1
    entries = flat(0.5).numel()
    gauss = images.corrupted(flat(0.5), "gaussian_noise", severity, [0])
    inside = (gauss > 0) & (gauss < 1)
    deviation = images.LEVELS[224]["gaussian_noise"][at]
    from scipy.special import ndtr  # of the noise that is not clipped

    assert float(inside.double().mean()) == pytest.approx(1 - 2 * ndtr(-0.5 / deviation), abs=5 / entries**0.5)
    if severity == 1:
        assert float(gauss.std()) == pytest.approx(deviation, rel=0.01)
    rate = images.LEVELS[224]["shot_noise"][at]
    shot = images.corrupted(flat(0.2), "shot_noise", severity, [0])
    assert float(shot.mean()) == pytest.approx(0.2, abs=5 * (0.2 / rate / entries) ** 0.5 + (0.001 if at else 0))
    assert float((shot * rate - (shot * rate).round()).abs().max()) < 1e-3  # counts of photons
    amount = images.LEVELS[224]["impulse_noise"][at]
    impulse = images.corrupted(flat(0.5), "impulse_noise", severity, [0])
    for extreme in (0.0, 1.0):
        share = float((impulse == extreme).double().mean())
        assert share == pytest.approx(amount / 2, abs=5 * (amount / 2 / entries) ** 0.5)
    assert float((impulse == 0.5).double().mean()) == pytest.approx(1 - amount, abs=0.01)


def test_brightness_is_that_of_hue_saturation_value():
    x = photos(224, 2)
    x[0, :, 0, 0] = 0  # black has no hue; it turns grey
    hsv = matplotlib.colors.rgb_to_hsv(x.permute(0, 2, 3, 1).numpy())
    hsv[..., 2] = np.clip(hsv[..., 2] + 0.3, 0, 1)
    wanted = matplotlib.colors.hsv_to_rgb(hsv).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(images.corrupted(x, "brightness", 3, [0]), wanted, atol=1e-5)


def test_contrast_and_fog_by_formula():
    x = photos(32)
    mean = x.mean(dim=(2, 3), keepdim=True)
    np.testing.assert_allclose(images.corrupted(x, "contrast", 5, [0]), mean + 0.15 * (x - mean), atol=1e-6)
    fog = images.corrupted(x, "fog", 1, [0])
    most = x.amax(dim=(1, 2, 3), keepdim=True)
    cloud = (fog * (most + 0.2) / most - x) / 0.2
    assert -1e-5 < float(cloud.min()) < 0.2
    assert 0.8 < float(cloud.max()) < 1 + 1e-5
    assert float((cloud - cloud[:, :1]).abs().max()) < 1e-4  # the same cloud over all channels


@pytest.mark.parametrize("name", sorted(images.CORRUPTIONS))
@pytest.mark.parametrize(("side", "channels"), [(8, 1), (33, 3), (70, 4)])
def test_stays_in_range_is_repeatable_and_touches_every_picture_by_itself(name, side, channels):
    x = photos(4 * (side // 4) + 4, 4, channels)[..., :side, :side].contiguous()
    before = x.clone()
    weak, strong = (images.corrupted(x, name, severity, [7, severity]) for severity in (1, 5))
    assert torch.equal(x, before)
    for found in (weak, strong):
        assert found.shape == x.shape
        assert found.dtype == x.dtype
        assert bool(((found >= 0) & (found <= 1)).all())
    assert torch.equal(strong, images.corrupted(x, name, 5, [7, 5]))
    random = name not in {
        "defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression",
    }  # fmt: skip
    assert torch.equal(strong, images.corrupted(x, name, 5, [8, 5])) is not random
    assert float((strong - x).abs().mean()) > 1e-3


def test_pictures_of_another_size_are_changed_as_much_in_proportion():
    small, large = photos(32, 6), torch.nn.functional.interpolate(photos(32, 6), scale_factor=1.25, mode="bilinear")
    for name in ("defocus_blur", "motion_blur", "zoom_blur", "elastic_transform"):
        ours = float((images.corrupted(small, name, 4, [0]) - small).abs().mean())
        theirs = float((images.corrupted(large, name, 4, [0]) - large).abs().mean())
        assert theirs == pytest.approx(ours, rel=0.35), name


def test_glass_blur_of_short_lengths_swaps_rarely():
    x = torch.rand((4, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    found = images.corrupted(x, "glass_blur", 2, [0])  # swaps over a pixel of 32, so a quarter of one here
    moved = (found - x).abs() > 1e-3
    assert 0.1 < float(moved.double().mean()) < 0.7


def test_wide_pictures():
    x = photos(64, 2)[..., :40]
    for name in images.CORRUPTIONS:
        assert images.corrupted(x, name, 3, [0]).shape == x.shape


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_cuda():
    x = photos(64).cuda()
    for name in images.CORRUPTIONS:
        found = images.corrupted(x, name, 3, [0])
        assert found.device.type == "cuda"
        assert torch.equal(found, images.corrupted(x, name, 3, [0]))
