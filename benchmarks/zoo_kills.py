"""Kill a zoo at random, again and again: workers and supervisors, by kill -9, until enough kills or the time is over.

    python benchmarks/zoo_kills.py [--kills 100] [--seed 0] [--minutes 30] [--json FILE]

Each round runs the generated zoo with two workers and kills, after a random time, a random worker or the supervisor;
then it runs the zoo to its end and holds the result against an undisturbed run: the same jobs, each done, the same
bytes of every model, no attempt left open, no file of an attempt left behind. The JSON file is written after each
round; a run that finds one goes on from it.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from record import write
from zoo_scale import generated

from calib.zoo.jobs import JobStore
from calib.zoo.zoo import Zoo, open_zoo

MODELS = 6
PROGRAM = "import sys; from calib.cli import main; main(sys.argv[1:])"


def start(manifest: Path, out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", PROGRAM, "zoo", "run", str(manifest), "-o", str(out), "-j", "2"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def models(zoo: Zoo) -> dict[str, bytes]:
    root = Path(zoo.output.place)
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.suffix in (".xml", ".bin")}


def disturb(supervisor: subprocess.Popen[bytes], chance: random.Random, longest: float) -> str:
    """Kill one process after a random time; return which, "" where all were done before."""
    end = time.monotonic() + chance.uniform(0.2, longest)
    whom = chance.choice(("supervisor", "worker", "worker"))
    while time.monotonic() < end:
        if supervisor.poll() is not None:
            return ""
        time.sleep(0.01)
    victims = [psutil.Process(supervisor.pid)]
    if whom == "worker":
        victims = victims[0].children()
    if not victims:
        return ""
    try:
        chance.choice(sorted(victims, key=lambda one: one.pid)).kill()
    except psutil.NoSuchProcess:
        return ""
    return whom


def wrong(zoo: Zoo, undisturbed: dict[str, bytes]) -> list[str]:
    """Return what a disturbed run left other than an undisturbed one."""
    found = []
    with JobStore(zoo.folders.store) as store:
        found += [f"{row.name} is {row.status}: {row.reason}" for row in store.rows() if row.status != "quantized"]
        attempts = store.attempts()
    found += [f"attempt {one.number} of {one.key} is {one.outcome}" for one in attempts if one.ended is None]
    done = [one.key for one in attempts if one.outcome == "done"]
    found += [f"{key} was done twice" for key in set(done) if done.count(key) > 1]
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
    settings = {"seed": options.seed, "models": MODELS}
    counts: dict[str, Any] = {"rounds": 0, "supervisor": 0, "worker": 0, "wrong": []}
    if options.json.exists() and (old := json.loads(options.json.read_text()))["settings"] == settings:
        counts = old["results"]
    end = time.monotonic() + options.minutes * 60
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        reference = generated(at / "zoo", MODELS)
        manifest = at / "zoo" / "zoo.yaml"
        started = time.monotonic()
        if start(manifest, reference.folders.root).wait():
            raise SystemExit("the undisturbed run failed")
        longest, undisturbed = time.monotonic() - started, models(reference)
        while counts["supervisor"] + counts["worker"] < options.kills and time.monotonic() < end:
            chance = random.Random(f"{options.seed} {counts['rounds']}")
            zoo = open_zoo(str(manifest), str(at / f"out{counts['rounds']}"))
            supervisor = start(manifest, zoo.folders.root)
            if whom := disturb(supervisor, chance, longest):
                counts[whom] += 1
            supervisor.wait()
            start(manifest, zoo.folders.root).wait()
            counts["wrong"] += [f"round {counts['rounds']}: {text}" for text in wrong(zoo, undisturbed)]
            counts["rounds"] += 1
            write(options.json, settings, counts)
    print(json.dumps(counts, indent=1))


if __name__ == "__main__":
    main()
