"""Spins as colours and pictures: functions that take textures and give axes or figures, and never save.

Figures are made for print: 3.4 or 7 inches wide, letters of at least 7 points, cividis for energies. They use
matplotlib's object interface alone, so they work without a screen and in any thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from io import BytesIO
from typing import Any

import numpy as np
import torch
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import NullLocator

from spinloom.errors import BadInput
from spinloom.hamiltonian import Hamiltonian, as_spins
from spinloom.rows import Number, fixed
from spinloom.topology import nodal_centres

COLUMN, PAGE = 3.4, 7.0
"""Widths of a journal's column and page in inches."""

ENERGY_COLOURS = "cividis"
RED = "#e8000b"


def spin_colours(spins: Any) -> np.ndarray:
    r"""RGB colours (…, H, W, 3) in [0, 1] of spins as mumax³ draws them: white is up, black is down.

    .. math::
        \text{hue} = \mathrm{atan2}(S_y, S_x), \quad \text{lightness} = (1 + S_z)/2, \quad
        \text{saturation} = \min(|S|, 1),

    so that the colour's strength is (1 − |S_z|)·|S|: +x is red, +y yellow-green, −x cyan, −y violet.

    Raises:
        BadInput: the shape is not (…, 3, H, W).
    """
    x, y, z = as_spins(spins).detach().double().cpu().unbind(-3)
    sixths = torch.atan2(y, x) / (torch.pi / 3) % 6
    lightness = ((1 + z) / 2).clamp(0, 1)
    strength = (x * x + y * y + z * z).sqrt().clamp(max=1) * torch.minimum(lightness, 1 - lightness)
    # each of the three colours follows the same trapezium of the hue, a third of a turn apart
    colours = []
    for shift in (0, 2, 4):
        away = (sixths - shift + 3) % 6 - 3
        colours.append(lightness + strength * (2 - away.abs()).clamp(0, 1).mul(2).sub(1))
    return torch.stack(colours, -1).clamp(0, 1).numpy()


def draw_texture(
    ax: Axes, spins: Any, circles: Any = None, radius: Number | None = None, periodic: bool = True
) -> AxesImage:
    """Draw one texture (3, H, W) in :func:`spin_colours`, +x to the right and +y up, with red circles.

    ``circles`` are (row, column) centres (n, 2), as :func:`spinloom.topology.nodal_centres` gives them;
    ``radius`` is in sites. A circle across the boundary is drawn whole, its two parts at opposite edges, unless the
    texture is a piece cut out of one and so not ``periodic``.

    Raises:
        BadInput: there is more than one texture.
    """
    spins = as_spins(spins)
    if spins.ndim != 3:
        raise BadInput(f"spins of shape {tuple(spins.shape)}: one axes draws one (3, H, W); index the batch")
    return _draw_map(ax, spin_colours(spins), circles, radius, periodic)


def draw_energy(
    ax: Axes, density: Any, limits: tuple[float, float], circles: Any = None, radius: Number | None = None
) -> AxesImage:
    """Draw one energy density map (H, W), in the unit of J, between ``limits``; circles as in :func:`draw_texture`.

    The scale goes with the square root, so that both a labyrinth's ripple and the peak of a nodal point show.
    """
    density = torch.as_tensor(density).detach().cpu().numpy()
    return _draw_map(ax, density, circles, radius, cmap=ENERGY_COLOURS, norm=PowerNorm(0.5, *limits))


def _draw_map(
    ax: Axes, pixels: np.ndarray, circles: Any, radius: Number | None, periodic: bool = True, **kwargs: Any
) -> AxesImage:
    height, width = pixels.shape[:2]
    image = ax.imshow(pixels, origin="lower", aspect="equal", interpolation="nearest", **kwargs)
    ax.xaxis.set_major_locator(NullLocator())
    ax.yaxis.set_major_locator(NullLocator())
    for spine in ax.spines.values():
        spine.set_visible(False)
    if circles is None or len(circles) == 0:
        return image
    # in a crowd, circles that neither cover each other nor what they mark
    crowd = 0.4 * (height * width / len(circles)) ** 0.5
    radius = max(1.0, min(max(2.0, 0.045 * max(height, width)), crowd)) if radius is None else radius
    offsets = np.asarray(circles, dtype=np.float64)
    offsets = _wrapped(offsets, (height, width), radius) if periodic else offsets
    drawn = EllipseCollection(
        [2 * radius], [2 * radius], [0], units="xy", offsets=offsets[:, ::-1], offset_transform=ax.transData
    )
    drawn.set(facecolor="none", edgecolor=RED, linewidth=0.8 if len(circles) < 50 else 0.5, gid="nodal points")
    if len(circles) < 50:
        drawn.set_path_effects([patheffects.withStroke(linewidth=1.7, foreground="white")])
    ax.add_collection(drawn, autolim=False)
    return image


