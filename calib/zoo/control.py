"""Pause, resume and cancel single jobs of a zoo, from any process: a request in the store that the supervisor obeys.

Nothing is lost by any of them: what a search has found is in the store, and a job that is resumed goes on from there.
A request outlives its supervisor: the next one finds it with the abandoned job.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from difflib import get_close_matches

from calib.errors import UsageError
from calib.zoo import owner
from calib.zoo.jobs import DONE, JobRow, JobStore
from calib.zoo.sources import matches, shown_name

ACTIONS = ("pause", "cancel", "resume")


def ask(store: JobStore, key: str, action: str) -> str:
    """Ask something of a job and return its status afterwards; "running" if its supervisor has to obey first.

    A job that waits is paused or cancelled at once, and so is one whose supervisor is dead. ``cancel`` of a running job
    keeps the best model so far if its search has one that keeps the budget, which takes until the model is saved; a
    second ``cancel`` stops it at once, with nothing. ``resume`` withdraws a request, and lets a job wait that is paused
    or cancelled, or whose search was ended early by ``cancel``. What makes no sense changes nothing.

    Args:
        store: Store of the zoo.
        key: Key of the job.
        action: One of ``ACTIONS``.
    """
    assert action in ACTIONS, action
    row = store.row(key)
    if row.status == "running":
        _request(store, row, action)
        dead = owner.running(row.owner.rpartition(":")[0]) is False
        if dead and action != "resume":
            number = store.attempts(key)[-1].number
            store.finish(key, number, status="waiting", outcome="abandoned", counts=False, owner=row.owner)
    elif action == "resume":
        if row.status in ("paused", "cancelled") or ended_early(row):
            store.again([key])
    else:
        _set_aside(store, key, "paused" if action == "pause" else "cancelled")
    return store.row(key).status


def ended_early(row: JobRow) -> bool:
    """Say whether a job has a result whose search did not end by itself."""
    return row.status in DONE and bool(row.board and json.loads(row.board).get("stopped"))


def named(store: JobStore, patterns: Sequence[str]) -> list[JobRow]:
    """Return the jobs whose names match one of the patterns, in the order of the manifest.

    Raises:
        UsageError: A pattern matches no job; the nearest names are given.
    """
    rows = store.rows()
    for pattern in patterns:
        if not any(matches(pattern, row.name) for row in rows):
            near = get_close_matches(pattern, [shown_name(row.name) for row in rows], 3)
            hint = f"; did you mean {' or '.join(near)}?" if near else "; calib zoo status lists them"
            raise UsageError(f"{pattern}: no job of this zoo has that name{hint}")
    return [row for row in rows if any(matches(pattern, row.name) for pattern in patterns)]


def told(row: JobRow, action: str, status: str) -> str:
    """Return what was done to a job as a sentence, given its row before and its status afterwards."""
    words = status.replace("_", " ")
    if status == "running":
        return {
            "pause": "is being paused; its results are kept",
            "cancel": "is being cancelled; the best model so far is kept if it keeps the budget"
            if not row.request.startswith("cancel")
            else "is being stopped at once",
            "resume": "goes on running",
        }[action]
    if status == row.status:
        return f"is {words} already; there is nothing to {action}"
    return "waits to be run; calib zoo run goes on with it" if status == "waiting" else f"is {words}"


def _request(store: JobStore, row: JobRow, action: str) -> None:
    again = action == "cancel" and row.request.startswith("cancel")
    text = "" if action == "resume" else "cancel now" if again else action
    with store.store.transaction() as connection:
        connection.execute("UPDATE jobs SET request = ? WHERE key = ? AND status = 'running'", (text, row.key))


def _set_aside(store: JobStore, key: str, status: str) -> None:
    """Set the status of a job that no supervisor runs: one that waits, or is paused and is to be cancelled."""
    fits = "('waiting', 'paused')" if status == "cancelled" else "('waiting')"
    with store.store.transaction() as connection:
        connection.execute(f"UPDATE jobs SET status = ? WHERE key = ? AND status IN {fits}", (status, key))
