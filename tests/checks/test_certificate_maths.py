"""Certificates of the last layer: no attack succeeds inside, the bound holds, and both equal a slow evaluation."""

import math
from decimal import Decimal, getcontext

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from assessor_checks.robustness import _certificate as certificate


def layer(seed, n, d, m, scale=1.0, wrong=False):
    """Random features, weight, bias and labels: the predicted classes, or any."""
    g = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64)  # noqa: E731
    phi, w, b = draw(n, m), scale * draw(d, m), scale * draw(d)
    labels = torch.randint(d, (n,), generator=g) if wrong else (phi @ w.T + b).argmax(1)
    return phi, w, b, labels


def losses(phi, w, b, labels):
    return torch.nn.functional.cross_entropy(phi @ w.T + b, labels, reduction="none")


def attacked(phi, w, b, labels, radius, steps=60):
    """Largest loss found in every row's ball: towards every class, at random, and by projected gradient ascent."""
    n, m = phi.shape
    found = losses(phi, w, b, labels)
    g = torch.Generator().manual_seed(1)
    ways = [w[s] - w[labels] for s in range(len(w))]
    ways += [torch.randn(n, m, generator=g, dtype=torch.float64) for _ in range(20)]
    starts = []
    for way in ways:
        length = way.norm(dim=1, keepdim=True).clamp_min(1e-300)
        starts.append(radius[:, None] * way / length)
        found = torch.maximum(found, losses(phi + starts[-1], w, b, labels))
    for start in (torch.zeros_like(phi), starts[0], starts[-1]):
        move = start
        for _ in range(steps):
            x = (phi + move).requires_grad_(True)
            (slope,) = torch.autograd.grad(losses(x, w, b, labels).sum(), x)
            move = move + 0.5 * radius[:, None] * slope / slope.norm(dim=1, keepdim=True).clamp_min(1e-300)
            move = move * (radius[:, None] / move.norm(dim=1, keepdim=True).clamp_min(1e-300)).clamp_max(1.0)
            found = torch.maximum(found, losses(phi + move, w, b, labels))
    return found


shapes = st.tuples(
    st.integers(0, 10_000), st.integers(1, 8), st.integers(2, 7), st.integers(1, 6), st.sampled_from((0.1, 1.0, 5.0))
)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(shapes)
def test_no_attack_succeeds_within_the_radii(case):
    phi, w, b, labels = layer(*case)
    terms = certificate.certify(phi, w, b, labels)
    flat = certificate.flatness_radius(terms)
    assert (flat <= terms.margin).all()
    assert (attacked(phi, w, b, labels, flat, steps=20) <= math.log(2))[flat > 0].all()
    for s in range(len(w)):  # towards each class, which is the strongest attack on the margin
        way = w[s] - w[labels]
        z = (phi + terms.margin[:, None] * way / way.norm(dim=1, keepdim=True).clamp_min(1e-300)) @ w.T + b
        # up to the rounding of the logits here: at the margin two are equal
        assert (z.gather(1, labels[:, None]) >= z - 1e-12 * (1 + z.abs().amax())).all()


@settings(max_examples=40, deadline=None)
@given(shapes, st.booleans(), st.sampled_from((1e-3, 0.1, 1.0, 10.0)))
def test_the_loss_never_exceeds_the_bound(case, wrong, radius):
    phi, w, b, labels = layer(*case, wrong=wrong)
    bound = certificate.loss_bound(certificate.certify(phi, w, b, labels), radius)
    found = attacked(phi, w, b, labels, torch.full((len(phi),), radius, dtype=torch.float64), steps=20)
    assert (found <= bound * (1 + 1e-12) + 1e-13).all()  # the attack's own rounding


def test_margin_is_exact():
    phi, w, b, labels = layer(3, 200, 4, 5)
    margin = certificate.certify(phi, w, b, labels).margin
    outside = margin * (1 + 1e-6)
    flipped = torch.zeros(200, dtype=torch.bool)
    for s in range(4):
        way = w[s] - w[labels]
        x = phi + outside[:, None] * way / way.norm(dim=1, keepdim=True).clamp_min(1e-300)
        flipped |= (x @ w.T + b).argmax(1) != labels
    assert flipped.all()


def slow(phi, w, b, label):
    """g, b, v and the loss of one row, with plain sums."""
    z = w @ phi + b
    p = np.exp(z - z.max())
    p /= p.sum()
    centre = sum(q * row for q, row in zip(p, w, strict=True))
    covariance = sum(q * np.outer(row - centre, row - centre) for q, row in zip(p, w, strict=True))
    return (
        -math.log(p[label]),
        np.linalg.norm(centre - w[label]),
        max(np.linalg.norm(row - centre) for row in w),
        np.linalg.eigvalsh(covariance)[-1],
    )


