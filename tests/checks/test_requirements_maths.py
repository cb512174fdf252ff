"""Lists of packages: pip, pyproject.toml, conda and lock files, by hand; bills of materials against their validator."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from assessor_checks._lock_files import read
from assessor_checks._requirements import Package, only_version, overall, requirements
from assessor_checks.security._bill_of_materials import cyclonedx, package_url

A, B = "a" * 64, "b" * 64
COMMIT = "0123456789abcdef0123456789abcdef01234567"
PIP = f"""\ufeff# -*- coding: utf-8 -*-
numpy==1.26.4  # why
scipy >=1.10,<2 ; python_version >= "3.9"
requests [security] >= 2.8.1, == 2.8.* ; python_version < "2.7"
Pillow==10.0.0 \\
    --hash=sha256:{A} \\
    --hash=sha256:{B}
torch @ https://example.org/whl/torch-2.1.0%2Bcpu-cp311-cp311-linux_x86_64.whl#sha256={A}
git+https://user:secret@example.org/a/b.git@{COMMIT}#egg=bee
-e git+https://example.org/x/y.git@main#egg=Y_y
-e ./local
./wheels/foo-1.0-py3-none-any.whl
https://example.org/bar-2.5.tar.gz
ruamel.yaml===0.17
-r base.txt
--constraint=bounds.txt
-rmore.txt
--extra-index-url https://user:pw@example.org/simple
--index-url=https://example.org/simple
--no-binary :all:
--require-hashes
Some_Project
==broken==
--unheard-of
"""


def by_name(listed):
    return {one.name: one for one in listed.packages}


def test_requirements_of_pip():
    listed = requirements("folder/requirements.txt", PIP)
    found = by_name(listed)
    assert {name: (one.version, one.is_pinned, one.is_hashed) for name, one in found.items()} == {
        "numpy": ("1.26.4", True, False),
        "scipy": (None, False, False),
        "requests": (None, False, False),
        "pillow": ("10.0.0", True, True),
        "torch": ("2.1.0+cpu", True, True),
        "bee": (None, True, False),  # by its commit
        "y-y": (None, False, False),
        "local": (None, False, False),
        "foo": ("1.0", True, False),
        "bar": ("2.5", True, False),
        "ruamel-yaml": ("0.17", True, False),
        "some-project": (None, False, False),
    }
    assert found["pillow"].hashes == (f"sha256:{A}", f"sha256:{B}")
    assert found["pillow"].place == "folder/requirements.txt:5"
    assert found["scipy"].wanted == "<2,>=1.10"
    assert found["bee"].source == f"git+https://example.org/a/b.git@{COMMIT}#egg=bee"
    assert found["bee"].commit == COMMIT
    assert listed.includes == ["base.txt", "bounds.txt", "more.txt"]
    assert listed.indexes == ["--extra-index-url https://example.org/simple", "--index-url https://example.org/simple"]
    assert listed.unread == ["folder/requirements.txt:23: ==broken==", "folder/requirements.txt:24: --unheard-of"]
    assert not listed.is_complete
    assert "secret" not in str(listed)
    assert "pw" not in str(listed.indexes)


def test_a_list_in_which_all_have_hashes_is_whole():
    assert requirements("r.txt", f"a==1 --hash=sha256:{A}\nb==2 --hash=sha256:{B}\n").is_complete
    assert not requirements("r.txt", f"a==1 --hash=md5:{A[:32]}\n").is_complete


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200))
def test_no_text_is_too_odd(text):
    for name in ("r.txt", "pyproject.toml", "poetry.lock", "uv.lock", "Pipfile.lock", "env.yml", "conda-lock.yml"):
        listed = read(name, text)
        json.dumps(cyclonedx(overall([listed])))


versions = st.lists(st.integers(0, 20), min_size=1, max_size=3).map(lambda parts: ".".join(map(str, parts)))
specifiers = st.lists(
    st.tuples(st.sampled_from(["==", "===", ">=", "<=", "!=", "~=", "<"]), versions, st.sampled_from(["", ".*"])),
    max_size=3,
)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["numpy", "Scikit_Learn", "a.b"]), specifiers, versions)
def test_a_pinned_version_is_the_only_one_that_fits(name, parts, other):
    wanted = ",".join(
        f"{operator}{version}{star if operator in {'==', '!='} else ''}" for operator, version, star in parts
    )
    try:
        Requirement(f"{name}{wanted}")
    except ValueError:
        assert requirements("r.txt", f"{name}{wanted}").unread
        return
    (package,) = requirements("r.txt", f"{name}{wanted}").packages
    if package.version is not None and SpecifierSet(wanted).contains(other, prereleases=True):
        assert SpecifierSet(f"=={package.version}").contains(other, prereleases=True) or f"==={other}" in wanted


def test_only_version():
    assert [only_version(one) for one in ("==1", "==1,!=1.1", "~=1.0", "", "!!")] == ["1", "1", None, None, None]


# --- other files -----------------------------------------------------------------------------------------------------

PROJECT = f"""
[build-system]
requires = ["setuptools==70.0.0"]
[project]
name = "Own"
dependencies = ["numpy>=1.26", "torch==2.1.0; sys_platform == 'linux'", "own[extra]", 7]
[project.optional-dependencies]
extra = ["scipy~=1.10"]
[dependency-groups]
test = ["pytest==8.0", {{include-group = "extra"}}]
[tool.poetry.dependencies]
python = "^3.11"
pandas = "2.1.0"
rich = "^13"
mine = {{git = "https://example.org/m.git", rev = "{COMMIT}"}}
here = {{path = "../here"}}
many = [{{version = "==1.0"}}, {{version = "^2"}}]
[tool.poetry.group.dev.dependencies]
ruff = "*"
"""


def test_pyproject():
    listed = read("x/pyproject.toml", PROJECT)
    found = [(one.name, one.version, one.is_pinned) for one in listed.packages]
    assert found == [
        ("numpy", None, False),
        ("torch", "2.1.0", True),
        ("scipy", None, False),
        ("pytest", "8.0", True),
        ("setuptools", "70.0.0", True),
        ("pandas", "2.1.0", True),
        ("rich", None, False),
        ("mine", None, True),
        ("here", None, False),
        ("many", "1.0", True),
        ("many", None, False),
        ("ruff", None, False),
    ]
    assert listed.unread == ["x/pyproject.toml: project.dependencies: 7"]
    assert listed.packages[1].place == "x/pyproject.toml: project.dependencies"


CONDA = """
channels: [conda-forge]
dependencies:
  - python=3.11
  - numpy==1.26.4
  - conda-forge::scipy=1.11.4=py311h64a7726_0
  - pandas>=2
  - openssl 3.0.0 h7f98852_0
  - pip:
      - rich==13.0.0
      - -r more.txt
  - "???"
