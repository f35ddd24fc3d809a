"""Plots as inline SVG: lines over a common axis and bars, drawn without a plotting library."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

COLOURS = ("#1f5fa8", "#c8641a", "#2b7d4f", "#8a4f9e")
"""One a series, in their order; series differ in dashes too, for those who cannot tell the colours."""
DASHES = ("", "7 4", "2 4", "9 3 2 3")
WIDTH, HEIGHT = 460, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 14, 44, 44


@dataclass(frozen=True)
class Series:
    """A named line; a value that is not finite leaves a gap. `intervals` (low, high) are drawn at each point."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    intervals: Sequence[Sequence[float]] | None = None


@dataclass(frozen=True)
class Bars:
    """A named bar in every group; `intervals` (low, high) are drawn on each."""

    name: str
    heights: Sequence[float]
    intervals: Sequence[Sequence[float]] | None = None


def nice_ticks(low: float, high: float, wanted: int = 7) -> list[float]:
    """Round numbers that span low to high: steps of 1, 2 or 5 times a power of ten."""
    if not high > low:
        high = low + 1.0
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(place * step, 12) for place in range(first, last + 1)]


def line_chart(
    series: Sequence[Series], x_label: str, y_label: str, description: str, *, from_zero: bool = True
) -> str:
    """Lines over common axes, with a legend above; `description` is what a screen reader says."""
    xs = [value for line in series for value in line.x]
    ys = [value for line in series for value in (*line.y, *_ends(line.intervals)) if math.isfinite(value)]
    if not xs or not ys:
        return _empty(description)
    x_ticks = nice_ticks(min(xs), max(xs))
    y_ticks = nice_ticks(min(0.0, *ys) if from_zero else min(ys), max(ys))
    to_x = _scale(x_ticks[0], x_ticks[-1], _LEFT, WIDTH - _RIGHT)
    to_y = _scale(y_ticks[0], y_ticks[-1], HEIGHT - _BOTTOM, _TOP)
    parts = _axes(x_ticks, y_ticks, to_x, to_y, x_label, y_label)
    for index, line in enumerate(series):
        colour, dash = COLOURS[index % len(COLOURS)], DASHES[index % len(DASHES)]
        style = f'stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"'
        points = [(to_x(x), to_y(y)) for x, y in zip(line.x, line.y, strict=True) if math.isfinite(y)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline fill="none" {style} points="{path}"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>' for x, y in points]
        if line.intervals is not None:
            parts += _whiskers([to_x(x) for x in line.x], line.intervals, to_y, colour)
    parts += _legend([line.name for line in series])
    return _figure(parts, description)


def bar_chart(
    edges: Sequence[float], heights: Sequence[float], x_label: str, y_label: str, description: str
) -> str:
    """A histogram: bar i reaches from edges[i] to edges[i + 1]."""
    if len(edges) != len(heights) + 1:
        raise ValueError(f"{len(heights)} bars need {len(heights) + 1} edges, not {len(edges)}")
    if not heights or max(heights) <= 0:
        return _empty(description)
    x_ticks, y_ticks = nice_ticks(edges[0], edges[-1]), nice_ticks(0.0, max(heights))
    to_x = _scale(x_ticks[0], x_ticks[-1], _LEFT, WIDTH - _RIGHT)
    to_y = _scale(y_ticks[0], y_ticks[-1], HEIGHT - _BOTTOM, _TOP)
    parts = _axes(x_ticks, y_ticks, to_x, to_y, x_label, y_label)
    for low, high, height in zip(edges, edges[1:], heights, strict=False):
        left, right, top = to_x(low), to_x(high), to_y(height)
        parts.append(
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{max(right - left - 1, 0.5):.1f}" '
            f'height="{to_y(0.0) - top:.1f}" fill="{COLOURS[0]}"/>'
        )
    return _figure(parts, description)


def grouped_bars(
    groups: Sequence[str], series: Sequence[Bars], x_label: str, y_label: str, description: str
) -> str:
    """One bar of every series in every group, side by side; heights are at least 0."""
    for each in series:
        if len(each.heights) != len(groups):
            raise ValueError(f"{each.name} has {len(each.heights)} bars for {len(groups)} groups")
    highest = max((value for each in series for value in (*each.heights, *_ends(each.intervals))), default=0)
    if highest <= 0:
        return _empty(description)
    y_ticks = nice_ticks(0.0, highest)
    to_x = _scale(0.0, float(len(groups)), _LEFT, WIDTH - _RIGHT)
    to_y = _scale(y_ticks[0], y_ticks[-1], HEIGHT - _BOTTOM, _TOP)
    parts = _axes([], y_ticks, to_x, to_y, x_label, y_label)
    width = (to_x(1.0) - to_x(0.0)) * 0.8 / len(series)
    for place, group in enumerate(groups):
        parts.append(
            f'<text x="{to_x(place + 0.5):.1f}" y="{HEIGHT - _BOTTOM + 16}" text-anchor="middle">{escape(group)}</text>'
        )
    for index, each in enumerate(series):
        colour = COLOURS[index % len(COLOURS)]
        lefts = [to_x(place + 0.1) + index * width for place in range(len(groups))]
        parts += [
            f'<rect x="{left:.1f}" y="{to_y(height):.1f}" width="{max(width - 1, 0.5):.1f}" '
            f'height="{to_y(0.0) - to_y(height):.1f}" fill="{colour}"/>'
            for left, height in zip(lefts, each.heights, strict=True)
        ]
        if each.intervals is not None:
            parts += _whiskers([left + width / 2 for left in lefts], each.intervals, to_y, "#333")
    parts += _legend([each.name for each in series], dashed=False)
    return _figure(parts, description)


def _ends(intervals: Sequence[Sequence[float]] | None) -> list[float]:
    return [end for interval in intervals or [] for end in interval]


def _whiskers(
    xs: Sequence[float], intervals: Sequence[Sequence[float]], to_y: Callable[[float], float], colour: str
) -> list[str]:
    return [
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{to_y(low):.1f}" y2="{to_y(high):.1f}" stroke="{colour}" '
        'stroke-width="1"/>'
        for x, (low, high) in zip(xs, intervals, strict=True)
    ]


def _legend(names: Sequence[str], *, dashed: bool = True) -> list[str]:
    """Names above the plot, in as many rows as they need."""
    parts, x, y = [], float(_LEFT), 12
    for index, name in enumerate(names):
        width = 44 + 6.4 * len(name)
        if x > _LEFT and x + width > WIDTH:
            x, y = float(_LEFT), y + 16
        colour, dash = COLOURS[index % len(COLOURS)], DASHES[index % len(DASHES)] if dashed else ""
        parts.append(
            f'<line x1="{x:.0f}" x2="{x + 22:.0f}" y1="{y}" y2="{y}" stroke="{colour}" stroke-width="2" '
            f'stroke-dasharray="{dash}"/><text x="{x + 27:.0f}" y="{y + 4}">{escape(name)}</text>'
        )
        x += width
    return parts


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    return lambda value: start + (value - low) / (high - low) * (end - start)


def _axes(
    x_ticks: Sequence[float],
    y_ticks: Sequence[float],
    to_x: Callable[[float], float],
    to_y: Callable[[float], float],
    x_label: str,
    y_label: str,
) -> list[str]:
    parts = []
    for tick in y_ticks:
        y = to_y(tick)
        parts.append(
            f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd" stroke-width="1"/>'
        )
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in x_ticks:
        parts.append(
            f'<text x="{to_x(tick):.1f}" y="{HEIGHT - _BOTTOM + 16}" text-anchor="middle">{tick:g}</text>'
        )
    middle_x, middle_y = (_LEFT + WIDTH - _RIGHT) / 2, (_TOP + HEIGHT - _BOTTOM) / 2
    parts.append(f'<text x="{middle_x:.0f}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_label)}</text>')
    parts.append(
        f'<text transform="translate(13 {middle_y:.0f}) rotate(-90)" text-anchor="middle">{escape(y_label)}</text>'
    )
    return parts


def _figure(parts: Sequence[str], description: str) -> str:
    said = escape(description)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{said}" font-family="system-ui, sans-serif" font-size="11" fill="#333">'
        + "".join(parts)
        + "</svg>"
    )


def _empty(description: str) -> str:
    return _figure([f'<text x="{_LEFT}" y="{HEIGHT // 2}">nothing to show</text>'], description)
