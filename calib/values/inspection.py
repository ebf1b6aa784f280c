"""What ``calib inspect`` found: the content of its JSON."""

from __future__ import annotations

from collections import Counter

from pydantic import Field

from calib.values.facts import LayerFacts, ModelFacts
from calib.values.frozen import SCHEMA_VERSION, Shown, counted


class Inspection(Shown):
    """What ``calib inspect`` found: every layer that could run in INT8, and what it will run in."""

    schema_version: int = Field(default=SCHEMA_VERSION, description="Version of this schema")
    calib_version: str = Field(description="Version of calib that made this")
    model: ModelFacts = Field(description="The model")
    quantized: bool = Field(
        description="Whether the model holds FakeQuantize already; if so, its layers say what they execute in"
    )
    layers: list[LayerFacts] = Field(default=[], description="Layers in topological order")
    notes: list[str] = Field(default=[], description="Remarks, one sentence or more each")

    def _said(self) -> str:
        ran = Counter(layer.executed or layer.planned for layer in self.layers)
        counts = ", ".join(f"{count} in {precision}" for precision, count in sorted(ran.items()))
        state = "quantized" if self.quantized else "not quantized"
        return f"{self.model.name}, {state}: {counted(len(self.layers), 'layer')}{f', {counts}' if counts else ''}"

    def _rows(self) -> list[tuple[str, ...]]:
        rows: list[tuple[str, ...]] = [("layer", "type", "runs in", "why in floating point")]
        rows += [(one.name, one.type, one.executed or one.planned, one.reason) for one in self.layers]
        return rows
