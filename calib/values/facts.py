"""What a run found and decided: the content of report.json, from which every other report is made.

Times are in seconds unless the name ends in ``_ms``. Text may come from a model file: escape it wherever it becomes
markup.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION = 2

Status = Literal["quantized", "within_budget", "over_budget", "fp32_kept", "planned"]


class Frozen(BaseModel):
    """Base class of all facts."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class TensorFacts(Frozen):
    """An input or output of the model."""

    name: str
    shape: str = Field(description="Shape as OpenVINO prints it, with ? for dynamic dimensions")
    type: str


class ModelFacts(Frozen):
    """The model before quantization."""

    name: str
    source: str = ""
    format: Literal["ir", "onnx", "memory"] = "ir"
    fingerprint: str = Field(default="", description="SHA-256 of the bytes of the model files")
    inputs: list[TensorFacts] = []
    outputs: list[TensorFacts] = []
    operations: int = 0
    bytes_before: int = Field(
        default=0, description="Size in bytes of the weights file (.bin or .onnx) before quantization"
    )
    bytes_after: int = Field(default=0, description="Size in bytes of the .bin file written; 0 before it is written")
    normalization: list[str] = Field(default=[], description="Changes made while loading, one sentence each")
    preprocessing: list[str] = Field(
        default=[], description="Preprocessing found in the IR or embedded into it, one sentence each"
    )


class SettingFacts(Frozen):
    """A setting and where its value comes from."""

    key: str
    value: Any
    origin: str = Field(description="Where the value comes from: flag, --set, --config FILE, rt_info or default")


class LayerFacts(Frozen):
    """One Convolution, GroupConvolution, ConvolutionBackpropData or MatMul, or an Add fused into one."""

    name: str
    type: str
    output_shape: str = ""
    weight_shape: str = ""
    macs: int = Field(
        default=0, description="Multiply-accumulates per inference; 0 if unknown because shapes are dynamic"
    )
    planned: Literal["int8", "float"]
    executed: str = Field(
        default="",
        description="Precision of the primitive that was executed: i8, f32, bf16…; empty if it was not looked up",
    )
    primitive: str = Field(default="", description="Name that OpenVINO gives to the executed primitive")
    reason: str = Field(
        default="", description="Why the layer stays in floating point, was reverted or did not run as planned"
    )
    reverted: bool = False
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


class QuantizerFacts(Frozen):
    """One FakeQuantize on an activation."""

    tensor: str
    layers: list[str]
    scheme: str
    levels: int
    low: float
    high: float
    data_low: float
    data_high: float
    estimator: str
    reason: str = ""
    clipped: float | None = Field(
        default=None, description="Share of values outside the range; null without a histogram"
    )
    candidates: dict[str, tuple[float, float]] = Field(default={}, description="Range that each estimator would choose")
    histogram_edges: list[float] = Field(default=[], description="Edges of the histogram that is drawn, at most 65")
    histogram_counts: list[int] = []


class CorrectionFacts(Frozen):
    """What one correction changed in one layer, whether kept or not."""

    correction: str
    layer: str = Field(
        description="Layer or tensor corrected; empty for the whole network, with the SQNR of its outputs"
    )
    kept: bool
    sqnr_before_db: float | None = Field(
        default=None,
        description="SQNR in dB before the correction, on samples it did not learn from; detail says of what",
    )
    sqnr_after_db: float | None = Field(default=None, description="The same SQNR after the correction")
    detail: str = ""


class CandidateFacts(Frozen):
    """A quantized model scored on held-out calibration samples."""

    name: str
    sqnr_db: float = Field(
        description="SQNR in dB of the outputs for a typical sample; of the logits where an output holds probabilities"
    )
    chosen: bool
    detail: str = ""


class RankFacts(Frozen):
    """How sensitive the outputs are to quantizing this unit alone; a unit is the smallest set of layers to revert."""

    layers: list[str]
    sensitivity: float = Field(description="Normalized squared error of the outputs with only this unit in INT8")


class SearchStepFacts(Frozen):
    """One evaluation of the search."""

    step: int
    kind: Literal["int8", "prefix", "bisect", "confirm", "backfill"]
    reverted: list[str]
    samples: int
    value: float
    drop: float
    within: bool
    reason: str = ""


class FinalistFacts(Frozen):
    """A plan within the budget whose latency was measured to choose the fastest."""

    reverted: list[str]
    drop: float
    latency_ms: float
    chosen: bool


