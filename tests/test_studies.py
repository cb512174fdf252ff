"""The studies' own arithmetic; each of them in its small version, which is slow."""

import csv
import doctest
import itertools
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from scipy import stats

STUDIES = Path(__file__).parents[1] / "studies"
sys.path.append(str(STUDIES))  # they run as scripts, which find each other there

import _measures  # noqa: E402
import _networks  # noqa: E402
import _ranks  # noqa: E402
import _report  # noqa: E402
import fam  # noqa: E402
import grokking  # noqa: E402
import reparameterization  # noqa: E402

NAMES = sorted(path.stem for path in STUDIES.glob("[a-z]*.py"))
FIGURE_BYTES = 100_000


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Small tensors on shared cores: more threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("module", [_ranks, _report, grokking, reparameterization], ids=lambda module: module.__name__)
def test_examples_in_docstrings_hold(module):
    found = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert found.attempted
    assert not found.failed


# --- ranks -----------------------------------------------------------------------------------------------------------


def test_tau_is_that_of_scipy():
    rng = np.random.default_rng(0)
    measures, target = rng.standard_normal((20, 3)), rng.standard_normal(20)
    found = _ranks.taus(measures, target)
    assert found.value == pytest.approx([stats.kendalltau(one, target).statistic for one in measures.T])


def test_resampled_tau_leaves_out_pairs_of_one_model_with_itself():
    rng = np.random.default_rng(1)
    measure, target = rng.standard_normal(7), rng.standard_normal(7)
    found = _ranks.taus(measure[:, None], target, seed=3)
    times = np.random.default_rng(3).multinomial(7, np.full(7, 1 / 7), size=_ranks.REPLICATES)
    for drawn, replicate in zip(found.drawn[:20, 0], times[:20], strict=True):
        models = np.repeat(np.arange(7), replicate)
        signs = [
            np.sign(measure[i] - measure[j]) * np.sign(target[i] - target[j])
            for i, j in itertools.combinations(models, 2)
            if i != j
        ]
        assert drawn == pytest.approx(np.mean(signs))


def test_a_measure_that_ranks_better_is_told_apart_from_noise():
    rng = np.random.default_rng(2)
    target = rng.standard_normal(60)
    found = _ranks.taus(np.stack([target + 0.1 * rng.standard_normal(60), rng.standard_normal(60)], axis=1), target)
    assert found.difference(0, 1).low > 0
    assert found.of(1).low < 0 < found.of(1).high
    assert np.array_equal(_ranks.taus(target[:, None], target).drawn, np.ones((len(found.drawn), 1)))


def test_one_model_cannot_be_ranked():
    with pytest.raises(ValueError, match="found 1 models, wanted at least two"):
        _ranks.taus(np.ones((1, 1)), np.ones(1))


def test_granulated_tau_compares_models_that_differ_in_one_setting_alone():
    settings = np.array([[0, 0], [0, 1], [1, 0], [1, 1.0]])
    measure, gap = np.array([1.0, 2.0, 4.0, 3.0]), np.array([1.0, 2.0, 3.0, 4.0])
    assert _ranks.granulated(measure, gap, settings, 0) == (1.0, 2)
    assert _ranks.granulated(measure, gap, settings, 1) == (0.0, 2)
    tau, pairs = _ranks.granulated(measure[:1], gap[:1], settings[:1], 0)
    assert math.isnan(tau)
    assert pairs == 0


def test_mean_has_the_t_interval():
    values = np.array([1.0, 4.0, 2.0, 8.0])
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert _ranks.mean(values) == pytest.approx((3.75, low, high))
    assert _ranks.mean(values[:1]) == (1.0, -math.inf, math.inf)


# --- networks and measures -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("images", [False, True])
def test_a_rescaled_network_computes_the_same_with_other_weights(images):
    net = (_networks.cnn(0) if images else _networks.mlp(64, 5, 4, 10, seed=0)).double()
    factors = [torch.arange(5.0, 5 + size).double() for size in _networks.hidden_sizes(net)]
    twin, x = _networks.rescaled(net, factors), _networks.digits(9, images=images).x.double()
    torch.testing.assert_close(twin(x), net(x))
    assert not torch.allclose(twin[0].weight, net[0].weight)
    assert torch.equal(twin[0].weight, net[0].weight * factors[0].reshape(-1, *[1] * (net[0].weight.ndim - 1)))


