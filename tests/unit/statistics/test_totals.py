from __future__ import annotations

import numpy as np

from calib.graph.taps import Need
from calib.statistics.totals import LEAST, MOST, PASS_VALUES, count_beyond, counting_group, counting_groups, sampled
from calib.values.plan import TensorId

NEEDS = {TensorId(f"t{i}"): Need(histogram=True) for i in range(300)}


def test_few_samples_are_all_counted_and_many_in_groups():
    assert [counting_groups(count) for count in (None, 1, 127, 128, 300, 50000)] == [1, 1, 1, 2, 4, 4]


def test_a_group_depends_on_the_id_alone_and_reaches_every_tensor():
    found = [counting_group(f"image{i}.png", 0, 4) for i in range(300)]
    assert found == [counting_group(f"image{i}.png", 0, 4) for i in range(300)]
    assert set(found) == {0, 1, 2, 3}


def test_equal_ids_are_in_different_groups():
    assert {counting_group("same", i, 4) for i in range(64)} == {0, 1, 2, 3}


def test_values_that_leave_the_model_are_bounded_for_any_number_of_tensors_and_samples():
    for samples in (None, 1, 10, 300, 100_000):
        for count in (1, 5, 300):
            cuts = sampled(dict(list(NEEDS.items())[:count]), samples)
            assert sum(cuts.values()) <= PASS_VALUES
            assert all(LEAST <= values <= MOST for values in cuts.values())


def test_nothing_leaves_the_model_where_no_histogram_is_needed():
    assert sampled({TensorId("a"): Need()}, 10) == {}


def test_samples_beyond_a_gap_are_counted_where_they_are_rare():
    def beyond(samples: int, *reach: float) -> int:
        return int(count_beyond(np.float32(reach)[:, None], np.array([samples]))[0])

    assert beyond(100, 50, 1, 1) == 1
    assert beyond(100, 4, 1, 1) == 1 and beyond(100, 3.9, 1, 1) == 0
    assert beyond(100, 60, 50, 1, 1) == 2 and beyond(100, 500, 50, 1, 1) == 2
    assert beyond(30, 60, 50, 1, 1) == 0  # two of 30 are more than one in twenty
    assert beyond(5, 50, 1, 1) == 1
    assert beyond(100, 50, 0, 0) == 0  # nothing to compare with: zero in all others