def _wrapped(centres: np.ndarray, size: tuple[int, int], radius: Number) -> np.ndarray:
    """The centres, put into [−½, H − ½) × [−½, W − ½), and every image whose circle reaches into it."""
    box = np.array(size)
    centres = (centres + 0.5) % box - 0.5
    images = np.concatenate([centres + box * (up, right) for up in (0, -1, 1) for right in (0, -1, 1)])
    nearest = np.clip(images, -0.5, box - 0.5)
    return images[((images - nearest) ** 2).sum(1) < radius**2]


def colour_wheel(ax: Axes, labels: bool = True, fontsize: Number = 7) -> AxesImage:
    """Draw the sphere of spin directions as a disc: the angle is the in-plane direction, the radius the polar
    angle, from up (white) at the centre through in-plane (full colour) to down (black) at the rim."""
    pixels = 400
    axis = (np.arange(pixels) + 0.5) / pixels * 2 - 1
    x, y = np.meshgrid(axis, axis)
    radius = np.hypot(x, y)
    polar, azimuth = np.pi * np.minimum(radius, 1), np.arctan2(y, x)
    colours = spin_colours(np.stack((np.sin(polar) * np.cos(azimuth), np.sin(polar) * np.sin(azimuth), np.cos(polar))))
    alpha = np.clip((1 - radius) * pixels / 2 + 0.5, 0, 1)
    image = ax.imshow(np.dstack((colours, alpha)), origin="lower", extent=(-1, 1, -1, 1))
    ax.axis("off")
    if labels:
        ax.set(xlim=(-1.5, 1.5), ylim=(-1.5, 1.5))
        for x, y, label in ((1.25, 0, "+x"), (0, 1.25, "+y"), (-1.28, 0, "−x"), (0, -1.25, "−y")):
            ax.text(x, y, label, ha="center", va="center", fontsize=fontsize)
        ax.text(0, 0, "+z", ha="center", va="center", fontsize=fontsize)
        ax.text(0, -0.83, "−z", ha="center", va="center", fontsize=fontsize, color="white")
    return image


def energy_limits(densities: Iterable[Any]) -> tuple[float, float]:
    """One colour scale for several energy density maps: from the 0.2nd to the 99.8th percentile."""
    pooled = np.concatenate([np.ravel(torch.as_tensor(map_).detach().cpu().numpy()) for map_ in densities])
    low, high = (float(value) for value in np.quantile(pooled, (0.002, 0.998)))
    return (low, high) if high > low else (low, low + 1e-3)


