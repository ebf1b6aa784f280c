"""A figure that OpenVINO can't give is named; other errors are not hidden."""

from __future__ import annotations

import pytest

from calib.errors import DataError, ModelError
from calib.runtime.failures import left_out, said


def test_a_failure_of_openvino_becomes_a_warning_that_names_the_figure():
    warnings: list[str] = []
    for error in (ModelError("OpenVINO can't compile net for this CPU: no post-op"), RuntimeError("a\nno primitive.")):
        with left_out("The SQNR is missing", warnings):
            raise error
    assert warnings == ["The SQNR is missing: no post-op.", "The SQNR is missing: no primitive."]


@pytest.mark.parametrize("error", [DataError("wrong shape"), ValueError("a mistake"), KeyboardInterrupt()])
def test_every_other_error_passes(error):
    with pytest.raises(type(error)), left_out("The SQNR is missing", []):
        raise error


def test_lack_of_memory_is_no_reason_to_go_on():
    with pytest.raises(MemoryError):
        said(RuntimeError("Cannot allocate 12 bytes: out of memory"))
