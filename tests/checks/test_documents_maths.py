"""Documents of strangers as plain data: what stays as it was written, what is refused."""

import pytest

from assessor_checks._documents import DocumentError, from_json, from_toml, from_yaml
from assessor_checks._lock_files import read


def test_yaml_keeps_every_scalar_as_it_is_written():
    text = "{a: 1.10, b: 2001-01-01, c: yes, d: , e: 1:59, f: [~]}"
    assert from_yaml(text) == {"a": "1.10", "b": "2001-01-01", "c": "yes", "d": "", "e": "1:59", "f": ["~"]}
    lock = read("conda-lock.yml", "package:\n- {name: a, version: 1.10, manager: conda}\n")
    assert lock.packages[0].version == "1.10"


@pytest.mark.parametrize(
    ("reader", "text", "told"),
    [
        (from_yaml, "a: &a [x]\nb: *a\n", "found an alias"),
        (from_yaml, "[" * 101 + "]" * 101, "levels of nesting"),
        (from_yaml, "[" + "a," * 300_001 + "]", "300000 values"),
        (from_yaml, "{[a]: b}", "while constructing a mapping"),
        (from_toml, "a" + ".a" * 600 + " = 1", "a key of more than 500 parts"),
        (from_toml, "[a]\n" + "[[b]]\n" * 20_001, "more than 20000 tables"),
        (from_toml, f"a = {'9' * 5000}", "limit"),
        (from_toml, "a = " + "[" * 5000, "recursion"),
        (from_json, "[" * 100_000, "recursion"),
        (from_json, "9" * 5000, "limit"),
    ],
)
def test_what_takes_too_much_is_refused(reader, text, told):
    with pytest.raises(DocumentError, match=told):
        reader(text)


def test_what_is_just_within_bounds_is_read():
    assert from_toml("a" + ".a" * 400 + " = '" + "." * 300 + "'")
    assert from_yaml("[" * 100 + "]" * 100)


def test_halves_of_surrogate_pairs_become_question_marks():
    assert from_json('{"\\ud800": "a\\udfff", "b": "\\ud83d\\ude00"}') == {"?": "a?", "b": "\U0001f600"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("environment.yml", "dependencies: [{pip: 3}, {pip: {a: b}}]"),
        ("conda-lock.yml", "package: 3"),
        ("conda-lock.yml", "package: {a: b}"),
        ("Pipfile.lock", '{"default": {"a": {"hashes": null}, "b": {"hashes": 3}}}'),
    ],
)
def test_members_of_another_kind_are_left_out(name, text):
    assert all(not one.hashes for one in read(name, text).packages)


@pytest.mark.slow
def test_a_list_of_too_many_lines_says_so():
    listed = read("requirements.txt", "".join(f"a{number}\n" for number in range(30_005)))
    assert len(listed.packages) == 30_000
    assert listed.unread == [
        "requirements.txt:30001: more than 30000 entries; this one and those after it are not read"
    ]
