"""The settings of ``quantize`` as typed keyword arguments, so that an editor completes them.

``calib.config.settings.Settings`` says what each of them means; a test keeps the two in step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any, Literal, TypedDict


class GivenBesideMetric(TypedDict, total=False):
    """Settings by name but the metric, which ``evaluate`` has as an argument; none of them is required."""

    samples: int
    salt: str
    first_axis: Literal["auto", "batch", "whole"]
    preprocessing: Any  # a Preprocessing, a mapping of its fields, or a mapping from input name to one of these
    normalize: bool
    complete: bool
    estimator: Any  # a name of calib.ESTIMATORS, or a RangeEstimator
    extensions: str | PathLike[str] | Sequence[str | PathLike[str]]
    allow_extension: bool
    ignore: str | Sequence[str]
    target: Literal["auto", "cpu", "cpu-no-vnni", "this-cpu"]
    effort: Literal["fast", "balanced", "thorough"]
    decode: Any  # a name, or an object with decode(outputs, facts, size)
    higher_is_better: bool | None
    drop: Literal["absolute", "relative"]
    max_drop: float | str | Mapping[str, float | str] | None
    min_sqnr: float | None
    knee: bool
    reference: float | str | Mapping[str, float] | None
    confirm_split: float
    float_precision: Literal["f32", "bf16"] | None
    time_limit: float | str | None
    max_evaluations: int | None
    rank_samples: int
    require_speedup: float | None
    speed: bool | None
    optimize_speed: bool
    hint: Literal["latency", "throughput"] | None
    threads: int | None
    memory_limit: int | str | None


class GivenSettings(GivenBesideMetric, total=False):
    """Settings by name; none of them is required."""

    metric: Any  # a name, several, a Metric, or a function of predict
