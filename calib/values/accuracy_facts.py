"""What a search found: the parts of report.json on sensitivity, tried plans, accuracy and budget."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from calib.values.frozen import Frozen


class RankFacts(Frozen):
    """How sensitive the outputs are to quantizing this unit alone; a unit is the smallest set of layers to revert."""

    layers: list[str] = Field(description="Layers of the unit")
    sensitivity: float = Field(description="Normalized squared error of the outputs with only this unit in INT8")


class KneePointFacts(Frozen):
    """What is expected with some layers in floating point."""

    layers: int = Field(description="Number of layers in floating point")
    share: float = Field(description="Share of the multiply-accumulates that these are, 0 to 1")
    sqnr_db: float = Field(description="Expected SQNR of the outputs in dB")


class KneeFacts(Frozen):
    """Where the return of layers to floating point stops paying, from each unit's error alone and its work."""

    points: list[KneePointFacts] = Field(description="From none in floating point, one more unit at a time")
    layers: list[str] = Field(default=[], description="Layers in floating point at the knee; empty if there is none")
    taken: bool = Field(default=False, description="Whether these layers are in floating point in the model")
    sentence: str = Field(description="The knee, or why there is none")


class SearchStepFacts(Frozen):
    """One evaluation of the search."""

    step: int = Field(description="Number of the evaluation, from 1")
    kind: Literal["int8", "prefix", "bisect", "confirm", "backfill"] = Field(description="What the plan was tried for")
    reverted: list[str] = Field(description="Layers in floating point in this plan")
    samples: int = Field(description="Number of samples it was evaluated on")
    value: float = Field(description="Metric over these samples")
    drop: float = Field(description="Drop against FP32 on the same samples")
    interval: tuple[float, float] | None = Field(
        default=None, description="95 % interval of the drop; null if the metric has no score for each sample"
    )
    within: bool = Field(description="Whether the plan keeps the budget on all samples of the search")
    reason: str = Field(default="", description="Why the plan was rejected; empty if it was not")


class FinalistFacts(Frozen):
    """A plan within the budget whose latency was measured to choose the fastest."""

    reverted: list[str] = Field(description="Layers in floating point in this plan")
    drop: float = Field(description="Drop against FP32")
    latency_ms: float = Field(description="Median time of one inference on one thread")
    chosen: bool = Field(description="Whether this plan was chosen")


class MetricFacts(Frozen):
    """One metric of the model that was written, and its budget."""

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
    other_drop: float | None = Field(
        default=None, description="Drop of the same model in other_precision; null if it was not measured"
    )


class AccuracyFacts(MetricFacts):
    """The accuracy budget, and the accuracy of the model that was written.

    Of several metrics with a budget each this is the largest share of its budget that one of them lost, and ``each``
    holds them all; without a budget it is the first.
    """

    each: list[MetricFacts] = Field(
        default=[], description="Each of several metrics, with its budget; empty where there is only one"
    )
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
    fp32_drop: float | None = Field(
        default=None,
        description="Drop of the FP32 model itself in the one of the two precisions that is not f32; null if there is "
        "only f32",
    )
    kept_in_f32: list[str] = Field(
        default=[],
        description="Operations that the file marks to run in f32 whatever the default precision is, since the budget "
        "is missed without",
    )
    given_up_drop: float | None = Field(
        default=None, description="Drop of the INT8 model that was rejected, where the FP32 model was kept"
    )
    note: str = Field(default="", description="Remark, such as that the budget is smaller than the samples can resolve")
    stopped: str = Field(default="", description="Why the search ended early, such as an interruption")
    undecided: bool = Field(
        default=False,
        description="Whether the search ended before a single plan was judged on all samples, so that the budget is "
        "neither kept nor missed",
    )
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

    def separately(self) -> list[AccuracyFacts]:
        """Return the accuracy by each metric alone; of a single metric the accuracy itself."""
        if not self.each:
            return [self]
        shared = self.model_copy(update={"each": [], "fp32_drop": None, "given_up_drop": None})
        return [shared.model_copy(update=dict(one)) for one in self.each]
