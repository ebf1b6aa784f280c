"""What an annotation converter gives, and the files that several of them read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.accuracy_check.values import Labels, Picture, Value
from calib.documents.json_text import load_json
from calib.errors import DataError, one_line
from calib.samples.annotations import whole_number

_JSON = 64 << 20  # bytes of a file of labels


@dataclass(frozen=True)
class Places:
    """Folders that a configuration's relative names are looked for in.

    Attributes:
        source: Folder of the data sets, ``--source``.
        annotations: Folder of annotation files, ``--annotations``; None if they are in ``source``.
        folders: Folders of the configuration itself, for lists of labels.
    """

    source: Path
    annotations: Path | None
    folders: tuple[Path, ...] = ()

    def find(self, name: str, *, folder: bool = False) -> Path:
        """Return an existing file, or folder, of that relative name.

        Raises:
            DataError: There is none, or the name leaves the folders.
        """
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts or "\0" in name:
            raise DataError(f"{name!r} leaves the folder of the data sets; names in a configuration are relative to it")
        roots = [self.annotations, self.source] if self.annotations is not None else [self.source]
        roots += [] if folder else list(self.folders)
        outside = []
        for root in roots:
            path = root / name
            if path.is_dir() if folder else path.is_file():
                if path.resolve().is_relative_to(root.resolve()):
                    return path
                outside.append(path)
        if outside:
            raise DataError(
                f"{outside[0]} is a link that leaves the folder of the data sets, and is not read. Give the folder "
                "that holds what it leads to, --source DIR, or put a copy in its place"
            )
        kind = "folder" if folder else "file"
        raise DataError(
            f"there is no {kind} {name!r} in {' or '.join(map(str, roots))}. Give the folder of the data sets, "
            "--source DIR, and if the annotations are elsewhere --annotations DIR"
        )


@dataclass(frozen=True)
class Masks:
    """Where class maps are read: by Pillow as they are, or with palettes turned into colours.

    Attributes:
        path: The image of the mask.
        colors: Whether a palette becomes colours.
        alpha: Whether the last of four channels is the mask.
    """

    path: Path
    colors: bool = False
    alpha: bool = False


@dataclass(frozen=True)
class Pictures:
    """An image that outputs are compared with.

    Attributes:
        path: The image.
        bgr: Whether it is read in BGR.
    """

    path: Path
    bgr: bool = False


Pending = Value | Masks | Pictures


@dataclass(frozen=True)
class Annotated:
    """A data set.

    Attributes:
        rows: Name of each image relative to the data source, and its annotation.
        labels: Its classes.
        masks: Whether masks are named relative to ``segmentation_masks_source``.
    """

    rows: Sequence[tuple[str, Pending]]
    labels: Labels = field(default_factory=lambda: Labels({}))


Convert = Callable[[Places, Mapping[str, Any]], Annotated]
"""Function of where files are and of the data set's entry."""


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a file of labels.

    Raises:
        DataError: It is too large, no JSON, or no object.
    """
    try:
        if path.stat().st_size > _JSON:
            raise DataError(f"{path}: larger than {_JSON >> 20} MiB")
        content = load_json(path.read_bytes())
    except (ValueError, RecursionError, OSError) as error:
        raise DataError(f"{path}: no usable JSON: {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: must be a JSON object")
    return content


def _color(color: Any, name: str) -> tuple[int, int, int]:
    """Return red, green and blue of a class.

    Raises:
        DataError: It is something else.
    """
    if not isinstance(color, list | tuple) or len(color) != 3:
        raise DataError(f"{name}: segmentation_colors: needs [red, green, blue] for each class, got {color!r}")
    red, green, blue = (whole_number(one, f"{name}: segmentation_colors", 0) for one in color)
    return red, green, blue


def meta_labels(places: Places, name: str, background: bool) -> Labels | None:
    """Return the classes of a ``dataset_meta_file``; None if there is none."""
    if not name:
        return None
    content = read_json(places.find(name))
    colors = tuple(_color(color, name) for color in content.get("segmentation_colors", ()))
    if isinstance(content.get("label_map"), Mapping):
        names = {whole_number(key, f"{name}: label_map", -1): str(text) for key, text in content["label_map"].items()}
        return Labels(names, content.get("background_label"), colors)
    if isinstance(content.get("labels"), list):
        return numbered([str(text) for text in content["labels"]], background, "background", colors)
    raise DataError(f'{name}: needs {{"label_map": {{number: name}}}} or {{"labels": [name…]}}')


def numbered(names: Sequence[str], background: bool, nothing: str, colors: Any = ()) -> Labels:
    """Return the classes of names in their order, from 0 on, or behind a class 0 that stands for nothing."""
    offset = int(background)
    numbered = {number + offset: name for number, name in enumerate(names)}
    return Labels(({0: nothing} if background else {}) | numbered, 0 if background else None, colors)


def read_pending(pending: Pending) -> Value:
    """Return an annotation whose file is read with its image.

    Raises:
        DataError: The file is missing or can't be read.
    """
    if isinstance(pending, Masks):
        values = _pixels(pending.path, pending.colors)
        return Picture(values[..., -1] if pending.alpha and values.ndim == 3 and values.shape[-1] == 4 else values)
    if isinstance(pending, Pictures):
        values = _pixels(pending.path, colors=True)
        return Picture(values[:, :, ::-1] if pending.bgr and values.ndim == 3 else values)
    return pending.copy()


def _pixels(path: Path, colors: bool) -> NDArray[Any]:
    from PIL import Image

    try:
        with Image.open(path, formats=("PNG", "JPEG", "BMP", "TIFF", "PPM", "GIF")) as image:
            if max(image.size) > 16384:
                raise DataError(f"{path}: an image of {image.height}x{image.width} is not read")
            return np.array(image.convert("RGB") if colors and image.mode == "P" else image)
    except DataError:
        raise
    except Exception as error:  # decoders raise whatever they like on damaged files
        raise DataError(f"{path} can't be read: {type(error).__name__}: {one_line(error)}") from error
