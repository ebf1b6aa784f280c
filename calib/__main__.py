"""``python -m calib``: the command where the script is not on the path."""

from __future__ import annotations

import os
import sys


def _leave_out_current_folder() -> None:
    """Take the current folder off the path, where ``python -m`` puts it and the installed command does not.

    A file there called like a library, such as a download named scipy.py, would be run in its place. What Python itself
    imports before this line (runpy and what that needs) can only be kept from the folder with ``python -P -m calib``.
    """
    try:
        here = os.getcwd()
    except OSError:  # the folder was deleted, and Python has not put it on the path
        return
    if not sys.flags.safe_path and sys.path[:1] == [here]:
        del sys.path[0]


def _run() -> None:
    _leave_out_current_folder()
    from calib.cli import main  # after that: it imports other packages

    main(prog_name="calib")


_run()
