"""robustness.corruption_accuracy on pictures and tables: models that bear one by construction, and twins."""

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from pydantic import ValidationError
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

from assessor.contract import Better, Lent, NotApplicable, Split, Task, lending
from assessor.subjects.predictions import PredictionsSubject
from assessor.subjects.sklearn_estimator import SklearnSubject
from assessor.subjects.torch_module import TorchSubject
from assessor_checks._intervals import clopper_pearson
from assessor_checks.robustness import _image_corruptions as images
from assessor_checks.robustness import _table_corruptions as tables
from assessor_checks.robustness.corruption_accuracy import CHECK, CorruptionParams

matplotlib.use("Agg")


def split(name, x, y, names=()):
    return Split(name=name, labels=np.asarray(y, np.int64), sha256=name, features=x, feature_names=names)


class ByMean(torch.nn.Module):
    """Bright or dark: the mean of the picture against a threshold."""

    def forward(self, x):
        return 40 * (x.flatten(1).mean(dim=1) - 0.5)


class ByPixel(torch.nn.Module):
    """Bright or dark by one pixel in the middle."""

    def forward(self, x):
        return 40 * (x[..., x.shape[-2] // 2, x.shape[-1] // 2].flatten(1).mean(dim=1) - 0.5)


def pictures(n=60, side=16, seed=0):
    """Noisy pictures, half of them around 0.25 and half around 0.75; the middle says the same."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    x = 0.25 + 0.5 * y[:, None, None, None] + 0.05 * rng.standard_normal((n, 1, side, side))
    return x.clip(0, 1).astype(np.float32), y


def of_module(module, x, y):
    return TorchSubject(module, Task.BINARY, ("dark", "bright"), {"test": split("test", x, y)})


def run(found, seed=0, **params):
    return CHECK.measure(found, CorruptionParams(**params), seed)


def table(n=200, seed=0):
    """Two columns that each say the class, a third of two values, a fourth without meaning."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    x = np.stack([10 + 4 * y, 5 - 2 * y, rng.integers(0, 2, n), rng.standard_normal(n)], axis=1)
    return x + np.array([0.3, 0.3, 0, 0]) * rng.standard_normal((n, 4)), y


NAMES = ("height", "weight", "member", "noise")


def of_estimator(model, x, y, train=None, task=Task.BINARY, names=NAMES):
    splits = {"test": split("test", x, y, names)}
    if train is not None:
        splits["train"] = split("train", *train, names)
    return SklearnSubject(model, task, ("0", "1"), splits)


def test_pictures_tell_everything():
    x, y = pictures()
    result = run(of_module(ByMean(), x, y), severities=(5, 1), max_samples=40)
    names = [metric.name for metric in result.metrics]
    assert names[:5] == [
        "corruption_accuracy",
        "worst_corruption_accuracy",
        "clean_accuracy",
        "accuracy_drop",
        "relative_drop",
    ]
    assert names[5:] == [f"{name}_accuracy" for name in images.CORRUPTIONS]
    assert [metric.name for metric in result.metrics if metric.primary] == ["corruption_accuracy"]
    assert {metric.better for metric in result.metrics[3:5]} == {Better.LOWER}
    assert all(metric.low <= metric.value <= metric.high for metric in result.metrics)
    assert result.remarks == (
        "Each row is taken as a picture: channels 1, pixels 16 x 16.",
        "Levels are those published for pictures of 32 x 32 pixels; lengths go with the shorter side.",
        "Frost is computed, since the photographs of the original are not at hand.",
        "On pictures this small blurs reach over less than a pixel and do little.",
        "40 of 60 test rows, 1240 answers asked.",
    )
    (corruptions,) = result.tables
    assert corruptions.columns == ("corruption", "severity 1", "severity 5", "mean", "low", "high")
    cells = np.array([row[1:3] for row in corruptions.rows])
    assert result.metric("corruption_accuracy").value == pytest.approx(cells.mean())
    worst = result.metric("worst_corruption_accuracy")
    assert worst.value == cells.min()
    assert worst.low == clopper_pearson(round(40 * cells.min()), 40).low
    assert worst.high == clopper_pearson(round(40 * cells.min()), 40, 1 - 0.05 / 30).high
    curve = result.series[0].columns
    assert curve["severity"] == (0.0, 1.0, 5.0)
    assert curve["accuracy"][1:] == pytest.approx(tuple(cells.mean(axis=0)))
    assert result.metric("accuracy_drop").value == pytest.approx(1 - cells.mean())


def test_planted_defect_and_clean_twin():
    """A model that looks at one pixel falls to impulse noise and swaps; one that looks at the mean does not."""
    x, y = pictures(120)
    clean, weak = (
        run(of_module(module, x, y), corruptions=("impulse_noise", "gaussian_noise"), severities=(5,))
        for module in (ByMean(), ByPixel())
    )
    assert clean.metric("corruption_accuracy").value == 1
    assert clean.metric("corruption_accuracy").low == pytest.approx(0.025 ** (1 / 120))
    assert weak.metric("clean_accuracy").value == 1
    # Impulse noise at severity 5 hits the pixel in 7 % of pictures, half of them on the wrong side.
    assert 0.9 < weak.metric("impulse_noise_accuracy").value < 1
    dark = run(of_module(ByMean(), x, y), corruptions=("brightness",), severities=(5,))
    assert dark.metric("brightness_accuracy").value == pytest.approx(0.5)  # 0.25 + 0.3 is bright
    assert dark.metric("accuracy_drop").low > 0.4
    assert dark.metric("relative_drop").value == pytest.approx(0.5)


def test_ranges_and_layouts_are_read_alike():
    x, y = pictures(40)
    wanted = run(of_module(ByMean(), x, y), corruptions=("fog",)).metrics
    scaled = 255 * x

    class Scaled(ByMean):
        def forward(self, pictures):
            return super().forward(pictures / 255)

    found = run(of_module(Scaled(), scaled, y), corruptions=("fog",), value_range=(0, 255)).metrics
    assert [m.value for m in found] == pytest.approx([m.value for m in wanted])
    last = run(of_module(ByMean(), x.transpose(0, 2, 3, 1), y), corruptions=("fog",)).metrics
    assert [m.value for m in last] == [m.value for m in wanted]
    plain = run(of_module(ByMean(), x[:, 0], y), corruptions=("fog",)).metrics
    assert [m.value for m in plain] == [m.value for m in wanted]
    flat = run(of_module(ByMean(), x.reshape(40, -1), y), corruptions=("fog",), image_shape=(1, 16, 16)).metrics
    assert [m.value for m in flat] == [m.value for m in wanted]
    table = run(of_module(ByMean(), x.reshape(40, -1), y), corruptions=("outliers",))
    assert "The rows are taken as a table; where they hold pictures, set image_shape." in table.remarks


def test_channels_last_go_back_to_their_places():
    seen = []

    class Watching(ByMean):
        def forward(self, pictures):
            seen.append(pictures.clone())
            return super().forward(pictures)

    x = np.random.default_rng(0).random((6, 9, 12, 3)).astype(np.float32)
    run(of_module(Watching(), x, np.arange(6) % 2), corruptions=("contrast",), severities=(1,))
    mean = x.mean(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(seen[-1], mean + 0.75 * (x - mean), atol=1e-6)


def test_tables_tell_everything():
    x, y = table()
    model = LogisticRegression().fit(x, y)
    result = run(of_estimator(model, x, y, train=table(seed=1)))
    assert {row[0] for row in result.tables[0].rows} == set(tables.CORRUPTIONS)
    means = [row[-3] for row in result.tables[0].rows]
    assert means == sorted(means)
    assert result.remarks == (
        "Columns are described by their median and standard deviation over the train split.",
        "3 of 4 columns take more than two values and count as measured quantities; the others can only be missing, "
        "swapped or stuck.",
        "200 of 200 test rows, 8200 answers asked.",
    )
    thousand = result.metric("unit_thousand_accuracy")
    assert thousand.high < result.metric("clean_accuracy").low
    assert result.metric("worst_corruption_accuracy").value <= thousand.value


def test_a_model_that_needs_no_column_loses_nothing():
    x, y = table()
    result = run(of_estimator(DummyClassifier().fit(x, 0 * y), x, 0 * y))
    assert {metric.value for metric in result.metrics if metric.better is Better.HIGHER} == {1.0}
    drop = result.metric("accuracy_drop")
    assert (drop.value, drop.low, drop.high) == (0, -clopper_pearson(0, 200).high, clopper_pearson(0, 200).high)
    assert result.metric("relative_drop").value == 0


def test_a_model_that_is_never_right():
    x, y = table(40)
    result = run(of_estimator(DummyClassifier().fit(x, 0 * y), x, 0 * y + 1))
    assert result.metric("corruption_accuracy").value == 0
    assert result.metric("corruption_accuracy").high == clopper_pearson(0, 40).high
    assert "relative_drop" not in {metric.name for metric in result.metrics}


def test_missing_values_as_the_model_takes_them():
    x, y = table()
    boosted = of_estimator(HistGradientBoostingClassifier(max_iter=10).fit(x, y), x, y)
    assert run(boosted, corruptions=("missing",), missing="nan").metrics[0].value > 0.5
    with pytest.raises(
        NotApplicable, match=r"takes no missing values \(Input X contains NaN.\); set missing to median"
    ):
        run(of_estimator(LogisticRegression().fit(x, y), x, y), corruptions=("missing",), missing="nan")


def test_held_columns_and_those_of_too_few():
    x, y = table()
    model = LogisticRegression().fit(x, y)
    result = run(of_estimator(model, x, y), frozen=("height", "weight", "noise"))
    assert result.metrics[0].value == result.metric("clean_accuracy").value  # the member column says nothing
    assert "Held fixed as asked: height, weight, noise." in result.remarks
    assert [row[0] for row in result.tables[0].rows] == ["missing", "stuck_sensor"]
    left = [remark for remark in result.remarks if remark.startswith("Left out")]
    assert left == [
        "Left out, since too few columns are of that kind: outliers, rounding, sign_error, swapped_columns, "
        "unit_inch, unit_thousand."
    ]


def test_same_seed_same_bytes_and_kept_parts():
    x, y = pictures(20)
    found = of_module(ByPixel(), x, y)
    chosen = {"corruptions": ("impulse_noise", "snow"), "severities": (3, 5)}
    first = run(found, 3, **chosen).model_dump_json()
    assert first == run(found, 3, **chosen).model_dump_json()
    store, told = {}, []
    lent = Lent(
        lambda *what: told.append(what), lambda key: store.get(repr(key)), lambda k, v: store.update({repr(k): v})
    )
    with lending(lent):
        assert run(found, 3, **chosen).model_dump_json() == first
        assert len(store) == 4
        assert run(found, 3, **chosen).model_dump_json() == first
    assert told[0] == ("impulse_noise 3", 0, 4)


def test_one_row():
    x, y = pictures(1)
    result = run(of_module(ByMean(), x, y), corruptions=("fog",), severities=(1,))
    assert result.metric("clean_accuracy").low == pytest.approx(0.025)
    assert all(metric.low <= metric.value <= metric.high for metric in result.metrics if metric.low is not None)


def test_refused():
    x, y = pictures(10)
    module = ByMean()
    with pytest.raises(NotApplicable, match=r"hold values from 22.98 to 226.4, wanted 0 to 1; set value_range"):
        run(of_module(module, 255 * x, y))
    with pytest.raises(NotApplicable, match="make that the first step of the model"):
        run(of_module(module, (x - 0.5) / 0.2, y))
    with pytest.raises(ValueError, match="found 1 to 0, wanted the least value, then the greatest"):
        run(of_module(module, x, y), value_range=(1, 0))
    with pytest.raises(NotApplicable, match="corruptions: no 'fogg' for this kind of input; did you mean 'fog'"):
        run(of_module(module, x, y), corruptions=("fogg",))
    with pytest.raises(NotApplicable, match="no 'missing' for this kind of input; wanted some of gaussian_noise"):
        run(of_module(module, x, y), corruptions=("missing",))
    with pytest.raises(NotApplicable, match="7 x 16 pixels are too small"):
        run(of_module(module, x[:, :, :7], y))
    with pytest.raises(NotApplicable, match="neither pictures nor rows"):
        run(of_module(module, x[:, None], y))
    with pytest.raises(NotApplicable, match=r"image_shape \(1, 9, 9\) does not go with inputs of shape \(256,\)"):
        run(of_module(module, x.reshape(10, -1), y), image_shape=(1, 9, 9))
    with pytest.raises(NotApplicable, match="inputs are pictures without columns"):
        run(of_module(module, x, y), frozen=("#0",))
    broken = x.copy()
    broken[3, 0, 0, 0] = np.nan
    with pytest.raises(NotApplicable, match="1 of 10 test rows hold values that are missing or infinite"):
        run(of_module(module, broken, y))
    rows, labels = table(20)
    model = LogisticRegression().fit(rows, labels)
    with pytest.raises(NotApplicable, match="no column is left for: unit_inch"):
        run(of_estimator(model, rows, labels), frozen=("height", "weight", "noise"), corruptions=("unit_inch",))
    with pytest.raises(NotApplicable, match="no feature 'heigt'; did you mean 'height'"):
        run(of_estimator(model, rows, labels), frozen=("heigt",))
    rows[0, 0] = np.inf
    with pytest.raises(NotApplicable, match="infinite"):
        run(of_estimator(model, rows, labels))
    with pytest.raises(NotApplicable, match="no rows"):
        run(of_estimator(model, rows[:0], labels[:0]))
    stored = PredictionsSubject(Task.BINARY, ("0", "1"), {"test": split("test", None, [0])}, {"test": np.zeros(1)}, {})
    with pytest.raises(NotApplicable, match="no features"):
        run(stored)
    for wrong in ({"severities": ()}, {"severities": (6,)}, {"max_samples": 0}, {"image_shape": (1, -8, -8)}):
        with pytest.raises(ValidationError):
            CorruptionParams(**wrong)


def test_plot_draws():
    x, y = pictures(10)
    axes = Figure().add_subplot()
    CHECK.plot(run(of_module(ByMean(), x, y), corruptions=("fog", "snow")), axes)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("severity (0: as they are)", "accuracy")
