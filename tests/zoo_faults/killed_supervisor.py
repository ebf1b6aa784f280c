"""A zoo's supervisor that kills itself at a named point: ``killed_supervisor.py MANIFEST OUT POINT FAULTS ONLY``.

POINT is ``Class.method:before`` or ``Class.method:after`` of what a supervisor uses, or ``os.replace:after``, at its
second call; "" for none. FAULTS is that of ``killed_worker.py``. Only jobs that ONLY matches are run.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from calib.zoo import output
from calib.zoo.commands import open_zoo, run
from calib.zoo.jobs import JobStore
from calib.zoo.make_jobs import select
from calib.zoo.output import Output
from calib.zoo.process import Local

OWNERS = {"JobStore": JobStore, "Output": Output, "Local": Local, "os": output.os}


def main(manifest: str, out: str, point: str = "", faults: str = "", only: str = "*") -> int:
    if point:
        _die_at(point)
    zoo = open_zoo(manifest, out)
    command = (sys.executable, str(Path(__file__).with_name("killed_worker.py")), faults)
    run(zoo, select(zoo.jobs, [only]), lambda text: print(text, file=sys.stderr), runner=Local(2, command))
    return 0


def _die_at(point: str) -> None:
    target, _, when = point.partition(":")
    name, _, method = target.partition(".")
    owner, calls, supervisor = OWNERS[name], [], os.getpid()
    original = getattr(owner, method)

    def wrapped(*arguments, **named):
        calls.extend([1] if os.getpid() == supervisor else [])  # not in a worker that was forked
        if when == "before" and len(calls) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        found = original(*arguments, **named)
        if when == "after" and len(calls) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    setattr(owner, method, wrapped)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
