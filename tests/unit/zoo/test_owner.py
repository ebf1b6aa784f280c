"""A process is told from another with the same id, and from one on another machine."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import psutil

from calib.zoo.owner import end, kill_tree, machine, process_name, running

PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_this_process_runs_and_one_that_had_its_id_does_not():
    name = process_name(os.getpid())
    assert name.startswith(f"{machine()}:{os.getpid()}:") and running(name) is True
    assert running(name.rpartition(":")[0] + ":1.00") is False


def test_of_another_machine_nothing_is_known():
    assert running(f"elsewhere:{os.getpid()}:1.00") is None
    assert running("") is None and running(f"{machine()}:no number:1.00") is None


def test_a_process_that_has_ended_does_not_run_before_and_after_it_is_waited_for():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        name = process_name(child.pid)
        assert running(name) is True
        assert child.stdin is not None
        child.stdin.close()
        while not gone(child.pid):
            time.sleep(0.01)
        assert running(name) is False
        child.wait()
    assert running(name) is False and process_name(child.pid).endswith(":0.00")


def test_ending_a_process_ends_its_children_too():
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        end(process_name(parent.pid))
        parent.wait(timeout=10)
    assert gone(child)


def test_killing_what_is_gone_is_no_error():
    with subprocess.Popen([sys.executable, "-c", ""]) as done:
        done.wait()
    kill_tree(done.pid)
    end(process_name(done.pid))
