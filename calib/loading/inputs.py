"""Fit samples to a model's inputs: embedded preprocessing, and checks of shapes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from calib.errors import DataError, ModelError, UsageError
from calib.runtime.session import make_model, ov
from calib.samples.feed import feed_of
from calib.samples.preprocess import Preprocess
from calib.samples.sample import Dataset, Frames, InputSpec, Sample

_TRUE = ("true", "yes", "1")


@dataclass(frozen=True)
class Embedded:
    """A model that does part of the preprocessing itself.

    Attributes:
        model: New model whose input takes u8 RGB images (N, H, W, C).
        remaining: Preprocessing that is left to the host: resizing and cropping, in u8.
        sentences: Description of what was embedded, for the report.
    """

    model: ov.Model
    remaining: Preprocess
    sentences: list[str]


def embed(model: ov.Model, preprocess: Preprocess, spec: InputSpec) -> Embedded:
    """Return a copy of ``model`` whose first input takes u8 NHWC images; it does color, mean, scale and layout itself.

    This is what Model Optimizer's ``--mean_values``, ``--scale_values`` and ``--reverse_input_channels`` did:
    u8 NHWC RGB → Convert f32 → (reverse channels) → (x − mean) / scale → the model's layout. Resizing and cropping
    stay on the host, where Pillow does them.

    Args:
        model: Model, which is not edited.
        preprocess: Preprocessing; mean and scale are for values 0..255, in the order of ``color``.
        spec: Properties of the model's first input.

    Raises:
        UsageError: ``mean`` or ``scale`` does not fit the channels.
        ModelError: The input does not take floating-point images.
    """
    if spec.dtype.kind != "f":
        raise ModelError(
            f"input {spec} does not take floating-point numbers, so preprocessing can't be embedded in front of it. "
            "Leave out embed"
        )
    wanted = preprocess.resolve(spec)
    channels = 1 if wanted.color == "gray" else 3
    for key in ("mean", "scale"):
        values = getattr(wanted, key)
        if values is not None and len(values) not in (1, channels):
            raise UsageError(f"preprocessing.{key}: {channels} numbers for {wanted.color} images, got {len(values)}")
    from openvino.preprocess import ColorFormat, PrePostProcessor

    processor = PrePostProcessor(model.clone())
    image = processor.input(0)
    image.tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
    image.model().set_layout(ov.Layout(wanted.layout or "NCHW"))
    steps = image.preprocess().convert_element_type(ov.Type.f32)
    if channels == 3:
        image.tensor().set_color_format(ColorFormat.RGB)
        if wanted.color == "bgr":
            steps.convert_color(ColorFormat.BGR)
    if wanted.mean is not None and any(wanted.mean):
        steps.mean([float(value) for value in wanted.mean])
    if wanted.scale is not None and any(value != 1 for value in wanted.scale):
        steps.scale([float(value) for value in wanted.scale])
    remaining = replace(wanted.without_arithmetic(), layout="NHWC", color="rgb" if channels == 3 else "gray")
    embedded = processor.build()
    _name_new_nodes(embedded, {node.get_friendly_name() for node in model.get_ops()}, f"{spec.name}/preprocessing")
    return Embedded(embedded, remaining, _say_embedded(spec.name, wanted))


def _name_new_nodes(model: ov.Model, known: set[str], prefix: str) -> None:
    """Name, in place, the nodes that OpenVINO added: its own names are counted, and differ from run to run."""
    added = [node for node in model.get_ordered_ops() if node.get_friendly_name() not in known]
    for number, node in enumerate(added):
        node.set_friendly_name(f"{prefix}/{node.get_type_name()}_{number}")


def embedded_alone(model: ov.Model, preprocess: Preprocess, spec: InputSpec) -> ov.Model:
    """Return the preprocessing that ``embed`` puts in front of a model's first input, as a model of its own.

    Args:
        model: Model without it.
        preprocess: As for ``embed``.
        spec: As for ``embed``.
    """
    given = model.inputs[0]
    image = ov.opset13.parameter(given.get_partial_shape(), given.get_element_type())
    return embed(make_model([ov.opset13.result(image)], [image]), preprocess, spec).model


def _say_embedded(name: str, done: Preprocess) -> list[str]:
    """Return the sentence on what an input now does itself."""
    steps = ["turns RGB into BGR"] if done.color == "bgr" else []
    steps += [f"subtracts {_numbers(done.mean)}"] if done.mean is not None and any(done.mean) else []
    steps += (
        [f"divides by {_numbers(done.scale)}"] if done.scale is not None and any(v != 1 for v in done.scale) else []
    )
    steps += ["brings the channels first"] if done.layout == "NCHW" else []
    doing = f", and the model {', '.join(steps)} itself" if steps else ""
    return [
        f"embedded: input {name!r} takes u8 images (N, H, W, C), {'gray' if done.color == 'gray' else 'RGB'}{doing}"
    ]


def found_preprocessing(
    rt_info: Mapping[str, str], inputs: Sequence[InputSpec] = ()
) -> tuple[dict[str, Any], list[str]]:
    """Return the preprocessing in ``model_info`` as fields of ``Preprocess``, and what was not understood.

    The keys are those that Open Model Zoo, Geti and OpenVINO Model API write; all values are strings. With
    ``embedded_processing`` the model does it itself, so nothing is returned. By the convention of Model API images are
    BGR, and ``reverse_input_channels`` means that the model expects RGB.

    Args:
        rt_info: Runtime information with keys joined by "/", as in ``Loaded.rt_info``.
        inputs: Inputs of the model, whose size an image fills if ``resize_type`` says so.
    """
    info = {key.removeprefix("model_info/"): v.strip() for key, v in rt_info.items() if key.startswith("model_info/")}
    found: dict[str, Any] = {}
    doubts: list[str] = []
    if info.get("embedded_processing", "").lower() in _TRUE:
        return found, doubts
    for key, ours in (("mean_values", "mean"), ("scale_values", "scale")):
        if not info.get(key):
            continue
        values = _parse(info[key])
        if values is None or (ours == "scale" and 0 in values):
            doubts.append(f"model_info {key} {info[key][:80]!r} is ignored: it should be one or three numbers")
        elif any(value != (ours == "scale") for value in values):
            found[ours] = values
    if info.get("reverse_input_channels"):
        found["color"] = "rgb" if info["reverse_input_channels"].lower() in _TRUE else "bgr"
    layout = info.get("layout", "").rpartition(":")[2].strip("[]").replace(",", "").upper()
    if layout in ("NCHW", "NHWC"):
        found["layout"] = layout
    resize = info.get("resize_type", "standard").lower()
    size = _image_size(inputs) if resize.startswith("fit_to_window") else None
    if resize == "crop":
        doubts.append("model_info resize_type 'crop' is not applied: set preprocessing.resize and preprocessing.crop")
    elif resize.startswith("fit_to_window") and size is None:
        doubts.append(f"model_info resize_type {resize[:40]!r} is not applied: the input has no fixed size to fill")
    elif resize.startswith("fit_to_window"):
        found["letterbox"] = size
        found["pad_position"] = "center" if resize == "fit_to_window_letterbox" else "corner"
        found["pad_value"] = _parse(info.get("pad_value", "")) or (0.0,)
    return found, doubts


def _image_size(inputs: Sequence[InputSpec]) -> tuple[int, int] | None:
    """Return the height and width that the only input takes, if it takes images of one size."""
    try:
        size = Preprocess().resolve(inputs[0]).resize if len(inputs) == 1 else None
    except DataError:
        return None
    return size


def describe_preprocessing(rt_info: Mapping[str, str], inputs: Sequence[InputSpec]) -> list[str]:
    """Return sentences on the preprocessing that the file asks for and on inputs that take bytes unchanged."""
    found, doubts = found_preprocessing(rt_info, inputs)
    parts = [f"{key} {_numbers(value) if isinstance(value, tuple) else value}" for key, value in sorted(found.items())]
    sentences = [f"model_info asks for {', '.join(parts)}"] if parts else []
    sentences += [
        f"input {spec.name!r} takes u8 images: the model does its preprocessing itself"
        for spec in inputs
        if spec.dtype == np.uint8 and len(spec.shape) == 4
    ]
    return sentences + doubts


def _parse(text: str) -> tuple[float, ...] | None:
    """Return the numbers in a string such as "123.675 116.28, 103.53"; None if it holds anything else."""
    try:
        values = tuple(float(word) for word in text.strip("[]()").replace(",", " ").split())
    except ValueError:
        return None
    return values if len(values) in (1, 3) and np.isfinite(values).all() else None


def _numbers(values: tuple[float, ...] | None) -> str:
    return " ".join(f"{value:g}" for value in values or ())


def has_dynamic_first_axis(port: ov.Output) -> bool:
    """Return whether an input has a dynamic first axis with more axes after it."""
    shape = port.get_partial_shape()
    return shape.rank.is_static and len(shape) > 1 and shape[0].is_dynamic


def checked_shapes(dataset: Dataset, model: ov.Model) -> Dataset:
    """Return the dataset with a check of samples as they are loaded, if an input of the model is dynamic.

    Stateful models are not checked, because the content of their state matters too.
    """
    check = ShapeCheck(model)
    return CheckedShapes(dataset, check) if check.needed else dataset


class ShapeCheck:
    """Refuses feeds whose shapes some layer of the model can't take; each distinct set of shapes is inferred once."""

    def __init__(self, model: ov.Model):
        self._model = model
        self._sound: set[tuple[tuple[int, ...], ...]] = set()
        self.needed = any(port.get_partial_shape().is_dynamic for port in model.inputs) and not model.get_sinks()

    def __call__(self, feed: Sequence[Any], where: str) -> None:
        """Check the arrays of one sample, in input order.

        Raises:
            DataError: The model can't take them; ``where`` names the sample.
        """
        shapes = tuple(tuple(array.shape) for array in feed)
        if not self.needed or shapes in self._sound:
            return
        try:  # on a clone: a model whose reshape failed is of no use any more
            self._model.clone().reshape({i: ov.PartialShape(list(shape)) for i, shape in enumerate(shapes)})
        except RuntimeError as error:
            given = ", ".join(str(list(shape)).replace(" ", "") for shape in shapes)
            raise DataError(
                f"{where}: no layer can take a feed of shape {given} ({_reason(error)}). "
                "Give samples of the shape that the model was made for"
            ) from error
        self._sound.add(shapes)


