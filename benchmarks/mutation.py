"""Change the code by one operator or constant at a time: which changes does no test notice.

    pip install -e '.[mutation]'
    python benchmarks/mutation.py [--minutes 40] [--sample 400] [--only PATTERN …] [--folder DIR] [--json FILE]

Modules and tests are those of [tool.mutmut] in pyproject.toml. A seeded sample of all mutants (of those whose names
match a pattern, such as ``calib.ranges.*``) is run, one process at a time; with ``--folder`` the run goes on where the
last one in that folder stopped, and with ``--again`` its survivors are run with the tests of today. Survivors are
written with what was changed, to be read: some change nothing that can be seen (``astype(None)`` is float64, too).
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from record import write  # noqa: E402

DEFAULT = ROOT / "benchmarks" / "results" / "mutation.json"
FIRST = "calib.ranges.minmax*"  # run first, because it is small: mutmut makes all mutants before it runs any
SURVIVED, UNTESTED = 0, 33  # exit codes that mutmut keeps; 24, 36, 152 and 255 are timeouts, which are noticed
MUTMUT = (sys.executable, "-m", "mutmut")


def codes(folder: Path) -> dict[str, int | None]:
    """Return ``{mutant: exit code of its tests}``, None where it was not run."""
    found: dict[str, int | None] = {}
    for path in sorted(folder.glob("mutants/calib/**/*.meta")):
        found |= json.loads(path.read_text(encoding="utf-8")).get("exit_code_by_key", {})
    return found


def run(folder: Path, names: list[str], seconds: float) -> None:
    command = ["timeout", "--signal=INT", str(int(seconds) + 1), *MUTMUT, "run", "--max-children", "1", *names]
    subprocess.run(command, cwd=folder, check=False, stdout=subprocess.DEVNULL)


def changed(folder: Path, mutant: str) -> str:
    """Return the lines that a mutant takes away and adds."""
    done = subprocess.run([*MUTMUT, "show", mutant], cwd=folder, check=False, capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line[:1] in "+-" and line[:3] not in ("---", "+++")]
    return "\n".join(" ".join(line.split()) for line in lines)


def module(mutant: str) -> str:
    """Return the module of a mutant's name, which is ``module.function__mutmut_number``."""
    return mutant.rpartition(".")[0].removesuffix(".x")


def tally(folder: Path) -> dict[str, object]:
    """Return the score of each module and of all, and the survivors."""
    found = {name: code for name, code in codes(folder).items() if code is not None}
    modules: dict[str, Counter[str]] = {}
    for name, code in found.items():
        kind = {SURVIVED: "survived", UNTESTED: "without a test"}.get(code, "noticed")
        modules.setdefault(module(name), Counter())[kind] += 1
    noticed = sum(counts["noticed"] for counts in modules.values())
    return {
        "mutants": len(codes(folder)),
        "run": len(found),
        "score": round(noticed / max(len(found), 1), 3),
        "modules": {name: dict(counts) for name, counts in sorted(modules.items())},
        "survivors": {name: changed(folder, name) for name, code in found.items() if code == SURVIVED},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=40.0)
    parser.add_argument("--sample", type=int, default=400, help="how many mutants")
    parser.add_argument("--only", nargs="*", default=["*"], help="patterns of mutants' names")
    parser.add_argument("--folder", type=Path, help="where the copy that is changed lives; it is kept")
    parser.add_argument("--again", action="store_true", help="run the folder's survivors first, with today's tests")
    parser.add_argument("--json", type=Path, default=DEFAULT)
    options = parser.parse_args()
    end = time.monotonic() + 60 * options.minutes
    with tempfile.TemporaryDirectory(prefix="mutation-") as own:
        folder = options.folder or Path(own) / "copy"
        if not folder.exists():
            names = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
            for name in names.splitlines():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name)
        if not codes(folder):
            run(folder, [FIRST], end - time.monotonic())
        names = [name for name in sorted(codes(folder)) if any(fnmatch.fnmatchcase(name, p) for p in options.only)]
        if survivors := [name for name in names if options.again and codes(folder)[name] in (SURVIVED, UNTESTED)]:
            for copy in (folder, folder / "mutants"):
                shutil.copytree(ROOT / "tests", copy / "tests", dirs_exist_ok=True)
            run(folder, survivors, end - time.monotonic())
        chosen = Random(0).sample(names, min(options.sample, len(names)))
        waiting = [name for name in chosen if codes(folder)[name] is None]
        if waiting and end > time.monotonic():
            run(folder, waiting, end - time.monotonic())
        found = tally(folder)
    settings = {"sample": options.sample, "only": options.only, "minutes": options.minutes}
    write(options.json, settings, found)
    print(f"{found['run']} of {found['mutants']} mutants run, noticed: {found['score']:.1%}; see {options.json}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
