"""What a page shows of a running job: the events of real workers, also of those that are killed.

covers: calib.zoo.worker
"""

from __future__ import annotations

from pathlib import Path

from zoo_faults.nursery import Nursery
from zoo_faults.tiny_zoo import THOROUGH_ENOUGH, rows_and_attempts, supervise, write_zoo

from calib.zoo.commands import open_zoo
from calib.zoo.events import read_events


def test_a_run_is_told_in_numbered_events_and_a_killed_worker_is_continued(nursery: Nursery, tmp_path: Path):
    manifest = write_zoo(tmp_path, "a", THOROUGH_ENOUGH)
    zoo = open_zoo(str(manifest))
    assert supervise(nursery, manifest, zoo.folders.root, "", {"a": [["in search", "kill"]]}).wait() == 0
    (row,), _ = rows_and_attempts(zoo)
    events = read_events(zoo.folders.events(row.name, row.key))
    assert [event.number for event in events] == sorted({event.number for event in events})
    assert [(event.attempt, event.values["status"]) for event in events if event.kind == "status"] == [
        (1, "running"), (1, "waiting"), (2, "running"), (2, "mostly_float"),
    ]  # fmt: skip
    for attempt in (1, 2):
        (baseline,) = [event.values for event in events if event.kind == "baseline" and event.attempt == attempt]
        assert baseline["samples"] == 10 and baseline["metrics"][0]["metric"] == "relative-l2"
    ended = [event.values["stage"] for event in events if event.kind == "stage" and event.values["state"] == "ended"]
    assert ended.index("statistics") < ended.index("search") < ended.index("report")
    points = [event.values for event in events if event.kind == "search" and event.attempt == 2]
    assert [point["step"] for point in points] == list(range(1, len(points) + 1)) and len(points) > 2
    for point in points:
        assert point["of_layers"] >= point["reverted"] == len(point["layers"])
        assert point["interval"][0] <= point["drop"] <= point["interval"][1] and point["budget"] == 0.002
    assert points[0]["reverted"] == 0 and any(point["within"] for point in points)
    (result,) = [event.values for event in events if event.kind == "result"]
    assert result["status"] == "mostly_float" and result["model"] == "a"
