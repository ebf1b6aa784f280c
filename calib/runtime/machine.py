"""Diagnose what this machine can run, and whether results measured on it hold on others."""

from __future__ import annotations

import os
import platform

import psutil

from calib.runtime.isa import FEATURES, LIMIT, SATURATION, Cpu, cpu, exact_int8
from calib.runtime.session import compile_model, default_precision, make_model, ov
from calib.values.distribution import USES, extras, missing, version
from calib.values.doctor import Doctor
from calib.values.version import __version__

_REQUIRED = ("openvino", "numpy", "scipy", "onnx", "onnxruntime")


def diagnose() -> Doctor:
    """Return what the CPU, OpenVINO and the installed packages support."""
    found, limit = cpu(), os.environ.get(LIMIT, "")
    versions = {"python": platform.python_version(), **{name: version(name) for name in _REQUIRED}}
    precision = default_precision()
    required = {extra: packages for extra, packages in extras().items() if extra in USES}
    return Doctor(
        calib_version=__version__,
        versions=versions,
        cpu=found.name,
        features={feature: feature in found.features for feature in FEATURES},
        capabilities=list(found.capabilities),
        limit=limit,
        cores=len(os.sched_getaffinity(0)),
        threads=_threads(),
        memory=psutil.virtual_memory().total,
        default_precision=precision,
        exact_int8=exact_int8(found, limit),
        extras={extra: {package: version(package) for package in packages} for extra, packages in required.items()},
        missing={extra: packages for extra in required if (packages := missing(required[extra]))},
        advice=advice(found, limit, precision),
    )


def advice(found: Cpu, limit: str, precision: str) -> list[str]:
    """Return sentences on whether results of this machine hold on others."""
    said = []
    if limit:
        said.append(f"{LIMIT} is {limit}: oneDNN uses no newer instructions in this process than that.")
    if exact_int8(found, limit):
        said.append(
            "INT8 sums are exact here, as on every CPU with VNNI, AMX or ARM dot products. On an x86 CPU without "
            "VNNI they can saturate with 8-bit weights: quantize with --target cpu-no-vnni for such a machine, and "
            "check with calib evaluate --isa avx2."
        )
    else:
        said.append(SATURATION)
    if precision == "f32":
        said.append(
            "Layers in floating point run in f32 here; on CPUs with AVX512_BF16 or AMX they run in bf16 by default."
        )
    else:
        said.append(
            f"Layers in floating point run in {precision} here by default and in f32 on CPUs without it. calib "
            "measures in f32 unless it is asked otherwise, and reports speed against both."
        )
    return said


def _threads() -> int:
    """Return the number of threads that OpenVINO uses for one inference by default."""
    x = ov.opset13.parameter([1], ov.Type.f32)
    model = make_model([ov.opset13.result(ov.opset13.relu(x))], [x], name="probe")
    compiled = compile_model(model, {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": 0, "NUM_STREAMS": 1})
    return int(compiled.get_property("INFERENCE_NUM_THREADS"))
