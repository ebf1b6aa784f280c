"""Features of this CPU, and limits to run a model as on an older one.

INT8 dot products without VNNI add pairs of u8·i8 products in 16 bits, which saturate; with 7-bit weights
(``target: cpu-no-vnni``) they can't: 2 · 255 · 63 < 2¹⁵. oneDNN, which OpenVINO's CPU plug-in uses, reads a limit
from the environment when it is loaded (ONEDNN_MAX_CPU_ISA, https://uxlfoundation.github.io/oneDNN, "CPU Dispatcher
Control"), so a machine with VNNI can run a model as one without it does, in a process of its own.
"""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from calib.errors import UsageError
from calib.runtime.session import core
from calib.values.plan import HALF_RANGE, QuantizationPlan

LIMIT = "ONEDNN_MAX_CPU_ISA"
"""The environment variable that limits oneDNN."""

SATURATION = (
    "INT8 sums can saturate here with 8-bit weights: accuracy measured here may be lower than on a CPU with VNNI. "
    "Quantize with --target cpu-no-vnni for machines like this one."
)
"""What a user has to know where a model with 8-bit weights was measured on a CPU whose INT8 sums are not exact."""

FEATURES: Mapping[str, tuple[str, ...]] = {
    "sse4.1": ("sse4_1",),
    "avx2": ("avx2",),
    "avx512": ("avx512bw",),
    "vnni": ("avx512_vnni", "avx_vnni"),
    "bf16": ("avx512_bf16", "amx_bf16", "bf16"),
    "fp16": ("avx512_fp16", "amx_fp16", "asimdhp"),
    "amx": ("amx_int8",),
    "dot product": ("asimddp",),
    "i8mm": ("i8mm",),
}
"""Feature → the flags in /proc/cpuinfo that mean it, any of them."""


@dataclass(frozen=True)
class Isa:
    """An instruction set that a process can be limited to.

    Attributes:
        limit: Value of ONEDNN_MAX_CPU_ISA.
        needs: Features (of ``FEATURES``) that the machine must have, since a limit can only remove features.
        saturates: Whether u8·i8 products saturate with full 8-bit weights.
    """

    limit: str
    needs: tuple[str, ...]
    saturates: bool


ISAS: Mapping[str, Isa] = {
    "sse41": Isa("SSE41", ("sse4.1",), True),
    "avx2": Isa("AVX2", ("avx2",), True),
    "avx512": Isa("AVX512_CORE", ("avx512",), True),
    "avx512-vnni": Isa("AVX512_CORE_VNNI", ("avx512", "vnni"), False),
    "avx512-bf16": Isa("AVX512_CORE_BF16", ("avx512", "vnni", "bf16"), False),
    "avx512-amx": Isa("AVX512_CORE_AMX", ("avx512", "vnni", "amx"), False),
}
"""Name → instruction set, oldest first."""


@dataclass(frozen=True)
class Cpu:
    """The processor.

    Attributes:
        features: Features of the CPU, in the order of ``FEATURES``.
        capabilities: Precisions and other capabilities that OpenVINO lists for it.
    """

    name: str
    features: tuple[str, ...]
    capabilities: tuple[str, ...]

    @property
    def exact_int8(self) -> bool:
        """Whether sums of INT8 products are exact with full 8-bit weights."""
        return bool({"vnni", "amx", "dot product", "i8mm"} & set(self.features))


def cpu() -> Cpu:
    """Return the CPU of this machine as /proc/cpuinfo and OpenVINO describe it.

    OpenVINO obeys ONEDNN_MAX_CPU_ISA and /proc/cpuinfo does not: the features are those of the hardware.
    """
    flags = _cpu_flags()
    found = tuple(feature for feature, names in FEATURES.items() if flags & set(names))
    name = str(core().get_property("CPU", "FULL_DEVICE_NAME")).strip() or platform.processor()
    return Cpu(name, found, tuple(sorted(core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))))


@cache
def _cpu_flags() -> frozenset[str]:
    """Return the flags of the first processor; none if there is no /proc/cpuinfo."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return frozenset()
    lines = (line.partition(":") for line in text.splitlines())
    return next((frozenset(v.split()) for key, _, v in lines if key.strip() in ("flags", "Features")), frozenset())


def exact_int8(found: Cpu, limit: str) -> bool:
    """Say whether sums of INT8 products are exact on a CPU, unless oneDNN is limited to an older one."""
    limited = next((isa for isa in ISAS.values() if isa.limit == limit.upper()), None)
    return found.exact_int8 and not (limited and limited.saturates)


def exact_here() -> bool:
    """Say whether sums of INT8 products are exact with full 8-bit weights in this process."""
    return exact_int8(cpu(), os.environ.get(LIMIT, ""))


def saturates(plan: QuantizationPlan) -> bool:
    """Say whether sums of a plan's INT8 products can saturate in this process."""
    summing = {layer.name for layer in plan.layers if not layer.is_table}  # the rows of a table are picked, not summed
    wide = any(w.levels > HALF_RANGE and w.port.node in summing for w in plan.weights)
    return (wide or any(one.levels > HALF_RANGE for one in plan.recurrent)) and not exact_here()


def get_isa(name: str) -> Isa:
    """Return the instruction set with this name.

    Raises:
        UsageError: There is none, or this machine can't run it.
    """
    key = name.lower().replace("_", "-")
    if key not in ISAS:
        raise UsageError(f"isa has to be one of {', '.join(ISAS)}; got {name!r}")
    missing = [feature for feature in ISAS[key].needs if feature not in cpu().features]
    if missing:
        raise UsageError(
            f"isa {key} needs a CPU with {' and '.join(missing)}, which this one ({cpu().name}) does not report. "
            "A limit can only take features away; run it on such a machine"
        )
    return ISAS[key]


def run_as(isa: str, argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a command on a CPU limited to an instruction set; return its exit code, stdout and stderr.

    Args:
        isa: Name in ``ISAS``.
        argv: Program and arguments.

    Raises:
        UsageError: See ``get_isa``.
    """
    environment = {**os.environ, LIMIT: get_isa(isa).limit}
    return subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
