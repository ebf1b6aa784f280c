"""A mistake gets the sentence that helps, with the nearest right spelling, and names nothing "unexpected".

covers: calib.samples.lists, calib.samples.labelled_lines
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from trust_fixtures.tiny import images

import calib
from calib.engine.bench import bench
from calib.errors import CalibError, UsageError
from calib.runtime.session import core, ov


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["quantise", "m.xml"], "Did you mean quantize?"),
        (["bensh"], "Did you mean bench?"),
        (["zzz"], "There are quantize, inspect,"),
        (["zoo", "stauts"], "status"),
        (["zoo", "export", "z.yaml", "--status", "failled"], "Did you mean failed?"),
        (["zoo", "status", "z.yaml", "--status", "over budget"], "Did you mean over_budget?"),
        (["quantize", "m.xml", "--calibraton", "x"], "--calibration"),
    ],
)
def test_a_misspelt_word_gets_the_nearest_right_one(arguments: list[str], said: str, run: Any):
    ended = run(*arguments)
    assert ended.code == 2 and said in ended.err and ended.out == ""


@pytest.mark.parametrize(
    ("metric", "right"), [("accuracy", "top-1"), ("mAP", "coco-map"), ("mIoU", "mean-iou"), ("rmse", "mse")]
)
def test_what_others_call_a_metric_is_known(metric: str, right: str, work: Path, quantize: Any):
    ended = quantize("--metric", metric)
    assert ended.code == 2 and f"did you mean {right}?" in ended.err


def test_a_misspelt_type_gets_the_nearest_one(quantize: Any):
    ended = quantize("--ignore", "type:Convolutoin")
    assert ended.code == 2 and "did you mean 'type:Convolution'?" in ended.err


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_xml_is_called_that(share: float, work: Path, run: Any):
    text = (work / "model.xml").read_text()
    (work / "model.xml").write_text(text[: int(len(text) * share)])
    ended = run("inspect", work / "model.xml")
    assert ended.code == 1 and "the file ends in the middle" in ended.err and "a name holds" not in ended.err


def listed(folder: Path, name: str, separator: str) -> Path:
    for number, one in enumerate(images(6)):
        np.save(folder / f"{number}.npy", one)
    (folder / name).write_text("".join(f"{i}.npy{separator}{i % 3}\n" for i in range(6)))
    return folder / name


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("header", [False, True])
def test_a_list_may_be_separated_as_spreadsheets_do(separator: str, header: bool, work: Path):
    path = listed(work, "list.csv", separator)
    if header:
        path.write_text(f"label{separator}path\n" + "".join(f"{i % 3}{separator}{i}.npy\n" for i in range(6)))
    found = calib.evaluate(work / "model.xml", str(path), "top-1")
    assert found.samples == 6


@pytest.mark.parametrize(
    ("data", "separator", "said"),
    [
        ("list.csv", " ", "imagenet:FILE reads lines of path and class with a space between"),
        ("list.csv", "|", "separated by commas, semicolons or tabs, not by |"),
        ("imagenet:list.txt", ",", "commas or semicolons between its columns is csv:FILE"),
        ("text:list.txt", ";", "commas or semicolons between its columns is csv:FILE"),
        ("list.txt", " ", "such as imagenet:"),
    ],
)
def test_a_list_of_another_form_is_told_which_format_reads_it(data: str, separator: str, said: str, work: Path):
    listed(work, data.rpartition(":")[2], separator)
    kind, colon, name = data.rpartition(":")
    with pytest.raises(CalibError, match=said.replace("|", r"\|")):
        calib.evaluate(work / "model.xml", f"{kind}{colon}{work / name}", "top-1")


def test_an_error_of_somebody_elses_code_is_one_line(work: Path, run: Any, monkeypatch: pytest.MonkeyPatch):
    (work / "mine.py").write_text("def metric(predict):\n    raise ValueError('one\\n  two')\n")
    monkeypatch.syspath_prepend(work)
    arguments = ["--validation", work / "data.npz", "--metric", "python:mine:metric", "--higher-is-better"]
    ended = run("evaluate", work / "model.xml", *arguments)
    assert ended.code == 1 and "ValueError: one two" in ended.err and "\\n" not in ended.err


def test_no_model_is_said_in_python_too():
    with pytest.raises(UsageError, match="there is no model: give its path"):
        calib.quantize(None)


def test_the_share_of_int8_is_that_of_the_shapes_that_are_fed(work: Path, quantize: Any):
    assert quantize("--no-speed").code == 0
    dynamic = core().read_model(work / "out" / "model.xml")
    dynamic.reshape([-1, 3, -1, -1])
    ov.save_model(dynamic, work / "dynamic.xml", compress_to_fp16=False)
    fixed, fed = (
        bench(path, str(work / "data.npz"), streams=0, seconds=0.01).entries[0].int8_share
        for path in (work / "out" / "model.xml", work / "dynamic.xml")
    )
    assert fixed == fed and fixed is not None and fixed > 0.5
