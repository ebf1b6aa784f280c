"""Check with onnxruntime that OpenVINO's reader made what the ONNX file says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.errors import ModelError
from calib.runtime.session import ov
from calib.values.sqnr import relative_difference

# Two correct FP32 implementations differ by summation order: about 1e-6 for a layer, below 1e-4 for deep networks.
WARN_ABOVE = 1e-3
REFUSE_ABOVE = 0.1


def compare_with_onnxruntime(
    path: Path, model: ov.Model, feeds: Sequence[Sequence[NDArray[Any]]], outputs: Sequence[Sequence[NDArray[Any]]]
) -> list[str]:
    """Return a sentence for each output that differs from onnxruntime's; empty if all agree.

    The difference of an output is ``‖ours − theirs‖ / ‖theirs‖``, see :func:`relative_difference`. For outputs of
    integers (labels, indices) the elements that differ are counted; they are never refused, because ties can be broken
    either way. The worst sample is reported, and the median decides whether to refuse: where two boxes of nearly equal
    scores change places, one sample differs, and where an operation is read wrongly, all do.

    Args:
        path: Path of the .onnx file.
        model: FP32 model as OpenVINO's reader made it from the file.
        feeds: Feeds of arrays in the order of the model's inputs.
        outputs: What the model computes from them.

    Raises:
        ModelError: A floating-point output is off by more than ``REFUSE_ABOVE``.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    # Without it sums of 8-bit products saturate on CPUs without VNNI (off by 13 % in a MatMulInteger, on AVX2).
    options.add_session_config_entry("session.x64quantprecision", "1")
    try:
        theirs = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own classes have no common base but Exception
        return [f"not compared with onnxruntime, which can't load {path.name}: {_first_line(error)}"]
    names = [_match(port.get_names(), [i.name for i in theirs.get_inputs()]) for port in model.inputs]
    common = _outputs(model, [output.name for output in theirs.get_outputs()])
    differences: dict[str, list[float]] = {name: [] for name in common.values()}
    for feed, got in zip(feeds, outputs, strict=True):
        given = {name: array for name, array in zip(names, feed, strict=True) if name}
        try:
            expected = theirs.run(list(common.values()), given)
        except Exception as error:  # as above
            return [f"not compared with onnxruntime, which can't run {path.name}: {_first_line(error)}"]
        for (index, name), reference in zip(common.items(), expected, strict=True):
            differences[name].append(relative_difference(got[index], np.asarray(reference)))
    integers = {name for index, name in common.items() if not model.output(index).get_element_type().is_real()}
    return _judge(path, differences, integers)


def _judge(path: Path, differences: dict[str, list[float]], integers: set[str]) -> list[str]:
    sentences: list[str] = []
    for name, found in differences.items():
        usual, worst = (median(found), max(found)) if found else (0.0, 0.0)
        if usual > REFUSE_ABOVE and name not in integers:
            raise ModelError(
                f"{path}: output {name!r} of the converted model differs from onnxruntime's by {usual:.3g} "
                f"(relative; at most {REFUSE_ABOVE} is tolerated): OpenVINO does not compute what the file says. "
                "Check the operators it uses, or quantize an IR that you have validated"
            )
        if worst > WARN_ABOVE:
            unit = "of its values" if name in integers else "relative"
            sentences.append(
                f"output {name!r} differs from onnxruntime's by {worst:.3g} ({unit}): OpenVINO reads the file a little "
                "differently, and figures here hold for OpenVINO's FP32"
            )
    return sentences


def _match(names: set[str], candidates: list[str]) -> str:
    return next((name for name in candidates if name in names), "")


def _outputs(model: ov.Model, candidates: list[str]) -> dict[int, str]:
    """Return the index and the name in onnxruntime of each output that it has too."""
    matched = ((index, _match(port.get_names(), candidates)) for index, port in enumerate(model.outputs))
    return {index: name for index, name in matched if name}


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