class AccuracyFacts(Frozen):
    """The accuracy budget, and the accuracy of the model that was written."""

    metric: str
    higher_is_better: bool
    unit: str = ""
    baseline: float
    quantized: float
    drop: float = Field(
        description="Drop from the baseline, positive if worse, in the metric's unit or as a fraction of the baseline"
    )
    drop_kind: Literal["absolute", "relative"] = "absolute"
    interval: tuple[float, float] | None = Field(default=None, description="95 % confidence interval of the drop")
    interval_method: str = ""
    budget: float | None = None
    samples: int = 0
    confirmed_samples: int = Field(
        default=0, description="Samples used only for confirmation; 0 without a confirmation split"
    )
    precision: str = "f32"
    drop_default_precision: float | None = Field(
        default=None, description="Drop of the INT8 model run in the machine's default precision"
    )
    default_precision: str = ""
    given_up_drop: float | None = Field(
        default=None, description="Drop of the INT8 model that was rejected, where the FP32 model was kept"
    )
    note: str = Field(default="", description="Remark, such as that the budget is smaller than the samples can resolve")
    stopped: str = Field(default="", description="Why the search ended early, such as an interruption")
    bound_evaluations: int = Field(
        default=0, description="Upper bound on the evaluations of the search, known before it began"
    )
    bound_s: float = Field(
        default=0.0, description="Upper bound on the seconds of the search, estimated before it began"
    )
    images_evaluated: int = 0
    compilations: int = 0


class SpeedFacts(Frozen):
    """Latencies and speed-ups, from medians of interleaved runs."""

    latency_f32_ms: float
    latency_default_ms: float
    latency_int8_ms: float
    default_precision: str = ""
    speedup_f32: float
    speedup_default: float
    interval_f32: tuple[float, float] | None = Field(
        default=None, description="95 % confidence interval of speedup_f32"
    )
    interval_default: tuple[float, float] | None = Field(
        default=None, description="95 % confidence interval of speedup_default"
    )
    noisy: bool = Field(
        default=False, description="Whether the machine was too noisy for a conclusion; the note says why"
    )
    note: str = ""


class StageFacts(Frozen):
    """Time that a stage of the pipeline took."""

    name: str
    wall: float
    cpu: float


class Report(Frozen):
    """Everything a run found and decided; the content of report.json."""

    schema_version: int = SCHEMA_VERSION
    calib_version: str
    status: Status
    status_reason: str = Field(default="", description="Sentence that explains the status; may be empty")
    model: ModelFacts
    environment: dict[str, str] = {}
    settings: list[SettingFacts] = []
    calibration: str = Field(default="", description="Where the calibration samples come from")
    calibration_samples: int = 0
    validation: str = ""
    layers: list[LayerFacts] = []
    quantizers: list[QuantizerFacts] = []
    corrections: list[CorrectionFacts] = []
    candidates: list[CandidateFacts] = []
    ranking: list[RankFacts] = []
    search: list[SearchStepFacts] = []
    finalists: list[FinalistFacts] = []
    accuracy: AccuracyFacts | None = None
    output_sqnr_db: dict[str, float] = Field(
        default={}, description="Mapping from output name to its SQNR in dB against FP32 on calibration samples"
    )
    speed: SpeedFacts | None = None
    stages: list[StageFacts] = []
    warnings: list[str] = []


class Inspection(Frozen):
    """What ``calib inspect`` found: every layer that could run in INT8, and what it will run in."""

    schema_version: int = SCHEMA_VERSION
    calib_version: str
    model: ModelFacts
    quantized: bool = Field(
        description="Whether the model holds FakeQuantize already; if so, its layers say what they execute in"
    )
    layers: list[LayerFacts] = []
    notes: list[str] = []


class Evaluation(Frozen):
    """The value of one metric for one model."""

    schema_version: int = SCHEMA_VERSION
    calib_version: str
    model: ModelFacts
    validation: str
    metric: str
    higher_is_better: bool
    unit: str = ""
    value: float
    interval: tuple[float, float] | None = Field(default=None, description="95 % confidence interval of the value")
    interval_method: str = ""
    samples: int
    precision: str = Field(description="Precision of the layers in floating point")
    isa: str = Field(default="", description="Instruction set that the run was limited to; empty if it was not limited")
    reference: float | None = Field(default=None, description="Published value that the result was checked against")
    notes: list[str] = []


