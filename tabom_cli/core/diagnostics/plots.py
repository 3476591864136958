"""Pictures of results: entropy-variance curves, and accuracy beside them.

Draws numbers that others computed. Uses matplotlib without pyplot, so nothing global changes and no
display is needed; the same input gives the same PNG and SVG bytes for one matplotlib version.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import PercentFormatter

from tabom_cli.core.diagnostics.tds import TdsResult
from tabom_cli.core.errors import UsageError
from tabom_cli.core.files import write_bytes_atomic

# Okabe and Ito's palette, which colour-blind readers can tell apart; dashes help in grey print.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.6)), (0, (1.6, 1.4)), (0, (6, 1.6, 1.6, 1.6)))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_STYLE: Mapping[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.edgecolor": "#444444",
    "axes.labelcolor": "#222222",
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "figure.dpi": 200.0,
    "svg.hashsalt": "tabom",
    "svg.fonttype": "path",
}


@dataclass(frozen=True)
class AccuracyCell:
    """One model's accuracy on one task.

    Attributes:
        task: Row of the picture, such as "countdown (in domain)".
        model: Which model; the same names in the same order as the curves get the same colours.
        accuracy: Share of right answers in [0, 1].
        low: Lower end of its interval.
        high: Upper end.
        num_problems: Problems that were scored.
    """

    task: str
    model: str
    accuracy: float
    low: float
    high: float
    num_problems: int


def tds_figure(results: Mapping[str, TdsResult], path: Path | str) -> tuple[Path, Path]:
    """Draw the curves of several models on one set of axes.

    Args:
        results: Label to result, in the order of drawing; all over the same positions.
        path: Where the picture goes, without ending.

    Returns:
        The PNG and the SVG file.

    Raises:
        UsageError: No results, or results over different positions.
    """
    _check(results)
    with rc_context(dict(_STYLE)):
        figure = Figure(figsize=(5.2, 3.5), layout="constrained")
        axes = figure.add_subplot()
        _curves(axes, results, _styles(list(results)))
        axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), borderaxespad=0.2)
        return _save(figure, Path(path))


def demo_figure(
    cells: Sequence[AccuracyCell], results: Mapping[str, TdsResult], path: Path | str
) -> tuple[Path, Path]:
    """Draw accuracies with their intervals beside the curves of the same models.

    Args:
        cells: Accuracies; tasks are drawn from top to bottom in order of appearance.
        results: Label to result for the curves.
        path: Where the picture goes, without ending.

    Returns:
        The PNG and the SVG file.

    Raises:
        UsageError: No cells, no results, or results over different positions.
    """
    _check(results)
    if not cells:
        raise UsageError("nothing to draw: no accuracies")
    styles = _styles(list(dict.fromkeys([*results, *(cell.model for cell in cells)])))
    tasks = list(dict.fromkeys(cell.task for cell in cells))
    with rc_context(dict(_STYLE)):
        size = (8.6, max(3.5, 1.6 + 0.62 * len(tasks)))
        figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(wspace=0.06))
        left, right = figure.subplots(1, 2, width_ratios=(1.0, 1.15))
        _accuracies(left, cells, tasks, styles)
        left.set_title("a  Accuracy, 95 % intervals")
        _curves(right, results, styles)
        right.set_title("b  Entropy variance while decoding")
        right.legend(loc="best")
        return _save(figure, Path(path))


@dataclass(frozen=True)
class _LineStyle:
    colour: str
    dash: Any
    marker: str


def _styles(labels: Sequence[str]) -> dict[str, _LineStyle]:
    return {
        label: _LineStyle(
            _COLOURS[index % len(_COLOURS)],
            _DASHES[index % len(_DASHES)],
            _MARKERS[index % len(_MARKERS)],
        )
        for index, label in enumerate(labels)
    }


def _check(results: Mapping[str, TdsResult]) -> None:
    if not results:
        raise UsageError("nothing to draw: no results")
    if len({result.positions for result in results.values()}) > 1:
        raise UsageError("curves over different positions cannot share axes")


def _curves(axes: Axes, results: Mapping[str, TdsResult], styles: Mapping[str, _LineStyle]) -> None:
    """Mean line and band of one standard error for each model."""
    for label, result in results.items():
        points = [point for point in result.curve if point.mean is not None]
        x = [point.x for point in points]
        mean = [point.mean or 0.0 for point in points]
        error = [point.standard_error or 0.0 for point in points]
        style = styles[label]
        low = [max(0.0, m - e) for m, e in zip(mean, error, strict=True)]
        high = [m + e for m, e in zip(mean, error, strict=True)]
        axes.fill_between(x, low, high, color=style.colour, alpha=0.16, linewidth=0)
        axes.plot(
            x,
            mean,
            color=style.colour,
            linestyle=style.dash,
            linewidth=1.7,
            label=_label(label, result),
        )
    axes.set_xlim(0.0, 1.0)
    axes.set_ylim(bottom=0.0)
    axes.margins(y=0.08)
    axes.xaxis.set_major_formatter(PercentFormatter(xmax=1.0, decimals=0, symbol=" %"))
    axes.set_xlabel("decoding progress (bands: one standard error)")
    axes.set_ylabel("variance of masked entropies (nats\u00b2)")
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)


def _label(label: str, result: TdsResult) -> str:
    if result.tds is None:
        return f"{label}: not defined"
    if result.standard_error is None:
        return f"{label}: TDS {result.tds:.3f}"
    return f"{label}: TDS {result.tds:.3f} \u00b1 {result.standard_error:.3f}"


def _accuracies(
    axes: Axes,
    cells: Sequence[AccuracyCell],
    tasks: Sequence[str],
    styles: Mapping[str, _LineStyle],
) -> None:
    """One row per task, one dot with its interval per model."""
    models = [label for label in styles if any(cell.model == label for cell in cells)]
    for cell in cells:
        style = styles[cell.model]
        offset = (models.index(cell.model) - (len(models) - 1) / 2) * 0.26
        y = tasks.index(cell.task) + offset
        axes.plot([cell.low, cell.high], [y, y], color=style.colour, linewidth=1.6, zorder=2)
        axes.plot(
            cell.accuracy,
            y,
            marker=style.marker,
            markersize=6,
            color=style.colour,
            markeredgecolor="white",
            markeredgewidth=0.7,
            linestyle="none",
            zorder=3,
        )
        axes.annotate(
            f"{100 * cell.accuracy:.1f}",
            (cell.high, y),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=style.colour,
        )
    handles = [
        axes.plot([], [], marker=styles[m].marker, color=styles[m].colour, label=m)[0]
        for m in models
    ]
    counts = sorted({cell.num_problems for cell in cells})
    span = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    axes.set_yticks(range(len(tasks)), list(tasks))
    axes.set_ylim(len(tasks) - 0.45, -0.55)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlim(0.0, 1.0)
    axes.xaxis.set_major_formatter(PercentFormatter(xmax=1.0, decimals=0, symbol=" %"))
    axes.set_xlabel(f"right answers ({span} problems each)")
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(handles=handles, loc="best")


def _save(figure: Figure, path: Path) -> tuple[Path, Path]:
    png, svg = path.with_name(path.name + ".png"), path.with_name(path.name + ".svg")
    with io.BytesIO() as stream:
        FigureCanvasAgg(figure).print_png(stream, metadata={"Software": None})
        write_bytes_atomic(png, stream.getvalue())
    with io.BytesIO() as stream:
        FigureCanvasSVG(figure).print_svg(stream, metadata={"Date": None, "Creator": None})
        write_bytes_atomic(svg, stream.getvalue())
    return png, svg
