"""Networks with calibration and validation samples and a metric: what accuracy is measured on.

The demo networks have true labels. PP-OCR's and the regressor of face landmarks are judged by how near they stay to
their FP32 outputs, on texts drawn with Pillow's own font and on small photographs of faces; validation texts and faces
are other ones than those of calibration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from subjects import SUBJECTS
from truth_subjects import names, package

from calib.accuracy.budget import Interval, paired_interval
from calib.corrections.scoring import sample_energies
from calib.demo import demo_folder
from calib.metrics.metric import Metric
from calib.metrics.resolve import resolve_metric
from calib.runtime.session import Session, core, ov
from calib.values.sqnr import decibel

Array = NDArray[Any]
Feed = Array | tuple[Array, ...]
"""One array, or those of all inputs in their order."""


@dataclass(frozen=True)
class Case:
    """One network and its data.

    Attributes:
        path: of the FP32 IR or ONNX file.
        calibration: samples, batch axis included.
        validation: likewise; none is among the calibration samples.
        targets: one a validation sample; None where the metric compares with FP32.
    """

    name: str
    path: Path
    calibration: Sequence[Feed]
    validation: Sequence[Feed]
    metric: Any
    targets: Sequence[Any] | None = None


@dataclass(frozen=True)
class Score:
    """What a model does on the validation samples, against FP32 on the same."""

    value: float
    drop: float
    interval: Interval | None
    sqnr_db: float


def arrays_of(feed: Feed) -> list[Array]:
    """Return the arrays of all inputs."""
    return list(feed) if isinstance(feed, tuple) else [feed]


def metric_named(name: str) -> Metric:
    found = resolve_metric(name)
    assert hasattr(found, "measure")
    return found  # pyright: ignore[reportReturnType]


class Reference:
    """FP32 outputs of a case, which every other model is held against."""

    def __init__(self, case: Case):
        self.case = case
        model = core().read_model(case.path)
        self._names = [str(number) for number in range(len(model.outputs))]
        self.outputs = self.run(model)
        self.parts = self.measured(self.outputs)
        self.value = float(case.metric.aggregate(self.parts))

    def run(self, model: ov.Model) -> list[list[NDArray[Any]]]:
        """Return the outputs of all validation samples, in f32."""
        session = Session(model)
        return [session(arrays_of(feed)) for feed in self.case.validation]

    def measured(self, outputs: Sequence[Sequence[NDArray[Any]]]) -> list[Any]:
        """Return the metric's parts."""
        targets = self.case.targets or [None] * len(outputs)
        rows = zip(outputs, targets, self.outputs, strict=True)
        return [self.case.metric.measure(got, target, fp32) for got, target, fp32 in rows]

    def score(self, model: ov.Model) -> Score:
        """Return what a quantized model does."""
        outputs = self.run(model)
        parts, metric = self.measured(outputs), self.case.metric
        value = float(metric.aggregate(parts))
        drop = self.value - value if metric.higher_is_better else value - self.value
        before, after = metric.per_sample(self.parts), metric.per_sample(parts)
        interval = None
        if before is not None and after is not None:
            interval = paired_interval(before, after, metric.higher_is_better)
        sums = [rows.sum(axis=0) for rows in sample_energies(self._names, self.outputs, outputs).values()]
        sqnr = decibel(1.0, float(np.mean([noise / signal for signal, noise in sums if signal > 0])))
        return Score(value, drop, interval, sqnr)


class LandmarkDistance:
    """1 − mean distance of the first output's (x, y, z) points from FP32's, over the width that FP32's points span."""

    name = "landmarks"
    higher_is_better = True
    unit = "1 − relative distance"
    reads = "first output: x, y and z of each point"
    needs_target = False
    needs_reference = True

    def measure(self, outputs: Sequence[NDArray[Any]], target: Any, reference: Sequence[NDArray[Any]]) -> float:
        """Return one sample's figure."""
        got, want = (np.asarray(arrays[0], np.float64).reshape(-1, 3)[:, :2] for arrays in (outputs, reference))
        return float(1 - np.linalg.norm(got - want, axis=1).mean() / np.ptp(want[:, 0]))

    def aggregate(self, parts: Sequence[float]) -> float:
        """Return the mean."""
        return float(np.mean(parts))

    def per_sample(self, parts: Sequence[float]) -> NDArray[np.float64]:
        """Return the figure of each sample."""
        return np.array(parts)


