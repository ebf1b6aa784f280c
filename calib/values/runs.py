"""Several runs side by side, from their reports: the content of ``calib compare RUN RUN --json``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from calib.values.frozen import SCHEMA_VERSION, Frozen


class RunFacts(Frozen):
    """The figures of one run."""

    name: str = Field(description="Name of the run: of its folder, as far as it tells the runs apart")
    folder: str = Field(description="Folder of the result")
    model: str = Field(description="Name of the model")
    status: str = Field(description="Outcome of the run")
    metric: str = Field(default="", description="Metric; empty if no accuracy was measured")
    unit: str = Field(default="", description="Unit of the metric; fraction for a share")
    baseline: float | None = Field(default=None, description="Metric of the FP32 model")
    quantized: float | None = Field(default=None, description="Metric of the INT8 model")
    drop: float | None = Field(default=None, description="Drop from the baseline, positive if worse")
    drop_kind: Literal["absolute", "relative"] = Field(
        default="absolute", description="Whether the drop is absolute or relative to the baseline"
    )
    interval: tuple[float, float] | None = Field(default=None, description="95 % confidence interval of the drop")
    latency_f32_ms: float | None = Field(default=None, description="Latency of the FP32 model in f32")
    latency_int8_ms: float | None = Field(default=None, description="Latency of the INT8 model")
    bytes_before: int = Field(description="Size of the weights before")
    bytes_after: int = Field(description="Size of the weights after")
    int8_layers: int = Field(description="Layers that execute in INT8")
    layers: int = Field(description="Layers in all")


class TradeFacts(Frozen):
    """One plan that was timed: what it costs in accuracy, and in time."""

    run: str = Field(description="Name of the run")
    drop: float = Field(description="Drop of the plan")
    latency_ms: float = Field(description="Time of one inference")
    reverted: int = Field(description="Number of layers in floating point because of the search")
    written: bool = Field(description="Whether this is the model that the run wrote")
    best: bool = Field(description="Whether no other plan here has a smaller drop in the same time or less")


class LayerOfRun(Frozen):
    """A layer in one run."""

    executed: str = Field(default="", description="Precision that executed; empty if it was not looked up")
    output: str = Field(default="", description="Element type of the output; empty if it was not looked up")
    sqnr_db: float | None = Field(default=None, description="SQNR in dB of its output")
    time_ms: float | None = Field(default=None, description="Time per inference in the INT8 model")


class LayerOfRuns(Frozen):
    """A layer in all runs."""

    name: str = Field(description="Name of the layer")
    type: str = Field(description="Type of the operation")
    runs: list[LayerOfRun | None] = Field(description="The layer in each run; null in one that does not have it")


class RunsCompared(Frozen):
    """Several runs side by side."""

    schema_version: int = Field(default=SCHEMA_VERSION, description="Version of this schema")
    calib_version: str = Field(description="Version of calib that made this")
    runs: list[RunFacts] = Field(description="The runs in the order given")
    trade: list[TradeFacts] = Field(default=[], description="Plans of all runs that were timed, the fastest first")
    layers: list[LayerOfRuns] = Field(default=[], description="Layers side by side, in the order of the first run")
    notes: list[str] = Field(default=[], description="Why figures of these runs may not be compared")
