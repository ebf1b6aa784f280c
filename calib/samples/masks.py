"""Class maps as images: a folder of images and one of masks, whose pixel values are the numbers of classes."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.errors import DataError, one_line
from calib.samples.annotations import annotated, folder_of, images_in
from calib.samples.files import confined
from calib.samples.sample import Dataset
from calib.samples.source import Source

_MODES = ("L", "P", "1", "I", "I;16")


@dataclass(frozen=True)
class MaskTarget:
    """The class map in a file, read when its image is.

    Attributes:
        path: Image with one channel.
        root: Folder that it may not leave.
    """

    path: Path
    root: Path

    def read(self, size: tuple[int, int]) -> NDArray[np.int64]:
        """Return the class of each pixel, ``(H, W)``.

        Raises:
            DataError: The file can't be read, has several channels, or is not of the size of its image.
        """
        path = confined(self.path, self.root, "mask", "Put it into the folder of masks")
        classes = read_mask(path)
        if classes.shape != size:
            raise DataError(
                f"the mask {path.name} has {classes.shape[0]}x{classes.shape[1]} pixels (height, width), and its image "
                f"{size[0]}x{size[1]}: a mask has a class for each pixel of its image"
            )
        return classes


def open_masks(source: Source) -> Dataset:
    """Return the images in ``FOLDER/images``, each with the mask of its name in ``FOLDER/masks``.

    Raises:
        DataError: A folder is missing, or an image has no mask or a mask no image.
    """
    folder = source.path
    if not folder.is_dir():
        raise DataError(f"{source.text}: {folder} is not a folder. Give one that holds the folders images and masks")
    images, masks = folder_of(source, "images", folder, "images"), folder_of(source, "masks", folder, "masks")
    files, found = images_in(images), images_in(masks)
    for have, want, what in ((files, found, "mask"), (found, files, "image")):
        if alone := sorted(set(have) - set(want)):
            raise DataError(
                f"{source.text}: {have[alone[0]]} has no {what} ({len(alone)} have none). An image and its mask have "
                "the same name but for the suffix"
            )
    rows: list[tuple[str, Any, str]] = [
        (path.name, MaskTarget(found[name], masks), f"mask {found[name].name}") for name, path in files.items()
    ]
    return annotated(source, images, rows)


def read_mask(path: Path) -> NDArray[np.int64]:
    """Return the pixel values of an image with one channel, ``(H, W)``; of one with a palette its indices.

    Raises:
        DataError: It can't be read, is too large, or has several channels.
    """
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(path, formats=("PNG", "BMP", "TIFF", "PPM", "GIF")) as image:
                if image.mode not in _MODES:
                    raise DataError(
                        f"the mask {path.name} has colours (Pillow's mode {image.mode}), and one channel is needed "
                        "whose values are the numbers of classes. Convert it, or save it with a palette"
                    )
                return np.asarray(image).astype(np.int64)
        except DataError:
            raise
        except Exception as error:  # decoders raise whatever they like on damaged files
            raise DataError(f"the mask {path.name} can't be read: {type(error).__name__}: {one_line(error)}") from error
