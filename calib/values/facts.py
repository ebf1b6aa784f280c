"""What a run found and decided: the values that report.json is, and every other report is made from.

Times are seconds unless the name ends in ``_ms``. Text may come from a model file: escape it wherever it becomes
markup.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION = 2

Status = Literal["quantized", "within_budget", "over_budget", "fp32_kept", "planned"]


class Frozen(BaseModel):
    """Base of all values here."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class TensorFacts(Frozen):
    """An input or output of the model."""

    name: str
    shape: str = Field(description="as OpenVINO prints it, ? for dynamic dimensions")
    type: str


class ModelFacts(Frozen):
    """The model as it came."""

    name: str
    source: str = ""
    format: Literal["ir", "onnx", "memory"] = "ir"
    fingerprint: str = Field(default="", description="sha256 of the file bytes")
    inputs: list[TensorFacts] = []
    outputs: list[TensorFacts] = []
    operations: int = 0
    bytes_before: int = Field(default=0, description="size of the weights file (.bin, .onnx) as it came")
    bytes_after: int = Field(default=0, description="size of the .bin written; 0 before it is written")
    normalization: list[str] = Field(default=[], description="what was changed on load, one sentence each")
    preprocessing: list[str] = Field(
        default=[], description="preprocessing found in the IR or embedded, one sentence each"
    )


class SettingFacts(Frozen):
    """A setting and where its value came from."""

    key: str
    value: Any
    origin: str = Field(description="flag, --set, --config FILE, rt_info or default")


class LayerFacts(Frozen):
    """One Convolution, GroupConvolution, ConvolutionBackpropData, MatMul or fused Add."""

    name: str
    type: str
    output_shape: str = ""
    weight_shape: str = ""
    macs: int = Field(default=0, description="multiply-accumulates for one inference; 0 where unknown (dynamic)")
    planned: Literal["int8", "float"]
    executed: str = Field(
        default="", description="precision of the primitive that ran: i8, f32, bf16…; '' if not asked"
    )
    primitive: str = Field(default="", description="the executed primitive as OpenVINO names it")
    reason: str = Field(
        default="", description="why it stays in floating point, was reverted, or did not run as planned"
    )
    reverted: bool = False
    sqnr_db: float | None = Field(
        default=None, description="of its output in the INT8 model, the error of all layers before it included"
    )
    weight_sqnr_db: float | None = Field(
        default=None, description="of its INT8 weights against those they round, equalized where that was kept"
    )
    time_fp32_ms: float | None = Field(default=None, description="of one inference, in the FP32 model run in f32")
    time_default_ms: float | None = Field(
        default=None, description="in the FP32 model run in the machine's default precision; None where that is f32"
    )
    time_int8_ms: float | None = Field(default=None, description="in the INT8 model")


class QuantizerFacts(Frozen):
    """One activation FakeQuantize."""

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
        default=None, description="share of values outside the range; None without a histogram"
    )
    candidates: dict[str, tuple[float, float]] = Field(default={}, description="the range each estimator would choose")
    histogram_edges: list[float] = Field(default=[], description="at most 65 edges, for drawing")
    histogram_counts: list[int] = []


class CorrectionFacts(Frozen):
    """What one correction changed on one layer, kept or not."""

    correction: str
    layer: str = Field(description="or tensor; empty for the whole network, whose outputs the SQNR is of then")
    kept: bool
    sqnr_before_db: float | None = Field(default=None, description="on samples that had no say; of what: see detail")
    sqnr_after_db: float | None = None
    detail: str = ""


class CandidateFacts(Frozen):
    """A complete recipe, scored on held-out calibration samples."""

    name: str
    sqnr_db: float = Field(description="of the typical sample; of the logits where an output is probabilities")
    chosen: bool
    detail: str = ""


class RankFacts(Frozen):
    """How sensitive the outputs are to quantizing this unit alone."""

    layers: list[str]
    sensitivity: float = Field(description="normalized squared error of the outputs with only this unit in INT8")


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
    """A plan within the budget whose latency was measured."""

    reverted: list[str]
    drop: float
    latency_ms: float
    chosen: bool


class AccuracyFacts(Frozen):
    """The promise and how it was kept."""

    metric: str
    higher_is_better: bool
    unit: str = ""
    baseline: float
    quantized: float
    drop: float = Field(description="positive is worse, in the metric's unit, or relative")
    drop_kind: Literal["absolute", "relative"] = "absolute"
    interval: tuple[float, float] | None = Field(default=None, description="95 % interval of the drop")
    interval_method: str = ""
    budget: float | None = None
    samples: int = 0
    confirmed_samples: int = Field(
        default=0, description="samples the search never saw; 0 without a confirmation split"
    )
    precision: str = "f32"
    drop_default_precision: float | None = Field(
        default=None, description="drop when run with the machine's default hint"
    )
    default_precision: str = ""
    given_up_drop: float | None = Field(
        default=None, description="drop of the INT8 model that was given up, where the FP32 model was kept"
    )
    note: str = Field(default="", description="plain sentence, such as a budget below what the samples can show")
    stopped: str = Field(default="", description="why the search ended early, such as an interruption")
    bound_evaluations: int = Field(default=0, description="most evaluations of the search, stated before it began")
    bound_s: float = Field(default=0.0, description="most seconds they were expected to take, stated before")
    images_evaluated: int = 0
    compilations: int = 0


