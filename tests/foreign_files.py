"""Small networks as files of other frameworks, written byte by byte: none of the frameworks has to be installed.

Each network is a convolution of 3 x 3, a ReLU and another convolution on an image of 12 x 12, the operation in the
middle with a name that looks like one from a counter of OpenVINO.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import flatbuffers
import numpy as np

SIZE, CHANNELS, OUT = 12, 3, 8


def weights(seed: int, *shape: int) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(shape) / np.sqrt(4.5 * shape[-2])).astype(np.float32)


# Protocol Buffers: a field is its number and kind, then a number or the length and the bytes of text or a message.


def _varint(number: int) -> bytes:
    number &= 2**64 - 1
    low = [number >> shift & 0x7F for shift in range(0, max(number.bit_length(), 1), 7)]
    return bytes(part | (0x80 if index + 1 < len(low) else 0) for index, part in enumerate(low))


def whole(field: int, number: int) -> bytes:
    return _varint(field << 3) + _varint(number)


def text(field: int, value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return _varint(field << 3 | 2) + _varint(len(data)) + data


# TensorFlow: GraphDef, with channels last


_FLOAT = 1


def _shape(dims: Sequence[int]) -> bytes:
    return b"".join(text(2, whole(1, dim)) for dim in dims)


def _node(name: str, kind: str, inputs: Sequence[str] = (), **attributes: bytes) -> bytes:
    parts = [text(1, name), text(2, kind), *(text(3, one) for one in inputs)]
    return text(1, b"".join(parts + [text(5, text(1, key) + text(2, value)) for key, value in attributes.items()]))


def _constant(name: str, values: np.ndarray) -> bytes:
    tensor = whole(1, _FLOAT) + text(2, _shape(values.shape)) + text(4, values.tobytes())
    return _node(name, "Const", dtype=whole(6, _FLOAT), value=text(8, tensor))


def _graph() -> bytes:
    kind = whole(6, _FLOAT)
    window = {"T": kind, "strides": text(1, whole(3, 1) * 4), "padding": text(2, "SAME")}
    return b"".join(
        [
            _node("image", "Placeholder", dtype=kind, shape=text(7, _shape((1, SIZE, SIZE, CHANNELS)))),
            _constant("first/weights", weights(0, 3, 3, CHANNELS, OUT)),
            _node("first", "Conv2D", ["image", "first/weights"], **window),
            _node("Relu_7", "Relu", ["first"], T=kind),
            _constant("second/weights", weights(1, 3, 3, OUT, OUT)),
            _node("scores", "Conv2D", ["Relu_7", "second/weights"], **window),
        ]
    )


def frozen_graph(folder: Path) -> Path:
    path = folder / "net.pb"
    path.write_bytes(_graph())
    return path


def saved_model(folder: Path) -> Path:
    def port(name: str, channels: int) -> bytes:
        return text(1, name) + whole(2, _FLOAT) + text(3, _shape((1, SIZE, SIZE, channels)))

    inputs = text(1, text(1, "image") + text(2, port("image:0", CHANNELS)))
    outputs = text(2, text(1, "scores") + text(2, port("scores:0", OUT)))
    signature = text(1, "serving_default") + text(2, inputs + outputs + text(3, "tensorflow/serving/predict"))
    path = folder / "saved"
    path.mkdir()
    content = whole(1, 1) + text(2, text(1, text(4, "serve")) + text(2, _graph()) + text(5, signature))
    (path / "saved_model.pb").write_bytes(content)
    return path


# PaddlePaddle: ProgramDesc, with channels first; the weights are in a file beside it, in the order of their names


_FP32, _LOD_TENSOR, _FEED, _FETCH = 5, 7, 9, 10


def _tensor_type(dims: Sequence[int]) -> bytes:
    return whole(1, _FP32) + b"".join(whole(2, dim) for dim in dims)


def _variable(name: str, dims: Sequence[int], *, persistent: bool = False, kind: int = _LOD_TENSOR) -> bytes:
    described = whole(1, kind) + (text(3, text(1, _tensor_type(dims)) + whole(2, 0)) if kind == _LOD_TENSOR else b"")
    return text(3, text(1, name) + text(2, described) + whole(3, persistent))


def _operation(kind: str, inputs: dict[str, str], outputs: dict[str, str], attributes: Sequence[bytes] = ()) -> bytes:
    ports = [text(1, text(1, key) + text(2, name)) for key, name in inputs.items()]
    ports += [text(2, text(1, key) + text(2, name)) for key, name in outputs.items()]
    return text(4, b"".join([*ports, text(3, kind), *(text(4, attribute) for attribute in attributes)]))


def _number(name: str, value: int) -> bytes:
    return text(1, name) + whole(2, 0) + whole(3, value)


def _numbers(name: str, *values: int) -> bytes:
    return text(1, name) + whole(2, 3) + b"".join(whole(6, value) for value in values)


def _string(name: str, value: str) -> bytes:
    return text(1, name) + whole(2, 2) + text(5, value)


def paddle(folder: Path) -> Path:
    constants = {"first.w": weights(0, OUT, CHANNELS, 3, 3), "second.w": weights(1, OUT, OUT, 3, 3)}
    window = [
        _numbers("strides", 1, 1),
        _numbers("paddings", 1, 1),
        _numbers("dilations", 1, 1),
        _number("groups", 1),
        _string("data_format", "NCHW"),
        _string("padding_algorithm", "EXPLICIT"),
    ]
    inner = (1, OUT, SIZE, SIZE)
    parts = [
        whole(1, 0),
        whole(2, 0),
        _variable("feed", (), persistent=True, kind=_FEED),
        _variable("fetch", (), persistent=True, kind=_FETCH),
        _variable("image", (1, CHANNELS, SIZE, SIZE)),
        *(_variable(name, values.shape, persistent=True) for name, values in constants.items()),
        *(_variable(name, inner) for name in ("first", "Relu_7", "scores")),
        _operation("feed", {"X": "feed"}, {"Out": "image"}, [_number("col", 0)]),
        _operation("conv2d", {"Input": "image", "Filter": "first.w"}, {"Output": "first"}, window),
        _operation("relu", {"X": "first"}, {"Out": "Relu_7"}),
        _operation("conv2d", {"Input": "Relu_7", "Filter": "second.w"}, {"Output": "scores"}, window),
        _operation("fetch", {"X": "scores"}, {"Out": "fetch"}, [_number("col", 0)]),
    ]
    path = folder / "net.pdmodel"
    path.write_bytes(text(1, b"".join(parts)))
    with path.with_suffix(".pdiparams").open("wb") as file:
        for _, values in sorted(constants.items()):
            described = _tensor_type(values.shape)
            file.write(struct.pack("<IQIi", 0, 0, 0, len(described)) + described + values.tobytes())
    return path


# TensorFlow Lite: a flatbuffer, with channels last and a kernel's output channels first


def _vector(builder: flatbuffers.Builder, offsets: Sequence[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()


def _table(builder: flatbuffers.Builder, **slots: tuple[str, int]) -> int:
    """Write a table; each slot is named ``_NUMBER`` and holds the builder's word for its type and the value."""
    builder.StartObject(max(int(name[1:]) for name in slots) + 1)
    for name, (kind, value) in slots.items():
        getattr(builder, f"Prepend{kind}Slot")(int(name[1:]), value, 0)
    return builder.EndObject()


