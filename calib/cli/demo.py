"""``calib demo``: quantize the shipped networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from calib.cli.options import json_flag, remark, verbose_flag
from calib.cli.quantize import run
from calib.demo import demo_folder
from calib.errors import UsageError


@click.command(short_help="Quantize a shipped model with shipped data.")
@click.option(
    "--task",
    type=click.Choice(["classification", "detection"]),
    default="classification",
    show_default=True,
    help="What the network does: sort images of clothes, or find clothes in composed pictures.",
)
@click.option("--network", metavar="NAME", help="Name of a shipped network of the task. [default: the first]")
@click.option(
    "--pictures",
    metavar="NUMBER",
    type=click.IntRange(min=1),
    help="Number of pictures to validate a detector on; fewer take less time. [default: 2000]",
)
@click.option("-o", "--output", metavar="DIR", default="calib-demo", show_default=True, help="Folder for the results.")
@verbose_flag
@json_flag
@click.pass_context
def command(
    ctx: click.Context, task: str, network: str | None, pictures: int | None, output: str, verbose: bool, as_json: bool
) -> None:
    """Quantize a network trained on Fashion-MNIST, losing at most half a percentage point of accuracy.

    For a detector the pictures are composed and written to DIR/data, with their boxes in COCO's format.
    """
    if pictures is not None and task != "detection":
        raise UsageError("--pictures is for --task detection: the other networks come with all of their images")
    folder = demo_folder()
    model = _network(folder / "detection" if task == "detection" else folder, network)
    composed = task == "detection"
    calibration, given = _composed(model, Path(output) / "data", pictures) if composed else _shipped(folder)
    run(ctx, str(model), calibration, output, True, as_json, given, verbose=verbose)
    remark(ctx, "For your own model: calib quantize MODEL --calibration DATA -o DIR")


def _shipped(folder: Path) -> tuple[str, dict[str, Any]]:
    """Return the calibration samples and the budget of a classifier."""
    data = {name: str(folder / f"{name}.npz") for name in ("calibration", "validation")}
    return data["calibration"], {"validation": data["validation"], "metric": "top-1", "max_drop": 0.005}


def _composed(model: Path, folder: Path, pictures: int | None) -> tuple[str, dict[str, Any]]:
    """Compose the pictures of a detector; return the calibration samples and the budget."""
    from calib.demo.detection import DECODERS, write_part  # here: it loads numpy

    calibration, _ = write_part(demo_folder(), folder, "calibration")
    images, boxes = write_part(demo_folder(), folder, "validation", pictures)
    validation = f"coco:{boxes}?images={images}"
    given = {"validation": validation, "metric": "coco-map", "max_drop": 0.005, "decode": DECODERS[model.stem]}
    return f"images:{calibration}", given


def _network(folder: Path, name: str | None) -> Path:
    found = {path.stem: path for path in sorted(folder.glob("*.xml"))}
    if name is None and found:
        return next(iter(found.values()))
    if name not in found:
        raise UsageError(f"there is no demo network {name!r}; there are {', '.join(found)}")
    return found[name]
