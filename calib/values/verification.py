"""What ``calib verify`` found: a quantized model on the machine where it will run, against what its report promised."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from calib.values.drops import drop_text
from calib.values.facts import SpeedFacts, Status
from calib.values.frozen import SCHEMA_VERSION, Frozen, Shown


class FileVerification(Frozen):
    """A file of the model."""

    name: str = Field(description="Name of the file in the folder")
    promised: str = Field(description="SHA-256 of the file that was written; empty if the report does not hold it")
    found: str = Field(description="SHA-256 of the file that is there; empty if there is none")


class LayerVerification(Frozen):
    """A layer of the model, as it executes here."""

    name: str = Field(description="Friendly name of the operation")
    type: str = Field(description="Type of the operation")
    promised: str = Field(description="Precision that the report says the layer executed in; empty if it was not known")
    executed: str = Field(description="Precision of the primitive executed here; empty if it was not found")
    primitive: str = Field(description="Name that OpenVINO gives to the primitive executed here")
    kept: bool = Field(description="Whether a layer that was promised in INT8 is executed in INT8; true for all others")


class AccuracyVerification(Frozen):
    """The accuracy in one precision of the layers in floating point."""

    precision: str = Field(description="Precision of the layers in floating point")
    deployed: bool = Field(description="Whether the model will run in this precision here")
    metric: str = Field(description="Name of the metric")
    higher_is_better: bool = Field(description="Whether a larger value of the metric is better")
    unit: str = Field(default="", description="Unit of the metric; empty for a number without one")
    drop_kind: Literal["absolute", "relative"] = Field(
        default="absolute", description="Whether drops are absolute or relative to the baseline"
    )
    samples: int = Field(description="Number of validation samples")
    baseline: float = Field(description="Metric of FP32 in f32: measured here, or else that of the report")
    quantized: float = Field(description="Metric of the written model in this precision, measured here")
    drop: float = Field(
        description="Drop from the baseline, positive if worse, in the metric's unit or as a fraction of the baseline"
    )
    interval: tuple[float, float] | None = Field(default=None, description="95 % confidence interval of the drop")
    fp32_drop: float | None = Field(
        default=None, description="Drop of FP32 itself in this precision; null where it was not measured"
    )
    promised_drop: float | None = Field(
        default=None, description="Drop in the report in the same role; null if the report holds none"
    )
    budget: float | None = Field(default=None, description="Largest drop allowed; null without a budget")
    promised: bool = Field(description="Whether the report promised the budget in this precision")
    kept: bool = Field(description="Whether the drop is within the budget; true without one")


class Verification(Shown):
    """What was promised of a quantized model, and what of it holds on this machine."""

    schema_version: int = Field(default=SCHEMA_VERSION, description="Version of this schema")
    calib_version: str = Field(description="Version of calib that made this")
    model: str = Field(description="Name of the model")
    folder: str = Field(description="Folder of the model and its report")
    status: Status = Field(description="Outcome of the run that wrote the model, from its report")
    holds: bool = Field(description="Whether everything that the report promised holds here")
    broken: list[str] = Field(default=[], description="What was promised and does not hold, one sentence each")
    notes: list[str] = Field(default=[], description="What could not be checked and why, one sentence or more each")
    environment: dict[str, str] = Field(default={}, description="This machine and its versions of the libraries")
    promised_environment: dict[str, str] = Field(description="Those of the run that wrote the model, from its report")
    reference_model: str = Field(default="", description="Path of the FP32 model compared with; empty without one")
    validation: str = Field(default="", description="Where the validation samples come from; empty without any")
    files: list[FileVerification] = Field(default=[], description="The files of the model")
    layers: list[LayerVerification] = Field(default=[], description="Layers in topological order")
    accuracy: list[AccuracyVerification] = Field(
        default=[], description="Accuracy where the model will run, and in f32 if that differs; empty if not measured"
    )
    latency_ms: float | None = Field(
        default=None, description="Time of one inference here; null if it could not be measured"
    )
    speed: SpeedFacts | None = Field(
        default=None, description="Latencies and speed-ups here; null without the FP32 model"
    )
    promised_speed: SpeedFacts | None = Field(default=None, description="Latencies and speed-ups of the report")

    def _said(self) -> str:
        said = "everything promised holds here" if self.holds else "not everything promised holds here"
        drops = [f"drop {drop_text(one.drop_kind, one.unit, one.drop)} in {one.precision}" for one in self.accuracy]
        return "; ".join([f"{self.model}: {said}", *drops])

    def _rows(self) -> list[tuple[str, ...]]:
        rows: list[tuple[str, ...]] = [("what", "here", "promised")]
        for one in self.accuracy:
            budget = "" if one.budget is None else f"at most {drop_text(one.drop_kind, one.unit, one.budget)}"
            rows.append((f"drop in {one.precision}", drop_text(one.drop_kind, one.unit, one.drop), budget))
        promised = [layer for layer in self.layers if layer.promised == "i8"]
        if promised:
            kept = sum(layer.kept for layer in promised)
            rows.append(("layers in INT8", str(kept), str(len(promised))))
        if self.latency_ms is not None:
            there = f"{self.promised_speed.latency_int8_ms:.3g} ms" if self.promised_speed else ""
            rows.append(("latency", f"{self.latency_ms:.3g} ms", there))
        return rows

    def _remarks(self) -> list[str]:
        return [*self.broken, *self.notes]
