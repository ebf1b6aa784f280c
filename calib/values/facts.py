"""What a run found and decided: the content of report.json, from which every other report is made.

Times are in seconds unless the name ends in ``_ms``. Text may come from a model file: escape it wherever it becomes
markup.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION = 2

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


class Frozen(BaseModel):
    """Base class of all facts."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class TensorFacts(Frozen):
    """An input or output of the model."""

    name: str = Field(description="Name of the tensor")
    shape: str = Field(description="Shape as OpenVINO prints it, with ? for dynamic dimensions")
    type: str = Field(description="Element type as OpenVINO prints it, such as f32")


class ModelFacts(Frozen):
    """The model before quantization."""

    name: str = Field(description="Name of the model: that of its file without the suffix")
    source: str = Field(default="", description="Path of the file as it was given; empty for a model in memory")
    format: Literal["ir", "onnx", "memory"] = Field(default="ir", description="Form that the model was given in")
    fingerprint: str = Field(default="", description="SHA-256 of the bytes of the model files")
    inputs: list[TensorFacts] = Field(default=[], description="Inputs in order")
    outputs: list[TensorFacts] = Field(default=[], description="Outputs in order")
    operations: int = Field(default=0, description="Number of operations after loading")
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

    key: str = Field(description="Name of the setting; a dot separates the levels")
    value: Any = Field(description="Value that the run used")
    origin: str = Field(description="Where the value comes from: flag, --set, --config FILE, rt_info or default")


class LayerFacts(Frozen):
    """One Convolution, GroupConvolution, ConvolutionBackpropData or MatMul, or an Add fused into one."""

    name: str = Field(description="Friendly name of the operation")
    type: str = Field(description="Type of the operation")
    output_shape: str = Field(default="", description="Shape of the output, with ? for dynamic dimensions")
    weight_shape: str = Field(default="", description="Shape of the weights; empty if both inputs are activations")
    macs: int = Field(
        default=0, description="Multiply-accumulates per inference; 0 if unknown because shapes are dynamic"
    )
    planned: Literal["int8", "float"] = Field(description="Precision that was planned after the search")
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


class RankFacts(Frozen):
    """How sensitive the outputs are to quantizing this unit alone; a unit is the smallest set of layers to revert."""

    layers: list[str] = Field(description="Layers of the unit")
    sensitivity: float = Field(description="Normalized squared error of the outputs with only this unit in INT8")


class SearchStepFacts(Frozen):
    """One evaluation of the search."""

    step: int = Field(description="Number of the evaluation, from 1")
    kind: Literal["int8", "prefix", "bisect", "confirm", "backfill"] = Field(description="What the plan was tried for")
    reverted: list[str] = Field(description="Layers in floating point in this plan")
    samples: int = Field(description="Number of samples it was evaluated on")
    value: float = Field(description="Metric over these samples")
    drop: float = Field(description="Drop against FP32 on the same samples")
    within: bool = Field(description="Whether the plan keeps the budget on all samples of the search")
    reason: str = Field(default="", description="Why the plan was rejected; empty if it was not")


class FinalistFacts(Frozen):
    """A plan within the budget whose latency was measured to choose the fastest."""

    reverted: list[str] = Field(description="Layers in floating point in this plan")
    drop: float = Field(description="Drop against FP32")
    latency_ms: float = Field(description="Median time of one inference on one thread")
    chosen: bool = Field(description="Whether this plan was chosen")


class AccuracyFacts(Frozen):
    """The accuracy budget, and the accuracy of the model that was written."""

    metric: str = Field(description="Name of the metric")
    higher_is_better: bool = Field(description="Whether a larger value of the metric is better")
    unit: str = Field(default="", description="Unit of the metric; empty for a fraction")
    baseline: float = Field(description="Metric of the FP32 model")
    quantized: float = Field(description="Metric of the model that was written")
    drop: float = Field(
        description="Drop from the baseline, positive if worse, in the metric's unit or as a fraction of the baseline"
    )
    drop_kind: Literal["absolute", "relative"] = Field(
        default="absolute", description="Whether the drop is absolute or relative to the baseline"
    )
    interval: tuple[float, float] | None = Field(default=None, description="95 % confidence interval of the drop")
    interval_method: str = Field(default="", description="How the interval was computed; empty without one")
    interval_note: str = Field(default="", description="Why there is no interval; empty with one")
    budget: float | None = Field(default=None, description="Largest drop allowed; null without a budget")
    samples: int = Field(
        default=0,
        description="Number of validation samples; 0 where the metric is a function that reads samples of its own and "
        "returns no score for each",
    )
    confirmed_samples: int = Field(
        default=0, description="Samples used only for confirmation; 0 without a confirmation split"
    )
    precision: str = Field(
        default="f32",
        description="Precision of the layers in floating point where the model will run: that of quantized, drop and "
        "interval. The baseline is FP32 in f32 in any case",
    )
    other_precision: str = Field(
        default="", description="The other precision that accuracy was measured in; empty if there is only f32"
    )
    other_drop: float | None = Field(
        default=None, description="Drop of the same model in other_precision; null if it was not measured"
    )
    fp32_drop: float | None = Field(
        default=None,
        description="Drop of the FP32 model itself in the one of the two precisions that is not f32; null if there is "
        "only f32",
    )
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
    images_evaluated: int = Field(
        default=0,
        description="Number of samples run through a model by the search, FP32 included; 0 where a function reads "
        "samples of its own",
    )
    compilations: int = Field(default=0, description="Number of quantized models compiled by the search")


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


