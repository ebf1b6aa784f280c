"""Damage what people give to calib, and count the answers that help nobody.

Statistics, plans, reports, lists, annotations, stores, images, models, configs and manifests are made, damaged (bytes,
numbers, values of JSON) and given to the command that reads them, each in a process of its own. An answer is bad if a
message begins with "unexpected", a traceback or a warning of a library reaches the user, the exit code is none of
calib's, the process dies or takes longer than two minutes.

    python benchmarks/fuzz_inputs.py [--seed 0] [--cpu-minutes 30] [--only zoo]

A run with the same seed damages the same way. Its line is added to benchmarks/results/fuzz_inputs.json, beside those of
other seeds for the same time; a seed that is run again replaces its line.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import re
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import record

RESULTS = Path(__file__).parent / "results" / "fuzz_inputs.json"
SECONDS = 120.0  # of wall time for one command, on a machine that does other work too
CODES = (0, 1, 2, 3, 4, 5)
BAD = re.compile(r"(error|failed): unexpected|Traceback|Warning:|Exception ignored|Fatal Python error")
FAST = ["--effort", "fast", "--estimator", "minmax", "--samples", "8", "--no-speed", "--no-report", "-q"]

# Words that stand where others stood: in JSON, YAML, CSV and XML.
WORDS = [
    *(b"1e999", b"-1e999", b"NaN", b"null", b"true", b"[]", b"{}", b'""', b"0", b"-1", b"1e30", b"0.5", b"9" * 400),
    *(b'"\\ud800"', b'"\\u0000"', b"\xff\xfe", b"\x00", b"'", b'"', b"../../..", b"/dev/zero", b"\xf0\x9f\x98\x80"),
    *(b"18446744073709551616", b"-9223372036854775809", b"!!python/object:os.system x", b"&a *a", b"%s%n", b"\n\n"),
]


@dataclass(frozen=True)
class Target:
    """What is damaged and who reads it.

    Attributes:
        file: File to damage, in the folder of the iteration.
        command: Returns the arguments of the command; the folder is the current one.
    """

    file: str
    command: Sequence[str]


QUANTIZE = ["quantize", "model.xml", "--calibration", "data.npz", "-o", "again", *FAST]
SEARCH = ["--validation", "validation.npz", "--metric", "top-1", "--max-drop", "0.01"]


def compare(data: str) -> list[str]:
    """Return the arguments of a command that does little more than read samples."""
    return ["compare", "model.xml", "out/model.xml", "--data", data, "--samples", "4", "-q"]


TARGETS: dict[str, Target] = {
    "model": Target("model.xml", ["inspect", "model.xml"]),
    "weights": Target("model.bin", [*QUANTIZE]),
    "int8 model": Target("out/model.xml", ["inspect", "out/model.xml"]),
    "onnx": Target("model.onnx", ["quantize", "model.onnx", *QUANTIZE[2:]]),
    "samples": Target("data.npz", QUANTIZE),
    "labels": Target("validation.npz", ["evaluate", "model.xml", *SEARCH[:4], "-q"]),
    "statistics": Target("statistics.npz", [*QUANTIZE, "--statistics", "statistics.npz"]),
    "plan": Target("out/plan.json", ["quantize", "model.xml", "--plan", "out/plan.json", "-o", "again", *FAST[4:]]),
    "plan weights": Target(
        "out/plan.npz", ["quantize", "model.xml", "--plan", "out/plan.json", "-o", "again", *FAST[4:]]
    ),
    "job": Target("out/job.yaml", ["quantize", "--config", "out/job.yaml", "-o", "again", "-q"]),
    "report": Target("out/report.json", ["report", "out", "-o", "page.html"]),
    "promises": Target("out/report.json", ["verify", "out", "-q"]),
    "run store": Target("out/run.sqlite", [*QUANTIZE[:4], "-o", "out", *FAST, *SEARCH, "--resume"]),
    "csv": Target("list.csv", ["evaluate", "model.xml", "--validation", "list.csv", "--metric", "top-1", "-q"]),
    "jsonl": Target("list.jsonl", ["evaluate", "model.xml", "--validation", "list.jsonl", "--metric", "top-1", "-q"]),
    "imagenet": Target("list.txt", ["evaluate", "model.xml", "--validation", "imagenet:list.txt", *SEARCH[2:4], "-q"]),
    "text": Target("list.txt", compare("text:list.txt")),
    "coco": Target("boxes.json", compare("coco:boxes.json?images=pictures")),
    "voc": Target("voc/0.xml", compare("voc:voc?images=pictures")),
    "yolo": Target("labels/0.txt", compare("yolo:pictures?labels=labels")),
    "png": Target("pictures/0.png", compare("pictures")),
    "jpeg": Target("pictures/1.jpg", compare("pictures")),
    "npy": Target("0.npy", compare("list.csv")),
    "config": Target("config.yaml", [*QUANTIZE, "--config", "config.yaml"]),
    "config json": Target("config.json", [*QUANTIZE, "--config", "config.json"]),
    "manifest": Target("zoo.yaml", ["zoo", "plan", "zoo.yaml", "-o", "plan-out"]),
    "zoo store": Target("zoo-out/zoo.sqlite", ["zoo", "status", "zoo.yaml"]),
    "zoo export": Target("zoo-out/zoo.sqlite", ["zoo", "export", "zoo.yaml", "page.html"]),
    "zoo run": Target("zoo-out/zoo.sqlite", ["zoo", "run", "zoo.yaml", "-j", "1"]),
}


def main() -> None:
    """Damage until the time is over, and write the result line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cpu-minutes", type=float, default=30.0)
    parser.add_argument("--only", default="", help="take only targets whose names hold this text")
    parser.add_argument("--keep", metavar="DIR", help="keep the folders of bad answers there")
    asked = parser.parse_args()
    chosen = [name for name in TARGETS if asked.only in name]
    counts, codes, bad = Counter[str](), Counter[str](), list[dict[str, object]]()
    with tempfile.TemporaryDirectory() as place:
        seed_folder, work = Path(place, "seed"), Path(place, "work")
        if in_child(lambda: make_seed(seed_folder), Path(place, "made"), 10 * SECONDS) != 0:
            sys.exit(f"the files to damage could not be made:\n{Path(place, 'made').read_text()}")
        import_everything()
        begun = cpu_minutes()
        number = 0
        while cpu_minutes() - begun < asked.cpu_minutes:
            name = chosen[number % len(chosen)]
            code, said = tried(TARGETS[name], seed_folder, work, random.Random(f"{asked.seed}/{number}"))
            counts[name] += 1
            codes[str(code)] += 1
            if code not in CODES or BAD.search(said):
                bad.append({"target": name, "number": number, "code": code, "said": said[-600:]})
                print(json.dumps(bad[-1]), flush=True)
                if asked.keep:
                    shutil.copytree(work, Path(asked.keep, f"{number}"), dirs_exist_ok=True, symlinks=True)
            number += 1
    line = {
        "commit": commit(),
        "damaged": number,
        "bad": len(bad),
        "by_target": dict(sorted(counts.items())),
        "by_exit_code": dict(sorted(codes.items())),
        "examples": bad[:20],
    }
    print(json.dumps(line))
    if not asked.only:
        settings = {"cpu_minutes": asked.cpu_minutes}
        seeds = record.on_file(RESULTS, settings).get("seeds", {}) | {str(asked.seed): line}
        totals = {name: sum(one[name] for one in seeds.values()) for name in ("damaged", "bad")}
        record.write(RESULTS, settings, totals | {"seeds": dict(sorted(seeds.items()))})


