"""``python -m calib``: the command line if the script is not on the path."""

from __future__ import annotations

import os
import sys


def _leave_out_current_folder() -> None:
    """Remove the current folder from the path, which ``python -m`` adds and the installed command does not.

    A file there with the name of a library, such as a download named scipy.py, would be run in its place. For modules
    that Python imports before this line (runpy and its imports), only ``python -P -m calib`` prevents that.
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
