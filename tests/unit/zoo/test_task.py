"""What a worker is told survives the pipe, and only a complete result of the same job counts."""

from __future__ import annotations

from pathlib import Path

from calib.zoo.make_jobs import ZooJob
from calib.zoo.task import MARKER, Task, file_text, read_marker, sync, write_marker

JOB = ZooJob("a/b", "a/b.xml", "/models/b.xml", "/data", "c.npz", settings={"max_drop": 0.5, "ignore": ["x"]}, memory=1)


def test_a_task_comes_back_as_it_was():
    task = Task("key", 3, JOB, "/jobs/key.3", "/logs/b.log", statistics="s.npz", verdicts="v.sqlite")
    assert Task.from_json(task.to_json()) == task


def test_a_marker_is_that_of_its_job_alone(tmp_path: Path):
    write_marker(tmp_path, "key", {"status": "quantized"})
    sync(tmp_path)
    text = file_text(tmp_path / MARKER)
    assert read_marker(text, "key") == {"status": "quantized"}
    assert read_marker(text, "another") is None


def test_half_a_marker_and_none_are_no_result(tmp_path: Path):
    assert file_text(tmp_path / MARKER) is None
    for text in (None, "", '{"key": "k', "[]", '{"key": "k"}', '{"key": "k", "board": []}'):
        assert read_marker(text, "k") is None