def commit() -> str:
    """Return the commit that is fuzzed, with a + if files differ from it; "" outside a repository."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty=+"], cwd=RESULTS.parent, capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


def tried(target: Target, seed_folder: Path, work: Path, dice: random.Random) -> tuple[int, str]:
    """Damage one file and run its command; return the exit code (negative for a signal) and what was printed."""
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(seed_folder, work)
    path = work / target.file
    path.write_bytes(damaged(path.read_bytes(), dice))
    output = work.with_name("output")

    def run() -> None:
        os.chdir(work)
        from calib.cli import main as command

        command.main(list(target.command), prog_name="calib")

    code = in_child(run, output, SECONDS)
    return code, output.read_text(encoding="utf-8", errors="replace")


def damaged(data: bytes, dice: random.Random) -> bytes:
    """Return the bytes with one to four damages."""
    for _ in range(dice.choice((1, 1, 1, 2, 4))):
        data = dice.choice((flipped, cut, repeated, replaced, replaced, renumbered, renumbered, emptied))(data, dice)
    return data


def flipped(data: bytes, dice: random.Random) -> bytes:
    """Change single bytes."""
    changed = bytearray(data)
    for _ in range(min(len(changed), dice.choice((1, 3, 20)))):
        changed[dice.randrange(len(changed))] = dice.randrange(256)
    return bytes(changed)


def cut(data: bytes, dice: random.Random) -> bytes:
    """Cut off the end, or leave a piece out."""
    if not data:
        return data
    first = dice.randrange(len(data))
    return data[:first] + (b"" if dice.random() < 0.5 else data[first + dice.randrange(1, 64) :])


def repeated(data: bytes, dice: random.Random) -> bytes:
    """Put a piece in a second time."""
    if not data:
        return data
    first = dice.randrange(len(data))
    return data[:first] + data[first : first + dice.randrange(1, 400)] + data[first:]


def replaced(data: bytes, dice: random.Random) -> bytes:
    """Put a word in the place of a piece."""
    first = dice.randrange(len(data) + 1)
    return data[:first] + dice.choice(WORDS) + data[first + dice.randrange(0, 12) :]


def renumbered(data: bytes, dice: random.Random) -> bytes:
    """Put a word in the place of a number or of a text between quotes."""
    found = list(re.finditer(rb'-?\d+(\.\d+)?|"[^"\n]{0,40}"', data[:200_000]))
    if not found:
        return replaced(data, dice)
    place = dice.choice(found)
    return data[: place.start()] + dice.choice(WORDS) + data[place.end() :]


def emptied(data: bytes, dice: random.Random) -> bytes:
    """Leave nothing, or only zeros."""
    return b"" if dice.random() < 0.3 else bytes(len(data)) if dice.random() < 0.2 else flipped(data, dice)


def in_child(function: Callable[[], object], output: Path, seconds: float) -> int:
    """Run a function in a forked process; return its exit code, −signal, or −9 if it took too long."""
    child = os.fork()
    if not child:
        code = 70
        try:
            os.setsid()
            descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            function()
            code = 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
        except BaseException:
            traceback.print_exc()
        finally:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            os._exit(code)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return -signal.SIGKILL


def cpu_minutes() -> float:
    """Return the CPU time of this process and of those that ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used) / 60


