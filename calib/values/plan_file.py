"""Plans as JSON files: equal plans give equal bytes, and a file is checked when it is read."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any, cast

from pydantic import TypeAdapter, ValidationError

from calib.errors import StatisticsError
from calib.values.plan import QuantizationPlan

PLAN_VERSION = 1

_MOST_BYTES = 256 << 20  # a plan of 10,000 layers has about 10 MiB


def plan_to_json(plan: QuantizationPlan) -> str:
    """Return the plan as JSON; sets are sorted, so that equal plans give equal text."""
    content = {"plan_version": PLAN_VERSION, "plan": plan}
    return json.dumps(content, default=_plain, indent=1, ensure_ascii=False) + "\n"


def plan_from_json(text: str, source: str) -> QuantizationPlan:
    """Return the plan in JSON text; ``source`` names the text in errors.

    Raises:
        StatisticsError: It is not a plan, or of another version.
    """
    try:
        read: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise StatisticsError(f"{source} is no plan: no JSON ({error}). Make one with 'calib quantize'.") from error
    content = cast(dict[str, Any], read) if isinstance(read, dict) else {}
    version = content.get("plan_version")
    if version is None:
        raise StatisticsError(f"{source} is no plan: it has no plan_version. Make one with 'calib quantize'.")
    if version != PLAN_VERSION:
        raise StatisticsError(f"{source} has plan_version {version!r}; this calib reads {PLAN_VERSION}. Make it again.")
    try:
        plan = _adapter().validate_python(content.get("plan"))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise StatisticsError(f"{source} is damaged: {place}: {first['msg']}. Make the plan again.") from error
    if wrong := next(_wrong_numbers(plan), ""):
        raise StatisticsError(f"{source} is damaged: {wrong}. Make the plan again.")
    return plan


def _wrong_numbers(plan: QuantizationPlan) -> Iterator[str]:
    """Yield numbers that a plan can't hold: with NaN as a limit OpenVINO would silently compute nonsense."""
    for quantizer in plan.activations:
        ends = [(quantizer.range.low, quantizer.range.high)] if quantizer.range else []
        for low, high in (*ends, *quantizer.channel_ranges):
            if not (math.isfinite(low) and math.isfinite(high) and low <= high):
                yield f"the range of {quantizer.tensor} is {low:g} to {high:g}"
    for one in plan.recurrent:
        if not all(0 < number < math.inf for number in (one.high, one.divisor)):
            yield f"the range of {one.name} reaches to {one.high:g}, its divisor is {one.divisor:g}: neither positive"
    for what, levels in [
        *((q.tensor, q.levels) for q in plan.activations),
        *((w.port, w.levels) for w in plan.weights),
        *((one.name, one.levels) for one in plan.recurrent),
    ]:
        if not 2 <= levels <= 256:
            yield f"the quantizer on {what} has {levels} levels, and INT8 has 2 to 256"
    for weight in plan.weights:
        if not all(0 < share <= 1 for share in weight.clip):
            yield f"clip of {weight.port} is a share of 0 to 1 of each magnitude"
    for scaling in plan.scalings:
        if not all(0 < factor < math.inf for factor in scaling.factors):
            yield f"the factors of {scaling.tensor} have to be positive numbers"


def read_plan(path: str | Path) -> QuantizationPlan:
    """Read a plan file.

    Raises:
        StatisticsError: It can't be read, or is not a plan.
    """
    try:
        with open(path, "rb") as file:
            raw = file.read(_MOST_BYTES + 1)
        if len(raw) > _MOST_BYTES:
            raise StatisticsError(f"{path} is no plan: larger than {_MOST_BYTES >> 20} MiB.")
        return plan_from_json(raw.decode("utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise StatisticsError(f"the plan {path} can't be read: {error}") from error


@cache
def _adapter() -> TypeAdapter[QuantizationPlan]:
    return TypeAdapter(QuantizationPlan)


def _plain(value: Any) -> Any:
    """Return a dataclass as a mapping and a set as a sorted list, one level at a time, for ``json.dumps``."""
    if isinstance(value, frozenset):
        return sorted(cast(frozenset[Any], value))
    return {field.name: getattr(value, field.name) for field in fields(value)}
