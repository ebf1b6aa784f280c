"""``calib zoo`` as a user runs it: plan, run, status, export, shards that are merged, models behind URLs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from calib import cli
from calib.demo import demo_folder

MANIFEST = """
root: {root}
output: {output}
sources: [{{glob: "{glob}"}}]
defaults: {{calibration: "{demo}/calibration.npz", samples: 8, estimator: minmax, effort: fast}}
"""


@pytest.fixture
def calib(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[Any, str, str]]:
    """Run the command line in this process; give back (exit code, stdout, stderr)."""

    def command(*arguments: object) -> tuple[Any, str, str]:
        with pytest.raises(SystemExit) as caught:
            cli.main.main(["zoo", *map(str, arguments)], prog_name="calib")
        captured = capfd.readouterr()
        return caught.value.code or 0, captured.out, captured.err

    return command


def written(folder: Path, glob: str = "[mr]*.xml", root: object = None, output: str = "null") -> Path:
    text = MANIFEST.format(root=root or demo_folder(), demo=demo_folder(), glob=glob, output=output)
    (folder / "zoo.yaml").write_text(text)
    return folder / "zoo.yaml"


def test_plan_run_status_and_export_tell_of_the_same_jobs(calib: Callable[..., Any], tmp_path: Path):
    manifest = written(tmp_path)
    code, out, _ = calib("plan", manifest)
    assert code == 0 and "2 jobs, 2 to run" in out
    code, out, err = calib("run", manifest, "-j", "2", "--only", "resnet")
    assert code == 0 and "resnet: quantized" in err and "1 model: 1 quantized" in out
    code, out, _ = calib("plan", manifest)
    assert "2 jobs, 1 to run, about" in out
    assert calib("status", manifest)[1].splitlines()[0].startswith("── 2 models: 1 quantized, 1 waiting")
    assert calib("run", manifest)[0] == 0

    rows = list(csv.DictReader(io.StringIO(calib("export", manifest)[1])))
    assert [(row["model"], row["status"]) for row in rows] == [("mobilenet", "quantized"), ("resnet", "quantized")]
    out = tmp_path / "zoo-out"
    for name in ("board.json", "board.md", "board.html", "board.csv"):
        assert calib("export", manifest, out / name, "--only", "resnet")[0] == 0
    (row,) = json.loads((out / "board.json").read_text())
    assert row["model"] == "resnet" and (out / row["report"]).is_file()
    assert "models/resnet/report.html" in (out / "board.html").read_text()
    assert calib("export", manifest, "--status", "failed")[1].count("\n") == 1
    assert sorted(p.name for p in out.iterdir() if p.is_dir()) == ["cache", "logs", "models", "work"]


def test_shards_with_stores_of_their_own_are_merged(calib: Callable[..., Any], tmp_path: Path):
    manifest = written(tmp_path)
    for index in (1, 2):
        assert calib("run", manifest, "-o", tmp_path / f"shard{index}", "--shard", f"{index}/2", "-j", "1")[0] == 0
    assert calib("status", manifest, "-o", tmp_path / "shard1")[1].startswith("── 1 model")
    code, out, err = calib("merge", manifest, "-o", tmp_path / "all", tmp_path / "shard1", tmp_path / "shard2")
    assert code == 0 and "2 models: 2 quantized" in out and err.count("1 jobs") == 2
    code, out, err = calib("run", manifest, "-o", tmp_path / "all")
    assert code == 0 and err == ""  # nothing is left to do
    for name in ("mobilenet", "resnet"):
        assert (tmp_path / "all" / "models" / name / f"{name}.bin").is_file()


def test_what_is_left_after_the_time_limit_is_exit_code_4_and_the_next_run_goes_on(
    calib: Callable[..., Any], tmp_path: Path
):
    manifest = written(tmp_path, "resnet.xml")
    code, out, _ = calib("run", manifest, "--time-limit", "0.3s")
    assert code == 4 and "1 waiting" in out
    assert calib("retry", manifest)[0] == 0


def test_cells_of_the_matrix_share_statistics_and_do_without_where_those_are_damaged(
    calib: Callable[..., Any], tmp_path: Path
):
    manifest = written(tmp_path, "resnet.xml")
    text = manifest.read_text().replace("estimator: minmax, ", "") + "matrix: {estimator: [kl, mse]}\n"
    manifest.write_text(text)
    assert calib("run", manifest, "-j", "2")[0] == 0
    out = tmp_path / "zoo-out"
    (shared,) = (out / "cache").glob("*.npz")
    logs = list((out / "logs").rglob("*.log"))
    assert len(logs) == 2 and not any("can't be used" in log.read_text() for log in logs)
    shared.write_bytes(b"damaged")
    (out / "models/resnet/estimator=kl/job.json").unlink()
    before = (out / "models/resnet/estimator=kl/resnet.bin").read_bytes()
    assert calib("run", manifest)[0] == 0
    assert (out / "models/resnet/estimator=kl/resnet.bin").read_bytes() == before
    assert "can't be used" in "".join(log.read_text() for log in (out / "logs").rglob("*.2.log"))


@pytest.fixture
def memory() -> Iterator[Any]:
    """fsspec's file system that lives in this process."""
    fsspec = pytest.importorskip("fsspec")
    system = fsspec.filesystem("memory")
    system.store.clear()
    yield system
    system.store.clear()


def test_models_and_outputs_may_be_urls(calib: Callable[..., Any], tmp_path: Path, memory: Any):
    for suffix in (".xml", ".bin"):
        memory.put_file(str(demo_folder() / f"resnet{suffix}"), f"/zoo/nets/resnet{suffix}")
    manifest = written(tmp_path, "memory://zoo/**/*.xml", output="memory://results")
    code, out, _ = calib("run", manifest)
    assert code == 0 and "resnet" in out  # a narrow terminal shortens the folders before it
    found = sorted(name for name in memory.find("/results"))
    assert [name.rpartition("/")[2] for name in found] == [
        "job.json",
        "plan.json",
        "report.html",
        "report.json",
        "resnet.bin",
        "resnet.xml",
    ]
    assert calib("run", manifest)[2] == ""
    memory.rm(found[0])  # the marker
    assert "resnet: quantized" in calib("run", manifest)[2]

    local = written(tmp_path, f"file://{demo_folder()}/resnet.xml", output=f"file://{tmp_path}/there")
    assert calib("run", local)[0] == 0
    assert len(list((tmp_path / "there").rglob("resnet.bin"))) == 1


def test_mistakes_of_usage_end_with_code_2(calib: Callable[..., Any], tmp_path: Path):
    manifest = written(tmp_path)
    for wrong in (
        ["run", manifest, "--shard", "3/2"],
        ["run", manifest, "--only", "nothing"],
        ["run", manifest, "--time-limit", "soon"],
        ["run", manifest, "--cluster", "slurm:9"],
        ["status", manifest],
        ["run", tmp_path / "none.yaml"],
    ):
        code, out, err = calib(*wrong)
        assert code == 2 and out == "" and err.startswith("error: "), wrong
    assert not (tmp_path / "zoo-out").exists()