class LayerComparison(Frozen):
    """One layer in two models, on the same samples."""

    name: str
    other_name: str = Field(default="", description="Name of the layer in the second model, if it differs")
    type: str
    output_shape: str = ""
    matched: Literal["name", "position"] = "name"
    sqnr_db: float = Field(
        description="SQNR in dB of the layer's output in the second model against the first, with the error of all "
        "layers before it"
    )
    cosine: float
    rescaled: bool = Field(
        default=False,
        description="Whether its channels are scaled differently by equalization, which is undone before comparing",
    )
    jump_db: float = Field(default=0.0, description="SQNR in dB lost from the layers before to this one")
    executed_before: str = Field(
        default="", description="Precision of the primitive that was executed in the first model"
    )
    executed_after: str = Field(
        default="", description="Precision of the primitive that was executed in the second model"
    )
    primitive: str = Field(default="", description="Primitive that was executed in the second model")
    time_before_ms: float | None = None
    time_after_ms: float | None = None


class Comparison(Frozen):
    """What ``calib compare`` found: where two models differ, layer by layer."""

    schema_version: int = SCHEMA_VERSION
    calib_version: str
    before: ModelFacts
    after: ModelFacts
    data: str
    samples: int
    layers: list[LayerComparison] = Field(default=[], description="Layers in topological order")
    first_jump: str = Field(default="", description="First layer where the error jumps; empty if there is none")
    output_sqnr_db: dict[str, float] = {}
    output_cosine: dict[str, float] = {}
    unmatched: list[str] = Field(default=[], description="Layers that only one of the models has")
    notes: list[str] = []


class BenchmarkEntry(Frozen):
    """One model in one precision. Speed-ups are relative to the first entry."""

    model: str
    precision: str = Field(description="Precision of the layers in floating point")
    default: bool = Field(description="Whether this is the precision that this machine chooses by itself")
    quantized: bool
    int8_share: float = Field(description="Share of the multiply-accumulates executed in INT8")
    latency_ms: float = Field(description="Median wall time of one inference")
    latency_spread_ms: float = Field(description="Half of the interquartile range of the latency")
    latency_cpu_ms: float
    speedup: float
    speedup_interval: tuple[float, float]
    throughput: float | None = Field(default=None, description="Samples per second with all streams busy")
    throughput_gain: float | None = None
    throughput_interval: tuple[float, float] | None = None


class Benchmark(Frozen):
    """What ``calib bench`` measured, all entries interleaved."""

    schema_version: int = SCHEMA_VERSION
    calib_version: str
    environment: dict[str, str] = {}
    data: str = Field(default="", description="Where the samples come from; empty for random numbers")
    threads: int = Field(description="Threads of one inference when latency is measured")
    streams: int = Field(description="Parallel streams when throughput is measured; 0 if it was not measured")
    batch: int
    rounds: int
    entries: list[BenchmarkEntry]
    basis: Literal["wall", "cpu"] = Field(
        default="wall", description="Time that the speed-ups compare: wall time or CPU time"
    )
    noisy: bool = Field(
        default=False, description="Whether the machine was too noisy for a conclusion; the notes say why"
    )
    notes: list[str] = []


class Doctor(Frozen):
    """What this machine can run, and what that means for models calibrated on it."""

    schema_version: int = SCHEMA_VERSION
    calib_version: str
    versions: dict[str, str]
    cpu: str
    features: dict[str, bool]
    capabilities: list[str] = Field(default=[], description="Capabilities of the CPU device as OpenVINO lists them")
    limit: str = Field(default="", description="Value of ONEDNN_MAX_CPU_ISA in this process")
    cores: int = Field(description="Number of cores that this process may use")
    threads: int = Field(description="Number of threads that OpenVINO uses for one inference by default")
    memory: int = Field(description="Memory of this machine in bytes")
    default_precision: str
    exact_int8: bool = Field(description="Whether sums of INT8 products are exact with full 8-bit weights")
    extras: dict[str, dict[str, str]] = Field(
        description="Mapping from extra to package to version; the version is empty if it is not installed"
    )
    missing: dict[str, list[str]] = Field(
        default={}, description="Mapping from an incomplete extra to what pip has to install for it, such as jiwer>=3.0"
    )
    advice: list[str] = Field(
        default=[], description="Whether results of this machine hold on others, one sentence each"
    )
