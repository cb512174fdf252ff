"""Texts put together in English are recognised and said again; what is not known stays unsaid."""

import pytest

from assessor.messages import is_retold, retold, speaking
from assessor.retelling import Retelling

GERMAN = Retelling(
    {
        "no file {path}": "keine Datei {path}",
        "{low} to {high}": "{low} bis {high}",
        "{metric}; no target was set": "{metric}; kein Ziel gesetzt",
        "the gradient is exactly 0 for {flat} of {n} rows": "der Gradient ist für {flat} von {n} Zeilen genau 0",
        "the model gave NaN for {bad} rows": "das Modell gab für {bad} Zeilen NaN",
        "The attack shows little: {text}.": "Der Angriff zeigt wenig: {text}.",
        "It is doubtful.": "Es ist zweifelhaft.",
        "loss of a sample ({unit})": "Verlust einer Probe ({unit})",
        "{name} is left out: {reason}.": "{name} entfällt: {reason}.",
        "column '{name}' and again '{name}'": "Spalte „{name}“, und „{name}“ noch einmal",
        "the positive class is {name}": "die positive Klasse ist {name}",
        "training data": "Trainingsdaten",
        "class probabilities": "Klassenwahrscheinlichkeiten",
        "; did you mean '{word}'?": "; meinten Sie „{word}“?",
        "nats": "nat",
        "test": "Test",
        "and": "und",
        "or": "oder",
    },
    decimal_mark=",",
)


@pytest.mark.parametrize(
    ("english", "german"),
    [
        ("It is doubtful.", "Es ist zweifelhaft."),
        ("no file a b.csv", "keine Datei a b.csv"),
        ("no file a.csv; did you mean 'b.csv'?", "keine Datei a.csv; meinten Sie „b.csv“?"),
        ("no file 0.5", "keine Datei 0,5"),
        ("no file 12.5%", "keine Datei 12,5\u00a0%"),
        ("no file 1.2.3", "keine Datei 1.2.3"),
        ("p.yaml:3 data.test: no file a.csv", "p.yaml:3 data.test: keine Datei a.csv"),
        ("ValueError: no file a.csv", "ValueError: keine Datei a.csv"),
        ("ValueError: It is doubtful. (system.py:12)", "ValueError: Es ist zweifelhaft. (system.py:12)"),
        ("no file a.csv. It is doubtful.", "keine Datei a.csv. Es ist zweifelhaft."),
        ("training data and class probabilities", "Trainingsdaten und Klassenwahrscheinlichkeiten"),
        ("'a', 'b' or 'c'", "'a', 'b' oder 'c'"),
        (
            "The attack shows little: the gradient is exactly 0 for 3 of 4 rows; the model gave NaN for 2 rows.",
            "Der Angriff zeigt wenig: der Gradient ist für 3 von 4 Zeilen genau 0; das Modell gab für 2 Zeilen NaN.",
        ),
        ("f1 is left out: the model gave NaN for 2 rows.", "f1 entfällt: das Modell gab für 2 Zeilen NaN."),
        ("loss of a sample (nats)", "Verlust einer Probe (nat)"),
        ("column 'a' and again 'a'", "Spalte „a“, und „a“ noch einmal"),
        ("0.1 to 2", "0,1 bis 2"),
    ],
)
def test_what_is_recognised(english: str, german: str) -> None:
    assert GERMAN.said(english) == german
    assert GERMAN.said(english) == german  # and from memory


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nobody knows this",
        "It is doubtful. Nobody knows this.",
        "column 'a' and again 'b'",
        "the road to the lake",  # short words alone are no template
        "training data and more",
    ],
)
def test_what_stays_unsaid(text: str) -> None:
    assert GERMAN.said(text) is None


def test_a_name_is_never_translated_even_where_it_is_a_word_of_ours() -> None:
    assert GERMAN.said("the positive class is test") == "die positive Klasse ist test"


def test_long_text_of_others_is_given_up_soon() -> None:
    assert GERMAN.said("nobody knows this, " + "and so on; training data, " * 1000) is None


def test_english_is_never_changed() -> None:
    assert retold("no file\nanything") == "no file\nanything"
    assert is_retold("anything")


def test_lines_are_retold_one_by_one_and_strange_ones_stay() -> None:
    with speaking("de"):
        assert retold("nobody knows this\n\nnor this") == "nobody knows this\n\nnor this"
        assert not is_retold("nobody knows this")
