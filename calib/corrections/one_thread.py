"""Linear algebra on one thread, so that its last bits do not depend on how many cores a machine has.

OpenBLAS cuts products and factorizations into a part for each thread, and the cuts change the order of sums: rounding
decisions that hang on the last bit would then differ between two machines, or two settings of OMP_NUM_THREADS.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import scipy

# What wheels of numpy and scipy call it: with or without their own prefix, for 64-bit and 32-bit indices.
_NAMES = [f"{prefix}openblas_{{}}_num_threads{suffix}" for prefix in ("scipy_", "") for suffix in ("64_", "")]


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Keep numpy's and scipy's own OpenBLAS to one thread inside a ``with``; does nothing to other libraries."""
    before = [(setter, getter()) for setter, getter in _libraries()]
    for setter, _ in before:
        setter(1)
    try:
        yield
    finally:
        for setter, threads in before:
            setter(threads)


@cache
def _libraries() -> list[tuple[Callable[[int], None], Callable[[], int]]]:
    """Return ``(set, get)`` of each OpenBLAS that came with a wheel; loading a loaded library returns that one."""
    found = []
    for package in (np, scipy):
        home = Path(package.__path__[0])
        folders = (home.parent / f"{home.name}.libs", home / ".dylibs")
        for path in sorted(path for folder in folders for path in folder.glob("*openblas*")):
            library = ctypes.CDLL(str(path))
            for name in _NAMES:
                if hasattr(library, name.format("set")):
                    found.append((getattr(library, name.format("set")), getattr(library, name.format("get"))))
                    break
    return found
