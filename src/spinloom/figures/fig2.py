"""Fig. 2: textures of the data, the VAE, the GAN and the hybrid with their energy densities; coverage against energy.

a: a texture of the test data above its energy density. b–d: the same of each trained model, and, where the samples
are there, of the hybrid driven by its discriminator. Each is the first texture of its set that has the set's median
number of nodal points, which are circled. e: coverage against energy; in a folder of trials, a marker a trial.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from spinloom.charts import DASHES, FADED, coverage_energy_scatter
from spinloom.draw import PAGE, RED, Figure, colour_wheel, draw_energy, draw_texture, energy_limits
from spinloom.figures.folder import Folder, ink
from spinloom.figures.sheet import Sheet
from spinloom.report import controls, read_rows
from spinloom.rows import MARKERS, UNTRAINED, Row, display_name, fixed, source_colour
from spinloom.topology import nodal_centres
from spinloom.typing import Spins

COLUMNS = {
    "a": ("test-data", "data", "test data"),
    "b": ("vae-prior", "vae", "VAE"),
    "c": ("gan-prior", "gan", "GAN"),
    "d": ("hybrid-prior", "hybrid", "hybrid"),
    "": ("hybrid-ddls", "hybrid", "hybrid, DDLS"),
}
"""Letter → the row's folder, its source, and its name above the column."""


def draw(folder: Folder, given: None = None) -> tuple[Figure, str]:
    """The figure and its caption."""
    shown = {letter: found for letter, column in COLUMNS.items() if (found := typical(folder, column[0])) is not None}
    H = folder.hamiltonian
    above = 2 * H.J + abs(H.B) + max(H.K, 0.0)
    maps = {letter: H.energy_density(spins[None])[0] + above for letter, spins in shown.items()}
    limits = energy_limits(maps.values())

    left, right, gap, head, foot = 0.06, 0.06, 0.06, 0.36, 0.14
    side = (PAGE - left - right - gap * (len(shown) - 1)) / len(shown)
    up, across = folder.results["size"]
    tall = side * up / across
    chart, below = 2.3, 0.42
    sheet = Sheet(PAGE, head + 2 * tall + gap + foot + 0.22 + chart + below)
    top = sheet.height - head
    image = None
    for number, (letter, spins) in enumerate(shown.items()):
        _, source, name = COLUMNS[letter]
        x = left + number * (side + gap)
        (centres,) = nodal_centres(spins[None])
        ax = sheet.axes(x, top - tall, side, tall)
        draw_texture(ax, spins, centres)
        sheet.letter(letter, x, sheet.height - 0.02)
        style = {"fontsize": 8, "fontweight": "bold", "color": ink(source)}
        sheet.words(name, x + side / 2, sheet.height - 0.09, **style)
        ax.set_title(f"ε = {fixed(float(maps[letter].mean()), 4)} J", loc="left", fontsize=7, pad=2)
        ax.set_title(f"{len(centres)} ○", loc="right", fontsize=7, pad=2, color=RED if len(centres) else "0.45")
        image = draw_energy(sheet.axes(x, top - 2 * tall - gap, side, tall), maps[letter], limits, centres)
    assert image is not None

    base = sheet.height - head - 2 * tall - gap - foot - 0.22 - chart
    sheet.letter("e", left, base + chart + 0.2)
    rows, spaces = read_rows(folder.path)
    told = [space for space, value in spaces.items() if value["informative"]] or list(spaces)
    space = told[0] if told else "features"
    rows = [
        replace(row, broad=[name for name in row.broad if name == space]) for row in rows if row.source not in UNTRAINED
    ]
    levels = controls(spaces.get(space, {}))
    informative = spaces.get(space, {}).get("informative", True)
    ax = coverage_energy_scatter(sheet.axes(0.5, base, 3.75, chart), rows, space, levels, informative)
    ax.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    handles = legend(rows, levels)
    place = (4.4 / sheet.width, (base + chart + 0.02) / sheet.height)
    sheet.figure.legend(handles=handles, loc="upper left", bbox_to_anchor=place, fontsize=7, frameon=False)
    colour_wheel(sheet.axes(PAGE - 1.06, base + chart - 1.02, 1.04, 1.04))
    place = (PAGE - 0.96, base + 0.76, 0.86, 0.1)
    sheet.bar(image, place, "local ε (J)", upright=False, ticks=apart(limits))
    return sheet.figure, caption(folder, rows, space)


def apart(limits: tuple[float, float]) -> list[float]:
    """Round energies that stand well apart on a scale that goes with the square root."""
    low, high = limits
    found: list[float] = []
    for value in (-0.4, -0.2, 0.0, 0.2, 0.5, 1.0, 2.0, 4.0):
        place = math.sqrt(max(value - low, 0.0) / (high - low))
        if low <= value <= high and all(abs(place - math.sqrt((one - low) / (high - low))) > 0.3 for one in found):
            found.append(value)
    return found


def typical(folder: Folder, row: str) -> Spins | None:
    """The first texture (3, H, W) of a row whose number of nodal points is the median over the row, rounded down."""
    textures = folder.test_data if row == "test-data" else folder.samples(row)
    if textures is None:
        return None
    counts = np.asarray(folder.measured(row)["nodal_points"])[: len(textures)]
    return textures[int((counts == np.floor(np.median(counts))).argmax())]


def legend(rows: Sequence[Row], levels: Sequence[str] | dict[str, float | int]) -> list[Line2D]:
    """Colours, markers and lines of the scatter."""

    def handle(text: str, **look: object) -> Line2D:
        return Line2D([], [], **({"ls": "none", "ms": 5, "label": text} | look))  # pyright: ignore[reportArgumentType]

    handles = []
    for source in dict.fromkeys(row.source for row in rows if row.source != "data"):
        handles.append(handle(display_name(source), color=source_colour(source), marker="s", ms=6))
    for method in dict.fromkeys(row.method for row in rows if row.method != "data"):
        name = "from the prior" if method == "prior" else display_name(method)
        handles.append(handle(name, color="0.4", marker=MARKERS.get(method, "s")))
    sweeps = sorted({row.relax for row in rows if row.relax})
    if sweeps:
        handles.append(handle(f"relaxed, {sweeps[0]} sweeps", color="0.4", marker="o", mfc="white", mew=1.1))
    if any(row.source == "data" for row in rows):
        handles.append(handle("data against data", color="black", marker="*", ms=8))
    if any(row.broad for row in rows):
        handles.append(handle("outliers: no claim", color="0.4", marker="o", alpha=FADED))
    for name, dashes in zip(levels, DASHES, strict=False):
        handles.append(handle(f"control: {name}", color="0.45", ls=dashes, lw=0.9))
    return handles


def caption(folder: Folder, rows: Sequence[Row], space: str) -> str:
    trials = f"a marker each of {folder.trials} trainings" if folder.trials else "one training of each objective"
    return f"""The paper’s Fig. 2. (a) A texture of the test data, {folder.sides} sites, above its energy density;
    (b–d) the same of each trained model, and of the hybrid after discriminator-driven sampling (DDLS). Each is the
    first of its set with the set’s median number of nodal points, which are circled and counted (○). Hue and lightness
    are the spin’s direction, as in the wheel; all density maps share one scale, in J above the ferromagnet, that goes
    with the square root. (e) Coverage of the test data (in the space of {space}) against ε, {trials}; nearest the
    star is best. Hollow markers were relaxed at zero temperature and are joined to what they were relaxed from; faded
    ones carry no claim, as outliers set their threshold; the level lines are samples that cover badly by
    construction."""
