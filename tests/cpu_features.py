"""What this CPU can do, for tests whose right answer depends on it: each asks here, and a skipped one says why.

A limit that oneDNN is given (ONEDNN_MAX_CPU_ISA) counts: the suite can be run as an older CPU would run it.
"""

from __future__ import annotations

import os

import pytest

from calib.runtime.isa import ISAS, LIMIT, cpu, exact_int8

_LIMIT = os.environ.get(LIMIT, "")


def _features() -> tuple[str, ...]:
    """Return the features that oneDNN uses: the CPU's, up to those of the limit."""
    found, left = cpu().features, set[str]()
    for isa in ISAS.values():
        left |= set(isa.needs)
        if isa.limit == _LIMIT.upper():
            return tuple(feature for feature in found if feature in left)
    return found


FEATURES = _features()

EXACT_INT8 = exact_int8(cpu(), _LIMIT)
"""Whether sums of INT8 products are exact with 8-bit weights; without VNNI they saturate in 16 bits."""

TARGET = "cpu" if EXACT_INT8 else "cpu-no-vnni"
"""The target to quantize for where this CPU has to compute what the quantizers say."""

needs_exact_int8 = pytest.mark.skipif(
    not EXACT_INT8, reason="sums of INT8 products saturate on this CPU: it has neither VNNI nor AMX"
)


def needs(*features: str) -> pytest.MarkDecorator:
    """Return a mark that skips a test on a CPU that lacks one of these features of ``calib.runtime.isa``."""
    missing = [feature for feature in features if feature not in FEATURES]
    return pytest.mark.skipif(bool(missing), reason=f"this CPU has no {' and no '.join(missing)}")