class Report(Frozen):
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
    quantizers: list[QuantizerFacts] = Field(default=[], description="Quantized activations in topological order")
    corrections: list[CorrectionFacts] = Field(default=[], description="Corrections, layer by layer, kept or not")
    candidates: list[CandidateFacts] = Field(
        default=[], description="Quantized models scored before the best was chosen"
    )
    ranking: list[RankFacts] = Field(
        default=[], description="Units of layers, most sensitive first; empty if the search did not rank them"
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
    speed: SpeedFacts | None = Field(
        default=None, description="Latencies and speed-ups; null if they were not measured"
    )
    stages: list[StageFacts] = Field(default=[], description="Time of each stage of the run")
    warnings: list[str] = Field(default=[], description="Warnings, one sentence or more each")
    reproduce: ReproduceFacts | None = Field(
        default=None, description="How to repeat the run; null if the model or the samples were Python objects"
    )


class Inspection(Frozen):
    """What ``calib inspect`` found: every layer that could run in INT8, and what it will run in."""

    schema_version: int = Field(default=SCHEMA_VERSION, description="Version of this schema")
    calib_version: str = Field(description="Version of calib that made this")
    model: ModelFacts = Field(description="The model")
    quantized: bool = Field(
        description="Whether the model holds FakeQuantize already; if so, its layers say what they execute in"
    )
    layers: list[LayerFacts] = Field(default=[], description="Layers in topological order")
    notes: list[str] = Field(default=[], description="Remarks, one sentence or more each")


class Evaluation(Frozen):
    """The value of one metric for one model."""

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


class LayerComparison(Frozen):
    """One layer in two models, on the same samples."""

    name: str = Field(description="Name of the layer in the first model")
    other_name: str = Field(default="", description="Name of the layer in the second model, if it differs")
    type: str = Field(description="Type of the operation")
    output_shape: str = Field(default="", description="Shape of the output, with ? for dynamic dimensions")
    matched: Literal["name", "position"] = Field(
        default="name", description="Whether the layers were matched by name or by position"
    )
    sqnr_db: float | None = Field(
        description="SQNR in dB of the layer's output in the second model against the first, with the error of all "
        "layers before it; null where looking at the layer changes what the model computes"
    )
    cosine: float | None = Field(description="Cosine similarity of the two outputs; null likewise")
    rescaled: bool = Field(
        default=False,
        description="Whether its channels are scaled differently by equalization, which is undone before comparing",
    )
    jump_db: float = Field(default=0.0, description="SQNR in dB lost from the layers before to this one")
    executed_before: str = Field(
        default="",
        description="Precision that executes in the first model with two threads, and in brackets with one where that "
        "is another",
    )
    executed_after: str = Field(default="", description="The same for the second model")
    primitive: str = Field(default="", description="Primitive that was executed in the second model")
    time_before_ms: float | None = Field(default=None, description="Time per inference in the first model")
    time_after_ms: float | None = Field(default=None, description="Time per inference in the second model")


class Comparison(Frozen):
    """What ``calib compare`` found: where two models differ, layer by layer."""

    schema_version: int = Field(default=SCHEMA_VERSION, description="Version of this schema")
    calib_version: str = Field(description="Version of calib that made this")
    before: ModelFacts = Field(description="The first model")
    after: ModelFacts = Field(description="The second model")
    data: str = Field(description="Where the samples come from")
    samples: int = Field(description="Number of samples")
    layers: list[LayerComparison] = Field(default=[], description="Layers in topological order")
    first_jump: str = Field(default="", description="First layer where the error jumps; empty if there is none")
    output_sqnr_db: dict[str, float] = Field(
        default={},
        description="Mapping from output, part or tensor, as in a report, to the SQNR in dB of the second model "
        "against the first",
    )
    output_cosine: dict[str, float] = Field(
        default={}, description="The same mapping to the cosine similarity of the two models"
    )
    unmatched: list[str] = Field(default=[], description="Layers that only one of the models has")
    notes: list[str] = Field(default=[], description="Remarks, one sentence or more each")


class BenchmarkEntry(Frozen):
    """One model in one precision. Speed-ups are relative to the first entry."""

    model: str = Field(description="Name of the model")
    precision: str = Field(description="Precision of the layers in floating point")
    default: bool = Field(description="Whether this is the precision that this machine chooses by itself")
    quantized: bool = Field(description="Whether the model holds quantized layers")
    int8_share: float = Field(description="Share of the multiply-accumulates executed in INT8")
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


class Benchmark(Frozen):
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


class Doctor(Frozen):
    """What this machine can run, and what that means for models calibrated on it."""

    schema_version: int = Field(default=SCHEMA_VERSION, description="Version of this schema")
    calib_version: str = Field(description="Version of calib that made this")
    versions: dict[str, str] = Field(description="Mapping from package to its version")
    cpu: str = Field(description="Name of the CPU")
    features: dict[str, bool] = Field(description="Mapping from CPU feature to whether this machine has it")
    capabilities: list[str] = Field(default=[], description="Capabilities of the CPU device as OpenVINO lists them")
    limit: str = Field(default="", description="Value of ONEDNN_MAX_CPU_ISA in this process")
    cores: int = Field(description="Number of cores that this process may use")
    threads: int = Field(description="Number of threads that OpenVINO uses for one inference by default")
    memory: int = Field(description="Memory of this machine in bytes")
    default_precision: str = Field(description="Precision that OpenVINO chooses by itself on this machine")
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
