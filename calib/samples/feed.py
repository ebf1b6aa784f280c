"""Convert a user's samples to the arrays that the model takes, one sample at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.errors import DataError
from calib.samples.sample import Arrays, Frames, InputSpec, Sample
from calib.samples.sample import Sequence as FrameSequence

Splits = Callable[[Arrays, Sequence[Arrays] | None], bool]
"""Function of a feed whose first axis is dynamic, and of the same feed as rows of 1 (None if it can't be taken apart):
whether the rows are samples of their own."""


def as_batch(_whole: Arrays, _rows: Sequence[Arrays] | None) -> bool:
    """Return True: the rows of every feed are samples of their own."""
    return True


def as_one(_whole: Arrays, _rows: Sequence[Arrays] | None) -> bool:
    """Return False: every feed is one sample, whatever its number of rows."""
    return False


def feed_of(sample: Sample) -> Arrays | Frames:
    """Return the feed of a sample that a dataset gave: a tuple in input order, or the frames of a sequence."""
    assert isinstance(sample.feed, tuple)  # normalize_feed made it
    return sample.feed


def arrays_of(sample: Sample) -> Arrays:
    """Return all arrays of a sample that a dataset gave: in input order, and of a sequence frame after frame."""
    feed = feed_of(sample)
    return tuple(array for frame in feed for array in frame) if isinstance(feed, Frames) else feed


def frames_in(feed: Sequence[Any] | Mapping[int, Any]) -> int:
    """Return the number of inferences that a feed takes."""
    return len(feed) if isinstance(feed, Frames) else 1


def split_item(item: Any, inputs: Sequence[InputSpec]) -> tuple[Any, Any]:
    """Return (feed, target) of one item of a user's data; the target is None if there is none.

    With one input a pair is (feed, target). With several a tuple is a feed in input order, and a labelled sample is a
    pair whose first element is itself a tuple, a list or a dict. Lists count as tuples (torch's loaders give lists),
    except a list of plain numbers, which is an array. A pair that starts with a sequence is labelled, too.
    """
    if not isinstance(item, tuple | list) or len(item) != 2:
        return item, None
    first: Any = item[0]
    if isinstance(first, FrameSequence):
        return first, item[1]
    nested = isinstance(first, tuple | Mapping) or (isinstance(first, list) and isinstance(item, tuple))
    if len(inputs) == 1:
        labelled = nested or (
            hasattr(first, "__array__") and (isinstance(item, tuple) or getattr(first, "ndim", 0) > 0)
        )
    else:
        labelled = nested or isinstance(first, list)
    return (first, item[1]) if labelled else (item, None)


def normalize_feed(feed: Any, inputs: Sequence[InputSpec], where: str, splits: Splits = as_batch) -> list[Arrays]:
    """Return the samples in a feed: each a tuple in input order, with the model's dtypes, ranks and batch axis.

    A missing batch axis of 1 is added. If the model's first axis is 1 or dynamic, a feed of N stacked samples becomes N
    samples, unless ``splits`` says of a dynamic axis that it is none of samples. With a fixed batch above 1, a feed
    must have that batch and is one sample. Dynamic axes may be of length 0: the past of a first step, boxes of an image
    without objects.

    Args:
        feed: Array (for one input), tuple in input order, or dict by input name.
        inputs: Inputs of the model.
        where: Name of the feed in messages, such as "row 12 of data.npz".
        splits: Function that tells a batch from a sample with several rows.

    Raises:
        DataError: A name, number, rank, shape or dtype does not fit, or a value is not finite.
    """
    arrays = [
        _as_dtype(_as_array(a, spec, where), spec, where)
        for a, spec in zip(_in_order(feed, inputs, where), inputs, strict=True)
    ]
    stacks: list[NDArray[Any]] = []
    for array, spec in zip(arrays, inputs, strict=True):
        stacks.append(_by_sample(array, spec, where))
    count = max((len(stack) for stack in stacks), default=0)
    without_rows = next((spec for stack, spec in zip(stacks, inputs, strict=True) if not len(stack)), None)
    whole = _whole(arrays, inputs) if count > 1 or without_rows else None
    if without_rows is not None:
        if whole is None or splits(whole, None if count else []):
            way_out = "" if whole is None else ", or say that its rows belong to one sample: first_axis=whole"
            raise DataError(f"{where}: input {without_rows} got an array without rows, which holds no sample. "
                            f"Leave it out{way_out}")  # fmt: skip
        return [whole]
    try:
        stacks = [_stretch(stack, count, spec, where) for stack, spec in zip(stacks, inputs, strict=True)]
    except DataError:
        if whole is None or splits(whole, None):
            raise
        return [whole]
    made = [tuple(np.asarray(stack[i], order="C") for stack in stacks) for i in range(count)]
    return [whole] if whole is not None and not splits(whole, made) else made


def _whole(arrays: Sequence[NDArray[Any]], inputs: Sequence[InputSpec]) -> Arrays | None:
    """Return the arrays as one feed where the model can take them so; None if no first axis is dynamic."""
    pairs = list(zip(arrays, inputs, strict=True))
    if not any(spec.shape and spec.shape[0] is None for spec in inputs):
        return None
    if not all(_fits(array.shape, spec.shape) for array, spec in pairs):
        return None  # a new axis in front of the model's own, or one left out
    return tuple(np.asarray(array, order="C") for array in arrays)


def split_target(target: Any, count: int, where: str) -> list[Any]:
    """Return one target for each of the ``count`` samples in a feed.

    Raises:
        DataError: There are several samples, and the target is not a sequence of as many.
    """
    if count == 1 or target is None:
        return [target] * count
    if hasattr(target, "__array__"):
        target = np.asarray(target)
    if isinstance(target, str | Mapping) or _length(target) != count:
        raise DataError(
            f"{where}: the feed holds {count} samples, so its target has to hold {count} too, one for each; "
            f"got {_describe(target)}"
        )
    return [target[i] for i in range(count)]


def _length(value: Any) -> int | None:
    return len(value) if hasattr(value, "__len__") and getattr(value, "ndim", 1) else None


def _describe(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    return repr(value)[:80] if _length(value) is None else f"a {type(value).__name__} of length {len(value)}"


def _in_order(feed: Any, inputs: Sequence[InputSpec], where: str) -> list[Any]:
    if isinstance(feed, Mapping):
        return _by_name(feed, inputs, where)
    if isinstance(feed, tuple) or (isinstance(feed, list) and len(inputs) > 1):
        if len(feed) != len(inputs):
            raise DataError(
                f"{where}: the model has {len(inputs)} input{'s' * (len(inputs) != 1)} ({_listed(inputs)}), and the "
                f"feed is a {type(feed).__name__} of {len(feed)}. Give one array for each input, in this order"
            )
        return list(feed)
    if len(inputs) != 1:
        raise DataError(
            f"{where}: the model has {len(inputs)} inputs ({_listed(inputs)}), and the feed is one "
            f"{type(feed).__name__}. Give a tuple in this order, or a dict by input name"
        )
    return [feed]


def _by_name(feed: Mapping[Any, Any], inputs: Sequence[InputSpec], where: str) -> list[Any]:
    found, used = [], set()
    for spec in inputs:
        name = next((name for name in (spec.name, *spec.names) if name in feed), None)
        if name is None:
            raise DataError(
                f"{where}: nothing for the input {spec.name!r}; the feed has "
                f"{', '.join(map(repr, feed)) or 'no names'}, the model's inputs are {_listed(inputs)}"
            )
        used.add(name)
        found.append(feed[name])
    if extra := [name for name in feed if name not in used]:
        raise DataError(f"{where}: {extra[0]!r} is not an input of the model; its inputs are {_listed(inputs)}")
    return found


def _listed(inputs: Sequence[InputSpec]) -> str:
    return ", ".join(repr(spec.name) for spec in inputs)


def _as_array(value: Any, spec: InputSpec, where: str) -> NDArray[Any]:
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise DataError(f"{where}: the feed of input {spec} is no array: {error}") from error
    text = spec.dtype.kind in "USO"
    if array.dtype.kind in "OVMmc" or (array.dtype.kind in "US") != text:
        takes = "strings" if text else "numbers"
        raise DataError(
            f"{where}: input {spec} needs {takes}, got {type(value).__name__} with dtype {array.dtype}. "
            f"Give numpy arrays of {takes}"
        )
    return array


def _as_dtype(array: NDArray[Any], spec: InputSpec, where: str) -> NDArray[Any]:
    kind = spec.dtype.kind
    if kind == "f":
        with np.errstate(over="ignore"):
            cast = array.astype(spec.dtype, copy=False)
        _check_finite(cast, array, spec, where)
        return cast
    if kind not in "iub" or array.dtype == spec.dtype:
        return array
    if array.dtype.kind == "f":
        raise DataError(
            f"{where}: input {spec} takes integers, got {array.dtype}; OpenVINO would cut the fractions off without a "
            f"word. Round and cast them yourself: x.astype(np.{spec.dtype})"
        )
    cast = array.astype(spec.dtype)
    if not np.array_equal(cast, array):
        odd = array.flat[int(np.flatnonzero((cast != array).ravel())[0])]
        raise DataError(f"{where}: input {spec} can't hold the value {odd} of the {array.dtype} array given")
    return cast


def _check_finite(cast: NDArray[Any], array: NDArray[Any], spec: InputSpec, where: str) -> None:
    finite = np.isfinite(cast)
    if finite.all():
        return
    index = np.unravel_index(int(np.argmin(finite)), finite.shape)
    value = array[index]
    wide = " is too large for it" if np.isfinite(value) else ""
    raise DataError(
        f"{where}: input {spec} got {value} at index {tuple(int(i) for i in index)}{wide} "
        f"({int((~finite).sum())} of {finite.size} values are not finite). Leave this sample out or repair it"
    )


def _batched(shape: Sequence[int | None]) -> bool:
    """Return whether the first axis is a batch axis to unstack: 1, or dynamic with more axes after it."""
    return len(shape) > 0 and (shape[0] == 1 or (shape[0] is None and len(shape) > 1))


def _fits(shape: Sequence[int], spec: Sequence[int | None]) -> bool:
    return len(shape) == len(spec) and all(want is None or got == want for got, want in zip(shape, spec, strict=True))


def _by_sample(array: NDArray[Any], spec: InputSpec, where: str) -> NDArray[Any]:
    """Return the array with a new first axis over samples, followed by the model's own shape."""
    batched = _batched(spec.shape)
    stack = None
    if batched and array.ndim == len(spec.shape) and _fits(array.shape[1:], spec.shape[1:]):
        stack = array[:, None]
    elif not batched and _fits(array.shape, spec.shape):
        stack = array[None]
    elif batched and _fits(array.shape, spec.shape[1:]):
        stack = array[None, None]
    elif array.ndim == len(spec.shape) + 1 and _fits(array.shape[1:], spec.shape):
        stack = array
    if stack is None:
        raise DataError(f"{where}: input {spec} got an array of shape {list(array.shape)}. {_way_out(array, spec)}")
    return stack


def _way_out(array: NDArray[Any], spec: InputSpec) -> str:
    shape = spec.shape
    inner = shape[1:]
    if len(shape) > 0 and shape[0] not in (1, None) and _fits(array.shape[array.ndim - len(inner) :], inner):
        return (
            f"The model's batch is fixed at {shape[0]}: reshape the model to a batch of 1, or stack {shape[0]} samples"
        )
    if not array.size:
        return "It is empty, since an axis has no element: leave it out, or make it again"
    if array.ndim >= 3 and len(shape) == 4 and sorted(array.shape[-3:]) == sorted(size or 0 for size in shape[1:]):
        return "The axes are in another order: transpose them (channels first or last)"
    rule = "A sample has the input's shape, with the batch axis of 1 kept or left out"
    return f"{rule}. {_resized(array, shape)}".removesuffix(". ")


def _resized(array: NDArray[Any], shape: Sequence[int | None]) -> str:
    """Return the way out for a picture whose height and width are not the input's; "" if it is none."""
    if len(shape) != 4 or array.ndim < 3 or None in shape:
        return ""
    for channels, first in ((1, 2), (3, 1)):  # channels first, channels last; the axis of the height
        if array.shape[channels - 4] == shape[channels] and shape[channels] in (1, 3):
            size = [shape[first], shape[first + 1]]
            return (
                f"This looks like a picture of another size: resize it to {size} where the array is made, or give a "
                f"folder or a list of images, which preprocessing.resize={size} resizes (calib data has an example)"
            )
    return ""


def _stretch(stack: NDArray[Any], count: int, spec: InputSpec, where: str) -> NDArray[Any]:
    """Return the stack with ``count`` samples or raise; an input without a batch axis is shared by all samples."""
    if len(stack) == count:
        return stack
    if len(spec.shape) == 1 and spec.shape[0] is None and len(stack) == 1 and stack.shape[1] == count:
        return stack[0][:, None]
    if len(stack) == 1 and not _batched(spec.shape):
        return np.broadcast_to(stack, (count, *stack.shape[1:]))
    raise DataError(
        f"{where}: the inputs are stacked differently: input {spec} holds {len(stack)} samples, another holds {count}"
    )
