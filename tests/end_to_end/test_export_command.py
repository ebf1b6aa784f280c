"""``calib export``: a result as one file.

covers: calib.cli.export
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any


def test_a_result_becomes_one_file_with_the_command_that_made_it(
    quantize: Callable[..., Any], run: Callable[..., Any], work: Path
):
    assert quantize().code == 0
    ended = run("export", work / "out", "-o", work / "taken.zip")
    assert ended.code == 0 and f"written to {work / 'taken.zip'}" in ended.err
    with zipfile.ZipFile(work / "taken.zip") as archive:
        assert b"calib quantize" in archive.read("model-int8/README.txt")
    assert run("export", work / "nothing").code == 2
