"""``calib zoo`` as a user runs it: plan, run, status, export, shards that are merged, models behind URLs.

covers: calib.cli.zoo, calib.zoo.commands
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from trust_fixtures.tiny import convnet, write_ir
from zoo_faults.nursery import Nursery
from zoo_faults.tiny_zoo import EXACT, FAST, outcomes, results, run_undisturbed, supervise, write_zoo

from calib import cli
from calib.zoo.commands import open_zoo
from calib.zoo.jobs import JobStore
from calib.zoo.owner import process_name

Calib = Callable[..., tuple[int, str, str]]


@pytest.fixture
def calib(nursery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> Calib:
    """Run the command line in a process of its own; give back (exit code, stdout, stderr)."""

    def command(*arguments: object) -> tuple[int, str, str]:
        files = [tmp_path_factory.mktemp("said") / name for name in ("out", "err")]
        child = nursery.start("calib.cli:main", ["zoo", *map(str, arguments)], out=files[0], err=files[1])
        return child.wait(), *(file.read_text() for file in files)  # type: ignore[return-value]

    return command


def test_plan_run_status_and_export_tell_of_the_same_jobs(calib: Calib, tmp_path: Path):
    manifest = write_zoo(tmp_path, "ab")
    code, out, _ = calib("plan", manifest)
    assert code == 0 and "2 jobs, 2 to run, about" in out and out.count("~") == 5  # two jobs' times and memories
    assert "operations and the speed of another machine" in out
    code, out, err = calib("run", manifest, "-j", "2", "--only", "b")
    assert code == 0 and "b: quantized" in err and "1 model: 1 quantized" in out
    code, out, _ = calib("plan", manifest)
    assert "2 jobs, 1 to run, about" in out and "the cost of 1 finished job here" in out and out.count("~") == 3
    assert calib("status", manifest)[1].splitlines()[0].startswith("── 2 models: 1 quantized, 1 waiting")
    assert calib("run", manifest)[0] == 0

    rows = list(csv.DictReader(io.StringIO(calib("export", manifest)[1])))
    assert [(row["model"], row["status"]) for row in rows] == [("a", "quantized"), ("b", "quantized")]
    folder = tmp_path / "zoo-out"
    page = (folder / "leaderboard.html").read_text()
    assert all(f"./models/{name}/report.html" in page for name in "ab")
    for name in ("board.json", "board.md", "board.html", "board.csv"):
        assert calib("export", manifest, folder / name, "--only", "b")[0] == 0
    (row,) = json.loads((folder / "board.json").read_text())
    assert row["model"] == "b" and (folder / row["report"]).is_file()
    assert "models/b/report.html" in (folder / "board.html").read_text()
    assert calib("export", manifest, "--status", "failed")[1].count("\n") == 1


def test_shards_with_stores_of_their_own_are_merged(calib: Calib, tmp_path: Path):
    manifest = write_zoo(tmp_path, "ab")
    for index in (1, 2):
        assert calib("run", manifest, "-o", tmp_path / f"shard{index}", "--shard", f"{index}/2", "-j", "1")[0] == 0
    assert calib("status", manifest, "-o", tmp_path / "shard1")[1].startswith("── 1 model")
    code, out, err = calib("merge", manifest, "-o", tmp_path / "all", tmp_path / "shard1", tmp_path / "shard2")
    assert code == 0 and "2 models: 2 quantized" in out and err.count("1 job") == 2
    code, out, err = calib("run", manifest, "-o", tmp_path / "all")
    assert code == 0 and err == ""  # nothing is left to do
    for name in "ab":
        assert (tmp_path / "all" / "models" / name / f"{name}.bin").is_file()


def test_what_is_left_after_the_time_limit_is_exit_code_4_and_the_next_run_goes_on(calib: Calib, tmp_path: Path):
    manifest = write_zoo(tmp_path, "a")
    code, out, _ = calib("run", manifest, "--time-limit", "0.1s")
    assert code == 4 and "1 waiting" in out and "1 job left; run again to continue" in out
    assert calib("retry", manifest)[0] == 0


def test_cells_of_the_matrix_share_one_pass_of_statistics_and_one_baseline(nursery: Nursery, tmp_path: Path):
    names = ("matrix", "alone")
    manifests = {}
    for name in names:
        (tmp_path / name).mkdir()
        matrix = "matrix: {estimator: [minmax, mse], max_drop: [0.5, 0.9]}\n" if name == "matrix" else ""
        settings = f"{FAST}, validation: data.npz, metric: agreement, max_drop: 0.5"
        manifests[name] = write_zoo(tmp_path / name, "a", settings, more=matrix)
    for suffix in (".xml", ".bin"):  # a network made again has other names
        shutil.copy(tmp_path / f"matrix/a{suffix}", tmp_path / f"alone/a{suffix}")
    found = {name: run_undisturbed(nursery, manifests[name], tmp_path / name / "out") for name in names}
    logs = {name: "".join(p.read_text() for p in (tmp_path / name / "out/logs").rglob("*.log")) for name in names}
    assert len(outcomes(open_zoo(str(manifests["matrix"]), str(tmp_path / "matrix/out")))) == 4
    assert logs["matrix"].count("computed statistics") == logs["matrix"].count("computed baseline") == 1
    # What is shared changes nothing, and is collected for nobody's sake where there is nobody to share it with.
    for file in ("a.bin", "plan.json"):
        assert found["matrix"][f"a/estimator=minmax,max_drop=0.5/{file}"] == found["alone"][f"a/{file}"]
    assert not list((tmp_path / "alone/out/cache").glob("*.npz"))


def test_what_is_shared_and_damaged_costs_no_job_and_is_made_anew(nursery: Nursery, tmp_path: Path):
    manifest = write_zoo(tmp_path, "a", f"effort: fast, estimator: mse, {EXACT}")
    zoo = open_zoo(str(manifest))
    before = run_undisturbed(nursery, manifest, zoo.folders.root)
    (shared,) = (zoo.folders.root / "cache").glob("*.npz")
    shared.write_bytes(b"damaged")
    Path(zoo.output.of("a"), "job.json").unlink()
    assert supervise(nursery, manifest, zoo.folders.root).wait() == 0
    assert results(zoo) == before
    assert "can't be used" in "".join(log.read_text() for log in (zoo.folders.root / "logs").rglob("*.jsonl"))
    assert zipfile.is_zipfile(shared)  # or each later job would begin twice


@pytest.fixture
def memory() -> Iterator[Any]:
    """fsspec's file system that lives in this process."""
    fsspec = pytest.importorskip("fsspec")
    system = fsspec.filesystem("memory")
    system.store.clear()
    yield system
    system.store.clear()


