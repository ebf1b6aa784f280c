"""What holds for every command: help, exit codes, and how errors and interruptions reach the terminal.

covers: calib.cli, calib.cli.data, calib.cli.metrics, calib.cli.schema, calib.values.version
"""

from __future__ import annotations

import json
import os
import signal
import site
import subprocess
import sys
import time
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
from trust_fixtures.tiny import left_behind

import calib
from calib import cli, errors
from calib.config import json_schema
from calib.metrics import METRICS
from calib.samples import FORMATS
from calib.values.facts import Report


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Run the command line in this process."""

    def calib(*arguments: str | os.PathLike[str]) -> Ended:
        with pytest.raises(SystemExit) as caught:
            cli.main.main([os.fspath(a) for a in arguments], prog_name="calib")
        captured = capsys.readouterr()
        return Ended(caught.value.code or 0, captured.out, captured.err)  # pyright: ignore[reportArgumentType]

    return calib


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any]], str]:
    """Put a command that calls a function into the table."""

    def add(function: Callable[[], Any]) -> str:
        module = types.ModuleType("command_of_a_test")
        module.command = click.command()(function)  # pyright: ignore[reportAttributeAccessIssue]
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setitem(cli.COMMANDS, "trial", (module.__name__, "a test's own"))
        return "trial"

    return add


def raising(error: BaseException) -> Callable[[], Any]:
    def function() -> None:
        raise error

    return function


def test_help_loads_neither_openvino_nor_numpy_nor_pydantic():
    code = (
        "import sys\n"
        "from calib.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'openvino', 'numpy', 'scipy', 'pydantic', 'onnx', 'PIL', 'jinja2', 'tqdm', 'ruamel.yaml'}\n"
        "print('LOADED', sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "LOADED []"


def test_help_names_every_command_and_every_exit_code(run: Callable[..., Ended]):
    text = run("--help").out
    for name, (_, summary) in cli.COMMANDS.items():
        assert f"  {name} " in text and summary.split()[0] in text
    for code in (0, 1, 2, 3, 4, 5, 130):
        assert f"    {code}  " in text


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_of_the_table_is_there_and_explains_itself(name: str, run: Callable[..., Ended]):
    ended = run(name, "--help")
    assert ended.code == 0 and "Usage: calib" in ended.out


def test_version_is_the_packages(run: Callable[..., Ended]):
    assert run("--version").out == f"calib, version {cli.__version__}\n"


@pytest.mark.parametrize(
    "arguments", [["nope"], ["--nope"], ["quantize"], ["quantize", "m.xml", "--nope"], ["schema", "nope"]]
)
def test_wrong_usage_is_exit_code_2(arguments: list[str], run: Callable[..., Ended]):
    ended = run(*arguments)
    assert ended.code == 2 and ended.out == "" and "Error:" in ended.err


ERRORS = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, errors.CalibError)]


@pytest.mark.parametrize("kind", ERRORS)
def test_every_kind_of_error_is_a_message_and_its_exit_code(kind: Any, run: Callable[..., Ended], command: Any):
    arguments: dict[Any, tuple[Any, ...]] = {
        errors.ConfigError: ("job.yaml", ["line 1: a", "line 2: b"]),
        errors.MissingExtraError: ("the metric cer", "jiwer", "text"),
    }
    error = kind(*arguments.get(kind, ("layer 'a': too long; shorten it",)))
    ended = run(command(raising(error)))
    assert (ended.code, ended.out) == (kind.exit_code, "")
    assert ended.err == f"error: {error}\n"


def test_a_name_from_a_model_can_not_steer_the_terminal(run: Callable[..., Ended], command: Any):
    ended = run(command(raising(errors.ModelError("layer '\x1b[2J\u202eevil\r'"))))
    assert ended.err == "error: layer '\\x1b[2J\\u202eevil\\r'\n"


def test_an_end_of_line_in_a_name_does_not_begin_another_message(run: Callable[..., Ended], command: Any):
    errors_with_names = [errors.DataError("a\nb.npz: no"), errors.ConfigError("a\nb.yaml", ["line 1: '\n'"])]
    first, second = (run(command(raising(error))).err for error in errors_with_names)
    assert first == "error: a\\nb.npz: no\n"
    assert second == "error: a\\nb.yaml: 1 mistake\n  - line 1: '\\n'\n"
    assert run(command(raising(ValueError("a\nb")))).err.startswith("error: unexpected ValueError: a b\nRun again")
    assert run(command(raising(OSError("a\nb")))).err.startswith("error: the system refused to read or write: a b. ")


EMPTY = {
    "inspect ∅": "'inspect'",
    "inspect -q ∅": "-q",
    "report ∅": "'report'",
    "bench ∅": "'bench'",
    "compare a.xml ∅ --data d.npz": "'a.xml'",
    "evaluate ∅ --validation d.npz": "'evaluate'",
    "quantize m.xml --calibration ∅ -o out": "--calibration",
    "quantize m.xml --calibration= -o out": "--calibration",
    "quantize m.xml --calibration d.npz -o ∅": "-o",
    "demo -o ∅": "-o",
    "zoo run ∅": "'run'",
}


@pytest.mark.parametrize("line", EMPTY)
def test_an_empty_path_is_wrong_usage_and_not_the_current_folder(
    line: str, run: Callable[..., Ended], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    ended = run(*(word.strip("∅") for word in line.split()))
    assert (ended.code, ended.out) == (2, "") and f"argument after {EMPTY[line]} is empty" in ended.err
    assert not list(tmp_path.iterdir())


def test_an_unexpected_error_is_short_and_debug_shows_where(run: Callable[..., Ended], command: Any):
    name = command(raising(ZeroDivisionError("oh no")))
    ended = run(name)
    assert ended.code == 1 and "Traceback" not in ended.err
    assert "unexpected ZeroDivisionError: oh no" in ended.err and "--debug" in ended.err
    assert "Traceback" in run("--debug", name).err
    assert "Traceback" in run(name, "--debug").err


def test_ctrl_c_is_130(run: Callable[..., Ended], command: Any):
    ended = run(command(raising(KeyboardInterrupt())))
    assert (ended.code, ended.err) == (130, "error: interrupted\n")


def test_sigterm_ends_a_run_as_ctrl_c_does(run: Callable[..., Ended], command: Any):
    def function() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)

    before = signal.getsignal(signal.SIGTERM)
    assert run(command(function)).code == 130
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_closed_pipe_is_quiet():
    code = "from calib.cli import main; main(['data'])"
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run([sys.executable, "-c", code], stdout=write, stderr=subprocess.PIPE, timeout=60)
    finally:
        os.close(write)
    assert done.stderr == b""


def test_a_config_with_four_mistakes_reports_four_before_the_model_is_read(tmp_path: Path, run: Callable[..., Ended]):
    config = tmp_path / "job.yaml"
    config.write_text("samples: 0\nestimator: best\npreprocessing: {mean: [1, x]}\ntime_limit: soon\n")
    ended = run("quantize", "missing.xml", "--calibration", "missing.npz", "-o", tmp_path / "out", "--config", config)
    assert ended.code == 2 and ended.out == ""
    assert f"error: {config}: 4 mistakes" in ended.err
    for place in ("line 1: samples", "line 2: estimator", "line 3: preprocessing.mean.1", "line 4: time_limit"):
        assert f"  - {place}: " in ended.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("flags", [["--samples", "many"], ["--set", "samples=many"], ["--set", "samples"]])
def test_a_wrong_setting_is_exit_code_2(flags: list[str], tmp_path: Path, run: Callable[..., Ended]):
    ended = run("quantize", "m.xml", "--calibration", "d.npz", "-o", tmp_path / "out", *flags)
    assert ended.code == 2 and "samples" in ended.err


def test_a_missing_model_is_an_error_that_names_it(tmp_path: Path, run: Callable[..., Ended]):
    ended = run("inspect", tmp_path / "missing.xml")
    assert ended.code == 1 and "missing.xml" in ended.err and ended.out == ""


def test_schemas_are_those_of_the_values(run: Callable[..., Ended]):
    assert json.loads(run("schema", "config").out) == json_schema()
    assert json.loads(run("schema", "report").out) == Report.model_json_schema()


def test_data_and_metrics_list_their_tables(run: Callable[..., Ended]):
    assert [row["format"] for row in json.loads(run("data", "--json").out)] == list(FORMATS)
    assert [row["name"] for row in json.loads(run("metrics", "--json").out)] == list(METRICS)
    text = run("metrics").out
    assert all(name in text for name in METRICS)


def test_every_setting_that_has_a_flag_shows_its_choices(run: Callable[..., Ended]):
    text = run("quantize", "--help").out
    assert "[fast|balanced|thorough]" in text and "[auto|minmax|" in text and "--higher-is-better" in text


@pytest.fixture(scope="module")
def without_jiwer(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return an environment whose packages are those of this one, without jiwer."""
    folder = tmp_path_factory.mktemp("packages")
    for place in dict.fromkeys(Path(p) for p in (*site.getsitepackages(), str(Path(calib.__file__).parents[1]))):
        for entry in place.iterdir():
            if not entry.name.startswith(("jiwer", ".")) and not (folder / entry.name).exists():
                (folder / entry.name).symlink_to(entry)
    return {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}


def test_a_package_that_is_not_installed_is_exit_code_5_with_the_line_to_type(without_jiwer: Any, work: Path):
    command = [sys.executable, "-S", "-m", "calib", "quantize", str(work / "model.xml"), "-o", str(work / "out")]
    flags = ["--calibration", str(work / "data.npz"), "--metric", "wer", "--max-drop", "0.1"]
    done = subprocess.run(
        [*command, *flags], capture_output=True, text=True, timeout=120, env=without_jiwer, check=False
    )
    assert (done.returncode, done.stdout) == (5, "") and "pip install 'jiwer>=3.0'" in done.stderr, done.stderr
    assert left_behind(work) == []
