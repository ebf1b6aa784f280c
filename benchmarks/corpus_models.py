"""Write the models of the corpus into a folder: the onnx package's, families, generated ones, torchvision's families.

    python benchmarks/corpus_models.py FOLDER [--generated 40] [--only torchvision]

Families are the small networks of ``corpus_families.py``. Beside a model with dynamic axes stands an .npz of the shapes
of its inputs, which samples get.

torchvision's have random weights, and batch statistics of four random images, without which deep ones let no signal
through; torch and torchvision have to be installed. What is in the folder already is not written again.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from calib.runtime.session import ov  # noqa: E402

COMPUTING = {"Conv", "ConvTranspose", "MatMul", "Gemm", "Einsum", "LSTM", "GRU", "RNN", "Attention"}
FIRST_SEED = 2000  # of those that choose from all steps

# The smallest of each family, and the side of its images.
CLASSIFIERS = {
    **dict.fromkeys(("alexnet", "vgg11", "vgg11_bn", "squeezenet1_1", "densenet121", "googlenet"), 96),
    **dict.fromkeys(("resnet18", "resnet50", "resnext50_32x4d", "wide_resnet50_2", "regnet_x_400mf"), 96),
    **dict.fromkeys(("regnet_y_400mf", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small"), 96),
    **dict.fromkeys(("shufflenet_v2_x0_5", "efficientnet_b0", "efficientnet_v2_s", "convnext_tiny"), 96),
    "inception_v3": 299,  # its second classifier, in training, takes no less
    **dict.fromkeys(("vit_b_16", "swin_t", "swin_v2_t", "maxvit_t"), 224),
}
SEGMENTERS = dict.fromkeys(("lraspp_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large", "fcn_resnet50"), 96)
VIDEOS = dict.fromkeys(("r3d_18", "mc3_18", "r2plus1d_18", "s3d", "mvit_v1_b", "swin3d_t"), 64)
DETECTORS = dict.fromkeys(("ssdlite320_mobilenet_v3_large", "fasterrcnn_mobilenet_v3_large_320_fpn"), 320)


def write_onnx(folder: Path) -> None:
    """Write the package's models that hold an operation with weights."""
    from onnx_corpus import corpus

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package's own reference data divide by zero
        for name, model in corpus():
            path = folder / f"onnx {name.replace('/', ' ')}.onnx"
            if {node.op_type for node in model.graph.node} & COMPUTING and not path.exists():
                onnx.save(model, path)


def write_generated(folder: Path, count: int) -> None:
    """Write random networks, as the tests make them."""
    from strategies_networks import WIDER, seeded_network

    for seed in range(WIDER + FIRST_SEED, WIDER + FIRST_SEED + count):
        path = folder / f"generated {seed}.xml"
        if not path.exists():
            network = seeded_network(seed)
            if network.model.is_dynamic():
                shapes: dict[str, Any] = {
                    f"input {place}": np.array(x.shape) for place, x in enumerate(network.feeds[0])
                }
                np.savez(path.with_suffix(".npz"), **shapes)
            ov.save_model(network.model, path, compress_to_fp16=False)


def write_families(folder: Path) -> None:
    """Write a network of each family, and some of them once more in f16."""
    from corpus_families import DYNAMIC, FAMILIES, HALVED, made

    for name in FAMILIES:
        path = folder / f"family {name}.xml"
        if not path.exists():
            if name in DYNAMIC:
                shape: dict[str, Any] = {"input 0": np.array(DYNAMIC[name])}
                np.savez(path.with_suffix(".npz"), **shape)
            ov.save_model(made(name), path, compress_to_fp16=False)
        half = folder / f"family f16 {name}.xml"
        if name in HALVED and not half.exists():
            ov.save_model(_in_half(made(name)), half, compress_to_fp16=False)


def _in_half(model: ov.Model) -> ov.Model:
    """Return a network that computes in f16, inputs, outputs and weights, as half-precision converters write it."""
    for node in model.get_ops():
        if node.get_type_name() == "Constant" and node.get_element_type() == ov.Type.f32:
            half = ov.opset13.constant(node.get_data().astype(np.float16))
            node.output(0).replace(half.output(0))
    for parameter in model.get_parameters():
        if parameter.get_element_type() == ov.Type.f32:
            parameter.set_element_type(ov.Type.f16)
    model.validate_nodes_and_infer_types()
    return model


def write_torchvision(folder: Path) -> None:
    """Write the smallest network of each family as IR."""
    from torchvision import models

    weights = {"weights": None}
    makers: tuple[tuple[Mapping[Any, int], Callable[[str], Any], tuple[int, ...]], ...] = (
        (CLASSIFIERS, lambda name: getattr(models, name)(**weights), ()),
        (SEGMENTERS, lambda name: getattr(models.segmentation, name)(**weights, weights_backbone=None), ()),
        (VIDEOS, lambda name: getattr(models.video, name)(**weights), (16,)),
        (DETECTORS, lambda name: getattr(models.detection, name)(**weights, weights_backbone=None), ()),
    )
    for family, make, frames in makers:
        for name, side in family.items():
            path = folder / f"torchvision {name}.xml"
            if path.exists():
                continue
            if name.startswith(("mvit", "swin3d", "s3d")):
                side = 224
            try:
                ov.save_model(_converted(make(name), (3, *frames, side, side)), path, compress_to_fp16=False)
                print(path.name, flush=True)
            except Exception as error:  # what OpenVINO's converter can't take is no question to calib
                print(f"{path.name} could not be converted: {type(error).__name__}: {error}"[:300], flush=True)


def _converted(network: Any, shape: tuple[int, ...]) -> ov.Model:
    """Return a torch network as OpenVINO converts it, of static shape, with batch statistics of random images."""
    import torch

    torch.manual_seed(0)
    net, images = network, torch.randn(4, *shape)
    assert isinstance(net, torch.nn.Module)
    statistics = [one for one in net.modules() if isinstance(one, torch.nn.modules.batchnorm._BatchNorm)]
    detects = type(net).__module__.startswith("torchvision.models.detection")
    if statistics and not detects:
        for one in statistics:
            one.reset_running_stats()
            one.momentum = None  # the mean over all batches seen
        net.train()
        with torch.no_grad():
            net(images)
    net.eval()
    if detects:
        net = _first_found(net)
    with torch.no_grad():
        traced = torch.jit.trace(net, images[:1], check_trace=False, strict=False)
    model = ov.convert_model(traced, example_input=images[:1])
    model.reshape([1, *shape])
    return model


def _first_found(net: Any) -> Any:
    """Return a detector whose outputs are boxes, labels and scores of the first image, which can be traced."""
    import torch

    class First(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, images: Any) -> tuple[Any, ...]:
            found = self.net(list(images))[0]
            return found["boxes"], found["labels"], found["scores"]

    return First().eval()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--generated", type=int, default=40)
    parser.add_argument("--only", choices=("onnx", "families", "generated", "torchvision"))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.only in (None, "onnx"):
        write_onnx(options.folder)
    if options.only in (None, "families"):
        write_families(options.folder)
    if options.only in (None, "generated"):
        write_generated(options.folder, options.generated)
    if options.only in (None, "torchvision"):
        write_torchvision(options.folder)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
