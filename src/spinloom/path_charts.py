"""Paths between textures and recovered spins as pictures: strips with curves (Fig. 5b–d), an animation, errors.

They are made for print as the pictures of :mod:`spinloom.draw` are; nothing is saved here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import get_data_path
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from spinloom.draw import PAGE, RED, axes_at, colour_wheel, draw_texture, new_figure, spin_colours, tidy
from spinloom.invert import METHODS, Level
from spinloom.rows import Number, fixed, source_colour
from spinloom.topology import nodal_centres, nodal_points
from spinloom.typing import SiteMap, Spins

SHOWN = 9
"""Textures in a strip."""

CURVES = (
    ("energy_excess", "ε (10⁻³ J)"),
    ("mz", "$M_z$"),
    ("charge", "charge Q"),
    ("nodal_points", "nodal points"),
)

METHOD_COLOURS = {
    "guess": "#7f7f7f",
    "guess relaxed": "#e69f00",
    "guess held": "#d55e00",
    "network": "#56b4e9",
    "network relaxed": "#0072b2",
    "network held": "#332288",
}
METHOD_MARKERS = dict(zip(METHODS, "^sDovP", strict=True))
METHOD_DASHES = {"guess": ":", "guess held": "--", "network": ":", "network held": "--"}

CAPTIONS = {
    "path": "Paths between two textures, nine images of each, the ends framed red, nodal points circled, ε above them "
    "(the highest in bold). Below, ε, M_z, charge and nodal points along the path, dashed where it was relaxed in the "
    "space of spins; the legend has what is climbed at the most between two valleys.",
    "recovered": "A picture of M_z and the spins that each method finds behind it.",
    "inversion": "Spins from pictures of M_z: the error of the in-plane angle, 1 − the mean dot product with the "
    "truth, and by how much the network's best is ahead of the best guess (bars: two standard errors), against noise. "
    "Below, one texture at three of the noises.",
}
"""What goes into the picture's file, by what it shows."""


@dataclass(frozen=True, eq=False)
class PathPanel:
    """One path of :func:`path_figure`.

    Attributes:
        name: as it is written beside the strip.
        source: what gives the colour: hybrid, vae, gan.
        spins: the textures (images, 3, H, W).
        told: :meth:`spinloom.paths.Path.as_dict`.
        real: whether the path was relaxed in the space of spins: its curves are dashed.
    """

    name: str
    source: str
    spins: Spins
    told: Mapping[str, Any]
    real: bool = False


