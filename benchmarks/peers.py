"""What is compared: calib and NNCF behind one Protocol, each given the same IR and the same samples."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from calib.runtime.isa import LIMIT, cpu, exact_int8
from calib.runtime.session import core, ov

HALF_RANGE = not exact_int8(cpu(), os.environ.get(LIMIT, ""))
"""Whether INT8 sums saturate on this CPU, so that weights may take half their levels only, with whichever tool."""

TARGET = "cpu-no-vnni" if HALF_RANGE else "cpu"
"""calib's target with which its weights have the levels that NNCF's have here."""

Samples = Sequence[NDArray[Any] | tuple[NDArray[Any], ...]]
"""Samples of the only input, or tuples in the order of the inputs."""


class Peer(Protocol):
    """Something that quantizes."""

    @property
    def name(self) -> str:
        """What tables call it."""
        ...

    def prepare(self) -> None:
        """Import what is needed, so that imports are not in the measured time."""
        ...

    def quantize(self, path: Path, samples: Samples) -> ov.Model:
        """Return the INT8 model of an FP32 IR, calibrated on samples, batch axis included."""
        ...


@dataclass(frozen=True)
class CalibPeer:
    """calib with some settings; its own defaults where none are given."""

    name: str = "calib"
    settings: Mapping[str, Any] | None = None

    def prepare(self) -> None:
        """Import it."""
        import calib

        assert callable(calib.quantize)

    def quantize(self, path: Path, samples: Samples) -> ov.Model:
        """Return the INT8 model."""
        import calib

        given = {"target": TARGET, **(self.settings or {})}
        return calib.quantize(path, list(samples), samples=len(samples), **given).model


@dataclass(frozen=True)
class NncfPeer:
    """``nncf.quantize``; the performance preset and fast bias correction are its defaults."""

    name: str = "nncf"
    preset: str = "PERFORMANCE"
    fast_bias_correction: bool = True
    model_type: str | None = None
    smooth_quant: bool = True

    def prepare(self) -> None:
        """Import it."""
        import nncf

        nncf.set_log_level("ERROR")

    def quantize(self, path: Path, samples: Samples) -> ov.Model:
        """Return the INT8 model."""
        import nncf
        from nncf.quantization.advanced_parameters import (
            AdvancedQuantizationParameters,
            AdvancedSmoothQuantParameters,
            OverflowFix,
        )

        advanced = AdvancedQuantizationParameters(overflow_fix=OverflowFix.ENABLE if HALF_RANGE else None)
        if not self.smooth_quant:
            advanced.smooth_quant_alphas = AdvancedSmoothQuantParameters(convolution=-1, matmul=-1)
        return nncf.quantize(
            core().read_model(path),
            nncf.Dataset(list(samples)),
            preset=nncf.QuantizationPreset[self.preset],
            subset_size=len(samples),
            fast_bias_correction=self.fast_bias_correction,
            model_type=nncf.ModelType[self.model_type] if self.model_type else None,
            advanced_parameters=advanced,
        )


FAST = {"estimator": "minmax", "effort": "fast"}

PEERS: Mapping[str, Callable[[], Peer]] = {
    "calib": CalibPeer,
    "calib fast": lambda: CalibPeer("calib fast", FAST),
    "calib fast auto": lambda: CalibPeer("calib fast auto", {"effort": "fast"}),
    "nncf": NncfPeer,
    "nncf mixed": lambda: NncfPeer("nncf mixed", preset="MIXED"),
}
"""Name → how it is made."""
