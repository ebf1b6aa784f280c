"""Rounded weights and bias corrections of a plan as an .npz file, so that a replay on the same weights needs no data.

They belong to one FP32 model and one plan, and the file names both: the fingerprint of the model (SHA-256 of its files)
and the SHA-256 of the plan. Equal contents give equal bytes. The file holds five arrays and no pickles; nothing in it
is compressed, so that no more is read than the file is long::

    about    JSON as bytes: what belongs to it, and the names and shapes of the others
    levels   int8: rounded weights of all ports, one after another
    scales   float32: their scales
    biases   float32: bias corrections of all layers, one after another
    digest   SHA-256 of the four, as bytes
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, NonNegativeInt

from calib.errors import StatisticsError
from calib.values.plan import Port

WEIGHTS_VERSION = 1

Rounded = tuple[NDArray[np.int8], NDArray[np.float32]]

_MOST_BYTES = 8 << 30
_KINDS = {"levels": np.dtype(np.int8), "scales": np.dtype(np.float32), "biases": np.dtype(np.float32)}


@dataclass(frozen=True)
class PlanWeights:
    """What a run made of the weights of one FP32 model.

    Attributes:
        fingerprint: SHA-256 of the FP32 model's files.
        preprocessing: Sentences on the preprocessing that was embedded in the model.
        normalization: Sentences on what loading changed in the model.
        plan: SHA-256 of the plan, see `plan_hash`.
        rt_info: Runtime information that the run wrote into the INT8 model.
        rounded: Weight port → ``(int8 weights, float32 scale)``; other weights are rounded to nearest.
        biases: Layer → float32 values added to its output, ``(channels,)``.
    """

    fingerprint: str
    preprocessing: tuple[str, ...]
    normalization: tuple[str, ...]
    plan: str
    rt_info: Mapping[str, str]
    rounded: Mapping[Port, Rounded] = field(default_factory=dict[Port, Rounded])
    biases: Mapping[str, NDArray[np.float32]] = field(default_factory=dict[str, NDArray[np.float32]])


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Rounded(_Strict):
    node: str
    input: NonNegativeInt
    shape: tuple[NonNegativeInt, ...]
    scale_shape: tuple[NonNegativeInt, ...]


class _Bias(_Strict):
    layer: str
    channels: NonNegativeInt


class _About(_Strict):
    version: Literal[1]
    fingerprint: str
    preprocessing: tuple[str, ...]
    normalization: tuple[str, ...]
    plan: str
    rt_info: dict[str, str]
    rounded: tuple[_Rounded, ...]
    biases: tuple[_Bias, ...]


def plan_hash(text: str) -> str:
    """Return the SHA-256 of a plan from its JSON as `calib.values.plan_file.plan_to_json` gives it."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def weights_path(plan: str | Path) -> Path:
    """Return where the weights of a plan file are: beside it, as .npz."""
    return Path(plan).with_suffix(".npz")


def weights_to_bytes(weights: PlanWeights) -> bytes:
    """Return the contents of the file."""
    about = {
        "version": WEIGHTS_VERSION,
        "fingerprint": weights.fingerprint,
        "preprocessing": weights.preprocessing,
        "normalization": weights.normalization,
        "plan": weights.plan,
        "rt_info": dict(weights.rt_info),
        "rounded": [
            {"node": port.node, "input": port.input, "shape": levels.shape, "scale_shape": scale.shape}
            for port, (levels, scale) in weights.rounded.items()
        ],
        "biases": [{"layer": layer, "channels": delta.size} for layer, delta in weights.biases.items()],
    }
    arrays = {
        "about": np.frombuffer(json.dumps(about).encode("ascii"), np.uint8),
        "levels": _joined((levels for levels, _ in weights.rounded.values()), np.int8),
        "scales": _joined((scale for _, scale in weights.rounded.values()), np.float32),
        "biases": _joined(weights.biases.values(), np.float32),
    }
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, **arrays, digest=_digest(arrays))
    return stream.getvalue()


def read_weights(path: str | Path) -> PlanWeights:
    """Read the file and check that all of it is there and unchanged.

    Raises:
        StatisticsError: It can't be read, is damaged, or is no such file.
    """
    try:
        arrays = _members(path)
        if not np.array_equal(arrays.pop("digest"), _digest(arrays)):
            raise ValueError("its contents are not those that were written")
        about = _About.model_validate(json.loads(arrays["about"].tobytes()))
        return _weights(about, arrays)
    except (OSError, ValueError, KeyError, RecursionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise StatisticsError(f"{path} is damaged, or holds no weights of a plan ({reason})") from error


def _weights(about: _About, arrays: Mapping[str, NDArray[Any]]) -> PlanWeights:
    levels = _parted(arrays["levels"], [one.shape for one in about.rounded])
    scales = _parted(arrays["scales"], [one.scale_shape for one in about.rounded])
    biases = _parted(arrays["biases"], [(one.channels,) for one in about.biases])
    ports = [Port(one.node, one.input) for one in about.rounded]
    return PlanWeights(
        about.fingerprint,
        about.preprocessing,
        about.normalization,
        about.plan,
        about.rt_info,
        dict(zip(ports, zip(levels, scales, strict=True), strict=True)),
        {one.layer: delta for one, delta in zip(about.biases, biases, strict=True)},
    )


def _members(path: str | Path) -> dict[str, NDArray[Any]]:
    """Read all arrays.

    Raises:
        ValueError: The file is damaged, or no such file.
    """
    try:
        with open(path, "rb") as stream, zipfile.ZipFile(stream) as file:
            return {name: _member(file, name) for name in ("about", *_KINDS, "digest")}
    except Exception as error:  # zipfile, zlib and numpy raise a dozen kinds on damaged bytes
        raise ValueError(str(error) or type(error).__name__) from error


def _member(file: zipfile.ZipFile, name: str) -> NDArray[Any]:
    """Read one array; stored bytes are no more than the file has, while compressed ones could be any number."""
    info = file.getinfo(f"{name}.npy")
    if info.compress_type != zipfile.ZIP_STORED or info.file_size > _MOST_BYTES:
        raise ValueError(f"{name} is compressed, or larger than {_MOST_BYTES >> 30} GiB")
    with file.open(info) as stream:
        data = stream.read()
    array = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    if array.dtype != _KINDS.get(name, np.dtype(np.uint8)) or array.ndim != 1:
        raise ValueError(f"{name} has type {array.dtype} and {array.ndim} axes")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds numbers that are not finite")
    return array


def _joined(parts: Any, dtype: Any) -> NDArray[Any]:
    return np.concatenate([np.zeros(0, dtype), *(np.asarray(part, dtype).ravel() for part in parts)])


def _parted(joined: NDArray[Any], shapes: Sequence[tuple[int, ...]]) -> list[NDArray[Any]]:
    sizes = [math.prod(shape) for shape in shapes]
    if sum(sizes) != joined.size:
        raise ValueError(f"it names {sum(sizes)} values and holds {joined.size}")
    ends = np.cumsum(sizes, dtype=np.int64)
    parts = zip(sizes, ends.tolist(), shapes, strict=True)
    return [joined[end - size : end].reshape(shape) for size, end, shape in parts]


def _digest(arrays: Mapping[str, NDArray[Any]]) -> NDArray[np.uint8]:
    digest = hashlib.sha256()
    for name in ("about", *_KINDS):
        digest.update(arrays[name].tobytes())
    return np.frombuffer(digest.digest(), np.uint8)
