"""The models that the onnx package generates for backends, as a corpus: what calib says of each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

import calib
from calib.errors import CalibError
from calib.loading.load import input_specs, load_model
from calib.samples.sample import InputSpec


def corpus() -> Iterator[tuple[str, onnx.ModelProto]]:
    """Yield ``(name, model)`` of every node test that the package generates and every small model it ships."""
    from onnx.backend.test.case.node import collect_testcases

    for case in collect_testcases(None):
        if isinstance(case.model, onnx.ModelProto):
            yield case.name, case.model
    shipped = Path(onnx.__file__).parent / "backend" / "test" / "data"
    for folder in ("simple", "light", "pytorch-converted", "pytorch-operator"):
        for path in sorted((shipped / folder).rglob("*.onnx")):
            yield f"{folder}/{path.parent.name if path.name == 'model.onnx' else path.stem}", onnx.load(path)


def random_sample(specs: list[InputSpec], seed: int) -> dict[str, NDArray[Any]]:
    """Return one sample that fits; dynamic axes get 2."""
    rng = np.random.default_rng(seed)
    sample = {}
    for spec in specs:
        shape = [2 if size is None else size for size in spec.shape or ()]
        if spec.dtype.kind == "f":
            sample[spec.name] = rng.standard_normal(shape).astype(spec.dtype)
        else:
            sample[spec.name] = rng.integers(0, 2, shape).astype(spec.dtype)
    return sample


def verdict(model: onnx.ModelProto, path: Path) -> tuple[str, str]:
    """Return ``(verdict, reason)``: "quantized", "refused: <error>" with its text, or "crashed" with the exception."""
    onnx.save(model, path)
    try:
        calib.inspect(path)
        specs = input_specs(load_model(path).model)
        samples = [random_sample(specs, seed) for seed in range(2)]
        calib.quantize(path, samples, effort="fast", estimator="minmax")
    except CalibError as error:
        return f"refused: {type(error).__name__}", str(error)
    except Exception as error:  # the question is whether there are any
        return "crashed", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return "quantized", ""


def kind_of_reason(text: str) -> str:
    """Return what refusals for the same reason have in common."""
    for words in ("nothing to quantize", "OpenVINO can't read it", "already quantized", "compressed to integers"):
        if words in text:
            return words
    return text.split("model.onnx: ")[-1].split(":")[0][:60]  # behind the path, which is another one each time
