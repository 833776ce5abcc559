"""Latent space as pictures: maps with k, l, m (the paper's Fig. 3), DDLS watched (Fig. 4), rules compared.

They are made for print as the pictures of :mod:`spinloom.draw` are; nothing is saved here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from spinloom.domains import Crossing, Domains, Survey
from spinloom.draw import ENERGY_COLOURS, PAGE, RED, colour_wheel, draw_texture, new_figure
from spinloom.explain import Box, DrivenPaths, RuleRow
from spinloom.latent import LatentMap
from spinloom.rows import Number, fixed, source_colour
from spinloom.topology import nodal_centres
from spinloom.typing import SiteMap, Spins

LOGIT_COLOURS = "gray"
NODAL_COLOURS = "Reds"
ATTENTION_COLOURS = "magma"

RULE_COLOURS = {
    "prior": "#7f7f7f",
    "ascent": "#0072b2",
    "langevin": "#e69f00",
    "dot": "#009e73",
    "dgflow": "#cc79a7",
}
RULE_NAMES = {"langevin": "Langevin", "dot": "DOT", "dgflow": "DGflow"}

# maps


@dataclass(frozen=True, eq=False)
class MapPanel:
    """One column of :func:`map_figure`: a run's name, its map, k, l, m if there are any, and domains to be drawn."""

    name: str
    map_: LatentMap
    crossing: Crossing | None = None
    domains: Domains | None = None


def map_figure(panels: Sequence[MapPanel], width: Number = PAGE, nodal: bool = False) -> Figure:
    """Maps of one plane for several runs, a column each: the paper's Fig. 3.

    a: ε, every column from its own lowest value on, all with the same colour for the same difference; thin lines part
    domains. Then, with ``nodal``, the nodal points, on one scale for all. Then logits on each column's own scale,
    brighter = more like the data; for a run without a discriminator the colour wheel. Then what k, l, m decode to,
    what changes circled; then that place magnified, its nodal points circled; below, ε, the number of nodal points and
    the charge of the whole texture.

    One run with nodal points has its three maps beside each other, and k, l, m and the place magnified below them.
    """
    place = _MapLayout.of(panels, width, nodal)
    figure = new_figure(place.total, place.height)
    ranges = [_range(panel.map_.energy_excess) for panel in panels]
    spread = max(high - low for low, high in ranges)
    most = max(1.0, *(_range(panel.map_.nodal_points)[1] for panel in panels))
    for number, (panel, (low, _)) in enumerate(zip(panels, ranges, strict=True)):
        # ε in units of 10⁻³ keeps the colour bar's labels short
        energy, logits = 1e3 * panel.map_.energy_excess, panel.map_.logits
        maps: list[tuple[Tensor | None, str, tuple[float, float], str]] = [
            (energy, ENERGY_COLOURS, (1e3 * low, 1e3 * (low + spread)), "ε (10⁻³ J)"),
            (panel.map_.nodal_points, NODAL_COLOURS, (0.0, most), "nodal points"),
            (logits, LOGIT_COLOURS, (0.0, 1.0) if logits is None else _range(logits), "logit"),
        ]
        for row, (values, colours, limits, label) in enumerate(maps if nodal else maps[::2]):
            x, y = place.cell(number, row)
            ax = _at(figure, x, y - place.side, place.side, place.side)
            if row == 0:
                size = 9 if 0.09 * len(panel.name) < place.side + place.gap else 7
                ax.set_title(panel.name, fontsize=size, fontweight="bold", color=_colour(panel.name), pad=4)
            if number == 0:
                _letter(figure, "abc"[row], y + 0.1, place.height, x - place.left + 0.04)
            if values is None:
                first = all(other.map_.logits is not None for other in panels[:number])
                _no_logits(figure, ax, (x, y), place.side, first and bool(place.tall))
                continue
            image = _map(ax, panel.map_, values, colours, limits)
            if row == 0 and panel.domains is not None:
                _walls(ax, panel.map_, panel.domains)
            _marks(ax, panel)
            _bar(figure, image, x, y - place.side - 0.3, place.side, label)
        if panel.crossing:
            _triple(figure, panel.crossing, place.whole(number), place.magnified(number), place)
    if place.tall:
        letters = "de" if nodal else "cd"
        (_, y), (x, other_y) = place.whole(0), place.magnified(0)
        _letter(figure, letters[0], y + 0.16, place.height)
        corner = (other_y + 0.16, place.height, x - 0.16) if place.flat else (other_y, place.height)
        _letter(figure, letters[1], *corner)
        below = (place.captions - 0.04) / place.height
        figure.text((place.left - 0.05) / place.total, below, "ε (J)", fontsize=7, ha="right", va="top")
        if place.wheel:
            right, up = place.total - place.wheel - 0.04, y - place.wheel if place.flat else 0.01
            colour_wheel(_at(figure, right, up, place.wheel, place.wheel), fontsize=7)
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
        colour_wheel(_at(figure, corner[0] + (side - wide) / 2, corner[1] - 0.81 * side, wide, wide))


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
        ax = _at(figure, whole[0] + along, whole[1] - place.tall, place.small, place.tall)
        draw_texture(ax, spins)
        _circle(ax, spins, crossing)
        ax.set_title(name, loc="left", fontsize=8, fontweight="bold", style="italic", pad=2)
        energy, charge = fixed(crossing.energy_excess[number], 4), fixed(crossing.charge[number], 0)
        told = [energy, f"{len(centres)} ○", f"Q = {charge}"]
        caption = "  ".join(told[:2]) + "\n" + told[2] if place.flat else "\n".join(told)
        middle = (whole[0] + along + place.small / 2) / place.total
        figure.text(middle, (place.captions - 0.04) / place.height, caption, fontsize=7, ha="center", va="top")
        ax = _at(figure, magnified[0] + along, magnified[1] - place.small, place.small, place.small)
        box = Box(row % sites[0], column % sites[1], 2 * half)
        cut = box.cut(spins)
        inside = _inside(centres, box, sites)
        draw_texture(ax, cut, inside, radius=0.12 * cut.shape[-1], periodic=False)


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


