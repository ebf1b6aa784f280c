"""Build what a configuration asks for: reader, preprocessing, annotations, adapter, postprocessing and metric."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calib.accuracy_check import postprocess, preprocess
from calib.accuracy_check.adapters import ADAPTERS, Adapter
from calib.accuracy_check.annotated import Convert
from calib.accuracy_check.converters import CONVERTERS
from calib.accuracy_check.document import Entry, read_entry
from calib.accuracy_check.fields import Fields, built
from calib.accuracy_check.measure import Measure
from calib.accuracy_check.metrics import METRICS
from calib.accuracy_check.values import Labels, Step
from calib.errors import ConfigError

# What a data set may say besides what is read here: names of files that Accuracy Checker writes, and how it is run.
_KEPT = frozenset(
    {
        *("name", "annotation", "annotation_conversion", "data_source", "dataset_meta", "dataset_meta_file"),
        *("preprocessing", "postprocessing", "metrics", "reader", "segmentation_masks_source"),
        *("additional_data_source", "shuffle", "_command_line_mapping"),
    }
)

_INPUTS = ("CONST_INPUT", "IMAGE_INFO", "ORIG_IMAGE_INFO")

WAYS_OUT = (
    "What a configuration can't say here can be said in calib's own words: annotations as --validation coco:, voc:, "
    "yolo:, wider:, masks:, imagenet: or text: (calib data), outputs by --decode, and anything else by a function of "
    "your own, --validation python:module:function and --metric python:module:function"
)


@dataclass(frozen=True)
class Input:
    """One input of the model that is no image.

    Attributes:
        name: Its name.
        kind: CONST_INPUT, or IMAGE_INFO or ORIG_IMAGE_INFO, the height and width of the image after or before resizing.
        value: Value of a constant.
    """

    name: str
    kind: str
    value: Any = None


@dataclass(frozen=True)
class Judgement:
    """How a model is judged.

    Attributes:
        entry: The configuration's entry.
        read: Reader of an image.
        before: Steps of preprocessing.
        convert: Converter of annotations.
        adapter: Adapter of outputs.
        image: Name of the input that takes the image; "" for the only one.
        inputs: Inputs that take something else.
        metric: Entry of the metric.
        title: Name of the metric.
    """

    entry: Entry
    read: preprocess.Reader
    before: tuple[preprocess.Step, ...]
    convert: Convert
    adapter: Adapter
    image: str
    inputs: tuple[Input, ...]
    metric: Mapping[str, Any]
    title: str

    def after(self, labels: Labels) -> list[Step]:
        """Return the steps of postprocessing for a data set with these classes."""
        return _after(self.entry, labels, [])

    def measure(self, labels: Labels) -> Measure:
        """Return the metric for a data set with these classes."""
        made = _measure(self.metric, labels, [])
        assert made is not None  # it was built before
        return made


def build(
    file: str | Path, definitions: str | os.PathLike[str] | None = None, dataset: str = "", metric: str = ""
) -> Judgement:
    """Return how a configuration judges a model; no file of the data set is read.

    Args:
        file: Path of accuracy-check.yml.
        definitions: Path of dataset_definitions.yml, which describes data sets that the file names.
        dataset: Name of the data set, if there are several; "" for the first.
        metric: Name or type of the metric; "" for the first, with all of the file's metrics checked.

    Raises:
        ConfigError: A file can't be read, or asks for something that is not supported; all of it is listed.
    """
    entry = read_entry(Path(file), None if definitions is None else Path(definitions), dataset)
    problems: list[str] = []
    data = entry.dataset
    _check_data(entry, problems)
    reader = built(preprocess.READERS, "reader", data.get("reader") or "opencv_imread", problems)
    before = [built(preprocess.STEPS, "preprocessing", one, problems) for one in _listed(data, "preprocessing")]
    converter = _converter(data, problems)
    adapter = built(ADAPTERS, "adapter", entry.launcher.get("adapter"), problems)
    image, inputs = _inputs(entry.launcher, problems)
    _after(entry, Labels({}), problems)
    chosen = _chosen(entry, metric, problems)
    for one in ([chosen] if chosen else []) if metric else _listed(data, "metrics"):
        _measure(one, Labels({}), problems)
    steps = [one for one in before if one is not None]
    if problems or reader is None or converter is None or adapter is None:
        raise ConfigError(entry.file, list(dict.fromkeys(problems)), WAYS_OUT)
    title = str(chosen.get("name") or chosen.get("type"))
    return Judgement(entry, reader, tuple(steps), converter, adapter, image, inputs, chosen, title)


def _check_data(entry: Entry, problems: list[str]) -> None:
    if entry.launcher.get("framework") is None:
        problems.append("the launcher names no framework")
    if "annotation_conversion" not in entry.dataset:
        name = entry.dataset.get("annotation")
        problems.append(
            f"the annotations {name!r} are converted already: a pickle, which can run code, is not read. Give the data "
            "set's own files and 'annotation_conversion', as dataset_definitions.yml does"
        )
    for key in entry.dataset:
        if key not in _KEPT and key not in ("subsample_size", "batch"):
            problems.append(f"the data set's parameter {key!r} is not supported")
    if entry.dataset.get("subsample_size") is not None:
        problems.append("subsample_size is not supported; take it out, or give a data set of fewer images")


def _converter(data: Mapping[str, Any], problems: list[str]) -> Convert | None:
    given = data.get("annotation_conversion")
    if not isinstance(given, Mapping):
        return None
    named = {"type" if key == "converter" else key: value for key, value in given.items()}
    return built(CONVERTERS, "annotation converter", named, problems)


def _inputs(launcher: Mapping[str, Any], problems: list[str]) -> tuple[str, tuple[Input, ...]]:
    """Return the name of the image input, if it is said, and the inputs that take something else."""
    image, others = "", list[Input]()
    for one in launcher.get("inputs") or ():
        kind, name = (str(one.get(key, default)) for key, default in (("type", "INPUT"), ("name", "")))
        if kind == "INPUT" and not image:
            image = name
        elif kind in _INPUTS:
            others.append(Input(name, kind, one.get("value")))
        else:
            problems.append(
                f"the input {name!r} of type {kind} is not supported; one image and {', '.join(_INPUTS)} are"
            )
    return image, tuple(others)


def _chosen(entry: Entry, metric: str, problems: list[str]) -> Mapping[str, Any]:
    """Return the metric that is meant."""
    listed = [one for one in _listed(entry.dataset, "metrics") if isinstance(one, Mapping)]
    if not listed:
        problems.append("it names no metric")
        return {}
    if not metric:
        return listed[0]
    found = next((one for one in listed if metric in (one.get("name"), one.get("type"))), None)
    if found is None:
        names = ", ".join(str(one.get("name") or one.get("type")) for one in listed)
        problems.append(f"it has no metric {metric!r}; metrics: {names}")
    return found or {}


def _measure(entry: Mapping[str, Any], labels: Labels, problems: list[str]) -> Measure | None:
    if not isinstance(entry, Mapping) or entry.get("type") not in METRICS:
        built(METRICS, "metric", entry, problems)  # type: ignore[arg-type]
        return None
    fields = Fields(f"metric {entry['type']!r}", entry, problems)
    fields.get("type")
    return METRICS[str(entry["type"])](fields, labels)


def _after(entry: Entry, labels: Labels, problems: list[str]) -> list[Step]:
    steps = list[Step]()
    for one in _listed(entry.dataset, "postprocessing"):
        values = one if isinstance(one, Mapping) else {"type": one}
        name = values.get("type")
        if name not in postprocess.STEPS:
            known = ", ".join(sorted(postprocess.STEPS))
            problems.append(f"the postprocessing {name!r} is not supported; supported are {known}")
            continue
        fields = Fields(f"postprocessing {name!r}", values, problems)
        fields.get("type")
        steps.append(postprocess.STEPS[name](fields, labels))
    return steps


def _listed(data: Mapping[str, Any], key: str) -> Sequence[Any]:
    value = data.get(key)
    return value if isinstance(value, list) else []
