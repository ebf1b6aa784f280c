"""Samples identified by a hash of their contents: arrays in files and Python objects."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.errors import CalibError, DataError, one_line
from calib.samples.feed import Splits, arrays_of, as_batch, normalize_feed, split_item, split_target
from calib.samples.sample import FrameTargets, InputSpec, Sample
from calib.samples.sample import Sequence as FrameSequence

# Where an iterable has no random access, samples that arrive before their turn wait; beyond this another pass is made.
_WAITING_BYTES = 1 << 30


@dataclass(frozen=True)
class _Entry:
    """Position of a sample: number ``offset`` in item number ``item``, which may hold several stacked samples."""

    content: str
    target: str
    item: int
    offset: int
    bytes: int


class ContentDataset:
    """Samples from items that can be iterated more than once; an id is a hash of the normalized feed.

    The ids do not change if the items are shuffled or stacked. The first use makes one pass over the items with one
    item in memory at a time; if a later pass gives other contents, an error is raised.
    """

    def __init__(
        self,
        source: str,
        items: Iterable[Any],
        inputs: Sequence[InputSpec],
        *,
        at: Callable[[int], Any] | None = None,
        item_word: str = "item",
        splits: Splits = as_batch,
    ):
        """Describe the data; nothing is read yet.

        Args:
            source: Description for messages and reports.
            items: Items, each a feed or (feed, target), which ``split_item`` tells apart.
            inputs: Inputs of the model.
            at: Function that returns an item by its number; None if items can only be iterated.
            item_word: Word for an item in messages, such as "row".
            splits: Function that tells a batch from a sample, see ``normalize_feed``.
        """
        self._source = source
        self._items = items
        self._inputs = tuple(inputs)
        self._at = at
        self._word = item_word
        self.class_folders: Mapping[str, int] = {}
        self.notes: Sequence[str] = ()
        self._splits = splits

    @property
    def source(self) -> str:
        """Description of the data, for messages and reports."""
        return self._source

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Sample]:
        return self.load(sorted(self._entries, key=self._place))

    def choose(self, count: int | None, salt: str = "") -> Sequence[str]:
        """Return the sorted ids of ``count`` samples, or all for None, chosen by a hash; fewer if there are fewer."""
        return choose_ids(self._entries, count, salt)

    def _place(self, one: str) -> tuple[int, int]:
        return self._entries[one].item, self._entries[one].offset

    def reading_order(self, ids: Sequence[str]) -> Sequence[str]:
        """Return the ids in the order of the items, where those can only be iterated; else as they are."""
        return ids if self._at else sorted(ids, key=self._place)

    def load(self, ids: Sequence[str]) -> Iterator[Sample]:
        """Yield the samples with these ids, in this order.

        Raises:
            DataError: An id is unknown, or the contents changed since the first pass.
        """
        entries = self._entries
        for one in ids:
            if one not in entries:
                raise DataError(f"{self._source}: no sample with the id {one!r} ({len(entries)} samples)")
        return self._load_at(ids) if self._at else self._load_in_passes(ids)

    @cached_property
    def _entries(self) -> dict[str, _Entry]:
        """Where each sample is, by its id: the first use makes one pass over the items."""
        entries: list[_Entry] = []
        for item, samples in self._walk():
            for offset, sample in enumerate(samples):
                arrays = arrays_of(sample)
                size = sum(array.nbytes for array in arrays)
                entries.append(_Entry(content_id(arrays), target_id(sample.target), item, offset, size))
        if not entries:
            raise DataError(f"{self._source}: no samples in it. Give at least one")
        ids = number_duplicates([(entry.content, entry.target) for entry in entries])
        return dict(zip(ids, entries, strict=True))

    def _walk(self) -> Iterator[tuple[int, list[Sample]]]:
        iterator = iter(self._items)
        number = 0
        while True:
            try:
                item = next(iterator)
            except StopIteration:
                return
            except CalibError:
                raise
            except Exception as error:
                raise DataError(
                    f"{self._name(number)} could not be read: {type(error).__name__}: {one_line(error)}"
                ) from error
            yield number, self._samples(item, number)
            number += 1

    def _name(self, number: int) -> str:
        return f"{self._word} {number} of {self._source}"

    def _samples(self, item: Any, number: int) -> list[Sample]:
        if isinstance(item, Sample):
            feed, target, where = item.feed, item.target, item.where or self._name(number)
        else:
            feed, target = split_item(item, self._inputs)
            where = self._name(number)
        if isinstance(feed, FrameSequence):
            return [_sequence(feed, target, self._inputs, where)]
        # a list of dicts (the boxes of each image) has one for each of several samples: a row's own is no dict
        listed = isinstance(target, list | tuple) and all(isinstance(one, Mapping) for one in target)
        feeds = normalize_feed(feed, self._inputs, where, as_batch if listed and target else self._splits)
        targets = split_target(target, len(feeds), where)
        return [Sample(f, t, where=where) for f, t in zip(feeds, targets, strict=True)]

    def _load_at(self, ids: Sequence[str]) -> Iterator[Sample]:
        assert self._at is not None
        for one in ids:
            entry = self._entries[one]
            try:
                item = self._at(entry.item)
            except CalibError:
                raise
            except Exception as error:
                raise DataError(
                    f"{self._name(entry.item)} could not be read: {type(error).__name__}: {one_line(error)}"
                ) from error
            yield self._pick(self._samples(item, entry.item), one)

    def _load_in_passes(self, ids: Sequence[str]) -> Iterator[Sample]:
        remaining = deque(ids)
        while remaining:
            window, size = [], 0
            while remaining and (not window or size + self._entries[remaining[0]].bytes <= _WAITING_BYTES):
                window.append(remaining.popleft())
                size += self._entries[window[-1]].bytes
            yield from self._one_pass(window)

    def _one_pass(self, window: Sequence[str]) -> Iterator[Sample]:
        """Yield the samples of the window in order, keeping those that arrive early until it is their turn."""
        wanted: dict[int, list[str]] = {}
        for one in dict.fromkeys(window):
            wanted.setdefault(self._entries[one].item, []).append(one)
        turn = deque(window)
        last = {one: position for position, one in enumerate(window)}
        arrived: dict[str, Sample] = {}
        done = 0
        for number, samples in self._walk():
            for one in wanted.get(number, ()):
                arrived[one] = self._pick(samples, one)
            while turn and turn[0] in arrived:
                one = turn.popleft()
                yield arrived[one] if last[one] > done else arrived.pop(one)
                done += 1
            if not turn:
                return
        raise self._changed(f"it ended before the sample {turn[0]}")

    def _pick(self, samples: Sequence[Sample], one: str) -> Sample:
        entry = self._entries[one]
        sample = samples[entry.offset] if entry.offset < len(samples) else None
        if sample is None or content_id(arrays_of(sample)) != entry.content:
            raise self._changed(f"{self._name(entry.item)} is not what it was")
        return replace(sample, id=one)

    def _changed(self, how: str) -> DataError:
        return DataError(
            f"{self._source} changed between two passes: {how}. Every pass has to give the same samples in the same "
            "order: no random augmentation or shuffling; or pass a list"
        )


def _sequence(given: FrameSequence, target: Any, inputs: Sequence[InputSpec], where: str) -> Sample:
    from calib.samples.sequence import frames_of, targets_of  # here: few models keep state

    frames = frames_of(given, inputs, where)
    return Sample(frames, targets_of(given, target, frames, where), where=where)


# blake2b over a whole 224x224 image costs 1.3 ms, as much as a small network; a sum of products over blocks costs a
# tenth of that, and blake2b then runs over the sums. Not for secrets: should two samples ever collide, they are told
# apart like repeated ones. The keys come from a hash because numpy's random streams may change between versions.
_BLOCK = 1024
_KEYS = np.frombuffer(hashlib.shake_256(b"calib sample id").digest(8 * _BLOCK), np.uint64) | np.uint64(1)


def content_id(feed: Sequence[NDArray[Any]]) -> str:
    """Return a hash of the dtypes, shapes and values of a normalized feed, as 32 hex digits."""
    digest = hashlib.blake2b(digest_size=16)
    for array in feed:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        if array.dtype.kind in "USO":
            digest.update(repr(array.tolist()).encode())
        else:
            _update(digest, np.ascontiguousarray(array).reshape(-1).view(np.uint8))
    return digest.hexdigest()


def _update(digest: hashlib.blake2b, data: NDArray[np.uint8]) -> None:
    """Hash Σ key·(w ⊕ w≫32) mod 2⁶⁴ of each block of words w, and the bytes after the last whole block directly."""
    whole = data.size - data.size % (8 * _BLOCK)
    words = data[:whole].view(np.uint64).reshape(-1, _BLOCK)
    # The shift moves high bits down: a product with a word that ends in zeros (a rounded float) keeps few bits else.
    digest.update(np.einsum("ij,j->i", words ^ (words >> np.uint64(32)), _KEYS).data)
    digest.update(data[whole:].data)


def target_id(target: Any) -> str:
    """Return a short hash of a target, to tell samples of equal contents apart."""
    if target is None:
        return ""
    if isinstance(target, np.ndarray) and target.dtype.kind not in "O":
        return content_id((target,))[:16]
    if isinstance(target, FrameTargets):
        return hashlib.blake2b(" ".join(map(target_id, target)).encode(), digest_size=8).hexdigest()
    return hashlib.blake2b(repr(target).encode(), digest_size=8).hexdigest()


def mark(sample: Sample) -> str:
    """Return a hash of a sample's feed and target, which changes if a label or a pixel changes."""
    return f"{content_id(arrays_of(sample))[:16]}{target_id(sample.target)}"


