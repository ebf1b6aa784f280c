"""What the events of a run come to: its stages, the points of its search, its log; folded once for all who watch."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from calib.zoo.events import Event

LINES = 300  # of the log that a page shows; all of it is in the file


@dataclass
class StageSeen:
    """A stage of the run.

    Attributes:
        state: Either "begun", "ended" or "stopped".
        seconds: Seconds it has taken so far.
        done, total: Units, None if unknown.
        left: Seconds that it will take, None if unknown.
        note: What is being tried.
    """

    name: str
    state: str = "begun"
    seconds: float = 0.0
    done: int = 0
    total: int | None = None
    left: float | None = None
    note: str = ""

    @property
    def share(self) -> int | None:
        """Share that is done in percent, None if unknown."""
        return min(100, 100 * self.done // self.total) if self.total else None


@dataclass
class Live:
    """What is known of a run.

    Attributes:
        number: Number of the last event.
        changed: Part ("stages", "points", "log") → number of the event that changed it last.
        stages: Stages of the last attempt, in order.
        points: Plans that the search evaluated, as their events give them.
        timed: Number of a plan's step → its latency in milliseconds.
        baseline: Values of the FP32 model.
        lines: Lines of the log, each its kind and text.
        attempt: Number of the attempt.
    """

    number: int = 0
    changed: dict[str, int] = field(default_factory=dict)
    stages: list[StageSeen] = field(default_factory=list)
    points: list[dict[str, Any]] = field(default_factory=list)
    timed: dict[int, float] = field(default_factory=dict)
    baseline: dict[str, Any] = field(default_factory=dict)
    lines: deque[tuple[str, str]] = field(default_factory=lambda: deque(maxlen=LINES))
    attempt: int = 0

    def take(self, events: Iterable[Event]) -> None:
        """Add events, the oldest first."""
        for event in events:
            if event.attempt > self.attempt:
                self._again(event.attempt)
            part = (
                _TAKEN[event.kind](self, event.values) if event.kind in _TAKEN else ""
            )  # a newer calib has more kinds
            self.number = event.number
            if part:
                self.changed[part] = event.number

    def part_since(self, part: str, number: int) -> bool:
        """Return whether a part has changed after an event."""
        return self.changed.get(part, 0) > number

    def _again(self, attempt: int) -> None:
        """Start with a new attempt: what the search knows comes again from its store."""
        if self.attempt:
            self.lines.append(("log", f"attempt {attempt}: it goes on from what is stored"))
        self.attempt, self.stages, self.points, self.timed = attempt, [], [], {}

    def _stage(self, values: dict[str, Any]) -> str:
        if values["state"] == "begun":
            self.stages.append(StageSeen(str(values["stage"]), total=values.get("total")))
        elif (stage := self._of(values)) is not None:
            stage.state, stage.seconds, stage.left = "ended", float(values.get("seconds") or 0), None
        return "stages"

    def _progress(self, values: dict[str, Any]) -> str:
        if (stage := self._of(values)) is not None:
            stage.done, stage.total = int(values.get("done") or 0), values.get("total")
            stage.note, stage.left = str(values.get("note") or ""), values.get("left_s")
            stage.seconds = float(values.get("seconds") or 0)
        return "stages"

    def _search(self, values: dict[str, Any]) -> str:
        self.points.append(values)
        return "points"

    def _timed(self, values: dict[str, Any]) -> str:
        for plan in values.get("plans", ()):
            if plan.get("step") is not None and plan.get("latency_ms") is not None:
                self.timed[int(plan["step"])] = float(plan["latency_ms"])
        return "points"

    def _baseline(self, values: dict[str, Any]) -> str:
        self.baseline = values
        return "stages"

    def _warning(self, values: dict[str, Any]) -> str:
        self.lines.append(("warning", str(values.get("text", ""))))
        return "log"

    def _log(self, values: dict[str, Any]) -> str:
        self.lines.append(("log", f"{values.get('stage', '')}: {values.get('text', '')}"))
        return "log"

    def _status(self, values: dict[str, Any]) -> str:
        status, reason = str(values.get("status", "")).replace("_", " "), str(values.get("reason", ""))
        self.lines.append(("status", f"{status}: {reason}" if reason else status))
        if values.get("status") != "running":
            for stage in self.stages:
                stage.state = "stopped" if stage.state == "begun" else stage.state
        return "log"

    def _of(self, values: dict[str, Any]) -> StageSeen | None:
        same = [stage for stage in self.stages if stage.name == values.get("stage")]
        return same[-1] if same else None


_TAKEN = {
    "stage": Live._stage,
    "progress": Live._progress,
    "search": Live._search,
    "timed": Live._timed,
    "baseline": Live._baseline,
    "warning": Live._warning,
    "log": Live._log,
    "status": Live._status,
}
