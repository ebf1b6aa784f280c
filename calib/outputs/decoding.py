"""Decode the outputs of a sample, and take the result back to the original image, in the form that metrics read."""

from __future__ import annotations

from dataclasses import dataclass, is_dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.errors import CalibError, MetricError, one_line
from calib.outputs.decoder import Arrays, Decoded, Decoder, ModelFacts
from calib.outputs.postprocess import BoxSteps, map_in_original
from calib.values.detections import Detections, ImageGeometry


@dataclass(frozen=True)
class Decoding:
    """How the outputs of a model are decoded.

    Attributes:
        name: Name of the decoder.
        gives: What it makes of the outputs: "boxes", "scores", "class map" or "text".
        decoder: Decoder, see `calib.outputs.decoder.Decoder`.
        facts: What is known of the model.
        steps: What is done with boxes afterwards; None for the usual if the decoder gives any.
        sentence: What was chosen and why, for the report.
    """

    name: str
    gives: str
    decoder: Decoder
    facts: ModelFacts
    steps: BoxSteps | None
    sentence: str

    @property
    def identity(self) -> str:
        """Everything that the results depend on besides the outputs, and the code of an object of the user's."""
        options = repr(self.decoder) if is_dataclass(self.decoder) else ""
        return f"{self.name} {options} {self.steps!r}"

    def decode(self, outputs: Arrays, size: tuple[int, int], geometry: ImageGeometry | None = None) -> Decoded:
        """Return what the outputs of one sample mean, boxes and class maps in the original image.

        Args:
            outputs: Outputs of the model, in order.
            size: Height and width of the network's input for this sample.
            geometry: How the original image became the input; None if the input is the image, as far as is known.

        Raises:
            MetricError: The outputs can't be decoded.
        """
        # What a broken network gives is measured, not warned of: values that are not finite are no detections.
        with np.errstate(invalid="ignore", over="ignore", divide="ignore", under="ignore"):
            try:
                found = self.decoder.decode([np.asarray(array) for array in outputs], self.facts, size)
            except CalibError:
                raise
            except Exception as error:
                raise MetricError(f"decode {self.name}: {type(error).__name__}: {one_line(error)}") from error
            if isinstance(found, Detections):
                steps = self.steps or BoxSteps(score=0.0, nms=0.0, most=0)
                return steps.apply(found, geometry or ImageGeometry(size, size))
            if self.gives == "class map" and geometry is not None:
                return map_in_original(np.asarray(found), geometry)
        return found

    def outputs(self, outputs: Arrays, size: tuple[int, int], geometry: ImageGeometry | None) -> list[NDArray[Any]]:
        """Return the same as arrays in the form that metrics read: in place of the model's outputs.

        Boxes ``(N, 4)``, scores ``(N,)`` and labels ``(N,)``; a class map ``(1, H, W)``; class scores ``(1, C)``;
        class ids ``(1, T)``; or a text as an array of one string.
        """
        found = self.decode(outputs, size, geometry)
        if isinstance(found, Detections):
            return [found.boxes, found.scores, found.labels]
        if isinstance(found, str):
            return [np.array([found])]
        return [found[None] if self.gives == "class map" else found]