@dataclass(frozen=True)
class FolderMetric:
    """The metric of a network in a folder, whose function sees all samples at once.

    Attributes:
        evaluate: ``evaluate(predict, data)``, higher is better, where ``predict(*inputs)`` returns the outputs of one
            sample and ``data`` holds arrays by name.
        data: the arrays, of which those as long as ``val_0`` hold one entry a sample.
    """

    name: str
    evaluate: Callable[[Callable[..., Any], Mapping[str, Any]], float]
    data: Mapping[str, NDArray[Any]]
    higher_is_better = True

    def measure(self, outputs: Sequence[NDArray[Any]], target: Any, reference: Any) -> Sequence[NDArray[Any]]:
        """Return the outputs: only all of them together have a figure."""
        return outputs

    def aggregate(self, parts: Sequence[Sequence[NDArray[Any]]]) -> float:
        """Return the figure of all samples."""
        return self._of(parts, np.arange(len(parts)))

    def per_sample(self, parts: Sequence[Sequence[NDArray[Any]]]) -> NDArray[np.float64] | None:
        """Return the jackknife's pseudo-values of up to GROUPS groups of samples: their mean's error is the figure's.

        Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, §11.5, eq. 11.15.
        """
        groups = min(GROUPS, len(parts))
        numbers = np.arange(len(parts))
        whole = self.aggregate(parts)
        left_out = [self._of(parts, numbers[numbers % groups != group]) for group in range(groups)]
        return groups * whole - (groups - 1) * np.array(left_out)

    def _of(self, parts: Sequence[Sequence[NDArray[Any]]], kept: NDArray[np.int64]) -> float:
        count = len(self.data["val_0"])
        some = {name: array[kept] if len(array) == count else array for name, array in self.data.items()}
        rest = iter([parts[number] for number in kept])
        return float(self.evaluate(lambda *_: list(next(rest)), some))


GROUPS = 40


def in_folder(folder: Path, _: Path, most: int = 600) -> Case:
    """Return a network that somebody put into a folder, with the first of its validation samples.

    The folder holds ``model.xml``, ``data.npz`` with ``cal_0`` and ``val_0`` (samples of the only input) and whatever
    else ``evaluate(predict, data)`` in ``metric.py`` needs. That file is run.
    """
    with np.load(folder / "data.npz") as stored:
        data = {name: stored[name] for name in stored.files}
    data = {name: array.astype(np.float32) if array.dtype == np.float16 else array for name, array in data.items()}
    count = len(data["val_0"])
    data = {name: array[:most] if len(array) == count else array for name, array in data.items()}
    space: dict[str, Any] = {}
    exec((folder / "metric.py").read_text(encoding="utf-8"), space)
    metric = FolderMetric((space["evaluate"].__doc__ or folder.name).strip(), space["evaluate"], data)
    return Case(folder.name, folder / "model.xml", list(data["cal_0"]), list(data["val_0"]), metric)


def demo(name: str, folder: Path) -> Case:
    """Return a demo network with all its images."""
    with np.load(demo_folder() / "validation.npz") as data:
        images = next(data[key] for key in data.files if key != "labels")
        labels = data["labels"].tolist()
    calibration = SUBJECTS[f"demo {name}"].samples(300)
    path = SUBJECTS[f"demo {name}"].write(folder)
    validation = [image.reshape(calibration[0].shape) for image in images]
    return Case(name, path, calibration, validation, metric_named("top-1"), labels)


def unlabelled(name: str, metric: Any, calibration: int, validation: int, folder: Path) -> Case:
    """Return a network of a package, with the first samples to calibrate it and others to hold it against FP32."""
    made = SUBJECTS[name].samples(calibration + validation)
    path = SUBJECTS[name].write(folder)
    return Case(name, path, made[:calibration], made[calibration:], metric)


PACKAGES = tuple(name.removeprefix("package/") for name in names(["package"], range(0), None))


def packaged(name: str, folder: Path) -> Case:
    """Return a network of ``truth_subjects``, which its package ships, judged by the relative error of its outputs."""
    found = package(name, folder)
    calibration, validation = (
        [arrays[0] if len(arrays) == 1 else tuple(arrays) for (arrays,) in part]
        for part in (found.calibration, found.unseen)
    )
    return Case(name, found.path, calibration, validation, metric_named("relative-l2"))


CASES: Mapping[str, Callable[[Path], Case]] = {
    "mobilenet": lambda folder: demo("mobilenet", folder),
    "resnet": lambda folder: demo("resnet", folder),
    "vit": lambda folder: demo("vit", folder),
    "ppocr angle": lambda folder: unlabelled("ppocr angle", metric_named("agreement"), 100, 300, folder),
    "ppocr recognition": lambda folder: unlabelled("ppocr recognition", metric_named("agreement"), 100, 150, folder),
    "ppocr detection": lambda folder: unlabelled("ppocr detection", metric_named("relative-l2"), 24, 40, folder),
    "face landmarks": lambda folder: unlabelled("face landmarks", LandmarkDistance(), 120, 80, folder),
    "efficientnet-lite0": lambda folder: unlabelled("efficientnet-lite0", metric_named("agreement"), 60, 200, folder),
    **{name: partial(packaged, name) for name in PACKAGES},
}
"""Name → how it is made, in a folder for its files."""
