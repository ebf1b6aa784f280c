"""Estimate the cost of a job from the multiplications of its model and from jobs that have finished here."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from statistics import median
from typing import IO, Any
from xml.etree import ElementTree

import numpy as np

from calib.config import Settings
from calib.config.cost import Work, expected_cost
from calib.config.efforts import EFFORTS
from calib.errors import CalibError
from calib.graph.layers import LAYERS, LayerRule
from calib.samples.source import parse_source
from calib.zoo.jobs import Attempt
from calib.zoo.make_jobs import ZooJob
from calib.zoo.urls import is_url, parts

# No job is run for an estimate, so what compiling a network and one inference take is guessed: compiling from networks
# of 10 to 100 layers on an AMD EPYC, .4 to 1.5 of what it took; the multiplications from a Xeon with AVX-512. Jobs that
# have ended correct both.
START_SECONDS = 2.5  # loading OpenVINO and calib, writing the result
MULTIPLICATIONS_A_SECOND = 10e9
COMPILING_SECONDS, LAYER_SECONDS, WEIGHT_SECONDS = 0.04, 0.0018, 1e-8
START_BYTES = 150e6


@dataclass(frozen=True)
class Expected:
    """Seconds of one worker, and its peak memory in bytes."""

    seconds: float
    memory: float


@dataclass(frozen=True)
class Size:
    """Size of one inference.

    Attributes:
        multiplications: Number of multiplications in convolutions and MatMuls.
        layers: Number of convolutions and MatMuls.
        activations: Bytes of all tensors between operations, in f32.
    """

    multiplications: float
    layers: int
    activations: float


def expected(job: ZooJob, size: Size | None = None) -> Expected | None:
    """Return the cost of a job on the machine that the constants above are from; None if it can't be estimated.

    A search that has to revert layers costs more, but the number of its evaluations is not known in advance.

    Args:
        job: Job to estimate.
        size: Size of one inference of its model if it is known, so that the file need not be read.
    """
    if size is None and not is_url(job.model):
        size = size_of(job.model)
    if size is None:
        return None
    effort, asked, weights = str(_setting(job, "effort")), int(_setting(job, "samples")), bytes_of(job)
    work = Work(
        COMPILING_SECONDS + LAYER_SECONDS * size.layers + WEIGHT_SECONDS * weights / 4,
        size.multiplications / MULTIPLICATIONS_A_SECOND / job.threads,
        size.layers,
        weights / 4,
        min(asked, count(job.calibration, job.base) or asked),
        count(job.validation, job.base) or 0,
    )
    memory = START_BYTES + 2 * weights + EFFORTS[effort].activations_held * size.activations
    return Expected(START_SECONDS + expected_cost(work, effort).seconds, memory)


def learned(known: Sequence[tuple[Expected, Attempt]]) -> tuple[float, float]:
    """Return the median ratios of the time and memory of attempts to those expected."""
    longer = [seconds_of(attempt) / guess.seconds for guess, attempt in known]
    larger = [attempt.peak_memory / guess.memory for guess, attempt in known if attempt.peak_memory]
    return median(longer or [1.0]), median(larger or [1.0])


def seconds_of(attempt: Attempt) -> float:
    """Return the seconds of an attempt."""
    return (attempt.ended or attempt.started) - attempt.started


def bytes_of(job: ZooJob) -> int:
    """Return the bytes of a model's files on this machine, 0 for a URL."""
    return 0 if is_url(job.model) else sum(os.path.getsize(p) for p in parts(job.model) if os.path.exists(p))


def size_of(path: str) -> Size | None:
    """Return the size of one inference from an IR's .xml alone; a dynamic batch counts as 1.

    It is None for other formats, unreadable files and other dynamic dimensions.
    """
    multiplications, layers, activations = 0.0, 0, 0.0
    try:
        for _, element in ElementTree.iterparse(path):
            if element.tag == "layer":
                kind, outputs = element.get("type", ""), [_shape(port) for port in element.findall("output/port")]
                if kind in LAYERS:
                    multiplications += _multiplications(element, LAYERS[kind], outputs[0])
                    layers += 1
                if kind != "Const":
                    activations += 4.0 * sum(prod(shape) for shape in outputs)
                element.clear()
    except (OSError, ElementTree.ParseError, ValueError, IndexError):
        return None
    return Size(multiplications, layers, activations)


def _multiplications(layer: ElementTree.Element, rule: LayerRule, output: list[int]) -> float:
    ports = layer.findall("input/port")
    data, weights = _shape(ports[0]), _shape(ports[rule.other])
    written = layer.find("data")
    options = {} if written is None else written.attrib
    swapped = {name: options.get(name) in ("true", "1") for name in rule.transposed_by}
    return float(rule.multiply_accumulates(data, weights, output, swapped))


def _shape(port: ElementTree.Element) -> list[int]:
    shape = [int(dim.text or "") for dim in port.findall("dim")]
    if any(size < 0 for size in shape[1:]):
        raise ValueError("dynamic")
    return [abs(size) for size in shape]


def count(text: str, base: str) -> int | None:
    """Return the number of samples in a DATA argument if it is cheap to find: an .npz, or a folder of files."""
    try:
        path = parse_source(text, (), Path(base)).path if text else None
        if path is None:
            return None
        if path.is_dir():
            return sum(entry.is_file() for entry in os.scandir(path))
        if path.suffix != ".npz":
            return None
        with zipfile.ZipFile(path) as archive, archive.open(archive.namelist()[0]) as file:
            return _first_dimension(file)
    except (CalibError, OSError, ValueError, IndexError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error):
        return None


def _first_dimension(file: IO[bytes]) -> int | None:
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape = read[np.lib.format.read_magic(file)](file)[0]
    return shape[0] if shape else None


def _setting(job: ZooJob, name: str) -> Any:
    return job.settings.get(name, Settings.model_fields[name].default)