def texture_panel(
    rows: Mapping[str, Any],
    hamiltonian: Hamiltonian,
    angle: Number = 90,
    colours: Mapping[str, str] | None = None,
    width: Number = PAGE,
) -> Figure:
    """Textures above their energy density maps, a block a row, nodal points circled: the paper's Fig. 2a–d.

    ``rows`` maps a label to textures (n, 3, H, W), all of one lattice. Above each texture stand its ε and the
    number of its nodal points; all maps share one colour scale.

    Raises:
        BadInput: no rows, or textures of several lattices.
    """
    spins = {name: as_spins(value).detach().cpu() for name, value in rows.items()}
    sizes = {tuple(value.shape[-2:]) for value in spins.values()}
    if len(sizes) != 1:
        raise BadInput(f"rows of lattices {sorted(sizes)}: a panel compares textures of one; give one size")
    sites_up, sites_right = sizes.pop()
    columns = max(len(value) for value in spins.values())
    constant = 2 * hamiltonian.J + abs(hamiltonian.B) + max(hamiltonian.K, 0.0)
    maps = {name: hamiltonian.energy_density(value) + constant for name, value in spins.items()}
    limits = energy_limits(maps.values())

    left, right, gap, head, foot = 0.26, 1.04, 0.05, 0.2, 0.1
    side = (width - left - right - gap * (columns - 1)) / columns
    tall = side * sites_up / sites_right
    block = head + 2 * tall + gap + foot
    height = max(block * len(spins), 2.9)
    figure = new_figure(width, height)

    top = height
    image = None
    for name, textures in spins.items():
        colour = (colours or {}).get(name, "black")
        middle = (top - head - tall - gap / 2) / height
        style = {"fontsize": 8, "fontweight": "bold", "color": colour}
        figure.text(0.11 / width, middle, name, rotation=90, ha="center", va="center", **style)
        for column, (texture, density, centres) in enumerate(
            zip(textures, maps[name], nodal_centres(textures, angle), strict=True)
        ):
            x = left + column * (side + gap)
            upper = axes_at(figure, x, top - head - tall, side, tall)
            draw_texture(upper, texture, centres)
            upper.set_title(f"ε = {fixed(float(density.mean()), 4)} J", loc="left", fontsize=7, pad=2)
            found = RED if len(centres) else "0.45"
            upper.set_title(f"{len(centres)} ○", loc="right", fontsize=7, pad=2, color=found)
            lower = axes_at(figure, x, top - head - 2 * tall - gap, side, tall)
            image = draw_energy(lower, density, limits, centres)
        top -= block

    assert image is not None
    edge, below = width - right, height - head - 1.2
    colour_wheel(axes_at(figure, edge + 0.07, height - head - 0.96, 0.96, 0.96))
    tall = min(1.9, below - 0.1)
    _colour_bar(figure, image, axes_at(figure, edge + 0.14, below - tall, 0.11, tall))
    return figure


def _colour_bar(figure: Figure, image: AxesImage, ax: Axes) -> None:
    bar = figure.colorbar(image, cax=ax, extend="both", extendfrac=0.04)
    bar.set_label("local ε (unit of J)", fontsize=7)
    bar.ax.tick_params(labelsize=7, length=2, width=0.6, pad=2)
    bar.outline.set_linewidth(0.6)  # type: ignore[operator]


def hero(spins: Any, width: Number = 12.0) -> Figure:
    """A banner: textures (n, 3, H, W) side by side, every site as it is, and the colour wheel."""
    spins = as_spins(spins)
    gap, wheel = 0.08, 1.7
    side = (width - wheel - gap * len(spins)) / len(spins)
    tall = side * spins.shape[-2] / spins.shape[-1]
    height = max(tall, wheel)
    figure = new_figure(width, height)
    for column, texture in enumerate(spins):
        ax = axes_at(figure, column * (side + gap), (height - tall) / 2, side, tall)
        draw_texture(ax, texture)
    colour_wheel(axes_at(figure, width - wheel, (height - wheel) / 2, wheel, wheel), fontsize=10)
    return figure


# figures


def new_figure(width: Number, height: Number, layout: str | None = None) -> Figure:
    """An empty figure for print; the size is in inches."""
    return Figure(figsize=(width, height), dpi=220, layout=layout, facecolor="white")  # type: ignore[arg-type]


def axes_at(figure: Figure, left: Number, bottom: Number, width: Number, height: Number) -> Axes:
    """Axes at a place given in inches."""
    across, up = figure.get_size_inches()
    return figure.add_axes((left / across, bottom / up, width / across, height / up))


def tidy(ax: Axes) -> None:
    """The one look of all charts, set on the axes, so that no global setting decides it: left and below alone, in
    thin lines and small letters."""
    ax.tick_params(labelsize=7, length=2.5, width=0.6, pad=2)
    ax.tick_params(which="minor", length=1.5, width=0.4)
    for name, spine in ax.spines.items():
        spine.set_linewidth(0.6)
        spine.set_visible(name in ("left", "bottom"))


def letter(figure: Figure, name: str, y: Number, height: Number, x: Number = 0.04) -> None:
    """A panel's letter, its upper left corner at (x, y) in inches, in a figure ``height`` inches tall."""
    width = figure.get_size_inches()[0]
    figure.text(x / width, y / height, name, fontsize=10, fontweight="bold", ha="left", va="top")


def png_bytes(figure: Figure, caption: str = "") -> bytes:
    """The content of a PNG file, the same bytes for the same figure; a caption goes along as its description."""
    content = BytesIO()
    words = {"Description": caption} if caption else {}
    figure.savefig(content, format="png", dpi="figure", metadata={"Software": None, **words})
    return content.getvalue()
