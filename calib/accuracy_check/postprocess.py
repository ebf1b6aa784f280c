"""Postprocessing of annotations and predictions, in Accuracy Checker's order and conventions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.accuracy_check import suppress
from calib.accuracy_check.fields import Fields
from calib.accuracy_check.values import Boxes, Judged, Labels, Picture, Step, Value
from calib.errors import MetricError

Build = Callable[[Fields, Labels], Step]


def _targets(fields: Fields) -> Callable[[Value, Value], list[Value]]:
    """Return which of annotation and prediction ``apply_to`` names; both unless given."""
    which = fields.choice("apply_to", ("annotation", "prediction", "all"), "all")
    for key in ("annotation_source", "prediction_source"):
        if fields.get(key) is not None:
            fields.refuse(f"{key}, one of several annotations or predictions, is not supported")

    def chosen(annotation: Value, prediction: Value) -> list[Value]:
        return {"annotation": [annotation], "prediction": [prediction]}.get(which, [annotation, prediction])

    return chosen


def _resize_boxes(fields: Fields, _: Labels) -> Step:
    rescale, unpad, uncrop = fields.flag("rescale"), fields.flag("unpadding"), fields.flag("uncrop")
    fields.finish()

    def resize(_annotation: Value, prediction: Value, judged: Judged) -> None:
        if not isinstance(prediction, Boxes):
            return
        original = judged.seen.original
        height, width = (float(side) for side in original)
        if rescale:
            input_h, input_w = (judged.seen.info or (*original, 1))[:2]
            height, width = original[0] / input_h, original[1] / input_w
        down = right = 0.0
        operations = dict(reversed(judged.seen.operations))  # the first of each kind
        if uncrop and "crop" in operations:
            side = min(height, width)
            down, right = (height - side) / 2, (width - side) / 2
            height = width = side
        if unpad and "padding" in operations:
            facts = operations["padding"]
            top, left, bottom, end = facts["pad"]
            inner_w, inner_h = facts["pref_width"] - end - left, facts["pref_height"] - top - bottom
            width, height = facts["pref_width"] / inner_w * original[1], facts["pref_height"] / inner_h * original[0]
            # the original takes the width for both, which is the same where the sides are equal
            right, down = left / inner_w * original[1], top / inner_h * original[1]
        prediction.corners = prediction.corners * (width, height, width, height) + (right, down, right, down)

    return resize


def _faster_rcnn(fields: Fields, _: Labels) -> Step:
    fields.sides()  # the original reads them and takes the sizes that preprocessing noted
    rescale = fields.flag("rescale")
    fields.finish()

    def resize(_annotation: Value, prediction: Value, judged: Judged) -> None:
        operations = judged.seen.operations
        kinds = [kind for kind, _ in operations]
        if kinds == ["resize"]:
            across, down = operations[0][1]["original_width"], operations[0][1]["original_height"]
        elif kinds == ["resize", "padding"] and operations[1][1]["pad"][:2] == (0, 0):
            across = operations[1][1]["pref_width"] / operations[0][1]["scale_x"]
            down = operations[1][1]["pref_height"] / operations[0][1]["scale_y"]
        else:
            raise MetricError(
                "faster_rcnn_postprocessing_resize needs one resize, or a resize and padding on the right and below; "
                f"preprocessing does {', '.join(kinds) or 'nothing'}"
            )
        if rescale:
            across, down = across / judged.network[1], down / judged.network[0]
        if isinstance(prediction, Boxes):
            prediction.corners = prediction.corners * (across, down, across, down)

    return resize


def _clip(fields: Fields, _: Labels) -> Step:
    height, width = fields.sides()
    normalized, targets = fields.flag("boxes_normalized"), _targets(fields)
    fields.finish()

    def clip(annotation: Value, prediction: Value, judged: Judged) -> None:
        most_h, most_w = (1, 1) if normalized else (height or judged.seen.original[0], width or judged.seen.original[1])
        for one in targets(annotation, prediction):
            if isinstance(one, Boxes):
                one.corners = np.clip(one.corners, 0, np.array([most_w, most_h, most_w, most_h], one.corners.dtype))

    return clip


def _round(fields: Fields, _: Labels) -> Step:
    known = {"nearest": np.rint, "nearest_to_zero": np.trunc, "lower": np.floor, "greater": np.ceil}
    function = known[fields.choice("round_policy", tuple(known), "nearest")]
    fields.finish()

    def cast(annotation: Value, prediction: Value, _judged: Judged) -> None:
        for one in (annotation, prediction):
            if isinstance(one, Boxes):
                one.corners = function(one.corners)

    return cast


def _filter(fields: Fields, _: Labels) -> Step:
    remove, targets = fields.flag("remove_filtered"), _targets(fields)
    rules = [_RULES[key](fields, key) for key in fields.values if key in _RULES]
    fields.finish()

    def apply(annotation: Value, prediction: Value, judged: Judged) -> None:
        for rule in rules:
            for one in targets(annotation, prediction):
                if not isinstance(one, Boxes):
                    continue
                dropped = rule(one, one is annotation, judged)
                if remove:
                    one.keep(~dropped)
                else:
                    one.difficult = one.difficult | dropped

    return apply


Rule = Callable[[Boxes, bool, Judged], NDArray[np.bool_]]


def _range(fields: Fields, key: str) -> Sequence[float]:
    return fields.numbers(key) or [0.0]


def _beyond(values: NDArray[Any], limits: Sequence[float]) -> NDArray[np.bool_]:
    inside = values >= limits[0]
    if len(limits) >= 2 and limits[1]:
        inside = inside & (values < limits[1])
    return ~inside


def _side(axis: int) -> Callable[[Fields, str], Rule]:
    def build(fields: Fields, key: str) -> Rule:
        limits = _range(fields, key)
        return lambda boxes, _own, _judged: _beyond(boxes.corners[:, axis + 2] - boxes.corners[:, axis], limits)

    return build


def _least_confidence(fields: Fields, key: str) -> Rule:
    least = fields.number(key, 0.0)
    return lambda boxes, own, _judged: np.zeros(len(boxes), bool) if own else boxes.scores < least


def _top_k(fields: Fields, key: str) -> Rule:
    most = fields.size(key, 1) or 1

    def rule(boxes: Boxes, own: bool, _judged: Judged) -> NDArray[np.bool_]:
        dropped = np.zeros(len(boxes), bool)
        if not own and len(boxes) > most:
            dropped[np.argsort(boxes.scores)[::-1][most:]] = True
        return dropped

    return rule


def _labels(fields: Fields, key: str) -> Rule:
    given = fields.get(key)
    listed = given if isinstance(given, list) else [given]
    return lambda boxes, _own, _judged: np.isin(boxes.labels, listed)


def _is_empty(fields: Fields, key: str) -> Rule:
    fields.get(key)

    def rule(boxes: Boxes, _own: bool, _judged: Judged) -> NDArray[np.bool_]:
        sides = boxes.corners[:, 2:] - boxes.corners[:, :2]
        return np.any(sides <= 0, axis=1)

    return rule


def _invalid(fields: Fields, key: str) -> Rule:
    fields.get(key)
    return lambda boxes, _own, _judged: ~np.all(np.isfinite(boxes.corners), axis=1)


def _aspect(fields: Fields, key: str) -> Rule:
    limits = _range(fields, key)

    def rule(boxes: Boxes, _own: bool, _judged: Judged) -> NDArray[np.bool_]:
        sides = boxes.corners[:, 2:] - boxes.corners[:, :2]
        return _beyond(sides[:, 1] / np.maximum(sides[:, 0], np.finfo(float).eps), limits)

    return rule


def _area_ratio(fields: Fields, key: str) -> Rule:
    limits = _range(fields, key)

    def rule(boxes: Boxes, own: bool, judged: Judged) -> NDArray[np.bool_]:
        if not own:
            return np.zeros(len(boxes), bool)
        sides = boxes.corners[:, 2:] - boxes.corners[:, :2]
        whole = max(judged.seen.original[0] * judged.seen.original[1], np.finfo(np.float64).eps)
        return _beyond(np.sqrt(sides[:, 0] * sides[:, 1] / whole), limits)

    return rule


def _visibility(fields: Fields, key: str) -> Rule:
    """Return the rule of a flag that none of the supported converters writes: it drops nothing."""
    fields.choice(key, ("heavy occluded", "partially occluded", "visible"), "visible")
    return lambda boxes, _own, _judged: np.zeros(len(boxes), bool)


_RULES: dict[str, Callable[[Fields, str], Rule]] = {
    "labels": _labels,
    "min_confidence": _least_confidence,
    "top_k": _top_k,
    "height_range": _side(1),
    "width_range": _side(0),
    "is_empty": _is_empty,
    "invalid_boxes": _invalid,
    "aspect_ratio": _aspect,
    "area_ratio": _area_ratio,
    "min_visibility": _visibility,
}


def _shift_labels(fields: Fields, _: Labels) -> Step:
    offset = int(fields.number("offset", 0))
    fields.finish()

    def shift(_annotation: Value, prediction: Value, _judged: Judged) -> None:
        if isinstance(prediction, Boxes):
            prediction.labels = prediction.labels + offset

    return shift


def _shift_mask(fields: Fields, _: Labels) -> Step:
    value, targets = int(fields.number("shift_value", 0)), _targets(fields)
    fields.finish()

    def shift(annotation: Value, prediction: Value, _judged: Judged) -> None:
        for one in targets(annotation, prediction):
            if isinstance(one, Picture):
                one.values = (one.values.astype(int) + value).astype(np.int16)

    return shift


def _encode(fields: Fields, labels: Labels) -> Step:
    targets = _targets(fields)
    fields.finish()

    def encode(annotation: Value, prediction: Value, _judged: Judged) -> None:
        for one in targets(annotation, prediction):
            if not isinstance(one, Picture):
                continue
            if one is prediction:
                raise MetricError(
                    "encode_segmentation_mask of predictions needs a table of their classes: not supported"
                )
            mask = one.values.astype(int)
            made = np.zeros(mask.shape[:2], np.int16)
            for number, color in enumerate(labels.colors):
                fits = (mask == np.array(color)).all(axis=-1) if mask.ndim >= 3 else None
                made[mask == number if fits is None else fits] = number
            one.values = made.astype(np.int8)

    return encode


def _resize_mask(fields: Fields, _: Labels) -> Step:
    height, width = fields.sides()
    targets, to_input = _targets(fields), fields.flag("to_dst_image_size")
    fields.finish()

    def resize(annotation: Value, prediction: Value, judged: Judged) -> None:
        whole = judged.seen.info if to_input and judged.seen.info else judged.seen.original
        goal = (height or whole[0], width or whole[1])
        for one in targets(annotation, prediction):
            if isinstance(one, Picture):
                one.values = _mask_to(one.values, goal, planes=one is prediction)

    return resize


def _mask_to(mask: NDArray[Any], size: tuple[int, int], planes: bool) -> NDArray[Any]:
    """Return a mask resized by nearest neighbour, in 8 bits; a predicted one of three axes plane by plane."""
    if mask.ndim == 3 and planes:
        return np.array([_mask_to(plane, size, planes=False) for plane in mask])
    from PIL import Image

    return np.array(Image.fromarray(_eight_bit(mask)).resize((size[1], size[0]), Image.Resampling.NEAREST))


def _eight_bit(mask: NDArray[Any]) -> NDArray[np.uint8]:
    """Return a mask in 8 bits: whole numbers from 0 to 255 as they are, others stretched over 0 to 255."""
    if mask.dtype == np.uint8:
        return mask
    low, high = mask.min(), mask.max()
    if low >= 0 and high <= 255 and mask.dtype.kind != "f":
        return mask.astype(np.uint8)
    spread = (high - low) or 1
    return (((mask - low) * (255.0 / float(spread))).clip(0, 255) + 0.5).astype(np.uint8)


def _resize_picture(fields: Fields, _: Labels) -> Step:
    height, width = fields.sides()
    targets = _targets(fields)
    if fields.choice("resize_realization", ("pillow",), "pillow") != "pillow":
        fields.refuse("resize_realization pillow is the only one supported")
    fields.finish()

    def resize(annotation: Value, prediction: Value, judged: Judged) -> None:
        goal = (height or judged.seen.original[0], width or judged.seen.original[1])
        for one in targets(annotation, prediction):
            if isinstance(one, Picture):
                last = one.values.shape[-1] if one.values.ndim == 3 else 0
                image = one.values.dtype == np.uint8 and last in (1, 3)
                one.values = _image_to(one.values, goal) if image else _mask_to(one.values, goal, one is prediction)

    return resize


def _image_to(values: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    from PIL import Image

    values = values if values.shape[-1] > 1 else values[:, :, 0]
    return np.array(Image.fromarray(values).resize((size[1], size[0]), Image.Resampling.BICUBIC))


STEPS: dict[str, Build] = {
    "resize_prediction_boxes": _resize_boxes,
    "faster_rcnn_postprocessing_resize": _faster_rcnn,
    "clip_boxes": _clip,
    "cast_to_int": _round,
    "nms": suppress.hard,
    "diou_nms": suppress.by_distance,
    "soft_nms": suppress.soft,
    "filter": _filter,
    "shift_labels": _shift_labels,
    "shift": _shift_mask,
    "encode_segmentation_mask": _encode,
    "resize_segmentation_mask": _resize_mask,
    "resize": _resize_picture,
}
