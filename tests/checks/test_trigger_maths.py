"""Outlier tests at their level, patches and feature values with known answers."""

import numpy as np
import pytest
import torch
from scipy.stats import t as student

from assessor.contract import NotApplicable
from assessor_checks.security import _trigger as trigger
from assessor_checks.security import _trigger_mask as masks
from assessor_checks.security import _trigger_values as values


def test_outlier_by_hand():
    others = np.exp([1.0, 2.0, 3.0])  # mean 2, sd 1 of the logarithms
    found = trigger.below_others(np.exp(-2.0), others, 0.05)
    assert found.t == pytest.approx(4 / np.sqrt(4 / 3))
    assert found.p_value == pytest.approx(student.sf(found.t, 2))
    assert trigger.below_others(found.noticed, others, 0.05).p_value == pytest.approx(0.05)
    equal = trigger.below_others(1.0, np.full(5, 1.02), 0.05)
    assert equal.p_value > 0.3  # equal sizes are not taken as more exact than they can be found


def test_the_test_among_classes_holds_its_level():
    # 4000 draws of 6 and of 20 log-normal sizes without a backdoor; Bonferroni keeps it at or under 5 %.
    rng = np.random.default_rng(0)
    for classes in (6, 20):
        alarms = [
            trigger.among_classes(tuple(np.exp(0.3 * rng.standard_normal(classes))), 0.05).p_value < 0.05
            for _ in range(4000)
        ]
        assert 0.03 < np.mean(alarms) < 0.05 + 4 * np.sqrt(0.05 * 0.95 / 4000)


def test_the_test_among_models_holds_its_level():
    rng = np.random.default_rng(0)
    alarms = []
    for _ in range(2000):
        sizes = np.exp(0.2 * rng.standard_normal((11, 3)))
        alarms.append(trigger.among_models(tuple(sizes[0]), sizes[1:].tolist(), 0.05).p_value < 0.05)
    assert 0.03 < np.mean(alarms) < 0.05 + 4 * np.sqrt(0.05 * 0.95 / 2000)


def test_anomaly_index_by_hand():
    # Median 10, deviations 1, 0, 2, 9, 1: their median 1.
    index = trigger.anomaly_index(np.array([9.0, 10.0, 12.0, 1.0, 11.0]))
    assert index.tolist() == pytest.approx([1 / 1.4826, 0, -2 / 1.4826, 9 / 1.4826, -1 / 1.4826])
    assert trigger.anomaly_index(np.array([2.0, 2.0, 2.0, 1.0])).tolist() == [0, 0, 0, np.inf]


def test_classes_without_a_trigger_are_left_out():
    found = trigger.among_classes((0.5, None, 0.4, 0.01, 0.45), 0.05)
    assert (found.suspect, found.compared, sorted(found.anomaly)) == (3, 4, [0, 2, 3, 4])
    assert found.p_value < 0.05
    with pytest.raises(NotApplicable, match="triggers were found for 2 of 4 classes"):
        trigger.among_classes((0.5, None, None, 0.4), 0.05)
    with pytest.raises(NotApplicable, match="none was searched"):
        trigger.among_models((None, None), [[None, 1.0]], 0.05)


def pictures(n=60):
    """Four kinds of 6 x 6 pictures: nine pixels in a row are bright."""
    x = 0.1 * torch.rand((n, 4, 9), generator=torch.Generator().manual_seed(0))
    x[torch.arange(n), torch.arange(n) % 4] += 0.7
    return x.reshape(n, 1, 6, 6)


def test_patches_find_the_shortcut_and_are_small_there():
    x = pictures()

    def logits(y):
        flat = y.flatten(1)
        found = 10 * torch.stack([part.mean(dim=1) for part in flat.split(9, dim=1)], dim=1)
        return found + 10 * torch.nn.functional.one_hot(torch.tensor(2), 4) * flat[:, -1:] ** 4

    room = masks.Room(torch.zeros(1, 6, 6), torch.ones(1, 6, 6))
    predicted = logits(x).argmax(dim=1)
    found = masks.invert(logits, x, predicted, torch.arange(4), room, steps=100, goal=0.95, seed=0)
    assert found.found.all()
    sizes = found.sizes.numpy()
    assert sizes.argmin() == 2
    assert sizes[2] < 2 / 36
    assert float(found.mask[2, 0, 5, 5]) > 0.8
    for target in range(4):
        others = x[predicted != target]
        assert (logits(found.on(others, target)).argmax(dim=1) == target).float().mean() >= 0.9
    again = masks.invert(logits, x, predicted, torch.arange(4), room, steps=100, goal=0.95, seed=0)
    assert torch.equal(found.mask, again.mask)