def path_figure(panels: Sequence[PathPanel], width: Number = PAGE) -> Figure:
    """Strips of nine textures a path, the ends framed red, nodal points circled; below, ε, M_z, Q and nodal points.

    Above each texture of a strip is its ε; the path's highest is among them, in bold. The curves run over the share
    of the path's length; dashed ones are paths relaxed in the space of spins. The legend has what a path climbs at
    the most between two valleys, :attr:`spinloom.paths.Path.saddles`. This is the paper's Fig. 5b–d, with numbers.
    """
    left, right, gap, head = 0.28, 0.06, 0.05, 0.19
    side = (width - left - right - gap * (SHOWN - 1)) / SHOWN
    talls = [side * panel.spins.shape[-2] / panel.spins.shape[-1] for panel in panels]
    curves, foot, legend = 1.15, 0.46, 0.58
    height = sum(tall + head + 0.07 for tall in talls) + legend + curves + foot
    figure = new_figure(width, height)
    top = height
    for panel, tall in zip(panels, talls, strict=True):
        middle = (top - head - tall / 2) / height
        style: dict[str, Any] = {"fontsize": 7, "fontweight": "bold", "color": source_colour(panel.source)}
        figure.text(0.11 / width, middle, panel.name, rotation=90, ha="center", va="center", **style)
        images = _shown(panel)
        chosen = panel.spins[images]
        for column, (image, texture, centres) in enumerate(zip(images, chosen, nodal_centres(chosen), strict=True)):
            x = left + column * (side + gap)
            ax = axes_at(figure, x, top - head - tall, side, tall)
            draw_texture(ax, texture, centres)
            weight = "bold" if image == panel.told["top_image"] else "normal"
            label = f"{fixed(panel.told['energy_excess'][image], 4)} J"
            ax.set_title(label, fontsize=7, pad=3, fontweight=weight)
            if column in (0, SHOWN - 1):
                frame = Rectangle((0, 0), 1, 1, transform=ax.transAxes, fill=False, ec=RED, lw=2.2, clip_on=False)
                ax.add_patch(frame)
        top -= tall + head + 0.07
    key = "above each texture: ε, the highest of its path in bold;  red frame: an end;  ○ nodal point"
    key += ";  dashed curve: relaxed in the space of spins" if any(panel.real for panel in panels) else ""
    figure.text(0.5, (top - 0.02) / height, key, fontsize=7, color="0.3", ha="center", va="top")
    top -= legend
    between = 0.52
    wheel = 0.8
    across = (width - 0.46 - 0.21 - wheel - between * (len(CURVES) - 1)) / len(CURVES)
    colour_wheel(axes_at(figure, width - wheel - 0.05, top - curves / 2 - wheel / 2, wheel, wheel))
    for number, (quantity, label) in enumerate(CURVES):
        ax = axes_at(figure, 0.46 + number * (across + between), top - curves, across, curves)
        for panel in panels:
            _curve(ax, panel, quantity)
        ax.set_title(label, fontsize=8, pad=3)
        ax.set_xlabel("share of the path", fontsize=8)
        ax.set_xlim(0, 1)
        ax.set_xticks([0, 0.5, 1], ["0", "½", "1"])
        whole = quantity in ("charge", "nodal_points")
        ax.yaxis.set_major_locator(MaxNLocator(4, integer=whole, min_n_ticks=2))
        ax.margins(y=0.08)
        if quantity == "nodal_points" and ax.dataLim.y1 == 0:
            ax.set_ylim(-0.05, 1)
        tidy(ax)
    place: dict[str, Any] = {"loc": "center", "bbox_to_anchor": (0.5, (top + 0.32) / height)}
    figure.legend(handles=figure.axes[-1].get_lines(), ncols=len(panels), fontsize=7, frameon=False, **place)
    return figure


def _shown(panel: PathPanel) -> np.ndarray:
    """The images of a strip, evenly along the path but for the nearest to its top, which gives way to that."""
    last = len(panel.spins) - 1
    images = np.linspace(0, last, SHOWN).round().astype(int)
    top = panel.told["top_image"]
    if 0 < top < last:
        images[1 + np.abs(images[1:-1] - top).argmin()] = top
    return images


def _curve(ax: Axes, panel: PathPanel, quantity: str) -> None:
    length = np.asarray(panel.told["length"])
    along, values = length / length[-1], np.asarray(panel.told[quantity], float)
    style: dict[str, Any] = {"color": source_colour(panel.source), "lw": 1.1}
    style["label"] = f"{panel.name}: saddle {fixed(panel.told['saddle_forth'], 1)} J"
    style["ls"] = "--" if panel.real else "-"
    if quantity == "energy_excess":
        fine = panel.told["fine"]
        finer, energy = np.asarray(fine["length"]) / fine["length"][-1], 1e3 * np.asarray(fine["energy_excess"])
        ax.plot(finer, energy, **style)
    elif quantity == "mz":
        ax.plot(along, values, **style)
    else:
        ax.step(along, values.round(), where="mid", **style)


