"""Run a zoo's workers on a Dask cluster; the store stays with the supervisor.

Dask only transports; the supervisor decides. Each job is pinned to the machine chosen for it, so that the loss of a
machine ends the attempt and no scheduler starts it again without the store knowing. Models and data are read on the
worker's machine (from a shared folder or an fsspec URL); the result and the log come back as bytes.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from calib.errors import CalibError, MissingExtraError, UsageError, one_line
from calib.runtime.temporary import sweep, temporary_folder
from calib.values.distribution import requirement
from calib.zoo.process import Process
from calib.zoo.task import RESULT, Ended, Task, files_of

# How long the first worker of a cluster may take to appear.
PATIENCE_SECONDS = 60.0

# How old the list of workers may be: of a thousand it takes the scheduler longer to tell than to start a job.
FRESH_SECONDS = 0.5


@dataclass(frozen=True)
class _Sent:
    """An attempt that is running on a machine of the cluster."""

    task: Task
    future: Any
    machine: str


class Dask:
    """Runs workers on the machines of a cluster, as their threads and memory allow.

    Args:
        client: Client of the cluster, a ``distributed.Client``.
        most: Most jobs at the same time; None for as many as fit.
        close: Function called at the end, after the client is closed.
    """

    poll_seconds = 0.1

    def __init__(self, client: Any, most: int | None = None, close: Callable[[], object] | None = None):
        self._client = client
        self._most = most
        self._close = close
        self._sent: dict[str, _Sent] = {}
        self._seen = time.monotonic()
        self._known: tuple[float, dict[str, Any]] = (float("-inf"), {})

    def room(self) -> tuple[float, float]:
        """Return free threads and bytes of the machine with most of them; (0, 0) if none has any.

        Raises:
            CalibError: The cluster has had no worker for a minute.
        """
        free = self._free()
        if self._most is not None and len(self._sent) >= self._most:
            return 0.0, 0.0
        return max(((threads, memory) for threads, memory in free.values()), default=(0.0, 0.0))

    def start(self, task: Task) -> str:
        """Send a job to the machine with most room."""
        machine = max(self._free().items(), key=lambda one: (one[1], one[0]))[0]
        future = self._client.submit(
            work,
            task.to_json(),
            key=f"calib-{task.key}-{task.number}",
            workers=[machine],
            allow_other_workers=False,
            pure=False,
            retries=0,
        )
        self._sent[task.key] = _Sent(task, future, machine)
        return f"dask {machine}"

    def ended(self) -> list[tuple[Task, Ended]]:
        """Return the attempts that ended, with those on machines that are lost."""
        machines = self._machines()
        found = []
        for key, sent in list(self._sent.items()):
            if sent.future.done():
                found.append((sent.task, _received(sent)))
            elif sent.machine not in machines:
                sent.future.cancel(force=True)
                found.append((sent.task, Ended(None, {}, lost=f"the cluster's worker {sent.machine} was lost")))
            else:
                continue
            del self._sent[key]
        return found

    def stop(self, key: str) -> None:
        """Stop one worker."""
        self._sent.pop(key).future.cancel(force=True)

    def interrupt(self, key: str) -> bool:  # Runner says what it takes
        """Return False: a task that runs on a cluster can only be stopped."""
        return False

    def close(self) -> None:
        """End all workers and leave the cluster."""
        with contextlib.suppress(OSError):  # a scheduler that is gone has no workers to end
            for key in list(self._sent):
                self.stop(key)
        with contextlib.suppress(OSError):
            self._client.close()
        if self._close is not None:
            self._close()
            sweep(tempfile.gettempdir())  # what killed workers of this machine left

    def _machines(self) -> dict[str, Any]:
        asked, machines = self._known
        if time.monotonic() - asked < FRESH_SECONDS:
            return machines
        # Not client.scheduler_info(): what it returns can be the client's own poll, which lists no workers.
        try:
            machines = self._client.sync(self._client.scheduler.identity)["workers"]
        except OSError as error:  # CommClosedError and TimeoutError are such
            raise CalibError(
                f"the cluster's scheduler no longer answers ({one_line(error)}): it was stopped, or is out of reach. "
                "Start it and run again; finished jobs are not repeated"
            ) from error
        self._known = (time.monotonic(), machines)
        if machines:
            self._seen = time.monotonic()
        elif time.monotonic() - self._seen > PATIENCE_SECONDS:
            raise CalibError(f"the cluster has had no worker for {PATIENCE_SECONDS:.0f} s; start some and run again")
        return machines

    def _free(self) -> dict[str, tuple[float, float]]:
        """Return the threads and bytes that our own jobs leave free on each machine."""
        free = {
            name: (float(facts["nthreads"]), float(facts["memory_limit"] or "inf"))
            for name, facts in self._machines().items()
        }
        for sent in self._sent.values():
            if sent.machine in free:
                threads, memory = free[sent.machine]
                free[sent.machine] = threads - sent.task.job.threads, memory - (sent.task.job.memory or 0)
        return {name: room for name, room in free.items() if room[0] >= 1}


def connect(address: str, most: int | None = None) -> Dask:
    """Return a cluster by its address: ``dask://HOST:PORT``, or ``local:N`` for N workers on this machine.

    Raises:
        UsageError: The address has another form, or there is no answer.
        MissingExtraError: Dask is not installed.
    """
    kind, _, rest = address.partition(":")
    if kind not in ("dask", "local") or not rest.removeprefix("//") or (kind == "local" and not rest.isdecimal()):
        raise UsageError(f"--cluster {address}: must be dask://HOST:PORT or local:N")
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise MissingExtraError(f"--cluster {address}", "distributed", requirement("distributed")) from error
    for name in ("distributed", "distributed.batched", "distributed.client", "tornado.application"):
        # A connection that ends is logged with a traceback; what it means for the run is said by an error or a notice.
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if kind == "local":
        # As -P for the workers' processes: Dask starts Python by multiprocessing, and again for a worker that died.
        os.environ["PYTHONSAFEPATH"] = "1"
        cluster = LocalCluster(
            n_workers=int(rest),
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address=None,  # pyright: ignore[reportArgumentType]
        )
        return Dask(Client(cluster), most, cluster.close)
    try:
        return Dask(Client(f"tcp://{rest.removeprefix('//')}", timeout=10), most)
    except (OSError, TimeoutError) as error:
        raise UsageError(f"--cluster {address}: no scheduler answers there ({error})") from error


def work(text: str) -> dict[str, Any]:
    """Run one job on a machine of the cluster, in a process and a folder of its own.

    Returns:
        The fields of ``Ended``, and ``files`` (name → bytes), ``log`` and ``events``.
    """
    with temporary_folder() as at:
        # What is shared on the supervisor's disk is not here; SQLite over a network would not hold its promises.
        sent = Task.from_json(text)
        task = replace(sent, folder=str(at), log=str(at / "log"), statistics="", verdicts="", events=str(at / "events"))
        process = Process(task)
        try:
            ended = _watched(process)
        finally:
            process.close()
        result = at / RESULT
        files = {path.as_posix(): (result / path).read_bytes() for path in files_of(result)}
        return {
            "exit": ended.exit,
            "answer": ended.answer,
            "stopped": ended.stopped,
            "peak_memory": ended.peak_memory,
            "files": files,
            "log": (at / "log").read_bytes()[-(1 << 20) :],
            "events": (at / "events").read_bytes()[-(1 << 20) :] if (at / "events").exists() else b"",
        }


def _watched(process: Process) -> Ended:
    while (ended := process.poll()) is None:
        if _cancelled():
            process.stop("its supervisor is gone")
        time.sleep(0.1)
    return ended


def _cancelled() -> bool:
    """Return whether the task was abandoned, because its supervisor stopped it or died."""
    from distributed import get_worker

    worker = get_worker()
    task = worker.state.tasks.get(worker.get_current_task())
    return task is None or task.state == "cancelled"


def _received(sent: _Sent) -> Ended:
    """Write the files that came back to where a local worker would have left them."""
    if sent.future.status != "finished":
        error = sent.future.exception()  # None where the client or the scheduler dropped it
        how = f"gave up: {one_line(error)}" if error else "was lost: it, or the scheduler, no longer answers"
        return Ended(None, {}, lost=f"the cluster's worker {sent.machine} {how}"[:500])
    found = sent.future.result()
    folder, log = Path(sent.task.folder) / RESULT, Path(sent.task.log)
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(found["log"])
        if sent.task.events:
            with open(sent.task.events, "ab") as events:
                events.write(found["events"])
        if found["files"]:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        for name, data in found["files"].items():
            path = folder / name
            if not path.resolve().is_relative_to(folder.resolve()):
                continue  # no worker of ours sends such a name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
    except OSError as error:
        return Ended(found["exit"], {"reason": f"what came back can't be written: {error.strerror}"})
    return Ended(found["exit"], found["answer"], found["stopped"], found["peak_memory"])
