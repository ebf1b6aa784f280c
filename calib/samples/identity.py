"""Who a sample is, and which samples are taken: by hashes, so that the order of a listing never matters."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
    """Feed Σ key·(w ⊕ w≫32) mod 2⁶⁴ of each block of words w, and the bytes behind the last whole block as they are."""
    whole = data.size - data.size % (8 * _BLOCK)
    words = data[:whole].view(np.uint64).reshape(-1, _BLOCK)
    # The shift moves high bits down: a product with a word that ends in zeros (a rounded float) keeps few bits else.
    digest.update(np.einsum("ij,j->i", words ^ (words >> np.uint64(32)), _KEYS).data)
    digest.update(data[whole:].data)


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
