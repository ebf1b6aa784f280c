"""What holds for every data format in the table.

covers: calib.samples, calib.samples.npz
"""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from calib.accuracy_check.values import Judged
from calib.errors import DataError, UsageError
from calib.samples import FORMATS, data_formats
from calib.samples.open import InputSpec, open_dataset

INPUT = InputSpec("x", ("x",), (1, 3, 4, 4), np.dtype(np.float32))
COUNT = 6


def rows() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (COUNT, 4, 4, 3), dtype=np.uint8)


def write_images(folder, order):
    for i in order:
        (folder / f"c{i % 2}").mkdir(exist_ok=True, parents=True)
        Image.fromarray(rows()[i]).save(folder / f"c{i % 2}" / f"{i}.png")


def npz(folder, order):
    np.savez(folder / "d.npz", x=rows()[order].transpose(0, 3, 1, 2), labels=np.array(order) % 2)
    return "d.npz"


def npy(folder, order):
    np.save(folder / "d.npy", rows()[order].transpose(0, 3, 1, 2))
    np.save(folder / "l.npy", np.array(order) % 2)
    return "d.npy?labels=l.npy"


def images(folder, order):
    write_images(folder / "d", order)
    return "d"


def csv(folder, order):
    write_images(folder, order)
    (folder / "d.csv").write_text("".join(f"c{i % 2}/{i}.png,{i % 2}\n" for i in order))
    return "d.csv"


def jsonl(folder, order):
    write_images(folder, order)
    lines = [json.dumps({"path": f"c{i % 2}/{i}.png", "label": i % 2}) for i in order]
    (folder / "d.jsonl").write_text("\n".join(lines))
    return "d.jsonl"


def python(folder, order):
    name = "rows_" + "_".join(map(str, order))
    code = f"import numpy as np\nARRAY = np.array({rows()[order].transpose(0, 3, 1, 2).tolist()}, np.uint8)\n"
    (folder / f"{name}.py").write_text(code + f"def all():\n    return list(zip(ARRAY, {[i % 2 for i in order]}))\n")
    return f"python:{name}:all"


def coco(folder, order):
    write_images(folder / "images", order)
    content = {
        "images": [{"id": i, "file_name": f"c{i % 2}/{i}.png", "height": 4, "width": 4} for i in order],
        "annotations": [{"id": i, "image_id": i, "category_id": i % 2 + 5, "bbox": [0, 1, 2, 2]} for i in order],
        "categories": [{"id": 5, "name": "five"}, {"id": 6, "name": "six"}],
    }
    (folder / "boxes.json").write_text(json.dumps(content))
    return "coco:boxes.json"


def voc(folder, order):
    for name in ("JPEGImages", "Annotations"):
        (folder / "v" / name).mkdir(parents=True)
    for i in order:
        Image.fromarray(rows()[i]).save(folder / "v" / "JPEGImages" / f"{i}.png")
        box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox>"
        text = f"<annotation><object><name>{'bicycle' if i % 2 else 'aeroplane'}</name>{box}</object></annotation>"
        (folder / "v" / "Annotations" / f"{i}.xml").write_text(text)
    return "voc:v"


def yolo(folder, order):
    write_images(folder / "images", order)
    (folder / "data.yaml").write_text("val: images\nnames: [a, b]\n")
    for i in order:
        (folder / "labels" / f"c{i % 2}").mkdir(parents=True, exist_ok=True)
        (folder / "labels" / f"c{i % 2}" / f"{i}.txt").write_text(f"{i % 2} 0.5 0.5 0.5 0.5\n")
    return "yolo:data.yaml"


def wider(folder, order):
    write_images(folder / "images", order)
    (folder / "gt.txt").write_text("".join(f"c{i % 2}/{i}.png\n{i % 2}\n0 0 2 2 0 0\n" for i in order))
    return "wider:gt.txt?first=1"


def masks(folder, order):
    for name in ("images", "masks"):
        (folder / "m" / name).mkdir(parents=True)
    for i in order:
        Image.fromarray(rows()[i]).save(folder / "m" / "images" / f"{i}.png")
        Image.fromarray(np.full((4, 4), i % 2, np.uint8)).save(folder / "m" / "masks" / f"{i}.png")
    return "masks:m"


def imagenet(folder, order):
    write_images(folder, order)
    (folder / "val.txt").write_text("".join(f"c{i % 2}/{i}.png {i % 2}\n" for i in order))
    return "imagenet:val.txt"


def text(folder, order):
    write_images(folder, order)
    (folder / "gt.txt").write_text("".join(f"c{i % 2}/{i}.png\t{i % 2}\n" for i in order))
    return "text:gt.txt"


WRITERS = {
    "npz": npz,
    "npy": npy,
    "images": images,
    "csv": csv,
    "jsonl": jsonl,
    "python": python,
    "coco": coco,
    "voc": voc,
    "yolo": yolo,
    "wider": wider,
    "masks": masks,
    "imagenet": imagenet,
    "text": text,
}


