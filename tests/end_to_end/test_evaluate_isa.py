"""``calib evaluate --isa``: a promise is checked on the CPU that the model ships to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from cpu_features import EXACT_INT8, needs

from calib.cli import main
from calib.errors import UsageError
from calib.runtime.isa import ISAS
from calib.runtime.session import ov
from calib.values.evaluation import Evaluation

op = ov.opset13


def saturating(path: Path, top: int) -> Path:
    """Save a convolution whose weights are all ``top`` of ±127; its mean output is the mean input times 144."""
    x = op.parameter([1, 16, 8, 8], np.float32, name="x")
    x.output(0).set_names({"x"})
    low, high = np.float32(0), np.float32(255)
    integers = op.convert(op.constant(np.full((16, 16, 3, 3), top, np.int8)), "f32")
    weights = op.multiply(integers, op.constant(np.full((16, 1, 1, 1), 1 / top, np.float32)))
    quantized = op.fake_quantize(x, low, high, low, high, 256)
    conv = op.convolution(quantized, weights, [1, 1], [0, 0], [0, 0], [1, 1])
    mean = op.reduce_mean(conv, np.array([1, 2, 3]), keep_dims=False)
    ov.save_model(ov.Model([op.result(mean)], [x], path.stem), path, compress_to_fp16=False)
    return path


@pytest.fixture
def work(tmp_path: Path) -> Path:
    saturating(tmp_path / "full.xml", 127)
    saturating(tmp_path / "half.xml", 63)
    values = np.array([200, 225, 255], np.float32)
    images = np.broadcast_to(values[:, None, None, None], (3, 16, 8, 8))
    np.savez(tmp_path / "data.npz", x=images, labels=values * 144)
    return tmp_path


def error(work: Path, model: str, *more: str) -> Evaluation:
    data = str(work / "data.npz")
    argv = ["evaluate", str(work / model), "--validation", data, "--metric", "mae", "--json", *more]
    ended = CliRunner().invoke(main, argv)
    assert ended.exit_code == 0, ended.output
    return Evaluation.model_validate_json(ended.stdout)


@needs(*ISAS["avx2"].needs)
def test_full_weights_are_wrong_without_vnni_and_right_with_it(work: Path):
    here = error(work, "full.xml").value
    assert here < 1 if EXACT_INT8 else here > 1000
    found = error(work, "full.xml", "--isa", "avx2")
    assert found.isa == "avx2"
    assert found.value > 1000  # of about 33,000


@needs(*ISAS["avx2"].needs)
def test_half_range_weights_are_right_on_both(work: Path):
    assert error(work, "half.xml").value < 1
    assert error(work, "half.xml", "--isa", "avx2").value < 1


@needs(*ISAS["avx2"].needs)
def test_the_reference_model_runs_as_that_cpu_too(work: Path):
    argv = ["evaluate", str(work / "half.xml"), "--validation", str(work / "data.npz"), "--metric", "relative-l2"]
    argv += ["--reference-model", str(work / "full.xml"), "--json"]
    found = [CliRunner().invoke(main, [*argv, *more]) for more in ((), ("--isa", "avx2"))]
    here, there = (Evaluation.model_validate_json(ended.stdout) for ended in found)
    assert (here.reference_model, there.reference_model, there.isa) == ("full", "full", "avx2")
    assert here.value > 0.99 if EXACT_INT8 else here.value < 0.99
    assert there.value < 0.99  # full.xml saturates there, half.xml does not


def test_a_mistake_is_told_before_anything_runs(work: Path):
    argv = ["evaluate", str(work / "full.xml"), "--validation", str(work / "data.npz"), "--isa", "pentium"]
    ended = CliRunner().invoke(main, argv)
    assert ended.exit_code == UsageError.exit_code
    assert "isa has to be one of sse41, avx2" in ended.stderr


@needs(*ISAS["avx2"].needs)
def test_what_is_wrong_with_the_data_is_told_by_the_child(work: Path):
    argv = ["evaluate", str(work / "full.xml"), "--validation", str(work / "none.npz"), "--metric", "mae"]
    ended = CliRunner().invoke(main, [*argv, "--isa", "avx2"])
    assert ended.exit_code == 1
    assert "none.npz" in ended.stderr
