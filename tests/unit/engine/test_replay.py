"""A plan gives the same bytes again without calibration data, and says what it needs where it can't."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from building import Net, op
from click.testing import CliRunner
from trust_fixtures.tiny import convnet, images

import calib
from calib.cli import main
from calib.errors import StatisticsError, UsageError
from calib.runtime.session import ov
from calib.values.facts import Report
from calib.values.plan_file import plan_to_json, read_plan

SAME = ("net.xml", "net.bin", "plan.json", "plan.npz")
MADE: dict[str, Any] = {"effort": "thorough", "speed": False, "target": "cpu"}  # rounding is kept on every CPU


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    """Make a folder of net.xml, data.npz and the result out/, with rounded weights."""
    folder = tmp_path_factory.mktemp("made")
    ov.save_model(convnet(), folder / "net.xml", compress_to_fp16=False)
    np.savez(folder / "data.npz", x=images(12))
    with chdir(folder):
        return folder, calib.quantize("net.xml", "data.npz", **MADE).save("out")


@pytest.fixture
def made(made_once: tuple[Path, Report], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Report:
    """Make the current folder a copy of that folder, and return the report."""
    return _copied(*made_once, tmp_path, monkeypatch)


def _copied(folder: Path, report: Report, to: Path, monkeypatch: pytest.MonkeyPatch) -> Report:
    shutil.copytree(folder, to, dirs_exist_ok=True)
    monkeypatch.chdir(to)
    return report


def contents(folder: str) -> dict[str, bytes]:
    return {name: (Path(folder) / name).read_bytes() for name in SAME}


def test_a_replay_without_data_is_the_same_to_the_byte(made: Report, monkeypatch: pytest.MonkeyPatch):
    assert any(fact.correction == "rounding" and fact.kept for fact in made.corrections)  # or it would prove nothing
    monkeypatch.setattr("calib.corrections.rounding.round_all", None)  # nothing is computed again
    report = calib.quantize("net.xml", plan="out/plan.json", effort="fast").save("again")
    assert contents("again") == contents("out")
    assert (report.calibration, report.calibration_samples, report.output_sqnr_db) == ("", 0, {})
    assert report.warnings[0].startswith("Nothing was calibrated: ") and "out/plan.json" in report.warnings[0]
    assert not any("there is no SQNR" in warning for warning in report.warnings)  # nothing was run
    assert "compiled and not run" in report.warnings[1]
    assert not any("number of calibration samples" in warning for warning in report.warnings)


def test_a_replay_of_a_model_within_a_budget_keeps_its_layers_in_float(made: Report):
    given: dict[str, Any] = {"metric": "relative-l2", "speed": False, "target": "cpu-no-vnni"}
    whole = calib.quantize("net.xml", "data.npz", **given).report.accuracy
    assert whole is not None
    report = calib.quantize("net.xml", "data.npz", max_drop=0.7 * whole.drop, **given).save("out")
    assert 0 < sum(layer.planned != "int8" for layer in report.layers) < len(report.layers)
    calib.quantize("net.xml", plan="out/plan.json").save("again")
    assert contents("again") == contents("out")


@pytest.fixture(scope="module")
def outliers_once(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    """Make the same files of a network whose inputs differ 60 times in size, which takes scales in front of layers."""
    folder = tmp_path_factory.mktemp("outliers")
    net = Net(5)
    scale = np.ones(16, np.float32)
    scale[[3, 8]] = 60
    x = net.input(1, 12, 16)
    first, second = ((net.rng.standard_normal((16, 16)) / scale[:, None]).astype(np.float32) for _ in range(2))
    inner = op.sigmoid(op.matmul(x, op.constant(first), False, False))
    y = op.concat([op.matmul(x, op.constant(second), False, False), net.dense(inner, 16)], 1)
    ov.save_model(net.model(y), folder / "net.xml", compress_to_fp16=False)
    samples = net.rng.standard_normal((40, 12, 16)).astype(np.float32) * scale
    np.savez(folder / "data.npz", x=samples)
    with chdir(folder):
        return folder, calib.quantize("net.xml", "data.npz", speed=False, target="cpu-no-vnni").save("out")


@pytest.fixture
def outliers(outliers_once: tuple[Path, Report], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Report:
    """Make the current folder a copy of that folder, and return the report."""
    return _copied(*outliers_once, tmp_path, monkeypatch)


def test_a_replay_has_the_scales_in_front_of_layers(outliers: Report):
    kept = [fact for fact in outliers.corrections if fact.correction == "inserted scales" and fact.kept]
    assert len(kept) == 1 and any(scaling.ports for scaling in read_plan("out/plan.json").scalings)
    report = calib.quantize("net.xml", plan="out/plan.json").save("again")
    assert contents("again") == contents("out") and all(layer.executed == "i8" for layer in report.layers)


def test_scales_in_front_of_layers_that_are_in_floating_point_are_not_reported_as_kept(outliers: Report):
    given: dict[str, Any] = {"metric": "relative-l2", "max_drop": 1e-7, "speed": False, "target": "cpu-no-vnni"}
    report = calib.quantize("net.xml", "data.npz", **given).save("out")
    facts = [fact for fact in report.corrections if fact.correction == "inserted scales"]
    assert facts and not any(fact.kept for fact in facts)


def test_a_layer_of_the_plan_can_not_be_ignored_and_another_one_may(outliers: Report):
    first, second, third = [layer.name for layer in read_plan("out/plan.json").layers]
    for given in ({}, {"calibration": "data.npz"}):
        with pytest.raises(
            UsageError, match=rf"ignore: '{second}' matches '{second}', which out/plan\.json has in INT8"
        ):
            calib.quantize("net.xml", plan="out/plan.json", ignore=[second], **given)
    calib.quantize("net.xml", "data.npz", speed=False, target="cpu-no-vnni", ignore=[first]).save("less")
    calib.quantize("net.xml", plan="less/plan.json", ignore=[first]).save("again")
    assert contents("again") == contents("less")
    assert [layer.name for layer in read_plan("again/plan.json").layers] == [second, third]


def test_calibration_data_do_not_change_a_replay_and_serve_to_measure(made: Report):
    report = calib.quantize("net.xml", "data.npz", plan="out/plan.json", speed=True).save("again")
    assert contents("again") == contents("out")
    assert report.speed is not None and report.output_sqnr_db and report.calibration_samples == 0


def test_validation_data_are_measured_on(made: Report):
    given: dict[str, Any] = {"validation": "data.npz", "metric": "relative-l2", "speed": True}
    report = calib.quantize("net.xml", plan="out/plan.json", **given).save("again")
    assert contents("again") == contents("out")
    assert report.accuracy is not None and report.speed is not None and report.output_sqnr_db
    assert not any("not run" in warning or "calibration samples" in warning for warning in report.warnings)


def test_a_replay_is_reproduced_by_file_and_command(made: Report):
    report = calib.quantize("net.xml", plan="out/plan.json").save("again")
    assert report.reproduce is not None and "--calibration" not in report.reproduce.command
    Path("job.yaml").write_text(report.reproduce.config.replace("output: .", "output: third"))
    for arguments in (["quantize", "--config", "job.yaml"], ["quantize", "net.xml", "--plan=out/plan.json", "-othird"]):
        done = CliRunner().invoke(main, arguments)
        assert done.exit_code == 0 and "Nothing was calibrated" in done.output.replace("\n", " "), done.output
        assert contents("third") == contents("out")
    shutil.rmtree("again")
    exec(report.reproduce.python, {})  # calib's own text
    assert contents("again") == contents("out")


def retrained() -> None:
    weights = np.fromfile("net.bin", np.float32)
    weights[:216] *= 1.5  # those of the first layer
    weights.tofile("net.bin")


def missing() -> None:
    Path("out/plan.npz").unlink()


def damaged() -> None:
    data = bytearray(Path("out/plan.npz").read_bytes())
    data[len(data) // 2] ^= 1
    Path("out/plan.npz").write_bytes(data)


def edited() -> None:
    text = Path("out/plan.json").read_text()
    low = read_plan("out/plan.json").activations[0].range
    assert low is not None
    Path("out/plan.json").write_text(text.replace(repr(low.high), repr(low.high * 2), 1))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (retrained, "the weights of another FP32 model: the SHA-256 of that is "),
        (missing, "there is no out/plan.npz"),
        (damaged, "out/plan.npz is damaged"),
        (edited, "belongs to another plan than out/plan.json, or the plan was edited"),
    ],
)
def test_what_does_not_fit_needs_data_and_is_said(change: Callable[[], None], why: str, made: Report):
    change()
    with pytest.raises(StatisticsError, match=why) as caught:
        calib.quantize("net.xml", plan="out/plan.json")
    assert "this replay needs calibration data" in str(caught.value) and "--calibration" in str(caught.value)
    report = calib.quantize("net.xml", "data.npz", plan="out/plan.json", **MADE).save("again")
    assert any(warning.startswith("Corrections were computed again") and why in warning for warning in report.warnings)
    assert report.calibration_samples == 12 and report.output_sqnr_db
    assert not any("Nothing was calibrated" in warning for warning in report.warnings)


def test_other_preprocessing_in_the_model_is_named(made: Report):
    embedded: dict[str, Any] = {"preprocessing": {"mean": 0.25, "embed": True}}
    np.savez("bytes.npz", np.clip(images(12).transpose(0, 2, 3, 1) * 40 + 128, 0, 255).astype(np.uint8))
    calib.quantize("net.xml", "bytes.npz", **MADE, **embedded).save("out")
    with pytest.raises(StatisticsError, match=r"other preprocessing in the model .* job\.yaml"):
        calib.quantize("net.xml", plan="out/plan.json")
    calib.quantize("net.xml", plan="out/plan.json", **embedded).save("again")
    assert contents("again") == contents("out")


def test_a_plan_without_weights_or_ranges_needs_data(made: Report):
    with pytest.raises(StatisticsError, match="given as a value"):
        calib.quantize("net.xml", plan=read_plan("out/plan.json"))
    Path("dry.json").write_text(plan_to_json(calib.plan("net.xml")))
    with pytest.raises(StatisticsError, match=r"dry\.json has no ranges"):
        calib.quantize("net.xml", plan="dry.json")
    report = calib.quantize("net.xml", "data.npz", plan="dry.json", **MADE).save("again")
    assert not any("computed again" in warning for warning in report.warnings)
    assert (Path("again") / "net.bin").read_bytes() == contents("out")["net.bin"]


@pytest.mark.parametrize("setting", [{"require_speedup": 1.1}, {"max_drop": 0.1}, {"metric": "relative-l2"}])
def test_what_has_to_be_measured_needs_samples(setting: dict[str, Any], made: Report):
    with pytest.raises(UsageError, match="--validation"):
        calib.quantize("net.xml", plan="out/plan.json", **setting)


def test_a_replay_of_a_kept_fp32_model_says_so(made: Report):
    calib.quantize(
        "net.xml", "data.npz", effort="fast", target="cpu-no-vnni", speed=False, require_speedup=1000.0
    ).save("out")
    assert not read_plan("out/plan.json").layers
    report = calib.quantize("net.xml", plan="out/plan.json").save("again")
    assert contents("again") == contents("out")
    assert report.status == "fp32_kept" and "no layer in INT8" in report.status_reason
