"""``python -m calib`` is the command, too.

covers: calib.__main__
"""

from __future__ import annotations

import subprocess
import sys


def test_python_m_calib_is_the_command():
    run = subprocess.run([sys.executable, "-m", "calib", "--help"], capture_output=True, text=True, check=True)
    assert run.stdout.startswith("Usage: calib [OPTIONS] COMMAND")