def _integers(builder: flatbuffers.Builder, *values: int) -> tuple[str, int]:
    return "UOffsetTRelative", builder.CreateNumpyVector(np.array(values, np.int32))


_CONV_2D, _RELU, _CONV_OPTIONS = 3, 19, 1


def tflite(folder: Path) -> Path:
    builder = flatbuffers.Builder(1 << 12)
    constants = [weights(0, OUT, 3, 3, CHANNELS), np.zeros(OUT, np.float32), weights(1, OUT, 3, 3, OUT)]
    shapes = [(1, SIZE, SIZE, CHANNELS), *(one.shape for one in constants), *[(1, SIZE, SIZE, OUT)] * 3]
    names = ("image", "first/weights", "bias", "second/weights", "first", "Relu_7", "scores")
    data = [builder.CreateNumpyVector(one.view(np.uint8).reshape(-1)) for one in constants]
    buffers = [_table(builder, _0=("UOffsetTRelative", 0))]
    buffers += [_table(builder, _0=("UOffsetTRelative", one)) for one in data]
    tensors = []
    for index, (name, shape) in enumerate(zip(names, shapes, strict=True)):
        label, dims = builder.CreateString(name), _integers(builder, *shape)
        buffer = ("Uint32", index if index <= len(constants) else 0)
        tensors.append(_table(builder, _0=dims, _1=("Int8", 0), _2=buffer, _3=("UOffsetTRelative", label)))

    def operator(code: int, inputs: Sequence[int], output: int) -> int:
        read, made = _integers(builder, *inputs), _integers(builder, output)
        slots = {"_0": ("Uint32", code), "_1": read, "_2": made}
        if code == 0:
            strides = _table(builder, _1=("Int32", 1), _2=("Int32", 1), _4=("Int32", 1), _5=("Int32", 1))
            slots |= {"_3": ("Uint8", _CONV_OPTIONS), "_4": ("UOffsetTRelative", strides)}
        return _table(builder, **slots)

    operators = [operator(0, (0, 1, 2), 4), operator(1, (4,), 5), operator(0, (5, 3, 2), 6)]
    lists = [("UOffsetTRelative", _vector(builder, tensors)), _integers(builder, 0), _integers(builder, 6)]
    lists.append(("UOffsetTRelative", _vector(builder, operators)))
    graph = _table(builder, **{f"_{slot}": one for slot, one in enumerate(lists)})
    codes = [_table(builder, _0=("Int8", code), _2=("Int32", 1), _3=("Int32", code)) for code in (_CONV_2D, _RELU)]
    model = {"_0": ("Uint32", 3), "_1": ("UOffsetTRelative", _vector(builder, codes))}
    model |= {"_2": ("UOffsetTRelative", _vector(builder, [graph]))}
    model |= {"_4": ("UOffsetTRelative", _vector(builder, buffers))}
    builder.Finish(_table(builder, **model), file_identifier=b"TFL3")
    path = folder / "net.tflite"
    path.write_bytes(bytes(builder.Output()))
    return path


FILES = {"tensorflow": (frozen_graph, saved_model), "paddle": (paddle,), "tflite": (tflite,)}
