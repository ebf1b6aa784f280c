"""Turn an image into a feed on the host: color, size, mean and scale, and axes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from calib.errors import DataError, UsageError
from calib.samples.sample import InputSpec

if TYPE_CHECKING:
    from PIL import Image

LAYOUTS = ("NCHW", "NHWC")
COLORS = {"rgb": "RGB", "bgr": "RGB", "gray": "L"}  # Pillow's modes; bgr is turned around afterwards
FILTERS = ("nearest", "bilinear", "bicubic", "lanczos")


@dataclass(frozen=True)
class Preprocess:
    """How an image becomes a feed. Fields that are None follow from the model's input, see ``resolve``.

    The steps: color → ``resize_short`` → ``resize`` → ``crop`` → ``(x − mean) / scale`` → dtype → layout. An
    orientation in the EXIF data is not applied, as in torchvision.

    Attributes:
        layout: Layout of the feed, "NCHW" or "NHWC".
        color: Order of channels, "rgb", "bgr" or "gray".
        resize: Size (height, width) to stretch to.
        resize_short: Length of the shorter side, keeping the aspect ratio (as in torchvision's Resize(256)).
        crop: Size (height, width) of the centre crop.
        filter: Pillow's filter for both resizings, with its antialiasing.
        mean: Mean of each channel in the order of ``color``, on values 0..255; subtracted first, as in Model Optimizer.
        scale: Divisor of each channel, on values 0..255 (torchvision's std times 255).
        dtype: Type of the feed; None for that of the input.
    """

    layout: str | None = None
    color: str | None = None
    resize: tuple[int, int] | None = None
    resize_short: int | None = None
    crop: tuple[int, int] | None = None
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
        for key in ("resize", "crop"):
            size = getattr(self, key)
            if size is not None and (len(size) != 2 or min(size) < 1):
                raise UsageError(f"preprocess.{key}: (height, width), both at least 1, got {size!r}")
        if self.resize_short is not None and self.resize_short < 1:
            raise UsageError(f"preprocess.resize_short: at least 1, got {self.resize_short!r}")
        if self.scale is not None and not all(self.scale):
            raise UsageError(f"preprocess.scale: values are divided by it, so none may be 0, got {self.scale!r}")

    def resolve(self, spec: InputSpec) -> Preprocess:
        """Return a copy with layout, color, size and dtype set from the model's input.

        Without ``resize`` and ``crop`` an image gets the input's height and width if these are fixed: by a centre crop
        after ``resize_short``, or by stretching without it.

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
        resize, crop = self.resize, self.crop
        if resize is None and crop is None and height is not None and width is not None:
            resize, crop = ((height, width), None) if self.resize_short is None else (None, (height, width))
        dtype = self.dtype or str(spec.dtype)
        made = replace(self, layout=layout, color=color, resize=resize, crop=crop, dtype=dtype)
        made._check(spec, (height, width))
        return made

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

    def _sized(self, image: Image.Image) -> Image.Image:
        from PIL import Image

        method = Image.Resampling[self.filter.upper()]
        if self.resize_short is not None:
            width, height = image.size
            short = min(width, height)
            size = tuple(max(1, int(self.resize_short * side / short)) for side in (width, height))
            image = image.resize((size[0], size[1]), method)
        if self.resize is not None and image.size != self.resize[::-1]:
            image = image.resize((self.resize[1], self.resize[0]), method)
        if self.crop is not None:
            height, width = self.crop
            top, left = (image.height - height) / 2, (image.width - width) / 2
            if top < 0 or left < 0:
                raise DataError(f"an image of {image.height}x{image.width} is smaller than the crop {height}x{width}")
            top, left = round(top), round(left)  # as torchvision's CenterCrop rounds
            image = image.crop((left, top, left + width, top + height))
        return image

    def _check(self, spec: InputSpec, wanted: tuple[int | None, int | None]) -> None:
        got = self.crop or self.resize
        if got is not None and any(want not in (None, size) for want, size in zip(wanted, got, strict=True)):
            key = "crop" if self.crop else "resize"
            raise DataError(f"preprocess.{key} gives {got[0]}x{got[1]}, and input {spec} wants {wanted[0]}x{wanted[1]}")
        channels = _channels(self.color or "rgb")
        for key in ("mean", "scale"):
            values = getattr(self, key)
            if values is not None and len(values) not in (1, channels):
                raise UsageError(f"preprocess.{key}: {channels} values (or 1), one for each channel, got {len(values)}")
            if values is not None and np.dtype(self.dtype).kind != "f":
                raise UsageError(
                    f"preprocess.{key}: the input takes {self.dtype}, where {key} can't be applied on the host; embed "
                    "it into the model, or leave it out"
                )


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
