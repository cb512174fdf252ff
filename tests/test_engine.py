"""Running a check: whatever it does ends as an outcome with its reason, and can be made again."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from assessor.canonical import canonical_json
from assessor.contract import (
    Check,
    Need,
    NotApplicable,
    Result,
    Split,
    Subject,
    Task,
    collecting,
    in_batches,
    remark,
)
from assessor.engine import REASONS, Job, fixed_randomness, is_same, key_of, rejudge, run_job, scope_of, subject_record
from assessor.model import CheckRun, JudgedTarget, Status, SubjectRecord
from assessor.subjects import load_subject
from assessor.subjects.torch_module import TorchSubject

Make = Callable[..., Any]
TARGET = JudgedTarget(metric=None, interval=(0.5, None), because="so", source="assessor.yaml:9")
VOLATILE = {"started", "seconds", "peak_memory_bytes"}


@pytest.fixture
def loaded(make_folder: Make) -> tuple[Subject, SubjectRecord]:
    """A table of twenty predictions, sixteen of them right."""
    project = make_folder()
    target = project.configuration().target
    subject, kind, digest = load_subject(target, project.folder)
    return subject, subject_record(subject, kind, digest)


def job(check: Check, **changes: Any) -> Job:
    fields: dict[str, Any] = {"params": check.params(), "target": TARGET, "seed": 0, "requirements": ("RE-R-SC-ME-05",)}
    return Job(check=check, **{**fields, **changes})


@pytest.fixture
def run(loaded: tuple[Subject, SubjectRecord], make_check: Make) -> Callable[..., CheckRun]:
    """Runs the tiny check, or one with another `measure`."""
    return lambda measure=None, **changes: run_job(job(make_check(*([measure] if measure else []), **changes)), *loaded)


def test_a_whole_run(loaded: tuple[Subject, SubjectRecord], make_check: Make) -> None:
    check = make_check()
    found = run_job(job(check, params=check.params(half_width=0.125)), *loaded)
    assert (found.outcome.status, found.outcome.sentence) == (
        "pass",
        "share 0.8 [0.675, 0.925] lies inside the target of at least 0.5",
    )
    assert (found.check, found.check_version, found.title) == ("trial.share", "1", "Share of right predictions")
    assert (found.params, found.seed, found.target) == ({"half_width": 0.125}, 0, TARGET)
    assert found.limits == ("It is made up",)
    assert found.requirements == ("RE-R-SC-ME-05",)
    assert found.metrics[0].value == 0.8
    assert found.subject == loaded[1]
    assert (found.subject.kind, found.subject.model_sha256, found.subject.data["test"].n) == ("predictions", None, 20)
    assert (found.environment.device, found.environment.threads) == ("cpu", 1)
    assert CheckRun.model_validate_json(canonical_json(found)) == found


def raising(fault: BaseException) -> Callable[..., Result]:
    def measure(subject: Subject, params: Any, seed: int) -> Result:
        raise fault

    return measure


@pytest.mark.parametrize(
    ("measure", "status", "sentence"),
    [
        (raising(ValueError("bad\n  luck")), "error", "ValueError: bad luck"),
        (raising(ZeroDivisionError()), "error", "ZeroDivisionError"),
        (raising(SystemExit(0)), "error", "SystemExit: 0"),
        (raising(ValueError("not text: \udcff")), "error", "ValueError: not text: ?"),
        (raising(ValueError("x" * 900)), "error", "ValueError: " + "x" * 500),
        (raising(NotApplicable("one class only")), "not_applicable", "one class only"),
        (raising(NotApplicable(" ")), "not_applicable", "not applicable"),
        (lambda subject, params, seed: None, "error", "TypeError: the check gave a NoneType, wanted a Result"),
        (lambda subject, params, seed: {"share": 1.0}, "error", "TypeError: the check gave a dict, wanted a Result"),
        (lambda subject: None, "error", "TypeError: "),
        (lambda subject, params, seed: Result(metrics=()), "error", "ValidationError: 1 validation error for Result"),
        (
            lambda subject, params, seed: subject.query(np.zeros(1)),
            "not_applicable",
            "only a table of predictions is at hand, not the model",
        ),
    ],
)
def test_whatever_goes_wrong_is_an_outcome(run: Make, measure: Callable[..., Any], status: str, sentence: str) -> None:
    found = run(measure)
    assert found.outcome.status == status
    assert found.outcome.sentence.startswith(sentence)
    assert (status == "error") == bool(re.search(r" \((test_)?engine\.py:\d+\)$", found.outcome.sentence))
    assert (found.metrics, found.target) == ((), TARGET)
    json.loads(canonical_json(found))


def test_what_is_remarked_deep_inside_is_said_once_after_the_other_remarks(run: Make, make_check: Make) -> None:
    def measure(subject: Subject, params: Any, seed: int) -> Result:
        remark("b")
        remark("b")
        return make_check().measure(subject, params, seed).model_copy(update={"remarks": ("a",)})

    assert run(measure).remarks == ("a", "b")
    remark("nobody listens")
    assert run(measure).remarks == ("a", "b")


def test_batches_are_halved_where_memory_ends() -> None:
    sizes = []

    def double(x: torch.Tensor) -> torch.Tensor:
        sizes.append(len(x))
        if len(x) > 3:
            raise torch.OutOfMemoryError("too much")
        return 2 * x

    with collecting() as remarks:
        assert in_batches(double, torch.arange(7), size=10).tolist() == [0, 2, 4, 6, 8, 10, 12]
    assert sizes == [7, 4, 2, 2, 2, 1]
    assert remarks[-1] == "The device ran out of memory; the model was run on batches of 2 rows instead."

    def never(x: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("too much")

    with pytest.raises(torch.OutOfMemoryError):
        in_batches(never, torch.arange(7), size=10)


def test_an_interruption_is_no_outcome(run: Make) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(raising(KeyboardInterrupt()))


def test_a_target_of_another_metric_is_an_error_that_keeps_the_numbers(loaded: Any, make_check: Make) -> None:
    found = run_job(job(make_check(), target=TARGET.model_copy(update={"metric": "shore"})), *loaded)
    assert (found.outcome.status, found.outcome.sentence) == (
        "error",
        "the target names a metric 'shore'; did you mean 'share'?",
    )
    assert found.metrics


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"tasks": frozenset({Task.REGRESSION, Task.MULTICLASS})},
            "measures multiclass, regression tasks, and this is a binary task",
        ),
        ({"needs": frozenset({Need.TRAIN})}, "needs training data (target.data.train)"),
        (
            {"needs": frozenset({Need.QUERY, Need.GRADIENTS, Need.TEST})},
            "needs a PyTorch module, for its gradients and the model itself, to ask it for new inputs",
        ),
        ({"needs": frozenset({Need.BASELINE})}, "needs a model to compare with (target.baseline)"),
        (
            {"needs": frozenset({Need.DESIGN})},
            "needs repeated inputs at known values of a parameter (target.data.design)",
        ),
        (
            {"needs": frozenset({Need.ARCHITECTURE, Need.TEST})},
            "needs a way to build the untrained model (target.model.build)",
        ),
        (
            {"needs": frozenset({Need.TRAIN}), "instead": ("data.quality", "data.leakage", "nobody.has_this")},
            "needs training data (target.data.train); measure this instead: data.quality",
        ),
        (
            {"tasks": frozenset({Task.REGRESSION}), "instead": ("generalization.gap",)},
            "measures regression tasks, and this is a binary task",
        ),
    ],
)
def test_what_does_not_apply_is_refused_with_its_reason(run: Make, changes: dict[str, Any], sentence: str) -> None:
    def measure(subject: Subject, params: Any, seed: int) -> Result:
        raise AssertionError("never called")

    found = run(measure, **changes)
    assert (found.outcome.status, found.outcome.sentence) == (Status.NOT_APPLICABLE, sentence)


def test_every_need_has_its_reason() -> None:
    assert set(REASONS) == set(Need)


def plain(found: CheckRun) -> bytes:
    return canonical_json({key: value for key, value in found.model_dump(mode="json").items() if key not in VOLATILE})


def test_same_inputs_same_bytes(loaded: tuple[Subject, SubjectRecord], make_check: Make) -> None:
    first, second, other = (run_job(job(make_check(), seed=seed), *loaded) for seed in (0, 0, 1))
    assert plain(first) == plain(second) != plain(other)
    assert first.series != other.series


def state() -> tuple[Any, ...]:
    return (random.getstate(), *np.random.get_state()[1:3], torch.get_rng_state().tolist())


def test_global_random_states_are_fixed_inside_and_untouched_outside() -> None:
    def draw(seed: int) -> tuple[float, float, float]:
        with fixed_randomness(seed):
            return random.random(), np.random.random(), torch.rand(1).item()

    before = [repr(part) for part in state()]
    assert draw(0) == draw(0) != draw(1)
    assert draw(2**53 - 1) == draw(2**53 - 1)
    with pytest.raises(RuntimeError), fixed_randomness(0):
        torch.rand(-1)
    assert [repr(part) for part in state()] == before


def test_the_key_is_all_that_a_measurement_depends_on(loaded: tuple[Subject, SubjectRecord], make_check: Make) -> None:
    record, check = loaded[1], make_check()
    key = key_of(job(check), record, "cpu")
    data = {"test": record.data["test"].model_copy(update={"sha256": "f" * 64})}
    same = [
        key_of(job(make_check()), record, "cpu"),
        key_of(job(check, target=None), record, "cpu"),
        key_of(job(check, requirements=()), record, "cpu"),
        run_job(job(check), *loaded).key,
    ]
    different = [
        key_of(job(check, seed=1), record, "cpu"),
        key_of(job(check, params=check.params(half_width=0.1)), record, "cpu"),
        key_of(job(make_check(version="2")), record, "cpu"),
        key_of(job(make_check(id="trial.other")), record, "cpu"),
        key_of(job(replace(check, measure=Result.metric)), record, "cpu"),
        key_of(job(check), record.model_copy(update={"data": data}), "cpu"),
        key_of(job(check), record.model_copy(update={"model_sha256": "f" * 64}), "cpu"),
    ]
    assert set(same) == {key}
    assert len({key, *different}) == 1 + len(different)


def network(weight: float, **more: Any) -> TorchSubject:
    """One linear layer over four rows, half of them of each class."""
    net = torch.nn.Linear(1, 2)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[0.0], [weight]]))
        net.bias.zero_()
    x = np.array([[-1.0], [1.0], [-2.0], [2.0]], dtype=np.float32)
    split = Split("test", np.array([0, 1, 0, 1]), "0" * 64, features=x)
    return TorchSubject(net, Task.BINARY, ("no", "yes"), {"test": split}, **more)


def test_the_record_names_the_baseline(make_check: Make) -> None:
    old, newer = network(2.0), network(3.0)
    records = [
        subject_record(found, "torch", found.sha256)
        for found in (network(1.0), network(1.0, baseline=old), network(1.0, baseline=newer))
    ]
    assert [record.baseline_sha256 for record in records] == [None, old.sha256, newer.sha256]
    assert len({record.model_sha256 for record in records}) == 1
    check = make_check()
    assert len({key_of(job(check), record, "cpu") for record in records}) == 3
    assert len({canonical_json(scope_of(job(check), record, "cpu")) for record in records}) == 3
    found = run_job(job(check), network(1.0, baseline=old), records[1])
    assert found.subject.baseline_sha256 == old.sha256
    assert CheckRun.model_validate_json(canonical_json(found)) == found


def test_the_record_names_what_build_makes(make_check: Make) -> None:
    builds = (None, lambda: torch.nn.Linear(1, 2), lambda: torch.nn.Linear(1, 2), lambda: torch.nn.Linear(2, 2))
    records = [subject_record(found, "torch", None) for found in (network(1.0, build=build) for build in builds)]
    digests = [record.architecture_sha256 for record in records]
    assert digests[0] is None
    assert digests[1] == digests[2] != digests[3]
    assert key_of(job(make_check()), records[1], "cpu") != key_of(job(make_check()), records[3], "cpu")


def test_the_scope_of_parts_is_all_but_parameters_and_seed(
    loaded: tuple[Subject, SubjectRecord], make_check: Make
) -> None:
    record, check = loaded[1], make_check()
    data = {"test": record.data["test"].model_copy(update={"sha256": "f" * 64})}

    def scope(run: Job, record: SubjectRecord = record) -> bytes:
        return canonical_json(scope_of(run, record, "cpu"))

    changed = job(check, seed=1, params=check.params(half_width=0.1), target=None, requirements=())
    assert scope(job(check)) == scope(changed)
    others = [
        scope(job(make_check(version="2"))),
        scope(job(make_check(id="trial.other"))),
        scope(job(replace(check, measure=Result.metric))),
        scope(job(check), record.model_copy(update={"data": data})),
        scope(job(check), record.model_copy(update={"model_sha256": "f" * 64})),
        scope(job(check), record.model_copy(update={"kind": "torch"})),
    ]
    assert len({scope(job(check)), *others}) == 1 + len(others)


def test_threads_matter_to_modules_only(loaded: tuple[Subject, SubjectRecord], make_check: Make) -> None:
    record, before = loaded[1], torch.get_num_threads()
    module = record.model_copy(update={"kind": "torch"})
    keys = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        keys.append((key_of(job(make_check()), record, "cpu"), key_of(job(make_check()), module, "cpu")))
    torch.set_num_threads(before)
    assert keys[0][0] == keys[1][0]
    assert keys[0][1] != keys[1][1]


def test_judging_again_measures_nothing(run: Make, make_check: Make) -> None:
    first = run()
    wanted = job(make_check(), target=TARGET.model_copy(update={"interval": (None, 0.1)}), requirements=("AT",))
    assert not is_same(first, wanted)
    again = rejudge(first, wanted)
    assert is_same(again, wanted)
    assert (again.outcome.status, again.outcome.sentence) == (
        "fail",
        "share 0.8 [0.55, 1.05] lies outside the target of at most 0.1",
    )
    assert (again.metrics, again.key, again.seconds) == (first.metrics, first.key, first.seconds)
    assert again.started > first.started
    assert rejudge(first, job(make_check(), target=None)).outcome.status is Status.MEASURED


def test_what_could_not_be_measured_stays_so(run: Make, make_check: Make) -> None:
    first = run(raising(NotApplicable("one class only")))
    again = rejudge(first, job(make_check(), target=None))
    assert again.outcome == first.outcome
    assert again.target is None


def test_a_result_with_fields_of_its_own_is_kept_as_a_result(run: Make) -> None:
    class More(Result):
        more: int = 1

    def measure(subject: Subject, params: Any, seed: int) -> Result:
        return More(metrics=run().metrics)

    assert run(measure).outcome.status is Status.PASS


def test_the_peak_of_memory_is_of_this_check_alone(run: Make, make_check: Make) -> None:
    """What an earlier check held does not count, what this one held and gave back does."""

    def hungry(subject: Subject, params: Any, seed: int) -> Result:
        assert np.ones(16 * 2**20).sum() > 0  # 128 MiB
        return make_check().measure(subject, params, seed)

    before, most, after = run().peak_memory_bytes, run(hungry).peak_memory_bytes, run().peak_memory_bytes
    assert most - before > 100 * 2**20
    assert after < most - 100 * 2**20
