"""``calib demo``: quantize the shipped networks."""

from __future__ import annotations

from pathlib import Path

import click

from calib.cli.options import json_flag, remark
from calib.cli.quantize import run
from calib.demo import demo_folder
from calib.errors import UsageError


@click.command(short_help="Quantize a shipped model with shipped data.")
@click.option("--network", metavar="NAME", help="Name of a shipped network. [default: the first]")
@click.option("-o", "--output", metavar="DIR", default="calib-demo", show_default=True, help="Folder for the results.")
@json_flag
@click.pass_context
def command(ctx: click.Context, network: str | None, output: str, as_json: bool) -> None:
    """Quantize a network trained on Fashion-MNIST, losing at most half a percentage point of accuracy."""
    folder = demo_folder()
    model = _network(folder, network)
    data = {name: str(folder / f"{name}.npz") for name in ("calibration", "validation")}
    given = {"validation": data["validation"], "metric": "top-1", "max_drop": 0.005}
    run(ctx, str(model), data["calibration"], output, True, as_json, given)
    remark(ctx, "For your own model: calib quantize MODEL --calibration DATA -o DIR")


def _network(folder: Path, name: str | None) -> Path:
    found = {path.stem: path for path in sorted(folder.glob("*.xml"))}
    if name is None and found:
        return next(iter(found.values()))
    if name not in found:
        raise UsageError(f"there is no demo network {name!r}; there are {', '.join(found)}")
    return found[name]