def _inside(centres: Tensor, box: Box, sites: Sequence[int]) -> np.ndarray:
    """Those of the (row, column) centres in a box, counted from its corner."""
    moved = (centres.numpy() - np.array([box.row, box.column])) % np.array(sites)
    return moved[(moved <= box.side - 0.5).all(1)]


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
        _tidy(ax)
        many = len(surveys) > 4
        turned: dict[str, Any] = {"rotation": 35, "ha": "right"} if many else {}
        ax.set_xticks(range(len(surveys)), list(surveys), fontsize=7 if many else 8, **turned)
        ax.set_xlim(-0.6, len(surveys) - 0.3)
        ax.set_ylabel(label, fontsize=8)
        ax.yaxis.set_major_locator(MaxNLocator(5))
        if name != "sharpness":
            ax.set_ylim(bottom=0)
    return figure


# DDLS watched


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
        ax = _at(figure, x, height - head - tall, side, tall)
        draw_texture(ax, spins, centres[number])
        step = line["step"]
        ax.set_title(f"step {step}" if number == 0 else f"{step}", fontsize=8, pad=3)
        if number == 0:
            _square(ax, box, sites)
        ax.text(0.5, -0.05, _caption(line), transform=ax.transAxes, ha="center", va="top", fontsize=7, linespacing=1.1)
        ax = _at(figure, x, second - side, side, side)
        inside = _inside(centres[number], box, sites)
        draw_texture(ax, box.cut(spins), inside, radius=0.09 * box.side, periodic=False)
        _frame(ax, RED if number == 0 else "0.6")
    _letter(figure, "a", height - head, height)
    _letter(figure, "b", second, height)
    edge = width - right
    colour_wheel(_at(figure, edge + 0.02, height - head - tall, right - 0.08, max(tall, right - 0.08)), fontsize=7)
    top = second - side - between
    for letter, (name, maps) in zip("cdef", attention.items(), strict=False):
        limit = float(np.quantile(maps.numpy(), 0.998)) or 1.0
        image = None
        for number, values in enumerate(maps):
            ax = _at(figure, left + number * (side + gap), top - tall, side, tall)
            image = ax.imshow(values.numpy(), origin="lower", cmap=ATTENTION_COLOURS, vmin=0, vmax=limit)
            ax.set(xticks=[], yticks=[])
            _frame(ax, None)
            _small_circles(ax, centres[number])
        assert image is not None
        bar = figure.colorbar(
            image, cax=_at(figure, edge + 0.06, top - tall, 0.08, tall), extend="max", extendfrac=0.06
        )
        bar.ax.tick_params(labelsize=7, length=2, width=0.6, pad=2)
        bar.locator = MaxNLocator(3)
        bar.update_ticks()
        bar.outline.set_linewidth(0.6)  # type: ignore[operator]
        bar.set_label(f"{name}\n(logit)", fontsize=7, labelpad=1)
        _letter(figure, letter, top, height)
        top -= tall + between
    return figure


