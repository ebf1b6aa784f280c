"""Readers and preprocessing as Accuracy Checker does them, with OpenCV and Pillow (extra: opencv-python-headless)."""

from __future__ import annotations

import importlib.util
import io
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.accuracy_check.fields import Fields
from calib.accuracy_check.values import Seen
from calib.errors import DataError, MissingExtraError, one_line
from calib.values.distribution import requirement

Step = Callable[[Seen], None]
Reader = Callable[[Path], NDArray[Any]]

_LARGEST = 16384  # pixels along one side
_FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "PPM", "GIF")

# Means of ImageNet and CIFAR-10 in BGR and RGB that configurations name.
_KNOWN = {"imagenet": (104.00698793, 116.66876762, 122.67891434), "cifar10": (125.307, 122.961, 113.8575)}


def require_opencv() -> Any:
    """Return OpenCV's module.

    Raises:
        MissingExtraError: It is not installed.
    """
    if importlib.util.find_spec("cv2") is None:
        raise MissingExtraError("an Accuracy Checker configuration", "opencv-python-headless",
                                requirement("opencv-python-headless"))  # fmt: skip
    import cv2

    return cv2


def _bytes(path: Path) -> bytes:
    """Return an image file's bytes if a decoder may open it: Pillow reads its header, and its size has a bound."""
    from PIL import Image

    raw = path.read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(io.BytesIO(raw), formats=_FORMATS) as image:
                size = image.size
        except Exception as error:  # decoders raise whatever they like on damaged files
            raise DataError(f"{path} can't be read: {type(error).__name__}: {one_line(error)}") from error
    if max(size) > _LARGEST:
        raise DataError(f"{path} has {size[1]}x{size[0]} pixels, and at most {_LARGEST} along one side are read")
    return raw


