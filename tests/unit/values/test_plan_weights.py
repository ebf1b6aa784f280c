from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from calib.errors import StatisticsError
from calib.values.plan import Port
from calib.values.plan_weights import PlanWeights, read_weights, weights_path, weights_to_bytes

WEIGHTS = PlanWeights(
    "f" * 64,
    ("mean and scale are in the model",),
    ("folded a constant",),
    "p" * 64,
    {"version": "1", "settings/ignore": "['a']"},
    {
        Port("evil\ud800/b", 1): (np.arange(-12, 12, dtype=np.int8).reshape(4, 3, 2), np.full((4, 1, 1), 0.5, "f4")),
        Port("a", 0): (np.zeros((2, 1), np.int8), np.ones((2, 1), np.float32)),
    },
    {"a": np.array([0.25, -1e-9], np.float32)},
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "plan.npz").write_bytes(weights_to_bytes(WEIGHTS))
    return tmp_path / "plan.npz"


def test_weights_read_back_to_the_last_bit_and_write_the_same_bytes(file: Path):
    found = read_weights(file)
    for name in ("fingerprint", "preprocessing", "normalization", "plan"):
        assert getattr(found, name) == getattr(WEIGHTS, name)
    assert found.rt_info == WEIGHTS.rt_info and list(found.rounded) == list(WEIGHTS.rounded)
    for port, (levels, scale) in WEIGHTS.rounded.items():
        assert found.rounded[port][0].dtype == np.int8 and np.array_equal(found.rounded[port][0], levels)
        assert found.rounded[port][1].dtype == np.float32 and np.array_equal(found.rounded[port][1], scale)
    assert np.array_equal(found.biases["a"], WEIGHTS.biases["a"])
    assert weights_to_bytes(found) == file.read_bytes()


def test_a_run_without_corrections_has_a_file_too(tmp_path: Path):
    bare = PlanWeights("f", (), (), "p", {})
    (tmp_path / "plan.npz").write_bytes(weights_to_bytes(bare))
    assert read_weights(tmp_path / "plan.npz") == bare


def test_no_flipped_byte_and_no_cut_gives_other_weights(file: Path):
    whole = file.read_bytes()
    damaged = [whole[:at] + bytes([whole[at] ^ 0x41]) + whole[at + 1 :] for at in range(0, len(whole), 7)]
    directory = whole.index(b"PK\x01\x02")  # of the first member: the version to read it, whether it is encrypted, how
    damaged += [whole[: directory + at] + b"\x63" + whole[directory + at + 1 :] for at in (6, 8, 10)]
    cut = [whole[:at] for at in range(0, len(whole), 61)]
    refused = 0
    for data in damaged + cut:
        file.write_bytes(data)
        try:
            assert weights_to_bytes(read_weights(file)) == whole  # a date or a comment of the zip was hit
        except StatisticsError as error:
            assert "is damaged, or holds no weights of a plan" in str(error)
            refused += 1
    assert refused > len(damaged) // 2 + len(cut) - 1


def _with(file: Path, kind: int, **arrays: np.ndarray) -> None:
    with zipfile.ZipFile(file) as old:
        members = {name: old.read(name) for name in old.namelist()}
    for name, array in arrays.items():
        stream = io.BytesIO()
        np.save(stream, array, allow_pickle=True)
        members[f"{name}.npy"] = stream.getvalue()
    with zipfile.ZipFile(file, "w", kind) as new:
        for name, data in members.items():
            new.writestr(name, data)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("levels", np.array([{}], object)),
        ("levels", np.zeros(26, np.int8)),
        ("scales", np.full(6, np.nan, np.float32)),
        ("about", np.zeros(4, np.uint8)),
    ],
)
def test_pickles_and_other_contents_are_refused(name: str, array: np.ndarray, file: Path):
    _with(file, zipfile.ZIP_STORED, **{name: array})
    with pytest.raises(StatisticsError, match=r"plan\.npz is damaged"):
        read_weights(file)


def test_compressed_members_are_refused_before_they_are_read(file: Path):
    _with(file, zipfile.ZIP_DEFLATED)
    with pytest.raises(StatisticsError, match="compressed"):
        read_weights(file)


def test_a_statistics_file_is_no_file_of_weights(tmp_path: Path):
    np.savez(tmp_path / "plan.npz", version=np.array(3))
    with pytest.raises(StatisticsError, match="holds no weights of a plan"):
        read_weights(tmp_path / "plan.npz")


def test_the_file_is_beside_the_plan():
    assert weights_path("out/plan.json") == Path("out/plan.npz")