def _caption(line: Mapping[str, float | int]) -> str:
    logit = round(line["logit"], 1) + 0.0  # no minus before a nought
    return f"ε {fixed(line['energy_excess'], 4)} J\nlogit {fixed(logit, 1)}\n{line['nodal_points']} ○"


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
    figure = new_figure(width, 1.8, layout="constrained")
    curves = paths.curves()
    own = {
        "energy_excess": paths.energy_excess,
        "logits": paths.logits,
        "nodal_points": paths.nodal_points,
        "norm": paths.norm / paths.codes.shape[-1] ** 0.5,
    }
    steps = np.arange(paths.settings.steps + 1)
    for ax, (name, label) in zip(np.ravel(figure.subplots(1, 4)), CURVES.items(), strict=True):
        curve = curves[name]
        ax.fill_between(steps, curve["low"], curve["high"], color=colour, alpha=0.2, lw=0)
        ax.plot(steps, curve["mean"], color=colour, lw=1.2, gid=name)
        ax.plot(steps, own[name][:, paths.shown], color="0.25", lw=0.8, ls=(0, (3, 1.5)))
        _tidy(ax)
        ax.set_xlabel("step", fontsize=8)
        ax.set_ylabel(label, fontsize=8)
        ax.margins(x=0.02)
        ax.yaxis.set_major_locator(MaxNLocator(4))
        ax.xaxis.set_major_locator(MaxNLocator(3, integer=True))
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
        _tidy(ax)
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


# style


def _colour(run: str) -> str:
    """Of a run's name, whose first word is its objective."""
    return source_colour(run.split()[0].lower())


def _tidy(ax: Axes) -> None:
    ax.tick_params(labelsize=7, length=2.5, width=0.6, pad=2)
    for name, spine in ax.spines.items():
        spine.set_linewidth(0.6)
        spine.set_visible(name in ("left", "bottom"))


def _at(figure: Figure, left: Number, bottom: Number, wide: Number, tall: Number) -> Axes:
    """Axes at a place given in inches."""
    width, height = figure.get_size_inches()
    return figure.add_axes((left / width, bottom / height, wide / width, tall / height))


def _bar(figure: Figure, image: AxesImage, x: Number, y: Number, side: Number, label: str) -> None:
    counts = label == "nodal points"
    wide = (0.5 if counts and side < 1.6 else 0.62) * side  # what the label leaves
    cax = _at(figure, x, y, wide, 0.07)
    bar = figure.colorbar(image, cax=cax, orientation="horizontal", extend="max" if counts else "both")
    bar.ax.tick_params(labelsize=7, length=2, width=0.6, pad=1)
    bar.locator = MaxNLocator(3, steps=[1, 2, 5, 10])
    bar.update_ticks()
    bar.outline.set_linewidth(0.6)  # type: ignore[operator]
    bar.ax.text(1.12, 0.5, label, transform=bar.ax.transAxes, fontsize=7, ha="left", va="center")


def _letter(figure: Figure, letter: str, y: Number, height: Number, x: Number = 0.04) -> None:
    width = figure.get_size_inches()[0]
    figure.text(x / width, y / height, letter, fontsize=10, fontweight="bold", ha="left", va="top")