def accuracy_check(folder, order):
    write_images(folder / "data", order)
    # the list names files without their folders, so that images are put into one
    (folder / "data" / "all").mkdir()
    for i in order:
        (folder / "data" / f"c{i % 2}" / f"{i}.png").rename(folder / "data" / "all" / f"{i}.png")
    (folder / "data" / "val.txt").write_text("".join(f"{i}.png {i % 2}\n" for i in order))
    dataset = {
        "name": "d",
        "data_source": "all",
        "reader": "pillow_imread",
        "annotation_conversion": {"converter": "imagenet", "annotation_file": "val.txt"},
        "metrics": [{"type": "accuracy"}],
    }
    launcher = {"framework": "openvino", "adapter": "classification"}
    content = {"models": [{"name": "m", "launchers": [launcher], "datasets": [dataset]}]}
    (folder / "accuracy-check.yml").write_text(json.dumps(content))
    return "accuracy-check:accuracy-check.yml?source=data"


WRITERS["accuracy-check"] = accuracy_check


def number(target):
    """Return what the writers put into a target: the number of a row modulo 2."""
    if isinstance(target, Judged):
        return int(target.annotation.values)
    if isinstance(target, dict):
        return sum(target["labels"]) if "boxes" in target and len(target["labels"]) else 0
    return int(np.ravel(target)[0])


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(params=list(FORMATS))
def name(request):
    assert request.param in WRITERS, f"give {request.param} a writer here"
    return request.param


@pytest.fixture
def dataset(name, tmp_path):
    return open_dataset(WRITERS[name](tmp_path, list(range(COUNT))), inputs=[INPUT])


def test_feeds_are_what_the_model_takes(dataset):
    samples = list(dataset)
    assert len(samples) == len(dataset) == COUNT
    for sample in samples:
        assert isinstance(sample.feed, tuple)
        assert sample.feed[0].shape == (1, 3, 4, 4) and sample.feed[0].dtype == np.float32
        assert sample.where and sample.id


def test_pixels_and_targets_arrive_unchanged(dataset):
    found = {(number(s.target), s.feed[0].tobytes()) for s in dataset}
    assert found == {(i % 2, row.transpose(2, 0, 1).astype(np.float32).tobytes()) for i, row in enumerate(rows())}


def test_it_can_be_iterated_again(dataset):
    assert [s.id for s in dataset] == [s.id for s in dataset]


def test_chosen_samples_load_in_the_order_asked(dataset):
    ids = list(dataset.choose(4, "salt"))
    assert len(ids) == 4 and ids == sorted(ids) and len(set(ids)) == 4
    assert [s.id for s in dataset.load(ids[::-1])] == ids[::-1]
    assert set(ids) <= {s.id for s in dataset}


def test_more_than_there_are_gives_all(dataset):
    assert dataset.choose(100) == dataset.choose(None)
    assert len(dataset.choose(None)) == COUNT


def test_unknown_ids_are_refused(dataset):
    with pytest.raises(DataError, match="no sample with the id"):
        list(dataset.load(["nothing"]))


def test_the_order_of_the_listing_changes_neither_ids_nor_choice(name, tmp_path, monkeypatch):
    found = []
    for order in ([0, 1, 2, 3, 4, 5], [5, 2, 0, 4, 1, 3]):
        folder = tmp_path / str(order[0])
        folder.mkdir()
        monkeypatch.chdir(folder)
        dataset = open_dataset(WRITERS[name](folder, order), inputs=[INPUT])
        found.append(({s.id: (number(s.target), s.feed[0].tobytes()) for s in dataset}, list(dataset.choose(3, "s"))))
    assert found[0] == found[1]


def test_the_source_is_what_the_user_wrote(name, tmp_path):
    text = WRITERS[name](tmp_path, [0, 1])
    assert open_dataset(text, inputs=[INPUT]).source == text


def test_the_format_may_be_named(name, tmp_path):
    text = WRITERS[name](tmp_path, [0, 1])
    assert len(open_dataset(f"{name}:{text.removeprefix(f'{name}:')}", inputs=[INPUT])) == 2


def test_unknown_options_are_refused(name, tmp_path):
    text = WRITERS[name](tmp_path, [0, 1])
    with pytest.raises(UsageError, match="no option 'strange'"):
        open_dataset(f"{text.partition('?')[0]}?strange=1", inputs=[INPUT])


def test_a_missing_place_is_named(name, tmp_path):
    more = {"python": ":x", "accuracy-check": "?source=."}.get(name, "")
    with pytest.raises((DataError, UsageError), match="nothing_here"):
        open_dataset(f"{name}:nothing_here{more}", inputs=[INPUT])


def test_every_format_says_what_it_reads():
    assert [row[0] for row in data_formats()] == list(FORMATS)
    assert all(sentence and not sentence.endswith(".") for _, _, sentence in data_formats())


def test_the_tables_load_neither_numpy_nor_anything_heavy():
    code = "import sys, calib.samples, calib.metrics; print({'numpy', 'PIL', 'openvino'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"
