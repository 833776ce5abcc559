"""Latent space as maps: planes with k, l, m (the paper's Fig. 3) and surveys of many planes.

They are made for print as the pictures of :mod:`spinloom.draw` are; nothing is saved here.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from spinloom.domains import DEEP, Crossing, Domains, Survey, find_domains
from spinloom.draw import ENERGY_COLOURS, PAGE, RED, axes_at, colour_wheel, draw_texture, letter, new_figure, tidy
from spinloom.explain import Box
from spinloom.latent import LatentMap
from spinloom.rows import Number, fixed, source_colour
from spinloom.topology import nodal_centres
from spinloom.typing import Spins

LOGIT_COLOURS = "gray"
NODAL_COLOURS = "Reds"

CAPTIONS = {
    "map": "One plane of latent space: ε (one colour for one difference in all columns), thin lines between its "
    "domains; nodal points; logits, brighter where the discriminator takes the texture for data. Below, two codes k "
    "and m on either side of a wall and l on it, decoded: the place that changes circled and, magnified, its nodal "
    "points.",
    "survey": "Numbers of many planes, a dot a plane, planes of one pair of axes in one column; bars: the mean with "
    "its standard error. The grey band of the sharpness is what a blur of the same correlation length has.",
}
"""What goes into the picture's file, by the picture's name."""

NOTE = 0.15
"""Height in inches of the line that says that a wall is less than 1 J high."""


@dataclass(frozen=True, eq=False)
class MapPanel:
    """One column of :func:`map_figure`: a run's name, its map, k, l, m if there are any, and domains to be drawn.

    Only runs of one ``model`` (say, Hamiltonian and lattice) have energies that can be compared.
    """

    name: str
    map_: LatentMap
    crossing: Crossing | None = None
    domains: Domains | None = None
    model: Hashable = None


def map_figure(panels: Sequence[MapPanel], width: Number = PAGE, nodal: bool = False) -> Figure:
    """Maps of one plane for several runs, a column each: the paper's Fig. 3.

    a: ε, every column from its own lowest value on, all of one model with the same colour for the same difference; thin
    lines part domains. Then, with ``nodal``, the nodal points, on one scale for all. Then logits on each column's own
    scale, brighter = more like the data; for a run without a discriminator the colour wheel. Then what k, l, m decode
    to, what changes circled; then that place magnified, its nodal points circled; below, ε, the number of nodal points
    and the charge of the whole texture, and whether the wall is less than 1 J high. Such walls are dashed.

    One run with nodal points has its three maps beside each other, and k, l, m and the place magnified below them.
    """
    place = _MapLayout.of(panels, width, nodal)
    figure = new_figure(place.total, place.height)
    ranges = [_range(panel.map_.energy_excess) for panel in panels]
    spreads: dict[Hashable, float] = {}
    for panel, (low, high) in zip(panels, ranges, strict=True):
        spreads[panel.model] = max(high - low, spreads.get(panel.model, 0.0))
    most = max(1.0, *(_range(panel.map_.nodal_points)[1] for panel in panels))
    for number, (panel, (low, _)) in enumerate(zip(panels, ranges, strict=True)):
        # ε in units of 10⁻³ keeps the colour bar's labels short
        energy, logits = 1e3 * panel.map_.energy_excess, panel.map_.logits
        maps: list[tuple[Tensor | None, str, tuple[float, float], str]] = [
            (energy, ENERGY_COLOURS, (1e3 * low, 1e3 * (low + spreads[panel.model])), "ε (10⁻³ J)"),
            (panel.map_.nodal_points, NODAL_COLOURS, (0.0, most), "nodal points"),
            (logits, LOGIT_COLOURS, (0.0, 1.0) if logits is None else _range(logits), "logit"),
        ]
        for row, (values, colours, limits, label) in enumerate(maps if nodal else maps[::2]):
            x, y = place.cell(number, row)
            ax = axes_at(figure, x, y - place.side, place.side, place.side)
            if row == 0:
                size = 9 if 0.09 * len(panel.name) < place.side + place.gap else 7
                ax.set_title(panel.name, fontsize=size, fontweight="bold", color=_colour(panel.name), pad=4)
            if number == 0:
                letter(figure, "abc"[row], y + 0.1, place.height, x - place.left + 0.04)
            if values is None:
                first = all(other.map_.logits is not None for other in panels[:number])
                _no_logits(figure, ax, (x, y), place.side, first and bool(place.tall))
                continue
            image = _map(ax, panel.map_, values, colours, limits)
            if row == 0 and panel.domains is not None:
                if panel.crossing and panel.crossing.shallow:
                    _shallow_walls(ax, panel.map_, find_domains(panel.map_, panel.crossing.depth))
                _walls(ax, panel.map_, panel.domains)
            _marks(ax, panel)
            _bar(figure, image, x, y - place.side - 0.3, place.side, label)
        if panel.crossing:
            _triple(figure, panel.crossing, place.whole(number), place.magnified(number), place)
        elif place.tall:
            x, y = place.whole(number)
            middle = (x + place.side / 2) / place.total
            figure.text(middle, (y - place.tall / 2) / place.height, "no wall in this plane", fontsize=8, ha="center")
    if place.tall:
        letters = "de" if nodal else "cd"
        (_, y), (x, other_y) = place.whole(0), place.magnified(0)
        letter(figure, letters[0], y + 0.16, place.height)
        corner = (other_y + 0.16, place.height, x - 0.16) if place.flat else (other_y, place.height)
        letter(figure, letters[1], *corner)
        below = (place.captions - 0.04) / place.height
        figure.text((place.left - 0.05) / place.total, below, "ε (J)", fontsize=7, ha="right", va="top")
        if place.wheel:
            right, up = place.total - place.wheel - 0.04, y - place.wheel if place.flat else 0.01
            colour_wheel(axes_at(figure, right, up, place.wheel, place.wheel), fontsize=7)
    return figure


@dataclass(frozen=True)
class _MapLayout:
    """Where things stand in :func:`map_figure`, in inches from the lower left corner.

    Attributes:
        flat: whether the maps of the one run are beside each other.
        side: of a map. tall, small: height and width of a texture (0: there is none).
        wheel: side of a colour wheel that has a place of its own; 0: a run without a discriminator leaves one.
        captions: the upper end of the text below the textures.
    """

    flat: bool
    side: float
    small: float
    tall: float
    wheel: float
    total: float
    height: float
    captions: float
    left: float = 0.34
    gap: float = 0.32
    foot: float = 0.46
    head: float = 0.26
    between: float = 0.04

    @classmethod
    def of(cls, panels: Sequence[MapPanel], width: Number, nodal: bool) -> _MapLayout:
        right = 0.08
        flat, rows = nodal and len(panels) == 1, 3 if nodal else 2
        across, down = (rows, 1) if flat else (len(panels), rows)
        sites = [panel.crossing.spins.shape[-2:] for panel in panels if panel.crossing]
        wheel = 0.8 if sites and all(panel.map_.logits is not None for panel in panels) else 0.0
        margins = cls.left + right + cls.gap * (across - 1)
        side = min((width - margins) / across, 1.6 if down == 3 else 2.3)  # all rows have to fit on a page
        total = margins + side * across
        small = (side - 2 * cls.between) / 3
        if flat:
            small = (total - cls.left - right - (wheel + 0.12 if wheel else 0) - 0.3 - 4 * cls.between) / 6
        tall = small * max((up / over for up, over in sites), default=0.0)
        captions = 0.0
        if sites:
            captions = 0.32 if flat else 0.44 + wheel
            captions += NOTE if any(panel.crossing and panel.crossing.shallow for panel in panels) else 0.0
        details = captions + 0.34 + (max(small, tall) if flat else small + tall) if sites else 0.0
        return cls(flat, side, small, tall, wheel, total, cls.head + down * (side + cls.foot) + details, captions)

    def cell(self, number: int, row: int) -> tuple[float, float]:
        """Upper left corner of a map."""
        column, line = (row, 0) if self.flat else (number, row)
        top = self.height - self.head
        return self.left + column * (self.side + self.gap), top - line * (self.side + self.foot)

    def whole(self, number: int) -> tuple[float, float]:
        """Upper left corner of k."""
        x = self.left + (0 if self.flat else number * (self.side + self.gap))
        return x, self.captions + (self.tall if self.flat else self.small + self.between + self.tall)

    def magnified(self, number: int) -> tuple[float, float]:
        """Upper left corner of the place in k that changes."""
        x, y = self.whole(number)
        return (x + 3 * self.small + 2 * self.between + 0.3, y) if self.flat else (x, self.captions + self.small)


def _no_logits(figure: Figure, ax: Axes, corner: tuple[Number, Number], side: Number, wheel: bool) -> None:
    """In the place of logits, for a run without a discriminator, the colour wheel."""
    ax.text(0.5, 0.97, "no discriminator", transform=ax.transAxes, ha="center", va="top", fontsize=8)
    ax.axis("off")
    if wheel:
        wide = 0.55 * side
        ax.text(0.5, 0.76, "spin directions", transform=ax.transAxes, ha="center", va="bottom", fontsize=7)
        colour_wheel(axes_at(figure, corner[0] + (side - wide) / 2, corner[1] - 0.81 * side, wide, wide))


def _triple(
    figure: Figure,
    crossing: Crossing,
    whole: tuple[Number, Number],
    magnified: tuple[Number, Number],
    place: _MapLayout,
) -> None:
    """k, l, m side by side from one corner, and the circled place of each, magnified, from another."""
    sites = crossing.spins.shape[-2:]
    half = min(round(1.5 * crossing.radius), min(sites) // 2)
    row, column = (round(middle) - half for middle in crossing.centre)
    for number, (name, spins) in enumerate(zip("klm", crossing.spins, strict=True)):
        (centres,) = nodal_centres(spins[None])
        along = number * (place.small + place.between)
        ax = axes_at(figure, whole[0] + along, whole[1] - place.tall, place.small, place.tall)
        draw_texture(ax, spins)
        _circle(ax, spins, crossing)
        ax.set_title(name, loc="left", fontsize=8, fontweight="bold", style="italic", pad=2)
        energy, charge = fixed(crossing.energy_excess[number], 4), fixed(crossing.charge[number], 0)
        told = [energy, f"{len(centres)} ○", f"Q = {charge}"]
        caption = "  ".join(told[:2]) + "\n" + told[2] if place.flat else "\n".join(told)
        middle = (whole[0] + along + place.small / 2) / place.total
        figure.text(middle, (place.captions - 0.04) / place.height, caption, fontsize=7, ha="center", va="top")
        ax = axes_at(figure, magnified[0] + along, magnified[1] - place.small, place.small, place.small)
        box = Box(row % sites[0], column % sites[1], 2 * half)
        cut = box.cut(spins)
        inside = box.inside(centres, sites)
        draw_texture(ax, cut, inside, radius=0.12 * cut.shape[-1], periodic=False)
    if crossing.shallow:
        lines = 2 if place.flat else 3
        middle, below = whole[0] + 1.5 * place.small + place.between, place.captions - 0.06 - 0.125 * lines
        told = {"fontsize": 7, "fontweight": "bold", "ha": "center", "va": "top"}
        figure.text(middle / place.total, below / place.height, shallow_words(crossing), **told)


def shallow_words(crossing: Crossing) -> str:
    """What is said of k, l, m where the map has no wall of 1 J."""
    return f"† a wall of {crossing.depth:.2g} J, not {DEEP:g} J" if crossing.shallow else ""


def map_caption(panels: Sequence[MapPanel]) -> str:
    """The caption of :func:`map_figure` with nodal points, and what is particular to these runs."""
    told = CAPTIONS["map"]
    if len({panel.model for panel in panels}) > 1:
        told = told.replace("in all columns", "in all columns of one Hamiltonian and lattice")
    return told + "".join(
        f" † {panel.name} has no wall of {DEEP:g} J: k, l and m are at one of {panel.crossing.depth:.2g} J, dashed."
        for panel in panels
        if panel.crossing and panel.crossing.shallow
    )


def _circle(ax: Axes, spins: Spins, crossing: Crossing) -> None:
    """The place that changes, at all its images."""
    row, column = crossing.centre
    height, width = spins.shape[-2:]
    angle = np.linspace(0, 2 * np.pi, 61)
    for down in (-height, 0, height):
        for right in (-width, 0, width):
            (line,) = ax.plot(
                column + right + crossing.radius * np.cos(angle), row + down + crossing.radius * np.sin(angle)
            )
            line.set(color=RED, linewidth=1.2, path_effects=[patheffects.withStroke(linewidth=2.2, foreground="white")])
    ax.set(xlim=(-0.5, width - 0.5), ylim=(-0.5, height - 0.5))


def _map(ax: Axes, map_: LatentMap, values: Tensor, colours: str, limits: tuple[float, float]) -> AxesImage:
    low, high = map_.span
    half = (high - low) / (len(values) - 1) / 2
    extent = (low - half, high + half, low - half, high + half)
    image = ax.imshow(
        values.numpy(), origin="lower", extent=extent, cmap=colours, vmin=limits[0], vmax=limits[1], aspect="equal"
    )
    ax.set_xlabel(map_.plane.names[0], fontsize=7, labelpad=-8)
    ax.set_ylabel(map_.plane.names[1], fontsize=7, labelpad=-4)
    ends = [low, 0, high] if low < 0 < high else [low, high]
    ax.set_xticks([low, high])
    ax.set_yticks(ends)
    ax.tick_params(labelsize=7, length=2, width=0.6, pad=2)
    for spine in ax.spines.values():
        spine.set_linewidth(0.6)
    for name, (u, v) in map_.plane.marks.items():
        _mark(ax, u, v, name)
    return image


def _walls(ax: Axes, map_: LatentMap, domains: Domains) -> None:
    """The edges between pixels of different domains, as thin lines."""
    labels, ticks, half = domains.labels, map_.ticks.numpy(), (map_.span[1] - map_.span[0]) / (len(map_.ticks) - 1) / 2
    edges = []
    for row, column in np.argwhere(labels[:, 1:] != labels[:, :-1]):
        x, y = ticks[column] + half, ticks[row]
        edges.append(((x, y - half), (x, y + half)))
    for row, column in np.argwhere(labels[1:] != labels[:-1]):
        x, y = ticks[column], ticks[row] + half
        edges.append(((x - half, y), (x + half, y)))
    for colour, wide in (("white", 1.0), ("black", 0.4)):
        ax.add_collection(
            LineCollection(edges, colors=colour, linewidths=wide, capstyle="projecting", gid="domains"), autolim=False
        )


def _shallow_walls(ax: Axes, map_: LatentMap, domains: Domains) -> None:
    """The borders of domains that are less than 1 J deep, as dashed lines."""
    ticks = map_.ticks.numpy()
    ax.autoscale(False)
    for number in range(1, len(domains.lowest)):
        inside = np.where(domains.labels == number, 1.0, 0.0)
        for colour, wide, dashes in (("white", 1.0, "solid"), ("black", 0.7, (0, (2.5, 2.0)))):
            look: dict[str, Any] = {"colors": colour, "linewidths": wide, "linestyles": [dashes]}
            ax.contour(ticks, ticks, inside, [0.5], **look).set_gid("shallow domains")


def _marks(ax: Axes, panel: MapPanel) -> None:
    if panel.crossing is None:
        return
    ticks = panel.map_.ticks.numpy()
    k, wall, m = (np.array([ticks[column], ticks[row]]) for row, column in panel.crossing.pixels)
    along = (m - k) / np.hypot(*(m - k))
    # the letters of k and m stand outside of the three, that of l beside them
    for name, place, towards in (("k", k, -along), ("l", wall, along[::-1] * (1, -1)), ("m", m, along)):
        _mark(ax, place[0], place[1], name, towards)


def _mark(ax: Axes, u: Number, v: Number, name: str, towards: Sequence[Number] | np.ndarray = (0.7, 0.7)) -> None:
    """A dot with its letter beside it, on the side that the unit vector ``towards`` points to."""
    edge = [patheffects.withStroke(linewidth=1.6, foreground="black")]
    ax.plot(u, v, "o", ms=2.6, mfc="white", mec="black", mew=0.6, zorder=5)
    right, up = _free(ax, (u, v), towards)
    label = ax.annotate(name, (u, v), (7 * right, 7 * up), textcoords="offset points", ha="center", va="center")
    label.set(color="white", fontsize=8, style="italic", fontweight="bold", path_effects=edge, zorder=6)


def _free(ax: Axes, place: Sequence[Number], towards: Sequence[Number] | np.ndarray) -> tuple[float, float]:
    """The unit vector next to ``towards`` in which a letter 7 points from ``place`` stands within the frame."""
    scale = 72 / ax.figure.dpi
    room = []
    for (low, high), at, pixels in zip(
        (ax.get_xlim(), ax.get_ylim()), place, (ax.bbox.width, ax.bbox.height), strict=True
    ):
        points = pixels * scale / (high - low)
        room.append(((at - low) * points, (high - at) * points))
    start = np.arctan2(float(towards[1]), float(towards[0]))
    ways = [start + np.radians(sign * turn) for turn in range(0, 181, 15) for sign in (1, -1)]
    for angle in ways:
        way = (float(np.cos(angle)), float(np.sin(angle)))
        if all(-back < 7 * part - 5 and 7 * part + 5 < front for part, (back, front) in zip(way, room, strict=True)):
            return way
    return float(towards[0]), float(towards[1])


def _range(values: Any) -> tuple[float, float]:
    low, high = (float(value) for value in np.quantile(np.asarray(values, dtype=np.float64), (0.002, 0.998)))
    return (low, high) if high > low else (low, low + 1e-6)


SURVEY = {
    "flat_share": "share without nodal points",
    "wall_width": "width of the rest (latent units)",
    "sharpness": "steepest tenth's part of Σ|∇ε|",
}
"""Numbers of :func:`spinloom.domains.map_numbers` that are drawn, with their labels."""


def survey_figure(surveys: Mapping[str, Survey], names: Mapping[str, str] = SURVEY, width: Number = PAGE) -> Figure:
    """The numbers of many planes, a dot a plane, run beside run.

    Dots of one pair of axes stand in one column, so that a difference between pairs would show as columns that lie
    apart. The bar is the mean over planes with its standard error; the grey band of the sharpness what a Gaussian
    blur of the same correlation length has.
    """
    figure = new_figure(width, 2.3, layout="constrained")
    axes = np.ravel(figure.subplots(1, len(names)))
    for ax, (name, label) in zip(axes, names.items(), strict=True):
        for place, (run, survey) in enumerate(surveys.items()):
            table, colour = survey.table(name), _colour(run)
            columns = place + (np.linspace(-0.38, 0.2, len(table)) if len(table) > 1 else np.zeros(1))
            for x, values in zip(columns, table, strict=True):
                ax.plot(np.full(len(values), x), values, "o", ms=3, mfc=colour, mec="white", mew=0.3, alpha=0.8)
            values = table[np.isfinite(table)]
            if len(values):
                mean, error = values.mean(), values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else 0.0
                ax.errorbar(place + 0.38, mean, error, color=colour, marker="_", ms=6, mew=1.6, capsize=0, lw=1.2)
            else:
                # among numbers of nought, a run without any is not at nought
                ax.annotate("none", (place, 0.03), xycoords=("data", "axes fraction"), ha="center", fontsize=7)
            if name == "sharpness":
                blur = survey.table("blur_sharpness")
                middle, spread = blur.mean(), survey.table("blur_std").mean()
                ax.fill_between([place - 0.46, place + 0.48], middle - spread, middle + spread, color="0.85", zorder=0)
        tidy(ax)
        many = len(surveys) > 4
        turned: dict[str, Any] = {"rotation": 35, "ha": "right"} if many else {}
        ax.set_xticks(range(len(surveys)), list(surveys), fontsize=7 if many else 8, **turned)
        ax.set_xlim(-0.6, len(surveys) - 0.3)
        ax.set_ylabel(label, fontsize=8)
        ax.yaxis.set_major_locator(MaxNLocator(5))
        if name != "sharpness":
            ax.set_ylim(bottom=0)
    return figure


def _colour(run: str) -> str:
    """Of a run's name, whose first word is its objective."""
    return source_colour(re.split("[^a-z]", run.lower())[0])


def _bar(figure: Figure, image: AxesImage, x: Number, y: Number, side: Number, label: str) -> None:
    counts = label == "nodal points"
    wide = (0.5 if counts and side < 1.6 else 0.62) * side  # what the label leaves
    cax = axes_at(figure, x, y, wide, 0.07)
    bar = figure.colorbar(image, cax=cax, orientation="horizontal", extend="max" if counts else "both")
    bar.ax.tick_params(labelsize=7, length=2, width=0.6, pad=1)
    bar.locator = MaxNLocator(3, steps=[1, 2, 5, 10])
    bar.update_ticks()
    bar.outline.set_linewidth(0.6)  # type: ignore[operator]
    bar.ax.text(1.12, 0.5, label, transform=bar.ax.transAxes, fontsize=7, ha="left", va="center")
