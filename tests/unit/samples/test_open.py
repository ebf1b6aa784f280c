"""Samples from arrays, files and Python: damaged and hostile ones are refused.

covers: calib.samples.array_file
"""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest

from calib.errors import DataError, UsageError
from calib.samples import open as opening
from calib.samples.feed import as_one
from calib.samples.open import InputSpec, open_dataset

IMAGE = InputSpec("x", ("x",), (1, 3, 4, 4), np.dtype(np.float32))
IDS = InputSpec("ids", ("ids",), (None, None), np.dtype(np.int64))
MASK = InputSpec("mask", ("mask",), (None, None), np.dtype(np.int64))


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def images(count: int = 10) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, 3, 4, 4)).astype(np.float32)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("kept", [True, False])
def test_npz_rows_are_samples_with_or_without_the_batch_axis(tmp_path, save, kept):
    data = images()
    save(tmp_path / "d.npz", x=data[:, None] if kept else data, labels=np.arange(10))
    dataset = open_dataset("d.npz", inputs=[IMAGE])
    samples = list(dataset)
    assert len(dataset) == 10
    for i, sample in enumerate(samples):
        assert sample.feed[0].shape == (1, 3, 4, 4)
        np.testing.assert_array_equal(sample.feed[0][0], data[i])
        assert sample.target == i
    ids = dataset.choose(4, "salt")
    assert [s.id for s in dataset.load(ids)] == list(ids) == sorted(ids)


def test_all_ways_to_give_the_same_samples_have_the_same_ids(tmp_path):
    data = images(16)
    np.savez_compressed(tmp_path / "d.npz", anything=data)
    np.save(tmp_path / "d.npy", data)
    np.save(tmp_path / "f.npy", np.asfortranarray(data))
    given = [
        str(tmp_path / "d.npz"),
        tmp_path / "d.npy",
        str(tmp_path / "f.npy"),
        data,
        list(data),
        [{"x": row} for row in data],
        [(row, 3) for row in data],
        [data[:8], data[8:]],
        [data[i : i + 1].astype(np.float64) for i in np.random.default_rng(1).permutation(16)],
    ]
    chosen = [open_dataset(d, inputs=[IMAGE]).choose(5, "s") for d in given]
    assert all(list(c) == list(chosen[0]) for c in chosen)


def test_repeated_contents_get_ids_that_do_not_depend_on_the_order():
    row = images(1)[0]
    forth = open_dataset([(row, 1), (row, 2), (row, 2)], inputs=[IMAGE])
    back = open_dataset([(row, 2), (row, 2), (row, 1)], inputs=[IMAGE])
    assert {s.id: s.target for s in forth} == {s.id: s.target for s in back}
    assert len(set(forth.choose(None))) == 3


def test_several_inputs_by_name_and_labelled_pairs():
    ids, mask = np.arange(6).reshape(2, 3), np.ones((2, 3), np.int32)
    by_name = open_dataset([({"ids": ids[i], "mask": mask[i]}, i) for i in range(2)], inputs=[IDS, MASK])
    stacked = open_dataset([((ids, mask), [0, 1])], inputs=[IDS, MASK])
    bare = open_dataset([(ids[i : i + 1], mask[i]) for i in range(2)], inputs=[IDS, MASK])
    assert by_name.choose(None) == stacked.choose(None) == bare.choose(None)
    assert [s.target for s in stacked] == [0, 1]
    assert [s.target for s in bare] == [None, None]


def test_npz_without_an_array_for_each_input_lists_what_it_holds(tmp_path):
    np.savez(tmp_path / "d.npz", ids=np.zeros((2, 3), int), other=np.zeros((2, 3), int))
    with pytest.raises(DataError, match=r"no array for the input 'mask'.*'other'"):
        open_dataset("d.npz", inputs=[IDS, MASK])


def test_labels_option_names_another_array(tmp_path):
    np.savez(tmp_path / "d.npz", x=images(3), y=[5, 6, 7])
    assert [s.target for s in open_dataset("d.npz?labels=y", inputs=[IMAGE])] == [5, 6, 7]
    with pytest.raises(DataError, match="no array 'z'"):
        open_dataset("d.npz?labels=z", inputs=[IMAGE])
    with pytest.raises(UsageError, match="no option 'label'"):
        open_dataset("d.npz?label=y", inputs=[IMAGE])


def test_generators_are_refused_with_the_way_out():
    with pytest.raises(DataError, match=r"only once.*Pass a list"):
        open_dataset((row for row in images(2)), inputs=[IMAGE])


class Restarting:
    def __init__(self, rows):
        self.rows = rows

    def __iter__(self):
        return iter(self.rows)


def test_iterables_without_random_access_load_in_the_order_asked(monkeypatch):
    data = images(9)
    dataset = open_dataset(Restarting(data), inputs=[IMAGE])
    ids = list(dataset.choose(None))[::-1] + list(dataset.choose(2))
    assert [s.id for s in dataset.load(ids)] == ids
    monkeypatch.setattr("calib.samples.content._WAITING_BYTES", data[0].nbytes * 2)
    assert [s.id for s in dataset.load(ids)] == ids


