"""Figures of recipes, in the style of the reports."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from contrans.core.verdicts import Estimate
from contrans.report.format import one_line, pick
from contrans.report.plots import CELL_TEXT, CELLS, COLOURS, FAINT, SHAPES, STYLE

PALETTE = ("#e69f00", "#0072b2", "#d55e00", "#009e73", "#a05a9c", "#56b4e9")
"""One colour for each emotion, as Okabe and Ito chose them (purple darkened)."""
LEGEND: dict[str, Any] = {
    "loc": "outside upper left",
    "ncols": 3,
    "frameon": False,
    "columnspacing": 1.0,
    "handletextpad": 0.3,
    "fontsize": 8,
}
MARKERS = ("o", "s", "^", "D", "v", "P")


@dataclass(frozen=True, slots=True)
class Whisker:
    """One row of a dot plot."""

    name: str
    kind: str
    at: object
    """Anything with value, low and high."""


def _canvas(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained")


def dots(
    panels: Mapping[str, Sequence[Whisker]],
    label: str,
    *,
    dashed: str = "no edit",
    shared: bool = True,
) -> Figure:
    """One panel per target or metric: every row with its interval.

    Args:
        panels: titles and rows.
        label: of the axis.
        dashed: what the first row is, which a dashed line follows down; or "".
        shared: the panels have one scale.
    """
    with matplotlib.rc_context(STYLE):
        tallest = max(len(rows) for rows in panels.values())
        figure = _canvas(2.6 + 2.6 * len(panels), 1.1 + 0.3 * tallest)
        grid = figure.subplots(1, len(panels), squeeze=False, sharex=shared)[0]
        alike = len({tuple(r.name for r in rows) for rows in panels.values()}) == 1
        for i, (axes, (title, rows)) in enumerate(
            zip(grid, panels.items(), strict=True)
        ):
            for y, row in enumerate(rows):
                colour = COLOURS[row.kind]
                value, low, high = (pick(row.at, k) for k in ("value", "low", "high"))
                axes.plot([low, high], [y, y], color=colour, linewidth=2)
                axes.plot([value], [y], SHAPES[row.kind], color=colour)
                if dashed and not y:
                    axes.axvline(value, color=FAINT, linestyle="--", linewidth=1)
            names = (
                [one_line(row.name, 60) for row in rows] if not (alike and i) else []
            )
            axes.set_yticks(range(len(rows)), names or [""] * len(rows))
            axes.set_ylim(tallest - 0.5, -0.5)
            axes.tick_params(axis="y", length=0)
            axes.set_title(one_line(title, 60), loc="left")
            axes.margins(x=0.08)
        after = f"; dashed: {dashed}" if dashed else ""
        figure.supxlabel(f"{label} (95% interval{after})".strip(), size=9)
    return figure


def bars(
    groups: Sequence[str],
    series: Mapping[str, Sequence[Estimate]],
    label: str,
    *,
    marks: Mapping[str, Sequence[float]] | None = None,
    mark_label: str = "",
) -> Figure:
    """Grouped bars with intervals; `marks` puts a short line at another score.

    Args:
        groups: labels of the groups.
        series: name to one estimate a group.
        label: of the axis.
        marks: name to one score a group.
        mark_label: what the short lines are.
    """
    with matplotlib.rc_context(STYLE):
        figure = _canvas(max(1.2 * len(groups), 4.8), 3.2)
        axes = figure.subplots()
        width = 0.8 / len(series)
        shades = ("#b8c2cc", "#56b4e9", "#0072b2", "#00875f", "#c77c02")
        for i, (name, values) in enumerate(series.items()):
            x = np.arange(len(groups)) - 0.4 + width * (i + 0.5)
            y = [e.value for e in values]
            spread = np.abs(
                [[e.value - e.low for e in values], [e.high - e.value for e in values]]
            )
            style: dict[str, Any] = {"ecolor": "#1b1f24", "error_kw": {"linewidth": 1}}
            axes.bar(x, y, width * 0.92, yerr=spread, color=shades[i], **style)
            axes.plot([], [], "s", color=shades[i], label=name)
            for at, other in zip(x, (marks or {}).get(name, ()), strict=False):
                ends = [at - width / 2, at + width / 2]
                axes.plot(ends, [other, other], color="#1b1f24", linestyle=":")
        if marks and mark_label:
            axes.plot([], [], color="#1b1f24", linestyle=":", label=mark_label)
        axes.set_xticks(range(len(groups)), list(groups))
        axes.set_ylim(0, 1.04)
        axes.set_ylabel(label)
        figure.legend(**LEGEND)
    return figure


def lines(
    x: Sequence[str | float],
    series: Mapping[str, Sequence[Estimate]],
    labels: tuple[str, str],
) -> Figure:
    """Curves with intervals.

    Args:
        x: places of the points.
        series: name to one estimate a point.
        labels: of both axes.
    """
    with matplotlib.rc_context(STYLE):
        figure = _canvas(5.2, 3.2)
        axes = figure.subplots()
        numbers = all(isinstance(at, int | float) for at in x)
        places = np.array(x if numbers else range(len(x)), dtype=float)
        colours = (COLOURS["method"], COLOURS["base"], COLOURS["control"], "#00875f")
        for i, (name, values) in enumerate(series.items()):
            y = [e.value for e in values]
            colour, shape = colours[i % len(colours)], MARKERS[i % len(MARKERS)]
            axes.plot(places, y, f"-{shape}", color=colour, label=name, markersize=5)
            low, high = [e.low for e in values], [e.high for e in values]
            axes.fill_between(places, low, high, color=colour, alpha=0.15, linewidth=0)
        if numbers:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        else:
            axes.set_xticks(places, [str(at) for at in x])
        axes.set_xlabel(labels[0])
        axes.set_ylabel(labels[1])
        figure.legend(**LEGEND)
    return figure


def heat(
    panels: Mapping[str, np.ndarray], names: Sequence[str], labels: tuple[str, str]
) -> Figure:
    """Heat maps side by side, rows are `labels[0]`; every cell says its number.

    Args:
        panels: title to [rows, columns].
        names: of rows and columns.
        labels: of both axes.
    """
    shade = LinearSegmentedColormap.from_list("cells", CELLS)
    with matplotlib.rc_context(STYLE):
        side = 1.2 + 0.62 * len(names)
        figure = _canvas(side * len(panels) + 0.9, side)
        for axes, (title, grid) in zip(
            figure.subplots(1, len(panels), squeeze=False)[0],
            panels.items(),
            strict=True,
        ):
            low, high = float(np.nanmin(grid)), float(np.nanmax(grid))
            axes.imshow(grid, cmap=shade, vmin=low, vmax=max(high, low + 1e-9))
            for (row, column), value in np.ndenumerate(grid):
                dark = (value - low) / max(high - low, 1e-9) > 0.6
                axes.text(
                    *(column, row, f"{value:.2f}"),
                    ha="center",
                    va="center",
                    size=8,
                    color=CELL_TEXT[int(dark)],
                )
            axes.set_xticks(range(len(names)), list(names), rotation=30, ha="right")
            axes.set_yticks(range(len(names)), list(names))
            axes.tick_params(length=0)
            axes.spines[:].set_visible(False)
            axes.set_title(title, loc="left")
            axes.set_xlabel(labels[1])
            axes.set_ylabel(labels[0])
    return figure


def clouds(
    panels: Mapping[str, np.ndarray], kinds: Sequence[str], names: Sequence[str]
) -> Figure:
    """Points in two dimensions, coloured and shaped by kind, one panel each.

    Args:
        panels: title to [points, 2].
        kinds: of each point.
        names: of the kinds, in order.
    """
    with matplotlib.rc_context(STYLE):
        across = min(len(panels), 4)
        down = -(-len(panels) // across)
        figure = _canvas(2.3 * across, 2.4 * down + 0.4)
        grid = figure.subplots(down, across, squeeze=False).reshape(-1)
        for axes, (title, points) in zip(grid, panels.items(), strict=False):
            scatter(axes, points, kinds, names)
            axes.set_title(title, loc="left")
        for axes in grid[len(panels) :]:
            axes.set_axis_off()
        legend(figure, names)
    return figure


def scatter(
    axes: Axes,
    points: np.ndarray,
    kinds: Sequence[str],
    names: Sequence[str],
    *,
    alpha: float = 0.75,
) -> None:
    """One cloud, without ticks: its axes have no meaning of their own.

    Args:
        axes: to draw on.
        points: [points, 2].
        kinds: of each point.
        names: of the kinds, in order.
        alpha: opacity.
    """
    for i, name in enumerate(names):
        rows = points[[kind == name for kind in kinds]]
        style = {"s": 9, "linewidths": 0, "alpha": alpha}
        axes.scatter(*rows.T, c=PALETTE[i], marker=MARKERS[i], **style)
    axes.set_xticks([])
    axes.set_yticks([])


def legend(figure: Figure, names: Sequence[str]) -> None:
    """What the colours and shapes of a cloud stand for."""
    handles = [
        Line2D(*([], []), color=PALETTE[i], marker=MARKERS[i], linestyle="", label=name)
        for i, name in enumerate(names)
    ]
    figure.legend(handles=handles, **(LEGEND | {"ncols": min(len(names), 6)}))