class CheckedShapes:
    """Wraps a dataset; a sample whose shapes the model can't take raises DataError when it is loaded."""

    def __init__(self, dataset: Dataset, check: ShapeCheck):
        self._dataset = dataset
        self._check = check

    @property
    def source(self) -> str:
        """Description of the data, for messages and reports."""
        return self._dataset.source

    @property
    def class_folders(self) -> Mapping[str, int]:
        """Class folders of the dataset."""
        return self._dataset.class_folders

    @property
    def notes(self) -> Sequence[str]:
        """Sentences of the dataset for the report."""
        return self._dataset.notes

    def __len__(self) -> int:
        return len(self._dataset)

    def __iter__(self) -> Iterator[Sample]:
        return map(self._checked, self._dataset)

    def choose(self, count: int | None, salt: str = "") -> Sequence[str]:
        """Return the ids that the dataset chooses."""
        return self._dataset.choose(count, salt)

    def reading_order(self, ids: Sequence[str]) -> Sequence[str]:
        """Return the ids in the order in which the dataset can read them one by one."""
        return self._dataset.reading_order(ids)

    def load(self, ids: Sequence[str]) -> Iterator[Sample]:
        """Yield the samples with these ids, in this order.

        Raises:
            DataError: The model can't take a sample.
        """
        return map(self._checked, self._dataset.load(ids))

    def _checked(self, sample: Sample) -> Sample:
        feed = feed_of(sample)
        for frame in feed if isinstance(feed, Frames) else [feed]:
            self._check(frame, sample.where or sample.id)
        return sample


def _reason(error: RuntimeError) -> str:
    """Return the node and the rule in OpenVINO's message, which has several lines with places in its sources."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    useful = [line for line in lines if not line.startswith(("Exception from", "Check '"))]
    return "; ".join(useful or lines)[:300].rstrip(".")
