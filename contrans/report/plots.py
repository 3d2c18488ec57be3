"""Figures of a report: functions from results to matplotlib figures, and to SVG.

Nothing here touches pyplot, so no global figure or window exists. The palette is that
of Okabe and Ito, which colour-blind readers can tell apart; shapes say the same again.
"""

import io
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from contrans.report.format import entries, fixed, number, one_line, pick
from contrans.report.search import best_tried, cost

INK, FAINT = "#1b1f24", "#8b949e"
COLOURS = {
    "base": "#5f6b76",
    "method": "#0072b2",
    "control": "#c77c02",
    "reference": "#00875f",
}
SHAPES = {"base": "s", "method": "o", "control": "^", "reference": "D"}
CELLS = ("#ffffd9", "#41b6c4", "#081d58")
"""Light to dark: cells of the heat map, from the smallest to the largest effect."""
CELL_TEXT = ("#10222c", "#fdfdfd")
WIDTH = 4.8
STYLE: dict[Any, Any] = {
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9.0,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": False,
    "svg.fonttype": "none",
    "text.parse_math": False,
}

Results = Mapping[str, Any]


def _figure(height: float) -> Figure:
    return Figure(figsize=(WIDTH, height), layout="constrained")


def _metric(results: Results) -> str:
    return one_line(pick(results, "task", "metric") or "effect", 40)


def effect(results: Results) -> Figure | None:
    """Every row with its interval, against chance and against no edit."""
    rows = [
        row for row in entries(results, "rows") if number(row.get("value")) is not None
    ]
    if not rows:
        return None
    with matplotlib.rc_context(STYLE):
        figure = _figure(0.95 + 0.34 * len(rows))
        axes = figure.subplots()
        for y, row in enumerate(rows):
            _whisker(axes, y, row)
        axes.set_yticks(
            range(len(rows)), [one_line(row.get("name"), 34) for row in rows]
        )
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        base = next((r for r in rows if r.get("kind") == "base"), None)
        top = axes.get_xaxis_transform()
        marks = [("no edit", pick(base, "value"), "--", "left")]
        marks.append(("chance", pick(results, "task", "chance"), ":", "right"))
        places = {name: number(x) for name, x, *_ in marks}
        for name, x, line, _side in marks:
            place = number(x)
            if place is None:
                continue
            others = [p for n, p in places.items() if n != name and p is not None]
            side = "right" if others and place < others[0] else "left"
            axes.axvline(place, color=FAINT, linestyle=line, linewidth=1, zorder=0)
            text = f"{name} " if side == "right" else f" {name}"
            axes.text(place, 1.02, text, transform=top, ha=side, va="bottom", size=8)
        axes.set_xlabel(f"{_metric(results)} (95% interval)")
        axes.margins(x=0.08)
    return figure


def _whisker(axes: Axes, y: int, row: Mapping[str, Any]) -> None:
    kind = row.get("kind") if row.get("kind") in COLOURS else "control"
    colour = COLOURS[str(kind)]
    low, high = number(row.get("low")), number(row.get("high"))
    if low is not None and high is not None:
        axes.plot(
            [low, high], [y, y], color=colour, linewidth=2, solid_capstyle="round"
        )
    axes.plot([row["value"]], [y], SHAPES[str(kind)], color=colour, markersize=7)


