"""``calib studio``: the whole flow in a local page."""

from __future__ import annotations

from pathlib import Path

import click

from calib.errors import UsageError
from calib.report.escape import printable


@click.command(short_help="Do all of this in a local page, live.")
@click.argument("folder", default=".")
@click.option("-o", "--output", metavar="OUT", help="Folder of the runs. [default: calib-studio in FOLDER]")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on. There is no encryption.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on. [default: that of the last time]")
@click.option("--open/--no-open", "browser", default=True, show_default=True, help="Whether to open the browser.")
@click.option(
    "--allow",
    "allowed",
    metavar="PATH",
    multiple=True,
    help="Further file or folder that the page may use; links out of FOLDER need it too.",
)
@click.option(
    "--allow-python", is_flag=True, help="Allow the page to run code, as python:module:function in data and metrics."
)
@click.option(
    "--allow-extension", is_flag=True, help="Allow the page to name libraries of operations, whose code runs."
)
@click.option("-j", "--jobs", type=click.IntRange(1), default=1, show_default=True, help="Runs at the same time.")
@click.option("--most-upload", metavar="SIZE", default="4GiB", show_default=True, help="Most bytes of an upload.")
def command(
    folder: str,
    output: str | None,
    host: str,
    port: int | None,
    browser: bool,
    allowed: tuple[str, ...],
    allow_python: bool,
    allow_extension: bool,
    jobs: int,
    most_upload: str,
) -> None:
    """Serve the models and data in FOLDER as a page: choose, measure, quantize, watch, compare.

    It prints a link that works once; whoever opens it is let in. Runs are processes of their own, as those of 'calib
    zoo': closing the page or ending this command changes nothing, and the next start resumes what was killed.
    """
    from calib.config.types import parse_memory
    from calib.studio.allowed import Allowed  # here: --help needs neither
    from calib.studio.serve import FOLDER, serve

    root = _place(folder, "FOLDER")
    if not root.is_dir():
        raise UsageError(f"{folder}: FOLDER must be a folder")
    others = tuple(_place(one, "--allow") for one in allowed)
    try:
        uploads = int(parse_memory(most_upload))
    except ValueError as error:
        raise UsageError(f"--most-upload {most_upload}: {error}") from error
    if host not in ("127.0.0.1", "localhost", "::1"):
        click.echo(
            f"warning: --host {printable(host)} can be reached from other machines, and nothing is encrypted (no TLS): "
            "whoever listens on the way can read the link and use this studio as you",
            err=True,
        )
    serve(
        Allowed(root, others, allow_python, allow_extension),
        Path(output).resolve() if output else root / FOLDER,
        host=host,
        port=port,
        uploads=uploads,
        jobs=jobs,
        browser=browser,
        say=lambda line: click.echo(printable(line)),
    )


def _place(text: str, what: str) -> Path:
    try:
        return Path(text).resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise UsageError(f"{text}: no such file or folder ({what})") from error