def slow_bound(terms, e):
    loss, slope, reach, variance = terms
    q = variance / (reach**2 + variance)
    return loss + e * slope + math.log((1 - q) * math.exp(-e * variance / reach) + q * math.exp(e * reach))


@pytest.mark.parametrize("shape", [(7, 30, 3, 4), (8, 30, 6, 2), (9, 30, 2, 3), (10, 20, 12, 12)])
def test_equals_a_slow_evaluation(shape):
    case = layer(*shape)
    terms = certificate.certify(*case)
    bounds, radii = certificate.loss_bound(terms, 0.3), certificate.flatness_radius(terms)
    phi, w, b, labels = (part.numpy() for part in case)
    for row in range(len(phi)):
        expected = slow(phi[row], w, b, labels[row])
        # 1e-9: the widening by 1e-12 and one square root of it at most
        assert [float(part[row]) for part in terms[:4]] == pytest.approx(expected, rel=1e-9, abs=1e-11)
        assert bounds[row].item() == pytest.approx(slow_bound(expected, 0.3), rel=1e-9)
        if expected[0] < math.log(2):
            root = brentq(
                lambda e, t=expected: slow_bound(t, e) - math.log(2), 0, 1.01 * terms.margin[row].item(), xtol=1e-14
            )
            assert radii[row].item() == pytest.approx(root, rel=1e-8)
            assert radii[row].item() <= root
        else:
            assert radii[row].item() == 0


def test_two_classes_lose_nothing():
    phi, w, b, labels = layer(5, 100, 2, 3)
    terms = certificate.certify(phi, w, b, labels)
    assert certificate.flatness_radius(terms).numpy() == pytest.approx(terms.margin.numpy(), rel=1e-8)
    gap = (phi @ w.T + b)[torch.arange(100), labels] - (phi @ w.T + b)[torch.arange(100), 1 - labels]
    worst = torch.nn.functional.softplus(-(gap - 0.2 * (w[0] - w[1]).norm()))  # the exact maximum over the ball
    assert certificate.loss_bound(terms, 0.2).numpy() == pytest.approx(worst.numpy(), rel=1e-9)


def test_one_output_equals_the_logits_zero_and_z():
    phi, w, b, _ = layer(6, 50, 1, 4)
    labels = ((phi @ w.T + b).squeeze(1) > 0).long()
    labels[::7] = 1 - labels[::7]
    one = certificate.certify(phi, w, b, labels)
    two = certificate.certify(phi, torch.cat([0 * w, w]), torch.cat([0 * b, b]), labels)
    for ours, theirs in zip(one, two, strict=True):
        assert torch.equal(ours, theirs)
    signed = torch.where(labels == 1, 1.0, -1.0) * (phi @ w.T + b).squeeze(1)
    assert one.margin.numpy() == pytest.approx((signed / w.norm()).clamp_min(0).numpy(), rel=1e-9)


def test_almost_certain_rows_keep_their_digits():
    # p_y = 1 - 1e-12 of three classes with weights (1, 0), (0, 1), (0, 0) and bias; 40-digit decimals as the oracle
    getcontext().prec = 40
    gap = 12 * math.log(10)
    w = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]], dtype=torch.float64)
    b = torch.tensor([gap, 0.0, -1.0], dtype=torch.float64)
    terms = certificate.certify(torch.zeros(1, 2), w, b, torch.tensor([0]))
    e = [(Decimal(float(value)) - Decimal(float(gap))).exp() for value in b]
    p = [value / sum(e) for value in e]
    assert 1 - float(p[0]) == pytest.approx(1.4e-12, rel=0.1)
    centre = (p[0], p[1])
    away = (centre[0] - 1, centre[1])
    second = p[1] * 2 + p[2] * 1
    trace = float(second - away[0] ** 2 - away[1] ** 2)
    # Cov = [[p0(1-p0), -p0 p1], [-p0 p1, p1(1-p1)]]: its larger eigenvalue in decimals
    a, c, off = p[0] * (1 - p[0]), p[1] * (1 - p[1]), -p[0] * p[1]
    top = (a + c) / 2 + (((a - c) / 2) ** 2 + off**2).sqrt()
    assert float(top) < trace
    # the widening is 1e-12 of the largest terms: 1e-6 relative where a square root is taken
    assert terms.slope.item() == pytest.approx(float((away[0] ** 2 + away[1] ** 2).sqrt()), rel=1e-6)
    assert terms.variance.item() == pytest.approx(float(top), rel=1e-6)
    assert terms.loss.item() == pytest.approx(-float(p[0].ln()), rel=1e-2)
    assert terms.margin.item() == pytest.approx(gap / math.sqrt(2), rel=1e-9)
    flat = certificate.flatness_radius(terms).item()
    assert 0.8 * terms.margin.item() < flat < terms.margin.item()