def strength(results: Results) -> Figure | None:
    """Effect and its cost over strength, with the chosen one and the budget."""
    points = entries(results, "strength", "curve")
    nats = pick(results, "strength", "budget_unit") == "nats"
    unit = (
        "relative"
        if all(number(p.get("relative")) is not None for p in points)
        else "raw"
    )
    points = sorted(
        (p for p in points if number(p.get(unit)) is not None), key=lambda p: p[unit]
    )
    if not points:
        return None
    level = (
        "value" if any(number(p.get("value")) is not None for p in points) else "effect"
    )
    x = [float(p[unit]) for p in points]
    with matplotlib.rc_context(STYLE):
        figure = _figure(3.6)
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        _line(above, x, [p.get(level) for p in points], COLOURS["method"])
        bands = [(number(p.get("low")), number(p.get("high"))) for p in points]
        whole = [(at, low, high) for at, (low, high) in zip(x, bands, strict=True)]
        for at, low, high in whole:
            if low is not None and high is not None:
                axes_line = {"color": COLOURS["method"], "linewidth": 1.4}
                above.plot([at, at], [low, high], **axes_line)
        _line(below, x, [cost(results, p) for p in points], COLOURS["control"])
        budget = number(pick(results, "strength", "budget"))
        if budget is not None:
            below.axhline(budget, color=FAINT, linestyle="--", linewidth=1)
            right = below.get_yaxis_transform()
            below.text(
                0.005,
                budget,
                f"budget {budget:g}",
                transform=right,
                size=8,
                ha="left",
                va="bottom",
            )
        chosen = number(pick(results, "strength", unit))
        if chosen is not None:
            for axes in (above, below):
                axes.axvline(chosen, color=INK, linewidth=1, linestyle=":", zorder=0)
            top = above.get_xaxis_transform()
            above.text(
                chosen,
                1.02,
                f"chosen: {fixed(chosen, 2)}",
                transform=top,
                size=8,
                ha="center",
                va="bottom",
            )
        above.set_ylabel(_metric(results) if level == "value" else "change")
        below.set_ylabel("nats per token" if nats else "perplexity ratio")
        below.set_xlabel(
            "relative strength (share of the residual norm)"
            if unit == "relative"
            else "raw strength"
        )
    return figure


def _line(
    axes: Axes, x: list[float], y: list[Any], colour: str, shape: str = "o"
) -> None:
    known = [(a, b) for a, b in zip(x, map(number, y), strict=True) if b is not None]
    if known:
        axes.plot(*zip(*known, strict=True), f"-{shape}", color=colour, markersize=4.5)


