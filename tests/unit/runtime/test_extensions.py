"""Models with an operation of the user's own: its library is given, allowed where a file names it, or asked for."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from building import Net, op
from click.testing import CliRunner
from cpu_features import TARGET

from calib import compare, evaluate, inspect, quantize, verify
from calib.cli import main
from calib.errors import ConfigError, ModelError, UsageError
from calib.runtime.extensions import load_extensions
from calib.runtime.session import ov, read_model
from calib.zoo import commands

SOURCE = """
#include <openvino/core/extension.hpp>
#include <openvino/core/op_extension.hpp>
#include <openvino/op/op.hpp>

class Doubled : public ov::op::Op {
public:
    OPENVINO_OP("Doubled", "test_extension");
    Doubled() = default;
    explicit Doubled(const ov::OutputVector& inputs) : Op(inputs) { constructor_validate_and_infer_types(); }
    void validate_and_infer_types() override {
        set_output_type(0, get_input_element_type(0), get_input_partial_shape(0));
    }
    std::shared_ptr<ov::Node> clone_with_new_inputs(const ov::OutputVector& inputs) const override {
        return std::make_shared<Doubled>(inputs);
    }
    bool visit_attributes(ov::AttributeVisitor&) override { return true; }
    bool has_evaluate() const override { return true; }
    bool evaluate(ov::TensorVector& outputs, const ov::TensorVector& inputs) const override {
        outputs[0].set_shape(inputs[0].get_shape());
        const auto* from = inputs[0].data<const float>();
        auto* to = outputs[0].data<float>();
        for (size_t i = 0; i < inputs[0].get_size(); ++i) to[i] = 2 * from[i];
        return true;
    }
};

OPENVINO_CREATE_EXTENSIONS(std::vector<ov::Extension::Ptr>({std::make_shared<ov::OpExtension<Doubled>>()}));
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the library of one operation, as a user would."""
    package = Path(ov.__file__).parent
    libraries = sorted((package / "libs").glob("libopenvino.so*"))
    compiler = shutil.which("g++") or shutil.which("clang++")
    if not compiler:
        pytest.skip("there is no C++ compiler (g++ or clang++) to build an extension with")
    if not (package / "include" / "openvino" / "op" / "op.hpp").is_file() or not libraries:
        pytest.skip("this package of OpenVINO holds no C++ headers or no library to link with")
    folder = tmp_path_factory.mktemp("extension")
    (folder / "doubled.cpp").write_text(SOURCE)
    made = folder / "libdoubled.so"
    flags = ["-std=c++17", "-shared", "-fPIC", f"-I{package / 'include'}"]
    subprocess.run([compiler, *flags, str(folder / "doubled.cpp"), "-o", str(made), str(libraries[0])], check=True)
    return made


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """Write an IR whose middle operation is the library's; its name stands where that of a Swish was."""
    net = Net()
    middle = op.swish(op.relu(net.conv(net.input(1, 3, 12, 12), 8)), name="mine")
    model = net.model(net.conv(middle, 8))
    model.inputs[0].set_names({"image"})
    path = tmp_path / "net.xml"
    ov.save_model(model, path, compress_to_fp16=False)
    text = path.read_text()
    path.write_text(text.replace('type="Swish" version="opset4"', 'type="Doubled" version="test_extension"'))
    np.savez(tmp_path / "data.npz", image=np.stack(samples()))
    return path


def samples() -> list[np.ndarray]:
    return [np.random.default_rng(seed).standard_normal((1, 3, 12, 12)).astype(np.float32) for seed in range(12)]