def content_of(mark: str) -> str:
    """Return the part of a `mark` that depends on the feed alone."""
    return mark[:16]


def number_duplicates(keys: Sequence[tuple[str, str]]) -> list[str]:
    """Return a unique id for each (content id, target id): repeated contents become ``id#2``, ``id#3``….

    Equal contents are numbered in the order of their target ids, which does not depend on the order of arrival.
    """
    ids = [""] * len(keys)
    seen: dict[str, int] = {}
    for position in sorted(range(len(keys)), key=lambda p: keys[p]):
        content = keys[position][0]
        seen[content] = seen.get(content, 0) + 1
        ids[position] = content if seen[content] == 1 else f"{content}#{seen[content]}"
    return ids


def choose_ids(ids: Iterable[str], count: int | None, salt: str = "") -> list[str]:
    """Return the ``count`` ids with the smallest sha256(salt + id), sorted; all for None or if there are fewer."""
    if count is None:
        return sorted(ids)
    return sorted(sorted(ids, key=lambda one: _rank(salt, one))[: max(count, 0)])


def split_ids(
    ids: Sequence[str], share: float, salt: str = "", never: Collection[str] = ()
) -> tuple[list[str], list[str]]:
    """Return (kept, held out), both sorted; the rounded ``share`` of the ids is held out by their hash.

    Args:
        ids: Ids to split.
        share: Share of them.
        salt: Start of what is hashed.
        never: Ids that are kept in any case.
    """
    held = choose_ids((one for one in ids if one not in never), round(len(ids) * share), salt)
    apart = set(held)
    return sorted(one for one in ids if one not in apart), held


def _rank(salt: str, one: str) -> tuple[str, str]:
    return hashlib.sha256((salt + one).encode("utf-8", "surrogateescape")).hexdigest(), one
