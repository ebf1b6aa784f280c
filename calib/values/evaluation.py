"""What ``calib evaluate`` measured: the content of its JSON."""

from __future__ import annotations

from pydantic import Field

from calib.values.drops import value_text
from calib.values.facts import ModelFacts
from calib.values.frozen import SCHEMA_VERSION, Frozen, Shown, counted


class MetricValue(Frozen):
    """The value of one of several metrics."""

    metric: str = Field(description="Name of the metric")
    higher_is_better: bool = Field(description="Whether a larger value of the metric is better")
    unit: str = Field(default="", description="Unit of the metric; empty for a fraction")
    value: float = Field(description="Metric over all samples")
    interval: tuple[float, float] | None = Field(default=None, description="95 % confidence interval of the value")
    interval_method: str = Field(default="", description="How the interval was computed; empty without one")
    reference: float | None = Field(default=None, description="Published value that the result was checked against")


class Evaluation(Shown):
    """The value of a metric for one model, or of several: then of the first, and of each in ``each``."""

    schema_version: int = Field(default=SCHEMA_VERSION, description="Version of this schema")
    calib_version: str = Field(description="Version of calib that made this")
    model: ModelFacts = Field(description="The model")
    validation: str = Field(description="Where the validation samples come from")
    metric: str = Field(description="Name of the metric")
    higher_is_better: bool = Field(description="Whether a larger value of the metric is better")
    unit: str = Field(default="", description="Unit of the metric; empty for a fraction")
    value: float = Field(description="Metric over all samples")
    interval: tuple[float, float] | None = Field(default=None, description="95 % confidence interval of the value")
    interval_method: str = Field(default="", description="How the interval was computed; empty without one")
    each: list[MetricValue] = Field(default=[], description="Each of several metrics; empty where there is only one")
    samples: int = Field(
        description="Number of samples; 0 where the metric is a function that reads samples of its own and returns no "
        "score for each"
    )
    precision: str = Field(description="Precision of the layers in floating point")
    isa: str = Field(default="", description="Instruction set that the run was limited to; empty if it was not limited")
    reference: float | None = Field(default=None, description="Published value that the result was checked against")
    reference_model: str = Field(
        default="", description="Name of the model whose outputs the metric compares with; empty where it uses targets"
    )
    notes: list[str] = Field(default=[], description="Remarks, one sentence or more each")

    def _said(self) -> str:
        figures = ", ".join(f"{one.metric} {value_text(one.unit, one.value)}" for one in self.each or (self,))
        on = f" on {counted(self.samples, 'sample')}" if self.samples else ""
        return f"{self.model.name}: {figures}{on}, in {self.precision}{f' on {self.isa}' if self.isa else ''}"

    def _rows(self) -> list[tuple[str, ...]]:
        rows = [("metric", "value", "95 % interval")]
        for one in self.each or (self,):
            ends = "" if one.interval is None else " … ".join(value_text(one.unit, end) for end in one.interval)
            rows.append((one.metric, value_text(one.unit, one.value), ends))
        return rows
