"""The public surface is a list, and importing it is cheap.

covers: calib
"""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import calib
from calib import errors

SURFACE = [
    "ESTIMATORS",
    "Auto",
    "BaselineError",
    "Benchmark",
    "CalibError",
    "Comparison",
    "ConfigError",
    "DataError",
    "Dataset",
    "Detections",
    "Evaluation",
    "ExecutionError",
    "Histogram",
    "ImageGeometry",
    "Inspection",
    "Kl",
    "MeanMinMax",
    "Metric",
    "MetricError",
    "MinMax",
    "MissingExtraError",
    "ModelError",
    "Mse",
    "OutputError",
    "Percentile",
    "Preprocessing",
    "Progress",
    "QuantizationPlan",
    "Range",
    "RangeEstimator",
    "Report",
    "Result",
    "Sample",
    "Scheme",
    "Sequence",
    "Settings",
    "StatisticsError",
    "TensorId",
    "TensorSummary",
    "UsageError",
    "Verification",
    "bench",
    "compare",
    "evaluate",
    "inspect",
    "plan",
    "quantize",
    "read_accuracy_check",
    "verify",
]


def test_the_public_surface_is_this_list():
    assert sorted(calib.__all__) == sorted(SURFACE)
    assert set(calib.PUBLIC) == set(SURFACE)


@pytest.mark.parametrize("name", SURFACE)
def test_every_public_name_can_be_imported_and_says_what_it_is(name: str):
    value = getattr(calib, name)
    assert value is getattr(importlib.import_module(calib.PUBLIC[name]), name)
    if callable(value):
        assert (value.__doc__ or "").strip()


def test_every_error_is_public():
    ours = {
        name for name, value in vars(errors).items() if isinstance(value, type) and value.__module__ == "calib.errors"
    }
    assert ours <= set(SURFACE)


def test_a_name_that_is_not_public_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'quantise'"):
        calib.quantise  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]


def test_importing_calib_loads_nothing_heavy():
    code = (
        "import calib, sys; print([m for m in ('openvino', 'numpy', 'scipy', 'pydantic', 'click') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
