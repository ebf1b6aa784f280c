"""What a job is expected to cost: counted from the .xml, scaled by what jobs took."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from trust_fixtures.tiny import opset, parameter, weights, write_ir, write_work

from calib.runtime.session import ov
from calib.zoo.cost import Expected, Size, count, expected, learned, size_of
from calib.zoo.jobs import Attempt
from calib.zoo.make_jobs import ZooJob


def test_multiplications_layers_and_activations_are_those_of_the_network(tmp_path: Path):
    write_work(tmp_path)
    first, second, head = 8 * 8 * 8 * (3 * 9), 8 * 8 * 8 * (8 * 9), 8 * 5
    tensors = 3 * 64 + 4 * (8 * 64) + 8 + 5  # image, two convolutions with their ReLU, mean, scores
    assert size_of(str(tmp_path / "model.xml")) == Size(first + second + head, 3, 4 * tensors)


def test_grouped_and_transposed_layers_multiply_as_often_as_their_definitions_say(tmp_path: Path):
    image = parameter("image", [1, 4, 6, 6])
    pads = ([1, 1], [0, 0], [0, 0], [1, 1])
    grouped = opset.group_convolution(image, weights(4, 1, 1, 3, 3), *pads)  # 4 × 4 × 4 places, 9 weights each
    larger = opset.convolution_backprop_data(grouped, weights(4, 2, 2, 2), [2, 2])  # 64 values meet 2 × 2 × 2 weights
    rows = opset.reshape(larger, np.array([8, 16]), False)
    scores = opset.matmul(rows, weights(8, 3), True, False)  # 16 × 3 sums of 8
    path = write_ir(ov.Model([scores], [image], "m"), tmp_path / "m.xml")
    size = size_of(str(path))
    assert size and (size.multiplications, size.layers) == (64 * 9 + 64 * 8 + 48 * 8, 3)


def test_nothing_is_told_of_what_can_not_be_read_or_has_no_fixed_size(tmp_path: Path):
    image = opset.parameter(ov.PartialShape([1, 3, -1, 8]), np.float32, name="image")
    wide = write_ir(ov.Model([opset.relu(image)], [image], "m"), tmp_path / "wide.xml")
    (tmp_path / "broken.xml").write_text("<net><layer")
    for path in (wide, tmp_path / "broken.xml", tmp_path / "none.xml"):
        assert size_of(str(path)) is None


def test_more_samples_effort_and_fewer_threads_cost_more(tmp_path: Path):
    write_work(tmp_path, samples=4)
    job = ZooJob("m", "model.xml", str(tmp_path / "model.xml"), str(tmp_path), "data.npz", settings={"effort": "fast"})
    found = [
        expected(one)
        for one in (
            replace(job, threads=2),
            job,
            replace(job, validation="data.npz"),
            replace(job, validation="data.npz", settings={"effort": "balanced"}),
        )
    ]
    seconds = [one.seconds for one in found if one]
    assert len(seconds) == 4 and seconds == sorted(seconds) and len(set(seconds)) == 4
    assert expected(replace(job, settings={"effort": "fast", "samples": 9})) == expected(job)  # there are only 4
    assert expected(replace(job, model="s3://there/model.xml")) is None


def test_samples_are_counted_where_that_is_cheap(tmp_path: Path):
    write_work(tmp_path, samples=7)
    (tmp_path / "images").mkdir()
    for name in "abc":
        (tmp_path / "images" / f"{name}.png").write_bytes(b"")
    (tmp_path / "bad.npz").write_bytes(b"PK")
    texts = ("data.npz", "images", "bad.npz", "none.npz", "python:a:b", "")
    assert [count(text, str(tmp_path)) for text in texts] == [7, 3, None, None, None, None]


def test_what_jobs_took_scales_the_guesses_by_the_median():
    def attempt(seconds: float, memory: int | None) -> Attempt:
        return Attempt("k", 1, "", "", "", 100.0, 100.0 + seconds, 0, "done", "", memory)

    guess = Expected(10.0, 100.0)
    known = [(guess, attempt(*facts)) for facts in ((20.0, 300), (500.0, None), (30.0, 100), (30.0, 200))]
    assert learned(known) == (3.0, 2.0)
    assert learned([]) == (1.0, 1.0)


@pytest.mark.parametrize("effort", ["fast", "balanced", "thorough"])
def test_every_effort_has_its_figures(tmp_path: Path, effort: str):
    write_work(tmp_path)
    assert expected(ZooJob("m", "", str(tmp_path / "model.xml"), str(tmp_path), "", settings={"effort": effort}))


def test_what_a_job_costs_is_told_without_openvino():
    # The supervisor reads the table of layers, and holds no inference engine in memory beside its workers.
    code = "import sys, calib.zoo.cost; sys.exit('openvino' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
