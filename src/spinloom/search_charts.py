"""What a search found as pictures: the textures on their way, the search's course, and where the data is.

They are made for print as the pictures of :mod:`spinloom.draw` are; nothing is saved here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from spinloom.draw import PAGE, RED, axes_at, colour_wheel, draw_texture, new_figure, tidy
from spinloom.findings import Found, Front
from spinloom.rows import COLOURS, Number, fixed
from spinloom.topology import nodal_centres
from spinloom.typing import Spins

SHOWN = 6
"""Members of a Pareto front whose textures are shown."""

LARGEST = 1.6
"""Side in inches of a texture of a front that has few."""

LABELS = {
    "energy": "ε (unit of J)",
    "mz": "$M_z$",
    "charge": "charge Q",
    "skyrmions": "|Q|",
    "wavelength": "wavelength (sites)",
    "logit": "discriminator's logit",
    "nodal": "nodal points",
}
MEASURES = {"energy": "energy_excess", "mz": "mz", "charge": "charge"}
"""The quantities of objectives that are also in the report's stages."""

EXACT = "#d55e00"
GAP, HEAD, WHEEL = 0.06, 0.34, 0.95

CAPTIONS = {
    "found": "What a search found, as decoded, relaxed and settled, nodal points circled; the best value a generation, "
    "penalties included; and where it lies among the training textures.",
    "front": "Textures along a Pareto front, and the front among the training textures in the plane of two goals.",
}
"""What goes into the picture's file, by what it shows."""


def found_figure(found: Found, width: Number = PAGE) -> Figure:
    """The texture as decoded, relaxed and settled; how the search came there; the data's own distribution.

    Above each texture are its ε, M_z, Q and number of nodal points, which are circled. The search's values are those
    it judged by, penalties included. With the data of :attr:`~spinloom.findings.Found.data` this is the paper's
    Fig. 5e and f.
    """
    stages = found.report["stages"]
    names = {
        "decoded": "decoded",
        "relaxed": f"after {found.report['sweeps']} sweeps",
        "settled": "settled",
    }
    textures = {"decoded": found.decoded, "relaxed": found.spins, "settled": found.settled}
    if not found.report["sweeps"]:  # nothing was done to it: relaxed is decoded
        del names["relaxed"]
    if "energy_excess" not in stages["decoded"]:  # nothing can be done to it
        names = {"decoded": "decoded"}
    left = 0.05
    side = (width - left - WHEEL - 3 * GAP) / 3
    tall = side * found.spins.shape[-2] / found.spins.shape[-1]
    charts, foot = 1.35, 0.42
    height = HEAD + tall + 0.42 + charts + foot
    figure = new_figure(width, height)
    for number, (stage, name) in enumerate(names.items()):
        ax = axes_at(figure, left + number * (side + GAP), height - HEAD - tall, side, tall)
        centres = _draw(ax, textures[stage])
        _heading(ax, name, [", ".join(_numbers(stages[stage]))], centres)
    colour_wheel(axes_at(figure, width - WHEEL - 0.02, height - HEAD - tall / 2 - WHEEL / 2, WHEEL, WHEEL))
    label = _label(found.goal)
    parts = 1 if found.data is None else 2
    across = (width - 0.22 - parts * 0.68) / parts
    _course(axes_at(figure, 0.68, foot, across, charts), found.history, f"{label}, as judged")
    if found.data is not None:
        _spread(axes_at(figure, 1.36 + across, foot, across, charts), found, label)
    return figure


