"""Samples from files, folders, lists and Python, one file per format.

``calib.samples.open.open_dataset`` opens any of them. What belongs here turns data into arrays for the model's inputs;
what needs the model itself (its shapes, preprocessing inside it) belongs in ``loading`` (inputs). This module holds
only the table and does not import numpy.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Format:
    """One format of samples.

    Attributes:
        opener: Function from a ``calib.samples.source.Source`` to a Dataset, as "module:function".
        suffixes: File suffixes that imply the format; empty for a format that has to be named or is a folder.
        sentence: Description of what it reads, for ``calib data``.
        options: Keys that may follow the ``?``.
        images: Whether samples are files, of which images go through the preprocessing; arrays are used as they are.
    """

    opener: str
    suffixes: tuple[str, ...]
    sentence: str
    options: tuple[str, ...] = ()
    images: bool = False


FORMATS: dict[str, Format] = {
    "npz": Format(
        "calib.samples.npz:open_npz",
        (".npz",),
        "arrays named like the inputs, samples first; targets in 'labels', or in ?labels=KEY. For a model that keeps "
        "state, ?sequence=row makes each row a sequence (axes: sequence, frame, then those of the input), "
        "?sequence=file all rows one, and ?sequence=KEY those with equal values in that array; a target of a row that "
        "is a sequence may be an array with one for each frame",
        ("labels", "sequence"),
    ),
    "npy": Format(
        "calib.samples.npz:open_npy",
        (".npy",),
        "one array for a model with one input, samples first; targets in ?labels=FILE.npy; sequences as in npz, the "
        "array with the sequence of each row in ?sequence=FILE.npy",
        ("labels", "sequence"),
    ),
    "images": Format(
        "calib.samples.images:open_images",
        (),
        "a folder of images, or of one folder a class (numbered in sorted order, by their number where all names are "
        "numbers, or by the lines of ?classes=FILE); ?links=follow admits links that leave the folder. For a model "
        "that keeps state, ?sequence=folder makes each folder a sequence, with its images in the order of their names",
        ("classes", "links", "sequence"),
        images=True,
    ),
    "csv": Format(
        "calib.samples.lists:open_csv",
        (".csv",),
        "lines of path,label (a header line is optional); paths are images, .npy or .npz files inside the list's "
        "folder, or inside ?root=FOLDER; labels are numbers, text, or lines of ?classes=FILE. For a model that keeps "
        "state, ?sequence=file makes each .npy or .npz file a sequence (frames first), ?sequence=folder the lines "
        "with files of one folder",
        ("root", "classes", "sequence"),
        images=True,
    ),
    "jsonl": Format(
        "calib.samples.lists:open_jsonl",
        (".jsonl", ".ndjson"),
        'lines of {"path": …, "label": …} with any JSON as label; paths and sequences as in csv',
        ("root", "classes", "sequence"),
        images=True,
    ),
    "coco": Format(
        "calib.samples.coco:open_coco",
        (),
        "COCO's JSON file of boxes; images in ?images=FOLDER, from the working folder or from beside the file (beside "
        "it, or in the folder images there, unless given). Categories are numbered 0, 1, … in the order of their ids: "
        "?first=1 starts at 1, ?labels=ids keeps the ids, ?classes=FILE orders their names by its lines. Boxes without "
        "area or outside of their image are an error, or cut with ?outside=clip",
        ("images", "labels", "first", "classes", "outside"),
        images=True,
    ),
    "voc": Format(
        "calib.samples.voc:open_voc",
        (),
        "a folder of Pascal VOC, with Annotations, JPEGImages and ImageSets: boxes of all annotated images or of "
        "?set=val, or with ?target=masks the class maps in SegmentationClass (255 is no class). Other folders: "
        "?images=, ?annotations=, ?masks=; classes in VOC's order or that of their names, ?first= and ?classes= as in "
        "coco",
        ("set", "target", "images", "annotations", "masks", "first", "classes", "outside"),
        images=True,
    ),
    "yolo": Format(
        "calib.samples.yolo:open_yolo",
        (),
        "a data.yaml of YOLO's training tools: images of ?set=val (train, test), labels in text files below labels/ in "
        "place of images/, lines of class, centre x, centre y, width and height in fractions of the image; ?first=1 "
        "numbers its classes from 1",
        ("set", "first"),
        images=True,
    ),
    "wider": Format(
        "calib.samples.wider:open_wider",
        (),
        "boxes of faces in the text format of WIDER FACE, all of the class ?first= (0); images in ?images=FOLDER",
        ("images", "first", "outside"),
        images=True,
    ),
    "masks": Format(
        "calib.samples.masks:open_masks",
        (),
        "a folder with the folders images and masks (or ?images=, ?masks=): class maps as PNG of one channel, whose "
        "values, or indices of the palette, are class numbers; an image and its mask have the same name",
        ("images", "masks"),
        images=True,
    ),
    "imagenet": Format(
        "calib.samples.labelled_lines:open_imagenet",
        (),
        "lines of path and class number, such as ImageNet's val.txt; images in ?images=FOLDER or beside the list; "
        "?first=1 adds 1 to every class",
        ("images", "first"),
        images=True,
    ),
    "text": Format(
        "calib.samples.labelled_lines:open_text",
        (),
        "lines of path and the text in the image, with a tab or a space between them, or as ICDAR 2013 writes them: "
        'path, "text"; images in ?images=FOLDER or beside the list',
        ("images",),
        images=True,
    ),
    "accuracy-check": Format(
        "calib.accuracy_check.dataset:open_accuracy_check",
        (),
        "the data set of an Accuracy Checker configuration, accuracy-check.yml of Open Model Zoo, read and prepared as "
        "it says; ?source= is the folder of the data sets, ?annotations= that of annotation files if they are "
        "elsewhere, ?definitions= a dataset_definitions.yml, ?dataset= one of several data sets. The metric "
        "accuracy-check?file=FILE judges such samples; calib quantize --accuracy-check FILE gives both",
        ("source", "annotations", "definitions", "dataset", "metric"),
    ),
    "python": Format(
        "calib.samples.open:open_python",
        (),
        "python:module:function, where function() returns a list of samples or an object that can be iterated again; a "
        "sample of a model that keeps state is calib.Sequence([feed, feed, …]), with a target that is compared with "
        "the outputs after the last frame, or with targets=[…], one for each frame",
    ),
}


def data_formats() -> list[tuple[str, tuple[str, ...], str]]:
    """Return (name, suffixes, sentence) of every format, in the order of the table."""
    return [(name, entry.suffixes, entry.sentence) for name, entry in FORMATS.items()]
