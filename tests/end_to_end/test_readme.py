"""README is true: its commands and its Python run as written, its output is what the demo prints, its paths are there.

What a table of README says is asked of the code: messages, folders, the tables and tests of "How to add one".
"""

from __future__ import annotations

import ast
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import calib
from calib.loading.load import input_specs, load_model
from calib.runtime.session import Session, ov
from calib.samples.open import open_dataset

ROOT = Path(calib.__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RANDOM = np.random.default_rng(0)


def commands() -> list[str]:
    """Return README's commands of calib, one by one, with what is optional or a choice written out."""
    found: list[str] = []
    for line in re.findall(r"^    (calib .*)$", README, re.M):
        for command in line.split("#")[0].strip().split("; "):
            if option := re.search(r" \[([^\]]+)\]", command):
                found += [command.replace(option[0], ""), command.replace(option[0], f" {option[1]}")]
            elif choice := re.search(r"\S+(\|\S+)+", command):
                found += [command.replace(choice[0], one) for one in choice[0].split("|")]
            elif command:
                found.append(command)
    return found


def write_network(path: Path) -> None:
    """Write convolution → ReLU → mean → scores of 4 classes as ONNX."""

    def weights(name: str, *shape: int) -> TensorProto:
        return numpy_helper.from_array(RANDOM.normal(size=shape).astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["image", "w"], ["features"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["features"], ["positive"]),
        helper.make_node("GlobalAveragePool", ["positive"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["row"]),
        helper.make_node("MatMul", ["row", "v"], ["scores"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 16, 16])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 4])
    graph = helper.make_graph(nodes, "readme", [image], [scores], [weights("w", 8, 3, 3, 3), weights("v", 8, 4)])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model in both formats, samples, images, and labels that are what FP32 says."""
    write_network(tmp_path / "model.onnx")
    ov.save_model(ov.convert_model(tmp_path / "model.onnx"), tmp_path / "model.xml", compress_to_fp16=False)
    np.savez(tmp_path / "samples.npz", image=RANDOM.normal(size=(24, 3, 16, 16)).astype(np.float32))
    (tmp_path / "images").mkdir()
    for number in range(24):
        pixels = RANDOM.integers(0, 256, (16, 16, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{number}.png")
    model = load_model(tmp_path / "model.xml").model
    session = Session(model)
    shown = open_dataset(tmp_path / "images", inputs=input_specs(model))
    lines = [f"images/{sample.id},{int(session(sample.feed)[0].argmax())}" for sample in shown]  # pyright: ignore
    (tmp_path / "val.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "datasets").mkdir()  # what the zoo writes goes beside its manifest
    (tmp_path / "datasets" / "demo").symlink_to(ROOT / "datasets" / "demo")
    shutil.copy(ROOT / "datasets" / "zoo.yaml", tmp_path / "datasets")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_commands_run_as_written(folder: Path, run: Callable[..., Any]):
    listed = commands()
    assert len(listed) >= 20
    for command in listed:
        program, *arguments = shlex.split(command)
        assert program == "calib"
        if arguments[:2] == ["zoo", "run"]:  # a demo zoo takes minutes; here it is planned
            arguments[1:] = ["plan", *arguments[2:3]]
        ended = run(*arguments)
        assert ended.code == 0, f"{command}: {ended.err}"
    assert all((folder / name / "report.html").exists() for name in ("int8", "kept", "again"))


def test_the_python_runs_as_written(folder: Path):
    code = re.search(r"```python\n(.*?)```", README, re.S)
    assert code
    samples = list(np.load(folder / "samples.npz")["image"])
    session = Session(load_model(folder / "model.xml").model)
    labelled = [(sample, int(session([sample[None]])[0].argmax())) for sample in samples]
    exec(compile(code[1], "README.md", "exec"), {"samples": samples, "labelled": labelled})
    assert sorted(path.name for path in (folder / "int8").iterdir()) >= ["model.bin", "model.xml", "plan.json"]
    assert (folder / "int8" / "report.json").exists()


def table(title: str) -> list[list[str]]:
    """Return the rows of the table below a heading, the titles left out, as cells."""
    section = README.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]
    rows = re.findall(r"^\|(.*)\|$", section, re.M)[2:]
    assert rows
    return [[cell.strip() for cell in row.split("|")] for row in rows]


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", cell, flags=re.S))


def sections(text: str) -> dict[str, str]:
    """Return what the demo prints as title → text in single spaces: sections, and each fact of the summary by its name.

    Figures are masked, and the plurals that follow from them: they are a machine's.
    """
    found: dict[str, list[str]] = {}
    title = ""
    for line in text.splitlines():
        rule, fact = re.match(r"── (.*?) ──", line), re.match(r"  ([a-zA-Z]\S+) ", line)
        if rule or line.startswith("╭"):
            title = rule[1] if rule else "headline"
        elif fact and title not in SECTIONS:
            title = fact[1]
        found.setdefault(title, []).append(re.sub(r"−?\d[\d,.]*( [a-z]+?(?=s?\b))?s?", r"0\1", line))
    return {name: " ".join(" ".join(lines).split()) for name, lines in found.items()}


SECTIONS = ("to know",)
# Whether INT8 is faster and what there is to say of it depend on the CPU's arithmetic. The headline says so where it is
# slower, and the SQNR names the default precision.
OF_A_MACHINE = {"latency", "to know", "headline", "SQNR"}


def test_the_example_is_what_the_demo_prints_up_to_figures(
    tmp_path: Path, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    ended = run("-q", "demo")
    assert (ended.code, ended.err) == (0, "")
    example = re.search(r"```text\n(.*?)```", README, re.S)
    assert example and max(map(len, example[1].splitlines())) == 80
    shown, printed = sections(example[1]), sections(ended.out)
    assert shown.keys() - OF_A_MACHINE == {"top-1", "drop", "weights", "layers"}
    for title in shown.keys() - OF_A_MACHINE:
        assert shown[title] == printed[title], title
    assert {"latency", "SQNR", "to know"} <= shown.keys() & printed.keys()
    assert "within the budget" in shown["headline"] and "within the budget" in printed["headline"]


def test_it_begins_with_the_commands_that_a_stranger_and_the_checks_run():
    first, second = re.findall(r"^    (python3 .*)$", README, re.M)
    assert first.endswith("calib demo")
    assert f'"{second}"' in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert README.index(second) < README.index("\n## ")


def test_it_is_short():
    prose = re.sub(r"```.*?```", "", README, flags=re.S)
    lines = [line for line in prose.splitlines() if not line.startswith(("    ", "|"))]
    assert len(" ".join(lines).split()) < 900


def test_cells_of_tables_are_short():
    cells = [cell for row in re.findall(r"^\|(.*)\|$", README, re.M) for cell in row.split("|")]
    assert [cell for cell in cells if len(cell.split()) > 12] == []


def test_every_path_is_there():
    links = re.findall(r"\]\(([^)]+)\)", README)
    named = [text for text in quoted(README) if re.fullmatch(r"(calib|tests|datasets|benchmarks)(/[\w.]+)*", text)]
    assert links and len(named) > 20
    assert [place for place in [*links, *named] if not (ROOT / place).exists()] == []


def test_the_picture_is_small_and_of_the_size_of_a_page():
    path = ROOT / "benchmarks" / "pictures" / "report.png"
    assert path.stat().st_size < 200_000
    with Image.open(path) as picture:
        assert picture.format == "PNG" and picture.size == (1280, 900)


@cache
def strings() -> tuple[str, ...]:
    """Return every string of the package's code, those that stand in f-strings too."""

    def of(path: Path) -> Iterator[str]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value

    return tuple(text for path in sorted((ROOT / "calib").rglob("*.py")) for text in of(path))


@pytest.mark.parametrize("row", table("Troubleshooting"), ids=lambda row: row[0])
def test_a_message_of_troubleshooting_is_one_of_the_programs(row: list[str]):
    (message,) = quoted(row[0])
    for part in message.split("…"):
        assert any(part.strip() in text for text in strings()), part


def test_the_map_names_every_package():
    packages = {f"calib/{path.parent.name}" for path in (ROOT / "calib").glob("*/__init__.py")} - {"calib/demo_data"}
    listed = {name for row in table("Folders") for name in quoted(row[0])}
    assert packages <= listed and {"tests", "datasets", "benchmarks"} <= listed


@pytest.mark.parametrize("row", table("How to add one"), ids=lambda row: row[0])
def test_what_greets_a_newcomer_is_where_it_says(row: list[str]):
    _, contract, rows, test, case = map(quoted, row)
    owner = (ROOT / contract[1]).read_text(encoding="utf-8")
    assert re.search(rf"^class {contract[0]}\b", owner, re.M)
    place = ROOT / (rows[1] if len(rows) > 1 else contract[1])
    assert re.search(rf"^{rows[0]}\b.* = ", place.read_text(encoding="utf-8"), re.M)
    asks = (ROOT / test[0]).read_text(encoding="utf-8")
    public = {"_ALL": "ESTIMATORS"}.get(rows[0], rows[0])
    assert public in asks and all(re.search(rf"^{name}\b.* = ", asks, re.M) for name in case)


def test_headline_figures_stand_among_the_others():
    measured = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    rows = table("Measured")
    assert len(rows) == 5
    for what, figure, script in rows:
        for number in re.findall(r"\d+\.\d+|\d,\d+", f"{what} {figure}"):
            assert number in measured, number
        assert quoted(script)[0].rpartition("/")[2] in measured
