"""What ``calib bench`` measured: the content of its JSON."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from calib.values.frozen import SCHEMA_VERSION, Frozen, Shown


class BenchmarkEntry(Frozen):
    """One model in one precision. Speed-ups are relative to the first entry."""

    model: str = Field(description="Name of the model")
    precision: str = Field(description="Precision of the layers in floating point")
    default: bool = Field(description="Whether this is the precision that this machine chooses by itself")
    quantized: bool = Field(description="Whether the model holds quantized layers")
    int8_share: float | None = Field(
        description="Share of the multiply-accumulates executed in INT8; null where shapes are dynamic and no sample "
        "gives them"
    )
    latency_ms: float = Field(description="Median wall time of one inference")
    latency_spread_ms: float = Field(description="Half of the interquartile range of the latency")
    latency_cpu_ms: float = Field(description="Median CPU time of one inference")
    speedup: float = Field(description="Latency of the first entry divided by this one's")
    speedup_interval: tuple[float, float] = Field(description="95 % confidence interval of speedup")
    throughput: float | None = Field(default=None, description="Samples per second with all streams busy")
    throughput_gain: float | None = Field(default=None, description="Throughput divided by that of the first entry")
    throughput_interval: tuple[float, float] | None = Field(
        default=None, description="95 % confidence interval of throughput_gain"
    )


class Benchmark(Shown):
    """What ``calib bench`` measured, all entries interleaved."""

    schema_version: int = Field(default=SCHEMA_VERSION, description="Version of this schema")
    calib_version: str = Field(description="Version of calib that made this")
    environment: dict[str, str] = Field(default={}, description="Machine and versions of the libraries")
    data: str = Field(default="", description="Where the samples come from; empty for random numbers")
    threads: int = Field(description="Threads of one inference when latency is measured")
    streams: int = Field(description="Parallel streams when throughput is measured; 0 if it was not measured")
    batch: int = Field(description="Batch size")
    rounds: int = Field(description="Number of interleaved rounds")
    entries: list[BenchmarkEntry] = Field(description="One entry for each model and precision")
    basis: Literal["wall", "cpu"] = Field(
        default="wall", description="Time that the speed-ups compare: wall time or CPU time"
    )
    noisy: bool = Field(
        default=False, description="Whether the machine was too noisy for a conclusion; the notes say why"
    )
    notes: list[str] = Field(default=[], description="Remarks, one sentence or more each")

    def _said(self) -> str:
        first, *others = self.entries
        said = [f"{first.model} in {first.precision} {first.latency_ms:.3g} ms"]
        said += [f"{one.model} in {one.precision} {one.latency_ms:.3g} ms ({one.speedup:.2f}×)" for one in others]
        return ", ".join(said) + ", noisy machine" * self.noisy

    def _rows(self) -> list[tuple[str, ...]]:
        rows: list[tuple[str, ...]] = [("model", "precision", "latency", "speed-up", "95 % interval")]
        for one in self.entries:
            ends = " … ".join(f"{end:.2f}" for end in one.speedup_interval)
            rows.append((one.model, one.precision, f"{one.latency_ms:.3g} ms", f"{one.speedup:.2f}×", ends))
        return rows
