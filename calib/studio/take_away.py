"""A result as one zip: the model, its plan, the config, the command line, and a program that runs it."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

from anyio.to_thread import run_sync
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from calib.runtime.temporary import temporary_path
from calib.studio import start
from calib.zoo.jobs import DONE, JobRow
from calib.zoo.task import MARKER


async def take_away(request: Request) -> Response:
    """Send the zip."""
    studio = request.app.state.studio
    row = studio.runs.row(request.path_params["key"])
    folder = studio.runs.folder(row)
    if row.status not in DONE or not folder.is_dir():
        raise HTTPException(404, f"{row.name} has no result")
    command = start.command_of(row.job, studio.allowed.folder)
    path = await run_sync(pack, row, folder, command, studio.output)
    headers = {"content-disposition": f'attachment; filename="{row.name}.zip"'}
    return FileResponse(path, media_type="application/zip", headers=headers, background=BackgroundTask(path.unlink))


def pack(row: JobRow, folder: Path, command: str, place: Path) -> Path:
    """Write the zip of a result to a temporary file and return its path.

    Args:
        row: The run.
        folder: Folder of its result.
        command: Command line that makes it again.
        place: Folder for the temporary file.
    """
    path = temporary_path(place, ".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file() and not file.is_symlink() and file.name != MARKER:
                # Weights hardly get smaller, and large files would take seconds.
                packed = zipfile.ZIP_STORED if file.suffix in (".bin", ".npz", ".png") else zipfile.ZIP_DEFLATED
                archive.write(file, f"{row.name}/{file.relative_to(folder)}", packed)
        model = next((file.name for file in sorted(folder.glob("*.xml"))), f"{Path(row.job.model).stem}.xml")
        steps = row.job.settings.get("preprocessing") or {}
        texts = {"command.txt": f"{command}\n", "run.py": program(model, steps)}
        for name, text in texts.items():
            archive.writestr(f"{row.name}/{name}", text, zipfile.ZIP_DEFLATED)
    return path


def program(model: str, steps: dict[str, Any]) -> str:
    """Return a Python program that runs a model on the images or arrays it is given.

    Args:
        model: File name of the model, beside the program.
        steps: Preprocessing of images, as in the settings.
    """
    return f'''"""Run {model} on images or .npy files: python run.py FILE... Needs openvino; for images calib, too."""

import sys
from pathlib import Path

import numpy as np
import openvino as ov

PREPROCESSING = {steps!r}

compiled = ov.Core().compile_model(Path(__file__).with_name({model!r}), "CPU", {{"PERFORMANCE_HINT": "LATENCY"}})


def read(path):
    """Return a file as the model takes it, with a batch axis."""
    if path.endswith(".npy"):
        return np.load(path)
    from PIL import Image

    from calib import Preprocessing
    from calib.samples.sample import InputSpec

    port = compiled.input(0)
    shape = tuple(None if axis.is_dynamic else axis.get_length() for axis in port.get_partial_shape())
    spec = InputSpec(port.get_any_name(), shape, np.dtype(port.get_element_type().to_dtype()))
    with Image.open(path) as image:
        return Preprocessing(**PREPROCESSING).on_host().resolve(spec).apply(image)[None]


for path in sys.argv[1:]:
    for output, value in compiled(read(path)).items():
        print(path, output.get_any_name(), value.shape, value.ravel()[:10], "best:", int(value.argmax()))
'''