def test_data_that_change_between_passes_are_refused():
    class Random:
        def __init__(self):
            self.rng = np.random.default_rng(0)

        def __iter__(self):
            return iter(self.rng.normal(size=(3, 3, 4, 4)))

    dataset = open_dataset(Random(), inputs=[IMAGE])
    with pytest.raises(DataError, match="changed between two passes"):
        list(dataset.load(dataset.choose(None)))


def test_an_error_in_the_users_iterable_names_the_item():
    class Broken:
        def __iter__(self):
            yield images(1)[0]
            raise KeyError("gone")

    with pytest.raises(DataError, match=r"item 1 of the Broken given.*KeyError"):
        len(open_dataset(Broken(), inputs=[IMAGE]))


@pytest.mark.parametrize("data", [[], np.zeros((0, 3, 4, 4))])
def test_empty_data_are_refused(data):
    with pytest.raises(DataError, match="no samples"):
        len(open_dataset(data, inputs=[IMAGE]))


def test_a_single_dict_is_not_a_dataset():
    with pytest.raises(DataError, match="Pass a list"):
        open_dataset({"x": images(1)}, inputs=[IMAGE])


def test_pickled_arrays_are_refused_without_loading_them(tmp_path):
    np.savez(tmp_path / "d.npz", x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match="pickled Python objects"):
        open_dataset("d.npz", inputs=[IMAGE])


