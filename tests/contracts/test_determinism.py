"""The same model, samples and settings give the same bytes, whatever the order, the threads or the process."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import calib
from calib.runtime.session import ov

SAMPLES = 16


def write_model(folder: Path) -> Path:
    """Write a residual block and a head, with names that OpenVINO invents."""
    opset, random = ov.opset13, np.random.default_rng(0)

    def convolution(tensor: Any, outputs: int, inputs: int) -> Any:
        weights = random.normal(size=(outputs, inputs, 3, 3)).astype(np.float32)
        return opset.convolution(tensor, weights, [1, 1], [1, 1], [1, 1], [1, 1])

    image = opset.parameter([1, 3, 8, 8], np.float32, name="image")
    image.output(0).set_names({"image"})
    first = opset.relu(convolution(image, 8, 3))
    both = opset.relu(opset.add(convolution(first, 8, 8), first))
    pooled = opset.reduce_mean(both, np.array([2, 3]))
    scores = opset.matmul(pooled, random.normal(size=(8, 5)).astype(np.float32), False, False)
    ov.save_model(ov.Model([scores], [image], "model"), folder / "model.xml", compress_to_fp16=False)
    return folder / "model.xml"


def images() -> np.ndarray[Any, Any]:
    return np.random.default_rng(1).normal(size=(SAMPLES, 3, 8, 8)).astype(np.float32)


def digest(folder: Path) -> str:
    """Hash the model's files."""
    found = hashlib.sha256()
    for suffix in ("xml", "bin"):
        found.update((folder / f"model.{suffix}").read_bytes())
    return found.hexdigest()


def quantized(model: Path, samples: Any, folder: Path, **settings: Any) -> str:
    calib.quantize(model, samples, **settings).save(folder)
    return digest(folder)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def expected(model: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Hash of the result for one thread and the samples in order."""
    return quantized(model, list(images()), tmp_path_factory.mktemp("out"), threads=1)


def test_two_threads_give_the_bytes_of_one(model: Path, expected: str, tmp_path: Path):
    assert quantized(model, list(images()), tmp_path / "out", threads=2) == expected


@pytest.mark.parametrize("seed", [2, 3])
def test_the_order_of_samples_does_not_matter(seed: int, model: Path, expected: str, tmp_path: Path):
    order = np.random.default_rng(seed).permutation(SAMPLES)
    assert quantized(model, list(images()[order]), tmp_path / "out", threads=2) == expected


def test_samples_stacked_by_eight_are_the_same_samples(model: Path, expected: str, tmp_path: Path):
    assert quantized(model, list(images().reshape(-1, 8, 3, 8, 8)), tmp_path / "out", threads=1) == expected


def test_a_run_in_the_same_process_leaves_nothing_behind(model: Path, expected: str, tmp_path: Path):
    quantized(model, list(images()[:4]), tmp_path / "other", estimator="minmax")
    assert quantized(model, list(images()), tmp_path / "out", threads=1) == expected


@pytest.mark.parametrize("seed", ["1", "2"])
def test_the_hash_seed_of_the_process_does_not_matter(seed: str, model: Path, tmp_path: Path):
    np.savez(tmp_path / "data.npz", image=images())
    here = quantized(model, str(tmp_path / "data.npz"), tmp_path / "here", threads=1)
    command = [sys.executable, "-c", "from calib.cli import main; main()", "-q", "quantize", str(model)]
    command += ["--calibration", str(tmp_path / "data.npz"), "-o", str(tmp_path / "there"), "--threads", "1"]
    subprocess.run(
        command, env=os.environ | {"PYTHONHASHSEED": seed}, check=True, stdout=subprocess.DEVNULL, timeout=120
    )
    assert digest(tmp_path / "there") == here
