"""Interface of decoders, and what they know of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from calib.errors import MetricError
from calib.values.compared import Window
from calib.values.detections import Detections

Arrays = Sequence[NDArray[Any]]
Decoded = Detections | NDArray[Any] | str


@dataclass(frozen=True)
class OutputFact:
    """One output of a model.

    Attributes:
        names: Names of its tensor, and of the operation that gives it.
        shape: Shape, with None for axes of unknown length; empty if the rank is unknown.
        dtype: Type of its values.
        made_by: Type of the operation that gives it, such as "DetectionOutput".
        attributes: That operation's attributes, such as the anchors of a RegionYolo.
        bound: Function that made its values probabilities, "Sigmoid" or "Softmax"; "" if none did.
    """

    names: tuple[str, ...]
    shape: tuple[int | None, ...]
    dtype: np.dtype[Any]
    made_by: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    bound: str = ""

    @property
    def name(self) -> str:
        """First of its names."""
        return self.names[0] if self.names else "?"

    @property
    def real(self) -> bool:
        """Whether its values are floating-point numbers."""
        return self.dtype.kind == "f"

    def __str__(self) -> str:
        sizes = ",".join("?" if size is None else str(size) for size in self.shape)
        return f"{self.name!r} [{sizes}]"


@dataclass(frozen=True)
class ModelFacts:
    """What a decoder knows of a model.

    Attributes:
        outputs: Its outputs, in order.
        size: Height and width of its image input; None where unknown.
        info: Entries of the group ``model_info`` of the model's runtime information, as text.
        image: Position of that input, and whether its channels are the second axis; None if no input is an image.
    """

    outputs: tuple[OutputFact, ...]
    size: tuple[int | None, int | None] = (None, None)
    info: Mapping[str, str] = field(default_factory=dict)
    image: tuple[int, bool] | None = None

    @property
    def labels(self) -> int | None:
        """Number of classes that ``model_info`` names; None if it names none."""
        return len(self.info["labels"].split()) if self.info.get("labels", "").strip() else None

    def size_of(self, feed: Arrays) -> tuple[int, int]:
        """Return the height and width of the image in a feed, arrays in input order; (1, 1) if there is none."""
        if self.image is None:
            return 1, 1
        position, planes_first = self.image
        sizes = feed[position].shape[2:] if planes_first else feed[position].shape[1:3]
        return int(sizes[0]), int(sizes[1])

    @property
    def only_table(self) -> OutputFact | None:
        """The only real-valued output of three axes; None if there are none or several."""
        found = [output for output in self.outputs if output.real and len(output.shape) == 3]
        return found[0] if len(found) == 1 else None

    @property
    def table_with_objectness(self) -> tuple[OutputFact, int | None, int] | None:
        """The only table with its rows and columns, if these are a box, an objectness and classes (those named)."""
        output = self.only_table
        if output is None:
            return None
        rows, columns = output.shape[1:]
        if columns is None or columns < 6 or (self.labels is not None and columns != 5 + self.labels):
            return None
        return output, rows, columns


@dataclass(frozen=True)
class Match:
    """Why a model's outputs are those of a family.

    Attributes:
        reason: What was seen, as the end of a sentence.
        options: Options that follow from it.
        sure: Whether an operation of the model tells it, and not only shapes.
    """

    reason: str
    options: Mapping[str, Any] = field(default_factory=dict)
    sure: bool = False


class Decoder(Protocol):
    """Turns the outputs of one sample into boxes, scores, a class map or a text.

    A decoder of the table is a frozen dataclass: its fields are the options that may follow its name, each with a
    default, and its attribute ``postprocessing`` holds those defaults of the postprocessing that are its own. One given
    as a Python object needs ``decode`` alone.
    """

    @classmethod
    def recognize(cls, facts: ModelFacts) -> Match | None:
        """Return why a model's outputs are of this family; None if they are not."""
        ...

    def decode(self, outputs: Arrays, facts: ModelFacts, size: tuple[int, int]) -> Decoded:
        """Return what the outputs of one sample mean.

        Args:
            outputs: Outputs of the model, in order, with the batch axis of 1.
            facts: What is known of the model.
            size: Height and width of the network's input for this sample, in pixels.

        Returns:
            Detections in pixels of the network's input; scores ``(1, C)``; an integer class map ``(H, W)`` that covers
            the input; or a text, or class ids ``(1, T)``.

        Raises:
            MetricError: The outputs do not have the form of the family.
        """
        ...


@runtime_checkable
class WithParts(Protocol):
    """A decoder of heads that hold boxes and scores in one output, where the graph does not show them apart."""

    def parts(self, facts: ModelFacts) -> list[tuple[int, Window]]:
        """Return the number of an output and the positions in it, for each part that means one thing."""
        ...


def output_of(outputs: Arrays, facts: ModelFacts, name: str, position: int) -> NDArray[Any]:
    """Return the output of a name, or that at a position if the name is empty.

    Raises:
        MetricError: There is no such output.
    """
    if name:
        position = next((i for i, fact in enumerate(facts.outputs) if name in fact.names), -1)
        if name.isdecimal() and position < 0:
            position = int(name)
    if not 0 <= position < len(outputs):
        found = ", ".join(map(str, facts.outputs)) or "none"
        raise MetricError(f"decode: there is no output {name or position!r}; the model's outputs: {found}")
    return np.asarray(outputs[position])


def refuse(family: str, reads: str, outputs: Arrays) -> MetricError:
    """Return the error for outputs that do not have the form of a family."""
    shapes = ", ".join(f"{list(np.shape(array))} {np.asarray(array).dtype}" for array in outputs) or "none"
    return MetricError(
        f"decode {family}: reads {reads}; the outputs are {shapes}. See 'calib help decoders' for other families, or "
        "give a metric of your own (python:module:function)"
    )


def without_batch(array: NDArray[Any], rank: int) -> NDArray[Any]:
    """Return an array of a rank without leading axes of 1 beyond it; it keeps what can't be left out."""
    while array.ndim > rank and array.shape[0] == 1:
        array = array[0]
    return array