def import_everything() -> None:
    """Import what the commands need, so that a forked process does not have to; no model is compiled here."""
    for command in ("compare", "evaluate", "inspect", "quantize", "report", "verify", "zoo"):
        importlib.import_module(f"calib.cli.{command}")
    for module in ("calib.pipeline", "calib.engine.compare", "calib.engine.verification", "calib.engine.result"):
        importlib.import_module(module)


def make_seed(folder: Path) -> None:
    """Make sound files of every kind."""
    import numpy as np
    import onnx
    import openvino as ov
    from openvino import opset13 as opset
    from PIL import Image

    from calib.cli import main as command

    folder.mkdir()
    os.chdir(folder)
    dice = np.random.default_rng(0)
    image = opset.parameter([1, 3, 8, 8], np.float32, name="image")
    image.output(0).set_names({"image"})
    features = opset.convolution(image, dice.normal(size=(8, 3, 3, 3)).astype("f4"), [1, 1], [1, 1], [1, 1], [1, 1])
    pooled = opset.reduce_mean(opset.relu(features), np.array([2, 3]))
    scores = opset.matmul(pooled, dice.normal(size=(8, 3)).astype("f4"), False, False)
    ov.save_model(ov.Model([scores], [image], "model"), "model.xml", compress_to_fp16=False)
    onnx.save(_onnx_model(dice), "model.onnx")
    np.savez("data.npz", image=dice.normal(size=(8, 3, 8, 8)).astype("f4"))
    pixels = dice.normal(size=(24, 3, 8, 8)).astype("f4")
    np.savez("validation.npz", image=pixels, labels=dice.integers(0, 3, 24))
    for name in ("pictures", "voc", "labels"):
        os.mkdir(name)
    for number in range(4):
        np.save(f"{number}.npy", pixels[number])
        picture = Image.fromarray(dice.integers(0, 255, (8, 8, 3), dtype=np.uint8))
        picture.save(f"pictures/{number}.{'jpg' if number % 2 else 'png'}")
        Path(f"labels/{number}.txt").write_text("1 0.5 0.5 0.2 0.3\n")
        Path(f"voc/{number}.xml").write_text(_VOC.format(f"{number}.{'jpg' if number % 2 else 'png'}"))
    Path("list.csv").write_text("path,label\n" + "".join(f"{i}.npy,{i % 3}\n" for i in range(4)))
    Path("list.txt").write_text("".join(f"{i}.npy {i % 3}\n" for i in range(4)))
    rows = [{"path": f"{i}.npy", "label": i % 3} for i in range(4)]
    Path("list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    boxes = [{"id": i, "image_id": i, "category_id": 1, "bbox": [1, 1, 3, 4], "area": 12, "iscrowd": 0} for i in (0, 2)]
    images = [{"id": i, "file_name": f"{i}.png", "width": 8, "height": 8} for i in (0, 2)]
    categories = [{"id": 1, "name": "thing"}]
    Path("boxes.json").write_text(json.dumps({"images": images, "annotations": boxes, "categories": categories}))
    settings = {"effort": "fast", "samples": 8, "ignore": ["type:MatMul"], "max_drop": "0.5pt", "metric": "top-1"}
    preprocessing = {"mean": [0.5, 0.5, 0.5], "scale": [0.2, 0.2, 0.2], "resize": [8, 8], "layout": "NCHW"}
    text = json.dumps(settings | {"preprocessing": preprocessing, "validation": "validation.npz"}, indent=1)
    Path("config.json").write_text(text)
    Path("config.yaml").write_text(text.replace('"', ""))
    Path("zoo.yaml").write_text(
        "version: 1\nsources:\n  - glob: 'model.xml'\ndefaults:\n  calibration: data.npz\n  effort: fast\n"
        "resources:\n  threads: 1\n  memory: 1GiB\n  timeout: 1m\n  retries: 0\n"
    )
    for arguments in ([*QUANTIZE[:4], "-o", "out", *FAST, *SEARCH], [*QUANTIZE, "--statistics", "statistics.npz"],
                      ["zoo", "run", "zoo.yaml", "-j", "1"]):  # fmt: skip
        try:
            command.main(list(arguments), prog_name="calib")
        except SystemExit as error:
            if error.code not in (0, None, 3):
                raise
    shutil.rmtree("again")
    for store in ("out/run.sqlite", "zoo-out/zoo.sqlite"):  # in one file each: what is damaged is read
        connection = sqlite3.connect(store)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()


def _onnx_model(dice):
    from onnx import TensorProto, helper, numpy_helper

    weights = numpy_helper.from_array(dice.normal(size=(4, 3, 3, 3)).astype("f4"), "w")
    nodes = [helper.make_node("Conv", ["image", "w"], ["y"], name="conv")]
    ends = [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 8, 8])]
    outs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 6, 6])]
    return helper.make_model(
        helper.make_graph(nodes, "g", ends, outs, [weights]), opset_imports=[helper.make_opsetid("", 13)]
    )


_VOC = """<annotation><filename>{}</filename><size><width>8</width><height>8</height><depth>3</depth></size>
<object><name>thing</name><difficult>0</difficult>
<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>4</xmax><ymax>5</ymax></bndbox></object></annotation>
"""


if __name__ == "__main__":
    main()