def animation(panels: Sequence[PathPanel], side: int = 256, hold: int = 600, frame: int = 90) -> bytes:
    """The content of a GIF that goes forth and back along the paths, side by side, for ever.

    Each texture is ``side`` pixels high, its ε and nodal points above; below runs ε, the scale common to all paths.
    ``frame`` and ``hold`` (of the ends) are in milliseconds. Paths of several numbers of images are shown at equal
    shares.
    """
    from PIL import Image, ImageDraw, ImageFont

    # Pillow's own font has no Greek letters
    font = ImageFont.truetype(str(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), 12)
    count = max(len(panel.spins) for panel in panels)
    curve, gap, head = 64, 8, 36
    energies = [np.asarray(panel.told["fine"]["energy_excess"]) for panel in panels]
    low, high = min(map(np.min, energies)), max(map(np.max, energies))
    high = high if high > low else low + 1  # a path that stays level
    tiles = []
    for panel in panels:
        up, across = panel.spins.shape[-2:]
        tiles.append((round(side * across / up), side))
    width = sum(across for across, _ in tiles) + gap * (len(tiles) - 1)
    frames = []
    for number in range(count):
        share = number / (count - 1)
        picture = Image.new("RGB", (width, head + side + gap + curve), "white")
        pen = ImageDraw.Draw(picture)
        x = 0
        for panel, (across, _), energy in zip(panels, tiles, energies, strict=True):
            image = round(share * (len(panel.spins) - 1))
            pixels = (255 * spin_colours(panel.spins[image])[::-1]).round().astype(np.uint8)
            tile = Image.fromarray(pixels).resize((across, side), Image.Resampling.NEAREST)
            picture.paste(tile, (x, head))
            nodal = int(nodal_points(panel.spins[image : image + 1])[0])
            here = panel.told["energy_excess"][image]
            text = f"ε = {fixed(here, 4)} J, {nodal} nodal point{'s' * (nodal != 1)}"
            pen.text((x + 2, 2), panel.name, fill=source_colour(panel.source), font=font)
            pen.text((x + 2, 18), text, fill="black", font=font)
            base = head + side + gap

            def at(length: Number, value: Number, x=x, across=across, base=base, panel=panel) -> tuple[float, float]:
                share = length / panel.told["length"][-1]
                return x + 4 + (across - 9) * share, base + 4 + (curve - 9) * (1 - (value - low) / (high - low))

            points = [at(*place) for place in zip(panel.told["fine"]["length"], energy, strict=True)]
            pen.line(points, fill=source_colour(panel.source), width=2)
            px, py = at(panel.told["length"][image], here)
            pen.ellipse((px - 4, py - 4, px + 4, py + 4), fill=RED)
            x += across + gap
        frames.append(picture.quantize(256, dither=Image.Dither.NONE))
    order = [*range(count), *range(count - 2, 0, -1)]
    times = [hold if number in (0, count - 1) else frame for number in order]
    content = BytesIO()
    rest = [frames[number] for number in order[1:]]
    frames[0].save(content, "GIF", save_all=True, append_images=rest, duration=times, loop=0)
    return content.getvalue()


def recovered_figure(
    picture: SiteMap, spins: Mapping[str, Spins], notes: Mapping[str, str] | None = None, width: Number = PAGE
) -> Figure:
    """A picture (H, W) of M_z and what each method made of it, each (3, H, W), with two lines of notes below."""
    wheel = 0.86
    row = _row_height(picture, width - wheel, len(spins) + 1)
    below = 0.3 if notes else 0
    figure = new_figure(width, 0.22 + row + below)
    _recovered_row(figure, width - wheel, 0.05 + below, picture, spins, None, titles=True, notes=notes)
    colour_wheel(axes_at(figure, width - wheel - 0.02, 0.01 + below + (row - wheel) / 2, wheel, wheel))
    return figure


