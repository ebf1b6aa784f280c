"""A zoo's supervisor that kills itself at a named point: ``killed_supervisor.py MANIFEST OUT POINT [FAULTS]``.

POINT is Class.method:before or Class.method:after of what a supervisor uses, at its second call; "" for none.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from calib.zoo.jobs import JobStore
from calib.zoo.output import Output
from calib.zoo.process import COMMAND, Local
from calib.zoo.zoo import open_zoo, run

CLASSES = {cls.__name__: cls for cls in (JobStore, Output, Local)}


def main(manifest: str, out: str, point: str, faults: str = "") -> int:
    if point:
        target, _, when = point.partition(":")
        name, _, method = target.partition(".")
        cls, calls = CLASSES[name], []
        original = getattr(cls, method)

        def wrapped(*arguments, **named):
            calls.append(1)
            if when == "before" and len(calls) == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            found = original(*arguments, **named)
            if when == "after" and len(calls) == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            return found

        setattr(cls, method, wrapped)
    zoo = open_zoo(manifest, out)
    worker = Path(__file__).with_name("killed_worker.py")
    command = (sys.executable, str(worker), faults) if faults else COMMAND
    run(zoo, zoo.jobs, lambda text: print(text, file=sys.stderr), runner=Local(2, command))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