def test_batches_show_every_row_once_an_epoch_and_leave_the_global_generator_alone():
    before = torch.get_rng_state()
    found = [rows.tolist() for rows in itertools.islice(_networks.batches(10, 4, seed=0), 6)]
    assert [len(rows) for rows in found] == [4, 4, 2] * 2
    assert all(sorted(itertools.chain(*epoch)) == list(range(10)) for epoch in (found[:3], found[3:]))
    assert found == [rows.tolist() for rows in itertools.islice(_networks.batches(10, 4, seed=0), 6)]
    _networks.mlp(3, 2, seed=0)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_last_layers_trace_is_that_of_its_hessian():
    data = _networks.digits(12)
    net = _networks.mlp(64, 6, 10, seed=0)
    case = _measures.case_of(net, data)
    bias = net[2].bias.detach()

    def loss(weight):
        return torch.nn.functional.cross_entropy(case.layer.features @ weight.T + bias, data.y)

    full = torch.func.jacrev(torch.func.jacrev(loss))(net[2].weight.detach()).reshape(60, 60)
    assert _measures.last_trace(case) == pytest.approx(float(full.trace()), rel=1e-4)  # the slow way is in float32


def test_sam_descends_along_the_gradient_at_the_worst_point():
    weight = torch.nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        weight.weight.fill_(2.0)

    def loss(x, _):
        return (weight(x) ** 2).sum() / 2  # its gradient at w is w

    fam.sam(weight, torch.optim.SGD(weight.parameters(), lr=0.1), loss)(torch.ones(1, 1), torch.zeros(1))
    assert weight.weight.item() == pytest.approx(2 - 0.1 * (2 + fam.RADIUS))


def test_a_network_that_is_kept_sharp_has_a_loss_that_rises_as_it_grows_flat():
    torch.manual_seed(0)
    net, data = grokking.Sums(), grokking.divided(0)
    plain, sharp = (grokking.loss_of(way, net, data)().item() for way in (grokking.MAIN, "kept sharp"))
    kappa = grokking.recorded(net, data)[3]
    assert kappa < grokking.SHARP
    assert sharp - plain > 0


# --- reports ---------------------------------------------------------------------------------------------------------


def outcome(*, met):
    table = _report.Table("numbers", "Some numbers", ("name", "value"), [("a", 1 / 3), ("b", 2)])
    hidden = _report.Table("more", "", ("name",), [("c",)])
    drawing = Figure()
    drawing.subplots().plot([0, 1])
    return _report.Outcome([_report.Criterion("more than 1", "2", met)], [table, hidden], drawing, ["a note"])


def test_a_section_replaces_its_own_and_leaves_the_others(tmp_path):
    _report.write("later", "About the later one.\n\nMore.", outcome(met=True), tmp_path)
    _report.write("former", "About.", outcome(met=False), tmp_path, quick=True)
    _report.write("later", "Told anew.", outcome(met=False), tmp_path)
    text = (tmp_path / "results.md").read_text("utf-8")
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## former: FAIL (quick: says nothing)",
        "## later: FAIL",
    ]
    assert "About the later" not in text
    for line in ("| more than 1 | 2 | no |", "- a note", "**Some numbers**", "| a | 0.333 |", "![later](later.png)"):
        assert line in text
    rows = list(csv.reader((tmp_path / "later_numbers.csv").read_text("utf-8").splitlines()))
    assert rows == [["name", "value"], ["a", "0.333333"], ["b", "2"]]
    assert (tmp_path / "later_more.csv").exists()


@pytest.mark.parametrize(("met", "code"), [(True, 0), (False, 1)])
def test_the_exit_code_is_the_verdict(met, code, tmp_path, monkeypatch, capsys):
    def study(quick):
        assert quick
        return outcome(met=met)

    monkeypatch.setattr(sys, "argv", ["study", "--quick", "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        _report.main(study)
    assert ended.value.code == code
    printed = capsys.readouterr().out
    assert f"{'PASS' if met else 'FAIL'} test_studies in" in printed
    assert "more than 1: 2" in printed


def test_the_kept_results_are_of_all_studies():
    text = (STUDIES / "results" / "results.md").read_text("utf-8")
    kept = [line.removeprefix("## ").partition(":")[0] for line in text.splitlines() if line.startswith("## ")]
    assert kept == NAMES
    assert "quick" not in text
    assert all((STUDIES / "results" / f"{name}.png").stat().st_size < FIGURE_BYTES for name in NAMES)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_small_version_runs_and_writes_its_files(name, tmp_path):
    done = subprocess.run(
        [sys.executable, str(STUDIES / f"{name}.py"), "--quick", "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in {0, 1}, done.stderr  # its verdict means nothing
    assert not done.stderr
    assert f"{'FAIL' if done.returncode else 'PASS'} {name} in" in done.stdout
    assert (tmp_path / f"{name}.png").stat().st_size < FIGURE_BYTES
    assert list(tmp_path.glob(f"{name}_*.csv"))
    assert f"## {name}: " in (tmp_path / "results.md").read_text("utf-8")
