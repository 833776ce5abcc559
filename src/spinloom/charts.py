"""Rows and runs as charts: coverage, losses, distributions and nodal points; nothing is saved here.

They are made for print as the pictures of :mod:`spinloom.draw` are, in the Okabe–Ito palette.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from matplotlib.transforms import ScaledTranslation

from spinloom.draw import COLUMN, PAGE, new_figure, tidy
from spinloom.rows import MARKERS, UNTRAINED, Number, Row, display_name, fixed, shown_name, source_colour

DASHES = ((0, (1, 1.5)), (0, (5, 2)), (0, (5, 2, 1, 2)))
EPSILON = "energy a site above the ferromagnet, ε (unit of J)"
FADED = 0.6

DAGGER: dict[str, Any] = {"marker": "$\u2020$", "ms": 5, "color": "0.2", "mew": 0.3, "ls": "none"}
"""Beside a marker that carries no claim."""


def coverage_energy_scatter(
    ax: Axes,
    rows: Sequence[Row],
    space: str = "features",
    controls: Mapping[str, Number] | None = None,
    informative: bool = True,
    error_bars: bool = False,
) -> Axes:
    """Coverage of the data against mean ε, a marker a row (the paper's Fig. 2e): best next to the data's star.

    Relaxed rows are hollow and joined to what they were relaxed from. The data's row, whose coverage is data
    against data, is the star; ``controls`` are level lines. ``error_bars`` shows the standard deviation of ε
    over the textures. Rows without an energy or a coverage are left out; what was never trained may lie far
    off to the right and is then an arrow at the edge with its value, or above the axes where there are several. Rows
    that are ``broad`` in this space are faded and have a †.
    """
    drawn = [row for row in rows if len(row.values("energy_excess")) and space in row.coverage]
    energy = [float(row.values("energy_excess").mean()) for row in drawn]
    anchors = [x for row, x in zip(drawn, energy, strict=True) if row.source not in UNTRAINED] or energy
    low, high = _range_of(anchors, margin=0.12)
    for row, x in zip(drawn, energy, strict=True):
        y, twin = float(row.coverage[space]), row.came_from(drawn)
        alpha = FADED if space in row.broad else 1.0
        if twin is not None:
            # to where the other is, even off the axis
            start = (float(twin.values("energy_excess").mean()), float(twin.coverage[space]))
            ax.plot([start[0], x], [start[1], y], color=row.colour, lw=0.7, alpha=0.8 * alpha, zorder=2, gid="twin")
        if error_bars and x <= high:
            ax.errorbar(x, y, xerr=row.values("energy_excess").std(), color=row.colour, alpha=alpha, lw=0.7, zorder=2)
        if row.source == "data":
            look = {"ms": 10, "mec": "white", "mew": 0.6, "mfc": row.colour, "zorder": 4}
        else:
            look = {**_dot(row), "zorder": 3, "alpha": alpha}
        marker, shown_at = (row.marker, x) if x <= high else (">", high)
        ax.plot(shown_at, y, marker=marker, ls="none", clip_on=False, gid=row.name, **look)
        if space in row.broad:
            beside = ax.transData + ScaledTranslation(5 / 72, 4 / 72, ax.figure.dpi_scale_trans)  # type: ignore[union-attr]
            ax.plot(shown_at, y, **DAGGER, transform=beside, clip_on=False, zorder=4, gid=f"{row.name} †")
    for (name, value), dashes in zip((controls or {}).items(), DASHES, strict=False):
        ax.axhline(value, color="0.45", lw=0.9, ls=dashes, zorder=1, gid=f"control {name}")
    away: dict[str, list[float]] = {}
    for row, x in zip(drawn, energy, strict=True):
        if x > high:
            away.setdefault(row.name, []).append(x)
    far = [
        f"{shown_name(name)} ε = {fixed(min(x), 2)}"
        + (f" … {fixed(max(x), 2)}" if fixed(max(x), 2) != fixed(min(x), 2) else "")
        + " J"
        for name, x in away.items()  # a trial each
    ]
    notes = ["off scale → " + ", ".join(far)] if len(far) > 1 else []
    if len(far) == 1:  # at its arrow
        height = next(float(row.coverage[space]) for row, x in zip(drawn, energy, strict=True) if x > high)
        place = {"xytext": (4, 12), "textcoords": "offset points", "fontsize": 7, "color": "0.35", "zorder": 5}
        ax.annotate(far[0] + " →", (high, height), ha="right", **place)
    if not informative:
        notes.insert(0, "not informative: a control comes near data against data")
        ax.set_facecolor("0.95")
    ax.set_title("\n".join(notes), loc="right" if informative else "left", fontsize=7, color="0.35", pad=4)
    tidy(ax)
    ax.set(xlim=(low, high), ylim=(-0.03, 1.03))
    ax.locator_params(axis="x", nbins=5)
    ax.set_xlabel(EPSILON, fontsize=8)
    ax.set_ylabel(f"coverage ({space})", fontsize=8)
    return ax


def row_legend(figure: Figure, rows: Sequence[Row], controls: Iterable[str] = (), columns: int = 4) -> None:
    """The legend of :func:`coverage_energy_scatter` below ``figure``: colours, markers, what hollow means."""
    handles: list[Any] = []
    for source in dict.fromkeys(row.source for row in rows if row.source != "data"):
        first = next(row for row in rows if row.source == source)
        marker = first.marker if source == "random" else "o"
        handles.append(_handle(display_name(source), color=first.colour, marker=marker))
    for method in dict.fromkeys(row.method for row in rows if row.method not in ("data", "random")):
        label = "from the prior" if method == "prior" else display_name(method)
        handles.append(_handle(label, color="0.4", marker=MARKERS.get(method, "s")))
    sweeps = sorted({row.relax for row in rows if row.relax})
    if sweeps:
        label = f"relaxed {', '.join(map(str, sweeps))} sweeps"
        marks = dict.fromkeys(row.marker for row in rows if row.relax)
        hollow = tuple(_handle(label, color="0.4", marker=mark, mfc="white", mew=1.1, ms=4.2) for mark in marks)
        handles.append(hollow)
    if any(row.source == "data" for row in rows):
        handles.append(_handle("data against data", color="black", marker="*", ms=8))
    if any(row.broad for row in rows):
        handles.append(_handle("outliers: no claim", **DAGGER))
    for name, dashes in zip(controls, DASHES, strict=False):
        handles.append(_handle(f"control: {name}", color="0.45", ls=dashes, lw=0.9))
    if handles:
        space: dict[str, Any] = {"handletextpad": 0.6, "columnspacing": 1.2, "handlelength": 2.4}
        place: dict[str, Any] = {"loc": "outside lower center", "ncols": columns, "frameon": False}
        labels = [one[0].get_label() if isinstance(one, tuple) else one.get_label() for one in handles]
        side_by_side = {tuple: HandlerTuple(ndivide=None, pad=0)}
        figure.legend(handles, labels, fontsize=7, handler_map=side_by_side, **place, **space)


def coverage_energy(
    rows: Sequence[Row],
    controls: Mapping[str, Mapping[str, Number]] | None = None,
    informative: Mapping[str, bool] | None = None,
    error_bars: bool = False,
) -> Figure:
    """:func:`coverage_energy_scatter` for every space the rows have a coverage in, side by side.

    A space that is not informative is drawn only if none is.
    """
    controls, informative = controls or {}, informative or {}
    spaces = list(dict.fromkeys(space for row in rows for space in row.coverage)) or ["features"]
    spaces = [space for space in spaces if informative.get(space, True)] or spaces
    rows = [replace(row, broad=[space for space in row.broad if space in spaces]) for row in rows]
    controls = {space: controls[space] for space in spaces if space in controls}
    figure = new_figure(5.0 if len(spaces) == 1 else PAGE, 3.6, layout="constrained")
    for ax, space in zip(np.ravel(figure.subplots(1, len(spaces))), spaces, strict=True):
        coverage_energy_scatter(ax, rows, space, controls.get(space), informative.get(space, True), error_bars)
    names = dict.fromkeys(name for space in controls.values() for name in space)
    row_legend(figure, rows, names, 3 if len(spaces) == 1 else 5)
    return figure


LOSS_PANELS = (
    ("squared error a component", True, {"reconstruction": ("reconstruction", "-")}),
    ("KL divergence (nats)", True, {"kl": ("KL", "-")}),
    (
        "player's loss",
        False,
        {"discriminator": ("discriminator", "-"), "generator": ("generator", "--")},
    ),
    (
        "mean logit of D",
        False,
        {
            "logit_real": ("data", "-"),
            "logit_prior": ("G(z)", "--"),
            "logit_reconstruction": ("G(E(x))", ":"),
        },
    ),
)
"""Axis, whether it is logarithmic, and each curve's key, label and line style."""


def loss_curves(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Losses against training steps, a colour an objective: faint as logged, strong as a running mean.

    ``runs`` maps an objective to its metrics, one mapping a logged step with "step" and the losses it has.
    The players' losses are drawn for adversarial objectives alone; a VAE's is its two parts.
    """
    curves: list[dict[tuple[str, str], np.ndarray]] = []
    for _, _, keys in LOSS_PANELS:
        found = {}
        for source, lines in runs.items():
            adversarial = any("discriminator" in line for line in lines)
            for key in keys:
                points = [(line["step"], line[key]) for line in lines if line.get(key) is not None]
                if points and (adversarial or key != "generator"):
                    found[source, key] = np.array(points, dtype=np.float64).T
        curves.append(found)
    panels = [number for number, found in enumerate(curves) if found] or [0]
    across = min(2, len(panels))
    down = -(-len(panels) // across)
    figure = new_figure(PAGE if across > 1 else COLUMN, 0.4 + 1.8 * down, layout="constrained")
    axes = np.ravel(figure.subplots(down, across, squeeze=False))
    for ax, number in zip(axes, panels, strict=False):
        label, log, keys = LOSS_PANELS[number]
        for (source, key), (steps, values) in curves[number].items():
            colour = source_colour(source)
            ax.plot(steps, values, color=colour, lw=0.5, alpha=0.25)
            smooth = _running_mean(values)
            ax.plot(steps, smooth, color=colour, lw=1.2, ls=keys[key][1], gid=f"{source} {key}")
        tidy(ax)
        if log and curves[number]:
            _log_axis(ax)
        ax.set_ylabel(label, fontsize=8)
        ax.set_xlabel("training step", fontsize=8)
        present = [keys[key] for key in keys if any(key == k for _, k in curves[number])]
        if len(present) > 1:
            handles = [_handle(name, color="0.3", lw=1.2, ls=style) for name, style in present]
            above: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0, 0.97), "ncols": len(present)}
            ax.legend(handles=handles, fontsize=7, frameon=False, handlelength=2.2, borderpad=0, **above)
    for ax in axes[len(panels) :]:
        ax.set_visible(False)
    handles = [_handle(display_name(source), color=source_colour(source), lw=2, ls="-") for source in runs]
    figure.legend(handles=handles, loc="outside upper center", ncols=max(len(runs), 1), fontsize=8, frameon=False)
    return figure


def _log_axis(ax: Axes) -> None:
    """A logarithmic vertical axis with plain numbers."""
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())


def _running_mean(values: np.ndarray) -> np.ndarray:
    """A centred mean over a twentieth of the run, narrower at the steep start, one-sided at the end."""
    total = np.concatenate(([0.0], np.cumsum(values)))
    index = np.arange(len(values))
    half = np.minimum(len(values) // 40, index)
    low, high = index - half, np.minimum(index + half + 1, len(values))
    return (total[high] - total[low]) / (high - low)


HISTOGRAMS = {"energy_excess": EPSILON, "mz": "mean out-of-plane spin, $M_z$"}


def histograms(rows: Sequence[Row], quantities: Mapping[str, str] = HISTOGRAMS) -> Figure:
    """Distributions over textures, a strip a row, the data in grey behind every one; relaxed rows are hollow.

    Every strip is scaled to its own peak, on or off the axis. The axis spans the data and the unrelaxed trained
    rows; the share of a row's textures beyond it is written at the side they left by, outside the
    dotted line. ``quantities`` maps a measure to its label.
    """
    names = [name for name in quantities if any(len(row.values(name)) for row in rows)]
    names = names or list(quantities)[:1]
    shown = [row for row in rows if any(len(row.values(name)) for name in names)]
    width = PAGE if len(names) > 1 else COLUMN + 1
    figure = new_figure(width, 0.85 + 0.36 * max(len(shown), 1), layout="constrained")
    for number, (ax, name) in enumerate(zip(np.ravel(figure.subplots(1, len(names))), names, strict=True)):
        _strips(ax, shown, name)
        ax.set_xlabel(quantities[name], fontsize=8)
        _row_names(ax, shown, 0.3)
        if number:
            ax.set_yticklabels([])
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
    key: list[Any] = [Patch(color="0.82", label="test data")] if any(row.source == "data" for row in shown) else []
    if any(row.relax for row in shown):
        key.append(Patch(fill=False, ec="0.3", lw=0.9, label="relaxed (hollow)"))
    key.append(Patch(alpha=0, label="height: textures a bin,\neach strip to its own peak"))
    figure.legend(handles=key, loc="outside upper center", ncols=len(key), fontsize=7, frameon=False)
    return figure


def _strips(ax: Axes, rows: Sequence[Row], name: str) -> None:
    """The column of :func:`histograms` for one measure."""
    data = next((row.values(name) for row in rows if row.source == "data"), np.empty(0))
    setting = [row for row in rows if row.source == "data" or not (row.relax or row.source in UNTRAINED)] or rows
    pooled = [np.quantile(v, (0.005, 0.995)) for row in setting if len(v := row.values(name))]
    low, high = _range_of(np.ravel(pooled), margin=0.06)
    edges = np.linspace(low, high, 51)
    margins = [0.0, 0.0]
    for place, row in enumerate(rows):
        base, values = float(len(rows) - 1 - place), row.values(name)
        ax.axhline(base, color="0.6", lw=0.5, zorder=1)
        _strip(ax, data, edges, base, fill=True, color="0.82", zorder=1.2)
        if row.source == "data":
            continue
        if not row.relax:
            _strip(ax, values, edges, base, fill=True, color=row.colour, alpha=0.3, lw=0, zorder=2)
        _strip(ax, values, edges, base, color=row.colour, lw=0.9, zorder=2, gid=f"{row.name} {name}")
        for side, (gone, align, text) in enumerate(((values < low, "left", "← {}"), (values > high, "right", "{} →"))):
            if len(values) and _percent(float(gone.mean())) != "0%":
                share, place_ = text.format(_percent(float(gone.mean()))), ("axes fraction", "data")
                note = ax.annotate(share, (side, base + 0.4), ha=align, va="center", xycoords=place_, fontsize=7)
                note.set(color=row.ink, zorder=3)
                margins[side] = 0.24 * (high - low)
    tidy(ax)
    ax.set(xlim=(low - margins[0], high + margins[1]), ylim=(-0.08, max(len(rows), 1)))
    for edge, margin in zip((low, high), margins, strict=True):
        if margin:
            ax.axvline(edge, color="0.7", lw=0.6, ls=":", zorder=1)
    ax.set_xticks([tick for tick in MaxNLocator(5).tick_values(low, high) if low <= tick <= high])


def _percent(share: float) -> str:
    """A share in whole per cent; never "100%" for less than all."""
    return "> 99%" if 0.99 < share < 1 else f"{100 * share:.0f}%"


def _strip(ax: Axes, values: np.ndarray, edges: np.ndarray, base: Number, **look: Any) -> None:
    counts, _ = np.histogram(values, edges)
    if counts.any():
        low, width = edges[0], edges[1] - edges[0]
        beyond = values[(values < low) | (values > edges[-1])]
        _, outside = np.unique(np.floor((beyond - low) / width), return_counts=True)
        peak = max(counts.max(), outside.max(initial=0))
        ax.stairs(base + 0.85 * counts / peak, edges, baseline=base, **look)


NODAL = {
    "nodal_points": ("turn ≥ 90°", "o", 5.5),
    "nodal_points_75": ("≥ 75°", "|", 5),
    "nodal_points_60": ("≥ 60°", "|", 11),
}
"""Measure → label, marker and size."""


def nodal_chart(ax: Axes, rows: Sequence[Row]) -> Axes:
    """Mean nodal points a texture for a threshold of 90° (dot), 75° (short tick) and 60° (long tick), symlog.

    The numbers at the right are those at 90°; relaxed rows are hollow.
    """
    shown = [row for row in rows if len(row.values("nodal_points"))]
    means = [{name: float(v.mean()) for name in NODAL if len(v := row.values(name))} for row in shown]
    positive = [value for line in means for value in line.values() if value > 0]
    threshold = float(10 ** np.floor(np.log10(min(positive, default=1.0))))
    for place, (row, line) in enumerate(zip(shown, means, strict=True)):
        y = len(shown) - 1 - place
        ax.plot([min(line.values()), max(line.values())], [y, y], color=row.colour, lw=0.8, zorder=2)
        for name, value in line.items():
            _, marker, size = NODAL[name]
            look = _dot(row) if marker == "o" else {"color": row.colour, "mew": 1.2, "ms": size}
            ax.plot(value, y, marker=marker, ls="none", zorder=3, clip_on=False, gid=f"{row.name} {name}", **look)
        where = {"xycoords": ("axes fraction", "data"), "va": "center_baseline", "fontsize": 7}
        ax.annotate(f"{line['nodal_points']:.3g}", (1.03, y), **where)
    tidy(ax)
    ax.set_xscale("symlog", linthresh=threshold, linscale=0.6)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.set(xlim=(-0.15 * threshold, 1.6 * max(positive, default=1.0)), ylim=(-0.6, len(shown) - 0.4))
    _row_names(ax, shown, 0)
    ax.grid(axis="x", color="0.9", lw=0.6)
    ax.set_axisbelow(True)
    ax.set_xlabel("nodal points a texture", fontsize=8)
    ax.annotate("at 90°", (1.03, 1), xycoords="axes fraction", fontsize=7, va="bottom")
    return ax


def nodal_figure(rows: Sequence[Row]) -> Figure:
    """:func:`nodal_chart` as a figure with its legend."""
    figure = new_figure(5.0, 0.9 + 0.23 * max(len(rows), 1), layout="constrained")
    nodal_chart(figure.subplots(), rows)
    handles = [_handle(label, color="0.3", marker=mark, ms=size, mew=1.2) for label, mark, size in NODAL.values()]
    if any(row.relax for row in rows):
        handles.append(_handle("relaxed", color="0.3", marker="o", mfc="white", mew=1.1))
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), fontsize=7, frameon=False)
    return figure


# style


def _row_names(ax: Axes, rows: Sequence[Row], lift: Number) -> None:
    """The rows' names, in their colours, from the top down, ``lift`` above each row's base."""
    ax.set_yticks([len(rows) - 1 - place + lift for place in range(len(rows))], [shown_name(row.name) for row in rows])
    for tick, row in zip(ax.get_yticklabels(), rows, strict=True):
        tick.set_color(row.ink)


def _dot(row: Row) -> dict[str, Any]:
    """A full marker, hollow for a relaxed row."""
    return {"ms": 5.5, "mec": row.colour, "mew": 1.1, "mfc": "white" if row.relax else row.colour}


def _handle(label: str, **look: Any) -> Line2D:
    return Line2D([], [], label=label, **{"ls": "none", "ms": 5.5, **look})


def _range_of(values: Any, margin: Number) -> tuple[float, float]:
    values = np.asarray(values, dtype=np.float64)
    if not len(values):
        return (0.0, 1.0)
    low, high = float(values.min()), float(values.max())
    pad = margin * (high - low) or 0.05 * abs(high) or 0.05
    return (low - pad, high + pad)
