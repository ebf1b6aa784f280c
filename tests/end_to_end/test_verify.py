"""``calib verify`` holds a written model against its report, end to end, and says what does not hold.

What another machine would do is played by editing the report: it then promises what this machine does not keep.

covers: calib.cli.verify, calib.engine.measured_here, calib.engine.verification, calib.report.verification,
calib.values.verification
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cpu_features import needs
from PIL import Image
from trust_fixtures.tiny import convnet, images, write_ir

import calib
from calib.errors import UsageError
from calib.runtime.session import core, default_precision
from calib.values.verification import Verification

SETTINGS: dict[str, Any] = {"effort": "fast", "estimator": "minmax", "target": "cpu-no-vnni"}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with model.xml, labelled data.npz, and out/, which keeps a budget that INT8 can't miss."""
    folder = tmp_path_factory.mktemp("written")
    write_ir(convnet(), folder / "model.xml")
    np.savez(folder / "data.npz", image=images(16))
    np.savez(folder / "labelled.npz", image=images(16), labels=np.arange(16) % 5)
    given = {"validation": str(folder / "data.npz"), "metric": "relative-l2", "max_drop": 0.5, "speed": False}
    calib.quantize(folder / "model.xml", str(folder / "data.npz"), **given, **SETTINGS).save(folder / "out")
    return folder


@pytest.fixture
def work(written: Path, tmp_path: Path) -> Path:
    """A copy of ``written`` that a test may spoil; the report still names the FP32 model of ``written``."""
    return Path(shutil.copytree(written, tmp_path / "work"))


