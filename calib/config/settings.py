"""Every setting of ``quantize`` with its meaning, allowed values and default, and the JSON Schema of all.

Choices come from the tables (``calib.ranges.ESTIMATORS``, ``calib.metrics.METRICS``), which are loaded when needed.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from calib.config.efforts import EFFORTS, described
from calib.config.preprocessing import Preprocessing
from calib.config.run_inputs import MEANING
from calib.config.types import (
    AllowedDrop,
    Bytes,
    Checked,
    Count,
    Decibels,
    Drop,
    Factor,
    Patterns,
    Reference,
    Seconds,
    Share,
    allowed_drops,
    by_metric,
)

DEFAULT_SAMPLES = 300


class Settings(Checked):
    """Settings of ``quantize``."""

    samples: Count = Field(
        default=DEFAULT_SAMPLES, description="Number of calibration samples, chosen by a hash of their ids"
    )
    salt: str = Field(
        default="",
        description="Text mixed into the hash that chooses calibration samples; another salt chooses other samples",
    )
    first_axis: Literal["auto", "batch", "whole"] = Field(
        default="auto",
        description="What a dynamic first axis of an input is: batch, samples that are run one by one, or whole, part "
        "of a sample (a set of points, the nodes of a graph, a sequence with time first). auto runs the first sample "
        "with several rows both ways, and takes it for a batch only if the outputs agree",
    )
    preprocessing: dict[str, Preprocessing] = Field(
        default={},
        description="Preprocessing of images: one block for the only input, or a mapping from input name to block",
    )
    normalize: bool = Field(
        default=True,
        description="Whether the model is brought to the form that ov.convert_model gives; with false its operations "
        "stay as the file has them, and fewer layers may run in INT8",
    )
    complete: bool = Field(
        default=False,
        description="Whether a model that is quantized in part is taken: its quantized layers are kept, and the others "
        "are quantized; otherwise it is refused",
    )
    estimator: Any = Field(
        default="auto",
        description="Method that chooses the quantization ranges of activations",
        json_schema_extra=lambda s: _choices(s, _estimators),
    )
    extensions: Patterns = Field(
        default=(),
        description="Library with operations of your own (an OpenVINO extension) that models need; their code runs, so "
        "a file may name one only with --allow-extension",
    )
    ignore: Patterns = Field(
        default=(),
        description="Operations to leave in floating point, layers or what is fused into them, as NAME, type:TYPE, "
        "re:REGEX, subgraph:IN,IN...OUT,OUT, or file:FILE with patterns in it; see 'calib help ignore'",
    )
    target: Literal["auto", "cpu", "cpu-no-vnni", "this-cpu"] = Field(
        default="auto",
        description="Kind of CPU that runs the model. cpu takes into INT8 what is right on every x86 CPU, though sums "
        "may saturate without VNNI; cpu-no-vnni keeps them from that; auto is the one of these that serves this CPU "
        "better, by the error of the outputs; this-cpu does so too, and takes more layers, each tried, where this CPU "
        "computes them rightly and another one may not",
    )
    effort: str = Field(
        default="balanced",
        description=f"How much work is put into accuracy. {described()}",
        json_schema_extra=lambda s: _choices(s, lambda: list(EFFORTS)),
    )

    metric: Any = Field(
        default=None,
        description="Metric that measures accuracy: a name from 'calib metrics', or python:module:function; several "
        "are separated by commas and measured in one pass",
        json_schema_extra={"type": ["string", "array", "null"], "items": {"type": "string"}},
    )
    decode: Any = Field(
        default=None,
        description="How outputs become what the metric takes (boxes, class maps, texts): a name from 'calib help "
        "decoders' with options as ?key=value. Without it this is found from the model, and said",
        json_schema_extra={"type": ["string", "null"]},
    )
    higher_is_better: bool | None = Field(
        default=None,
        description="Whether higher values of your own metric are better; required for python:module:function",
        validate_default=True,
    )
    drop: Literal["absolute", "relative"] = Field(
        default="absolute",
        description="Whether a max_drop without a unit is in the metric's unit or a fraction of the FP32 baseline",
    )
    max_drop: Drop | None = Field(
        default=None,
        description="Accuracy budget: the largest drop allowed, as a number in the metric's unit (0.01), in percentage "
        "points (0.5pt) or as a share of the FP32 baseline (1%rel). Of several metrics each has its own, "
        "top-1=0.01,f1=1%rel, and all are kept. Without it no layer is returned to floating point",
    )
    min_sqnr: Decibels | None = Field(
        default=None,
        description="Smallest SQNR of the outputs against FP32 in dB, that of the worst of several: a budget that "
        "needs neither a metric nor labels",
    )
    knee: bool = Field(
        default=False,
        description="Whether the few layers that cost the outputs most return to floating point, up to the knee of "
        "SQNR against work, if 3 dB or more are gained by at most a quarter of the multiply-accumulates: it needs "
        "neither a budget nor labels",
    )
    reference: Reference | None = Field(
        default=None,
        description="Published FP32 value of the metric; the run stops if the measured baseline is far from it. Of "
        "several metrics each may have its own, top-1=0.76,f1=0.5",
    )
    confirm_split: Share = Field(
        default=0.0,
        description="Share of the validation samples kept from the search and used only to confirm its result",
    )
    float_precision: Literal["f32", "bf16"] | None = Field(
        default=None,
        description="Precision of the layers in floating point where the model will run, in which the budget is "
        "judged; the one that this machine chooses by itself unless given. The drop in f32 is measured as well",
    )

    time_limit: Seconds | None = Field(
        default=None, description="Longest time the search may take, in seconds or as 30m or 2h"
    )
    max_evaluations: Count | None = Field(
        default=None,
        description="Most evaluations the search may make, each of them a pass over the validation samples",
    )
    rank_samples: Count = Field(
        default=8,
        description="Number of calibration samples used to measure how sensitive the outputs are to each layer",
    )
    require_speedup: Factor | None = Field(
        default=None,
        description="Smallest speed-up accepted over FP32, in f32 or the machine's default precision, whichever is "
        "faster. Where it is missed, layers that are slower in INT8 return to floating point. Only with it do timings "
        "decide which layers run in INT8, and a second run may decide otherwise, unless it resumes the first",
    )
    speed: bool | None = Field(
        default=None,
        description="Whether to time INT8, layer by layer, against FP32 in f32 and in the machine's default precision, "
        "which takes about a second; by default 'calib quantize' does, Python and a zoo if there is an accuracy "
        "budget. Without --require-speedup it changes no model",
    )
    optimize_speed: bool = Field(
        default=False,
        description="Whether the whole network is timed with groups of layers in floating point (depthwise, between "
        "floating-point neighbours, the first, the last, those slower in INT8, all but the few that gain most), and a "
        "group stays there if that is faster by 2 %, also compiled anew five times. It goes with every effort and "
        "is part of none, as times differ from run to run: they are kept for --resume, and plan.json gives the same "
        "model again",
    )
    hint: Literal["latency", "throughput"] | None = Field(
        default=None,
        description="What INT8 is timed as: latency, one inference at a time on --threads threads, or throughput, as "
        "many at a time, one thread each; a single inference on a single thread unless given",
    )
    threads: Count | None = Field(
        default=None,
        description="Number of samples run in parallel, one thread each, and with --hint of threads that INT8 is timed "
        "on; one per core unless given",
    )
    memory_limit: Bytes | None = Field(
        default=None,
        description="Memory that measuring the sensitivity of layers may add, in bytes or as 2GiB; layers are measured "
        "in groups that fit. A quarter of the free memory unless given",
    )

    @field_validator("preprocessing", mode="before")
    @classmethod
    def _one_block_is_that_of_the_only_input(cls, value: Any) -> Any:
        return preprocessing_blocks(value)

    @field_validator("estimator")
    @classmethod
    def _estimator_is_in_the_table(cls, value: Any) -> Any:
        if isinstance(value, str):
            return _one_of(value, _estimators())
        from calib.ranges.estimator import RangeEstimator  # here: its package loads numpy and scipy

        if not isinstance(value, RangeEstimator):
            raise ValueError("must be a name, or an object as calib.ranges.estimator.RangeEstimator describes it")
        return value

    @field_validator("effort")
    @classmethod
    def _effort_is_in_the_table(cls, value: str) -> str:
        return _one_of(value, list(EFFORTS))

    @field_validator("ignore")
    @classmethod
    def _patterns_can_be_read(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if wrong := [mistake for pattern in value if (mistake := _pattern_mistake(pattern))]:
            raise ValueError("; ".join(wrong))
        return value

    @field_validator("target", mode="before")
    @classmethod
    def _target_is_known_here(cls, value: Any) -> Any:
        if isinstance(value, str) and value.lower() in ("gpu", "npu"):
            raise ValueError(
                f"{value} is not supported: calib proves what executes in INT8 by running it, and knows only the rules "
                "of the CPU plug-in; choose cpu (such a model also runs on other devices, unproven)"
            )
        return value

    @field_validator("metric")
    @classmethod
    def _metrics_are_in_the_table(cls, value: Any) -> Any:
        several = metric_names(value) if isinstance(value, str) else value
        if not isinstance(several, list | tuple):
            return cls._metric_in_the_table(value)
        if not several:
            raise ValueError("must name a metric")
        checked = [cls._metric_in_the_table(one) for one in several]
        return ",".join(checked) if all(isinstance(one, str) for one in checked) else tuple(checked)

    @classmethod
    def _metric_in_the_table(cls, value: Any) -> Any:
        if isinstance(value, str):
            if value.startswith("python:"):
                if not re.fullmatch(r"python:[^:]+:[^:]+", value):
                    raise ValueError("must be python:module:function")
                return value
            # what follows the name is the metric's own, and checked there
            _one_of(value.partition("?")[0], _metrics(), _metrics_elsewhere())
            return value
        if value is not None and not callable(value) and not hasattr(value, "measure"):
            raise ValueError("must be a name, python:module:function, a Metric or a function of predict")
        return value

    @field_validator("decode")
    @classmethod
    def _decoder_is_in_the_table(cls, value: Any) -> Any:
        if isinstance(value, str):
            _one_of(value.partition("?")[0], _decoders())  # what follows is the decoder's own, and checked there
        elif value is not None and not hasattr(value, "decode"):
            raise ValueError("must be a name, or an object with decode(outputs, facts, size)")
        return value

    @field_validator("higher_is_better")
    @classmethod
    def _direction_is_declared(cls, value: bool | None, info: ValidationInfo) -> bool | None:
        metric = info.data.get("metric")
        # A function given as a Python object is a score by its documented contract, see metrics.resolve.
        own = isinstance(metric, str) and any(name.startswith("python:") for name in metric_names(metric))
        if own and value is None:
            raise ValueError(
                "must be given for a metric of your own: --higher-is-better or --lower-is-better, "
                "or higher_is_better: true or false"
            )
        return value

    @field_validator("max_drop")
    @classmethod
    def _one_unit(cls, value: Any, info: ValidationInfo) -> Any:
        named = isinstance(value, str) and "=" in value
        if not named and isinstance(value, str) and value.endswith("pt") and info.data.get("drop") == "relative":
            raise ValueError("is in percentage points, and drop says relative: leave drop out, or give 1%rel")
        return value

    @field_validator("min_sqnr")
    @classmethod
    def _one_budget(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value is not None and (also := [key for key in ("metric", "max_drop") if info.data.get(key) is not None]):
            raise ValueError(f"is a budget with a metric of its own: leave out {' and '.join(also)}, or min_sqnr")
        return value

    @field_validator("knee")
    @classmethod
    def _no_budget(cls, value: bool, info: ValidationInfo) -> bool:
        if value and (also := [key for key in ("max_drop", "min_sqnr") if info.data.get(key) is not None]):
            raise ValueError(f"chooses layers without a budget, which {also[0]} is: leave out one of them")
        return value

    @property
    def has_budget(self) -> bool:
        """Whether layers are returned to floating point for accuracy."""
        return self.max_drop is not None or self.min_sqnr is not None

    @property
    def judged_by(self) -> Any:
        """Metric that measures accuracy, as given or as ``min_sqnr`` means it; None without any."""
        return self.metric if self.min_sqnr is None else "noise"

    @property
    def references(self) -> dict[str, float]:
        """Published value by metric; a single one is under ""."""
        return by_metric(self.reference)

    @property
    def allowed_drops(self) -> dict[str, AllowedDrop]:
        """Accuracy budget by the name of its metric; one without a name is under ""; empty without any."""
        if self.min_sqnr is not None:
            return {"": AllowedDrop(10 ** (-self.min_sqnr / 10), "absolute")}
        return allowed_drops(self.max_drop, self.drop)

    @property
    def measures_speed(self) -> bool:
        """Whether INT8 is timed: if asked for, if a speed-up is required, or by default if there is a budget."""
        if self.optimize_speed:
            return True
        return bool(self.require_speedup or (self.has_budget if self.speed is None else self.speed))

    def preprocessing_for(self, name: str, aliases: Sequence[str] = (), *, only: bool) -> Preprocessing:
        """Return the block of an input: the one under its name or an alias, merged over the nameless one.

        Args:
            name: Name of the input.
            aliases: Other names of the same input.
            only: Whether the model has no other input, so that the nameless block is meant for it.
        """
        fields: dict[str, Any] = {}
        for key in (("",) if only else ()) + (*aliases, name):
            if key in self.preprocessing:
                fields |= self.preprocessing[key].given()
        return Preprocessing(**fields)


def metric_names(text: str) -> list[str]:
    """Return the metrics that a text names, separated by commas; a comma in the options of one does not end it."""
    names: list[str] = []
    for piece in text.split(","):
        known = piece.startswith("python:") or piece.partition("?")[0].strip() in _metrics()
        if names and not known and "?" in names[-1]:
            names[-1] += f",{piece}"
        else:
            names.append(piece.strip())
    return names


def preprocessing_blocks(value: Any) -> Any:
    """Return input name → block; a single block belongs to the only input, whose key is ""."""
    if isinstance(value, Mapping) and value and not all(isinstance(v, Mapping | Preprocessing) for v in value.values()):
        return {"": value}
    return {"": value} if isinstance(value, Preprocessing) else value


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a config file (draft 2020-12): the inputs of a run, and settings with all choices."""
    schema = Settings.model_json_schema()
    by_name = schema["properties"]["preprocessing"]
    by_name["anyOf"] = [
        {"$ref": "#/$defs/Preprocessing"},
        {k: by_name.pop(k) for k in ("additionalProperties", "type")},
    ]
    texts = {key: {"description": text, "type": "string", "minLength": 1} for key, text in MEANING.items()}
    schema["properties"] = texts | schema["properties"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "calib config"}