def test_models_and_outputs_may_be_urls(calib: Calib, tmp_path: Path, memory: Any, capfd: pytest.CaptureFixture[str]):
    def here(*arguments: object) -> tuple[Any, str, str]:
        """Run the command line in this process, where the memory is; its workers are started, not forked."""
        with pytest.raises(SystemExit) as caught:
            cli.main.main(["zoo", *map(str, arguments)], prog_name="calib")
        captured = capfd.readouterr()
        return caught.value.code or 0, captured.out, captured.err

    local = write_zoo(tmp_path, "a").read_text()
    for suffix in (".xml", ".bin"):
        memory.put_file(str(tmp_path / f"a{suffix}"), f"/zoo/nets/a{suffix}")
    manifest = tmp_path / "memory.yaml"
    manifest.write_text(local.replace("*.xml", "memory://zoo/**/*.xml") + "output: memory://results\n")
    code, out, _ = here("run", manifest)
    assert code == 0 and "nets/a" in out
    found = sorted(name for name in memory.find("/results"))
    assert [name.rpartition("/")[2] for name in found] == [
        "a.bin",
        "a.xml",
        "job.json",
        "plan.json",
        "plan.npz",
        "report.html",
        "report.json",
    ]
    assert here("run", manifest)[2] == ""
    memory.rm(found[2])  # the marker
    assert "a: quantized" in here("run", manifest)[2]

    manifest = tmp_path / "local.yaml"
    text = local.replace("*.xml", f"file://{tmp_path}/a.xml") + f"output: file://{tmp_path}/there\n"
    manifest.write_text(text)
    assert calib("run", manifest)[0] == 0
    assert len(list((tmp_path / "there").rglob("a.bin"))) == 1


@pytest.mark.parametrize(
    ("output", "page", "way"),
    [
        ("null", "zoo-out/leaderboard.html", "models"),
        ("elsewhere", "elsewhere/leaderboard.html", "."),
        ("zoo-out/deep/down", "zoo-out/leaderboard.html", "deep/down"),
        ("memory://results", "zoo-out/leaderboard.html", ""),
    ],
)
def test_the_leaderboards_page_stands_where_it_can_lead_to_the_reports(
    tmp_path: Path, output: str, page: str, way: str
):
    manifest = write_zoo(tmp_path, "a", more=f"output: {output}\n")
    zoo = open_zoo(str(manifest))
    assert (zoo.page, zoo.reports_from(zoo.page.parent)) == (tmp_path / page, way)


