"""Check with onnxruntime that the converted model computes what the ONNX file does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.errors import ModelError
from calib.runtime.session import Session, ov

# Two correct FP32 implementations differ by summation order: about 1e-6 for a layer, below 1e-4 for deep networks.
WARN_ABOVE = 1e-3
REFUSE_ABOVE = 0.1
# A sigmoid or softmax near 0 is right to a few ulps of 1 (1.2e-7 each): measured 1.3e-7 on a text detector whose
# scores were all below 1e-4, which would be 1.4 % of them.
ABSOLUTE = 1e-6


def compare_with_onnxruntime(path: Path, model: ov.Model, feeds: Iterable[Sequence[NDArray[Any]]]) -> list[str]:
    """Return a sentence for each output that differs from onnxruntime's; empty if all agree.

    The difference of an output is ``‖ours − theirs‖ / ‖theirs‖``, the worst over the feeds; elements that differ by
    less than ``ABSOLUTE`` count as equal. For outputs of integers (labels, indices) the elements that differ are
    counted; they are never refused, because ties can be broken either way.

    Args:
        path: Path of the .onnx file.
        model: FP32 model converted from it.
        feeds: Feeds of arrays in the order of the model's inputs.

    Raises:
        ModelError: A floating-point output is off by more than ``REFUSE_ABOVE``.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        theirs = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own classes have no common base but Exception
        return [f"not compared with onnxruntime, which can't load {path.name}: {_first_line(error)}"]
    names = [_match(port.get_names(), [i.name for i in theirs.get_inputs()]) for port in model.inputs]
    outputs = _outputs(model, [output.name for output in theirs.get_outputs()])
    ours = Session(model)
    worst = dict.fromkeys(outputs.values(), 0.0)
    for feed in feeds:
        given = {name: array for name, array in zip(names, feed, strict=True) if name}
        try:
            expected = theirs.run(list(outputs.values()), given)
        except Exception as error:  # as above
            return [f"not compared with onnxruntime, which can't run {path.name}: {_first_line(error)}"]
        got = ours(feed)
        for (index, name), reference in zip(outputs.items(), expected, strict=True):
            worst[name] = max(worst[name], _difference(got[index], np.asarray(reference)))
    integers = {name for index, name in outputs.items() if not model.output(index).get_element_type().is_real()}
    return _judge(path, worst, integers)


def _judge(path: Path, worst: dict[str, float], integers: set[str]) -> list[str]:
    sentences: list[str] = []
    for name, difference in worst.items():
        if difference > REFUSE_ABOVE and name not in integers:
            raise ModelError(
                f"{path}: output {name!r} of the converted model differs from onnxruntime's by {difference:.3g} "
                f"(relative; at most {REFUSE_ABOVE} is tolerated): OpenVINO does not compute what the file says. "
                "Check the operators it uses, or quantize an IR that you have validated"
            )
        if difference > WARN_ABOVE:
            unit = "of its values" if name in integers else "relative"
            sentences.append(f"output {name!r} differs from onnxruntime's by {difference:.3g} ({unit})")
    return sentences


def _difference(ours: NDArray[Any], theirs: NDArray[Any]) -> float:
    """Return the relative distance of two arrays; for integers the share that differs; inf if shapes differ."""
    if ours.shape != theirs.shape:
        return float("inf")
    if not np.issubdtype(theirs.dtype, np.floating):
        return float(np.mean(ours != theirs)) if ours.size else 0.0
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    same = np.isclose(a, b, rtol=0, atol=ABSOLUTE, equal_nan=True)  # equal infinities are close too
    distance = np.linalg.norm(np.subtract(a, b, out=np.zeros_like(a), where=~same))
    if np.isnan(distance):
        return float("inf")
    return float(distance / max(np.linalg.norm(np.where(np.isfinite(b), b, 0)), 1e-12))


def _match(names: set[str], candidates: list[str]) -> str:
    return next((name for name in candidates if name in names), "")


def _outputs(model: ov.Model, candidates: list[str]) -> dict[int, str]:
    """Return the index and the name in onnxruntime of each output that it has too."""
    matched = ((index, _match(port.get_names(), candidates)) for index, port in enumerate(model.outputs))
    return {index: name for index, name in matched if name}


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
