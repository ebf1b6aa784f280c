"""Say where a process was when a crash ended it: a crash of native code raises no error and leaves no message.

A process notes what it does in a file descriptor, one line for each stage that it enters or leaves, and Python's
faulthandler adds the stack when a signal such as SIGSEGV ends the process. What reads it afterwards is another process:
the supervisor of a zoo, or for a command a watcher that is forked before OpenVINO is loaded. The command itself keeps
its process, so that signals, exit code, terminal and job control are as they would be without a watcher.
"""

from __future__ import annotations

import atexit
import faulthandler
import os
import re
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from calib.progress import Progress, Stage

ENTERED, LEFT, DONE = "entered", "left", "done"
MOST_BYTES = 1 << 20  # of notes that are read: a stack of 100 frames for each of 100 threads has 800 kB
PATIENCE_SECONDS = 2.0  # for the rest of a stack after its first line

_FAULT = re.compile(r"^Fatal Python error: (.*)$", re.MULTILINE)
_FRAME = re.compile(r'^  File "(.*)", line (\d+) in ', re.MULTILINE)
_NATIVE = (("/openvino/", "OpenVINO"), ("/onnxruntime/", "onnxruntime"))

# Every call of OpenVINO goes through it: what called it says more.
SESSION = str(Path(__file__).with_name("session.py"))

_notes: int | None = None


def note_in(descriptor: int) -> None:
    """Note stages, and the stack at a crash, in this file descriptor until the process ends."""
    global _notes
    _notes = descriptor
    faulthandler.enable(descriptor)


def noted(progress: Progress) -> Progress:
    """Return the same receiver of progress, which also notes each stage if this process keeps notes."""
    if _notes is None:
        return progress

    @contextmanager
    def noting(stage: str, total: int | None = None) -> Iterator[Stage]:
        _note(f"{ENTERED} {stage}")
        with progress(stage, total) as inner:
            yield inner
        _note(f"{LEFT} {stage}")

    return noting


def watched(command: str) -> None:
    """Fork a watcher that says on stderr what this process was doing if a crash or SIGKILL ends it.

    It costs a millisecond while only the command line is loaded. Nothing happens where there is no fork.

    Args:
        command: What the process does, for the message before the first stage.
    """
    if not hasattr(os, "fork"):
        return
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    reading, writing = os.pipe()
    try:
        watcher = os.fork()
    except OSError:  # no more processes are allowed: the command does without
        os.close(reading)
        os.close(writing)
        return
    if watcher:
        os.close(reading)
        note_in(writing)
        _note(f"{ENTERED} {command}")
        atexit.register(_note, DONE)
        return
    try:
        os.close(writing)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_IGN)  # what they mean is for the command
        for stream in (0, 1):
            os.close(stream)  # a pipe to the next program ends with the command
        lines = explain(_read(reading))
        if lines:
            os.write(2, ("error: " + "\n".join(lines) + "\n").encode(errors="replace"))
    finally:
        os._exit(0)


def explain(notes: str) -> list[str]:
    """Return the lines of a message on how the process that wrote the notes ended; empty if it ended by itself.

    Args:
        notes: All that it noted; the last stage counts.
    """
    stages = re.findall(rf"^(?:{ENTERED}|{LEFT}) .*$|^{DONE}$", notes, re.MULTILINE)
    if not stages or stages[-1] == DONE:
        return []
    word, _, stage = stages[-1].partition(" ")
    where = f"{'in' if word == ENTERED else 'after'} the stage {stage!r}"
    fault = _FAULT.search(notes)
    if fault is None:
        return [
            f"the process was ended {where}, from outside or by code that calls os._exit. The system does so (SIGKILL) "
            "when memory runs out: free some, or use less (fewer samples, threads: 1)"
        ]
    frames = _stack(notes[fault.end() :])
    file, line = frames[0] if frames else ("", "0")
    native = next((name for part, name in _NATIVE if part in file), "" if file else "a library's own thread")
    callers = [(path, number) for path, number in frames if not _native(path) and path != SESSION]
    ours = f", called at {callers[0][0]}, line {callers[0][1]}" if callers else ""
    if not native:
        return [
            f"a crash ended the process {where}: {fault[1]} in {file}, line {line}. Run the code there by itself to "
            "see why"
        ]
    return [
        f"a crash inside {native} ended the process {where}: {fault[1]}{ours}.",
        "Ways round it: keep OpenVINO's transformations off the model (normalize: false, or --set normalize=false); "
        "leave out the layers it may come from (ignore); or convert the model again with another version of OpenVINO. "
        "Please report it with the model",
    ]


def _stack(dump: str) -> list[tuple[str, str]]:
    """Return file and line of each call of the thread that crashed, innermost first.

    A thread of a library's own has no calls of Python; then they are the main thread's, which comes last.
    """
    threads = [(block, _FRAME.findall(block)) for block in re.split(r"\n\n", dump)]
    stacks = [frames for _, frames in threads if frames]
    current = [frames for block, frames in threads if "Current thread" in block and frames]
    return [*current, *reversed(stacks), []][0]


def _native(path: str) -> bool:
    return any(part in path for part, _ in _NATIVE)


def _note(line: str) -> None:
    if _notes is None:
        return
    with suppress(OSError):  # the watcher was killed, or the disk is full: a note is not worth the run
        os.write(_notes, f"{line}\n".encode(errors="replace"))


def _read(descriptor: int) -> str:
    """Return what is written to a pipe until its writers have ended, or until a stack has come to its end."""
    notes, limit = b"", None
    while select.select([descriptor], [], [], limit)[0] and (block := os.read(descriptor, 1 << 16)):
        notes = (notes + block)[-MOST_BYTES:]
        if limit is None and b"Fatal Python error" in notes:
            limit = PATIENCE_SECONDS
    return notes.decode(errors="replace")
