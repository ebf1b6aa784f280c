"""Types of settings: numbers with units as text, one value or several, and what is refused."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.json_schema import WithJsonSchema

_UNITS_OF_TIME = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DROP = re.compile(r"\s*(\d+\.?\d*(?:e[-+]?\d+)?|\.\d+(?:e[-+]?\d+)?)\s*(pt|%\s*rel|%|)\s*", re.IGNORECASE)
_UNITS_OF_MEMORY = {"b": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40}
_UNITS_OF_MEMORY |= {"kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}


def parse_duration(value: Any) -> Any:
    """Return seconds for "90s", "30m", "2h" or "1h30m"; a number is seconds already.

    Raises:
        ValueError: The text is not a duration.
    """
    if not isinstance(value, str) or re.fullmatch(r"\d+(\.\d+)?", value.strip()):
        return value
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*([smhd])\s*", text := value.strip().lower())
    if not parts or not re.fullmatch(r"(?:\d+(?:\.\d+)?\s*[smhd]\s*)+", text):
        raise ValueError("must be a time such as 90s, 30m, 2h or 1h30m")
    return sum(float(number) * _UNITS_OF_TIME[unit] for number, unit in parts)


def parse_memory(value: Any) -> Any:
    """Return bytes for "512MiB", "2GiB" or "1.5 GB"; a number is bytes already.

    Raises:
        ValueError: The text is not an amount of memory.
    """
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?i?b)", value.strip().lower())
    if not match or match[2] not in _UNITS_OF_MEMORY:
        raise ValueError("must be an amount of memory such as 512MiB or 2GiB")
    return int(float(match[1]) * _UNITS_OF_MEMORY[match[2]])


def parse_drops(value: Any) -> float | str:
    """Return a drop as `parse_drop` does, or "top-1=0.01,f1=0.5pt" for a budget by metric, given so or as a mapping.

    Raises:
        ValueError: A budget is none, a metric is named twice, or there is no name.
    """
    if isinstance(value, Mapping):
        given = [(str(name), drop) for name, drop in cast(Mapping[Any, Any], value).items()]
    elif isinstance(value, str) and "=" in value:
        pieces = [piece.rpartition("=") for piece in value.split(",")]
        given = [(name.strip(), drop.strip()) for name, _, drop in pieces]
    else:
        return parse_drop(value)
    names = [name for name, _ in given]
    if not all(names):
        raise ValueError("must name the metric of each budget, such as top-1=0.01,f1=0.5pt")
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"gives {twice[0]} two budgets")
    return ",".join(f"{name}={parse_drop(drop)}" for name, drop in given)


def parse_references(value: Any) -> float | str:
    """Return a number, or "top-1=0.76,f1=0.5" for a value by metric, given so or as a mapping.

    Raises:
        ValueError: A value is no finite number, a metric is named twice, or there is no name.
    """
    if isinstance(value, Mapping):
        given = [(str(name), number) for name, number in cast(Mapping[Any, Any], value).items()]
    elif isinstance(value, str) and "=" in value:
        pieces = [piece.rpartition("=") for piece in value.split(",")]
        given = [(name.strip(), number) for name, _, number in pieces]
    else:
        return _finite(value)
    names = [name for name, _ in given]
    if not all(names) or len(set(names)) < len(names):
        raise ValueError("must name each metric once, such as top-1=0.76,f1=0.5")
    return ",".join(f"{name}={_finite(number)!r}" for name, number in given)


def _finite(value: Any) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError("must be a number, or a number by metric such as top-1=0.76,f1=0.5")
    return number


def by_metric(text: float | str | None) -> dict[str, float]:
    """Return the number by metric of what `parse_references` returned; a single one is under ""; {} without any."""
    if text is None:
        return {}
    named = [piece.rpartition("=") for piece in text.split(",")] if isinstance(text, str) else [("", "", text)]
    return {name: float(number) for name, _, number in named}


def allowed_drops(text: str | float | None, kind: Literal["absolute", "relative"]) -> dict[str, AllowedDrop]:
    """Return the budget by metric of what `parse_drops` returned; a single one is under ""; {} without any.

    Args:
        text: Budget or budgets.
        kind: Kind of those without a unit.
    """
    if text is None:
        return {}
    named = [piece.rpartition("=") for piece in text.split(",")] if isinstance(text, str) else [("", "", text)]
    return {name: _allowed_drop(drop, kind) for name, _, drop in named}


def _allowed_drop(drop: str | float, kind: Literal["absolute", "relative"]) -> AllowedDrop:
    if isinstance(drop, str) and drop.endswith(("pt", "%rel")):
        points = drop.endswith("pt")
        number = float(drop.removesuffix("pt").removesuffix("%rel")) / 100
        return AllowedDrop(number, "absolute" if points else "relative", points)
    return AllowedDrop(float(drop), kind)


def parse_drop(value: Any) -> float | str:
    """Return a number for 0.01 and "0.01"; "0.5pt" (points of a fraction) and "1%rel" (of the baseline) stay text.

    Raises:
        ValueError: The value is none of these, or a bare percentage, which could mean either.
    """
    match = _DROP.fullmatch(str(value))
    if isinstance(value, bool) or not match or math.isinf(float(match[1])):
        raise ValueError("must be a number such as 0.01, 0.5pt (percentage points) or 1%rel (of the FP32 baseline)")
    number, unit = match[1], match[2].replace(" ", "").lower()
    if unit == "%":
        raise ValueError(
            f"could mean two things: {number}pt allows {number} percentage point{'s' * (number != '1')} of the "
            f"metric, "
            f"{number}%rel allows {number} % of the FP32 baseline"
        )
    return f"{number}{unit}" if unit else float(number)


class AllowedDrop(NamedTuple):
    """The accuracy budget as a number.

    Attributes:
        value: Largest drop in the metric's unit, or as a fraction of the baseline.
        kind: What the value is.
        points: Whether it was given in percentage points, which only a metric that is a fraction has.
    """

    value: float
    kind: Literal["absolute", "relative"]
    points: bool = False


def _no_bool(value: Any) -> Any:
    """Refuse a bool, which pydantic would accept as a number."""
    if isinstance(value, bool):
        raise ValueError("must be a number")
    return value


def _pair(value: Any) -> Any:
    """Turn one number into height and width."""
    return (value, value) if isinstance(value, int) and not isinstance(value, bool) else value


def _numbers(value: Any) -> Any:
    """Turn one number into a tuple for all channels."""
    return (value,) if isinstance(value, int | float) and not isinstance(value, bool) else value


def lower_case(value: Any) -> Any:
    """Return text in lower case, and everything else as it is."""
    return value.lower() if isinstance(value, str) else value


def _one_pattern_is_a_list(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


# The last of several BeforeValidators runs first; constraints stand before them, so that they reach the JSON Schema.
Count = Annotated[int, Field(ge=1), BeforeValidator(_no_bool)]
Number = Annotated[float, BeforeValidator(_no_bool)]
Decibels = Annotated[float, Field(gt=0, le=200), BeforeValidator(_no_bool)]
Factor = Annotated[float, Field(gt=0), BeforeValidator(_no_bool)]
Share = Annotated[float, Field(ge=0, le=0.9), BeforeValidator(_no_bool)]
Side = Annotated[int, Field(ge=1, le=65536), BeforeValidator(_no_bool)]
Size = Annotated[
    tuple[Side, Side],
    BeforeValidator(_pair),
    WithJsonSchema({"type": ["integer", "array"], "items": {"type": "integer"}, "minItems": 2, "maxItems": 2}),
]
Channels = Annotated[
    tuple[Number, ...],
    Field(min_length=1, max_length=4096),
    BeforeValidator(_numbers),
    WithJsonSchema({"type": ["number", "array"], "items": {"type": "number"}, "minItems": 1, "maxItems": 4096}),
]
Seconds = Annotated[
    float,
    Field(gt=0),
    BeforeValidator(_no_bool),
    BeforeValidator(parse_duration),
    WithJsonSchema({"type": ["number", "string"], "exclusiveMinimum": 0}),
]
Bytes = Annotated[
    int,
    Field(ge=1 << 20),
    BeforeValidator(_no_bool),
    BeforeValidator(parse_memory),
    WithJsonSchema({"type": ["integer", "string"], "minimum": 1 << 20}),
]
Drop = Annotated[
    float | str,
    BeforeValidator(parse_drops),
    WithJsonSchema(
        {
            "type": ["number", "string", "object"],
            "minimum": 0,
            "additionalProperties": {"type": ["number", "string"], "minimum": 0},
        }
    ),
]
Reference = Annotated[
    float | str,
    BeforeValidator(parse_references),
    WithJsonSchema({"type": ["number", "string", "object"], "additionalProperties": {"type": ["number", "string"]}}),
]
Patterns = Annotated[
    tuple[str, ...],
    BeforeValidator(_one_pattern_is_a_list),
    WithJsonSchema({"type": ["string", "array"], "items": {"type": "string"}}),
]


class Checked(BaseModel):
    """Base class of settings: frozen, finite, and without unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True)
