"""The data set of an Accuracy Checker configuration as samples: images preprocessed as it says, with annotations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.accuracy_check.annotated import Annotated, Masks, Pending, Pictures, Places, read_pending
from calib.accuracy_check.build import Input, Judgement, build
from calib.accuracy_check.preprocess import auto_resize, require_opencv, stretched_later
from calib.accuracy_check.values import Judged, Seen
from calib.errors import CalibError, DataError, UsageError
from calib.samples.content import choose_ids, number_duplicates
from calib.samples.feed import Arrays, normalize_feed
from calib.samples.files import confined
from calib.samples.sample import InputSpec, Sample
from calib.samples.source import Source
from calib.values.detections import ImageGeometry

_EMPTY = np.zeros((0, 0, 0), np.uint8)

# What an input that is no image is given, by its type.
_SIZES: dict[str, Callable[[Input, Seen], Any]] = {
    "CONST_INPUT": lambda one, _: one.value,
    "IMAGE_INFO": lambda _, seen: list(seen.info or (*seen.pixels.shape[:2], 1)),
    "ORIG_IMAGE_INFO": lambda _, seen: [*seen.original, 1],
}


def open_accuracy_check(source: Source) -> CheckedDataset:
    """Return the samples of a configuration, ``accuracy-check:FILE?source=FOLDER&definitions=FILE…``.

    Raises:
        ConfigError: The configuration asks for something that is not supported; all of it is listed.
        DataError: A file of the data set is missing or wrong.
        MissingExtraError: OpenCV is not installed.
    """
    options = source.options
    if "source" not in options:
        raise UsageError(f"{source.text}: give the folder of the data sets: --source DIR, or ?source=DIR")
    definitions = source.existing(options["definitions"]) if "definitions" in options else None
    made = build(source.path, definitions, options.get("dataset", ""), options.get("metric", ""))
    require_opencv()
    annotations = source.existing(options["annotations"]) if "annotations" in options else None
    places = Places(source.existing(options["source"]), annotations, made.entry.folders)
    return CheckedDataset(source, made, places, made.convert(places, made.entry.dataset))


class CheckedDataset:
    """Images of a data set, read and preprocessed one at a time."""

    def __init__(self, source: Source, judgement: Judgement, places: Places, annotated: Annotated):
        self._text, self._judgement, self._labels = source.text, judgement, annotated.labels
        self._specs = tuple(source.inputs)
        self._image = _image_input(self._specs, judgement.image, source.text)
        self._others = {one.name: one for one in judgement.inputs}
        self._steps = [self._fitted(step) if step is stretched_later else step for step in judgement.before]
        name = judgement.entry.dataset.get("data_source")
        self._root = places.find(str(name), folder=True) if name else places.source
        self._roots = [one.resolve() for one in (places.source, places.annotations) if one is not None]
        if not annotated.rows:
            raise DataError(f"{source.text}: the annotations name no image")
        self._rows: dict[str, tuple[str, Pending]] = {}
        rows = annotated.rows
        ids = number_duplicates([(row[0], str(position)) for position, row in enumerate(rows)])
        for one, row in zip(ids, rows, strict=True):
            self._rows[one] = row
        self._check_files([row[0] for row in rows])
        self.class_folders: Mapping[str, int] = {}
        self.notes: Sequence[str] = (
            f"{source.text}: images are read, preprocessed and judged as Accuracy Checker does by this file, "
            f"data set {judgement.entry.dataset.get('name')!r}; no other preprocessing is applied",
        )

    def _check_files(self, names: Sequence[str]) -> None:
        missing = [name for name in names if "\0" in name or not (self._root / name).exists()]
        if missing:
            raise DataError(
                f"{self._text}: no image {missing[0]!r} in {self._root} ({len(missing)} of {len(names)} are missing). "
                "Give the folder of the data sets: --source DIR"
            )

    def _fitted(self, _: Any) -> Any:
        height, width = _sides(self._specs[self._image])
        if height is None or width is None:
            raise DataError(
                f"{self._text}: auto_resize needs an input of fixed size, and it is {self._specs[self._image]}"
            )
        return auto_resize(height, width)

    @property
    def source(self) -> str:
        """Description of the data, for messages and reports."""
        return self._text

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Sample]:
        return self.load(list(self._rows))

    def choose(self, count: int | None, salt: str = "") -> Sequence[str]:
        """Return the sorted ids of ``count`` samples, or all for None, chosen by a hash; fewer if there are fewer."""
        return choose_ids(self._rows, count, salt)

    def reading_order(self, ids: Sequence[str]) -> Sequence[str]:
        """Return the ids as they are: each can be read by itself."""
        return ids

    def load(self, ids: Sequence[str]) -> Iterator[Sample]:
        """Yield the samples with these ids, in this order.

        Raises:
            DataError: An id is unknown, or an image or its annotation can't be read or does not fit the model.
        """
        for one in ids:
            if one not in self._rows:
                raise DataError(f"{self._text}: no sample with the id {one!r} ({len(self._rows)} samples)")
            name, pending = self._rows[one]
            where = f"{name} of {self._text}"
            try:
                yield self._sample(one, name, pending, where)
            except CalibError as error:
                said = str(error)
                raise DataError(said if said.startswith(where) else f"{where}: {said}") from error

    def _sample(self, one: str, name: str, pending: Pending, where: str) -> Sample:
        path = confined(self._root / name, self._root, where, "Put it into the folder of the data source")
        pixels = self._judgement.read(path)
        seen = Seen(pixels, (pixels.shape[0], pixels.shape[1]))
        for step in self._steps:
            step(seen)
        array = _as_input(seen.pixels, self._specs[self._image])
        feed = self._feed(array, seen, where)
        network = (seen.pixels.shape[0], seen.pixels.shape[1])
        if isinstance(pending, Masks | Pictures):
            # A suffix or prefix of the configuration, or a line of a list, may hold "..".
            root = next((one for one in self._roots if pending.path.resolve().is_relative_to(one)), self._roots[0])
            confined(pending.path, root, where, "Put it into the folder of the data sets, --source or --annotations")
        target = Judged(read_pending(pending), replace(seen, pixels=_EMPTY), network, self._labels)
        geometry = ImageGeometry.of_size(*seen.original).resized(*network)
        return Sample(feed, target, one, where, geometry)

    def _feed(self, array: NDArray[Any], seen: Seen, where: str) -> Arrays:
        arrays: dict[str, Any] = {}
        for position, spec in enumerate(self._specs):
            if position == self._image:
                arrays[spec.name] = array
                continue
            known = next((name for name in self._others if name in (spec.name, *spec.names)), None)
            if known is None:
                raise DataError(f"input {spec} is no image, and the configuration's 'inputs' do not name it")
            value = _SIZES[self._others[known].kind](self._others[known], seen)
            fixed = [size or 1 for size in spec.shape]
            arrays[spec.name] = np.resize(np.asarray(_numbers(value), spec.dtype), fixed)
        return normalize_feed(arrays, self._specs, where)[0]


def _numbers(value: Any) -> Any:
    return [float(one) for one in value.strip("[]()").split(",")] if isinstance(value, str) else value


def _image_input(specs: Sequence[InputSpec], name: str, text: str) -> int:
    """Return the position of the input that takes the image."""
    named = [i for i, spec in enumerate(specs) if name and name in (spec.name, *spec.names)]
    images = named or [i for i, spec in enumerate(specs) if len(spec.shape) == 4]
    if len(images) != 1:
        raise DataError(
            f"{text}: {len(images)} inputs of the model take images, and the configuration gives one: "
            f"{', '.join(map(str, specs))}"
        )
    return images[0]


def _planes_first(spec: InputSpec) -> bool:
    if spec.layout in ("NCHW", "NHWC"):
        return spec.layout == "NCHW"
    return not (spec.shape[3] in (1, 3, 4) and spec.shape[1] not in (1, 3, 4))


def _sides(spec: InputSpec) -> tuple[int | None, int | None]:
    return (spec.shape[2], spec.shape[3]) if _planes_first(spec) else (spec.shape[1], spec.shape[2])


def _as_input(pixels: NDArray[Any], spec: InputSpec) -> NDArray[Any]:
    """Return an image ``(H, W, C)`` in the layout and type of an input, with a batch axis."""
    array = pixels.transpose(2, 0, 1) if _planes_first(spec) else pixels
    return np.ascontiguousarray(array.astype(spec.dtype))[None]
