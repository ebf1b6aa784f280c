"""Kill a zoo at random, again and again: workers and supervisors, by kill -9, until enough kills or the time is over.

    python benchmarks/zoo_kills.py [--kills 100] [--seed 0] [--minutes 30] [--json FILE]

Each round runs a zoo of generated models with two workers and kills, after random times, a random worker or the
supervisor, up to ten times; a killed supervisor is started again. Then the zoo runs to its end and is held against an
undisturbed run: the same jobs, each done, the same bytes of every model, no attempt left open, no job done twice, no
file of an attempt left behind, one attempt more for each worker that died. The JSON file is written after each round;
a run that finds one goes on from it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
from record import write
from zoo_scale import generated

from calib.zoo.commands import Zoo, open_zoo
from calib.zoo.jobs import DONE, JobStore

MODELS = 6
KILLS_A_ROUND = 10
# Every stage but the timing, whose figures would differ; a budget that everything keeps, so that the search ends alike.
SETTINGS = "{calibration: data.npz, validation: data.npz, effort: balanced, max_drop: 0.9, speed: false}"
PROGRAM = "import sys; from calib.cli import main; main(sys.argv[1:])"


def start(manifest: Path, out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", PROGRAM, "zoo", "run", str(manifest), "-o", str(out), "-j", "2"]
    with open(out.with_suffix(".log"), "ab") as log:
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log)


def models(zoo: Zoo) -> dict[str, bytes]:
    root = Path(zoo.output.place)
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.suffix in (".xml", ".bin")}


def kill_one(supervisor: subprocess.Popen[bytes], chance: random.Random, longest: float) -> str:
    """Kill one process after a random time; return which, "" where all were done before or nothing ran."""
    end, whom = time.monotonic() + chance.uniform(0.1, longest), chance.choice(("supervisor", "worker", "worker"))
    draw = chance.random()
    while time.monotonic() < end:
        if supervisor.poll() is not None:
            return ""
        time.sleep(0.01)
    try:
        victims = [psutil.Process(supervisor.pid)]
        if whom == "worker":
            victims = sorted(victims[0].children(), key=lambda one: one.pid)
        victims[int(draw * len(victims))].kill()
    except (IndexError, psutil.NoSuchProcess):
        return ""
    return whom


def disturbed(manifest: Path, out: Path, chance: random.Random, longest: float, most: int) -> Counter[str]:
    """Run a zoo to its end under kills and return how often each kind of process was killed."""
    kills: Counter[str] = Counter()
    supervisor = start(manifest, out)
    while supervisor.poll() is None:
        if kills.total() >= most:
            supervisor.wait()
        elif whom := kill_one(supervisor, chance, longest):
            kills[whom] += 1
            if whom == "supervisor":
                supervisor.wait()
                supervisor = start(manifest, out)
    return kills


def wrong(zoo: Zoo, undisturbed: dict[str, bytes], kills: Counter[str]) -> list[str]:
    """Return what a disturbed run left other than an undisturbed one."""
    found = []
    with JobStore(zoo.folders.store) as store:
        found += [f"{row.name} is {row.status}: {row.reason}" for row in store.rows() if row.status not in DONE]
        attempts = store.attempts()
    found += [f"attempt {one.number} of {one.key} is {one.outcome}" for one in attempts if one.ended is None]
    done = Counter(one.key for one in attempts if one.outcome == "done")
    found += [f"{key} was done {count} times" for key, count in done.items() if count != 1]
    died = sum(one.outcome == "died" for one in attempts)
    # A worker that was killed after its result was complete is done; one killed with its supervisor is abandoned.
    found += [f"{died} attempts died, {kills['worker']} workers were killed"] if died > kills["worker"] else []
    found += ["files of attempts are left"] if list((zoo.folders.root / "work").iterdir()) else []
    found += ["models differ"] if models(zoo) != undisturbed else []
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "zoo_kills.json")
    options = parser.parse_args()
    settings = {"seed": options.seed, "models": MODELS, "kills a round": KILLS_A_ROUND, "job": SETTINGS}
    counts: dict[str, Any] = {"rounds": 0, "supervisor": 0, "worker": 0, "wrong": []}
    if options.json.exists() and (old := json.loads(options.json.read_text()))["settings"] == settings:
        counts = old["results"]
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    end = time.monotonic() + options.minutes * 60
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        reference = generated(at / "zoo", MODELS, SETTINGS)
        manifest = at / "zoo" / "zoo.yaml"
        started = time.monotonic()
        if start(manifest, reference.folders.root).wait():
            raise SystemExit("the undisturbed run failed:\n" + reference.folders.root.with_suffix(".log").read_text())
        longest = (time.monotonic() - started) / MODELS * 2  # what a job of one of two workers takes
        undisturbed = models(reference)
        while (left := options.kills - counts["supervisor"] - counts["worker"]) > 0 and time.monotonic() < end:
            chance = random.Random(f"{options.seed} {counts['rounds']}")
            zoo = open_zoo(str(manifest), str(at / f"out{counts['rounds']}"))
            kills = disturbed(manifest, zoo.folders.root, chance, longest, min(left, KILLS_A_ROUND))
            for whom, count in kills.items():
                counts[whom] += count
            counts["wrong"] += [f"round {counts['rounds']}: {text}" for text in wrong(zoo, undisturbed, kills)]
            counts["rounds"] += 1
            write(options.json, settings, counts)
    print(json.dumps(counts, indent=1))


if __name__ == "__main__":
    main()