def inversion_figure(levels: Sequence[Level], truth: Spins, blur: Number = 0, width: Number = PAGE) -> Figure:
    """Errors against noise for each method, and the first texture (3, H, W) at three of the noise levels.

    Left: the angle between in-plane parts, root mean square over sites weighted by the true in-plane length. Middle:
    1 − the mean dot product. Right: by how much the network's best is ahead of the best guess, two standard errors.
    """
    shown = [levels[number] for number in sorted({0, len(levels) // 2, len(levels) - 1})]
    row = _row_height(levels[0].picture, width, len(METHODS) + 2)
    plots, foot, legend = 1.55, 0.4, 0.92
    height = 0.1 + plots + foot + legend + row * len(shown) + 0.2
    figure = new_figure(width, height)
    noises = [level.noise for level in levels]
    places = np.arange(len(levels))
    left, between = 0.5, 0.55
    across = (width - left - 0.08 - 2 * between) / 3
    axes = [axes_at(figure, left + k * (across + between), height - 0.25 - plots, across, plots) for k in range(3)]
    for name in METHODS:
        style: dict[str, Any] = {"color": METHOD_COLOURS[name], "marker": METHOD_MARKERS[name], "ms": 3.5, "lw": 1.1}
        style |= {"ls": METHOD_DASHES.get(name, "-"), "label": name}
        errors = [level.errors[name] for level in levels]
        axes[0].plot(places, [error.rms for error in errors], **style)
        axes[1].plot(places, [max(1 - error.dot, 1e-7) for error in errors], **style)
    axes[0].set_title("in-plane angle, rms (degrees)", fontsize=8, pad=3)
    axes[1].set_title(r"1 − ⟨S·S$_\mathrm{true}$⟩", fontsize=8, pad=3)
    for ax in axes[:2]:
        ax.set_yscale("log")
    gains = [1e3 * level.gain["mean"] for level in levels]
    bars = [2e3 * level.gain["error"] for level in levels]
    axes[2].errorbar(places, gains, yerr=bars, color="black", marker="o", ms=3.5, lw=0, elinewidth=1, capsize=2)
    axes[2].axhline(0, color="0.6", lw=0.7, zorder=0)
    reach = max(abs(gain) + bar for gain, bar in zip(gains, bars, strict=True))
    axes[2].set_yscale("symlog", linthresh=1, linscale=0.7)
    axes[2].set_ylim(-1.5 * max(reach, 1), 1.5 * max(reach, 1))
    axes[2].yaxis.set_minor_locator(NullLocator())
    axes[2].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}".replace("-", "−")))
    axes[2].set_title("best network − best guess", fontsize=8, pad=3)
    axes[2].set_ylabel(r"10⁻³ of ⟨S·S$_\mathrm{true}$⟩, symlog", fontsize=7, labelpad=1)
    for ax in axes:
        ax.set_xticks(places, [f"{noise:g}" for noise in noises])
        ax.set_xlabel("noise (std)" + (f", blur {blur:g} sites" if blur else ""), fontsize=8)
        tidy(ax)
    place: dict[str, Any] = {"loc": "center", "bbox_to_anchor": (0.44, (height - 0.25 - plots - foot - 0.33) / height)}
    place |= {"handlelength": 2.2, "columnspacing": 1.3}
    colour_wheel(axes_at(figure, width - 0.9, height - 0.25 - plots - foot - 0.8, 0.86, 0.86))
    figure.legend(handles=axes[0].get_lines(), ncols=len(METHODS), fontsize=7, frameon=False, **place)
    key = (
        "right: at each noise the best in the mean of network, relaxed and held, less the best of guess, relaxed and\n"
        "held; linear within ±1 and logarithmic beyond (symlog); bars: two standard errors over textures"
    )
    below = (height - 0.25 - plots - foot - 0.5) / height
    figure.text(0.44, below, key, fontsize=7, color="0.3", ha="center", va="top", linespacing=1.25)
    for number, level in enumerate(shown):
        bottom = (len(shown) - 1 - number) * row + 0.05
        label = f"noise {level.noise:g}"
        _recovered_row(figure, width, bottom, level.picture, level.example, truth, number == 0, label)
    return figure


def _row_height(picture: SiteMap, width: Number, columns: int) -> float:
    return _tile(width, columns) * picture.shape[-2] / picture.shape[-1] + 0.08


def _tile(width: Number, columns: int) -> float:
    return (width - 0.28 - 0.06 - 0.06 * (columns - 1)) / columns


def _recovered_row(
    figure: Figure,
    width: Number,
    bottom: Number,
    picture: SiteMap,
    spins: Mapping[str, Spins],
    truth: Spins | None,
    titles: bool,
    label: str = "",
    notes: Mapping[str, str] | None = None,
) -> None:
    shown = {"truth": truth, **spins} if truth is not None else dict(spins)
    side = _tile(width, len(shown) + 1)
    tall = side * picture.shape[-2] / picture.shape[-1]
    ax = axes_at(figure, 0.28, bottom, side, tall)
    grey: dict[str, Any] = {"cmap": "gray", "vmin": -1, "vmax": 1, "origin": "lower", "interpolation": "nearest"}
    ax.imshow(picture.numpy(), **grey)
    ax.set(xticks=[], yticks=[])
    if titles:
        ax.set_title("picture", fontsize=7, pad=3)
    if label:
        figure.text(
            0.13 / figure.get_figwidth(), (bottom + tall / 2) / figure.get_figheight(), label, rotation=90, **_MIDDLE
        )
    for number, (name, texture) in enumerate(shown.items()):
        ax = axes_at(figure, 0.28 + (number + 1) * (side + 0.06), bottom, side, tall)
        draw_texture(ax, texture, nodal_centres(texture[None])[0])
        if titles:
            ax.set_title(name.replace("relaxed", "relax."), fontsize=7, pad=3)
        if notes:
            ax.set_xlabel(notes[name], fontsize=7, labelpad=3)


_MIDDLE: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 7}
