"""security.model_file: planted payloads and their clean twins as whole outcomes."""

import os
import pickle

import matplotlib
import pytest
import torch
from matplotlib.figure import Figure

from assessor.contract import Need, NotApplicable, Origin, Task
from assessor.engine import Job, run_job
from assessor.model import JudgedTarget, Status, SubjectRecord
from assessor.subjects.files import FilesSubject
from assessor_checks.security.model_file import CHECK, ModelFileParams

matplotlib.use("Agg")


class Call:
    """Pickles as a call of os.system; it is never unpickled here."""

    def __reduce__(self):
        return os.system, ("true",)


class Mine(torch.nn.Module):
    """An architecture of somebody's own."""


@pytest.fixture
def subject(tmp_path):
    """A subject of these files."""

    def make(**contents):
        files = {}
        for name, value in contents.items():
            files[name] = tmp_path / name
            if isinstance(value, bytes):
                files[name].write_bytes(value)
            else:
                torch.save(value, files[name])
        return FilesSubject(Task.BINARY, Origin(files=files))

    return make


def measure(subject, **params):
    return CHECK.measure(subject, ModelFileParams(**params), 0)


def values(result):
    return [(metric.name, metric.value, metric.low, metric.high) for metric in result.metrics]


WEIGHTS = {"w": torch.ones(3)}


def test_harmless_weights(subject):
    result = measure(subject(a=WEIGHTS, b=pickle.dumps([1])))
    assert values(result) == [
        ("dangerous_imports", 0, 0, 0),
        ("unknown_imports", 0, 0, 0),
        ("unreadable_parts", 0, 0, 0),
    ]
    assert result.metrics[0].primary
    assert result.metrics[0].n > 2
    assert result.remarks == ("No known-bad import was found. That is no proof that the files are harmless.",)
    assert result.doubt is result.danger is None
    (files,) = result.tables
    assert files.rows[1] == ("b", "pickle", len(pickle.dumps([1])), 1, 1, 0, 0, 0, 0)
    assert files.rows[0][5] == 3  # OrderedDict or dict's storage, tensor, rebuild


def test_a_payload(subject):
    result = measure(subject(a=WEIGHTS, b={**WEIGHTS, "x": Call()}))
    assert values(result)[0] == ("dangerous_imports", 1, 1, 1)
    assert result.danger == "Loading the model's files can run code of somebody else's choosing: posix.system."
    assert result.remarks == ()
    assert result.tables[1].rows == (("dangerous", "posix.system", "b", "b/data.pkl"),)


def test_code_of_their_own_until_somebody_vouches_for_it(subject):
    files = subject(a=Mine())
    unknown = f"{Mine.__module__}.Mine"
    result = measure(files)
    assert values(result)[1] == ("unknown_imports", 1, 1, 1)
    assert result.remarks[1] == "Imports that are on no list: 1. Somebody has to look at the code behind them."
    for trusted in (unknown, f"{Mine.__module__}.*"):
        vouched = measure(files, trusted=(trusted,))
        assert values(vouched)[1] == ("unknown_imports", 0, 0, 0)
        assert vouched.remarks[1] == "Imports vouched for by the parameters: 1."
        assert len(vouched.tables) == 1
    assert values(measure(files, trusted=("test_model", "mine.*")))[1][1] == 1


def test_nobody_can_vouch_for_the_dangerous(subject):
    assert measure(subject(a=[Call()]), trusted=("posix.*", "posix.system")).metric("dangerous_imports").value == 1


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (WEIGHTS, Status.PASS),
        ([Call()], Status.FAIL),
        (b"7z\xbc\xaf\x27\x1c", Status.INCONCLUSIVE),  # it may hold anything
        (pickle.dumps([Call()])[:-1], Status.FAIL),
    ],
)
def test_verdicts(subject, content, status):
    target = JudgedTarget(metric=None, interval=(None, 0), because="it is to be loaded", source="test")
    record = SubjectRecord(kind="files", model_sha256=None, data={})
    run = run_job(Job(CHECK, ModelFileParams(), target, 0, ()), subject(a=content), record)
    assert run.outcome.status is status


def test_parts_that_cannot_be_read_may_hold_more(subject):
    result = measure(subject(a=b"7z\xbc\xaf\x27\x1c", b=WEIGHTS))
    assert values(result) == [
        ("dangerous_imports", 0, 0, 1),
        ("unknown_imports", 0, 0, 1),
        ("unreadable_parts", 1, 1, 1),
    ]
    assert result.remarks == (
        "No known-bad import was found. That is no proof that the files are harmless.",
        "Parts that could not be read: 1. Each of them may hold more.",
    )


def test_many_findings_are_cut(subject):
    data = b"".join(f"cm{number}\nn\n0".encode() for number in range(300)) + b"N."
    result = measure(subject(a=data))
    assert result.metric("unknown_imports").value == 300
    assert len(result.tables[1].rows) == 200
    assert result.remarks[-1] == "Of 300 findings the first 200 are shown."


def test_refused(subject, tmp_path):
    with pytest.raises(NotApplicable, match="no file holds the model"):
        measure(subject())
    with pytest.raises(NotApplicable, match="the model file gone cannot be read: No such file"):
        measure(FilesSubject(Task.BINARY, Origin(files={"gone": tmp_path / "gone"})))
    with pytest.raises(ValueError, match="trusted"):
        ModelFileParams(trusted=("*",))


def test_nothing_is_loaded(subject, tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path / "sprung").touch, ()

    measure(subject(a=[Trap()]))
    assert not (tmp_path / "sprung").exists()
    assert CHECK.info.needs == {Need.FILES}


def test_same_bytes_and_a_plot(subject):
    files = subject(a=[Call()], b=b"7z\xbc\xaf\x27\x1c", c=Mine())
    first = measure(files)
    assert first.model_dump_json() == measure(files).model_dump_json()
    axes = Figure().subplots()
    CHECK.plot(first, axes)
    assert [text.get_text() for text in axes.get_yticklabels()] == ["a", "b", "c"]
