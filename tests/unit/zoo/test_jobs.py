"""Who holds a job: one owner at a time, leases that run out, attempts that are counted."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from calib.errors import StatisticsError
from calib.zoo import owner
from calib.zoo.jobs import JobStore
from calib.zoo.make_jobs import ZooJob

ALL = {"threads": float("inf"), "memory": float("inf")}


def job(name: str, **more: object) -> ZooJob:
    return ZooJob(name, f"{name}.xml", f"/{name}.xml", "/", "data.npz", **more)  # type: ignore[arg-type]


def entered(store: JobStore, *names: str, family: str = "") -> None:
    store.enter([(f"key-{name}", family or f"family-{name}", job(name)) for name in names], names)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "zoo.sqlite"


def test_two_supervisors_never_claim_the_same_job(path: Path):
    with JobStore(path) as one, JobStore(path) as two:
        for store in (one, two):
            entered(store, "a", "b", "c")
        claimed = [store.claim(**ALL) for store in (one, two, one, two)]
        assert [found and found[0].name for found in claimed] == ["a", "b", "c", None]
        assert not one.abandoned() and not two.abandoned()


def test_a_lease_that_ran_out_is_anybodys_and_the_late_owner_is_told(path: Path):
    with JobStore(path, lease=0.05) as slow, JobStore(path) as other:
        for store in (slow, other):
            entered(store, "a")
        assert slow.claim(**ALL)
        time.sleep(0.1)
        ((row, attempt),) = other.abandoned()
        assert attempt.number == 1
        assert other.finish(row.key, 1, status="waiting", outcome="abandoned", counts=False, owner=row.owner)
        again = other.claim(**ALL)
        assert again and again[1] == 2 and again[0].tries == 1
        assert slow.renew(["key-a"]) == ["key-a"]
        assert not slow.finish("key-a", 1, status="quantized", outcome="done")
        assert [one.outcome for one in other.attempts("key-a")] == ["abandoned", "running"]


def test_jobs_of_a_dead_process_are_taken_over_at_once(path: Path):
    code = f"""
from calib.zoo.jobs import JobStore
from calib.zoo.make_jobs import ZooJob
store = JobStore({str(path)!r})
store.enter([("k", "f", ZooJob("a", "a.xml", "/a.xml", "/", "d.npz"))], ["a"])
store.claim(threads=9, memory=9)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    with JobStore(path) as store:
        assert [row.key for row, _ in store.abandoned()] == ["k"]


def test_while_the_first_of_a_family_runs_the_others_wait(path: Path):
    with JobStore(path) as store:
        entered(store, "a", "b", family="same")
        first = store.claim(**ALL)
        assert first and store.claim(**ALL) is None
        store.finish("key-a", first[1], status="quantized", outcome="done", board="{}")
        second = store.claim(**ALL)
        assert second and second[0].name == "b"


def test_without_sharing_all_of_a_family_run_at_the_same_time(path: Path):
    with JobStore(path) as store:
        entered(store, "a", "b", family="same")
        claimed = [store.claim(**ALL, shares=False) for _ in range(3)]
        assert [found and found[0].name for found in claimed] == ["a", "b", None]


def test_while_the_first_of_a_subject_measures_the_baseline_its_other_families_wait(path: Path):
    subject = "0123456789abcdef"
    with JobStore(path) as store:
        families = {"a": f"{subject}-1", "b": f"{subject}-2", "c": f"{subject}-2", "d": "fedcba9876543210-1"}
        store.enter([(name, family, job(name)) for name, family in families.items()], families)
        claimed = [store.claim(**ALL) for _ in range(3)]
        assert [found and found[0].name for found in claimed] == ["a", "d", None]
        store.finish("a", 1, status="quantized", outcome="done", board="{}")
        claimed = [store.claim(**ALL) for _ in range(2)]
        assert [found and found[0].name for found in claimed] == ["b", None]  # b makes the statistics of c


def test_a_job_larger_than_the_room_is_left(path: Path):
    with JobStore(path) as store:
        store.enter([("k", "f", job("a", threads=4, memory=1 << 30))], ["a"])
        assert store.claim(threads=2, memory=1 << 40) is None
        assert store.claim(threads=4, memory=1 << 20) is None
        assert store.claim(threads=4, memory=1 << 30)


def test_changed_and_vanished_jobs_leave_the_leaderboard_and_come_back_with_their_history(path: Path):
    with JobStore(path) as store:
        entered(store, "a", "b")
        claimed = store.claim(**ALL)
        assert claimed
        store.finish("key-a", 1, status="failed", outcome="failed", reason="broken")
        store.enter([("new-key", "f", job("a"))], ["a"])
        assert [(row.key, row.status) for row in store.rows()] == [("new-key", "waiting")]
        entered(store, "a")
        assert [(row.key, row.status, row.reason) for row in store.rows()] == [("key-a", "failed", "broken")]
        store.again(["key-a"])
        assert store.row("key-a").tries == 0 and len(store.attempts("key-a")) == 1


def test_digests_are_remembered_for_one_stamp_only(path: Path):
    with JobStore(path) as store:
        store.keep_digest("/x", "1 2", "d")
        entered(store)
        assert (store.digest("/x", "1 2"), store.digest("/x", "1 3")) == ("d", None)


def test_a_process_is_known_by_its_start_as_well():
    name = owner.process_name(os.getpid())
    assert owner.running(name)
    machine, pid, _ = name.split(":")
    assert owner.running(f"{machine}:{pid}:1.00") is False
    assert owner.running(f"another/1:{pid}:1.00") is None


def test_ending_a_process_takes_its_children():
    code = "import subprocess, sys; p = subprocess.Popen(['sleep', '100']); print(p.pid, flush=True); p.wait()"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        child = int(parent.stdout.readline())
        owner.end(owner.process_name(parent.pid))
        parent.wait(10)
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("name = '../../evil'", "'../../evil' is no name of a job"),
        ("name = '/etc/evil'", "is no name of a job"),
        ("name = x'ff'", "is no name of a job"),
        ("key = '../evil'", "'../evil' is no key"),
        ("family = '../x-y'", "'../x-y' is no family"),
        ("status = 'nonsense'", "'nonsense' is no status"),
        ("request = 'explode'", "'explode' is no request"),
        ("lease = 'soon'", "a value of another type"),
    ],
)
def test_a_store_that_was_tampered_with_is_damaged_and_leads_nowhere(tmp_path: Path, change: str, said: str):
    with JobStore(tmp_path / "zoo.sqlite") as store:
        entered(store, "a")
        with store.store.transaction() as connection:
            connection.execute(f"UPDATE jobs SET {change}")
        with pytest.raises(StatisticsError, match=f"damaged .*{said}"):
            store.rows()
