"""Sequences of frames: how they are given in Python and in files, and what is wrong with those that are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from calib.errors import DataError, UsageError
from calib.samples.feed import arrays_of
from calib.samples.open import open_dataset
from calib.samples.sample import Frames, FrameTargets, InputSpec, Sample, Sequence

X = InputSpec("x", ("x",), (1, 3), np.dtype(np.float32))
MASK = InputSpec("mask", ("mask",), (1, 2), np.dtype(np.float32))
IMAGE = InputSpec("image", ("image",), (1, 3, 4, 4), np.dtype(np.float32))
FRAMES = np.arange(12, dtype=np.float32).reshape(4, 3)


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def samples_of(data, *inputs: InputSpec) -> list[Sample]:
    return list(open_dataset(data, inputs=inputs or [X]))


def frames_of(sample: Sample) -> list[list[float]]:
    assert isinstance(sample.feed, Frames)
    assert all(array.shape == (1, 3) and array.dtype == np.float32 for frame in sample.feed for array in frame)
    return [frame[0][0].tolist() for frame in sample.feed]


@pytest.mark.parametrize(
    "frames",
    [
        list(FRAMES),
        [row[None] for row in FRAMES],
        [{"x": row} for row in FRAMES],
        tuple((row,) for row in FRAMES),
        FRAMES,
        FRAMES[:, None],
        {"x": FRAMES},
        (row for row in FRAMES),
    ],
)
def test_frames_are_a_list_of_feeds_or_arrays_with_time_first(frames):
    (sample,) = samples_of([Sequence(frames)])
    assert frames_of(sample) == FRAMES.tolist()


def test_several_inputs_come_as_tuples_or_dicts():
    masks = np.arange(8, dtype=np.float32).reshape(4, 2)
    pairs = Sequence(list(zip(FRAMES, masks, strict=True)))
    named = Sequence({"mask": masks, "x": FRAMES})
    for given in (pairs, named):
        (sample,) = samples_of([given], X, MASK)
        assert isinstance(sample.feed, Frames) and len(sample.feed) == 4
        assert [frame[1][0].tolist() for frame in sample.feed] == masks.tolist()


def test_a_sequence_may_stand_next_to_its_target_or_hold_one_for_each_frame():
    whole, each = samples_of([(Sequence(FRAMES), 7), Sequence(FRAMES[::-1].copy(), [0, 1, None, 3])])
    assert whole.target == 7
    assert isinstance(each.target, FrameTargets) and list(each.target) == [0, 1, None, 3]
    (own,) = samples_of([Sample(Sequence(FRAMES), 7, where="drive 5")])
    assert (own.target, own.where) == (7, "drive 5")


def test_ids_tell_the_order_of_frames_apart_and_targets_of_frames():
    forth, back = samples_of([Sequence(FRAMES), Sequence(FRAMES[::-1].copy())])
    assert forth.id != back.id
    one, other = (
        open_dataset([Sequence(FRAMES, t), Sequence(FRAMES, [9] * 4)], inputs=[X]) for t in ([1] * 4, [2] * 4)
    )
    assert {s.id: list(s.target) for s in one} != {s.id: list(s.target) for s in other}
    assert [s.id for s in one.load(one.choose(None))] == list(one.choose(None))


def test_all_arrays_of_a_sequence_count_for_its_size():
    (sample,) = samples_of([Sequence(FRAMES)])
    assert sum(array.nbytes for array in arrays_of(sample)) == FRAMES.nbytes


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Sequence([]), "item 0 of the list given: a sequence without frames"),
        (Sequence(np.zeros((0, 3), np.float32)), "a sequence without frames"),
        (Sequence([FRAMES[0], FRAMES[0, :2]]), r"frame 1 of item 0 .* \[1,3\] float32 got an array of shape \[2\]"),
        (Sequence([FRAMES[0], {"y": FRAMES[1]}]), r"frame 1 of item 0 .* nothing for the input 'x'; the feed has 'y'"),
        (Sequence([FRAMES]), r"frame 0 of item 0 .* holds 4 feeds, and a frame is one.*Sequence\(array\)"),
        (Sequence("x"), "a list of feeds, or arrays; got str"),
        (Sequence(3), "a list of feeds, or arrays; got int"),  # pyright: ignore[reportArgumentType]
        (Sequence(FRAMES[0]), "an array of 3 for a sequence was taken for 1 frames"),
        (Sequence(FRAMES, [1, 2]), "4 frames and 2 targets"),
        ((Sequence(FRAMES, [1] * 4), 1), "a target of the sequence and one for each frame"),
    ],
)
def test_what_is_no_sequence_is_named_with_the_way_out(given, message: str):
    with pytest.raises(DataError, match=message):
        samples_of([given])


def test_inputs_of_different_lengths_are_named():
    given = Sequence({"x": FRAMES, "mask": np.zeros((3, 2), np.float32)})
    with pytest.raises(
        DataError, match=r"different numbers of frames: 'x' has 4, 'mask' has 3\. The first axis is time"
    ):
        samples_of([given], X, MASK)


def test_one_sequence_is_no_dataset():
    with pytest.raises(DataError, match=r"a Sequence is one sample\. Pass a list of sequences"):
        samples_of(Sequence(FRAMES))


ROWS = np.arange(18, dtype=np.float32).reshape(6, 3)


@pytest.mark.parametrize("compressed", [False, True])
def test_rows_of_an_npz_are_grouped_by_an_array_in_it(compressed: bool):
    save = np.savez_compressed if compressed else np.savez
    save("d.npz", x=ROWS, drive=np.array([4, 4, 4, 9, 2, 2]), labels=np.arange(6))
    found = samples_of("d.npz?sequence=drive")
    assert [frames_of(sample) for sample in found] == [ROWS[:3].tolist(), ROWS[3:4].tolist(), ROWS[4:].tolist()]
    assert [[int(t) for t in sample.target] for sample in found] == [[0, 1, 2], [3], [4, 5]]


def test_all_rows_of_a_file_may_be_one_sequence():
    np.savez("d.npz", x=ROWS)
    np.save("d.npy", ROWS)
    for text in ("d.npz?sequence=file", "npy:d.npy?sequence=file"):
        (sample,) = samples_of(text)
        assert frames_of(sample) == ROWS.tolist() and sample.target is None


def test_each_row_may_be_a_sequence():
    frames = ROWS.reshape(2, 3, 3)
    np.savez("d.npz", x=frames, labels=np.array([5, 6]), each=np.arange(6).reshape(2, 3))
    found = samples_of("d.npz?sequence=row")
    assert [frames_of(sample) for sample in found] == frames.tolist()
    assert [int(sample.target) for sample in found] == [5, 6]
    found = samples_of("d.npz?sequence=row&labels=each")
    assert [[int(t) for t in sample.target] for sample in found] == [[0, 1, 2], [3, 4, 5]]


def test_the_sequences_of_an_npy_are_in_another_file():
    np.save("d.npy", ROWS)
    np.save("drive.npy", np.array(["a", "a", "b", "b", "b", "c"]))
    assert [len(frames_of(sample)) for sample in samples_of("d.npy?sequence=drive.npy")] == [2, 3, 1]


@pytest.mark.parametrize(
    ("arrays", "option", "message"),
    [
        (
            {"x": ROWS, "drive": np.array([1, 1, 2, 2, 1, 1])},
            "drive",
            r"sequence 1 are not next to each other \(row 1, then row 4",
        ),
        ({"x": ROWS, "drive": np.zeros((6, 2))}, "drive", r"'drive' has shape \[6, 2\]"),
        ({"x": ROWS, "drive": np.zeros(5)}, "drive", "different lengths: 'x' has 6, 'drive' has 5"),
        ({"x": ROWS}, "nothing", r"\?sequence=nothing is none of row .*'x' \[6, 3\] float32"),
        ({"x": ROWS}, "row", "needs the axes of sequences and of frames before"),
    ],
)
def test_what_does_not_fit_a_file_is_named(arrays, option: str, message: str):
    np.savez("d.npz", **arrays)
    with pytest.raises(DataError, match=message):
        samples_of(f"d.npz?sequence={option}")


def test_files_of_a_list_hold_a_sequence_each_or_are_frames_of_their_folder():
    for name in ("a", "b"):
        Path(name).mkdir()
        for number in range(3):
            np.save(f"{name}/{number}.npy", ROWS[number])
    np.save("long.npy", ROWS)
    np.savez("short.npz", x=ROWS[:2])
    Path("files.csv").write_text("long.npy,7\nshort.npz,8\n")
    whole = {sample.target: frames_of(sample) for sample in samples_of("files.csv?sequence=file")}
    assert whole == {7: ROWS.tolist(), 8: ROWS[:2].tolist()}
    Path("frames.csv").write_text("a/2.npy,0\nb/0.npy,1\na/1.npy,2\n")
    found = {sample.id: (frames_of(sample), list(sample.target)) for sample in samples_of("frames.csv?sequence=folder")}
    assert found == {"a": ([ROWS[2].tolist(), ROWS[1].tolist()], [0, 2]), "b": ([ROWS[0].tolist()], [1])}
    with pytest.raises(DataError, match=r"long\.npy, line 1 of files\.csv: holds 6 samples.*\?sequence=file"):
        samples_of("files.csv")
    with pytest.raises(
        UsageError, match=r"\?sequence=row is not known here; give \?sequence=file or \?sequence=folder"
    ):
        samples_of("files.csv?sequence=row")


def test_a_folder_of_images_is_a_sequence_in_the_order_of_names():
    for name, shades in {"walk/clip1": (30, 10), "run/clip2": (20,)}.items():
        Path("video", name).mkdir(parents=True)
        for number, shade in enumerate(shades):
            Image.new("RGB", (4, 4), (shade, 0, 0)).save(f"video/{name}/{number}.png")
    found = samples_of("video?sequence=folder", IMAGE)
    shades = {sample.id: [float(frame[0][0, 0, 0, 0]) for frame in sample.feed] for sample in found}
    assert shades == {"walk/clip1": [30, 10], "run/clip2": [20]}
    assert {sample.id: sample.target for sample in found} == {"walk/clip1": 1, "run/clip2": 0}
    with pytest.raises(UsageError, match=r"\?sequence=file is not known here; give \?sequence=folder"):
        samples_of("video?sequence=file", IMAGE)
