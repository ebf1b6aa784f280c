"""A result as one zip: what ``calib export`` packs, in a process of its own."""

from __future__ import annotations

import asyncio

from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from calib.errors import OutputError
from calib.runtime.temporary import temporary_path
from calib.studio.questions import CALIB, PYTHON, failed
from calib.zoo.jobs import DONE


async def take_away(request: Request) -> Response:
    """Send the zip.

    Raises:
        OutputError: The result can't be packed.
    """
    studio = request.app.state.studio
    row = studio.runs.row(request.path_params["key"])
    folder = studio.runs.folder(row)
    if row.status not in DONE or not folder.is_dir():
        raise HTTPException(404, f"{row.name} has no result")
    path = temporary_path(studio.output, ".zip")
    process = await asyncio.create_subprocess_exec(
        *(*PYTHON, CALIB, "--quiet", "export", str(folder), "-o", str(path)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate()
    if process.returncode:
        raise OutputError(*failed(said).error)
    headers = {"content-disposition": f'attachment; filename="{row.name}.zip"'}
    return FileResponse(path, media_type="application/zip", headers=headers, background=BackgroundTask(path.unlink))
