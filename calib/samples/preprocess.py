"""Turn an image into a feed on the host: color, size, mean and scale, and axes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from calib.errors import DataError, UsageError
from calib.samples.sample import InputSpec
from calib.values.detections import ImageGeometry

if TYPE_CHECKING:
    from PIL import Image

LAYOUTS = ("NCHW", "NHWC")
COLORS = {"rgb": "RGB", "bgr": "RGB", "gray": "L"}  # Pillow's modes; bgr is turned around afterwards
FILTERS = ("nearest", "bilinear", "bicubic", "lanczos")
POSITIONS = ("center", "corner")
LARGEST = 16384  # pixels along one side: an image of that size has 800 MB in floating point


@dataclass(frozen=True)
class Preprocess:
    """How an image becomes a feed. Fields that are None follow from the model's input, see ``resolve``.

    The steps: color → ``resize_short`` or ``resize_long`` → ``resize`` or ``letterbox`` → ``crop`` → ``pad`` →
    ``(x − mean) / scale`` → dtype → layout. An orientation in the EXIF data is not applied, as in torchvision.

    Attributes:
        layout: Layout of the feed, "NCHW" or "NHWC".
        color: Order of channels, "rgb", "bgr" or "gray".
        resize: Size (height, width) to stretch to.
        resize_short: Length of the shorter side, keeping the aspect ratio (as in torchvision's Resize(256)).
        resize_long: Length of the longer side, keeping the aspect ratio.
        letterbox: Size (height, width) to fill: the image is resized to fit inside, keeping the aspect ratio, and the
            rest is padded.
        crop: Size (height, width) of the centre crop.
        pad: Size (height, width) to pad to, without resizing.
        pad_value: Value of padded pixels, one or one for each channel in the order of ``color``, 0..255.
        pad_position: Place of the image in the padding: "center", or "corner", the top left one.
        filter: Pillow's filter for both resizings, with its antialiasing.
        mean: Mean of each channel in the order of ``color``, on values 0..255; subtracted first, as in Model Optimizer.
        scale: Divisor of each channel, on values 0..255 (torchvision's std times 255).
        dtype: Type of the feed; None for that of the input.
    """

    layout: str | None = None
    color: str | None = None
    resize: tuple[int, int] | None = None
    resize_short: int | None = None
    resize_long: int | None = None
    letterbox: tuple[int, int] | None = None
    crop: tuple[int, int] | None = None
    pad: tuple[int, int] | None = None
    pad_value: tuple[float, ...] = (114,)
    pad_position: str = "center"
    filter: str = "bilinear"
    mean: tuple[float, ...] | None = None
    scale: tuple[float, ...] | None = None
    dtype: str | None = None

    def __post_init__(self):
        for key, value, allowed in (("layout", self.layout, LAYOUTS), ("color", self.color, tuple(COLORS))):
            if value is not None and value not in allowed:
                raise UsageError(f"preprocess.{key}: one of {', '.join(allowed)}, got {value!r}")
        if self.filter not in FILTERS:
            raise UsageError(f"preprocess.filter: one of {', '.join(FILTERS)}, got {self.filter!r}")
        if self.pad_position not in POSITIONS:
            raise UsageError(f"preprocess.pad_position: one of {', '.join(POSITIONS)}, got {self.pad_position!r}")
        if not all(0 <= value <= 255 for value in self.pad_value):
            raise UsageError(f"preprocess.pad_value: pixel values from 0 to 255, got {self.pad_value!r}")
        self._check_sizes()
        if self.scale is not None and not all(self.scale):
            raise UsageError(f"preprocess.scale: values are divided by it, so none may be 0, got {self.scale!r}")

    def _check_sizes(self) -> None:
        for key in ("resize", "letterbox", "crop", "pad"):
            size = getattr(self, key)
            if size is not None and (len(size) != 2 or min(size) < 1 or max(size) > LARGEST):
                raise UsageError(f"preprocess.{key}: (height, width), both from 1 to {LARGEST}, got {size!r}")
        for key in ("resize_short", "resize_long"):
            side = getattr(self, key)
            if side is not None and not 1 <= side <= LARGEST:
                raise UsageError(f"preprocess.{key}: from 1 to {LARGEST}, got {side!r}")
        for one, other in (("resize_short", "resize_long"), ("resize", "letterbox")):
            if getattr(self, one) is not None and getattr(self, other) is not None:
                raise UsageError(f"preprocess.{one} and preprocess.{other} are alternatives: give one of them")

    def resolve(self, spec: InputSpec) -> Preprocess:
        """Return a copy with layout, color, size and dtype set from the model's input.

        Without a step that gives a size an image gets the input's height and width if these are fixed: by a centre crop
        after ``resize_short``, by padding after ``resize_long``, or by stretching.

        Raises:
            DataError: The input is not an image, or does not have the size or channels asked for.
            UsageError: ``mean`` or ``scale`` does not fit the channels or the dtype.
        """
        layout = self.layout or _layout(spec)
        shape = spec.shape
        channels, height, width = (shape[1], shape[2], shape[3]) if layout == "NCHW" else (shape[3], shape[1], shape[2])
        color = self.color or ("gray" if channels == 1 else "rgb")
        if channels not in (None, _channels(color)):
            raise DataError(
                f"input {spec} has {channels} channels as {layout}, and color {color!r} has {_channels(color)}"
            )
        made = replace(self, layout=layout, color=color, dtype=self.dtype or str(spec.dtype))
        if self._final is None and height is not None and width is not None:
            short, long = self.resize_short is not None, self.resize_long is not None
            made = replace(made, **{"crop" if short else "pad" if long else "resize": (height, width)})
        made._check(spec, (height, width))
        return made

    @property
    def _final(self) -> str | None:
        """Name of the step that gives the size of the feed; None if the image's own decides."""
        return next((key for key in ("pad", "crop", "letterbox", "resize") if getattr(self, key) is not None), None)

    def geometry(self, height: int, width: int) -> ImageGeometry:
        """Return how an image of that size becomes the feed; call ``resolve`` first.

        Raises:
            DataError: The image is smaller than the crop, or larger than what it is padded to.
        """
        return self._steps(height, width)[-1] if self._final or self._sides else ImageGeometry.of_size(height, width)

    def apply(self, image: Image.Image) -> NDArray[Any]:
        """Return the feed without a batch axis, (C, H, W) or (H, W, C); call ``resolve`` first.

        Raises:
            DataError: The image is smaller than the crop, or Pillow can't convert it to 8 bits.
        """
        assert self.layout and self.color and self.dtype
        image = self._sized(_eight_bit(image).convert(COLORS[self.color]))
        values = np.asarray(image)
        values = values[:, :, None] if values.ndim == 2 else values
        if self.color == "bgr":
            values = values[:, :, ::-1]
        if self.mean is not None or self.scale is not None:
            mean = np.asarray(self.mean if self.mean is not None else 0, np.float32)
            scale = np.asarray(self.scale if self.scale is not None else 1, np.float32)
            values = (values.astype(np.float32) - mean) / scale
        values = values.transpose(2, 0, 1) if self.layout == "NCHW" else values
        return np.ascontiguousarray(values, dtype=np.dtype(self.dtype))

    def without_arithmetic(self) -> Preprocess:
        """Return only the steps up to the crop, in u8, for a model that has mean and scale embedded."""
        return replace(self, mean=None, scale=None, dtype="uint8")

    @property
    def _sides(self) -> bool:
        return self.resize_short is not None or self.resize_long is not None

    def _steps(self, height: int, width: int) -> list[ImageGeometry]:
        """Return the geometry after each step that changes size or place: one that resizes, or moves, but not both."""
        steps: list[ImageGeometry] = []
        now = ImageGeometry.of_size(height, width)
        if self._sides:
            wanted, side = (self.resize_short, min) if self.resize_short is not None else (self.resize_long, max)
            assert wanted is not None
            factor = side(height, width)
            now = now.resized(*(max(1, int(wanted * length / factor)) for length in (height, width)))
            steps.append(now)
        if self.resize is not None:
            now = now.resized(*self.resize)
            steps.append(now)
        if self.letterbox is not None:
            now = now.resized(*_fitting(now.network, self.letterbox))
            steps.append(now)
            now = now.placed(*self._place(now.network, self.letterbox), *self.letterbox)
            steps.append(now)
        if self.crop is not None:
            now = now.placed(*_cropped(now.network, self.crop), *self.crop)
            steps.append(now)
        if self.pad is not None:
            now = now.placed(*self._place(now.network, self.pad), *self.pad)
            steps.append(now)
        return steps

    def _place(self, size: tuple[int, int], wanted: tuple[int, int]) -> tuple[int, int]:
        """Return the top and left of an image in the padding; of an odd rest the larger half is below and right."""
        if any(have > want for have, want in zip(size, wanted, strict=True)):
            raise DataError(
                f"an image of {size[0]}x{size[1]} is larger than the {wanted[0]}x{wanted[1]} it is padded to; resize "
                "it before, or take letterbox in place of pad"
            )
        if self.pad_position == "corner":
            return 0, 0
        return (wanted[0] - size[0]) // 2, (wanted[1] - size[1]) // 2

    def _sized(self, image: Image.Image) -> Image.Image:
        from PIL import Image

        method = Image.Resampling[self.filter.upper()]
        before = ImageGeometry.of_size(image.height, image.width)
        for step in self._steps(image.height, image.width):
            height, width = step.network
            if step.scale != before.scale:
                image = image.resize((width, height), method)
            elif step != before:
                top, left = (round(step.offset[axis] - before.offset[axis]) for axis in (0, 1))
                canvas = Image.new(image.mode, (width, height), self._fill(image.mode))
                canvas.paste(image, (left, top))
                image = canvas
            before = step
        return image

    def _fill(self, mode: str) -> tuple[int, ...]:
        """Return the value of padded pixels in the order of Pillow's channels."""
        values = tuple(round(value) for value in self.pad_value)
        values = values * len(mode) if len(values) == 1 else values
        return values[::-1] if self.color == "bgr" else values

    def _check(self, spec: InputSpec, wanted: tuple[int | None, int | None]) -> None:
        key = self._final
        got = getattr(self, key) if key else None
        if got is not None and any(want not in (None, size) for want, size in zip(wanted, got, strict=True)):
            raise DataError(f"preprocess.{key} gives {got[0]}x{got[1]}, and input {spec} wants {wanted[0]}x{wanted[1]}")
        channels = _channels(self.color or "rgb")
        if len(self.pad_value) not in (1, channels):
            raise UsageError(
                f"preprocess.pad_value: {channels} values (or 1), one for each channel, got {len(self.pad_value)}"
            )
        for key in ("mean", "scale"):
            values = getattr(self, key)
            if values is not None and len(values) not in (1, channels):
                raise UsageError(f"preprocess.{key}: {channels} values (or 1), one for each channel, got {len(values)}")
            if values is not None and np.dtype(self.dtype).kind != "f":
                raise UsageError(
                    f"preprocess.{key}: the input takes {self.dtype}, where {key} can't be applied on the host; embed "
                    "it into the model, or leave it out"
                )


def _fitting(size: tuple[int, int], inside: tuple[int, int]) -> tuple[int, int]:
    """Return the largest size of that aspect ratio inside another, rounded, and at least one pixel."""
    ratio = min(inside[0] / size[0], inside[1] / size[1])
    height, width = (max(1, min(round(side * ratio), most)) for side, most in zip(size, inside, strict=True))
    return height, width


def _cropped(size: tuple[int, int], crop: tuple[int, int]) -> tuple[int, int]:
    """Return where the image lies in its centre crop, (top, left), neither above 0."""
    top, left = (size[0] - crop[0]) / 2, (size[1] - crop[1]) / 2
    if top < 0 or left < 0:
        raise DataError(f"an image of {size[0]}x{size[1]} is smaller than the crop {crop[0]}x{crop[1]}")
    return -round(top), -round(left)  # as torchvision's CenterCrop rounds


def _channels(color: str) -> int:
    return 1 if color == "gray" else 3


def _layout(spec: InputSpec) -> str:
    if spec.layout in LAYOUTS:
        return spec.layout
    if len(spec.shape) == 4:
        for layout, channels in (("NCHW", spec.shape[1]), ("NHWC", spec.shape[3])):
            if channels in (1, 3):
                return layout
    raise DataError(
        f"input {spec} does not look like an image with 1 or 3 channels; set preprocess.layout (NCHW or NHWC), or give "
        "an .npz file"
    )


def _eight_bit(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):  # Pillow clips these at 255 instead of scaling them
        raise DataError(
            f"an image with more than 8 bits a channel (Pillow's mode {image.mode}); convert it to 8 bits, "
            "or give arrays"
        )
    return image