NOT_GIVEN = """
import sys
import numpy as np
import openvino as ov
from calib import quantize
from calib.errors import CalibError

_, library, path, how = sys.argv
model = path
if how == "memory":
    core = ov.Core()
    core.add_extension(library)
    model = core.read_model(path)
try:
    quantize(model, [np.zeros((1, 3, 12, 12), np.float32)] * 8, effort="fast")
except CalibError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize("how", ["file", "memory"])
def test_without_the_library_it_is_refused_before_any_work_and_the_flag_is_named(how, library: Path, network: Path):
    done = subprocess.run(
        [sys.executable, "-c", NOT_GIVEN, str(library), str(network), how], capture_output=True, text=True, check=False
    )
    assert done.stdout.startswith("ModelError") and "--extension LIBRARY" in done.stdout, done.stdout + done.stderr


def test_with_the_library_a_model_is_quantized_written_and_read_again(library: Path, network: Path):
    given = {"effort": "fast", "extensions": [library]}
    found = quantize(network, samples(), speed=False, target=TARGET, **given)
    assert [layer.executed for layer in found.report.layers] == ["i8", "i8"]
    out = network.parent / "out"
    found.save(out)
    assert [layer.executed for layer in inspect(out / "net.xml", extensions=str(library)).layers] == ["i8", "i8"]
    compared = compare(network, out / "net.xml", samples(), extensions=[library]).layers
    assert all(layer.sqnr_db is not None and layer.sqnr_db > 25 for layer in compared)
    data = str(network.parent / "data.npz")
    against = {"metric": "relative-l2", "reference_model": network}
    assert evaluate(out / "net.xml", data, **against, extensions=[library]).value > 0.9  # 1 less the relative error
    with pytest.raises(UsageError, match=r"report\.json.*--allow-extension"):
        verify(out)
    assert verify(out, allow_extension=True).layers
    in_memory = quantize(read_model(network), samples(), speed=False, **given)
    assert len(in_memory.plan.layers) == 2


def test_a_config_names_a_library_only_where_that_is_allowed(library: Path, network: Path):
    shutil.copy(library, network.parent / "own.so")
    config = network.parent / "job.yaml"
    config.write_text(f"model: net.xml\ncalibration: data.npz\nextensions: own.so\neffort: fast\ntarget: {TARGET}\n")
    with pytest.raises(UsageError, match=r"job\.yaml.*own\.so is a library of operations.*--allow-extension"):
        quantize(None, config=config)
    found = quantize(None, config=config, allow_extension=True, speed=False)
    assert [layer.executed for layer in found.report.layers] == ["i8", "i8"]
    (named,) = [fact.value for fact in found.report.settings if fact.key == "extensions"]
    assert named == [str(network.parent / "own.so")]


def test_the_command_takes_it_wherever_a_model_is_read(library: Path, network: Path):
    out, data = str(network.parent / "out"), str(network.parent / "data.npz")
    quick = ["--effort", "fast", "--target", TARGET, "--no-speed", "--no-report"]
    lines = [
        ["quantize", str(network), "--calibration", data, "-o", out, *quick],
        ["inspect", f"{out}/net.xml", "--json"],
        ["compare", str(network), f"{out}/net.xml", "--data", data, "--json"],
        ["bench", f"{out}/net.xml", "--data", data, "--seconds", "0.1", "--streams", "0", "--json"],
        ["verify", out, "--json"],
    ]
    for line in lines:
        ended = CliRunner().invoke(main, [*line, "--extension", str(library)], catch_exceptions=False)
        assert ended.exit_code == 0, (line, ended.output)
    command = json.loads(Path(out, "report.json").read_text())["reproduce"]["command"]
    assert f"--extension {library}" in command


def test_a_manifest_names_a_library_only_where_that_is_allowed(library: Path, network: Path):
    manifest = network.parent / "zoo.yaml"
    shutil.copy(library, network.parent / "own.so")
    manifest.write_text(
        "version: 1\nroot: .\nsources:\n  - glob: net.xml\ndefaults:\n  calibration: data.npz\n  extensions: own.so\n"
        "  effort: fast\n"
    )
    zoo = commands.open_zoo(str(manifest), str(network.parent / "zoo"))
    with pytest.raises(ConfigError, match=r"defaults\.extensions.*own\.so is a library.*--allow-extension"):
        commands.run(zoo, zoo.jobs, lambda _: None)
    (row,) = commands.run(zoo, zoo.jobs, lambda _: None, allow_extension=True)
    assert row.status == "quantized", row


def test_what_is_no_library_is_refused_by_name(tmp_path: Path):
    with pytest.raises(UsageError, match=r"missing\.so: no such library"):
        load_extensions([str(tmp_path / "missing.so")])
    (tmp_path / "text.so").write_text("no library")
    with pytest.raises(ModelError, match=r"text\.so: OpenVINO can't load it as an extension"):
        load_extensions([str(tmp_path / "text.so")])
