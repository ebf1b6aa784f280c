"""The shipped demo: networks and images, found in a checkout or an installed wheel, and pictures composed of them.

Networks and images of single items are files, see datasets/README.md. The pictures of the detection demo are not:
``scenes`` composes them from these images, always the same, and ``detection`` writes them with boxes in COCO's format.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["demo_folder"]


def demo_folder() -> Path:
    """Return the folder that holds ``<network>.xml/.bin``, ``calibration.npz``, ``validation.npz`` and ``detection/``.

    A wheel has them in ``calib/demo_data``; a checkout, even if installed with ``pip install -e``, has them in
    ``datasets/demo`` next to the package.

    Raises:
        DataError: Neither folder exists.
    """
    package = Path(__file__).resolve().parents[1]
    places = (package / "demo_data", package.parent / "datasets" / "demo")
    for place in places:
        if (place / "calibration.npz").is_file():
            return place
    from calib.errors import DataError

    looked = " and ".join(map(str, places))
    raise DataError(f"the demo's files are missing: looked in {looked}; install calib again, or check it out whole")
