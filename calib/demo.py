"""Find the shipped demo networks and images, in a checkout or an installed wheel."""

from __future__ import annotations

from pathlib import Path

__all__ = ["demo_folder"]


def demo_folder() -> Path:
    """Return the folder that holds ``<network>.xml/.bin``, ``calibration.npz`` and ``validation.npz``.

    A wheel has them in ``calib/demo_data``; a checkout, even if installed with ``pip install -e``, has them in
    ``datasets/demo`` next to the package.

    Raises:
        DataError: Neither folder exists.
    """
    package = Path(__file__).resolve().parent
    places = (package / "demo_data", package.parent / "datasets" / "demo")
    for place in places:
        if (place / "calibration.npz").is_file():
            return place
    from calib.errors import DataError

    looked = " and ".join(map(str, places))
    raise DataError(f"the demo's files are missing: looked in {looked}; install calib again, or check it out whole")
