"""Points on two axes, laid out in pixels for a drawing that needs no script: a template writes the SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from calib.values.drops import minus

WIDTH, HEIGHT = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 70, 26, 14, 44


@dataclass(frozen=True)
class Point:
    """A point.

    Attributes:
        x, y: Its values.
        words: What it is, in words.
        tone: Class of its look: "good", "bad", "open" (hollow) or "neutral".
        span: Interval of y, None without one.
        marked: Whether it is drawn larger.
        link: Address that it leads to; "" for none.
    """

    x: float
    y: float
    words: str
    tone: str = "neutral"
    span: tuple[float, float] | None = None
    marked: bool = False
    link: str = ""


@dataclass(frozen=True)
class Placed:
    """A point in pixels; ``low`` and ``high`` are the ends of its interval."""

    point: Point
    x: float
    y: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Scatter:
    """A drawing.

    Attributes:
        title: What it shows, for those who do not see it too.
        x_title, y_title: Titles of the axes.
        placed: Points in pixels.
        x_ticks, y_ticks: Pixels and text of each tick.
        limit: Pixels of the line that the budget is; None without one.
        limit_text: Text beside it.
        front: Points, from left to right, that no other point beats in both x and y.
    """

    title: str
    x_title: str
    y_title: str
    placed: list[Placed]
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    limit: float | None
    limit_text: str
    front: list[Placed] = field(default_factory=list)
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM

    @property
    def linked(self) -> bool:
        """Whether points lead somewhere, so that the drawing is no picture but a group of links."""
        return any(one.point.link for one in self.placed)


def scatter(
    title: str,
    x_title: str,
    y_title: str,
    points: Sequence[Point],
    *,
    limit: float | None = None,
    limit_text: str = "",
    whole: bool = False,
    front: bool = False,
) -> Scatter | None:
    """Lay points out; None if there is none that can be drawn.

    Args:
        title: What the drawing shows.
        x_title: Title of the horizontal axis.
        y_title: Title of the vertical axis.
        points: Points; those that are not finite are left out.
        limit: Value of y at which a line is drawn.
        limit_text: Text beside the line.
        whole: Whether x counts something, so that it begins at 0 and has whole ticks.
        front: Whether less is better of both, so that the best trades are joined by a line.
    """
    points = [one for one in points if math.isfinite(one.x) and math.isfinite(one.y)]
    if not points:
        return None
    ys = [one.y for one in points] + ([limit] if limit is not None else []) + [0.0]
    spread = max(ys) - min(ys) or 1.0
    # Intervals may be far wider than what differs; they are cut where they would press the points together.
    ends = [end for one in points for end in one.span or () if math.isfinite(end)]
    low = max(min([*ys, *ends]), min(ys) - spread)
    high = min(max([*ys, *ends]), max(ys) + spread)
    xs = [one.x for one in points]
    x_ticks = ticks(0.0 if whole else min(xs), max(xs), whole=whole)
    y_ticks = ticks(low, high)
    x_axis, y_axis = (x_ticks[0], x_ticks[-1]), (y_ticks[0], y_ticks[-1])

    def across(value: float) -> float:
        return round(LEFT + (WIDTH - RIGHT - LEFT) * (value - x_axis[0]) / (x_axis[1] - x_axis[0]), 1)

    def up(value: float) -> float:
        inside = min(max(value, y_axis[0]), y_axis[1])
        return round(HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * (inside - y_axis[0]) / (y_axis[1] - y_axis[0]), 1)

    placed = [
        Placed(
            one, across(one.x), up(one.y), up(one.span[0]) if one.span else None, up(one.span[1]) if one.span else None
        )
        for one in points
    ]
    return Scatter(
        title,
        x_title,
        y_title,
        placed,
        [(across(value), _text(value)) for value in x_ticks],
        [(up(value), _text(value)) for value in y_ticks],
        None if limit is None else up(limit),
        limit_text,
        best_trades(placed) if front else [],
    )


def best_trades(placed: Sequence[Placed]) -> list[Placed]:
    """Return the points that no other beats in both x and y, where less is better, by x."""
    found: list[Placed] = []
    for one in sorted(placed, key=lambda one: (one.point.x, one.point.y)):
        if not found or one.point.y < found[-1].point.y:
            found.append(one)
    return found


def ticks(low: float, high: float, *, whole: bool = False) -> list[float]:
    """Return round values that reach over an interval, about five of them."""
    if high <= low:
        low, high = low - (0 if whole else abs(low) * 0.1 or 0.5), high + (abs(high) * 0.1 or 0.5)
    raw = (high - low) / 4
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= raw * 0.999)
    if whole:
        step = max(1.0, math.ceil(step))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, max(last, first + 1) + 1)]


def _text(value: float) -> str:
    return minus(f"{value:,g}")
