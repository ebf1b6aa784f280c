"""Draw what two models find in the same image, side by side, and put the pictures into a page."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from calib.values.detections import Detections
from calib.values.pictures import FOLDER, PictureFacts

if TYPE_CHECKING:
    from PIL import Image

# Longest and shortest length of an image's longer side in a picture, in pixels.
LARGEST, SMALLEST = 320, 160
MOST_BOXES = 20
MOST_CHARACTERS = 60
# Bytes of a picture from which it is stored with fewer colours, and over which a page leaves it out.
LARGE, TOO_LARGE = 150_000, 600_000
GAP, HEADER = 8, 14
LINE, LINE_WIDTH = 12, 160  # height of a line of text below a panel, and the least width of a panel
PALETTE = (
    (230, 25, 75),
    (60, 180, 75),
    (0, 130, 200),
    (245, 130, 48),
    (145, 30, 180),
    (70, 200, 220),
    (220, 50, 210),
    (170, 110, 40),
    (0, 128, 128),
    (128, 128, 0),
)


@dataclass(frozen=True, eq=False)
class Found:
    """What a model found in a sample.

    Attributes:
        boxes: Boxes in pixels of the image that is drawn.
        names: Name of each class that is known.
        class_map: Class of each pixel, int, ``(H, W)``; None if there is none.
        lines: The same in words, one line each.
    """

    boxes: Detections | None = None
    names: Sequence[str] = ()
    class_map: NDArray[Any] | None = None
    lines: tuple[str, ...] = ()


def class_name(names: Sequence[str], label: int) -> str:
    """Return the name of a class, or its number where none is known."""
    return shortened(names[label]) if 0 <= label < len(names) else str(label)


def shortened(text: str) -> str:
    """Return text on one line that is cut after some characters."""
    line = " ".join(text.split())
    return line if len(line) <= MOST_CHARACTERS else f"{line[: MOST_CHARACTERS - 1]}…"


def drawn(image: NDArray[np.uint8], before: Found, after: Found) -> bytes:
    """Return a PNG with the image twice: what FP32 found on the left, and INT8 on the right.

    Args:
        image: Colours, ``(H, W, 3)``.
        before: What the first model found.
        after: What the second one found.
    """
    from PIL import Image, ImageDraw

    panels = [_panel(image, found) for found in (before, after)]
    width, height = max(panels[0].width, LINE_WIDTH), panels[0].height
    lines = max(0 if found.boxes is not None else len(found.lines) for found in (before, after))
    sheet = Image.new("RGB", (2 * width + GAP, height + HEADER + LINE * lines), "white")
    pen = ImageDraw.Draw(sheet)
    for number, (panel, title) in enumerate(zip(panels, ("FP32", "INT8"), strict=True)):
        left = number * (width + GAP)
        pen.text((left + 2, 1), title, fill="black")
        sheet.paste(panel, (left, HEADER))
        said = (before, after)[number].lines[:lines]
        for row, line in enumerate(said):
            pen.text((left + 2, HEADER + height + LINE * row), _plain(line)[: width // 6], fill="black")
    data = _png(sheet)
    return data if len(data) <= LARGE else _png(sheet.quantize(128))


def panel(image: NDArray[np.uint8], found: Found) -> bytes:
    """Return a PNG of the image alone, with the boxes or the classes that a model found in it."""
    sheet = _panel(image, found)
    data = _png(sheet)
    return data if len(data) <= LARGE else _png(sheet.quantize(128))


def address(data: bytes) -> str:
    """Return a PNG as a data: address."""
    return f"data:image/png;base64,{base64.b64encode(data).decode('ascii')}"


def _png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def _panel(image: NDArray[np.uint8], found: Found) -> Image.Image:
    """Return the image with what was found in it, no side longer than LARGEST."""
    from PIL import Image

    height, width = image.shape[:2]
    if found.class_map is not None:
        image = _coloured(image, np.asarray(found.class_map))
    longest = max(height, width)
    factor = LARGEST / longest if longest > LARGEST else max(1, -(-SMALLEST // longest))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    way = Image.Resampling.NEAREST if factor >= 1 else Image.Resampling.BOX
    panel = Image.fromarray(image).resize(size, way)
    if found.boxes is not None:
        _outline(panel, found.boxes, found.names, (size[0] / width, size[1] / height))
    return panel


def _outline(panel: Image.Image, boxes: Detections, names: Sequence[str], scale: tuple[float, float]) -> None:
    """Draw the best boxes, the best one last."""
    from PIL import ImageDraw

    pen = ImageDraw.Draw(panel)
    order = np.argsort(-boxes.scores, kind="stable")[:MOST_BOXES][::-1]
    for index in order.tolist():
        corners = np.clip(boxes.boxes[index] * (*scale, *scale), 0, np.tile(panel.size, 2) - 1.0)
        x1, y1, x2, y2 = (round(value) for value in corners.tolist())
        label = int(boxes.labels[index])
        colour = PALETTE[label % len(PALETTE)]
        pen.rectangle((x1, y1, max(x1, x2), max(y1, y2)), outline=colour, width=2)
        text = _plain(f"{class_name(names, label)[:20]} {boxes.scores[index]:.2f}")
        left, top, right, bottom = pen.textbbox((x1 + 2, y1 + 1), text)
        pen.rectangle((left - 1, top - 1, right + 1, bottom + 1), fill=colour)
        pen.text((x1 + 2, y1 + 1), text, fill="white")


def _plain(text: str) -> str:
    """Return text that Pillow's own font can draw."""
    return text.encode("ascii", "replace").decode("ascii")


def _coloured(image: NDArray[np.uint8], classes: NDArray[Any]) -> NDArray[np.uint8]:
    """Mix the colour of each pixel's class into the image; class 0, and numbers below it, leave it as it is."""
    rows, columns = (
        np.minimum((np.arange(size) * classes.shape[axis]) // size, classes.shape[axis] - 1)
        for axis, size in enumerate(image.shape[:2])
    )
    fitted = classes[rows[:, None], columns]
    colours = np.array(PALETTE, np.float64)[(fitted - 1) % len(PALETTE)]
    mixed = np.rint(0.5 * image + 0.5 * colours).astype(np.uint8)
    return np.where((fitted > 0)[:, :, None], mixed, image)


def embedded(pictures: Sequence[PictureFacts], folder: Path) -> list[str]:
    """Return the pictures of a report as data: addresses, "" for one that is missing, too large or no PNG.

    Args:
        pictures: Pictures of the report.
        folder: Folder of the report; only files in its folder of pictures are read.
    """
    found: list[str] = []
    for picture in pictures:
        path = folder / FOLDER / Path(picture.file).name
        fits = path.is_file() and not path.is_symlink() and path.stat().st_size <= TOO_LARGE
        data = path.read_bytes() if fits else b""
        png = data.startswith(b"\x89PNG\r\n\x1a\n")
        found.append(address(data) if png else "")
    return found
