"""Tiny models and data that the tests of bad input, hostile files and faults are made from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.runtime.session import ov

opset = ov.opset13


def parameter(name: str, shape: list[int], dtype: Any = np.float32) -> ov.Node:
    made = opset.parameter(shape, dtype, name=name)
    made.output(0).set_names({name})
    return made


def weights(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def named(node: ov.Node, name: str) -> ov.Node:
    node.set_friendly_name(name)
    return node


def convnet(imbalance: float = 1.0, batch: int = 1, names: tuple[str, str, str] = ("first", "second", "head")):
    """Return conv → ReLU → conv → ReLU → mean → MatMul.

    The first channel between the convolutions is ``imbalance`` times as large as the others, and the second
    convolution undoes it: a range for the whole tensor then leaves the other channels few levels.
    """
    image = parameter("image", [batch, 3, 8, 8])
    scale = np.ones(8, np.float32)
    scale[0] = imbalance
    pads = {"strides": [1, 1], "pads_begin": [1, 1], "pads_end": [1, 1], "dilations": [1, 1]}
    one = named(opset.convolution(image, weights(8, 3, 3, 3) * scale[:, None, None, None], **pads), names[0])
    two = weights(8, 8, 3, 3, seed=1) / scale[None, :, None, None]
    two = named(opset.convolution(opset.relu(one), two, **pads), names[1])
    pooled = opset.reduce_mean(opset.relu(two), np.array([2, 3]))
    head = named(opset.matmul(pooled, weights(8, 5, seed=2), False, False), names[2])
    head.output(0).set_names({"scores"})
    return ov.Model([head], [image], "model")


def write_ir(model: ov.Model, path: Path) -> Path:
    ov.save_model(model, path, compress_to_fp16=False)
    return path


def images(count: int, seed: int = 3) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(count, 3, 8, 8)).astype(np.float32)


def write_work(folder: Path, model: ov.Model | None = None, samples: int = 16) -> Path:
    """Write model.xml, model.bin and data.npz into a folder."""
    write_ir(model or convnet(), folder / "model.xml")
    np.savez(folder / "data.npz", image=images(samples))
    return folder


def left_behind(folder: Path) -> list[str]:
    """Return what a failed run left beside its input: everything but the model and its data, hidden files too."""
    kept = {"model.xml", "model.bin", "data.npz"}
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.name not in kept)