def test_every_layout_of_a_source_names_its_models(calib: Calib, tmp_path: Path):
    text = write_zoo(tmp_path, "a").read_text()
    for place in ("public/net/FP32/net", "public/net/FP16/net", "hf/org/openvino_model", "hf/org/openvino_tokenizer"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        write_ir(convnet(), tmp_path / f"{place}.xml")
    (tmp_path / "list.txt").write_text("# ours\na.xml\n")
    manifest = tmp_path / "all.yaml"
    manifest.write_text(text.replace("{glob: '*.xml'}", "{omz: public}, {huggingface: hf}, {list: list.txt}"))
    code, out, _ = calib("plan", manifest)
    assert code == 0 and "3 jobs, 3 to run" in out
    assert all(name in out for name in ("public/net/FP32/net", "hf/org", "a "))


def test_mistakes_of_usage_end_with_code_2(calib: Calib, tmp_path: Path):
    manifest = write_zoo(tmp_path, "a")
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


def test_configurations_beside_the_models_judge_them_and_one_that_is_not_supported_stops_no_other(
    calib: Calib, tmp_path: Path
):
    (tmp_path / "data").mkdir()
    for number in range(6):
        pixels = np.random.default_rng(number).integers(0, 256, (9, 9, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "data" / f"{number}.png")
    (tmp_path / "data" / "val.txt").write_text("".join(f"{number}.png {number % 4}\n" for number in range(6)))
    dataset = {
        "name": "d",
        "annotation_conversion": {"converter": "imagenet", "annotation_file": "val.txt"},
        "preprocessing": [{"type": "resize", "size": 8}],
        "metrics": [{"type": "accuracy"}],
    }
    for name, adapter in (("good", "classification"), ("odd", "narnmt")):
        folder = tmp_path / "public" / name
        (folder / "FP32").mkdir(parents=True)
        write_ir(convnet(), folder / "FP32" / f"{name}.xml")
        entry = {"name": name, "launchers": [{"framework": "openvino", "adapter": adapter}], "datasets": [dataset]}
        (folder / "model.yml").write_text("description: a model\n")
        (folder / "accuracy-check.yml").write_text(json.dumps({"models": [entry]}))
    manifest = tmp_path / "zoo.yaml"
    manifest.write_text("defaults: {effort: fast, accuracy_check: {source: data}}\nsources: [{omz: public}]\n")

    code, out, _ = calib("plan", manifest)
    assert code == 0 and "public/good/accuracy-check.yml was found by the model's name" in out
    assert "refused: " in out and "adapter 'narnmt'" in out and "2 jobs, 1 to run" in out

    code, out, err = calib("run", manifest)
    assert code == 4 and "public/odd/FP32/odd: refused: " in err and "adapter 'narnmt'" in err
    assert outcomes(open_zoo(str(manifest))) == {
        "public/good/FP32/good": [("done", 0)],
        "public/odd/FP32/odd": [("failed", None)],
    }
    report = json.loads((tmp_path / "zoo-out/models/public/good/FP32/good/report.json").read_text())
    assert report["accuracy"]["metric"] == "accuracy"
    assert any("was found by the model's name and gives its data and metric" in one for one in report["warnings"])
    assert report["pictures_note"] == "No sample is drawn: none of them changed."  # the drop in pictures was asked for
    assert calib("run", manifest)[2] == ""  # neither is run again

    folder = tmp_path / "public" / "odd"
    (folder / "accuracy-check.yml").write_text(
        (folder / "accuracy-check.yml").read_text().replace("narnmt", "classification")
    )
    code, out, err = calib("run", manifest)
    assert code == 0 and "odd: quantized" in err and "good" not in err


def test_a_model_whose_name_is_only_dots_stays_in_its_place(calib: Calib, tmp_path: Path):
    manifest = write_zoo(tmp_path, "a")
    (model,) = tmp_path.rglob("a.xml")
    for name in ("..xml", "...xml"):
        model.with_name(name).write_bytes(model.read_bytes())
        model.with_name(name).with_suffix(".bin").write_bytes(model.with_suffix(".bin").read_bytes())
    before = {path for path in tmp_path.rglob("*") if "zoo-out" not in path.parts}
    code, out, err = calib("run", manifest, "-j", "1")
    assert code == 0 and "3 models: 3 quantized" in out, err
    assert {path for path in tmp_path.rglob("*") if "zoo-out" not in path.parts} == before
    models = {
        path.parent.relative_to(tmp_path / "zoo-out" / "models") for path in tmp_path.rglob("zoo-out/**/report.json")
    }
    assert len(models) == 3 and all(path.parts and path.parts[-1] in ("a", "..xml", "...xml") for path in models)


def test_what_another_supervisor_runs_is_no_failure(calib: Calib, tmp_path: Path):
    manifest = write_zoo(tmp_path, "ab")
    assert calib("run", manifest, "-j", "1")[0] == 0
    with JobStore(tmp_path / "zoo-out" / "zoo.sqlite") as store, store.store.transaction() as connection:
        owner, lease = f"{process_name(os.getpid())}:0", time.time() + 1000
        connection.execute("UPDATE jobs SET status = 'running', owner = ?, lease = ? WHERE name = 'a'", (owner, lease))
    code, out, _ = calib("run", manifest, "-j", "1")
    assert code == 0 and "1 job still run by another calib zoo run" in out
    with JobStore(tmp_path / "zoo-out" / "zoo.sqlite") as store, store.store.transaction() as connection:
        connection.execute("UPDATE jobs SET status = 'waiting', board = '' WHERE name = 'b'")
    code, out, _ = calib("run", manifest, "-j", "1", "--time-limit", "0s")
    assert code == 4 and "1 job left; the other calib zoo run goes on with it" in out
