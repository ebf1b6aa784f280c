"""Who a sample is, and which samples are taken: by hashes, so that the order of a listing never matters."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_DIGEST_BYTES = 16  # two of a billion samples collide with a chance of 1e-21


def content_id(feed: Sequence[NDArray[Any]]) -> str:
    """Return a blake2b hash of the dtypes, shapes and values of a normalized feed, as 32 hex digits."""
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for array in feed:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        if array.dtype.kind in "USO":
            digest.update(repr(array.tolist()).encode())
        else:
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def target_id(target: Any) -> str:
    """Return a short hash of a target, which tells samples of equal contents apart."""
    if target is None:
        return ""
    if isinstance(target, np.ndarray) and target.dtype.kind not in "O":
        return content_id((target,))[:16]
    return hashlib.blake2b(repr(target).encode(), digest_size=8).hexdigest()


def number_duplicates(keys: Sequence[tuple[str, str]]) -> list[str]:
    """Return a unique id for each (content id, target id): repeated contents become ``id#2``, ``id#3``….

    Among equal contents the order is that of the target ids, so that it does not depend on the order of arrival.
    """
    ids = [""] * len(keys)
    seen: dict[str, int] = {}
    for position in sorted(range(len(keys)), key=lambda p: keys[p]):
        content = keys[position][0]
        seen[content] = seen.get(content, 0) + 1
        ids[position] = content if seen[content] == 1 else f"{content}#{seen[content]}"
    return ids


def choose_ids(ids: Iterable[str], count: int | None, salt: str = "") -> list[str]:
    """Return the ``count`` ids (all for None, or where there are fewer) of the smallest sha256(salt + id), sorted."""
    if count is None:
        return sorted(ids)
    return sorted(sorted(ids, key=lambda one: _rank(salt, one))[: max(count, 0)])


def split_ids(ids: Sequence[str], share: float, salt: str = "") -> tuple[list[str], list[str]]:
    """Return (kept, held out): ``share`` of the ids, rounded, are held out by their hash. Both are sorted."""
    held = choose_ids(ids, round(len(ids) * share), salt)
    apart = set(held)
    return sorted(one for one in ids if one not in apart), held


def _rank(salt: str, one: str) -> tuple[str, str]:
    return hashlib.sha256((salt + one).encode("utf-8", "surrogateescape")).hexdigest(), one
