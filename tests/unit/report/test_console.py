from __future__ import annotations

import pytest

from calib.report.console import table
from calib.report.escape import columns_of

TITLES = ("name", "kind", "count", "what it is")
SENTENCE = "a sentence of some length that a person wants to read to its very end"
ROWS = [("first/of/all", "Convolution", "3", SENTENCE), ("second", "MatMul", "12", "short")]


@pytest.mark.parametrize("width", [40, 52, 60, 80, 200])
def test_the_last_column_is_read_to_its_end_at_any_width(width: int) -> None:
    lines = table(TITLES, ROWS, width, right=(2,))
    assert max(columns_of(line) for line in lines) <= width
    words = " ".join(lines).split()
    assert [word for word in words if word in SENTENCE.split()] == SENTENCE.split()


def test_columns_that_hold_nothing_are_left_out() -> None:
    lines = table(TITLES, [("a", "", "1", ""), ("b", "", "22", "")], 80, right=(2,))
    assert lines == ["name  count", "───────────", "a         1", "b        22"]


def test_numbers_in_the_last_column_stay_whole() -> None:
    assert table(("a", "b"), [("x" * 30, "123456")], 20, right=(1,))[-1].endswith("  123456")