def test_wrong_and_unsure_rows():
    # Three classes at almost equal logits: right, but with less than half of the probability.
    w = torch.tensor([[1.0], [0.0], [-1.0]])
    terms = certificate.certify(torch.tensor([[0.1], [0.1]]), w, None, torch.tensor([0, 1]))
    assert certificate.flatness_radius(terms).tolist() == [0, 0]
    assert terms.margin.tolist() == pytest.approx([0.1, 0])
    assert torch.equal(certificate.loss_bound(terms, 0.0), terms.loss)


def test_equal_weights_never_change_the_class():
    terms = certificate.certify(torch.ones(2, 3), torch.ones(2, 3), torch.tensor([1.0, 0.0]), torch.tensor([0, 1]))
    assert terms.margin.tolist() == [math.inf, 0]
    assert certificate.flatness_radius(terms).tolist() == [math.inf, 0]
    assert certificate.loss_bound(terms, 1e6).tolist() == terms.loss.tolist()


def test_two_equal_classes_among_three():
    w = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    terms = certificate.certify(torch.tensor([[3.0, 0.0]]), w, torch.tensor([5.0, 0.0, 0.0]), torch.tensor([0]))
    assert terms.margin.item() == pytest.approx(8 / math.sqrt(2))
    assert 0 < certificate.flatness_radius(terms).item() <= terms.margin.item()


def test_many_classes_use_the_trace_and_stay_sound():
    phi, w, b, labels = layer(11, 30, 40, 5, scale=3)
    terms = certificate.certify(phi, w, b, labels)
    flat = certificate.flatness_radius(terms)
    assert (flat > 0).any()
    assert (attacked(phi, w, b, labels, flat, steps=20) <= math.log(2))[flat > 0].all()
    p = (phi @ w.T + b).softmax(1)
    centre = p @ w
    trace = (p * (w[None] - centre[:, None]).square().sum(2)).sum(1)
    assert terms.variance.numpy() == pytest.approx(trace.numpy(), rel=1e-9)


def test_bound_grows_and_rows_are_independent():
    case = layer(12, 25, 5, 4, wrong=True)
    terms = certificate.certify(*case)
    values = torch.stack([certificate.loss_bound(terms, e) for e in np.geomspace(1e-6, 1e6, 40)])
    assert (values.diff(dim=0) >= 0).all()
    assert values.isfinite().all()
    single = certificate.certify(case[0][3:4], *case[1:3], case[3][3:4])
    for one, all_of_them in zip(single, terms, strict=True):
        assert one.item() == pytest.approx(all_of_them[3].item(), rel=1e-12)


def test_rescaling_the_layer_scales_the_radii():
    phi, w, b, labels = layer(13, 40, 4, 3)
    terms, scaled = certificate.certify(phi, w, b, labels), certificate.certify(8 * phi, w / 8, b, labels)
    assert scaled.margin.numpy() == pytest.approx(8 * terms.margin.numpy(), rel=1e-9)
    ours, theirs = certificate.flatness_radius(terms), certificate.flatness_radius(scaled)
    assert theirs.numpy() == pytest.approx(8 * ours.numpy(), rel=1e-9)


def test_rounding_of_large_features_only_shrinks_the_radius():
    # The logit difference 1e-6 is lost in float64 rounding of logits around 1e12: nothing may be certified.
    w = torch.tensor([[1e6, 1e6], [1e6, 1e6 - 1e-6]], dtype=torch.float64)
    terms = certificate.certify(torch.tensor([[1e6, 1.0]], dtype=torch.float64), w, None, torch.tensor([0]))
    assert terms.margin.item() == 0


def test_float32_features_are_taken_exactly():
    phi, w, b, labels = (part.float() if part.is_floating_point() else part for part in layer(14, 20, 3, 4))
    single = certificate.certify(phi, w, b, labels)
    double = certificate.certify(phi.double(), w.double(), b.double(), labels)
    for ours, theirs in zip(single, double, strict=True):
        assert torch.equal(ours, theirs)


def test_median_interval():
    assert certificate.median(np.arange(5.0)) is None
    assert certificate.median(np.arange(6.0)) == (2.5, 0.0, 5.0)
    assert certificate.median(np.array([])) is None
    assert certificate.median(np.array([1.0] * 9 + [math.inf])) == (1.0, 1.0, 1.0)
    draws = np.random.default_rng(0).exponential(size=(4000, 25))
    hits = [found.low <= math.log(2) <= found.high for found in map(certificate.median, draws)]
    assert np.mean(hits) > 0.95 - 4 * math.sqrt(0.05 * 0.95 / 4000)  # 4 standard errors


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_cpu():
    case = layer(15, 100, 6, 8)
    here, there = certificate.certify(*case), certificate.certify(*(part.cuda() for part in case))
    for one, other in zip(here, there, strict=True):
        assert other.cpu().numpy() == pytest.approx(one.numpy(), rel=1e-9)
    flat = certificate.flatness_radius(there).cpu().numpy()
    assert flat == pytest.approx(certificate.flatness_radius(here).numpy(), rel=1e-8)
