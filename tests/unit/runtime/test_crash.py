"""A crash of native code ends in a message that names the stage and the way round it, in a command and in a zoo."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from integration.test_openvino_still import channel_attention
from trust_fixtures.tiny import write_ir, write_work

from calib.runtime.crash import explain
from calib.zoo.make_jobs import ZooJob
from calib.zoo.process import Process
from calib.zoo.task import Task

TESTS = Path(__file__).parents[2]

STACK = """Fatal Python error: Segmentation fault

Thread 0x00007f0000000001 (most recent call first):
  File "/python/threading.py", line 331 in wait

{current}
Current thread 0x00007f0000000002 (most recent call first):
{frames}
"""


def test_a_process_that_ended_by_itself_has_nothing_to_explain():
    assert explain("") == []
    assert explain("entered quantize\nentered load\nleft load\ndone\n") == []


@pytest.mark.parametrize(
    ("notes", "words"),
    [
        ("entered load\nleft load\nentered statistics\n", ("in the stage 'statistics'", "SIGKILL")),
        ("entered load\nleft load\n", ("after the stage 'load'", "when memory runs out")),
    ],
)
def test_a_process_that_was_killed_names_its_stage(notes: str, words: tuple[str, ...]):
    (line,) = explain(notes)
    assert all(word in line for word in words)


def test_a_crash_inside_openvino_names_its_caller_and_the_ways_round():
    frames = '  File "/site/openvino/_ov_api.py", line 646 in compile_model\n  File "/calib/x.py", line 5 in collect'
    lines = explain("entered insert\n" + STACK.format(current="", frames=frames))
    assert lines[0].startswith("a crash inside OpenVINO ended the process in the stage 'insert': Segmentation fault")
    assert "/calib/x.py, line 5" in lines[0]
    assert "--set normalize=false" in lines[1] and "ignore" in lines[1]


def test_a_crash_of_other_code_names_that_code_and_no_way_round_openvino():
    (line,) = explain(
        "entered search\n" + STACK.format(current="", frames='  File "/my/metric.py", line 3 in evaluate')
    )
    assert "/my/metric.py, line 3" in line and "OpenVINO" not in line


# The fault of tests/integration/test_openvino_still.py, without the rule that knows it beforehand and the comparison
# that finds it out: OpenVINO crashes where statistics are collected.
FAULT = """
import sys

import calib.engine.placing
import calib.loading.attention_apart

calib.loading.attention_apart._flattened = lambda softmax: False
calib.engine.placing.check_reference = lambda job: job
"""


@pytest.fixture
def attention(tmp_path: Path) -> Path:
    write_ir(channel_attention(), tmp_path / "attention.xml")
    samples = np.random.default_rng(0).normal(size=(8, 4, 10, 12)).astype(np.float32)
    np.savez(tmp_path / "data.npz", samples)
    return tmp_path


def run(code: str, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run code and then the command line with these arguments, as the installed command does."""
    program = f"{code}\nimport sys\nfrom calib.cli import main\nsys.argv[0] = 'calib'\nsys.exit(main())"
    argv = [sys.executable, "-c", program, *arguments]
    return subprocess.run(argv, capture_output=True, text=True, check=False, cwd=folder, timeout=120)


def test_the_command_says_where_openvino_crashed_and_the_way_round_it_works(attention: Path):
    argv = ["quantize", "attention.xml", "--calibration", "data.npz", "--effort", "fast", "-o", "out", "--no-speed"]
    done = run(FAULT, *argv, folder=attention)
    assert done.returncode == -signal.SIGSEGV
    assert "error: a crash inside OpenVINO ended the process in the stage 'statistics'" in done.stderr
    assert "--set normalize=false" in done.stderr
    done = run(FAULT, *argv, "--set", "normalize=false", folder=attention)
    assert done.returncode == 0, done.stderr
    assert "error" not in done.stderr and (attention / "out" / "attention.xml").exists()


def test_the_command_says_whose_code_crashed(tmp_path: Path):
    write_work(tmp_path)
    (tmp_path / "crashing.py").write_text("import ctypes\n\ndef evaluate(predict):\n    ctypes.string_at(0)\n")
    argv = ["quantize", "model.xml", "--calibration", "data.npz", "-o", "out", "--higher-is-better"]
    argv += ["--metric", "python:crashing:evaluate"]
    done = run(f"import sys; sys.path.insert(0, {str(tmp_path)!r})", *argv, folder=tmp_path)
    assert done.returncode == -signal.SIGSEGV
    assert "in the stage 'baseline': Segmentation fault" in done.stderr and "OpenVINO" not in done.stderr


def test_a_command_that_ends_by_itself_keeps_its_exit_code_and_says_no_more(tmp_path: Path):
    done = run("", "quantize", "missing.xml", "--calibration", "data.npz", "-o", "out", folder=tmp_path)
    assert done.returncode == 1 and done.stderr.count("error:") == 1
    done = run("", "inspect", "--help", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_worker_of_a_zoo_says_where_openvino_crashed(attention: Path):
    job = ZooJob("attention", "attention.xml", str(attention / "attention.xml"), str(attention), "data.npz",
                 settings={"effort": "fast"})  # fmt: skip
    task = Task("key", 1, job, str(attention / "work"), str(attention / "log"))
    code = f"{FAULT}\nfrom calib.zoo import worker\nsys.exit(worker.main(sys.argv[1:]))"
    process = Process(task, (sys.executable, "-c", code))
    while (ended := process.poll()) is None:
        os.sched_yield()
    assert ended.exit == -signal.SIGSEGV
    assert "a crash inside OpenVINO ended the process in the stage 'statistics'" in ended.answer["crash"]
    assert "normalize: false" in ended.answer["crash"]
