"""Write an IR: never half of one, the same bytes every time, half-precision constants as they came."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from calib.errors import ModelError, OutputError
from calib.graph.ir_file import check_ir
from calib.graph.names import walk
from calib.runtime.session import ov

SECTION = "calib"


def save_model(
    model: ov.Model,
    path_xml: str | Path,
    *,
    fp16_constants: frozenset[str] = frozenset(),
    rt_info: Mapping[str, str] | None = None,
) -> None:
    """Write ``path_xml`` and the .bin beside it; both appear whole, the .bin first.

    Args:
        model: not edited.
        path_xml: where to write; its folder must exist (OpenVINO would make any that is missing).
        fp16_constants: names of f32 constants to be stored as f16 Constant → Convert.
        rt_info: strings for the section "calib" of the file's runtime information.

    Raises:
        OutputError: the file can't be written; nothing is left behind.
    """
    path = Path(path_xml)
    if not path.parent.is_dir():
        raise OutputError(f"{path}: the folder {path.parent} does not exist. Create it, or choose another output")
    clone = model.clone()
    _compress(clone, fp16_constants)
    for key in sorted(rt_info or {}):
        clone.set_rt_info((rt_info or {})[key], [SECTION, key])
    stem = path.with_name(f".{path.stem}.{os.getpid()}.{secrets.token_hex(4)}")
    xml, weights = stem.with_name(stem.name + ".xml"), stem.with_name(stem.name + ".bin")
    try:
        ov.serialize(clone, str(xml), str(weights))
        check_ir(xml)  # a full disk does not make serialize fail: the file is only shorter
        os.replace(weights, path.with_suffix(".bin"))
        os.replace(xml, path)
    except (OSError, RuntimeError, ModelError) as error:
        raise OutputError(
            f"{path}: the model can't be written ({str(error).splitlines()[-1]}). "
            "Check that the folder exists, is writable and has room, or choose another output"
        ) from error
    finally:
        xml.unlink(missing_ok=True)
        weights.unlink(missing_ok=True)


def _compress(model: ov.Model, names: frozenset[str]) -> None:
    """Turn, in place, each named f32 Constant into f16 Constant → Convert, as OpenVINO's own compression does."""
    from openvino import opset13 as opset

    for node in [node for _, nodes in walk(model) for node in nodes]:
        name = node.get_friendly_name()
        if name not in names or node.get_type_name() != "Constant" or node.get_output_element_type(0) != ov.Type.f32:
            continue
        half = ov.op.Constant(node.get_data().astype(np.float16))  # pyright: ignore[reportAttributeAccessIssue]
        half.set_friendly_name(f"{name}_compressed")
        convert = opset.convert(half, "f32")
        convert.set_friendly_name(name)
        convert.get_rt_info()["decompression_0"] = ""
        for target in node.output(0).get_target_inputs():
            target.replace_source_output(convert.output(0))
