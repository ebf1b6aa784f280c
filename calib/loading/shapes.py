"""Whether a feed's shapes go through a dynamic model: OpenVINO's kernels do not always look.

A MatMul ``[?,?] · [6,4]`` takes a feed of ``[1,5]`` without a word on the CPU and reads beyond its end; shape inference
on the same shapes refuses it. So every distinct set of shapes is inferred once, before it runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from calib.errors import DataError
from calib.runtime.session import ov
from calib.samples.sample import Dataset, Sample


def checked_shapes(dataset: Dataset, model: ov.Model) -> Dataset:
    """Return the dataset, with samples checked as they are loaded if an input of the model is dynamic.

    Stateful models are left alone: what their state holds when a sample arrives decides, too.
    """
    check = ShapeCheck(model)
    return CheckedShapes(dataset, check) if check.needed else dataset


class ShapeCheck:
    """Refuses feeds whose shapes no layer of a model can take; every distinct set of shapes is inferred once."""

    def __init__(self, model: ov.Model):
        self._model = model
        self._sound: set[tuple[tuple[int, ...], ...]] = set()
        self.needed = any(port.get_partial_shape().is_dynamic for port in model.inputs) and not model.get_sinks()

    def __call__(self, feed: Sequence[Any], where: str) -> None:
        """Check the arrays of one sample, in input order.

        Raises:
            DataError: they do not go through the model; ``where`` names the sample.
        """
        shapes = tuple(tuple(array.shape) for array in feed)
        if not self.needed or shapes in self._sound:
            return
        try:  # on a clone: a model whose reshape failed is of no use any more
            self._model.clone().reshape({i: ov.PartialShape(list(shape)) for i, shape in enumerate(shapes)})
        except RuntimeError as error:
            given = ", ".join(str(list(shape)).replace(" ", "") for shape in shapes)
            raise DataError(
                f"{where}: no layer can take a feed of shape {given} ({_reason(error)}). "
                "Give samples of the shape that the model was made for"
            ) from error
        self._sound.add(shapes)


class CheckedShapes:
    """Wraps a dataset; a sample whose shapes no layer can take raises DataError when it is loaded."""

    def __init__(self, dataset: Dataset, check: ShapeCheck):
        self._dataset = dataset
        self._check = check

    @property
    def source(self) -> str:
        """What it was made from."""
        return self._dataset.source

    def __len__(self) -> int:
        return len(self._dataset)

    def __iter__(self) -> Iterator[Sample]:
        return map(self._checked, self._dataset)

    def choose(self, count: int | None, salt: str = "") -> Sequence[str]:
        """Choose as the dataset does."""
        return self._dataset.choose(count, salt)

    def load(self, ids: Sequence[str]) -> Iterator[Sample]:
        """Yield the samples with these ids, in this order.

        Raises:
            DataError: a sample does not go through the model.
        """
        return map(self._checked, self._dataset.load(ids))

    def _checked(self, sample: Sample) -> Sample:
        feed: Any = sample.feed
        self._check(feed, sample.where or sample.id)
        return sample


def _reason(error: RuntimeError) -> str:
    """Return the node and the rule of OpenVINO's message, which spreads over lines with places in its sources."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    useful = [line for line in lines if not line.startswith(("Exception from", "Check '"))]
    return "; ".join(useful or lines)[:300].rstrip(".")
