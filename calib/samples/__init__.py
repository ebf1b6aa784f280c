"""Samples from files, folders, lists and Python: one file a format.

``calib.samples.open.open_dataset`` opens any of them. This module holds only the table, and imports no numpy.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Format:
    """One way to give samples.

    Attributes:
        opener: "module:function" that takes a ``calib.samples.source.Source`` and returns a Dataset.
        suffixes: file suffixes that name the format; empty for one that has to be named or is a folder.
        sentence: what it reads, for ``calib data``.
        options: the keys that may follow the ``?``.
    """

    opener: str
    suffixes: tuple[str, ...]
    sentence: str
    options: tuple[str, ...] = ()


FORMATS: dict[str, Format] = {
    "npz": Format(
        "calib.samples.npz:open_npz",
        (".npz",),
        "arrays named like the inputs, samples first; targets in 'labels', or in ?labels=KEY",
        ("labels",),
    ),
    "npy": Format(
        "calib.samples.npz:open_npy",
        (".npy",),
        "one array for a model with one input, samples first; targets in ?labels=FILE.npy",
        ("labels",),
    ),
    "images": Format(
        "calib.samples.images:open_images",
        (),
        "a folder of images, or of one folder a class (numbered in sorted order, by their number where all names are "
        "numbers, or by the lines of ?classes=FILE); ?links=follow admits links that leave the folder",
        ("classes", "links"),
    ),
    "csv": Format(
        "calib.samples.lists:open_csv",
        (".csv",),
        "lines of path,label (a header line is optional); paths are images, .npy or .npz files inside the list's "
        "folder, or inside ?root=FOLDER; labels are numbers, text, or lines of ?classes=FILE",
        ("root", "classes"),
    ),
    "jsonl": Format(
        "calib.samples.lists:open_jsonl",
        (".jsonl", ".ndjson"),
        'lines of {"path": …, "label": …} with any JSON as label; paths as in csv',
        ("root", "classes"),
    ),
    "python": Format(
        "calib.samples.open:open_python",
        (),
        "python:module:function, where function() returns a list of samples or an object that can be iterated again",
    ),
}


def data_formats() -> list[tuple[str, tuple[str, ...], str]]:
    """Return (name, suffixes, sentence) of every format, in the order of the table."""
    return [(name, entry.suffixes, entry.sentence) for name, entry in FORMATS.items()]