class SpeedFacts(Frozen):
    """Medians of interleaved runs."""

    latency_f32_ms: float
    latency_default_ms: float
    latency_int8_ms: float
    default_precision: str = ""
    speedup_f32: float
    speedup_default: float
    interval_f32: tuple[float, float] | None = Field(default=None, description="95 % interval of speedup_f32")
    interval_default: tuple[float, float] | None = Field(default=None, description="95 % interval of speedup_default")
    noisy: bool = Field(default=False, description="too noisy for a claim; the note says why")
    note: str = ""


class StageFacts(Frozen):
    """What a stage of the pipeline cost."""

    name: str
    wall: float
    cpu: float


class Report(Frozen):
    """report.json."""

    schema_version: int = SCHEMA_VERSION
    calib_version: str
    status: Status
    status_reason: str = Field(default="", description="plain sentence")
    model: ModelFacts
    environment: dict[str, str] = {}
    settings: list[SettingFacts] = []
    calibration: str = Field(default="", description="source of the calibration data")
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
        default={}, description="output name → SQNR against FP32 on calibration samples"
    )
    speed: SpeedFacts | None = None
    stages: list[StageFacts] = []
    warnings: list[str] = []


class Inspection(Frozen):
    """What ``calib inspect`` found: every layer that could run in INT8, and what becomes of it."""

    schema_version: int = SCHEMA_VERSION
    calib_version: str
    model: ModelFacts
    quantized: bool = Field(description="the model holds FakeQuantize already; layers say what they execute in")
    layers: list[LayerFacts] = []
    notes: list[str] = []


class Evaluation(Frozen):
    """One model measured with one metric."""

    schema_version: int = SCHEMA_VERSION
    calib_version: str
    model: ModelFacts
    validation: str
    metric: str
    higher_is_better: bool
    unit: str = ""
    value: float
    interval: tuple[float, float] | None = Field(default=None, description="95 % interval of the value")
    interval_method: str = ""
    samples: int
    precision: str = Field(description="that layers in floating point ran in")
    isa: str = Field(default="", description="the instruction set it was limited to; '' for the machine's own")
    reference: float | None = Field(default=None, description="the published figure it was checked against")
    notes: list[str] = []


class LayerComparison(Frozen):
    """One layer of two models on the same samples."""

    name: str
    other_name: str = Field(default="", description="in the second model, where it is another one")
    type: str
    output_shape: str = ""
    matched: Literal["name", "position"] = "name"
    sqnr_db: float = Field(
        description="of the second model's output against the first's; the error of all layers before is in it"
    )
    cosine: float
    rescaled: bool = Field(
        default=False, description="its channels have other scales (equalization), undone before comparing"
    )
    jump_db: float = Field(default=0.0, description="SQNR lost between the layers before and this one")
    executed_before: str = Field(default="", description="precision of the primitive that ran in the first model")
    executed_after: str = ""
    primitive: str = Field(default="", description="that ran in the second model")
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
    layers: list[LayerComparison] = Field(default=[], description="in topological order")
    first_jump: str = Field(default="", description="first layer where the error jumps; '' where it never does")
    output_sqnr_db: dict[str, float] = {}
    output_cosine: dict[str, float] = {}
    unmatched: list[str] = Field(default=[], description="layers that only one of the models has")
    notes: list[str] = []


class BenchmarkEntry(Frozen):
    """One model in one precision. Speed-ups are against the first entry."""

    model: str
    precision: str = Field(description="of the layers in floating point")
    default: bool = Field(description="the precision that this machine takes by itself")
    quantized: bool
    int8_share: float = Field(description="share of the multiply-accumulates that executed in INT8")
    latency_ms: float = Field(description="wall time of one inference, median")
    latency_spread_ms: float = Field(description="half the distance between the quartiles")
    latency_cpu_ms: float
    speedup: float
    speedup_interval: tuple[float, float]
    throughput: float | None = Field(default=None, description="samples a second with all streams busy")
    throughput_gain: float | None = None
    throughput_interval: tuple[float, float] | None = None


class Benchmark(Frozen):
    """What ``calib bench`` measured, all entries interleaved."""

    schema_version: int = SCHEMA_VERSION
    calib_version: str
    environment: dict[str, str] = {}
    data: str = Field(default="", description="'' for random numbers")
    threads: int = Field(description="of one inference, for latency")
    streams: int = Field(description="inferences at the same time, for throughput; 0 if it was not measured")
    batch: int
    rounds: int
    entries: list[BenchmarkEntry]
    basis: Literal["wall", "cpu"] = Field(default="wall", description="the time that speedup compares")
    noisy: bool = Field(default=False, description="too noisy for a claim; the notes say why")
    notes: list[str] = []


class Doctor(Frozen):
    """What this machine can run, and what that means for models calibrated on it."""

    schema_version: int = SCHEMA_VERSION
    calib_version: str
    versions: dict[str, str]
    cpu: str
    features: dict[str, bool]
    capabilities: list[str] = Field(default=[], description="as OpenVINO lists them")
    limit: str = Field(default="", description="ONEDNN_MAX_CPU_ISA of this process")
    cores: int = Field(description="that this process may use")
    threads: int = Field(description="that OpenVINO takes for one inference by itself")
    memory: int = Field(description="bytes")
    default_precision: str
    exact_int8: bool = Field(description="sums of INT8 products are exact with full 8-bit weights")
    extras: dict[str, dict[str, str]] = Field(description="extra → package → version; '' if it is not installed")
    missing: dict[str, list[str]] = Field(
        default={}, description="extra → what pip has to install for it, such as jiwer>=3.0; no extra that is complete"
    )
    advice: list[str] = Field(default=[], description="whether what is made here holds elsewhere, one sentence each")