def edited(folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Change a report.json, as if another machine had written it."""
    path = folder / "report.json"
    report = json.loads(path.read_text())
    change(report)
    path.write_text(json.dumps(report))
    return folder


def test_on_the_machine_that_quantized_everything_holds(run: Any, work: Path):
    ended = run("verify", work / "out", "--validation", work / "data.npz")
    assert ended.code == 0 and "everything promised holds here" in ended.out, ended
    found = Verification.model_validate_json(
        run("-q", "verify", work / "out", "--validation", work / "data.npz", "--json").out
    )
    report = calib.Report.model_validate_json((work / "out/report.json").read_text())
    assert found.holds and not found.broken
    assert [file.name for file in found.files] == ["model.xml", "model.bin"]
    assert all(file.promised == file.found != "" for file in found.files)
    assert [(one.executed, one.kept) for one in found.layers] == [("i8", True)] * 3
    assert report.accuracy is not None and found.accuracy[0].drop == pytest.approx(report.accuracy.drop, rel=1e-6)
    assert found.accuracy[0].precision == default_precision() and found.accuracy[0].promised
    assert found.latency_ms and found.speed and found.environment["cpu"] == report.environment["cpu"]


def test_a_byte_changed_in_the_weights_is_another_file(run: Any, work: Path):
    weights = work / "out/model.bin"
    data = bytearray(weights.read_bytes())
    data[3] ^= 1
    weights.write_bytes(data)
    ended = run("verify", work / "out")
    assert ended.code == 3 and "model.bin is not the file that was written" in " ".join(ended.out.split())
    assert "give --validation" in " ".join(ended.out.split())


def test_weights_that_are_cut_short_or_missing_are_told_as_such(work: Path):
    weights = work / "out/model.bin"
    weights.write_bytes(weights.read_bytes()[:100])
    found = calib.verify(work / "out")
    assert not found.holds and "model.bin is not the file" in found.broken[0] and "too short" in found.broken[1]
    weights.unlink()
    assert "model.bin is not there" in calib.verify(work / "out").broken[0]
    (work / "out/model.xml").unlink()
    with pytest.raises(UsageError, match=r"model\.xml: not found, and report\.json in the same folder describes it"):
        calib.verify(work / "out")


def test_a_layer_promised_in_int8_that_runs_in_float_is_named(run: Any, written: Path, tmp_path: Path):
    out = tmp_path / "out"
    given = {"validation": str(written / "data.npz"), "metric": "relative-l2", "speed": False, "ignore": "second"}
    calib.quantize(written / "model.xml", str(written / "data.npz"), **given, **SETTINGS).save(out)
    assert calib.verify(out).holds

    def promise(report: dict[str, Any]) -> None:
        (layer,) = (layer for layer in report["layers"] if layer["name"] == "second")
        assert layer["planned"] == "float"
        layer |= {"planned": "int8", "executed": "i8", "primitive": "brgconv_avx512_core_amx_I8"}

    ended = run("verify", edited(out, promise))
    assert ended.code == 3
    assert "1 layer that was promised in INT8 runs in floating point here: 'second' (" in " ".join(ended.out.split())


def test_a_budget_that_is_not_kept_here_says_the_drop_here_and_there(run: Any, work: Path):
    def promise(report: dict[str, Any]) -> None:
        report["accuracy"] |= {"budget": 1e-6, "drop": 5e-7}

    ended = run("verify", edited(work / "out", promise), "--validation", work / "data.npz")
    text = " ".join(ended.out.split())
    assert ended.code == 3 and f"The budget of 1e-06 relative error is not kept in {default_precision()}" in text
    assert "against 5e-07 relative error in the report" in text

    def missed(report: dict[str, Any]) -> None:
        report["accuracy"]["drop"] = 1.0

    assert calib.verify(edited(work / "out", missed), str(work / "data.npz")).holds  # nothing was promised


def test_a_missing_fp32_model_leaves_the_reports_baseline_and_says_so(run: Any, written: Path, tmp_path: Path):
    model, data, out = tmp_path / "model.xml", written / "labelled.npz", tmp_path / "out"
    write_ir(convnet(), model)
    given = {"validation": str(data), "metric": "top-1", "max_drop": 1.0, "speed": False}
    report = calib.quantize(model, str(written / "data.npz"), **given, **SETTINGS).save(out)
    for path in (model, model.with_suffix(".bin")):
        path.rename(path.with_name(f"elsewhere{path.suffix}"))
    found = calib.verify(out, str(data))
    assert report.accuracy is not None and found.holds and found.speed is None and found.latency_ms
    assert found.accuracy[0].baseline == report.accuracy.baseline
    assert found.accuracy[0].drop == pytest.approx(report.accuracy.drop)
    assert any(
        "is not here, so that FP32 was not measured: the baseline is the report's" in note for note in found.notes
    )
    given_back = calib.verify(out, str(data), reference_model=tmp_path / "elsewhere.xml")
    assert given_back.speed is not None and given_back.accuracy[0].interval is not None
    assert not any("SHA-256" in note for note in given_back.notes)
    other = write_ir(convnet(imbalance=3.0), tmp_path / "other.xml")
    assert any("is another file" in note for note in calib.verify(out, reference_model=other).notes)
    write_ir(convnet(imbalance=3.0), model)
    changed = calib.verify(out, str(data))
    assert changed.speed is None and any("is another file" in note for note in changed.notes)


def test_fp32_that_was_kept_promises_nothing_of_int8(work: Path):
    given = {"validation": str(work / "data.npz"), "metric": "relative-l2", "max_drop": 0.5, "require_speedup": 1000.0}
    report = calib.quantize(work / "model.xml", str(work / "data.npz"), **given, **SETTINGS).save(work / "kept")
    found = calib.verify(work / "kept", str(work / "data.npz"))
    assert report.status == "fp32_kept" and found.holds
    assert len(found.layers) == 3 and all(layer.executed not in ("", "i8") for layer in found.layers)
    assert not any(one.promised for one in found.accuracy) and found.accuracy[-1].drop == pytest.approx(0, abs=1e-9)


def test_a_baseline_of_other_samples_is_not_compared_with(written: Path, tmp_path: Path):
    model, data, out = write_ir(convnet(), tmp_path / "model.xml"), tmp_path / "few.npz", tmp_path / "out"
    given = {"validation": str(written / "labelled.npz"), "metric": "top-1", "max_drop": 1.0, "speed": False}
    calib.quantize(model, str(written / "data.npz"), **given, **SETTINGS).save(out)
    np.savez(data, image=images(6), labels=np.arange(6) % 5)
    found = calib.verify(out, str(data))
    assert found.accuracy[0].samples == 6 and "6 samples here, 16 in the report." in found.notes
    model.unlink()
    alone = calib.verify(out, str(data))
    assert not alone.accuracy and any("baseline is that of other samples" in note for note in alone.notes)


def test_a_metric_that_compares_with_fp32_is_not_measured_without_it(written: Path, work: Path):
    def elsewhere(report: dict[str, Any]) -> None:
        report["model"]["source"] = "/nowhere/model.xml"

    (work / "out/job.yaml").unlink()
    found = calib.verify(edited(work / "out", elsewhere), str(written / "data.npz"))
    assert not found.accuracy and any("compares with the outputs of FP32" in note for note in found.notes)


def test_a_metric_that_was_a_python_function_has_to_be_given_again(written: Path, tmp_path: Path):
    def first_score(predict: Any) -> float:
        return float(np.mean([predict(image[None])[0][0, 0] for image in images(4)]))

    given = {"metric": first_score, "max_drop": 100.0, "speed": False}
    report = calib.quantize(written / "model.xml", list(images(16)), **given, **SETTINGS).save(tmp_path / "out")
    assert report.accuracy is not None
    same = calib.verify(tmp_path / "out", metric=first_score)
    assert same.holds and same.accuracy[0].drop == pytest.approx(report.accuracy.drop, abs=1e-6)
    other = calib.verify(tmp_path / "out", str(written / "data.npz"))
    assert not other.accuracy[0].promised and any("so that the two can be compared" in note for note in other.notes)
    assert not calib.verify(tmp_path / "out").accuracy


def test_a_python_metric_of_a_report_needs_leave(work: Path):
    def own(report: dict[str, Any]) -> None:
        report["settings"] = [s for s in report["settings"] if s["key"] != "metric"]
        report["settings"].append({"key": "metric", "value": "python:os:getcwd", "origin": "flag"})

    with pytest.raises(UsageError, match="allow-python"):
        calib.verify(edited(work / "out", own), str(work / "data.npz"))


@pytest.mark.parametrize("embed", [True, False])
def test_preprocessing_of_the_report_is_applied_once(tmp_path: Path, embed: bool):
    """With mean and scale twice, or left out, the network sees other pixels, and the drop is another."""
    model, pictures, rng = convnet(), tmp_path / "pictures", np.random.default_rng(0)
    for key, value in {"mean_values": "120 110 100", "scale_values": "60 50 40"}.items():
        model.set_rt_info(value, ["model_info", key])  # which the written model still asks for
    source = write_ir(model, tmp_path / "model.xml")
    for label in range(5):
        (pictures / f"class{label}").mkdir(parents=True)
        for number in range(4):
            pixels = rng.integers(0, 256, (9, 10, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(pictures / f"class{label}" / f"{number}.png")
    block = {"resize": 8, "mean": [120, 110, 100], "scale": [60, 50, 40], "embed": embed}
    given = {"validation": str(pictures), "metric": "top-1", "max_drop": 1.0, "speed": False, "preprocessing": block}
    report = calib.quantize(source, str(pictures), **given, **SETTINGS).save(tmp_path / "out")
    assert report.accuracy is not None
    for path in (None, tmp_path / "gone"):
        if path is not None:
            path.mkdir()
            for part in (source, source.with_suffix(".bin")):
                part.rename(path / part.name)
        found = calib.verify(tmp_path / "out", str(pictures))
        assert found.holds, found.broken
        assert found.accuracy[0].quantized == pytest.approx(report.accuracy.quantized)
        assert found.accuracy[0].baseline == pytest.approx(report.accuracy.baseline)


def test_a_folder_without_a_report_or_with_an_old_one_says_so(run: Any, work: Path):
    def old(report: dict[str, Any]) -> None:
        del report["files"]

    found = calib.verify(edited(work / "out", old))
    assert found.holds and any("holds no SHA-256" in note for note in found.notes)
    (work / "out/report.json").unlink()
    ended = run("verify", work / "out")
    assert ended.code == 2 and "report.json does not exist" in ended.err


@needs("bf16")
def test_where_bf16_is_the_default_both_precisions_and_the_loss_of_fp32_are_measured(work: Path):
    found = calib.verify(work / "out", str(work / "data.npz"))
    assert [one.precision for one in found.accuracy] == ["bf16", "f32"]
    assert found.accuracy[0].fp32_drop is not None and found.accuracy[0].fp32_drop > 0
    assert "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
