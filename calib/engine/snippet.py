"""A Python program that runs a written model without calib, with the preprocessing that its samples had."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import PurePath
from typing import Any, cast

import numpy as np

from calib.errors import DataError
from calib.samples.preprocess import Preprocess
from calib.samples.sample import InputSpec
from calib.values.facts import Report, TensorFacts

_ARRAYS = (".npz", ".npy")
_TYPES = {"f32": "float32", "f16": "float16", "u8": "uint8", "i8": "int8", "i32": "int32", "i64": "int64"}

_START = '''"""Run the model: python run.py SAMPLE, {what}.

It needs openvino and numpy{pillow}, not calib.
"""

import sys
from pathlib import Path

import numpy as np
import openvino as ov
{imports}
MODEL = Path(__file__).parent / {model!r}


'''
_MAIN = '''def feed_of(path, model):
    """Return input name -> array for a sample{which}."""
    ports = model.inputs
{image}    if path is None:  # zeros, to see that the model runs
        return {{port.any_name: np.zeros(shape_of(port), port.element_type.to_dtype()) for port in ports}}
    arrays = np.load(path)
    return {{port.any_name: first(arrays[port.any_name], port) for port in ports}}


def first(array, port):
    """Return the first sample where the file holds several."""
    one = array.ndim == len(shape_of(port)) and array.ndim and shape_of(port)[0] == 1
    return (array[:1] if one else array).astype(port.element_type.to_dtype())


def shape_of(port):
    return [axis.get_length() if axis.is_static else 1 for axis in port.partial_shape]


def main():
    model = ov.Core().compile_model(MODEL, "CPU", {config})
    outputs = model(feed_of(sys.argv[1] if len(sys.argv) > 1 else None, model))
    for number, port in enumerate(model.outputs):
        found = outputs[port]
        print(f"output {{number}}: shape {{found.shape}}, {{found.dtype}}, first values {{found.reshape(-1)[:10]}}")


if __name__ == "__main__":
    main()
'''
_IMAGE = """    if path is not None and not path.endswith(".npz"):
        return {ports[0].any_name: prepare(Image.open(path), ports[0].element_type.to_dtype())}