def _pattern_mistake(pattern: str) -> str:
    """Return what is wrong with one ``ignore`` pattern; "" if it is valid."""
    prefix, _, rest = pattern.partition(":")
    if not (rest if prefix in ("type", "re", "subgraph", "file") else pattern):
        return f"{pattern!r} names nothing; write NAME, type:TYPE, re:REGEX, subgraph:IN...OUT or file:FILE"
    ends = rest.partition("...")
    if prefix == "subgraph" and not all(name.strip() for end in (ends[0], ends[2]) for name in end.split(",")):
        return f"{pattern!r} does not name both ends; write subgraph:IN,IN...OUT,OUT"
    try:
        re.compile(pattern[3:] if pattern.startswith("re:") else "")
    except (re.error, RecursionError, OverflowError) as error:
        return f"{pattern!r} is no regular expression: {error}"
    return ""


def _one_of(value: str, choices: Sequence[str], elsewhere: Mapping[str, str] | None = None) -> str:
    """Return the value if it is one of the choices; ``elsewhere`` holds what others call some of them."""
    if value not in choices:
        known = (elsewhere or {}).get(value.lower().replace("_", "-"))
        near = [known] if known else difflib.get_close_matches(value, choices, 1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise ValueError(f"must be one of {', '.join(choices)}{hint}")
    return value


def _choices(schema: dict[str, Any], table: Callable[[], list[str]]) -> None:
    schema |= {"type": "string", "enum": table()}


def _estimators() -> list[str]:
    from calib.ranges import ESTIMATORS  # here: the tables load numpy and scipy

    return list(ESTIMATORS)


def _decoders() -> list[str]:
    from calib.outputs import DECODERS

    return list(DECODERS)


def _metrics_elsewhere() -> Mapping[str, str]:
    from calib.metrics import METRICS_ELSEWHERE

    return METRICS_ELSEWHERE


def _metrics() -> list[str]:
    from calib.metrics import METRICS

    return list(METRICS)
