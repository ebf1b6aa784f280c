"""Find the model file that a path stands for: the file itself, a SavedModel, or the only model of a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from calib.errors import ModelError

# Companions of a Hugging Face export that are no network to quantize.
_TOKENIZERS = ("openvino_tokenizer.xml", "openvino_detokenizer.xml")
_OF_PYTHON = (".pt", ".pth", ".pt2", ".h5", ".hdf5", ".keras", ".safetensors")  # what a framework has to load first


def find_model(path: Path) -> Path:
    """Return ``path`` if it is a model file or a SavedModel; for another folder, the only model file in it.

    Raises:
        ModelError: There is none, there are several, or its format is one that OpenVINO does not read.
    """
    if path.name == "saved_model.pb" and path.is_file():  # part of a SavedModel, which is its folder
        return path.parent
    suffix, read = path.suffix.lower(), (".xml", ".onnx")
    if path.is_file() and suffix in read:
        return path
    from calib.loading.other_formats import FORMATS, is_saved_model  # here: most models are IR or ONNX

    read = (*read, *FORMATS)
    if is_saved_model(path) or (path.is_file() and suffix in read):
        return path
    if path.is_dir():
        found = sorted(p for p in path.iterdir() if p.suffix.lower() in read and p.name not in _TOKENIZERS)
        if len(found) == 1:
            return found[0]
        names = ", ".join(p.name for p in found[:20]) + (", …" if len(found) > 20 else "")
        what = f"holds {len(found)} models: {names}. Name one of them" if found else f"holds no {_listed(read)} file"
        raise ModelError(f"{path}: a folder, and it {what}")
    if not path.is_file():
        raise ModelError(f"{path}: no such file. Give the path of a model that OpenVINO reads: {_listed(read)}")
    if suffix == ".bin":
        raise ModelError(f"{path}: holds only the weights of an IR. Give the .xml next to it")
    way_out = f"Give a file that ends in {_listed(read)}"
    if suffix in _OF_PYTHON:
        way_out = (
            "Load it in Python with the framework that wrote it, and give calib.quantize what "
            "ov.convert_model(model, example_input=…) returns"
        )
    raise ModelError(f"{path}: OpenVINO does not read {suffix or 'this'!r}. {way_out}")


def _listed(endings: Sequence[str]) -> str:
    return f"{', '.join(endings[:-1])} or {endings[-1]}"
