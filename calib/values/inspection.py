"""What ``calib inspect`` found: the content of its JSON."""

from __future__ import annotations

from pydantic import Field

from calib.values.facts import LayerFacts, ModelFacts
from calib.values.frozen import SCHEMA_VERSION, Frozen


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
