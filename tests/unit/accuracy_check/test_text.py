"""Text recognition: texts are read off outputs, found in lists and compared as the original does it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from calib.accuracy_check.adapters import ADAPTERS, Outputs
from calib.accuracy_check.annotated import Places
from calib.accuracy_check.converters import CONVERTERS
from calib.accuracy_check.fields import Fields
from calib.accuracy_check.metrics import METRICS
from calib.accuracy_check.text import _best_prefix
from calib.accuracy_check.values import Labels, Text
from calib.errors import DataError, MetricError
from calib.metrics.text_pairs import edits

LETTERS = Labels(dict(enumerate("-abc")))


def read(kind, array, labels=LETTERS, **values):
    problems = []
    adapt = ADAPTERS[kind](Fields(kind, values, problems))
    assert not problems, problems
    return adapt(Outputs([np.asarray(array, np.float32)], [["out"]], labels), (8, 8)).values


def one_hot(*classes, count=4):
    return np.eye(count)[list(classes)]


def test_the_best_classes_are_merged_and_blanks_dropped():
    steps = one_hot(1, 1, 0, 1, 2, 2, 3)[:, None]
    assert read("ctc_greedy_search_decoder", steps) == "aabc"
    assert read("ctc_greedy_search_decoder", steps, Labels(dict(enumerate("abc"))), shift_labels=True) == "aabc"
    assert read("ctc_greedy_search_decoder", steps, custom_label_map={1: "x", 2: "y", 3: "z"}) == "xxyz"


def test_repetitions_are_kept_up_to_the_step_with_the_number_of_the_blank():
    steps = one_hot(0, 0, 0, 1, 3, 1, 1)[:, None]
    assert read("ctc_greedy_search_decoder", steps, Labels(dict(enumerate("abc"))), blank_label=3) == "aaabb"


def likeliest(steps: np.ndarray, blank: int) -> tuple[int, ...]:
    """Return the likeliest text by all of its paths."""
    chances: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(steps.shape[1]), repeat=len(steps)):
        text = tuple(one for one, _ in itertools.groupby(path) if one != blank)
        chances[text] = chances.get(text, 0.0) + float(np.exp(sum(steps[i, one] for i, one in enumerate(path))))
    return max(chances, key=chances.__getitem__)


@pytest.mark.parametrize("seed", range(4))
def test_the_search_of_prefixes_finds_the_text_that_all_paths_make_likeliest(seed):
    steps = np.log(np.random.default_rng(seed).dirichlet(np.full(3, 0.7), 5))
    assert _best_prefix(steps, 60, 2) == likeliest(steps, 2)


def test_beams_read_probabilities_and_logarithms_in_both_layouts():
    chances = np.array(
        [[0.4, 0.001, 0.599], [0.4, 0.001, 0.599]]
    )  # the best path is empty, and "a" is likelier than it
    labels = Labels(dict(enumerate("ab")))
    for array in (chances[:, None], chances[None]):
        assert read("beam_search_decoder", array, labels, softmaxed_probabilities=True) == "a"
        assert read("beam_search_decoder", np.log(array), labels, beam_size=3) == "a"


def test_a_text_ends_at_its_end_and_loses_the_last_character_without_one():
    labels = Labels(dict(enumerate(("[GO]", "[s]", "A", "b"))))
    assert read("simple_decoder", one_hot(0, 2, 3, 1, 3)[None], labels, start_index=1, do_lower=True) == "ab"
    assert read("simple_decoder", one_hot(2, 3)[None], labels) == "A"


def test_plates_end_at_minus_one():
    assert read("lpr", [[1, 3, -1, 2]]) == "ac"
    with pytest.raises(MetricError, match="class 9 is none of the 4 symbols"):
        read("lpr", [[9]])


def test_without_symbols_there_is_no_text():
    with pytest.raises(MetricError, match="custom_label_map"):
        read("lpr", [[1]], Labels({}))


def converted(folder, kind, **values):
    problems = []
    made = CONVERTERS[kind](Fields(kind, values, problems))
    assert not problems, problems
    found = made(Places(folder, None), {})
    return [(name, text.values) for name, text in found.rows], found.labels.names


def test_lists_of_texts_and_their_symbols(tmp_path):
    for name, text in {"words": "a.png x1\n\nb.png y\n", "lines": "a.png, one, two \n", "known": "on\ne\n",
                       "plates": "a.png AB\nb.png NA\n", "numbers": "0 A\n1 B\n"}.items():  # fmt: skip
        (tmp_path / name).write_text(text)
    rows, symbols = converted(tmp_path, "icdar13_recognition", annotation_file="words")
    assert rows == [("a.png", "x1"), ("b.png", "y")] and (symbols[1], symbols[35]) == ("1", "z")
    found = converted(tmp_path, "unicode_character_recognition", annotation_file="lines", decoding_char_file="known")
    assert found == ([("a.png", "one, two")], {1: "o", 2: "n", 3: "e"})
    found = converted(tmp_path, "lpr_txt", annotation_file="plates", decoding_dictionary_file="numbers")
    assert found == ([("a.png", "AB")], {0: "A", 1: "B"})
    (tmp_path / "plates").write_text(f"a.png {'A' * 10_001}\n")
    with pytest.raises(DataError, match="at most 10000 are read"):
        converted(tmp_path, "lpr_txt", annotation_file="plates", decoding_dictionary_file="numbers")
    (tmp_path / "words").write_text("a.png one two\n")
    with pytest.raises(DataError, match="line 1 of words"):
        converted(tmp_path, "icdar13_recognition", annotation_file="words")


@pytest.mark.parametrize(
    ("wanted", "found", "least"),
    [("", "", 0), ("", "abc", 3), ("abc", "", 3), ("kitten", "sitting", 3), ("abcd", "bcde", 2), ("aab", "aaab", 1)],
)
def test_the_number_of_edits_is_the_smallest(wanted, found, least):
    assert edits(wanted, found) == edits(found, wanted) == least


def test_texts_are_right_as_a_whole_or_by_characters():
    pairs = [(Text("a b"), Text("ab")), (Text("abcd"), Text("axc"))]

    def value(kind, **values):
        made = METRICS[kind](Fields(kind, values, []), LETTERS)
        return made.value([made.part(*pair) for pair in pairs])

    assert value("character_recognition_accuracy") == 0
    assert value("character_recognition_accuracy", remove_spaces=True) == 0.5
    assert value("label_level_recognition_accuracy") == pytest.approx(1 - 3 / 7)
