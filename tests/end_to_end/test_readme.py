"""README's commands and its Python run as they are written, in a folder that holds the files they name."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import calib
from calib.loading.load import input_specs, load_model
from calib.runtime.session import Session, ov
from calib.samples.open import open_dataset

ROOT = Path(calib.__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RANDOM = np.random.default_rng(0)


def commands() -> list[str]:
    """Return the commands of README's page of use, one by one, with what is optional or a choice written out."""
    block = README.split("## Use\n", 1)[1].split("\n```python", 1)[0]
    found: list[str] = []
    for line in block.splitlines():
        for command in line.split("#")[0].strip().split("; "):
            if option := re.search(r" \[([^\]]+)\]", command):
                found += [command.replace(option[0], ""), command.replace(option[0], f" {option[1]}")]
            elif choice := re.search(r"\S+(\|\S+)+", command):
                found += [command.replace(choice[0], one) for one in choice[0].split("|")]
            elif command:
                found.append(command)
    return found


def write_network(path: Path) -> None:
    """Write convolution → ReLU → mean → scores of 4 classes as ONNX."""

    def weights(name: str, *shape: int) -> TensorProto:
        return numpy_helper.from_array(RANDOM.normal(size=shape).astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["image", "w"], ["features"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["features"], ["positive"]),
        helper.make_node("GlobalAveragePool", ["positive"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["row"]),
        helper.make_node("MatMul", ["row", "v"], ["scores"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 16, 16])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 4])
    graph = helper.make_graph(nodes, "readme", [image], [scores], [weights("w", 8, 3, 3, 3), weights("v", 8, 4)])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model in both formats, samples, images, and labels that are what FP32 says."""
    write_network(tmp_path / "model.onnx")
    ov.save_model(ov.convert_model(tmp_path / "model.onnx"), tmp_path / "model.xml", compress_to_fp16=False)
    np.savez(tmp_path / "samples.npz", image=RANDOM.normal(size=(24, 3, 16, 16)).astype(np.float32))
    (tmp_path / "images").mkdir()
    for number in range(24):
        pixels = RANDOM.integers(0, 256, (16, 16, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{number}.png")
    model = load_model(tmp_path / "model.xml").model
    session = Session(model)
    shown = open_dataset(tmp_path / "images", inputs=input_specs(model))
    lines = [f"images/{sample.id},{int(session(sample.feed)[0].argmax())}" for sample in shown]  # pyright: ignore
    (tmp_path / "val.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "datasets").mkdir()  # what the zoo writes goes beside its manifest
    (tmp_path / "datasets" / "demo").symlink_to(ROOT / "datasets" / "demo")
    shutil.copy(ROOT / "datasets" / "zoo.yaml", tmp_path / "datasets")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_commands_of_the_page_of_use_run_as_written(folder: Path, run: Callable[..., Any]):
    listed = commands()
    assert len(listed) >= 14
    for command in listed:
        program, *arguments = shlex.split(command)
        assert program == "calib"
        if arguments[:2] == ["zoo", "run"]:  # the demo zoo runs in test_zoo_faults; here it is planned
            arguments[1:] = ["plan", *arguments[2:3]]
        ended = run(*arguments)
        assert ended.code == 0, f"{command}: {ended.err}"
    assert (folder / "int8" / "report.html").exists()


def test_the_python_of_the_page_of_use_runs_as_written(folder: Path):
    code = re.search(r"```python\n(.*?)```", README, re.S)
    assert code
    samples = list(np.load(folder / "samples.npz")["image"])
    session = Session(load_model(folder / "model.xml").model)
    labelled = [(sample, int(session([sample[None]])[0].argmax())) for sample in samples]
    exec(compile(code[1], "README.md", "exec"), {"samples": samples, "labelled": labelled})
    assert sorted(path.name for path in (folder / "int8").iterdir()) >= ["model.bin", "model.xml", "plan.json"]
    assert (folder / "int8" / "report.json").exists()
