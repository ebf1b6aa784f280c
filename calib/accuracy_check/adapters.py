"""Adapters: how the outputs of a model become scores, boxes, class maps or images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.accuracy_check import text, yolo
from calib.accuracy_check.fields import Fields
from calib.accuracy_check.values import Boxes, Labels, Picture, Scores, Value
from calib.errors import MetricError


@dataclass(frozen=True)
class Outputs:
    """Outputs of a model for one image, with the batch axis.

    Attributes:
        arrays: Values, in order.
        names: Names of each: those of its tensor and of the operation that gives it.
        labels: Classes of the data set.
    """

    arrays: Sequence[NDArray[Any]]
    names: Sequence[Sequence[str]]
    labels: Labels = field(default_factory=lambda: Labels({}))

    def find(self, name: str = "") -> NDArray[Any]:
        """Return the output of a name, also with a port behind it; the first one for "".

        Raises:
            MetricError: There is none.
        """
        if not name:
            return np.asarray(self.arrays[0])
        bare = name.partition("/sink_port_")[0]
        tries = (
            lambda one: one == name,
            lambda one: one == bare,
            lambda one: one.partition(":")[0] == bare,
            lambda one: one == bare.partition(":")[0],
            lambda one: one.startswith(f"{bare}/sink_port_"),
        )
        for fits in tries:
            for array, names in zip(self.arrays, self.names, strict=True):
                if any(fits(one) for one in names):
                    return np.asarray(array)
        known = ", ".join(names[0] if names else "?" for names in self.names)
        raise MetricError(f"the adapter reads the output {name!r}, and the model's are {known}")


Adapter = Callable[[Outputs, tuple[int, int]], Value]
"""Function of the outputs and of the height and width of the model's input."""


def _classification(fields: Fields) -> Adapter:
    name, softmax = fields.text("classification_output"), fields.flag("do_softmax")
    for key in ("argmax_output", "fixed_output", "block", "label_as_array", "multi_label_threshold"):
        if fields.get(key):
            fields.refuse(f"{key} is not supported")
    fields.finish()

    def adapt(outputs: Outputs, _: tuple[int, int]) -> Scores:
        scores = outputs.find(name)
        if scores.ndim > 1 and scores.shape[0] != 1:
            raise ValueError(f"the first axis is that of samples, and one is measured at a time: {list(scores.shape)}")
        scores = scores.reshape(-1)
        if softmax:
            powers = np.exp(scores - scores.max())
            scores = powers / powers.sum()
        return Scores(scores)

    return adapt


def _ssd(fields: Fields) -> Adapter:
    fields.finish()

    def adapt(outputs: Outputs, _: tuple[int, int]) -> Boxes:
        rows = outputs.find().reshape(-1, 7)
        ends = np.flatnonzero(rows[:, 0] == -1)
        rows = rows[: ends[0]] if len(ends) else rows
        rows = rows[rows[:, 0] == 0]
        return Boxes(rows[:, 1], rows[:, 3:7], rows[:, 2])

    return adapt


def _class_agnostic(fields: Fields) -> Adapter:
    name, scale = fields.text("output_blob"), fields.numbers("scale") or [1.0]
    fields.finish()
    factor = np.array(scale * 2 if len(scale) > 1 else scale)

    def adapt(outputs: Outputs, _: tuple[int, int]) -> Boxes:
        if name:
            rows = outputs.find(name)
        else:
            fitting = [one for one in map(np.asarray, outputs.arrays) if one.ndim in (2, 3) and one.shape[-1] == 5]
            if len(fitting) != 1:
                raise MetricError(f"class_agnostic_detection: {len(fitting)} outputs have rows of 5 numbers; 1 is read")
            rows = fitting[0]
        rows = rows.reshape(-1, 5)
        rows = rows[rows[:, 4] > 0]
        return Boxes(np.ones(len(rows)), factor * rows[:, :4], rows[:, 4])

    return adapt


def _light_faces(fields: Fields) -> Adapter:
    scores_out, boxes_out = fields.text("scores_out"), fields.text("boxes_out")
    threshold = fields.number("score_threshold", 0.7, 0, 1)
    fields.finish()

    def adapt(outputs: Outputs, _: tuple[int, int]) -> Boxes:
        scores, boxes = outputs.find(scores_out)[0][:, 1], outputs.find(boxes_out)[0]
        kept = scores > threshold
        return Boxes(np.ones(int(kept.sum())), boxes[kept], scores[kept])

    return adapt


def _segmentation(fields: Fields) -> Adapter:
    argmax = fields.flag("make_argmax")
    fields.finish()

    def adapt(outputs: Outputs, network: tuple[int, int]) -> Picture:
        found = outputs.find()
        found = found[0] if found.shape[0] == 1 else found
        planes_first = True  # of the input, which decides about the output: images are given as channels first
        if found.ndim == 2 and found.shape[0] == network[0] * network[1]:
            found, planes_first = np.resize(found, (*network, found.shape[-1])), False
        if argmax:
            found = np.argmax(found, axis=0 if planes_first else -1)
        elif not planes_first and found.ndim == 3:
            found = found.transpose(2, 0, 1)
        return Picture(found)

    return adapt


def _matte(fields: Fields) -> Adapter:
    fields.finish()

    def adapt(outputs: Outputs, _: tuple[int, int]) -> Picture:
        return Picture(np.squeeze(outputs.find()[0] * 255).astype(np.uint8))

    return adapt


def _image(fields: Fields) -> Adapter:
    known = {"imagenet": (104.00698793, 116.66876762, 122.67891434)}
    mean, std = fields.numbers("mean", known) or [0.0], fields.numbers("std", known) or [255.0]
    name, cast, reverse = fields.text("target_out"), fields.flag("cast_to_uint8", True), fields.flag("reverse_channels")
    fields.finish()

    def adapt(outputs: Outputs, _: tuple[int, int]) -> Picture:
        image = outputs.find(name)[0]
        image = image.transpose(1, 2, 0) if image.shape[-1] > 4 else image
        image = image * np.array(std, image.dtype) + np.array(mean, image.dtype)
        if cast or reverse:
            image = np.clip(image, 0, 255).astype(np.uint8) if cast else image.astype(np.uint8)
        return Picture(image[:, :, ::-1] if reverse else image)

    return adapt


ADAPTERS: dict[str, Callable[[Fields], Adapter]] = {
    "classification": _classification,
    "ssd": _ssd,
    "class_agnostic_detection": _class_agnostic,
    "ultra_lightweight_face_detection": _light_faces,
    "segmentation": _segmentation,
    "background_matting": _matte,
    "image_processing": _image,
    "super_resolution": _image,
    "yolo_v2": yolo.version_2,
    "yolo_v3": yolo.version_3,
    "yolo_v3_onnx": yolo.version_3_onnx,
    "yolox": yolo.version_x,
    "ctc_greedy_search_decoder": text.ctc_greedy,
    "beam_search_decoder": text.ctc_beams,
    "simple_decoder": text.simple,
    "lpr": text.plates,
}
