"""calib: INT8 calibration of OpenVINO IR under an accuracy budget.

``PUBLIC`` is the whole public surface; each name is imported when it is first used, so that ``import calib`` is cheap.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from calib.benchmark import bench
    from calib.comparison import compare
    from calib.config import Preprocessing, Settings
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
    from calib.outcome import Benchmark, Comparison, Evaluation, Inspection, Report
    from calib.pipeline import Result, evaluate, inspect, plan, quantize
    from calib.plan import QuantizationPlan, Range, Scheme, TensorId
    from calib.progress import Progress
    from calib.ranges import ESTIMATORS, Auto, Kl, MeanMinMax, MinMax, Mse, Percentile
    from calib.ranges.estimator import RangeEstimator
    from calib.samples.sample import Dataset, Sample
    from calib.summary import Histogram, TensorSummary

__version__ = "0.1.0"

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
    "Evaluation",
    "ExecutionError",
    "Histogram",
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
    "Settings",
    "StatisticsError",
    "TensorId",
    "TensorSummary",
    "UsageError",
    "bench",
    "compare",
    "evaluate",
    "inspect",
    "plan",
    "quantize",
]

_ERRORS = [name for name in __all__ if name.endswith("Error")]

PUBLIC: dict[str, str] = {
    **dict.fromkeys(["quantize", "plan", "inspect", "evaluate", "Result"], "calib.pipeline"),
    **dict.fromkeys(["Preprocessing", "Settings"], "calib.config"),
    **dict.fromkeys(["Report", "Inspection", "Evaluation", "Comparison", "Benchmark"], "calib.outcome"),
    **dict.fromkeys(["QuantizationPlan", "Range", "Scheme", "TensorId"], "calib.plan"),
    **dict.fromkeys(["ESTIMATORS", "Auto", "Kl", "MeanMinMax", "MinMax", "Mse", "Percentile"], "calib.ranges"),
    **dict.fromkeys(["Histogram", "TensorSummary"], "calib.summary"),
    **dict.fromkeys(["Dataset", "Sample"], "calib.samples.sample"),
    **dict.fromkeys(_ERRORS, "calib.errors"),
    "bench": "calib.benchmark",
    "compare": "calib.comparison",
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


class _Package(ModuleType):
    """Keeps ``calib.plan`` the function: importing the module ``calib.plan`` would put itself in its place."""

    @property
    def plan(self) -> Any:
        return importlib.import_module("calib.pipeline").plan

    @plan.setter
    def plan(self, module: ModuleType) -> None:
        """Ignore what the import system sets; ``from calib.plan import …`` finds the module without it."""


sys.modules[__name__].__class__ = _Package
