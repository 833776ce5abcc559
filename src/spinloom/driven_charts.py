"""DDLS as pictures: one code on its way (the paper's Fig. 4), the curves of many, its rules compared.

They are made for print as the pictures of :mod:`spinloom.draw` are; nothing is saved here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from spinloom.draw import PAGE, RED, axes_at, colour_wheel, draw_texture, letter, new_figure, tidy
from spinloom.explain import Box, DrivenPaths, RuleRow
from spinloom.rows import Number, fixed
from spinloom.topology import nodal_centres
from spinloom.typing import SiteMap, Spins

ATTENTION_COLOURS = "magma"

RULE_COLOURS = {
    "prior": "#7f7f7f",
    "ascent": "#0072b2",
    "langevin": "#e69f00",
    "dot": "#009e73",
    "dgflow": "#cc79a7",
}
CAPTIONS = {
    "path": "One code driven by the discriminator: textures at chosen steps, nodal points circled; the red square "
    "magnified; where the discriminator sees a fake, each map with one colour scale for all steps.",
    "curves": "All codes on their way: the mean, between the quartiles the band, and dashed the one code that path.png "
    "shows. The norm |z|/√n is 1 for a code that the prior draws.",
    "rules": "Rules of driving a code at equal calls of the generator, each at the step size that serves it best: full "
    "dots as sampled, hollow ones relaxed, dashed the data's value. A faded coverage carries no claim.",
}
"""What goes into the picture's file, by the picture's name."""
RULE_NAMES = {"langevin": "Langevin", "dot": "DOT", "dgflow": "DGflow"}


def path_figure(
    paths: DrivenPaths,
    textures: Spins,
    attention: Mapping[str, SiteMap],
    box: Box,
    width: Number = PAGE,
) -> Figure:
    """One code on its way: the paper's Fig. 4.

    a: the textures (n, 3, H, W) at the chosen steps, nodal points circled, the box a red square. b: the box
    magnified. c (and further): maps (n, H, W) of where the discriminator sees a fake, by method, each with one colour
    scale for all steps.
    """
    count, story = len(textures), paths.story()
    left, right, gap = 0.26, 0.86, 0.05
    side = (width - left - right - gap * (count - 1)) / count
    tall = side * textures.shape[-2] / textures.shape[-1]
    head, foot, between = 0.3, 0.42, 0.07
    height = head + tall + foot + side + between + len(attention) * (tall + between) + 0.04
    figure = new_figure(width, height)
    centres = nodal_centres(textures)
    sites = textures.shape[-2:]
    second = height - head - tall - foot
    for number, (spins, line) in enumerate(zip(textures, story, strict=True)):
        x = left + number * (side + gap)
        ax = axes_at(figure, x, height - head - tall, side, tall)
        draw_texture(ax, spins, centres[number])
        step = line["step"]
        ax.set_title(f"step {step}" if number == 0 else f"{step}", fontsize=8, pad=3)
        if number == 0:
            _square(ax, box, sites)
        ax.text(0.5, -0.05, _caption(line), transform=ax.transAxes, ha="center", va="top", fontsize=7, linespacing=1.1)
        ax = axes_at(figure, x, second - side, side, side)
        inside = box.inside(centres[number], sites)
        draw_texture(ax, box.cut(spins), inside, radius=0.09 * box.side, periodic=False)
        _frame(ax, RED if number == 0 else "0.6")
    letter(figure, "a", height - head, height)
    letter(figure, "b", second, height)
    edge = width - right
    colour_wheel(axes_at(figure, edge + 0.02, height - head - tall, right - 0.08, max(tall, right - 0.08)), fontsize=7)
    top = second - side - between
    for panel, (name, maps) in zip("cdef", attention.items(), strict=False):
        limit = float(np.quantile(maps.numpy(), 0.998)) or 1.0
        image = None
        for number, values in enumerate(maps):
            ax = axes_at(figure, left + number * (side + gap), top - tall, side, tall)
            image = ax.imshow(values.numpy(), origin="lower", cmap=ATTENTION_COLOURS, vmin=0, vmax=limit)
            ax.set(xticks=[], yticks=[])
            _frame(ax, None)
            _small_circles(ax, centres[number])
        assert image is not None
        bar = figure.colorbar(
            image, cax=axes_at(figure, edge + 0.06, top - tall, 0.08, tall), extend="max", extendfrac=0.06
        )
        bar.ax.tick_params(labelsize=7, length=2, width=0.6, pad=2)
        bar.locator = MaxNLocator(3)
        bar.update_ticks()
        bar.outline.set_linewidth(0.6)  # type: ignore[operator]
        bar.set_label(f"{name}\n(logit)", fontsize=7, labelpad=1)
        letter(figure, panel, top, height)
        top -= tall + between
    return figure


def _caption(line: Mapping[str, float | int]) -> str:
    logit = round(line["logit"], 1) + 0.0  # no minus before a nought
    return f"ε = {fixed(line['energy_excess'], 4)} J\nlogit {fixed(logit, 1)}\n{line['nodal_points']} ○"


def _square(ax: Axes, box: Box, sites: Sequence[int]) -> None:
    for down in (0, sites[0]):
        for right in (0, sites[1]):
            corner = (box.column - right - 0.5, box.row - down - 0.5)
            ax.add_patch(Rectangle(corner, box.side, box.side, fill=False, ec=RED, lw=1.2, clip_on=True))
    ax.set(xlim=(-0.5, sites[1] - 0.5), ylim=(-0.5, sites[0] - 0.5))


def _small_circles(ax: Axes, centres: Tensor) -> None:
    if len(centres):
        rows, columns = centres.T
        ax.plot(columns, rows, "o", ms=4.5, mfc="none", mec="#56b4e9", mew=0.8)
        ax.set(xlim=ax.get_xlim(), ylim=ax.get_ylim())


def _frame(ax: Axes, colour: str | None) -> None:
    for spine in ax.spines.values():
        spine.set_visible(colour is not None)
        if colour:
            spine.set(color=colour, linewidth=1.0)


CURVES = {
    "energy_excess": "ε (unit of J)",
    "logits": "logit",
    "nodal_points": "nodal points a texture",
    "norm": "|z| / √n",
}


def curves_figure(paths: DrivenPaths, colour: str = RULE_COLOURS["ascent"], width: Number = PAGE) -> Figure:
    """ε, logit, nodal points and |z|/√n along all codes' paths: the mean, the quartiles as a band, and dashed the
    one code of :func:`path_figure`."""
    figure = new_figure(width, 2.0, layout="constrained")
    curves = paths.curves()
    key: dict[str, Any] = {}
    own = {
        "energy_excess": paths.energy_excess,
        "logits": paths.logits,
        "nodal_points": paths.nodal_points,
        "norm": paths.norm / paths.codes.shape[-1] ** 0.5,
    }
    steps = np.arange(paths.settings.steps + 1)
    for ax, (name, label) in zip(np.ravel(figure.subplots(1, 4)), CURVES.items(), strict=True):
        curve = curves[name]
        band = ax.fill_between(steps, curve["low"], curve["high"], color=colour, alpha=0.2, lw=0)
        (mean,) = ax.plot(steps, curve["mean"], color=colour, lw=1.2, gid=name)
        (one,) = ax.plot(steps, own[name][:, paths.shown], color="0.25", lw=0.8, ls=(0, (3, 1.5)))
        key = {
            f"mean of {paths.codes.shape[1]} codes": mean,
            "between their quartiles": band,
            "the code of path.png": one,
        }
        tidy(ax)
        ax.set_xlabel("step", fontsize=8)
        ax.set_ylabel(label, fontsize=8)
        ax.margins(x=0.02)
        ax.yaxis.set_major_locator(MaxNLocator(4))
        ax.xaxis.set_major_locator(MaxNLocator(3, integer=True))
    place: dict[str, Any] = {"loc": "outside upper center", "ncols": len(key), "frameon": False}
    figure.legend(list(key.values()), list(key), fontsize=7, **place)
    return figure


# rules


def rules_figure(rows: Sequence[RuleRow], data: Mapping[str, Number] | None = None, width: Number = PAGE) -> Figure:
    """The rules of :func:`spinloom.explain.compare_rules`, a line each: full dots as sampled, hollow ones relaxed.

    Panels: ε with its standard deviation, nodal points, coverage and k-NN coverage (where there is a reference), and
    |z|/√n with its standard deviation. ``data`` gives the data's ε ("energy_excess"), drawn as a line; the others are
    data against data and the prior's 1. A coverage that carries no claim (``broad``) is faded.
    """
    judged = any(row.coverage for row in rows)
    labels = {"energy_excess": "ε (unit of J)", "nodal_points": "nodal points a texture"}
    labels |= {"coverage": "coverage", "knn_coverage": "k-NN coverage"} if judged else {}
    labels["norm"] = "|z| / √n"
    names = list(dict.fromkeys(row.name.split(" + ")[0] for row in rows))
    figure = new_figure(width, 0.95 + 0.24 * len(names), layout="constrained")
    axes = np.ravel(figure.subplots(1, len(labels), sharey=True))
    for ax, (quantity, label) in zip(axes, labels.items(), strict=True):
        for row in rows:
            plain = row.name.split(" + ")[0]
            relaxed = row.name != plain
            if quantity == "norm" and relaxed:
                continue
            mean, error, faded = _value(row, quantity)
            y = len(names) - 1 - names.index(plain) + (-0.14 if relaxed else 0.14 if quantity != "norm" else 0)
            colour = RULE_COLOURS.get(plain, "black")
            look: dict[str, Any] = {"color": colour, "mfc": "white" if relaxed else colour, "ms": 5, "mew": 1.1}
            look |= {"alpha": 0.3 if faded else 1.0, "gid": f"{row.name} {quantity}", "clip_on": False}
            ax.plot(mean, y, "o", zorder=3, **look)
            if error:
                ax.errorbar(mean, y, xerr=error, color=colour, lw=0.8, zorder=2)
        line = _level(rows, quantity, data or {})
        if line is not None:
            ax.axvline(line, color="0.45", lw=0.8, ls=(0, (4, 2)), zorder=1)
        tidy(ax)
        ax.set_xlabel(label, fontsize=8)
        ax.set_yticks(range(len(names)), [RULE_NAMES.get(name, name) for name in reversed(names)], fontsize=8)
        ax.set_ylim(-0.5, len(names) - 0.5)
        ax.xaxis.set_major_locator(MaxNLocator(3))
        if quantity in ("coverage", "knn_coverage"):
            most = max([line or 0.0, *(_value(row, quantity)[0] for row in rows)])
            ax.set_xlim(-0.06 * most, 1.12 * most)
    handles = [_handle("as sampled", "0.4"), _handle("relaxed", "white")] if len(rows) > len(names) else []
    if data or judged:
        handles.append(Line2D([], [], color="0.45", lw=0.8, ls=(0, (4, 2)), label="the data (and the prior's |z|)"))
    if any(_value(row, "coverage")[2] for row in rows if row.coverage):
        handles.append(_handle("outliers: no claim", "0.4", alpha=0.3))
    if handles:
        figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), fontsize=7, frameon=False)
    return figure


def _handle(label: str, fill: str, **look: Any) -> Line2D:
    return Line2D([], [], ls="none", marker="o", ms=5, mec="0.4", mfc=fill, mew=1.1, label=label, **look)


def _value(row: RuleRow, quantity: str) -> tuple[float, float, bool]:
    """Mean, standard deviation (0 for none shown) and whether it carries no claim."""
    if quantity == "norm":
        return row.norm["mean"], row.norm["std"], False
    if quantity == "nodal_points":
        return row.measures[quantity]["mean"], 0.0, False
    if quantity == "energy_excess":
        return row.measures[quantity]["mean"], row.measures[quantity]["std"], False
    found = row.coverage or {}
    if quantity == "coverage":
        return found["coverage"], 0.0, bool(found["broad"])
    return found["knn"]["coverage"], 0.0, False


def _level(rows: Sequence[RuleRow], quantity: str, data: Mapping[str, Number]) -> float | None:
    found = next((row.coverage for row in rows if row.coverage), None)
    if quantity == "coverage" and found:
        return found["data_against_data"]
    if quantity == "knn_coverage" and found:
        return found["knn_data_against_data"]["coverage"]
    if quantity == "norm":
        return 1.0
    return float(data[quantity]) if quantity in data else None
