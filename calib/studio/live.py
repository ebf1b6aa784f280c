"""What the events of a run come to: its stages, the points of its search, its log; folded once for all who watch."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from calib.progress_shown import duration
from calib.zoo.events import Event

LINES = 300  # of the log that a page shows; all of it is in the file
_SURE = 1.0  # expected seconds of stages from which their real times say something of the machine
_COUNTED = 3  # units of a stage from which their time says something of the rest


@dataclass
class StageSeen:
    """A stage of the run.

    Attributes:
        state: Either "begun", "ended" or "stopped".
        begun: When it began, in seconds since 1970.
        seconds: Seconds it has taken so far.
        done, total: Units, None if unknown.
        left: Seconds that it will take, None if unknown.
        note: What is being tried.
    """

    name: str
    state: str = "begun"
    begun: float = 0.0
    seconds: float = 0.0
    done: int = 0
    total: int | None = None
    left: float | None = None
    note: str = ""

    @property
    def share(self) -> int | None:
        """Share that is done in percent, None if unknown."""
        return min(100, 100 * self.done // self.total) if self.total else None


@dataclass(frozen=True)
class Clock:
    """How far a run is.

    Attributes:
        since: Seconds since its attempt began.
        number, of: Number of the stage that runs, and of all; 0 if unknown.
        left: Seconds that it will take if all goes as expected; None if unknown.
        most: Seconds that it will take at most, larger than ``left`` where a search puts layers back.
    """

    since: float
    number: int
    of: int
    left: float | None = None
    most: float = 0.0

    @property
    def share(self) -> int | None:
        """Share that is done in percent, None if unknown."""
        return (
            None if self.left is None else round(100 * self.since / max(self.since + max(self.left, self.most), 1e-9))
        )

    def __str__(self) -> str:
        parts = [f"stage {self.number} of {self.of}"] if self.number else []
        parts.append(f"{duration(self.since)} so far")
        if self.left is not None and self.most > 1.5 * self.left + 5:
            parts.append(f"at most about {duration(self.most)} left")
        elif self.left is not None:
            parts.append(f"about {duration(self.left)} left" if self.left >= 1 else "nearly done")
        return ", ".join(parts)


@dataclass
class Live:
    """What is known of a run.

    Attributes:
        number: Number of the last event.
        changed: Part ("stages", "points", "log") → number of the event that changed it last.
        stages: Stages of the last attempt, in order.
        names: Names of all stages that it has, those that have not begun too; empty before they are known.
        expected: CPU seconds that stages are expected to take, by name.
        points: Plans that the search evaluated, as their events give them.
        timed: Number of a plan's step → its latency in milliseconds.
        baseline: Values of the FP32 model.
        lines: Lines of the log, each its kind and text.
        attempt: Number of the attempt.
        begun: When the attempt began, in seconds since 1970.
    """

    number: int = 0
    changed: dict[str, int] = field(default_factory=dict)
    stages: list[StageSeen] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    expected: dict[str, float] = field(default_factory=dict)
    points: list[dict[str, Any]] = field(default_factory=list)
    timed: dict[int, float] = field(default_factory=dict)
    baseline: dict[str, Any] = field(default_factory=dict)
    lines: deque[tuple[str, str]] = field(default_factory=lambda: deque(maxlen=LINES))
    attempt: int = 0
    begun: float = 0.0

    def take(self, events: Iterable[Event]) -> None:
        """Add events, the oldest first."""
        for event in events:
            if event.attempt > self.attempt:
                self._again(event)
            part = _TAKEN[event.kind](self, event) if event.kind in _TAKEN else ""  # a newer calib has more kinds
            self.number = event.number
            if part:
                self.changed[part] = event.number

    @property
    def to_come(self) -> list[str]:
        """Names of the stages that have not begun."""
        begun = {stage.name for stage in self.stages}
        return [name for name in self.names if name not in begun]

    def clock(self, now: float) -> Clock | None:
        """Return how far the run is; None if nothing runs.

        What stages took, beside what was expected of them, says how fast this machine is at present.

        Args:
            now: Seconds since 1970.
        """
        running = [stage for stage in self.stages if stage.state == "begun"]
        if not running:
            return None
        number = self.names.index(running[-1].name) + 1 if running[-1].name in self.names else 0
        if not self.expected:
            return Clock(now - self.begun, number, len(self.names))
        pace = self._pace()
        left = sum(self._left_of(stage, pace, now) for stage in running)
        left += sum(pace * self.expected.get(name, 0.0) for name in self.to_come)
        return Clock(now - self.begun, number, len(self.names), left, max(left, self._search_left(now)))

    def _pace(self) -> float:
        """Return wall seconds a second expected, by the stages that have ended."""
        ended = [stage for stage in self.stages if stage.state == "ended" and stage.name in self.expected]
        expected = sum(self.expected[stage.name] for stage in ended)
        return min(max(sum(stage.seconds for stage in ended) / expected, 0.1), 10.0) if expected >= _SURE else 1.0

    def _left_of(self, stage: StageSeen, pace: float, now: float) -> float:
        since = max(0.0, now - stage.begun)
        if stage.left is not None and stage.done >= _COUNTED:
            return max(0.0, stage.left - (since - stage.seconds))
        return max(0.0, pace * self.expected.get(stage.name, 0.0) - since)

    def _search_left(self, now: float) -> float:
        """Return the most seconds that a search which has to put layers back still takes; 0 without such a search."""
        searching = [stage for stage in self.stages if stage.state == "begun" and stage.name == "search"]
        if not searching or not self.points or self.points[0].get("within"):  # all of it in INT8 keeps the budget
            return 0.0
        return max(0.0, float(self.points[-1].get("most_s") or 0.0) - (now - searching[0].begun))

    def part_since(self, part: str, number: int) -> bool:
        """Return whether a part has changed after an event."""
        return self.changed.get(part, 0) > number

    def _again(self, event: Event) -> None:
        """Start with a new attempt: what the search knows comes again from its store."""
        if self.attempt:
            self.lines.append(("log", f"attempt {event.attempt}: it goes on from what is stored"))
        self.attempt, self.begun = event.attempt, event.time
        self.stages, self.points, self.timed, self.names, self.expected = [], [], {}, [], {}

    def _stages(self, event: Event) -> str:
        self.names = [str(name) for name in event.values.get("names") or ()]
        self.expected = {str(name): float(value) for name, value in (event.values.get("seconds") or {}).items()}
        return "stages"

    def _stage(self, event: Event) -> str:
        values = event.values
        if values["state"] == "begun":
            if values["stage"] == "load":  # the first one: a run without what can't be used begins again
                self.stages, self.points, self.timed = [], [], {}
            self.stages.append(StageSeen(str(values["stage"]), begun=event.time, total=values.get("total")))
        elif (stage := self._of(values)) is not None:
            stage.state, stage.seconds, stage.left = "ended", float(values.get("seconds") or 0), None
        return "stages"

    def _progress(self, event: Event) -> str:
        values = event.values
        if (stage := self._of(values)) is not None:
            stage.done, stage.total = int(values.get("done") or 0), values.get("total")
            stage.note, stage.left = str(values.get("note") or ""), values.get("left_s")
            stage.seconds = float(values.get("seconds") or 0)
        return "stages"

    def _search(self, event: Event) -> str:
        self.points.append(event.values)
        return "points"

    def _timed(self, event: Event) -> str:
        for plan in event.values.get("plans", ()):
            if plan.get("step") is not None and plan.get("latency_ms") is not None:
                self.timed[int(plan["step"])] = float(plan["latency_ms"])
        return "points"

    def _baseline(self, event: Event) -> str:
        self.baseline = event.values
        return "stages"

    def _warning(self, event: Event) -> str:
        self.lines.append(("warning", str(event.values.get("text", ""))))
        return "log"

    def _log(self, event: Event) -> str:
        values = event.values
        self.lines.append(("log", f"{values.get('stage', '')}: {values.get('text', '')}"))
        return "log"

    def _status(self, event: Event) -> str:
        values = event.values
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
    "stages": Live._stages,
    "stage": Live._stage,
    "progress": Live._progress,
    "search": Live._search,
    "timed": Live._timed,
    "baseline": Live._baseline,
    "warning": Live._warning,
    "log": Live._log,
    "status": Live._status,
}
