"""What a run found and decided: the content of report.json, from which every other report is made.

Times are in seconds unless the name ends in ``_ms``. Text may come from a model file: escape it wherever it becomes
markup.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from calib.values.accuracy_facts import AccuracyFacts, FinalistFacts, KneeFacts, RankFacts, SearchStepFacts
from calib.values.drops import drop_text, value_text
from calib.values.frozen import SCHEMA_VERSION, Frozen, Shown, decibels
from calib.values.pictures import ChangedFacts, PictureFacts

# "mostly_float" and "slower" keep the budget too, but with a model of little use: more than half of its layers are in
# floating point again, or it was timed and is slower than FP32. "within_budget_…" keep it in one of two precisions of
# the layers in floating point only: f32, and the one that the model will run in, `AccuracyFacts.precision`.
Status = Literal[
    "quantized",
    "within_budget",
    "within_budget_not_in_f32",
    "mostly_float",
    "slower",
    "within_budget_in_f32_only",
    "over_budget",
    "fp32_kept",
    "planned",
]


class TensorFacts(Frozen):
    """An input or output of the model."""

    name: str = Field(description="Name of the tensor")
    shape: str = Field(description="Shape as OpenVINO prints it, with ? for dynamic dimensions")
    type: str = Field(description="Element type as OpenVINO prints it, such as f32")


class ModelFacts(Frozen):
    """The model before quantization."""

    name: str = Field(description="Name of the model: that of its file without the suffix")
    source: str = Field(default="", description="Path of the file as it was given; empty for a model in memory")
    format: Literal["ir", "onnx", "tensorflow", "tflite", "paddle", "memory"] = Field(
        default="ir", description="Form that the model was given in"
    )
    fingerprint: str = Field(default="", description="SHA-256 of the bytes of the model files")
    inputs: list[TensorFacts] = Field(default=[], description="Inputs in order")
    outputs: list[TensorFacts] = Field(default=[], description="Outputs in order")
    operations: int = Field(default=0, description="Number of operations after loading")
    bytes_before: int = Field(
        default=0, description="Size in bytes of the files that hold the weights before quantization"
    )
    bytes_after: int = Field(default=0, description="Size in bytes of the .bin file written; 0 before it is written")
    normalization: list[str] = Field(default=[], description="Changes made while loading, one sentence each")
    preprocessing: list[str] = Field(
        default=[], description="Preprocessing found in the IR or embedded into it, one sentence each"
    )


class SettingFacts(Frozen):
    """A setting and where its value comes from."""

    key: str = Field(description="Name of the setting; a dot separates the levels")
    value: Any = Field(description="Value that the run used")
    origin: str = Field(description="Where the value comes from: flag, --set, --config FILE, rt_info or default")


class LayerFacts(Frozen):
    """One Convolution, GroupConvolution, ConvolutionBackpropData or MatMul, or the Gather of an embedding table."""

    name: str = Field(description="Friendly name of the operation")
    type: str = Field(description="Type of the operation")
    output_shape: str = Field(default="", description="Shape of the output, with ? for dynamic dimensions")
    weight_shape: str = Field(default="", description="Shape of the weights; empty if both inputs are activations")
    macs: int = Field(
        default=0,
        description="Multiply-accumulates per inference, of the first calibration sample where shapes are dynamic; 0 "
        "if they are unknown",
    )
    planned: Literal["int8", "int8-weights", "float"] = Field(
        description="Precision that was planned after the search; int8-weights keeps the weights alone in 8 bit, as "
        "the rows of an embedding table are, and computes in floating point"
    )
    executed: str = Field(
        default="",
        description="Precision of the primitive that executes with two threads for an inference, or with one where the "
        "machine gives no two: i8, f32, bf16…; empty if it was not looked up or is unknown",
    )
    primitive: str = Field(default="", description="Name that OpenVINO gives to that primitive")
    executed_one_thread: str = Field(
        default="",
        description="Precision that executes with one thread for an inference, as under THROUGHPUT; empty if it is the "
        "same, unknown if OpenVINO does not tell",
    )
    primitive_one_thread: str = Field(
        default="", description="Name of the primitive with one thread; empty if its precision is the same"
    )
    output_precision: str = Field(
        default="",
        description="Element type of the output that the primitive writes, with what is fused into it: u8, i8, f32…; "
        "empty if it was not looked up or is unknown",
    )
    follows: list[int] = Field(
        default=[],
        description="Places of the layers and joins whose outputs reach this layer first, in layers and then joins",
    )
    reason: str = Field(
        default="", description="Why the layer stays in floating point, was reverted or did not run as planned"
    )
    reverted: bool = Field(default=False, description="Whether the search put the layer back into floating point")
    sqnr_db: float | None = Field(
        default=None,
        description="SQNR in dB of the layer's output in the INT8 model, with the error of all layers before it",
    )
    weight_sqnr_db: float | None = Field(
        default=None,
        description="SQNR in dB of the INT8 weights against the weights they are rounded from, after any equalization",
    )
    time_fp32_ms: float | None = Field(default=None, description="Time per inference in the FP32 model run in f32")
    time_default_ms: float | None = Field(
        default=None,
        description="Time per inference in the FP32 model run in the machine's default precision; null if that is f32",
    )
    time_int8_ms: float | None = Field(default=None, description="Time per inference in the INT8 model")

    @property
    def in_int8(self) -> bool:
        """Whether it executes in INT8 with one thread for an inference, with two or with both."""
        return "i8" in (self.executed, self.executed_one_thread)


class JoinFacts(Frozen):
    """An operation where outputs of several layers meet, such as a residual Add or a Concat."""

    name: str = Field(description="Friendly name of the operation")
    type: str = Field(description="Type of the operation")
    follows: list[int] = Field(description="Places of what meets here, in layers and then joins")


class QuantizerFacts(Frozen):
    """One FakeQuantize on an activation."""

    tensor: str = Field(description="Tensor that is quantized, as node:output")
    layers: list[str] = Field(description="Layers that read the quantized tensor")
    scheme: str = Field(description="Position of the levels relative to zero: symmetric, asymmetric or unsigned")
    levels: int = Field(description="Number of levels")
    low: float = Field(description="Lower end of the range")
    high: float = Field(description="Upper end of the range")
    data_low: float = Field(description="Smallest value of the tensor in the calibration samples")
    data_high: float = Field(description="Largest value of the tensor in the calibration samples")
    estimator: str = Field(description="Name of the estimator that the range comes from")
    reason: str = Field(
        default="", description="Why this estimator was chosen for the tensor; empty if there was no choice"
    )
    clipped: float | None = Field(
        default=None, description="Share of values outside the range; null without a histogram"
    )
    candidates: dict[str, tuple[float, float]] = Field(default={}, description="Range that each estimator would choose")
    histogram_edges: list[float] = Field(default=[], description="Edges of the histogram that is drawn, at most 65")
    histogram_counts: list[int] = Field(
        default=[], description="Number of values between each two edges of the histogram"
    )


class CorrectionFacts(Frozen):
    """What one correction changed in one layer, whether kept or not."""

    correction: str = Field(description="Name of the correction")
    layer: str = Field(
        description="Layer or tensor corrected; empty for the whole network, with the SQNR of its outputs"
    )
    kept: bool = Field(description="Whether the model that was written has the correction")
    sqnr_before_db: float | None = Field(
        default=None,
        description="SQNR in dB before the correction, on samples it did not learn from; detail says of what",
    )
    sqnr_after_db: float | None = Field(default=None, description="The same SQNR after the correction")
    detail: str = Field(default="", description="What was changed, or why it was not kept")


class CandidateFacts(Frozen):
    """A quantized model scored on held-out calibration samples."""

    name: str = Field(description="Estimator and corrections, joined by ' + '")
    sqnr_db: float = Field(
        description="SQNR in dB of the outputs, in parts, for a typical sample; of the logits where a part holds "
        "probabilities, and of the tensors before a selection (NMS, TopK, rounding) in place of what is selected"
    )
    chosen: bool = Field(description="Whether this candidate was chosen")
    detail: str = Field(default="", description="Remark on the candidate; may be empty")


class SpeedFacts(Frozen):
    """Latencies and speed-ups, from medians of interleaved runs."""

    latency_f32_ms: float = Field(description="Time of one inference of the FP32 model in f32")
    latency_default_ms: float = Field(
        description="Time of one inference of the FP32 model in the machine's default precision"
    )
    latency_int8_ms: float = Field(description="Time of one inference of the INT8 model")
    default_precision: str = Field(default="", description="Precision that this machine chooses by itself")
    speedup_f32: float = Field(description="Latency of FP32 in f32 divided by that of INT8")
    speedup_default: float = Field(description="Latency of FP32 in the default precision divided by that of INT8")
    interval_f32: tuple[float, float] | None = Field(
        default=None, description="95 % confidence interval of speedup_f32"
    )
    interval_default: tuple[float, float] | None = Field(
        default=None, description="95 % confidence interval of speedup_default"
    )
    noisy: bool = Field(
        default=False, description="Whether the machine was too noisy for a conclusion; the note says why"
    )
    note: str = Field(default="", description="Remark on the conditions of the measurement")


class PartSqnrFacts(Frozen):
    """The SQNR of an output, or of a part of one, against the FP32 model run in f32."""

    held_out_db: float | None = Field(
        default=None,
        description="SQNR in dB over the samples when neither ranges nor corrections had seen them; null if they had",
    )
    interval: tuple[float, float] | None = Field(
        default=None,
        description="95 % interval in dB for samples that were not seen; null without at least 3 held-out samples",
    )
    written_db: float = Field(
        description="SQNR in dB of the model that was written over the same samples, run in f32; its ranges may be "
        "fitted to them"
    )
    default_db: float | None = Field(
        default=None, description="The same with the model that was written run in the machine's default precision"
    )
    fp32_default_db: float | None = Field(
        default=None, description="SQNR in dB of the FP32 model itself run in the machine's default precision"
    )


class OutputSqnrFacts(Frozen):
    """The SQNR of the outputs, and what it is from."""

    samples: list[str] = Field(description="Ids of the calibration samples that all figures are from")
    held_out: bool = Field(description="Whether these samples were held out of statistics and corrections at first")
    refitted: bool = Field(
        default=False,
        description="Whether the ranges of the model that was written were fitted to these samples too, afterwards",
    )
    default_precision: str = Field(description="Precision that this machine chooses by itself: f32, bf16 or f16")
    parts: dict[str, PartSqnrFacts] = Field(
        default={}, description="Mapping from the name of an output, or of a part of one, to its figures"
    )
    notes: list[str] = Field(default=[], description="Why the figures are unsure, one sentence or more each")


class StageFacts(Frozen):
    """Time that a stage of the pipeline took."""

    name: str = Field(description="Name of the stage")
    wall: float = Field(description="Wall time in seconds")
    cpu: float = Field(description="CPU time of the process in seconds")


class ReproduceFacts(Frozen):
    """How to repeat the run."""

    config: str = Field(description="Config file of the whole run, which is written as job.yaml beside the model")
    command: str = Field(description="Command line that does the same, for a POSIX shell")
    python: str = Field(description="Python program that does the same")


class Report(Shown):
    """Everything a run found and decided; the content of report.json."""

    schema_version: int = Field(default=SCHEMA_VERSION, description="Version of this schema")
    calib_version: str = Field(description="Version of calib that made the report")
    status: Status = Field(
        description="Outcome of the run; mostly_float and slower keep the budget with a model of little use"
    )
    status_reason: str = Field(default="", description="Sentence that explains the status; may be empty")
    model: ModelFacts = Field(description="The model before quantization")
    files: dict[str, str] = Field(
        default={},
        description="Mapping from the name of each file of the written model to the SHA-256 of its bytes; empty before "
        "it is written",
    )
    environment: dict[str, str] = Field(default={}, description="Machine and versions of the libraries")
    settings: list[SettingFacts] = Field(default=[], description="Every setting with its value and origin")
    calibration: str = Field(default="", description="Where the calibration samples come from")
    calibration_samples: int = Field(default=0, description="Number of calibration samples")
    validation: str = Field(default="", description="Where the validation samples come from")
    layers: list[LayerFacts] = Field(default=[], description="Layers in topological order")
    joins: list[JoinFacts] = Field(
        default=[], description="Operations where outputs of several layers meet, in topological order"
    )
    quantizers: list[QuantizerFacts] = Field(default=[], description="Quantized activations in topological order")
    corrections: list[CorrectionFacts] = Field(default=[], description="Corrections, layer by layer, kept or not")
    candidates: list[CandidateFacts] = Field(
        default=[], description="Quantized models scored before the best was chosen"
    )
    ranking: list[RankFacts] = Field(
        default=[], description="Units of layers, most sensitive first; empty if the search did not rank them"
    )
    knee: KneeFacts | None = Field(
        default=None, description="SQNR against work in floating point, and its knee; null if layers were not ranked"
    )
    search: list[SearchStepFacts] = Field(default=[], description="Evaluations of the search in order")
    finalists: list[FinalistFacts] = Field(default=[], description="Plans within the budget that were timed")
    accuracy: AccuracyFacts | None = Field(
        default=None, description="Accuracy and budget; null if no accuracy was measured"
    )
    output_sqnr_db: dict[str, float] = Field(
        default={},
        description="Mapping from output name to its SQNR in dB against FP32 on held-out calibration samples, of the "
        "model before its ranges were fitted to these samples too, if they were; from ``name[:, 4:]`` for a part of an "
        "output that joins several, and from the name of the tensor before a selection in place of an output that is "
        "selected or rounded",
    )
    output_sqnr: OutputSqnrFacts | None = Field(
        default=None,
        description="The same figures with their samples, their intervals and those in the machine's default precision",
    )
    changed: ChangedFacts | None = Field(
        default=None, description="How single samples changed; None if it is not known of each of them"
    )
    pictures: list[PictureFacts] = Field(
        default=[], description="Samples that change most, drawn into a folder beside the report"
    )
    pictures_note: str = Field(default="", description="Why no sample is drawn, where pictures were asked for")
    speed: SpeedFacts | None = Field(
        default=None, description="Latencies and speed-ups; null if they were not measured"
    )
    stages: list[StageFacts] = Field(default=[], description="Time of each stage of the run")
    warnings: list[str] = Field(default=[], description="Warnings, one sentence or more each")
    reproduce: ReproduceFacts | None = Field(
        default=None, description="How to repeat the run; null if the model or the samples were Python objects"
    )

    def _said(self) -> str:
        said = [f"{self.model.name}: {self.status.replace('_', ' ')}"]
        for one in self.accuracy.separately() if self.accuracy else ():
            said.append(f"{one.metric} {value_text(one.unit, one.baseline)} → {value_text(one.unit, one.quantized)}")
            said.append(f"drop {drop_text(one.drop_kind, one.unit, one.drop)}")
        if self.output_sqnr_db:
            said.append(f"SQNR {decibels(min(self.output_sqnr_db.values()))}")
        if self.speed:
            said.append(f"{self.speed.speedup_f32:.2f} times as fast as f32")
        return ", ".join(said)

    def _remarks(self) -> list[str]:
        return [text for text in (self.status_reason, *self.warnings) if text]
