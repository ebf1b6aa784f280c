"""Hostile models and data through the command line: a clear error, bounded, nothing run and nothing written outside."""

from __future__ import annotations

import io
import json
import os
import re
import resource
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from trust_fixtures.tiny import convnet, left_behind, write_ir

import calib
from calib.values.facts import Report

LAUGHS = '<!DOCTYPE lol [<!ENTITY a "ha">' + "".join(
    f'<!ENTITY {chr(98 + i)} "{f"&{chr(97 + i)};" * 10}">' for i in range(9)
)


def edited(path: Path, pattern: str, replacement: str) -> None:
    text, count = re.subn(pattern, replacement, path.read_text(), count=1)
    assert count == 1, pattern
    path.write_text(text)


MODELS: dict[str, tuple[tuple[str, str], str]] = {
    "an offset beyond the file": ((r'offset="\d+"', 'offset="99999999999"'), "model.bin: too short"),
    "a negative offset": ((r'offset="\d+"', 'offset="-4"'), "can't be negative"),
    "an offset that overflows": ((r'offset="\d+"', f'offset="{2**64 - 4}"'), "model.bin: too short"),
    "a size of words": ((r'size="\d+"', 'size="many"'), "whole numbers"),
    "billion laughs": ((r"<net ", LAUGHS + "]><net "), "DOCTYPE"),
    "an entity from outside": ((r"<net ", '<!DOCTYPE n [<!ENTITY x SYSTEM "file:///etc/passwd">]><net '), "DOCTYPE"),
    "a shape beyond any memory": ((r'shape="1,3,8,8"', 'shape="1,3,8000000,8000000"'), "model.xml"),
    "an edge to nowhere": ((r'to-layer="\d+"', 'to-layer="777"'), "no such layer"),
    "an operation nobody knows": ((r'type="ReLU"', 'type="Exec"'), "OpenVINO can't read it"),
    "elements without end": ((r"<layers>", "<a>" * 5000), "nested deeper"),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_hostile_model_is_a_clear_error(name: str, quantize: Any, work: Path):
    (pattern, replacement), said = MODELS[name]
    edited(work / "model.xml", pattern, replacement)
    ended = quantize()
    assert (ended.code, ended.out) == (1, "") and said in ended.err and "unexpected" not in ended.err, ended.err
    assert left_behind(work) == []


MUTANTS = 24
MUTATED = """
import os, random, re, sys, tempfile
from pathlib import Path
from calib.cli import main

source, count = Path(sys.argv[1]), int(sys.argv[2])
words = ["", "0", "-1", "99999999999999999999", "f32", "nan", "\\u202e", "1,2", "Convolution", "../x"]
for seed in range(count):
    chance = random.Random(seed)
    text = source.joinpath("model.xml").read_text()
    spots = list(re.finditer(r'="([^"]*)"|>([^<\\s]+)<', text))
    for spot in sorted(chance.sample(spots, chance.choice((1, 1, 2))), key=lambda s: -s.start()):
        group = 1 if spot.group(1) is not None else 2
        text = text[: spot.start(group)] + chance.choice(words) + text[spot.end(group) :]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "model.xml").write_text(text)
        os.symlink(source / "model.bin", Path(folder, "model.bin"))
        print("MUTANT", seed, file=sys.stderr, flush=True)
        data = ["--calibration", str(source / "data.npz"), "-o", str(Path(folder, "out"))]
        try:
            cheap = ["--effort=fast", "--estimator=minmax", "--target=cpu-no-vnni", "--no-speed", "--no-report"]
            main(["quantize", str(Path(folder, "model.xml")), *data, *cheap, "-q"])
        except SystemExit as ended:
            print("ENDED", seed, ended.code, sorted(os.listdir(folder)), file=sys.stderr, flush=True)
"""


def test_mutated_xml_ends_in_a_result_or_a_message_and_never_in_a_crash(work: Path):
    command = [sys.executable, "-c", MUTATED, str(work), str(MUTANTS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]  # a crash in native code would end the process
    endings = re.findall(r"ENDED (\d+) (\d+|None) (.*)", done.stderr)
    assert len(endings) == MUTANTS
    assert all(code in ("0", "None") or "'out'" not in left for _, code, left in endings)
    assert {code for _, code, _ in endings} <= {"0", "None", "1", "2"}
    assert "unexpected" not in done.stderr, re.findall(r"MUTANT \d+\n.*unexpected.*", done.stderr)


class Touch:
    """Pickled: a file appears as soon as anybody unpickles it."""

    def __init__(self, path: Path):
        self._path = path

    def __reduce__(self) -> Any:
        return os.mknod, (str(self._path),)


def test_pickles_in_an_npz_are_refused_and_not_run(quantize: Any, work: Path):
    np.savez(work / "data.npz", image=np.array([Touch(work / "owned")], object))
    ended = quantize()
    assert ended.code == 1 and "pickled Python objects" in ended.err
    assert left_behind(work) == []


def test_a_zip_bomb_is_refused_before_it_is_unpacked(quantize: Any, work: Path):
    header = io.BytesIO()
    shape = (1 << 14, 3, 8, 8)
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
    with (
        zipfile.ZipFile(work / "data.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("image.npy", "w") as to,
    ):
        to.write(header.getvalue())
        for _ in range(1200):
            to.write(bytes(1 << 20))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ended = quantize()
    assert ended.code == 1 and "zip bomb" in ended.err
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 300 << 10  # KiB
    assert left_behind(work) == []


def png(width: int, height: int) -> bytes:
    """Return a PNG whose header says a size and whose pixels are not there."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_an_image_that_is_a_decompression_bomb_is_named(quantize: Any, work: Path):
    (work / "pictures").mkdir()
    (work / "pictures" / "bomb.png").write_bytes(png(60000, 60000))
    ended = quantize("--set", "preprocessing.resize=8", data=work / "pictures")
    assert ended.code == 1 and "bomb.png" in ended.err and "unexpected" not in ended.err
    assert not (work / "out").exists()


def test_an_image_folder_that_leads_out_is_refused(quantize: Any, work: Path):
    (work / "pictures").mkdir()
    (work / "secret.png").write_bytes(png(8, 8))
    (work / "pictures" / "a.png").symlink_to(work / "secret.png")
    ended = quantize("--set", "preprocessing.resize=8", data=work / "pictures")
    assert ended.code == 1 and "a.png" in ended.err and "links=follow" in ended.err


def test_yaml_that_could_expand_is_refused_with_its_line(quantize: Any, work: Path):
    config = work / "job.yaml"
    config.write_text("a: &a [x, x]\nb: &b [*a, *a]\nignore: [*b, *b]\nsalt: !!python/object/apply:os.system [ls]\n")
    ended = quantize("--config", config)
    assert ended.code == 2 and "line 1: anchors (&a)" in ended.err and "line 2: aliases (*a)" in ended.err
    assert "line 4: tags" in ended.err and not (work / "out").exists()


EVIL = ('"><script>alert(1)</script>', "a\nb\tc\u009b2J", "'--#{7*7}{{7*7}}\u202ecod.exe")


def test_names_can_neither_steer_a_terminal_nor_break_a_page(run: Any, work: Path):
    model = convnet(names=EVIL)
    model.set_rt_info("'; DROP TABLE facts;--", ["model_info", "<img src=x onerror=alert(1)>"])
    write_ir(model, work / "model.xml")
    flags = ["--effort", "fast", "--target", "cpu-no-vnni", "--metric", "relative-l2", "--max-drop", "0.0001"]
    flags += ["--estimator", "minmax", "--no-speed"]
    ended = run("quantize", work / "model.xml", "--calibration", work / "data.npz", "-o", work / "out", *flags)
    assert ended.code in (0, 3), ended.err
    for text in (ended.out, ended.err, run("inspect", work / "out" / "model.xml").out):
        assert not set(text) & set("\x1b\u009b\t\u202e")
    page = (work / "out" / "report.html").read_text()
    assert "<script>alert" not in page and "onerror=alert" not in page.replace("&lt;img src=x onerror=alert", "")
    report = Report.model_validate_json((work / "out" / "report.json").read_text())
    assert {layer.name for layer in report.layers} >= set(EVIL[:1])
    json.loads(run("inspect", work / "model.xml", "--json").out)


def test_code_named_in_a_model_or_in_data_does_not_run(quantize: Any, work: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(work)
    (work / "payload.py").write_text(f"open({str(work / 'owned')!r}, 'w').close()\ndef run(*_): return 1.0\n")
    model = convnet()
    for section, key in (("calib", "metric"), ("calib", "settings/metric"), ("model_info", "metric")):
        model.set_rt_info("python:payload:run", [section, *key.split("/")])
    model.set_rt_info("python:payload:run", ["model_info", "mean_values"])
    write_ir(model, work / "model.xml")
    assert quantize().code == 0 and not (work / "owned").exists()
    listing = work / "list.csv"
    listing.write_text("image,label\npython:payload:run,0\n../../../../etc/passwd,1\n")
    ended = quantize(data=f"csv:{listing}")
    assert ended.code == 1 and not (work / "owned").exists()


def test_nothing_is_written_outside_the_output_folder(quantize: Any, work: Path, monkeypatch: pytest.MonkeyPatch):
    home, folder = work / "home", work / "here"
    home.mkdir()
    folder.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(folder)
    model = convnet()
    model.set_friendly_name("../../escaped")
    write_ir(model, work / "model.xml")
    assert quantize().code == 0
    files = ["job.yaml", "model.bin", "model.xml", "plan.json", "plan.npz", "report.json"]
    assert sorted(os.listdir(work / "out")) == files
    assert set(left_behind(work)) <= {"home", "here", "out", *(f"out/{name}" for name in files)}


def test_a_model_in_memory_can_not_name_its_files_outside_the_folder(work: Path):
    model = convnet()
    model.set_friendly_name("../../escaped")
    result = calib.quantize(model, [np.zeros((3, 8, 8), np.float32)] * 4, effort="fast", estimator="minmax")
    result.save(work / "deep" / "er" / "out")
    inside = {path.suffix for path in (work / "deep" / "er" / "out").iterdir()}
    assert inside == {".xml", ".bin", ".json", ".npz"}
    assert sorted(path.name for path in (work / "deep").iterdir()) == ["er"]
    assert sorted(path.name for path in (work / "deep" / "er").iterdir()) == ["out"]