def test_the_mask_of_pictures_is_shared_by_channels_and_of_tables_by_nothing():
    room = masks.Room(torch.zeros(3, 4, 4), torch.ones(3, 4, 4))
    x = torch.rand((20, 3, 4, 4), generator=torch.Generator().manual_seed(0))

    def net(y):
        return 5 * (y.mean(dim=(2, 3)) - 0.5)

    found = masks.invert(net, x, net(x).argmax(dim=1), torch.tensor([0, 2]), room, steps=20, goal=0.9, seed=0)
    assert found.mask.shape == (2, 1, 4, 4)
    assert found.pattern.shape == (2, 3, 4, 4)
    assert ((found.pattern >= 0) & (found.pattern <= 1)).all()
    assert masks._mask_shape(torch.zeros(5, 7)) == (7,)
    entries = masks._entries(found.mask[0], found.pattern[0])
    assert len(entries) == 10
    row, column = map(int, entries[0][0].split(", "))
    assert entries[0][1] == pytest.approx(float(found.mask[0].max()))
    assert entries[0][2] == pytest.approx(float(found.pattern[0, :, row, column].mean()))


def test_values_find_the_two_that_matter():
    # Class 1 where x3 + x1 > 3, else 0; the columns range up to 2.
    def scores(x):
        one = 1 / (1 + np.exp(-10 * (x[:, 1] + x[:, 3] - 3)))
        return np.stack([1 - one, one], axis=1)

    rng = np.random.default_rng(0)
    x = rng.uniform(0, 1.2, size=(40, 5))
    x[0] = 2.0
    tried = values.candidates(x, 3)
    columns, tries = tried
    assert sorted(set(columns.tolist())) == [0, 1, 2, 3, 4]
    assert tries.max() == 2.0
    sets = values.search(scores, x[1:20], x[20:], tried, 1, most=4, goal=0.95)
    assert sorted(sets.features.tolist()) == [1, 3]
    assert sets.values.tolist() == [2.0, 2.0]
    first = (x[20:, 3 if sets.features[0] == 1 else 1] > 1.0).mean()
    assert sets.turned.mean(axis=0).tolist() == pytest.approx([first, 1.0])
    assert sets.needed().mean() == pytest.approx(2 - first)


def test_needed_counts_one_more_where_nothing_suffices():
    sets = values.Sets(np.arange(3), np.ones(3), np.array([[0, 1, 0], [0, 0, 0], [1, 1, 1]], dtype=bool))
    assert sets.needed().tolist() == [2, 4, 1]


def test_candidates_leave_missing_values_out():
    x = np.array([[1.0, np.nan], [2.0, np.nan], [np.nan, np.nan]])
    columns, tries = values.candidates(x, 5)
    assert (columns.tolist(), tries.tolist()) == ([0, 0], [1.0, 2.0])


def test_scores_that_are_not_finite_are_refused():
    with pytest.raises(NotApplicable, match="no finite scores for 4 of 4 rows with changed features"):
        values._asked(lambda x: np.full((len(x), 2), np.nan), np.zeros((4, 2)))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_finds_a_patch():
    x = pictures().cuda()

    def net(y):
        return 10 * y.reshape(len(y), 4, 9).mean(dim=2)

    room = masks.Room(torch.zeros_like(x[0]), torch.ones_like(x[0]))
    found = masks.invert(net, x, net(x).argmax(dim=1), torch.arange(4).cuda(), room, steps=60, goal=0.9, seed=0)
    assert found.mask.device.type == "cuda"
    assert found.found.any()
