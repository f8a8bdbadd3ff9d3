"""A horizontal bar chart of medians with min-max whiskers, as SVG text; readable on light and dark
pages.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from measure import Summary

WIDTH, LABEL, VALUE = (
    880,
    190,
    175,
)  # pixels: the picture, the names on the left, the numbers on the right
ROW, BAR, TOP, BOTTOM = 30, 16, 44, 34
PLOT = WIDTH - LABEL - VALUE

STYLE = """
    text { font: 13px system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif; fill: #1f2328 }
    .title { font-size: 14px; font-weight: 600 }
    .faint { fill: #656d76; font-size: 12px }
    .bar { fill: #9aa4af }
    .ours { fill: #2f81f7 }
    .floor { fill: #57ab5a }
    .whisker { stroke: #1f2328; stroke-width: 1.2; opacity: .75 }
    .grid { stroke: #818b98; stroke-width: 1; opacity: .25 }
    .mark { stroke: #57ab5a; stroke-width: 1.2; stroke-dasharray: 4 3 }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3 }
      .faint { fill: #9198a1 }
      .whisker { stroke: #e6edf3 }
    }
"""


@dataclass(frozen=True)
class Bar:
    """One row: a name, its times, and `ours`, `floor` or `bar` for its colour."""

    name: str
    summary: Summary
    kind: str = "bar"


def spoken(seconds: float, end: float) -> str:
    """Write a time on an axis that goes to `end`: in milliseconds where that is below a second."""
    return f"{seconds * 1000:.3g} ms" if end < 1 else f"{seconds:.3g} s"


def counted(number: float, end: float) -> str:  # noqa: ARG001 - as `spoken`
    """Write a count."""
    return f"{number:,.0f}"


def draw(
    title: str,
    bars: Sequence[Bar],
    reference: float | None,
    unit: str = "floor",
    speak: Callable[[float, float], str] = spoken,
) -> str:
    """Render the chart. `reference` (seconds) gets a dashed line, and each bar says how many of it
    it is. `speak` writes the values.
    """
    step = tick_step(max(bar.summary.high for bar in bars))
    end = step * (int(max(bar.summary.high for bar in bars) / step) + 1)
    scale = PLOT / end
    bottom = TOP + ROW * len(bars)
    parts = [f'<text class="title" x="6" y="16">{escape(title)}</text>']
    for tick in range(round(end / step) + 1):
        x = LABEL + tick * step * scale
        parts.append(f'<line class="grid" x1="{x:.1f}" y1="{TOP - 8}" x2="{x:.1f}" y2="{bottom}"/>')
        label = speak(tick * step, end)
        parts.append(
            f'<text class="faint" x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{label}</text>'
        )
    for position, bar in enumerate(bars):
        said = speak(bar.summary.median, end)
        if reference is not None:
            said += f" · {bar.summary.median / reference:.2f} of {unit}"
        parts.append(row(bar, TOP + ROW * position, scale, said))
    if reference is not None:
        x = LABEL + reference * scale
        parts.append(f'<line class="mark" x1="{x:.1f}" y1="{TOP - 8}" x2="{x:.1f}" y2="{bottom}"/>')
    height = bottom + BOTTOM
    body = "\n  ".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">\n'
        f"  <style>{STYLE}  </style>\n  {body}\n</svg>\n"
    )


def row(bar: Bar, top: float, scale: float, said: str) -> str:
    middle = top + BAR / 2
    width = bar.summary.median * scale
    low, high = (LABEL + seconds * scale for seconds in (bar.summary.low, bar.summary.high))
    return (
        f'<text x="{LABEL - 8}" y="{middle + 4.5:.1f}" text-anchor="end">{escape(bar.name)}</text>'
        f'<rect class="{bar.kind}" x="{LABEL}" y="{top:.1f}" width="{width:.1f}" height="{BAR}" rx="2"/>'
        f'<path class="whisker" fill="none" d="M{low:.1f} {middle:.1f}H{high:.1f}'
        f'M{low:.1f} {middle - 4:.1f}v8M{high:.1f} {middle - 4:.1f}v8"/>'
        f'<text class="faint" x="{high + 8:.1f}" y="{middle + 4.5:.1f}">{escape(said)}</text>'
    )


def tick_step(largest: float) -> float:
    """A round step, in seconds, that makes four to ten ticks."""
    step = 0.001
    for factor in (
        0.1,
        0.2,
        0.5,
        1,
        2,
        5,
        10,
        20,
        50,
        100,
        200,
        500,
        1000,
        2000,
        5000,
        10000,
        20000,
        50000,
    ):
        step = factor / 100
        if largest / step <= 9:
            break
    return step
