"""What ``calib compare`` found: the content of its JSON."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from calib.values.facts import ModelFacts
from calib.values.frozen import SCHEMA_VERSION, Frozen, Shown, counted, decibels
from calib.values.pictures import PictureFacts


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


class Comparison(Shown):
    """What ``calib compare`` found: where two models differ, layer by layer."""

    schema_version: int = Field(default=SCHEMA_VERSION, description="Version of this schema")
    calib_version: str = Field(description="Version of calib that made this")
    before: ModelFacts = Field(description="The first model")
    after: ModelFacts = Field(description="The second model")
    data: str = Field(description="Where the samples come from")
    samples: int = Field(description="Number of samples")
    layers: list[LayerComparison] = Field(default=[], description="Layers in topological order")
    pictures: list[PictureFacts] = Field(
        default=[], description="Samples that change most, drawn into a folder beside the page"
    )
    pictures_note: str = Field(default="", description="Why no sample is drawn, where pictures were asked for")
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

    @property
    def both(self) -> str:
        """Names of the two models, or their paths where the names are the same: each folder may hold a model.xml."""
        before, after = self.before, self.after
        alike = before.name == after.name and before.source and after.source
        return f"{before.source} → {after.source}" if alike else f"{before.name} → {after.name}"

    def _said(self) -> str:
        outputs = ", ".join(f"{name} {decibels(value)}" for name, value in self.output_sqnr_db.items())
        jump = f", the error first jumps at {self.first_jump}" if self.first_jump else ", no jump of the error"
        if all(layer.sqnr_db is None for layer in self.layers):
            jump = ", no layer can be looked at"
        on = f"{counted(len(self.layers), 'layer')} on {counted(self.samples, 'sample')}"
        return f"{self.both}, {on}: {outputs or 'no outputs'}{jump * bool(self.layers)}"

    def _rows(self) -> list[tuple[str, ...]]:
        """Return the layers that lose most, those first."""
        rows: list[tuple[str, ...]] = [("layer", "SQNR", "lost", "runs in")]
        for one in sorted(self.layers, key=lambda layer: -layer.jump_db):
            runs = f"{one.executed_before or '?'} → {one.executed_after or '?'}"
            rows.append((one.name, decibels(one.sqnr_db), decibels(one.jump_db) if one.jump_db else "", runs))
        return rows