"""


def test_environment_of_conda():
    listed = read("environment.yml", CONDA)
    assert [(one.kind, one.name, one.version) for one in listed.packages] == [
        ("conda", "python", None),  # 3.11.0 to 3.11.12 all fit
        ("conda", "numpy", "1.26.4"),
        ("conda", "scipy", "1.11.4"),
        ("conda", "pandas", None),
        ("conda", "openssl", "3.0.0"),
        ("pypi", "rich", "13.0.0"),
    ]
    assert listed.unread == ["environment.yml: ???"]
    assert listed.includes == ["more.txt"]


LOCKS = {
    "poetry.lock": f"""
[[package]]
name = "NumPy"
version = "1.26.4"
files = [{{file = "n.whl", hash = "sha256:{A}"}}, {{file = "n.tar.gz", hash = "sha256:{B}"}}]
[[package]]
name = "mine"
version = "0.1"
[package.source]
type = "git"
url = "https://example.org/m.git"
reference = "main"
resolved_reference = "{COMMIT}"
""",
    "uv.lock": f"""
[[package]]
name = "numpy"
version = "1.26.4"
source = {{ registry = "https://pypi.org/simple" }}
sdist = {{ url = "https://x/n.tar.gz", hash = "sha256:{B}" }}
wheels = [{{ url = "https://x/n.whl", hash = "sha256:{A}" }}]
[[package]]
name = "mine"
version = "0.1"
source = {{ git = "https://example.org/m.git?rev=main#{COMMIT}" }}
[[package]]
name = "own"
version = "1"
source = {{ virtual = "." }}
""",
    "pdm.lock": f"""
