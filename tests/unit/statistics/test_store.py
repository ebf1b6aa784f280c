from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from calib.errors import OutputError, StatisticsError
from calib.statistics.store import load_summaries, save_summaries
from calib.values.plan import TensorId
from calib.values.summary import Collected, Histogram, Summaries, TensorSummary

PLAIN = TensorSummary(TensorId("a:b", 1), 3, -1.5, 2.5, -1.0, 2.0)
FULL = TensorSummary(
    TensorId("conv"),
    3,
    -0.1,
    0.1 + 1e-9,
    -1 / 3,
    1 / 3,
    Histogram.of(np.array([0.5, 0.25, -0.5], np.float32)),
    np.array([-1, -2], np.float32),
    np.array([1, 2], np.float32),
    2,
    high_sample="cats/3.png",
    next_high=0.05,
    next_low=-0.1,
    trimmed_high=0.05,
    farthest_high=(("cats/3.png", 0.1 + 1e-9), ("dogs/1.png", 0.05)),
    farthest_low=(("dogs/1.png", -0.1),),
    uncounted=Histogram.of(np.array([0.75, 0.0], np.float32)),
    uncounted_samples=1,
)


def equal(one: TensorSummary, other: TensorSummary) -> bool:
    return str(one) == str(other) and dataclasses.astuple(one)[:6] == dataclasses.astuple(other)[:6]


def both() -> dict[TensorId, TensorSummary]:
    return {summary.tensor: summary for summary in (FULL, PLAIN)}


def alone(summaries: Summaries) -> Collected:
    return Collected(summaries, summaries)


def test_what_is_saved_comes_back_whole(tmp_path):
    path = tmp_path / "statistics.npz"
    save_summaries(path, alone(both()), "model-1")
    found = load_summaries(path, "model-1")
    assert set(found.whole) == set(both()) and found.kept is found.whole
    assert all(equal(found.whole[tensor], summary) for tensor, summary in both().items())
    assert [p.name for p in tmp_path.iterdir()] == ["statistics.npz"]


def test_what_the_samples_that_are_not_held_out_say_is_kept_apart(tmp_path):
    kept = {FULL.tensor: dataclasses.replace(FULL, samples=2, low=-0.05), PLAIN.tensor: PLAIN}
    save_summaries(tmp_path / "s.npz", Collected(kept, both()), "f")
    found = load_summaries(tmp_path / "s.npz", "f")
    assert all(equal(found.whole[tensor], summary) for tensor, summary in both().items())
    assert all(equal(found.kept[tensor], summary) for tensor, summary in kept.items())


def test_the_bytes_do_not_depend_on_the_order_of_the_tensors(tmp_path):
    save_summaries(tmp_path / "a", alone(both()), "f")
    save_summaries(tmp_path / "b", alone(dict(reversed(both().items()))), "f")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_nothing_collected_is_a_file_too(tmp_path):
    save_summaries(tmp_path / "s.npz", alone({}), "f")
    assert load_summaries(tmp_path / "s.npz", "f") == alone({})


def test_a_foreign_file_is_refused_and_both_fingerprints_are_named(tmp_path):
    save_summaries(tmp_path / "s.npz", alone(both()), "model-1")
    with pytest.raises(StatisticsError, match=r"model-1.*model-2"):
        load_summaries(tmp_path / "s.npz", "model-2")


@pytest.mark.parametrize("keep", [0, 10, 400, -30])
def test_a_truncated_file_is_refused_by_name(tmp_path, keep):
    path = tmp_path / "s.npz"
    save_summaries(path, alone(both()), "f")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(StatisticsError, match=r"s\.npz"):
        load_summaries(path, "f")


@pytest.mark.parametrize(("at", "value"), [(6, 99), (8, 1), (10, 99)], ids=["version", "encrypted", "method"])
def test_an_archive_that_is_packed_as_numpy_never_does_is_refused_by_name(tmp_path, at, value):
    path = tmp_path / "s.npz"
    save_summaries(path, alone(both()), "f")
    whole = bytearray(path.read_bytes())
    whole[whole.index(b"PK\x01\x02") + at] = value  # of the first member, in the directory at the end
    path.write_bytes(whole)
    with pytest.raises(StatisticsError, match=r"s\.npz is not a readable statistics file \(.+\)"):
        load_summaries(path, "f")


def test_other_files_are_refused(tmp_path):
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    np.save(tmp_path / "plain.npy", np.zeros(3))
    np.save(tmp_path / "pickle.npy", np.array([{}], dtype=object), allow_pickle=True)
    for name in ("other.npz", "plain.npy", "pickle.npy", "missing.npz"):
        with pytest.raises(StatisticsError, match=name):
            load_summaries(tmp_path / name, "f")


def test_a_place_that_can_not_be_written_is_named(tmp_path):
    with pytest.raises(OutputError, match="absent"):
        save_summaries(tmp_path / "absent" / "s.npz", alone(both()), "f")


def test_other_arrays_are_said_to_be_no_statistics(tmp_path):
    np.savez(tmp_path / "data.npz", x=np.zeros(3))
    with pytest.raises(StatisticsError, match=r"data\.npz is not a readable statistics file \(it holds no 'version'\)"):
        load_summaries(tmp_path / "data.npz", "anything")
