"""security.dependencies: a locked project and its loose twin as whole outcomes."""

import matplotlib
import pytest
from matplotlib.figure import Figure

from assessor.contract import Need, NotApplicable, Origin, Task
from assessor.engine import Job, run_job
from assessor.model import JudgedTarget, Status, SubjectRecord
from assessor.subjects.files import FilesSubject
from assessor_checks.security.dependencies import CHECK, DependenciesParams

matplotlib.use("Agg")
LOCKED = "".join(f"package{number}==1.{number} --hash=sha256:{'a' * 64}\n" for number in range(10))


def subject(**files):
    names = {name.replace("_txt", ".txt").replace("_toml", ".toml"): text for name, text in files.items()}
    return FilesSubject(Task.BINARY, Origin(dependencies=names))


def measure(**files):
    return CHECK.measure(subject(**files), DependenciesParams(), 0)


def values(result):
    return {metric.name: (metric.value, metric.low, metric.high) for metric in result.metrics}


def test_locked():
    result = measure(requirements_txt=LOCKED)
    assert values(result) == {
        "pinned_share": (1, 1, 1),
        "hashed_share": (1, 1, 1),
        "packages_from_elsewhere": (0, 0, 0),
        "lines_not_understood": (0, 0, 0),
    }
    assert result.metrics[0].primary
    assert {metric.n for metric in result.metrics} == {10}
    assert result.remarks == ()
    (bill,) = result.documents
    assert (bill.name, bill.standard, bill.content["specVersion"]) == ("bom.cdx.json", "cyclonedx", "1.6")
    assert [part["purl"] for part in bill.content["components"]] == [f"pkg:pypi/package{n}@1.{n}" for n in range(10)]
    files, packages = result.tables
    assert files.rows == (("requirements.txt", "requirements of pip", 10, 10, 10, True, 0),)
    assert packages.rows[0] == ("package0", "1.0", "==1.0", True, True, None, "requirements.txt:1")


def test_loose():
    text = "a\nb>=1\nc==2\nd @ git+https://example.org/d.git@main\n-r base.txt\n--extra-index-url https://example.org\n"
    result = measure(requirements_txt=text, package_json="{}")
    assert values(result) == {
        "pinned_share": (0.25, 0.25, 0.25),
        "hashed_share": (0, 0, 0),
        "packages_from_elsewhere": (1, 1, 1),
        "lines_not_understood": (0, 0, 0),
    }
    assert result.remarks == (
        "Packages not pinned: 3, among them a, b, d.",
        "No file lists all that the packages need themselves, so that those may change unseen.",
        "Packages are also looked for at: --extra-index-url https://example.org. "
        "A stranger's package may win by its name.",
        "These files are included and were not named, so they were not read: base.txt.",
        "These files are of no kind that is known here and were not read: package_json.",
    )
    assert [row[0] for row in result.tables[1].rows] == ["a", "b", "d", "c"]


def test_lines_that_are_not_understood_widen_the_ends():
    result = measure(requirements_txt="a==1\nb\n??\n!!\n")
    assert values(result) == {
        "pinned_share": (0.5, 0.25, 0.75),
        "hashed_share": (0, 0, 0.5),
        "packages_from_elsewhere": (0, 0, 2),
        "lines_not_understood": (2, 2, 2),
    }
    assert result.tables[2].rows == (("requirements.txt:3: ??",), ("requirements.txt:4: !!",))


def test_constraints_pin_what_a_project_lists():
    project = '[project]\nname = "own"\ndependencies = ["a>=1", "b"]\n'
    assert values(measure(pyproject_toml=project))["pinned_share"][0] == 0
    assert values(measure(pyproject_toml=project, constraints_txt="a==1\nb==2\n"))["pinned_share"][0] == 1
    assert "base.txt" not in str(measure(base_txt="a==1\n", r_txt="-r folder/base.txt\nb\n").remarks)


def test_two_pins():
    result = measure(a_txt="x==1\n", b_txt="x==2\n")
    assert "Pinned to more than one version, for platforms or by mistake: x." in result.remarks
    assert result.tables[1].rows[0][1] == "1, 2"


@pytest.mark.parametrize(("text", "status"), [(LOCKED, Status.PASS), (LOCKED + "loose\n", Status.FAIL)])
def test_verdicts(text, status):
    target = JudgedTarget(metric="hashed_share", interval=(1, None), because="it is installed anew", source="test")
    record = SubjectRecord(kind="files", model_sha256=None, data={})
    run = run_job(Job(CHECK, DependenciesParams(), target, 0, ()), subject(requirements_txt=text), record)
    assert run.outcome.status is status


@pytest.mark.parametrize("files", [{}, {"requirements_txt": "# none\n"}, {"package_json": "{}"}])
def test_nothing_listed(files):
    with pytest.raises(NotApplicable, match="the files list no package: "):
        measure(**files)


def test_many_packages_are_cut():
    result = measure(requirements_txt="".join(f"p{number}\n" for number in range(1200)))
    assert len(result.tables[1].rows) == 1000
    assert result.remarks[-1] == "Of 1200 packages the first 1000 are shown."


def test_same_bytes_and_a_plot():
    first = measure(requirements_txt=LOCKED)
    assert first.model_dump_json() == measure(requirements_txt=LOCKED).model_dump_json()
    axes = Figure().subplots()
    CHECK.plot(first, axes)
    assert [bar.get_width() for bar in axes.patches] == [0, 10, 10, 10]
    assert CHECK.info.needs == {Need.DEPENDENCIES}
