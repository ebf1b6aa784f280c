"""What holds for all tests of the engine."""

import pytest


@pytest.fixture(autouse=True)
def _quick(quick_timing: None) -> None:
    """No test of the engine is of how fast a model is; those of timing itself are beside calib.runtime."""