def front_figure(front: Front, width: Number = PAGE) -> Figure:
    """Textures along a Pareto front, numbered, and the front in the plane of its first two goals, with the data."""
    many = len(front.spins)
    picked = np.unique(np.linspace(0, many - 1, min(SHOWN, many)).round().astype(int)).tolist()
    left = 0.05
    side = min((width - left - WHEEL - GAP * (len(picked) - 1) - 0.15) / len(picked), LARGEST)
    tall = side * front.spins.shape[-2] / front.spins.shape[-1]
    chart, foot = 2.6, 0.42
    head = HEAD + 0.26
    height = head + tall + 0.52 + chart + foot
    figure = new_figure(width, height)
    left = (width - WHEEL - 0.1 - len(picked) * (side + GAP)) / 2  # what there is, with the wheel, stands in the middle
    for number, member in enumerate(picked):
        ax = axes_at(figure, left + number * (side + GAP), height - head - tall, side, tall)
        centres = _draw(ax, front.spins[member])
        report = front.reports[member]
        _heading(ax, str(number + 1), _numbers(report["stages"]["relaxed"]), centres)
        ax.set_xlabel(report["pattern"]["kind"].replace(" among ", ",\n"), fontsize=7, labelpad=3)
    ax = axes_at(figure, 0.7, foot, width - 0.85, chart)
    x, y = front.values[:, 0].numpy(), front.values[:, 1].numpy()
    if front.data is not None:
        theirs = front.data.numpy()
        dots: dict[str, Any] = {"ls": "none", "marker": "o", "ms": 3, "color": "0.55", "mew": 0, "alpha": 0.6}
        ax.plot(theirs[:, 0], theirs[:, 1], label=f"{len(theirs)} training textures", **dots)
    marks: dict[str, Any] = {"ls": "none", "marker": "o", "ms": 6, "color": COLOURS["hybrid"], "mec": "white"}
    ax.plot(x, y, label="Pareto front, relaxed", mew=0.6, zorder=3, **marks)
    for number, member in enumerate(picked):
        place = {"xytext": (4, 3), "textcoords": "offset points", "fontsize": 8, "fontweight": "bold", "zorder": 4}
        ax.annotate(str(number + 1), (x[member], y[member]), **place)
    exact = front.reports[0]["ground_state"]
    for goal, line in ((front.goals[0], ax.axvline), (front.goals[1], ax.axhline)):
        if exact is not None and goal.endswith("-energy"):
            line(exact["energy_excess"], color=EXACT, lw=0.9, ls=":", label="exact ground state")
    ax.set_xlabel(_label(front.goals[0]), fontsize=8)
    ax.set_ylabel(_label(front.goals[1]), fontsize=8)
    ax.margins(0.06)
    _legend_above(ax)
    tidy(ax)
    right = left + len(picked) * (side + GAP)
    colour_wheel(axes_at(figure, right + 0.06, height - head - tall / 2 - WHEEL / 2, WHEEL, WHEEL))
    return figure


def _draw(ax: Axes, texture: Spins) -> int:
    """Draw a texture (3, H, W) with its nodal points, and count these."""
    (centres,) = nodal_centres(texture[None])
    draw_texture(ax, texture, centres)
    return len(centres)


def _heading(ax: Axes, name: str, words: Sequence[str], nodal: int) -> None:
    """A name in bold with the number of nodal points at its right, and words a line below, above the axes."""
    above: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "fontsize": 7}
    ax.annotate(name, (0, 1), (0, 3 + 9 * len(words)), fontweight="bold", **above)
    colour = RED if nodal else "0.45"
    ax.annotate(f"{nodal} ○", (1, 1), (0, 3 + 9 * len(words)), ha="right", color=colour, **above)
    for line, text in enumerate(reversed(words)):
        ax.annotate(text, (0, 1), (0, 3 + 9 * line), **above)


def _numbers(values: Mapping[str, Number]) -> list[str]:
    energy = [f"ε = {fixed(values['energy_excess'], 6)} J"] if "energy_excess" in values else []
    return [*energy, f"$M_z$ = {fixed(round(values['mz'], 3) + 0.0, 3)}", f"Q = {fixed(round(values['charge']), 0)}"]


def _course(ax: Axes, history: Mapping[str, np.ndarray], label: str) -> None:
    """Best so far and the mean of each generation."""
    evaluations, best, mean = history["evaluations"], history["best"], history["mean"]
    ax.plot(evaluations, mean, color="0.6", lw=0.9, label="mean of a generation")
    ax.plot(evaluations, best, color=COLOURS["hybrid"], lw=1.3, label="best so far")
    ax.margins(y=0.06)
    ax.set_xlabel("textures judged", fontsize=8)
    ax.set_ylabel(label, fontsize=8)
    _legend_above(ax)
    tidy(ax)


def _spread(ax: Axes, found: Found, label: str) -> None:
    """The objective over training textures, and where the answer and the exact ground state lie."""
    assert found.data is not None
    ax.hist(found.data.numpy(), bins=40, color="0.7")
    ax.axvline(found.value, color=COLOURS["hybrid"], lw=1.5, label="found")
    measured = MEASURES.get(found.goal.partition("-")[2])
    if measured is not None and "energy_excess" in found.report["stages"]["settled"]:
        settled = found.report["stages"]["settled"][measured]
        ax.axvline(settled, color=COLOURS["hybrid"], lw=1, ls="--", label="settled")
    exact = found.report["ground_state"]
    if exact is not None and found.goal == "min-energy":
        ax.axvline(exact["energy_excess"], color=EXACT, lw=1, ls=":", label="exact ground state")
    ax.set_xlabel(label, fontsize=8)
    ax.set_ylabel("training textures", fontsize=8)
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.margins(x=0.06)
    _legend_above(ax)
    tidy(ax)


def _legend_above(ax: Axes) -> None:
    """The legend in one line above the axes, where it covers nothing."""
    lines, _ = ax.get_legend_handles_labels()
    place: dict[str, Any] = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0), "ncols": max(len(lines), 1)}
    space: dict[str, Any] = {"handlelength": 1.6, "handletextpad": 0.5, "columnspacing": 1.0, "borderpad": 0.2}
    ax.legend(fontsize=7, frameon=False, **place, **space)


def _label(goal: str) -> str:
    return LABELS.get(goal.partition("-")[2], goal)
