from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEMO = sorted(
    path.relative_to(ROOT / "datasets" / "demo").as_posix()
    for path in (ROOT / "datasets" / "demo").rglob("*")
    if path.is_file()
)


def run(*arguments: str | Path, where: Path) -> str:
    done = subprocess.run([*map(str, arguments)], cwd=where, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # A copy to build from: setuptools leaves build/ beside the sources, and takes stale files from there the next time.
    copy = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        if (ROOT / name).is_file():
            shutil.copy(ROOT / name, copy)
    for name in ("calib", "datasets"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    wheels = tmp_path_factory.mktemp("wheels")
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation")
    run(*pip, "--wheel-dir", wheels, source, where=wheels)
    (built,) = wheels.glob("calib_openvino-*.whl")
    return built


def test_wheel_carries_every_demo_file_unchanged(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        for name in DEMO:
            assert archive.read(f"calib/demo_data/{name}") == (ROOT / "datasets" / "demo" / name).read_bytes()


def test_wheel_holds_one_top_level_package_and_shadows_no_other(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"calib"}


def test_installed_wheel_advises_what_pip_can_install_from_its_own_metadata(wheel: Path, tmp_path: Path):
    target = tmp_path / "site"
    run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", target, wheel, where=tmp_path)
    code = f"""
import sys
sys.path.insert(0, {str(target)!r})
from calib.errors import MissingExtraError
from calib.values.distribution import requirement
print(MissingExtraError("the metric wer", "jiwer", requirement("jiwer")))
"""
    said = run(sys.executable, "-S", "-E", "-c", code, where=tmp_path)
    assert said.endswith("Run: pip install 'jiwer>=3.0'\n")


def test_wheel_holds_every_module_of_the_package(source: Path, wheel: Path):
    modules = {path.relative_to(source).as_posix() for path in (source / "calib").rglob("*.py")}
    with zipfile.ZipFile(wheel) as archive:
        assert modules - set(archive.namelist()) == {"calib/demo_data/__init__.py"}


def test_installed_wheel_finds_its_own_demo_files(wheel: Path, tmp_path: Path):
    target = tmp_path / "site"
    run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", target, wheel, where=tmp_path)
    # -S and -E keep the checkout's own installation out of the way.
    code = f"import sys; sys.path.insert(0, {str(target)!r}); from calib.demo import demo_folder; print(demo_folder())"
    found = Path(run(sys.executable, "-S", "-E", "-c", code, where=tmp_path).strip())
    assert found == (target / "calib" / "demo_data").resolve()
    files = (path for path in found.rglob("*") if path.is_file())
    assert sorted(path.relative_to(found).as_posix() for path in files) == DEMO