def opencv_imread(path: Path) -> NDArray[Any]:
    """Return an image in BGR, ``(H, W, 3)`` of u8; its orientation in EXIF data is applied."""
    cv2 = require_opencv()
    image = cv2.imdecode(np.frombuffer(_bytes(path), np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise DataError(f"{path} can't be read: OpenCV does not decode it")
    return image


def pillow_imread(path: Path) -> NDArray[Any]:
    """Return an image in RGB, ``(H, W, 3)`` of u8."""
    from PIL import Image

    with Image.open(io.BytesIO(_bytes(path)), formats=_FORMATS) as image:
        return np.array(image.convert("RGB"))


def _reader(read: Reader) -> Callable[[Fields], Reader]:
    def build(fields: Fields) -> Reader:
        fields.finish()
        return read

    return build


READERS: dict[str, Callable[[Fields], Reader]] = {
    "opencv_imread": _reader(opencv_imread),
    "pillow_imread": _reader(pillow_imread),
}


def _greater(dst_w: int, dst_h: int, width: int, height: int) -> tuple[int, int]:
    return (dst_w, int(dst_h * height / width)) if height > width else (int(dst_w * width / height), dst_h)


def _window(dst_w: int, dst_h: int, width: int, height: int) -> tuple[int, int]:
    scale = min(dst_h / height, dst_w / width)
    return int(scale * width), int(scale * height)


def _frcnn(dst_w: int, dst_h: int, width: int, height: int) -> tuple[int, int]:
    least, most = min(dst_w, dst_h), max(dst_w, dst_h)
    sides = _greater(least, least, width, height)
    return sides if max(sides) <= most else _window(most, most, width, height)


def _smallest(dst_w: int, dst_h: int, width: int, height: int) -> tuple[int, int]:
    ratio = min(height / dst_h, width / dst_w)
    return int(width / ratio), int(height / ratio)


RATIOS: dict[str, Callable[[int, int, int, int], tuple[int, int]]] = {
    "width": lambda dst_w, dst_h, width, height: (int(dst_w * width / height), dst_h),
    "height": lambda dst_w, dst_h, width, height: (dst_w, int(dst_h * height / width)),
    "greater": _greater,
    "fit_to_window": _window,
    "frcnn_keep_aspect_ratio": _frcnn,
    "min_ratio": _smallest,
}


def _resizer(fields: Fields) -> Callable[[NDArray[Any], int, int], NDArray[Any]]:
    """Return the function that resizes to (height, width)."""
    name = fields.text("interpolation", "LINEAR").upper()
    pillow = fields.flag("use_pillow") or fields.text("resize_realization", "opencv") == "pillow"
    if fields.get("use_tensorflow") or fields.text("resize_realization", "opencv") == "tf":
        fields.refuse("resizing with TensorFlow is not supported; leave out use_tensorflow, the results are close")
    if pillow:
        known = {"NEAREST": "NEAREST", "BILINEAR": "BILINEAR", "LINEAR": "BILINEAR", "BICUBIC": "BICUBIC"}
        known |= {"CUBIC": "BICUBIC", "BOX": "BOX", "LANCZOS": "LANCZOS", "ANTIALIAS": "LANCZOS", "HAMMING": "HAMMING"}
        if name not in known:
            fields.refuse(f"interpolation {name!r} of Pillow is not supported; supported are {', '.join(known)}")
        return lambda pixels, height, width: _with_pillow(pixels, height, width, known[name])
    methods = {"NEAREST": 0, "LINEAR": 1, "BILINEAR": 1, "CUBIC": 2, "BICUBIC": 2, "AREA": 3, "LANCZOS4": 4}
    if name not in methods:  # the numbers are OpenCV's own, INTER_NEAREST to INTER_LANCZOS4
        fields.refuse(f"interpolation {name!r} of OpenCV is not supported; supported are {', '.join(methods)}")
    return lambda pixels, height, width: (
        require_opencv().resize(pixels, (width, height), interpolation=methods[name]).astype(np.float32)
    )


def _with_pillow(pixels: NDArray[Any], height: int, width: int, name: str) -> NDArray[Any]:
    from PIL import Image

    return np.array(Image.fromarray(pixels).resize((width, height), Image.Resampling[name]))


def _resize(fields: Fields) -> Step:
    wanted_h, wanted_w = fields.sides()
    name = fields.get("aspect_ratio_scale")
    ratio = RATIOS[fields.choice("aspect_ratio_scale", tuple(RATIOS), "greater")] if name else None
    factor, boundary = fields.size("factor"), fields.flag("include_boundary")
    resizer = _resizer(fields)
    if wanted_h is None or wanted_w is None:
        fields.refuse("size, or dst_width and dst_height, are needed")
    fields.finish()

    def resize(seen: Seen) -> None:
        assert wanted_h is not None and wanted_w is not None
        was_h, was_w = seen.pixels.shape[:2]
        width, height = wanted_w, wanted_h
        if ratio is not None:
            width, height = ratio(wanted_w, wanted_h, was_w, was_h)
            if factor:
                width -= (width - int(not boundary)) % factor
                height -= (height - int(not boundary)) % factor
        _note_resize(seen, height, width, (max(height, wanted_h), max(width, wanted_w)))
        seen.pixels = _three_axes(resizer(seen.pixels, height, width))

    return resize


def _note_resize(seen: Seen, height: int, width: int, preferable: tuple[int, int]) -> None:
    was_h, was_w = seen.pixels.shape[:2]
    seen.info, seen.preferable = (height, width, 1), preferable
    facts = {"scale_x": width / was_w, "scale_y": height / was_h, "original_width": was_w, "original_height": was_h}
    seen.operations.append(("resize", facts))


def auto_resize(height: int, width: int) -> Step:
    """Return the step that stretches an image to the model's input with OpenCV."""

    def resize(seen: Seen) -> None:
        _note_resize(seen, height, width, (height, width))
        seen.pixels = _three_axes(require_opencv().resize(seen.pixels, (width, height)).astype(np.float32))

    return resize


def _three_axes(pixels: NDArray[Any]) -> NDArray[Any]:
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def _crop(fields: Fields) -> Step:
    wanted_h, wanted_w = fields.sides()
    fraction, square, pillow = (
        fields.number("central_fraction", None, 0, 1),
        fields.flag("max_square"),
        fields.flag("use_pillow"),
    )
    if not fraction and not square and (wanted_h is None or wanted_w is None):
        fields.refuse("size, dst_width and dst_height, central_fraction or max_square are needed")
    fields.finish()

    def crop(seen: Seen) -> None:
        height, width = seen.pixels.shape[:2]
        if square:
            new_h = new_w = min(height, width)
        elif fraction:
            new_h, new_w = int(height * fraction), int(width * fraction)
        else:
            assert wanted_h is not None and wanted_w is not None
            new_h, new_w = wanted_h, wanted_w
        if pillow:
            top, left = round((height - new_h) / 2.0), round((width - new_w) / 2.0)
            seen.pixels = _pillow_crop(seen.pixels, top, left, new_h, new_w)
            return
        if width < new_w or height < new_h:
            sides = np.array([width, height])
            sides = sides * new_w / sides[0] if sides[0] < new_w else sides
            sides = sides * new_h / sides[1] if sides[1] < new_h else sides
            whole = np.ceil(sides).astype(int)
            seen.pixels = require_opencv().resize(seen.pixels, (int(whole[0]), int(whole[1])))
        height, width = seen.pixels.shape[:2]
        top, left = (height - new_h) // 2, (width - new_w) // 2
        seen.operations.append(("crop", {}))
        seen.pixels = seen.pixels[top : top + new_h, left : left + new_w]

    return crop


def _pillow_crop(pixels: NDArray[Any], top: int, left: int, height: int, width: int) -> NDArray[Any]:
    """Return part of an image, with zeros where it reaches outside."""
    from PIL import Image

    return np.array(Image.fromarray(pixels).crop((left, top, left + width, top + height)))


def _padding(fields: Fields) -> Step:
    wanted_h, wanted_w = fields.sides()
    stride = fields.size("stride", 1) or 1
    value = fields.numbers("pad_value") or [0.0, 0.0, 0.0]
    kind = fields.choice("pad_type", ("center", "left_top", "right_bottom"), "center")
    extend = fields.flag("left_top_extend")
    if fields.get("enable_resize"):
        fields.refuse("enable_resize is not supported; put a resize behind the padding")
    mode = fields.choice("numpy_pad_mode", ("constant", "edge", "symmetric", "wrap"), "constant")
    mode = mode if fields.flag("use_numpy") else "constant"
    fields.finish()
    values = value * 3 if len(value) == 1 else value

    def pad(seen: Seen) -> None:
        height, width = seen.pixels.shape[:2]
        default = seen.preferable or (height, width)
        goal_h, goal_w = wanted_h or default[0], wanted_w or default[1]
        height = min(height, goal_h)
        goal_h = math.ceil(goal_h / stride) * stride
        goal_w = math.ceil(max(goal_w, width) / stride) * stride
        rest_h, rest_w = goal_h - height, goal_w - width
        if kind == "center":
            top, left = rest_h // 2 + (rest_h % 2 if extend else 0), rest_w // 2 + (rest_w % 2 if extend else 0)
        else:
            top, left = (0, 0) if kind == "right_bottom" else (rest_h, rest_w)
        edges = (top, left, rest_h - top, rest_w - left)
        seen.pixels = _padded(seen.pixels, edges, values, mode)
        seen.operations.append(("padding", {"pad": edges, "pref_width": goal_w, "pref_height": goal_h}))

    return pad


def _padded(pixels: NDArray[Any], edges: tuple[int, int, int, int], values: list[float], mode: str) -> NDArray[Any]:
    """Return an image with (top, left, bottom, right) pixels added; u8 rounds the values as OpenCV does."""
    top, left, bottom, right = edges
    around = ((top, bottom), (left, right), (0, 0))
    if mode != "constant":
        return np.pad(pixels, around, mode=mode)  # type: ignore[call-overload]
    fill = np.array(values[: pixels.shape[2]], np.float64)
    fill = np.rint(fill) if pixels.dtype == np.uint8 else fill
    height, width = pixels.shape[0] + top + bottom, pixels.shape[1] + left + right
    made = np.broadcast_to(fill.astype(pixels.dtype), (height, width, pixels.shape[2])).copy()
    made[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    return made


def _normalization(fields: Fields) -> Step:
    mean, std = fields.numbers("mean", _KNOWN), fields.numbers("std", _KNOWN)
    fields.flag("images_only")
    if mean is None and std is None:
        fields.refuse("mean or std is needed")
    if std is not None and 0 in std:
        fields.refuse("std must not hold 0")
    fields.finish()

    def normalize(seen: Seen) -> None:
        if mean is not None:
            seen.pixels = seen.pixels - (mean[0] if len(mean) == 1 else np.array(mean))
        if std is not None:
            seen.pixels = seen.pixels / (std[0] if len(std) == 1 else np.array(std))

    return normalize


def _reversed(fields: Fields) -> Step:
    fields.finish()

    def reverse(seen: Seen) -> None:
        seen.pixels = np.ascontiguousarray(seen.pixels[:, :, ::-1])

    return reverse


def _gray(code: str) -> Callable[[Fields], Step]:
    def build(fields: Fields) -> Step:
        cast = fields.flag("cast_to_float", True)
        fields.finish()

        def gray(seen: Seen) -> None:
            cv2 = require_opencv()
            made = cv2.cvtColor(seen.pixels, getattr(cv2, code))[:, :, None]
            seen.pixels = made.astype(np.float32) if cast else made

        return gray

    return build


def _later(fields: Fields) -> Step:
    """Mark the place of `auto_resize`, which is made when the model's input is known."""
    fields.finish()
    return stretched_later


def stretched_later(_seen: Seen) -> None:
    """Stand for `auto_resize` until the model's input is known."""
    raise AssertionError("the model's input is not known yet")


STEPS: dict[str, Callable[[Fields], Step]] = {
    "resize": _resize,
    "auto_resize": _later,
    "crop": _crop,
    "padding": _padding,
    "normalization": _normalization,
    "bgr_to_rgb": _reversed,
    "rgb_to_bgr": _reversed,
    "bgr_to_gray": _gray("COLOR_BGR2GRAY"),
    "rgb_to_gray": _gray("COLOR_RGB2GRAY"),
}
