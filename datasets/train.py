"""Make everything in datasets/demo: images from Fashion-MNIST, and three networks trained on it.

    pip install torch==2.13.0 openvino numpy
    python datasets/train.py /usr/share/datasets/fashion-mnist [FOLDER]

The first argument is a folder with Fashion-MNIST's four .gz files (Debian: dataset-fashion-mnist). Takes about eight
minutes on one core, and prints the rows of the tables in datasets/README.md. The images come out the same bytes
everywhere; the weights depend in their last bits on the CPU and on torch, so a new run gives new sums.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import sys
from pathlib import Path

import numpy as np
import openvino as ov
import torch
from networks import NETWORKS, InvertedResidual
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

SEED = 2
BATCH = 128
EPOCHS = 1.5
PEAK_RATE = 4e-3
CALIBRATION, VALIDATION = 300, 2500
# ln of the spread of channels in the depthwise network. Nagel et al. 2019 (figure 2) show such ranges in the published
# MobileNetV2, where training made them; here they are put in on purpose.
SPREAD = 1.25


def read_part(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images (n, 1, 28, 28) uint8 and labels (n,) int64 of ``part``, "train" or "t10k" (IDX files)."""
    with gzip.open(folder / f"{part}-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 1, 28, 28)
    with gzip.open(folder / f"{part}-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8).astype(np.int64)
    return images, labels


def as_input(images: np.ndarray) -> np.ndarray:
    """Return what the networks take: float32 in [0, 1]."""
    return images.astype(np.float32) / np.float32(255)


def choose(images: np.ndarray, labels: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return ``count`` images and their labels, drawn without replacement by a fixed seed, in the dataset's order."""
    rows = np.sort(np.random.default_rng(SEED).choice(len(images), count, replace=False))
    return as_input(images[rows]), labels[rows]


def train(network: nn.Module, images: np.ndarray, labels: np.ndarray) -> None:
    """Train in place with AdamW and one cycle of the learning rate."""
    network.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    steps = int(EPOCHS * len(images) / BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, steps, pct_start=0.2)
    draw = np.random.default_rng(SEED)
    order = np.concatenate([draw.permutation(len(images)) for _ in range(int(np.ceil(EPOCHS)))])
    for step in range(steps):
        rows = order[step * BATCH : (step + 1) * BATCH]
        logits = network(torch.from_numpy(as_input(images[rows])))
        loss = nn.functional.cross_entropy(logits, torch.from_numpy(labels[rows]), label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            print(f"  step {step}/{steps}: loss {loss.item():.3f}", file=sys.stderr, flush=True)
    network.eval()


@torch.no_grad()
def spread_channels(network: nn.Module) -> None:
    """Scale channel c between each depthwise convolution and its projection by s_c, keeping the function.

    ReLU(s (w * x + b)) = s ReLU(w * x + b) for s > 0, so that s goes into the depthwise convolution's normalization
    and 1 / s into the projection's weights (equations 2-5 of Nagel et al. 2019, run backwards). s_c is log-normal with
    a spread of SPREAD, rounded to a power of two: no bit of a product changes.
    """
    draw = np.random.default_rng(SEED)
    for block in network.modules():
        if isinstance(block, InvertedResidual):
            convolution, normalization, projection = block.depthwise[0], block.depthwise[1], block.project[0]
            scales = torch.from_numpy(draw.lognormal(0.0, SPREAD, convolution.out_channels)).float()
            scales = torch.exp2(torch.round(torch.log2(scales)))
            normalization.weight *= scales
            normalization.bias *= scales
            projection.weight /= scales.reshape(1, -1, 1, 1)


def fold(network: nn.Module) -> nn.Module:
    """Fold batch normalizations into their convolutions, in place: the IR's layers then keep their modules' names."""
    for name, child in network.named_children():
        if isinstance(child, nn.Sequential) and len(child) == 2 and isinstance(child[1], nn.BatchNorm2d):
            setattr(network, name, fuse_conv_bn_eval(child[0], child[1]))
        else:
            fold(child)
    return network


def convert(name: str, network: nn.Module) -> ov.Model:
    """Return the FP32 IR called ``name``: input "image" [1, 1, 28, 28], output "logits" [1, 10]."""
    model = ov.convert_model(network, example_input=torch.zeros(1, 1, 28, 28), input=[1, 1, 28, 28])
    model.set_friendly_name(name)
    name_operations(model)
    model.input(0).get_tensor().set_names({"image"})
    model.output(0).get_tensor().set_names({"logits"})
    return model


def name_operations(model: ov.Model) -> None:
    """Name operations after their module and type ("block.0.first/Convolution"), constants after who reads them.

    OpenVINO's own names hold a counter of the process, which would make two conversions differ.
    """
    taken: dict[str, int] = {}
    operations = model.get_ordered_ops()
    for operation in operations:
        module = re.match(r"__module\.([^/]+)/", operation.get_friendly_name())
        name = f"{module[1]}/{operation.get_type_name()}" if module else operation.get_type_name()
        taken[name] = taken.get(name, 0) + 1
        operation.set_friendly_name(name if taken[name] == 1 else f"{name}_{taken[name]}")
        for output in operation.outputs():
            output.get_tensor().set_names(set())
    for operation in operations:
        if operation.get_type_name() == "Constant":
            reader = min(operation.output(0).get_target_inputs(), key=lambda port: port.get_node().get_friendly_name())
            operation.set_friendly_name(f"{reader.get_node().get_friendly_name()}/{reader.get_index()}")
    model.inputs[0].get_node().set_friendly_name("image")
    model.outputs[0].get_node().set_friendly_name("logits")


def measure(path: Path, images: np.ndarray, labels: np.ndarray) -> float:
    """Return the share of images whose largest logit is the label's, run in f32 on one thread."""
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}
    compiled = ov.Core().compile_model(path, "CPU", settings)
    hits = [int(np.argmax(compiled(image[None])[0])) == label for image, label in zip(images, labels, strict=True)]
    return float(np.mean(hits))


def main(source: Path, folder: Path) -> None:
    """Write the data and the networks into ``folder``, and print the README's rows."""
    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    images, labels = read_part(source, "train")
    for name, part, count in (("calibration", "train", CALIBRATION), ("validation", "t10k", VALIDATION)):
        chosen, targets = choose(*read_part(source, part), count)
        np.savez_compressed(folder / f"{name}.npz", image=chosen, labels=targets)
    for name, build in NETWORKS.items():
        print(f"{name}:", file=sys.stderr)
        torch.manual_seed(SEED)
        network = build()
        train(network, images, labels)
        spread_channels(network)
        ov.save_model(convert(name, fold(network)), folder / f"{name}.xml", compress_to_fp16=False)
        print(f"| {name} | {measure(folder / f'{name}.xml', chosen, targets):.4f} |")
    for path in sorted(folder.iterdir()):
        print(f"| {path.name} | {path.stat().st_size} | `{hashlib.sha256(path.read_bytes()).hexdigest()}` |")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) == 3 else Path(__file__).parent / "demo")
