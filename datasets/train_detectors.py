"""Make datasets/demo/detection: a YOLO and an SSD, trained on scenes composed from Fashion-MNIST.

    pip install -e . torch==2.14.1
    python datasets/train_detectors.py /usr/share/datasets/fashion-mnist [FOLDER]

The first argument is that of train.py. Both networks see the same pictures; their data are composed from what train.py
wrote (calib/demo/scenes.py), so that nothing but the networks is written. The weights depend in their last bits on the
CPU and on torch, so a new run gives new sums.
"""

from __future__ import annotations

import hashlib
import sys
import time
from pathlib import Path

import numpy as np
import openvino as ov
import torch
from detectors import DETECTORS, SIDE
from losses import LOSSES, Targets
from torch import nn
from train import as_input, fold, name_operations, read_part

from calib.demo.scenes import MOST_ITEMS, compose_one

SEED = 3
BATCH = 32
STEPS, WARM_UP, FALL = 740, 50, 0.25  # the learning rate rises over WARM_UP steps and falls over the last FALL of all
RATE = 3e-3
OUTPUTS = {"yolo": ("predictions",), "ssd": ("deltas", "scores", "priors")}


def batch(items: np.ndarray, labels: np.ndarray, step: int) -> tuple[torch.Tensor, Targets]:
    """Return pictures (BATCH, 3, SIDE, SIDE) in 0..255 and their objects."""
    scenes = [compose_one(items, labels, np.random.default_rng([SEED, step, row])) for row in range(BATCH)]
    images = np.stack([scene.image for scene in scenes]).transpose(0, 3, 1, 2).astype(np.float32)
    boxes = np.zeros((BATCH, MOST_ITEMS, 4), np.float32)
    kinds, there = np.zeros((BATCH, MOST_ITEMS), np.int64), np.zeros((BATCH, MOST_ITEMS), bool)
    for row, scene in enumerate(scenes):
        count = len(scene.labels)
        boxes[row, :count], kinds[row, :count], there[row, :count] = scene.boxes, scene.labels, True
    return torch.from_numpy(images), (torch.from_numpy(boxes), torch.from_numpy(kinds), torch.from_numpy(there))


def train(name: str, network: nn.Module, items: np.ndarray, labels: np.ndarray, checkpoint: Path) -> None:
    """Train in place with AdamW; all networks see the same pictures."""
    network.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.02)
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = RATE * min((step + 1) / WARM_UP, (STEPS - step) / (FALL * STEPS), 1.0)
        images, targets = batch(items, labels, step)
        loss = LOSSES[name](network, images.to(memory_format=torch.channels_last), targets)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 10.0)
        optimizer.step()
        if step % 20 == 0:
            print(
                f"  step {step}/{STEPS}, {time.process_time():.0f} s: loss {loss.item():.3f}",
                file=sys.stderr,
                flush=True,
            )
        if step % 200 == 199:
            torch.save(network.state_dict(), checkpoint)
    network.eval()


def convert(name: str, network: nn.Module) -> ov.Model:
    """Return the IR called ``name``: input "image" [1, 3, 96, 96] in 0..255, outputs as in OUTPUTS."""
    shape = [1, 3, SIDE, SIDE]
    model = ov.convert_model(network, example_input=torch.zeros(shape), input=shape)
    model.set_friendly_name(name)
    name_operations(model)
    model.input(0).get_tensor().set_names({"image"})
    for output, called in zip(model.outputs, OUTPUTS[name], strict=True):
        output.get_tensor().set_names({called})
        output.get_node().set_friendly_name(called)
    return model


def main(source: Path, folder: Path) -> None:
    """Write the networks into ``folder``, and print the README's rows."""
    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    images, labels = read_part(source, "train")
    for name, build in DETECTORS.items():
        torch.manual_seed(SEED)
        network = build()
        train(name, network, as_input(images[:, 0]), labels, folder / f"{name}.pt")
        ov.save_model(convert(name, fold(network)), folder / f"{name}.xml", compress_to_fp16=True)
        (folder / f"{name}.pt").unlink()
    for path in sorted(folder.iterdir()):
        print(f"| {path.name} | {path.stat().st_size} | `{hashlib.sha256(path.read_bytes()).hexdigest()}` |")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) == 3 else Path(__file__).parent / "demo" / "detection")