def test_truncated_and_empty_npz_files_are_refused(tmp_path):
    np.savez(tmp_path / "d.npz", x=images())
    whole = (tmp_path / "d.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"not a readable .npz"):
        open_dataset("cut.npz", inputs=[IMAGE])
    with zipfile.ZipFile(tmp_path / "none.npz", "w"):
        pass
    with pytest.raises(DataError, match=r"\.npz file is empty"):
        open_dataset("none.npz", inputs=[IMAGE])


def test_flipped_bits_are_found(tmp_path):
    np.savez(tmp_path / "d.npz", x=images())
    data = bytearray((tmp_path / "d.npz").read_bytes())
    data[600] ^= 1
    (tmp_path / "d.npz").write_bytes(data)
    with pytest.raises(DataError, match=r"CRC|damaged"):
        len(open_dataset("d.npz", inputs=[IMAGE]))


def header_only(shape: str, dtype: str = "<f4") -> bytes:
    stream = io.BytesIO()
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    stream.write(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("shape", "message"),
    [("(1000000000000, 3, 4, 4)", "truncated"), ("(1000000000000, 0)", "rows of nothing"), ("(-1, 3)", "truncated")],
)
def test_claimed_shapes_cost_nothing(tmp_path, shape, message):
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("x.npy", header_only(shape))
    with pytest.raises(DataError, match=message):
        open_dataset("d.npz", inputs=[IMAGE])


def test_zip_bombs_are_refused_before_they_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr("calib.samples.array_file.LARGEST_UNCHECKED", 1 << 20)
    np.savez_compressed(tmp_path / "d.npz", x=np.zeros((1 << 20,), np.float32))
    with pytest.raises(DataError, match="zip bomb"):
        open_dataset("d.npz", inputs=[IMAGE])


def test_missing_files_and_unknown_formats(tmp_path):
    (tmp_path / "d.txt").write_text("")
    with pytest.raises(DataError, match="no such file"):
        open_dataset("nothing.npz", inputs=[IMAGE])
    for empty in ("", "npz:"):
        with pytest.raises(UsageError, match="names no data"):
            open_dataset(empty, inputs=[IMAGE])
    with pytest.raises(UsageError, match="formats: npz, npy"):
        open_dataset("d.txt", inputs=[IMAGE])


def test_python_sources_run_only_when_allowed(tmp_path):
    (tmp_path / "my_rows_for_test.py").write_text(
        "import numpy as np\ndef rows():\n    return [np.ones((3, 4, 4))] * 2\n"
    )
    assert len(open_dataset("python:my_rows_for_test:rows", inputs=[IMAGE])) == 2
    with pytest.raises(UsageError, match=r"^python:my_rows_for_test:rows runs code.*--allow-python"):
        open_dataset("python:my_rows_for_test:rows", inputs=[IMAGE], allow_python=False)
    with pytest.raises(UsageError, match="has no 'nothing'"):
        open_dataset("python:my_rows_for_test:nothing", inputs=[IMAGE])
    with pytest.raises(UsageError, match="importing 'no_such_module_here' failed"):
        open_dataset("python:no_such_module_here:rows", inputs=[IMAGE])


class Indexed:
    """As torch's datasets are: no __iter__, and no IndexError at the end."""

    def __len__(self):
        return 4

    def __getitem__(self, number):
        return np.full((3, 4, 4), number), number


def test_objects_with_index_and_length_alone_end_at_their_length():
    assert sorted(s.target for s in open_dataset(Indexed(), inputs=[IMAGE])) == [0, 1, 2, 3]


@pytest.mark.parametrize("data", [5, object(), np.float32(1), np.array(3.0)])
def test_what_can_not_be_iterated_is_refused(data):
    with pytest.raises(DataError, match=r"can't be iterated|no axis"):
        open_dataset(data, inputs=[IMAGE])


def test_a_file_that_changes_while_in_use_is_refused(tmp_path):
    np.savez(tmp_path / "d.npz", x=images())
    dataset = open_dataset("d.npz", inputs=[IMAGE])
    ids = dataset.choose(3)
    np.savez(tmp_path / "d.npz", x=images(12) + 1)
    with pytest.raises(DataError, match="changed while it was in use"):
        list(dataset.load(ids))


def test_bytes_behind_an_array_and_other_packings_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("x.npy", header_only("(1, 3, 4, 4)") + b"\0" * (48 * 4 + 1))
    with pytest.raises(DataError, match="bytes after the end"):
        len(open_dataset("d.npz", inputs=[IMAGE]))
    with zipfile.ZipFile(tmp_path / "d.npz", "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("x.npy", header_only("(0, 3, 4, 4)"))
    with pytest.raises(DataError, match="numpy never writes"):
        open_dataset("d.npz", inputs=[IMAGE])


def test_a_directory_that_claims_more_than_there_is_is_found(tmp_path):
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("x.npy", header_only("(100, 3, 4, 4)"))
    with pytest.raises(DataError, match="truncated or damaged"):
        open_dataset("d.npz", inputs=[IMAGE])


@pytest.mark.parametrize("kind", ["stored.npz", "packed.npz", "plain.npy"])
def test_damaged_files_only_ever_give_a_data_error(tmp_path, kind):
    path = tmp_path / kind
    if kind == "plain.npy":
        np.save(path, images())
    else:
        (np.savez if kind == "stored.npz" else np.savez_compressed)(path, x=images(), labels=np.arange(10))
    whole = path.read_bytes()
    structure = [*range(300), *range(len(whole) - 300, len(whole))]  # headers and directory, more telling than pixels
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(150):
        data = bytearray(whole)
        for place in rng.choice(structure, rng.integers(1, 4)):
            data[place] = rng.integers(0, 256)
        path.write_bytes(data[: rng.integers(1, len(data))] if rng.random() < 0.2 else data)
        try:
            len(open_dataset(path, inputs=[IMAGE]))
        except DataError:
            refused += 1
    assert refused > 30


class Counted:
    """A dataset that notes which samples were loaded."""

    def __init__(self, dataset):
        self.dataset, self.loaded = dataset, []

    def __getattr__(self, name):
        return getattr(self.dataset, name)

    def load(self, ids):
        for sample in self.dataset.load(ids):
            self.loaded.append(sample.id)
            yield sample


def test_what_fits_in_the_limit_is_loaded_once(monkeypatch):
    dataset = open_dataset(images(4), inputs=[IMAGE])
    whole = sum(sample.feed[0].nbytes for sample in dataset)
    for share, loads in ((1.0, 4), (0.5, 6), (0.0, 8)):
        monkeypatch.setattr(opening, "LIMIT", whole * share)
        counted = Counted(dataset)
        kept = opening.InMemory(counted)
        ids = kept.choose(None)
        for order in (ids, ids[::-1]):
            assert [sample.id for sample in kept.load(order)] == list(order)
        assert len(counted.loaded) == loads


def test_files_may_be_images_and_arrays_are_not(tmp_path):
    (tmp_path / "images").mkdir()
    np.savez(tmp_path / "d.npz", x=images())
    (tmp_path / "list.csv").write_text("a.png,1\n")
    found = [opening.may_hold_images(data, [IMAGE]) for data in ("images", "list.csv", "d.npz", list(images()))]
    assert found == [True, True, False, False]


def test_a_list_of_dicts_as_targets_says_that_a_stack_is_a_batch():
    """The boxes of each image: no output of a row has to be compared for that."""
    spec = InputSpec("x", ("x",), (None, 3), np.dtype(np.float32))
    stack = np.zeros((4, 3), np.float32) + np.arange(4, dtype=np.float32)[:, None]
    whole = open_dataset([(stack, np.arange(4))], inputs=[spec], splits=as_one)
    assert [(len(s.feed[0]), len(s.target)) for s in whole] == [(4, 4)]
    boxes = open_dataset([(stack, [{"boxes": [i]} for i in range(4)])], inputs=[spec], splits=as_one)
    assert [(len(s.feed[0]), s.target["boxes"]) for s in boxes] == [(1, [i]) for i in range(4)]


def test_files_of_a_list_and_rows_of_an_npz_are_kept_whole_too(tmp_path):
    spec, points = InputSpec("x", ("x",), (None, 3), np.dtype(np.float32)), np.arange(24, dtype=np.float32)
    np.save(tmp_path / "set.npy", points.reshape(8, 3))
    (tmp_path / "sets.csv").write_text("set.npy,1\n")
    np.savez(tmp_path / "sets.npz", x=points.reshape(2, 4, 3))
    for name, shapes in {"sets.csv": [(8, 3)], "sets.npz": [(4, 3), (4, 3)]}.items():
        found = open_dataset(str(tmp_path / name), inputs=[spec], splits=as_one)
        assert [sample.feed[0].shape for sample in found] == shapes