def reliability(results: Results) -> Figure | None:
    """How dependable the concept is at each source layer, on pairs it never saw."""
    points = [
        p
        for p in entries(results, "reliability")
        if number(p.get("layer")) is not None
        and (number(p.get("cosine")) is not None or number(p.get("auroc")) is not None)
    ]
    if not points:
        return None
    points.sort(key=lambda p: p["layer"])
    x = [float(p["layer"]) for p in points]
    with matplotlib.rc_context(STYLE):
        figure = _figure(2.6)
        axes = figure.subplots()
        for key, label, colour, shape in (
            ("auroc", "AUROC", COLOURS["method"], "o"),
            ("cosine", "cosine between pairs", COLOURS["control"], "^"),
        ):
            y = [p.get(key) for p in points]
            _line(axes, x, y, colour, shape)
            axes.plot([], [], f"-{shape}", color=colour, markersize=4.5, label=label)
        axes.axhline(0.5, color=FAINT, linestyle=":", linewidth=1)
        axes.set_ylim(top=1.04)
        low = min(0.0, axes.get_ylim()[0])
        axes.set_ylim(low, 1.04)
        chosen = number(pick(results, "layers", "source"))
        if chosen is not None:
            axes.axvline(chosen, color=INK, linewidth=1, linestyle=":", zorder=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("source layer (dotted: chosen)")
        figure.legend(loc="outside upper left", ncols=2, frameon=False)
    return figure


def layers(results: Results) -> Figure | None:
    """Effect of each pair of layers tried, as a heat map; None for fewer than two."""
    best = best_tried(results)
    if len(best) < 2:
        return None
    sources, targets = (sorted({pair[i] for pair in best}) for i in (0, 1))
    gains = [float(p["effect"]) for p in best.values()]
    low, high = min(gains), max(gains)
    shade = LinearSegmentedColormap.from_list("cells", CELLS)
    chosen = (pick(results, "layers", "source"), pick(results, "layers", "target"))
    with matplotlib.rc_context(STYLE):
        figure = _figure(1.0 + 0.42 * len(sources))
        axes = figure.subplots()
        for (s, t), p in best.items():
            share = (p["effect"] - low) / (high - low) if high > low else 0.5
            x, y = targets.index(t), sources.index(s)
            cell = Rectangle(
                (x - 0.47, y - 0.45),
                0.94,
                0.9,
                facecolor=shade(share),
                edgecolor=FAINT,
                linewidth=0.5,
            )
            axes.add_patch(cell)
            if (s, t) == chosen:
                ring = Rectangle(
                    (x - 0.47, y - 0.45),
                    0.94,
                    0.9,
                    fill=False,
                    edgecolor="#d55e00",
                    linewidth=2.5,
                )
                axes.add_patch(ring)
            words = fixed(p["effect"], 3 if len(targets) < 9 else 2, sign=True)
            colour = CELL_TEXT[int(share > 0.6)]
            axes.text(x, y, words, ha="center", va="center", color=colour, size=8)
        axes.set_xlim(-0.6, len(targets) - 0.4)
        axes.set_ylim(-0.6, len(sources) - 0.4)
        axes.set_xticks(range(len(targets)), [str(t) for t in targets])
        axes.set_yticks(range(len(sources)), [str(s) for s in sources])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_xlabel("target layer")
        axes.set_ylabel("source layer")
    return figure


FIGURES: dict[str, Callable[[Results], Figure | None]] = {
    "effect": effect,
    "strength": strength,
    "reliability": reliability,
    "layers": layers,
}
"""Name of each figure and the function that draws it, or returns None without data."""


def svg(figure: Figure, *, name: str = "contrans") -> str:
    """The figure as SVG text, the same bytes every time.

    Args:
        figure: a figure of this module.
        name: salt of the ids; give figures on one page different names.
    """
    stream = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}), _no_glyph_warnings():
        figure.savefig(stream, format="svg", transparent=True, metadata=nothing)
    return stream.getvalue()


def inline_svg(figure: Figure, *, name: str, alt: str) -> str:
    """The figure as an element of an HTML page: no prolog, ids of its own, alt text.

    Ink and palette become CSS variables (`var(--ink)`), so that the page decides them.

    Args:
        figure: the figure.
        name: put before its ids.
        alt: what it shows, in words.
    """
    from html import escape

    text = svg(figure, name=name)
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text, flags=re.S)
    text = re.sub(r'\sid="([^"]+)"', rf' id="{name}-\1"', text)
    text = re.sub(r'\s(?:xlink:)?href="#', f' href="#{name}-', text)
    text = text.replace("url(#", f"url(#{name}-")
    text = re.sub(r"font-family: [^;\"]+", "font-family: inherit", text)
    for variable, colour in _variables().items():
        text = text.replace(colour, f"var(--{variable})")
    box = re.search(r'viewBox="[^"]+"', text)
    opening = f'<svg class="plot" role="img" aria-label="{escape(alt)}"'
    opening += f" {box.group()}>" if box else ">"
    return opening + text[text.index(">") + 1 :].strip()


def _variables() -> dict[str, str]:
    return {"ink": INK, "faint": FAINT, **COLOURS}


def _no_glyph_warnings() -> warnings.catch_warnings:
    """The browser has the glyphs that matplotlib's own font lacks."""
    return warnings.catch_warnings(action="ignore", category=UserWarning)


def save_png(figure: Figure, path: str | Path, *, dpi: int = 200) -> Path:
    """Write the figure as PNG on white, as for a README.

    Args:
        figure: the figure.
        path: the file.
        dpi: dots per inch.
    """
    with matplotlib.rc_context(STYLE), _no_glyph_warnings():
        figure.savefig(path, format="png", dpi=dpi, facecolor="white")
    return Path(path)