"""


def run_snippet(report: Report) -> str:
    """Return the program, to be put beside the model of the report."""
    steps = _image_steps(report)
    precision = next((fact.value for fact in report.settings if fact.key == "float_precision"), None)
    # f32 where layers in floating point were judged in that; else the machine's own choice, which was measured too
    config = {"INFERENCE_PRECISION_HINT": str(precision)} if precision else {}
    images = bool(steps)
    start = _START.format(
        what="an image or an .npz file" if images else "an .npz file with an array for each input",
        pillow=", and Pillow for images" if images else "",
        imports="from PIL import Image\n" if images else "",
        model=f"{report.model.name}.xml",
    )
    rest = _MAIN.format(
        which=", an image or arrays by name" if images else ": arrays by name",
        image=_IMAGE if images else "",
        config=repr(config).replace("'", '"'),
    )
    return start + "".join(f"{line}\n" for line in steps) + ("\n\n" if images else "") + rest


def _image_steps(report: Report) -> list[str]:
    """Return the function that turns an image into the first input; nothing where samples were no images."""
    inputs, source = report.model.inputs, report.calibration.partition("?")[0]
    if len(inputs) != 1 or PurePath(source).suffix in _ARRAYS:
        return []
    given = _preprocessing(report, inputs[0].name)
    embedded = bool(given.pop("embed", False))
    try:
        made = Preprocess(**given).resolve(_spec(inputs[0]))
    except DataError:  # no image of one or three channels
        return []
    return prepare_lines(made.without_arithmetic() if embedded else made)


def _preprocessing(report: Report, name: str) -> dict[str, Any]:
    """Return the preprocessing in the settings of a report, for the only input."""
    known = {field.name for field in fields(Preprocess)} | {"embed"}
    found: dict[str, Any] = {}
    for fact in report.settings:
        field = fact.key.removeprefix(f"preprocessing.{name}.").removeprefix("preprocessing.")
        if fact.key.startswith("preprocessing.") and field in known and fact.value is not None:
            value: Any = fact.value
            found[field] = tuple(cast(list[Any], value)) if isinstance(value, list) else value
    return found


def _spec(facts: TensorFacts) -> InputSpec:
    axes = [text.strip() for text in re.sub(r"[\[\]{}]", "", facts.shape).split(",")]
    shape = tuple(int(axis) if axis.isdecimal() else None for axis in axes)
    return InputSpec(facts.name, (facts.name,), shape, np.dtype(_TYPES.get(facts.type, "float32")))


def prepare_lines(made: Preprocess) -> list[str]:
    """Return the lines of ``prepare(picture, dtype)``, which does what ``Preprocess.apply`` does and adds the batch.

    Args:
        made: Preprocessing, resolved for its input.
    """
    mode = {"gray": "L"}.get(made.color or "rgb", "RGB")
    lines = [
        "def prepare(picture, dtype):",
        '    """Return an image as the network takes it."""',
        f'    picture = picture.convert("{mode}")',
        *_resizing(made),
        "    values = np.asarray(picture)",
    ]
    if mode == "L":
        lines.append("    values = values[:, :, None]")
    if made.color == "bgr":
        lines.append("    values = values[:, :, ::-1]  # RGB to BGR")
    if made.mean is not None or made.scale is not None:
        mean, scale = (list(one) if one is not None else plain for one, plain in ((made.mean, [0]), (made.scale, [1])))
        lines.append(f"    values = (values.astype(np.float32) - np.float32({mean})) / np.float32({scale})")
    if made.layout == "NCHW":
        lines.append("    values = values.transpose(2, 0, 1)")
    return [*lines, "    return np.ascontiguousarray(values[None], dtype=dtype)"]


def _resizing(made: Preprocess) -> list[str]:
    """Return the lines that give the picture its size, with the rounding of ``Preprocess``."""
    way = f"Image.Resampling.{made.filter.upper()}"
    lines: list[str] = []
    if made.resize_short is not None or made.resize_long is not None:
        side, length = ("min", made.resize_short) if made.resize_short is not None else ("max", made.resize_long)
        lines += [
            f"    side = {side}(picture.size)",
            f"    picture = picture.resize([max(1, int({length} * length / side)) for length in picture.size], {way})",
        ]
    if made.resize is not None:
        lines.append(f"    picture = picture.resize(({made.resize[1]}, {made.resize[0]}), {way})")
    if made.letterbox is not None:
        height, width = made.letterbox
        lines += [
            f"    ratio = min({height} / picture.height, {width} / picture.width)",
            f"    inside = [max(1, min(round(picture.width * ratio), {width})), "
            f"max(1, min(round(picture.height * ratio), {height}))]",
            f"    picture = picture.resize(inside, {way})",
            *_padding(made, height, width),
        ]
    if made.crop is not None:
        height, width = made.crop
        lines += [
            f"    left, top = round((picture.width - {width}) / 2), round((picture.height - {height}) / 2)",
            f"    picture = picture.crop((left, top, left + {width}, top + {height}))",
        ]
    return lines + (_padding(made, *made.pad) if made.pad is not None else [])


def _padding(made: Preprocess, height: int, width: int) -> list[str]:
    values = [round(value) for value in made.pad_value]
    if made.color == "gray":
        fill = str(values[0])
    else:
        three = values * 3 if len(values) == 1 else values
        fill = str(tuple(three[::-1] if made.color == "bgr" else three))
    place = f"(({width} - picture.width) // 2, ({height} - picture.height) // 2)"
    mode = "L" if made.color == "gray" else "RGB"
    return [
        f'    canvas = Image.new("{mode}", ({width}, {height}), {fill})',
        f"    canvas.paste(picture, {place if made.pad_position == 'center' else '(0, 0)'})",
        "    picture = canvas",
    ]
