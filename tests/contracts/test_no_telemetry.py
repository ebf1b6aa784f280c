"""A run tells nobody: no file outside its folder, no child process, no socket."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

WATCHED = """
import json, sys
events = []
WATCH = ("socket.__new__", "socket.connect", "socket.getaddrinfo", "urllib.Request",
         "subprocess.Popen", "os.fork", "os.posix_spawn", "os.exec", "os.system")
sys.addaudithook(lambda event, arguments: events.append(event) if event in WATCH else None)

import numpy as np, psutil
from calib.cli import main
from calib.runtime.session import ov

opset = ov.opset13
image = opset.parameter([1, 3, 8, 8], np.float32, name="image")
image.output(0).set_names({"image"})
weights = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)
ov.save_model(ov.Model([opset.convolution(image, weights, [1, 1], [0, 0], [0, 0], [1, 1])], [image], "m"), "m.xml")
try:
    main(["-q", "quantize", "m.xml", "--calibration", "data.npz", "-o", "out", "--json"])
except SystemExit as ended:
    code = ended.code or 0
me = psutil.Process()
children = [child.name() for child in me.children(recursive=True)]
print(json.dumps({"code": code, "events": events, "children": children, "sockets": len(me.net_connections())}),
      file=sys.stderr)
"""


def test_a_run_leaves_no_trace_and_opens_no_socket(tmp_path: Path):
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    np.savez(work / "data.npz", image=np.random.default_rng(1).normal(size=(4, 3, 8, 8)).astype(np.float32))
    # CI keeps OpenVINO's own telemetry quiet, so it must not be set here.
    environment = {key: value for key, value in os.environ.items() if key not in ("CI", "XDG_CACHE_HOME")}
    environment |= {"HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", WATCHED], cwd=work, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stderr.splitlines()[-1])
    assert seen == {"code": 0, "events": [], "children": [], "sockets": 0}
    assert list(home.rglob("*")) == []
    assert sorted(path.name for path in work.iterdir()) == ["data.npz", "m.bin", "m.xml", "out"]
