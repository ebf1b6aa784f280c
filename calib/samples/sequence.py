"""Check the frames and targets of a sequence, and group rows of files into sequences.

A sequence is a sample of a model that keeps state. How it is given in Python is :class:`calib.samples.sample.Sequence`;
in files it is the option ``?sequence=`` of a format.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Sequence as AnySequence
from typing import Any

from calib.errors import DataError
from calib.samples.feed import Arrays, as_one, normalize_feed
from calib.samples.sample import Frames, FrameTargets, InputSpec, Sequence

ROW, FILE = "row", "file"


def frames_of(given: Sequence, inputs: AnySequence[InputSpec], where: str) -> Frames:
    """Return the frames of a sequence as feeds in input order, with the model's dtypes and batch axis.

    Args:
        given: Sequence as the user wrote it.
        inputs: Inputs of the model.
        where: Name of the sequence in messages, such as "item 3 of the list given".

    Raises:
        DataError: It has no frames, a frame does not fit the inputs, or the inputs have different numbers of frames.
    """
    frames: Any = given.frames
    if isinstance(frames, str | bytes) or not (isinstance(frames, Iterable) or hasattr(frames, "__array__")):
        got = type(frames).__name__
        raise DataError(f"{where}: the frames of a sequence are a list of feeds, or arrays; got {got}")
    stacked = isinstance(frames, Mapping) or hasattr(frames, "__array__")
    found = _stacked(frames, inputs, where) if stacked else list(_listed(frames, inputs, where))
    if not found:
        raise DataError(f"{where}: a sequence without frames. Give at least one, or leave the sequence out")
    return Frames(found)


def _stacked(frames: Any, inputs: AnySequence[InputSpec], where: str) -> list[Arrays]:
    if not isinstance(frames, Mapping):
        lengths = [len(frames)] if getattr(frames, "ndim", 1) else []
    else:
        lengths = [len(array) for array in frames.values() if getattr(array, "ndim", 1)]
    if 0 in lengths:
        return []
    if len(set(lengths)) > 1:
        text = ", ".join(f"{name!r} has {length}" for name, length in zip(frames, lengths, strict=False))
        raise DataError(
            f"{where}: the inputs of a sequence have different numbers of frames: {text}. The first axis is time; an "
            "input that does not change has to be repeated for every frame"
        )
    made = normalize_feed(frames, inputs, where)
    if lengths and len(made) != lengths[0]:
        raise DataError(
            f"{where}: an array of {lengths[0]} for a sequence was taken for {len(made)} frames. The frames are along "
            "a new first axis, before the axes of the input; or give a list with one feed for each frame"
        )
    return made


def _listed(frames: Iterable[Any], inputs: AnySequence[InputSpec], where: str) -> Iterator[Arrays]:
    for number, frame in enumerate(frames):
        made = normalize_feed(frame, inputs, f"frame {number} of {where}", as_one)
        if len(made) != 1:
            raise DataError(
                f"frame {number} of {where}: holds {len(made)} feeds, and a frame is one. For arrays with all frames "
                "along a new first axis give the array itself: Sequence(array)"
            )
        yield made[0]


def targets_of(given: Sequence, target: Any, frames: Frames, where: str) -> Any:
    """Return the target of a sequence: one for each frame if it has ``targets``, else that of the whole sequence.

    Raises:
        DataError: There are not as many targets as frames, or targets of both kinds.
    """
    if given.targets is None:
        return target
    if target is not None:
        raise DataError(f"{where}: a target of the sequence and one for each frame. Give one of them")
    if len(given.targets) != len(frames):
        raise DataError(
            f"{where}: {len(frames)} frames and {len(given.targets)} targets. Give one for each frame, None for one "
            "without; a target of the whole sequence stands next to it: (Sequence(frames), target)"
        )
    return FrameTargets(given.targets)


def time_first(feed: Mapping[str, Any], target: Any) -> tuple[Sequence, Any]:
    """Return a row of a file with its frames along the first axis as a sequence.

    A target that is an array of as many rows as there are frames holds one for each frame.
    """
    frames = len(next(iter(feed.values())))
    if getattr(target, "ndim", 0) and len(target) == frames:
        return Sequence(feed, list(target)), None
    return Sequence(feed), target


def one_by_one(rows: AnySequence[tuple[Mapping[str, Any], Any]]) -> Sequence:
    """Return rows of a file, each with its feed and target, as the frames of one sequence."""
    targets = [target for _, target in rows]
    return Sequence([feed for feed, _ in rows], None if all(target is None for target in targets) else targets)


def runs(keys: Iterable[Any], where: str) -> list[range]:
    """Return the rows of each sequence, which are those with equal keys.

    Raises:
        DataError: Rows of one sequence are not next to each other.
    """
    found: dict[Any, range] = {}
    for row, key in enumerate(keys):
        before = found.get(key, range(row, row))
        if before.stop != row:
            raise DataError(
                f"{where}: the rows of sequence {key!r} are not next to each other (row {before.stop - 1}, then row "
                f"{row}). Sort them, with the frames of a sequence in order"
            )
        found[key] = range(before.start, row + 1)
    return list(found.values())
