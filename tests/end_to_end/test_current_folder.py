"""Files in the current folder that are called like libraries are run neither by a command nor by what it starts."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cpu_features import needs
from trust_fixtures.tiny import images
from zoo_faults.tiny_zoo import write_zoo

import calib
from calib.runtime.isa import ISAS

LIBRARIES = ("numpy", "scipy", "openvino", "onnx", "onnxruntime", "click", "pydantic", "ruamel", "jinja2", "psutil")
LIBRARIES += ("PIL", "tqdm", "dask", "distributed", "tornado", "msgpack")
STANDARD = ("__future__", "multiprocessing", "json", "pickle", "socket", "sqlite3", "subprocess", "tempfile", "runpy")

# What an installed command is: a script in a folder of its own, which Python puts on the path.
SCRIPT = """
if __name__ == "__main__":
    from calib.cli import main
    main()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a zoo, samples from a function, and files called like libraries that say when they are run."""
    write_zoo(tmp_path, "a")
    rows = f"import numpy as np\n\ndef rows():\n    return np.array({images(4).tolist()}, np.float32)\n"
    (tmp_path / "my_rows.py").write_text(rows)
    return tmp_path


def plant(folder: Path, names: tuple[str, ...]) -> None:
    for name in names:
        said = f"open({str(folder / 'run.txt')!r}, 'a').write({name + ' '!r})"
        (folder / f"{name}.py").write_text(f"{said}\nraise ImportError('planted')\n")


def run(folder: Path, program: list[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONSAFEPATH"}
    done = subprocess.run(
        [sys.executable, *program, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert not (folder / "run.txt").exists(), (folder / "run.txt").read_text()
    assert done.returncode == 0, done.stderr
    return done


def installed(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    script = folder / "bin" / "calib-command"
    script.parent.mkdir()
    script.write_text(SCRIPT)
    return run(folder, [str(script)], *arguments)


def test_workers_of_a_zoo_do_not_run_them_and_find_the_users_own_module(folder: Path):
    plant(folder, LIBRARIES + STANDARD)
    manifest = folder / "zoo.yaml"
    manifest.write_text(manifest.read_text().replace("data.npz", "'python:my_rows:rows'"))
    assert "1 model: 1 quantized" in installed(folder, "zoo", "run", "zoo.yaml", "--allow-python").stdout


def test_machines_of_a_local_cluster_and_their_workers_do_not_run_them(folder: Path):
    pytest.importorskip("distributed")
    plant(folder, LIBRARIES + STANDARD)
    assert "1 model: 1 quantized" in installed(folder, "zoo", "run", "zoo.yaml", "--cluster", "local:1").stdout


@needs(*ISAS["sse41"].needs)
def test_an_evaluation_on_another_instruction_set_does_not_run_them_and_finds_the_users_own_module(folder: Path):
    plant(folder, LIBRARIES + STANDARD)
    argv = ("evaluate", "a.xml", "--validation", "python:my_rows:rows", "--metric", "python:my_metric:mean")
    (folder / "my_metric.py").write_text("import numpy as np\n\ndef mean(predict):\n    return 0.5\n")
    assert "0.5" in installed(folder, *argv, "--higher-is-better", "--isa", "sse41").stdout


def test_python_m_calib_does_not_run_them(folder: Path):
    plant(folder, LIBRARIES)  # what Python itself loads for -m comes before the first line of ours
    assert run(folder, ["-m", "calib"], "inspect", "a.xml").stdout


def test_every_python_process_is_started_without_the_current_folder_on_its_path():
    found = [
        (path.name, after)
        for path in sorted(Path(calib.__file__).parent.rglob("*.py"))
        for after in re.findall(r"sys\.executable(.{0,7})", path.read_text(encoding="utf-8"), re.DOTALL)
    ]
    assert len(found) == 5, "a new place that starts Python, or one is found no more"
    assert all(after == ', "-P",' for _, after in found), found
