"""Classes of public data sets, in the order and with the colours that their own descriptions give."""

from __future__ import annotations

from calib.accuracy_check.values import Labels
from calib.samples.voc import CLASSES as VOC

__all__ = ["CAMVID", "CITYSCAPES", "SYG", "VOC", "VOC_COLORS"]

SYG = ("motor", "truck", "bus", "car")


def _voc_color(number: int) -> tuple[int, int, int]:
    """Return the colour of a class in Pascal VOC's masks: the bits of its number, dealt out to the channels."""
    red = green = blue = 0
    for bit in range(8):
        red |= (number >> (3 * bit) & 1) << (7 - bit)
        green |= (number >> (3 * bit + 1) & 1) << (7 - bit)
        blue |= (number >> (3 * bit + 2) & 1) << (7 - bit)
    return red, green, blue


VOC_COLORS = tuple(_voc_color(number) for number in range(21))

CAMVID = Labels(
    dict(
        enumerate(
            (
                *("Sky", "Building", "Pole", "Road", "Pavement", "Tree", "SignSymbol", "Fence", "Car", "Pedestrian"),
                *("Bicyclist", "Unlabelled"),
            )
        )
    ),
    11,
    (
        *((128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (60, 40, 222), (128, 128, 0)),
        *((192, 128, 128), (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192), (0, 0, 0)),
    ),
)

CITYSCAPES = Labels(
    dict(
        enumerate(
            (
                *("road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign"),
                *("vegetation", "terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle"),
                *("bicycle", "background"),
            )
        )
    ),
    19,
    (
        *((128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153), (153, 153, 153)),
        *((250, 170, 30), (220, 220, 0), (107, 142, 35), (152, 251, 152), (70, 130, 180), (220, 20, 60)),
        *((255, 0, 0), (0, 0, 142), (0, 0, 70), (0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32)),
        (255, 255, 255),
    ),
)
