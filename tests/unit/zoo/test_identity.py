"""A job is the same job while model bytes, data and settings are; and files are read once."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from calib.runtime.isa import Cpu
from calib.zoo.identity import Identity
from calib.zoo.make_jobs import ZooJob


class Remembered(dict):
    """Digests by (path, stamp)."""

    def digest(self, path: str, stamp: str) -> str | None:
        return self.get((path, stamp))

    def keep_digest(self, path: str, stamp: str, digest: str) -> None:
        self[path, stamp] = digest


@pytest.fixture
def job(tmp_path: Path) -> ZooJob:
    for name in ("m.xml", "m.bin", "data.npz", "other.npz"):
        (tmp_path / name).write_text(name)
        os.utime(tmp_path / name, (1e9, 1e9))
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_text("a")
    return ZooJob("m", "m.xml", str(tmp_path / "m.xml"), str(tmp_path), "data.npz", settings={"samples": 5})


def key(job: ZooJob) -> str:
    return Identity(Remembered()).key(job)


def family(job: ZooJob) -> str:
    return Identity(Remembered()).family(job)


@pytest.mark.parametrize("name", ["m.xml", "m.bin", "data.npz"])
def test_other_bytes_are_another_job(job: ZooJob, tmp_path: Path, name: str):
    before = key(job), family(job)
    (tmp_path / name).write_text("changed")
    assert key(job) != before[0] and family(job) != before[1]


def test_settings_and_data_are_of_the_job_and_resources_are_not(job: ZooJob):
    assert key(job) == key(replace(job, threads=4, memory=1 << 30, timeout=5.0, retries=9))
    others = [
        replace(job, name="n"),
        replace(job, settings={"samples": 6}),
        replace(job, calibration="other.npz"),
        replace(job, validation="data.npz"),
        replace(job, calibration="images"),
        replace(job, calibration="nothing.npz"),
        replace(job, calibration="python:module:function"),
    ]
    assert len({key(one) for one in (job, *others)}) == len(others) + 1


def test_a_folder_of_samples_is_known_by_its_names_sizes_and_times(job: ZooJob, tmp_path: Path):
    images = replace(job, calibration="images")
    before = key(images)
    assert key(images) == before
    (tmp_path / "images" / "b.png").write_text("b")
    assert key(images) != before


def test_cells_that_differ_in_budget_or_estimator_share_statistics(job: ZooJob):
    def cell(**settings: object) -> str:
        return family(replace(job, settings={**job.settings, **settings}))

    assert cell(estimator="kl") == cell(estimator="minmax") == cell(estimator="kl", time_limit=5)
    assert len({cell(), cell(samples=6), cell(effort="fast")}) == 3


def test_cells_that_measure_accuracy_share_the_baseline_and_others_have_none(job: ZooJob):
    def subject(**settings: object) -> str:
        return family(replace(job, settings=settings)).partition("-")[0]

    measured = [subject(metric="agreement", samples=samples, max_drop=0.1) for samples in (5, 6)]
    assert measured[0] == measured[1] == subject(max_drop=0.2)
    assert len({measured[0], subject(samples=5), subject(samples=6)}) == 3


def test_a_file_with_a_known_stamp_is_not_read_and_a_fresh_one_is_not_trusted(job: ZooJob, tmp_path: Path):
    memory = Remembered()
    first = Identity(memory).key(job)
    assert len(memory) == 3
    for name in ("m.xml", "m.bin"):
        os.chmod(tmp_path / name, 0)
    memory |= {entry: "x" for entry in memory if "m.xml" in entry[0]}
    assert Identity(memory).key(job) != first  # what is remembered is believed
    (tmp_path / "data.npz").write_text("of this second")
    fresh = Remembered()
    Identity(fresh).key(job)
    assert not [path for path, _ in fresh if "data.npz" in path]


def test_cpus_of_unlike_kinds_share_no_statistics_where_the_target_is_the_cpus_own(
    job: ZooJob, monkeypatch: pytest.MonkeyPatch
):
    named = replace(job, settings=job.settings | {"target": "cpu"})
    here = [family(one) for one in (job, named)]
    monkeypatch.setattr("calib.zoo.identity.cpu", lambda: Cpu("another", ("of its own",), ()))
    there = [family(one) for one in (job, named)]
    assert here[0] != there[0] and here[1] == there[1]
