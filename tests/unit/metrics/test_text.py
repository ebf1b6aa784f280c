"""Error rates and accuracy of characters, words and texts, by hand.

covers: calib.metrics.text_pairs
"""

from __future__ import annotations

import numpy as np
import pytest

from calib.errors import MetricError, MissingExtraError, UsageError
from calib.metrics.text import ErrorRate, TextAccuracy


def steps(*ids, classes=6):
    return [np.eye(classes, dtype=np.float32)[None, list(ids)]]


@pytest.fixture
def vocabulary(tmp_path):
    (tmp_path / "v.txt").write_text("a\nb\nc\nd\n \n")  # classes 1 to 5
    return {"vocabulary": str(tmp_path / "v.txt")}


def test_ctc_merges_repetitions_and_drops_blanks(vocabulary):
    cer = ErrorRate("cer", **vocabulary)
    assert cer.measure(steps(0, 1, 1, 0, 1, 2), "aab") == [0, 3]
    assert cer.measure(steps(1, 1, 2), "aab") == [1, 3]
    assert cer.measure([steps(1, 0, 2)[0].transpose(1, 0, 2)], "ab") == [0, 2]
    assert cer.measure([np.array([[1, 1, 0, 2]])], "aab") == [0, 3]


def test_error_rates_divide_all_edits_by_all_symbols(vocabulary):
    cer = ErrorRate("cer", **vocabulary)
    assert cer.aggregate([[1, 3], [0, 1]]) == 0.25
    assert cer.measure(steps(0, 0), "") == [0, 0]
    assert cer.measure(steps(1, 2), "") == [2, 0]
    assert cer.measure(steps(0), "ab") == [2, 2]


def test_a_text_of_digits_that_became_a_number_is_refused():
    with pytest.raises(MetricError, match=r"got the number 123.*JSON lines"):
        ErrorRate("cer").measure(steps(1, 2, 3), 123)


def test_words_are_counted_by_wer(vocabulary):
    wer = ErrorRate("wer", **vocabulary)
    assert wer.measure(steps(1, 5, 2), "a  b") == [0, 2]
    assert wer.measure(steps(1, 5, 3, 4), "a b c") == [2, 3]
    with pytest.raises(MetricError, match="a target is a text"):
        wer.measure(steps(1), [1])


def test_the_blank_may_be_another_class(vocabulary):
    assert ErrorRate("cer", **vocabulary, blank="5").measure(steps(0, 5, 0, 1), "aab") == [0, 3]
    assert ErrorRate("cer").measure(steps(1, 0, 5), [1, 5, -1]) == [0, 2]
    with pytest.raises(UsageError, match="blank"):
        ErrorRate("cer", blank="x")
    with pytest.raises(MetricError, match="blank=9 is none of 6"):
        ErrorRate("cer", blank="9").measure(steps(1), [1])


def test_a_missing_or_short_vocabulary_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"gone\.txt can't be read"):
        ErrorRate("cer", str(tmp_path / "gone.txt"))
    (tmp_path / "v.txt").write_text("a\n")
    with pytest.raises(MetricError, match="no line for class 3"):
        ErrorRate("cer", str(tmp_path / "v.txt")).measure(steps(3), "c")
    with pytest.raises(MetricError, match="vocabulary=FILE"):
        ErrorRate("cer").measure(steps(3), "c")


def test_a_missing_extra_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"jiwer.*pip install 'jiwer>=\d"):
        ErrorRate("wer")


def test_character_accuracy_is_one_minus_the_error_rate_and_not_below_zero(vocabulary):
    metric = ErrorRate("character-accuracy", **vocabulary, accuracy=True)
    assert metric.higher_is_better and metric.aggregate([[1, 3], [0, 1]]) == 0.75
    assert metric.aggregate([metric.measure(steps(1, 2), "c")]) == 0


def test_word_accuracy_counts_texts_that_are_entirely_right(vocabulary):
    metric = TextAccuracy(**vocabulary)
    parts = [metric.measure(steps(1, 0, 2), text) for text in ("ab", "aB", "a b", "abc")]
    assert parts == [1, 0, 0, 0] and metric.aggregate(parts) == 0.25 and metric.per_sample(parts).tolist() == parts
    assert TextAccuracy(**vocabulary, case="false").measure(steps(1, 0, 2), "aB") == 1
    assert TextAccuracy(**vocabulary, spaces="false").measure(steps(1, 0, 2), "a b ") == 1
    assert TextAccuracy().measure(steps(1, 0, 2), [1, 2]) == 1
    with pytest.raises(UsageError, match="case is true or false"):
        TextAccuracy(case="no")


def test_a_text_that_was_decoded_before_is_taken_as_it_is():
    decoded = [np.array(["ab c"])]
    assert ErrorRate("cer").measure(decoded, "ab d") == [1, 4]
    assert ErrorRate("wer").measure(decoded, "ab d") == [1, 2]
    assert TextAccuracy().measure(decoded, "ab c") == 1
    with pytest.raises(MetricError, match="decoded to a text, so a target is a text"):
        ErrorRate("cer").measure(decoded, [1, 2])
