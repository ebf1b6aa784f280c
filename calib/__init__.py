"""calib: INT8 calibration of OpenVINO IR under an accuracy budget.

``PUBLIC`` lists every public name. Each is imported when it is first used, so that ``import calib`` is cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from calib.values.version import __version__ as __version__

if TYPE_CHECKING:
    from calib.accuracy_check.inputs import read_accuracy_check
    from calib.config import Preprocessing, Settings
    from calib.engine.bench import bench
    from calib.engine.compare import compare
    from calib.engine.verification import verify
    from calib.errors import (
        BaselineError,
        CalibError,
        ConfigError,
        DataError,
        ExecutionError,
        MetricError,
        MissingExtraError,
        ModelError,
        OutputError,
        StatisticsError,
        UsageError,
    )
    from calib.metrics.metric import Metric
    from calib.pipeline import Result, evaluate, inspect, plan, quantize
    from calib.progress import Progress
    from calib.ranges import ESTIMATORS, Auto, Kl, MeanMinMax, MinMax, Mse, Percentile
    from calib.ranges.estimator import RangeEstimator
    from calib.samples.sample import Dataset, Sample, Sequence
    from calib.values.benchmark import Benchmark
    from calib.values.comparison import Comparison
    from calib.values.detections import Detections, ImageGeometry
    from calib.values.evaluation import Evaluation
    from calib.values.facts import Report
    from calib.values.inspection import Inspection
    from calib.values.plan import QuantizationPlan, Range, Scheme, TensorId
    from calib.values.summary import Histogram, TensorSummary
    from calib.values.verification import Verification

__all__ = [
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

_ERRORS = [name for name in __all__ if name.endswith("Error")]

PUBLIC: dict[str, str] = {
    **dict.fromkeys(["quantize", "plan", "inspect", "evaluate", "Result"], "calib.pipeline"),
    **dict.fromkeys(["Preprocessing", "Settings"], "calib.config"),
    **dict.fromkeys(["QuantizationPlan", "Range", "Scheme", "TensorId"], "calib.values.plan"),
    **dict.fromkeys(["ESTIMATORS", "Auto", "Kl", "MeanMinMax", "MinMax", "Mse", "Percentile"], "calib.ranges"),
    **dict.fromkeys(["Histogram", "TensorSummary"], "calib.values.summary"),
    **dict.fromkeys(["Dataset", "Sample", "Sequence"], "calib.samples.sample"),
    **dict.fromkeys(_ERRORS, "calib.errors"),
    **dict.fromkeys(["Detections", "ImageGeometry"], "calib.values.detections"),
    "read_accuracy_check": "calib.accuracy_check.inputs",
    "bench": "calib.engine.bench",
    "compare": "calib.engine.compare",
    "verify": "calib.engine.verification",
    "Verification": "calib.values.verification",
    "Report": "calib.values.facts",
    "Inspection": "calib.values.inspection",
    "Evaluation": "calib.values.evaluation",
    "Comparison": "calib.values.comparison",
    "Benchmark": "calib.values.benchmark",
    "Metric": "calib.metrics.metric",
    "Progress": "calib.progress",
    "RangeEstimator": "calib.ranges.estimator",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in PUBLIC:
        raise AttributeError(f"module 'calib' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(PUBLIC[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *PUBLIC})