[[package]]
name = "numpy"
version = "1.26.4"
files = [{{file = "n.whl", hash = "sha256:{A}"}}, {{file = "n.tar.gz", hash = "sha256:{B}"}}]
[[package]]
name = "mine"
version = "0.1"
git = "https://example.org/m.git"
revision = "{COMMIT}"
""",
    "pylock.toml": f"""
lock-version = "1.0"
[[packages]]
name = "numpy"
version = "1.26.4"
wheels = [{{name = "n.whl", hashes = {{sha256 = "{A}"}}}}]
sdist = {{name = "n.tar.gz", hashes = {{sha256 = "{B}"}}}}
[[packages]]
name = "mine"
version = "0.1"
vcs = {{type = "git", url = "https://example.org/m.git", commit-id = "{COMMIT}"}}
""",
    "Pipfile.lock": json.dumps(
        {
            "_meta": {"hash": {"sha256": A}},
            "default": {"numpy": {"version": "==1.26.4", "hashes": [f"sha256:{A}", f"sha256:{B}"]}},
            "develop": {"mine": {"git": "https://example.org/m.git", "ref": COMMIT, "version": "==0.1"}},
        }
    ),
}


@pytest.mark.parametrize("name", LOCKS)
def test_lock_files(name):
    listed = read(f"some/{name}", LOCKS[name])
    assert listed.is_complete
    assert listed.unread == []
    numpy, mine = listed.packages
    assert (numpy.name, numpy.version, numpy.hashes) == ("numpy", "1.26.4", (f"sha256:{A}", f"sha256:{B}"))
    assert numpy.source is None
    assert mine.source == f"git+https://example.org/m.git@{COMMIT}"
    assert mine.commit == COMMIT
    assert mine.is_pinned
    assert not mine.is_hashed


def test_older_lock_of_poetry():
    text = f'[[package]]\nname = "a"\nversion = "1"\n[metadata.files]\na = [{{file = "x", hash = "sha256:{A}"}}]\n'
    assert read("poetry.lock", text).packages[0].hashes == (f"sha256:{A}",)


def test_lists_of_conda():
    text = f"# c\n@EXPLICIT\nhttps://c.org/linux-64/numpy-1.26.4-py311_0.conda#{A}\nhttps://c.org/noarch/x-1-0.tar.bz2#{A[:32]}\nbad\n"
    listed = read("explicit.txt", text)
    assert [(one.kind, one.name, one.version, one.is_hashed) for one in listed.packages] == [
        ("conda", "numpy", "1.26.4", True),
        ("conda", "x", "1", False),  # md5
    ]
    assert listed.unread == ["explicit.txt:5: bad"]
    lock = "package:\n" + "".join(
        f"- {entry}\n"
        for entry in (
            f"{{name: numpy, version: 1.26.4, manager: conda, hash: {{sha256: {A}}}}}",
            "{name: rich, version: '13', manager: pip}",
            "7",
        )
    )
    listed = read("conda-lock.yml", lock)
    assert [(one.kind, one.name, one.is_hashed) for one in listed.packages] == [
        ("conda", "numpy", True),
        ("pypi", "rich", False),
    ]
    assert listed.unread == ["conda-lock.yml: 7"]


@pytest.mark.parametrize("name", ["poetry.lock", "Pipfile.lock", "pyproject.toml", "environment.yml", "conda-lock.yml"])
def test_torn_files(name):
    (line,) = read(name, "[[[: {").unread
    assert line.startswith(f"{name}: ")


def test_other_kinds_are_not_known():
    assert read("package.json", "{}") is None
    assert read("Dockerfile", "FROM x") is None


# --- together --------------------------------------------------------------------------------------------------------


def test_a_constraint_pins_what_is_listed_elsewhere():
    files = {
        "pyproject.toml": '[project]\ndependencies = ["numpy>=1", "scipy"]\n',
        "constraints.txt": "numpy==1.26.4\nrich==13\n",
    }
    found = overall(read(name, text) for name, text in files.items())
    assert [(one.name, one.is_pinned, one.versions) for one in found] == [
        ("numpy", True, ["1.26.4"]),
        ("scipy", False, []),
    ]
    assert [one.name for one in overall([read("constraints.txt", files["constraints.txt"])])] == ["numpy", "rich"]


def test_different_pins_are_seen():
    (one,) = overall([requirements("a.txt", "x==1\n"), requirements("b.txt", "x==2\n")])
    assert one.versions == ["1", "2"]


# --- bill of materials -----------------------------------------------------------------------------------------------


def bills():
    files = {"requirements.txt": PIP, "pyproject.toml": PROJECT, "environment.yml": CONDA, **LOCKS}
    yield [cyclonedx(overall([read(name, text)])) for name, text in files.items()]
    yield [cyclonedx(overall(read(name, text) for name, text in files.items())), cyclonedx([])]


def test_bill_by_hand():
    listed = requirements(
        "r.txt", f"numpy==1.26.4 --hash=sha256:{A}\nscipy>=1\nbee @ git+https://example.org/b.git@{COMMIT}\n"
    )
    bill = cyclonedx(overall([listed]))
    assert (bill["bomFormat"], bill["specVersion"], bill["version"]) == ("CycloneDX", "1.6", 1)
    bee, numpy, scipy = bill["components"]
    assert numpy == {
        "type": "library",
        "bom-ref": "pkg:pypi/numpy@1.26.4",
        "name": "numpy",
        "version": "1.26.4",
        "hashes": [{"alg": "SHA-256", "content": A}],
        "purl": "pkg:pypi/numpy@1.26.4",
        "properties": [{"name": "ai-assessor:listed", "value": "r.txt:1"}],
    }
    assert "version" not in scipy
    assert bee["externalReferences"] == [{"type": "vcs", "url": f"git+https://example.org/b.git@{COMMIT}"}]


def test_hashes_of_several_files_of_a_package_stand_at_its_distribution():
    (numpy, *_) = cyclonedx(overall([read("uv.lock", LOCKS["uv.lock"])]))["components"][::-1]
    (reference,) = numpy["externalReferences"]
    assert reference["type"] == "distribution"
    assert [one["content"] for one in reference["hashes"]] == [A, B]
    assert "hashes" not in numpy


def test_bills_say_the_same_each_time_and_name_nothing_twice():
    first, again = list(bills()), list(bills())
    assert json.dumps(first) == json.dumps(again)
    for bill in (one for group in first for one in group):
        references = [one["bom-ref"] for one in bill["components"]]
        assert len(set(references)) == len(references)
    serials = [one["serialNumber"] for group in first for one in group]
    assert len(set(serials)) == len(serials)


@pytest.mark.slow
def test_bills_are_valid():
    schema = pytest.importorskip("cyclonedx.schema", reason="cyclonedx-python-lib, an independent validator")
    validation = pytest.importorskip("cyclonedx.validation.json")
    validator = validation.JsonStrictValidator(schema.SchemaVersion.V1_6)
    for bill in (one for group in bills() for one in group):
        assert validator.validate_str(json.dumps(bill)) is None


def test_package_urls_are_quoted():
    assert package_url(Package("a", "", "1.0+cpu", None, (), "")) == "pkg:pypi/a@1.0%2Bcpu"
    assert package_url(Package("a", "", "2!1", None, (), "", "conda")) == "pkg:conda/a@2%211"
